/* Instruction-set variants.  A file x.isa.c is compiled once for each variant with SEG_ISA set to
 * plain, avx2, avx512 or neon and defines SEG_ISA_NAME(f); the caller takes SEG_ISA_PICK(f).
 * All but plain form the class "fma" and give the same bits; plain may differ where FMA is written
 * out.  SEG_ISA=plain|avx2|avx512|neon in the environment forces one. */
#ifndef SEG_ISA_H
#define SEG_ISA_H

enum seg_isa { SEG_ISA_PLAIN, SEG_ISA_AVX2, SEG_ISA_AVX512, SEG_ISA_NEON = SEG_ISA_AVX2 };

/* The variant in use: the best this machine has, or the one forced (limited to what it has). */
enum seg_isa seg_isa(void);
const char *seg_isa_text(enum seg_isa isa); /* "plain", "avx2" or "neon", "avx512" */
/* Use this variant or a lower one from now on; call before other threads start.  For ranks that
 * must agree, and for tests. */
void seg_isa_limit(enum seg_isa isa);

#define SEG_ISA_PASTE_(f, i) f##_##i
#define SEG_ISA_PASTE(f, i) SEG_ISA_PASTE_(f, i)
#define SEG_ISA_NAME(f) SEG_ISA_PASTE(f, SEG_ISA)
#if defined __x86_64__
#define SEG_ISA_PICK(f) \
	(seg_isa() == SEG_ISA_AVX512 ? f##_avx512 : seg_isa() == SEG_ISA_AVX2 ? f##_avx2 : f##_plain)
#elif defined __aarch64__
#define SEG_ISA_PICK(f) (seg_isa() == SEG_ISA_NEON ? f##_neon : f##_plain)
#else
#define SEG_ISA_PICK(f) f##_plain
#endif

#endif
