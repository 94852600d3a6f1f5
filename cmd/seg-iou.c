/* seg-iou: confusion counts, IoU, Dice, precision and recall of a stream with predictions. */
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/json.h"
#include "seg/loss.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/report.h"
#include "seg/stream.h"

enum { AS = CMD_LONG, JSON, MERGE, PER_IMAGE, SWEEP, THRESHOLD, WEIGHTS };

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (all processors)"},
	{AS, "as", "LIST", "mean IoU by the rules of keras,torchmetrics,monai,smp,kaggle or all"},
	{JSON, "json", NULL, "one JSON object instead of a table"},
	{MERGE, "merge", NULL, "the FILEs hold what --json printed: print their counts together"},
	{PER_IMAGE, "per-image", NULL, "also the mean over images of each image's IoU"},
	{SWEEP, "sweep", "[=STEP]", "also IoU and Dice at thresholds STEP, 2 STEP, .. (0.05), and the best"},
	{THRESHOLD, "threshold", "LIST", "multilabel: NUMBER, one for each class, or NAME=NUMBER,... (0.5)"},
	{WEIGHTS, "weights", NULL, "count the weights of pixels (weight.npy) instead of pixels"},
	{0},
};
static const struct cmd self = {"seg-iou", "[-@ N] [--as LIST] [--json] [--merge] [--per-image] [--sweep[=STEP]] [--threshold LIST] [--weights] [FILE ...]",
	"confusion counts, IoU, Dice, precision and recall per class", options};

struct job {
	char *threshold_text;
	double step;                    /* of the sweep; 0: none */
	struct seg_confusion kind;      /* what the options ask to be counted */
	int threads;
	struct seg_confusion *part;     /* one for each thread */
	struct seg_counts all;
};

/* "0.4" for all classes, "0.4,0.5,0.3" for each, or "crack=0.3,roof=0.6" for some */
static int thresholds(struct job *j)
{
	char *word[1024];
	const struct seg_header *h = &j->all.h;
	if (h->task != SEG_MULTILABEL)
		return !j->threshold_text ? SEG_OK : seg_fail(SEG_EUSAGE, "--threshold: the stream is multiclass, where the "
		    "first maximum is the prediction; thresholds need task multilabel");
	double *of = j->all.threshold = seg_alloc((size_t)h->nclass, sizeof *of);
	if (!of)
		return SEG_ENOMEM;
	int named = j->threshold_text && strchr(j->threshold_text, '=');
	int n = j->threshold_text ? cmd_list("--threshold", j->threshold_text, word, 1024) : 0;
	if (!named && n > 1 && n != h->nclass)
		return seg_fail(SEG_EUSAGE, "--threshold: %d numbers, but the stream has %d classes", n, h->nclass);
	for (int k = 0; k < h->nclass; k++)
		of[k] = named || !n ? 0.5 : cmd_num("--threshold", word[n > 1 ? k : 0], 0, 1);
	for (int i = 0; named && i < n; i++) {
		char *eq = strrchr(word[i], '=');
		if (!eq)
			return seg_fail(SEG_EUSAGE, "--threshold: '%s' is not NAME=NUMBER", word[i]);
		*eq = 0;
		int k = seg_header_class(h, word[i]);
		if (k < 0)
			return seg_fail(SEG_EUSAGE, "--threshold: the stream has no class '%s'", word[i]);
		of[k] = cmd_num("--threshold", eq + 1, 0, 1);
	}
	return SEG_OK;
}

static int header(void *arg, struct seg_header *h)
{
	struct job *j = arg;
	int rc = seg_header_copy(&j->all.h, h);
	if (rc < 0)
		return rc;
	if (h->nclass < 1)
		return seg_fail(SEG_EDATA, "the stream's header names no classes; load it with --classes");
	if ((rc = thresholds(j)) < 0)
		return rc;
	j->kind.nclass = h->nclass;
	j->kind.multilabel = h->task == SEG_MULTILABEL;
	if (j->step > 0 && (rc = seg_counts_sweep(&j->all, j->step)) < 0)
		return rc;
	j->kind.nsweep = rc > 0 ? rc : 0;
	j->kind.sweep = j->all.sweep;
	j->part = seg_alloc((size_t)j->threads, sizeof *j->part);
	if (!j->part)
		return SEG_ENOMEM;
	for (int t = 0; t < j->threads; t++)
		if ((rc = seg_confusion_like(&j->part[t], &j->kind)) < 0)
			return rc;
	return seg_confusion_like(&j->all.c, &j->kind);
}

static int each(void *arg, struct seg_sample *s, int t)
{
	struct job *j = arg;
	struct seg_loss_sample b;
	const struct seg_header *h = &j->all.h;
	int rc = seg_bind(h, s, 1, 1, &b);
	if (rc < 0)
		return rc;
	int multi = h->task == SEG_MULTILABEL, sigmoid = h->head == SEG_SIGMOID || (h->head == SEG_HEAD_UNSET && multi);
	if (!b.p && (multi || j->step > 0) && !sigmoid)
		rc = seg_fail(SEG_EDATA, "sample %s: logits of head %s give no probability per class to compare "
		    "with a threshold; run seg-predict without --logits", s->key, seg_head_text(h->head == SEG_HEAD_UNSET ? SEG_SOFTMAX : h->head));
	else
		rc = seg_confusion_add(&j->part[t], &b, j->all.threshold);
	seg_unbind(&b);
	return rc;
}

static int after(void *arg, struct seg_sample *s, int keep)
{
	struct job *j = arg;
	(void)s, (void)keep;
	j->all.samples++;
	return SEG_OK;
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
			if (o->why)
				printf("%-12s %7s  %s\n", other[p].project, "-", o->loss);
			else
				printf("%-12s %7.4f  %s\n", other[p].project, o->value, o->loss);
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

static int count(struct job *j, const char *in)
{
	struct seg_filter f = {.in = in, .out = "", .threads = j->threads, .header = header, .each = each, .after = after, .arg = j};
	int rc = seg_filter(&f);
	for (int t = 0; rc == SEG_OK && t < j->threads; t++) {
		seg_confusion_merge(&j->all.c, &j->part[t]);
		seg_confusion_free(&j->part[t]);
	}
	free(j->part);
	return rc;
}

static int report(const struct seg_counts *a, int json)
{
	struct seg_buf b = {0};
	struct seg_json *o = json ? seg_counts_json(a) : NULL;
	char *text = o ? seg_json_pretty(o) : NULL;
	int rc = json ? text ? SEG_OK : SEG_ENOMEM : seg_counts_text(a, &b);
	if (rc == SEG_OK)
		printf("%s%s", json ? text : b.data, json ? "\n" : "");
	free(text);
	seg_json_free(o);
	free(b.data);
	return rc;
}

int main(int argc, char **argv)
{
	struct job j = {.threads = seg_ncpu()};
	const char *as = NULL;
	int json = 0, merge = 0, asked = 0, rc = SEG_OK;
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': j.threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case AS: as = cmd_arg; break;
		case JSON: json = 1; break;
		case MERGE: merge = 1; break;
		case PER_IMAGE: j.kind.per_image = 1; break;
		case SWEEP: j.step = cmd_arg ? cmd_num("--sweep", cmd_arg, 0.001, 0.5) : 0.05; break;
		case THRESHOLD: j.threshold_text = (char *)cmd_arg; break;
		case WEIGHTS: j.kind.weighted = 1; break;
		}
	asked = j.kind.per_image || j.kind.weighted || j.threshold_text || j.step > 0;
	if (argc - cmd_ind > 1 && !merge)
		cmd_usage("one stream at a time");
	if (merge && (as || asked))
		cmd_usage("--merge prints what the files were counted with: no --as, --per-image, --sweep, --threshold or --weights");
	if (merge && argc == cmd_ind)
		cmd_usage("--merge needs files that --json printed");
	if (as && asked)
		cmd_usage("--as has rules of its own: no --per-image, --sweep, --threshold or --weights");
	if (as)
		return by_others(argv[cmd_ind], as, json, j.threads);
	rc = merge ? seg_counts_merge(&j.all, argv + cmd_ind, argc - cmd_ind) : count(&j, argv[cmd_ind]);
	if (rc < 0 || (rc = report(&j.all, json)) < 0)
		cmd_die(rc, NULL);
	seg_counts_free(&j.all);
	return cmd_close(rc);
}
