/* Sums of doubles that are not negative, without rounding: what is added may come in any order and
 * in any grouping - threads, processes, files - and the sum has the same bits.  A fixed-point number
 * of 640 bits, from 2^-448 up to 2^192; what lies below is cut off each number added. */
#ifndef SEG_EXACT_H
#define SEG_EXACT_H

#include <stdint.h>

enum { SEG_EXACT_LIMBS = 10, SEG_EXACT_PARTS = 13 };
struct seg_exact {
	uint64_t limb[SEG_EXACT_LIMBS]; /* the lowest first; all 0: nothing added */
};
/* v: 0 or more, below 2^160. */
void seg_exact_add(struct seg_exact *e, double v);
void seg_exact_merge(struct seg_exact *e, const struct seg_exact *other);
/* The sum as doubles that add up to it exactly, the greatest first; how many (0 for zero).  The same
 * sum gives the same parts. */
int seg_exact_parts(const struct seg_exact *e, double part[SEG_EXACT_PARTS]);
double seg_exact_value(const struct seg_exact *e); /* as one double */

#endif
