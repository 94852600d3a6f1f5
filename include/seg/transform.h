/* Random transforms of samples: of the picture and its truth alike, or of the picture's values. */
#ifndef SEG_TRANSFORM_H
#define SEG_TRANSFORM_H

#include <stddef.h>
#include <stdint.h>

#include "seg/json.h"
#include "seg/rng.h"
#include "seg/stream.h"

struct seg_transform;

/* Pointwise: x becomes clip(gain * x^gamma + offset), x as a fraction of the image's range; then
 * normal noise of deviation sigma is added and clipped likewise. */
struct seg_tone {
	double gamma, gain, offset, sigma;
};

/* One row of the table: everything there is to say about a transform. */
struct seg_transform_kind {
	const char *name, *args;    /* "gamma", "lo,hi" */
	int narg;
	double least, most;         /* range of each argument */
	double p;                   /* probability unless the word says @P */
	const char *image, *truth;  /* what happens to them */
	/* Draw what varies and say what to do; drawn[] receives the parameters to record, their count
	 * is returned.  Geometric: *move as bits SEG_MOVE_*.  Photometric: *tone; mean is that of all
	 * values, as a fraction of the range. */
	int (*geometric)(struct seg_rng *r, int *move, double *drawn);
	int (*photometric)(const double *arg, struct seg_rng *r, double mean, struct seg_tone *tone, double *drawn);
};
enum { SEG_MOVE_TRANSPOSE = 1, SEG_MOVE_VFLIP = 2, SEG_MOVE_HFLIP = 4 }; /* transposed first */
const struct seg_transform_kind *seg_transform_list(size_t *n);

struct seg_transform {
	const struct seg_transform_kind *kind;
	double arg[2], p;
};
/* "flip", "gamma(0.8,1.2)", "noise(0.02)@0.5".  SEG_EUSAGE with the likely repair. */
int seg_transform_parse(struct seg_transform *t, const char *word);

/* Apply n transforms in order to an open sample: draws are a function of (seed, epoch, copy, the
 * sample's key, position in the list).  image, label, mask and weight move together; values keep
 * their type and range (|u1 0..255, <u2 0..65535, <f4 0..1 or, if it leaves that, its own least to
 * most).  Any other tensor is refused: predictions do not hold for another picture.  Each transform
 * that took place is appended to `record`: {"name":..,"args":[..]}.  Returns 1 if the picture was
 * moved, 0 if not; SEG_EDATA names the sample. */
int seg_transform_apply(const struct seg_transform *t, int n, uint64_t seed, uint64_t epoch, uint64_t copy,
    struct seg_sample *s, struct seg_json *record);

/* seg-augment: every sample of `in`, transformed, to `out` (NULL: stdin, stdout). */
struct seg_augment {
	const char *in, *out;
	const struct seg_transform *t;
	int nt;
	const char *const *word;  /* the nt words, for the provenance */
	uint64_t seed;
	int epochs;               /* 0: one pass, keys as they are; else key suffix _e1.. and json epoch */
	int copies;               /* 0: one, keys as they are; else key suffix _c1.. and json copy */
	int keep;                 /* the untouched sample too, before its copies (_c0) */
	int threads, level;
	size_t cache;             /* bytes of packed samples kept in memory for later epochs */
};
int seg_augment(const struct seg_augment *a);

#endif
