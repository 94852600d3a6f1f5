/* seg-info: list, verify and fingerprint streams and models. */
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/stream.h"

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (default: processors)"},
	{CMD_LONG, "hash", NULL, "print one fingerprint of the content for each file"},
	{CMD_LONG + 1, "json", NULL, "print one JSON object for each file"},
	{'q', "quiet", NULL, "print nothing, only verify"},
	{0},
};
static const struct cmd self = {"seg-info", "[-q] [-@ N] [--hash | --json] [FILE ...]",
	"list, verify and fingerprint streams and models", options};

enum { LIST, HASH, JSON, QUIET };

struct info {
	int what;
	struct seg_print print;
	struct seg_json *header; /* of the input's end: provenance is whole */
	unsigned long long count, nbytes;
};

static int print_text(const struct seg_json *j)
{
	char *text = seg_json_text(j);
	if (!text)
		return SEG_ENOMEM;
	fputs(text, stdout);
	free(text);
	return SEG_OK;
}

static struct seg_json *header_json(const struct seg_header *h)
{
	char *text = seg_header_text(h);
	struct seg_json *j = text ? seg_json_parse(text, strlen(text)) : NULL;
	free(text);
	return j;
}

/* One line for each field but provenance, which follows the records. */
static int list_header(const struct seg_header *h)
{
	struct seg_json *j = header_json(h);
	const struct seg_json *v;
	const char *key;
	int rc = j ? SEG_OK : SEG_ENOMEM;
	for (void *it = NULL; rc == SEG_OK && (it = seg_json_next(j, it, &key, &v));) {
		if (!strcmp(key, "provenance") || !strcmp(key, "format") || !strcmp(key, "framing"))
			continue;
		printf("%s: ", key);
		rc = print_text(v);
		putchar('\n');
	}
	seg_json_free(j);
	return rc;
}

static int header(void *arg, struct seg_header *h)
{
	struct info *x = arg;
	if (x->what == HASH || x->what == JSON)
		return seg_print_start(&x->print, h);
	return x->what == LIST ? list_header(h) : SEG_OK;
}

static int each(void *arg, struct seg_sample *s, int t)
{
	struct info *x = arg;
	(void)t;
	if (x->what == HASH || x->what == JSON)
		seg_print_sample(s, s->digest);
	return 1;
}

static void list_entry(const struct info *x, const struct seg_entry *e, int first)
{
	const char *sep = "";
	if (x->what == JSON)
		printf("%s\"%s\":", first ? "" : ",", e->suffix);
	else
		printf("  %s ", e->suffix);
	if (!e->is_tensor) {
		printf(x->what == JSON ? "{\"bytes\":%zu}" : "%zu bytes", e->nbytes);
		return;
	}
	printf(x->what == JSON ? "{\"dtype\":\"%s\",\"shape\":[" : "%s [", seg_dtype_text(e->t.dtype));
	for (int i = 0; i < e->t.ndim; i++, sep = ",")
		printf("%s%zu", sep, e->t.dim[i]);
	fputs(x->what == JSON ? "]}" : "]", stdout);
}

static int after(void *arg, struct seg_sample *s, int keep)
{
	struct info *x = arg;
	(void)keep;
	if (x->what == HASH || x->what == JSON)
		seg_print_add(&x->print, s->digest);
	if (x->what == JSON)
		printf("%s{\"key\":\"%s\",\"entries\":{", x->count ? "," : "{\"records\":[", s->key);
	else if (x->what == LIST)
		printf("%s", s->key);
	for (int i = 0; i < s->nentry; i++) {
		const struct seg_entry *e = &s->entry[i];
		x->nbytes += e->is_tensor ? seg_tensor_nbytes(&e->t) : e->nbytes;
		if (x->what == JSON || x->what == LIST)
			list_entry(x, e, i == 0);
	}
	if (x->what == JSON || x->what == LIST)
		puts(x->what == JSON ? "}}" : "");
	x->count++;
	return SEG_OK;
}

static int end(void *arg, const struct seg_header *h)
{
	struct info *x = arg;
	x->header = header_json(h);
	return x->header ? SEG_OK : SEG_ENOMEM;
}

static int list_end(const struct info *x)
{
	const struct seg_json *p = seg_json_get(x->header, "provenance");
	int rc = SEG_OK;
	for (size_t i = 0; rc == SEG_OK && i < seg_json_size(p); i++) {
		fputs("provenance: ", stdout);
		rc = print_text(seg_json_at(p, i));
		putchar('\n');
	}
	printf("samples: %llu\nbytes: %llu\n", x->count, x->nbytes);
	return rc;
}

/* file: as the user named it. */
static int json_end(const struct info *x, const char *file, const char *hash)
{
	struct seg_json *name = seg_json_str(file);
	int rc;
	if (!x->count)
		fputs("{\"records\":[", stdout);
	printf("],\"samples\":%llu,\"bytes\":%llu,\"hash\":\"%s\",\"file\":", x->count, x->nbytes, hash);
	if (!name) /* not UTF-8 */
		name = seg_json_null();
	if ((rc = print_text(name)) == SEG_OK) {
		fputs(",\"header\":", stdout);
		rc = print_text(x->header);
	}
	puts("}");
	seg_json_free(name);
	return rc;
}

static int show(struct info *x, struct seg_filter *f, const char *file)
{
	char hex[65];
	x->count = x->nbytes = 0;
	if (x->what == LIST && file)
		printf("file: %s\n", file);
	f->in = file;
	int rc = seg_filter(f);
	if (rc == SEG_OK && (x->what == HASH || x->what == JSON))
		seg_print_end(&x->print, hex);
	if (rc == SEG_OK && x->what == HASH)
		printf("%s  %s\n", hex, file ? file : "-");
	else if (rc == SEG_OK && x->what == JSON)
		rc = json_end(x, file ? file : "-", hex);
	else if (rc == SEG_OK && x->what == LIST)
		rc = list_end(x);
	seg_json_free(x->header);
	x->header = NULL;
	return rc;
}

int main(int argc, char **argv)
{
	struct info x = {0};
	struct seg_filter f = {.out = "", .threads = seg_ncpu(), .header = header, .each = each, .after = after,
		.end = end, .arg = &x};
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': f.threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case 'q': x.what = QUIET; break;
		case CMD_LONG: x.what = HASH; break;
		case CMD_LONG + 1: x.what = JSON; break;
		}
	int rc = cmd_ind == argc ? show(&x, &f, NULL) : SEG_OK;
	for (int i = cmd_ind; rc == SEG_OK && i < argc; i++)
		rc = show(&x, &f, argv[i]);
	if (rc < 0) {
		fflush(stdout);
		cmd_die(rc, NULL);
	}
	return cmd_close(SEG_OK);
}
