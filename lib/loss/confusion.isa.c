/* Confusion counts of a block of pixels. */
#include <string.h>

#include "lib/loss/count.h"
#include "seg/math.h"

/* Pixels are counted in blocks of a fixed length, so that the compiler makes vectors of the loops;
 * the last block is filled up with pixels that are ignored. */
enum { BLOCK = SEG_COUNTED };

/* t[i] 1: pixel i0 + i has class k, 0: it has not, -1: ignored. */
static void truth(const struct seg_loss_sample *s, size_t i0, size_t n, int k, int nclass, signed char *t)
{
	const uint8_t *u1 = (const uint8_t *)s->truth + i0, *m1 = (const uint8_t *)s->truth + i0 * (size_t)nclass + k;
	const uint16_t *u2 = (const uint16_t *)s->truth + i0;
	const float *f4 = (const float *)s->truth + i0 * (size_t)nclass + k;
	if (s->kind == SEG_LABEL_U1 && n == BLOCK)
		for (int i = 0; i < BLOCK; i++)
			t[i] = u1[i] == s->ignore ? -1 : u1[i] == k;
	else
		for (size_t i = 0; i < BLOCK; i++) {
			size_t j = i * (size_t)nclass;
			t[i] = i >= n ? -1
			    : s->kind == SEG_LABEL_U1 ? u1[i] == s->ignore ? -1 : u1[i] == k
			    : s->kind == SEG_LABEL_U2 ? u2[i] == s->ignore ? -1 : u2[i] == k
			    : s->kind == SEG_MASK_U1 ? m1[j] == s->ignore ? -1 : m1[j] != 0
			    : s->kind != SEG_MASK_F4 ? -1
			    : s->ignore >= 0 && f4[j] == (float)s->ignore ? -1 : f4[j] >= 0.5f;
		}
}

/* The values of class k in a block, NaN never: 1. */
static int values(const float *a, size_t ai, size_t n, float *v)
{
	int bad = 0;
	if (ai == 1 && n == BLOCK)
		memcpy(v, a, BLOCK * sizeof *v);
	else
		for (size_t i = 0; i < BLOCK; i++)
			v[i] = i < n ? a[i * ai] : 0;
	for (int i = 0; i < BLOCK; i++)
		bad |= v[i] != v[i];
	return bad;
}

/* Is the probability above the threshold?  logits: v is z of a sigmoid. */
static void above(const float *v, int logits, double threshold, signed char *guess)
{
	int near = 0;
	for (int i = 0; !logits && i < BLOCK; i++)
		guess[i] = v[i] > threshold;
	if (!logits)
		return;
	for (int i = 0; i < BLOCK; i++) { /* further from 0 rounding cannot bring it to 1/2 */
		guess[i] = v[i] > 1e-3f;
		near |= v[i] > 0 && v[i] <= 1e-3f;
	}
	for (int i = 0; (near || threshold != 0.5) && i < BLOCK; i++)
		guess[i] = seg_sigmoidf(v[i]) > threshold;
}

/* The weights of class k in a block; 1: all are 0 or more. */
static int weights(const struct seg_loss_sample *s, size_t i0, size_t n, size_t k, size_t nclass, float *w)
{
	size_t step = s->weight_k ? nclass : 1;
	const float *from = s->weight + i0 * step + (s->weight_k ? k : 0);
	int good = 1;
	for (size_t i = 0; i < BLOCK; i++) {
		w[i] = i < n ? from[i * step] : 0;
		good &= w[i] >= 0;
	}
	return good;
}

/* A block's pixels of one class added to sum[0] (tp), sum[nk] (fp), sum[2 * nk] (fn); w NULL: 1 each. */
static void tally(const signed char *t, const signed char *guess, const float *w, double *sum, size_t nk)
{
	if (w) {
		for (int i = 0; i < BLOCK; i++)
			if (t[i] >= 0 && (t[i] || guess[i]))
				sum[t[i] ? guess[i] ? 0 : 2 * nk : nk] += w[i];
		return;
	}
	unsigned tp = 0, fp = 0, fn = 0;
	for (int i = 0; i < BLOCK; i++) {
		tp += t[i] == 1 && guess[i];
		fp += t[i] == 0 && guess[i];
		fn += t[i] == 1 && !guess[i];
	}
	sum[0] += tp;
	sum[nk] += fp;
	sum[2 * nk] += fn;
}

int SEG_ISA_NAME(seg_confusion_block)(struct seg_confusion *c, const struct seg_loss_sample *s, size_t i0,
    const double *threshold, uint64_t *pixels)
{
	const float *a = s->p ? s->p : s->z;
	size_t ai = s->p ? s->pi : s->zi, ak = s->p ? s->pk : s->zk, nk = (size_t)c->nclass;
	size_t n = s->h * s->w - i0 < BLOCK ? s->h * s->w - i0 : BLOCK;
	int weighted = c->weighted && s->weight;
	float v[BLOCK], best[BLOCK], w[BLOCK];
	short first[BLOCK] = {0};
	signed char t[BLOCK], guess[BLOCK], counts[BLOCK] = {0};
	for (int k = 0; k < c->nclass && !c->multilabel; k++) {
		if (values(a + i0 * ai + (size_t)k * ak, ai, n, v))
			return k + 1;
		for (int i = 0; i < BLOCK; i++) {
			int more = k == 0 || v[i] > best[i];
			best[i] = more ? v[i] : best[i];
			first[i] = (short)(more ? k : first[i]);
		}
	}
	for (int k = 0; k < c->nclass; k++) {
		if (weighted && !weights(s, i0, n, (size_t)k, nk, w))
			return -k - 1;
		if ((c->multilabel || c->nsweep) && values(a + i0 * ai + (size_t)k * ak, ai, n, v))
			return k + 1;
		if (c->multilabel) {
			above(v, !s->p, threshold ? threshold[k] : 0.5, guess);
		} else {
			for (int i = 0; i < BLOCK; i++)
				guess[i] = first[i] == k;
		}
		truth(s, i0, n, k, c->nclass, t);
		tally(t, guess, weighted ? w : NULL, c->sample + k, nk);
		for (int j = 0; j < c->nsweep; j++) {
			above(v, !s->p, c->sweep[j], guess);
			tally(t, guess, weighted ? w : NULL, c->sample + 3 * nk * (size_t)(j + 1) + k, nk);
		}
		for (int i = 0; i < BLOCK; i++)
			counts[i] |= t[i] >= 0;
	}
	unsigned some = 0;
	for (int i = 0; i < BLOCK; i++)
		some += (unsigned)counts[i];
	*pixels += some;
	return 0;
}
