/* Tensors: types, sizes, allocation. */
#include <stdlib.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "seg/tensor.h"

static const struct {
	const char *text;
	size_t size;
} types[] = {
	[SEG_U1] = {"|u1", 1}, [SEG_U2] = {"<u2", 2}, [SEG_F4] = {"<f4", 4}, [SEG_B1] = {"|b1", 1},
	[SEG_I1] = {"|i1", 1}, [SEG_I4] = {"<i4", 4}, [SEG_I8] = {"<i8", 8}, [SEG_F8] = {"<f8", 8},
};

size_t seg_dtype_size(enum seg_dtype d) { return types[d].size; }
const char *seg_dtype_text(enum seg_dtype d) { return types[d].text; }

size_t seg_tensor_count(const struct seg_tensor *t)
{
	size_t n = 1;
	for (int i = 0; i < t->ndim; i++)
		n *= t->dim[i];
	return n;
}

size_t seg_tensor_nbytes(const struct seg_tensor *t)
{
	return seg_tensor_count(t) * seg_dtype_size(t->dtype);
}

int seg_tensor_new(struct seg_tensor *t, enum seg_dtype d, int ndim, const size_t *dim)
{
	size_t n = 1;
	*t = (struct seg_tensor){.dtype = d, .ndim = ndim};
	for (int i = 0; i < ndim; i++) {
		t->dim[i] = dim[i];
		if (__builtin_mul_overflow(n, dim[i], &n))
			return seg_fail(SEG_ENOMEM, "out of memory: a tensor of more than 2^64 elements");
	}
	t->data = seg_alloc_aligned(n, seg_dtype_size(d));
	return t->data ? SEG_OK : SEG_ENOMEM;
}

void seg_tensor_free(struct seg_tensor *t)
{
	free(t->data);
	*t = (struct seg_tensor){0};
}
