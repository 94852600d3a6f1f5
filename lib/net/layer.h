/* The network as a table of layers, shared by the files of lib/net. */
#ifndef SEG_NET_LAYER_H
#define SEG_NET_LAYER_H

#include "lib/net/kernel.h"
#include "seg/net.h"

enum { SEG_MAXLAYER = 5 * SEG_MAXSTAGE }; /* 2 per stage down, 3 per stage up, the head */

enum layer_kind { CONV3, UP, HEAD };

struct layer {
	enum layer_kind kind;
	int stage;         /* whose grid it is computed on; of UP: the coarse one */
	size_t cin, cout;  /* channels of the model */
	size_t split;      /* input channels from here on start at the next multiple of 8: [up, skip] */
	size_t planes;     /* input planes as allocated */
	size_t nout;       /* outputs of the kernel: cout, of UP 4 cout */
	size_t filter;     /* positions of the filter: 9 or 1 */
	size_t used, ntap; /* cin * filter, and that padded to a multiple of 3 */
	/* where it lies in packed vectors */
	size_t kernel, bias, gamma, beta;
	/* and in the copies made for the kernels: weights of the way back, bias for nout outputs */
	size_t back, bias_out;
	size_t sums, sums_back; /* of 3x3 layers: for winograd */
};

struct seg_net {
	struct seg_net_shape shape;
	const struct seg_kernels *kernels;
	struct layer layer[SEG_MAXLAYER]; /* in the order of the parameters, which is that of use */
	int nlayer;
	struct seg_param *param;
	int nparam;
	size_t *place; /* of each parameter, in a packed vector */
	size_t nfloat, npacked, nprepared;
};

/* Layers by role. */
static inline const struct layer *layer_down(const struct seg_net *n, int stage, int second)
{
	return &n->layer[2 * stage + second];
}
static inline const struct layer *layer_up(const struct seg_net *n, int stage, int which) /* 0..2 */
{
	return &n->layer[2 * n->shape.nstage + 3 * (n->shape.nstage - 2 - stage) + which];
}
static inline const struct layer *layer_head(const struct seg_net *n)
{
	return &n->layer[n->nlayer - 1];
}

/* Channel c of the input stands in this plane. */
static inline size_t layer_plane(const struct layer *l, size_t c)
{
	return c < l->split ? c : seg_blocks(l->split) + c - l->split;
}

/* Channels that are normalised together. */
static inline size_t layer_group(const struct seg_net *n, const struct layer *l)
{
	return n->shape.norm == SEG_NORM_GROUP ? l->cout / (size_t)n->shape.groups : 1;
}

#endif
