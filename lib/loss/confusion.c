/* Confusion counts and the ratios made of them. */
#include <stdlib.h>
#include <string.h>

#include "seg/confusion.h"
#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "lib/loss/count.h"

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

/* The first pixel from i0 on where class k's value is not what it must be. */
static size_t culprit(const struct seg_loss_sample *s, size_t i0, int k, int nclass, int nan)
{
	const float *a = s->p ? s->p : s->z;
	size_t ai = s->p ? s->pi : s->zi, ak = s->p ? s->pk : s->zk, step = s->weight_k ? (size_t)nclass : 1;
	for (;; i0++) {
		float v = nan ? a[i0 * ai + (size_t)k * ak] : s->weight[i0 * step + (s->weight_k ? (size_t)k : 0)];
		if (nan ? v != v : !(v >= 0))
			return i0;
	}
}

int seg_confusion_add(struct seg_confusion *c, const struct seg_loss_sample *s, const double *threshold)
{
	uint64_t pixels = 0;
	memset(c->sample, 0, (size_t)nblock(c) * sizeof *c->sample);
	for (size_t i = 0; i < s->h * s->w; i += SEG_COUNTED) {
		int k = SEG_ISA_PICK(seg_confusion_block)(c, s, i, threshold, &pixels);
		if (k == 0)
			continue;
		int nan = k > 0, class = nan ? k - 1 : -k - 1;
		i = culprit(s, i, class, c->nclass, nan);
		if (nan)
			return seg_fail(SEG_EDATA, "sample %s: prediction of class %d is NaN at y %zu x %zu", s->key, class, i / s->w, i % s->w);
		float w = s->weight[s->weight_k ? i * (size_t)c->nclass + (size_t)class : i];
		return seg_fail(SEG_EDATA, "sample %s: weight.npy is %g at y %zu x %zu, class %d; counts need weights of 0 or more",
		    s->key, (double)w, i / s->w, i % s->w, class);
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
