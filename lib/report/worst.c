/* Samples and windows of samples that carry most of a loss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "seg/report.h"

int seg_worst_new(struct seg_worst *w, int n)
{
	*w = (struct seg_worst){.cap = n};
	w->sample = seg_alloc((size_t)n, sizeof *w->sample);
	w->window = seg_alloc((size_t)n, sizeof *w->window);
	return w->sample && w->window ? SEG_OK : SEG_ENOMEM;
}

void seg_worst_free(struct seg_worst *w)
{
	free(w->sample);
	free(w->window);
	memset(w, 0, sizeof *w);
}

void seg_worst_clear(struct seg_worst *w)
{
	*w = (struct seg_worst){.cap = w->cap, .sample = w->sample, .window = w->window};
}

/* Behind those that are as large; what falls off the end was smaller, or came later. */
static void offer(struct seg_spot *list, int *n, int cap, const struct seg_spot *s)
{
	int i = *n < cap ? (*n)++ : cap;
	if (i == cap && !(s->loss > list[--i].loss))
		return;
	for (; i > 0 && list[i - 1].loss < s->loss; i--)
		list[i] = list[i - 1];
	list[i] = *s;
}

static double of_class(const struct seg_ledger *g, const double *block, int pixel)
{
	double sum = 0;
	for (int t = 0; t < g->nterm; t++)
		for (int k = 0; k <= g->nclass; k++)
			sum += block[seg_ledger_at(g, t, pixel, k, 0)] + block[seg_ledger_at(g, t, pixel, k, 1)];
	return sum;
}

void seg_worst_sample(struct seg_worst *w, const struct seg_ledger *g, const struct seg_loss_sample *s,
    const double *block, const double *map, const struct seg_confusion *c)
{
	struct seg_spot a = {.height = s->h, .width = s->w, .loss = seg_ledger_of_sample(g, block)};
	snprintf(a.key, sizeof a.key, "%s", s->key);
	for (int i = 0; i < g->nclass + 2; i++) {
		double v = of_class(g, block, i);
		if (i == 0 || fabs(v) > fabs(a.of_class)) {
			a.of_class = v;
			a.class = i;
		}
	}
	a.iou = a.class < g->nclass ? seg_iou(c, a.class) : NAN;
	offer(w->sample, &w->nsample, w->cap, &a);
	w->in_samples += a.loss;
	w->samples++;
	for (a.y = 0; a.y < s->h; a.y += SEG_WINDOW)
		for (a.x = 0; a.x < s->w; a.x += SEG_WINDOW) {
			a.height = s->h - a.y < SEG_WINDOW ? s->h - a.y : SEG_WINDOW;
			a.width = s->w - a.x < SEG_WINDOW ? s->w - a.x : SEG_WINDOW;
			a.loss = 0;
			for (size_t y = a.y; y < a.y + a.height; y++)
				for (size_t x = a.x; x < a.x + a.width; x++)
					a.loss += map[y * s->w + x];
			offer(w->window, &w->nwindow, w->cap, &a);
			w->in_windows += a.loss;
			w->windows++;
		}
}

void seg_worst_merge(struct seg_worst *w, const struct seg_worst *other)
{
	for (int i = 0; i < other->nsample; i++)
		offer(w->sample, &w->nsample, w->cap, &other->sample[i]);
	for (int i = 0; i < other->nwindow; i++)
		offer(w->window, &w->nwindow, w->cap, &other->window[i]);
	w->in_samples += other->in_samples;
	w->in_windows += other->in_windows;
	w->samples += other->samples;
	w->windows += other->windows;
}

static double rows(const struct seg_ledger *g)
{
	double sum = 0;
	for (int r = 0; r < g->nrow; r++)
		for (int k = 0; k <= g->nclass; k++)
			sum += g->row[r].chan[k];
	return sum;
}

void seg_worst_rows(struct seg_worst *w, const struct seg_ledger *g)
{
	w->of_samples = rows(g);
}

/* ---- saying ---- */

static double held(const struct seg_spot *s, int n)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += s[i].loss;
	return sum;
}

/* A key too long for a column stands on a line of its own. */
static void name(struct seg_table *t, const char *key)
{
	int wide = strlen(key) > 36;
	if (wide)
		seg_table_note(t, 0, "%s", key);
	seg_table_cell(t, "%s", wide ? "" : key);
}

static void line(struct seg_table *t, const char *what, int skip, const char *fmt, double v, double total)
{
	seg_table_cell(t, "%s", what);
	for (int i = 0; i < skip; i++)
		seg_table_cell(t, " ");
	seg_table_number(t, fmt, v);
	seg_table_cell(t, "%s", seg_text_share(v, total));
	seg_table_end(t);
}

/* What is below the rows: together, all others, what is nowhere, the whole. */
static void close_table(struct seg_table *t, int skip, const char *fmt, double sum, size_t others, const char *what,
    double all, double outside, double total)
{
	char text[64];
	line(t, "together", skip, fmt, sum, total);
	if (others) {
		snprintf(text, sizeof text, "%s other %s%s", seg_text_count((double)others), what, others == 1 ? "" : "s");
		line(t, text, skip, fmt, all - sum, total);
	}
	snprintf(text, sizeof text, "in no %s", strcmp(what, "window") ? what : "pixel");
	line(t, text, skip, fmt, outside, total);
	line(t, "the loss", skip, fmt, total, total);
}

static int samples_text(const struct seg_worst *w, const struct seg_ledger *g, const char *const *classes, int colour,
    struct seg_buf *b)
{
	const char *fmt = seg_text_format(fabs(g->total));
	struct seg_table t;
	seg_table_start(&t, "lrrlrr");
	const char *const title[] = {"worst samples", "loss", "share", "most of it on", "of it", "IoU there"};
	for (int i = 0; i < 6; i++)
		seg_table_cell(&t, "%s", title[i]);
	seg_table_end(&t);
	for (int i = 0; i < w->nsample; i++) {
		const struct seg_spot *s = &w->sample[i];
		name(&t, s->key);
		seg_table_number(&t, fmt, s->loss);
		seg_table_cell(&t, "%s", seg_text_share(s->loss, g->total));
		seg_table_cell(&t, "%s", seg_ledger_class(g, classes, s->class));
		seg_table_cell(&t, "%s", seg_text_share(s->of_class, s->loss));
		if (s->iou == s->iou)
			seg_table_cell(&t, "%.3f", s->iou);
		else
			seg_table_cell(&t, "-");
		seg_table_end(&t);
	}
	close_table(&t, 0, fmt, held(w->sample, w->nsample), w->samples - (size_t)w->nsample, "sample", w->in_samples,
	    rows(g) - w->of_samples, g->total);
	return seg_table_text(&t, colour, b);
}

static int windows_text(const struct seg_worst *w, const struct seg_ledger *g, int colour, struct seg_buf *b)
{
	const char *fmt = seg_text_format(fabs(g->total));
	struct seg_table t;
	seg_table_start(&t, "lrrrrrr");
	const char *const title[] = {"worst windows", "y", "x", "height", "width", "loss", "share"};
	for (int i = 0; i < 7; i++)
		seg_table_cell(&t, "%s", title[i]);
	seg_table_end(&t);
	for (int i = 0; i < w->nwindow; i++) {
		const struct seg_spot *s = &w->window[i];
		name(&t, s->key);
		for (int j = 0; j < 4; j++)
			seg_table_cell(&t, "%zu", (const size_t[]){s->y, s->x, s->height, s->width}[j]);
		seg_table_number(&t, fmt, s->loss);
		seg_table_cell(&t, "%s", seg_text_share(s->loss, g->total));
		seg_table_end(&t);
	}
	close_table(&t, 4, fmt, held(w->window, w->nwindow), w->windows - (size_t)w->nwindow, "window", w->in_windows,
	    rows(g), g->total);
	return seg_table_text(&t, colour, b);
}

/* 1 - dice: what was found lowers it, so that its pixels do not show what was missed. */
static int warn(const struct seg_ledger *g, struct seg_buf *b)
{
	int rc = SEG_OK, any = 0;
	for (int t = 0; rc == SEG_OK && t < g->nterm; t++) {
		struct seg_buf text = {0};
		double sum = 0;
		for (int i = 0; i < g->nclass + 2; i++)
			sum += seg_ledger_of_pixel(g, t, i);
		if (sum >= 0)
			continue;
		rc = seg_buf_printf(&text, "! pixels lower %s (%s in all): a row is large where they lower it little, which need "
		    "not be where most is missed", g->nterm > 1 ? g->term[t] : "this loss", seg_text_value(sum));
		if (rc == SEG_OK)
			rc = seg_wrap(b, 0, text.data);
		free(text.data);
		any = 1;
	}
	return rc < 0 || !any ? rc : seg_buf_printf(b, "\n");
}

int seg_worst_text(const struct seg_worst *w, const struct seg_ledger *g, const char *const *classes, int colour,
    struct seg_buf *b)
{
	int rc = warn(g, b);
	if (rc == SEG_OK)
		rc = samples_text(w, g, classes, colour, b);
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, "\nPictures cut into windows of %d x %d pixels, smaller at the right and below.\n", SEG_WINDOW,
		    SEG_WINDOW);
	return rc < 0 ? rc : windows_text(w, g, colour, b);
}

struct seg_json *seg_worst_json(const struct seg_worst *w, const struct seg_ledger *g, const char *const *classes)
{
	struct seg_json *o = seg_json_object(), *samples = seg_json_array(), *windows = seg_json_array();
	for (int i = 0; i < w->nsample; i++) {
		const struct seg_spot *s = &w->sample[i];
		struct seg_json *j = seg_json_object();
		seg_json_set(j, "key", seg_json_str(s->key));
		seg_json_set(j, "loss", seg_json_num(s->loss));
		seg_json_set(j, "share", seg_json_num(s->loss / g->total));
		seg_json_set(j, "pixel_class", seg_json_str(seg_ledger_class(g, classes, s->class)));
		seg_json_set(j, "class_loss", seg_json_num(s->of_class));
		seg_json_set(j, "iou", seg_json_num(s->iou));
		seg_json_add(samples, j);
	}
	for (int i = 0; i < w->nwindow; i++) {
		const struct seg_spot *s = &w->window[i];
		struct seg_json *j = seg_json_object();
		seg_json_set(j, "key", seg_json_str(s->key));
		seg_json_set(j, "y", seg_json_int((long long)s->y));
		seg_json_set(j, "x", seg_json_int((long long)s->x));
		seg_json_set(j, "height", seg_json_int((long long)s->height));
		seg_json_set(j, "width", seg_json_int((long long)s->width));
		seg_json_set(j, "loss", seg_json_num(s->loss));
		seg_json_set(j, "share", seg_json_num(s->loss / g->total));
		seg_json_add(windows, j);
	}
	seg_json_set(o, "window", seg_json_int(SEG_WINDOW));
	seg_json_set(o, "samples", samples);
	seg_json_set(o, "samples_loss", seg_json_num(held(w->sample, w->nsample)));
	seg_json_set(o, "no_sample", seg_json_num(rows(g) - w->of_samples));
	seg_json_set(o, "windows", windows);
	seg_json_set(o, "windows_loss", seg_json_num(held(w->window, w->nwindow)));
	seg_json_set(o, "no_pixel", seg_json_num(rows(g)));
	return o;
}
