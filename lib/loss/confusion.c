/* Confusion counts and the ratios made of them. */
#include <stdlib.h>
#include <string.h>

#include "seg/confusion.h"
#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"

int seg_confusion_like(struct seg_confusion *c, const struct seg_confusion *kind)
{
	size_t nk = (size_t)kind->nclass, n = 3 * nk * (1 + (size_t)kind->nsweep);
	*c = (struct seg_confusion){.nclass = kind->nclass, .multilabel = kind->multilabel, .weighted = kind->weighted,
	    .per_image = kind->per_image, .nsweep = kind->nsweep, .sweep = kind->sweep};
	c->tp = seg_alloc(n, sizeof *c->tp);
	c->sample = seg_alloc(n, sizeof *c->sample);
	c->weight = c->weighted ? seg_alloc(n, sizeof *c->weight) : NULL;
	c->image = c->per_image ? seg_alloc(nk + 1, sizeof *c->image) : NULL;
	c->nimage = c->per_image ? seg_alloc(nk + 1, sizeof *c->nimage) : NULL;
	if (!c->tp || !c->sample || (c->weighted && !c->weight) || (c->per_image && (!c->image || !c->nimage))) {
		seg_confusion_free(c);
		return SEG_ENOMEM;
	}
	c->fp = c->tp + nk;
	c->fn = c->fp + nk;
	return SEG_OK;
}

int seg_confusion_new(struct seg_confusion *c, int nclass, int multilabel)
{
	return seg_confusion_like(c, &(struct seg_confusion){.nclass = nclass, .multilabel = multilabel});
}

void seg_confusion_free(struct seg_confusion *c)
{
	free(c->sample);
	free(c->nimage);
	free(c->image);
	free(c->weight);
	free(c->tp);
	memset(c, 0, sizeof *c);
}

/* Pixels are counted in blocks of a fixed length, so that the compiler makes vectors of the loops;
 * the last block is filled up with pixels that are ignored. */
enum { BLOCK = 256 };

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

static double ratio(double a, double b)
{
	return b == 0 ? SEG_NAN : a / b;
}

/* Sums in all blocks: of the threshold in use and of each of the sweep. */
static int nblock(const struct seg_confusion *c) { return 3 * c->nclass * (1 + c->nsweep); }

/* The sample's blocks are complete: to the sums over all samples. */
static void gather(struct seg_confusion *c)
{
	int nk = c->nclass, have = 0;
	double sum = 0, *v = c->sample;
	for (int i = 0; i < nblock(c); i++)
		if (c->weighted)
			seg_exact_add(&c->weight[i], v[i]);
		else
			c->tp[i] += (uint64_t)v[i]; /* tp, fp, fn are one block */
	for (int k = 0; c->per_image && k <= nk; k++) {
		double iou = k < nk ? ratio(v[k], v[k] + v[nk + k] + v[2 * nk + k]) : ratio(sum, have);
		if (iou == iou) {
			seg_exact_add(&c->image[k], iou);
			c->nimage[k]++;
			sum += iou;
			have++;
		}
	}
}

int seg_confusion_add(struct seg_confusion *c, const struct seg_loss_sample *s, const double *threshold)
{
	const float *a = s->p ? s->p : s->z;
	size_t ai = s->p ? s->pi : s->zi, ak = s->p ? s->pk : s->zk, nk = (size_t)c->nclass;
	int weighted = c->weighted && s->weight;
	uint64_t pixels = 0;
	memset(c->sample, 0, (size_t)nblock(c) * sizeof *c->sample);
	for (size_t i0 = 0; i0 < s->h * s->w; i0 += BLOCK) {
		size_t n = s->h * s->w - i0 < BLOCK ? s->h * s->w - i0 : BLOCK;
		float v[BLOCK], best[BLOCK], w[BLOCK];
		short first[BLOCK] = {0};
		signed char t[BLOCK], guess[BLOCK], counts[BLOCK] = {0};
		for (int k = 0; k < c->nclass; k++) {
			if (values(a + i0 * ai + (size_t)k * ak, ai, n, v)) {
				size_t i = 0;
				while (v[i] == v[i])
					i++;
				return seg_fail(SEG_EDATA, "sample %s: prediction of class %d is NaN at y %zu x %zu", s->key, k,
				    (i0 + i) / s->w, (i0 + i) % s->w);
			}
			for (int i = 0; !c->multilabel && i < BLOCK; i++) {
				int more = k == 0 || v[i] > best[i];
				best[i] = more ? v[i] : best[i];
				first[i] = (short)(more ? k : first[i]);
			}
		}
		for (int k = 0; k < c->nclass; k++) {
			if (weighted && !weights(s, i0, n, (size_t)k, nk, w)) {
				size_t i = 0;
				while (w[i] >= 0)
					i++;
				return seg_fail(SEG_EDATA, "sample %s: weight.npy is %g at y %zu x %zu, class %d; counts need weights "
				    "of 0 or more", s->key, (double)w[i], (i0 + i) / s->w, (i0 + i) % s->w, k);
			}
			if (c->multilabel || c->nsweep)
				values(a + i0 * ai + (size_t)k * ak, ai, n, v);
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
		pixels += some;
	}
	c->pixels += pixels;
	c->ignored += s->h * s->w - pixels;
	gather(c);
	return SEG_OK;
}

void seg_confusion_merge(struct seg_confusion *c, const struct seg_confusion *other)
{
	c->pixels += other->pixels;
	c->ignored += other->ignored;
	for (int i = 0; i < nblock(c); i++) {
		c->tp[i] += other->tp[i];
		if (c->weighted)
			seg_exact_merge(&c->weight[i], &other->weight[i]);
	}
	for (int k = 0; c->per_image && k <= c->nclass; k++) {
		seg_exact_merge(&c->image[k], &other->image[k]);
		c->nimage[k] += other->nimage[k];
	}
}

struct seg_confusion seg_confusion_at(const struct seg_confusion *c, int j)
{
	struct seg_confusion v = *c;
	size_t block = 3 * (size_t)c->nclass * (size_t)(j + 1);
	v.tp += block;
	v.fp += block;
	v.fn += block;
	v.weight = c->weighted ? c->weight + block : NULL;
	v.per_image = v.nsweep = 0;
	return v;
}

double seg_confusion_count(const struct seg_confusion *c, int i)
{
	return c->weighted ? seg_exact_value(&c->weight[i]) : (double)c->tp[i];
}

static double tp(const struct seg_confusion *c, int k) { return seg_confusion_count(c, k); }
static double fp(const struct seg_confusion *c, int k) { return seg_confusion_count(c, c->nclass + k); }
static double fn(const struct seg_confusion *c, int k) { return seg_confusion_count(c, 2 * c->nclass + k); }

double seg_iou(const struct seg_confusion *c, int k)
{
	return ratio(tp(c, k), tp(c, k) + fp(c, k) + fn(c, k));
}

double seg_dice(const struct seg_confusion *c, int k)
{
	return ratio(2 * tp(c, k), 2 * tp(c, k) + fp(c, k) + fn(c, k));
}

double seg_precision(const struct seg_confusion *c, int k)
{
	return ratio(tp(c, k), tp(c, k) + fp(c, k));
}

double seg_recall(const struct seg_confusion *c, int k)
{
	return ratio(tp(c, k), tp(c, k) + fn(c, k));
}

double seg_image_iou(const struct seg_confusion *c, int k)
{
	return ratio(seg_exact_value(&c->image[k]), (double)c->nimage[k]);
}

double seg_mean_iou(const struct seg_confusion *c, int *present)
{
	double sum = 0;
	*present = 0;
	for (int k = 0; k < c->nclass; k++) {
		double v = seg_iou(c, k);
		if (v == v) {
			sum += v;
			++*present;
		}
	}
	return ratio(sum, *present);
}
