/* The optimisers' loops, one table per instruction set. */
#ifndef SEG_NET_OPTIM_H
#define SEG_NET_OPTIM_H

#include <stddef.h>

#include "seg/isa.h"

/* One step's constants: computed in double, rounded once. */
struct optim_step {
	float lr, beta1, rest1, beta2, rest2, root, epsilon, momentum; /* rest = 1 - beta */
};

struct optim_loops {
	/* m = beta1 m + rest1 g,  v = beta2 v + rest2 g^2,  p -= lr m / (root sqrt(v) + epsilon) */
	void (*adam)(const struct optim_step *s, size_t n, float *restrict p, const float *restrict g,
	    float *restrict m, float *restrict v);
	void (*sgd)(const struct optim_step *s, size_t n, float *restrict p, const float *restrict g);
	void (*momentum)(const struct optim_step *s, size_t n, float *restrict p, const float *restrict g,
	    float *restrict m);
};
extern const struct optim_loops seg_optim_loops_plain, seg_optim_loops_avx2, seg_optim_loops_avx512,
    seg_optim_loops_neon;

#endif
