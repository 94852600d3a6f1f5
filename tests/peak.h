/* The multiply-adds this machine manages, for benchmarks to be measured against. */
#ifndef TESTS_PEAK_H
#define TESTS_PEAK_H

#include <string.h>
#include <time.h>

#include "seg/isa.h"
#include "seg/parallel.h"

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Twelve independent chains of fused multiply-adds: latency times two units, and then some. */
enum { ROUNDS = 400000, CHAINS = 12 };

/* volatile: else a compiler sees that nobody wants the result */
#define CHAIN(a) __asm__ volatile("vfmadd231ps %1,%2,%0" : "+v"(a) : "v"(b), "v"(c));
#define FMA_RATE(name, target_, type, set1) \
	__attribute__((target(target_))) static double name(void) \
	{ \
		type b = set1(1.0001f), c = set1(1e-9f); \
		type a0 = b, a1 = b, a2 = b, a3 = b, a4 = b, a5 = b, a6 = b, a7 = b, a8 = b, a9 = b, a10 = b, a11 = b; \
		double t = now(); \
		for (int i = 0; i < ROUNDS; i++) { \
			CHAIN(a0) CHAIN(a1) CHAIN(a2) CHAIN(a3) CHAIN(a4) CHAIN(a5) \
			CHAIN(a6) CHAIN(a7) CHAIN(a8) CHAIN(a9) CHAIN(a10) CHAIN(a11) \
		} \
		return 2.0 * (sizeof(type) / sizeof(float)) * ROUNDS * CHAINS / (now() - t); \
	}
#ifdef __x86_64__
#include <immintrin.h>
FMA_RATE(fma512, "avx512f", __m512, _mm512_set1_ps)
FMA_RATE(fma256, "avx2,fma", __m256, _mm256_set1_ps)
static double fma_rate(void)
{
	return seg_isa() == SEG_ISA_AVX512 ? fma512() : seg_isa() == SEG_ISA_AVX2 ? fma256() : 0;
}
#else
static double fma_rate(void) { return 0; }
#endif

static double flops[256];

static int peak_one(void *arg, size_t i, int t)
{
	(void)arg;
	(void)t;
	double f = fma_rate();
	flops[i] = f > flops[i] ? f : flops[i];
	return 0;
}

/* Multiply-adds in a second, each counted as two; 0: not known. */
static double peak(int threads)
{
	double sum = 0;
	memset(flops, 0, sizeof flops);
	for (int r = 0; r < 20; r++)
		seg_parallel(threads, (size_t)threads, peak_one, NULL);
	for (int i = 0; i < threads; i++)
		sum += flops[i];
	return sum;
}

#endif
