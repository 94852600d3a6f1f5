/* Three ways of using several threads: for many items, for a stream of them, for one.  None changes
 * results: which thread does an item, or a part of it, is never visible in what it computes. */
#ifndef SEG_PARALLEL_H
#define SEG_PARALLEL_H

#include <stddef.h>

/* Call work(arg, i, t) for i = 0..n-1 on up to `threads` threads; t = 0..threads-1 says which
 * (workspace may be kept per t).  The call of the lowest i that failed decides code and reason;
 * after a failure items may be left out.  threads <= 1 runs on the caller's thread. */
int seg_parallel(int threads, size_t n, int (*work)(void *arg, size_t i, int t), void *arg);

/* An ordered pipeline: a source, work done in parallel, and a sink that sees the items in the
 * order of the source.  At most `threads` items are alive.  */
struct seg_flow {
	/* 1: *item is the next item (the flow passes it on, and to drop); 0: no more; < 0: failed.
	 * Calls are serial. */
	int (*next)(void *arg, void **item);
	/* Called in parallel for different items; t as above; < 0: failed. */
	int (*work)(void *arg, void *item, int t);
	/* Takes the item.  Calls are serial and in order.  < 0: failed. */
	int (*sink)(void *arg, void *item);
	/* Takes an item that will not reach the sink because of a failure. */
	void (*drop)(void *arg, void *item);
	void *arg;
};
/* Runs to the end of the source or the first failure in order; items before it reach the sink. */
int seg_flow(const struct seg_flow *f, int threads);

/* A team: threads that stay, to do one thing together.  Each member calls the same functions in the
 * same order, does its part of each, and meets the others where one reads what another has written. */
struct seg_team;
struct seg_part {
	struct seg_team *team;
	int i, n; /* part i of n */
};
#define SEG_ALONE ((struct seg_part){NULL, 0, 1})

/* The caller and size - 1 threads more; fewer if the system refuses. */
int seg_team_new(struct seg_team **team, int size);
void seg_team_free(struct seg_team *team);
/* work(arg, me) on every member, the caller's thread is part 0; returns when all have.  One caller
 * at a time.  team NULL: work(arg, SEG_ALONE). */
void seg_team_run(struct seg_team *team, void (*work)(void *arg, struct seg_part me), void *arg);
/* Returns when every member has called it: what they wrote before is seen by all after. */
void seg_team_meet(struct seg_part me);

/* Of n things to do, those from..to-1 are my part. */
static inline size_t seg_part_from(struct seg_part me, size_t n)
{
	return n * (size_t)me.i / (size_t)me.n;
}
static inline size_t seg_part_to(struct seg_part me, size_t n)
{
	return n * ((size_t)me.i + 1) / (size_t)me.n;
}

/* Threads to use by default: the processors this process may run on. */
int seg_ncpu(void);

/* Seconds of a clock that only runs forward: for progress and waiting, never in results. */
double seg_seconds(void);

/* Clear flush-to-zero and denormals-are-zero on this thread: libraries set them behind our back. */
void seg_fp_reset(void);

#endif
