/* Confusion counts per class and what is derived from them.  Counts are 64-bit integers, sums of
 * weights exact: added in any order they are the same.  Multiclass: the prediction is the first
 * maximum over k.  Multilabel: p > 0.5 per class (another threshold per class may be given).  Soft
 * truth means the class from t = 1/2 on.  What the truth ignores counts nowhere: a label the whole
 * pixel, a mask that class. */
#ifndef SEG_CONFUSION_H
#define SEG_CONFUSION_H

#include <stdint.h>

#include "seg/exact.h"
#include "seg/loss.h"

struct seg_confusion {
	int nclass;
	int multilabel;
	int weighted;             /* tp, fp, fn are sums of the pixels' weights, in weight */
	int per_image;            /* image and nimage are kept */
	int nsweep;               /* thresholds at which everything is counted once more, each class against */
	const double *sweep;      /* the rest: p > sweep[j]; borrowed */
	uint64_t pixels, ignored; /* pixels with at least one class that counts; the others; never weighted */
	uint64_t *tp, *fp, *fn;   /* nclass each, one block; nsweep such blocks follow */
	struct seg_exact *weight; /* the same blocks where weighted, else NULL */
	struct seg_exact *image;  /* nclass + 1: the sum of the IoU of each image that has the class in truth */
	uint64_t *nimage;         /* or prediction, and how many have; last: of an image's mean over its classes */
	double *sample;           /* room for the blocks of one sample */
};
int seg_confusion_new(struct seg_confusion *c, int nclass, int multilabel);
/* Empty counts with the nclass and the choices of kind, whose pointers to counts are not looked at. */
int seg_confusion_like(struct seg_confusion *c, const struct seg_confusion *kind);
void seg_confusion_free(struct seg_confusion *c);
/* Add one sample with truth: its p, or if p is NULL its z, for which multiclass takes the same
 * maximum and multilabel p = sigmoid(z).  threshold: nclass numbers for multilabel, NULL for 0.5.
 * Weights are added pixel by pixel in double within a sample, then exactly; a sample that has none
 * counts 1 for each pixel.  A sweep wants p, or z of a sigmoid.  NaN predictions, weights below 0: SEG_EDATA, and c is as before. */
int seg_confusion_add(struct seg_confusion *c, const struct seg_loss_sample *s, const double *threshold);
/* other: of the same kind. */
void seg_confusion_merge(struct seg_confusion *c, const struct seg_confusion *other);
/* The counts at sweep[j] in place of those at the threshold in use; borrows from c. */
struct seg_confusion seg_confusion_at(const struct seg_confusion *c, int j);
/* Number i of the block - class k's tp, fp, fn are k, nclass + k, 2 nclass + k. */
double seg_confusion_count(const struct seg_confusion *c, int i);
/* 0/0 is NaN, never silently 0 or 1. */
double seg_iou(const struct seg_confusion *c, int k);
double seg_dice(const struct seg_confusion *c, int k);
double seg_precision(const struct seg_confusion *c, int k);
double seg_recall(const struct seg_confusion *c, int k);
/* Mean over the classes whose union tp+fp+fn is not empty; *present: how many they are.  None: NaN. */
double seg_mean_iou(const struct seg_confusion *c, int *present);
/* Mean over the images that have class k; k = nclass: of their means over the classes each has. */
double seg_image_iou(const struct seg_confusion *c, int k);

#endif
