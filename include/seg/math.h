/* Elementary functions with one fixed order of operations: the same bits from every compiler,
 * libc and instruction set (with -ffp-contract=off).  Branch-free where floats are concerned, so
 * that loops over them vectorise.  Double: below 1 ulp (exp, log), 1e-15 relative (sin, cos for
 * |x| < 1e5).  Float: below 2 ulp; results under the least normal float may be 0.
 * Coefficients: fdlibm (Sun Microsystems, 1993) for double, Cephes (Moshier, 1989) for float. */
#ifndef SEG_MATH_H
#define SEG_MATH_H

#include <stdint.h>

#ifdef __FAST_MATH__
#error "seg promises exact results: build without -ffast-math"
#endif

#define SEG_INF __builtin_inf()
#define SEG_NAN __builtin_nan("")

static inline uint64_t seg_bits(double x)
{
	uint64_t u;
	__builtin_memcpy(&u, &x, 8);
	return u;
}
static inline double seg_double(uint64_t u)
{
	double x;
	__builtin_memcpy(&x, &u, 8);
	return x;
}
static inline uint32_t seg_bitsf(float x)
{
	uint32_t u;
	__builtin_memcpy(&u, &x, 4);
	return u;
}
static inline float seg_float(uint32_t u)
{
	float x;
	__builtin_memcpy(&x, &u, 4);
	return x;
}

static inline double seg_sqrt(double x) { return __builtin_sqrt(x); }
static inline float seg_sqrtf(float x) { return __builtin_sqrtf(x); }

static inline double seg_exp(double x)
{
	if (x != x)
		return x;
	if (x > 709.782712893383973096)
		return SEG_INF;
	if (x < -745.133219101941108420)
		return 0;
	double n = x * 1.44269504088896338700 + 0x1.8p52; /* round to nearest */
	n -= 0x1.8p52;
	double hi = x - n * 6.93147180369123816490e-01, lo = n * 1.90821492927058770002e-10;
	double r = hi - lo, t = r * r;
	double c = r - t * (1.66666666666666019037e-01 + t * (-2.77777777770155933842e-03 +
	    t * (6.61375632143793436117e-05 + t * (-1.65339022054652515390e-06 +
	    t * 4.13813679705723846039e-08))));
	double y = 1 - ((lo - r * c / (2 - c)) - hi);
	int k = (int)n, h = k / 2; /* two factors: 2^k alone may overflow or underflow */
	return y * seg_double((uint64_t)(1023 + h) << 52) * seg_double((uint64_t)(1023 + k - h) << 52);
}

static inline double seg_log(double x)
{
	if (x != x || x == SEG_INF)
		return x;
	if (x <= 0)
		return x == 0 ? -SEG_INF : SEG_NAN;
	int k = 0;
	if (x < 0x1p-1022) {
		x *= 0x1p54;
		k = -54;
	}
	uint64_t u = seg_bits(x);
	u += 0x3ff0000000000000 - 0x3fe6a09e00000000; /* so that m lies in [sqrt(1/2), sqrt 2) */
	k += (int)(u >> 52) - 1023;
	double f = seg_double((u & 0x000fffffffffffff) + 0x3fe6a09e00000000) - 1;
	double s = f / (2 + f), z = s * s, h = 0.5 * f * f;
	double r = z * (6.666666666666735130e-01 + z * (3.999999999940941908e-01 +
	    z * (2.857142874366239149e-01 + z * (2.222219843214978396e-01 +
	    z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01 +
	    z * 1.479819860511658591e-01))))));
	return k * 6.93147180369123816490e-01 - ((h - (s * (h + r) + k * 1.90821492927058770002e-10)) - f);
}

/* log(1 + x), accurate near 0; x > -1 (Kahan). */
static inline double seg_log1p(double x)
{
	double u = 1 + x;
	return u == 1 ? x : u == SEG_INF ? u : seg_log(u) * (x / (u - 1));
}

/* x^y.  Whole |y| <= 64: repeated multiplication; else exp(y log x). */
static inline double seg_pow(double x, double y)
{
	int n = y >= -64 && y <= 64 ? (int)y : 65;
	if ((double)n != y)
		return y == 0.5 ? seg_sqrt(x) : seg_exp(y * seg_log(x));
	double r = 1;
	for (int m = n < 0 ? -n : n; m; m >>= 1, x *= x)
		if (m & 1)
			r *= x;
	return n < 0 ? 1 / r : r;
}

/* n = nearest multiple of pi/2 (returned modulo 4), *r = x - n pi/2 */
static inline int seg_reduce_pio2(double x, double *r)
{
	double n = x * 6.36619772367581382433e-01 + 0x1.8p52;
	n -= 0x1.8p52;
	*r = ((x - n * 1.57079632673412561417e+00) - n * 6.07710050630396597660e-11) -
	    n * 2.02226624879595063154e-21;
	return (int)((int64_t)n & 3);
}
static inline double seg_sin_quarter(double x)
{
	double z = x * x;
	return x + x * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 +
	    z * (-1.98412698298579493134e-04 + z * (2.75573137070700676789e-06 +
	    z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
}
static inline double seg_cos_quarter(double x)
{
	double z = x * x;
	return 1 - 0.5 * z + z * z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 +
	    z * (2.48015872894767294178e-05 + z * (-2.75573143513906633035e-07 +
	    z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
}
static inline double seg_sin(double x)
{
	double r;
	int q = seg_reduce_pio2(x, &r);
	double y = q & 1 ? seg_cos_quarter(r) : seg_sin_quarter(r);
	return q & 2 ? -y : y;
}
static inline double seg_cos(double x)
{
	double r;
	int q = seg_reduce_pio2(x, &r) + 1;
	double y = q & 1 ? seg_cos_quarter(r) : seg_sin_quarter(r);
	return q & 2 ? -y : y;
}

static inline float seg_expf(float x)
{
	float t = x > 88.8f ? 88.8f : x < -87.4f ? -87.4f : x;
	float n = t * 1.44269504f + 12582912.f; /* 1.5 * 2^23: n is in the low bits */
	uint32_t k = seg_bitsf(n) - 0x4B400000u;
	n -= 12582912.f;
	t = t - n * 0.693359375f;
	t = t + n * 2.12194440e-4f;
	float p = 1.9875691500e-4f;
	p = p * t + 1.3981999507e-3f;
	p = p * t + 8.3334519073e-3f;
	p = p * t + 4.1665795894e-2f;
	p = p * t + 1.6666665459e-1f;
	p = p * t + 5.0000001201e-1f;
	p = p * t * t + t + 1.f;
	float y = seg_float(seg_bitsf(p) + (k << 23)); /* p in [0.7,1.42], k in [-126,128] */
	y = x > 88.72283f ? __builtin_inff() : y;
	y = x < -87.33654f ? 0.f : y;
	return x != x ? x : y;
}

static inline float seg_logf(float x)
{
	float small = x < 0x1p-126f ? 1.f : 0.f;
	float v = small != 0 ? x * 0x1p23f : x;
	uint32_t u = seg_bitsf(v) + (0x3f800000u - 0x3f3504f3u);
	float e = (float)((int32_t)(u >> 23) - 127) - 23.f * small;
	float m = seg_float((u & 0x007fffffu) + 0x3f3504f3u) - 1.f; /* sqrt(1/2)-1 .. sqrt(2)-1 */
	float z = m * m;
	float y = 7.0376836292e-2f;
	y = y * m - 1.1514610310e-1f;
	y = y * m + 1.1676998740e-1f;
	y = y * m - 1.2420140846e-1f;
	y = y * m + 1.4249322787e-1f;
	y = y * m - 1.6668057665e-1f;
	y = y * m + 2.0000714765e-1f;
	y = y * m - 2.4999993993e-1f;
	y = y * m + 3.3333331174e-1f;
	y = y * m * z;
	y = y - 2.12194440e-4f * e;
	y = y - 0.5f * z;
	y = (m + y) + 0.693359375f * e;
	y = x == 0 ? -__builtin_inff() : y;
	y = x < 0 ? __builtin_nanf("") : y;
	return x != x || x == __builtin_inff() ? x : y;
}

/* log(1 + x), accurate near 0; x > -1 (Kahan). */
static inline float seg_log1pf(float x)
{
	float u = 1.f + x, d = u - 1.f;
	float y = seg_logf(u) * (x / (d == 0 ? 1.f : d));
	return d == 0 ? x : u == __builtin_inff() ? u : y;
}

/* 1 / (1 + exp(-x)) without overflow. */
static inline double seg_sigmoid(double x)
{
	double e = seg_exp(x > 0 ? -x : x);
	return (x > 0 ? 1 : e) / (1 + e);
}
static inline float seg_sigmoidf(float x)
{
	float e = seg_expf(x > 0 ? -x : x);
	return (x > 0 ? 1.f : e) / (1.f + e);
}

#endif
