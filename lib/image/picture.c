/* From the samples of a page to an image: what a colour, a bright or a transparent sample is. */
#include <stdlib.h>
#include <string.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/mem.h"

static int is_alpha(const struct seg_page *p, int i)
{
	return i < 64 && (p->alpha >> i & 1);
}

static int kept(const struct seg_page *p)
{
	int n = p->samples - __builtin_popcountll(p->alpha);
	return n < 1 ? 1 : n;
}

void seg_picture_form(const struct seg_page *p, int raw, enum seg_dtype *d, size_t *channels)
{
	int type = seg_sample_type(p->bits, p->format);
	*d = type == SEG_F8 ? SEG_F4 : (enum seg_dtype)type;
	*channels = (size_t)(raw ? p->samples : kept(p));
	if (!raw && p->photo == SEG_PALETTE) {
		*d = SEG_U1;
		*channels = 3;
	}
}

/* Colours of a palette: 16 bits by the standard, 8 in old files, where none is above 255. */
static int colours(const struct seg_page *p, struct seg_tensor *t)
{
	size_t n = t->dim[0] * t->dim[1], s = t->dim[2], entries = (size_t)1 << p->bits;
	size_t dim[3] = {t->dim[0], t->dim[1], 3};
	struct seg_tensor u;
	int shift = 0, rc = seg_tensor_new(&u, SEG_U1, 3, dim);
	for (size_t i = 0; i < 3 * entries; i++)
		if (p->palette[i % 3][i / 3] > 255)
			shift = 8;
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < n; i++) {
		size_t v = t->dtype == SEG_U1 ? ((uint8_t *)t->data)[i * s] : ((uint16_t *)t->data)[i * s];
		for (int c = 0; c < 3; c++)
			((uint8_t *)u.data)[3 * i + (size_t)c] = (uint8_t)(p->palette[c][v] >> shift);
	}
	seg_tensor_free(t);
	*t = u;
	return SEG_OK;
}

static void drop_alpha(const struct seg_page *p, struct seg_tensor *t)
{
	size_t n = t->dim[0] * t->dim[1], s = t->dim[2], size = seg_dtype_size(t->dtype);
	char *to = t->data;
	for (size_t i = 0; i < n; i++)
		for (size_t c = 0; c < s; c++)
			if (!is_alpha(p, (int)c)) {
				memmove(to, (char *)t->data + (i * s + c) * size, size);
				to += size;
			}
	t->dim[2] = (size_t)kept(p);
}

/* Bright is large, and white is the largest number of the type. */
static int levels(const struct seg_page *p, struct seg_tensor *t)
{
	unsigned top = (1u << p->bits) - 1, full = t->dtype == SEG_U1 ? 255 : 65535;
	int inverted = p->photo == SEG_GREY_INVERTED;
	size_t n = seg_tensor_count(t);
	if (top == full && !inverted)
		return SEG_OK;
	uint16_t *table = seg_alloc((size_t)top + 1, sizeof *table);
	if (!table)
		return SEG_ENOMEM;
	for (unsigned v = 0; v <= top; v++)
		table[v] = (uint16_t)(((inverted ? top - v : v) * (uint64_t)full + top / 2) / top);
	if (t->dtype == SEG_U1)
		for (size_t i = 0; i < n; i++)
			((uint8_t *)t->data)[i] = (uint8_t)table[((uint8_t *)t->data)[i]];
	else
		for (size_t i = 0; i < n; i++)
			((uint16_t *)t->data)[i] = table[((uint16_t *)t->data)[i]];
	free(table);
	return SEG_OK;
}

static int single(struct seg_tensor *t)
{
	size_t n = seg_tensor_count(t);
	const double *from = t->data;
	float *to = t->data; /* each is read before it is written over */
	for (size_t i = 0; i < n; i++) {
		double v = from[i];
		if (v - v == 0 && (v > 0x1.fffffep127 || v < -0x1.fffffep127))
			return seg_fail(SEG_EDATA, "at y %zu x %zu: %g is too large for float32", i / t->dim[2] / t->dim[1],
			    i / t->dim[2] % t->dim[1], v);
		float x = (float)v;
		memcpy(&to[i], &x, sizeof x);
	}
	t->dtype = SEG_F4;
	return SEG_OK;
}

int seg_picture(const struct seg_page *p, int raw, struct seg_tensor *t)
{
	if (!raw && p->photo == SEG_PALETTE)
		return colours(p, t);
	if (!raw && p->photo == SEG_GREY_INVERTED && p->format != SEG_FORMAT_UINT)
		return seg_fail(SEG_EDATA, "white as the smallest of signed or float numbers is not read; --raw takes them as stored");
	if (!raw && p->photo == SEG_GREY_INVERTED && p->bits > 16)
		return seg_fail(SEG_EDATA, "white as the smallest of %d bit numbers is not read; --raw takes them as stored", p->bits);
	if (!raw && p->alpha && t->dim[2] > (size_t)kept(p))
		drop_alpha(p, t);
	if (!raw && (t->dtype == SEG_U1 || t->dtype == SEG_U2)) {
		int rc = levels(p, t);
		if (rc < 0)
			return rc;
	}
	return t->dtype == SEG_F8 ? single(t) : SEG_OK;
}
