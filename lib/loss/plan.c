/* Stages, passes, sweeps: what is computed when, and in which buffer. */
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "lib/loss/plan.h"

/* Which values an adjoint's way through node n takes, to its first two operands if a, if b: bits 1 2 4
 * its operands, 8 its own. */
static unsigned takes(const struct seg_node *n, int a, int b)
{
	switch (n->op) {
	case SEG_OP_P: case SEG_OP_EXP: case SEG_OP_SQRT: case SEG_OP_TANH: case SEG_OP_SIGMOID:
	case SEG_OP_SOFTMAX: case SEG_OP_LOGSOFTMAX:
		return 8;
	case SEG_OP_MUL: return (a ? 2 : 0) | (b ? 1 : 0);
	case SEG_OP_DIV: return 2 | (b ? 8 : 0);
	case SEG_OP_POW: case SEG_OP_XLOGY: case SEG_OP_MIN2: case SEG_OP_MAX2: case SEG_OP_PRIM: return 3;
	case SEG_OP_CLIP: return 7;
	case SEG_OP_WHERE: case SEG_OP_LOG: case SEG_OP_ABS: case SEG_OP_SOFTPLUS: return 1;
	case SEG_OP_MAX: case SEG_OP_MIN: return 1 | 8;
	default: return 0;
	}
}

static int goes_to(const struct seg_node *n, int j, const unsigned char *on)
{
	return j < n->nkid && seg_tree_passes(n, j) && on[n->kid[j]];
}

/* ---- facts ---- */

static void stages(struct facts *f, const struct seg_loss *l)
{
	for (int i = 0; i < l->n; i++) {
		const struct seg_node *n = &l->node[i];
		f->stage[i] = 0;
		for (int j = 0; j < n->nkid && !seg_is_global(n); j++)
			if (f->stage[n->kid[j]] > f->stage[i])
				f->stage[i] = f->stage[n->kid[j]];
		if (n->op == SEG_OP_LOVASZ || (seg_is_array(n) && seg_reduces(n) && seg_is_field(&l->node[n->kid[0]])))
			f->stage[i]++;
	}
}

/* Nodes that nothing uses (the root, and what was made for a ledger) count as used. */
static void uses(struct facts *f, const struct seg_loss *l)
{
	memset(f->check, 1, (size_t)l->n);
	for (int i = 0; i < l->n; i++)
		for (int j = 0; j < l->node[i].nkid; j++)
			f->check[l->node[i].kid[j]] = 0;
	if (l->root < l->n)
		f->live[l->root] = f->check[l->root] = 1;
	for (int i = l->n - 1; i >= 0; i--) {
		const struct seg_node *n = &l->node[i];
		f->live[i] &= f->dep[i];
		for (int j = 0; j < n->nkid; j++) {
			f->check[n->kid[j]] |= f->check[i] && !(n->op == SEG_OP_WHERE && j > 0);
			f->live[n->kid[j]] |= f->live[i] && seg_tree_passes(n, j);
		}
	}
}

int seg_is_boundary(const struct seg_loss *l, const struct facts *f, int i, int level)
{
	if (!seg_is_global(&l->node[i]) || !f->live[i] || l->node[i].level != level)
		return 0;
	for (int j = i + 1; j < l->n; j++)
		for (int m = 0; m < l->node[j].nkid; m++)
			if (l->node[j].kid[m] == i && f->live[j] && seg_tree_passes(&l->node[j], m) &&
			    !seg_is_global(&l->node[j]))
				return 1;
	return 0;
}

int seg_facts_new(struct facts *f, const struct seg_loss *l)
{
	size_t n = (size_t)l->n;
	*f = (struct facts){.n = l->n};
	f->stage = seg_alloc(n, sizeof *f->stage);
	f->dep = seg_alloc(n, 1);
	f->live = seg_alloc(n, 1);
	f->check = seg_alloc(n, 1);
	for (int i = 0; i < l->n; i++)
		if (l->node[i].level > f->nvalue)
			f->nvalue = l->node[i].level;
	f->level = seg_alloc((size_t)f->nvalue + 1, sizeof *f->level);
	if (!f->stage || !f->dep || !f->live || !f->check || !f->level) {
		seg_facts_free(f);
		return SEG_ENOMEM;
	}
	seg_tree_depends(l, f->dep);
	stages(f, l);
	uses(f, l);
	for (int level = f->nvalue; level > 0; level--)
		for (int i = 0; i < l->n; i++)
			if (seg_is_boundary(l, f, i, level)) {
				f->level[f->nadjoint++] = level;
				break;
			}
	return SEG_OK;
}

void seg_facts_free(struct facts *f)
{
	free(f->level);
	free(f->check);
	free(f->live);
	free(f->dep);
	free(f->stage);
	*f = (struct facts){0};
}

/* ---- plans ---- */

struct planner {
	const struct seg_loss *l;
	const struct facts *f;
	struct plan *p;
	unsigned char *use, *back, *need; /* per node */
	int *last, *free_slot, nfree;
};

static int blockwise(const struct seg_node *n) { return seg_is_field(n) || seg_is_row(n); }

/* From the fields marked in use to all that computing them takes. */
static void close_use(struct planner *q)
{
	for (int i = q->l->n - 1; i >= 0; i--) {
		const struct seg_node *n = &q->l->node[i];
		for (int j = 0; j < n->nkid && q->use[i] && seg_is_field(n) && n->op != SEG_OP_LOVASZ; j++)
			q->use[n->kid[j]] |= blockwise(&q->l->node[n->kid[j]]);
	}
}

static int take(struct planner *q, struct sweep *s)
{
	return q->nfree ? q->free_slot[--q->nfree] : s->nslot++;
}

/* Buffers, given back after their last use: so that a block's values stay in the first cache. */
static void slots(struct planner *q, struct sweep *s)
{
	const struct seg_loss *l = q->l;
	int end = s->nstep + s->nback;
	q->nfree = 0;
	for (int i = 0; i < l->n; i++)
		s->vslot[i] = s->aslot[i] = q->last[i] = -1;
	for (int t = 0; t < s->nstep; t++)
		for (int j = 0; j < l->node[s->step[t]].nkid && seg_is_field(&l->node[s->step[t]]); j++)
			q->last[l->node[s->step[t]].kid[j]] = t;
	for (int a = 0; a < s->nacc; a++)
		for (int j = 0; j < l->node[s->acc[a]].nkid; j++)
			q->last[l->node[s->acc[a]].kid[j]] = s->nstep;
	for (int a = 0; a < s->nseed; a++) /* max and min look for the winner */
		q->last[l->node[s->seed[a]].kid[0]] = s->nstep;
	for (int t = 0; t < s->nback; t++) {
		int i = s->back[t];
		unsigned bits = takes(&l->node[i], goes_to(&l->node[i], 0, q->p->rel), goes_to(&l->node[i], 1, q->p->rel));
		for (int j = 0; j < l->node[i].nkid; j++)
			if (bits >> j & 1)
				q->last[l->node[i].kid[j]] = s->nstep + t;
		if (bits & 8)
			q->last[i] = s->nstep + t;
	}
	for (int t = 0; t < s->nstep; t++) {
		int i = s->step[t];
		s->vslot[i] = take(q, s);
		if (q->last[i] < 0)
			q->last[i] = end; /* it is what was asked for */
		for (int u = 0; u <= t; u++)
			if (q->last[s->step[u]] == t)
				q->free_slot[q->nfree++] = s->vslot[s->step[u]];
	}
	for (int a = 0; a < s->nseed; a++)
		if (s->aslot[l->node[s->seed[a]].kid[0]] < 0)
			s->aslot[l->node[s->seed[a]].kid[0]] = take(q, s);
	for (int t = 0; t < s->nback; t++) {
		const struct seg_node *n = &l->node[s->back[t]];
		for (int j = 0; j < n->nkid; j++)
			if (q->back[n->kid[j]] && seg_tree_passes(n, j) && s->aslot[n->kid[j]] < 0)
				s->aslot[n->kid[j]] = take(q, s);
		q->free_slot[q->nfree++] = s->aslot[s->back[t]];
		for (int u = 0; u < s->nstep; u++)
			if (q->last[s->step[u]] == s->nstep + t)
				q->free_slot[q->nfree++] = s->vslot[s->step[u]];
	}
}

static int *list(const struct planner *q, const unsigned char *in, int *n)
{
	int *v = seg_alloc((size_t)q->l->n, sizeof *v);
	*n = 0;
	for (int i = 0; v && i < q->l->n; i++)
		if (in[i])
			v[(*n)++] = i;
	return v;
}

/* Make a sweep of q->use, q->back and the given reductions. */
static int make_sweep(struct planner *q, struct sweep *s, int *acc, int nacc, int *seed, int nseed)
{
	size_t n = (size_t)q->l->n;
	close_use(q);
	s->acc = acc;
	s->nacc = nacc;
	s->seed = seed;
	s->nseed = nseed;
	s->step = list(q, q->use, &s->nstep);
	s->back = list(q, q->back, &s->nback);
	for (int a = 0, b = s->nback - 1; s->back && a < b; a++, b--) {
		int i = s->back[a];
		s->back[a] = s->back[b];
		s->back[b] = i;
	}
	s->vslot = seg_alloc(n, sizeof(int));
	s->aslot = seg_alloc(n, sizeof(int));
	if (!acc || !seed || !s->step || !s->back || !s->vslot || !s->aslot)
		return SEG_ENOMEM;
	slots(q, s);
	return SEG_OK;
}

/* The sweep that computes what reduces fields of stage s: to arrays in q->need, and targets. */
static int forward_sweep(struct planner *q, const unsigned char *target, int s)
{
	const struct seg_loss *l = q->l;
	int *acc = seg_alloc((size_t)l->n, sizeof *acc), n = 0;
	memset(q->use, 0, (size_t)l->n);
	memset(q->back, 0, (size_t)l->n);
	for (int i = 0; acc && i < l->n; i++) {
		const struct seg_node *r = &l->node[i];
		int wanted = target && target[i];
		if (r->op == SEG_OP_LOVASZ && q->need[i] && q->f->stage[i] == s + 1) {
			acc[n++] = i;
			q->use[r->kid[0]] = q->use[r->kid[1]] = 1;
		}
		if (wanted && seg_is_field(r) && q->f->stage[i] == s)
			q->use[i] = 1;
		if (!seg_reduces(r) || !seg_is_field(&l->node[r->kid[0]]) || q->f->stage[r->kid[0]] != s)
			continue;
		if ((q->need[i] && seg_is_array(r)) || (wanted && seg_is_gathered(l, i))) {
			acc[n++] = i;
			q->use[r->kid[0]] = 1;
		}
	}
	return make_sweep(q, &q->p->sweep[s], acc, n, seg_alloc(1, sizeof(int)), 0);
}

/* The arrays in q->need, the targets, and what they are made from. */
static int forward(struct planner *q, const unsigned char *target)
{
	const struct seg_loss *l = q->l;
	struct plan *p = q->p;
	for (int i = l->n - 1; i >= 0; i--) {
		const struct seg_node *n = &l->node[i];
		int wanted = q->need[i] || (target && target[i]);
		q->need[i] = (unsigned char)(wanted && !seg_is_global(n));
		for (int j = 0; j < n->nkid && wanted; j++)
			q->need[n->kid[j]] |= !seg_is_global(&l->node[n->kid[j]]);
	}
	int rc = SEG_OK;
	for (int s = 0; s < p->nsweep; s++)
		for (int i = 0; i < l->n; i++)
			if (q->need[i] && seg_is_array(&l->node[i]) && q->f->stage[i] == s)
				p->array[p->narray++] = i;
	for (int s = 0; s < p->nsweep && rc >= 0; s++)
		rc = forward_sweep(q, target, s);
	return rc;
}

static int start(struct planner *q, struct plan *p, const struct seg_loss *l, const struct facts *f)
{
	size_t n = (size_t)l->n;
	*p = (struct plan){.nsweep = 1};
	*q = (struct planner){.l = l, .f = f, .p = p};
	for (int i = 0; i < l->n; i++)
		if (f->stage[i] >= p->nsweep)
			p->nsweep = f->stage[i] + 1;
	p->sweep = seg_alloc(2 * (size_t)p->nsweep, sizeof *p->sweep);
	p->array = seg_alloc(n, sizeof *p->array);
	p->rel = seg_alloc(n, 1);
	q->use = seg_alloc(n, 1);
	q->back = seg_alloc(n, 1);
	q->need = seg_alloc(n, 1);
	q->last = seg_alloc(n, sizeof *q->last);
	q->free_slot = seg_alloc(2 * n, sizeof *q->free_slot);
	return p->sweep && p->array && p->rel && q->use && q->back && q->need && q->last && q->free_slot
	    ? SEG_OK : SEG_ENOMEM;
}

static int finish(struct planner *q, int rc)
{
	free(q->free_slot);
	free(q->last);
	free(q->need);
	free(q->back);
	free(q->use);
	if (rc < 0)
		seg_plan_free(q->p);
	return rc;
}

int seg_plan_forward(struct plan *p, const struct seg_loss *l, const struct facts *f, const unsigned char *target)
{
	struct planner q;
	int rc = start(&q, p, l, f);
	return finish(&q, rc < 0 ? rc : forward(&q, target));
}

static void relevant(struct planner *q, int level)
{
	const struct seg_loss *l = q->l;
	for (int i = 0; i < l->n; i++) {
		const struct seg_node *n = &l->node[i];
		unsigned char *rel = &q->p->rel[i];
		if (seg_is_global(n)) {
			*rel = (unsigned char)(level > 0 && seg_is_boundary(l, q->f, i, level));
			continue;
		}
		*rel = level == 0 && (n->op == SEG_OP_P || n->op == SEG_OP_Z);
		for (int j = 0; j < n->nkid; j++)
			*rel |= seg_tree_passes(n, j) && q->p->rel[n->kid[j]];
	}
}

/* The sweep that takes adjoints of reductions of fields of stage s down, and adds up the targets of
 * that stage; marks the arrays it needs. */
static int backward_sweep(struct planner *q, struct sweep *w, int s, const unsigned char *target)
{
	const struct seg_loss *l = q->l;
	int *seed = seg_alloc((size_t)l->n, sizeof *seed), n = 0;
	int *acc = seg_alloc((size_t)l->n, sizeof *acc), nacc = 0;
	memset(q->use, 0, (size_t)l->n);
	memset(q->back, 0, (size_t)l->n);
	for (int i = 0; seed && i < l->n; i++) {
		const struct seg_node *r = &l->node[i];
		if (!seg_reduces(r) || seg_is_field(r) || !q->f->live[i])
			continue;
		int k = r->kid[0];
		if (!seg_is_field(&l->node[k]) || !q->p->rel[k] || q->f->stage[k] != s)
			continue;
		seed[n++] = i;
		q->back[k] = 1;
		if (r->op == SEG_OP_MAX || r->op == SEG_OP_MIN) {
			q->use[k] = 1;
			q->need[i] |= !seg_is_global(r);
		}
	}
	for (int i = l->n - 1; i >= 0; i--) {
		const struct seg_node *r = &l->node[i];
		if (!q->back[i])
			continue;
		unsigned bits = takes(&l->node[i], goes_to(&l->node[i], 0, q->p->rel), goes_to(&l->node[i], 1, q->p->rel));
		q->use[i] |= bits >> 3 & 1;
		for (int j = 0; j < r->nkid; j++) {
			int k = r->kid[j];
			q->back[k] |= seg_tree_passes(r, j) && q->p->rel[k] && seg_is_field(&l->node[k]);
			q->use[k] |= (bits >> j & 1) && blockwise(&l->node[k]);
			q->need[k] |= seg_is_array(&l->node[k]);
		}
	}
	for (int i = 0; acc && target && i < l->n; i++) {
		int k = target[i] ? l->node[i].kid[0] : 0;
		if (!target[i] || !seg_is_field(&l->node[k]) || q->f->stage[k] != s)
			continue;
		acc[nacc++] = i;
		q->use[k] = 1;
	}
	int rc = make_sweep(q, w, acc, nacc, seed, n);
	for (int t = 0; t < w->nstep && rc >= 0; t++)
		q->need[w->step[t]] |= l->node[w->step[t]].op == SEG_OP_LOVASZ;
	for (int t = 0; t < w->nstep && rc >= 0; t++)
		for (int j = 0; j < l->node[w->step[t]].nkid && seg_is_field(&l->node[w->step[t]]); j++)
			q->need[l->node[w->step[t]].kid[j]] |= seg_is_array(&l->node[l->node[w->step[t]].kid[j]]);
	return rc;
}

int seg_plan_backward(struct plan *p, const struct seg_loss *l, const struct facts *f, int level,
    const unsigned char *target)
{
	struct planner q;
	int rc = start(&q, p, l, f);
	if (rc < 0)
		return finish(&q, rc);
	relevant(&q, level);
	p->nback = p->nsweep;
	for (int s = 0; s < p->nback && rc >= 0; s++)
		rc = backward_sweep(&q, &p->sweep[p->nsweep + s], s, target);
	for (int i = 0; target && i < l->n; i++)
		if (target[i])
			q.need[l->node[i].kid[0]] |= seg_is_array(&l->node[l->node[i].kid[0]]);
	for (int i = 0; i < l->n; i++) /* adjoints pass through arrays, too */
		if (f->live[i] && p->rel[i] && seg_is_array(&l->node[i])) {
			q.need[i] = 1;
			for (int j = 0; j < l->node[i].nkid; j++)
				q.need[l->node[i].kid[j]] |= seg_is_array(&l->node[l->node[i].kid[j]]);
		}
	return finish(&q, rc < 0 ? rc : forward(&q, NULL));
}

int seg_plan_late(const struct seg_loss *l, const struct facts *f, unsigned char *late)
{
	int fusible = f->nvalue > 0;
	for (int i = 0; i < l->n; i++) {
		const struct seg_node *n = &l->node[i];
		late[i] = seg_is_gathered(l, i) && n->level == f->nvalue && f->live[i];
		for (int j = 0; j < n->nkid && seg_is_global(n); j++)
			late[i] |= late[n->kid[j]];
		if (!seg_is_global(n) || !f->live[i])
			continue;
		unsigned bits = takes(n, goes_to(n, 0, f->live), goes_to(n, 1, f->live));
		fusible &= !(bits & 8 && late[i]);
		for (int j = 0; j < n->nkid; j++)
			fusible &= !(bits >> j & 1 && late[n->kid[j]]);
	}
	return fusible;
}

void seg_plan_free(struct plan *p)
{
	for (int s = 0; p->sweep && s < p->nsweep + p->nback; s++) {
		struct sweep *w = &p->sweep[s];
		free(w->step);
		free(w->acc);
		free(w->seed);
		free(w->back);
		free(w->vslot);
		free(w->aslot);
	}
	free(p->sweep);
	free(p->array);
	free(p->rel);
	*p = (struct plan){0};
}
