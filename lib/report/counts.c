/* Counts as people and programs read them: the tables and the JSON of seg-iou. */
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/report.h"

void seg_counts_free(struct seg_counts *a)
{
	seg_confusion_free(&a->c);
	free(a->threshold);
	seg_header_free(&a->h);
	memset(a, 0, sizeof *a);
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
	return rc == SEG_OK ? seg_buf_printf(b, "rule: %s\n", rule(a)) : rc;
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
	bad |= seg_json_set(o, "counts", seg_json_str(c->weighted ? "weights" : "pixels"));
	bad |= seg_json_set(o, "rule", seg_json_str(rule(a)));
	if (!bad)
		return o;
	seg_json_free(o);
	return NULL;
}
