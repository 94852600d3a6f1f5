/* SHA-256, FIPS 180-4 section 6.2.  The constants are the first 32 bits of the fractional parts
 * of the square (initial values) and cube roots (k) of the first primes. */
#include <string.h>

#include "seg/hash.h"

static const uint32_t k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rot(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void compress(uint32_t h[8], const unsigned char *p)
{
	uint32_t w[64], v[8];
	for (int t = 0; t < 16; t++, p += 4)
		w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	for (int t = 16; t < 64; t++) {
		uint32_t a = w[t - 15], b = w[t - 2];
		w[t] = w[t - 16] + w[t - 7] + (rot(a, 7) ^ rot(a, 18) ^ a >> 3) +
		    (rot(b, 17) ^ rot(b, 19) ^ b >> 10);
	}
	memcpy(v, h, sizeof v);
	for (int t = 0; t < 64; t++) {
		uint32_t e = v[4], a = v[0];
		uint32_t t1 = v[7] + (rot(e, 6) ^ rot(e, 11) ^ rot(e, 25)) +
		    ((e & v[5]) ^ (~e & v[6])) + k[t] + w[t];
		uint32_t t2 = (rot(a, 2) ^ rot(a, 13) ^ rot(a, 22)) +
		    ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof *v);
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

void seg_sha256_start(struct seg_sha256 *s)
{
	static const uint32_t h0[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	memcpy(s->h, h0, sizeof h0);
	s->nbytes = 0;
}

void seg_sha256_add(struct seg_sha256 *s, const void *data, size_t n)
{
	const unsigned char *p = data;
	size_t have = s->nbytes % 64;
	s->nbytes += n;
	if (have && have + n >= 64) {
		memcpy(s->block + have, p, 64 - have);
		compress(s->h, s->block);
		p += 64 - have;
		n -= 64 - have;
		have = 0;
	}
	for (; !have && n >= 64; p += 64, n -= 64)
		compress(s->h, p);
	if (n)
		memcpy(s->block + have, p, n);
}

void seg_sha256_end(struct seg_sha256 *s, unsigned char digest[32])
{
	uint64_t bits = s->nbytes * 8;
	unsigned char pad[72] = {0x80};
	size_t n = 64 - (s->nbytes + 8) % 64; /* 1..64 bytes of padding */
	for (int i = 0; i < 8; i++)
		pad[n + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
	seg_sha256_add(s, pad, n + 8);
	for (int i = 0; i < 32; i++)
		digest[i] = (unsigned char)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void seg_hex(const unsigned char *p, size_t n, char *hex)
{
	for (size_t i = 0; i < n; i++) {
		hex[2 * i] = "0123456789abcdef"[p[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[p[i] & 15];
	}
	hex[2 * n] = 0;
}
