/* Random numbers as a function of their key: no state to share, no order to keep.
 * Counter-based generator Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). */
#ifndef SEG_RNG_H
#define SEG_RNG_H

#include <stdint.h>

struct seg_rng {
	uint32_t key[2], ctr[4]; /* ctr[0] counts draws; the rest and key name the sequence */
	uint32_t out[4];
	int left;
};

/* Start the sequence named by all of these.  program: "augment", "train", ...; id: a sample's id
 * or "" ; the numbers mean what the caller says (epoch, copy, step).  Draws follow in order. */
void seg_rng_start(struct seg_rng *r, uint64_t seed, const char *program, const char *id,
    uint64_t epoch, uint64_t copy, uint64_t step);

uint32_t seg_rng_u32(struct seg_rng *r);
uint32_t seg_rng_below(struct seg_rng *r, uint32_t n); /* 0..n-1, unbiased; n >= 1 */
double seg_rng_unit(struct seg_rng *r);                /* [0,1), 32 bits */
double seg_rng_normal(struct seg_rng *r);              /* mean 0, variance 1 (Box, Muller 1958) */

/* The bare block function, for its published test vectors. */
void seg_philox(const uint32_t key[2], const uint32_t ctr[4], uint32_t out[4]);

#endif
