/* A loss, evaluated, explained and taken apart over a stream. */
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/report.h"

/* ---- samples of a stream as a source ---- */

int seg_feed_new(struct seg_feed *f, const struct seg_index *x, const char *name, int threads)
{
	*f = (struct seg_feed){.index = x, .name = name, .threads = threads > 1 ? threads : 1};
	f->sample = seg_alloc((size_t)f->threads, sizeof *f->sample);
	f->area = seg_alloc(seg_index_count(x), sizeof *f->area);
	return f->sample && f->area ? SEG_OK : SEG_ENOMEM;
}

void seg_feed_free(struct seg_feed *f)
{
	for (int t = 0; f->sample && t < f->threads; t++)
		seg_sample_free(&f->sample[t]);
	free(f->sample);
	free(f->area);
	memset(f, 0, sizeof *f);
}

static int get(void *arg, size_t i, int t, struct seg_loss_sample *s)
{
	struct seg_feed *f = arg;
	int rc = seg_index_read(f->index, f->first + i, &f->sample[t]);
	if (rc == SEG_OK)
		rc = seg_sample_open(&f->sample[t]);
	if (rc == SEG_OK)
		rc = seg_bind(seg_index_header(f->index), &f->sample[t], 1, 1, s);
	if (rc < 0)
		return seg_where(rc, "%s", f->name);
	s->index = i;
	f->area[f->first + i] = s->h * s->w;
	unsigned axes = seg_bind_weight(&f->sample[t]);
	if (!f->bound) /* the first sample, read before all others, speaks for them */
		f->w_axes = axes;
	f->bound = 1;
	if (axes != f->w_axes) {
		rc = seg_fail(SEG_EDATA, "%s: sample %s: weight.npy has other axes than that of the first sample, or "
		    "one of the two has none", f->name, s->key);
		seg_unbind(s);
	}
	return rc;
}

static void put(void *arg, size_t i, int t, struct seg_loss_sample *s)
{
	(void)arg, (void)i, (void)t;
	seg_unbind(s);
}

struct seg_loss_source seg_feed_source(struct seg_feed *f, size_t first, size_t n)
{
	f->first = first;
	return (struct seg_loss_source){n, get, put, f};
}

/* ---- one pass that gathers ledger, explanation and confusion ---- */

struct gather {
	struct seg_audit *a;
	const struct seg_loss_state *st;
	const struct seg_loss_source *src;
	size_t first;       /* of the samples now in parallel */
	double **ledger, **explain;
	struct seg_confusion *confusion;
	struct seg_worst *worst;
};

static int look(void *arg, size_t j, int t)
{
	struct gather *g = arg;
	struct seg_audit *a = g->a;
	struct seg_loss_sample s;
	float *dz = NULL;
	double *map = NULL;
	int rc = g->src->get(g->src->arg, g->first + j, t, &s);
	if (rc < 0)
		return rc;
	dz = seg_alloc(s.h * s.w, (size_t)a->header->nclass * sizeof *dz);
	rc = dz ? seg_loss_gradient(a->l, g->st, &s, dz) : SEG_ENOMEM;
	if (rc == SEG_OK && a->worst.cap && !(map = seg_alloc(s.h * s.w, sizeof *map)))
		rc = SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_ledger_sample(a->ledger, g->st, &s, dz, g->ledger[j], map);
	if (rc == SEG_OK && a->explain)
		rc = seg_explain_sample(a->explain, g->st, &s, dz, g->explain[j]);
	if (rc == SEG_OK)
		rc = seg_confusion_add(&g->confusion[j], &s, NULL);
	if (rc == SEG_OK && a->worst.cap) {
		seg_worst_clear(&g->worst[j]);
		seg_worst_sample(&g->worst[j], a->ledger, &s, g->ledger[j], map, &g->confusion[j]);
	}
	if (rc == SEG_OK && !(a->key[g->first + j] = seg_strdup(s.key)))
		rc = SEG_ENOMEM;
	free(map);
	free(dz);
	g->src->put(g->src->arg, g->first + j, t, &s);
	return rc;
}

static int gather_room(struct gather *g, size_t n)
{
	g->ledger = seg_alloc(n, sizeof *g->ledger);
	g->explain = seg_alloc(n, sizeof *g->explain);
	g->confusion = seg_alloc(n, sizeof *g->confusion);
	g->worst = seg_alloc(n, sizeof *g->worst);
	if (!g->ledger || !g->explain || !g->confusion || !g->worst)
		return SEG_ENOMEM;
	for (size_t j = 0; j < n; j++) {
		g->ledger[j] = seg_alloc(seg_ledger_block(g->a->ledger), sizeof **g->ledger);
		g->explain[j] = seg_alloc(g->a->explain ? seg_explain_block(g->a->explain) : 0, sizeof **g->explain);
		if (!g->ledger[j] || !g->explain[j] ||
		    (g->a->worst.cap && seg_worst_new(&g->worst[j], g->a->worst.cap) < 0))
			return SEG_ENOMEM;
	}
	return SEG_OK;
}

/* In chunks of as many samples as threads: parts are made in parallel and added in order. */
static int gather(struct seg_audit *a, const struct seg_loss_state *st, const struct seg_loss_source *src,
    int threads)
{
	struct gather g = {.a = a, .st = st, .src = src};
	size_t chunk = (size_t)(threads > 1 ? threads : 1);
	int nk = a->header->nclass, multi = a->header->task == SEG_MULTILABEL, rc = gather_room(&g, chunk);
	if (rc == SEG_OK)
		rc = seg_confusion_new(&a->confusion, nk, multi);
	for (; rc == SEG_OK && g.first < src->n; g.first += chunk) {
		size_t n = src->n - g.first < chunk ? src->n - g.first : chunk;
		for (size_t j = 0; rc == SEG_OK && j < n; j++)
			rc = seg_confusion_new(&g.confusion[j], nk, multi);
		if (rc == SEG_OK)
			rc = seg_parallel(threads, n, look, &g);
		for (size_t j = 0; j < n; j++) {
			if (rc == SEG_OK) {
				seg_ledger_add(a->ledger, g.ledger[j], 1);
				a->of_sample[g.first + j] = seg_ledger_of_sample(a->ledger, g.ledger[j]);
				seg_confusion_merge(&a->confusion, &g.confusion[j]);
				seg_worst_merge(&a->worst, &g.worst[j]);
			}
			if (rc == SEG_OK && a->explain)
				seg_explain_add(a->explain, g.explain[j]);
			seg_confusion_free(&g.confusion[j]);
		}
	}
	for (size_t j = 0; j < chunk; j++) {
		if (g.ledger)
			free(g.ledger[j]);
		if (g.explain)
			free(g.explain[j]);
		if (g.worst)
			seg_worst_free(&g.worst[j]);
	}
	free(g.ledger);
	free(g.explain);
	free(g.confusion);
	free(g.worst);
	return rc;
}

/* What needs a sample but is the same for all. */
static int rest(struct seg_audit *a, const struct seg_loss_state *st, const struct seg_loss_source *src)
{
	struct seg_loss_sample s;
	const char *const *classes = (const char *const *)a->header->classes;
	int rc = src->get(src->arg, 0, 0, &s);
	if (rc < 0)
		return rc;
	seg_worst_rows(&a->worst, a->ledger);
	rc = seg_ledger_rest(a->ledger, st, &s, 1);
	if (rc == SEG_OK && a->explain)
		rc = seg_explain_rest(a->explain, st, &s, classes);
	src->put(src->arg, 0, 0, &s);
	return rc;
}

/* ---- values ---- */

/* v has the axes among y, x, k that a says, in C order. */
static struct seg_json *nested(const double **v, unsigned a, const size_t *extent)
{
	unsigned axis = a & SEG_Y ? SEG_Y : a & SEG_X ? SEG_X : a & SEG_K;
	if (!axis)
		return seg_json_num(*(*v)++);
	struct seg_json *list = seg_json_array();
	size_t n = extent[axis == SEG_Y ? 0 : axis == SEG_X ? 1 : 2];
	for (size_t i = 0; i < n; i++)
		seg_json_add(list, nested(v, a & ~axis, extent));
	return list;
}

/* The value of a loss that is no scalar: of each sample, or of all. */
static int field(struct seg_audit *a, const struct seg_loss_state *st, const struct seg_loss_source *src)
{
	unsigned axes = a->l->node[a->l->root].axes;
	size_t count = axes & SEG_N ? src->n : 1, nk = (size_t)a->header->nclass;
	struct seg_json *all = axes & SEG_N ? seg_json_array() : NULL;
	int rc = SEG_OK;
	for (size_t i = 0; rc == SEG_OK && i < count; i++) {
		struct seg_loss_sample s;
		rc = src->get(src->arg, i, 0, &s);
		if (rc < 0)
			break;
		double *v = seg_alloc(s.h * s.w, nk * sizeof *v);
		rc = v ? seg_loss_field(a->l, st, &s, a->l->root, v) : SEG_ENOMEM;
		const double *at = v;
		struct seg_json *one = rc == SEG_OK ? nested(&at, axes & ~SEG_N, (size_t[]){s.h, s.w, nk}) : NULL;
		if (all && one)
			seg_json_add(all, one);
		else if (one)
			all = one;
		free(v);
		src->put(src->arg, i, 0, &s);
	}
	a->field = all;
	return rc;
}

static int evaluate(struct seg_audit *a, const struct seg_loss_source *src, int gradient, int threads,
    struct seg_loss_state **st)
{
	int rc = seg_loss_state_new(st, a->l);
	return rc < 0 ? rc : seg_loss_run(a->l, *st, gradient, src, threads);
}

/* Keras's number: batches in order, each value weighted with its samples. */
static int batches(struct seg_audit *a, struct seg_feed *f, size_t batch, int threads)
{
	double sum = 0;
	for (size_t first = 0; first < a->nsample; first += batch) {
		size_t n = a->nsample - first < batch ? a->nsample - first : batch;
		struct seg_loss_source src = seg_feed_source(f, first, n);
		struct seg_loss_state *st = NULL;
		int rc = evaluate(a, &src, 0, threads, &st);
		if (rc == SEG_OK)
			sum += seg_loss_value(a->l, st) * (double)n;
		seg_loss_state_free(st);
		if (rc < 0)
			return rc;
		a->nbatch++;
	}
	a->running = sum / (double)a->nsample;
	return SEG_OK;
}

/* The axes of the weights are in no header. */
static int first(struct seg_feed *f)
{
	struct seg_loss_sample s;
	struct seg_loss_source src = seg_feed_source(f, 0, 1);
	int rc = src.get(src.arg, 0, 0, &s);
	if (rc == SEG_OK)
		src.put(src.arg, 0, 0, &s);
	return rc;
}

static int prepare(struct seg_audit *a, const struct seg_ask *ask, unsigned w_axes)
{
	struct seg_loss_env env = {.f64 = ask->f64, .field_ok = ask->field, .extra_recipes = ask->recipes, .w_axes = w_axes};
	seg_bind_env(a->header, &env);
	a->by_default = !ask->loss;
	a->loss = ask->loss ? ask->loss
	    : a->header->task == SEG_MULTILABEL ? "@keras3.binary_crossentropy" : "@torch.cross_entropy";
	int rc = seg_loss_compile(&a->l, a->loss, &env);
	if (rc < 0 || !(ask->ledger || ask->explain || ask->map || ask->gradient || ask->worst))
		return rc;
	a->of_sample = seg_alloc(a->nsample, sizeof *a->of_sample);
	a->key = seg_alloc(a->nsample, sizeof *a->key);
	if (!a->of_sample || !a->key)
		return SEG_ENOMEM;
	if (ask->worst && (rc = seg_worst_new(&a->worst, ask->worst)) < 0)
		return rc;
	rc = seg_ledger_new(&a->ledger, a->l);
	return rc < 0 || !ask->explain ? rc : seg_explain_new(&a->explain, a->l, a->ledger);
}

static int run(struct seg_audit *a, const struct seg_ask *ask, struct seg_feed *f)
{
	struct seg_loss_state *st = NULL;
	struct seg_loss_source src = seg_feed_source(f, 0, a->nsample);
	int rc = evaluate(a, &src, a->ledger != NULL, ask->threads, &st);
	if (rc < 0)
		goto done;
	if (ask->field) {
		rc = field(a, st, &src);
		goto done;
	}
	a->value = seg_loss_value(a->l, st);
	if (a->ledger && ((rc = gather(a, st, &src, ask->threads)) < 0 || (rc = rest(a, st, &src)) < 0))
		goto done;
	if (a->explain && (rc = seg_explain_attain(a->explain, &src, ask->threads)) < 0)
		goto done;
	if (ask->as && (rc = seg_others(&a->other, &a->nother, ask->as, a->l, a->header->task, &src, ask->threads)) < 0)
		goto done;
	if (ask->map || ask->gradient)
		rc = seg_maps_write(&(struct seg_maps){a->index, a->l, st, a->ledger, a->loss, ask->map, ask->gradient,
		    ask->threads, ask->level});
	if (rc == SEG_OK && ask->batch)
		rc = batches(a, f, ask->batch, ask->threads);
done:
	seg_loss_state_free(st);
	return rc;
}

int seg_audit_run(struct seg_audit *a, const struct seg_ask *ask)
{
	struct seg_limits limits = {.cache_bytes = ask->cache};
	const char *name = ask->in && strcmp(ask->in, "-") ? ask->in : "<stdin>";
	struct seg_feed f = {0};
	memset(a, 0, sizeof *a);
	int rc = seg_index_open(&a->index, ask->in, &limits);
	if (rc < 0)
		return rc;
	a->header = seg_index_header(a->index);
	a->nsample = seg_index_count(a->index);
	if (a->header->kind != SEG_STREAM)
		rc = seg_fail(SEG_EDATA, "%s: a model or checkpoint, expected a stream of samples", name);
	else if (!a->nsample)
		rc = seg_fail(SEG_EDATA, "%s: the stream has no samples: there is nothing to evaluate", name);
	if (rc == SEG_OK)
		rc = seg_feed_new(&f, a->index, name, ask->threads);
	if (rc == SEG_OK)
		rc = first(&f);
	if (rc == SEG_OK)
		rc = prepare(a, ask, f.w_axes);
	if (rc == SEG_OK)
		rc = run(a, ask, &f);
	for (size_t i = 0; rc == SEG_OK && i < a->nsample; i++)
		a->pixels += (double)f.area[i];
	seg_feed_free(&f);
	return rc;
}

void seg_audit_free(struct seg_audit *a)
{
	for (size_t i = 0; a->key && i < a->nsample; i++)
		free(a->key[i]);
	free(a->key);
	free(a->of_sample);
	seg_confusion_free(&a->confusion);
	seg_worst_free(&a->worst);
	seg_explain_free(a->explain);
	seg_ledger_free(a->ledger);
	seg_loss_free(a->l);
	seg_json_free(a->field);
	seg_others_free(a->other, a->nother);
	seg_index_close(a->index);
	memset(a, 0, sizeof *a);
}

/* ---- what is said ---- */

static const char *plural(double n)
{
	return n == 1 ? "" : "s";
}

int seg_audit_text(const struct seg_audit *a, int colour, struct seg_buf *b)
{
	const char *const *classes = (const char *const *)a->header->classes;
	double n = (double)a->nsample;
	int rc = seg_buf_printf(b, "%s  %s%s  (%s sample%s, %s pixels)\n", seg_text_value(a->value), a->loss,
	    a->by_default ? " (default)" : "", seg_text_count(n), plural(n), seg_text_count(a->pixels));
	if (rc == SEG_OK && a->nbatch)
		rc = seg_buf_printf(b, "%s  the same as Keras prints it: the mean over %zu batches, each weighted with its "
		    "samples\n", seg_text_value(a->running), a->nbatch);
	if (rc == SEG_OK && a->explain) {
		rc = seg_buf_printf(b, "\n");
		rc = rc < 0 ? rc : seg_explain_text(a->explain, colour, b);
	}
	if (rc == SEG_OK && a->ledger) {
		rc = seg_buf_printf(b, "\n");
		rc = rc < 0 ? rc : seg_ledger_text(a->ledger, &a->confusion, classes, colour, b);
	}
	if (rc == SEG_OK && a->worst.cap) {
		rc = seg_buf_printf(b, "\n");
		rc = rc < 0 ? rc : seg_worst_text(&a->worst, a->ledger, classes, colour, b);
	}
	if (rc == SEG_OK && a->nother) {
		rc = seg_buf_printf(b, "\n");
		rc = rc < 0 ? rc : seg_others_text(a->other, a->nother, a->loss, a->value, colour, b);
	}
	return rc;
}

struct seg_json *seg_audit_json(const struct seg_audit *a)
{
	const char *const *classes = (const char *const *)a->header->classes;
	struct seg_json *o = seg_json_object(), *samples = seg_json_array();
	if (a->field) {
		struct seg_json *axes = seg_json_array();
		for (int i = 0; i < 4; i++)
			if (a->l->node[a->l->root].axes & 1u << i)
				seg_json_add(axes, seg_json_str((const char *[]){"n", "y", "x", "k"}[i]));
		seg_json_set(o, "expression", seg_json_str(a->loss));
		seg_json_set(o, "axes", axes);
		seg_json_set(o, "values", seg_json_copy(a->field));
		seg_json_free(samples);
		return o;
	}
	seg_json_set(o, "loss", seg_json_num(a->value));
	seg_json_set(o, "expression", seg_json_str(a->loss));
	seg_json_set(o, "samples", seg_json_int((long long)a->nsample));
	seg_json_set(o, "pixels", seg_json_num(a->pixels));
	if (a->nbatch)
		seg_json_set(o, "running_mean", seg_json_num(a->running));
	if (a->ledger) {
		seg_json_set(o, "classes", seg_ledger_classes(a->ledger, &a->confusion, classes));
		for (size_t i = 0; i < a->nsample; i++) {
			struct seg_json *j = seg_json_object();
			seg_json_set(j, "key", seg_json_str(a->key[i]));
			seg_json_set(j, "loss", seg_json_num(a->of_sample[i]));
			seg_json_add(samples, j);
		}
		struct seg_json *l = seg_ledger_json(a->ledger, &a->confusion, classes);
		seg_json_set(l, "samples", samples);
		seg_json_set(o, "ledger", l);
	} else {
		seg_json_free(samples);
	}
	if (a->worst.cap)
		seg_json_set(o, "worst", seg_worst_json(&a->worst, a->ledger, classes));
	if (a->nother)
		seg_json_set(o, "as", seg_others_json(a->other, a->nother));
	if (a->explain)
		seg_json_set(o, "explain", seg_explain_json(a->explain));
	return o;
}
