/* lib/dist: shares, agreement and the ordered sum, with threads that pretend to be ranks. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/dist.h"
#include "seg/err.h"
#include "seg/hash.h"

/* Collectives over threads: everybody posts pointers, waits, copies, waits. */
enum { MAXRANK = 20 };
struct world {
	int size;
	pthread_barrier_t all;
	const void *post[MAXRANK];
	const size_t *n[MAXRANK];
};

static void post(struct seg_dist *d, const void *p, const size_t *n)
{
	struct world *w = d->state;
	w->post[d->rank] = p;
	w->n[d->rank] = n;
	pthread_barrier_wait(&w->all);
}
static int leave(struct seg_dist *d)
{
	pthread_barrier_wait(&((struct world *)d->state)->all);
	return 0;
}
static size_t before(const size_t *n, int r)
{
	size_t s = 0;
	for (int i = 0; i < r; i++)
		s += n[i];
	return s;
}
static int gather(struct seg_dist *d, const void *mine, void *all, const size_t *n)
{
	struct world *w = d->state;
	post(d, mine, n);
	for (int r = 0; r < d->size; r++)
		memmove((char *)all + before(n, r), w->post[r], n[r]);
	return leave(d);
}
static int bcast(struct seg_dist *d, void *p, size_t n, int root)
{
	struct world *w = d->state;
	post(d, p, NULL);
	if (d->rank != root)
		memcpy(p, w->post[root], n);
	return leave(d);
}
static int exchange(struct seg_dist *d, const void *send, const size_t *ns, void *recv, const size_t *nr)
{
	struct world *w = d->state;
	post(d, send, ns);
	char *p = recv;
	for (int r = 0; r < d->size; p += nr[r++]) {
		assert_int_equal(w->n[r][d->rank], nr[r]);
		memcpy(p, (const char *)w->post[r] + before(w->n[r], d->rank), nr[r]);
	}
	return leave(d);
}

struct rank {
	struct seg_dist d;
	int (*run)(struct seg_dist *d, void *out);
	char out[128];
};
static void *rank_thread(void *p)
{
	struct rank *r = p;
	r->run(&r->d, r->out);
	return NULL;
}
/* Run on so many ranks; all must hand back the same text, which is copied to out. */
static void on_ranks(int size, int (*run)(struct seg_dist *, void *), char *out)
{
	struct world w = {.size = size};
	struct rank rank[MAXRANK];
	pthread_t id[MAXRANK];
	pthread_barrier_init(&w.all, NULL, (unsigned)size);
	for (int r = 0; r < size; r++) {
		rank[r] = (struct rank){.run = run};
		seg_dist_alone(&rank[r].d);
		if (size > 1)
			rank[r].d = (struct seg_dist){.rank = r, .size = size, .state = &w, .gather = gather,
			                              .bcast = bcast, .exchange = exchange};
		pthread_create(&id[r], NULL, rank_thread, &rank[r]);
	}
	for (int r = 0; r < size; r++)
		pthread_join(id[r], NULL);
	pthread_barrier_destroy(&w.all);
	for (int r = 1; r < size; r++)
		assert_string_equal(rank[r].out, rank[0].out);
	strcpy(out, rank[0].out);
}

static void shares(void **state)
{
	(void)state;
	for (size_t n = 0; n < 40; n++)
		for (int size = 1; size <= MAXRANK; size++) {
			assert_int_equal(seg_share(n, 0, size), 0);
			assert_int_equal(seg_share(n, size, size), n);
			for (int r = 0; r < size; r++) {
				size_t own = seg_share(n, r + 1, size) - seg_share(n, r, size);
				assert_in_range(own, n / (size_t)size, n / (size_t)size + 1);
			}
		}
	assert_true(seg_share((size_t)-1, 3, 3) == (size_t)-1);
}

/* A leaf's vector: magnitudes far apart, so that another order of additions shows. */
static float leaf(size_t i, size_t j)
{
	uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u ^ (j + 1) * 0xD1B54A32D192ED03u;
	z = (z ^ z >> 29) * 0xBF58476D1CE4E5B9u;
	float u = (float)(int32_t)(z >> 32) * 0x1p-31f;
	return u * u * u * (float)(1 + (i & 15));
}

/* The definition, as one would write it on paper. */
static int tree(size_t at, size_t len, size_t nb, size_t j, float *out)
{
	float a, b;
	if (at >= nb)
		return 0;
	if (len == 1)
		return *out = leaf(at, j), 1;
	tree(at, len / 2, nb, j, &a);
	*out = tree(at + len / 2, len / 2, nb, j, &b) ? a + b : a;
	return 1;
}

static size_t NB, N;
static int THREADS;
static size_t PIECE; /* items added at a time */
static int sum_run(struct seg_dist *d, void *out)
{
	size_t lo = seg_share(NB, d->rank, d->size), hi = seg_share(NB, d->rank + 1, d->size);
	float **mine = calloc(hi - lo + 1, sizeof *mine), *sum = calloc(N, sizeof *sum);
	for (size_t i = lo; i < hi; i++) {
		mine[i - lo] = malloc(N * sizeof **mine);
	}
	struct seg_tree *t;
	int rc = seg_tree_new(&t, d, N, THREADS);
	for (int again = 0; again < 2 && rc == SEG_OK; again++) { /* an unfinished sum does not matter */
		rc = seg_tree_start(t, NB);
		for (size_t i = lo; i < hi && rc == SEG_OK; i += PIECE) {
			size_t count = hi - i < PIECE ? hi - i : PIECE;
			for (size_t k = 0; k < count; k++)
				for (size_t j = 0; j < N; j++)
					mine[k][j] = leaf(i + k, j);
			rc = seg_tree_add(t, mine, count);
		}
	}
	if (rc == SEG_OK)
		rc = seg_tree_sum(t, sum);
	seg_tree_free(t);
	struct seg_sha256 s;
	unsigned char digest[32];
	seg_sha256_start(&s);
	seg_sha256_add(&s, sum, N * sizeof *sum);
	seg_sha256_end(&s, digest);
	seg_hex(digest, sizeof digest, out);
	for (size_t i = lo; i < hi; i++)
		free(mine[i - lo]);
	free(mine);
	free(sum);
	return rc;
}

static void tree_sum(void **state)
{
	(void)state;
	static const int ranks[] = {1, 2, 3, 4, 5, 8, 16, 19};
	static const size_t batch[] = {1, 2, 3, 6, 7, 13, 16, 17, 31};
	for (size_t b = 0; b < sizeof batch / sizeof *batch; b++)
		for (N = 1; N <= 9001; N += 4500) {
			NB = batch[b];
			float *want = malloc(N * sizeof *want), *naive = calloc(N, sizeof *naive);
			for (size_t j = 0; j < N; j++) {
				tree(0, 32, NB, j, &want[j]);
				for (size_t i = 0; i < NB; i++)
					naive[j] += leaf(i, j);
			}
			struct seg_sha256 s;
			unsigned char digest[32];
			char hex[65], got[128];
			seg_sha256_start(&s);
			seg_sha256_add(&s, want, N * sizeof *want);
			seg_sha256_end(&s, digest);
			seg_hex(digest, sizeof digest, hex);
			if (NB > 3 && N > 1) /* the test can fail */
				assert_memory_not_equal(want, naive, N * sizeof *want);
			for (size_t r = 0; r < sizeof ranks / sizeof *ranks; r++)
				for (THREADS = 1; THREADS <= 2; THREADS++)
					for (PIECE = 1; PIECE <= 31; PIECE = PIECE == 1 ? 3 : PIECE == 3 ? 8 : PIECE + 23) {
					on_ranks(ranks[r], sum_run, got);
					if (strcmp(got, hex))
						print_message("# batch %zu, %d ranks, %d threads, %zu floats\n", NB, ranks[r], THREADS, N);
					assert_string_equal(got, hex);
				}
			free(want);
			free(naive);
		}
}

static int bad_run(struct seg_dist *d, void *out)
{
	int rc = d->rank >= 2 ? seg_fail(d->rank == 2 ? SEG_ECORRUPT : SEG_EDATA, "sample %d is bad", d->rank) : 0;
	rc = seg_agree(d, rc);
	return sprintf(out, "%d %s", rc, strchr(seg_reason(), ':') ? strchr(seg_reason(), ':') : seg_reason());
}
static int good_run(struct seg_dist *d, void *out)
{
	return sprintf(out, "%d", seg_agree(d, SEG_OK));
}

static void agree(void **state)
{
	(void)state;
	char got[128];
	on_ranks(5, good_run, got);
	assert_string_equal(got, "0");
	on_ranks(5, bad_run, got);
	assert_string_equal(got, "-3 : sample 2 is bad");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares),
		cmocka_unit_test(tree_sum),
		cmocka_unit_test(agree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
