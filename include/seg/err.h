/* Error codes and the one sentence that goes with them.
 * The library never exits and never prints: a function that fails records its reason with
 * seg_fail and returns a negative code; the command prints "program: reason" once.
 * The reason is kept per thread; seg_parallel and seg_flow carry it to their caller. */
#ifndef SEG_ERR_H
#define SEG_ERR_H

#ifdef __FAST_MATH__
#error "seg promises exact results: build without -ffast-math"
#endif

enum {
	SEG_OK = 0,
	SEG_EDATA = -1,    /* input that is wrong, or the system refused: exit 1 */
	SEG_EUSAGE = -2,   /* the caller's words are wrong: exit 2 */
	SEG_ECORRUPT = -3, /* corrupt or truncated stream: exit 3 */
	SEG_ESKIPPED = -4, /* done, but some inputs were skipped: exit 4 */
	SEG_EPIPE = -5,    /* the reader of our output has gone: end quietly */
	SEG_ENOMEM = -6,   /* out of memory: exit 1 */
	SEG_ECKPT = -99,   /* checkpointed on request, run again: exit 99 */
};

/* Record a reason, made as printf does, and return code: `return seg_fail(SEG_EDATA, "...", ...)`. */
int seg_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same with ": " and the system's words for errno appended; SEG_EPIPE if errno is EPIPE,
 * else SEG_EDATA. */
int seg_fail_sys(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Put "WHERE: " before the recorded reason; returns code unchanged. */
int seg_where(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The last reason recorded on this thread; never NULL. */
const char *seg_reason(void);

/* The exit status of DESIGN for a code: 0 1 2 3 4 99. */
int seg_status(int code);

#endif
