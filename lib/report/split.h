/* How a loss is taken apart: the tree read from the top, each linear step handed on to what it is
 * made of, until what is left is a value at a pixel.  Private to lib/report. */
#ifndef LIB_REPORT_SPLIT_H
#define LIB_REPORT_SPLIT_H

#include "seg/loss.h"

/* Where one is on the way down. */
struct seg_place {
	int guard;   /* node that is 1 where the way is taken (where, max, min); -1: everywhere */
	int summand; /* the summand of the whole one is in: its term */
	int under;   /* an addition has been passed */
	int closed;  /* no further terms: inside a named definition or a quotient */
};

/* A share of a field, pixel by pixel: the values of `node`. */
struct seg_part {
	int term, node;
	int elsewhere;    /* lacks y and x: has its own rows, stands here for the field's rounding */
	int child, share; /* then: what it is, and the factor beside the group's */
	struct seg_place at;
};

/* A field that the loss sums over y and x: contributes field * factor at each pixel (and class).
 * Its parts add up to it, but for the rounding of float fields, which goes to the largest part. */
struct seg_group {
	int field, factor; /* factor: axes among n, k */
	int part, npart;
};

/* What belongs to no pixel: node * factor, axes among n, k, summed over the axes `bound`. */
struct seg_lone {
	int row, node, factor;
	unsigned bound;
};

struct seg_split {
	struct seg_loss *l;
	struct seg_part *part;
	struct seg_group *group;
	struct seg_lone *lone;
	int npart, ngroup, nlone;
	int *summand, nterm; /* node of each term; -1: the constants */
	char **why;          /* text of each row; row r belongs to term row_term[r] */
	int *row_term, nrow;
	int weight;          /* pixel weight made from the truth alone, or -1 */
	int truth, valid;    /* the leaves t and v */
	/* while splitting */
	unsigned char *about;
	int nabout, field_has_k, rc;
};

/* Appends nodes to l. */
int seg_split_new(struct seg_split **s, struct seg_loss *l);
void seg_split_free(struct seg_split *s);
/* A short name for what a node stands for; the caller frees. */
char *seg_split_label(const struct seg_loss *l, int node);

#endif
