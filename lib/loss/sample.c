/* One sample's part in a loss: sweeps over blocks of its pixels, forward and backward. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "lib/loss/state.h"

enum { ROOM = 4, SINK = 3 }; /* buffers besides the slots: for kernels, for adjoints on their way, dz */

struct run {
	const struct seg_loss_state *st;
	const struct seg_loss *l;
	const struct plan *p;
	const struct seg_loss_sample *s;
	const struct seg_kernels *k;
	struct work *w;
	size_t bufsize;       /* bytes of one buffer */
	int maxslot;          /* slots that the plan needs: the other buffers lie behind them */
	int K;
	double *partial;
	const size_t *at;     /* places in it */
	const struct sweep *sw;
	char *block;          /* its slots */
	size_t i0;            /* the block: first pixel, pixels */
	int n;
};

static int planes(const struct run *r, int i) { return r->l->node[i].axes & SEG_K ? r->K : 1; }

static size_t extent(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	return seg_is_global(n) ? 1 : n->axes & SEG_Y ? r->s->h : n->axes & SEG_X ? r->s->w : 1;
}

static const double *value(const struct run *r, int i)
{
	return seg_is_global(&r->l->node[i]) ? r->st->val[i] : r->w->val[i];
}

static double *adjoint(const struct run *r, int i)
{
	return seg_is_global(&r->l->node[i]) ? r->partial + r->at[i] : r->w->adj[i];
}

static char *slot(const struct run *r, int i) { return r->block + (size_t)i * r->bufsize; }
static char *room(const struct run *r) { return slot(r, r->maxslot); }
static char *sink(const struct run *r, int j) { return slot(r, r->maxslot + ROOM + j); }
static char *dz_block(const struct run *r) { return slot(r, r->maxslot + ROOM + SINK); }
static char *field(const struct run *r, int i) { return slot(r, r->sw->vslot[i]); }
static char *field_adjoint(const struct run *r, int i) { return slot(r, r->sw->aslot[i]); }

/* ---- room ---- */

void seg_work_free(struct work *w)
{
	if (!w)
		return;
	free(w->whole);
	free(w->sorted);
	free(w->row);
	free(w->scalar);
	free(w->block);
	free(w->open);
	free(w->won);
	free(w->adj);
	free(w->val);
	free(w->mem);
	free(w);
}

static struct work *work_new(const struct seg_loss_state *st)
{
	size_t n = (size_t)st->n, K = (size_t)st->l->env.nclass;
	struct work *w = seg_alloc(1, sizeof *w);
	if (!w)
		return NULL;
	w->val = seg_alloc(n, sizeof *w->val);
	w->adj = seg_alloc(n, sizeof *w->adj);
	w->won = seg_alloc(n, sizeof *w->won);
	w->open = seg_alloc(n, 1);
	w->scalar = seg_alloc(n, K * st->k->size);
	w->row = seg_alloc(SEG_BLOCK, sizeof *w->row);
	w->whole = seg_alloc(n, sizeof *w->whole);
	if (w->val && w->adj && w->won && w->open && w->scalar && w->row && w->whole)
		return w;
	seg_work_free(w);
	return NULL;
}

/* Arrays, their adjoints and flags of winners for this sample's extents, zeroed. */
static int lay_out(struct run *r)
{
	struct work *w = r->w;
	size_t need = 0, at = 0;
	for (int i = 0; i < r->st->n; i++)
		if (seg_is_array(&r->l->node[i]) || seg_reduces(&r->l->node[i]))
			need += 3 * (size_t)planes(r, i) * extent(r, i);
	if (need > w->cap) {
		free(w->mem);
		w->cap = 0;
		if (!(w->mem = seg_alloc(need, sizeof *w->mem)))
			return SEG_ENOMEM;
		w->cap = need;
	}
	for (int i = 0; i < r->st->n; i++)
		if (seg_is_array(&r->l->node[i]) || seg_reduces(&r->l->node[i])) {
			size_t n = (size_t)planes(r, i) * extent(r, i);
			w->val[i] = w->mem + at;
			w->adj[i] = w->val[i] + n;
			w->won[i] = w->adj[i] + n;
			at += 3 * n;
		}
	if (need)
		memset(w->mem, 0, need * sizeof *w->mem);
	return SEG_OK;
}

/* Room for whole fields, where errors are sorted. */
static int lay_out_whole(struct run *r)
{
	struct work *w = r->w;
	size_t need = 0, at = 0, pixels = r->s->h * r->s->w;
	for (int i = 0; i < r->st->n; i++)
		need += r->l->node[i].op == SEG_OP_LOVASZ ? 2 * (size_t)planes(r, i) * pixels : 0;
	if (need > w->nsorted) {
		free(w->sorted);
		w->nsorted = 0;
		if (!(w->sorted = seg_alloc(need, sizeof *w->sorted)))
			return SEG_ENOMEM;
		w->nsorted = need;
	}
	for (int i = 0; i < r->st->n; i++)
		if (r->l->node[i].op == SEG_OP_LOVASZ) {
			w->whole[i] = w->sorted + at;
			at += 2 * (size_t)planes(r, i) * pixels;
		}
	return SEG_OK;
}

/* Buffers for the plan at hand: that of a single field may need more than the state's own. */
static int slots(struct run *r)
{
	struct work *w = r->w;
	for (int i = 0; i < r->p->nsweep + r->p->nback; i++)
		if (r->p->sweep[i].nslot > r->maxslot)
			r->maxslot = r->p->sweep[i].nslot;
	if (w->block && r->maxslot <= w->slots)
		return SEG_OK;
	free(w->block);
	w->block = seg_alloc_aligned((size_t)(r->maxslot + ROOM + SINK + 1), r->bufsize);
	w->slots = r->maxslot;
	return w->block ? SEG_OK : SEG_ENOMEM;
}

static int run_start(struct run *r, const struct seg_loss_state *st, const struct plan *p, const struct seg_loss_sample *s)
{
	*r = (struct run){.st = st, .l = st->l, .p = p, .s = s, .k = st->k, .K = st->l->env.nclass,
	    .maxslot = st->maxslot};
	r->bufsize = (size_t)r->K * SEG_BLOCK * r->k->size;
	if (s->h < 1 || s->w < 1)
		return seg_fail(SEG_EDATA, "sample %s has no pixels", s->key ? s->key : "?");
	pthread_mutex_lock(&st->pool->lock);
	r->w = st->pool->idle;
	if (r->w)
		st->pool->idle = r->w->next;
	pthread_mutex_unlock(&st->pool->lock);
	if (!r->w && !(r->w = work_new(st)))
		return SEG_ENOMEM;
	if (slots(r) < 0)
		return SEG_ENOMEM;
	r->block = r->w->block;
	int rc = lay_out(r);
	return rc < 0 ? rc : lay_out_whole(r);
}

static int run_end(struct run *r, int rc)
{
	if (!r->w)
		return rc;
	pthread_mutex_lock(&r->st->pool->lock);
	r->w->next = r->st->pool->idle;
	r->st->pool->idle = r->w;
	pthread_mutex_unlock(&r->st->pool->lock);
	return rc;
}

/* ---- messages ---- */

int seg_domain_error(const struct seg_loss *l, int i, const char *where, const char *what)
{
	const struct seg_node *n = &l->node[i];
	const struct text *src = seg_tree(l)->info[i].src;
	char place[120] = "";
	char *text = seg_loss_node_text(l, i);
	if (src)
		seg_loss_place((struct spot){src, n->at, n->len}, place, sizeof place);
	int rc = seg_fail(SEG_EDATA, "%s%s in %s%s%s", where, what, text && strlen(text) < 60 ? text : "the loss",
	    src ? ", " : "", place);
	free(text);
	return rc;
}

static void locate(const struct run *r, size_t pixel, int k, char *buf, size_t n)
{
	const struct seg_loss_env *e = &r->l->env;
	char class[100] = "";
	if (k >= 0 && e->classes)
		snprintf(class, sizeof class, ", class %s", e->classes[k]);
	else if (k >= 0)
		snprintf(class, sizeof class, ", class %d", k);
	snprintf(buf, n, "sample %s, pixel (y %zu, x %zu)%s: ", r->s->key ? r->s->key : "?", pixel / r->s->w,
	    pixel % r->s->w, class);
}

/* What an operation did wrong, from its operands' values. */
static const char *fault(enum seg_op op, double a, double b)
{
	if (op == SEG_OP_LOG)
		return a == 0 ? "logarithm of 0" : a < 0 ? "logarithm of a negative number" : NULL;
	if (op == SEG_OP_XLOGY && a != 0)
		return b == 0 ? "logarithm of 0" : b < 0 ? "logarithm of a negative number" : NULL;
	if (op == SEG_OP_DIV && b == 0)
		return a == 0 ? "0 divided by 0" : "division by 0";
	if (op == SEG_OP_SQRT && a < 0)
		return "square root of a negative number";
	if (op == SEG_OP_POW && a == 0 && b < 0)
		return "0 to a negative power";
	if (op == SEG_OP_POW && a < 0 && b != __builtin_floor(b))
		return "a negative number to a power that is not whole";
	return NULL;
}

int seg_global_error(const struct seg_loss_state *st, int i)
{
	const struct seg_node *n = &st->l->node[i];
	const struct seg_loss_env *e = &st->l->env;
	char where[120] = "";
	const char *what = NULL;
	int k = 0, K = n->axes & SEG_K ? e->nclass : 1;
	for (;; k++) {
		double x[3] = {0};
		for (int j = 0; j < n->nkid && !seg_reduces(n); j++)
			x[j] = st->val[n->kid[j]][st->l->node[n->kid[j]].axes & SEG_K ? k : 0];
		what = fault(n->op, x[0], x[1]);
		if (what || k == K - 1 || st->val[i][k] - st->val[i][k] != 0)
			break;
	}
	if (K > 1 && e->classes)
		snprintf(where, sizeof where, "class %s: ", e->classes[k]);
	return seg_domain_error(st->l, i, where, what ? what : "a value that is not finite");
}

/* ---- arrays: whole, in double ---- */

static double side(const struct seg_loss_sample *s, unsigned axes, int K)
{
	double n = 1;
	if (axes & SEG_Y)
		n *= s ? (double)s->h : 1;
	if (axes & SEG_X)
		n *= s ? (double)s->w : 1;
	return axes & SEG_K ? n * K : n;
}

struct scale seg_scale(const struct seg_loss *l, int i, const struct seg_loss_sample *s)
{
	const struct seg_node *n = &l->node[i];
	unsigned e = l->node[n->kid[0]].axes, lacks = n->over & ~e, has = n->over & e;
	struct scale c = {1, 1};
	if (n->op == SEG_OP_SUM || n->op == SEG_OP_MEAN)
		c.mul = side(s, lacks, l->env.nclass);
	if (n->op == SEG_OP_MEAN)
		c.div = seg_is_gathered(l, i) ? side(NULL, has, l->env.nclass) : side(s, has, l->env.nclass);
	return c;
}

/* Element of reduction i that element (k, m) of its operand, an array of extent M, enters. */
static size_t target(const struct run *r, int i, int k, size_t m)
{
	const struct seg_node *n = &r->l->node[i];
	size_t M = seg_is_global(n) ? 1 : extent(r, i);
	return (size_t)(n->over & SEG_K || !(n->axes & SEG_K) ? 0 : k) * M + (M > 1 ? m : 0);
}

static int better(enum seg_op op, double a, double b)
{
	return a != a || (op == SEG_OP_MAX ? a > b : a < b);
}

static void reduce_array(const struct run *r, int i, double *out)
{
	const struct seg_node *n = &r->l->node[i];
	int e = n->kid[0], extreme = n->op == SEG_OP_MAX || n->op == SEG_OP_MIN;
	size_t M = extent(r, e), cells = (size_t)planes(r, i) * extent(r, i);
	const double *v = value(r, e);
	for (size_t c = 0; c < cells; c++)
		out[c] = !extreme ? 0 : n->op == SEG_OP_MAX ? -SEG_INF : SEG_INF;
	for (int k = 0; k < planes(r, e); k++)
		for (size_t m = 0; m < M; m++) {
			double *o = &out[target(r, i, k, m)], x = v[(size_t)k * M + m];
			*o = !extreme ? *o + x : better(n->op, x, *o) ? x : *o;
		}
}

static void rescale(const struct run *r, int i, double *v)
{
	struct scale c = seg_scale(r->l, i, r->s);
	int gathered = seg_is_gathered(r->l, i);
	size_t cells = (size_t)planes(r, i) * extent(r, i);
	for (size_t j = 0; j < cells; j++)
		v[j] = gathered ? v[j] * c.mul : v[j] * c.mul / c.div; /* combine divides */
}

static void leaf_array(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	size_t M = extent(r, i), K = (size_t)planes(r, i);
	if (n->op == SEG_OP_S)
		r->w->val[i][0] = r->s->sample_weight;
	else /* w without y or x */
		for (size_t m = 0; m < M; m++)
			for (size_t k = 0; k < K; k++)
				r->w->val[i][k * M + m] = r->s->weight ? r->s->weight[m * K + k] : 1;
}

static void array_call(const struct run *r, int i, struct seg_call *c)
{
	const struct seg_node *n = &r->l->node[i];
	size_t M = extent(r, i);
	*c = (struct seg_call){.op = n->op, .over = n->over, .prim = n->prim, .check = r->st->facts.check[i],
	    .n = (int)M, .nk = planes(r, i), .nclass = r->K, .out = r->w->val[i]};
	for (int j = 0; j < n->nkid; j++) {
		size_t m = extent(r, n->kid[j]);
		c->a[j] = (struct seg_arg){value(r, n->kid[j]), r->l->node[n->kid[j]].axes & SEG_K ? (ptrdiff_t)m : 0,
		    m > 1 || M == 1};
	}
}

static int array_fault(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	char where[200];
	const char *what = NULL;
	size_t M = extent(r, i);
	int at = -1;
	for (int k = 0; k < planes(r, i) && !what; k++)
		for (size_t m = 0; m < M && !what; m++) {
			double x[3] = {0};
			for (int j = 0; j < n->nkid && !seg_reduces(n); j++) {
				int e = n->kid[j];
				x[j] = value(r, e)[(r->l->node[e].axes & SEG_K ? (size_t)k : 0) * extent(r, e) + (extent(r, e) > 1 ? m : 0)];
			}
			double y = r->w->val[i][(size_t)k * M + m];
			what = fault(n->op, x[0], x[1]);
			if (!what && y - y != 0)
				what = "a value that is not finite";
			at = k;
		}
	snprintf(where, sizeof where, "sample %s%s%s: ", r->s->key ? r->s->key : "?",
	    planes(r, i) > 1 && r->l->env.classes ? ", class " : "",
	    planes(r, i) > 1 && r->l->env.classes ? r->l->env.classes[at] : "");
	return seg_domain_error(r->l, i, where, what ? what : "a value that is not finite");
}

static int array_eval(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	size_t cells = (size_t)planes(r, i) * extent(r, i);
	int bad = 0;
	if (!n->nkid)
		leaf_array(r, i);
	else if (seg_reduces(n)) {
		if (!seg_is_field(&r->l->node[n->kid[0]])) /* else a sweep has added it up */
			reduce_array(r, i, r->w->val[i]);
		rescale(r, i, r->w->val[i]);
	} else {
		struct seg_call c;
		array_call(r, i, &c);
		double *tmp = seg_alloc(ROOM * (size_t)r->K, (size_t)c.n * sizeof *tmp);
		if (!tmp)
			return SEG_ENOMEM;
		c.tmp = tmp;
		bad = r->st->k64->forward(&c);
		free(tmp);
	}
	for (size_t j = 0; j < cells && r->st->facts.check[i]; j++)
		bad |= r->w->val[i][j] - r->w->val[i][j] != 0;
	return bad ? array_fault(r, i) : SEG_OK;
}

/* ---- blocks, forward ---- */

/* Numbers that fields of this sweep use, rounded once to the field's type. */
static void scalars(const struct run *r)
{
	const struct sweep *sw = r->sw;
	for (int t = 0; t < sw->nstep + sw->nback; t++) {
		const struct seg_node *n = &r->l->node[t < sw->nstep ? sw->step[t] : sw->back[t - sw->nstep]];
		for (int j = 0; j < n->nkid && seg_is_field(n); j++) {
			int e = n->kid[j];
			if (!seg_is_field(&r->l->node[e]) && !seg_is_row(&r->l->node[e]))
				r->k->narrow(value(r, e), planes(r, e), r->w->scalar + (size_t)e * (size_t)r->K * r->k->size);
		}
	}
}

static struct seg_arg operand(const struct run *r, int e)
{
	const struct seg_node *n = &r->l->node[e];
	int has_k = (n->axes & SEG_K) != 0;
	if (!seg_is_field(n) && !seg_is_row(n))
		return (struct seg_arg){r->w->scalar + (size_t)e * (size_t)r->K * r->k->size, has_k, 0};
	if (r->sw->vslot[e] < 0)
		return (struct seg_arg){NULL, 0, 1}; /* not needed here */
	return (struct seg_arg){field(r, e), has_k ? r->n : 0, 1};
}

/* Where pixel i of the block lies along the only axis, y or x, that a row has. */
static size_t along(const struct run *r, const struct seg_node *row, int i)
{
	size_t at = r->i0 + (size_t)i;
	return row->axes & SEG_Y ? at / r->s->w : at % r->s->w;
}

static void spread(const struct run *r, int i)
{
	size_t M = extent(r, i);
	for (int k = 0; k < planes(r, i); k++) {
		const double *v = r->w->val[i] + (size_t)k * M;
		for (int j = 0; j < r->n; j++)
			r->w->row[j] = v[along(r, &r->l->node[i], j)];
		r->k->narrow(r->w->row, r->n, field(r, i) + (size_t)k * (size_t)r->n * r->k->size);
	}
}

static void field_call(const struct run *r, int i, struct seg_call *c)
{
	const struct seg_node *n = &r->l->node[i];
	*c = (struct seg_call){.op = n->op, .over = n->over, .prim = n->prim, .n = r->n, .nk = planes(r, i),
	    .nclass = r->K, .tmp = room(r), .check = r->sw->nback && !r->sw->nacc ? 0 : r->st->facts.check[i]};
	if (r->sw->vslot[i] >= 0)
		c->out = field(r, i);
	for (int j = 0; j < n->nkid; j++)
		c->a[j] = operand(r, n->kid[j]);
}

/* Operand j (0, 1) of a lovasz, plane k, over the whole sample; of its value j is 0. */
static double *whole(const struct run *r, int i, int j, int k)
{
	return r->w->whole[i] + (size_t)(j * planes(r, i) + k) * r->s->h * r->s->w;
}

/* The block's operands of a lovasz are kept; 1 if they are not finite. */
static int keep(const struct run *r, int i)
{
	int bad = 0;
	for (int j = 0; j < 2; j++)
		for (int k = 0; k < planes(r, i); k++) {
			int e = r->l->node[i].kid[j];
			double *o = whole(r, i, j, k) + r->i0;
			r->k->widen(field(r, e) + (r->l->node[e].axes & SEG_K ? (size_t)k : 0) * (size_t)r->n * r->k->size, r->n, o);
			for (int m = 0; m < r->n; m++)
				bad |= o[m] - o[m] != 0;
		}
	return bad;
}

/* A sweep has kept them all. */
static int sort_kept(const struct run *r)
{
	size_t pixels = r->s->h * r->s->w;
	int rc = SEG_OK;
	for (int a = 0; a < r->sw->nacc && rc >= 0; a++) {
		int i = r->sw->acc[a], pooled = r->l->node[i].over & SEG_K ? planes(r, i) : 1;
		for (int k = 0; r->l->node[i].op == SEG_OP_LOVASZ && k < planes(r, i) && rc >= 0; k += pooled)
			rc = seg_lovasz(whole(r, i, 0, k), whole(r, i, 1, k), (size_t)pooled * pixels);
	}
	return rc;
}

/* 0, or 1 if something lies outside its domain. */
static int step(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	if (n->op == SEG_OP_LOVASZ) {
		for (int k = 0; k < planes(r, i); k++)
			r->k->narrow(whole(r, i, 0, k) + r->i0, r->n, field(r, i) + (size_t)k * (size_t)r->n * r->k->size);
		return 0;
	}
	if (seg_is_row(n)) {
		spread(r, i);
		return 0;
	}
	if (!n->nkid) {
		struct seg_load ld = {.s = r->s, .head = r->l->env.head, .leaf = n->op, .axes = n->axes, .i0 = r->i0,
		    .n = r->n, .nclass = r->K, .out = field(r, i), .tmp = room(r)};
		return r->k->load(&ld);
	}
	struct seg_call c;
	field_call(r, i, &c);
	return r->k->forward(&c);
}

/* Enter the block's values into reduction i at d; 1 if they are not finite. */
static int enter(const struct run *r, int i, double *d)
{
	const struct seg_node *n = &r->l->node[i];
	if (n->op == SEG_OP_LOVASZ)
		return keep(r, i);
	int e = n->kid[0], K = planes(r, e), extreme = n->op == SEG_OP_MAX || n->op == SEG_OP_MIN;
	const char *v = field(r, e);
	double x = 0;
	if ((n->over & SEG_YX) == SEG_YX && !extreme && (n->over & SEG_K || K == 1)) {
		d[0] += x = r->k->sum(v, K * r->n);
		return x - x != 0;
	}
	for (int k = 0; k < K; k++, v += (size_t)r->n * r->k->size) {
		if ((n->over & SEG_YX) == SEG_YX) {
			double *o = &d[target(r, i, k, 0)];
			x = extreme ? r->k->peak(v, r->n, n->op == SEG_OP_MIN) : r->k->sum(v, r->n);
			*o = !extreme ? *o + x : better(n->op, x, *o) ? x : *o;
			if (x - x != 0)
				return 1;
			continue;
		}
		r->k->widen(v, r->n, r->w->row);
		for (int j = 0; j < r->n; j++) {
			double *o = &d[target(r, i, k, along(r, n, j))];
			x = r->w->row[j];
			*o = !extreme ? *o + x : better(n->op, x, *o) ? x : *o;
			if (x - x != 0)
				return 1;
		}
	}
	return 0;
}

static double element(const struct run *r, const void *v, size_t i)
{
	return r->k->size == sizeof(float) ? (double)((const float *)v)[i] : ((const double *)v)[i];
}

static double element_of(const struct run *r, const struct seg_arg *a, int k, int i)
{
	return a->v ? element(r, a->v, (size_t)(k * a->ks + i * a->is)) : 0;
}

/* The first element of step i that lies outside a domain: records the message; 0 if there is none.
 * Its operands are looked at, then the value itself. */
static int search(const struct run *r, int i, int *rc)
{
	const struct seg_node *n = &r->l->node[i];
	char where[200];
	struct seg_call c;
	if (!r->st->facts.check[i] && n->nkid)
		return 0;
	field_call(r, i, &c);
	for (int j = 0; j < r->n; j++)
		for (int k = 0; k < planes(r, i); k++) {
			double y = element(r, field(r, i), (size_t)k * (size_t)r->n + (size_t)j);
			double a = n->nkid > 0 && !n->over ? element_of(r, &c.a[0], k, j) : 0;
			double b = n->nkid > 1 ? element_of(r, &c.a[1], k, j) : 0;
			const char *what = fault(n->op, a, b);
			if (!what && y - y == 0)
				continue;
			locate(r, r->i0 + (size_t)j, planes(r, i) > 1 ? k : -1, where, sizeof where);
			if (n->op == SEG_OP_Z && !r->s->z)
				*rc = seg_fail(SEG_EDATA, "%sthe logit z cannot be recovered from a p that is exactly 0 or 1; "
				    "store logits (seg-predict --logits)", where);
			else
				*rc = seg_domain_error(r->l, i, where, what ? what : "a value that is not finite");
			return 1;
		}
	return 0;
}

/* A block went wrong: compute it again, every value kept, and name the first culprit. */
static int diagnose(const struct run *given)
{
	struct run r = *given;
	struct sweep sw = *r.sw;
	int n = r.st->n, rc = SEG_OK;
	size_t extra = (size_t)(r.maxslot + ROOM + SINK + 1);
	int *vslot = seg_alloc((size_t)n, sizeof *vslot);
	char *block = seg_alloc_aligned((size_t)sw.nstep + extra, r.bufsize);
	if (!vslot || !block) {
		free(vslot);
		free(block);
		return SEG_ENOMEM;
	}
	for (int i = 0; i < n; i++)
		vslot[i] = -1;
	for (int t = 0; t < sw.nstep; t++)
		vslot[sw.step[t]] = (int)extra + t;
	sw.vslot = vslot;
	r.sw = &sw;
	r.block = block;
	for (int t = 0; t < sw.nstep && rc == SEG_OK; t++) {
		step(&r, sw.step[t]);
		if (!seg_is_row(&r.l->node[sw.step[t]]))
			search(&r, sw.step[t], &rc);
	}
	free(vslot);
	free(block);
	return rc < 0 ? rc : seg_fail(SEG_EDATA, "sample %s: the loss is not finite", r.s->key ? r.s->key : "?");
}

static double *enters(const struct run *r, int i)
{
	return seg_is_gathered(r->l, i) ? r->partial + r->at[i] : r->w->val[i];
}

/* What the sweep adds up starts from here. */
static void clear(const struct run *r)
{
	for (int a = 0; a < r->sw->nacc; a++) {
		const struct seg_node *n = &r->l->node[r->sw->acc[a]];
		if (n->op == SEG_OP_LOVASZ)
			continue;
		double *d = enters(r, r->sw->acc[a]), zero = n->op == SEG_OP_MAX ? -SEG_INF : n->op == SEG_OP_MIN ? SEG_INF : 0;
		size_t cells = (size_t)planes(r, r->sw->acc[a]) * extent(r, r->sw->acc[a]);
		for (size_t c = 0; c < cells; c++)
			d[c] = zero;
	}
}

static int block_forward(const struct run *r)
{
	int bad = 0;
	for (int t = 0; t < r->sw->nstep; t++)
		bad |= step(r, r->sw->step[t]);
	for (int a = 0; a < r->sw->nacc; a++)
		bad |= enter(r, r->sw->acc[a], enters(r, r->sw->acc[a]));
	return bad ? diagnose(r) : SEG_OK;
}

/* Call each for the blocks of the sample in order. */
static int blocks(struct run *r, int (*each)(const struct run *r))
{
	size_t P = r->s->h * r->s->w;
	int rc = SEG_OK;
	scalars(r);
	for (r->i0 = 0; r->i0 < P && rc >= 0; r->i0 += SEG_BLOCK) {
		r->n = P - r->i0 < SEG_BLOCK ? (int)(P - r->i0) : SEG_BLOCK;
		rc = each(r);
	}
	return rc;
}

static int arrays(const struct run *r, int stage)
{
	int rc = SEG_OK;
	for (int j = 0; j < r->p->narray && rc >= 0; j++)
		if (r->st->facts.stage[r->p->array[j]] == stage)
			rc = array_eval(r, r->p->array[j]);
	return rc;
}

static int forward(struct run *r)
{
	int rc = SEG_OK;
	for (int s = 0; s < r->p->nsweep && rc >= 0; s++) {
		r->sw = &r->p->sweep[s];
		clear(r);
		rc = arrays(r, s);
		if (rc >= 0 && r->sw->nacc)
			rc = blocks(r, block_forward);
		if (rc >= 0)
			rc = sort_kept(r);
	}
	return rc;
}

/* The partials of a pass of the value, when what fields give to them has been added up. */
static void partials(const struct run *r, int level, int late)
{
	for (int i = 0; i < r->st->n; i++)
		if (seg_is_gathered(r->l, i) && r->l->node[i].level == level && (!r->st->late || r->st->late[i] == late)) {
			if (!seg_is_field(&r->l->node[r->l->node[i].kid[0]]))
				reduce_array(r, i, r->partial + r->at[i]);
			rescale(r, i, r->partial + r->at[i]);
		}
}

int seg_sample_forward(const struct seg_loss_state *st, int pass, const struct seg_loss_sample *s, double *partial)
{
	struct run r;
	int rc = run_start(&r, st, &st->plan[pass], s);
	r.partial = partial;
	r.at = st->at + (size_t)pass * (size_t)st->n;
	if (rc >= 0)
		rc = forward(&r);
	if (rc >= 0)
		partials(&r, pass + 1, 0);
	return run_end(&r, rc);
}

/* ---- one node's values ---- */

struct output {
	struct run r; /* first: block functions receive it */
	int node;
	double *out;
};

static int block_output(const struct run *r)
{
	const struct output *o = (const struct output *)r;
	int bad = 0, K = planes(r, o->node);
	for (int t = 0; t < r->sw->nstep; t++)
		bad |= step(r, r->sw->step[t]);
	for (int k = 0; k < K; k++) {
		r->k->widen(field(r, o->node) + (size_t)k * (size_t)r->n * r->k->size, r->n, r->w->row);
		for (int j = 0; j < r->n; j++) {
			o->out[(r->i0 + (size_t)j) * (size_t)K + (size_t)k] = r->w->row[j];
			bad |= r->st->facts.check[o->node] && r->w->row[j] - r->w->row[j] != 0;
		}
	}
	return bad ? diagnose(r) : SEG_OK;
}

int seg_sample_field(const struct seg_loss_state *st, const struct plan *p, const struct seg_loss_sample *s,
    int node, double *out)
{
	struct output o = {.node = node, .out = out};
	int rc = run_start(&o.r, st, p, s);
	if (rc >= 0)
		rc = forward(&o.r);
	if (rc >= 0 && seg_is_field(&st->l->node[node])) {
		o.r.sw = &p->sweep[st->facts.stage[node]];
		rc = blocks(&o.r, block_output);
	} else if (rc >= 0) {
		size_t M = extent(&o.r, node), K = (size_t)planes(&o.r, node);
		for (size_t m = 0; m < M; m++)
			for (size_t k = 0; k < K; k++)
				out[m * K + k] = o.r.w->val[node][k * M + m];
	}
	return run_end(&o.r, rc);
}

/* ---- backward ---- */

/* By what an adjoint of reduction i is multiplied on its way to the operand. */
static double share(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	struct scale c = seg_scale(r->l, i, r->s);
	double f = c.mul / c.div;
	return n->op == SEG_OP_MEAN && seg_is_gathered(r->l, i) ? f / r->st->extent[n->over & ~SEG_K] : f;
}

static const double *adjoint_of(const struct run *r, int i)
{
	return seg_is_global(&r->l->node[i]) ? r->st->adj[i] : r->w->adj[i];
}

/* May this sample hold the winner of cell c? */
static int winning(const struct run *r, int i, size_t c)
{
	return !seg_is_gathered(r->l, i) || r->st->winner[(size_t)i * (size_t)r->K + c] == r->s->index;
}

/* The adjoint of reduction i enters the array it reduces. */
static void seed_array(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	int e = n->kid[0], extreme = n->op == SEG_OP_MAX || n->op == SEG_OP_MIN;
	size_t M = extent(r, e);
	const double *g = adjoint_of(r, i), *v = value(r, e), *top = value(r, i);
	double f = share(r, i), *d = adjoint(r, e);
	size_t cells = (size_t)planes(r, i) * extent(r, i);
	for (size_t c = 0; c < cells && extreme; c++)
		for (size_t m = 0, found = !winning(r, i, c); m < M && !found; m++)
			for (int k = 0; k < planes(r, e) && !found; k++)
				if (target(r, i, k, m) == c && v[(size_t)k * M + m] == top[c]) {
					d[(size_t)k * M + m] += g[c];
					found = 1;
				}
	for (int k = 0; k < planes(r, e) && !extreme; k++)
		for (size_t m = 0; m < M; m++)
			d[(size_t)k * M + m] += g[target(r, i, k, m)] * f;
}

/* The first element of the block that equals the maximum takes all of its adjoint. */
static void seed_winner(const struct run *r, int i, char *d)
{
	const struct seg_node *n = &r->l->node[i];
	int e = n->kid[0];
	const double *g = adjoint_of(r, i), *top = value(r, i);
	for (int j = 0; j < r->n; j++)
		for (int k = 0; k < planes(r, e); k++) {
			size_t c = target(r, i, k, (n->over & SEG_YX) == SEG_YX ? 0 : along(r, n, j));
			size_t at = (size_t)k * (size_t)r->n + (size_t)j;
			if (r->w->won[i][c] != 0 || element(r, field(r, e), at) != top[c] || !winning(r, i, c))
				continue;
			r->w->won[i][c] = 1;
			if (r->k->size == sizeof(float))
				((float *)d)[at] += (float)g[c];
			else
				((double *)d)[at] += g[c];
		}
}

static void seed_field(const struct run *r, int i, char *d)
{
	const struct seg_node *n = &r->l->node[i];
	int e = n->kid[0], whole = (n->over & SEG_YX) == SEG_YX;
	const double *g = adjoint_of(r, i);
	double f = share(r, i);
	if (n->op == SEG_OP_MAX || n->op == SEG_OP_MIN) {
		seed_winner(r, i, d);
		return;
	}
	for (int k = 0; k < planes(r, e); k++, d += (size_t)r->n * r->k->size) {
		if (whole) {
			r->k->add(d, r->n, g[target(r, i, k, 0)] * f);
			continue;
		}
		r->k->widen(d, r->n, r->w->row);
		for (int j = 0; j < r->n; j++)
			r->w->row[j] += g[target(r, i, k, along(r, n, j))] * f;
		r->k->narrow(r->w->row, r->n, d);
	}
}

/* The adjoint buffer of field i, zeroed when first asked for. */
static char *opened(const struct run *r, int i)
{
	char *d = field_adjoint(r, i);
	if (!r->w->open[i])
		memset(d, 0, (size_t)planes(r, i) * (size_t)r->n * r->k->size);
	r->w->open[i] = 1;
	return d;
}

/* Adjoints that a field passes to an array or a global: added up over the block's pixels. */
static void drain(const struct run *r, int from, int e, const char *v)
{
	const struct seg_node *n = &r->l->node[e];
	int K = planes(r, from), has_k = (n->axes & SEG_K) != 0;
	size_t M = extent(r, e);
	double *d = adjoint(r, e);
	if (!seg_is_row(n) && !has_k) {
		d[0] += r->k->sum(v, K * r->n);
		return;
	}
	for (int k = 0; k < K; k++, v += (size_t)r->n * r->k->size) {
		double *o = d + (has_k ? (size_t)k * M : 0);
		if (!seg_is_row(n)) {
			*o += r->k->sum(v, r->n);
			continue;
		}
		r->k->widen(v, r->n, r->w->row);
		for (int j = 0; j < r->n; j++)
			o[along(r, n, j)] += r->w->row[j];
	}
}

static void back(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	struct seg_call c;
	if (n->op == SEG_OP_P) {
		r->k->head(r->l->env.head, r->n, r->K, field(r, i), field_adjoint(r, i), dz_block(r));
		return;
	}
	if (n->op == SEG_OP_Z) { /* as through no head */
		r->k->head(SEG_LOSS_NONE, r->n, r->K, NULL, field_adjoint(r, i), dz_block(r));
		return;
	}
	field_call(r, i, &c);
	c.g = field_adjoint(r, i);
	for (int j = 0; j < n->nkid; j++) {
		int e = n->kid[j];
		if (!seg_tree_passes(n, j) || !r->p->rel[e])
			continue;
		int direct = seg_is_field(&r->l->node[e]);
		c.d[j] = direct ? field_adjoint(r, e) : sink(r, j);
		c.fresh[j] = !direct || !r->w->open[e];
		r->w->open[e] |= direct;
		c.dk[j] = direct && !(r->l->node[e].axes & SEG_K) ? 0 : r->n;
	}
	r->k->backward(&c);
	for (int j = 0; j < n->nkid; j++)
		if (c.d[j] && !seg_is_field(&r->l->node[n->kid[j]]))
			drain(r, i, n->kid[j], c.d[j]);
}

struct descent {
	struct run r; /* first */
	float *dz;
	int fresh; /* dz holds nothing yet */
};

static int block_backward(const struct run *r)
{
	const struct descent *d = (const struct descent *)r;
	float *dz = d->dz;
	const struct sweep *sw = r->sw;
	size_t P = r->s->h * r->s->w;
	memset(r->w->open, 0, (size_t)r->st->n);
	memset(dz_block(r), 0, (size_t)r->K * (size_t)r->n * r->k->size);
	int bad = 0;
	for (int t = 0; t < sw->nstep; t++)
		bad |= step(r, sw->step[t]);
	for (int a = 0; a < sw->nacc; a++)
		bad |= enter(r, sw->acc[a], enters(r, sw->acc[a]));
	if (bad)
		return diagnose(r);
	for (int a = 0; a < sw->nseed; a++)
		seed_field(r, sw->seed[a], opened(r, r->l->node[sw->seed[a]].kid[0]));
	for (int t = 0; t < sw->nback; t++)
		if (r->w->open[sw->back[t]])
			back(r, sw->back[t]);
	for (int k = 0; k < r->K && dz; k++) {
		char where[200];
		float *o = dz + (size_t)k * P + r->i0;
		if (!r->k->store(dz_block(r) + (size_t)k * (size_t)r->n * r->k->size, r->n, d->fresh, o))
			continue;
		int j = 0;
		while (o[j] - o[j] == 0)
			j++;
		locate(r, r->i0 + (size_t)j, k, where, sizeof where);
		return seg_fail(SEG_EDATA, "%sthe gradient is not finite", where);
	}
	return SEG_OK;
}

/* The adjoint of array i passes to its operands (those that are fields take it in a sweep). */
static int back_array(const struct run *r, int i)
{
	const struct seg_node *n = &r->l->node[i];
	if (!n->nkid)
		return SEG_OK;
	if (seg_reduces(n)) {
		int e = n->kid[0];
		if (r->p->rel[e] && !seg_is_field(&r->l->node[e]))
			seed_array(r, i);
		return SEG_OK;
	}
	struct seg_call c;
	array_call(r, i, &c);
	size_t M = (size_t)c.n, cells = (size_t)c.nk * M;
	double *tmp = seg_alloc((ROOM + SINK) * (size_t)r->K, M * sizeof *tmp);
	if (!tmp)
		return SEG_ENOMEM;
	c.tmp = tmp;
	c.g = r->w->adj[i];
	for (int j = 0; j < n->nkid; j++)
		if (seg_tree_passes(n, j) && r->p->rel[n->kid[j]]) {
			c.d[j] = tmp + (size_t)(ROOM + j) * (size_t)r->K * M;
			c.dk[j] = (ptrdiff_t)M;
		}
	r->st->k64->backward(&c);
	for (int j = 0; j < n->nkid; j++) {
		int e = n->kid[j];
		size_t m = extent(r, e);
		for (size_t q = 0; q < cells && c.d[j]; q++)
			adjoint(r, e)[(r->l->node[e].axes & SEG_K ? q / M : 0) * m + (m > 1 ? q % M : 0)] += ((double *)c.d[j])[q];
	}
	free(tmp);
	return SEG_OK;
}

int seg_sample_backward(const struct seg_loss_state *st, int pass, const struct seg_loss_sample *s,
    double *partial, float *dz)
{
	struct descent d = {.dz = dz, .fresh = 1};
	struct run *r = &d.r;
	const struct plan *p = &st->plan[pass];
	int rc = run_start(r, st, p, s);
	r->partial = partial;
	r->at = st->at + (size_t)pass * (size_t)st->n;
	if (rc >= 0)
		rc = forward(r);
	for (int i = 0; i < st->n && rc >= 0; i++)
		if (seg_is_gathered(r->l, i) && st->facts.live[i]) {
			int e = r->l->node[i].kid[0];
			if (p->rel[e] && !seg_is_field(&r->l->node[e]))
				seed_array(r, i);
		}
	for (int stage = p->nsweep - 1; stage >= 0 && rc >= 0; stage--) {
		r->sw = &p->sweep[p->nsweep + stage];
		clear(r);
		if (r->sw->nback || r->sw->nacc) {
			rc = blocks(r, block_backward);
			d.fresh = 0;
		}
		for (int j = p->narray - 1; j >= 0 && rc >= 0; j--)
			if (st->facts.stage[p->array[j]] == stage && st->facts.live[p->array[j]] && p->rel[p->array[j]])
				rc = back_array(r, p->array[j]);
	}
	if (rc >= 0 && dz && d.fresh)
		memset(dz, 0, s->h * s->w * (size_t)r->K * sizeof *dz);
	if (rc >= 0 && dz && partial)
		partials(r, st->facts.nvalue, 1);
	return run_end(r, rc);
}
