/* The arithmetic of the network on one sample, as a table of functions: one for each instruction
 * set (kernel.isa.c) and one of plain loops that says what the others must do (reference.c).
 *
 * A tensor is a run of planes, one per channel, in multiples of 8.  A plane holds its h rows one
 * after another with one zero behind each row, and planes stand at least a row apart, the floats
 * between them zero.  So the neighbour of a pixel lies at a constant offset, the value of a pixel
 * outside the picture is read as 0, and a filter needs to know neither borders nor the ends of
 * rows.  Every kernel leaves the zeros of its output zero.
 *
 * A convolution is a list of taps: offsets, one for each pair of input channel and filter position.
 * 3x3 convolutions, 1x1, the transposed 2x2 (a 1x1 to four times the channels, then spread) and
 * the way back through each of them are all the same kernel with other taps.  Of 3x3 ones the result
 * is had by fewer multiplications (winograd.isa.c); they differ from the others by rounding alone.
 *
 * Weights are blocked by 8 outputs: w[cout/8][ntap][8].
 *
 * A kernel that takes `me` does that part of its work and writes nothing that another part reads or
 * writes: parts may be done at the same time, and all must be done.  A sum is never divided, so the
 * number of parts does not show in the result. */
#ifndef SEG_NET_KERNEL_H
#define SEG_NET_KERNEL_H

#include <stddef.h>

#include "seg/isa.h"
#include "seg/parallel.h"

enum {
	SEG_BLOCK = 8,    /* channels computed together */
	SEG_LANES = 16,   /* partial sums of a sum over positions, on every instruction set */
	SEG_RUN = 48,     /* most positions a kernel writes behind the last pixel, before it clears them */
};

static inline size_t seg_blocks(size_t c) /* channels as allocated */
{
	return (c + SEG_BLOCK - 1) / SEG_BLOCK * SEG_BLOCK;
}

struct seg_grid {
	size_t h, w;
	size_t row;   /* from one row to the next: w + 1 */
	size_t n;     /* positions of a plane: h * row */
	size_t plane; /* from one plane to the next, a multiple of 16 */
	size_t lead;  /* floats before the first plane: what reaches up and left of it reads these */
};
void seg_grid_set(struct seg_grid *g, size_t h, size_t w);
/* Floats to allocate, zeroed, for so many planes; the first pixel is g->lead into them. */
size_t seg_grid_floats(const struct seg_grid *g, size_t planes);

struct seg_conv {
	const struct seg_grid *grid;
	size_t cout;          /* outputs, as allocated */
	size_t ntap, used;    /* taps; those from `used` on pad to a multiple of 3 and have weight 0 */
	const ptrdiff_t *tap;
};

enum seg_epilogue { SEG_PLAIN, SEG_RELU, SEG_MASK };

struct seg_kernels {
	/* out[o][i] = bias[o] + sum over k of w[o][k] in[tap[k] + i], in the order of k.
	 * bias may be NULL: 0.  SEG_RELU: negative values become 0.  SEG_MASK: the value is kept
	 * where mask[o][i] > 0 and is 0 elsewhere. */
	void (*conv)(const struct seg_conv *c, const float *in, const float *w, const float *bias,
	    enum seg_epilogue epilogue, const float *mask, float *out, struct seg_part me);

	/* The same for the nine taps of a 3x3 filter of each input, by fewer multiplications; u: of
	 * winograd_weights. */
	void (*winograd)(const struct seg_conv *c, const float *in, const float *u, const float *bias,
	    enum seg_epilogue epilogue, const float *mask, float *out, struct seg_part me);
	/* w[cout/8][9 cin][8] -> u[cout/8][18 cin][8].  turned: the filters are applied turned about. */
	void (*winograd_weights)(size_t cout, size_t cin, int turned, const float *w, float *u);

	/* dw[o][k] += sum over i of dy[o][i] in[tap[k] + i], ntap a multiple of 3; nothing is added
	 * to the padding.  db[o] += sum over i of dy[o][i]. */
	void (*wgrad)(const struct seg_conv *c, const float *in, const float *dy, float *dw, float *db,
	    struct seg_part me);
	/* The same for 3x3 filters; takes 630 KB of stack. */
	void (*winograd_gradient)(const struct seg_conv *c, const float *in, const float *dy, float *dw, float *db,
	    struct seg_part me);

	/* Largest of each 2x2, c planes; h and w even. */
	void (*pool)(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
	    const float *x, float *y, struct seg_part me);
	/* d += dy where x was the largest of its four (the first of several), and then d = 0 where
	 * x is not > 0: the gradient of a skip connection, pooling's share and the ReLU in one. */
	void (*unpool)(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
	    const float *x, const float *y, const float *dy, float *d, struct seg_part me);

	/* y[c][2i+a][2j+b] = x[4c + 2a + b][i][j], and back (c planes of y). */
	void (*spread)(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
	    const float *x, float *y, struct seg_part me);
	void (*gather)(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
	    const float *y, float *x, struct seg_part me);

	/* Normalise c planes together, then ReLU: y = max(0, gamma (x - mean) * rstd + beta), with
	 * stat[0] = mean, stat[1] = rstd = 1/sqrt(variance + 1e-5), variance over all of the c
	 * planes (divided by their number of pixels).  y may be x.  (Wu, He 2018; Ulyanov 2016.) */
	void (*norm)(const struct seg_grid *g, size_t c, const float *x, const float *gamma,
	    const float *beta, double stat[2], float *y);
	/* d, the gradient behind the normalisation (and before its ReLU), becomes the one before
	 * it; dgamma and dbeta, c each, are overwritten. */
	void (*norm_back)(const struct seg_grid *g, size_t c, const float *x, const float *gamma,
	    const double stat[2], float *d, float *dgamma, float *dbeta);
};

#define SEG_WINOGRAD(isa) \
	void seg_winograd_##isa(const struct seg_conv *, const float *, const float *, const float *, enum seg_epilogue, \
	    const float *, float *, struct seg_part); \
	void seg_winograd_weights_##isa(size_t, size_t, int, const float *, float *); \
	void seg_winograd_gradient_##isa(const struct seg_conv *, const float *, const float *, float *, float *, \
	    struct seg_part);
SEG_WINOGRAD(plain) SEG_WINOGRAD(avx2) SEG_WINOGRAD(avx512) SEG_WINOGRAD(neon)

extern const struct seg_kernels seg_kernels_reference, seg_kernels_plain, seg_kernels_avx2,
    seg_kernels_avx512, seg_kernels_neon;

#endif
