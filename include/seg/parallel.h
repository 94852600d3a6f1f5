/* Two ways of using several threads.  Neither changes results: which thread does an item is never
 * visible in what it computes. */
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

/* Threads to use by default: the processors this process may run on. */
int seg_ncpu(void);

/* Seconds of a clock that only runs forward: for progress and waiting, never in results. */
double seg_seconds(void);

/* Clear flush-to-zero and denormals-are-zero on this thread: libraries set them behind our back. */
void seg_fp_reset(void);

#endif
