/* A tensor: a type, up to four extents, data in C order, little-endian (as .npy has it). */
#ifndef SEG_TENSOR_H
#define SEG_TENSOR_H

#include <stddef.h>

enum { SEG_MAXDIM = 4 };

/* The first three are written; the others are read (truth of other writers, tables) and converted. */
enum seg_dtype { SEG_U1, SEG_U2, SEG_F4, SEG_B1, SEG_I1, SEG_I4, SEG_I8, SEG_F8 };

struct seg_tensor {
	enum seg_dtype dtype;
	int ndim;
	size_t dim[SEG_MAXDIM];
	void *data; /* aligned for its type */
};

size_t seg_dtype_size(enum seg_dtype d);        /* bytes */
const char *seg_dtype_text(enum seg_dtype d);   /* "|u1", "<f4", ... */
size_t seg_tensor_count(const struct seg_tensor *t);  /* elements; extents are known to multiply */
size_t seg_tensor_nbytes(const struct seg_tensor *t);

/* Allocate data (zeroed) for the given type and extents; SEG_ENOMEM.  Free with seg_tensor_free. */
int seg_tensor_new(struct seg_tensor *t, enum seg_dtype d, int ndim, const size_t *dim);
void seg_tensor_free(struct seg_tensor *t); /* data freed, *t zeroed */

/* .npy header (version 1.0) of t, padded so that data begins at a multiple of 64 behind `off`.
 * The caller frees *head. */
int seg_npy_head(const struct seg_tensor *t, char **head, size_t *n);
/* Parse an .npy file image of n bytes: *t describes it and t->data points INTO p (borrowed).
 * Versions 1 and 2; Fortran order, big-endian and other types are SEG_EDATA with the repair.
 * limit: most bytes of data allowed. */
int seg_npy_parse(const char *p, size_t n, size_t limit, struct seg_tensor *t);
/* Whole .npy files, for tests and tools. */
int seg_npy_load(const char *path, struct seg_tensor *t);
int seg_npy_save(const char *path, const struct seg_tensor *t);

#endif
