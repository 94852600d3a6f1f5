/* A stream to pictures: what each sample holds, decided and written as TIFF. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/math.h"
#include "seg/mem.h"

struct save {
	const struct seg_save *o;
	struct seg_header head;
	unsigned what;
	int background;
	uint8_t (*rgb)[3];     /* 256 colours of label values */
	const char *rule;
	pthread_mutex_t lock;
	uint64_t *name;        /* hashes of the names written, open addressing; under lock */
	size_t nname, room;
};

static const struct {
	unsigned kind;
	const char *name;
} kinds[] = {
	{SEG_SAVE_IMAGE, "image"}, {SEG_SAVE_LABELS, "labels"}, {SEG_SAVE_MASKS, "masks"}, {SEG_SAVE_OVERLAY, "overlay"},
	{SEG_SAVE_PROBABILITIES, "probabilities"}, {SEG_SAVE_TRUTH, "truth"},
};
enum { NKIND = sizeof kinds / sizeof *kinds };

/* ---- names ---- */

/* The real id where the key is made of it, else the key; with the key's ending (page, copy, ...). */
static char *file_name(const struct seg_sample *s, const struct seg_json *j)
{
	char key[SEG_KEY + 1];
	const char *id = seg_json_string(seg_json_get(j, "id"), s->key);
	seg_key(id, "", key);
	size_t n = strlen(key);
	char *name = !strncmp(key, s->key, n) && strlen(id) < 200 ? seg_format("%s%s", id, s->key + n) : seg_strdup(s->key);
	for (char *p = name; name && *p; p++)
		if (*p == '/' || (unsigned char)*p < 32)
			*p = '_';
	if (name && *name == '.')
		*name = '_';
	return name;
}

/* Two samples of one name would be one file.  64 bits of FNV-1a tell names apart. */
static int new_name(struct save *v, const char *name)
{
	uint64_t h = 14695981039346656037u;
	int rc = SEG_OK;
	for (const char *p = name; *p; p++)
		h = (h ^ (unsigned char)*p) * 1099511628211u;
	h += !h;
	pthread_mutex_lock(&v->lock);
	if (2 * (v->nname + 1) > v->room) {
		size_t room = v->room ? 2 * v->room : 1024;
		uint64_t *t = seg_alloc(room, sizeof *t);
		for (size_t i = 0; t && i < v->room; i++)
			if (v->name[i]) {
				size_t at = v->name[i] % room;
				while (t[at])
					at = (at + 1) % room;
				t[at] = v->name[i];
			}
		if (t) {
			free(v->name);
			v->name = t;
			v->room = room;
		} else {
			rc = SEG_ENOMEM;
		}
	}
	if (rc == SEG_OK) {
		size_t at = h % v->room;
		while (v->name[at] && v->name[at] != h)
			at = (at + 1) % v->room;
		if (v->name[at])
			rc = seg_fail(SEG_EDATA, "two samples would both be written to %s.tif", name);
		v->name[at] = h;
		v->nname++;
	}
	pthread_mutex_unlock(&v->lock);
	return rc;
}

/* ---- decisions ---- */

struct guess {
	const struct seg_tensor *p; /* [H,W,K], probabilities or logits */
	int logits;
	struct seg_tensor label, mask; /* made when asked for */
	struct seg_tensor prob;
};

static int nan_at(const struct seg_tensor *p, size_t i)
{
	size_t k = p->dim[2], px = i / k;
	return seg_fail(SEG_EDATA, "prediction of class %zu is NaN at y %zu x %zu", i % k, px / p->dim[1], px % p->dim[1]);
}

static int find_guess(const struct save *v, const struct seg_sample *s, struct guess *g)
{
	*g = (struct guess){.p = seg_sample_tensor(s, "pred.npy")};
	if (!g->p) {
		g->p = seg_sample_tensor(s, "logit.npy");
		g->logits = g->p != NULL;
	}
	if (!g->p)
		return SEG_OK;
	if (g->p->dtype != SEG_F4 || g->p->ndim != 3 || g->p->dim[2] != (size_t)v->head.nclass)
		return seg_fail(SEG_EDATA, "the prediction is not float32 [H,W,%d]", v->head.nclass);
	const float *p = g->p->data;
	for (size_t i = 0; i < seg_tensor_count(g->p); i++)
		if (p[i] != p[i])
			return nan_at(g->p, i);
	return SEG_OK;
}

/* Multiclass: the first maximum. */
static int decide_label(struct guess *g)
{
	size_t n = g->p->dim[0] * g->p->dim[1], nk = g->p->dim[2];
	const float *p = g->p->data;
	int rc = g->label.data ? SEG_OK : seg_tensor_new(&g->label, nk > 256 ? SEG_U2 : SEG_U1, 2, g->p->dim);
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		size_t first = 0;
		for (size_t k = 1; k < nk; k++)
			if (p[i * nk + k] > p[i * nk + first])
				first = k;
		if (nk > 256)
			((uint16_t *)g->label.data)[i] = (uint16_t)first;
		else
			((uint8_t *)g->label.data)[i] = (uint8_t)first;
	}
	return rc;
}

/* Probabilities: as given, or from logits through the head. */
static int probabilities(const struct save *v, struct guess *g, const struct seg_tensor **out)
{
	*out = g->logits ? &g->prob : g->p;
	if (!g->logits || g->prob.data)
		return SEG_OK;
	if (v->head.head != SEG_SIGMOID && v->head.head != SEG_SOFTMAX)
		return seg_fail(SEG_EDATA, "only logits, and the header names no head that makes probabilities of them");
	size_t nk = g->p->dim[2], n = seg_tensor_count(g->p);
	const float *z = g->p->data;
	int rc = seg_tensor_new(&g->prob, SEG_F4, 3, g->p->dim);
	float *p = g->prob.data;
	for (size_t i = 0; rc == SEG_OK && i < n; i += nk) {
		float top = z[i], sum = 0;
		for (size_t k = 1; k < nk; k++)
			top = z[i + k] > top ? z[i + k] : top;
		for (size_t k = 0; k < nk; k++)
			sum += p[i + k] = v->head.head == SEG_SIGMOID ? seg_sigmoidf(z[i + k]) : seg_expf(z[i + k] - top);
		for (size_t k = 0; k < nk && v->head.head == SEG_SOFTMAX; k++)
			p[i + k] /= sum;
	}
	return rc;
}

/* Multilabel: p > 0.5 for each class. */
static int decide_mask(const struct save *v, struct guess *g)
{
	const struct seg_tensor *p;
	int rc = probabilities(v, g, &p);
	if (rc == SEG_OK && !g->mask.data)
		rc = seg_tensor_new(&g->mask, SEG_U1, 3, p->dim);
	for (size_t i = 0; rc == SEG_OK && i < seg_tensor_count(p); i++)
		((uint8_t *)g->mask.data)[i] = ((const float *)p->data)[i] > 0.5f;
	return rc;
}

/* ---- pictures ---- */

/* Channel k of a mask as a page: 0, 255, and 128 where it is ignored. */
static int mask_pages(const struct save *v, const struct seg_tensor *m, struct seg_tensor *page)
{
	size_t n = m->dim[0] * m->dim[1], nk = m->dim[2];
	int rc = SEG_OK;
	for (size_t k = 0; rc == SEG_OK && k < nk; k++) {
		rc = seg_tensor_new(&page[k], SEG_U1, 2, m->dim);
		for (size_t i = 0; rc == SEG_OK && i < n; i++) {
			long t = ((const uint8_t *)m->data)[i * nk + k];
			((uint8_t *)page[k].data)[i] = t == v->head.ignore ? 128 : t ? 255 : 0;
		}
	}
	return rc;
}

static int put_masks(const struct save *v, const char *path, const struct seg_tensor *m, const struct seg_tiff_how *how)
{
	size_t nk = m->dim[2];
	struct seg_tensor *page = seg_alloc(nk, sizeof *page);
	int rc = page ? mask_pages(v, m, page) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_tiff_write(path, page, nk, how);
	for (size_t k = 0; page && k < nk; k++)
		seg_tensor_free(&page[k]);
	free(page);
	return rc;
}

static int put_labels(const struct save *v, const char *path, const struct seg_tensor *t, struct seg_tiff_how *how)
{
	how->palette = (const uint8_t (*)[3])v->rgb;
	how->npalette = 256;
	int rc = seg_tiff_write(path, t, 1, how);
	how->palette = NULL;
	return rc;
}

static int put_truth(const struct save *v, const char *path, const struct seg_tensor *label, const struct seg_tensor *mask, struct seg_tiff_how *how)
{
	how->description = NULL;
	if (label)
		return put_labels(v, path, label, how);
	if (mask->dtype == SEG_U1)
		return put_masks(v, path, mask, how);
	how->planar = 1;
	return seg_tiff_write(path, mask, 1, how);
}

static int put_overlay(const struct save *v, const char *path, const struct seg_sample *s, struct guess *g, struct seg_tiff_how *how)
{
	struct seg_scene c = {.nclass = v->head.nclass, .background = v->background, .beside = v->o->side_by_side,
	                      .name = v->head.classes, .image = seg_sample_tensor(s, "image.npy"),
	                      .truth = {seg_sample_tensor(s, "label.npy"), seg_sample_tensor(s, "mask.npy"), v->head.ignore},
	                      .guess = {NULL, NULL, SEG_NOIGNORE}};
	struct seg_tensor out;
	int rc = SEG_OK;
	if (c.truth.mask && (c.truth.label || c.truth.mask->dtype != SEG_U1))
		c.truth.mask = NULL; /* soft masks have no contours */
	if (!c.image)
		return seg_fail(SEG_EDATA, "no image to draw on");
	if (c.truth.mask && c.truth.mask->dim[2] != (size_t)c.nclass)
		return seg_fail(SEG_EDATA, "mask.npy has %zu classes, the header %d", c.truth.mask->dim[2], c.nclass);
	if (g->p && v->head.task == SEG_MULTICLASS) {
		rc = decide_label(g);
		c.guess.label = &g->label;
	} else if (g->p) {
		rc = decide_mask(v, g);
		c.guess.mask = &g->mask;
	} else if (!c.truth.label && !c.truth.mask) {
		rc = seg_fail(SEG_EDATA, "neither truth nor prediction to draw");
	}
	if (rc == SEG_OK)
		rc = seg_overlay(&c, &out);
	if (rc < 0)
		return rc;
	how->tags = NULL; /* a legend stands below */
	rc = seg_tiff_write(path, &out, 1, how);
	seg_tensor_free(&out);
	return rc;
}

static int put(struct save *v, unsigned kind, const char *path, const struct seg_sample *s, struct guess *g, const struct seg_json *tags)
{
	const struct seg_tensor *image = seg_sample_tensor(s, "image.npy"), *label = seg_sample_tensor(s, "label.npy"),
	                        *mask = seg_sample_tensor(s, "mask.npy"), *p = NULL;
	struct seg_tiff_how how = {.tags = tags, .description = v->rule};
	int rc;
	if (kind & (SEG_SAVE_LABELS | SEG_SAVE_MASKS | SEG_SAVE_PROBABILITIES) && !g->p)
		return seg_fail(SEG_EDATA, "no prediction in this sample; seg-predict adds it, --truth saves the truth");
	switch (kind) {
	case SEG_SAVE_LABELS:
		rc = decide_label(g);
		how.description = "class: the first maximum";
		return rc < 0 ? rc : put_labels(v, path, &g->label, &how);
	case SEG_SAVE_MASKS:
		rc = decide_mask(v, g);
		how.description = "255: p > 0.5";
		return rc < 0 ? rc : put_masks(v, path, &g->mask, &how);
	case SEG_SAVE_PROBABILITIES:
		rc = probabilities(v, g, &p);
		how.description = "probability of each class";
		how.planar = 1;
		return rc < 0 ? rc : seg_tiff_write(path, p, 1, &how);
	case SEG_SAVE_OVERLAY:
		return put_overlay(v, path, s, g, &how);
	case SEG_SAVE_IMAGE:
		how.description = NULL;
		return image ? seg_tiff_write(path, image, 1, &how) : seg_fail(SEG_EDATA, "no image in this sample");
	default:
		return label || mask ? put_truth(v, path, label, mask, &how) : seg_fail(SEG_EDATA, "no truth in this sample");
	}
}

/* ---- the stream ---- */

static int each(void *arg, struct seg_sample *s, int t)
{
	struct save *v = arg;
	struct guess g;
	(void)t;
	struct seg_json *j = seg_sample_json(s);
	char *name = j ? file_name(s, j) : NULL;
	/* tags speak of the whole picture as it was */
	const struct seg_json *tags = seg_json_get(j, "window") || seg_json_get(j, "transforms") ? NULL : seg_json_get(j, "tags");
	int many = (v->what & (v->what - 1)) != 0, rc = name ? new_name(v, name) : j ? SEG_ENOMEM : SEG_EDATA;
	if (rc == SEG_OK)
		rc = find_guess(v, s, &g);
	else
		g = (struct guess){0};
	for (int i = 0; rc == SEG_OK && i < NKIND; i++) {
		if (!(v->what & kinds[i].kind))
			continue;
		char *path = seg_format("%s/%s%s%s.tif", v->o->dir, many ? kinds[i].name : "", many ? "/" : "", name);
		rc = path ? put(v, kinds[i].kind, path, s, &g, tags) : SEG_ENOMEM;
		free(path);
	}
	if (rc < 0)
		seg_where(rc, "sample %s", s->key);
	seg_tensor_free(&g.label);
	seg_tensor_free(&g.mask);
	seg_tensor_free(&g.prob);
	free(name);
	seg_json_free(j);
	return rc < 0 ? rc : 1;
}

static int background(struct save *v)
{
	const char *b = v->o->background;
	v->background = v->head.task == SEG_MULTICLASS && v->head.nclass > 1 ? 0 : SEG_BACKGROUND_NONE;
	if (b)
		v->background = strcmp(b, "none") ? seg_header_class(&v->head, b) : SEG_BACKGROUND_NONE;
	if (b && strcmp(b, "none") && v->background < 0)
		return seg_fail(SEG_EUSAGE, "--background: no class is called '%s'", b);
	return SEG_OK;
}

static int header(void *arg, struct seg_header *h)
{
	struct save *v = arg;
	int rc = h->kind == SEG_STREAM ? seg_header_copy(&v->head, h) : seg_fail(SEG_ECORRUPT, "a model, not a stream of samples");
	if (rc == SEG_OK)
		rc = background(v);
	if (rc == SEG_OK && !(v->rgb = seg_alloc(256, sizeof *v->rgb)))
		rc = SEG_ENOMEM;
	if (rc < 0)
		return rc;
	seg_class_colours(h->nclass < 256 ? h->nclass : 256, v->background, v->rgb);
	if (h->ignore >= h->nclass && h->ignore < 256)
		memset(v->rgb[h->ignore], 128, 3);
	if (!v->what)
		v->what = h->task == SEG_MULTICLASS ? SEG_SAVE_LABELS : SEG_SAVE_MASKS;
	v->rule = h->task == SEG_MULTICLASS ? "prediction: the first maximum" : "prediction: p > 0.5 for each class";
	if (v->o->say)
		v->o->say(v->o->arg, 0, v->rule);
	rc = seg_mkdir(v->o->dir);
	for (int i = 0; rc == SEG_OK && i < NKIND && v->what & (v->what - 1); i++) {
		char *dir = v->what & kinds[i].kind ? seg_format("%s/%s", v->o->dir, kinds[i].name) : NULL;
		if (v->what & kinds[i].kind)
			rc = dir ? seg_mkdir(dir) : SEG_ENOMEM;
		free(dir);
	}
	return rc;
}

int seg_save(const struct seg_save *o)
{
	struct save v = {.o = o, .what = o->what, .lock = PTHREAD_MUTEX_INITIALIZER};
	const struct seg_filter f = {.in = o->in, .out = "", .threads = o->threads, .header = header, .each = each, .arg = &v};
	int rc = seg_filter(&f);
	seg_header_free(&v.head);
	free(v.rgb);
	free(v.name);
	pthread_mutex_destroy(&v.lock);
	return rc;
}
