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

/* 1: pixel i has class k, 0: it has not, -1: ignored. */
static int truth(const struct seg_loss_sample *s, size_t i, int k, int nclass)
{
	size_t ik = i * (size_t)nclass + (size_t)k;
	long v;
	switch (s->kind) {
	case SEG_LABEL_U1:
		v = ((const uint8_t *)s->truth)[i];
		return v == s->ignore ? -1 : v == k;
	case SEG_LABEL_U2:
		v = ((const uint16_t *)s->truth)[i];
		return v == s->ignore ? -1 : v == k;
	case SEG_MASK_U1:
		v = ((const uint8_t *)s->truth)[ik];
		return v == s->ignore ? -1 : v != 0;
	case SEG_MASK_F4: {
		float t = ((const float *)s->truth)[ik];
		return s->ignore >= 0 && t == (float)s->ignore ? -1 : t >= 0.5f;
	}
	default:
		return -1;
	}
}

int seg_confusion_add(struct seg_confusion *c, const struct seg_loss_sample *s, const double *threshold)
{
	const float *a = s->p ? s->p : s->z;
	size_t ai = s->p ? s->pi : s->zi, ak = s->p ? s->pk : s->zk;
	for (size_t i = 0; i < s->h * s->w; i++) {
		int first = 0, counts = 0;
		for (int k = 0; k < c->nclass; k++) {
			float v = a[i * ai + (size_t)k * ak];
			if (v != v)
				return seg_fail(SEG_EDATA, "sample %s: prediction of class %d is NaN at y %zu x %zu",
				    s->key, k, i / s->w, i % s->w);
			if (v > a[i * ai + (size_t)first * ak])
				first = k;
		}
		for (int k = 0; k < c->nclass; k++) {
			int t = truth(s, i, k, c->nclass), guess = k == first;
			if (t < 0)
				continue;
			if (c->multilabel) {
				float v = a[i * ai + (size_t)k * ak];
				guess = (s->p ? v : seg_sigmoidf(v)) > (threshold ? threshold[k] : 0.5);
			}
			counts = 1;
			c->tp[k] += t && guess;
			c->fp[k] += !t && guess;
			c->fn[k] += t && !guess;
		}
		c->pixels += counts;
		c->ignored += !counts;
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
