/* The table of nodes: what each operation does to axes, folding of constants, sharing of equals. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/isa.h"
#include "seg/mem.h"
#include "lib/loss/tree.h"

enum { MOST_NODES = 20000 };

/* ---- arena ---- */

struct arena {
	struct arena *next;
	max_align_t data[];
};

void *seg_arena_new(struct arena **a, size_t n, size_t size)
{
	if (size && n > (SIZE_MAX - sizeof(struct arena)) / size)
		n = SIZE_MAX / size; /* let seg_alloc refuse it */
	struct arena *b = seg_alloc(1, sizeof *b + n * size);
	if (!b)
		return NULL;
	b->next = *a;
	*a = b;
	return b->data;
}

char *seg_arena_copy(struct arena **a, const char *s, size_t n)
{
	char *p = seg_arena_new(a, n + 1, 1);
	return p ? memcpy(p, s, n) : NULL;
}

void seg_arena_free(struct arena **a)
{
	while (*a) {
		struct arena *next = (*a)->next;
		free(*a);
		*a = next;
	}
}

/* ---- functions ---- */

static const struct seg_func func[] = {
	{"where", SEG_OP_WHERE, 3, NO_AXES, 0},   {"exp", SEG_OP_EXP, 1, NO_AXES, 0},
	{"log", SEG_OP_LOG, 1, NO_AXES, 0},       {"sqrt", SEG_OP_SQRT, 1, NO_AXES, 0},
	{"abs", SEG_OP_ABS, 1, NO_AXES, 0},       {"tanh", SEG_OP_TANH, 1, NO_AXES, 0},
	{"xlogy", SEG_OP_XLOGY, 2, NO_AXES, 0},   {"min", SEG_OP_MIN2, 2, NO_AXES, 0},
	{"max", SEG_OP_MAX2, 2, NO_AXES, 0},      {"clip", SEG_OP_CLIP, 3, NO_AXES, 0},
	{"softplus", SEG_OP_SOFTPLUS, 1, NO_AXES, 0}, {"sigmoid", SEG_OP_SIGMOID, 1, NO_AXES, 0},
	{"stop", SEG_OP_STOP, 1, NO_AXES, 0},     {"f32", SEG_OP_F32, 1, NO_AXES, 0},
	{"softmax", SEG_OP_SOFTMAX, 1, ONLY_K, 0}, {"logsoftmax", SEG_OP_LOGSOFTMAX, 1, ONLY_K, 0},
	{"argmax", SEG_OP_ARGMAX, 1, ONLY_K, 0},  {"sum", SEG_OP_SUM, 1, SOME_AXES, 0},
	{"mean", SEG_OP_MEAN, 1, SOME_AXES, 0},   {"max", SEG_OP_MAX, 1, SOME_AXES, 0},
	{"min", SEG_OP_MIN, 1, SOME_AXES, 0},     {"lovasz", SEG_OP_LOVASZ, 2, SOME_AXES, 0},
	{"torch_bce", SEG_OP_PRIM, 2, NO_AXES, SEG_PRIM_TORCH_BCE},
};

const struct seg_func *seg_func_find(const char *name, int with_axes)
{
	const struct seg_func *other = NULL;
	for (size_t i = 0; i < sizeof func / sizeof *func; i++)
		if (!strcmp(name, func[i].name)) {
			if ((func[i].axes != NO_AXES) == with_axes)
				return &func[i];
			other = &func[i];
		}
	return other;
}

const struct seg_func *seg_func_of(const struct seg_node *n)
{
	for (size_t i = 0; i < sizeof func / sizeof *func; i++)
		if (func[i].op == n->op && func[i].prim == n->prim)
			return &func[i];
	return NULL;
}

const char *seg_axes_text(unsigned axes, char buf[16])
{
	char *p = buf;
	if (!axes)
		return strcpy(buf, "no axes");
	*p++ = '[';
	for (int i = 0; i < 4; i++)
		if (axes & 1u << i) {
			if (p > buf + 1)
				*p++ = ',';
			*p++ = "nyxk"[i];
		}
	*p++ = ']';
	*p = 0;
	return buf;
}

static int reduces(enum seg_op op)
{
	return op == SEG_OP_SUM || op == SEG_OP_MEAN || op == SEG_OP_MAX || op == SEG_OP_MIN;
}

static int along_k(enum seg_op op)
{
	return op == SEG_OP_SOFTMAX || op == SEG_OP_LOGSOFTMAX || op == SEG_OP_ARGMAX;
}

static int constant(const struct seg_node *n)
{
	return n->op == SEG_OP_NUM || n->op == SEG_OP_VEC || n->op == SEG_OP_C;
}

static int is_number(const struct seg_loss *l, int i, double v)
{
	return l->node[i].op == SEG_OP_NUM && l->node[i].num == v;
}

/* ---- axes ---- */

/* The operand as it stands in a repair: short, or "...". */
static const char *shown(const struct seg_loss *l, int kid, char buf[48])
{
	char *text = seg_loss_node_text(l, kid);
	const char *call = seg_tree(l)->info[kid].call;
	const char *s = call ? call : text ? text : "...";
	snprintf(buf, 48, "%s", strlen(s) < 40 ? s : "...");
	free(text);
	return buf;
}

static int reduction_axes(const struct seg_loss *l, struct seed *s, unsigned *axes)
{
	unsigned e = l->node[s->kid[0]].axes;
	char a[16], b[16], c[48];
	const char *name = seg_func_of(&(struct seg_node){.op = s->op})->name;
	if (s->over & SEG_N && e & ~s->over & SEG_YX)
		return seg_loss_wrong(s->at, "%s%s would join samples while their pixels %s remain, and samples may "
		    "differ in size; reduce n together with or after y and x, e.g. %s%s(%s)", name,
		    seg_axes_text(s->over, a), seg_axes_text(e & ~s->over & SEG_YX, b), name,
		    seg_axes_text(s->over | (e & SEG_YX), (char[16]){0}), shown(l, s->kid[0], c));
	/* what the operand lacks and that cannot matter: extents cancel in a mean, unless samples of
	 * different size are averaged; repeats do not change a maximum */
	if (s->op == SEG_OP_MAX || s->op == SEG_OP_MIN || (s->op == SEG_OP_MEAN && !(s->over & e & SEG_N)))
		s->over &= e;
	else if (s->op == SEG_OP_MEAN)
		s->over &= e | SEG_YX;
	*axes = e & ~s->over;
	/* sum[y,x](1) is the sample's own number of pixels */
	if (s->op == SEG_OP_SUM && !(s->over & SEG_N) && s->over & ~e & SEG_YX)
		*axes |= SEG_N;
	return SEG_OK;
}

static int infer(const struct seg_loss *l, struct seed *s, unsigned *axes)
{
	char a[16];
	*axes = 0;
	switch (s->op) {
	case SEG_OP_NUM: return SEG_OK;
	case SEG_OP_VEC: case SEG_OP_C: *axes = SEG_K; return SEG_OK;
	case SEG_OP_T: case SEG_OP_P: case SEG_OP_Z: case SEG_OP_V: *axes = SEG_ALL; return SEG_OK;
	case SEG_OP_S: *axes = SEG_N; return SEG_OK;
	case SEG_OP_W: *axes = l->env.w_axes | SEG_N; return SEG_OK;
	case SEG_OP_SUM: case SEG_OP_MEAN: case SEG_OP_MAX: case SEG_OP_MIN:
		return reduction_axes(l, s, axes);
	case SEG_OP_LOVASZ:
		if ((s->over & ~SEG_K) != SEG_YX)
			return seg_loss_wrong(s->at, "lovasz sorts the pixels of one sample, found %s; expected lovasz[y,x] or "
			    "lovasz[y,x,k] (over n, ranks would have to sort together)", seg_axes_text(s->over, a));
		for (int j = 0; j < 2; j++)
			if ((l->node[s->kid[j]].axes & SEG_YX) != SEG_YX)
				return seg_loss_wrong(s->at, "lovasz needs operands with axes y and x; this one has %s",
				    seg_axes_text(l->node[s->kid[j]].axes, a));
		break;
	default: break;
	}
	for (int j = 0; j < s->nkid; j++)
		*axes |= l->node[s->kid[j]].axes;
	if (along_k(s->op) && !(*axes & SEG_K))
		return seg_loss_wrong(s->at, "%s[k] needs an operand with axis k; this one has %s",
		    seg_func_of(&(struct seg_node){.op = s->op})->name, seg_axes_text(*axes, a));
	return SEG_OK;
}

/* ---- dependence on the predictions ---- */

int seg_tree_passes(const struct seg_node *n, int j)
{
	switch (n->op) {
	case SEG_OP_LT: case SEG_OP_LE: case SEG_OP_GT: case SEG_OP_GE: case SEG_OP_EQ: case SEG_OP_NE:
	case SEG_OP_STOP: case SEG_OP_ARGMAX: case SEG_OP_LOVASZ: /* a piecewise constant coefficient */
		return 0;
	case SEG_OP_WHERE: return j > 0;
	case SEG_OP_CLIP: return j == 0;
	case SEG_OP_PRIM: return j == 0; /* torch_bce(p,t): torch, too, refuses a gradient of t that matters */
	default: return 1;
	}
}

void seg_tree_depends(const struct seg_loss *l, unsigned char *dep)
{
	for (int i = 0; i < l->n; i++) {
		const struct seg_node *n = &l->node[i];
		dep[i] = n->op == SEG_OP_P || n->op == SEG_OP_Z;
		for (int j = 0; j < n->nkid; j++)
			dep[i] |= seg_tree_passes(n, j) && dep[n->kid[j]];
	}
}

/* Operands that take no adjoint must not need one. */
static int still(const struct seg_loss *l, const struct seed *s)
{
	if (s->op != SEG_OP_CLIP && s->op != SEG_OP_PRIM)
		return SEG_OK;
	unsigned char *dep = seg_alloc((size_t)l->n, 1);
	if (!dep)
		return SEG_ENOMEM;
	seg_tree_depends(l, dep);
	int moves = 0;
	for (int j = 1; j < s->nkid; j++)
		moves |= dep[s->kid[j]];
	free(dep);
	return !moves ? SEG_OK : seg_loss_wrong(s->at, s->op == SEG_OP_CLIP
	    ? "the bounds of clip must not depend on the predictions; use min and max"
	    : "the target must not depend on the predictions; wrap it in stop()");
}

/* ---- folding ---- */

/* Constants are folded by the double kernel that would compute them: one pixel, K planes. */
static int fold(struct seg_loss *l, struct seed *s, unsigned axes, int *node)
{
	int K = l->env.nclass, nk = axes & SEG_K ? K : 1;
	double *room = seg_alloc((size_t)K * 5, sizeof *room);
	if (!room)
		return SEG_ENOMEM;
	struct seg_call c = {.op = s->op, .over = s->over, .prim = s->prim, .check = 1, .n = 1, .nk = nk,
	    .nclass = K, .out = room, .tmp = room + K};
	for (int j = 0; j < s->nkid; j++) {
		const struct seg_node *k = &l->node[s->kid[j]];
		c.a[j] = (struct seg_arg){k->vec ? (const void *)k->vec : &k->num, k->axes ? 1 : 0, 1};
	}
	int bad = SEG_ISA_PICK(seg_loss_kernels)(1)->forward(&c);
	for (int k = 0; k < nk; k++)
		bad |= room[k] - room[k] != 0;
	int rc = bad ? seg_loss_wrong(s->at, "this constant is not a finite number (a logarithm of 0, a division "
	    "by 0, or the like)") : SEG_OK;
	if (rc >= 0) {
		struct seed f = {.op = axes ? SEG_OP_VEC : SEG_OP_NUM, .num = axes ? 0 : room[0],
		    .vec = axes ? room : NULL, .at = s->at};
		rc = *node = seg_tree_make(l, &f);
	}
	free(room);
	return rc;
}

/* 1*e, e/1, e+0, e-0, e^1 are e; so are reductions over nothing, and f32 of a float field. */
static int identity(const struct seg_loss *l, const struct seed *s)
{
	int a = s->kid[0], b = s->nkid > 1 ? s->kid[1] : a;
	switch (s->op) {
	case SEG_OP_MUL: return is_number(l, a, 1) ? b : is_number(l, b, 1) ? a : -1;
	case SEG_OP_ADD: return is_number(l, a, 0) ? b : is_number(l, b, 0) ? a : -1;
	case SEG_OP_SUB: return is_number(l, b, 0) ? a : -1;
	case SEG_OP_DIV: case SEG_OP_POW: return is_number(l, b, 1) ? a : -1;
	case SEG_OP_SUM: case SEG_OP_MEAN: case SEG_OP_MAX: case SEG_OP_MIN: return s->over ? -1 : a;
	case SEG_OP_F32: return !l->env.f64 && (l->node[a].axes & SEG_YX) == SEG_YX ? a : -1;
	case SEG_OP_WHERE: return l->node[a].op != SEG_OP_NUM ? -1 : l->node[a].num != 0 ? b : s->kid[2];
	default: return -1;
	}
}

static int simpler(struct seg_loss *l, struct seed *s, unsigned axes, int *node)
{
	if (s->op == SEG_OP_W && !l->env.w_axes) {
		struct seed one = {.op = SEG_OP_NUM, .num = 1, .at = s->at};
		return *node = seg_tree_make(l, &one);
	}
	if (s->op == SEG_OP_Z && l->env.head == SEG_LOSS_NONE)
		s->op = SEG_OP_P; /* without a head there is only one array */
	if (!s->nkid)
		return *node = -1, SEG_OK;
	if ((*node = identity(l, s)) >= 0)
		return SEG_OK;
	int all = !(s->over & ~SEG_K);
	for (int j = 0; j < s->nkid; j++)
		all &= constant(&l->node[s->kid[j]]);
	if (all && s->op == SEG_OP_SUM && !(l->node[s->kid[0]].axes & SEG_K)) {
		struct seed k = {.op = SEG_OP_NUM, .num = l->node[s->kid[0]].num * l->env.nclass, .at = s->at};
		return *node = seg_tree_make(l, &k);
	}
	return all ? fold(l, s, axes, node) : SEG_OK;
}

/* ---- the table ---- */

static int same(const struct seg_loss *l, const struct seg_node *n, const struct seed *s)
{
	return n->op == s->op && n->over == s->over && n->nkid == s->nkid && n->prim == s->prim &&
	    !memcmp(n->kid, s->kid, sizeof n->kid) && !memcmp(&n->num, &s->num, sizeof n->num) &&
	    (s->op != SEG_OP_VEC || !memcmp(n->vec, s->vec, (size_t)l->env.nclass * sizeof *s->vec));
}

static int grow(struct seg_loss *l)
{
	if (l->n < l->cap)
		return SEG_OK;
	if (l->n >= MOST_NODES)
		return seg_fail(SEG_EUSAGE, "this loss has more than %d nodes", MOST_NODES);
	int cap = l->cap ? 2 * l->cap : 64;
	struct seg_node *n = seg_realloc(l->node, (size_t)cap, sizeof *n);
	if (!n)
		return SEG_ENOMEM;
	l->node = n;
	struct info *i = seg_realloc(seg_tree(l)->info, (size_t)cap, sizeof *i);
	if (!i)
		return SEG_ENOMEM;
	seg_tree(l)->info = i;
	l->cap = cap;
	return SEG_OK;
}

static int level(const struct seg_loss *l, const struct seed *s)
{
	int most = 0;
	for (int j = 0; j < s->nkid; j++)
		if (l->node[s->kid[j]].level > most)
			most = l->node[s->kid[j]].level;
	if (reduces(s->op) && s->over & SEG_N) {
		if (l->node[s->kid[0]].axes & SEG_N)
			most++;
		else if (most == 0)
			most = 1; /* extents are known after the first pass */
	}
	return most;
}

int seg_tree_make(struct seg_loss *l, const struct seed *given)
{
	struct seed s = *given;
	unsigned axes;
	int node, rc = infer(l, &s, &axes);
	if (rc < 0 || (rc = still(l, &s)) < 0 || (rc = simpler(l, &s, axes, &node)) < 0)
		return rc;
	if (node >= 0)
		return node;
	for (int i = 0; i < l->n; i++)
		if (same(l, &l->node[i], &s))
			return i;
	if (grow(l) < 0)
		return l->n >= MOST_NODES ? SEG_EUSAGE : SEG_ENOMEM;
	double *vec = NULL;
	if (s.op == SEG_OP_VEC) {
		if (!(vec = seg_arena_new(&seg_tree(l)->mem, (size_t)l->env.nclass, sizeof *vec)))
			return SEG_ENOMEM;
		memcpy(vec, s.vec, (size_t)l->env.nclass * sizeof *vec);
	}
	l->node[l->n] = (struct seg_node){.op = s.op, .axes = axes, .over = s.over, .nkid = s.nkid,
	    .kid = {s.kid[0], s.kid[1], s.kid[2]}, .num = s.num,
	    .vec = s.op == SEG_OP_C ? seg_tree(l)->number : vec, .prim = s.prim, .level = level(l, &s),
	    .at = s.at.at, .len = s.at.len,
	    .source = !s.at.src ? "" : s.at.src->name ? s.at.src->name : l->text};
	seg_tree(l)->info[l->n] = (struct info){.src = s.at.src};
	return l->n++;
}

int seg_loss_num(struct seg_loss *l, double v)
{
	return seg_tree_make(l, &(struct seed){.op = SEG_OP_NUM, .num = v});
}

int seg_loss_make(struct seg_loss *l, enum seg_op op, unsigned over, int nkid, const int *kid)
{
	struct seed s = {.op = op, .nkid = nkid, .over = along_k(op) ? SEG_K : over};
	for (int j = 0; j < nkid; j++)
		s.kid[j] = kid[j];
	return seg_tree_make(l, &s);
}
