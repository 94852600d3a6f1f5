/* Pictures: TIFF pages in and out (the only door to libtiff), directories of images and truth to a
 * stream, and a stream back to pictures. */
#ifndef SEG_IMAGE_H
#define SEG_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "seg/json.h"
#include "seg/stream.h"
#include "seg/tensor.h"

/* ---- TIFF pages ---- */

enum seg_format { SEG_FORMAT_UINT, SEG_FORMAT_INT, SEG_FORMAT_FLOAT };
enum seg_photo { SEG_GREY, SEG_GREY_INVERTED, SEG_RGB, SEG_PALETTE, SEG_CMYK };

struct seg_page {
	int number;              /* from 1: all directories of the file count */
	size_t width, height;    /* as stored, before orientation */
	int samples, bits;       /* per pixel; per sample, 1..64 */
	int colours;             /* samples that are colour; the others are extra */
	uint64_t alpha;          /* bit i: sample i is opacity (the first 64) */
	enum seg_format format;
	enum seg_photo photo;
	int orientation;         /* 1..8 as TIFF counts */
	int reduced;             /* an overview or a transparency mask: not a picture of its own */
	int last;                /* no directory follows */
	uint64_t offset;         /* for seg_tiff_seek */
	const uint16_t *palette[3]; /* SEG_PALETTE: 2^bits entries each, borrowed until the next page */
};

struct seg_tiff_rules {
	size_t max_pixels; /* width * height of a page; 0: SEG_MAX_PIXELS */
	int tolerant;      /* libtiff's warnings are not errors */
};
#define SEG_MAX_PIXELS ((size_t)1 << 28)

struct seg_tiff;
/* Open a TIFF or BigTIFF file of either byte order.  rules: NULL for the defaults; copied.
 * Every reason begins with the path and says page, strip or tile.  SEG_EDATA, SEG_ENOMEM. */
int seg_tiff_open(struct seg_tiff **f, const char *path, const struct seg_tiff_rules *rules);
/* 1: *p is the next page; 0: there is none; < 0. */
int seg_tiff_page(struct seg_tiff *f, struct seg_page *p);
/* Go to a page found before (on this handle or another): number and offset of q.  0 or < 0. */
int seg_tiff_seek(struct seg_tiff *f, const struct seg_page *q, struct seg_page *p);
/* The numbers of the current page as stored: t (allocated here) is [H,W,samples] of SEG_U1 (1 to
 * 8 bits unsigned), SEG_U2 (to 16), SEG_F4 (16 and 32 bit float) or SEG_F8 (all others); rows and
 * columns are put upright by the orientation unless keep is set. */
int seg_tiff_read(struct seg_tiff *f, struct seg_tensor *t, int keep);
/* Resolution and georeferencing tags of the current page as an object {"XResolution": 72, ...};
 * empty if none.  NULL: out of memory.  The caller frees it. */
struct seg_json *seg_tiff_tags(struct seg_tiff *f);
const char *seg_tiff_path(const struct seg_tiff *f);
void seg_tiff_close(struct seg_tiff *f); /* NULL allowed */

/* Write pages; the file appears under its name only when complete.  page[i]: [H,W] or [H,W,C] of
 * SEG_U1, SEG_U2 or SEG_F4; C = 3 of integers is RGB, everything else grey with further channels.
 * Deflate-compressed strips; the same bytes for the same arguments.  how: NULL for the defaults. */
struct seg_tiff_how {
	const uint8_t (*palette)[3]; /* colours of the values of SEG_U1 [H,W] pages */
	int npalette;
	const char *description;     /* ImageDescription */
	const struct seg_json *tags; /* as seg_tiff_tags gives them; written to the first page */
	int planar;                  /* store channels one after another */
	int bilevel;                 /* SEG_U1 [H,W] pages as one bit: 0, not 0 */
};
int seg_tiff_write(const char *path, const struct seg_tensor *page, size_t npage, const struct seg_tiff_how *how);

/* ---- directories of TIFF to a stream ---- */

struct seg_load {
	const char *images;           /* directory; or NULL and nfile files */
	char *const *file;
	int nfile;
	const char *labels, *masks;   /* directory of truth; at most one */
	const char *sources;          /* table NAME tab SOURCE of what the images were cut from; or NULL */
	const char *const *classes;   /* names; NULL: the masks say how many, labels are counted */
	int nclass;
	const char *map;              /* "0=0,128=1,*=ignore" or NULL */
	long ignore;                  /* SEG_NOIGNORE */
	int page;                     /* only this page of image files; 0: all */
	int raw;                      /* samples and rows as stored: no colour, no orientation */
	int keep_going;               /* what cannot be read is skipped */
	struct seg_tiff_rules rules;
	int threads, level;           /* as seg_filter */
	const char *out;              /* NULL: stdout */
	/* A line for people: of an input that was skipped, or a note.  Serial.  May be NULL. */
	void (*say)(void *arg, int skipped, const char *line);
	void *arg;
};
/* Pairs by stem, reads, writes in byte order of names.  SEG_ESKIPPED if something was skipped;
 * SEG_EUSAGE for a map, class or ignore value that makes no sense. */
int seg_load(const struct seg_load *o);

/* ---- a stream to pictures ---- */

/* Colours of n classes that colour-blind people tell apart (Okabe and Ito, 2008); class `background`
 * (-1: none) is black.  After the seventh they repeat, darker. */
void seg_class_colours(int n, int background, uint8_t (*rgb)[3]);

enum { SEG_SAVE_IMAGE = 1, SEG_SAVE_LABELS = 2, SEG_SAVE_MASKS = 4, SEG_SAVE_OVERLAY = 8, SEG_SAVE_PROBABILITIES = 16,
       SEG_SAVE_TRUTH = 32 };
enum { SEG_BACKGROUND_UNSET = -2, SEG_BACKGROUND_NONE = -1 };
struct seg_save {
	const char *in;         /* NULL: stdin */
	const char *dir;        /* made if missing */
	unsigned what;          /* kinds; 0: what the stream's task suggests */
	const char *background; /* overlay: name of the class that is not painted, "none", NULL: class 0 if multiclass */
	int side_by_side;       /* overlay: image, truth and prediction beside each other */
	int threads;
	void (*say)(void *arg, int skipped, const char *line); /* as seg_load; may be NULL */
	void *arg;
};
/* One kind: DIR/NAME.tif; several: DIR/KIND/NAME.tif.  NAME: id of the sample's json and the key's
 * ending.  Files that were complete stay when a later sample fails. */
int seg_save(const struct seg_save *o);

#endif
