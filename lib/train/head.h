/* Planes of logits, z[k * plane + i], to probabilities out[i * nclass + k] of n pixels: p = sigmoid(z), or
 * exp(z - max) / sum, added in the order of k; SEG_NONE: the logits.  1 if not all of them are finite. */
#ifndef SEG_TRAIN_HEAD_H
#define SEG_TRAIN_HEAD_H

#include "seg/isa.h"
#include "seg/stream.h"

#define SEG_HEAD_APPLY(isa) \
	int seg_head_apply_##isa(enum seg_head head, const float *z, size_t plane, size_t nclass, size_t n, float *out);
SEG_HEAD_APPLY(plain) SEG_HEAD_APPLY(avx2) SEG_HEAD_APPLY(avx512) SEG_HEAD_APPLY(neon)

#endif
