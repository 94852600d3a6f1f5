/* A picture for people: image, classes in colours that everyone can tell apart, contours, legend. */
#include <stdlib.h>
#include <string.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/mem.h"

enum { GAP = 4, LINE = 11, GLYPH = 6 }; /* between panels; height of a line of text; width of a letter */

void seg_class_colours(int n, int background, uint8_t (*rgb)[3])
{
	static const uint8_t okabe_ito[7][3] = {{230, 159, 0}, {86, 180, 233}, {0, 158, 115}, {240, 228, 66},
	                                        {0, 114, 178}, {213, 94, 0}, {204, 121, 167}};
	int i = 0;
	for (int k = 0; k < n; k++)
		if (k == background) {
			memset(rgb[k], 0, 3);
		} else {
			int dark = i / 7 % 4;
			for (int c = 0; c < 3; c++)
				rgb[k][c] = (uint8_t)(okabe_ito[i % 7][c] * (4 - dark) / 4);
			i++;
		}
}

/* ---- layers ---- */

static long label_at(const struct seg_tensor *t, size_t i)
{
	return t->dtype == SEG_U1 ? ((const uint8_t *)t->data)[i] : ((const uint16_t *)t->data)[i];
}

static int has(const struct seg_layer *l, size_t i, int k)
{
	if (l->label)
		return label_at(l->label, i) == k;
	return ((const uint8_t *)l->mask->data)[i * l->mask->dim[2] + (size_t)k] == 1;
}

static int ignored(const struct seg_layer *l, size_t i)
{
	return (l->label ? label_at(l->label, i) : ((const uint8_t *)l->mask->data)[i * l->mask->dim[2]]) == l->ignore;
}

struct panel {
	uint8_t *to;        /* top left pixel */
	size_t w, h, pitch; /* pixels; pitch of the whole picture */
	const struct seg_scene *s;
	uint8_t (*rgb)[3];
};

static void fill(const struct panel *p, const struct seg_layer *l)
{
	for (size_t i = 0; i < p->w * p->h; i++) {
		uint8_t *px = p->to + (i / p->w * p->pitch + i % p->w) * 3;
		unsigned sum[3] = {0, 0, 0}, n = 0;
		for (int k = 0; k < p->s->nclass; k++)
			if (k != p->s->background && has(l, i, k)) {
				for (int c = 0; c < 3; c++)
					sum[c] += p->rgb[k][c];
				n++;
			}
		for (int c = 0; c < 3; c++)
			if (n)
				px[c] = (uint8_t)((px[c] * 11u + sum[c] / n * 9u) / 20);
			else if (ignored(l, i))
				px[c] = px[c] / 3;
	}
}

/* Pixels of a class one of whose four neighbours has not got it. */
static void contour(const struct panel *p, const struct seg_layer *l)
{
	for (size_t y = 0; y < p->h; y++)
		for (size_t x = 0; x < p->w; x++)
			for (int k = 0; k < p->s->nclass; k++) {
				size_t i = y * p->w + x;
				if (k == p->s->background || !has(l, i, k))
					continue;
				if ((x && !has(l, i - 1, k)) || (x + 1 < p->w && !has(l, i + 1, k)) ||
				    (y && !has(l, i - p->w, k)) || (y + 1 < p->h && !has(l, i + p->w, k))) {
					memcpy(p->to + (y * p->pitch + x) * 3, p->rgb[k], 3);
					break;
				}
			}
}

/* ---- the image, 8 bits ---- */

static double value(const struct seg_tensor *t, size_t i)
{
	return t->dtype == SEG_U1 ? ((const uint8_t *)t->data)[i] : t->dtype == SEG_U2 ? ((const uint16_t *)t->data)[i] :
	    (double)((const float *)t->data)[i];
}

/* 8 bits as they are; others from the least to the largest finite value. */
static void base(const struct panel *p)
{
	const struct seg_tensor *t = p->s->image;
	size_t n = p->w * p->h, nc = t->dim[2], used = nc < 3 ? 1 : 3;
	double lo = 0, hi = 255;
	if (t->dtype != SEG_U1) {
		lo = 1e300;
		hi = -1e300;
		for (size_t i = 0; i < n; i++)
			for (size_t c = 0; c < used; c++) {
				double v = value(t, i * nc + c);
				if (v - v == 0) {
					lo = v < lo ? v : lo;
					hi = v > hi ? v : hi;
				}
			}
	}
	double scale = hi > lo ? 255 / (hi - lo) : 0;
	for (size_t i = 0; i < n; i++)
		for (size_t c = 0; c < 3; c++) {
			double v = (value(t, i * nc + (used == 3 ? c : 0)) - lo) * scale;
			p->to[(i / p->w * p->pitch + i % p->w) * 3 + c] = v >= 255 ? 255 : v > 0 ? (uint8_t)(v + 0.5) : 0;
		}
}

/* ---- text ---- */

/* 5x7 letters, columns from the left, low bit on top: space to underscore. */
static const uint8_t font[64][5] = {
	{0x00, 0x00, 0x00, 0x00, 0x00}, {0x00, 0x00, 0x5f, 0x00, 0x00}, {0x00, 0x07, 0x00, 0x07, 0x00}, {0x14, 0x7f, 0x14, 0x7f, 0x14},
	{0x24, 0x2a, 0x7f, 0x2a, 0x12}, {0x23, 0x13, 0x08, 0x64, 0x62}, {0x36, 0x49, 0x56, 0x20, 0x50}, {0x00, 0x08, 0x07, 0x03, 0x00},
	{0x00, 0x1c, 0x22, 0x41, 0x00}, {0x00, 0x41, 0x22, 0x1c, 0x00}, {0x2a, 0x1c, 0x7f, 0x1c, 0x2a}, {0x08, 0x08, 0x3e, 0x08, 0x08},
	{0x00, 0x40, 0x30, 0x00, 0x00}, {0x08, 0x08, 0x08, 0x08, 0x08}, {0x00, 0x60, 0x60, 0x00, 0x00}, {0x20, 0x10, 0x08, 0x04, 0x02},
	{0x3e, 0x51, 0x49, 0x45, 0x3e}, {0x00, 0x42, 0x7f, 0x40, 0x00}, {0x72, 0x49, 0x49, 0x49, 0x46}, {0x21, 0x41, 0x49, 0x4d, 0x33},
	{0x18, 0x14, 0x12, 0x7f, 0x10}, {0x27, 0x45, 0x45, 0x45, 0x39}, {0x3c, 0x4a, 0x49, 0x49, 0x31}, {0x41, 0x21, 0x11, 0x09, 0x07},
	{0x36, 0x49, 0x49, 0x49, 0x36}, {0x46, 0x49, 0x49, 0x29, 0x1e}, {0x00, 0x00, 0x14, 0x00, 0x00}, {0x00, 0x40, 0x34, 0x00, 0x00},
	{0x00, 0x08, 0x14, 0x22, 0x41}, {0x14, 0x14, 0x14, 0x14, 0x14}, {0x00, 0x41, 0x22, 0x14, 0x08}, {0x02, 0x01, 0x59, 0x09, 0x06},
	{0x3e, 0x41, 0x5d, 0x59, 0x4e}, {0x7c, 0x12, 0x11, 0x12, 0x7c}, {0x7f, 0x49, 0x49, 0x49, 0x36}, {0x3e, 0x41, 0x41, 0x41, 0x22},
	{0x7f, 0x41, 0x41, 0x41, 0x3e}, {0x7f, 0x49, 0x49, 0x49, 0x41}, {0x7f, 0x09, 0x09, 0x09, 0x01}, {0x3e, 0x41, 0x41, 0x51, 0x73},
	{0x7f, 0x08, 0x08, 0x08, 0x7f}, {0x00, 0x41, 0x7f, 0x41, 0x00}, {0x20, 0x40, 0x41, 0x3f, 0x01}, {0x7f, 0x08, 0x14, 0x22, 0x41},
	{0x7f, 0x40, 0x40, 0x40, 0x40}, {0x7f, 0x02, 0x1c, 0x02, 0x7f}, {0x7f, 0x04, 0x08, 0x10, 0x7f}, {0x3e, 0x41, 0x41, 0x41, 0x3e},
	{0x7f, 0x09, 0x09, 0x09, 0x06}, {0x3e, 0x41, 0x51, 0x21, 0x5e}, {0x7f, 0x09, 0x19, 0x29, 0x46}, {0x26, 0x49, 0x49, 0x49, 0x32},
	{0x03, 0x01, 0x7f, 0x01, 0x03}, {0x3f, 0x40, 0x40, 0x40, 0x3f}, {0x1f, 0x20, 0x40, 0x20, 0x1f}, {0x3f, 0x40, 0x38, 0x40, 0x3f},
	{0x63, 0x14, 0x08, 0x14, 0x63}, {0x03, 0x04, 0x78, 0x04, 0x03}, {0x61, 0x59, 0x49, 0x4d, 0x43}, {0x00, 0x7f, 0x41, 0x41, 0x41},
	{0x02, 0x04, 0x08, 0x10, 0x20}, {0x00, 0x41, 0x41, 0x41, 0x7f}, {0x04, 0x02, 0x01, 0x02, 0x04}, {0x40, 0x40, 0x40, 0x40, 0x40},
};

/* White text at (x,y), cut at the right edge. */
static void write_at(struct seg_tensor *t, size_t x, size_t y, const char *text)
{
	for (; *text; text++, x += GLYPH) {
		unsigned char ch = (unsigned char)*text;
		const uint8_t *g = font[ch >= 'a' && ch <= 'z' ? ch - 64 : ch >= 32 && ch < 96 ? ch - 32 : '?' - 32];
		for (size_t c = 0; c < 5 && x + c < t->dim[1]; c++)
			for (size_t r = 0; r < 7 && y + r < t->dim[0]; r++)
				if (g[c] >> r & 1)
					memset((uint8_t *)t->data + ((y + r) * t->dim[1] + x + c) * 3, 255, 3);
	}
}

/* Names and colours in lines of width w from line y on; without t only their number is found. */
static size_t legend(const struct seg_scene *s, size_t w, uint8_t (*rgb)[3], struct seg_tensor *t, size_t y)
{
	size_t x = 2, lines = 1;
	for (int k = 0; k < s->nclass; k++) {
		size_t need = LINE + GLYPH * strlen(s->name[k]) + 6;
		if (x > 2 && x + need > w) {
			x = 2;
			lines++;
		}
		if (t) {
			size_t top = y + (lines - 1) * LINE + 2;
			for (size_t r = 0; r < 7; r++)
				for (size_t c = 0; c < 7 && x + c < w; c++) /* the background: an empty square */
					memcpy((uint8_t *)t->data + ((top + r) * w + x + c) * 3,
					    k == s->background && (!r || r == 6 || !c || c == 6) ? (const uint8_t *)"\200\200\200" : rgb[k], 3);
			write_at(t, x + 9, top, s->name[k]);
		}
		x += need;
	}
	return lines;
}

/* ---- the whole ---- */

static int there(const struct seg_layer *l)
{
	return l->label || l->mask;
}

int seg_overlay(const struct seg_scene *s, struct seg_tensor *out)
{
	size_t h = s->image->dim[0], w = s->image->dim[1];
	const struct seg_layer *shown[3] = {NULL, &s->truth, &s->guess};
	static const char *const title[3] = {"image", "truth", "prediction"};
	uint8_t (*rgb)[3] = seg_alloc((size_t)s->nclass, sizeof *rgb);
	size_t panels = s->beside ? 1 + (size_t)there(&s->truth) + (size_t)there(&s->guess) : 1;
	size_t width = panels * w + (panels - 1) * GAP, top = s->beside ? LINE : 0;
	*out = (struct seg_tensor){0};
	if (!rgb)
		return SEG_ENOMEM;
	seg_class_colours(s->nclass, s->background, rgb);
	size_t dim[3] = {top + h + LINE * legend(s, width, rgb, NULL, 0), width, 3};
	int rc = seg_tensor_new(out, SEG_U1, 3, dim);
	size_t at = 0;
	for (int i = 0; rc == SEG_OK && i < (s->beside ? 3 : 1); i++) {
		struct panel p = {(uint8_t *)out->data + (top * width + at) * 3, w, h, width, s, rgb};
		if (i && !there(shown[i]))
			continue;
		base(&p);
		if (s->beside) {
			write_at(out, at + 2, 2, title[i]);
			if (i) {
				fill(&p, shown[i]);
				contour(&p, shown[i]);
			}
		} else {
			fill(&p, there(&s->guess) ? &s->guess : &s->truth);
			contour(&p, there(&s->truth) ? &s->truth : &s->guess);
		}
		at += w + GAP;
	}
	if (rc == SEG_OK)
		legend(s, width, rgb, out, top + h);
	free(rgb);
	return rc;
}
