/* Directories of TIFF to a stream: an ordered pipeline over the pages of the images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"

enum { NVALUE = 65536 };

struct load {
	const struct seg_load *o;
	struct seg_pairs pairs;
	struct seg_map *map;
	struct seg_truth truth;
	struct seg_header head;
	enum seg_dtype type;     /* of all images, as the first has it */
	size_t channels;
	const char *first;       /* its path */
	struct seg_writer *w;
	int skipped;
	/* the image file whose pages are being handed out */
	size_t next;
	struct seg_pair *pair;
	struct seg_tiff *file;
	struct seg_page *page;
	size_t npage, at;
	int rc;                  /* of scanning it: reported behind the pages that were found */
	char *why;
};

/* A page on its way to a sample. */
struct item {
	struct seg_pair *pair;
	struct seg_page page;
	size_t index, npage;
	struct seg_tiff *file;   /* NULL: open it again */
	int rc;                  /* it failed: why */
	char *why;
	struct seg_sample s;
};

/* ---- pages that are pictures ---- */

/* The next page that is no overview or transparency mask: 1, 0, < 0. */
static int next_picture(struct seg_tiff *f, struct seg_page *p)
{
	int rc;
	while ((rc = seg_tiff_page(f, p)) > 0 && p->reduced)
		;
	return rc;
}

/* All of them, or page `only`.  *page is freed by the caller, who may use the *n it has on failure,
 * too. */
static int pictures(struct seg_tiff *f, int only, struct seg_page **page, size_t *n)
{
	struct seg_page p;
	int rc;
	*n = 0;
	while ((rc = next_picture(f, &p)) > 0) {
		if (only && p.number != only)
			continue;
		struct seg_page *more = seg_realloc(*page, *n + 1, sizeof p);
		if (!more)
			return SEG_ENOMEM;
		*page = more;
		more[(*n)++] = p;
	}
	if (rc == 0 && !*n && only)
		return seg_fail(SEG_EDATA, "%s: page %d is not there, or an overview", seg_tiff_path(f), only);
	if (rc == 0 && !*n)
		return seg_fail(SEG_EDATA, "%s: all pages say they are overviews of a picture that is not among them", seg_tiff_path(f));
	return rc;
}

static int same_form(struct load *l, const char *path, const struct seg_page *p)
{
	enum seg_dtype type;
	size_t channels;
	seg_picture_form(p, l->o->raw, &type, &channels);
	if (type == l->type && channels == l->channels)
		return SEG_OK;
	return seg_fail(SEG_EDATA, "%s: page %d: %zu channel%s of %s, but %s has %zu of %s; a stream holds one kind of image%s",
	    path, p->number, channels, channels == 1 ? "" : "s", seg_dtype_text(type), l->first, l->channels,
	    seg_dtype_text(l->type), p->number > 1 && !l->o->page ? " (--page 1 takes the first of each file)" : "");
}

/* ---- truth ---- */

static int same_size(const struct seg_tensor *t, const size_t *dim, const char *image)
{
	if (t->dim[0] == dim[0] && t->dim[1] == dim[1])
		return SEG_OK;
	return seg_fail(SEG_EDATA, "%zux%zu pixels, but the image %s has %zux%zu", t->dim[1], t->dim[0], image, dim[1], dim[0]);
}

/* Samples of a page of truth, checked against its image. */
static int read_truth(struct load *l, struct seg_tiff *f, const struct seg_page *p, const struct item *it, const size_t *dim, struct seg_tensor *t)
{
	int rc = seg_tiff_read(f, t, l->o->raw);
	if (rc < 0)
		return rc;
	if (p->orientation != it->page.orientation && !l->o->raw)
		rc = seg_fail(SEG_EDATA, "Orientation %d, but %d in the image %s; --raw takes rows of both as stored",
		    p->orientation, it->page.orientation, it->pair->image);
	if (rc == SEG_OK)
		rc = same_size(t, dim, it->pair->image);
	if (rc < 0) {
		seg_tensor_free(t);
		seg_where(rc, "%s: page %d", seg_tiff_path(f), p->number);
	}
	return rc;
}

/* The page of the label file that goes with page `index` of the image. */
static int label_page(struct seg_tiff *f, struct seg_page *p, size_t index, size_t npage)
{
	struct seg_page after;
	size_t n = 0;
	int rc = 1;
	while (n <= index && (rc = next_picture(f, p)) > 0)
		n++;
	if (rc == 0)
		return seg_fail(SEG_EDATA, "%s: %zu pages, but the image has %zu", seg_tiff_path(f), n, npage);
	if (rc > 0 && n == npage && !p->last && (rc = next_picture(f, &after)) > 0)
		return seg_fail(SEG_EDATA, "%s: more pages than the %zu of the image", seg_tiff_path(f), npage);
	return rc < 0 ? rc : n == npage && !p->last ? seg_tiff_seek(f, p, p) : SEG_OK;
}

static int read_label(struct load *l, const struct item *it, const size_t *dim, struct seg_tensor *t)
{
	struct seg_tiff *f;
	struct seg_page p;
	int rc = seg_tiff_open(&f, it->pair->truth[0], &l->o->rules);
	if (rc == SEG_OK)
		rc = label_page(f, &p, it->index, it->npage);
	if (rc == SEG_OK)
		rc = read_truth(l, f, &p, it, dim, t);
	if (rc == SEG_OK) {
		rc = seg_label(&p, &l->truth, t);
		if (rc < 0)
			seg_where(rc, "%s: page %d", it->pair->truth[0], p.number);
	}
	seg_tiff_close(f);
	return rc;
}

/* Channels k.. of the mask from one page: its only sample, or all K of them. */
static int mask_page(struct load *l, struct seg_tiff *f, const struct seg_page *p, const struct item *it, struct seg_tensor *mask, size_t k)
{
	struct seg_tensor t;
	size_t n = p->samples == 1 ? 1 : mask->dim[2];
	int rc = read_truth(l, f, p, it, mask->dim, &t);
	if (rc < 0)
		return rc;
	for (size_t i = 0; rc == SEG_OK && i < n; i++)
		rc = seg_mask(p, &l->truth, &t, i, mask, k + i);
	seg_tensor_free(&t);
	return rc < 0 ? seg_where(rc, "%s: page %d", seg_tiff_path(f), p->number) : SEG_OK;
}

/* One file: K pages of one sample, or one page of K samples. */
static int mask_file(struct load *l, const char *path, const struct item *it, size_t nk, size_t k, struct seg_tensor *mask)
{
	struct seg_tiff *f;
	struct seg_page *page = NULL, p;
	size_t n = 0;
	int rc = seg_tiff_open(&f, path, &l->o->rules);
	if (rc == SEG_OK)
		rc = pictures(f, 0, &page, &n);
	if (rc == SEG_OK && !(n == nk && page[0].samples == 1) && !(n == 1 && (size_t)page[0].samples == nk))
		rc = seg_fail(SEG_EDATA, "%s: %zu pages of %d samples; %zu classes need %s", path, n, page[0].samples, nk,
		    nk == 1 ? "one page of one sample" : "one page or one sample for each");
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		rc = seg_tiff_seek(f, &page[i], &p);
		if (rc == SEG_OK && n > 1 && p.samples != 1)
			rc = seg_fail(SEG_EDATA, "%s: page %d: %d samples per pixel; the mask of a class has one", path, p.number, p.samples);
		if (rc == SEG_OK)
			rc = mask_page(l, f, &p, it, mask, k + i);
	}
	free(page);
	seg_tiff_close(f);
	return rc;
}

static int read_masks(struct load *l, const struct item *it, const size_t *dim, struct seg_tensor *mask)
{
	size_t mdim[3] = {dim[0], dim[1], (size_t)l->truth.nclass};
	int rc = SEG_OK;
	*mask = (struct seg_tensor){0};
	if (it->npage > 1)
		return seg_fail(SEG_EDATA, "%s: %zu pages; with --masks an image file has one", it->pair->image, it->npage);
	rc = seg_tensor_new(mask, SEG_U1, 3, mdim);
	if (l->pairs.layout == SEG_MASK_FILES && rc == SEG_OK)
		rc = mask_file(l, it->pair->truth[0], it, mdim[2], 0, mask);
	else
		for (int k = 0; rc == SEG_OK && k < it->pair->ntruth; k++)
			rc = mask_file(l, it->pair->truth[k], it, 1, (size_t)k, mask);
	if (rc < 0)
		seg_tensor_free(mask);
	return rc;
}

/* ---- a page becomes a sample ---- */

static struct seg_json *json(struct load *l, const struct item *it, const size_t *dim)
{
	struct seg_json *j = seg_json_object(), *size = seg_json_array(), *tags = seg_tiff_tags(it->file);
	char *id = seg_format("%.*s", (int)it->pair->stem, it->pair->name);
	if (!j || !id)
		goto done;
	seg_json_set(j, "id", seg_text_json(id));
	seg_json_set(j, "source", seg_text_json(it->pair->source ? it->pair->source : it->pair->name));
	seg_json_set(j, "page", seg_json_int(it->page.number));
	seg_json_add(size, seg_json_int((long long)dim[0]));
	seg_json_add(size, seg_json_int((long long)dim[1]));
	seg_json_set(j, "size", size);
	size = NULL;
	if (it->page.orientation != 1 && !l->o->raw)
		seg_json_set(j, "orientation", seg_json_int(it->page.orientation));
	if (tags && seg_json_size(tags)) {
		seg_json_set(j, "tags", tags);
		tags = NULL;
	}
done:
	free(id);
	seg_json_free(size);
	seg_json_free(tags);
	return j;
}

static int read_image(struct load *l, struct item *it, struct seg_tensor *t)
{
	struct seg_page *p = &it->page;
	int rc = it->file ? SEG_OK : seg_tiff_open(&it->file, it->pair->image, &l->o->rules);
	if (rc == SEG_OK)
		rc = seg_tiff_seek(it->file, p, p);
	if (rc == SEG_OK)
		rc = same_form(l, it->pair->image, p);
	if (rc == SEG_OK)
		rc = seg_tiff_read(it->file, t, l->o->raw);
	if (rc < 0)
		return rc;
	rc = seg_picture(p, l->o->raw, t);
	if (rc < 0)
		seg_where(rc, "%s: page %d", it->pair->image, p->number);
	return rc;
}

static int build(struct load *l, struct item *it)
{
	struct seg_tensor image = {0}, truth = {0};
	struct seg_json *j = NULL;
	char page[24] = "", *id = NULL;
	int rc = read_image(l, it, &image);
	size_t dim[2] = {image.dim[0], image.dim[1]};
	if (rc == SEG_OK && l->pairs.layout != SEG_BARE)
		rc = l->pairs.layout == SEG_LABEL_FILES ? read_label(l, it, dim, &truth) : read_masks(l, it, dim, &truth);
	if (rc < 0)
		goto done;
	rc = SEG_ENOMEM;
	id = seg_format("%.*s", (int)it->pair->stem, it->pair->name);
	j = json(l, it, dim);
	if (!id || !j)
		goto done;
	if (it->npage > 1)
		snprintf(page, sizeof page, "_p%d", it->page.number);
	seg_key(id, page, it->s.key);
	rc = seg_sample_put(&it->s, "image.npy", &image);
	image = (struct seg_tensor){0};
	if (rc == SEG_OK && truth.data) {
		rc = seg_sample_put(&it->s, l->o->labels ? "label.npy" : "mask.npy", &truth);
		truth = (struct seg_tensor){0};
	}
	if (rc == SEG_OK)
		rc = seg_sample_set_json(&it->s, j);
	if (rc == SEG_OK)
		rc = seg_sample_pack(&it->s, l->o->level);
done:
	free(id);
	seg_json_free(j);
	seg_tensor_free(&image);
	seg_tensor_free(&truth);
	return rc;
}

/* ---- the pipeline ---- */

static void item_free(void *arg, void *item)
{
	struct item *it = item;
	(void)arg;
	seg_tiff_close(it->file);
	seg_sample_free(&it->s);
	free(it->why);
	free(it);
}

/* Look at all pages of the next image file. */
static void scan(struct load *l)
{
	free(l->page);
	free(l->why);
	l->page = NULL;
	l->why = NULL;
	l->npage = l->at = 0;
	l->pair = &l->pairs.pair[l->next++];
	l->rc = seg_tiff_open(&l->file, l->pair->image, &l->o->rules);
	if (l->rc == SEG_OK)
		l->rc = pictures(l->file, l->o->page, &l->page, &l->npage);
	if (l->rc < 0) {
		l->why = seg_strdup(seg_reason());
		seg_tiff_close(l->file);
		l->file = NULL;
	}
}

static int next(void *arg, void **out)
{
	struct load *l = arg;
	while (l->at == l->npage && l->rc == SEG_OK) {
		if (l->next == l->pairs.n)
			return 0;
		scan(l);
	}
	struct item *it = seg_alloc(1, sizeof *it);
	if (!it)
		return SEG_ENOMEM;
	it->pair = l->pair;
	it->npage = l->npage;
	if (l->at == l->npage) { /* what came after these pages */
		it->rc = l->rc;
		it->why = l->why;
		l->why = NULL;
		l->rc = SEG_OK;
	} else {
		it->index = l->at;
		it->page = l->page[l->at++];
		if (l->at == l->npage) {
			it->file = l->file;
			l->file = NULL;
		}
	}
	*out = it;
	return 1;
}

static int work(void *arg, void *item, int t)
{
	struct load *l = arg;
	struct item *it = item;
	(void)t;
	if (it->rc == SEG_OK)
		it->rc = build(l, it);
	else
		seg_fail(it->rc, "%s", it->why ? it->why : "out of memory");
	if (it->rc == SEG_EDATA && l->o->keep_going) {
		free(it->why);
		it->why = seg_strdup(seg_reason());
		return it->why ? SEG_OK : SEG_ENOMEM;
	}
	return it->rc;
}

static int sink(void *arg, void *item)
{
	struct load *l = arg;
	struct item *it = item;
	int rc = SEG_OK;
	if (it->rc < 0) {
		l->skipped = 1;
		seg_load_say(l->o, 1, "%s", it->why);
	} else {
		rc = seg_write(l->w, &it->s);
	}
	item_free(NULL, it);
	return rc;
}

/* ---- before the first sample: the header ---- */

/* Type and channels of the first image that can be read. */
static int look_at_images(struct load *l)
{
	int rc = seg_fail(SEG_EDATA, "no image is left");
	for (size_t i = 0; i < l->pairs.n && !l->first; i++) {
		struct seg_tiff *f;
		struct seg_page *page = NULL;
		size_t n = 0;
		rc = seg_tiff_open(&f, l->pairs.pair[i].image, &l->o->rules);
		if (rc == SEG_OK)
			rc = pictures(f, l->o->page, &page, &n);
		if (n) { /* a broken later page is met when its turn comes */
			seg_picture_form(&page[0], l->o->raw, &l->type, &l->channels);
			l->first = l->pairs.pair[i].image;
			rc = SEG_OK;
		}
		free(page);
		seg_tiff_close(f);
		if (rc < 0 && !(rc == SEG_EDATA && l->o->keep_going))
			return rc;
	}
	return rc;
}

/* Pages or samples of the first masks that can be read. */
static int count_masks(struct load *l)
{
	int rc = SEG_EDATA;
	for (size_t i = 0; i < l->pairs.n && !l->truth.nclass; i++) {
		struct seg_tiff *f;
		struct seg_page *page = NULL;
		size_t n = 0;
		rc = seg_tiff_open(&f, l->pairs.pair[i].truth[0], &l->o->rules);
		if (rc == SEG_OK)
			rc = pictures(f, 0, &page, &n);
		if (rc == SEG_OK)
			l->truth.nclass = n > 1 ? (int)n : page[0].samples;
		free(page);
		seg_tiff_close(f);
		if (rc < 0 && !(rc == SEG_EDATA && l->o->keep_going))
			return rc;
	}
	return rc;
}

struct count {
	struct load *l;
	unsigned char **seen; /* one for each thread */
};

/* Mark the class numbers of one label file. */
static int count_file(void *arg, size_t i, int t)
{
	struct count *c = arg;
	struct load *l = c->l;
	struct seg_tiff *f;
	struct seg_page p;
	struct seg_tensor raw;
	int rc = seg_tiff_open(&f, l->pairs.pair[i].truth[0], &l->o->rules);
	while (rc >= 0 && (rc = next_picture(f, &p)) > 0) {
		rc = seg_tiff_read(f, &raw, 1);
		if (rc < 0)
			break;
		rc = seg_label_count(&p, &l->truth, &raw, c->seen[t]);
		seg_tensor_free(&raw);
		if (rc < 0)
			seg_where(rc, "%s: page %d", l->pairs.pair[i].truth[0], p.number);
	}
	seg_tiff_close(f);
	return rc == SEG_EDATA && l->o->keep_going ? SEG_OK : rc; /* it is skipped when its turn comes */
}

/* As many classes as numbers occur; a gap means that they are not class numbers, or not all. */
static int count_labels(struct load *l)
{
	int threads = l->o->threads < 1 ? 1 : l->o->threads, rc = SEG_OK, top = -1, gap = -1;
	struct count c = {l, seg_alloc((size_t)threads, sizeof *c.seen)};
	unsigned char *all = seg_alloc((size_t)threads, NVALUE);
	if (!all || !c.seen)
		rc = SEG_ENOMEM;
	for (int t = 0; rc == SEG_OK && t < threads; t++)
		c.seen[t] = all + (size_t)t * NVALUE;
	if (rc == SEG_OK)
		rc = seg_parallel(threads, l->pairs.n, count_file, &c);
	for (int v = NVALUE - 1; rc == SEG_OK && v >= 0; v--) {
		int any = 0;
		for (int t = 0; t < threads; t++)
			any |= c.seen[t][v];
		if (any && top < 0)
			top = v;
		if (!any && top >= 0)
			gap = v;
	}
	free(all);
	free(c.seen);
	if (rc < 0)
		return rc;
	if (top < 0)
		return seg_fail(SEG_EDATA, "%s: every pixel is ignored; --classes says what classes there are", l->o->labels);
	if (gap >= 0)
		return seg_fail(SEG_EDATA, "%s: labels go up to %d but %d does not occur; --classes NAME,... says what classes "
		    "there are, --map %d=CLASS renumbers", l->o->labels, top, gap, top);
	l->truth.nclass = top + 1;
	seg_load_say(l->o, 0, "%s: %d classes, counted: 0 to %d all occur", l->o->labels, top + 1, top);
	return SEG_OK;
}

static int classes(struct load *l)
{
	const struct seg_load *o = l->o;
	const char *const *names = o->classes;
	int n = o->nclass, rc = SEG_OK;
	if (!names && l->pairs.layout == SEG_MASK_DIRS) {
		if (n && n != l->pairs.nclass)
			return seg_fail(SEG_EDATA, "%s: %d directories of masks, but --classes says %d", o->masks, l->pairs.nclass, n);
		n = l->pairs.nclass;
		names = (const char *const *)l->pairs.classes;
	}
	l->truth.nclass = n;
	if (!n && l->pairs.layout == SEG_LABEL_FILES)
		rc = count_labels(l);
	else if (!n && l->pairs.layout != SEG_BARE)
		rc = count_masks(l);
	if (rc < 0)
		return rc;
	return l->truth.nclass ? seg_header_classes(&l->head, names, l->truth.nclass) : SEG_OK;
}

/* What ignored pixels are in the files, and what they are called in the stream. */
static int ignore(struct load *l)
{
	const struct seg_load *o = l->o;
	int mapped = l->map && l->map->other == SEG_MAP_IGNORE;
	for (int i = 0; l->map && i < SEG_MAP_N; i++)
		mapped |= l->map->to[i] == SEG_MAP_IGNORE;
	l->truth.stored = o->ignore != SEG_NOIGNORE ? o->ignore : !mapped ? SEG_NOIGNORE : l->truth.nclass > 255 ? 65535 : 255;
	l->head.ignore = l->truth.stored;
	if (o->ignore != SEG_NOIGNORE && o->ignore < (o->masks ? 2 : l->truth.nclass))
		return seg_fail(SEG_EUSAGE, "--ignore %ld is the number of a class; --map %ld=ignore does not keep it", o->ignore, o->ignore);
	if (o->masks && l->truth.stored > 255)
		return seg_fail(SEG_EUSAGE, "--ignore %ld does not fit into a mask; --map %ld=ignore does not keep it", o->ignore, o->ignore);
	return SEG_OK;
}

static int sign(struct load *l)
{
	const struct seg_load *o = l->o;
	struct seg_json *j = seg_json_object();
	if (j && o->labels)
		seg_json_set(j, "truth", seg_json_str("labels"));
	if (j && o->masks)
		seg_json_set(j, "truth", seg_json_str("masks"));
	if (j && o->map)
		seg_json_set(j, "map", seg_text_json(o->map));
	if (j && o->page)
		seg_json_set(j, "page", seg_json_int(o->page));
	if (j && o->raw)
		seg_json_set(j, "raw", seg_json_bool(1));
	if (j && o->sources)
		seg_json_set(j, "sources", seg_json_bool(1));
	if (j && o->rules.tolerant)
		seg_json_set(j, "tolerant", seg_json_bool(1));
	return seg_header_sign(&l->head, "seg-load", j);
}

static int header(struct load *l)
{
	l->head = (struct seg_header){.kind = SEG_STREAM, .ignore = SEG_NOIGNORE,
	                              .task = l->o->masks ? SEG_MULTILABEL : SEG_MULTICLASS};
	int rc = look_at_images(l);
	if (rc == SEG_OK)
		rc = classes(l);
	if (rc == SEG_OK)
		rc = ignore(l);
	if (rc == SEG_OK && !l->head.more && !(l->head.more = seg_json_object()))
		rc = SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_json_set(l->head.more, "range", seg_json_str(l->type == SEG_U1 ? "u1" : l->type == SEG_U2 ? "u2" : "f4"));
	return rc == SEG_OK ? sign(l) : rc;
}

int seg_load(const struct seg_load *o)
{
	struct load l = {.o = o, .truth = {.ignore = o->ignore, .raw = o->raw}};
	const struct seg_flow flow = {next, work, sink, item_free, &l};
	int rc = SEG_OK;
	if (o->map && !(l.map = seg_alloc(1, sizeof *l.map)))
		return SEG_ENOMEM;
	if (o->map)
		rc = seg_map_parse(l.map, o->map);
	l.truth.map = l.map;
	if (rc == SEG_OK)
		rc = seg_pairs_find(&l.pairs, o);
	if (rc == SEG_OK)
		rc = header(&l);
	if (rc == SEG_OK)
		rc = seg_writer_open(&l.w, o->out, &l.head);
	if (rc == SEG_OK) {
		rc = seg_flow(&flow, o->threads < 1 ? 1 : o->threads);
		if (rc == SEG_OK)
			rc = seg_writer_close(l.w);
		else
			seg_writer_abort(l.w);
	}
	seg_tiff_close(l.file);
	free(l.page);
	free(l.why);
	seg_header_free(&l.head);
	int skipped = l.skipped || l.pairs.skipped;
	seg_pairs_free(&l.pairs);
	free(l.map);
	return rc == SEG_OK && skipped ? seg_fail(SEG_ESKIPPED, "some inputs were skipped") : rc;
}
