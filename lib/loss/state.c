/* What couples the samples: reductions over n, gathered and combined in sample order, and their
 * adjoints on the way back. */
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/isa.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "lib/loss/state.h"

enum { SIZES = 2 }; /* a sample's height and width precede its partials of pass 0 */

static size_t nplanes(const struct seg_loss *l, int i)
{
	return l->node[i].axes & SEG_K ? (size_t)l->env.nclass : 1;
}

/* Is a number (or K) of node i gathered in this pass? */
static int gathered_in(const struct seg_loss *l, const struct facts *f, int i, int pass)
{
	if (pass == f->nvalue + f->nadjoint) /* fused with the gradient */
		pass = f->nvalue - 1;
	if (pass < f->nvalue)
		return seg_is_gathered(l, i) && l->node[i].level == pass + 1;
	return seg_is_boundary(l, f, i, f->level[pass - f->nvalue]);
}

static size_t count(const struct seg_loss *l, const struct facts *f, int pass, size_t *at)
{
	size_t n = pass == 0 && pass < f->nvalue ? SIZES : 0; /* not when fused: the sizes are known by then */
	for (int i = 0; i < f->n; i++)
		if (gathered_in(l, f, i, pass)) {
			if (at)
				at[i] = n;
			n += nplanes(l, i);
		}
	return n;
}

int seg_loss_npass(const struct seg_loss *l, int gradient)
{
	struct facts f;
	int rc = seg_facts_new(&f, l);
	if (rc < 0)
		return rc;
	int n = f.nvalue + (gradient ? f.nadjoint : 0);
	seg_facts_free(&f);
	return n;
}

size_t seg_loss_npartial(const struct seg_loss *l, int pass)
{
	struct facts f;
	if (seg_facts_new(&f, l) < 0)
		return 0;
	size_t n = pass <= f.nvalue + f.nadjoint ? count(l, &f, pass, NULL) : 0;
	seg_facts_free(&f);
	return n;
}

/* ---- a state ---- */

static int plans(struct seg_loss_state *st)
{
	const struct seg_loss *l = st->l;
	const struct facts *f = &st->facts;
	int npass = f->nvalue + f->nadjoint, rc = SEG_OK;
	unsigned char *target = seg_alloc((size_t)st->n, 1);
	st->plan = seg_alloc((size_t)npass + 1, sizeof *st->plan);
	if (!target || !st->plan)
		rc = SEG_ENOMEM;
	for (int pass = 0; pass <= npass && rc >= 0; pass++) {
		for (int i = 0; i < st->n; i++)
			target[i] = (unsigned char)(pass < f->nvalue && gathered_in(l, f, i, pass));
		if (f->nvalue > 0)
			count(l, f, pass, st->at + (size_t)pass * (size_t)st->n);
		rc = pass < f->nvalue ? seg_plan_forward(&st->plan[pass], l, f, target)
		    : seg_plan_backward(&st->plan[pass], l, f, pass < npass ? f->level[pass - f->nvalue] : 0, NULL);
		const struct plan *p = &st->plan[pass];
		for (int s = 0; rc >= 0 && s < p->nsweep + p->nback; s++)
			if (p->sweep[s].nslot > st->maxslot)
				st->maxslot = p->sweep[s].nslot;
	}
	free(target);
	return rc;
}

/* Values and adjoints of globals; constants are where the tree has them. */
static int globals(struct seg_loss_state *st)
{
	const struct seg_loss *l = st->l;
	size_t n = (size_t)st->n, K = (size_t)l->env.nclass;
	st->val = seg_alloc(n, sizeof *st->val);
	st->adj = seg_alloc(n, sizeof *st->adj);
	st->at = seg_alloc((size_t)(st->facts.nvalue + st->facts.nadjoint) + 1, n * sizeof *st->at);
	st->winner = seg_alloc(n, K * sizeof *st->winner);
	st->mem = seg_alloc(2 * n, K * sizeof *st->mem);
	if (!st->val || !st->adj || !st->at || !st->winner || !st->mem)
		return SEG_ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct seg_node *m = &l->node[i];
		st->val[i] = st->mem + 2 * i * K;
		st->adj[i] = st->val[i] + K;
		if (m->op == SEG_OP_NUM)
			st->val[i][0] = m->num;
		else if (m->vec)
			memcpy(st->val[i], m->vec, K * sizeof(double));
	}
	return SEG_OK;
}

int seg_loss_state_new(struct seg_loss_state **out, const struct seg_loss *l)
{
	struct seg_loss_state *st = *out = seg_alloc(1, sizeof *st);
	if (!st)
		return SEG_ENOMEM;
	st->l = l;
	st->n = l->n;
	st->k = SEG_ISA_PICK(seg_loss_kernels)(l->env.f64);
	st->k64 = SEG_ISA_PICK(seg_loss_kernels)(1);
	st->pool = seg_alloc(1, sizeof *st->pool);
	int rc = st->pool ? SEG_OK : SEG_ENOMEM;
	if (rc >= 0)
		pthread_mutex_init(&st->pool->lock, NULL);
	if (rc >= 0)
		rc = seg_facts_new(&st->facts, l);
	if (rc >= 0)
		rc = globals(st);
	if (rc >= 0)
		rc = plans(st);
	if (rc >= 0)
		return SEG_OK;
	seg_loss_state_free(st);
	*out = NULL;
	return rc;
}

void seg_loss_state_free(struct seg_loss_state *st)
{
	if (!st)
		return;
	for (int i = 0; st->plan && i <= st->facts.nvalue + st->facts.nadjoint; i++)
		seg_plan_free(&st->plan[i]);
	while (st->pool && st->pool->idle) {
		struct work *w = st->pool->idle;
		st->pool->idle = w->next;
		seg_work_free(w);
	}
	if (st->pool)
		pthread_mutex_destroy(&st->pool->lock);
	free(st->pool);
	free(st->plan);
	free(st->mem);
	free(st->winner);
	free(st->at);
	free(st->adj);
	free(st->val);
	seg_facts_free(&st->facts);
	free(st->late);
	free(st);
}

/* ---- globals, forward ---- */

static void global_call(const struct seg_loss_state *st, int i, struct seg_call *c)
{
	const struct seg_node *n = &st->l->node[i];
	*c = (struct seg_call){.op = n->op, .over = n->over, .prim = n->prim, .check = st->facts.check[i], .n = 1,
	    .nk = (int)nplanes(st->l, i), .nclass = st->l->env.nclass, .out = st->val[i]};
	for (int j = 0; j < n->nkid; j++)
		c->a[j] = (struct seg_arg){st->val[n->kid[j]], st->l->node[n->kid[j]].axes & SEG_K ? 1 : 0, 1};
}

/* sum, mean, max, min of what has no n: over k, or over extents. */
static void reduce_global(struct seg_loss_state *st, int i)
{
	const struct seg_node *n = &st->l->node[i];
	int e = n->kid[0];
	size_t K = nplanes(st->l, e);
	const double *v = st->val[e];
	double *o = st->val[i], f = st->extent[n->over & ~SEG_K];
	if (n->over & SEG_K && K == 1)
		f *= st->l->env.nclass;
	for (size_t k = 0; k < K; k++) {
		double *d = &o[n->over & SEG_K ? 0 : k];
		if (n->op == SEG_OP_SUM || n->op == SEG_OP_MEAN)
			*d = (k && n->over & SEG_K ? *d : 0) + v[k];
		else if (k == 0 || !(n->over & SEG_K) || (n->op == SEG_OP_MAX ? v[k] > *d : v[k] < *d))
			*d = v[k];
	}
	for (size_t k = 0; k < nplanes(st->l, i); k++)
		o[k] = n->op == SEG_OP_SUM ? o[k] * f : n->op == SEG_OP_MEAN ? o[k] / (double)K : o[k];
}

static int global_eval(struct seg_loss_state *st, int i)
{
	const struct seg_node *n = &st->l->node[i];
	int bad = 0;
	if (seg_reduces(n)) {
		if (!seg_is_gathered(st->l, i))
			reduce_global(st, i);
	} else {
		struct seg_call c;
		double *tmp = seg_alloc(4, (size_t)st->l->env.nclass * sizeof *tmp);
		if (!tmp)
			return SEG_ENOMEM;
		global_call(st, i, &c);
		c.tmp = tmp;
		bad = st->k64->forward(&c);
		free(tmp);
	}
	for (size_t k = 0; k < nplanes(st->l, i) && st->facts.check[i]; k++)
		bad |= st->val[i][k] - st->val[i][k] != 0;
	return bad ? seg_global_error(st, i) : SEG_OK;
}

/* Add up (or take the extreme of) node i over the samples, in their order. */
static void gather(struct seg_loss_state *st, int i, const double *mine, size_t stride, size_t nsample)
{
	const struct seg_node *n = &st->l->node[i];
	struct scale c = seg_scale(st->l, i, NULL);
	double div = c.div * st->extent[n->over & ~SEG_K];
	for (size_t k = 0; k < nplanes(st->l, i); k++) {
		const double *v = mine + k;
		double x = nsample ? v[0] : 0;
		size_t winner = 0;
		for (size_t s = 1; s < nsample; s++)
			if (n->op == SEG_OP_SUM || n->op == SEG_OP_MEAN)
				x += v[s * stride];
			else if (n->op == SEG_OP_MAX ? v[s * stride] > x : v[s * stride] < x)
				x = v[(winner = s) * stride];
		st->winner[(size_t)i * (size_t)st->l->env.nclass + k] = winner;
		st->val[i][k] = n->op == SEG_OP_MEAN ? x / div : x;
	}
}

static void extents(struct seg_loss_state *st, const double *partials, size_t stride, size_t nsample)
{
	double *e = st->extent;
	memset(e, 0, sizeof st->extent);
	e[0] = 1;
	e[SEG_N] = (double)nsample;
	for (size_t s = 0; s < nsample; s++) {
		double h = partials[s * stride], w = partials[s * stride + 1];
		e[SEG_N | SEG_Y] += h;
		e[SEG_N | SEG_X] += w;
		e[SEG_N | SEG_YX] += h * w;
	}
}

/* ---- globals, backward ---- */

static int back_global(struct seg_loss_state *st, int i)
{
	const struct seg_loss *l = st->l;
	const struct seg_node *n = &l->node[i];
	size_t K = (size_t)l->env.nclass;
	if (!n->nkid || seg_is_gathered(l, i))
		return SEG_OK; /* sweeps over the samples take it from here */
	struct seg_call c;
	double *tmp = seg_alloc(7, K * sizeof *tmp);
	if (!tmp)
		return SEG_ENOMEM;
	global_call(st, i, &c);
	c.tmp = tmp;
	c.g = st->adj[i];
	for (int j = 0; j < n->nkid; j++)
		if (seg_tree_passes(n, j) && st->facts.live[n->kid[j]]) {
			c.d[j] = tmp + (size_t)(4 + j) * K;
			c.dk[j] = 1;
		}
	if (seg_reduces(n) && c.d[0]) {
		double f = n->op == SEG_OP_SUM ? st->extent[n->over & ~SEG_K] : n->op == SEG_OP_MEAN ? 1 / (double)K : 1, *d = c.d[0];
		size_t k0 = 0;
		int all = n->op == SEG_OP_SUM || n->op == SEG_OP_MEAN || !(n->over & SEG_K);
		while (!all && st->val[n->kid[0]][k0] != st->val[i][0])
			k0++;
		for (size_t k = 0; k < nplanes(l, n->kid[0]); k++)
			d[k] = all || k == k0 ? st->adj[i][n->over & SEG_K ? 0 : k] * f : 0;
		c.nk = (int)nplanes(l, n->kid[0]);
	} else {
		st->k64->backward(&c);
	}
	for (int j = 0; j < n->nkid; j++)
		for (int k = 0; k < c.nk && c.d[j]; k++)
			st->adj[n->kid[j]][l->node[n->kid[j]].axes & SEG_K ? k : 0] += ((double *)c.d[j])[k];
	free(tmp);
	return SEG_OK;
}

/* Adjoints of globals of the levels above `to`, up to `from`. */
static int descend(struct seg_loss_state *st, int from, int to)
{
	int rc = SEG_OK;
	for (int i = st->n - 1; i >= 0 && rc >= 0; i--) {
		const struct seg_node *n = &st->l->node[i];
		if (seg_is_global(n) && st->facts.live[i] && n->level <= from && n->level > to)
			rc = back_global(st, i);
	}
	return rc;
}

/* From the root, as far down as no sweep over the samples is needed. */
static int descend_first(struct seg_loss_state *st)
{
	const struct facts *f = &st->facts;
	for (int i = 0; i < st->n; i++)
		memset(st->adj[i], 0, (size_t)st->l->env.nclass * sizeof(double));
	st->adj[st->l->root][0] = 1;
	return descend(st, f->nvalue, f->nadjoint ? f->level[0] : 0);
}

/* ---- passes ---- */

int seg_loss_fuse(struct seg_loss_state *st)
{
	const struct facts *f = &st->facts;
	int last = f->nvalue - 1, npass = f->nvalue + f->nadjoint, rc = SEG_OK;
	unsigned char *late = seg_alloc((size_t)st->n, 1), *target = seg_alloc((size_t)st->n, 1);
	if (!late || !target)
		rc = SEG_ENOMEM;
	else if ((rc = seg_plan_late(st->l, f, late)) == 1) {
		seg_plan_free(&st->plan[last]);
		seg_plan_free(&st->plan[npass]);
		for (int i = 0; i < st->n; i++)
			target[i] = (unsigned char)(gathered_in(st->l, f, i, last) && !late[i]);
		rc = seg_plan_forward(&st->plan[last], st->l, f, target);
		for (int i = 0; i < st->n; i++)
			target[i] = (unsigned char)(gathered_in(st->l, f, i, last) && late[i]);
		if (rc >= 0)
			rc = seg_plan_backward(&st->plan[npass], st->l, f, 0, target);
		st->late = late;
		late = NULL;
		rc = rc < 0 ? rc : 1;
	}
	free(target);
	free(late);
	return rc;
}

int seg_loss_looks(const struct seg_loss_state *st, int pass)
{
	const struct plan *p = &st->plan[pass];
	int looks = 0;
	for (const struct sweep *w = p->sweep; w < p->sweep + p->nsweep + p->nback; w++)
		for (int i = 0; i < w->nstep; i++)
			looks |= st->l->node[w->step[i]].op == SEG_OP_P || st->l->node[w->step[i]].op == SEG_OP_Z;
	return looks;
}

int seg_loss_pass(const struct seg_loss *l, struct seg_loss_state *st, int pass, const struct seg_loss_sample *s,
    double *partial)
{
	if (pass >= st->facts.nvalue) {
		memset(partial, 0, count(l, &st->facts, pass, NULL) * sizeof *partial);
		return seg_sample_backward(st, pass, s, partial, NULL);
	}
	if (st->late && pass == st->facts.nvalue - 1)
		memset(partial, 0, count(l, &st->facts, pass, NULL) * sizeof *partial);
	if (pass == 0) {
		partial[0] = (double)s->h;
		partial[1] = (double)s->w;
	}
	return seg_sample_forward(st, pass, s, partial);
}

/* Of a fused state, the last pass leaves out what is late, and the gradient's does the rest. */
static int combine_values(struct seg_loss_state *st, int pass, const double *partials, size_t stride, size_t nsample)
{
	int rc = SEG_OK, last = st->facts.nvalue - 1, level = (pass > last ? last : pass) + 1;
	if (pass == 0)
		extents(st, partials, stride, nsample);
	for (int i = 0; i < st->n && rc >= 0; i++) {
		const struct seg_node *n = &st->l->node[i];
		if (!seg_is_global(n) || n->level != level || (st->late && level == last + 1 && st->late[i] != (pass > last)))
			continue;
		if (seg_is_gathered(st->l, i))
			gather(st, i, partials + st->at[(size_t)pass * (size_t)st->n + (size_t)i], stride, nsample);
		rc = global_eval(st, i);
	}
	return rc;
}

int seg_loss_combine(const struct seg_loss *l, struct seg_loss_state *st, int pass, const double *partials, size_t nsample)
{
	const struct facts *f = &st->facts;
	size_t stride = count(l, f, pass, NULL);
	const size_t *at = st->at + (size_t)pass * (size_t)st->n;
	int rc = SEG_OK, last = f->nvalue + f->nadjoint - 1;
	if (nsample == 0)
		return seg_fail(SEG_EDATA, "a loss over no samples");
	if (pass < f->nvalue || pass == f->nvalue + f->nadjoint)
		rc = combine_values(st, pass, partials, stride, nsample);
	else
		for (int i = 0; i < st->n; i++)
			for (size_t k = 0; gathered_in(l, f, i, pass) && k < nplanes(l, i); k++)
				for (size_t s = 0; s < nsample; s++)
					st->adj[i][k] += partials[s * stride + at[i] + k];
	st->done = pass + 1;
	if (rc >= 0 && pass == f->nvalue - 1)
		rc = descend_first(st);
	if (rc >= 0 && pass >= f->nvalue && pass <= last)
		rc = descend(st, f->level[pass - f->nvalue], pass == last ? 0 : f->level[pass - f->nvalue + 1]);
	return rc;
}

double seg_loss_value(const struct seg_loss *l, const struct seg_loss_state *st)
{
	return st->val[l->root][0];
}

int seg_loss_gradient(const struct seg_loss *l, const struct seg_loss_state *st, const struct seg_loss_sample *s, float *dz)
{
	(void)l;
	return seg_sample_backward(st, st->facts.nvalue + st->facts.nadjoint, s, NULL, dz);
}

int seg_loss_gradient_pass(const struct seg_loss *l, const struct seg_loss_state *st, const struct seg_loss_sample *s, float *dz,
    double *partial)
{
	int pass = st->facts.nvalue + st->facts.nadjoint;
	memset(partial, 0, count(l, &st->facts, pass, NULL) * sizeof *partial);
	return seg_sample_backward(st, pass, s, partial, dz);
}

void seg_loss_join(const struct seg_loss *l, size_t nsample, double *pass, const double *gradient)
{
	struct facts f;
	if (seg_facts_new(&f, l) < 0)
		return;
	size_t n = count(l, &f, f.nvalue + f.nadjoint, NULL), stride = count(l, &f, f.nvalue - 1, NULL);
	for (size_t s = 0; s < nsample; s++)
		for (size_t i = 0; i < n; i++) /* each is 0 where the other is not */
			pass[s * stride + stride - n + i] += gradient[s * n + i];
	seg_facts_free(&f);
}

int seg_loss_field(const struct seg_loss *l, const struct seg_loss_state *st, const struct seg_loss_sample *s, int node, double *out)
{
	if (seg_is_global(&l->node[node])) {
		memcpy(out, st->val[node], nplanes(l, node) * sizeof *out);
		return SEG_OK;
	}
	unsigned char *target = seg_alloc((size_t)st->n, 1);
	struct plan p = {0};
	if (!target)
		return SEG_ENOMEM;
	target[node] = 1;
	int rc = seg_plan_forward(&p, l, &st->facts, target);
	if (rc >= 0)
		rc = seg_sample_field(st, &p, s, node, out);
	seg_plan_free(&p);
	free(target);
	return rc;
}

/* ---- all of it ---- */

struct job {
	const struct seg_loss *l;
	struct seg_loss_state *st;
	const struct seg_loss_source *src;
	double *partial;
	size_t stride;
	int pass;
};

static int one(void *arg, size_t i, int t)
{
	struct job *j = arg;
	struct seg_loss_sample s = {0};
	int rc = j->src->get(j->src->arg, i, t, &s);
	if (rc < 0)
		return rc;
	s.index = i;
	rc = seg_loss_pass(j->l, j->st, j->pass, &s, j->partial + i * j->stride);
	if (j->src->put)
		j->src->put(j->src->arg, i, t, &s);
	return rc;
}

int seg_loss_run(const struct seg_loss *l, struct seg_loss_state *st, int gradient, const struct seg_loss_source *src, int threads)
{
	int rc = SEG_OK, npass = st->facts.nvalue + (gradient ? st->facts.nadjoint : 0);
	for (int pass = 0; pass < npass && rc >= 0; pass++) {
		struct job j = {l, st, src, NULL, count(l, &st->facts, pass, NULL), pass};
		if (!(j.partial = seg_alloc(src->n, j.stride * sizeof *j.partial)))
			return SEG_ENOMEM;
		rc = seg_parallel(threads, src->n, one, &j);
		if (rc >= 0)
			rc = seg_loss_combine(l, st, pass, j.partial, src->n);
		free(j.partial);
	}
	return rc;
}
