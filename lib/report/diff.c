/* Two ledgers of one loss, subtracted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/file.h"
#include "seg/mem.h"
#include "seg/report.h"

/* ---- reading ---- */

static const struct seg_json *at(const struct seg_json *o, const char *list, size_t i)
{
	return seg_json_at(seg_json_get(o, list), i);
}

static size_t count(const struct seg_json *o, const char *list)
{
	return seg_json_size(seg_json_get(o, list));
}

static double num(const struct seg_json *o, const char *key)
{
	return seg_json_number(seg_json_get(o, key), NAN);
}

static const char *str(const struct seg_json *o, const char *key)
{
	return seg_json_string(seg_json_get(o, key), "");
}

/* A list of objects, each with a text and a number under these names. */
static int listed(const struct seg_json *o, const char *list, const char *text, const char *number)
{
	int good = seg_json_is_array(seg_json_get(o, list));
	for (size_t i = 0; good && i < count(o, list); i++)
		good = *str(at(o, list, i), text) && isfinite(num(at(o, list, i), number));
	return good;
}

static int load(struct seg_diff *d, int s, const char *path)
{
	size_t n;
	int in = !path || !strcmp(path, "-");
	d->name[s] = in ? "<stdin>" : path;
	char *text = seg_read_file(in ? "/dev/stdin" : path, (size_t)1 << 28, &n);
	if (!text)
		return SEG_EDATA;
	const struct seg_json *j = d->side[s] = seg_json_parse(text, n), *g = j ? seg_json_get(j, "ledger") : NULL;
	free(text);
	if (!j)
		return seg_where(SEG_EDATA, "%s", d->name[s]);
	if (!g || !*str(j, "expression") || !listed(j, "classes", "name", "loss") || !count(j, "classes") ||
	    !listed(g, "others", "name", "loss") || count(g, "others") != 2 || !listed(g, "terms", "formula", "loss") ||
	    !listed(g, "cells", "term", "loss") || !listed(g, "rows", "row", "loss"))
		return seg_fail(SEG_EDATA, "%s: no ledger, or one with values that are no numbers; seg-loss --ledger --json "
		    "writes one", d->name[s]);
	d->loss[s] = num(j, "loss");
	d->pixels[s] = num(j, "pixels");
	d->samples[s] = num(j, "samples");
	if (!isfinite(d->loss[s]) || !isfinite(d->pixels[s]) || !isfinite(d->samples[s]))
		return seg_fail(SEG_EDATA, "%s: the ledger's loss, pixels and samples are not all numbers", d->name[s]);
	return SEG_OK;
}

/* What must agree if the difference is to say anything about the predictions. */
static int comparable(const struct seg_diff *d)
{
	const struct seg_json *a = d->side[0], *b = d->side[1];
	const struct seg_json *ga = seg_json_get(a, "ledger"), *gb = seg_json_get(b, "ledger");
	const char *x = d->name[0], *y = d->name[1];
	size_t n = count(a, "classes"), nt = count(ga, "terms");
	if (strcmp(str(a, "expression"), str(b, "expression")))
		return seg_fail(SEG_EDATA, "%s: another loss than in %s: %s, not %s", y, x, str(b, "expression"), str(a, "expression"));
	if (count(b, "classes") != n)
		return seg_fail(SEG_EDATA, "%s: %zu classes, but %zu in %s", y, count(b, "classes"), n, x);
	for (size_t i = 0; i < n; i++)
		if (strcmp(str(at(a, "classes", i), "name"), str(at(b, "classes", i), "name")))
			return seg_fail(SEG_EDATA, "%s: class %zu is '%s', but '%s' in %s", y, i, str(at(b, "classes", i), "name"),
			    str(at(a, "classes", i), "name"), x);
	for (size_t i = 0; i < nt || i < count(gb, "terms"); i++)
		if (strcmp(str(at(ga, "terms", i), "formula"), str(at(gb, "terms", i), "formula")))
			return seg_fail(SEG_EDATA, "%s: the loss has the words of that in %s, but other definitions: term %zu is '%s', "
			    "not '%s'", y, x, i + 1, str(at(gb, "terms", i), "formula"), str(at(ga, "terms", i), "formula"));
	return SEG_OK;
}

/* ---- subtracting ---- */

static double change(const double v[2])
{
	return v[1] - v[0];
}

static struct seg_diff_row *blank(struct seg_diff_row *r, const char *name, const char *term)
{
	*r = (struct seg_diff_row){name, term, {0, 0}, {0, 0}, {NAN, NAN}, {NAN, NAN}};
	return r;
}

/* A class of pixels, or the channel of that class; list in o: "classes" or "others". */
static void class_row(struct seg_diff *d, struct seg_diff_row *r, int others, size_t i, int channel)
{
	for (int s = 0; s < 2; s++) {
		const struct seg_json *o = others ? seg_json_get(d->side[s], "ledger") : d->side[s];
		const struct seg_json *c = at(o, others ? "others" : "classes", i);
		if (!s)
			blank(r, str(c, "name"), NULL);
		r->pixels[s] = num(c, "pixels");
		r->loss[s] = seg_json_number(seg_json_get(c, channel ? "channel_loss" : "loss"), 0);
		r->gradient[s] = num(c, channel ? "channel_gradient" : "gradient");
		r->iou[s] = num(c, "iou");
	}
}

/* What belongs to no pixel, by term and words; in A, in B or in both. */
static void lone_rows(struct seg_diff *d, int s)
{
	const struct seg_json *g = seg_json_get(d->side[s], "ledger");
	for (size_t i = 0; i < count(g, "rows"); i++) {
		const struct seg_json *o = at(g, "rows", i);
		int r = 0;
		while (r < d->nrow && !(d->row[r].term && !strcmp(d->row[r].name, str(o, "row")) &&
		    !strcmp(d->row[r].term, str(o, "term"))))
			r++;
		if (r == d->nrow)
			blank(&d->row[d->nrow++], str(o, "row"), str(o, "term"));
		d->row[r].loss[s] += num(o, "loss");
	}
}

/* Sum of what has no channel in cells or rows. */
static double without(const struct seg_json *g, const char *list)
{
	double sum = 0;
	for (size_t i = 0; i < count(g, list); i++)
		sum += *str(at(g, list, i), "channel") ? 0 : num(at(g, list, i), "loss");
	return sum;
}

/* Largest change first; equal ones stay in order. */
static void sort(struct seg_diff_row *r, int n)
{
	for (int i = 1; i < n; i++) {
		struct seg_diff_row x = r[i];
		int j = i;
		for (; j > 0 && fabs(change(r[j - 1].loss)) < fabs(change(x.loss)); j--)
			r[j] = r[j - 1];
		r[j] = x;
	}
}

static int subtract(struct seg_diff *d)
{
	const struct seg_json *ga = seg_json_get(d->side[0], "ledger"), *gb = seg_json_get(d->side[1], "ledger");
	size_t n = count(d->side[0], "classes");
	int channels = 0;
	d->row = seg_alloc(n + 2 + count(ga, "rows") + count(gb, "rows"), sizeof *d->row);
	d->channel = seg_alloc(n + 1, sizeof *d->channel);
	if (!d->row || !d->channel)
		return SEG_ENOMEM;
	for (size_t i = 0; i < n + 2; i++) {
		struct seg_diff_row *r = &d->row[d->nrow];
		class_row(d, r, i >= n, i < n ? i : i - n, 0);
		d->other_pixels |= r->pixels[0] != r->pixels[1];
		d->nrow += i < n || r->pixels[0] != 0 || r->pixels[1] != 0;
	}
	for (int s = 0; s < 2; s++)
		lone_rows(d, s);
	for (size_t i = 0; i < n; i++) {
		class_row(d, &d->channel[i], 0, i, 1);
		channels |= d->channel[i].loss[0] != 0 || d->channel[i].loss[1] != 0;
	}
	struct seg_diff_row *none = blank(&d->channel[n], "no channel", NULL);
	none->loss[0] = without(ga, "cells") + without(ga, "rows");
	none->loss[1] = without(gb, "cells") + without(gb, "rows");
	d->nchannel = channels ? (int)n + (none->loss[0] != 0 || none->loss[1] != 0) : 0;
	sort(d->row, d->nrow);
	sort(d->channel, d->nchannel);
	double sum = 0;
	for (int i = 0; i < d->nrow; i++)
		sum += change(d->row[i].loss);
	d->rounding = change(d->loss) - sum;
	return SEG_OK;
}

int seg_diff_read(struct seg_diff *d, const char *a, const char *b)
{
	memset(d, 0, sizeof *d);
	int rc = load(d, 0, a);
	if (rc == SEG_OK)
		rc = load(d, 1, b);
	if (rc == SEG_OK)
		rc = comparable(d);
	return rc < 0 ? rc : subtract(d);
}

void seg_diff_free(struct seg_diff *d)
{
	free(d->row);
	free(d->channel);
	seg_json_free(d->side[0]);
	seg_json_free(d->side[1]);
	memset(d, 0, sizeof *d);
}

/* ---- saying ---- */

/* How changes are written, and losses: one way for all of a table. */
struct style {
	const char *loss, *change;
	int gradient; /* columns */
};

static struct style style(const struct seg_diff *d)
{
	double most = fabs(change(d->loss));
	for (int i = 0; i < d->nrow; i++)
		most = fmax(most, fabs(change(d->row[i].loss)));
	return (struct style){seg_text_format(fmax(fabs(d->loss[0]), fabs(d->loss[1]))),
	    most >= 1e5 ? "%+.6g" : most >= 1e-3 || most == 0 ? "%+.6f" : "%+.3e", 1};
}

static void head(struct seg_table *t, const char *what, struct style st)
{
	const char *const title[] = {what, "loss A", "loss B", "change", "share", "IoU A", "IoU B", "gradient A", "gradient B"};
	for (int i = 0; i < (st.gradient ? 9 : 7); i++)
		seg_table_cell(t, "%s", title[i]);
	seg_table_end(t);
}

static void line(struct seg_table *t, const struct seg_diff *d, const struct seg_diff_row *r, struct style st)
{
	double v = change(r->loss);
	int wide = strlen(r->name) > 24;
	if (wide)
		seg_table_note(t, 0, "%s", r->name);
	seg_table_cell(t, "%s", wide ? "" : r->name);
	seg_table_number(t, st.loss, r->loss[0]);
	seg_table_number(t, st.loss, r->loss[1]);
	seg_table_number(t, !strcmp(st.change, "%+.6f") && fabs(v) < 5e-7 ? "%+.0e" : st.change, v);
	seg_table_cell(t, "%s", seg_text_share(v, change(d->loss)));
	for (int s = 0; s < 2 && !r->term; s++)
		if (r->iou[s] == r->iou[s])
			seg_table_cell(t, "%.3f", r->iou[s]);
		else
			seg_table_cell(t, "-");
	for (int s = 0; s < 2 && !r->term && st.gradient; s++)
		seg_table_cell(t, "%s", seg_text_share(r->gradient[s], 1));
	seg_table_end(t);
}

static int by_pixel(const struct seg_diff *d, struct style st, int colour, struct seg_buf *b, int *width)
{
	struct seg_table t;
	seg_table_start(&t, "lrrrrrrrr");
	head(&t, "pixels of", st);
	for (int i = 0; i < d->nrow; i++)
		line(&t, d, &d->row[i], st);
	seg_table_cell(&t, "rounding");
	seg_table_cell(&t, " ");
	seg_table_cell(&t, " ");
	seg_table_number(&t, "%+.0e", d->rounding);
	seg_table_end(&t);
	struct seg_diff_row all = {.name = "the loss", .term = "", .loss = {d->loss[0], d->loss[1]}};
	line(&t, d, &all, st);
	int rc = seg_table_text(&t, colour, b);
	*width = t.width;
	return rc;
}

static int by_channel(const struct seg_diff *d, struct style st, int colour, struct seg_buf *b)
{
	struct seg_table t;
	seg_table_start(&t, "lrrrrrrrr");
	head(&t, "channel", st);
	for (int i = 0; i < d->nchannel; i++)
		line(&t, d, &d->channel[i], st);
	int rc = seg_buf_printf(b, "\n");
	return rc < 0 ? rc : seg_table_text(&t, colour, b);
}

static int counts(const struct seg_diff *d, int colour, struct seg_buf *b)
{
	struct seg_table t;
	int rc = seg_buf_printf(b, "\n");
	rc = rc < 0 ? rc : seg_wrap(b, 0, "! the truth is not the same: a class with other pixels has another loss for that alone");
	seg_table_start(&t, "lrrrr");
	seg_table_cell(&t, "pixels of");
	seg_table_cell(&t, "count A");
	seg_table_cell(&t, " ");
	seg_table_cell(&t, "count B");
	seg_table_end(&t);
	for (int i = 0; i < d->nrow; i++) {
		const struct seg_diff_row *r = &d->row[i];
		if (r->term)
			continue;
		seg_table_cell(&t, "%s", r->name);
		for (int s = 0; s < 2; s++) {
			seg_table_cell(&t, "%s", seg_text_count(r->pixels[s]));
			seg_table_cell(&t, "%s", seg_text_share(r->pixels[s], d->pixels[s]));
		}
		seg_table_end(&t);
	}
	int text = seg_table_text(&t, colour, b);
	return rc < 0 ? rc : text;
}

int seg_diff_text(const struct seg_diff *d, int colour, struct seg_buf *b)
{
	struct style st = style(d);
	struct seg_table t;
	int width;
	seg_table_start(&t, "lrl");
	for (int s = 0; s < 2; s++) {
		seg_table_cell(&t, "%s", s ? "B" : "A");
		seg_table_number(&t, st.loss, d->loss[s]);
		seg_table_cell(&t, "%s  (%s sample%s, %s pixels)", d->name[s], seg_text_count(d->samples[s]),
		    d->samples[s] == 1 ? "" : "s", seg_text_count(d->pixels[s]));
		seg_table_end(&t);
	}
	seg_table_cell(&t, "B - A");
	seg_table_number(&t, st.change, change(d->loss));
	seg_table_cell(&t, "%s", str(d->side[0], "expression"));
	seg_table_end(&t);
	int rc = seg_table_text(&t, colour, b);
	if (rc == SEG_OK && d->other_pixels)
		rc = counts(d, colour, b);
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, "\n");
	size_t before = b->n;
	if (rc == SEG_OK)
		rc = by_pixel(d, st, colour, b, &width);
	if (rc == SEG_OK && width > SEG_COLUMNS) { /* names too long for all columns */
		b->n = before;
		st.gradient = 0;
		rc = by_pixel(d, st, colour, b, &width);
	}
	return rc < 0 || !d->nchannel ? rc : by_channel(d, st, colour, b);
}

static void pair(struct seg_json *o, const char *name, const double v[2])
{
	char key[32];
	for (int s = 0; s < 2; s++) {
		snprintf(key, sizeof key, "%s_%c", name, "ab"[s]);
		seg_json_set(o, key, seg_json_num(v[s]));
	}
}

static struct seg_json *row_json(const struct seg_diff *d, const struct seg_diff_row *r)
{
	struct seg_json *o = seg_json_object();
	seg_json_set(o, r->term ? "row" : "name", seg_json_str(r->name));
	if (r->term)
		seg_json_set(o, "term", seg_json_str(r->term));
	else
		pair(o, "pixels", r->pixels);
	pair(o, "loss", r->loss);
	seg_json_set(o, "change", seg_json_num(change(r->loss)));
	seg_json_set(o, "share", seg_json_num(change(r->loss) / change(d->loss)));
	if (!r->term) {
		pair(o, "gradient", r->gradient);
		pair(o, "iou", r->iou);
	}
	return o;
}

struct seg_json *seg_diff_json(const struct seg_diff *d)
{
	struct seg_json *o = seg_json_object(), *rows = seg_json_array(), *channels = seg_json_array();
	seg_json_set(o, "a", seg_json_str(d->name[0]));
	seg_json_set(o, "b", seg_json_str(d->name[1]));
	seg_json_set(o, "expression", seg_json_copy(seg_json_get(d->side[0], "expression")));
	pair(o, "samples", d->samples);
	pair(o, "pixels", d->pixels);
	pair(o, "loss", d->loss);
	seg_json_set(o, "change", seg_json_num(change(d->loss)));
	seg_json_set(o, "same_pixels", seg_json_bool(!d->other_pixels));
	for (int i = 0; i < d->nrow; i++)
		seg_json_add(rows, row_json(d, &d->row[i]));
	for (int i = 0; i < d->nchannel; i++)
		seg_json_add(channels, row_json(d, &d->channel[i]));
	seg_json_set(o, "rows", rows);
	seg_json_set(o, "channels", channels);
	seg_json_set(o, "rounding", seg_json_num(d->rounding));
	return o;
}
