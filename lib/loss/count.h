/* Counting a block of pixels, compiled once for each instruction set. */
#ifndef SEG_LOSS_COUNT_H
#define SEG_LOSS_COUNT_H

#include "seg/confusion.h"
#include "seg/isa.h"

enum { SEG_COUNTED = 256 }; /* pixels of a block */

/* The pixels from i0 on, SEG_COUNTED or to the end: added to c->sample, and those that count to *pixels.
 * 0; or k + 1: a prediction of class k is NaN; or -k - 1: a weight of class k is not 0 or more. */
#define SEG_COUNT(isa) \
	int seg_confusion_block_##isa(struct seg_confusion *c, const struct seg_loss_sample *s, size_t i0, \
	    const double *threshold, uint64_t *pixels);
SEG_COUNT(plain) SEG_COUNT(avx2) SEG_COUNT(avx512) SEG_COUNT(neon)

#endif
