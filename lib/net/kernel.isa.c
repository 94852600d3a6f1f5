/* The kernels, compiled once for each instruction set.
 *
 * The same bits everywhere: a convolution's output is one chain of multiply-adds in the order of
 * its taps, whatever the blocking; a sum over positions has 16 partial sums ("lanes": position i
 * belongs to lane i mod 16) for every register width, folded in one order (dots.h); the rest is
 * elementwise.  Only the multiply-adds of these two differ between machines with FMA and without.
 *
 * What makes it fast: 24 (12) accumulators stay in registers, so that each value loaded is used 3 or
 * 8 (4) times. */
#include <string.h>

#include "lib/net/kernel.h"
#include "lib/net/dots.h"
#include "seg/math.h"

/* -- convolution --------------------------------------------------------------------------------- */

/* CB channels at XV * VL positions. */
INLINE void conv_block(const struct seg_conv *c, const float *in, const float *w, const float *bias,
    enum seg_epilogue epilogue, const float *mask, float *out)
{
	V a[CB][XV];
	UNROLL for (int o = 0; o < CB; o++)
		UNROLL for (int j = 0; j < XV; j++)
			a[o][j] = SPLAT(bias ? bias[o] : 0.f);
	for (size_t k = 0; k < c->ntap; k++, w += SEG_BLOCK)
		outer(a, XV, in + c->tap[k], w);
	size_t plane = c->grid->plane;
	UNROLL for (int o = 0; o < CB; o++)
		UNROLL for (int j = 0; j < XV; j++) {
			V v = a[o][j];
			if (epilogue == SEG_RELU)
				v = RELU(v);
			if (epilogue == SEG_MASK)
				v = WHERE_POSITIVE(LOAD(mask + (size_t)o * plane + j * VL), v);
			STORE(out + (size_t)o * plane + j * VL, v);
		}
}

/* Block after block of outputs at XV * VL positions, then at the next: what is read stays near.  A
 * block clears the zeros that it has written on. */
static void conv(const struct seg_conv *c, const float *in, const float *w, const float *bias,
    enum seg_epilogue epilogue, const float *mask, float *out, struct seg_part me)
{
	const struct seg_grid *g = c->grid;
	size_t step = XV * VL, blocks = c->cout / CB, n = (g->n + step - 1) / step * blocks;
	size_t u = seg_part_from(me, n), to = seg_part_to(me, n), o = u % blocks * CB, i = u / blocks * step;
	size_t pad = i / g->row * g->row + g->w; /* the next zero behind a row */
	for (; u < to; u++) {
		const float *wo = w + o / SEG_BLOCK * c->ntap * SEG_BLOCK + o % SEG_BLOCK;
		const float *b = bias ? bias + o : NULL;
		size_t at = o * g->plane + i;
		if (epilogue == SEG_RELU)
			conv_block(c, in + i, wo, b, SEG_RELU, NULL, out + at);
		else if (epilogue == SEG_MASK)
			conv_block(c, in + i, wo, b, SEG_MASK, mask + at, out + at);
		else
			conv_block(c, in + i, wo, b, SEG_PLAIN, NULL, out + at);
		for (size_t q = o; q < o + CB; q++) {
			for (size_t p = pad; p < i + step && p < g->n; p += g->row)
				out[q * g->plane + p] = 0;
			if (i + step > g->n)
				memset(out + q * g->plane + g->n, 0, (i + step - g->n) * sizeof *out);
		}
		o += CB;
		if (o == c->cout) {
			o = 0;
			i += step;
			while (pad < i)
				pad += g->row;
		}
	}
}

/* -- gradient of weights --------------------------------------------------------------------------- */

enum { CHUNK = 1024 }; /* positions: 8 planes of that fill half of a first-level cache */

/* Divided into three taps of CB outputs each; with the first three goes what is summed for db. */
static void wgrad(const struct seg_conv *c, const float *in, const float *dy, float *dw, float *db,
    struct seg_part me)
{
	const struct seg_grid *g = c->grid;
	size_t each = c->ntap / 3, n = c->cout / CB * each, from = seg_part_from(me, n), to = seg_part_to(me, n);
	size_t first = from / each * CB, last = (to + each - 1) / each * CB; /* outputs that are read */
	size_t planes = (size_t)c->tap[c->used - 1] / g->plane + 1; /* inputs */
	for (size_t i = 0; i < g->n; i += CHUNK) {
		size_t run = g->n - i < CHUNK ? (g->n - i + SEG_LANES - 1) / SEG_LANES * SEG_LANES : CHUNK;
		size_t o = first, k = from % each * 3, soon = first;
		for (size_t u = from; u < to; u++) {
			const float *d = dy + o * g->plane + i;
			float *dwo = dw + o / SEG_BLOCK * c->ntap * SEG_BLOCK + o % SEG_BLOCK;
			const float *x[3] = {in + c->tap[k] + i, in + c->tap[k + 1] + i, in + c->tap[k + 2] + i};
			const float *next[2];
			for (int q = 0; q < 2; q++, soon++)
				next[q] = soon < last ? dy + soon * g->plane + i + CHUNK :
				    soon < last + planes ? in + (soon - last) * g->plane + i + CHUNK : d;
			dots(d, g->plane, x, run, next, dwo + k * SEG_BLOCK);
			for (size_t q = 0; k == 0 && q < CB; q++)
				db[o + q] += sum(d + q * g->plane, run);
			k += 3;
			if (k == c->ntap) {
				for (size_t p = c->used; p < c->ntap; p++) /* padding repeats a tap: take it away again */
					memset(dwo + p * SEG_BLOCK, 0, CB * sizeof *dwo);
				k = 0;
				o += CB;
			}
		}
	}
}

/* -- pooling, spreading ---------------------------------------------------------------------------- */

static void pool(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c, const float *x,
    float *y, struct seg_part me)
{
	for (size_t o = 0; o < c; o++)
		for (size_t i = seg_part_from(me, coarse->h); i < seg_part_to(me, coarse->h); i++) {
			const float *r = x + o * fine->plane + 2 * i * fine->row, *s = r + fine->row;
			float *restrict to = y + o * coarse->plane + i * coarse->row;
			for (size_t j = 0; j < coarse->w; j++) {
				float a = r[2 * j + 1] > r[2 * j] ? r[2 * j + 1] : r[2 * j];
				float b = s[2 * j + 1] > s[2 * j] ? s[2 * j + 1] : s[2 * j];
				to[j] = b > a ? b : a;
			}
		}
}

static void unpool(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
    const float *x, const float *y, const float *dy, float *d, struct seg_part me)
{
	size_t from = seg_part_from(me, coarse->h), rows = seg_part_to(me, coarse->h) - from;
	for (size_t i = 0; i < c * rows; i++) {
		size_t top = i / rows * fine->plane + 2 * (from + i % rows) * fine->row;
		size_t low = i / rows * coarse->plane + (from + i % rows) * coarse->row;
		const float *r = x + top, *s = r + fine->row, *m = y + low, *g = dy + low;
		float *restrict p = d + top, *restrict q = p + fine->row;
		for (size_t j = 0; j < coarse->w; j++) {
			float a = r[2 * j], b = r[2 * j + 1], e = s[2 * j], f = s[2 * j + 1];
			int ka = a == m[j], kb = !ka & (b == m[j]), ke = !ka & !kb & (e == m[j]), kf = !ka & !kb & !ke;
			float pa = p[2 * j] + (ka ? g[j] : 0), pb = p[2 * j + 1] + (kb ? g[j] : 0);
			float qe = q[2 * j] + (ke ? g[j] : 0), qf = q[2 * j + 1] + (kf ? g[j] : 0);
			p[2 * j] = a > 0 ? pa : 0;
			p[2 * j + 1] = b > 0 ? pb : 0;
			q[2 * j] = e > 0 ? qe : 0;
			q[2 * j + 1] = f > 0 ? qf : 0;
		}
	}
}

static void spread(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
    const float *x, float *y, struct seg_part me)
{
	for (size_t o = 0; o < c; o++)
		for (size_t i = seg_part_from(me, fine->h); i < seg_part_to(me, fine->h); i++) {
			const float *a = x + (4 * o + 2 * (i % 2)) * coarse->plane + i / 2 * coarse->row, *b = a + coarse->plane;
			float *restrict r = y + o * fine->plane + i * fine->row;
			for (size_t j = 0; j < coarse->w; j++) {
				r[2 * j] = a[j];
				r[2 * j + 1] = b[j];
			}
		}
}

static void gather(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
    const float *y, float *x, struct seg_part me)
{
	for (size_t o = 0; o < c; o++)
		for (size_t i = seg_part_from(me, fine->h); i < seg_part_to(me, fine->h); i++) {
			float *restrict a = x + (4 * o + 2 * (i % 2)) * coarse->plane + i / 2 * coarse->row;
			float *restrict b = a + coarse->plane;
			const float *r = y + o * fine->plane + i * fine->row;
			for (size_t j = 0; j < coarse->w; j++) {
				a[j] = r[2 * j];
				b[j] = r[2 * j + 1];
			}
		}
}

/* -- normalisation ----------------------------------------------------------------------------------- */

/* Sums over the pixels of a plane of e(row, j): 16 lanes of double within a row's whole groups of
 * 16, the rest one by one. */
INLINE double fold_double(double *f)
{
	UNROLL for (int m = SEG_LANES / 2; m; m /= 2)
		UNROLL for (int i = 0; i < m; i++)
			f[i] += f[i + m];
	return f[0];
}

/* sum of (x - a), or with square of its square */
INLINE double deviation(const struct seg_grid *g, const float *x, double a, int square)
{
	double lane[SEG_LANES] = {0}, rest = 0;
	for (size_t i = 0; i < g->h; i++, x += g->row) {
		size_t j = 0;
		for (; j + SEG_LANES <= g->w; j += SEG_LANES)
			UNROLL for (int l = 0; l < SEG_LANES; l++) {
				double d = x[j + (size_t)l] - a;
				lane[l] += square ? d * d : d;
			}
		for (; j < g->w; j++) {
			double d = x[j] - a;
			rest += square ? d * d : d;
		}
	}
	return fold_double(lane) + rest;
}

static void norm(const struct seg_grid *g, size_t c, const float *x, const float *gamma,
    const float *beta, double stat[2], float *y)
{
	double s = 0, q = 0, n = (double)(c * g->h * g->w);
	for (size_t k = 0; k < c; k++)
		s += deviation(g, x + k * g->plane, 0, 0);
	stat[0] = s / n;
	for (size_t k = 0; k < c; k++)
		q += deviation(g, x + k * g->plane, stat[0], 1);
	stat[1] = 1 / seg_sqrt(q / n + 1e-5);
	float mean = (float)stat[0];
	for (size_t k = 0; k < c; k++) {
		float scale = (float)(gamma[k] * stat[1]), shift = beta[k];
		for (size_t i = 0; i < g->h; i++) {
			const float *r = x + k * g->plane + i * g->row;
			float *o = y + k * g->plane + i * g->row;
			for (size_t j = 0; j < g->w; j++) {
				float v = (r[j] - mean) * scale + shift;
				o[j] = v < 0 ? 0 : v;
			}
		}
	}
}

/* sum of d (x - a) */
INLINE double product(const struct seg_grid *g, const float *x, double a, const float *d)
{
	double lane[SEG_LANES] = {0}, rest = 0;
	for (size_t i = 0; i < g->h; i++, x += g->row, d += g->row) {
		size_t j = 0;
		for (; j + SEG_LANES <= g->w; j += SEG_LANES)
			UNROLL for (int l = 0; l < SEG_LANES; l++)
				lane[l] += d[j + (size_t)l] * (x[j + (size_t)l] - a);
		for (; j < g->w; j++)
			rest += d[j] * (x[j] - a);
	}
	return fold_double(lane) + rest;
}

static void norm_back(const struct seg_grid *g, size_t c, const float *x, const float *gamma,
    const double stat[2], float *d, float *dgamma, float *dbeta)
{
	double a = 0, b = 0, n = (double)(c * g->h * g->w);
	for (size_t k = 0; k < c; k++) {
		double db = deviation(g, d + k * g->plane, 0, 0);
		double dg = product(g, x + k * g->plane, stat[0], d + k * g->plane) * stat[1];
		dbeta[k] = (float)db;
		dgamma[k] = (float)dg;
		a += gamma[k] * db / n;
		b += gamma[k] * dg / n;
	}
	float mean = (float)stat[0], level = (float)(stat[1] * a), slope = (float)(stat[1] * stat[1] * b);
	for (size_t k = 0; k < c; k++) {
		float scale = (float)(stat[1] * gamma[k]);
		for (size_t i = 0; i < g->h; i++) {
			const float *r = x + k * g->plane + i * g->row;
			float *restrict o = d + k * g->plane + i * g->row;
			for (size_t j = 0; j < g->w; j++)
				o[j] = scale * o[j] - level - (r[j] - mean) * slope;
		}
	}
}

const struct seg_kernels SEG_ISA_NAME(seg_kernels) = {conv, SEG_ISA_NAME(seg_winograd),
	SEG_ISA_NAME(seg_winograd_weights), wgrad, SEG_ISA_NAME(seg_winograd_gradient), pool, unpool, spread, gather, norm,
	norm_back};
