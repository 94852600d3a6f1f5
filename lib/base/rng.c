/* Philox4x32-10 and the distributions made from it. */
#include <string.h>

#include "seg/hash.h"
#include "seg/math.h"
#include "seg/rng.h"

void seg_philox(const uint32_t key[2], const uint32_t ctr[4], uint32_t out[4])
{
	uint32_t k0 = key[0], k1 = key[1], c[4];
	memcpy(c, ctr, sizeof c);
	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)0xD2511F53 * c[0], p1 = (uint64_t)0xCD9E8D57 * c[2];
		uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1,
		                    (uint32_t)(p0 >> 32) ^ c[3] ^ k1, (uint32_t)p0};
		memcpy(c, next, sizeof c);
		k0 += 0x9E3779B9; /* golden ratio */
		k1 += 0xBB67AE85; /* sqrt(3) - 1 */
	}
	memcpy(out, c, sizeof c);
}

void seg_rng_start(struct seg_rng *r, uint64_t seed, const char *program, const char *id,
    uint64_t epoch, uint64_t copy, uint64_t step)
{
	/* 160 bits of a hash over the whole key name the sequence; the two strings end in their NUL,
	 * so that no two keys spell the same bytes */
	struct seg_sha256 s;
	unsigned char d[32];
	uint64_t num[4] = {seed, epoch, copy, step};
	seg_sha256_start(&s);
	seg_sha256_add(&s, program, strlen(program) + 1);
	seg_sha256_add(&s, id, strlen(id) + 1);
	for (int i = 0; i < 4; i++)
		for (int b = 0; b < 64; b += 8)
			seg_sha256_add(&s, &(unsigned char){(unsigned char)(num[i] >> b)}, 1);
	seg_sha256_end(&s, d);
	uint32_t word[5];
	for (int i = 0; i < 5; i++)
		word[i] = (uint32_t)d[4 * i] | (uint32_t)d[4 * i + 1] << 8 |
		    (uint32_t)d[4 * i + 2] << 16 | (uint32_t)d[4 * i + 3] << 24;
	memcpy(r->key, word, sizeof r->key);
	memcpy(r->ctr + 1, word + 2, 3 * sizeof *word);
	r->ctr[0] = 0;
	r->left = 0;
}

uint32_t seg_rng_u32(struct seg_rng *r)
{
	if (!r->left) {
		seg_philox(r->key, r->ctr, r->out);
		r->ctr[0]++;
		r->left = 4;
	}
	return r->out[--r->left];
}

uint32_t seg_rng_below(struct seg_rng *r, uint32_t n)
{
	uint32_t x, reject = -n % n; /* 2^32 mod n values would be drawn too often */
	do
		x = seg_rng_u32(r);
	while (x < reject);
	return x % n;
}

double seg_rng_unit(struct seg_rng *r)
{
	return seg_rng_u32(r) * 0x1p-32;
}

double seg_rng_normal(struct seg_rng *r)
{
	double u = 1 - seg_rng_unit(r); /* (0,1] */
	double v = seg_rng_unit(r);
	return seg_sqrt(-2 * seg_log(u)) * seg_cos(2 * 3.14159265358979323846 * v);
}
