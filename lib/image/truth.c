/* From the samples of a page to truth: class numbers, or one binary mask. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/mem.h"

/* ---- the map of values ---- */

static const char *number(const char *s, long lo, long hi, long *v)
{
	char *end;
	*v = strtol(s, &end, 10);
	return end > s && (*s == '-' || (*s >= '0' && *s <= '9')) && *v >= lo && *v <= hi ? end : NULL;
}

int seg_map_parse(struct seg_map *m, const char *text)
{
	for (long i = 0; i < SEG_MAP_N; i++)
		m->to[i] = (int32_t)i + SEG_MAP_LO;
	m->other = SEG_MAP_NONE;
	for (const char *s = text; s && *s;) {
		long from = 0, to = 0;
		int star = *s == '*';
		const char *e = star ? s + 1 : number(s, SEG_MAP_LO, SEG_MAP_LO + SEG_MAP_N - 1, &from);
		if (e && *e == '=' && !strncmp(e + 1, "ignore", 6)) {
			to = SEG_MAP_IGNORE;
			e += 7;
		} else if (e) {
			e = *e == '=' ? number(e + 1, 0, 65535, &to) : NULL;
		}
		if (!e || (*e && (*e != ',' || !e[1])))
			return seg_fail(SEG_EUSAGE, "--map: '%s' is not VALUE=CLASS, VALUE=ignore or *=...", s);
		if (star)
			m->other = (int32_t)to;
		else
			m->to[from - SEG_MAP_LO] = (int32_t)to;
		if (!star)
			m->listed[from - SEG_MAP_LO] = 1;
		s = *e ? e + 1 : e;
	}
	if (m->other != SEG_MAP_NONE)
		for (long i = 0; i < SEG_MAP_N; i++)
			if (!m->listed[i])
				m->to[i] = m->other;
	return SEG_OK;
}

/* What a stored value means: a number from 0, SEG_MAP_IGNORE, or SEG_MAP_NONE (no whole number). */
static int32_t meaning(const struct seg_truth *r, double v)
{
	if (v == (double)r->ignore && !(r->map && r->map->listed[r->ignore - SEG_MAP_LO]))
		return SEG_MAP_IGNORE;
	if (!(v >= SEG_MAP_LO && v < SEG_MAP_LO + SEG_MAP_N))
		return r->map ? r->map->other : SEG_MAP_NONE;
	int32_t i = (int32_t)v;
	if ((double)i != v)
		return SEG_MAP_NONE;
	return r->map ? r->map->to[i - SEG_MAP_LO] : i < 0 ? SEG_MAP_NONE : i;
}

static double at(const struct seg_tensor *t, size_t i)
{
	switch (t->dtype) {
	case SEG_U1:
		return ((const uint8_t *)t->data)[i];
	case SEG_U2:
		return ((const uint16_t *)t->data)[i];
	case SEG_F4:
		return ((const float *)t->data)[i];
	default:
		return ((const double *)t->data)[i];
	}
}

/* A table over all values of small integers, so that meaning() is asked 256 or 65536 times. */
static int32_t *table(const struct seg_truth *r, enum seg_dtype d)
{
	size_t n = d == SEG_U1 ? 256 : 65536;
	int32_t *to = seg_alloc(n, sizeof *to);
	for (size_t v = 0; to && v < n; v++)
		to[v] = meaning(r, (double)v);
	return to;
}

/* ---- label maps ---- */

static int one_sample(const struct seg_page *p, int raw)
{
	int extra = __builtin_popcountll(p->alpha);
	if (p->photo == SEG_RGB || p->photo == SEG_CMYK)
		return seg_fail(SEG_EDATA, "a colour picture of %d samples per pixel, not a label map; convert it to class numbers", p->samples);
	if (p->samples - (p->samples > extra ? extra : 0) != 1)
		return seg_fail(SEG_EDATA, "%d samples per pixel; a label map has one (binary masks: --masks)", p->samples);
	if (p->photo == SEG_GREY_INVERTED && !raw)
		return seg_fail(SEG_EDATA, "a label map with white as 0: programs disagree on its numbers; --raw takes them as stored");
	return SEG_OK;
}

/* The value that is no class, and what can be done about it. */
static int unknown(const struct seg_truth *r, const struct seg_tensor *t, size_t i, int32_t c)
{
	char which[64];
	size_t x = i % t->dim[1], y = i / t->dim[1];
	double v = at(t, i * t->dim[2]);
	snprintf(which, sizeof which, c >= 0 && c != (int32_t)v ? "%g (mapped to %d)" : "%g", v, (int)c);
	if (!(v >= SEG_MAP_LO && v == (double)(long)v && (r->nclass || v < 0)))
		return seg_fail(SEG_EDATA, "at y %zu x %zu: value %g is not a class number", y, x, v);
	return seg_fail(SEG_EDATA, "at y %zu x %zu: value %s is not a class from 0 to %d; --map %g=CLASS renumbers it, --ignore %g leaves it out",
	    y, x, which, r->nclass - 1, v, v);
}

int seg_label(const struct seg_page *p, const struct seg_truth *r, struct seg_tensor *t)
{
	size_t n = t->dim[0] * t->dim[1], s = t->dim[2];
	int small = r->nclass <= 256 && r->stored <= 255, rc = one_sample(p, r->raw);
	int32_t *to = NULL, c;
	struct seg_tensor u = {0};
	if (rc == SEG_OK && (t->dtype == SEG_U1 || t->dtype == SEG_U2) && !(to = table(r, t->dtype)))
		rc = SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_tensor_new(&u, small ? SEG_U1 : SEG_U2, 2, t->dim);
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		c = !to ? meaning(r, at(t, i * s)) : to[t->dtype == SEG_U1 ? ((uint8_t *)t->data)[i * s] : ((uint16_t *)t->data)[i * s]];
		if (c == SEG_MAP_IGNORE)
			c = (int32_t)r->stored;
		else if (c < 0 || c >= r->nclass)
			rc = unknown(r, t, i, c);
		if (small)
			((uint8_t *)u.data)[i] = (uint8_t)c;
		else
			((uint16_t *)u.data)[i] = (uint16_t)c;
	}
	free(to);
	seg_tensor_free(t);
	*t = u;
	if (rc < 0)
		seg_tensor_free(t);
	return rc;
}

int seg_label_count(const struct seg_page *p, const struct seg_truth *r, const struct seg_tensor *t, unsigned char *seen)
{
	size_t n = t->dim[0] * t->dim[1], s = t->dim[2];
	int rc = one_sample(p, r->raw);
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		int32_t c = meaning(r, at(t, i * s));
		if (c >= 0)
			seen[c] = 1;
		else if (c != SEG_MAP_IGNORE)
			rc = unknown(r, t, i, c);
	}
	return rc;
}

/* ---- masks ---- */

/* 0 or 1, SEG_MAP_IGNORE, or SEG_MAP_NONE.  high: the value that may stand for 1 beside 1. */
static int32_t binary(const struct seg_truth *r, double v, double high, int inverted)
{
	if (inverted)
		v = high - v;
	int32_t c = meaning(r, v);
	if (c == SEG_MAP_IGNORE || c == 0 || c == 1)
		return c;
	return v == high && (!r->map || c == (int32_t)high) ? 1 : SEG_MAP_NONE;
}

int seg_mask(const struct seg_page *p, const struct seg_truth *r, const struct seg_tensor *t, size_t sample, struct seg_tensor *mask, size_t k)
{
	size_t n = t->dim[0] * t->dim[1], s = t->dim[2], nk = mask->dim[2];
	int small = t->dtype == SEG_U1 || t->dtype == SEG_U2, inverted = p->photo == SEG_GREY_INVERTED && !r->raw;
	unsigned high = small ? (1u << p->bits) - 1 : 255, seen[2] = {0, 0};
	int32_t *to = small ? seg_alloc((size_t)high + 1, sizeof *to) : NULL;
	uint8_t *out = (uint8_t *)mask->data + k;
	int rc = small && !to ? SEG_ENOMEM : SEG_OK;
	for (unsigned v = 0; to && v <= high; v++)
		to[v] = binary(r, v, high, inverted);
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		double v = at(t, i * s + sample);
		int32_t c = to ? to[(size_t)v] : binary(r, v, high, inverted);
		if (c == SEG_MAP_NONE)
			rc = seg_fail(SEG_EDATA, "at y %zu x %zu: value %g is neither 0 nor 1 nor %u; --map %g=1 or --ignore %g says what it is",
			    i / t->dim[1], i % t->dim[1], v, high, v, v);
		if (c == 1)
			seen[v == high] = 1;
		out[i * nk] = (uint8_t)(c == SEG_MAP_IGNORE ? r->stored : c);
	}
	if (rc == SEG_OK && seen[0] && seen[1] && !r->map)
		rc = seg_fail(SEG_EDATA, "has both 1 and %u; --ignore %u or --map %u=1 says what the second means", high, high, high);
	free(to);
	return rc;
}
