/* What the files of this floor share and nobody else needs. */
#ifndef LIB_IMAGE_PARTS_H
#define LIB_IMAGE_PARTS_H

#include "seg/image.h"

/* sample.c: samples and rows as TIFF packs them, without libtiff. */

/* The type that holds samples of this depth and format exactly (SEG_F8 if neither bytes,
 * shorts nor floats do), or -1 if we do not read them. */
int seg_sample_type(int bits, enum seg_format format);
/* Unpack n samples, first bit first, bytes of this machine, to dst[0], dst[step], ... of that type. */
void seg_sample_unpack(const unsigned char *src, size_t n, int bits, enum seg_format format, void *dst, size_t step);
/* Turn [H,W,C] upright: orientation 1..8 says where row 0 and column 0 are (TIFF 6.0, page 36). */
int seg_upright(struct seg_tensor *t, int orientation);

/* A JSON string of any bytes: those that are not UTF-8 become %XX. */
struct seg_json *seg_text_json(const char *s);

/* Length of the name without its TIFF ending; 0 if it has none. */
size_t seg_stem(const char *name);

/* picture.c: type and channels of the image that a page will be; then that image from its samples
 * (t as seg_tiff_read gives it, changed in place).  raw: numbers as stored. */
void seg_picture_form(const struct seg_page *p, int raw, enum seg_dtype *d, size_t *channels);
int seg_picture(const struct seg_page *p, int raw, struct seg_tensor *t);

/* truth.c: what stored values mean. */
enum { SEG_MAP_LO = -32768, SEG_MAP_N = 98304, SEG_MAP_IGNORE = -100001, SEG_MAP_NONE = -100002 };
struct seg_map {
	int32_t to[SEG_MAP_N], other; /* other: the `*` entry, or SEG_MAP_NONE */
	unsigned char listed[SEG_MAP_N];
};
/* "0=0,128=1,*=ignore".  SEG_EUSAGE. */
int seg_map_parse(struct seg_map *m, const char *text);

struct seg_truth {
	int nclass;
	long ignore;               /* value in files that is ignored, or SEG_NOIGNORE */
	long stored;               /* what ignored pixels are in the stream */
	const struct seg_map *map; /* or NULL */
	int raw;
};
/* Samples [H,W,S] become class numbers [H,W] of SEG_U1, or SEG_U2 if they need it.  An unknown
 * value is SEG_EDATA with pixel, value and repair. */
int seg_label(const struct seg_page *p, const struct seg_truth *r, struct seg_tensor *t);
/* Mark the class numbers that occur (seen: 65536 flags). */
int seg_label_count(const struct seg_page *p, const struct seg_truth *r, const struct seg_tensor *t, unsigned char *seen);
/* One sample of each pixel into channel k of mask [H,W,K]: 0 and 1, or 0 and the largest number. */
int seg_mask(const struct seg_page *p, const struct seg_truth *r, const struct seg_tensor *t, size_t sample, struct seg_tensor *mask, size_t k);

/* pair.c: which truth belongs to which image. */
enum seg_layout { SEG_BARE, SEG_LABEL_FILES, SEG_MASK_FILES, SEG_MASK_DIRS, SEG_MASK_SUFFIX };
struct seg_pair {
	char *image, *name;          /* path to open; path as given, relative to the directory */
	size_t stem;                 /* length of the id in name */
	char *source;                /* what it was cut from; NULL: it is whole */
	char **truth;                /* paths: one, or one for each class */
	int ntruth;
};
struct seg_pairs {
	enum seg_layout layout;
	struct seg_pair *pair;       /* in order */
	size_t n;
	char **classes;              /* SEG_MASK_DIRS without names given: the directories; else NULL */
	int nclass, skipped;
};
int seg_pairs_find(struct seg_pairs *p, const struct seg_load *o);
void seg_pairs_free(struct seg_pairs *p);
/* source.c: fill in the sources from a table; SEG_EDATA if an image is not in it. */
int seg_sources(struct seg_pairs *p, const char *path);
/* A line to o->say, as printf makes it. */
void seg_load_say(const struct seg_load *o, int skipped, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* overlay.c: a picture for people. */
struct seg_layer {               /* which classes a pixel has */
	const struct seg_tensor *label, *mask; /* one of them, or neither: nothing to draw */
	long ignore;
};
struct seg_scene {
	const struct seg_tensor *image; /* [H,W,C] */
	struct seg_layer truth, guess;
	int nclass, background, beside;
	char *const *name;
};
/* *out: RGB.  The prediction (else the truth) is painted translucently, the truth drawn as
 * contours; or image, truth and prediction beside each other.  Below: the names of the colours. */
int seg_overlay(const struct seg_scene *s, struct seg_tensor *out);

#endif
