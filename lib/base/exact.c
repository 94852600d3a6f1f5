/* Sums without rounding. */
#include <math.h>

#include "seg/exact.h"

enum { BELOW = 448, BITS = 53 };

/* Add m * 2^(64 * i), the carry going up. */
static void carry(struct seg_exact *e, int i, uint64_t m)
{
	for (; m && i < SEG_EXACT_LIMBS; i++) {
		e->limb[i] += m;
		m = e->limb[i] < m;
	}
}

void seg_exact_add(struct seg_exact *e, double v)
{
	int x;
	uint64_t m = (uint64_t)ldexp(frexp(v, &x), BITS); /* v = m * 2^(x - BITS) */
	int at = x - BITS + BELOW;
	if (at < 0) {
		m = at > -BITS ? m >> -at : 0;
		at = 0;
	}
	carry(e, at / 64, m << at % 64);
	carry(e, at / 64 + 1, at % 64 ? m >> (64 - at % 64) : 0);
}

void seg_exact_merge(struct seg_exact *e, const struct seg_exact *other)
{
	for (int i = 0; i < SEG_EXACT_LIMBS; i++)
		carry(e, i, other->limb[i]);
}

int seg_exact_parts(const struct seg_exact *e, double part[SEG_EXACT_PARTS])
{
	int n = 0, bit = 64 * SEG_EXACT_LIMBS;
	while (--bit >= 0) {
		uint64_t m = 0;
		if (!(e->limb[bit / 64] >> bit % 64 & 1))
			continue;
		for (int i = 0; i < BITS; i++, bit--)
			m = m << 1 | (bit >= 0 ? e->limb[bit / 64] >> bit % 64 & 1 : 0);
		part[n++] = ldexp((double)m, ++bit - BELOW);
	}
	return n;
}

double seg_exact_value(const struct seg_exact *e)
{
	double part[SEG_EXACT_PARTS], sum = 0;
	for (int n = seg_exact_parts(e, part); n > 0; n--)
		sum += part[n - 1];
	return sum;
}
