/* Taking a loss apart by rules on its tree (seg-lang(7), "The ledger").
 *
 * Invariant of push: the value handed down is the sum over the axes `bound` of node * factor, and
 * both have no other axes.  A reduction binds its axes; if one of them is bound already (outside the
 * node, which lacks it) the factor is summed over it first, so that no axis means two things. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/report/split.h"
#include "seg/err.h"
#include "seg/mem.h"

enum { YX = SEG_Y | SEG_X, NK = SEG_N | SEG_K, NYX = SEG_N | SEG_Y | SEG_X };
enum { DATA = 1, PRED = 2, WORTH = 4 };  /* about a node: depends on pixels; on predictions; see worth */
enum { MOST = 1000, CHAIN = 64 };        /* groups and rows; summands of one sum */

static void push(struct seg_split *s, int i, int f, unsigned bound, struct seg_place at);
static void split(struct seg_split *s, int i, int g, struct seg_place at);

/* ---- building nodes; a failure is kept in s->rc and node 0 stands in ---- */

static int keep(struct seg_split *s, int node)
{
	if (node >= 0)
		return node;
	s->rc = node;
	return 0;
}

static int num(struct seg_split *s, double v)
{
	return keep(s, seg_loss_num(s->l, v));
}

static int make1(struct seg_split *s, enum seg_op op, unsigned over, int a)
{
	return s->rc < 0 ? 0 : keep(s, seg_loss_make(s->l, op, over, 1, &a));
}

static int make2(struct seg_split *s, enum seg_op op, int a, int b)
{
	int kid[2] = {a, b};
	return s->rc < 0 ? 0 : keep(s, seg_loss_make(s->l, op, 0, 2, kid));
}

static int where(struct seg_split *s, int cond, int a, int b)
{
	int kid[3] = {cond, a, b};
	return s->rc < 0 ? 0 : keep(s, seg_loss_make(s->l, SEG_OP_WHERE, 0, 3, kid));
}

static const struct seg_node *node(const struct seg_split *s, int i)
{
	return &s->l->node[i];
}

static unsigned axes(const struct seg_split *s, int i)
{
	return i < 0 ? 0 : s->l->node[i].axes;
}

/* Factors: -1 stands for 1. */
static int times(struct seg_split *s, int f, int g)
{
	return f < 0 ? g : g < 0 ? f : make2(s, SEG_OP_MUL, f, g);
}

static int over(struct seg_split *s, int f, int g)
{
	return make2(s, SEG_OP_DIV, f < 0 ? num(s, 1) : f, g);
}

static int minus(struct seg_split *s, int f)
{
	return f < 0 ? num(s, -1) : make1(s, SEG_OP_NEG, 0, f);
}

/* How many elements the axes have: counts pixels where they are among them. */
static int extent(struct seg_split *s, unsigned a)
{
	int e = a & SEG_K ? num(s, s->l->env.nclass) : -1;
	return a & NYX ? times(s, e, make1(s, SEG_OP_SUM, a & NYX, num(s, 1))) : e;
}

/* A division is made only where the guard holds. */
static int over_if(struct seg_split *s, int f, int g, int guard)
{
	int q = over(s, f, g);
	return guard < 0 ? q : where(s, guard, q, num(s, 0));
}

/* ---- what is known of the loss's own nodes ---- */

static int is(const struct seg_split *s, int i, int what)
{
	return i < s->nabout && s->about[i] & what;
}

static int both_yx(unsigned a)
{
	return (a & YX) == YX;
}

static int named(const struct seg_split *s, int i)
{
	const struct seg_node *n = node(s, i);
	while (!n->name && (n->op == SEG_OP_NEG || n->op == SEG_OP_MUL || n->op == SEG_OP_DIV))
		n = node(s, n->kid[n->op == SEG_OP_MUL && !(axes(s, n->kid[0]) & YX)]);
	return n->name != NULL;
}

/* Of a product of two fields one is split and the other is its factor: the one that depends on
 * predictions; if both do, the one with classes; else the first.  1: the second. */
static int chosen(const struct seg_split *s, const struct seg_node *n)
{
	int a = n->kid[0], b = n->kid[1];
	if (!!(axes(s, a) & YX) != !!(axes(s, b) & YX))
		return !(axes(s, a) & YX);
	for (int what = DATA; what <= PRED; what <<= 1)
		if (is(s, a, what) != is(s, b, what))
			return !is(s, a, what);
	return !(axes(s, a) & SEG_K) && axes(s, b) & SEG_K;
}

/* Is there anything to gain by going into a field?  A sum over classes, a summand that is
 * constant over the picture, or two named summands. */
static int worth(const struct seg_split *s, const struct seg_node *n)
{
	const int *k = n->kid;
	switch (n->op) {
	case SEG_OP_SUM: case SEG_OP_MEAN: case SEG_OP_MAX: case SEG_OP_MIN:
		return n->over == SEG_K && axes(s, k[0]) & SEG_K;
	case SEG_OP_NEG: case SEG_OP_STOP: case SEG_OP_DIV:
		return is(s, k[0], WORTH);
	case SEG_OP_WHERE:
		return is(s, k[1], WORTH) || is(s, k[2], WORTH);
	case SEG_OP_MUL:
		return is(s, k[chosen(s, n)], WORTH);
	case SEG_OP_ADD: case SEG_OP_SUB:
		for (int i = 0; i < 2; i++)
			if (is(s, k[i], WORTH) || (!(axes(s, k[i]) & YX) && is(s, k[i], DATA)))
				return 1;
		return named(s, k[0]) && named(s, k[1]);
	default:
		return 0;
	}
}

static int survey(struct seg_split *s)
{
	int n = s->l->n;
	s->about = seg_alloc((size_t)n, 1);
	if (!s->about)
		return SEG_ENOMEM;
	for (int i = 0; i < n; i++) {
		const struct seg_node *a = node(s, i);
		s->nabout = i;
		switch (a->op) {
		case SEG_OP_P: case SEG_OP_Z: s->about[i] = DATA | PRED; break;
		case SEG_OP_T: case SEG_OP_V: case SEG_OP_W: s->about[i] = DATA; break;
		default:
			for (int k = 0; k < a->nkid; k++)
				s->about[i] |= s->about[a->kid[k]] & (DATA | PRED);
		}
		s->about[i] |= both_yx(a->axes) && worth(s, a) ? WORTH : 0;
	}
	s->nabout = n;
	return SEG_OK;
}

/* ---- what comes out ---- */

static void *grow(struct seg_split *s, void *list, int n, size_t size)
{
	if (n & (n - 1)) /* room doubles at powers of two */
		return list;
	void *more = seg_realloc(list, n ? 2 * (size_t)n : 1, size);
	if (!more)
		s->rc = SEG_ENOMEM;
	return more;
}
#define ADD(s, list, n) \
	__extension__({ \
		void *more_ = grow(s, (s)->list, (s)->n, sizeof *(s)->list); \
		if (more_) \
			(s)->list = more_; \
		more_ ? &(s)->list[(s)->n++] : NULL; \
	})

static int term(struct seg_split *s, int summand)
{
	for (int i = 0; i < s->nterm; i++)
		if (s->summand[i] == summand)
			return i;
	int *more = ADD(s, summand, nterm);
	if (more)
		*more = summand;
	return s->nterm - 1;
}

/* A row without pixels; `because` NULL: a constant. */
static void lone(struct seg_split *s, int i, int f, unsigned bound, struct seg_place at, int constant)
{
	int r;
	int whole = constant && at.summand == i; /* the summand is nothing but this */
	char *of = whole ? NULL : constant ? seg_split_label(s->l, at.summand) : seg_loss_node_text(s->l, i);
	char *why = whole ? seg_strdup("constant") : of ? seg_format(constant ? "constant of %s" : "not split: %s", of) : NULL;
	int t = term(s, whole ? -1 : at.summand);
	free(of);
	if (!why) {
		s->rc = SEG_ENOMEM;
		return;
	}
	for (r = 0; r < s->nrow; r++)
		if (s->row_term[r] == t && !strcmp(s->why[r], why))
			break;
	if (r == s->nrow) {
		char **w = ADD(s, why, nrow);
		int *rt = seg_realloc(s->row_term, (size_t)s->nrow + 1, sizeof *rt);
		if (!w || !rt) {
			s->rc = SEG_ENOMEM;
			free(why);
			return;
		}
		s->row_term = rt;
		rt[r] = t;
		*w = why;
	} else {
		free(why);
	}
	if (at.guard >= 0)
		f = where(s, at.guard, f < 0 ? num(s, 1) : f, num(s, 0));
	struct seg_lone *more = ADD(s, lone, nlone);
	if (more)
		*more = (struct seg_lone){r, i, f, bound};
}

static void leaf(struct seg_split *s, int i, int g, struct seg_place at)
{
	int e = times(s, g, i);
	if (at.guard >= 0)
		e = where(s, at.guard, e, num(s, 0));
	struct seg_part *p = ADD(s, part, npart);
	if (p)
		*p = (struct seg_part){.term = term(s, at.summand), .node = e};
}

/* ---- inside a field: everything has y and x, and the parts add up at each pixel ---- */

struct summand {
	int node, negative;
};

/* a - (b + c) as a, -b, -c; named definitions stay whole. */
static int flatten(const struct seg_split *s, int i, int top, int negative, struct summand *list, int n)
{
	const struct seg_node *a = node(s, i);
	int sum = a->op == SEG_OP_ADD || a->op == SEG_OP_SUB;
	if (n < 0 || n >= CHAIN)
		return -1;
	if (sum && (top || !a->name)) {
		n = flatten(s, a->kid[0], 0, negative, list, n);
		return flatten(s, a->kid[1], 0, negative ^ (a->op == SEG_OP_SUB), list, n);
	}
	if (a->op == SEG_OP_NEG && !a->name)
		return flatten(s, a->kid[0], 0, !negative, list, n);
	list[n] = (struct summand){i, negative};
	return n + 1;
}

static struct seg_place into(struct seg_place at, int summand)
{
	if (!at.closed)
		at.summand = summand;
	at.under = 1;
	return at;
}

static void elsewhere(struct seg_split *s, int child, int g, struct seg_place at)
{
	struct seg_part *p = ADD(s, part, npart);
	if (p)
		*p = (struct seg_part){.node = times(s, g, child), .elsewhere = 1, .child = child,
		    .share = g, .at = at};
}

static void addition(struct seg_split *s, int i, int g, struct seg_place at)
{
	struct summand list[CHAIN];
	int n = flatten(s, i, 1, 0, list, 0), flat = -1; /* flat: what is the same at all pixels */
	if (n < 0) {
		leaf(s, i, g, at);
		return;
	}
	for (int j = 0; j < n && s->rc == SEG_OK; j++) {
		int a = list[j].node, h = list[j].negative ? minus(s, g) : g;
		if (axes(s, a) & YX)
			split(s, a, h, into(at, a));
		else if (!(axes(s, g) & YX) && at.guard < 0)
			elsewhere(s, a, h, into(at, a));
		else if (flat < 0)
			flat = list[j].negative ? make1(s, SEG_OP_NEG, 0, a) : a;
		else
			flat = make2(s, list[j].negative ? SEG_OP_SUB : SEG_OP_ADD, flat, a);
	}
	if (flat >= 0)
		leaf(s, flat, g, into(at, flat));
}

static struct seg_place guarded(struct seg_split *s, struct seg_place at, int cond)
{
	at.guard = at.guard < 0 ? cond : make2(s, SEG_OP_MUL, at.guard, cond);
	return at;
}

static int not(struct seg_split *s, int cond)
{
	return make2(s, SEG_OP_SUB, num(s, 1), cond);
}

/* 1 at the winner (winners share), so that a * winner summed over the axes is the maximum. */
static int winner(struct seg_split *s, int i, int a, unsigned out)
{
	int eq = make2(s, SEG_OP_EQ, a, i);
	return make2(s, SEG_OP_DIV, eq, make1(s, SEG_OP_SUM, out, eq));
}

static void split(struct seg_split *s, int i, int g, struct seg_place at)
{
	const struct seg_node n = *node(s, i);
	int a = n.kid[0], c;
	if (s->rc < 0)
		return;
	if (n.name && at.under)
		at.closed = 1;
	if (!is(s, i, WORTH)) {
		leaf(s, i, g, at);
		return;
	}
	switch (n.op) {
	case SEG_OP_NEG:
		split(s, a, minus(s, g), at);
		return;
	case SEG_OP_STOP:
		split(s, a, g, at);
		return;
	case SEG_OP_ADD: case SEG_OP_SUB:
		addition(s, i, g, at);
		return;
	case SEG_OP_MUL:
		c = chosen(s, &n);
		split(s, n.kid[c], times(s, g, n.kid[!c]), at);
		return;
	case SEG_OP_DIV:
		split(s, a, over_if(s, g, n.kid[1], at.guard), at);
		return;
	case SEG_OP_WHERE:
		for (int j = 1; j <= 2; j++) {
			struct seg_place here = guarded(s, at, j == 1 ? a : not(s, a));
			if (axes(s, n.kid[j]) & YX)
				split(s, n.kid[j], g, here);
			else
				leaf(s, n.kid[j], g, here);
		}
		return;
	case SEG_OP_SUM: case SEG_OP_MEAN: case SEG_OP_MAX: case SEG_OP_MIN:
		if (s->field_has_k || axes(s, g) & SEG_K || axes(s, at.guard) & SEG_K)
			break; /* the class axis of the factor would be taken for the one summed here */
		if (n.op == SEG_OP_MEAN)
			g = over(s, g, extent(s, SEG_K));
		else if (n.op != SEG_OP_SUM)
			g = times(s, g, winner(s, i, a, SEG_K));
		split(s, a, g, at);
		return;
	default:
		break;
	}
	leaf(s, i, g, at);
}

/* A field that is summed over y and x. */
static void field(struct seg_split *s, int i, int f, unsigned bound, struct seg_place at)
{
	if (bound & ~axes(s, i) & SEG_K) {
		f = f < 0 ? extent(s, SEG_K) : make1(s, SEG_OP_SUM, SEG_K, f);
		bound &= ~(unsigned)SEG_K;
	}
	if (at.guard >= 0) {
		f = where(s, at.guard, f < 0 ? num(s, 1) : f, num(s, 0));
		at.guard = -1;
	}
	int first = s->npart;
	s->field_has_k = (axes(s, i) & SEG_K) != 0;
	split(s, i, -1, at);
	struct seg_group *g = ADD(s, group, ngroup);
	if (!g)
		return;
	*g = (struct seg_group){i, f, first, s->npart - first};
	for (int j = first, end = s->npart; j < end && s->rc == SEG_OK; j++) {
		struct seg_part p = s->part[j];
		if (p.elsewhere)
			push(s, p.child, times(s, times(s, f, p.share), extent(s, YX)), bound, p.at);
	}
}

/* ---- above the fields: nothing has y or x ---- */

static void reduction(struct seg_split *s, int i, int f, unsigned bound, struct seg_place at)
{
	const struct seg_node n = *node(s, i);
	int a = n.kid[0], best = n.op == SEG_OP_MAX || n.op == SEG_OP_MIN;
	unsigned has = axes(s, a), out = n.over;
	if (best)
		out &= has;
	if (n.op == SEG_OP_MEAN) { /* the mean of what does not vary is itself */
		out &= has & NYX ? ~0u : ~(unsigned)NYX;
		out &= has & SEG_K ? ~0u : ~(unsigned)SEG_K;
	}
	if ((has & YX) && (!both_yx(has) || !both_yx(out))) {
		lone(s, i, f, bound, at, 0);
		return;
	}
	unsigned captured = out & bound;
	if (captured)
		f = f < 0 ? extent(s, captured) : make1(s, SEG_OP_SUM, captured, f);
	bound &= ~captured;
	if (n.op == SEG_OP_MEAN && out)
		f = over_if(s, f, extent(s, out), at.guard);
	if (!best && out & ~has)
		f = times(s, f, extent(s, out & ~has));
	bound |= out & has & NK;
	if (best && both_yx(has)) {
		int eq = make2(s, SEG_OP_EQ, a, i);
		f = over_if(s, f, make1(s, SEG_OP_SUM, out, eq), at.guard);
		a = make2(s, SEG_OP_MUL, a, eq);
	} else if (best && out) {
		f = times(s, f, winner(s, i, a, out));
	}
	if (both_yx(has))
		field(s, a, f, bound, at);
	else
		push(s, a, f, bound, at);
}

static void push(struct seg_split *s, int i, int f, unsigned bound, struct seg_place at)
{
	const struct seg_node n = *node(s, i);
	const int *k = n.kid;
	int c;
	if (s->rc < 0)
		return;
	if (n.name && at.under)
		at.closed = 1;
	if (!is(s, i, DATA) || s->ngroup + s->nlone > MOST) {
		lone(s, i, f, bound, at, !is(s, i, DATA));
		return;
	}
	switch (n.op) {
	case SEG_OP_SUM: case SEG_OP_MEAN: case SEG_OP_MAX: case SEG_OP_MIN:
		reduction(s, i, f, bound, at);
		return;
	case SEG_OP_NEG:
		push(s, k[0], minus(s, f), bound, at);
		return;
	case SEG_OP_STOP:
		push(s, k[0], f, bound, at);
		return;
	case SEG_OP_ADD: case SEG_OP_SUB:
		push(s, k[0], f, bound, into(at, k[0]));
		push(s, k[1], n.op == SEG_OP_SUB ? minus(s, f) : f, bound, into(at, k[1]));
		return;
	case SEG_OP_MUL:
		c = chosen(s, &n);
		push(s, k[c], times(s, f, k[!c]), bound, at);
		return;
	case SEG_OP_DIV:
		if (!is(s, k[0], DATA)) {
			lone(s, i, f, bound, at, 0);
			return;
		}
		at.closed |= at.under && is(s, k[1], DATA);
		push(s, k[0], over_if(s, f, k[1], at.guard), bound, at);
		return;
	case SEG_OP_WHERE:
		push(s, k[1], f, bound, guarded(s, at, k[0]));
		push(s, k[2], f, bound, guarded(s, at, not(s, k[0])));
		return;
	case SEG_OP_MAX2: case SEG_OP_MIN2:
		c = make2(s, n.op == SEG_OP_MAX2 ? SEG_OP_GE : SEG_OP_LE, k[0], k[1]);
		push(s, k[0], f, bound, guarded(s, at, c));
		push(s, k[1], f, bound, guarded(s, at, not(s, c)));
		return;
	default:
		lone(s, i, f, bound, at, 0);
	}
}

/* A factor of the fields that depends on the truth but on neither predictions nor the channel. */
static int find_weight(const struct seg_split *s, int i)
{
	const struct seg_node *n = node(s, i);
	int found;
	switch (n->op) {
	case SEG_OP_MUL:
		for (int j = 0; j < 2; j++) {
			const struct seg_node *w = node(s, n->kid[j]);
			if (is(s, n->kid[!j], PRED) && is(s, n->kid[j], DATA) && !is(s, n->kid[j], PRED) &&
			    w->axes & YX && !(w->axes & SEG_K) && w->op != SEG_OP_V)
				return n->kid[j];
		}
		return find_weight(s, n->kid[chosen(s, n)]);
	case SEG_OP_ADD: case SEG_OP_SUB:
		found = find_weight(s, n->kid[0]);
		return found >= 0 ? found : find_weight(s, n->kid[1]);
	case SEG_OP_NEG: case SEG_OP_DIV: case SEG_OP_SUM: case SEG_OP_MEAN:
		return find_weight(s, n->kid[0]);
	default:
		return -1;
	}
}

int seg_split_new(struct seg_split **out, struct seg_loss *l)
{
	struct seg_split *s = *out = seg_alloc(1, sizeof *s);
	if (!s)
		return SEG_ENOMEM;
	s->l = l;
	s->rc = survey(s);
	s->weight = -1;
	if (s->rc == SEG_OK) {
		int root = l->root;
		struct seg_place at = {-1, root, 0, 0};
		s->weight = find_weight(s, root);
		if (axes(s, root) & YX)
			s->rc = seg_fail(SEG_EUSAGE, "only a loss that is one number can be taken apart");
		else
			push(s, root, -1, axes(s, root), at);
		s->truth = keep(s, seg_loss_make(l, SEG_OP_T, 0, 0, NULL));
		s->valid = keep(s, seg_loss_make(l, SEG_OP_V, 0, 0, NULL));
	}
	int rc = s->rc;
	if (rc < 0) {
		seg_split_free(s);
		*out = NULL;
	}
	return rc;
}

void seg_split_free(struct seg_split *s)
{
	if (!s)
		return;
	for (int i = 0; i < s->nrow; i++)
		free(s->why[i]);
	free(s->why);
	free(s->row_term);
	free(s->summand);
	free(s->lone);
	free(s->group);
	free(s->part);
	free(s->about);
	free(s);
}

char *seg_split_label(const struct seg_loss *l, int i)
{
	const struct seg_node *n = &l->node[i];
	if (n->name) {
		const char *dot = strrchr(n->name, '.');
		return seg_strdup(dot ? dot + 1 : n->name);
	}
	switch (n->op) {
	case SEG_OP_NUM:
		return seg_format("%g", n->num);
	case SEG_OP_SUM: case SEG_OP_MEAN: case SEG_OP_STOP: case SEG_OP_DIV:
		return seg_split_label(l, n->kid[0]);
	case SEG_OP_MUL:
		return seg_split_label(l, n->kid[l->node[n->kid[0]].op == SEG_OP_NUM]);
	case SEG_OP_NEG: case SEG_OP_ADD: case SEG_OP_SUB: {
		char *a = seg_split_label(l, n->kid[0]);
		char *b = n->nkid == 2 ? seg_split_label(l, n->kid[1]) : NULL;
		char *both = !a ? NULL : n->nkid == 1 ? seg_format("-%s", a)
		    : !b ? NULL : seg_format("%s%s%s", a, n->op == SEG_OP_ADD ? "+" : "-", b);
		free(a);
		free(b);
		return both;
	}
	default:
		return seg_loss_node_text(l, i);
	}
}
