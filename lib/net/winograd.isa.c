/* 3x3 convolutions by half the multiplications: Winograd's F(4, 3) along y (Lavin, Gray 2016).
 *
 * Four rows of outputs, a strip, need six rows of inputs.  From these six sums are made, once for all
 * outputs; each is convolved along x alone with a sum of the filter's rows; the four outputs are sums
 * of the six results: 18 multiplications for each input instead of 36.  The gradient of the weights
 * goes the same way back.  Positions are counted as if a strip were a row, so that a run of them goes
 * on behind the edge of a narrow picture.
 *
 * The same bits on AVX2, AVX-512 and NEON: a result is one chain of multiply-adds over inputs and filter
 * columns, or a dot product (dots.h); everything else is elementwise. */
#include "lib/net/dots.h"

enum {
	STRIP = 4, SUMS = 6,
	UNIT = 48,   /* positions done together */
	REACH = 64,  /* and those that are read for them, in full vectors */
	GROUP = 64,  /* inputs whose sums are held */
	OUTS = 32,   /* outputs whose results are held */
	LONG = 1056, /* most positions for a gradient */
	SPAN = LONG + 32,
	HELD = 16    /* inputs whose sums are held then; more where there are fewer positions */
};

/* The six sums of a plane's rows at the positions p - before .. p - before + n, to o and what follows `apart`
 * from there: of the inputs, or with dy set of the outputs' gradient, whose strips are the rows 1 to 4. */
INLINE void sums(int dy, const struct seg_grid *g, const float *plane, size_t p, size_t before, size_t n,
    float *o, size_t apart)
{
	static const float zero[SPAN];
	size_t row = p / g->row * STRIP;
	ptrdiff_t x = (ptrdiff_t)(p % g->row) - (ptrdiff_t)before; /* -1: the zero behind the row above */
	for (size_t q = 0; q < n; row += STRIP) {
		size_t left = (size_t)((ptrdiff_t)g->row - x), run = left < n - q ? left : n - q;
		const float *d[SUMS];
		for (size_t i = 0; i < SUMS; i++) /* behind the last row stands one of zeros */
			d[i] = row + i <= g->h + 1 ? plane + ((ptrdiff_t)(row + i) - 1) * (ptrdiff_t)g->row + x : zero;
		for (size_t i = 0; i < run; i += VL) { /* what is written too far is written over */
			V s[SUMS], d1 = LOAD(d[1] + i), d2 = LOAD(d[2] + i), d3 = LOAD(d[3] + i), d4 = LOAD(d[4] + i);
			if (dy) {
				V a = d1 + d3, b = d2 + d4, e = FMA(SPLAT(4.f), d3, d1), f = SPLAT(2.f) * FMA(SPLAT(4.f), d4, d2);
				s[0] = d1, s[1] = a + b, s[2] = a - b, s[3] = e + f, s[4] = e - f, s[5] = d4;
			} else {
				V d0 = LOAD(d[0] + i), d5 = LOAD(d[5] + i), e = d4 - d2, f = d3 - d1;
				V a = FMA(SPLAT(-4.f), d2, d4), b = FMA(SPLAT(-4.f), d1, d3);
				s[0] = FMA(SPLAT(4.f), d0, FMA(SPLAT(-5.f), d2, d4)), s[1] = a + b, s[2] = a - b;
				s[3] = FMA(SPLAT(2.f), f, e), s[4] = FMA(SPLAT(-2.f), f, e), s[5] = FMA(SPLAT(4.f), d1, FMA(SPLAT(-5.f), d3, d5));
			}
			UNROLL for (int r = 0; r < SUMS; r++)
				STORE(o + (size_t)r * apart + q + i, s[r]);
			for (size_t r = 0; r < SUMS && !dy; r++) /* what the next unit reads */
				__builtin_prefetch(d[r] + i + UNIT, 0, 3);
		}
		q += run;
		x = 0;
	}
}

/* One of the six convolutions: CB outputs at xv vectors of positions, n inputs; more: added to m. */
INLINE void row_block(int xv, const float *t, const float *u, size_t n, int more, float *m)
{
	V a[CB][XV];
	UNROLL for (int o = 0; o < CB; o++)
		UNROLL for (int j = 0; j < xv; j++)
			if (more)
				a[o][j] = LOAD(m + o * SUMS * UNIT + j * VL);
			else
				a[o][j] = SPLAT(0.f);
	for (const float *end = t + n * REACH; t != end; t += REACH)
		for (const float *p = t; p != t + 3; p++, u += SEG_BLOCK)
			outer(a, xv, p, u);
	UNROLL for (int o = 0; o < CB; o++)
		UNROLL for (int j = 0; j < xv; j++)
			STORE(m + o * SUMS * UNIT + j * VL, a[o][j]);
}

static void rows(size_t positions, const float *t, const float *u, size_t n, int more, float *m)
{
	size_t x = 0;
	for (; x + 2 * VL < positions; x += XV * VL)
		row_block(3, t + x, u, n, more, m + x);
	if (x + VL < positions)
		row_block(2, t + x, u, n, more, m + x);
	else if (x < positions)
		row_block(1, t + x, u, n, more, m + x);
}

/* The four rows of one output from its six results. */
INLINE void spread(const struct seg_grid *g, const float *m, float bias, enum seg_epilogue epilogue, size_t p,
    const float *mask, float *out)
{
	size_t row = p / g->row * STRIP, x = p % g->row;
	for (size_t q = 0; q < UNIT && row < g->h; row += STRIP) {
		size_t run = g->w - x < UNIT - q ? g->w - x : UNIT - q, at = row * g->row + x;
		size_t last = g->h - row < STRIP ? g->h - row : STRIP;
		for (size_t i = 0; i < run; i += VL) {
			const float *v = m + q + i;
			V m1 = LOAD(v + UNIT), m2 = LOAD(v + 2 * UNIT), m3 = LOAD(v + 3 * UNIT), m4 = LOAD(v + 4 * UNIT);
			V a = m1 + m2 + SPLAT(bias), b = m1 - m2 + SPLAT(bias), e = m3 + m4, f = m3 - m4;
			V y[STRIP] = {LOAD(v) + a + e, FMA(SPLAT(2.f), f, b), FMA(SPLAT(4.f), e, a),
				FMA(SPLAT(8.f), f, b) + LOAD(v + 5 * UNIT)};
			for (size_t r = 0; r < last; r++) {
				size_t to = at + r * g->row + i;
				V z = y[r];
				if (epilogue == SEG_RELU)
					z = RELU(z);
				if (epilogue == SEG_MASK)
					z = WHERE_POSITIVE(LOAD(mask + to), z);
				if (run - i >= VL)
					STORE(out + to, z);
				else
					STORE_SOME(out + to, z, run - i);
			}
		}
		q += run + 1;
		x = 0;
	}
}

void SEG_ISA_NAME(seg_winograd)(const struct seg_conv *c, const float *in, const float *u, const float *bias,
    enum seg_epilogue epilogue, const float *mask, float *out, struct seg_part me)
{
	float t[SUMS][GROUP * REACH + VL] __attribute__((aligned(64)));
	float m[OUTS * SUMS * UNIT + VL] __attribute__((aligned(64)));
	const struct seg_grid *g = c->grid;
	size_t channels = c->used / 9, groups = (c->cout + OUTS - 1) / OUTS;
	size_t positions = (g->h + STRIP - 1) / STRIP * g->row, n = (positions + UNIT - 1) / UNIT * groups, have = positions;
	for (size_t job = seg_part_from(me, n); job < seg_part_to(me, n); job++) {
		size_t p = job / groups * UNIT, o = job % groups * OUTS, end = o + OUTS < c->cout ? o + OUTS : c->cout;
		size_t run = positions - p < UNIT ? positions - p : UNIT;
		for (size_t k = 0; k < channels; k += GROUP) {
			size_t some = channels - k < GROUP ? channels - k : GROUP;
			if (have != p || channels > GROUP)
				for (size_t i = 0; i < some; i++)
					sums(0, g, in + c->tap[9 * (k + i) + 4], p, 1, UNIT + 2, t[0] + i * REACH, GROUP * REACH + VL);
			have = p;
			for (size_t q = o; q < end; q += CB)
				for (size_t r = 0; r < SUMS; r++)
					rows(run, t[r], u + ((q / SEG_BLOCK * SUMS + r) * channels + k) * 3 * SEG_BLOCK + q % SEG_BLOCK,
					    some, k > 0, m + ((q - o) * SUMS + r) * UNIT);
		}
		for (size_t q = o; q < end; q++) {
			const float *v = m + (q - o) * SUMS * UNIT;
			float b = bias ? bias[q] : 0, *to = out + q * g->plane;
			if (epilogue == SEG_RELU)
				spread(g, v, b, SEG_RELU, p, NULL, to);
			else if (epilogue == SEG_MASK)
				spread(g, v, b, SEG_MASK, p, mask + q * g->plane, to);
			else
				spread(g, v, b, SEG_PLAIN, p, NULL, to);
		}
	}
}

void SEG_ISA_NAME(seg_winograd_weights)(size_t cout, size_t channels, int turned, const float *w, float *u)
{
	const size_t last = 6 * SEG_BLOCK; /* row of a filter */
	for (size_t o = 0; o < cout; o += SEG_BLOCK)
		for (size_t k = 0; k < channels; k++, w += 9 * SEG_BLOCK)
			for (size_t f = 0; f < 3; f++)
				for (size_t i = 0; i < SEG_BLOCK; i++) {
					const float *v = w + (turned ? 2 - f : f) * SEG_BLOCK + i;
					float w0 = v[turned ? last : 0], w1 = v[3 * SEG_BLOCK], w2 = v[turned ? 0 : last];
					float s = w0 + w2, e = w0 * (1 / 24.f) + w2 * (1 / 6.f);
					float r[SUMS] = {w0 * .25f, (s + w1) * (-1 / 6.f), (s - w1) * (-1 / 6.f), e + w1 * (1 / 12.f),
						e - w1 * (1 / 12.f), w2};
					for (size_t q = 0; q < SUMS; q++)
						u[((o / SEG_BLOCK * SUMS + q) * channels + k) * 3 * SEG_BLOCK + f * SEG_BLOCK + i] = r[q];
				}
}

/* -- gradient of weights -- */

void SEG_ISA_NAME(seg_winograd_gradient)(const struct seg_conv *c, const float *in, const float *dy, float *dw,
    float *db, struct seg_part me)
{
	static const float back[SUMS][3] = {{.25f, 0, 0}, {-1 / 6.f, -1 / 6.f, -1 / 6.f}, {-1 / 6.f, 1 / 6.f, -1 / 6.f},
		{1 / 24.f, 1 / 12.f, 1 / 6.f}, {1 / 24.f, -1 / 12.f, 1 / 6.f}, {0, 0, 1}};
	float t[SUMS][HELD * SPAN] __attribute__((aligned(64))), e[SUMS][SEG_BLOCK * SPAN] __attribute__((aligned(64)));
	const struct seg_grid *g = c->grid;
	size_t channels = c->used / 9, from = seg_part_from(me, channels), to = seg_part_to(me, channels);
	size_t positions = (g->h + STRIP - 1) / STRIP * g->row, chunks = (positions + LONG - 1) / LONG;
	size_t step = ((positions + chunks - 1) / chunks + SEG_LANES - 1) / SEG_LANES * SEG_LANES;
	size_t span = step + 32, held = HELD * SPAN / span;
	for (size_t p = 0; p < positions; p += step)
		for (size_t k = from; k < to; k += held) {
			size_t some = to - k < held ? to - k : held;
			for (size_t i = 0; i < some; i++)
				sums(0, g, in + c->tap[9 * (k + i) + 4], p, 1, step + 2, t[0] + i * span, HELD * SPAN);
			for (size_t o = 0; o < c->cout; o += SEG_BLOCK) {
				for (size_t i = 0; i < SEG_BLOCK; i++)
					sums(1, g, dy + (o + i) * g->plane, p, 0, step, e[0] + i * span, SEG_BLOCK * SPAN);
				for (size_t i = 0; i < SEG_BLOCK && k == 0; i++)
					db[o + i] += sum(e[1] + i * span, step);
				for (size_t r = 0; r < SUMS; r++)
					for (size_t i = 0; i < some; i++) {
						float d[3 * SEG_BLOCK] = {0}, *w = dw + (o / SEG_BLOCK * channels + k + i) * 9 * SEG_BLOCK;
						const float *x[3] = {t[r] + i * span, t[r] + i * span + 1, t[r] + i * span + 2};
						for (size_t b = 0; b < SEG_BLOCK; b += CB)
							dots(e[r] + b * span, span, x, step, x, d + b);
						for (size_t y = 0; y < 3; y++)
							for (size_t f = 0; f < 3 * SEG_BLOCK; f++)
								w[y * 3 * SEG_BLOCK + f] += back[r][y] * d[f];
					}
			}
		}
}
