/* The loss language of seg-lang(7): compile an expression over named axes, evaluate it over samples
 * in passes, take its gradient with respect to the logits, look at any of its nodes.
 *
 * A loss is a tree in which nothing is reduced unless it says over which axes.  What reduces over n
 * couples the samples: it is computed as one number (or K numbers) per sample, gathered, and
 * combined in sample order.  So evaluation proceeds in passes, and the caller - one process, or
 * many ranks - only carries doubles about:
 *
 *     for (pass = 0; pass < npass; pass++) {
 *             for each of my samples i:  seg_loss_pass(l, st, pass, &sample[i], partial_i);
 *             all = every sample's partials, in sample order, of every rank;
 *             seg_loss_combine(l, st, pass, all, nsamples);
 *     }
 *     value = seg_loss_value(l, st);   for each sample:  seg_loss_gradient(l, st, &sample[i], dz);
 *
 * This module knows neither streams nor MPI. */
#ifndef SEG_LOSS_H
#define SEG_LOSS_H

#include <stddef.h>
#include <stdint.h>

enum { SEG_N = 1, SEG_Y = 2, SEG_X = 4, SEG_K = 8 }; /* axes, as bits */

enum seg_op {
	SEG_OP_NUM, SEG_OP_VEC,                          /* a number; nclass numbers over k */
	SEG_OP_T, SEG_OP_P, SEG_OP_Z, SEG_OP_V, SEG_OP_S, SEG_OP_W, SEG_OP_C, /* leaves */
	SEG_OP_NEG, SEG_OP_ADD, SEG_OP_SUB, SEG_OP_MUL, SEG_OP_DIV, SEG_OP_POW,
	SEG_OP_LT, SEG_OP_LE, SEG_OP_GT, SEG_OP_GE, SEG_OP_EQ, SEG_OP_NE, SEG_OP_WHERE,
	SEG_OP_EXP, SEG_OP_LOG, SEG_OP_SQRT, SEG_OP_ABS, SEG_OP_TANH, SEG_OP_XLOGY, SEG_OP_MIN2,
	SEG_OP_MAX2, SEG_OP_CLIP, SEG_OP_SOFTPLUS, SEG_OP_SIGMOID, SEG_OP_STOP, SEG_OP_F32,
	SEG_OP_SOFTMAX, SEG_OP_LOGSOFTMAX,               /* along k */
	SEG_OP_ARGMAX,                                   /* along k: indicator of the first maximum */
	SEG_OP_SUM, SEG_OP_MEAN, SEG_OP_MAX, SEG_OP_MIN, /* over `over` */
	SEG_OP_LOVASZ,                                   /* coefficients of sorted errors within a sample: a field */
	SEG_OP_PRIM                                      /* a named primitive (torch's BCE) */
};

/* One node.  The tree is a table in evaluation order: kids come before their parents, equal
 * subexpressions are one node. */
struct seg_node {
	enum seg_op op;
	unsigned axes;      /* axes of its value */
	unsigned over;      /* reductions: the axes reduced */
	int nkid, kid[3];
	double num;         /* SEG_OP_NUM */
	const double *vec;  /* SEG_OP_VEC: nclass numbers */
	int prim;           /* SEG_OP_PRIM: which */
	int level;          /* how many reductions over n lie beneath: 0 depends on one sample only */
	int at, len;        /* where it stands in text (of the expression or of a recipe); len 0: made */
	const char *source; /* text it stands in: the user's expression, or "recipes" */
	const char *name;   /* definition whose body it is the top of ("bce", "dice"), or NULL */
};

enum seg_loss_head { SEG_LOSS_SIGMOID, SEG_LOSS_SOFTMAX, SEG_LOSS_NONE };

/* What the expression is compiled against. */
struct seg_loss_env {
	int nclass;
	const char *const *classes;  /* nclass names, for [crack=1000, *=1]; NULL: numbers only */
	enum seg_loss_head head;
	unsigned w_axes;             /* axes of the pixel weight where there is one; 0: w = 1 */
	int f64;                     /* fields in double (--precision f64) */
	const char *extra_recipes;   /* text of a user's recipe file, or NULL; borrowed */
	int field_ok;                /* accept a value that is not a scalar (--field) */
};

struct seg_loss {
	struct seg_node *node;
	int n, root, cap;
	struct seg_loss_env env;     /* classes copied */
	char *text;                  /* the expression as given */
	void *mem;                   /* everything else */
};

/* Compile.  text: an expression, or "@project.function(arg=..)" of the recipes.  On failure *l is
 * NULL and the reason names the column: "column 14: ... found, ... expected; likely repair".
 * SEG_EUSAGE: does not parse, unknown name, wrong vector length, not a scalar. */
int seg_loss_compile(struct seg_loss **l, const char *text, const struct seg_loss_env *env);
void seg_loss_free(struct seg_loss *l);

/* The expression a node stands for, as one line of the language (definitions by name). Caller frees. */
char *seg_loss_node_text(const struct seg_loss *l, int node);
/* The same with other words for some nodes: as[i], if not NULL, stands where node i would be
 * written (not for `node` itself, whose definition is opened).  as: one entry for each of l->n nodes. */
char *seg_loss_node_text_as(const struct seg_loss *l, int node, const char *const *as);

/* Build on: append a node made of existing ones (types and axes inferred, equal nodes shared);
 * returns its index or a negative code.  States made before do not know it; states made after
 * compute its reductions over n in their passes, though the root does not need them.  As a sample
 * may have its own extents, the value of sum[y,x](1) has the axis n.  For ledgers. */
int seg_loss_num(struct seg_loss *l, double v);
int seg_loss_make(struct seg_loss *l, enum seg_op op, unsigned over, int nkid, const int *kid);

/* The recipes: name, arguments with defaults, source, range, one by one; NULL after the last. */
struct seg_recipe {
	const char *name, *args, *body, *source, *range; /* range: "0 .. inf" as the file states it */
};
const struct seg_recipe *seg_recipe_list(size_t *n);

/* One sample as the evaluator sees it.  Element (pixel i, class k) of z and p is at
 * z[i*zi + k*zk]; so both [H,W,K] (zi=K, zk=1) and planes (zi=1, zk=P) fit.  All borrowed. */
struct seg_loss_sample {
	size_t h, w;
	const float *z, *p;        /* either or both; p from z through the head; z from p recovered */
	size_t zi, zk, pi, pk;
	const void *truth;         /* [H,W] class numbers or [H,W,K] */
	enum { SEG_TRUTH_NONE, SEG_LABEL_U1, SEG_LABEL_U2, SEG_MASK_U1, SEG_MASK_F4 } kind;
	long ignore;               /* this value of the truth means: not valid; -1 none */
	const float *weight;       /* env.w_axes of [y,x,k] in C order; NULL: 1 */
	int weight_k;              /* weight is [H,W,K], not [H,W]; for those who have no env */
	double sample_weight;
	const char *key;           /* for messages */
	size_t index;              /* its place among the partials: who wins a max or min over n */
	void *owned;               /* seg_bind's: converted truth, freed by seg_unbind; else NULL */
};

/* Values of what is reduced over n; one for each batch in flight. */
struct seg_loss_state;
int seg_loss_state_new(struct seg_loss_state **st, const struct seg_loss *l);
void seg_loss_state_free(struct seg_loss_state *st);

/* Passes needed for the value, and (larger or equal) for the gradient too.  Passes of the value
 * come first. */
int seg_loss_npass(const struct seg_loss *l, int gradient);
/* Doubles per sample in a pass. */
size_t seg_loss_npartial(const struct seg_loss *l, int pass);
/* Thread-safe for different samples.  log 0, x/0, 0^negative and not-finite values: SEG_EDATA
 * naming sample, pixel and column. */
int seg_loss_pass(const struct seg_loss *l, struct seg_loss_state *st, int pass,
    const struct seg_loss_sample *s, double *partial);
int seg_loss_combine(const struct seg_loss *l, struct seg_loss_state *st, int pass,
    const double *partials, size_t nsample);
double seg_loss_value(const struct seg_loss *l, const struct seg_loss_state *st);
/* dL/dz, planes [K][H*W]; after all passes. */
int seg_loss_gradient(const struct seg_loss *l, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, float *dz);

/* For training: what the value still needs is computed together with the gradient, so that its fields
 * are computed once.  seg_loss_fuse, on a fresh state: 1, or 0 where the gradient depends on all that
 * is gathered.  Then the last pass of the value gathers what does not move with the predictions, and
 * seg_loss_gradient_pass, in place of seg_loss_gradient, the rest: partials of the pass
 * seg_loss_npass(l, 1), to be combined as such; then there is a value.  The same bits. */
int seg_loss_fuse(struct seg_loss_state *st);
int seg_loss_gradient_pass(const struct seg_loss *l, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, float *dz, double *partial);
/* Does a pass look at predictions?  If not, s->z and s->p may be NULL in it. */
int seg_loss_looks(const struct seg_loss_state *st, int pass);
/* Partials of the last pass of the value as a state that is not fused makes them: what came with the
 * gradient is added to what came in the pass; nsample of each. */
void seg_loss_join(const struct seg_loss *l, size_t nsample, double *pass, const double *gradient);

/* The value of any node on one sample, once the passes of the value are done: extents of its axes
 * among y, x, k in C order (1 for none of them); n means this sample. */
int seg_loss_field(const struct seg_loss *l, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, int node, double *out);

/* All passes over n samples in memory or from a source, in parallel, in order: a convenience over
 * the above.  get fills *s for sample i (thread-safe; t = thread); put, if not NULL, releases. */
struct seg_loss_source {
	size_t n;
	int (*get)(void *arg, size_t i, int t, struct seg_loss_sample *s);
	void (*put)(void *arg, size_t i, int t, struct seg_loss_sample *s);
	void *arg;
};
int seg_loss_run(const struct seg_loss *l, struct seg_loss_state *st, int gradient,
    const struct seg_loss_source *src, int threads);

#endif
