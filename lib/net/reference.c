/* The kernels as plain loops: what the fast ones are compared with, and where to read what they
 * compute.  Sums are double.  Part 0 does all the work. */
#include <string.h>

#include "lib/net/kernel.h"
#include "seg/math.h"

/* lead and gap: a filter reaches one row and one pixel beyond; kernels write up to SEG_RUN
 * positions too far.  The number of cache lines in a plane is made odd: else the same pixel of many
 * planes falls upon the same cache set. */
void seg_grid_set(struct seg_grid *g, size_t h, size_t w)
{
	size_t reach = w + 2, gap = reach > SEG_RUN ? reach : SEG_RUN;
	g->h = h;
	g->w = w;
	g->row = w + 1;
	g->n = h * g->row;
	g->plane = ((g->n + gap + 15) / 16 | 1) * 16;
	g->lead = (reach + 15) / 16 * 16;
}

size_t seg_grid_floats(const struct seg_grid *g, size_t planes)
{
	/* behind the last plane: reading runs ahead of what is written by a filter's reach */
	return g->lead + planes * g->plane + g->lead + SEG_RUN;
}

static void conv(const struct seg_conv *c, const float *in, const float *w, const float *bias,
    enum seg_epilogue epilogue, const float *mask, float *out, struct seg_part me)
{
	const struct seg_grid *g = c->grid;
	for (size_t o = 0; me.i == 0 && o < c->cout; o++) {
		const float *wo = w + o / SEG_BLOCK * c->ntap * SEG_BLOCK + o % SEG_BLOCK;
		for (size_t y = 0; y < g->h; y++)
			for (size_t x = 0; x < g->w; x++) {
				size_t i = y * g->row + x;
				double s = bias ? bias[o] : 0;
				for (size_t k = 0; k < c->used; k++)
					s += (double)wo[k * SEG_BLOCK] * in[c->tap[k] + (ptrdiff_t)i];
				if (epilogue == SEG_RELU && s < 0)
					s = 0;
				if (epilogue == SEG_MASK && !(mask[o * g->plane + i] > 0))
					s = 0;
				out[o * g->plane + i] = (float)s;
			}
	}
}

static void keep_weights(size_t cout, size_t cin, int turned, const float *w, float *u)
{
	(void)turned; /* the taps say how */
	memcpy(u, w, cout * 9 * cin * sizeof *u);
}

static void wgrad(const struct seg_conv *c, const float *in, const float *dy, float *dw, float *db,
    struct seg_part me)
{
	const struct seg_grid *g = c->grid;
	for (size_t o = 0; me.i == 0 && o < c->cout; o++, dy += g->plane) {
		float *dwo = dw + o / SEG_BLOCK * c->ntap * SEG_BLOCK + o % SEG_BLOCK;
		for (size_t k = 0; k < c->used; k++) {
			double s = 0;
			for (size_t i = 0; i < g->n; i++)
				s += (double)dy[i] * in[c->tap[k] + (ptrdiff_t)i];
			dwo[k * SEG_BLOCK] += (float)s;
		}
		double s = 0;
		for (size_t i = 0; i < g->n; i++)
			s += dy[i];
		db[o] += (float)s;
	}
}

/* Which of the four at (y, x) is the largest, the first of several: its offset. */
static size_t winner(const struct seg_grid *fine, const float *x, size_t i, size_t j)
{
	size_t corner = 2 * i * fine->row + 2 * j, best = corner;
	for (size_t q = 1; q < 4; q++) {
		size_t at = corner + q / 2 * fine->row + q % 2;
		if (x[at] > x[best])
			best = at;
	}
	return best;
}

static void pool(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c, const float *x,
    float *y, struct seg_part me)
{
	for (; me.i == 0 && c--; x += fine->plane, y += coarse->plane)
		for (size_t i = 0; i < coarse->h; i++)
			for (size_t j = 0; j < coarse->w; j++)
				y[i * coarse->row + j] = x[winner(fine, x, i, j)];
}

static void unpool(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
    const float *x, const float *y, const float *dy, float *d, struct seg_part me)
{
	(void)y;
	for (; me.i == 0 && c--; x += fine->plane, d += fine->plane, dy += coarse->plane) {
		for (size_t i = 0; i < coarse->h; i++)
			for (size_t j = 0; j < coarse->w; j++)
				d[winner(fine, x, i, j)] += dy[i * coarse->row + j];
		for (size_t i = 0; i < fine->n; i++)
			if (!(x[i] > 0))
				d[i] = 0;
	}
}

static void spread(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
    const float *x, float *y, struct seg_part me)
{
	for (size_t q = 0; me.i == 0 && q < 4 * c; q++, x += coarse->plane)
		for (size_t i = 0; i < coarse->h; i++)
			for (size_t j = 0; j < coarse->w; j++)
				y[q / 4 * fine->plane + (2 * i + q / 2 % 2) * fine->row + 2 * j + q % 2] =
				    x[i * coarse->row + j];
}

static void gather(const struct seg_grid *fine, const struct seg_grid *coarse, size_t c,
    const float *y, float *x, struct seg_part me)
{
	for (size_t q = 0; me.i == 0 && q < 4 * c; q++, x += coarse->plane)
		for (size_t i = 0; i < coarse->h; i++)
			for (size_t j = 0; j < coarse->w; j++)
				x[i * coarse->row + j] =
				    y[q / 4 * fine->plane + (2 * i + q / 2 % 2) * fine->row + 2 * j + q % 2];
}

static void norm(const struct seg_grid *g, size_t c, const float *x, const float *gamma,
    const float *beta, double stat[2], float *y)
{
	double sum = 0, square = 0, n = (double)(c * g->h * g->w);
	for (size_t k = 0; k < c; k++)
		for (size_t i = 0; i < g->h; i++)
			for (size_t j = 0; j < g->w; j++)
				sum += x[k * g->plane + i * g->row + j];
	stat[0] = sum / n;
	for (size_t k = 0; k < c; k++)
		for (size_t i = 0; i < g->h; i++)
			for (size_t j = 0; j < g->w; j++) {
				double d = x[k * g->plane + i * g->row + j] - stat[0];
				square += d * d;
			}
	stat[1] = 1 / seg_sqrt(square / n + 1e-5);
	for (size_t k = 0; k < c; k++)
		for (size_t i = 0; i < g->h; i++)
			for (size_t j = 0; j < g->w; j++) {
				size_t at = k * g->plane + i * g->row + j;
				double v = gamma[k] * (x[at] - stat[0]) * stat[1] + beta[k];
				y[at] = v < 0 ? 0 : (float)v;
			}
}

/* With u = (x - mean) rstd and averages over the c planes:
 * dx = rstd (gamma d - mean(gamma d) - u mean(gamma d u)). */
static void norm_back(const struct seg_grid *g, size_t c, const float *x, const float *gamma,
    const double stat[2], float *d, float *dgamma, float *dbeta)
{
	double a = 0, b = 0, n = (double)(c * g->h * g->w);
	for (size_t k = 0; k < c; k++) {
		double dg = 0, db = 0;
		for (size_t i = 0; i < g->h; i++)
			for (size_t j = 0; j < g->w; j++) {
				size_t at = k * g->plane + i * g->row + j;
				db += d[at];
				dg += d[at] * (x[at] - stat[0]) * stat[1];
			}
		dgamma[k] = (float)dg;
		dbeta[k] = (float)db;
		a += gamma[k] * db / n;
		b += gamma[k] * dg / n;
	}
	for (size_t k = 0; k < c; k++)
		for (size_t i = 0; i < g->h; i++)
			for (size_t j = 0; j < g->w; j++) {
				size_t at = k * g->plane + i * g->row + j;
				double u = (x[at] - stat[0]) * stat[1];
				d[at] = (float)(stat[1] * (gamma[k] * d[at] - a - u * b));
			}
}

const struct seg_kernels seg_kernels_reference = {conv, conv, keep_weights, wgrad, wgrad, pool, unpool, spread,
	gather, norm, norm_back};
