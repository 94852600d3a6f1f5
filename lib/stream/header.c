/* The header entry: class names, task, provenance; and the rule for keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/hash.h"

static const char *const kinds[] = {"stream", "model", "checkpoint", NULL};
static const char *const tasks[] = {"multiclass", "multilabel", NULL};
static const char *const heads[] = {"unset", "sigmoid", "softmax", "none", NULL};

const char *seg_task_text(enum seg_task t) { return tasks[t]; }
const char *seg_head_text(enum seg_head h) { return heads[h]; }

void seg_header_free(struct seg_header *h)
{
	for (int i = 0; i < h->nclass; i++)
		free(h->classes[i]);
	free(h->classes);
	seg_json_free(h->more);
	seg_json_free(h->provenance);
	*h = (struct seg_header){.ignore = SEG_NOIGNORE};
}

int seg_header_copy(struct seg_header *to, const struct seg_header *from)
{
	*to = *from;
	to->nclass = 0;
	to->classes = NULL;
	to->more = from->more ? seg_json_copy(from->more) : seg_json_object();
	to->provenance = from->provenance ? seg_json_copy(from->provenance) : seg_json_array();
	int rc = to->more && to->provenance ? SEG_OK : seg_fail(SEG_ENOMEM, "out of memory");
	if (rc == SEG_OK && from->nclass)
		rc = seg_header_classes(to, (const char *const *)from->classes, from->nclass);
	if (rc < 0)
		seg_header_free(to);
	return rc;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Every name once, none empty. */
static int names_ok(char *const *names, int n)
{
	const char **sorted = seg_alloc((size_t)n, sizeof *sorted);
	int rc = sorted ? SEG_OK : SEG_ENOMEM;
	for (int i = 0; rc == SEG_OK && i < n; i++) {
		sorted[i] = names[i];
		if (!*names[i])
			rc = seg_fail(SEG_EDATA, "class %d has an empty name", i);
	}
	if (rc == SEG_OK)
		qsort(sorted, (size_t)n, sizeof *sorted, by_name);
	for (int i = 1; rc == SEG_OK && i < n; i++)
		if (!strcmp(sorted[i], sorted[i - 1]))
			rc = seg_fail(SEG_EDATA, "two classes are named '%s'", sorted[i]);
	free(sorted);
	return rc;
}

int seg_header_classes(struct seg_header *h, const char *const *names, int n)
{
	char **copy = seg_alloc((size_t)n, sizeof *copy);
	int rc = copy ? SEG_OK : SEG_ENOMEM;
	for (int i = 0; rc == SEG_OK && i < n; i++) {
		copy[i] = names ? seg_strdup(names[i]) : seg_format("%d", i);
		if (!copy[i])
			rc = SEG_ENOMEM;
	}
	if (rc == SEG_OK)
		rc = names_ok(copy, n);
	for (int i = 0; rc < 0 && copy && i < n; i++)
		free(copy[i]);
	if (rc < 0) {
		free(copy);
		return rc;
	}
	for (int i = 0; i < h->nclass; i++)
		free(h->classes[i]);
	free(h->classes);
	h->classes = copy;
	h->nclass = n;
	return SEG_OK;
}

int seg_header_class(const struct seg_header *h, const char *name)
{
	for (int i = 0; i < h->nclass; i++)
		if (!strcmp(h->classes[i], name))
			return i;
	return -1;
}

/* ---- provenance ---- */

enum { PROVENANCE_BYTES = 40 << 10 }; /* leaves room for classes in 64 KiB */

/* The two oldest entries become one: {"collapsed": how many, "sha256": of the former hash and the text}. */
static struct seg_json *fold_two(const struct seg_json *a, const struct seg_json *b)
{
	struct seg_sha256 s;
	unsigned char digest[32];
	char hex[65];
	char *ta = seg_json_text(a), *tb = seg_json_text(b);
	struct seg_json *e = NULL;
	if (ta && tb && (e = seg_json_object())) {
		seg_sha256_start(&s);
		seg_sha256_add(&s, ta, strlen(ta));
		seg_sha256_add(&s, tb, strlen(tb));
		seg_sha256_end(&s, digest);
		seg_hex(digest, 32, hex);
		if (seg_json_set(e, "collapsed", seg_json_int(seg_json_integer(seg_json_get(a, "collapsed"), 1) +
		    seg_json_integer(seg_json_get(b, "collapsed"), 1))) < 0 ||
		    seg_json_set(e, "sha256", seg_json_str(hex)) < 0) {
			seg_json_free(e);
			e = NULL;
		}
	}
	free(ta);
	free(tb);
	return e;
}

static size_t text_bytes(const struct seg_json *j)
{
	char *t = seg_json_text(j);
	size_t n = t ? strlen(t) : 0;
	free(t);
	return n;
}

/* The newest entries that fit stay; the older ones are folded, oldest first. */
static int fold(struct seg_header *h)
{
	size_t n = seg_json_size(h->provenance), keep = n, room = PROVENANCE_BYTES;
	if (text_bytes(h->provenance) <= PROVENANCE_BYTES)
		return SEG_OK;
	for (; keep > 0; keep--) {
		size_t size = text_bytes(seg_json_at(h->provenance, keep - 1)) + 1;
		if (size + 200 > room)
			break;
		room -= size;
	}
	struct seg_json *a = seg_json_array(), *old = seg_json_copy(seg_json_at(h->provenance, 0));
	int rc = a && old ? SEG_OK : SEG_ENOMEM;
	for (size_t i = 1; rc == SEG_OK && i < keep; i++) {
		struct seg_json *e = fold_two(old, seg_json_at(h->provenance, i));
		seg_json_free(old);
		old = e;
		rc = e ? SEG_OK : SEG_ENOMEM;
	}
	if (rc == SEG_OK)
		rc = seg_json_add(a, old);
	else
		seg_json_free(old);
	for (size_t i = keep; rc == SEG_OK && i < n; i++)
		rc = seg_json_add(a, seg_json_copy(seg_json_at(h->provenance, i)));
	if (rc == SEG_OK) {
		seg_json_free(h->provenance);
		h->provenance = a;
		return SEG_OK;
	}
	seg_json_free(a);
	return seg_fail(SEG_ENOMEM, "out of memory");
}

static int add(struct seg_header *h, struct seg_json *entry)
{
	if (!h->provenance)
		h->provenance = seg_json_array();
	int rc = seg_json_add(h->provenance, entry);
	return rc < 0 ? rc : fold(h);
}

int seg_header_sign(struct seg_header *h, const char *program, struct seg_json *options)
{
	struct seg_json *e = seg_json_object();
	int rc = seg_json_set(e, "program", seg_json_str(program));
	if (rc == SEG_OK)
		rc = seg_json_set(e, "version", seg_json_str(SEG_VERSION));
	int set = seg_json_set(e, "options", options); /* takes it in any case */
	if (rc < 0 || set < 0) {
		seg_json_free(e);
		return rc < 0 ? rc : set;
	}
	return add(h, e);
}

int header_merge(struct seg_header *h, const struct seg_json *provenance)
{
	int rc = SEG_OK;
	for (size_t i = 0; rc == SEG_OK && i < seg_json_size(provenance); i++) {
		const struct seg_json *e = seg_json_at(provenance, i);
		size_t j = 0, n = seg_json_size(h->provenance);
		while (j < n && !seg_json_equal(e, seg_json_at(h->provenance, j)))
			j++;
		if (j == n)
			rc = add(h, seg_json_copy(e));
	}
	return rc;
}

/* ---- text ---- */

static const char *const known[] = {"format", "version", "framing", "kind", "task", "head", "classes",
                                    "ignore", "provenance", NULL};

static int find(const char *const *list, const char *word)
{
	for (int i = 0; word && list[i]; i++)
		if (!strcmp(list[i], word))
			return i;
	return -1;
}

char *header_text(const struct seg_header *h, int whole)
{
	struct seg_json *j = h->more ? seg_json_copy(h->more) : seg_json_object(), *c = seg_json_array();
	char *text = NULL;
	int rc = seg_json_set(j, "format", seg_json_str("seg"));
	rc |= seg_json_set(j, "version", seg_json_int(1));
	rc |= seg_json_set(j, "kind", seg_json_str(kinds[h->kind]));
	rc |= seg_json_set(j, "task", seg_json_str(tasks[h->task]));
	if (h->head != SEG_HEAD_UNSET)
		rc |= seg_json_set(j, "head", seg_json_str(heads[h->head]));
	if (h->ignore != SEG_NOIGNORE)
		rc |= seg_json_set(j, "ignore", seg_json_int(h->ignore));
	for (int i = 0; rc == SEG_OK && i < h->nclass; i++)
		rc = seg_json_add(c, seg_json_str(h->classes[i]));
	rc |= seg_json_set(j, "classes", c);
	if (whole) {
		rc |= seg_json_set(j, "framing", seg_json_int(1));
		rc |= seg_json_set(j, "provenance",
		    h->provenance ? seg_json_copy(h->provenance) : seg_json_array());
	}
	if (rc == SEG_OK)
		text = seg_json_text(j);
	else
		seg_where(SEG_EDATA, "header");
	seg_json_free(j);
	return text;
}

char *seg_header_text(const struct seg_header *h) { return header_text(h, 1); }

/* One of the words, or the default if the key is absent. */
static int choice(const struct seg_json *j, const char *key, const char *const *list, int otherwise)
{
	const struct seg_json *v = seg_json_get(j, key);
	int i = v ? find(list, seg_json_string(v, NULL)) : otherwise;
	return i >= 0 ? i : seg_fail(SEG_EDATA, "header: \"%s\" is '%s', which is not known here", key,
	    seg_json_string(v, "?"));
}

static int classes(const struct seg_json *j, struct seg_header *h)
{
	size_t n = seg_json_size(j);
	if (j && !seg_json_is_array(j))
		return seg_fail(SEG_EDATA, "header: \"classes\" is not a list of names");
	if (n == 0)
		return SEG_OK;
	const char **names = seg_alloc(n, sizeof *names);
	int rc = names ? SEG_OK : SEG_ENOMEM;
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		names[i] = seg_json_string(seg_json_at(j, i), NULL);
		if (!names[i])
			rc = seg_fail(SEG_EDATA, "\"classes\" is not a list of names");
	}
	if (rc == SEG_OK)
		rc = seg_header_classes(h, names, (int)n);
	free(names);
	return rc < 0 ? seg_where(rc, "header") : rc;
}

static int fields(const struct seg_json *j, struct seg_header *h, int *framing)
{
	long long version = seg_json_integer(seg_json_get(j, "version"), 0);
	const struct seg_json *p = seg_json_get(j, "provenance"), *g = seg_json_get(j, "ignore");
	int kind, task, head, rc;
	if (version != 1)
		return seg_fail(SEG_EDATA, "header: version %lld of the format; this program reads version 1", version);
	if ((kind = choice(j, "kind", kinds, SEG_STREAM)) < 0 || (task = choice(j, "task", tasks, SEG_MULTICLASS)) < 0 ||
	    (head = choice(j, "head", heads, SEG_HEAD_UNSET)) < 0)
		return SEG_EDATA;
	h->kind = (enum seg_kind)kind;
	h->task = (enum seg_task)task;
	h->head = (enum seg_head)head;
	h->ignore = g ? (long)seg_json_integer(g, -2) : SEG_NOIGNORE;
	if (h->ignore < SEG_NOIGNORE || h->ignore > 65535)
		return seg_fail(SEG_EDATA, "header: \"ignore\" is not a whole number from 0 to 65535");
	*framing = seg_json_integer(seg_json_get(j, "framing"), 0) == 1;
	if ((rc = classes(seg_json_get(j, "classes"), h)) < 0)
		return rc;
	if (p && !seg_json_is_array(p))
		return seg_fail(SEG_EDATA, "header: \"provenance\" is not a list");
	h->provenance = p ? seg_json_copy(p) : seg_json_array();
	h->more = seg_json_copy(j);
	for (int i = 0; known[i]; i++)
		seg_json_del(h->more, known[i]);
	return h->more && h->provenance ? SEG_OK : seg_fail(SEG_ENOMEM, "out of memory");
}

int header_parse(const char *text, size_t n, struct seg_header *h, int *framing)
{
	*h = (struct seg_header){.ignore = SEG_NOIGNORE};
	struct seg_json *j = seg_json_parse(text, n);
	if (!j)
		return seg_where(SEG_ECORRUPT, "header");
	int rc = seg_json_is_object(j) ? fields(j, h, framing) : seg_fail(SEG_ECORRUPT, "header: not an object");
	seg_json_free(j);
	if (rc < 0)
		seg_header_free(h);
	return rc;
}

int seg_header_parse(struct seg_header *h, const char *text, size_t n)
{
	int framing;
	return header_parse(text, n, h, &framing);
}

int header_agree(const struct seg_header *a, const struct seg_header *b)
{
	static const char intro[] = "parts of the concatenation do not fit";
	if (a->kind != b->kind)
		return seg_fail(SEG_EDATA, "%s: a %s follows a %s", intro, kinds[b->kind], kinds[a->kind]);
	if (a->nclass != b->nclass)
		return seg_fail(SEG_EDATA, "%s: %d classes follow %d", intro, b->nclass, a->nclass);
	for (int i = 0; i < a->nclass; i++)
		if (strcmp(a->classes[i], b->classes[i]) != 0)
			return seg_fail(SEG_EDATA, "%s: class %d is '%s', was '%s'", intro, i, b->classes[i], a->classes[i]);
	if (a->task != b->task)
		return seg_fail(SEG_EDATA, "%s: %s follows %s", intro, tasks[b->task], tasks[a->task]);
	if (a->head != b->head)
		return seg_fail(SEG_EDATA, "%s: head %s follows %s", intro, heads[b->head], heads[a->head]);
	if (a->ignore != b->ignore)
		return seg_fail(SEG_EDATA, "%s: ignore value %ld follows %ld", intro, b->ignore, a->ignore);
	if (!seg_json_equal(a->more, b->more))
		return seg_fail(SEG_EDATA, "%s: other header fields differ (seg-info shows them)", intro);
	return SEG_OK;
}

/* ---- keys ---- */

static int key_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
	    c == '/' || c == '-';
}

int key_check(const char *key, size_t n)
{
	int show = n > 90 ? 90 : (int)n;
	if (n == 0 || n > SEG_KEY || key[0] == '/' || (n >= 8 && !memcmp(key, "__seg__/", 8)))
		return seg_fail(SEG_ECORRUPT, "key '%.*s' is not allowed (1 to %d characters, no / in front, not __seg__/)",
		    show, key, SEG_KEY);
	for (size_t i = 0; i < n; i++)
		if (!key_char(key[i]))
			return seg_fail(SEG_ECORRUPT, "key '%.*s' is not allowed (only A-Z a-z 0-9 _ / -)", show, key);
	return SEG_OK;
}

void seg_key(const char *id, const char *extra, char key[SEG_KEY + 1])
{
	size_t n = strlen(id), x = strlen(extra), room = x < SEG_KEY - 9 ? SEG_KEY - x : 9;
	int changed = n == 0 || n > room || !strncmp(id, "__seg__/", 8);
	for (size_t i = 0; i < n && i < room; i++) {
		int good = key_char(id[i]) && !(i == 0 && id[i] == '/');
		key[i] = good ? id[i] : '_';
		changed |= !good;
	}
	n = n < room ? n : room;
	if (changed) {
		struct seg_sha256 s;
		unsigned char d[32];
		if (n > room - 9)
			n = room - 9;
		if (n >= 8 && !memcmp(key, "__seg__/", 8))
			key[7] = '_';
		seg_sha256_start(&s);
		seg_sha256_add(&s, id, strlen(id));
		seg_sha256_end(&s, d);
		key[n++] = '_';
		seg_hex(d, 4, key + n);
		n += 8;
	}
	snprintf(key + n, SEG_KEY + 1 - n, "%s", extra);
}
