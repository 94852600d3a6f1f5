/* Scenes drawn from numbers alone: land seen from above, five classes, the fifth rare. */
#ifndef SEG_SYNTH_H
#define SEG_SYNTH_H

#include <stddef.h>
#include <stdint.h>

#define SEG_SYNTH_CLASSES 5
extern const char *const seg_synth_class[SEG_SYNTH_CLASSES]; /* ground field water roof crack */

/* Scene `index` of `seed`: image [H][W][3] sRGB, label [H][W] class numbers.  A function of the
 * arguments: the same bits on every machine, whoever draws it and whatever else is drawn.  The size
 * is that of the picture, not of the land: a larger picture shows the same in finer detail.  Crack
 * is about 0.2 % of the pixels of many scenes, and absent from some.  h, w >= 1.  SEG_ENOMEM. */
int seg_synth_scene(uint64_t seed, uint64_t index, size_t h, size_t w, uint8_t *image, uint8_t *label);

/* The binary mask of class k: mask[i * stride] = label[i] == k ? set : 0, for n labels. */
void seg_synth_mask(const uint8_t *label, size_t n, int k, uint8_t set, size_t stride, uint8_t *mask);

#endif
