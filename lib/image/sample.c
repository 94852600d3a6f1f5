/* Samples and rows as TIFF packs them: depths, formats, orientations. */
#include <string.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/math.h"

int seg_sample_type(int bits, enum seg_format format)
{
	int whole = bits == 8 || bits == 16 || bits == 32 || bits == 64;
	switch (format) {
	case SEG_FORMAT_UINT:
		if (bits >= 1 && bits <= 16)
			return bits <= 8 ? SEG_U1 : SEG_U2;
		return whole ? SEG_F8 : -1; /* of 24 bits programs disagree which byte comes first */
	case SEG_FORMAT_INT:
		return whole ? SEG_F8 : -1;
	case SEG_FORMAT_FLOAT:
		return bits == 16 || bits == 32 ? SEG_F4 : bits == 64 ? SEG_F8 : -1;
	}
	return -1;
}

/* IEEE 754 binary16. */
static float half(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
	if (e == 31)
		return seg_float(sign | 0x7f800000 | m << 13);
	if (e)
		return seg_float(sign | (e + 112) << 23 | m << 13);
	float v = (float)m * 0x1p-24f;
	return sign ? -v : v;
}

/* Samples of fewer than 16 bits, most significant bit first. */
static unsigned bits_at(const unsigned char *src, size_t bit, int bits)
{
	unsigned v = 0;
	for (int got = 0; got < bits;) {
		int off = (int)(bit % 8), take = 8 - off < bits - got ? 8 - off : bits - got;
		v = v << take | (src[bit / 8] >> (8 - off - take) & ((1u << take) - 1));
		bit += (size_t)take;
		got += take;
	}
	return v;
}

#define EACH(type, out, expr)                                \
	for (size_t i = 0; i < n; i++) {                     \
		type v;                                      \
		memcpy(&v, src + i * sizeof v, sizeof v);    \
		((out *)dst)[i * step] = (out)(expr);        \
	}

void seg_sample_unpack(const unsigned char *src, size_t n, int bits, enum seg_format format, void *dst, size_t step)
{
	if (format == SEG_FORMAT_FLOAT) {
		if (bits == 16)
			EACH(uint16_t, float, half(v))
		else if (bits == 32)
			EACH(float, float, v)
		else
			EACH(double, double, v)
	} else if (format == SEG_FORMAT_INT) {
		if (bits == 8)
			EACH(int8_t, double, v)
		else if (bits == 16)
			EACH(int16_t, double, v)
		else if (bits == 32)
			EACH(int32_t, double, v)
		else
			EACH(int64_t, double, v)
	} else if (bits == 8) {
		EACH(uint8_t, uint8_t, v)
	} else if (bits == 16) {
		EACH(uint16_t, uint16_t, v)
	} else if (bits == 32) {
		EACH(uint32_t, double, v)
	} else if (bits == 64) {
		EACH(uint64_t, double, v)
	} else if (bits < 8) {
		for (size_t i = 0; i < n; i++)
			((uint8_t *)dst)[i * step] = (uint8_t)bits_at(src, i * (size_t)bits, bits);
	} else {
		for (size_t i = 0; i < n; i++)
			((uint16_t *)dst)[i * step] = (uint16_t)bits_at(src, i * (size_t)bits, bits);
	}
}

int seg_upright(struct seg_tensor *t, int orientation)
{
	if (orientation == 1)
		return SEG_OK;
	/* 2: mirrored, 3: half turn, 4: flipped, 5..8: the same after a transposition */
	int across = orientation >= 5, right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
	int bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
	size_t h = t->dim[0], w = t->dim[1], n = t->dim[2] * seg_dtype_size(t->dtype);
	struct seg_tensor u;
	size_t dim[3] = {across ? w : h, across ? h : w, t->dim[2]};
	int rc = seg_tensor_new(&u, t->dtype, 3, dim);
	if (rc < 0)
		return rc;
	const char *from = t->data;
	char *to = u.data;
	for (size_t y = 0; y < dim[0]; y++)
		for (size_t x = 0; x < dim[1]; x++) {
			size_t yy = bottom ? dim[0] - 1 - y : y, xx = right ? dim[1] - 1 - x : x;
			size_t i = across ? xx * w + yy : yy * w + xx;
			memcpy(to + (y * dim[1] + x) * n, from + i * n, n);
		}
	seg_tensor_free(t);
	*t = u;
	return SEG_OK;
}
