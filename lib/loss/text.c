/* Nodes back to one line of the language. */
#include <stdio.h>
#include <stdlib.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "lib/loss/tree.h"

/* The shortest digits that read back as v. */
static int number(struct seg_buf *b, double v)
{
	char s[32];
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(s, sizeof s, "%.*g", digits, v);
		if (strtod(s, NULL) == v)
			break;
	}
	return seg_buf_printf(b, "%s", s);
}

static int vector(struct seg_buf *b, const double *v, int n)
{
	int rc = SEG_OK;
	for (int k = 0; k < n && rc >= 0; k++) {
		rc = seg_buf_printf(b, "%c", k ? ',' : '[');
		if (rc >= 0)
			rc = number(b, v[k]);
	}
	return rc < 0 ? rc : seg_buf_printf(b, "]");
}

static const struct { enum seg_op op; const char *sign; int prec; } infix[] = {
	{SEG_OP_LT, " < ", 1}, {SEG_OP_LE, " <= ", 1}, {SEG_OP_GT, " > ", 1}, {SEG_OP_GE, " >= ", 1},
	{SEG_OP_EQ, " == ", 1}, {SEG_OP_NE, " != ", 1}, {SEG_OP_ADD, " + ", 2}, {SEG_OP_SUB, " - ", 2},
	{SEG_OP_MUL, "*", 3}, {SEG_OP_DIV, "/", 3}, {SEG_OP_POW, "^", 5},
};

struct words {
	struct seg_buf *b;
	const struct seg_loss *l;
	const char *const *as; /* the caller's words for nodes, or NULL */
};
static int write_node(const struct words *w, int i, int prec, int top);

static int write_call(const struct words *w, const struct seg_node *n)
{
	char axes[16];
	int rc = seg_buf_printf(w->b, "%s%s", seg_func_of(n)->name, n->over ? seg_axes_text(n->over, axes) : "");
	for (int j = 0; j < n->nkid && rc >= 0; j++) {
		rc = seg_buf_printf(w->b, "%s", j ? ", " : "(");
		if (rc >= 0)
			rc = write_node(w, n->kid[j], 0, 0);
	}
	return rc < 0 ? rc : seg_buf_printf(w->b, ")");
}

static int write_infix(const struct words *w, const struct seg_node *n, const char *sign, int mine)
{
	int power = n->op == SEG_OP_POW; /* binds to the right */
	int rc = write_node(w, n->kid[0], mine + (power || mine == 1), 0);
	if (rc >= 0)
		rc = seg_buf_printf(w->b, "%s", sign);
	return rc < 0 ? rc : write_node(w, n->kid[1], mine + !power, 0);
}

static int write_node(const struct words *w, int i, int prec, int top)
{
	struct seg_buf *b = w->b;
	const struct seg_loss *l = w->l;
	static const char leaf[] = {[SEG_OP_T] = 't', [SEG_OP_P] = 'p', [SEG_OP_Z] = 'z', [SEG_OP_V] = 'v',
	    [SEG_OP_S] = 's', [SEG_OP_W] = 'w', [SEG_OP_C] = 'c'};
	const struct seg_node *n = &l->node[i];
	const char *other = top ? NULL : w->as && w->as[i] ? w->as[i] : seg_tree(l)->info[i].call;
	if (other)
		return seg_buf_printf(b, "%s", other);
	if (n->op == SEG_OP_VEC)
		return vector(b, n->vec, l->env.nclass);
	if (n->op == SEG_OP_NUM && n->num >= 0)
		return number(b, n->num);
	if (n->op <= SEG_OP_C && n->op != SEG_OP_NUM)
		return seg_buf_printf(b, "%c", leaf[n->op]);
	const char *sign = NULL;
	int mine = n->op == SEG_OP_NEG || n->op == SEG_OP_NUM ? 4 : 9;
	for (size_t j = 0; j < sizeof infix / sizeof *infix; j++)
		if (infix[j].op == n->op) {
			sign = infix[j].sign;
			mine = infix[j].prec;
		}
	int rc = mine < prec ? seg_buf_printf(b, "(") : SEG_OK;
	if (rc >= 0)
		rc = sign ? write_infix(w, n, sign, mine) : n->op == SEG_OP_NUM ? number(b, n->num) :
		    n->op != SEG_OP_NEG ? write_call(w, n) : seg_buf_printf(b, "-");
	if (rc >= 0 && n->op == SEG_OP_NEG)
		rc = write_node(w, n->kid[0], 4, 0);
	return rc >= 0 && mine < prec ? seg_buf_printf(b, ")") : rc;
}

char *seg_loss_node_text_as(const struct seg_loss *l, int node, const char *const *as)
{
	struct seg_buf b = {0};
	if (write_node(&(struct words){&b, l, as}, node, 0, 1) >= 0)
		return b.data;
	free(b.data);
	return NULL;
}

char *seg_loss_node_text(const struct seg_loss *l, int node)
{
	return seg_loss_node_text_as(l, node, NULL);
}
