/* The loops of the optimisers: elementwise, so that ranges may be shared among threads; without
 * FMA, so that every instruction set gives the same bits. */
#include "lib/net/optim.h"
#include "seg/math.h"

static void adam(const struct optim_step *s, size_t n, float *restrict p, const float *restrict g,
    float *restrict m, float *restrict v)
{
	for (size_t i = 0; i < n; i++) {
		m[i] = s->beta1 * m[i] + s->rest1 * g[i];
		v[i] = s->beta2 * v[i] + s->rest2 * (g[i] * g[i]);
		p[i] -= s->lr * m[i] / (seg_sqrtf(v[i]) * s->root + s->epsilon);
	}
}

static void sgd(const struct optim_step *s, size_t n, float *restrict p, const float *restrict g)
{
	for (size_t i = 0; i < n; i++)
		p[i] -= s->lr * g[i];
}

static void momentum(const struct optim_step *s, size_t n, float *restrict p, const float *restrict g,
    float *restrict m)
{
	for (size_t i = 0; i < n; i++) {
		m[i] = s->momentum * m[i] - s->lr * g[i];
		p[i] += m[i];
	}
}

const struct optim_loops SEG_ISA_NAME(seg_optim_loops) = {adam, sgd, momentum};
