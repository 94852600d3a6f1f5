/* The state of an evaluation (state.c) and one sample's part in it (sample.c). */
#ifndef SEG_LOSS_STATE_H
#define SEG_LOSS_STATE_H

#include <pthread.h>

#include "lib/loss/plan.h"

/* Room to compute one sample in; kept between samples. */
struct work {
	struct work *next;
	double *mem;        /* arrays, their adjoints, flags of winners found */
	size_t cap;
	double **val, **adj, **won; /* won: a maximum over the sample has found its winner */
	unsigned char *open; /* fields whose adjoint buffer holds something */
	int slots;          /* in block */
	char *block;        /* slots, room for kernels, room for sinks, dz: [nclass][SEG_BLOCK] each */
	char *scalar;       /* one element of the field's type for each node and class */
	double *row;        /* a block in double */
	double *sorted;     /* of each SEG_OP_LOVASZ: its operands over the whole sample, each [planes][H*W], */
	size_t nsorted;     /* then, in place of the first, its value */
	double **whole;     /* where they begin */
};

struct seg_loss_state {
	const struct seg_loss *l;
	int n;                   /* nodes it knows */
	struct facts facts;
	double **val, **adj;     /* of globals; constants point into the tree */
	size_t *winner;          /* [n][nclass]: the sample that won a max or min over n */
	double extent[SEG_ALL + 1]; /* sums over samples of 1, H, W, H*W, by the axes they belong to */
	size_t *at;              /* [pass][n]: where a node's numbers begin in the partials */
	struct plan *plan;       /* one for each pass, then the gradient's */
	unsigned char *late;     /* globals computed with the gradient, if that is fused; or NULL */
	const struct seg_kernels *k, *k64;
	int maxslot, done;       /* passes combined */
	double *mem;
	struct pool {
		pthread_mutex_t lock;
		struct work *idle;
	} *pool;
};

/* Partials of a pass of the value for s. */
int seg_sample_forward(const struct seg_loss_state *st, int pass, const struct seg_loss_sample *s, double *partial);
/* Adjoints: into partial (an adjoint pass), or into dz (the pass behind the last; partial then takes
 * those of the fused pass, or is NULL where there is none). */
int seg_sample_backward(const struct seg_loss_state *st, int pass, const struct seg_loss_sample *s,
    double *partial, float *dz);
/* A field or array, in C order. */
int seg_sample_field(const struct seg_loss_state *st, const struct plan *p, const struct seg_loss_sample *s,
    int node, double *out);
/* What a reduction's plain sum is to be multiplied with and divided by on one sample (NULL: a global). */
struct scale {
	double mul, div;
};
struct scale seg_scale(const struct seg_loss *l, int i, const struct seg_loss_sample *s);
/* The message about a global that is not finite. */
int seg_global_error(const struct seg_loss_state *st, int i);
/* What is wrong with node i; where: "sample a: pixel ..: ", or "". */
int seg_domain_error(const struct seg_loss *l, int i, const char *where, const char *what);
void seg_work_free(struct work *w);
/* Errors e, truth t (0/1) of n elements: e becomes the coefficient of each, so that sum(e*coefficient)
 * is the Lovasz extension.  On a tie the first comes first.  lovasz.c */
int seg_lovasz(double *e, const double *t, size_t n);

#endif
