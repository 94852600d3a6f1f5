/* seg-iou: confusion counts, IoU, Dice, precision and recall of a stream with predictions. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "seg/confusion.h"
#include "seg/err.h"
#include "seg/json.h"
#include "seg/loss.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/report.h"
#include "seg/stream.h"

enum { AS = CMD_LONG, JSON, PER_IMAGE, THRESHOLD };

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (all processors)"},
	{AS, "as", "LIST", "mean IoU by the rules of keras,torchmetrics,monai,smp,kaggle or all"},
	{JSON, "json", NULL, "one JSON object instead of a table"},
	{PER_IMAGE, "per-image", NULL, "also the mean over images of each image's IoU"},
	{THRESHOLD, "threshold", "LIST", "multilabel: NUMBER, or NAME=NUMBER,... (0.5)"},
	{0},
};
static const struct cmd self = {"seg-iou", "[-@ N] [--as LIST] [--json] [--per-image] [--threshold LIST] [FILE]",
	"confusion counts, IoU, Dice, precision and recall per class", options};

struct job {
	char *threshold_text;
	struct seg_header h;
	double *threshold;              /* one for each class, or NULL: 0.5 */
	int threads;
	struct seg_confusion *part;     /* one for each thread */
	size_t samples;
	int per_image;
	pthread_mutex_t lock;           /* of what follows */
	double *image;                  /* [cap][nclass]: IoU of each image; NaN: in neither */
	size_t cap;
};

/* "0.4" for all classes, or "crack=0.3,roof=0.6" for some */
static int thresholds(struct job *j)
{
	char *word[1024];
	if (j->h.task != SEG_MULTILABEL)
		return seg_fail(SEG_EUSAGE, "--threshold: the stream is multiclass, where the first maximum "
		    "is the prediction; thresholds need task multilabel");
	j->threshold = seg_alloc((size_t)j->h.nclass, sizeof *j->threshold);
	if (!j->threshold)
		return SEG_ENOMEM;
	int named = strchr(j->threshold_text, '=') != NULL;
	for (int k = 0; k < j->h.nclass; k++)
		j->threshold[k] = named ? 0.5 : cmd_num("--threshold", j->threshold_text, 0, 1);
	int n = named ? cmd_list("--threshold", j->threshold_text, word, 1024) : 0;
	for (int i = 0; i < n; i++) {
		char *eq = strrchr(word[i], '=');
		if (!eq)
			return seg_fail(SEG_EUSAGE, "--threshold: '%s' is not NAME=NUMBER", word[i]);
		*eq = 0;
		int k = seg_header_class(&j->h, word[i]);
		if (k < 0)
			return seg_fail(SEG_EUSAGE, "--threshold: the stream has no class '%s'", word[i]);
		j->threshold[k] = cmd_num("--threshold", eq + 1, 0, 1);
	}
	return SEG_OK;
}

static int header(void *arg, struct seg_header *h)
{
	struct job *j = arg;
	int rc = seg_header_copy(&j->h, h);
	if (rc < 0)
		return rc;
	if (h->nclass < 1)
		return seg_fail(SEG_EDATA, "the stream's header names no classes; load it with --classes");
	if (j->threshold_text && (rc = thresholds(j)) < 0)
		return rc;
	j->part = seg_alloc((size_t)j->threads, sizeof *j->part);
	if (!j->part)
		return SEG_ENOMEM;
	for (int t = 0; t < j->threads; t++)
		if ((rc = seg_confusion_new(&j->part[t], h->nclass, h->task == SEG_MULTILABEL)) < 0)
			return rc;
	return SEG_OK;
}

/* Count one image by itself, keep its ratios under its number, and add it to the others. */
static int one_image(struct job *j, size_t number, const struct seg_loss_sample *b, int t)
{
	struct seg_confusion c;
	size_t nk = (size_t)j->h.nclass;
	int rc = seg_confusion_new(&c, j->h.nclass, j->h.task == SEG_MULTILABEL);
	if (rc == SEG_OK)
		rc = seg_confusion_add(&c, b, j->threshold);
	pthread_mutex_lock(&j->lock);
	if (rc == SEG_OK && number >= j->cap) {
		size_t cap = 2 * number + 64;
		double *more = seg_realloc(j->image, cap, nk * sizeof *more);
		rc = more ? SEG_OK : SEG_ENOMEM;
		j->image = more ? more : j->image;
		j->cap = more ? cap : j->cap;
	}
	for (size_t k = 0; rc == SEG_OK && k < nk; k++)
		j->image[number * nk + k] = seg_iou(&c, (int)k);
	pthread_mutex_unlock(&j->lock);
	if (rc == SEG_OK)
		seg_confusion_merge(&j->part[t], &c);
	seg_confusion_free(&c);
	return rc;
}

/* The mean over images that have the class in truth or prediction; NaN: none has. */
static double image_iou(const struct job *j, int k)
{
	double sum = 0, n = 0;
	for (size_t i = 0; i < j->samples; i++) {
		double v = j->image[i * (size_t)j->h.nclass + (size_t)k];
		sum += v == v ? v : 0;
		n += v == v;
	}
	return n > 0 ? sum / n : SEG_NAN;
}

/* The mean over images of the mean over the classes that each has. */
static double images_mean(const struct job *j)
{
	double sum = 0, n = 0;
	for (size_t i = 0; i < j->samples; i++) {
		double of = 0, have = 0;
		for (int k = 0; k < j->h.nclass; k++) {
			double v = j->image[i * (size_t)j->h.nclass + (size_t)k];
			of += v == v ? v : 0;
			have += v == v;
		}
		sum += have > 0 ? of / have : 0;
		n += have > 0;
	}
	return n > 0 ? sum / n : SEG_NAN;
}

static int each(void *arg, struct seg_sample *s, int t)
{
	struct job *j = arg;
	struct seg_loss_sample b;
	int rc = seg_bind(&j->h, s, 1, 1, &b);
	if (rc < 0)
		return rc;
	if (!b.p && j->h.task == SEG_MULTILABEL && (j->h.head == SEG_SOFTMAX || j->h.head == SEG_NONE))
		rc = seg_fail(SEG_EDATA, "sample %s: logits of head %s give no probability per class to compare "
		    "with a threshold; run seg-predict without --logits", s->key, seg_head_text(j->h.head));
	else if (j->per_image)
		rc = one_image(j, s->number, &b, t);
	else
		rc = seg_confusion_add(&j->part[t], &b, j->threshold);
	seg_unbind(&b);
	return rc;
}

static int after(void *arg, struct seg_sample *s, int keep)
{
	struct job *j = arg;
	(void)s, (void)keep;
	j->samples++;
	return SEG_OK;
}

static const char *rule(const struct job *j)
{
	return j->h.task == SEG_MULTICLASS ? "multiclass: the first maximum over the classes"
	    : j->threshold ? "multilabel: p above the threshold of each class" : "multilabel: p > 0.5 per class";
}

static void print_ratio(int width, double v)
{
	if (v == v)
		printf(" %*.4f", width, v);
	else
		printf(" %*s", width, "-");
}

static void print_text(const struct job *j, const struct seg_confusion *c)
{
	int width = 5, present;
	for (int k = 0; k < c->nclass; k++)
		if ((int)strlen(j->h.classes[k]) > width)
			width = (int)strlen(j->h.classes[k]);
	printf("%-*s %11s %11s %11s %11s %7s %7s %9s %7s%s%s\n", width, "class", "pixels", "tp", "fp", "fn", "IoU",
	    "Dice", "precision", "recall", j->threshold ? "  p above" : "", j->per_image ? "  per image" : "");
	for (int k = 0; k < c->nclass; k++) {
		printf("%-*s %11ju %11ju %11ju %11ju", width, j->h.classes[k], (uintmax_t)(c->tp[k] + c->fn[k]),
		    (uintmax_t)c->tp[k], (uintmax_t)c->fp[k], (uintmax_t)c->fn[k]);
		print_ratio(7, seg_iou(c, k));
		print_ratio(7, seg_dice(c, k));
		print_ratio(9, seg_precision(c, k));
		print_ratio(7, seg_recall(c, k));
		if (j->threshold)
			print_ratio(8, j->threshold[k]);
		if (j->per_image)
			print_ratio(10, image_iou(j, k));
		putchar('\n');
	}
	double mean = seg_mean_iou(c, &present);
	fputs("mean IoU", stdout);
	print_ratio(1, mean);
	printf(" over the %d of %d classes present (tp + fp + fn > 0)\n", present, c->nclass);
	if (j->per_image) {
		fputs("per image", stdout);
		print_ratio(1, images_mean(j));
		puts(" over images, of the mean over the classes present in each");
	}
	printf("pixels %ju, ignored %ju, samples %zu\n", (uintmax_t)c->pixels, (uintmax_t)c->ignored, j->samples);
	printf("rule: %s\n", rule(j));
}

static int print_json(const struct job *j, const struct seg_confusion *c)
{
	int bad = 0, present;
	double mean = seg_mean_iou(c, &present);
	struct seg_json *o = seg_json_object(), *a = seg_json_array();
	for (int k = 0; k < c->nclass; k++) {
		struct seg_json *e = seg_json_object();
		bad |= seg_json_set(e, "name", seg_json_str(j->h.classes[k]));
		bad |= seg_json_set(e, "pixels", seg_json_int((long long)(c->tp[k] + c->fn[k])));
		bad |= seg_json_set(e, "tp", seg_json_int((long long)c->tp[k]));
		bad |= seg_json_set(e, "fp", seg_json_int((long long)c->fp[k]));
		bad |= seg_json_set(e, "fn", seg_json_int((long long)c->fn[k]));
		bad |= seg_json_set(e, "iou", seg_json_num(seg_iou(c, k)));
		bad |= seg_json_set(e, "dice", seg_json_num(seg_dice(c, k)));
		bad |= seg_json_set(e, "precision", seg_json_num(seg_precision(c, k)));
		bad |= seg_json_set(e, "recall", seg_json_num(seg_recall(c, k)));
		if (j->per_image)
			bad |= seg_json_set(e, "iou_per_image", seg_json_num(image_iou(j, k)));
		if (c->multilabel)
			bad |= seg_json_set(e, "threshold", seg_json_num(j->threshold ? j->threshold[k] : 0.5));
		bad |= seg_json_add(a, e);
	}
	bad |= seg_json_set(o, "classes", a);
	bad |= seg_json_set(o, "mean_iou", seg_json_num(mean));
	if (j->per_image)
		bad |= seg_json_set(o, "mean_iou_per_image", seg_json_num(images_mean(j)));
	bad |= seg_json_set(o, "present", seg_json_int(present));
	bad |= seg_json_set(o, "pixels", seg_json_int((long long)c->pixels));
	bad |= seg_json_set(o, "ignored", seg_json_int((long long)c->ignored));
	bad |= seg_json_set(o, "samples", seg_json_int((long long)j->samples));
	bad |= seg_json_set(o, "rule", seg_json_str(rule(j)));
	char *text = bad ? NULL : seg_json_pretty(o);
	if (text)
		puts(text);
	free(text);
	seg_json_free(o);
	return text ? SEG_OK : SEG_ENOMEM;
}

/* ---- the rules of others: recipes of the loss language ---- */

static const struct {
	const char *project, *multilabel, *multiclass;
} other[] = {
	{"keras", "@keras3.binary_iou", "@keras3.mean_iou"},
	{"torchmetrics", "@torchmetrics.multilabel_jaccard_index", "@torchmetrics.multiclass_jaccard_index"},
	{"monai", "@monai.mean_iou", "@monai.mean_iou"},
	{"smp", "@smp.iou_score", "@smp.iou_score"},
	{"kaggle", "@kaggle.mean_iou", "@kaggle.mean_iou"},
};
enum { NOTHER = sizeof other / sizeof *other };

/* The rule of a recipe, as the recipes' file states it. */
static const char *source(const char *recipe)
{
	size_t n;
	const struct seg_recipe *r = seg_recipe_list(&n);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(r[i].name, recipe))
			return r[i].source;
	return "";
}

static int by_others(const char *in, const char *list, int json, int threads)
{
	char *copy = seg_strdup(list), *word[NOTHER + 1];
	int want[NOTHER] = {0}, n = copy ? cmd_list("--as", copy, word, NOTHER + 1) : 0;
	for (int i = 0; i < n; i++) {
		int found = 0;
		for (int p = 0; p < NOTHER; p++)
			if (!strcmp(word[i], "all") || !strcmp(word[i], other[p].project))
				found = want[p] = 1;
		if (!found)
			cmd_usage("--as: '%s' is none of keras, torchmetrics, monai, smp, kaggle, all", word[i]);
	}
	free(copy);
	struct seg_buf as = {0};
	for (int p = 0; p < NOTHER; p++) /* both tasks: which it is, the stream will say */
		if (want[p])
			seg_buf_printf(&as, "%s%s,%s", as.n ? "," : "", other[p].multilabel, other[p].multiclass);
	struct seg_audit a;
	int rc = seg_audit_run(&a, &(struct seg_ask){.in = in, .loss = "sum[n](1)", .as = as.data, .threads = threads, .cache = 256 << 20});
	if (rc < 0)
		cmd_die(rc, NULL);
	struct seg_json *list_json = seg_json_array();
	size_t at = 0;
	for (int p = 0; p < NOTHER; p++) {
		if (!want[p])
			continue;
		const struct seg_other *o = &a.other[at + (a.header->task == SEG_MULTICLASS)];
		at += 2;
		if (json) {
			struct seg_json *j = seg_json_object();
			seg_json_set(j, "as", seg_json_str(other[p].project));
			seg_json_set(j, "recipe", seg_json_str(o->loss));
			seg_json_set(j, "mean_iou", o->why ? seg_json_null() : seg_json_num(o->value));
			seg_json_set(j, "rule", seg_json_str(source(o->loss)));
			seg_json_add(list_json, j);
		} else {
			printf("%-12s", other[p].project);
			print_ratio(7, o->why ? SEG_NAN : o->value);
			printf("  %s\n", o->loss);
			struct seg_buf text = {0};
			if (seg_wrap(&text, 22, o->why ? o->why : source(o->loss)) == SEG_OK)
				fputs(text.data, stdout);
			free(text.data);
		}
	}
	char *text = json ? seg_json_pretty(list_json) : NULL;
	if (text)
		puts(text);
	free(text);
	seg_json_free(list_json);
	free(as.data);
	seg_audit_free(&a);
	return cmd_close(SEG_OK);
}

int main(int argc, char **argv)
{
	struct job j = {.threads = seg_ncpu(), .lock = PTHREAD_MUTEX_INITIALIZER};
	const char *as = NULL;
	int json = 0, rc = SEG_OK;
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': j.threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case AS: as = cmd_arg; break;
		case JSON: json = 1; break;
		case PER_IMAGE: j.per_image = 1; break;
		case THRESHOLD: j.threshold_text = (char *)cmd_arg; break;
		}
	if (argc - cmd_ind > 1)
		cmd_usage("one stream at a time");

	if (as && (j.per_image || j.threshold_text))
		cmd_usage("--as has rules of its own: no --per-image, no --threshold");
	if (as)
		return by_others(argv[cmd_ind], as, json, j.threads);
	struct seg_filter f = {.in = argv[cmd_ind], .out = "", .threads = j.threads, .header = header, .each = each, .after = after,
	                       .arg = &j};
	if ((rc = seg_filter(&f)) < 0)
		cmd_die(rc, NULL);
	for (int t = 1; t < j.threads; t++)
		seg_confusion_merge(&j.part[0], &j.part[t]);
	if (json)
		rc = print_json(&j, &j.part[0]);
	else
		print_text(&j, &j.part[0]);
	for (int t = 0; t < j.threads; t++)
		seg_confusion_free(&j.part[t]);
	if (rc < 0)
		cmd_die(rc, NULL);
	free(j.part);
	free(j.image);
	free(j.threshold);
	seg_header_free(&j.h);
	return cmd_close(rc);
}
