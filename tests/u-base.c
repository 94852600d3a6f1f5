/* lib/base: arithmetic against libm, published test vectors, files, threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "seg/err.h"
#include "seg/exact.h"
#include "seg/file.h"
#include "seg/hash.h"
#include "seg/json.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/rng.h"

static double ulps(double got, double want, int single)
{
	double u = single ? nextafterf((float)fabs(want), INFINITY) - (float)fabs(want)
	                  : nextafter(fabs(want), INFINITY) - fabs(want);
	return got == want ? 0 : fabs(got - want) / u;
}

static void math_double(void **state)
{
	(void)state;
	double we = 0, wl = 0, ws = 0, wp = 0;
	for (int i = 0; i < 200000; i++) {
		double x = -700 + 1400.0 * i / 200000, y = exp2(x * 1.4), a = x * 3;
		we = fmax(we, ulps(seg_exp(x), exp(x), 0));
		wl = fmax(wl, ulps(seg_log(y), log(y), 0));
		ws = fmax(ws, fmax(fabs(seg_sin(a) - sin(a)), fabs(seg_cos(a) - cos(a))));
		double b = 1e-6 + i * 1e-4, e = -3 + i % 61 * 0.1;
		wp = fmax(wp, fabs(seg_pow(b, e) / pow(b, e) - 1));
	}
	print_message("# exp %.2f ulp, log %.2f ulp, sin/cos %.1e, pow %.1e\n", we, wl, ws, wp);
	assert_true(we <= 1 && wl <= 1 && ws < 1e-15 && wp < 2e-15);
	assert_true(seg_exp(1000) == INFINITY && seg_exp(-1000) == 0 && isnan(seg_exp(NAN)));
	assert_true(seg_log(0) == -INFINITY && isnan(seg_log(-1)) && seg_log(5e-324) == log(5e-324));
	assert_true(seg_log1p(1e-20) == 1e-20);
}

static void math_float(void **state)
{
	(void)state;
	double we = 0, wl = 0, w1 = 0;
	for (int i = 0; i < 400000; i++) {
		float x = -87.f + 175.f * (float)i / 400000, y = (float)exp2(x * 1.4), s = (float)exp2(-x);
		we = fmax(we, ulps(seg_expf(x), exp(x), 1));
		wl = fmax(wl, ulps(seg_logf(y), log(y), 1));
		if (s < 2)
			w1 = fmax(w1, ulps(seg_log1pf(s), log1p(s), 1));
	}
	print_message("# expf %.2f ulp, logf %.2f ulp, log1pf %.2f ulp\n", we, wl, w1);
	assert_true(we <= 2 && wl <= 2 && w1 <= 4);
	assert_true(seg_expf(100) == INFINITY && seg_expf(-200) == 0 && isnan(seg_expf(NAN)));
	assert_true(seg_logf(0) == -INFINITY && isnan(seg_logf(-1)) && seg_logf(INFINITY) == INFINITY);
	assert_true(seg_sigmoidf(-200) == 0 && seg_sigmoidf(200) == 1 && seg_sigmoidf(0) == 0.5f);
}

/* Random123's kat_vectors for philox4x32-10. */
static void philox(void **state)
{
	(void)state;
	static const uint32_t want[2][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
	                                    {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}};
	for (int i = 0; i < 2; i++) {
		uint32_t v = i ? 0xffffffff : 0, key[2] = {v, v}, ctr[4] = {v, v, v, v}, out[4];
		seg_philox(key, ctr, out);
		assert_memory_equal(out, want[i], sizeof out);
	}
	struct seg_rng a, b;
	double sum = 0, sq = 0;
	seg_rng_start(&a, 7, "test", "id", 1, 2, 3);
	seg_rng_start(&b, 7, "test", "id", 1, 2, 4);
	assert_true(seg_rng_u32(&a) != seg_rng_u32(&b));
	for (int i = 0; i < 100000; i++) {
		double x = seg_rng_normal(&a);
		sum += x;
		sq += x * x;
		assert_true(seg_rng_below(&b, 5) < 5);
	}
	assert_true(fabs(sum / 1e5) < 0.01 && fabs(sq / 1e5 - 1) < 0.02);
}

/* FIPS 180-4 examples. */
static void sha256(void **state)
{
	(void)state;
	static const char *const in[] = {"abc", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"};
	static const char *const want[] = {
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"};
	for (int i = 0; i < 2; i++) {
		struct seg_sha256 s;
		unsigned char d[32];
		char hex[65];
		seg_sha256_start(&s);
		for (const char *p = in[i]; *p; p++)
			seg_sha256_add(&s, p, 1);
		seg_sha256_end(&s, d);
		seg_hex(d, 32, hex);
		assert_string_equal(hex, want[i]);
	}
}

static void files(void **state)
{
	(void)state;
	struct seg_new f;
	assert_int_equal(seg_new_open(&f, "a.txt"), SEG_OK);
	assert_int_equal(seg_new_stdio(&f), SEG_OK);
	fputs("hello", f.fp);
	assert_int_not_equal(access("a.txt", F_OK), 0);
	assert_int_equal(seg_new_commit(&f), SEG_OK);
	size_t n;
	char *s = seg_read_file("a.txt", 100, &n);
	assert_string_equal(s, "hello");
	free(s);
	assert_null(seg_read_file("a.txt", 3, &n));
	assert_int_equal(seg_new_open(&f, "b.txt"), SEG_OK);
	seg_new_discard(&f);
	char **names;
	assert_int_equal(seg_list_dir(".", &names, &n), SEG_OK);
	assert_int_equal(n, 1);
	seg_list_free(names, n);
	assert_int_equal(seg_new_open(&f, "no/such/dir/x"), SEG_EDATA);
}

/* A pipe holds 64 KiB; this writer is done before anybody reads. */
static void ahead(void **state)
{
	(void)state;
	enum { N = 3000001 };
	int end[2];
	assert_int_equal(pipe(end), 0);
	assert_int_equal(seg_read_ahead(end[0], N), SEG_OK);
	unsigned char *p = malloc(2 * N), *q = p + N;
	for (size_t i = 0; i < N; i++)
		p[i] = (unsigned char)(i * i >> 7);
	assert_int_equal(seg_write_full(end[1], p, N), SEG_OK);
	close(end[1]);
	assert_int_equal(seg_read_full(end[0], q, N), N);
	assert_memory_equal(p, q, N);
	assert_int_equal(seg_read_full(end[0], q, 1), 0);
	close(end[0]);
	free(p);
}

static void json(void **state)
{
	(void)state;
	static const char text[] = "{\"b\":[1,2.5,\"x\"],\"a\":null}";
	struct seg_json *j = seg_json_parse(text, sizeof text - 1);
	char *s = seg_json_text(j);
	assert_string_equal(s, "{\"a\":null,\"b\":[1,2.5,\"x\"]}");
	assert_true(seg_json_number(seg_json_at(seg_json_get(j, "b"), 1), 0) == 2.5);
	free(s);
	seg_json_free(j);
	assert_null(seg_json_parse("{\"a\":1,\"a\":2}", 13));
	assert_non_null(strstr(seg_reason(), "line 1"));
	char deep[200];
	memset(deep, '[', sizeof deep);
	assert_null(seg_json_parse(deep, sizeof deep));
}

struct count {
	size_t next, sunk, n, bad;
};
static int count_next(void *arg, void **item)
{
	struct count *c = arg;
	if (c->next == c->n)
		return 0;
	*item = malloc(sizeof(size_t));
	*(size_t *)*item = c->next++;
	return 1;
}
static int count_work(void *arg, void *item, int t)
{
	struct count *c = arg;
	(void)t;
	size_t i = *(size_t *)item;
	return i >= c->bad ? seg_fail(SEG_EDATA, "item %zu", i) : 0;
}
static int count_sink(void *arg, void *item)
{
	struct count *c = arg;
	assert_int_equal(*(size_t *)item, c->sunk);
	c->sunk++;
	free(item);
	return 0;
}
static void count_drop(void *arg, void *item)
{
	(void)arg;
	free(item);
}

static void flow(void **state)
{
	(void)state;
	for (int threads = 1; threads <= 4; threads++) {
		struct count c = {.n = 1000, .bad = 5000};
		struct seg_flow f = {count_next, count_work, count_sink, count_drop, &c};
		assert_int_equal(seg_flow(&f, threads), SEG_OK);
		assert_int_equal(c.sunk, 1000);
		c = (struct count){.n = 1000, .bad = 700};
		assert_int_equal(seg_flow(&f, threads), SEG_EDATA);
		assert_int_equal(c.sunk, 700);
		assert_string_equal(seg_reason(), "item 700");
	}
}

static int square(void *arg, size_t i, int t)
{
	(void)t;
	((int *)arg)[i] = (int)(i * i);
	return i == 90 || i == 95 ? seg_fail(SEG_ECORRUPT, "at %zu", i) : 0;
}

static void loops(void **state)
{
	(void)state;
	int v[100] = {0};
	assert_int_equal(seg_parallel(3, 90, square, v), SEG_OK);
	for (int i = 0; i < 90; i++)
		assert_int_equal(v[i], i * i);
	assert_int_equal(seg_parallel(3, 100, square, v), SEG_ECORRUPT);
	assert_string_equal(seg_reason(), "at 90");
	assert_int_equal(seg_parallel(3, 0, square, v), SEG_OK);
}

/* Each round every member adds to its own cell what all cells held before. */
struct relay {
	unsigned cell[2][8];
	int rounds, members;
};
static void relay(void *arg, struct seg_part me)
{
	struct relay *r = arg;
	if (me.i == 0)
		r->members = me.n;
	for (int k = 0; k < r->rounds; k++) {
		unsigned sum = 0;
		for (int i = 0; i < 8; i++)
			sum += r->cell[k % 2][i];
		for (size_t i = seg_part_from(me, 8); i < seg_part_to(me, 8); i++)
			r->cell[(k + 1) % 2][i] = sum + (unsigned)i;
		seg_team_meet(me);
	}
}

static void team(void **state)
{
	(void)state;
	struct relay want = {.rounds = 3000}, got;
	seg_team_run(NULL, relay, &want);
	assert_int_equal(want.members, 1);
	for (int size = 1; size <= 5; size++) {
		struct seg_team *m;
		assert_int_equal(seg_team_new(&m, size), SEG_OK);
		for (int again = 0; again < 3; again++) {
			got = (struct relay){.rounds = 3000};
			seg_team_run(m, relay, &got);
			assert_int_equal(got.members, size);
			assert_memory_equal(got.cell, want.cell, sizeof want.cell);
		}
		seg_team_free(m);
	}
	seg_team_free(NULL);
}

static void exact_sums(void **state)
{
	(void)state;
	static const double v[] = {0x1p-149, 3, 0x1.fffffffffffffp100, 0x1p-53, 0, 1e22, 0x1p-60, 0.1, 0x1p-390};
	enum { N = sizeof v / sizeof *v };
	struct seg_exact up = {0}, down = {0}, half[2] = {0}, again = {0};
	for (int i = 0; i < N; i++) {
		seg_exact_add(&up, v[i]);
		seg_exact_add(&down, v[N - 1 - i]);
		seg_exact_add(&half[i % 2], v[i]);
	}
	seg_exact_merge(&half[0], &half[1]);
	assert_memory_equal(&up, &down, sizeof up);
	assert_memory_equal(&up, &half[0], sizeof up);
	double part[SEG_EXACT_PARTS];
	int n = seg_exact_parts(&up, part);
	for (int i = 0; i < n; i++)
		seg_exact_add(&again, part[i]);
	assert_memory_equal(&up, &again, sizeof up);
	assert_true(n >= 3 && part[0] > part[1] && part[n - 1] == 0x1p-390);
	struct seg_exact tenths = {0}, none = {0};
	for (int i = 0; i < 1 << 20; i++)
		seg_exact_add(&tenths, 0.1);
	assert_true(seg_exact_value(&tenths) == 0x1p20 * 0.1 && seg_exact_value(&none) == 0 && !seg_exact_parts(&none, part));
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(math_double), cmocka_unit_test(math_float), cmocka_unit_test(philox),
		cmocka_unit_test(sha256), cmocka_unit_test(files), cmocka_unit_test(ahead), cmocka_unit_test(json),
		cmocka_unit_test(flow), cmocka_unit_test(loops), cmocka_unit_test(team), cmocka_unit_test(exact_sums),
	};
	return cmocka_run_group_tests_name("base", t, NULL, NULL);
}
