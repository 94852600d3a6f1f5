/* SHA-256 (FIPS 180-4): content fingerprints, and short hashes of names. */
#ifndef SEG_HASH_H
#define SEG_HASH_H

#include <stddef.h>
#include <stdint.h>

struct seg_sha256 {
	uint32_t h[8];
	uint64_t nbytes;
	unsigned char block[64];
};
void seg_sha256_start(struct seg_sha256 *s);
void seg_sha256_add(struct seg_sha256 *s, const void *p, size_t n);
void seg_sha256_end(struct seg_sha256 *s, unsigned char digest[32]);

/* hex receives 2*n digits and a NUL. */
void seg_hex(const unsigned char *p, size_t n, char *hex);

#endif
