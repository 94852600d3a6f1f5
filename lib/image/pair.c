/* Which truth belongs to which image: the one whose name is the same up to the ending. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/mem.h"

void seg_load_say(const struct seg_load *o, int skipped, const char *fmt, ...)
{
	va_list ap;
	char line[1024];
	if (!o->say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	o->say(o->arg, skipped, line);
}

static char *join(const char *dir, const char *name)
{
	size_t n = strlen(dir);
	return seg_format("%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

/* The TIFF files of a directory: paths in byte order of names, and an index by stem. */
struct set {
	char *dir;
	char **name;
	size_t n;
	struct stem {
		const char *name;
		size_t len;
		int used;
	} *stem;
};

static int by_stem(const void *a, const void *b)
{
	const struct stem *x = a, *y = b;
	size_t n = x->len < y->len ? x->len : y->len;
	int c = memcmp(x->name, y->name, n);
	return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

static void set_free(struct set *s)
{
	seg_list_free(s->name, s->n);
	free(s->stem);
	free(s->dir);
	*s = (struct set){0};
}

static int set_read(struct set *s, const char *dir, const struct seg_load *o)
{
	size_t all = 0, left = 0;
	*s = (struct set){.dir = seg_strdup(dir)};
	int rc = s->dir ? seg_list_dir(dir, &s->name, &all) : SEG_ENOMEM;
	for (size_t i = 0; rc == SEG_OK && i < all; i++) {
		if (s->name[i][0] != '.' && seg_stem(s->name[i])) {
			s->name[s->n++] = s->name[i];
			continue;
		}
		seg_load_say(o, 0, left++ < 5 ? "%s: %s is not a TIFF file by its name and is left out" : "%s: ...", dir, s->name[i]);
		free(s->name[i]);
	}
	if (rc == SEG_OK && !(s->stem = seg_alloc(s->n, sizeof *s->stem)))
		rc = SEG_ENOMEM;
	for (size_t i = 0; rc == SEG_OK && i < s->n; i++)
		s->stem[i] = (struct stem){s->name[i], seg_stem(s->name[i]), 0};
	if (rc == SEG_OK && s->n)
		qsort(s->stem, s->n, sizeof *s->stem, by_stem);
	for (size_t i = 1; rc == SEG_OK && i < s->n; i++)
		if (by_stem(&s->stem[i - 1], &s->stem[i]) == 0)
			rc = seg_fail(SEG_EDATA, "%s: %s and %s have the same stem; keep one", dir, s->stem[i - 1].name, s->stem[i].name);
	return rc;
}

/* The file of that stem, marked as used; NULL if there is none. */
static const char *set_find(struct set *s, const char *stem, size_t len, int use)
{
	struct stem key = {stem, len, 0}, *found = s->n ? bsearch(&key, s->stem, s->n, sizeof key, by_stem) : NULL;
	if (found && use)
		found->used = 1;
	return found ? found->name : NULL;
}

/* ---- images ---- */

static int add_image(struct seg_pairs *p, const char *dir, const char *name)
{
	struct seg_pair *q = &p->pair[p->n++];
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strrchr(base, '.');
	size_t stem = seg_stem(base);
	if (!stem) /* an operand may be called anything */
		stem = dot && dot > base ? (size_t)(dot - base) : strlen(base);
	q->image = dir ? join(dir, name) : seg_strdup(name);
	q->name = seg_strdup(name);
	q->stem = (size_t)(base - name) + stem;
	return q->image && q->name ? SEG_OK : SEG_ENOMEM;
}

static int find_images(struct seg_pairs *p, const struct seg_load *o)
{
	struct set s = {0};
	int rc = o->images ? set_read(&s, o->images, o) : SEG_OK;
	size_t n = o->images ? s.n : (size_t)o->nfile;
	if (rc == SEG_OK && o->images && !n)
		rc = seg_fail(SEG_EDATA, "%s: no TIFF file (.tif, .tiff, .btf, .tf8) in this directory", o->images);
	if (rc == SEG_OK && !(p->pair = seg_alloc(n, sizeof *p->pair)))
		rc = SEG_ENOMEM;
	for (size_t i = 0; rc == SEG_OK && i < n; i++)
		rc = add_image(p, o->images, o->images ? s.name[i] : o->file[i]);
	set_free(&s);
	return rc;
}

/* ---- truth ---- */

static const char *base_stem(const struct seg_pair *q, size_t *len)
{
	const char *base = strrchr(q->name, '/');
	base = base ? base + 1 : q->name;
	*len = q->stem - (size_t)(base - q->name);
	return base;
}

/* Name of the truth of image q for class k (SEG_MASK_SUFFIX: stem_CLASS), or NULL. */
static const char *partner(const struct seg_pairs *p, struct set *s, const struct seg_pair *q, const char *class, int use)
{
	size_t len;
	const char *stem = base_stem(q, &len), *found = NULL;
	if (p->layout != SEG_MASK_SUFFIX)
		return set_find(s, stem, len, use);
	char *name = seg_format("%.*s_%s", (int)len, stem, class);
	if (name)
		found = set_find(s, name, strlen(name), use);
	free(name);
	return found;
}

/* Truth of one image from the sets; 0 if something is missing. */
static int add_truth(struct seg_pairs *p, struct seg_pair *q, struct set *s, int n, const struct seg_load *o)
{
	q->truth = seg_alloc((size_t)n, sizeof *q->truth);
	if (!q->truth)
		return SEG_ENOMEM;
	for (int k = 0; k < n; k++) {
		struct set *from = p->layout == SEG_MASK_DIRS ? &s[k] : s;
		const char *name = partner(p, from, q, p->layout == SEG_MASK_SUFFIX ? o->classes[k] : NULL, 1);
		if (!name) {
			size_t len;
			const char *stem = base_stem(q, &len);
			return seg_fail(SEG_EDATA, "%s: no partner in %s; looked for the stem '%.*s%s%s'", q->image, from->dir, (int)len, stem,
			    p->layout == SEG_MASK_SUFFIX ? "_" : "", p->layout == SEG_MASK_SUFFIX ? o->classes[k] : "");
		}
		q->truth[q->ntruth] = join(from->dir, name);
		if (!q->truth[q->ntruth++])
			return SEG_ENOMEM;
	}
	return SEG_OK;
}

static void pair_free(struct seg_pair *q)
{
	for (int k = 0; k < q->ntruth; k++)
		free(q->truth[k]);
	free(q->truth);
	free(q->image);
	free(q->name);
	free(q->source);
}

/* Give each image its truth; what has no partner on either side is an error, or left out. */
static int match(struct seg_pairs *p, struct set *s, int nset, int n, const struct seg_load *o)
{
	size_t kept = 0, i = 0;
	int rc = SEG_OK;
	for (; rc == SEG_OK && i < p->n; i++) {
		rc = add_truth(p, &p->pair[i], s, n, o);
		if (rc == SEG_EDATA && o->keep_going) {
			seg_load_say(o, 1, "%s", seg_reason());
			pair_free(&p->pair[i]);
			p->skipped = 1;
			rc = SEG_OK;
			continue;
		}
		p->pair[kept++] = p->pair[i];
	}
	for (; i < p->n; i++) /* only after a failure: all that seg_pairs_free must see */
		p->pair[kept++] = p->pair[i];
	p->n = kept;
	for (int k = 0; rc == SEG_OK && o->images && k < nset; k++)
		for (size_t j = 0; rc == SEG_OK && j < s[k].n; j++) {
			if (s[k].stem[j].used)
				continue;
			rc = seg_fail(SEG_EDATA, "%s/%s: no image in %s has the stem '%.*s'", s[k].dir, s[k].stem[j].name, o->images,
			    (int)s[k].stem[j].len, s[k].stem[j].name);
			if (o->keep_going) {
				seg_load_say(o, 1, "%s", seg_reason());
				p->skipped = 1;
				rc = SEG_OK;
			}
		}
	return rc;
}

/* Sub-directories of the masks, one for each class: as named, or all there are. */
static int class_dirs(struct seg_pairs *p, const struct seg_load *o)
{
	char **name;
	size_t n, k = 0;
	if (o->classes)
		return SEG_OK;
	int rc = seg_list_dir(o->masks, &name, &n);
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		struct stat st;
		char *path = join(o->masks, name[i]);
		if (path && name[i][0] != '.' && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
			name[k++] = name[i];
		else
			free(name[i]);
		free(path);
	}
	if (rc == SEG_OK && !k)
		rc = seg_fail(SEG_EDATA, "%s: neither TIFF files nor a directory for each class", o->masks);
	p->classes = name;
	p->nclass = rc == SEG_OK ? (int)k : 0;
	return rc;
}

static int mask_dirs(struct seg_pairs *p, const struct seg_load *o)
{
	int rc = class_dirs(p, o), n = o->classes ? o->nclass : p->nclass;
	struct set *s = rc == SEG_OK ? seg_alloc((size_t)n, sizeof *s) : NULL;
	if (rc == SEG_OK && !s)
		rc = SEG_ENOMEM;
	for (int k = 0; rc == SEG_OK && k < n; k++) {
		char *dir = join(o->masks, o->classes ? o->classes[k] : p->classes[k]);
		rc = dir ? set_read(&s[k], dir, o) : SEG_ENOMEM;
		free(dir);
	}
	if (rc == SEG_OK)
		rc = match(p, s, n, n, o);
	for (int k = 0; s && k < n; k++)
		set_free(&s[k]);
	free(s);
	return rc;
}

int seg_pairs_find(struct seg_pairs *p, const struct seg_load *o)
{
	const char *dir = o->labels ? o->labels : o->masks;
	struct set s = {0};
	*p = (struct seg_pairs){.layout = o->labels ? SEG_LABEL_FILES : o->masks ? SEG_MASK_FILES : SEG_BARE};
	int rc = find_images(p, o);
	if (rc == SEG_OK && o->sources)
		rc = seg_sources(p, o->sources);
	if (rc < 0 || !dir)
		return rc;
	rc = set_read(&s, dir, o);
	if (rc == SEG_OK && !s.n && o->labels)
		rc = seg_fail(SEG_EDATA, "%s: no TIFF file (.tif, .tiff, .btf, .tf8) in this directory", dir);
	if (rc == SEG_OK && !s.n) {
		p->layout = SEG_MASK_DIRS;
		seg_load_say(o, 0, "pairing: %s/CLASS/NAME.tif is the mask of that class of the image NAME.tif", dir);
		rc = mask_dirs(p, o);
	} else if (rc == SEG_OK) {
		if (o->masks && o->classes && p->n && !partner(p, &s, &p->pair[0], NULL, 0)) {
			p->layout = SEG_MASK_SUFFIX;
			if (!partner(p, &s, &p->pair[0], o->classes[0], 0))
				p->layout = SEG_MASK_FILES; /* neither: the plain name is missed */
		}
		int n = p->layout == SEG_MASK_SUFFIX ? o->nclass : 1;
		seg_load_say(o, 0, "pairing: an image and its truth have the same name up to the ending%s",
		    p->layout == SEG_MASK_SUFFIX ? " and _CLASS" : "");
		rc = match(p, &s, 1, n, o);
	}
	set_free(&s);
	return rc;
}

void seg_pairs_free(struct seg_pairs *p)
{
	for (size_t i = 0; i < p->n; i++)
		pair_free(&p->pair[i]);
	free(p->pair);
	seg_list_free(p->classes, (size_t)p->nclass);
	*p = (struct seg_pairs){0};
}
