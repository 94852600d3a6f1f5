/* What seg-stream(5) says of entries with known names: types, axes, sizes that agree. */
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"

#define BIT(d) (1u << (d))
enum { OTHER_INTS = BIT(SEG_B1) | BIT(SEG_I1) | BIT(SEG_I4) | BIT(SEG_I8) };

static const struct rule {
	const char *suffix;
	unsigned types;
	int largest;         /* value, where other integer types are read as well: truth */
	int least, most;     /* axes; the first two are H and W */
	const char *shape, *cure;
} rules[] = {
	{"image.npy", BIT(SEG_U1) | BIT(SEG_U2) | BIT(SEG_F4), 0, 3, 3, "[H,W,C]", "|u1, <u2 or <f4"},
	{"label.npy", BIT(SEG_U1) | BIT(SEG_U2), 65535, 2, 2, "[H,W]", "|u1 or <u2"},
	{"mask.npy", BIT(SEG_U1) | BIT(SEG_F4), 255, 3, 3, "[H,W,classes]", "|u1 or <f4"},
	{"weight.npy", BIT(SEG_F4), 0, 2, 3, "[H,W] or [H,W,classes]", "<f4"},
	{"pred.npy", BIT(SEG_F4), 0, 3, 3, "[H,W,classes]", "<f4"},
	{"logit.npy", BIT(SEG_F4), 0, 3, 3, "[H,W,classes]", "<f4"},
};

static const struct rule *rule_of(const char *suffix)
{
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (!strcmp(rules[i].suffix, suffix))
			return &rules[i];
	return NULL;
}

static long long integer(const struct seg_tensor *t, size_t i)
{
	size_t size = seg_dtype_size(t->dtype);
	const char *p = (const char *)t->data + i * size;
	int32_t i4;
	int64_t i8;
	if (t->dtype == SEG_I4)
		return memcpy(&i4, p, size), i4;
	if (t->dtype == SEG_I8)
		return memcpy(&i8, p, size), i8;
	return t->dtype == SEG_I1 ? *(const signed char *)p : *p != 0; /* SEG_B1 */
}

/* Other integers become |u1 or <u2 where they lie: never larger, so never in the way. */
static int narrow(const struct rule *r, struct seg_tensor *t)
{
	size_t n = seg_tensor_count(t), row = n / t->dim[0], pixel = row / t->dim[1];
	long long most = 0;
	for (size_t i = 0; i < n; i++) {
		long long v = integer(t, i);
		if (v < 0 || v > r->largest)
			return seg_fail(SEG_EDATA, "%s: value %lld at y %zu x %zu; 0 to %d are possible", r->suffix, v,
			    i / row, i % row / pixel, r->largest);
		most = v > most ? v : most;
	}
	size_t size = most > 255 ? 2 : 1;
	for (size_t i = 0; i < n; i++) {
		uint16_t v = (uint16_t)integer(t, i); /* little-endian, as all of the format */
		memcpy((char *)t->data + i * size, &v, size);
	}
	t->dtype = most > 255 ? SEG_U2 : SEG_U1;
	return SEG_OK;
}

static int check_tensor(const struct rule *r, struct seg_tensor *t)
{
	if (t->ndim < r->least || t->ndim > r->most)
		return seg_fail(SEG_EDATA, "%s has %d axes, expected %s", r->suffix, t->ndim, r->shape);
	for (int i = 0; i < t->ndim; i++)
		if (t->dim[i] == 0)
			return seg_fail(SEG_EDATA, "%s is empty", r->suffix);
	if (r->types & BIT(t->dtype))
		return SEG_OK;
	if (r->largest && BIT(t->dtype) & OTHER_INTS)
		return narrow(r, t);
	return seg_fail(SEG_EDATA, "%s is %s; convert it to %s", r->suffix, seg_dtype_text(t->dtype), r->cure);
}

int sample_check(struct seg_sample *s)
{
	const struct seg_entry *first = NULL;
	for (int i = 0; i < s->nentry; i++) {
		struct seg_entry *e = &s->entry[i];
		const struct rule *r = e->is_tensor ? rule_of(e->suffix) : NULL;
		if (!strcmp(e->suffix, "json")) {
			struct seg_json *j = seg_json_parse(e->bytes, e->nbytes);
			int object = j && seg_json_is_object(j);
			seg_json_free(j);
			if (!object)
				return j ? seg_fail(SEG_ECORRUPT, "json: not an object") : seg_where(SEG_ECORRUPT, "json");
		}
		if (!r)
			continue;
		int rc = check_tensor(r, &e->t);
		if (rc < 0)
			return rc;
		if (!first)
			first = e;
		if (e->t.dim[0] != first->t.dim[0] || e->t.dim[1] != first->t.dim[1])
			return seg_fail(SEG_EDATA, "%s is %zux%zu, but %s is %zux%zu", e->suffix, e->t.dim[0], e->t.dim[1],
			    first->suffix, first->t.dim[0], first->t.dim[1]);
	}
	return SEG_OK;
}
