/* The kernels of the loss language: every operation on a block of pixels, forward and backward, for
 * float and for double fields; once per instruction set.  The same bits everywhere: elementwise
 * operations in a fixed order, sums in 16 logical lanes (a vector of 16 doubles, however many
 * registers that takes) folded by one tree. */
#include <string.h>

#include "seg/isa.h"
#include "seg/math.h"
#include "lib/loss/tree.h"

/* In registers of the machine's width: of vectors larger than that compilers keep sums in memory. */
#if defined __AVX512F__
enum { WIDTH = 8 };
#elif defined __AVX__
enum { WIDTH = 4 };
#else
enum { WIDTH = 2 };
#endif
enum { LANES = 16, REGS = LANES / WIDTH };
typedef double lane __attribute__((vector_size(WIDTH * sizeof(double))));
struct lanes {
	lane r[REGS];
};

static double fold(const struct lanes *v)
{
	double a[LANES];
	memcpy(a, v, sizeof a);
	for (int h = LANES / 2; h; h /= 2)
		for (int j = 0; j < h; j++)
			a[j] += a[j + h];
	return a[0];
}

/* tanh without cancellation near 0 (float: Cephes; double: expm1 after Kahan). */
static inline float tanh_f32(float x)
{
	float z = x * x, a = __builtin_fabsf(x), e = seg_expf(-2.f * a);
	float small = ((((-5.70498872745e-3f * z + 2.06390887954e-2f) * z - 5.37397155531e-2f) * z +
	    1.33314422036e-1f) * z - 3.33332819422e-1f) * z * x + x;
	float large = __builtin_copysignf((1.f - e) / (1.f + e), x);
	return a < 0.625f ? small : large;
}
static inline double tanh_f64(double x)
{
	double a = __builtin_fabs(x), u = seg_exp(-2 * a);
	double m = u == 1 ? -2 * a : (u - 1) * (-2 * a) / seg_log(u == 0 ? 1e-300 : u); /* exp(-2a) - 1 */
	return u == 0 ? __builtin_copysign(1, x) : __builtin_copysign(-m / (2 + m), x);
}
static inline double log1p_f64(double x) { return seg_log1p(x); }

#define REAL float
#define R(f) f##_f32
#define r_exp seg_expf
#define r_log seg_logf
#define r_log1p seg_log1pf
#define r_sqrt seg_sqrtf
#define r_sigmoid seg_sigmoidf
#define r_tanh tanh_f32
#include "lib/loss/eval.h"
#undef REAL
#undef R
#undef r_exp
#undef r_log
#undef r_log1p
#undef r_sqrt
#undef r_sigmoid
#undef r_tanh

#define REAL double
#define R(f) f##_f64
#define r_exp seg_exp
#define r_log seg_log
#define r_log1p log1p_f64
#define r_sqrt seg_sqrt
#define r_sigmoid seg_sigmoid
#define r_tanh tanh_f64
#include "lib/loss/eval.h"

const struct seg_kernels *SEG_ISA_NAME(seg_loss_kernels)(int f64)
{
	return f64 ? &table_f64 : &table_f32;
}
