/* Counts as people and programs read them: the tables and the JSON of seg-iou. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/file.h"
#include "seg/report.h"

void seg_counts_free(struct seg_counts *a)
{
	seg_confusion_free(&a->c);
	free(a->sweep);
	free(a->threshold);
	seg_header_free(&a->h);
	memset(a, 0, sizeof *a);
}

int seg_counts_sweep(struct seg_counts *a, double step)
{
	int n = 0;
	char text[32];
	a->sweep = seg_alloc((size_t)(1 / step) + 2, sizeof *a->sweep);
	if (!a->sweep)
		return SEG_ENOMEM;
	for (double v = step; v < 1 - 1e-9; v = (n + 1) * step) {
		snprintf(text, sizeof text, "%.6g", v); /* what is printed, pasted, has the same bits */
		a->sweep[n++] = strtod(text, NULL);
	}
	return n;
}

/* Class k's threshold of greatest IoU in the sweep, the smallest on ties; -1 where the truth never has k. */
static int best(const struct seg_confusion *c, int k)
{
	int at = -1;
	double most = -1;
	for (int j = 0; j < c->nsweep && seg_confusion_count(c, k) + seg_confusion_count(c, 2 * c->nclass + k) > 0; j++) {
		struct seg_confusion v = seg_confusion_at(c, j);
		double iou = seg_iou(&v, k);
		if (iou > most) {
			most = iou;
			at = j;
		}
	}
	return at;
}

/* The best thresholds as an argument of --threshold; a class without one keeps that in use. */
static int argument(const struct seg_counts *a, struct seg_buf *b)
{
	int rc = SEG_OK;
	for (int k = 0; k < a->c.nclass && rc == SEG_OK; k++) {
		int j = best(&a->c, k);
		rc = seg_buf_printf(b, "%s%.6g", k ? "," : "", j >= 0 ? a->sweep[j] : a->c.multilabel ? a->threshold[k] : 0.5);
	}
	return rc;
}

/* Has some class a threshold of its own? */
static int own(const struct seg_counts *a)
{
	for (int k = 0; a->c.multilabel && k < a->c.nclass; k++)
		if (a->threshold[k] != 0.5)
			return 1;
	return 0;
}

static const char *rule(const struct seg_counts *a)
{
	return !a->c.multilabel ? "multiclass: the first maximum over the classes"
	    : own(a) ? "multilabel: p above the threshold of each class" : "multilabel: p > 0.5 per class";
}

/* ---- text ---- */

static void ratio(struct seg_table *t, double v)
{
	seg_table_cell(t, v == v ? "%.4f" : "-", v);
}

static void number(struct seg_table *t, const struct seg_confusion *c, double v)
{
	seg_table_cell(t, c->weighted ? "%.6g" : "%.0f", v);
}

static void cells(struct seg_table *t, const char *words)
{
	for (size_t n; *words; words += n + (words[n] == '|')) {
		n = strcspn(words, "|");
		seg_table_cell(t, "%.*s", (int)n, words);
	}
}

static int by_class(const struct seg_counts *a, struct seg_buf *b)
{
	const struct seg_confusion *c = &a->c;
	struct seg_table t;
	seg_table_start(&t, "lrrrrrrrrr");
	cells(&t, c->weighted ? "class|weight" : "class|pixels");
	cells(&t, own(a) ? "tp|fp|fn|IoU|Dice|precision|recall|p above" : "tp|fp|fn|IoU|Dice|precision|recall");
	seg_table_end(&t);
	for (int k = 0; k < c->nclass; k++) {
		double tp = seg_confusion_count(c, k), fn = seg_confusion_count(c, 2 * c->nclass + k);
		seg_table_cell(&t, "%s", a->h.classes[k]);
		number(&t, c, tp + fn);
		number(&t, c, tp);
		number(&t, c, seg_confusion_count(c, c->nclass + k));
		number(&t, c, fn);
		ratio(&t, seg_iou(c, k));
		ratio(&t, seg_dice(c, k));
		ratio(&t, seg_precision(c, k));
		ratio(&t, seg_recall(c, k));
		if (own(a))
			seg_table_cell(&t, "%g", a->threshold[k]);
		seg_table_end(&t);
	}
	return seg_table_text(&t, 0, b);
}

static int by_image(const struct seg_counts *a, struct seg_buf *b)
{
	const struct seg_confusion *c = &a->c;
	struct seg_table t;
	seg_table_start(&t, "lrr");
	cells(&t, "class|images|IoU per image");
	seg_table_end(&t);
	for (int k = 0; k <= c->nclass; k++) {
		seg_table_cell(&t, "%s", k < c->nclass ? a->h.classes[k] : "per image");
		seg_table_cell(&t, "%ju", (uintmax_t)c->nimage[k]);
		ratio(&t, seg_image_iou(c, k));
		seg_table_end(&t);
	}
	return seg_table_text(&t, 0, b);
}

static int by_threshold(const struct seg_counts *a, struct seg_buf *b)
{
	const struct seg_confusion *c = &a->c;
	struct seg_table t;
	seg_table_start(&t, "lrrrl");
	cells(&t, "class|p above|IoU|Dice");
	seg_table_end(&t);
	for (int k = 0; k < c->nclass; k++)
		for (int j = 0, top = best(c, k); j < c->nsweep; j++) {
			struct seg_confusion v = seg_confusion_at(c, j);
			seg_table_cell(&t, "%s", a->h.classes[k]);
			seg_table_cell(&t, "%.6g", a->sweep[j]);
			ratio(&t, seg_iou(&v, k));
			ratio(&t, seg_dice(&v, k));
			seg_table_cell(&t, "%s", j == top ? "best" : "");
			seg_table_end(&t);
		}
	return seg_table_text(&t, 0, b);
}

static int by_best(const struct seg_counts *a, struct seg_buf *b)
{
	const struct seg_confusion *c = &a->c;
	struct seg_table t;
	seg_table_start(&t, "lrrrrr");
	cells(&t, "class|best above|IoU|Dice|in use|IoU in use");
	seg_table_end(&t);
	for (int k = 0; k < c->nclass; k++) {
		int j = best(c, k);
		struct seg_confusion v = seg_confusion_at(c, j < 0 ? 0 : j);
		seg_table_cell(&t, "%s", a->h.classes[k]);
		seg_table_cell(&t, j < 0 ? "-" : "%.6g", a->sweep[j < 0 ? 0 : j]);
		ratio(&t, j < 0 ? NAN : seg_iou(&v, k));
		ratio(&t, j < 0 ? NAN : seg_dice(&v, k));
		seg_table_cell(&t, c->multilabel ? "%g" : "maximum", c->multilabel ? a->threshold[k] : 0);
		ratio(&t, seg_iou(c, k));
		seg_table_end(&t);
	}
	return seg_table_text(&t, 0, b);
}

static int sweep_text(const struct seg_counts *a, struct seg_buf *b)
{
	int rc = seg_buf_printf(b, "\n");
	if (rc == SEG_OK && (rc = by_threshold(a, b)) == SEG_OK && (rc = seg_buf_printf(b, "\n")) == SEG_OK)
		rc = by_best(a, b);
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, "sweep: each class against the rest, p > threshold; best: greatest IoU, then the smallest%s\n%s",
		    a->c.multilabel ? "" : "\nmulticlass takes the first maximum, no --threshold; the best would be", a->c.multilabel ? "--threshold " : "");
	if (rc == SEG_OK && (rc = argument(a, b)) == SEG_OK)
		rc = seg_buf_printf(b, "\n");
	return rc;
}

int seg_counts_text(const struct seg_counts *a, struct seg_buf *b)
{
	const struct seg_confusion *c = &a->c;
	int present, rc = by_class(a, b);
	double mean = seg_mean_iou(c, &present);
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, mean == mean ? "mean IoU %.4f" : "mean IoU -", mean);
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, " over the %d of %d classes present (tp + fp + fn > 0)\n", present, c->nclass);
	if (rc == SEG_OK && c->per_image)
		rc = by_image(a, b);
	if (rc == SEG_OK && c->per_image)
		rc = seg_buf_printf(b, "per image: over images, of the mean over the classes present in each\n");
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, "pixels %ju, ignored %ju, samples %zu\n", (uintmax_t)c->pixels, (uintmax_t)c->ignored, a->samples);
	if (rc == SEG_OK && c->weighted)
		rc = seg_buf_printf(b, "counts: sums of weight.npy, 1 for each pixel of a sample without\n");
	if (rc == SEG_OK)
		rc = seg_buf_printf(b, "rule: %s\n", rule(a));
	return rc == SEG_OK && c->nsweep ? sweep_text(a, b) : rc;
}

/* ---- JSON ---- */

static const char *const name[] = {"tp", "fp", "fn"};

static struct seg_json *parts(const struct seg_exact *e)
{
	double part[SEG_EXACT_PARTS];
	struct seg_json *a = seg_json_array();
	for (int i = 0, n = seg_exact_parts(e, part); i < n; i++)
		seg_json_add(a, seg_json_num(part[i]));
	return a;
}

static struct seg_json *whole(const struct seg_confusion *c, double v)
{
	return c->weighted ? seg_json_num(v) : seg_json_int((long long)v);
}

/* Class k's tp, fp and fn. */
static int counts_set(struct seg_json *e, const struct seg_confusion *c, int k)
{
	int bad = 0;
	for (int i = 0; i < 3; i++)
		bad |= seg_json_set(e, name[i], whole(c, seg_confusion_count(c, i * c->nclass + k)));
	if (c->weighted) { /* "exact": what the three are to the last bit, each as numbers to be added */
		struct seg_json *x = seg_json_array();
		for (int i = 0; i < 3; i++)
			bad |= seg_json_add(x, parts(&c->weight[i * c->nclass + k]));
		bad |= seg_json_set(e, "exact", x);
	}
	bad |= seg_json_set(e, "iou", seg_json_num(seg_iou(c, k)));
	return bad | seg_json_set(e, "dice", seg_json_num(seg_dice(c, k)));
}

static int image_set(struct seg_json *e, const char *mean, const struct seg_confusion *c, int k)
{
	int bad = seg_json_set(e, mean, seg_json_num(seg_image_iou(c, k)));
	bad |= seg_json_set(e, "images", seg_json_int((long long)c->nimage[k]));
	return bad | seg_json_set(e, "sum_per_image", parts(&c->image[k]));
}

/* What the counts depend on besides the samples: what files must agree in to be merged. */
static int counted_set(struct seg_json *o, const struct seg_counts *a)
{
	const struct seg_confusion *c = &a->c;
	struct seg_json *w = seg_json_object(), *names = seg_json_array(), *th = c->multilabel ? seg_json_array() : seg_json_null();
	int bad = seg_json_set(w, "task", seg_json_str(seg_task_text(a->h.task)));
	for (int k = 0; k < c->nclass; k++) {
		bad |= seg_json_add(names, seg_json_str(a->h.classes[k]));
		if (c->multilabel)
			bad |= seg_json_add(th, seg_json_num(a->threshold[k]));
	}
	bad |= seg_json_set(w, "classes", names);
	bad |= seg_json_set(w, "threshold", th);
	bad |= seg_json_set(w, "weights", seg_json_bool(c->weighted));
	bad |= seg_json_set(w, "per-image", seg_json_bool(c->per_image));
	struct seg_json *sweep = c->nsweep ? seg_json_array() : seg_json_null();
	for (int j = 0; j < c->nsweep; j++)
		bad |= seg_json_add(sweep, seg_json_num(a->sweep[j]));
	bad |= seg_json_set(w, "sweep", sweep);
	return bad | seg_json_set(o, "counted", w);
}

/* Class k at each threshold, and the best. */
static int sweep_set(struct seg_json *e, const struct seg_counts *a, int k)
{
	struct seg_json *list = seg_json_array(), *top = NULL;
	int bad = 0, b = best(&a->c, k);
	for (int j = 0; j < a->c.nsweep; j++) {
		struct seg_confusion v = seg_confusion_at(&a->c, j);
		struct seg_json *o = seg_json_object();
		bad |= seg_json_set(o, "threshold", seg_json_num(a->sweep[j]));
		bad |= counts_set(o, &v, k);
		if (j == b) {
			top = seg_json_object();
			bad |= seg_json_set(top, "threshold", seg_json_num(a->sweep[j]));
			bad |= seg_json_set(top, "iou", seg_json_num(seg_iou(&v, k)));
			bad |= seg_json_set(top, "dice", seg_json_num(seg_dice(&v, k)));
		}
		bad |= seg_json_add(list, o);
	}
	bad |= seg_json_set(e, "sweep", list);
	return bad | seg_json_set(e, "best", top ? top : seg_json_null());
}

struct seg_json *seg_counts_json(const struct seg_counts *a)
{
	const struct seg_confusion *c = &a->c;
	int bad = 0, present;
	double mean = seg_mean_iou(c, &present);
	struct seg_json *o = seg_json_object(), *list = seg_json_array();
	for (int k = 0; k < c->nclass; k++) {
		struct seg_json *e = seg_json_object();
		double in = seg_confusion_count(c, k) + seg_confusion_count(c, 2 * c->nclass + k);
		bad |= seg_json_set(e, "name", seg_json_str(a->h.classes[k]));
		bad |= seg_json_set(e, c->weighted ? "weight" : "pixels", whole(c, in));
		bad |= counts_set(e, c, k);
		bad |= seg_json_set(e, "precision", seg_json_num(seg_precision(c, k)));
		bad |= seg_json_set(e, "recall", seg_json_num(seg_recall(c, k)));
		if (c->per_image)
			bad |= image_set(e, "iou_per_image", c, k);
		if (c->multilabel)
			bad |= seg_json_set(e, "threshold", seg_json_num(a->threshold[k]));
		if (c->nsweep)
			bad |= sweep_set(e, a, k);
		bad |= seg_json_add(list, e);
	}
	bad |= seg_json_set(o, "classes", list);
	bad |= seg_json_set(o, "mean_iou", seg_json_num(mean));
	if (c->per_image)
		bad |= image_set(o, "mean_iou_per_image", c, c->nclass);
	bad |= seg_json_set(o, "present", seg_json_int(present));
	bad |= seg_json_set(o, "pixels", seg_json_int((long long)c->pixels));
	bad |= seg_json_set(o, "ignored", seg_json_int((long long)c->ignored));
	bad |= seg_json_set(o, "samples", seg_json_int((long long)a->samples));
	bad |= counted_set(o, a);
	bad |= seg_json_set(o, "counts", seg_json_str(c->weighted ? "weights" : "pixels"));
	bad |= seg_json_set(o, "rule", seg_json_str(rule(a)));
	if (c->nsweep) {
		struct seg_buf b = {0};
		bad |= argument(a, &b) < 0 || seg_json_set(o, "best_threshold", seg_json_str(b.data));
		free(b.data);
	}
	if (!bad)
		return o;
	seg_json_free(o);
	return NULL;
}

/* ---- JSON read back ---- */

/* A whole number of 0 or more under key; -1: there is none. */
static int whole_get(const struct seg_json *o, const char *key, uint64_t *v)
{
	long long n = seg_json_integer(seg_json_get(o, key), -1);
	if (n < 0 || n > 1LL << 53)
		return seg_fail(SEG_EDATA, "\"%s\" is not a count", key);
	*v = (uint64_t)n;
	return SEG_OK;
}

static int parts_get(const struct seg_json *a, const char *key, struct seg_exact *e)
{
	if (!seg_json_is_array(a))
		return seg_fail(SEG_EDATA, "\"%s\" is not a list of numbers", key);
	for (size_t i = 0; i < seg_json_size(a); i++) {
		double v = seg_json_number(seg_json_at(a, i), -1);
		if (!(v >= 0 && v < 0x1p160))
			return seg_fail(SEG_EDATA, "\"%s\" holds what is not a sum", key);
		seg_exact_add(e, v);
	}
	return SEG_OK;
}

static int counts_get(const struct seg_json *e, struct seg_confusion *c, int k)
{
	int rc = SEG_OK;
	const struct seg_json *x = seg_json_get(e, "exact");
	for (int i = 0; i < 3 && rc == SEG_OK; i++)
		rc = c->weighted ? parts_get(seg_json_at(x, (size_t)i), "exact", &c->weight[i * c->nclass + k])
		    : whole_get(e, name[i], &c->tp[i * c->nclass + k]);
	return rc;
}

static int image_get(const struct seg_json *e, struct seg_confusion *c, int k)
{
	int rc = whole_get(e, "images", &c->nimage[k]);
	return rc == SEG_OK ? parts_get(seg_json_get(e, "sum_per_image"), "sum_per_image", &c->image[k]) : rc;
}

static int is_true(const struct seg_json *o, const char *key)
{
	struct seg_json *yes = seg_json_bool(1);
	int same = seg_json_equal(seg_json_get(o, key), yes);
	seg_json_free(yes);
	return same;
}

/* What "counted" says, and counts of that kind. */
static int counted_get(struct seg_counts *a, const struct seg_json *w)
{
	const struct seg_json *names = seg_json_get(w, "classes"), *th = seg_json_get(w, "threshold"), *sweep = seg_json_get(w, "sweep");
	size_t nk = seg_json_is_array(names) ? seg_json_size(names) : 0, ns = seg_json_size(sweep);
	if (nk < 1 || nk > 1 << 16)
		return seg_fail(SEG_EDATA, "not written by seg-iou --json: there is no \"counted\" with classes");
	if (ns > 1000)
		return seg_fail(SEG_EDATA, "has a sweep of %zu thresholds; seg-iou makes fewer than 1000", ns);
	const char **word = seg_alloc(nk, sizeof *word);
	a->threshold = seg_alloc(nk, sizeof *a->threshold);
	a->sweep = seg_alloc(ns, sizeof *a->sweep);
	if (!word || !a->threshold || !a->sweep) {
		free(word);
		return SEG_ENOMEM;
	}
	for (size_t k = 0; k < nk; k++) {
		word[k] = seg_json_string(seg_json_at(names, k), "");
		a->threshold[k] = seg_json_number(seg_json_at(th, k), 0.5);
	}
	for (size_t j = 0; j < ns; j++)
		a->sweep[j] = seg_json_number(seg_json_at(sweep, j), 0);
	int rc = seg_header_classes(&a->h, word, (int)nk);
	free(word);
	a->h.task = strcmp(seg_json_string(seg_json_get(w, "task"), ""), "multilabel") ? SEG_MULTICLASS : SEG_MULTILABEL;
	return rc < 0 ? rc : seg_confusion_like(&a->c, &(struct seg_confusion){.nclass = (int)nk,
	    .multilabel = a->h.task == SEG_MULTILABEL, .weighted = is_true(w, "weights"), .per_image = is_true(w, "per-image"),
	    .nsweep = (int)ns, .sweep = a->sweep});
}

int seg_counts_read(struct seg_counts *a, const struct seg_json *o)
{
	const struct seg_json *list = seg_json_get(o, "classes");
	uint64_t samples = 0;
	*a = (struct seg_counts){0};
	int rc = counted_get(a, seg_json_get(o, "counted"));
	if (rc == SEG_OK && seg_json_size(list) != (size_t)a->c.nclass)
		rc = seg_fail(SEG_EDATA, "has counts of %zu classes, names of %d", seg_json_size(list), a->c.nclass);
	for (int k = 0; rc == SEG_OK && k < a->c.nclass; k++) {
		const struct seg_json *e = seg_json_at(list, (size_t)k);
		rc = counts_get(e, &a->c, k);
		if (rc == SEG_OK && a->c.per_image)
			rc = image_get(e, &a->c, k);
		for (int j = 0; rc == SEG_OK && j < a->c.nsweep; j++) {
			struct seg_confusion v = seg_confusion_at(&a->c, j);
			rc = counts_get(seg_json_at(seg_json_get(e, "sweep"), (size_t)j), &v, k);
		}
		if (rc < 0)
			rc = seg_where(rc, "class %s", a->h.classes[k]);
	}
	if (rc == SEG_OK && a->c.per_image)
		rc = image_get(o, &a->c, a->c.nclass);
	if (rc == SEG_OK && (rc = whole_get(o, "pixels", &a->c.pixels)) == SEG_OK &&
	    (rc = whole_get(o, "ignored", &a->c.ignored)) == SEG_OK)
		rc = whole_get(o, "samples", &samples);
	a->samples = (size_t)samples;
	if (rc < 0)
		seg_counts_free(a);
	return rc;
}

/* The first thing in which two files were counted differently. */
static int agree(const char *was, const struct seg_json *a, const struct seg_json *b)
{
	const char *key;
	const struct seg_json *v;
	a = seg_json_get(a, "counted");
	b = seg_json_get(b, "counted");
	for (void *it = NULL; (it = seg_json_next(a, it, &key, &v));) {
		const struct seg_json *other = seg_json_get(b, key);
		if (other && seg_json_equal(v, other))
			continue;
		char *mine = other ? seg_json_text(other) : seg_strdup("missing"), *first = seg_json_text(v);
		seg_fail(SEG_EDATA, "cannot be merged: %s is %.200s, but %.200s in %s", key, mine ? mine : "", first ? first : "", was);
		free(mine);
		free(first);
		return SEG_EDATA;
	}
	return SEG_OK;
}

int seg_counts_merge(struct seg_counts *a, char **file, int n)
{
	struct seg_json *first = NULL;
	int rc = SEG_OK;
	*a = (struct seg_counts){0};
	for (int i = 0; i < n && rc == SEG_OK; i++) {
		struct seg_counts one = {0};
		size_t len = 0;
		char *text = seg_read_file(file[i], 256 << 20, &len);
		if (!text) {
			rc = SEG_EDATA;
			break;
		}
		struct seg_json *o = seg_json_parse(text, len);
		free(text);
		rc = o ? seg_counts_read(i ? &one : a, o) : SEG_EDATA;
		if (rc == SEG_OK && i && (rc = agree(file[0], first, o)) == SEG_OK) {
			seg_confusion_merge(&a->c, &one.c);
			a->samples += one.samples;
		}
		if (rc < 0)
			seg_where(rc, "%s", file[i]);
		seg_counts_free(&one);
		if (i)
			seg_json_free(o);
		else
			first = o;
	}
	seg_json_free(first);
	if (rc < 0)
		seg_counts_free(a);
	return rc;
}
