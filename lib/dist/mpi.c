/* Ranks over MPI.  The one file that includes mpi.h.
 * Every wait is a non-blocking operation that is tested between ever longer naps: ranks that wait
 * leave the processor to those that work, also where there are more ranks than cores.
 * A failure of the communication itself ends all ranks here. */
#include <mpi.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "seg/dist.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"

static void end(struct seg_dist *d, int status, const char *message)
{
	(void)d;
	fprintf(stderr, "%s\n", message);
	alarm(5); /* MPI_Abort may wait for a host that is gone */
	MPI_Abort(MPI_COMM_WORLD, status);
	_exit(status);
}

/* A rank that cannot talk cannot tell the others that it leaves. */
static _Noreturn void lost(const char *what, const char *why)
{
	char text[MPI_MAX_ERROR_STRING + 384], host[256] = "?";
	int rank = -1;
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	gethostname(host, sizeof host - 1);
	snprintf(text, sizeof text, "seg-train: rank %d on %s: %s: %s", rank, host, what, why);
	end(NULL, 1, text);
	_exit(1);
}

static int check(int rc, const char *what)
{
	char text[MPI_MAX_ERROR_STRING] = "";
	int n = 0;
	if (rc == MPI_SUCCESS)
		return SEG_OK;
	MPI_Error_string(rc, text, &n);
	lost(what, text);
}

/* rc: what starting the requests returned. */
static int wait_all(struct seg_dist *d, int rc, MPI_Request *q, int n, const char *what)
{
	enum { EAGER = 64 };
	int done = 0;
	double start = seg_seconds();
	for (int tries = 0; rc == MPI_SUCCESS; tries++) {
		done = 1; /* one by one: gcc warns of MPICH's MPI_STATUSES_IGNORE */
		for (int i = 0; i < n && rc == MPI_SUCCESS; i++) {
			int one = 1;
			if (q[i] != MPI_REQUEST_NULL)
				rc = MPI_Test(&q[i], &one, MPI_STATUS_IGNORE);
			done &= one;
		}
		if (done)
			break;
		if (tries < EAGER)
			continue;
		double us = 1e6 * (seg_seconds() - start) / 8; /* so the nap makes no wait much longer */
		usleep(us < 1 ? 1 : us < 1000 ? (unsigned)us : 1000);
		if (d->patience > 0 && seg_seconds() - start > d->patience) {
			char why[128];
			snprintf(why, sizeof why, "the other ranks have not answered for %.0f s; is a host cut off? --timeout sets how long to wait",
			    d->patience);
			lost(what, why);
		}
	}
	d->waited += seg_seconds() - start;
	return check(rc, what);
}

/* Byte counts and places as MPI wants them, two runs of `size` ints; the caller frees. */
static int *layout(const struct seg_dist *d, const size_t *nbytes, const char *what)
{
	int *count = seg_alloc(2 * (size_t)d->size, sizeof *count), *at = count + d->size;
	size_t sum = 0;
	if (!count)
		lost(what, seg_reason());
	for (int r = 0; r < d->size; sum += nbytes[r++]) {
		if (nbytes[r] > INT_MAX || sum > INT_MAX - nbytes[r])
			lost(what, "a message between ranks would pass 2 GiB");
		count[r] = (int)nbytes[r];
		at[r] = (int)sum;
	}
	return count;
}

/* Blocks first, first + 1, ... (after the last comes 0) of all, n as layout gives it, to or from a rank: one
 * message, or two where they wrap. */
static int post(const struct seg_dist *d, char *all, const int *n, int first, int count, int rank, int send,
    MPI_Request *q, int *nq)
{
	int rc = MPI_SUCCESS;
	for (int tag = 1; count > 0 && rc == MPI_SUCCESS; tag++) {
		int run = count < d->size - first ? count : d->size - first, nbytes = 0;
		char *at = all + n[d->size + first];
		for (int r = first; r < first + run; r++)
			nbytes += n[r];
		rc = send ? MPI_Isend(at, nbytes, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &q[(*nq)++])
		    : MPI_Irecv(at, nbytes, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &q[(*nq)++]);
		count -= run;
		first = 0;
	}
	return rc;
}

/* In each round a rank sends on all it has, so that it has twice as much afterwards: log2 of the ranks'
 * number of messages, where MPI_Iallgatherv sends one to each.  (Bruck et al. 1997, concatenation.) */
static int gather(struct seg_dist *d, const void *mine, void *all, const size_t *nbytes)
{
	int *n = layout(d, nbytes, "gather"), rc = SEG_OK;
	char *place = (char *)all + n[d->size + d->rank];
	if (mine != place && n[d->rank])
		memcpy(place, mine, (size_t)n[d->rank]);
	for (int have = 1; have < d->size && rc == SEG_OK; have *= 2) {
		int count = have < d->size - have ? have : d->size - have, nq = 0;
		int from = (d->rank + have) % d->size, to = (d->rank - have + d->size) % d->size;
		MPI_Request q[4];
		rc = post(d, all, n, from, count, from, 0, q, &nq);
		if (rc == MPI_SUCCESS)
			rc = post(d, all, n, d->rank, count, to, 1, q, &nq);
		rc = wait_all(d, rc, q, nq, "gather");
	}
	free(n);
	return rc;
}

enum { PIECE = 1 << 30 };

static int bcast(struct seg_dist *d, void *p, size_t nbytes, int root)
{
	char *at = p;
	int rc = SEG_OK;
	while (nbytes > 0 && rc == SEG_OK) {
		size_t n = nbytes < PIECE ? nbytes : PIECE;
		MPI_Request q;
		rc = wait_all(d, MPI_Ibcast(at, (int)n, MPI_BYTE, root, MPI_COMM_WORLD, &q), &q, 1, "bcast");
		at += n;
		nbytes -= n;
	}
	return rc;
}

/* Point to point, in pieces: one batch of large pictures may pass the 2 GiB of an int. */
static int scatter(struct seg_dist *d, const void *all, void *mine, const size_t *nbytes)
{
	const char *from = all;
	char *to = mine;
	size_t nq = 0, cap = 1;
	for (int r = 0; r < d->size; r++)
		cap += nbytes[r] / PIECE + 1;
	MPI_Request *q = seg_alloc(cap, sizeof(MPI_Request));
	if (!q)
		lost("scatter", seg_reason());
	if (d->rank == 0 && nbytes[0])
		memcpy(to, from, nbytes[0]);
	int rc = MPI_SUCCESS;
	for (int r = 0; r < d->size; from += nbytes[r++])
		for (size_t off = 0; r > 0 && off < nbytes[r] && rc == MPI_SUCCESS; off += PIECE) {
			size_t left = nbytes[r] - off;
			int n = (int)(left < PIECE ? left : PIECE);
			if (d->rank == 0)
				rc = MPI_Isend(from + off, n, MPI_BYTE, r, 0, MPI_COMM_WORLD, &q[nq++]);
			else if (d->rank == r)
				rc = MPI_Irecv(to + off, n, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &q[nq++]);
		}
	rc = wait_all(d, rc, q, (int)nq, "scatter");
	free(q);
	return rc;
}

static int exchange(struct seg_dist *d, const void *send, const size_t *nsend, void *recv,
    const size_t *nrecv)
{
	int *s = layout(d, nsend, "exchange"), *r = layout(d, nrecv, "exchange");
	MPI_Request q;
	if (send == recv) /* Open MPI would take it for an exchange in place, and wait for ever */
		send = s;
	int rc = MPI_Ialltoallv(send, s, s + d->size, MPI_BYTE, recv, r, r + d->size, MPI_BYTE,
	    MPI_COMM_WORLD, &q);
	rc = wait_all(d, rc, &q, 1, "exchange");
	free(s);
	free(r);
	return rc;
}

static int barrier(struct seg_dist *d)
{
	MPI_Request q;
	return wait_all(d, MPI_Ibarrier(MPI_COMM_WORLD, &q), &q, 1, "barrier");
}

static void finish(struct seg_dist *d)
{
	barrier(d); /* Finalize itself would wait at full speed */
	MPI_Finalize();
}

/* mpirun, or its daemon on this host, is our parent: when it is gone nobody will end us, and the
 * others will not come back. */
static void die_with_parent(void)
{
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() == 1) /* it was gone before */
		raise(SIGTERM);
#endif
}

/* A nap of a microsecond shall not take fifty. */
static void nap_exactly(void)
{
#ifdef __linux__
	prctl(PR_SET_TIMERSLACK, 1000);
#endif
}

int seg_dist_open(struct seg_dist *d)
{
	int have;
	seg_dist_alone(d);
	if (!seg_dist_launched(NULL))
		return SEG_OK;
	die_with_parent();
	nap_exactly();
	check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &have), "start");
	check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "start");
	check(MPI_Comm_rank(MPI_COMM_WORLD, &d->rank), "start");
	check(MPI_Comm_size(MPI_COMM_WORLD, &d->size), "start");
	d->gather = gather;
	d->bcast = bcast;
	d->scatter = scatter;
	d->exchange = exchange;
	d->barrier = barrier;
	d->abort = end;
	d->close = finish;
	return SEG_OK;
}
