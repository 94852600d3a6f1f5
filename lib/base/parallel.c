/* Threads: a parallel loop, an ordered pipeline, and a team. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
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

/* Who comes first to a meeting waits for some microseconds most of the time, less than it takes to sleep
 * and be woken.  So it spins first, but lets others run now and then: there may be fewer processors
 * than threads. */
enum { SPIN = 2000, TURN = 100 };

struct seg_team {
	int size;
	void (*work)(void *, struct seg_part); /* NULL: go home */
	void *arg;
	atomic_int there;     /* members at this meeting */
	atomic_uint meeting;  /* its number */
	pthread_mutex_t lock; /* of those who sleep until the number changes */
	pthread_cond_t over;
	struct worker *worker;
};

static void breathe(void)
{
#ifdef __SSE__
	_mm_pause();
#endif
}

void seg_team_meet(struct seg_part me)
{
	struct seg_team *m = me.team;
	if (me.n == 1)
		return;
	unsigned number = atomic_load(&m->meeting);
	if (atomic_fetch_add(&m->there, 1) == me.n - 1) {
		atomic_store(&m->there, 0);
		pthread_mutex_lock(&m->lock);
		atomic_store(&m->meeting, number + 1);
		pthread_cond_broadcast(&m->over);
		pthread_mutex_unlock(&m->lock);
		return;
	}
	for (int i = 0; i < SPIN; i++) {
		if (atomic_load(&m->meeting) != number)
			return;
		if (i % TURN == TURN - 1)
			sched_yield();
		else
			breathe();
	}
	pthread_mutex_lock(&m->lock);
	while (atomic_load(&m->meeting) == number)
		pthread_cond_wait(&m->over, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

static void *member(void *p)
{
	struct worker *w = p;
	struct seg_team *m = w->what;
	seg_fp_reset();
	pthread_mutex_lock(&m->lock); /* until it is known how many have been started */
	struct seg_part me = {m, w->t, m->size};
	pthread_mutex_unlock(&m->lock);
	for (;;) {
		seg_team_meet(me);
		if (!m->work)
			return NULL;
		m->work(m->arg, me);
		seg_team_meet(me);
	}
}

int seg_team_new(struct seg_team **team, int size)
{
	struct seg_team *m = *team = seg_alloc(1, sizeof *m);
	if (m)
		m->worker = seg_alloc((size_t)size, sizeof *m->worker);
	if (!m || !m->worker) {
		free(m);
		*team = NULL;
		return SEG_ENOMEM;
	}
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->over, NULL);
	pthread_mutex_lock(&m->lock);
	int n = 1;
	for (; n < size; n++) {
		m->worker[n].what = m;
		m->worker[n].t = n;
		if (pthread_create(&m->worker[n].id, NULL, member, &m->worker[n]) != 0)
			break;
	}
	m->size = n;
	pthread_mutex_unlock(&m->lock);
	return SEG_OK;
}

void seg_team_run(struct seg_team *m, void (*work)(void *, struct seg_part), void *arg)
{
	struct seg_part me = {m, 0, m ? m->size : 1};
	if (m) {
		m->work = work;
		m->arg = arg;
	}
	seg_team_meet(me);
	work(arg, me);
	seg_team_meet(me);
}

void seg_team_free(struct seg_team *m)
{
	if (!m)
		return;
	m->work = NULL;
	seg_team_meet((struct seg_part){m, 0, m->size});
	for (int i = 1; i < m->size; i++)
		pthread_join(m->worker[i].id, NULL);
	pthread_cond_destroy(&m->over);
	pthread_mutex_destroy(&m->lock);
	free(m->worker);
	free(m);
}
