/* The explanation: which steps lead to the number, and what the data say about each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/report/split.h"
#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "seg/report.h"

enum { YX = SEG_Y | SEG_X, NYX = SEG_N | SEG_Y | SEG_X };
enum { REACHED = 1, STEP = 2, DEEP = 4 }; /* on a way from the root; shown; reduces n, y or x beneath */

/* Clips of predictions, and what is counted about them: outside, of these without gradient, of
 * these wrong. */
struct clip {
	int node, arg, low, high;
};
enum { CLIP_OUT, CLIP_ZERO, CLIP_WRONG, CLIP_N };
/* What is counted about the truth. */
enum { TRUTH_OVERLAP, TRUTH_N };

struct seg_look {
	unsigned char *about;
	struct clip *clip;
	int nclip;
	int p, t;   /* leaves */
	size_t width; /* of a step's stat */
};

static int reduces(const struct seg_node *n)
{
	return n->op >= SEG_OP_SUM && n->op <= SEG_OP_MIN;
}

/* A definition without a sum over the picture inside is one thing to the reader. */
static int opaque(const struct seg_explain *e, int i)
{
	return e->l->node[i].name && i != e->l->root && !(e->look->about[i] & DEEP);
}

static void visit(struct seg_explain *e, int i)
{
	const struct seg_node *n = &e->l->node[i];
	unsigned char *about = e->look->about;
	if (about[i] & REACHED)
		return;
	about[i] |= REACHED;
	if (n->name || reduces(n) || i == e->l->root)
		about[i] |= STEP;
	for (int k = 0; !opaque(e, i) && k < n->nkid; k++)
		visit(e, n->kid[k]);
}

/* Fields that are reduced over the picture and are themselves made of steps. */
static void operands(struct seg_explain *e)
{
	unsigned char *about = e->look->about, *made = about + e->l->n; /* of steps */
	for (int i = 0; i <= e->l->root; i++) {
		const struct seg_node *n = &e->l->node[i];
		for (int k = 0; k < n->nkid; k++)
			made[i] |= about[i] & REACHED && (made[n->kid[k]] || about[n->kid[k]] & STEP);
		if (about[i] & REACHED && reduces(n) && n->over & YX && made[n->kid[0]])
			about[n->kid[0]] |= STEP;
	}
}

/* Leaves and numbers are not worth a line of their own. */
static int plain(const struct seg_node *n)
{
	return n->op <= SEG_OP_C;
}

static int describe(struct seg_explain *e, struct seg_loss *l)
{
	const unsigned char *about = e->look->about;
	const char **as = seg_alloc((size_t)l->n, sizeof *as);
	int rc = as ? SEG_OK : SEG_ENOMEM;
	for (int i = 0; rc == SEG_OK && i <= l->root; i++) {
		const struct seg_node *n = &l->node[i];
		if (!(about[i] & STEP) || (plain(n) && i != l->root))
			continue;
		struct seg_step *st = &e->step[e->nstep++];
		st->node = i;
		st->name = n->name;
		st->field = n->axes & NYX ? i : -1;
		if (reduces(n) && n->over & NYX)
			st->field = n->kid[0];
		st->text = opaque(e, i) ? seg_loss_node_text(l, i) : seg_loss_node_text_as(l, i, as);
		char *ref = seg_format("#%d", e->nstep);
		as[i] = ref;
		if (!st->text || !ref)
			rc = SEG_ENOMEM;
	}
	for (int i = 0; as && i < l->n; i++)
		free((char *)as[i]);
	free(as);
	return rc;
}

static void clips(struct seg_explain *e)
{
	struct seg_look *k = e->look;
	for (int i = 0; i <= e->l->root; i++) {
		const struct seg_node *n = &e->l->node[i];
		if (n->op == SEG_OP_CLIP && (e->l->node[n->kid[0]].axes & YX) == YX)
			k->clip[k->nclip++] = (struct clip){i, n->kid[0], n->kid[1], n->kid[2]};
	}
}

int seg_explain_new(struct seg_explain **out, struct seg_loss *l, const struct seg_ledger *g)
{
	struct seg_explain *e = *out = seg_alloc(1, sizeof *e);
	int rc = SEG_ENOMEM, p = seg_loss_make(l, SEG_OP_P, 0, 0, NULL);
	if (!e)
		return rc;
	e->l = l;
	e->g = g;
	size_t n = (size_t)l->n, nk = (size_t)l->env.nclass;
	e->look = seg_alloc(1, sizeof *e->look);
	e->step = seg_alloc(n, sizeof *e->step);
	if (!e->look || !e->step || p < 0)
		goto fail;
	e->look->p = p;
	e->look->t = g->split->truth;
	e->look->width = SEG_STAT_CHAN + nk;
	e->look->about = seg_alloc(2, n);
	e->look->clip = seg_alloc(n, sizeof *e->look->clip);
	if (!e->look->about || !e->look->clip)
		goto fail;
	for (int i = 0; i < l->n; i++) {
		const struct seg_node *a = &l->node[i];
		unsigned char deep = reduces(a) && a->over & NYX ? DEEP : 0;
		for (int k = 0; k < a->nkid; k++)
			deep |= e->look->about[a->kid[k]] & DEEP;
		e->look->about[i] = deep;
	}
	visit(e, l->root);
	operands(e);
	clips(e);
	if ((rc = describe(e, l)) < 0)
		goto fail;
	rc = SEG_ENOMEM;
	e->block = seg_alloc(seg_explain_block(e), sizeof *e->block);
	if (!e->block)
		goto fail;
	for (int i = 0; i < e->nstep; i++) {
		e->step[i].stat = e->block + (size_t)i * e->look->width;
		e->step[i].stat[SEG_STAT_MIN] = SEG_INF;
		e->step[i].stat[SEG_STAT_MAX] = -SEG_INF;
	}
	return SEG_OK;
fail:
	seg_explain_free(e);
	*out = NULL;
	return rc;
}

void seg_explain_free(struct seg_explain *e)
{
	if (!e)
		return;
	for (int i = 0; i < e->nstep; i++) {
		free(e->step[i].text);
		free(e->step[i].value);
		free(e->step[i].note);
	}
	for (int i = 0; i < e->nwarning; i++)
		free(e->warning[i]);
	for (int i = 0; i < e->nattain; i++)
		free(e->attain[i].why);
	free(e->warning);
	free(e->step);
	free(e->block);
	if (e->look) {
		free(e->look->about);
		free(e->look->clip);
	}
	free(e->look);
	free(e);
}

/* Steps' stats, then what is counted about the truth, each clip, pixels. */
size_t seg_explain_block(const struct seg_explain *e)
{
	return (size_t)e->nstep * e->look->width + TRUTH_N + CLIP_N * (size_t)e->look->nclip + 2;
}

static const double *truth_counts(const struct seg_explain *e, const double *block)
{
	return block + (size_t)e->nstep * e->look->width;
}

static double *field(const struct seg_explain *e, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, int node, size_t *n)
{
	unsigned a = e->l->node[node].axes;
	*n = (a & SEG_Y ? s->h : 1) * (a & SEG_X ? s->w : 1) * (a & SEG_K ? (size_t)e->l->env.nclass : 1);
	double *v = seg_alloc(*n, sizeof *v);
	if (v && seg_loss_field(e->l, st, s, node, v) < 0) {
		free(v);
		return NULL;
	}
	return v;
}

static void count(double *stat, const double *v, size_t n, size_t nk)
{
	stat[SEG_STAT_MIN] = SEG_INF;
	stat[SEG_STAT_MAX] = -SEG_INF;
	for (size_t i = 0; i < n; i++) {
		double x = v[i];
		stat[SEG_STAT_NEG] += x < 0;
		stat[SEG_STAT_ZERO] += x == 0;
		stat[x < 0 ? SEG_STAT_NEGSUM : SEG_STAT_POSSUM] += x;
		stat[SEG_STAT_MIN] = x < stat[SEG_STAT_MIN] ? x : stat[SEG_STAT_MIN];
		stat[SEG_STAT_MAX] = x > stat[SEG_STAT_MAX] ? x : stat[SEG_STAT_MAX];
		stat[SEG_STAT_CHAN + i % nk] += x;
	}
	stat[SEG_STAT_COUNT] += (double)n;
}

/* Entries the clip holds back: their gradient is exactly zero.  dz: planes. */
static int held(const struct seg_explain *e, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const struct clip *c, const float *dz, double *out)
{
	size_t n, nlow, nhigh, np, nt, nk = (size_t)e->l->env.nclass, hw = s->h * s->w;
	double *x = field(e, st, s, c->arg, &n), *low = field(e, st, s, c->low, &nlow);
	double *high = field(e, st, s, c->high, &nhigh), *p = NULL, *t = NULL;
	int rc = x && low && high ? SEG_OK : SEG_EDATA;
	if (rc == SEG_OK && n == hw * nk && dz) {
		p = field(e, st, s, e->look->p, &np);
		t = field(e, st, s, e->look->t, &nt);
		rc = p && t ? SEG_OK : SEG_EDATA;
	}
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		if (x[i] >= low[i % nlow] && x[i] <= high[i % nhigh])
			continue;
		out[CLIP_OUT]++;
		int zero = p && dz[i % nk * hw + i / nk] == 0;
		out[CLIP_ZERO] += zero;
		out[CLIP_WRONG] += zero && fabs(p[i] - t[i]) > 0.5;
	}
	free(x);
	free(low);
	free(high);
	free(p);
	free(t);
	return rc;
}

int seg_explain_sample(const struct seg_explain *e, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const float *dz, double *block)
{
	size_t n, nk = (size_t)e->l->env.nclass;
	int rc = SEG_OK;
	memset(block, 0, seg_explain_block(e) * sizeof *block);
	for (int i = 0; i < e->nstep; i++) {
		double *v, *stat = block + (size_t)i * e->look->width;
		if (e->step[i].field < 0)
			continue;
		v = field(e, st, s, e->step[i].field, &n);
		if (!v)
			return SEG_EDATA;
		count(stat, v, n, e->l->node[e->step[i].field].axes & SEG_K ? nk : 1);
		free(v);
	}
	double *o = block + (size_t)e->nstep * e->look->width;
	double *t = field(e, st, s, e->look->t, &n);
	if (!t)
		return SEG_EDATA;
	for (size_t i = 0; i < n; i += nk) {
		int set = 0;
		for (size_t k = 0; k < nk; k++)
			set += t[i + k] >= 0.5;
		o[TRUTH_OVERLAP] += set > 1;
	}
	free(t);
	o += TRUTH_N;
	for (int i = 0; rc == SEG_OK && i < e->look->nclip; i++, o += CLIP_N)
		rc = held(e, st, s, &e->look->clip[i], dz, o);
	o[0] = (double)s->h * (double)s->w;
	o[1] = !s->z;
	return rc;
}

void seg_explain_add(struct seg_explain *e, const double *block)
{
	size_t n = seg_explain_block(e), w = e->look->width;
	for (size_t i = 0; i < n; i++) {
		size_t what = i < (size_t)e->nstep * w ? i % w : SEG_STAT_COUNT;
		if (what == SEG_STAT_MIN)
			e->block[i] = block[i] < e->block[i] ? block[i] : e->block[i];
		else if (what == SEG_STAT_MAX)
			e->block[i] = block[i] > e->block[i] ? block[i] : e->block[i];
		else
			e->block[i] += block[i];
	}
	e->nsample++;
	e->pixels += block[n - 2];
	e->recovered += block[n - 1] != 0;
}

/* ---- what the loss could be on this truth ---- */

enum { AT_TRUTH, AT_WRONG, AT_ZERO, AT_ONE, AT_HALF };

/* A source whose predictions are replaced. */
struct instead {
	const struct seg_explain *e;
	const struct seg_loss_state *st;
	const struct seg_loss_source *src;
	int what;
	float **p, **z; /* for each thread */
};

static float pretend(int what, double t, int softmax, size_t nk)
{
	if (softmax) /* a distribution: all wrong means spread over the classes that are not there */
		return (float)(what == AT_TRUTH ? t : what == AT_WRONG ? nk > 1 ? (1 - t) / (double)(nk - 1) : 1 - t
		    : 1.0 / (double)nk);
	return (float)(what == AT_TRUTH ? t : what == AT_WRONG ? 1 - t : what == AT_ZERO ? 0 : what == AT_ONE ? 1 : 0.5);
}

static int get(void *arg, size_t i, int thread, struct seg_loss_sample *s)
{
	struct instead *a = arg;
	int rc = a->src->get(a->src->arg, i, thread, s), softmax = a->e->l->env.head == SEG_LOSS_SOFTMAX;
	size_t n, nk = (size_t)a->e->l->env.nclass;
	if (rc < 0)
		return rc;
	double *t = field(a->e, a->st, s, a->e->look->t, &n);
	float *p = t ? seg_realloc(a->p[thread], n, sizeof *p) : NULL;
	a->p[thread] = p ? p : a->p[thread];
	float *z = p ? seg_realloc(a->z[thread], n, sizeof *z) : NULL;
	a->z[thread] = z ? z : a->z[thread];
	for (size_t j = 0; z && j < n; j++) {
		double far = 100; /* exp(-100) is nothing, and exp(100) fits a double; both fit a float's log */
		p[j] = pretend(a->what, t[j], softmax, nk);
		double q = p[j];
		z[j] = (float)(q <= 0 ? -far : q >= 1 ? far : softmax ? seg_log(q) : seg_log(q / (1 - q)));
	}
	free(t);
	if (!z) {
		if (a->src->put)
			a->src->put(a->src->arg, i, thread, s);
		return SEG_ENOMEM;
	}
	s->p = p;
	s->z = z;
	s->pi = s->zi = nk;
	s->pk = s->zk = 1;
	return SEG_OK;
}

static void put(void *arg, size_t i, int thread, struct seg_loss_sample *s)
{
	struct instead *a = arg;
	if (a->src->put)
		a->src->put(a->src->arg, i, thread, s);
}

static int attain(struct seg_explain *e, const char *at, int what, const struct seg_loss_source *src,
    int threads, float **p, float **z)
{
	struct seg_loss_state *st = NULL;
	struct seg_attain *a = &e->attain[e->nattain];
	int rc = seg_loss_state_new(&st, e->l);
	if (rc < 0)
		return rc;
	struct instead in = {e, st, src, what, p, z};
	struct seg_loss_source s = {src->n, get, put, &in};
	*a = (struct seg_attain){at, SEG_NAN, NULL};
	rc = seg_loss_run(e->l, st, 0, &s, threads);
	if (rc == SEG_OK)
		a->value = seg_loss_value(e->l, st);
	else if (rc == SEG_EDATA) { /* a log of 0, say: that is the answer */
		a->why = seg_strdup(seg_reason());
		rc = a->why ? SEG_OK : SEG_ENOMEM;
	}
	e->nattain += rc == SEG_OK;
	seg_loss_state_free(st);
	return rc;
}

int seg_explain_attain(struct seg_explain *e, const struct seg_loss_source *src, int threads)
{
	int softmax = e->l->env.head == SEG_LOSS_SOFTMAX, rc = SEG_OK;
	size_t nt = (size_t)(threads > 1 ? threads : 1);
	float **p = seg_alloc(nt, sizeof *p), **z = seg_alloc(nt, sizeof *z);
	static const char *const name[] = {"p = t", "p = 1-t", "p = 0", "p = 1", "p = 1/2"};
	static const char *const soft[] = {"p = t", "p = (1-t)/(K-1)", NULL, NULL, "p = 1/K"};
	if (!p || !z)
		rc = SEG_ENOMEM;
	for (int i = 0; rc == SEG_OK && i < 5; i++)
		if (!softmax || soft[i])
			rc = attain(e, softmax ? soft[i] : name[i], i, src, threads, p, z);
	for (size_t i = 0; i < nt && p && z; i++) {
		free(p[i]);
		free(z[i]);
	}
	free(p);
	free(z);
	return rc;
}

/* ---- at the end ---- */

static int warn(struct seg_explain *e, char *text)
{
	char **more = text ? seg_realloc(e->warning, (size_t)e->nwarning + 1, sizeof *more) : NULL;
	if (!more) {
		free(text);
		return SEG_ENOMEM;
	}
	e->warning = more;
	more[e->nwarning++] = text;
	return SEG_OK;
}

static double *value(const struct seg_explain *e, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, int node)
{
	size_t n;
	return field(e, st, s, node, &n);
}

static int quotient(struct seg_explain *e, struct seg_step *p, const struct seg_loss_state *st,
    const struct seg_loss_sample *s)
{
	const struct seg_node *n = &e->l->node[p->node];
	if (n->op == SEG_OP_DIV && !n->axes) {
		double *a = value(e, st, s, n->kid[0]), *b = value(e, st, s, n->kid[1]);
		if (a && b) {
			p->above = *a;
			p->below = *b;
		}
		free(a);
		free(b);
		return a && b ? SEG_OK : SEG_EDATA;
	}
	if (n->op == SEG_OP_MEAN && !n->axes && p->field >= 0) {
		p->above = p->stat[SEG_STAT_NEGSUM] + p->stat[SEG_STAT_POSSUM];
		p->below = p->stat[SEG_STAT_COUNT];
	}
	return SEG_OK;
}

static const char *name(const char *const *classes, int k, int nclass)
{
	return k < nclass ? classes[k] : k == nclass ? "no class" : "ignored";
}

/* The class with the smallest share in a sum over all classes. */
static int note(struct seg_explain *e, struct seg_step *p, const char *const *classes)
{
	const struct seg_node *n = &e->l->node[p->node];
	struct seg_buf b = {0};
	int nk = e->l->env.nclass, rc = SEG_OK;
	int reduced = reduces(n), of_k = p->field >= 0 && e->l->node[p->field].axes & SEG_K;
	if (reduced && n->over & SEG_K && n->over & YX && of_k && nk > 1 && n->op <= SEG_OP_MEAN) {
		const double *c = p->stat + SEG_STAT_CHAN;
		double sum = p->stat[SEG_STAT_NEGSUM] + p->stat[SEG_STAT_POSSUM];
		int least = -1;
		for (int k = 0; k < nk; k++)
			if (e->g->pixels[k] > 0 && (least < 0 || fabs(c[k]) < fabs(c[least])))
				least = k;
		rc = seg_buf_printf(&b, "%sall classes pooled in one number", b.n ? "; " : "");
		if (rc == SEG_OK && least >= 0 && sum != 0)
			rc = seg_buf_printf(&b, ": '%s' is %s of it", classes[least], seg_text_share(c[least], sum));
	}
	if (rc == SEG_OK && n->op == SEG_OP_MEAN && n->over == SEG_K)
		rc = seg_buf_printf(&b, "every class counts 1/%d, before anything is weighted", nk);
	if (rc == SEG_OK && n->op == SEG_OP_MEAN && n->over & YX && e->g->weighted) {
		double sum = 0;
		for (int k = 0; k < nk + 2; k++)
			sum += e->g->weight[k];
		rc = seg_buf_printf(&b, "%sdivides by all %s pixels%s, not by the sum of the weights (%s)",
		    b.n ? "; " : "", seg_text_count(e->pixels), n->over & SEG_K ? " and classes" : "",
		    seg_text_count(sum));
	}
	if (rc == SEG_OK && p->node == e->g->split->weight) {
		for (int k = 0; rc == SEG_OK && nk <= 12 && k < nk + 2; k++)
			if (e->g->pixels[k] > 0)
				rc = seg_buf_printf(&b, "%s%s %.6g", k && b.n ? ", " : "by class of the pixel: ",
				    name(classes, k, nk), e->g->weight[k] / e->g->pixels[k]);
	}
	const double *st = p->stat;
	if (rc == SEG_OK && p->field == p->node && st[SEG_STAT_ZERO] >= 0.1 * st[SEG_STAT_COUNT])
		rc = seg_buf_printf(&b, "%s%s of the values are exactly 0", b.n ? "; " : "",
		    seg_text_share(st[SEG_STAT_ZERO], st[SEG_STAT_COUNT]));
	if (rc == SEG_OK && p->field >= 0 && st[SEG_STAT_NEG] > 0)
		rc = seg_buf_printf(&b, "%s%s of the values are negative and add up to %s, the others to %s",
		    b.n ? "; " : "", seg_text_share(st[SEG_STAT_NEG], st[SEG_STAT_COUNT]),
		    seg_text_value(st[SEG_STAT_NEGSUM]), seg_text_value(st[SEG_STAT_POSSUM]));
	p->note = b.data;
	return rc;
}

/* Terms that nearly cancel make a small number out of large ones. */
static int cancel(struct seg_explain *e)
{
	const struct seg_ledger *g = e->g;
	struct seg_buf b = {0};
	double sum = 0;
	int rc = SEG_OK;
	for (int i = 0; i < g->nterm; i++)
		sum += fabs(seg_ledger_of_term(g, i));
	if (sum <= 10 * fabs(g->total) || sum == 0)
		return SEG_OK;
	for (int i = 0; rc == SEG_OK && i < g->nterm; i++)
		rc = seg_buf_printf(&b, "%s%s %s", i ? ", " : "", g->term[i],
		    seg_text_value(seg_ledger_of_term(g, i)));
	rc = rc < 0 ? rc : warn(e, seg_format("terms of opposite sign cancel: %s leave %s; a small loss here does "
	    "not mean small errors", b.data ? b.data : "", seg_text_value(g->total)));
	free(b.data);
	return rc;
}

/* Is there an argmax over the truth? */
static int picks_truth(const struct seg_explain *e)
{
	const unsigned char *about = e->look->about;
	for (int i = 0; i <= e->l->root; i++) {
		const struct seg_node *n = &e->l->node[i];
		(void)about;
		if (n->op == SEG_OP_ARGMAX && n->kid[0] == e->look->t)
			return 1;
	}
	return 0;
}

static int argmax(struct seg_explain *e, const char *const *classes)
{
	const struct seg_ledger *g = e->g;
	int nk = g->nclass, rc = SEG_OK;
	double none = g->pixels[nk], overlap = truth_counts(e, e->block)[TRUTH_OVERLAP];
	if (!picks_truth(e))
		return SEG_OK;
	if (none > 0)
		rc = warn(e, seg_format("%s pixels (%s) have no class set; argmax[k](t) takes them for the first class, "
		    "'%s'%s%s%s", seg_text_count(none), seg_text_share(none, e->pixels), classes[0],
		    g->weighted ? ", with its weight " : "", g->weighted ? seg_text_count(g->weight[nk] / none) : "",
		    g->weighted && g->weight[nk] == 0 ? ": they add nothing, yet they are counted in every mean" : ""));
	if (rc == SEG_OK && g->pixels[nk + 1] > 0)
		rc = warn(e, seg_format("%s pixels (%s) are ignored; t is 0 there for every class, so argmax[k](t) takes "
		    "them for '%s' unless the loss multiplies by v", seg_text_count(g->pixels[nk + 1]),
		    seg_text_share(g->pixels[nk + 1], e->pixels), classes[0]));
	if (rc == SEG_OK && overlap > 0)
		rc = warn(e, seg_format("%s pixels (%s) have more than one class; argmax[k](t) takes the first of them, "
		    "so classes that come later lose these pixels", seg_text_count(overlap),
		    seg_text_share(overlap, e->pixels)));
	return rc;
}

/* A weight is worth what it meets. */
static int weights(struct seg_explain *e, const char *const *classes)
{
	const struct seg_ledger *g = e->g;
	int nk = g->nclass, rc = SEG_OK, top = -1;
	double sum = 0, zero = 0;
	if (!g->weighted)
		return SEG_OK;
	for (int k = 0; k < nk + 2; k++) {
		sum += g->weight[k];
		zero += g->weight[k] == 0 && k < nk ? g->pixels[k] : 0;
		if (k < nk && g->pixels[k] > 0 &&
		    (top < 0 || g->weight[k] / g->pixels[k] > g->weight[top] / g->pixels[top]))
			top = k;
	}
	if (zero > 0)
		rc = warn(e, seg_format("%s pixels (%s) of classes in the truth have weight 0: what is predicted there "
		    "is not counted", seg_text_count(zero), seg_text_share(zero, e->pixels)));
	if (rc == SEG_OK && top >= 0 && nk > 1 && g->weight[top] / sum < 1.0 / nk &&
	    g->pixels[top] * 20 < e->pixels)
		rc = warn(e, seg_format("the largest weight, %.6g of '%s', meets %s of the pixels and so holds only %s of "
		    "all weight (%.6g x %s of %s)", g->weight[top] / g->pixels[top], classes[top],
		    seg_text_share(g->pixels[top], e->pixels), seg_text_share(g->weight[top], sum),
		    g->weight[top] / g->pixels[top], seg_text_count(g->pixels[top]), seg_text_count(sum)));
	if (rc == SEG_OK && top >= 0 && nk > 1)
		rc = warn(e, seg_format("the weight follows the truth: where '%s' is predicted on other pixels, those "
		    "pixels' weight counts, not %.6g", classes[top], g->weight[top] / g->pixels[top]));
	return rc;
}

/* Weights 0, 1, 2, ..: what one gets by iterating over a dict. */
static int keys(struct seg_explain *e)
{
	int nk = e->l->env.nclass;
	for (int i = 0; nk > 2 && i <= e->l->root; i++) {
		const struct seg_node *n = &e->l->node[i];
		int k = 0;
		while (n->op == SEG_OP_VEC && k < nk && n->vec[k] == k)
			k++;
		if (k == nk)
			return warn(e, seg_format("the weights are 0 .. %d, the class numbers themselves: iterating over a "
			    "dict {class: weight} gives its keys, not its values", nk - 1));
	}
	return SEG_OK;
}

static int clipped(struct seg_explain *e)
{
	const double *c = truth_counts(e, e->block) + TRUTH_N;
	for (int i = 0; i < e->look->nclip; i++, c += CLIP_N) {
		if (c[CLIP_ZERO] == 0)
			continue;
		char *of = seg_loss_node_text(e->l, e->look->clip[i].node);
		int rc = !of ? SEG_ENOMEM : warn(e, seg_format("%s holds back %s values; their gradient is exactly 0, and %s "
		    "of them are wrong (|p - t| > 1/2): these pixels teach nothing", of, seg_text_count(c[CLIP_ZERO]),
		    c[CLIP_WRONG] > 0 ? seg_text_count(c[CLIP_WRONG]) : "none"));
		free(of);
		if (rc < 0)
			return rc;
	}
	return SEG_OK;
}

static int uses_z(const struct seg_explain *e)
{
	for (int i = 0; i <= e->l->root; i++)
		if (e->l->node[i].op == SEG_OP_Z)
			return 1;
	return 0;
}

static int recovered(struct seg_explain *e)
{
	if (!e->recovered || !uses_z(e))
		return SEG_OK;
	return warn(e, seg_format("the stream has no logits: z was recovered from p as %s; saturated values have lost "
	    "their digits (seg-predict --logits keeps them)",
	    e->l->env.head == SEG_LOSS_SOFTMAX ? "log p" : "log(p / (1 - p))"));
}

static const char *range(const struct seg_loss *l)
{
	size_t n;
	const struct seg_recipe *r = seg_recipe_list(&n);
	if (l->text[0] != '@')
		return NULL;
	for (size_t i = 0; i < n; i++) {
		const char *name = r[i].name + (r[i].name[0] == '@');
		size_t len = strlen(name);
		if (!strncmp(l->text + 1, name, len) && !strchr("abcdefghijklmnopqrstuvwxyz0123456789_.", l->text[len + 1]))
			return r[i].range;
		if (!strcmp(l->text + 1, name))
			return r[i].range;
	}
	return NULL;
}

int seg_explain_rest(struct seg_explain *e, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const char *const *classes)
{
	int rc = SEG_OK;
	e->value = seg_loss_value(e->l, st);
	e->range = range(e->l);
	for (int i = 0; rc == SEG_OK && i < e->nstep; i++) {
		struct seg_step *p = &e->step[i];
		if (!(e->l->node[p->node].axes & NYX)) {
			p->value = value(e, st, s, p->node);
			rc = p->value ? quotient(e, p, st, s) : SEG_EDATA;
		}
		if (rc == SEG_OK)
			rc = note(e, p, classes);
	}
	if (rc == SEG_OK) rc = cancel(e);
	if (rc == SEG_OK) rc = keys(e);
	if (rc == SEG_OK) rc = argmax(e, classes);
	if (rc == SEG_OK) rc = weights(e, classes);
	if (rc == SEG_OK) rc = clipped(e);
	if (rc == SEG_OK) rc = recovered(e);
	return rc;
}
