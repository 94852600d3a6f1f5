/* Confusion counts and the ratios made of them. */
#include <stdlib.h>
#include <string.h>

#include "seg/confusion.h"
#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"

int seg_confusion_new(struct seg_confusion *c, int nclass, int multilabel)
{
	*c = (struct seg_confusion){.nclass = nclass, .multilabel = multilabel};
	c->tp = seg_alloc((size_t)nclass, 3 * sizeof *c->tp);
	if (!c->tp)
		return SEG_ENOMEM;
	c->fp = c->tp + nclass;
	c->fn = c->fp + nclass;
	return SEG_OK;
}

void seg_confusion_free(struct seg_confusion *c)
{
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

int seg_confusion_add(struct seg_confusion *c, const struct seg_loss_sample *s, const double *threshold)
{
	const float *a = s->p ? s->p : s->z;
	size_t ai = s->p ? s->pi : s->zi, ak = s->p ? s->pk : s->zk;
	for (size_t i0 = 0; i0 < s->h * s->w; i0 += BLOCK) {
		size_t n = s->h * s->w - i0 < BLOCK ? s->h * s->w - i0 : BLOCK;
		float v[BLOCK], best[BLOCK];
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
			unsigned tp = 0, fp = 0, fn = 0;
			if (c->multilabel) {
				values(a + i0 * ai + (size_t)k * ak, ai, n, v);
				above(v, !s->p, threshold ? threshold[k] : 0.5, guess);
			} else {
				for (int i = 0; i < BLOCK; i++)
					guess[i] = first[i] == k;
			}
			truth(s, i0, n, k, c->nclass, t);
			for (int i = 0; i < BLOCK; i++) {
				tp += t[i] == 1 && guess[i];
				fp += t[i] == 0 && guess[i];
				fn += t[i] == 1 && !guess[i];
				counts[i] |= t[i] >= 0;
			}
			c->tp[k] += tp;
			c->fp[k] += fp;
			c->fn[k] += fn;
		}
		unsigned some = 0;
		for (int i = 0; i < BLOCK; i++)
			some += (unsigned)counts[i];
		c->pixels += some;
		c->ignored += n - some;
	}
	return SEG_OK;
}

void seg_confusion_merge(struct seg_confusion *c, const struct seg_confusion *other)
{
	c->pixels += other->pixels;
	c->ignored += other->ignored;
	for (int i = 0; i < 3 * c->nclass; i++)
		c->tp[i] += other->tp[i]; /* tp, fp, fn are one block */
}

static double ratio(double a, double b)
{
	return b == 0 ? SEG_NAN : a / b;
}

double seg_iou(const struct seg_confusion *c, int k)
{
	return ratio((double)c->tp[k], (double)(c->tp[k] + c->fp[k] + c->fn[k]));
}

double seg_dice(const struct seg_confusion *c, int k)
{
	return ratio(2 * (double)c->tp[k], (double)(2 * c->tp[k] + c->fp[k] + c->fn[k]));
}

double seg_precision(const struct seg_confusion *c, int k)
{
	return ratio((double)c->tp[k], (double)(c->tp[k] + c->fp[k]));
}

double seg_recall(const struct seg_confusion *c, int k)
{
	return ratio((double)c->tp[k], (double)(c->tp[k] + c->fn[k]));
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
