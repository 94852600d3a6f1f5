/* Text for people: aligned columns, wrapped lines, readable numbers. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/report.h"

enum { COLUMNS = 16 };

struct seg_line {
	char *cell[COLUMNS];
	int ncell;
	int note, indent; /* a note has one cell across all columns */
	const char *escape;
};

/* Characters as seen: bytes that continue a UTF-8 character take no room. */
static int width(const char *s)
{
	int n = 0;
	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

void seg_table_start(struct seg_table *t, const char *align)
{
	*t = (struct seg_table){.align = align};
}

/* The row being filled. */
static struct seg_line *line(struct seg_table *t)
{
	if (t->n == t->cap) {
		struct seg_line *more = seg_realloc(t->line, (size_t)t->cap + 32, sizeof *more);
		if (!more)
			return NULL;
		memset(more + t->cap, 0, 32 * sizeof *more);
		t->line = more;
		t->cap += 32;
	}
	return &t->line[t->n];
}

static void put(struct seg_table *t, const char *fmt, va_list ap)
{
	struct seg_line *l = line(t);
	char *s = NULL;
	if (!l || l->ncell == COLUMNS || vasprintf(&s, fmt, ap) < 0) {
		t->rc = SEG_ENOMEM;
		return;
	}
	l->cell[l->ncell++] = s;
}

void seg_table_cell(struct seg_table *t, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	put(t, fmt, ap);
	va_end(ap);
}

void seg_table_number(struct seg_table *t, const char *fmt, double v)
{
	char text[48];
	snprintf(text, sizeof text, fmt, v);
	seg_table_cell(t, "%s", v == 0 ? "0" : text);
}

void seg_table_end(struct seg_table *t)
{
	if (line(t))
		t->n++;
	else
		t->rc = SEG_ENOMEM;
}

void seg_table_mark(struct seg_table *t, const char *escape)
{
	struct seg_line *l = line(t);
	if (l)
		l->escape = escape;
}

void seg_table_note(struct seg_table *t, int indent, const char *fmt, ...)
{
	struct seg_line *l = line(t);
	va_list ap;
	va_start(ap, fmt);
	put(t, fmt, ap);
	va_end(ap);
	if (l) {
		l->note = 1;
		l->indent = indent;
	}
	seg_table_end(t);
}

int seg_wrap(struct seg_buf *b, int indent, const char *s)
{
	int rc = SEG_OK;
	while (rc == SEG_OK && *s) {
		size_t room = (size_t)(SEG_COLUMNS - indent), n = strcspn(s, "\n");
		size_t bytes = 0;
		for (size_t seen = 0; bytes < n && seen < room; seen++)
			for (bytes++; (s[bytes] & 0xc0) == 0x80; bytes++)
				;
		if (bytes < n) {
			size_t cut = bytes;
			while (cut > 0 && s[cut] != ' ')
				cut--;
			n = cut ? cut : bytes;
		}
		rc = seg_buf_printf(b, "%*s%.*s\n", indent, "", (int)n, s);
		for (s += n; *s == ' '; s++)
			;
		s += *s == '\n';
	}
	return rc;
}

static int row(const struct seg_table *t, const struct seg_line *l, const int *w, int colour,
    struct seg_buf *b)
{
	struct seg_buf text = {0};
	int rc = SEG_OK;
	for (int c = 0; rc == SEG_OK && c < l->ncell; c++) {
		int pad = w[c] - width(l->cell[c]);
		int right = t->align[c] == 'r';
		rc = seg_buf_printf(&text, "%s%*s%s%*s", c ? "  " : "", right ? pad : 0, "", l->cell[c],
		    right ? 0 : pad, "");
	}
	while (text.n && text.data[text.n - 1] == ' ')
		text.data[--text.n] = 0;
	const char *on = colour && l->escape ? l->escape : "";
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, "%s%s%s\n", on, text.n ? text.data : "", *on ? "\033[0m" : "");
	free(text.data);
	return rc;
}

int seg_table_text(struct seg_table *t, int colour, struct seg_buf *b)
{
	int w[COLUMNS] = {0}, rc = t->rc;
	for (int i = 0; i < t->n; i++)
		for (int c = 0; !t->line[i].note && c < t->line[i].ncell; c++) {
			int n = width(t->line[i].cell[c]);
			w[c] = n > w[c] ? n : w[c];
		}
	for (int i = 0; i < t->n; i++) {
		const struct seg_line *l = &t->line[i];
		if (rc == SEG_OK)
			rc = l->note ? seg_wrap(b, l->indent, l->cell[0]) : row(t, l, w, colour, b);
		for (int c = 0; c < l->ncell; c++)
			free(l->cell[c]);
	}
	free(t->line);
	*t = (struct seg_table){.width = -2};
	for (int c = 0; c < COLUMNS && w[c]; c++)
		t->width += w[c] + 2;
	return rc;
}

static char *ring(void)
{
	static _Thread_local char text[16][48];
	static _Thread_local unsigned next;
	return text[next++ % 16];
}

const char *seg_text_count(double n)
{
	char digits[40], *out = ring(), *o = out;
	int whole = n == floor(n);
	if (!(fabs(n) < 1e15)) {
		snprintf(out, 48, "%.6g", n);
		return out;
	}
	int len = snprintf(digits, sizeof digits, whole ? "%.0f" : "%.1f", fabs(n));
	int lead = len - (whole ? 0 : 2);
	if (n < 0)
		*o++ = '-';
	for (int i = 0; i < len; i++) {
		if (i && i < lead && (lead - i) % 3 == 0)
			*o++ = ',';
		*o++ = digits[i];
	}
	*o = 0;
	return out;
}

const char *seg_text_value(double v)
{
	char *out = ring();
	double a = fabs(v);
	snprintf(out, 48, v == 0 ? "0" : a >= 1e-3 && a < 1e5 ? "%.6f" : "%.6g", v);
	return out;
}

const char *seg_text_share(double part, double whole)
{
	char *out = ring();
	double s = whole != 0 ? 100 * part / whole + 0.0 : part == 0 ? 0 : NAN;
	if (s != s)
		snprintf(out, 48, "-");
	else
		snprintf(out, 48, fabs(s) >= 9.995 || s == 0 ? "%.1f %%" : "%.2f %%", s);
	return out;
}

const char *seg_text_format(double most)
{
	return most >= 1e5 ? "%.6g" : most >= 1e-2 || most == 0 ? "%.6f" : "%.3e";
}
