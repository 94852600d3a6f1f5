/* The vectors of one instruction set, for what is compiled once for each.  VL floats; CB channels at XV
 * vectors of positions fill the registers as sums.  KEEP is needed because a compiler would rather
 * repeat the memory operand.  STORE_SOME: the first n < VL. */
#ifndef SEG_NET_VECTOR_H
#define SEG_NET_VECTOR_H

#include <stddef.h>

#if defined SEG_ISA_avx512
#include <immintrin.h>
typedef __m512 V;
enum { VL = 16, CB = 8, XV = 3 };
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define STORE_SOME(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1U << (n)) - 1), v)
#define SPLAT(s) _mm512_set1_ps(s)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define RELU(v) _mm512_max_ps(_mm512_setzero_ps(), v) /* of two zeros, and of a NaN: the second */
#define WHERE_POSITIVE(m, v) _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(m, _mm512_setzero_ps(), _CMP_GT_OQ), v)
#define KEEP(v) __asm__("" : "+v"(v))
#elif defined SEG_ISA_avx2
#include <immintrin.h>
typedef __m256 V;
enum { VL = 8, CB = 4, XV = 3 };
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define STORE_SOME(p, v, n) _mm256_maskstore_ps(p, \
	_mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), v)
#define SPLAT(s) _mm256_set1_ps(s)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define RELU(v) _mm256_max_ps(_mm256_setzero_ps(), v)
#define WHERE_POSITIVE(m, v) _mm256_and_ps(_mm256_cmp_ps(m, _mm256_setzero_ps(), _CMP_GT_OQ), v)
#define KEEP(v) __asm__("" : "+v"(v))
#elif defined SEG_ISA_neon
#include <arm_neon.h>
typedef float32x4_t V;
enum { VL = 4, CB = 8, XV = 3 };
#define LOAD(p) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define STORE_SOME(p, v, n) for (size_t l_ = 0; l_ < (n); l_++) (p)[l_] = (v)[l_]
#define SPLAT(s) vdupq_n_f32(s)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define RELU(v) vbslq_f32(vcltq_f32(v, vdupq_n_f32(0)), vdupq_n_f32(0), v)
#define WHERE_POSITIVE(m, v) vbslq_f32(vcgtq_f32(m, vdupq_n_f32(0)), v, vdupq_n_f32(0))
#define KEEP(v) __asm__("" : "+w"(v))
#else /* 128 bits in the compilers' common vector language */
typedef float V __attribute__((vector_size(16)));
typedef int VI __attribute__((vector_size(16)));
typedef float VU __attribute__((vector_size(16), aligned(4), may_alias));
enum { VL = 4, CB = 4, XV = 3 };
#define LOAD(p) (*(const VU *)(p))
#define STORE(p, v) (*(VU *)(p) = (v))
#define STORE_SOME(p, v, n) for (size_t l_ = 0; l_ < (n); l_++) (p)[l_] = (v)[l_]
#define SPLAT(s) ((V){s, s, s, s})
#define FMA(a, b, c) ((a) * (b) + (c))
#define RELU(v) ((V)((VI)(v) & ~((v) < 0)))
#define WHERE_POSITIVE(m, v) ((V)((VI)(v) & ((m) > 0)))
#define KEEP(v) (void)0
#define DOTS static __attribute__((noinline)) /* gcc runs out of registers with those of the caller */
#endif

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))
#ifndef DOTS
#define DOTS INLINE
#endif

/* a[o][j] += w[o] x[j] for CB outputs and xv vectors of positions x, at p. */
INLINE void outer(V a[CB][XV], int xv, const float *p, const float *w)
{
	V x[XV];
	UNROLL for (int j = 0; j < xv; j++)
		x[j] = LOAD(p + j * VL);
	UNROLL for (int o = 0; o < CB; o++) {
		V s = SPLAT(w[o]);
		KEEP(s);
		UNROLL for (int j = 0; j < xv; j++)
			a[o][j] = FMA(s, x[j], a[o][j]);
	}
}

#endif
