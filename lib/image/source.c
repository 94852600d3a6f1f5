/* Which picture a tile was cut from: a table of two columns, name and source, between them a tab. */
#include <stdlib.h>
#include <string.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/mem.h"

enum { MOST = 1 << 30 };

struct row {
	const char *stem;
	size_t len;
	const char *source;
};

static int by_stem(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	size_t n = x->len < y->len ? x->len : y->len;
	int c = memcmp(x->stem, y->stem, n);
	return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

/* Cut the text into rows, which point into it.  row holds one for each line. */
static int parse(char *text, const char *path, struct row *row, size_t *n)
{
	size_t line = 0;
	char *rest = text;
	for (char *s; (s = strsep(&rest, "\n"));) {
		line++;
		s[strcspn(s, "\r")] = 0;
		if (!*s || *s == '#')
			continue;
		char *source = strchr(s, '\t');
		if (!source)
			return seg_fail(SEG_EDATA, "%s: line %zu: no tab; expected NAME, a tab, SOURCE", path, line);
		*source++ = 0;
		source[strcspn(source, "\t")] = 0;
		size_t stem = seg_stem(s);
		row[(*n)++] = (struct row){s, stem ? stem : strlen(s), source};
	}
	qsort(row, *n, sizeof *row, by_stem);
	for (size_t i = 1; i < *n; i++)
		if (!by_stem(&row[i - 1], &row[i]) && strcmp(row[i - 1].source, row[i].source))
			return seg_fail(SEG_EDATA, "%s: %.*s has two sources: %s and %s", path, (int)row[i].len, row[i].stem,
			    row[i - 1].source, row[i].source);
	return SEG_OK;
}

int seg_sources(struct seg_pairs *p, const char *path)
{
	size_t size, n = 0, lines = 1;
	char *text = seg_read_file(path, MOST, &size);
	if (!text)
		return SEG_EDATA;
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	struct row *row = seg_alloc(lines, sizeof *row);
	int rc = row ? parse(text, path, row, &n) : SEG_ENOMEM;
	for (size_t i = 0; rc == SEG_OK && i < p->n; i++) {
		struct seg_pair *q = &p->pair[i];
		struct row key = {.stem = q->name, .len = q->stem};
		const struct row *found = n ? bsearch(&key, row, n, sizeof *row, by_stem) : NULL;
		if (!found)
			rc = seg_fail(SEG_EDATA, "%s: no line for the image %s", path, q->name);
		else if (!(q->source = seg_strdup(found->source)))
			rc = SEG_ENOMEM;
	}
	free(row);
	free(text);
	return rc;
}
