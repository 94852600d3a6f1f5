/* What the files of lib/loss share: texts and their syntax trees (parse.c), the node table (tree.c),
 * expansion of definitions (build.c), the kernels on blocks of pixels (eval.isa.c). */
#ifndef SEG_LOSS_TREE_H
#define SEG_LOSS_TREE_H

#include "seg/loss.h"

enum { SEG_YX = SEG_Y | SEG_X, SEG_ALL = SEG_N | SEG_Y | SEG_X | SEG_K };

/* ---- memory that lives as long as the loss ---- */
struct arena;
void *seg_arena_new(struct arena **a, size_t n, size_t size); /* zeroed; NULL: SEG_ENOMEM */
char *seg_arena_copy(struct arena **a, const char *s, size_t n);
void seg_arena_free(struct arena **a);

/* ---- syntax (parse.c) ---- */
struct def;
struct text {
	const char *name; /* how messages call it; NULL: the user's expression, columns alone say where */
	const char *s;
	struct def *def;  /* its definitions, in order */
	struct text *next; /* names not found here are looked for there */
};

enum ast_kind { AST_NUM, AST_OP, AST_NAME, AST_LIST };
struct ast {
	enum ast_kind kind;
	const struct text *src;
	int at, len;
	double num;
	enum seg_op op;     /* AST_OP */
	const char *name;   /* AST_NAME */
	struct ast *axes;   /* AST_NAME: the list in its brackets, or NULL */
	int called;         /* AST_NAME: has parentheses */
	struct ast *kid;    /* operands, arguments or entries: a list */
	struct ast *next;   /* the next of these */
	const char *key;    /* as an argument or entry: its name ("*": all others), or NULL */
	int keyat;
};
struct param {
	const char *name;
	struct ast *otherwise; /* default, or NULL: must be given */
	struct param *next;
};
struct def {
	const char *name;
	const struct text *src;
	int at, len;         /* of its name */
	int head, headlen;   /* of the parameters as written */
	struct param *axes;  /* the one in brackets, or NULL */
	struct param *param;
	struct ast *body;
	int open;            /* being expanded: a call to it now is a recursion */
	struct def *next;
};

/* Parse t->s: definitions, then (if expr) one expression into *expr. */
int seg_loss_parse(struct arena **a, struct text *t, struct ast **expr);

/* A place in a text, for messages and for nodes. */
struct spot {
	const struct text *src;
	int at, len;
};
/* SEG_EUSAGE with "column 7: " (or "line 2, column 7: ", "recipes, line 40, column 3: ") in front. */
int seg_loss_wrong(struct spot where, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void seg_loss_place(struct spot where, char *buf, size_t n); /* "column 7" */

/* ---- nodes (tree.c) ---- */
struct info {           /* what a node has besides the public part */
	const struct text *src;
	const char *call;   /* the call it stands for, as one would write it: "dice[n,y,x,k]", or NULL */
};
struct tree {
	struct arena *mem;
	struct info *info;  /* as many as nodes */
	const double *number; /* 0..K-1: the leaf c */
	struct text *text[3]; /* the expression, the user's recipes or NULL, ours */
};
static inline struct tree *seg_tree(const struct seg_loss *l)
{
	return l->mem;
}

/* Append a node: axes and level inferred, constants folded, equal nodes shared. */
struct seed {
	enum seg_op op;
	unsigned over;
	int nkid, kid[3], prim;
	double num;
	const double *vec; /* copied */
	struct spot at;
};
int seg_tree_make(struct seg_loss *l, const struct seed *s);
/* For each node: does it depend on z or p differentiably?  dep: n bytes. */
void seg_tree_depends(const struct seg_loss *l, unsigned char *dep);
/* Does the operand j of node i pass adjoints on? */
int seg_tree_passes(const struct seg_node *i, int j);
/* "[n,y,x,k]"; "no axes" for none */
const char *seg_axes_text(unsigned axes, char buf[16]);

/* Functions of the language.  nkid -1: an operator, printed as one. */
struct seg_func {
	const char *name;
	enum seg_op op;
	int nkid;
	enum { NO_AXES, SOME_AXES, ONLY_K } axes;
	int prim;
};
const struct seg_func *seg_func_find(const char *name, int with_axes);
const struct seg_func *seg_func_of(const struct seg_node *n);
enum { SEG_PRIM_TORCH_BCE };

/* Classes as messages list them: "matrix, oxide, crack". */
char *seg_class_list(const struct seg_loss_env *e);

/* ---- kernels (eval.isa.c) ---- */
enum { SEG_BLOCK = 256 }; /* pixels; changing it changes the last bits of every sum */

struct seg_arg {   /* element (plane k, pixel i) at v[k*ks + i*is]; is 0 or 1 */
	const void *v;
	ptrdiff_t ks;
	int is;
};
struct seg_call {
	enum seg_op op;
	unsigned over;     /* reductions: SEG_K alone */
	int prim, check;
	int n, nk, nclass; /* pixels; planes of the result (1 or nclass); planes of an operand with k */
	struct seg_arg a[3];
	void *out;         /* [nk][n]: written by forward, read by backward */
	void *tmp;         /* room for 4 x [nclass][n] */
	const void *g;     /* adjoint of the result, [nk][n] */
	void *d[3];        /* adjoints of the operands: added to; NULL: not wanted */
	int fresh[3];      /* d holds nothing yet: written to */
	ptrdiff_t dk[3];   /* plane stride of d: n, or 0 if the operand lacks k */
};
struct seg_load {
	const struct seg_loss_sample *s;
	enum seg_loss_head head;
	enum seg_op leaf;
	unsigned axes;
	size_t i0;
	int n, nclass;
	void *out, *tmp;
};
/* One table for float and one for double fields; v and out are of that type. */
struct seg_kernels {
	size_t size; /* of an element */
	/* 0, or 1 if c->check and an operand lies outside the domain */
	int (*forward)(const struct seg_call *c);
	void (*backward)(const struct seg_call *c);
	/* 0, or 1: z cannot be recovered from p */
	int (*load)(const struct seg_load *l);
	/* adjoint of z from that of p, both [nclass][n]: dz += ... */
	void (*head)(enum seg_loss_head head, int n, int nclass, const void *p, const void *gp, void *dz);
	double (*sum)(const void *v, int n);           /* 16 lanes in double, folded */
	double (*peak)(const void *v, int n, int low); /* largest, or smallest; NaN if there is one */
	void (*add)(void *v, int n, double x);
	void (*narrow)(const double *v, int n, void *out);
	void (*widen)(const void *v, int n, double *out);
	int (*store)(const void *v, int n, int first, float *out); /* out = v, or += if not first; 1 if not finite */
};
const struct seg_kernels *seg_loss_kernels_plain(int f64);
const struct seg_kernels *seg_loss_kernels_avx2(int f64);
const struct seg_kernels *seg_loss_kernels_avx512(int f64);
const struct seg_kernels *seg_loss_kernels_neon(int f64);

#endif
