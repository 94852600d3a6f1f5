/* Threads: a parallel loop and an ordered pipeline. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"

int seg_ncpu(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
	return n < 1 ? 1 : n;
}

double seg_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void seg_fp_reset(void)
{
#ifdef __SSE__
	_mm_setcsr(_mm_getcsr() & ~(0x8000u | 0x0040u));
#endif
}

struct failure {
	int code;
	size_t item;
	char *reason;
};

/* Keep the failure of the lowest item.  Caller holds the lock. */
static void failed(struct failure *f, int code, size_t item)
{
	if (f->code < 0 && f->item <= item)
		return;
	free(f->reason);
	*f = (struct failure){code, item, seg_strdup(seg_reason())};
}

static int report(struct failure *f)
{
	int code = f->code;
	if (code < 0)
		seg_fail(code, "%s", f->reason ? f->reason : "out of memory");
	free(f->reason);
	return code;
}

struct loop {
	pthread_mutex_t lock;
	size_t next, n;
	int (*work)(void *, size_t, int);
	void *arg;
	struct failure fail;
};

static void loop_run(struct loop *l, int t)
{
	seg_fp_reset();
	for (;;) {
		pthread_mutex_lock(&l->lock);
		size_t i = l->fail.code < 0 ? l->n : l->next++;
		pthread_mutex_unlock(&l->lock);
		if (i >= l->n)
			return;
		int rc = l->work(l->arg, i, t);
		if (rc < 0) {
			pthread_mutex_lock(&l->lock);
			failed(&l->fail, rc, i);
			pthread_mutex_unlock(&l->lock);
		}
	}
}

struct worker {
	pthread_t id;
	void *what;
	int t;
};

static void *loop_thread(void *p)
{
	struct worker *w = p;
	loop_run(w->what, w->t);
	return NULL;
}

/* Start run on threads 1..n-1 and the caller's (0); fewer threads if the system refuses. */
static void fan_out(int n, void *(*run)(void *), void *what)
{
	struct worker w[256];
	int started = 1;
	if (n > 256)
		n = 256;
	for (; started < n; started++) {
		w[started].what = what;
		w[started].t = started;
		if (pthread_create(&w[started].id, NULL, run, &w[started]) != 0)
			break;
	}
	w[0].what = what;
	w[0].t = 0;
	run(&w[0]);
	for (int i = 1; i < started; i++)
		pthread_join(w[i].id, NULL);
}

int seg_parallel(int threads, size_t n, int (*work)(void *, size_t, int), void *arg)
{
	struct loop l = {.lock = PTHREAD_MUTEX_INITIALIZER, .n = n, .work = work, .arg = arg};
	if ((size_t)threads > n)
		threads = (int)n;
	fan_out(threads, loop_thread, &l);
	pthread_mutex_destroy(&l.lock);
	return report(&l.fail);
}

struct flow {
	const struct seg_flow *f;
	pthread_mutex_t source, sink;
	pthread_cond_t turned;
	size_t next;  /* number of the next item; under source */
	int closed;   /* the source has ended or failed; under source */
	size_t turn;  /* whose turn at the sink; under sink */
	struct failure fail; /* under sink */
};

static void flow_run(struct flow *l, int t)
{
	seg_fp_reset();
	for (;;) {
		void *item = NULL;
		int rc = 0;
		pthread_mutex_lock(&l->source);
		size_t number = l->next;
		if (!l->closed) {
			rc = l->f->next(l->f->arg, &item);
			if (rc <= 0)
				l->closed = 1;
			if (rc != 0)
				l->next++;
		}
		pthread_mutex_unlock(&l->source);
		if (rc == 0)
			return;
		int have = rc > 0;
		if (have && l->f->work)
			rc = l->f->work(l->f->arg, item, t);
		pthread_mutex_lock(&l->sink);
		while (l->turn != number)
			pthread_cond_wait(&l->turned, &l->sink);
		if (rc >= 0 && l->fail.code == 0) {
			rc = l->f->sink(l->f->arg, item);
			have = 0;
		}
		if (rc < 0)
			failed(&l->fail, rc, number);
		if (have && l->f->drop)
			l->f->drop(l->f->arg, item);
		int stop = l->fail.code < 0;
		l->turn++;
		pthread_cond_broadcast(&l->turned);
		pthread_mutex_unlock(&l->sink);
		if (stop) {
			pthread_mutex_lock(&l->source);
			l->closed = 1;
			pthread_mutex_unlock(&l->source);
		}
	}
}

static void *flow_thread(void *p)
{
	struct worker *w = p;
	flow_run(w->what, w->t);
	return NULL;
}

int seg_flow(const struct seg_flow *f, int threads)
{
	struct flow l = {.f = f, .source = PTHREAD_MUTEX_INITIALIZER, .sink = PTHREAD_MUTEX_INITIALIZER,
	                 .turned = PTHREAD_COND_INITIALIZER};
	fan_out(threads, flow_thread, &l);
	pthread_mutex_destroy(&l.source);
	pthread_mutex_destroy(&l.sink);
	pthread_cond_destroy(&l.turned);
	return report(&l.fail);
}
