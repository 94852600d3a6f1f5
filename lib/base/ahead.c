/* Reading ahead of whoever reads. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "seg/err.h"
#include "seg/file.h"
#include "seg/mem.h"

enum { CHUNK = 1 << 18 };

struct ahead {
	int from, to;
	size_t most;
};

static void *pass_on(void *arg)
{
	struct ahead *a = arg;
	size_t at = 0, n = 0, cap = 0; /* bytes at..n-1 of p wait */
	char *p = NULL;
	for (int open = 1; open || at < n;) {
		int take = open && n - at < a->most;
		struct pollfd f[2] = {{take ? a->from : -1, POLLIN, 0}, {at < n ? a->to : -1, POLLOUT, 0}};
		if (poll(f, 2, -1) < 0)
			continue;
		if (f[0].revents) {
			if (at && cap - n < CHUNK) {
				memmove(p, p + at, n - at);
				n -= at;
				at = 0;
			}
			if (cap - n < CHUNK) {
				char *more = seg_realloc(p, 2 * cap + CHUNK, 1);
				if (!more)
					break; /* who reads will miss the END */
				p = more;
				cap = 2 * cap + CHUNK;
			}
			ssize_t got = read(a->from, p + n, CHUNK);
			open = got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN));
			n += got > 0 ? (size_t)got : 0;
		}
		if (f[1].revents) {
			ssize_t put = write(a->to, p + at, n - at);
			if (put < 0 && errno != EINTR && errno != EAGAIN)
				break;
			at += put > 0 ? (size_t)put : 0;
		}
	}
	close(a->from);
	close(a->to);
	free(p);
	free(a);
	return NULL;
}

int seg_read_ahead(int fd, size_t most)
{
	int end[2];
	pthread_t thread;
	sigset_t all, was;
	struct ahead *a = seg_alloc(1, sizeof *a);
	if (!a)
		return SEG_ENOMEM;
	*a = (struct ahead){fcntl(fd, F_DUPFD_CLOEXEC, 3), -1, most};
	if (a->from < 0 || pipe2(end, O_CLOEXEC) < 0) {
		free(a);
		return seg_fail(SEG_EDATA, "reading ahead: %s", strerror(errno));
	}
	a->to = end[1];
	fcntl(a->to, F_SETFL, O_NONBLOCK);
	dup2(end[0], fd);
	close(end[0]);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was); /* signals are for the others */
	int rc = pthread_create(&thread, NULL, pass_on, a);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return rc ? seg_fail(SEG_EDATA, "a thread cannot be started: %s", strerror(rc)) : (pthread_detach(thread), SEG_OK);
}
