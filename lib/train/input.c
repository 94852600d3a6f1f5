/* What an image must be so that the network can take it. */
#include <stdlib.h>
#include <string.h>

#include "lib/train/train.h"
#include "seg/err.h"

static double divisor(const char *range)
{
	if (!strcmp(range, "u1"))
		return 255;
	if (!strcmp(range, "u2"))
		return 65535;
	if (!strcmp(range, "f4"))
		return 1;
	char *end;
	double v = strtod(range, &end);
	return end == range || *end || !(v > 0 && v <= 1e30) ? 0 : v;
}

int input_range(const char *range)
{
	return divisor(range) > 0 ? SEG_OK : seg_fail(SEG_EUSAGE, "range '%s' is none of u1, u2, f4 and "
	    "not a number above 0 to divide by", range);
}

float input_scale(const char *range)
{
	return (float)(1 / divisor(range));
}

const char *input_default(enum seg_dtype d)
{
	return d == SEG_U1 ? "u1" : d == SEG_U2 ? "u2" : "f4";
}

static int finite(const struct seg_sample *s, const struct seg_tensor *t)
{
	const float *x = t->data;
	size_t n = t->dtype == SEG_F4 ? seg_tensor_count(t) : 0;
	for (size_t i = 0; i < n; i++)
		if (x[i] - x[i] != 0)
			return seg_fail(SEG_EDATA, "sample %s: image is %s at y %zu x %zu, channel %zu", s->key,
			    x[i] != x[i] ? "NaN" : "infinite", i / t->dim[2] / t->dim[1], i / t->dim[2] % t->dim[1],
			    i % t->dim[2]);
	return SEG_OK;
}

static int fits(const struct input *in, const struct seg_sample *s, const struct seg_tensor *t)
{
	size_t m = (size_t)in->multiple;
	if (!t)
		return seg_fail(SEG_EDATA, "sample %s: has no image.npy", s->key);
	if (t->ndim != 3 || (t->dtype != SEG_U1 && t->dtype != SEG_U2 && t->dtype != SEG_F4))
		return seg_fail(SEG_EDATA, "sample %s: image.npy is %s with %d axes, expected |u1, <u2 or <f4 [H,W,C]",
		    s->key, seg_dtype_text(t->dtype), t->ndim);
	if (in->channels && t->dim[2] != (size_t)in->channels)
		return seg_fail(SEG_EDATA, "sample %s: image has %zu channels, the network takes %d",
		    s->key, t->dim[2], in->channels);
	if (t->dim[0] < m || t->dim[1] < m || t->dim[0] % m || t->dim[1] % m)
		return seg_fail(SEG_EDATA, "sample %s: image is %zux%zu, but height and width must be multiples "
		    "of %zu; crop or pad the pictures, or train with fewer stages (--channels)",
		    s->key, t->dim[0], t->dim[1], m);
	const char *range = in->range;
	if (range && (!strcmp(range, "u1") || !strcmp(range, "u2") || !strcmp(range, "f4")) &&
	    strcmp(range, input_default(t->dtype)))
		return seg_fail(SEG_EDATA, "sample %s: image is %s, but the input range is that of %s; "
		    "convert the images, or train with --range and a number", s->key, seg_dtype_text(t->dtype), range);
	return finite(s, t);
}

const struct seg_tensor *input_image(const struct input *in, const struct seg_sample *s)
{
	const struct seg_tensor *t = seg_sample_tensor(s, "image.npy");
	return fits(in, s, t) == SEG_OK ? t : NULL;
}
