/* The table of transforms, and what applies them to a sample. */
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "seg/transform.h"

enum { T = SEG_MOVE_TRANSPOSE, V = SEG_MOVE_VFLIP, H = SEG_MOVE_HFLIP };

/* ---- what is drawn ---- */

static int flip(struct seg_rng *r, int *move, double *drawn)
{
	drawn[0] = seg_rng_below(r, 2);
	drawn[1] = seg_rng_below(r, 2);
	*move = (drawn[0] != 0 ? H : 0) | (drawn[1] != 0 ? V : 0);
	return 2;
}

static int hflip(struct seg_rng *r, int *move, double *drawn)
{
	(void)r, (void)drawn;
	*move = H;
	return 0;
}

static int vflip(struct seg_rng *r, int *move, double *drawn)
{
	(void)r, (void)drawn;
	*move = V;
	return 0;
}

static int transpose(struct seg_rng *r, int *move, double *drawn)
{
	(void)r, (void)drawn;
	*move = T;
	return 0;
}

/* Quarter turns to the left, as numpy.rot90 counts them. */
static int rot90(struct seg_rng *r, int *move, double *drawn)
{
	static const int turn[4] = {0, T | V, V | H, T | H};
	uint32_t k = seg_rng_below(r, 4);
	*move = turn[k];
	drawn[0] = k;
	return 1;
}

static double between(struct seg_rng *r, const double *arg)
{
	return arg[0] + (arg[1] - arg[0]) * seg_rng_unit(r);
}

static int gamma_(const double *arg, struct seg_rng *r, double mean, struct seg_tone *tone, double *drawn)
{
	(void)mean;
	drawn[0] = tone->gamma = between(r, arg);
	return 1;
}

static int brightness(const double *arg, struct seg_rng *r, double mean, struct seg_tone *tone, double *drawn)
{
	(void)mean;
	drawn[0] = tone->offset = between(r, arg);
	return 1;
}

static int contrast(const double *arg, struct seg_rng *r, double mean, struct seg_tone *tone, double *drawn)
{
	drawn[0] = tone->gain = between(r, arg);
	tone->offset = mean * (1 - tone->gain);
	return 1;
}

static int noise(const double *arg, struct seg_rng *r, double mean, struct seg_tone *tone, double *drawn)
{
	(void)r, (void)mean;
	drawn[0] = tone->sigma = arg[0];
	return 1;
}

#define MOVES "moved alike"
#define STAYS "untouched"
static const struct seg_transform_kind table[] = {
	{"brightness", "lo,hi", 2, -1, 1, 1, "x + b, b drawn from lo..hi (1: the whole range)", STAYS, NULL, brightness},
	{"contrast", "lo,hi", 2, 0, 100, 1, "mean + c (x - mean), c drawn from lo..hi", STAYS, NULL, contrast},
	{"flip", "", 0, 0, 0, 1, "mirrored left-right and up-down, each with probability 0.5", MOVES, flip, NULL},
	{"gamma", "lo,hi", 2, 0.01, 100, 1, "x^g, x in 0..1, g drawn from lo..hi", STAYS, NULL, gamma_},
	{"hflip", "", 0, 0, 0, 0.5, "mirrored left-right", MOVES, hflip, NULL},
	{"noise", "sigma", 1, 0, 1, 1, "x + sigma * normal noise (1: the whole range)", STAYS, NULL, noise},
	{"rot90", "", 0, 0, 0, 1, "turned by 0, 90, 180 or 270 degrees", MOVES, rot90, NULL},
	{"transpose", "", 0, 0, 0, 0.5, "rows become columns", MOVES, transpose, NULL},
	{"vflip", "", 0, 0, 0, 0.5, "mirrored up-down", MOVES, vflip, NULL},
};

const struct seg_transform_kind *seg_transform_list(size_t *n)
{
	*n = sizeof table / sizeof *table;
	return table;
}

/* ---- words ---- */

static const char *number(const char *at, double *v)
{
	char *end;
	if (*at == ' ' || *at == '+')
		return NULL;
	*v = strtod(at, &end);
	return end == at || *v - *v != 0 ? NULL : end;
}

int seg_transform_parse(struct seg_transform *t, const char *word)
{
	size_t len = strcspn(word, "(@"), n;
	const struct seg_transform_kind *k = seg_transform_list(&n), *end = k + n;
	while (k < end && (strlen(k->name) != len || strncmp(k->name, word, len) != 0))
		k++;
	if (k == end)
		return seg_fail(SEG_EUSAGE, "'%.*s' is not a transform (see --list)", (int)len, word);
	*t = (struct seg_transform){.kind = k, .p = k->p};
	const char *at = word + len;
	if ((*at == '(') != (k->narg > 0))
		return seg_fail(SEG_EUSAGE, "'%s': write %s%s%s%s", word, k->name, k->narg ? "(" : "", k->args,
		    k->narg ? ")" : "");
	for (int i = 0; i < k->narg; i++) {
		at = number(at + 1, &t->arg[i]);
		if (!at || *at != (i + 1 < k->narg ? ',' : ')') || t->arg[i] < k->least || t->arg[i] > k->most)
			return seg_fail(SEG_EUSAGE, "'%s': write %s(%s) with numbers from %g to %g", word, k->name,
			    k->args, k->least, k->most);
	}
	if (k->narg == 2 && t->arg[0] > t->arg[1])
		return seg_fail(SEG_EUSAGE, "'%s': %g is above %g", word, t->arg[0], t->arg[1]);
	at += k->narg > 0;
	if (*at == '@') {
		at = number(at + 1, &t->p);
		if (!at || t->p < 0 || t->p > 1)
			return seg_fail(SEG_EUSAGE, "'%s': after @ comes a probability from 0 to 1", word);
	}
	return *at ? seg_fail(SEG_EUSAGE, "'%s': '%s' is left over", word, at) : SEG_OK;
}

/* ---- a sample at work ---- */

enum { IMAGE, LABEL, MASK, WEIGHT, NPART };
static const char *const part_name[NPART] = {"image.npy", "label.npy", "mask.npy", "weight.npy"};

/* A sample's tensors; those that changed are ours. */
struct work {
	struct seg_tensor t[NPART]; /* ndim 0: none */
	int ours[NPART];
};

static int gather(const struct seg_sample *s, struct work *w)
{
	memset(w, 0, sizeof *w);
	for (int i = 0; i < s->nentry; i++) {
		const struct seg_entry *e = &s->entry[i];
		int p = 0;
		if (!e->is_tensor)
			continue;
		while (p < NPART && strcmp(e->suffix, part_name[p]) != 0)
			p++;
		if (p == NPART)
			return seg_fail(SEG_EDATA, "sample %s: %s would not fit the changed picture; "
			    "augment before seg-predict and seg-loss", s->key, e->suffix);
		w->t[p] = e->t;
		const struct seg_tensor *a = &w->t[IMAGE];
		if (e->t.ndim < 2 || e->t.ndim > 3)
			return seg_fail(SEG_EDATA, "sample %s: %s has %d axes, expected 2 or 3", s->key, e->suffix, e->t.ndim);
		if (a->ndim && (e->t.dim[0] != a->dim[0] || e->t.dim[1] != a->dim[1]))
			return seg_fail(SEG_EDATA, "sample %s: %s is %zux%zu, but image.npy is %zux%zu", s->key,
			    e->suffix, e->t.dim[0], e->t.dim[1], a->dim[0], a->dim[1]);
	}
	return w->t[IMAGE].ndim ? SEG_OK : seg_fail(SEG_EDATA, "sample %s: has no image.npy", s->key);
}

static void replace(struct work *w, int p, struct seg_tensor *by)
{
	if (w->ours[p])
		seg_tensor_free(&w->t[p]);
	w->t[p] = *by;
	w->ours[p] = 1;
}

/* n pixels of a constant size, from places `step` bytes apart. */
static inline void pixels(char *restrict to, const char *restrict from, ptrdiff_t step, size_t n, size_t size)
{
	for (; n; n--, to += size, from += step)
		memcpy(to, from, size);
}

static void copy_row(char *to, const char *from, ptrdiff_t step, size_t n, size_t size)
{
	switch (size) {
	case 1: pixels(to, from, step, n, 1); break;
	case 2: pixels(to, from, step, n, 2); break;
	case 3: pixels(to, from, step, n, 3); break;
	case 4: pixels(to, from, step, n, 4); break;
	default: pixels(to, from, step, n, size);
	}
}

static int move(struct work *w, int p, int how)
{
	const struct seg_tensor *from = &w->t[p];
	struct seg_tensor to;
	size_t dim[3] = {from->dim[how & T ? 1 : 0], from->dim[how & T ? 0 : 1], from->ndim == 3 ? from->dim[2] : 1};
	size_t size = seg_dtype_size(from->dtype) * dim[2]; /* bytes of a pixel */
	int rc = seg_tensor_new(&to, from->dtype, from->ndim, dim);
	if (rc < 0)
		return rc;
	size_t down = how & T ? size : dim[1] * size, along = how & T ? dim[0] * size : size;
	for (size_t y = 0; y < dim[0]; y++) {
		size_t v = how & V ? dim[0] - 1 - y : y, u = how & H ? dim[1] - 1 : 0;
		copy_row((char *)to.data + y * dim[1] * size, (const char *)from->data + v * down + u * along,
		    how & H ? -(ptrdiff_t)along : (ptrdiff_t)along, dim[1], size);
	}
	replace(w, p, &to);
	return SEG_OK;
}

static double value(const struct seg_tensor *t, size_t i)
{
	return t->dtype == SEG_U1 ? ((const uint8_t *)t->data)[i] : t->dtype == SEG_U2 ?
	    ((const uint16_t *)t->data)[i] : (double)((const float *)t->data)[i];
}

/* Range of the image, and the mean of its values as a fraction of it. */
static int survey(const struct seg_tensor *t, double *lo, double *hi, double *mean)
{
	size_t n = seg_tensor_count(t), channels = t->ndim == 3 ? t->dim[2] : 1;
	double sum = 0, least = 0, most = t->dtype == SEG_U1 ? 255 : t->dtype == SEG_U2 ? 65535 : 1;
	if (t->dtype != SEG_U1 && t->dtype != SEG_U2 && t->dtype != SEG_F4)
		return seg_fail(SEG_EDATA, "image.npy is %s, expected |u1, <u2 or <f4", seg_dtype_text(t->dtype));
	*lo = least;
	*hi = most;
	for (size_t i = 0; i < n; i++) {
		double v = value(t, i);
		if (v - v != 0)
			return seg_fail(SEG_EDATA, "image.npy is not finite at y %zu x %zu, channel %zu",
			    i / channels / t->dim[1], i / channels % t->dim[1], i % channels);
		least = i == 0 || v < least ? v : least;
		most = i == 0 || v > most ? v : most;
		sum += v;
	}
	if (least < *lo || most > *hi) { /* <f4 beyond 0..1 */
		*lo = least;
		*hi = most;
	}
	*mean = n && *hi > *lo ? (sum / (double)n - *lo) / (*hi - *lo) : 0;
	return SEG_OK;
}

static double clip(double x)
{
	return x < 0 ? 0 : x > 1 ? 1 : x;
}

static double toned(const struct seg_tone *m, double x)
{
	return clip(m->gain * (m->gamma == 1 ? x : seg_pow(x, m->gamma)) + m->offset);
}

static void store(struct seg_tensor *t, size_t i, double x, double lo, double hi)
{
	double v = lo + x * (hi - lo);
	if (t->dtype == SEG_U1)
		((uint8_t *)t->data)[i] = (uint8_t)(v + 0.5);
	else if (t->dtype == SEG_U2)
		((uint16_t *)t->data)[i] = (uint16_t)(v + 0.5);
	else
		((float *)t->data)[i] = (float)v;
}

/* New values from old; whole numbers through a table, for x^g is dear. */
static int retouch(struct seg_tensor *to, const struct seg_tensor *from, const struct seg_tone *m, struct seg_rng *r,
    double lo, double hi)
{
	size_t n = seg_tensor_count(from), levels = from->dtype == SEG_F4 ? 0 : (size_t)hi + 1;
	double *table_of = seg_alloc(levels, sizeof *table_of);
	if (!table_of)
		return SEG_ENOMEM;
	for (size_t i = 0; i < levels; i++)
		table_of[i] = toned(m, (double)i / hi);
	for (size_t i = 0; i < n; i++) {
		double v = value(from, i), x = levels ? table_of[(size_t)v] : toned(m, (v - lo) / (hi - lo));
		store(to, i, m->sigma > 0 ? clip(x + m->sigma * seg_rng_normal(r)) : x, lo, hi);
	}
	free(table_of);
	return SEG_OK;
}

/* 1: the picture was moved; 0: it was not. */
static int apply(const struct seg_transform *t, struct seg_rng *r, struct work *w, double *drawn, int *ndrawn)
{
	int rc = SEG_OK;
	if (t->kind->geometric) {
		int how = 0;
		*ndrawn = t->kind->geometric(r, &how, drawn);
		for (int p = 0; p < NPART && how && rc == SEG_OK; p++)
			if (w->t[p].ndim)
				rc = move(w, p, how);
		return rc < 0 ? rc : how != 0;
	}
	struct seg_tone m = {.gamma = 1, .gain = 1};
	struct seg_tensor to, *image = &w->t[IMAGE];
	double lo = 0, hi = 0, mean = 0;
	if ((rc = survey(image, &lo, &hi, &mean)) < 0)
		return rc;
	*ndrawn = t->kind->photometric(t->arg, r, mean, &m, drawn);
	if (hi <= lo)
		return SEG_OK; /* one value beyond 0..1: no range to work in */
	if ((rc = seg_tensor_new(&to, image->dtype, image->ndim, image->dim)) < 0)
		return rc;
	if ((rc = retouch(&to, image, &m, r, lo, hi)) < 0)
		seg_tensor_free(&to);
	else
		replace(w, IMAGE, &to);
	return rc;
}

static int note(struct seg_json *record, const char *name, const double *drawn, int n)
{
	struct seg_json *o = seg_json_object(), *args = seg_json_array();
	int bad = seg_json_set(o, "name", seg_json_str(name));
	for (int i = 0; i < n; i++)
		bad |= seg_json_add(args, seg_json_num(drawn[i]));
	bad |= seg_json_set(o, "args", args);
	return bad | seg_json_add(record, o) ? SEG_ENOMEM : SEG_OK;
}

int seg_transform_apply(const struct seg_transform *t, int n, uint64_t seed, uint64_t epoch, uint64_t copy,
    struct seg_sample *s, struct seg_json *record)
{
	struct work w;
	int rc = gather(s, &w), moved = 0;
	for (int i = 0; i < n && rc == SEG_OK; i++) {
		struct seg_rng r;
		double drawn[2];
		int ndrawn = 0;
		seg_rng_start(&r, seed, "augment", s->key, epoch, copy, (uint64_t)i);
		if (seg_rng_unit(&r) >= t[i].p)
			continue;
		rc = apply(&t[i], &r, &w, drawn, &ndrawn);
		moved |= rc > 0;
		rc = rc < 0 ? seg_where(rc, "sample %s: %s", s->key, t[i].kind->name)
		            : note(record, t[i].kind->name, drawn, ndrawn);
	}
	for (int p = 0; p < NPART; p++) {
		if (w.ours[p] && rc == SEG_OK)
			rc = seg_sample_put(s, part_name[p], &w.t[p]); /* takes it, come what may */
		else if (w.ours[p])
			seg_tensor_free(&w.t[p]);
	}
	return rc < 0 ? rc : moved;
}
