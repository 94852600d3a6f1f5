/* seg-iou: confusion counts, IoU, Dice, precision and recall of a stream with predictions. */
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "seg/confusion.h"
#include "seg/err.h"
#include "seg/json.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/report.h"
#include "seg/stream.h"

enum { JSON = CMD_LONG, THRESHOLD };

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (all processors)"},
	{JSON, "json", NULL, "one JSON object instead of a table"},
	{THRESHOLD, "threshold", "LIST", "multilabel: NUMBER, or NAME=NUMBER,... (0.5)"},
	{0},
};
static const struct cmd self = {"seg-iou", "[-@ N] [--json] [--threshold LIST] [FILE]",
	"confusion counts, IoU, Dice, precision and recall per class", options};

struct job {
	char *threshold_text;
	struct seg_header h;
	double *threshold;              /* one for each class, or NULL: 0.5 */
	int threads;
	struct seg_confusion *part;     /* one for each thread */
	size_t samples;
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
	printf("%-*s %11s %11s %11s %11s %7s %7s %9s %7s%s\n", width, "class", "pixels", "tp", "fp", "fn", "IoU",
	    "Dice", "precision", "recall", j->threshold ? "  p above" : "");
	for (int k = 0; k < c->nclass; k++) {
		printf("%-*s %11ju %11ju %11ju %11ju", width, j->h.classes[k], (uintmax_t)(c->tp[k] + c->fn[k]),
		    (uintmax_t)c->tp[k], (uintmax_t)c->fp[k], (uintmax_t)c->fn[k]);
		print_ratio(7, seg_iou(c, k));
		print_ratio(7, seg_dice(c, k));
		print_ratio(9, seg_precision(c, k));
		print_ratio(7, seg_recall(c, k));
		if (j->threshold)
			print_ratio(8, j->threshold[k]);
		putchar('\n');
	}
	double mean = seg_mean_iou(c, &present);
	fputs("mean IoU", stdout);
	print_ratio(1, mean);
	printf(" over the %d of %d classes present (tp + fp + fn > 0)\n", present, c->nclass);
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
		if (c->multilabel)
			bad |= seg_json_set(e, "threshold", seg_json_num(j->threshold ? j->threshold[k] : 0.5));
		bad |= seg_json_add(a, e);
	}
	bad |= seg_json_set(o, "classes", a);
	bad |= seg_json_set(o, "mean_iou", seg_json_num(mean));
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

int main(int argc, char **argv)
{
	struct job j = {.threads = seg_ncpu()};
	int json = 0, rc = SEG_OK;
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': j.threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case JSON: json = 1; break;
		case THRESHOLD: j.threshold_text = (char *)cmd_arg; break;
		}
	if (argc - cmd_ind > 1)
		cmd_usage("one stream at a time");

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
	free(j.threshold);
	seg_header_free(&j.h);
	return cmd_close(rc);
}
