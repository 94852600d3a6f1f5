/* Which instruction-set variant runs. */
#include <stdlib.h>
#include <string.h>

#include "seg/isa.h"

static int chosen = -1;

static enum seg_isa machine(void)
{
#if defined __x86_64__
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2"))
		return SEG_ISA_AVX512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return SEG_ISA_AVX2;
#elif defined __aarch64__
	return SEG_ISA_NEON;
#endif
	return SEG_ISA_PLAIN;
}

enum seg_isa seg_isa(void)
{
	int c = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
	if (c >= 0)
		return (enum seg_isa)c;
	enum seg_isa best = machine();
	const char *force = getenv("SEG_ISA");
	for (enum seg_isa i = SEG_ISA_PLAIN; force && i < best; i++)
		if (!strcmp(force, seg_isa_text(i)))
			best = i;
	__atomic_store_n(&chosen, (int)best, __ATOMIC_RELAXED);
	return best;
}

const char *seg_isa_text(enum seg_isa isa)
{
#ifdef __aarch64__
	static const char *const text[] = {"plain", "neon", "?"};
#else
	static const char *const text[] = {"plain", "avx2", "avx512"};
#endif
	return text[isa];
}

void seg_isa_limit(enum seg_isa isa)
{
	if (isa < seg_isa())
		__atomic_store_n(&chosen, (int)isa, __ATOMIC_RELAXED);
}
