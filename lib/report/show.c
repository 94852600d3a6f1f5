/* The ledger and the explanation as text and as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/report.h"

#define BAD "\033[1;31m"
#define WARN "\033[33m"

enum { TERMS = 4 }; /* columns of terms that fit a line */

/* ---- sums over cells ---- */

double seg_ledger_of_pixel(const struct seg_ledger *g, int term, int pixel)
{
	double sum = 0;
	for (int t = term < 0 ? 0 : term; t < (term < 0 ? g->nterm : term + 1); t++)
		for (int k = 0; k <= g->nclass; k++)
			sum += g->cell[seg_ledger_at(g, t, pixel, k, 0)] + g->cell[seg_ledger_at(g, t, pixel, k, 1)];
	return sum;
}

/* present -1: both */
static double of_channel(const struct seg_ledger *g, int term, int channel, int present)
{
	double sum = 0;
	for (int t = term < 0 ? 0 : term; t < (term < 0 ? g->nterm : term + 1); t++)
		for (int c = 0; c < g->nclass + 2; c++)
			for (int b = 0; b < 2; b++)
				sum += present >= 0 && b != present ? 0 : g->cell[seg_ledger_at(g, t, c, channel, b)];
	return sum;
}

static double of_rows(const struct seg_ledger *g, int term, int channel)
{
	double sum = 0;
	for (int r = 0; r < g->nrow; r++)
		for (int k = 0; k <= g->nclass; k++)
			if ((term < 0 || g->row[r].term == term) && (channel < 0 || channel == k))
				sum += g->row[r].chan[k];
	return sum;
}

double seg_ledger_of_channel(const struct seg_ledger *g, int term, int channel)
{
	return of_channel(g, term, channel, -1) + of_rows(g, term, channel);
}

double seg_ledger_of_term(const struct seg_ledger *g, int term)
{
	double sum = of_rows(g, term, -1);
	for (int c = 0; c < g->nclass + 2; c++)
		sum += seg_ledger_of_pixel(g, term, c);
	return sum;
}

static double row_sum(const struct seg_ledger *g, int r)
{
	double sum = 0;
	for (int k = 0; k <= g->nclass; k++)
		sum += g->row[r].chan[k];
	return sum;
}

static double grad(const struct seg_ledger *g, int pixel, int channel) /* -1: all */
{
	double sum = 0;
	for (int c = 0; c < g->nclass + 2; c++)
		for (int k = 0; k < g->nclass; k++)
			if ((pixel < 0 || pixel == c) && (channel < 0 || channel == k))
				for (int b = 0; b < 2; b++)
					sum += g->grad[(c * g->nclass + k) * 2 + b];
	return sum;
}

double seg_ledger_gradient(const struct seg_ledger *g, int pixel)
{
	return grad(g, pixel, -1) / grad(g, -1, -1);
}

static double total_weight(const struct seg_ledger *g)
{
	double sum = 0;
	for (int c = 0; c < g->nclass + 2; c++)
		sum += g->weight[c];
	return sum;
}

const char *seg_ledger_class(const struct seg_ledger *g, const char *const *classes, int pixel)
{
	return pixel < g->nclass ? classes[pixel] : pixel == g->nclass ? "no class" : "ignored";
}

static int worst(const struct seg_confusion *c)
{
	int w = -1;
	for (int k = 0; c && c->nclass > 1 && k < c->nclass; k++)
		if (seg_iou(c, k) == seg_iou(c, k) && (w < 0 || seg_iou(c, k) < seg_iou(c, w)))
			w = k;
	return w;
}

/* ---- tables ---- */

static const char *loss_format(const struct seg_ledger *g)
{
	double most = fabs(g->total);
	for (int t = 0; t < g->nterm; t++)
		most = fmax(most, fabs(seg_ledger_of_term(g, t)));
	return seg_text_format(most);
}

static void iou(struct seg_table *t, const struct seg_confusion *c, int k, int bad, const char *mark)
{
	double v = c && k < c->nclass ? seg_iou(c, k) : NAN;
	if (v != v)
		seg_table_cell(t, "-");
	else
		seg_table_cell(t, "%.3f", v);
	seg_table_cell(t, "%s", bad ? mark : "");
	if (bad)
		seg_table_mark(t, BAD);
}

static void by_pixel(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes, int nt, struct seg_table *t)
{
	const char *fmt = loss_format(g);
	double pixels = 0, gsum = grad(g, -1, -1);
	int bad = worst(c);
	for (int i = 0; i < g->nclass + 2; i++)
		pixels += g->pixels[i];
	seg_table_cell(t, "pixels of");
	seg_table_cell(t, "count");
	seg_table_cell(t, " ");
	if (g->weighted)
		seg_table_cell(t, "weight");
	for (int i = 0; i < nt; i++)
		seg_table_cell(t, "%s", g->term[i]);
	seg_table_cell(t, "loss");
	seg_table_cell(t, "share");
	seg_table_cell(t, "gradient");
	seg_table_cell(t, "IoU");
	seg_table_end(t);
	for (int i = 0; i < g->nclass + 2; i++) {
		if (i >= g->nclass && g->pixels[i] == 0)
			continue;
		double v = seg_ledger_of_pixel(g, -1, i);
		seg_table_cell(t, "%s", seg_ledger_class(g, classes, i));
		seg_table_cell(t, "%s", seg_text_count(g->pixels[i]));
		seg_table_cell(t, "%s", seg_text_share(g->pixels[i], pixels));
		if (g->weighted && g->pixels[i] > 0)
			seg_table_cell(t, "%.6g", g->weight[i] / g->pixels[i]);
		else if (g->weighted)
			seg_table_cell(t, "-");
		for (int j = 0; j < nt; j++)
			seg_table_number(t, fmt, seg_ledger_of_pixel(g, j, i));
		seg_table_number(t, fmt, v);
		seg_table_cell(t, "%s", seg_text_share(v, g->total));
		seg_table_cell(t, "%s", seg_text_share(grad(g, i, -1), gsum));
		iou(t, c, i, i == bad, nt ? "<-" : "<- worst");
		seg_table_end(t);
	}
	for (int r = 0; r < g->nrow; r++) {
		double v = row_sum(g, r);
		if (strlen(g->row[r].text) > 24)
			seg_table_note(t, 0, "%s", g->row[r].text);
		seg_table_cell(t, "%s", strlen(g->row[r].text) > 24 ? "" : g->row[r].text);
		for (int j = 0; j < 2 + g->weighted; j++)
			seg_table_cell(t, " ");
		for (int j = 0; j < nt; j++)
			if (g->row[r].term == j)
				seg_table_number(t, fmt, v);
			else
				seg_table_cell(t, " ");
		seg_table_number(t, fmt, v);
		seg_table_cell(t, "%s", seg_text_share(v, g->total));
		seg_table_end(t);
	}
	seg_table_cell(t, "rounding");
	for (int j = 0; j < 2 + g->weighted + nt; j++)
		seg_table_cell(t, " ");
	seg_table_number(t, "%.0e", g->rounding);
	seg_table_end(t);
	seg_table_cell(t, "the loss");
	seg_table_cell(t, "%s", seg_text_count(pixels));
	seg_table_cell(t, " ");
	if (g->weighted)
		seg_table_cell(t, "%s", seg_text_count(total_weight(g)));
	for (int j = 0; j < nt; j++)
		seg_table_number(t, fmt, seg_ledger_of_term(g, j));
	seg_table_number(t, fmt, g->total);
	seg_table_cell(t, "%s", seg_text_share(g->total, g->total));
	seg_table_end(t);
}

static int has_channels(const struct seg_ledger *g)
{
	for (int k = 0; k < g->nclass; k++)
		for (int c = 0; c < g->nclass + 2; c++)
			for (int t = 0; t < g->nterm; t++)
				if (g->cell[seg_ledger_at(g, t, c, k, 0)] != 0 || g->cell[seg_ledger_at(g, t, c, k, 1)] != 0)
					return 1;
	return 0;
}

static void by_channel(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes, int rows, struct seg_table *t)
{
	const char *fmt = loss_format(g);
	double gsum = grad(g, -1, -1);
	int bad = worst(c);
	seg_table_cell(t, "channel");
	seg_table_cell(t, "where it is");
	seg_table_cell(t, "where it is not");
	if (rows)
		seg_table_cell(t, "no pixel");
	seg_table_cell(t, "loss");
	seg_table_cell(t, "share");
	seg_table_cell(t, "gradient");
	seg_table_cell(t, "IoU");
	seg_table_end(t);
	for (int k = 0; k <= g->nclass; k++) {
		double v = seg_ledger_of_channel(g, -1, k);
		if (k == g->nclass && v == 0)
			continue;
		seg_table_cell(t, "%s", k < g->nclass ? classes[k] : "no channel");
		for (int present = 1; present >= 0; present--)
			if (k < g->nclass)
				seg_table_number(t, fmt, of_channel(g, -1, k, present));
			else
				seg_table_cell(t, " ");
		if (rows)
			seg_table_number(t, fmt, of_rows(g, -1, k));
		seg_table_number(t, fmt, v);
		seg_table_cell(t, "%s", seg_text_share(v, g->total));
		if (k < g->nclass) {
			seg_table_cell(t, "%s", seg_text_share(grad(g, -1, k), gsum));
			iou(t, c, k, k == bad, "<- worst");
		}
		seg_table_end(t);
	}
}

int seg_ledger_text(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes, int colour, struct seg_buf *b)
{
	struct seg_table t;
	int rc = SEG_OK;
	if (g->nterm > 1) {
		seg_table_start(&t, "lrl");
		for (int i = 0; i < g->nterm; i++) {
			seg_table_cell(&t, "%s", i ? "" : "terms");
			seg_table_cell(&t, "%s", seg_text_value(seg_ledger_of_term(g, i)));
			if (strcmp(g->term[i], g->formula[i]))
				seg_table_cell(&t, "%s: %s", g->term[i], g->formula[i]);
			else
				seg_table_cell(&t, "%s", g->term[i]);
			seg_table_end(&t);
		}
		rc = seg_table_text(&t, colour, b);
		rc = rc < 0 ? rc : seg_buf_printf(b, "\n");
	}
	if (rc < 0)
		return rc;
	int nt = g->nterm > 1 && g->nterm <= TERMS ? g->nterm : 0;
	for (size_t before = b->n;; nt = 0) { /* without columns for the terms if they do not fit */
		char align[16] = "lrrrrrrrrrrrrr";
		align[7 + g->weighted + nt] = 'l'; /* behind IoU */
		seg_table_start(&t, align);
		by_pixel(g, c, classes, nt, &t);
		rc = seg_table_text(&t, colour, b);
		if (rc < 0 || !nt || t.width <= SEG_COLUMNS)
			break;
		b->n = before;
	}
	if (rc < 0 || !has_channels(g))
		return rc;
	int rows = 0;
	for (int r = 0; r < g->nrow; r++)
		rows |= row_sum(g, r) != 0;
	seg_table_start(&t, rows ? "lrrrrrrrl" : "lrrrrrrl");
	by_channel(g, c, classes, rows, &t);
	rc = seg_buf_printf(b, "\n");
	return rc < 0 ? rc : seg_table_text(&t, colour, b);
}

static const char *axes_text(unsigned a)
{
	static const char *const text[16] = {"-", "n", "y", "n y", "x", "n x", "y x", "n y x", "k", "n k",
		"y k", "n y k", "x k", "n x k", "y x k", "n y x k"};
	return text[a & 15];
}

static void step_value(const struct seg_explain *e, const struct seg_step *p, struct seg_table *t)
{
	const struct seg_node *n = &e->l->node[p->node];
	const double *s = p->stat;
	double count = s[SEG_STAT_COUNT], sum = s[SEG_STAT_NEGSUM] + s[SEG_STAT_POSSUM];
	struct seg_buf b = {0};
	int rc = SEG_OK;
	if (p->value && !n->axes && p->below != 0)
		rc = seg_buf_printf(&b, "%s = %s / %s", seg_text_value(*p->value), seg_text_count(p->above),
		    seg_text_count(p->below));
	else if (p->value)
		for (int k = 0; rc == SEG_OK && k < (n->axes & SEG_K ? e->l->env.nclass : 1); k++) {
			if (k == 6) {
				rc = seg_buf_printf(&b, " ..");
				break;
			}
			rc = seg_buf_printf(&b, "%s%.6g", k ? " " : "", p->value[k]);
		}
	else if (p->field == p->node && count > 0)
		rc = seg_buf_printf(&b, "%.4g .. %.4g, mean %s", s[SEG_STAT_MIN], s[SEG_STAT_MAX],
		    seg_text_value(sum / count));
	if (rc < 0)
		t->rc = rc;
	seg_table_cell(t, "%s", b.data ? b.data : "");
	free(b.data);
}

static int steps(const struct seg_explain *e, int colour, struct seg_buf *b)
{
	struct seg_table t;
	int rc = seg_wrap(b, 0, "How the number comes about, step by step.  Axes: n sample, y and x pixel, k class; #3 stands "
	    "for the result of step 3.");
	if (rc < 0 || (rc = seg_buf_printf(b, "\n")) < 0)
		return rc;
	seg_table_start(&t, "rlll");
	seg_table_cell(&t, "step");
	seg_table_cell(&t, "what is computed");
	seg_table_cell(&t, "axes left");
	seg_table_cell(&t, "value (min .. max, mean)");
	seg_table_end(&t);
	for (int i = 0; i < e->nstep; i++) {
		const struct seg_step *p = &e->step[i];
		struct seg_buf what = {0};
		rc = p->name ? seg_buf_printf(&what, "%s = %s", p->name, p->text) : seg_buf_printf(&what, "%s", p->text);
		if (rc < 0) {
			t.rc = rc;
			break;
		}
		int wide = strlen(what.data) > 42;
		if (wide)
			seg_table_note(&t, 0, "  #%d  %s", i + 1, what.data);
		char number[16] = "";
		if (!wide)
			snprintf(number, sizeof number, "#%d", i + 1);
		seg_table_cell(&t, "%s", number);
		seg_table_cell(&t, "%s", wide ? "" : what.data);
		seg_table_cell(&t, "%s", axes_text(e->l->node[p->node].axes));
		step_value(e, p, &t);
		seg_table_end(&t);
		if (p->note)
			seg_table_note(&t, 6, "%s", p->note);
		free(what.data);
	}
	return seg_table_text(&t, colour, b);
}

static int attainable(const struct seg_explain *e, struct seg_buf *b)
{
	int rc = e->nattain ? seg_buf_printf(b, "\non this truth the loss would be\n") : SEG_OK;
	for (int i = 0; rc == SEG_OK && i < e->nattain; i++) {
		const struct seg_attain *a = &e->attain[i];
		if (a->why)
			rc = seg_buf_printf(b, "  %16s  at %s: %.70s\n", "no number", a->at, a->why);
		else
			rc = seg_buf_printf(b, "  %16s  at %s%s\n", seg_text_value(a->value), a->at,
			    i == 0 ? ", everything right" : i == 1 ? ", everything wrong" : "");
	}
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, "  %16s  as predicted\n", seg_text_value(e->value));
	if (rc == SEG_OK && e->range)
		rc = seg_buf_printf(b, "  the recipe states its range as %s\n", e->range);
	return rc;
}

int seg_explain_text(const struct seg_explain *e, int colour, struct seg_buf *b)
{
	int rc = steps(e, colour, b);
	for (int i = 0; rc == SEG_OK && i < e->nwarning; i++) {
		struct seg_buf w = {0};
		rc = i ? SEG_OK : seg_buf_printf(b, "\n");
		rc = rc < 0 ? rc : seg_wrap(&w, 2, e->warning[i]);
		if (rc == SEG_OK) {
			w.data[0] = '!';
			rc = seg_buf_printf(b, "%s%s%s", colour ? WARN : "", w.data, colour ? "\033[0m" : "");
		}
		free(w.data);
	}
	return rc < 0 ? rc : attainable(e, b);
}

int seg_recipe_text(struct seg_buf *b)
{
	size_t n;
	const struct seg_recipe *r = seg_recipe_list(&n);
	int rc = r ? SEG_OK : SEG_ENOMEM;
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		struct seg_buf line = {0};
		rc = seg_buf_printf(&line, "%s%s", r[i].name, r[i].args ? r[i].args : "");
		if (rc == SEG_OK)
			rc = seg_wrap(b, 0, line.data);
		line.n = 0;
		if (rc == SEG_OK)
			rc = seg_buf_printf(&line, "%s%s%s", r[i].source ? r[i].source : "",
			    r[i].range ? "; range " : "", r[i].range ? r[i].range : "");
		if (rc == SEG_OK)
			rc = seg_wrap(b, 4, line.data);
		free(line.data);
	}
	return rc;
}

/* ---- JSON ---- */

static struct seg_json *class_json(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes, int i)
{
	struct seg_json *o = seg_json_object(), *terms = seg_json_object();
	double v = seg_ledger_of_pixel(g, -1, i), gsum = grad(g, -1, -1);
	seg_json_set(o, "name", seg_json_str(seg_ledger_class(g, classes, i)));
	seg_json_set(o, "pixels", seg_json_int((long long)g->pixels[i]));
	if (g->weighted)
		seg_json_set(o, "weight", seg_json_num(g->weight[i]));
	for (int t = 0; t < g->nterm; t++)
		seg_json_set(terms, g->term[t], seg_json_num(seg_ledger_of_pixel(g, t, i)));
	seg_json_set(o, "terms", terms);
	seg_json_set(o, "loss", seg_json_num(v));
	seg_json_set(o, "share", seg_json_num(v / g->total));
	seg_json_set(o, "gradient", seg_json_num(grad(g, i, -1) / gsum));
	if (i < g->nclass) {
		seg_json_set(o, "channel_loss", seg_json_num(seg_ledger_of_channel(g, -1, i)));
		seg_json_set(o, "channel_gradient", seg_json_num(grad(g, -1, i) / gsum));
		seg_json_set(o, "iou", seg_json_num(c ? seg_iou(c, i) : NAN));
	}
	return o;
}

struct seg_json *seg_ledger_classes(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes)
{
	struct seg_json *a = seg_json_array();
	for (int i = 0; i < g->nclass; i++)
		seg_json_add(a, class_json(g, c, classes, i));
	return a;
}

struct seg_json *seg_ledger_json(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes)
{
	struct seg_json *o = seg_json_object(), *terms = seg_json_array(), *others = seg_json_array();
	struct seg_json *cells = seg_json_array(), *rows = seg_json_array();
	for (int t = 0; t < g->nterm; t++) {
		struct seg_json *j = seg_json_object();
		seg_json_set(j, "name", seg_json_str(g->term[t]));
		seg_json_set(j, "formula", seg_json_str(g->formula[t]));
		seg_json_set(j, "loss", seg_json_num(seg_ledger_of_term(g, t)));
		seg_json_add(terms, j);
	}
	for (int i = g->nclass; i < g->nclass + 2; i++)
		seg_json_add(others, class_json(g, c, classes, i));
	for (int t = 0; t < g->nterm; t++)
		for (int i = 0; i < g->nclass + 2; i++)
			for (int k = 0; k <= g->nclass; k++)
				for (int b = 0; b < 2; b++) {
					double v = g->cell[seg_ledger_at(g, t, i, k, b)];
					if (v == 0)
						continue;
					struct seg_json *j = seg_json_object();
					seg_json_set(j, "term", seg_json_str(g->term[t]));
					seg_json_set(j, "pixel_class", seg_json_str(seg_ledger_class(g, classes, i)));
					seg_json_set(j, "channel", k < g->nclass ? seg_json_str(classes[k]) : seg_json_null());
					seg_json_set(j, "present", seg_json_bool(b));
					seg_json_set(j, "loss", seg_json_num(v));
					seg_json_add(cells, j);
				}
	for (int r = 0; r < g->nrow; r++)
		for (int k = 0; k <= g->nclass; k++) {
			if (g->row[r].chan[k] == 0)
				continue;
			struct seg_json *j = seg_json_object();
			seg_json_set(j, "term", seg_json_str(g->term[g->row[r].term]));
			seg_json_set(j, "row", seg_json_str(g->row[r].text));
			seg_json_set(j, "channel", k < g->nclass ? seg_json_str(classes[k]) : seg_json_null());
			seg_json_set(j, "loss", seg_json_num(g->row[r].chan[k]));
			seg_json_add(rows, j);
		}
	seg_json_set(o, "terms", terms);
	seg_json_set(o, "cells", cells);
	seg_json_set(o, "rows", rows);
	seg_json_set(o, "others", others);
	if (g->weighted)
		seg_json_set(o, "weight", seg_json_num(total_weight(g)));
	seg_json_set(o, "sum", seg_json_num(g->sum));
	seg_json_set(o, "rounding", seg_json_num(g->rounding));
	return o;
}

static struct seg_json *step_json(const struct seg_explain *e, int i)
{
	const struct seg_step *p = &e->step[i];
	const struct seg_node *n = &e->l->node[p->node];
	struct seg_json *o = seg_json_object();
	const double *s = p->stat;
	seg_json_set(o, "step", seg_json_int(i + 1));
	if (p->name)
		seg_json_set(o, "name", seg_json_str(p->name));
	seg_json_set(o, "text", seg_json_str(p->text));
	seg_json_set(o, "axes", seg_json_str(n->axes ? axes_text(n->axes) : ""));
	if (p->value && !(n->axes & SEG_K)) {
		seg_json_set(o, "value", seg_json_num(*p->value));
	} else if (p->value) {
		struct seg_json *v = seg_json_array();
		for (int k = 0; k < e->l->env.nclass; k++)
			seg_json_add(v, seg_json_num(p->value[k]));
		seg_json_set(o, "value", v);
	}
	if (p->below != 0) {
		seg_json_set(o, "numerator", seg_json_num(p->above));
		seg_json_set(o, "denominator", seg_json_num(p->below));
	}
	if (p->field >= 0) {
		struct seg_json *f = seg_json_object();
		seg_json_set(f, "count", seg_json_num(s[SEG_STAT_COUNT]));
		seg_json_set(f, "min", seg_json_num(s[SEG_STAT_MIN]));
		seg_json_set(f, "mean", seg_json_num((s[SEG_STAT_NEGSUM] + s[SEG_STAT_POSSUM]) / s[SEG_STAT_COUNT]));
		seg_json_set(f, "max", seg_json_num(s[SEG_STAT_MAX]));
		seg_json_set(f, "negative", seg_json_num(s[SEG_STAT_NEG]));
		seg_json_set(f, "negative_sum", seg_json_num(s[SEG_STAT_NEGSUM]));
		seg_json_set(f, "positive_sum", seg_json_num(s[SEG_STAT_POSSUM]));
		seg_json_set(o, p->field == p->node ? "values" : "of", f);
	}
	if (p->note)
		seg_json_set(o, "note", seg_json_str(p->note));
	return o;
}

struct seg_json *seg_explain_json(const struct seg_explain *e)
{
	struct seg_json *o = seg_json_object(), *st = seg_json_array(), *w = seg_json_array();
	struct seg_json *at = seg_json_object();
	for (int i = 0; i < e->nstep; i++)
		seg_json_add(st, step_json(e, i));
	for (int i = 0; i < e->nwarning; i++)
		seg_json_add(w, seg_json_str(e->warning[i]));
	for (int i = 0; i < e->nattain; i++)
		seg_json_set(at, e->attain[i].at, seg_json_num(e->attain[i].value));
	seg_json_set(o, "steps", st);
	seg_json_set(o, "warnings", w);
	seg_json_set(o, "attainable", at);
	if (e->range)
		seg_json_set(o, "range", seg_json_str(e->range));
	return o;
}
