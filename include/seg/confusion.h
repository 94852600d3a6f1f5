/* Confusion counts per class and what is derived from them.  Counts are 64-bit integers: exact, and
 * added in any order.  Multiclass: the prediction is the first maximum over k.  Multilabel:
 * p > 0.5 per class (another threshold per class may be given).  Soft truth means the class from
 * t = 1/2 on.  What the truth ignores counts nowhere: a label the whole pixel, a mask that class. */
#ifndef SEG_CONFUSION_H
#define SEG_CONFUSION_H

#include <stdint.h>

#include "seg/loss.h"

struct seg_confusion {
	int nclass;
	int multilabel;
	uint64_t pixels, ignored; /* pixels with at least one class that counts; the others */
	uint64_t *tp, *fp, *fn; /* nclass each, one block */
};
int seg_confusion_new(struct seg_confusion *c, int nclass, int multilabel);
void seg_confusion_free(struct seg_confusion *c);
/* Add one sample with truth: its p, or if p is NULL its z, for which multiclass takes the same
 * maximum and multilabel p = sigmoid(z).  threshold: nclass numbers for multilabel, NULL for 0.5.
 * NaN predictions: SEG_EDATA, and c holds a part of the sample. */
int seg_confusion_add(struct seg_confusion *c, const struct seg_loss_sample *s, const double *threshold);
void seg_confusion_merge(struct seg_confusion *c, const struct seg_confusion *other);
/* 0/0 is NaN, never silently 0 or 1. */
double seg_iou(const struct seg_confusion *c, int k);
double seg_dice(const struct seg_confusion *c, int k);
double seg_precision(const struct seg_confusion *c, int k);
double seg_recall(const struct seg_confusion *c, int k);
/* Mean over the classes whose union tp+fp+fn is not empty; *present: how many they are.  None: NaN. */
double seg_mean_iou(const struct seg_confusion *c, int *present);

#endif
