/* Dot products and sums over positions: 16 partial sums, on every instruction set, folded in one order. */
#ifndef SEG_NET_DOTS_H
#define SEG_NET_DOTS_H

#include "lib/net/kernel.h"
#include "lib/net/vector.h"

/* Sum of lanes: i with i + 8, then + 4, + 2, + 1. */
INLINE float fold(float *f)
{
	UNROLL for (int m = SEG_LANES / 2; m; m /= 2)
		UNROLL for (int i = 0; i < m; i++)
			f[i] += f[i + m];
	return f[0];
}

/* One part of the lanes is done; with the last one dw[8 j + o] += the sum of all lanes of o and j. */
#ifdef SEG_ISA_avx512
/* In registers: each step adds halves, and puts those of two o together. */
INLINE void fold_dots(V a[CB][3], int part, float (*lanes)[3][SEG_LANES], float *dw)
{
	(void)part, (void)lanes;
	UNROLL for (int j = 0; j < 3; j++, dw += SEG_BLOCK) {
		V s[CB / 2];
		UNROLL for (int o = 0; o < 4; o++)
			s[o] = _mm512_shuffle_f32x4(a[o][j], a[o + 4][j], 0x44) + _mm512_shuffle_f32x4(a[o][j], a[o + 4][j], 0xee);
		UNROLL for (int o = 0; o < 2; o++)
			s[o] = _mm512_shuffle_f32x4(s[o], s[o + 2], 0x88) + _mm512_shuffle_f32x4(s[o], s[o + 2], 0xdd);
		V t = _mm512_shuffle_ps(s[0], s[1], 0x44) + _mm512_shuffle_ps(s[0], s[1], 0xee);
		t = _mm512_shuffle_ps(t, t, 0x88) + _mm512_shuffle_ps(t, t, 0xdd); /* 0 1 . . 4 5 . . 2 3 . . 6 7 . . */
		t = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 1, 8, 9, 4, 5, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0), t);
		_mm256_storeu_ps(dw, _mm256_add_ps(_mm256_loadu_ps(dw), _mm512_castps512_ps256(t)));
	}
}
#else
INLINE void fold_four(float (*l)[3][SEG_LANES], int j, float *dw)
{
#ifdef SEG_ISA_avx2
	__m128 s[4];
	UNROLL for (int o = 0; o < 4; o++) {
		__m256 v = _mm256_add_ps(_mm256_loadu_ps(l[o][j]), _mm256_loadu_ps(l[o][j] + 8));
		s[o] = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	}
	/* the four are turned about: lanes 0, 1 with 2, 3; then 0 with 1 */
	__m128 a = _mm_add_ps(_mm_shuffle_ps(s[0], s[1], 0x44), _mm_shuffle_ps(s[0], s[1], 0xee));
	__m128 b = _mm_add_ps(_mm_shuffle_ps(s[2], s[3], 0x44), _mm_shuffle_ps(s[2], s[3], 0xee));
	a = _mm_add_ps(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd));
	_mm_storeu_ps(dw, _mm_add_ps(_mm_loadu_ps(dw), a));
#else
	for (int o = 0; o < 4; o++)
		dw[o] += fold(l[o][j]);
#endif
}

INLINE void fold_dots(V a[CB][3], int part, float (*lanes)[3][SEG_LANES], float *dw)
{
	UNROLL for (int o = 0; o < CB; o++)
		UNROLL for (int j = 0; j < 3; j++)
			STORE(lanes[o][j] + part, a[o][j]);
	if (part + VL < SEG_LANES)
		return;
	UNROLL for (int j = 0; j < 3; j++)
		UNROLL for (int o = 0; o < CB; o += 4)
			fold_four(lanes + o, j, dw + SEG_BLOCK * j + o);
}
#endif

/* dw[8 j + o] += dot product of dy's plane o and x[j] over n positions, for CB planes and 3 taps.
 * Where registers are narrower than 16 lanes, each part of the lanes takes a turn.  The next chunk
 * of two planes, at `next`, is called in meanwhile: so many streams are beyond what a processor foresees. */
DOTS void dots(const float *dy, size_t plane, const float *const x[3], size_t n, const float *const next[2], float *dw)
{
	float lanes[CB][3][SEG_LANES];
	UNROLL for (int part = 0; part < SEG_LANES; part += VL) {
		V a[CB][3];
		UNROLL for (int o = 0; o < CB; o++)
			UNROLL for (int j = 0; j < 3; j++)
				a[o][j] = SPLAT(0.f);
		for (size_t i = (size_t)part; i < n; i += SEG_LANES) {
			V p[3];
			__builtin_prefetch(next[0] + i, 0, 3);
			__builtin_prefetch(next[1] + i, 0, 3);
			UNROLL for (int j = 0; j < 3; j++)
				p[j] = LOAD(x[j] + i);
			UNROLL for (int o = 0; o < CB; o++) {
				V d = LOAD(dy + (size_t)o * plane + i);
				KEEP(d);
				UNROLL for (int j = 0; j < 3; j++)
					a[o][j] = FMA(d, p[j], a[o][j]);
			}
		}
		fold_dots(a, part, lanes, dw);
	}
}

INLINE float sum(const float *d, size_t n)
{
	float lanes[SEG_LANES] = {0};
	for (size_t i = 0; i < n; i += SEG_LANES)
		UNROLL for (int l = 0; l < SEG_LANES; l++)
			lanes[l] += d[i + (size_t)l];
	return fold(lanes);
}

#endif
