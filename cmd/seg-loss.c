/* seg-loss: evaluate a loss, explain it, take it apart. */
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/parallel.h"
#include "seg/report.h"

enum { AS = CMD_LONG, BATCH, CACHE, DIFF, EXPLAIN, FIELD, GRADIENT, JSON, LEDGER, LEVEL, LIST, MAP, PRECISION, RECIPES, REPORT, WORST };

static const struct cmd_opt options[] = {
	{AS, "as", "LIST", "what others would print: keras3,torch,..., recipes, or all"},
	{BATCH, "batch", "B", "also the mean over batches of B samples, as Keras prints it"},
	{CACHE, "cache", "BYTES", "of stdin kept in memory, the rest in $TMPDIR (default 256 MiB)"},
	{DIFF, "diff", "LEDGER", "subtract this ledger of --json from that in FILE; no stream is read"},
	{EXPLAIN, "explain", NULL, "every step from pixels to the number"},
	{FIELD, "field", NULL, "the values of a loss that is not reduced to one, as JSON"},
	{GRADIENT, "gradient", NULL, "pass the stream on with KEY.grad.npy, the gradient dL/dz"},
	{JSON, "json", NULL, "an object for programs, with the ledger"},
	{LEDGER, "ledger", NULL, "the number taken apart by class"},
	{LEVEL, "level", "L", "compression of the stream, 0 to 12 (1; maps stored)"},
	{LIST, "list", NULL, "list the recipes, read nothing"},
	{'l', "loss", "LOSS", "an expression or @recipe (default: by task)"},
	{MAP, "map", NULL, "pass the stream on with KEY.loss.npy, what each pixel contributes"},
	{PRECISION, "precision", "f32|f64", "of values at pixels (default f32)"},
	{RECIPES, "recipes", "FILE", "further definitions"},
	{REPORT, "report", "FILE", "write there instead of stdout"},
	{'@', "threads", "N", "threads (default: processors)"},
	{WORST, "worst", "N", "the N samples and the N windows of samples with most of the loss"},
	{0},
};
static const struct cmd self = {"seg-loss",
	"[-@ N] [-l LOSS] [--as LIST] [--batch B] [--cache BYTES] [--diff LEDGER] [--explain] [--field] [--gradient] [--json] "
	"[--ledger] [--level L] [--list] [--map] [--precision f32|f64] [--recipes FILE] [--report FILE] [--worst N] [FILE]",
	"evaluate a loss, explain it, take it apart", options};

static char *listing(void)
{
	struct seg_buf b = {0};
	return seg_recipe_text(&b) < 0 ? NULL : b.data;
}

/* Takes j. */
static char *json_text(struct seg_json *j)
{
	struct seg_buf b = {0};
	char *text = seg_json_pretty(j);
	seg_json_free(j);
	int rc = text ? seg_buf_printf(&b, "%s\n", text) : SEG_ENOMEM;
	free(text);
	return rc < 0 ? NULL : b.data;
}

static char *report(const struct seg_audit *a, int json, int colour)
{
	struct seg_buf b = {0};
	if (json)
		return json_text(seg_audit_json(a));
	return seg_audit_text(a, colour, &b) < 0 ? NULL : b.data;
}

static char *difference(const char *from, const char *to, int json, int colour)
{
	struct seg_diff d;
	struct seg_buf b = {0};
	int rc = seg_diff_read(&d, from, to);
	if (rc < 0)
		cmd_die(rc, NULL);
	char *text = json ? json_text(seg_diff_json(&d)) : seg_diff_text(&d, colour, &b) < 0 ? NULL : b.data;
	seg_diff_free(&d);
	return text;
}

/* To the file, or else to `to`. */
static void write_text(const char *path, FILE *to, const char *text)
{
	struct seg_new f;
	int rc;
	if (!path) {
		fputs(text, to);
		return;
	}
	if ((rc = seg_new_open(&f, path)) < 0 || (rc = seg_write_full(f.fd, text, strlen(text))) < 0 ||
	    (rc = seg_new_commit(&f)) < 0)
		cmd_die(rc, path);
}

int main(int argc, char **argv)
{
	struct seg_ask ask = {.threads = seg_ncpu(), .cache = 256 << 20};
	struct seg_audit a;
	const char *out = NULL, *diff = NULL;
	char *text, *recipes = NULL;
	int json = 0, list = 0, level = -1, rc;
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': ask.threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case 'l': ask.loss = cmd_arg; break;
		case AS: ask.as = cmd_arg; break;
		case BATCH: ask.batch = (size_t)cmd_int("--batch", cmd_arg, 1, 1 << 30); break;
		case CACHE: ask.cache = (size_t)cmd_int("--cache", cmd_arg, 0, 1LL << 50); break;
		case DIFF: diff = cmd_arg; break;
		case EXPLAIN: ask.explain = 1; break;
		case FIELD: json = ask.field = 1; break;
		case GRADIENT: ask.gradient = 1; break;
		case JSON: json = ask.ledger = 1; break;
		case LEDGER: ask.ledger = 1; break;
		case LEVEL: level = (int)cmd_int("--level", cmd_arg, 0, 12); break;
		case LIST: list = 1; break;
		case MAP: ask.map = 1; break;
		case PRECISION:
			if (strcmp(cmd_arg, "f32") && strcmp(cmd_arg, "f64"))
				cmd_usage("--precision: '%s' is neither f32 nor f64", cmd_arg);
			ask.f64 = cmd_arg[1] == '6';
			break;
		case RECIPES:
			if (!(recipes = seg_read_file(cmd_arg, 1 << 20, NULL)))
				cmd_die(SEG_EDATA, NULL);
			ask.recipes = recipes;
			break;
		case REPORT: out = cmd_arg; break;
		case WORST: ask.worst = (int)cmd_int("--worst", cmd_arg, 1, 10000); break;
		}
	if (argc - cmd_ind > 1 && diff)
		cmd_usage("--diff: more than two ledgers");
	if (argc - cmd_ind > 1)
		cmd_usage("more than one FILE; concatenate them: cat %s %s | seg-loss", argv[cmd_ind], argv[cmd_ind + 1]);
	ask.in = cmd_ind < argc ? argv[cmd_ind] : NULL;
	ask.level = cmd_level(level);
	int stream = ask.map || ask.gradient;
	if (ask.field && (ask.ledger || ask.explain || ask.batch || ask.as || ask.worst || stream))
		cmd_usage("--field prints values and nothing else");
	if (diff && (ask.loss || ask.recipes || ask.explain || ask.batch || ask.as || ask.field || ask.worst || stream || list))
		cmd_usage("--diff reads two ledgers and no stream; only --json and --report go with it");
	if (stream)
		cmd_binary_stdout();
	FILE *to = stream ? stderr : stdout; /* the tables, where a stream goes to stdout */
	if (list) {
		text = listing();
	} else if (diff) {
		text = difference(diff, ask.in, json, !out && cmd_colour(to));
	} else {
		if ((rc = seg_audit_run(&a, &ask)) < 0)
			cmd_die(rc, rc == SEG_EUSAGE ? "--loss" : NULL);
		text = report(&a, json, !out && cmd_colour(to));
		seg_audit_free(&a);
	}
	if (!text)
		cmd_die(SEG_ENOMEM, NULL);
	write_text(out, to, text);
	free(text);
	free(recipes);
	return stream ? seg_status(SEG_OK) : cmd_close(SEG_OK); /* the writer has closed stdout */
}
