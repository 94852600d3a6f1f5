/* From syntax to nodes: names looked up, definitions expanded in place, vectors and axes read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "lib/loss/tree.h"

enum { MOST_STEPS = 200000 };

/* What a parameter stands for in one expansion: a node, or axes. */
struct bind {
	const struct param *param;
	int node, is_axes, given;
	unsigned axes;
};
struct scope {
	struct bind *bind;
	int n;
};
struct build {
	struct seg_loss *l;
	int steps;
};

static int build(struct build *b, const struct ast *a, const struct scope *sc);

static struct spot spot(const struct ast *a)
{
	return (struct spot){a->src, a->at, a->len};
}

/* ---- names ---- */

static const struct bind *bound(const struct scope *sc, const char *name)
{
	for (int i = 0; i < sc->n; i++)
		if (!strcmp(sc->bind[i].param->name, name))
			return &sc->bind[i];
	return NULL;
}

static struct def *definition(const struct text *t, const char *name)
{
	for (; t; t = t->next)
		for (struct def *d = t->def; d; d = d->next)
			if (!strcmp(d->name, name))
				return d;
	return NULL;
}

static int axis(const char *name)
{
	static const struct { const char *name; int bit; } all[] = {{"n", SEG_N}, {"y", SEG_Y}, {"x", SEG_X}, {"k", SEG_K}};
	for (int i = 0; i < 4; i++)
		if (!strcmp(name, all[i].name))
			return all[i].bit;
	return 0;
}

static const struct { const char *name; enum seg_op op; } leaf[] = {{"t", SEG_OP_T}, {"p", SEG_OP_P},
    {"z", SEG_OP_Z}, {"v", SEG_OP_V}, {"s", SEG_OP_S}, {"w", SEG_OP_W}, {"c", SEG_OP_C}};
enum { NLEAF = sizeof leaf / sizeof *leaf };

/* Letters to change, insert or drop to get from a to b (Wagner, Fischer 1974), for short words. */
static int distance(const char *a, const char *b)
{
	int row[48];
	int n = (int)strlen(b);
	if (n > 46)
		return 99;
	for (int j = 0; j <= n; j++)
		row[j] = j;
	for (int i = 1; a[i - 1]; i++) {
		int diagonal = row[0];
		row[0] = i;
		for (int j = 1; j <= n; j++) {
			int best = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[n];
}

static int unknown(const struct ast *a)
{
	const char *near = NULL;
	int best = a->name[0] == '@' ? 7 : 3;
	if (strlen(a->name) < 3)
		best = 2;
	for (const struct text *t = a->src; t; t = t->next)
		for (const struct def *d = t->def; d; d = d->next)
			if (distance(a->name, d->name) < best) {
				best = distance(a->name, d->name);
				near = d->name;
			}
	if (near)
		return seg_loss_wrong(spot(a), "there is no '%s'; did you mean '%s'?", a->name, near);
	if (a->name[0] == '@')
		return seg_loss_wrong(spot(a), "there is no recipe '%s'; seg-loss --list shows them", a->name);
	return seg_loss_wrong(spot(a), "there is no '%s'; the leaves are t p z v s w c, and definitions look like "
	    "name(a=1) = expression;", a->name);
}

/* ---- lists: axes and vectors ---- */

/* Is this list made of axes only? */
static int names_axes(const struct ast *list, const struct scope *sc)
{
	const struct ast *e = list->kid;
	for (; e; e = e->next) {
		const struct bind *v = e->kind == AST_NAME ? bound(sc, e->name) : NULL;
		if (e->key || e->kind != AST_NAME || e->axes || e->called || !(axis(e->name) || (v && v->is_axes)))
			return 0;
	}
	return list->kid != NULL;
}

static int read_axes(const struct ast *list, const struct scope *sc, unsigned *axes)
{
	*axes = 0;
	if (!list->kid)
		return seg_loss_wrong(spot(list), "no axes; they are n (sample), y, x (pixel) and k (class)");
	for (const struct ast *e = list->kid; e; e = e->next) {
		const struct bind *v = e->kind == AST_NAME ? bound(sc, e->name) : NULL;
		unsigned bit = v && v->is_axes ? v->axes : e->kind == AST_NAME ? (unsigned)axis(e->name) : 0;
		if (!bit || e->key || e->axes || e->called)
			return seg_loss_wrong(spot(e), "found '%.*s', expected an axis: n (sample), y, x (pixel) or k "
			    "(class)", e->len, e->src->s + e->at);
		if (*axes & bit)
			return seg_loss_wrong(spot(e), "the axis '%s' is named twice", e->name);
		*axes |= bit;
	}
	return SEG_OK;
}

char *seg_class_list(const struct seg_loss_env *e)
{
	struct seg_buf b = {0};
	int rc = seg_buf_printf(&b, "%s", "");
	for (int k = 0; k < e->nclass && rc >= 0; k++)
		rc = k == 12 ? seg_buf_printf(&b, ", ...") : k > 12 ? rc :
		    e->classes ? seg_buf_printf(&b, "%s%s", k ? ", " : "", e->classes[k])
		               : seg_buf_printf(&b, "%s%d", k ? ", " : "", k);
	return b.data;
}

static int class_of(const struct seg_loss_env *e, const char *key)
{
	for (int k = 0; e->classes && k < e->nclass; k++)
		if (!strcmp(e->classes[k], key))
			return k;
	char *end;
	long k = strtol(key, &end, 10);
	return *key >= '0' && *key <= '9' && !*end && k < e->nclass ? (int)k : -1;
}

/* One entry of a vector: a constant. */
static int entry(struct build *b, const struct ast *e, const struct scope *sc, double *v)
{
	int i = build(b, e, sc);
	if (i < 0)
		return i;
	if (b->l->node[i].op != SEG_OP_NUM)
		return seg_loss_wrong(spot(e), "an entry of a vector must be a number");
	*v = b->l->node[i].num;
	return SEG_OK;
}

static int count_error(struct build *b, const struct ast *a, int found)
{
	char *names = seg_class_list(&b->l->env);
	int rc = seg_loss_wrong(spot(a), "this vector has %d %s, expected %d: one for each class (%s); give %d numbers, "
	    "or some by name and *=1 for the others", found, found == 1 ? "entry" : "entries", b->l->env.nclass,
	    names ? names : "", b->l->env.nclass);
	free(names);
	return rc;
}

static int by_position(struct build *b, const struct ast *a, const struct scope *sc, double *v)
{
	int n = 0, K = b->l->env.nclass;
	for (const struct ast *e = a->kid; e; e = e->next, n++) {
		double x;
		int rc = entry(b, e, sc, &x);
		if (rc < 0)
			return rc;
		if (n < K)
			v[n] = x;
	}
	return n == K ? SEG_OK : count_error(b, a, n);
}

static int by_name(struct build *b, const struct ast *a, const struct scope *sc, double *v, char *have)
{
	const struct seg_loss_env *env = &b->l->env;
	const struct ast *rest = NULL;
	for (const struct ast *e = a->kid; e; e = e->next) {
		struct spot at = {e->src, e->keyat, e->key ? (int)strlen(e->key) : e->len};
		if (!e->key)
			return seg_loss_wrong(at, "this entry has no name, but others have; name all of them, or none");
		int k = strcmp(e->key, "*") ? class_of(env, e->key) : env->nclass;
		char *names = k < 0 ? seg_class_list(env) : NULL;
		if (k < 0)
			seg_loss_wrong(at, "there is no class '%s'; the classes are %s", e->key, names ? names : "");
		free(names);
		if (k < 0)
			return SEG_EUSAGE;
		if (k == env->nclass ? rest != NULL : have[k])
			return seg_loss_wrong(at, "'%s' is given twice", e->key);
		if (k == env->nclass) {
			rest = e;
			continue;
		}
		have[k] = 1;
		int rc = entry(b, e, sc, &v[k]);
		if (rc < 0)
			return rc;
	}
	for (int k = 0; k < env->nclass; k++) {
		if (!have[k] && !rest)
			return seg_loss_wrong(spot(a), "class %s has no entry; add *=1 for all others",
			    env->classes ? env->classes[k] : "number missing:");
		int rc = have[k] ? SEG_OK : entry(b, rest, sc, &v[k]);
		if (rc < 0)
			return rc;
	}
	return SEG_OK;
}

static int vector(struct build *b, const struct ast *a, const struct scope *sc)
{
	int K = b->l->env.nclass, keyed = 0;
	if (names_axes(a, sc))
		return seg_loss_wrong(spot(a), "these are axes; a value was expected");
	for (const struct ast *e = a->kid; e; e = e->next)
		keyed |= e->key != NULL;
	struct seed s = {.op = SEG_OP_VEC, .at = spot(a)};
	double *v = seg_alloc((size_t)K, sizeof *v);
	char *have = seg_alloc((size_t)K, 1);
	int rc = !v || !have ? SEG_ENOMEM : keyed ? by_name(b, a, sc, v, have) : by_position(b, a, sc, v);
	if (rc >= 0) {
		s.vec = v;
		rc = seg_tree_make(b->l, &s);
	}
	free(v);
	free(have);
	return rc;
}

/* ---- calls ---- */

/* The parameters of a definition as messages show them. */
static int takes(const struct def *d, char *buf, size_t n)
{
	snprintf(buf, n, "%s%.*s", d->name, d->headlen, d->src->s + d->head);
	return 0;
}

static int bind_value(struct build *b, struct bind *v, const struct ast *a, const struct scope *sc)
{
	const struct bind *outer = a->kind == AST_NAME && !a->axes && !a->called ? bound(sc, a->name) : NULL;
	if (outer && outer->is_axes) {
		v->is_axes = 1;
		v->axes = outer->axes;
		return SEG_OK;
	}
	if (a->kind == AST_LIST && names_axes(a, sc)) {
		v->is_axes = 1;
		return read_axes(a, sc, &v->axes);
	}
	v->node = build(b, a, sc);
	return v->node < 0 ? v->node : SEG_OK;
}

static int bind_axes(const struct def *d, const struct ast *a, const struct scope *sc, struct bind *v)
{
	char head[160];
	takes(d, head, sizeof head);
	if (!d->axes)
		return !a->axes ? SEG_OK : seg_loss_wrong(spot(a->axes), "'%s' takes no axes in brackets: %s", d->name, head);
	*v = (struct bind){.param = d->axes, .is_axes = 1, .given = a->axes != NULL};
	const struct ast *list = a->axes ? a->axes : d->axes->otherwise;
	if (!list)
		return seg_loss_wrong(spot(a), "'%s' needs its axes, e.g. %s[n,y,x,k]", d->name, d->name);
	return read_axes(list, a->axes ? sc : &(struct scope){0}, &v->axes);
}

/* Arguments by position, then by name, then defaults (which may use the parameters before them). */
static int bind_all(struct build *b, const struct def *d, const struct ast *a, const struct scope *sc, struct scope *in)
{
	char head[160];
	takes(d, head, sizeof head);
	int rc = bind_axes(d, a, sc, &in->bind[0]), first = d->axes != NULL, named = 0;
	if (rc < 0)
		return rc;
	in->n = first;
	for (const struct param *q = d->param; q; q = q->next)
		in->bind[in->n++] = (struct bind){.param = q, .node = -1};
	int place = first;
	for (const struct ast *e = a->kid; e; e = e->next) {
		struct spot at = {e->src, e->key ? e->keyat : e->at, e->key ? (int)strlen(e->key) : e->len};
		struct bind *v = NULL;
		named |= e->key != NULL;
		if (!e->key && named)
			return seg_loss_wrong(at, "an argument without a name follows one with a name");
		for (int i = first; e->key && i < in->n; i++)
			if (!strcmp(in->bind[i].param->name, e->key))
				v = &in->bind[i];
		if (e->key && !v)
			return seg_loss_wrong(at, "'%s' has no argument '%s': %s", d->name, e->key, head);
		if (!e->key && place == in->n)
			return seg_loss_wrong(at, "too many arguments: %s", head);
		if (!v)
			v = &in->bind[place++];
		if (v->given)
			return seg_loss_wrong(at, "the argument '%s' is given twice", v->param->name);
		v->given = 1;
		if ((rc = bind_value(b, v, e, sc)) < 0)
			return rc;
	}
	int all = in->n;
	for (int i = first; i < all; i++) {
		struct bind *v = &in->bind[i];
		if (!v->given && !v->param->otherwise)
			return seg_loss_wrong(spot(a), "'%s' needs its argument '%s': %s", d->name, v->param->name, head);
		in->n = i;
		if (!v->given && (rc = bind_value(b, v, v->param->otherwise, in)) < 0)
			return rc;
	}
	in->n = all;
	return SEG_OK;
}

/* "dice[n,y,x,k](smooth=0)": the call with what was given. */
static char *call_text(struct build *b, const struct def *d, const struct scope *in)
{
	struct seg_buf s = {0};
	char axes[16], *text = NULL;
	int any = 0, rc = seg_buf_printf(&s, "%s", d->name);
	for (int i = 0; i < in->n && rc >= 0; i++) {
		const struct bind *v = &in->bind[i];
		if (v->param == d->axes) {
			rc = seg_buf_printf(&s, "%s", seg_axes_text(v->axes, axes));
			continue;
		}
		if (!v->given)
			continue;
		const char *call = v->is_axes ? NULL : seg_tree(b->l)->info[v->node].call;
		text = v->is_axes || call ? NULL : seg_loss_node_text(b->l, v->node);
		rc = seg_buf_printf(&s, "%s%s=%s", any++ ? ", " : "(", v->param->name,
		    v->is_axes ? seg_axes_text(v->axes, axes) : call ? call : text ? text : "...");
		free(text);
	}
	if (any && rc >= 0)
		rc = seg_buf_printf(&s, ")");
	char *kept = rc < 0 ? NULL : seg_arena_copy(&seg_tree(b->l)->mem, s.data, s.n);
	free(s.data);
	return kept;
}

static int expand(struct build *b, struct def *d, const struct ast *a, const struct scope *sc)
{
	int n = d->axes != NULL;
	if (d->open)
		return seg_loss_wrong(spot(a), "'%s' calls itself; a definition cannot", d->name);
	for (const struct param *q = d->param; q; q = q->next)
		n++;
	struct scope in = {.bind = seg_alloc((size_t)n + 1, sizeof *in.bind)};
	if (!in.bind)
		return SEG_ENOMEM;
	int rc = bind_all(b, d, a, sc, &in);
	if (rc >= 0) {
		d->open = 1;
		rc = build(b, d->body, &in);
		d->open = 0;
		if (rc < 0 && a->src != d->src && a->src->name == NULL) {
			char place[120];
			seg_loss_place(spot(a), place, sizeof place);
			rc = seg_where(rc, "%s: in %s", place, d->name);
		}
	}
	struct seg_node *top = rc >= 0 ? &b->l->node[rc] : NULL;
	if (top && top->nkid && !top->name) {
		char *call = call_text(b, d, &in);
		if (!call)
			rc = SEG_ENOMEM;
		else {
			top->name = d->name; /* lives in the arena, as the call does */
			seg_tree(b->l)->info[rc].call = call;
		}
	}
	free(in.bind);
	return rc;
}

/* sum[n,y](e), log(e), where(c,a,b) .. */
static int function(struct build *b, const struct seg_func *f, const struct ast *a, const struct scope *sc)
{
	struct seed s = {.op = f->op, .prim = f->prim, .at = spot(a)};
	int rc, n = 0;
	for (const struct ast *e = a->kid; e; e = e->next)
		n++;
	if (f->axes == NO_AXES && a->axes)
		return seg_loss_wrong(spot(a->axes), "%s takes no axes: %s works on each element", f->name, f->name);
	if (f->axes != NO_AXES && !a->axes)
		return seg_loss_wrong(spot(a), "%s needs its axes, e.g. %s[%s](..)", f->name, f->name,
		    f->axes == ONLY_K ? "k" : "n,y,x,k");
	if (n != f->nkid)
		return seg_loss_wrong(spot(a), "%s takes %d argument%s, found %d", f->name, f->nkid,
		    f->nkid == 1 ? "" : "s", n);
	if (a->axes && (rc = read_axes(a->axes, sc, &s.over)) < 0)
		return rc;
	if (f->axes == ONLY_K && s.over != SEG_K)
		return seg_loss_wrong(spot(a->axes), "%s works along k alone: %s[k](..)", f->name, f->name);
	for (const struct ast *e = a->kid; e; e = e->next) {
		if (e->key)
			return seg_loss_wrong((struct spot){e->src, e->keyat, 1}, "%s takes its arguments by position", f->name);
		if ((s.kid[s.nkid++] = rc = build(b, e, sc)) < 0)
			return rc;
		/* a constant condition chooses; the other branch is not looked at */
		if (f->op == SEG_OP_WHERE && e == a->kid && b->l->node[rc].op == SEG_OP_NUM)
			return build(b, b->l->node[rc].num != 0 ? e->next : e->next->next, sc);
	}
	return seg_tree_make(b->l, &s);
}

static int name(struct build *b, const struct ast *a, const struct scope *sc)
{
	const struct bind *v = bound(sc, a->name);
	struct seed s = {.at = spot(a)};
	if (v && !a->called && !a->axes)
		return !v->is_axes ? v->node : seg_loss_wrong(spot(a), "'%s' stands for axes, a value was expected", a->name);
	const struct seg_func *f = seg_func_find(a->name, a->axes != NULL);
	if (f)
		return function(b, f, a, sc);
	struct def *d = definition(a->src, a->name);
	if (d)
		return expand(b, d, a, sc);
	int word = axis(a->name) || !strcmp(a->name, "head");
	for (int i = 0; i < NLEAF; i++)
		word |= !strcmp(a->name, leaf[i].name);
	if (word && (a->axes || a->called))
		return seg_loss_wrong(spot(a), "'%s' is not a function; write a product with '*'", a->name);
	if (!strcmp(a->name, "head")) {
		enum seg_loss_head h = b->l->env.head;
		s.num = h == SEG_LOSS_SIGMOID ? 1 : h == SEG_LOSS_SOFTMAX ? 2 : 0;
		return seg_tree_make(b->l, &s);
	}
	for (int i = 0; i < NLEAF; i++)
		if (!strcmp(a->name, leaf[i].name)) {
			s.op = leaf[i].op;
			return seg_tree_make(b->l, &s);
		}
	if (axis(a->name))
		return seg_loss_wrong(spot(a), "'%s' is an axis; axes stand in brackets, as in mean[%s](..)%s", a->name,
		    a->name, a->name[0] == 'k' ? " (the class number is c)" : "");
	return unknown(a);
}

static int operation(struct build *b, const struct ast *a, const struct scope *sc)
{
	struct seed s = {.op = a->op, .at = spot(a)};
	for (const struct ast *e = a->kid; e; e = e->next)
		if ((s.kid[s.nkid++] = build(b, e, sc)) < 0)
			return s.kid[s.nkid - 1];
	return seg_tree_make(b->l, &s);
}

static int build(struct build *b, const struct ast *a, const struct scope *sc)
{
	if (++b->steps > MOST_STEPS)
		return seg_loss_wrong(spot(a), "this loss expands to more than %d steps", MOST_STEPS);
	switch (a->kind) {
	case AST_NUM: return seg_tree_make(b->l, &(struct seed){.op = SEG_OP_NUM, .num = a->num, .at = spot(a)});
	case AST_OP: return operation(b, a, sc);
	case AST_LIST: return vector(b, a, sc);
	case AST_NAME: return name(b, a, sc);
	}
	return SEG_EUSAGE;
}

/* ---- the whole ---- */

/* Keep what the root needs, in order. */
static int compact(struct seg_loss *l, int root)
{
	int *to = seg_alloc((size_t)l->n, sizeof *to), n = 0;
	if (!to)
		return SEG_ENOMEM;
	to[root] = 1;
	for (int i = root; i >= 0; i--)
		for (int j = 0; to[i] && j < l->node[i].nkid; j++)
			to[l->node[i].kid[j]] = 1;
	for (int i = 0; i <= root; i++) {
		if (!to[i])
			continue;
		l->node[n] = l->node[i];
		seg_tree(l)->info[n] = seg_tree(l)->info[i];
		for (int j = 0; j < l->node[n].nkid; j++)
			l->node[n].kid[j] = to[l->node[n].kid[j]];
		to[i] = n++;
	}
	l->root = n - 1;
	l->n = n;
	free(to);
	return SEG_OK;
}

static int scalar(const struct seg_loss *l, const struct ast *expr)
{
	char axes[16];
	unsigned a = l->node[l->root].axes;
	if (!a || l->env.field_ok)
		return SEG_OK;
	seg_axes_text(a, axes);
	int brief = strlen(l->text) < 48 && !strpbrk(l->text, "\n;#");
	return seg_loss_wrong(spot(expr), "loss has axes %s; say how to reduce them, e.g. mean%s(%s)", axes, axes,
	    brief ? l->text : "...");
}

extern const char _binary_recipes_start[], _binary_recipes_end[];

static int read_texts(struct seg_loss *l, struct ast **expr)
{
	struct tree *t = seg_tree(l);
	for (int i = 0; i < 3; i++)
		if (!(t->text[i] = seg_arena_new(&t->mem, 1, sizeof **t->text)))
			return SEG_ENOMEM;
	const char *extra = l->env.extra_recipes ? l->env.extra_recipes : "";
	t->text[0]->s = l->text;
	t->text[1]->s = l->env.extra_recipes = seg_arena_copy(&t->mem, extra, strlen(extra));
	t->text[2]->s = seg_arena_copy(&t->mem, _binary_recipes_start,
	    (size_t)(_binary_recipes_end - _binary_recipes_start));
	if (!t->text[1]->s || !t->text[2]->s)
		return SEG_ENOMEM;
	t->text[0]->next = t->text[1];
	t->text[1]->next = t->text[2];
	t->text[1]->name = "recipe file";
	t->text[2]->name = "recipes";
	int rc = SEG_OK;
	for (int i = 2; i >= 0 && rc >= 0; i--)
		rc = seg_loss_parse(&t->mem, t->text[i], i ? NULL : expr);
	return rc;
}

static int copy_env(struct seg_loss *l, const struct seg_loss_env *env)
{
	struct tree *t = seg_tree(l);
	l->env = *env;
	double *number = seg_arena_new(&t->mem, (size_t)env->nclass, sizeof *number);
	if (!number)
		return SEG_ENOMEM;
	for (int k = 0; k < env->nclass; k++)
		number[k] = k;
	t->number = number;
	if (!env->classes)
		return SEG_OK;
	char **names = seg_arena_new(&t->mem, (size_t)env->nclass, sizeof *names);
	for (int k = 0; names && k < env->nclass; k++)
		if (!(names[k] = seg_arena_copy(&t->mem, env->classes[k], strlen(env->classes[k]))))
			return SEG_ENOMEM;
	l->env.classes = (const char *const *)names;
	return names ? SEG_OK : SEG_ENOMEM;
}

static int compile(struct seg_loss *l, const char *text, const struct seg_loss_env *env)
{
	struct tree *t = l->mem = seg_alloc(1, sizeof *t);
	struct ast *expr = NULL;
	if (!t || !(l->text = seg_arena_copy(&t->mem, text, strlen(text))))
		return SEG_ENOMEM;
	int rc = copy_env(l, env);
	if (rc < 0 || (rc = read_texts(l, &expr)) < 0)
		return rc;
	struct build b = {.l = l};
	int root = build(&b, expr, &(struct scope){0});
	if (root < 0 || (rc = compact(l, root)) < 0)
		return root < 0 ? root : rc;
	return scalar(l, expr);
}

int seg_loss_compile(struct seg_loss **out, const char *text, const struct seg_loss_env *env)
{
	*out = NULL;
	if (env->nclass < 1)
		return seg_fail(SEG_EUSAGE, "a loss needs the number of classes");
	struct seg_loss *l = seg_alloc(1, sizeof *l);
	if (!l)
		return SEG_ENOMEM;
	int rc = compile(l, text, env);
	if (rc < 0) {
		seg_loss_free(l);
		return rc;
	}
	*out = l;
	return SEG_OK;
}

void seg_loss_free(struct seg_loss *l)
{
	if (!l)
		return;
	struct tree *t = l->mem;
	if (t) {
		seg_arena_free(&t->mem);
		free(t->info);
	}
	free(t);
	free(l->node);
	free(l);
}
