/* The body of eval.isa.c, for one type REAL of field; R(f) names its functions.  No include guard:
 * it is included twice.
 *
 * A value is [planes][pixels], planes over k.  Operands come with strides, so that one without k is
 * read again for each plane, and one without pixels is one number for a plane. */

typedef REAL R(lane) __attribute__((vector_size(WIDTH * sizeof(REAL))));

/* 16 numbers from v on, as doubles added to acc. */
static inline void R(lanes_add)(struct lanes *acc, const REAL *v)
{
#pragma GCC unroll 8
	for (int r = 0; r < REGS; r++) {
		R(lane) x;
		memcpy(&x, v + r * WIDTH, sizeof x);
		acc->r[r] += __builtin_convertvector(x, lane);
	}
}

static double R(sum)(const void *p, int n)
{
	const REAL *v = p;
	struct lanes acc = {0};
	int i = 0;
	for (; i + LANES <= n; i += LANES)
		R(lanes_add)(&acc, v + i);
	if (i < n) {
		REAL rest[LANES] = {0};
		memcpy(rest, v + i, (size_t)(n - i) * sizeof *v);
		R(lanes_add)(&acc, rest);
	}
	return fold(&acc);
}

static double R(peak)(const void *p, int n, int low)
{
	const REAL *v = p;
	REAL m = v[0];
	for (int i = 0; i < n; i++) {
		m = (low ? v[i] < m : v[i] > m) ? v[i] : m;
		if (v[i] != v[i])
			return SEG_NAN;
	}
	return m;
}

static void R(add)(void *p, int n, double x)
{
	REAL *v = p, c = (REAL)x;
	for (int i = 0; i < n; i++)
		v[i] += c;
}

static void R(narrow)(const double *v, int n, void *out)
{
	REAL *o = out;
	for (int i = 0; i < n; i++)
		o[i] = (REAL)v[i];
}

static void R(widen)(const void *p, int n, double *out)
{
	const REAL *v = p;
	for (int i = 0; i < n; i++)
		out[i] = v[i];
}

static int R(store)(const void *p, int n, int first, float *out)
{
	const REAL *v = p;
	int bad = 0;
	for (int i = 0; i < n; i++) {
		out[i] = (first ? 0 : out[i]) + (float)v[i];
		bad |= out[i] - out[i] != 0;
	}
	return bad;
}

/* ---- forward ---- */

/* o = E(x), o = E(x, y): for each plane, for each pixel. */
#define MAP1(E) \
	for (int k = 0; k < nk; k++) { \
		const REAL *restrict a = A + k * aks; \
		REAL *restrict o = out + (ptrdiff_t)k * n; \
		for (int i = 0; i < n; i++) { \
			REAL x = a[i]; \
			o[i] = (E); \
		} \
	}
#define MAP2(E) \
	for (int k = 0; k < nk; k++) { \
		const REAL *restrict a = A + k * aks, *restrict b = B + k * bks; \
		REAL *restrict o = out + (ptrdiff_t)k * n; \
		if (ais && bis) \
			for (int i = 0; i < n; i++) { \
				REAL x = a[i], y = b[i]; \
				o[i] = (E); \
			} \
		else if (ais) { \
			REAL y = *b; \
			for (int i = 0; i < n; i++) { \
				REAL x = a[i]; \
				o[i] = (E); \
			} \
		} else { \
			REAL x = *a; \
			for (int i = 0; i < n; i++) { \
				REAL y = b[i]; \
				o[i] = (E); \
			} \
		} \
	}
/* 1 if E(x) holds anywhere in the operand. */
#define ANY(V, KS, IS, E) \
	do { \
		for (int k = 0; k < nk; k++) { \
			const REAL *v = (V) + k * (KS); \
			int any = 0; \
			for (int i = 0; i < ((IS) ? n : 1); i++) { \
				REAL x = v[i]; \
				any |= (E); \
			} \
			bad |= any; \
		} \
	} while (0)

/* Operand j with every plane and pixel written out: as it is, or spread in tmp. */
static const REAL *R(full)(const struct seg_call *c, int j, int nk, ptrdiff_t *ks)
{
	const struct seg_arg *a = &c->a[j];
	const REAL *v = a->v;
	*ks = a->ks;
	if (a->is || c->n == 1)
		return v;
	REAL *o = (REAL *)c->tmp + (ptrdiff_t)j * c->nclass * c->n;
	for (int k = 0; k < nk; k++)
		for (int i = 0; i < c->n; i++)
			o[(ptrdiff_t)k * c->n + i] = v[k * a->ks];
	*ks = c->n;
	return o;
}

/* Whole exponents by multiplication, as the frameworks do; else in double. */
static inline REAL R(power)(REAL x, REAL y)
{
	if (y == 2)
		return x * x;
	return (REAL)seg_pow(x, y);
}

/* Where x^y is not a number or infinite although x and y are finite. */
static inline int R(power_bad)(REAL x, REAL y)
{
	return (x == 0 && y < 0) || (x < 0 && y != (REAL)__builtin_floor((double)y));
}

static inline REAL R(softplus)(REAL x)
{
	return (x > 0 ? x : 0) + r_log1p(r_exp(x > 0 ? -x : x));
}

/* max(v, -100) of a logarithm: what torch's BCE puts in place of log 0 */
static inline REAL R(log100)(REAL x)
{
	REAL v = r_log(x);
	return v < -100 ? -100 : v;
}

static inline REAL R(between)(REAL x, REAL low, REAL high)
{
	REAL v = x < low ? low : x;
	return v > high ? high : v;
}

/* Do the bounds of a clip differ from pixel to pixel? */
static int R(bounds_vary)(const struct seg_call *c)
{
	return c->n > 1 && (c->a[1].is || c->a[2].is);
}

/* sum over planes, in double, rounded once */
static void R(sum_k)(const REAL *a, ptrdiff_t ks, int K, int n, double scale, REAL *restrict o)
{
	int i = 0;
	for (; i + LANES <= n; i += LANES) {
		struct lanes acc = {0};
		for (int k = 0; k < K; k++)
			R(lanes_add)(&acc, a + k * ks + i);
#pragma GCC unroll 8
		for (int r = 0; r < REGS; r++) {
			R(lane) x = __builtin_convertvector(acc.r[r] / scale, R(lane));
			memcpy(o + i + r * WIDTH, &x, sizeof x);
		}
	}
	for (; i < n; i++) {
		double acc = 0;
		for (int k = 0; k < K; k++)
			acc += a[k * ks + i];
		o[i] = (REAL)(acc / scale);
	}
}

static void R(max_k)(const REAL *a, ptrdiff_t ks, int K, int n, int low, REAL *restrict o)
{
	memcpy(o, a, (size_t)n * sizeof *o);
	for (int k = 1; k < K; k++) {
		const REAL *restrict v = a + k * ks;
		if (low)
			for (int i = 0; i < n; i++)
				o[i] = v[i] < o[i] || v[i] != v[i] ? v[i] : o[i];
		else
			for (int i = 0; i < n; i++)
				o[i] = v[i] > o[i] || v[i] != v[i] ? v[i] : o[i];
	}
}

/* The indicator of the first plane that equals the maximum; m: 2n values of room. */
static void R(argmax)(const REAL *a, ptrdiff_t ks, int K, int n, REAL *restrict m, REAL *restrict out)
{
	REAL *restrict left = m + n;
	R(max_k)(a, ks, K, n, 0, m);
	for (int i = 0; i < n; i++)
		left[i] = 1;
	for (int k = 0; k < K; k++) {
		const REAL *restrict v = a + k * ks;
		REAL *restrict o = out + (ptrdiff_t)k * n;
		for (int i = 0; i < n; i++) {
			REAL hit = v[i] == m[i] ? left[i] : 0;
			left[i] -= hit;
			o[i] = hit;
		}
	}
}

/* softmax, or its logarithm, over planes; m: 2n values of room. */
static void R(softmax)(const REAL *a, ptrdiff_t ks, int K, int n, int logs, REAL *restrict m, REAL *restrict out)
{
	REAL *restrict s = m + n;
	R(max_k)(a, ks, K, n, 0, m);
	for (int i = 0; i < n; i++)
		s[i] = 0;
	for (int k = 0; k < K; k++) {
		const REAL *restrict v = a + k * ks;
		REAL *restrict o = out + (ptrdiff_t)k * n;
		for (int i = 0; i < n; i++) {
			REAL d = v[i] - m[i], e = r_exp(d);
			s[i] += e;
			o[i] = logs ? d : e;
		}
	}
	for (int i = 0; logs && i < n; i++)
		s[i] = r_log(s[i]);
	for (int k = 0; k < K; k++) {
		REAL *restrict o = out + (ptrdiff_t)k * n;
		if (logs)
			for (int i = 0; i < n; i++)
				o[i] -= s[i];
		else
			for (int i = 0; i < n; i++)
				o[i] /= s[i];
	}
}

static int R(forward_k)(const struct seg_call *c)
{
	int n = c->n, K = c->nclass;
	ptrdiff_t ks;
	const REAL *a = R(full)(c, 0, K, &ks);
	REAL *out = c->out, *room = (REAL *)c->tmp + (ptrdiff_t)K * n; /* behind what full may have taken */
	switch (c->op) {
	case SEG_OP_SUM: R(sum_k)(a, ks, K, n, 1, out); break;
	case SEG_OP_MEAN: R(sum_k)(a, ks, K, n, K, out); break;
	case SEG_OP_MAX: R(max_k)(a, ks, K, n, 0, out); break;
	case SEG_OP_MIN: R(max_k)(a, ks, K, n, 1, out); break;
	case SEG_OP_ARGMAX: R(argmax)(a, ks, K, n, room, out); break;
	case SEG_OP_SOFTMAX: R(softmax)(a, ks, K, n, 0, room, out); break;
	case SEG_OP_LOGSOFTMAX: R(softmax)(a, ks, K, n, 1, room, out); break;
	default: break;
	}
	return 0;
}

/* Operations on three operands, or rare: on operands written out. */
static int R(forward_full)(const struct seg_call *c)
{
	int n = c->n, nk = c->nk, bad = 0;
	REAL *out = c->out;
	ptrdiff_t aks, bks, cks;
	const REAL *A = R(full)(c, 0, nk, &aks), *B = R(full)(c, 1, nk, &bks), *C = A;
	const int ais = 1, bis = 1;
	switch (c->op) {
	case SEG_OP_WHERE: case SEG_OP_CLIP:
		C = R(full)(c, 2, nk, &cks);
		for (int k = 0; k < nk; k++) {
			const REAL *restrict a = A + k * aks, *restrict b = B + k * bks, *restrict e = C + k * cks;
			REAL *restrict o = out + (ptrdiff_t)k * n;
			if (c->op == SEG_OP_WHERE)
				for (int i = 0; i < n; i++)
					o[i] = a[i] != 0 ? b[i] : e[i];
			else
				for (int i = 0; i < n; i++)
					o[i] = R(between)(a[i], b[i], e[i]);
		}
		break;
	case SEG_OP_POW:
		MAP2(R(power)(x, y))
		for (int k = 0; c->check && k < nk; k++)
			for (int i = 0; i < n; i++)
				bad |= R(power_bad)(A[k * aks + i], B[k * bks + i]);
		break;
	case SEG_OP_XLOGY:
		MAP2(x == 0 ? 0 : x * r_log(y))
		for (int k = 0; c->check && k < nk; k++)
			for (int i = 0; i < n; i++)
				bad |= A[k * aks + i] != 0 && !(B[k * bks + i] > 0);
		break;
	case SEG_OP_PRIM:
		MAP2(-(y * R(log100)(x) + (1 - y) * R(log100)(1 - x)))
		break;
	default: break;
	}
	return bad;
}

static int R(forward)(const struct seg_call *c)
{
	if (c->over)
		return R(forward_k)(c);
	int n = c->n, nk = c->nk, bad = 0;
	const REAL *A = c->a[0].v, *B = c->a[1].v;
	ptrdiff_t aks = c->a[0].ks, bks = c->a[1].ks;
	int ais = c->a[0].is || n == 1, bis = c->a[1].is || n == 1;
	REAL *out = c->out;
	switch (c->op) {
	case SEG_OP_NEG: MAP1(-x) break;
	case SEG_OP_EXP: MAP1(r_exp(x)) break;
	case SEG_OP_LOG:
		MAP1(r_log(x))
		if (c->check)
			ANY(A, aks, 1, !(x > 0));
		break;
	case SEG_OP_SQRT:
		MAP1(r_sqrt(x))
		if (c->check)
			ANY(A, aks, 1, !(x >= 0));
		break;
	case SEG_OP_ABS: MAP1(x < 0 ? -x : x) break;
	case SEG_OP_TANH: MAP1(r_tanh(x)) break;
	case SEG_OP_SOFTPLUS: MAP1(R(softplus)(x)) break;
	case SEG_OP_SIGMOID: MAP1(r_sigmoid(x)) break;
	case SEG_OP_STOP: MAP1(x) break;
	case SEG_OP_F32: MAP1((float)x) break;
	case SEG_OP_ADD: MAP2(x + y) break;
	case SEG_OP_SUB: MAP2(x - y) break;
	case SEG_OP_MUL: MAP2(x * y) break;
	case SEG_OP_DIV:
		MAP2(x / y)
		if (c->check)
			ANY(B, bks, bis, x == 0);
		break;
	case SEG_OP_LT: MAP2(x < y ? 1 : 0) break;
	case SEG_OP_LE: MAP2(x <= y ? 1 : 0) break;
	case SEG_OP_GT: MAP2(x > y ? 1 : 0) break;
	case SEG_OP_GE: MAP2(x >= y ? 1 : 0) break;
	case SEG_OP_EQ: MAP2(x == y ? 1 : 0) break;
	case SEG_OP_NE: MAP2(x != y ? 1 : 0) break;
	case SEG_OP_CLIP:
		if (R(bounds_vary)(c))
			return R(forward_full)(c);
		for (int k = 0; k < nk; k++) {
			const REAL low = B[k * bks], high = ((const REAL *)c->a[2].v)[k * c->a[2].ks], *restrict a = A + k * aks;
			REAL *restrict o = out + (ptrdiff_t)k * n;
			for (int i = 0; i < n; i++)
				o[i] = R(between)(a[i], low, high);
		}
		break;
	case SEG_OP_MIN2: MAP2(x <= y || x != x ? x : y) break;
	case SEG_OP_MAX2: MAP2(x >= y || x != x ? x : y) break;
	default: return R(forward_full)(c);
	}
	return bad;
}

/* ---- backward: adjoints of the operands from the adjoint g of the result r ---- */

/* d += E(g), E(g,x,y), or d = E where d holds nothing yet; an operand without k takes the sum of its
 * planes.  With TIMES0 an adjoint of 0 stays 0 even where the derivative is infinite: in
 * the branch that `where` did not take. */
#define FIRST(J, K) (c->fresh[J] && ((K) == 0 || c->dk[J]))
#define BACKG(J, E) \
	for (int k = 0; c->d[J] && k < nk; k++) { \
		const REAL *restrict gg = G + (ptrdiff_t)k * n; \
		REAL *restrict d = (REAL *)c->d[J] + k * c->dk[J]; \
		int first = FIRST(J, k); \
		for (int i = 0; i < n; i++) { \
			REAL g = gg[i]; \
			d[i] = (first ? 0 : d[i]) + (E); \
		} \
	}
#define BACK2(J, E) \
	for (int k = 0; c->d[J] && k < nk; k++) { \
		const REAL *restrict a = A + k * aks, *restrict b = B + k * bks, \
		    *restrict gg = G + (ptrdiff_t)k * n; \
		REAL *restrict d = (REAL *)c->d[J] + k * c->dk[J]; \
		int first = FIRST(J, k); \
		for (int i = 0; i < n; i++) { \
			REAL x = a[i], y = b[i], g = gg[i]; \
			(void)x; \
			d[i] = (first ? 0 : d[i]) + (E); \
		} \
	}
/* E(g,y) with y from V, which may be a number for each plane. */
#define BACKV(J, V, VKS, VIS, E) \
	for (int k = 0; c->d[J] && k < nk; k++) { \
		const REAL *restrict v = (V) + k * (VKS), *restrict gg = G + (ptrdiff_t)k * n; \
		REAL *restrict d = (REAL *)c->d[J] + k * c->dk[J]; \
		int first = FIRST(J, k); \
		if (VIS) \
			for (int i = 0; i < n; i++) { \
				REAL y = v[i], g = gg[i]; \
				d[i] = (first ? 0 : d[i]) + (E); \
			} \
		else { \
			REAL y = *v; \
			for (int i = 0; i < n; i++) { \
				REAL g = gg[i]; \
				d[i] = (first ? 0 : d[i]) + (E); \
			} \
		} \
	}
#define TIMES0(E) (g == 0 ? 0 : (E))

static void R(backward_k)(const struct seg_call *c)
{
	int n = c->n, K = c->nclass;
	ptrdiff_t ks;
	const REAL *a = R(full)(c, 0, K, &ks), *G = c->g, *out = c->out;
	REAL *m = (REAL *)c->tmp + (ptrdiff_t)K * n;
	if (!c->d[0])
		return;
	int soft = c->op == SEG_OP_SOFTMAX || c->op == SEG_OP_LOGSOFTMAX;
	for (int i = 0; i < n; i++)
		m[i] = 0;
	for (int k = 0; soft && k < K; k++) /* sum of g*r, or of g */
		for (int i = 0; i < n; i++) {
			REAL g = G[(ptrdiff_t)k * n + i];
			m[i] += c->op == SEG_OP_SOFTMAX ? g * out[(ptrdiff_t)k * n + i] : g;
		}
	for (int k = 0; k < K; k++) {
		const REAL *restrict v = a + k * ks, *restrict gk = G + (ptrdiff_t)k * n,
		    *restrict rk = out + (ptrdiff_t)k * n;
		REAL *restrict d = (REAL *)c->d[0] + k * c->dk[0];
		int first = FIRST(0, k);
		switch (c->op) {
		case SEG_OP_SUM:
			for (int i = 0; i < n; i++)
				d[i] = (first ? 0 : d[i]) + G[i];
			break;
		case SEG_OP_MEAN:
			for (int i = 0; i < n; i++)
				d[i] = (first ? 0 : d[i]) + G[i] / (REAL)K;
			break;
		case SEG_OP_MAX: case SEG_OP_MIN: /* the first winner; m: taken */
			for (int i = 0; i < n; i++) {
				REAL hit = v[i] == out[i] && m[i] == 0 ? 1 : 0;
				m[i] = hit != 0 ? 1 : m[i];
				d[i] = (first ? 0 : d[i]) + (hit != 0 ? G[i] : 0);
			}
			break;
		case SEG_OP_SOFTMAX:
			for (int i = 0; i < n; i++)
				d[i] = (first ? 0 : d[i]) + rk[i] * (gk[i] - m[i]);
			break;
		case SEG_OP_LOGSOFTMAX:
			for (int i = 0; i < n; i++)
				d[i] = (first ? 0 : d[i]) + gk[i] - r_exp(rk[i]) * m[i];
			break;
		default: break;
		}
	}
}

static void R(backward_full)(const struct seg_call *c)
{
	int n = c->n, nk = c->nk;
	ptrdiff_t aks, bks, cks;
	const REAL *A = R(full)(c, 0, nk, &aks), *B = R(full)(c, 1, nk, &bks), *G = c->g;
	switch (c->op) {
	case SEG_OP_WHERE:
		BACKV(1, A, aks, 1, y != 0 ? g : 0)
		BACKV(2, A, aks, 1, y != 0 ? 0 : g)
		break;
	case SEG_OP_CLIP: {
		const REAL *C = R(full)(c, 2, nk, &cks);
		for (int k = 0; c->d[0] && k < nk; k++) {
			const REAL *restrict a = A + k * aks, *restrict b = B + k * bks, *restrict e = C + k * cks,
			    *restrict g = G + (ptrdiff_t)k * n;
			REAL *restrict d = (REAL *)c->d[0] + k * c->dk[0];
			int first = FIRST(0, k);
			for (int i = 0; i < n; i++)
				d[i] = (first ? 0 : d[i]) + (a[i] >= b[i] && a[i] <= e[i] ? g[i] : 0);
		}
		break;
	}
	case SEG_OP_POW:
		BACK2(0, TIMES0(y == 0 ? 0 : y == 2 ? 2 * x * g : g * y * R(power)(x, y - 1)))
		BACK2(1, TIMES0(x == 0 ? 0 : g * R(power)(x, y) * r_log(x)))
		break;
	case SEG_OP_XLOGY:
		BACK2(0, TIMES0(g * r_log(y)))
		BACK2(1, x == 0 ? 0 : TIMES0(g * x / y))
		break;
	case SEG_OP_MIN2:
		BACK2(0, x <= y ? g : 0)
		BACK2(1, x <= y ? 0 : g)
		break;
	case SEG_OP_MAX2:
		BACK2(0, x >= y ? g : 0)
		BACK2(1, x >= y ? 0 : g)
		break;
	case SEG_OP_PRIM: /* torch's own: not the derivative of the clamped logarithms */
		BACK2(0, g * (x - y) / ((1 - x) * x < (REAL)1e-12 ? (REAL)1e-12 : (1 - x) * x))
		break;
	default: break;
	}
}

static void R(backward)(const struct seg_call *c)
{
	if (c->over) {
		R(backward_k)(c);
		return;
	}
	int n = c->n, nk = c->nk;
	const REAL *A = c->a[0].v, *B = c->a[1].v, *G = c->g, *out = c->out;
	ptrdiff_t aks = c->a[0].ks, bks = c->a[1].ks;
	int ais = c->a[0].is || n == 1, bis = c->a[1].is || n == 1;
	switch (c->op) {
	case SEG_OP_ADD:
		BACKG(0, g)
		BACKG(1, g)
		break;
	case SEG_OP_SUB:
		BACKG(0, g)
		BACKG(1, -g)
		break;
	case SEG_OP_NEG: BACKG(0, -g) break;
	case SEG_OP_F32: BACKG(0, g) break;
	case SEG_OP_MUL:
		BACKV(0, B, bks, bis, TIMES0(g * y))
		BACKV(1, A, aks, ais, TIMES0(g * y))
		break;
	case SEG_OP_DIV: /* the result is there only if the denominator's is wanted */
		BACKV(0, B, bks, bis, TIMES0(g / y))
		BACKV(1, B, bks, bis, -TIMES0(g * out[(ptrdiff_t)k * n + i] / y))
		break;
	case SEG_OP_EXP: BACKV(0, out, n, 1, TIMES0(g * y)) break;
	case SEG_OP_LOG: BACKV(0, A, aks, 1, TIMES0(g / y)) break;
	case SEG_OP_SQRT: BACKV(0, out, n, 1, TIMES0(g * (REAL)0.5 / y)) break;
	case SEG_OP_ABS: BACKV(0, A, aks, 1, y > 0 ? g : y < 0 ? -g : 0) break;
	case SEG_OP_TANH: BACKV(0, out, n, 1, g * (1 - y * y)) break;
	case SEG_OP_SOFTPLUS: BACKV(0, A, aks, 1, g * r_sigmoid(y)) break;
	case SEG_OP_CLIP:
		if (R(bounds_vary)(c))
			R(backward_full)(c);
		else
			for (int k = 0; c->d[0] && k < nk; k++) {
				const REAL low = B[k * bks], high = ((const REAL *)c->a[2].v)[k * c->a[2].ks];
				const REAL *restrict a = A + k * aks, *restrict g = G + (ptrdiff_t)k * n;
				REAL *restrict d = (REAL *)c->d[0] + k * c->dk[0];
				int first = FIRST(0, k);
				for (int i = 0; i < n; i++)
					d[i] = (first ? 0 : d[i]) + (((a[i] >= low) & (a[i] <= high)) ? g[i] : 0);
			}
		break;
	case SEG_OP_SIGMOID: BACKV(0, out, n, 1, g * y * (1 - y)) break;
	default: R(backward_full)(c);
	}
}

/* ---- leaves ---- */

/* n pixels of K bytes each to planes, 8 planes at a time: a pixel's bytes come in one word.  Of the
 * mask, `left` bytes lie at u and behind. */
static void R(mask)(const uint8_t *u, size_t left, int n, int K, REAL *restrict out)
{
	for (int k0 = 0; k0 < K; k0 += 8) {
		int m = K - k0 < 8 ? K - k0 : 8;
		uint64_t word[SEG_BLOCK];
		for (int i = 0; i < n; i++) {
			size_t at = (size_t)(i * K + k0);
			if (at + 8 <= left)
				memcpy(&word[i], u + at, 8);
			else {
				word[i] = 0;
				memcpy(&word[i], u + at, (size_t)m);
			}
		}
		for (int k = 0; k < m; k++) {
			REAL *restrict o = out + (ptrdiff_t)(k0 + k) * n;
			for (int i = 0; i < n; i++)
				o[i] = (REAL)(int32_t)(word[i] >> 8 * k & 255);
		}
	}
}

static void R(truth)(const struct seg_load *l)
{
	const struct seg_loss_sample *s = l->s;
	REAL *restrict out = l->out;
	int n = l->n, K = l->nclass, valid = l->leaf == SEG_OP_V;
	const uint8_t *u1 = s->truth;
	const uint16_t *u2 = s->truth;
	const float *f4 = s->truth;
	if (valid && s->ignore < 0) {
		for (int i = 0; i < n * K; i++)
			out[i] = 1;
		return;
	}
	if (s->kind == SEG_LABEL_U1 || s->kind == SEG_LABEL_U2) {
		int32_t label[SEG_BLOCK], no = s->ignore < 0 || s->ignore > 65535 ? -1 : (int32_t)s->ignore;
		for (int i = 0; i < n; i++)
			label[i] = s->kind == SEG_LABEL_U1 ? u1[l->i0 + (size_t)i] : u2[l->i0 + (size_t)i];
		for (int i = 0; i < n; i++) /* the ignore value may also be the number of a class */
			label[i] = label[i] == no ? -1 : label[i];
		for (int k = 0; k < K; k++)
			for (int i = 0; i < n; i++)
				out[k * n + i] = valid ? (label[i] != -1 ? 1 : 0) : (label[i] == k ? 1 : 0);
		return;
	}
	size_t at = l->i0 * (size_t)K;
	if (s->kind == SEG_MASK_U1)
		R(mask)(u1 + at, s->h * s->w * (size_t)K - at, n, K, out);
	else
		for (int k = 0; k < K; k++)
			for (int i = 0; i < n; i++)
				out[k * n + i] = (REAL)f4[at + (size_t)(i * K + k)];
	REAL no = (REAL)s->ignore;
	for (int i = 0; i < n * K && s->ignore >= 0; i++) {
		REAL t = out[i];
		out[i] = t == no ? 0 : valid ? 1 : t;
	}
}

/* Planes of z or p from memory. */
static void R(planes)(const struct seg_load *l, const float *v, size_t vi, size_t vk, REAL *restrict out)
{
	int n = l->n;
	for (int k = 0; k < l->nclass; k++) {
		const float *restrict a = v + (size_t)k * vk + l->i0 * vi;
		REAL *restrict o = out + (ptrdiff_t)k * n;
		if (vi == 1)
			for (int i = 0; i < n; i++)
				o[i] = a[i];
		else
			for (int i = 0; i < n; i++)
				o[i] = a[(size_t)i * vi];
	}
}

static int R(load_z)(const struct seg_load *l)
{
	const struct seg_loss_sample *s = l->s;
	REAL *out = l->out;
	int m = l->n * l->nclass, bad = 0;
	if (s->z) {
		R(planes)(l, s->z, s->zi, s->zk, out);
		return 0;
	}
	R(planes)(l, s->p, s->pi, s->pk, out); /* recovered: logit, or logarithm */
	if (l->head == SEG_LOSS_SIGMOID)
		for (int i = 0; i < m; i++) {
			REAL p = out[i];
			bad |= !(p > 0 && p < 1);
			out[i] = r_log(p) - r_log1p(-p);
		}
	else
		for (int i = 0; i < m; i++) {
			bad |= !(out[i] > 0);
			out[i] = r_log(out[i]);
		}
	return bad;
}

static void R(load_p)(const struct seg_load *l)
{
	const struct seg_loss_sample *s = l->s;
	REAL *out = l->out;
	int n = l->n, K = l->nclass;
	if (s->p || l->head == SEG_LOSS_NONE) {
		R(planes)(l, s->p ? s->p : s->z, s->p ? s->pi : s->zi, s->p ? s->pk : s->zk, out);
		return;
	}
	if (l->head == SEG_LOSS_SOFTMAX) {
		REAL *z = l->tmp;
		R(planes)(l, s->z, s->zi, s->zk, z);
		R(softmax)(z, n, K, n, 0, z + (ptrdiff_t)n * K, out);
		return;
	}
	for (int k = 0; k < K; k++) {
		const float *restrict z = s->z + (size_t)k * s->zk + l->i0 * s->zi;
		REAL *restrict o = out + (ptrdiff_t)k * n;
		if (s->zi == 1)
			for (int i = 0; i < n; i++)
				o[i] = r_sigmoid((REAL)z[i]);
		else
			for (int i = 0; i < n; i++)
				o[i] = r_sigmoid((REAL)z[(size_t)i * s->zi]);
	}
}

static void R(load_w)(const struct seg_load *l)
{
	REAL *out = l->out;
	int n = l->n, K = l->axes & SEG_K ? l->nclass : 1;
	for (int k = 0; k < K; k++)
		for (int i = 0; i < n; i++)
			out[k * n + i] = l->s->weight ? l->s->weight[(l->i0 + (size_t)i) * (size_t)K + (size_t)k] : 1;
}

static int R(load)(const struct seg_load *l)
{
	switch (l->leaf) {
	case SEG_OP_T: case SEG_OP_V: R(truth)(l); return 0;
	case SEG_OP_Z: return R(load_z)(l);
	case SEG_OP_P: R(load_p)(l); return 0;
	default: R(load_w)(l); return 0;
	}
}

static void R(head)(enum seg_loss_head head, int n, int K, const void *pp, const void *gp, void *dz)
{
	const REAL *restrict p = pp, *restrict g = gp;
	REAL *restrict d = dz;
	if (head == SEG_LOSS_NONE)
		for (int i = 0; i < n * K; i++)
			d[i] += g[i];
	else if (head == SEG_LOSS_SIGMOID)
		for (int i = 0; i < n * K; i++)
			d[i] += g[i] * (p[i] * (1 - p[i]));
	else {
		REAL m[SEG_BLOCK];
		for (int i = 0; i < n; i++)
			m[i] = 0;
		for (int k = 0; k < K; k++)
			for (int i = 0; i < n; i++)
				m[i] += g[k * n + i] * p[k * n + i];
		for (int k = 0; k < K; k++)
			for (int i = 0; i < n; i++)
				d[k * n + i] += p[k * n + i] * (g[k * n + i] - m[i]);
	}
}

static const struct seg_kernels R(table) = {sizeof(REAL), R(forward), R(backward), R(load), R(head), R(sum),
    R(peak), R(add), R(narrow), R(widen), R(store)};

#undef MAP1
#undef MAP2
#undef ANY
#undef BACKG
#undef BACK2
#undef BACKV
#undef TIMES0
#undef FIRST
