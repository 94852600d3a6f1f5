/* What is computed when.  Nodes are of three kinds: fields (both y and x; computed block by block,
 * never whole), arrays (n, but not both y and x; doubles, whole, for one sample) and globals (no n).
 * A field may depend on arrays made from other fields of the same sample, as in
 * mean[n,y,x](e / mean[y,x](e)): so one pass over a sample takes one sweep over its blocks for each
 * stage, and each sweep computes anew the fields that its reductions need. */
#ifndef SEG_LOSS_PLAN_H
#define SEG_LOSS_PLAN_H

#include "lib/loss/tree.h"

static inline int seg_is_field(const struct seg_node *n) { return (n->axes & SEG_YX) == SEG_YX; }
static inline int seg_is_global(const struct seg_node *n) { return !(n->axes & SEG_N); }
static inline int seg_is_array(const struct seg_node *n) { return !seg_is_field(n) && !seg_is_global(n); }
/* An array over y or over x: spread over the pixels before fields use it. */
static inline int seg_is_row(const struct seg_node *n) { return seg_is_array(n) && n->axes & SEG_YX; }
static inline int seg_reduces(const struct seg_node *n)
{
	return n->op >= SEG_OP_SUM && n->op <= SEG_OP_MIN;
}
/* A number per sample (or K) that is gathered: a reduction over n of what has n. */
static inline int seg_is_gathered(const struct seg_loss *l, int i)
{
	const struct seg_node *n = &l->node[i];
	return seg_reduces(n) && n->over & SEG_N && l->node[n->kid[0]].axes & SEG_N;
}

/* What is true of each node, once and for all. */
struct facts {
	int n;
	int *stage;           /* reductions of fields to arrays beneath it, within a sample */
	unsigned char *dep;   /* its value moves with the predictions */
	unsigned char *live;  /* the root moves with it, and it with the predictions */
	unsigned char *check; /* it may not be infinite: something other than a branch of `where` uses it */
	int nvalue;           /* passes of the value */
	int nadjoint;         /* passes of adjoints, of levels: */
	int *level;
};
int seg_facts_new(struct facts *f, const struct seg_loss *l);
void seg_facts_free(struct facts *f);
/* Globals of that level whose adjoint is gathered: live, and used by fields or arrays. */
int seg_is_boundary(const struct seg_loss *l, const struct facts *f, int i, int level);

/* One walk over the blocks of a sample. */
struct sweep {
	int nstep, *step; /* fields to compute and rows to spread, operands first */
	int nacc, *acc;   /* reductions that their values enter */
	int nseed, *seed; /* reductions whose adjoint enters */
	int nback, *back; /* fields that adjoints go through, results first */
	int *vslot, *aslot; /* of each node: the buffer of its value, of its adjoint; -1 none */
	int nslot;
};
struct plan {
	int nsweep, nback; /* sweeps forward (stages) and, behind them, backward */
	struct sweep *sweep;
	int narray, *array; /* arrays to compute, in order; those of stage s before sweep s */
	unsigned char *rel; /* backward: adjoints wanted lie beneath it, or are its own */
};
/* Forward: what the targets (reductions over n, or fields and arrays) need. */
int seg_plan_forward(struct plan *p, const struct seg_loss *l, const struct facts *f, const unsigned char *target);
/* Backward: from all reductions over n down to z and p (level 0), or to the boundary of a level.  The
 * targets (reductions over n, or NULL) are computed on the way. */
int seg_plan_backward(struct plan *p, const struct seg_loss *l, const struct facts *f, int level,
    const unsigned char *target);
/* Globals of the last pass of the value whose value takes what moves with the predictions: late[i] 1.
 * 1 if no adjoint depends on one, so that they may be computed with the gradient. */
int seg_plan_late(const struct seg_loss *l, const struct facts *f, unsigned char *late);
void seg_plan_free(struct plan *p);

#endif
