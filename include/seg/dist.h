/* Ranks: alone, or over MPI.  A struct of functions, so that the training loop never mentions MPI
 * and tests can pretend.  All functions but abort are collective: every rank calls them in the same
 * order.  They return 0; over MPI a failure of the communication itself ends all ranks.  A rank's own
 * failure is brought before all with seg_agree; where that cannot be, it calls abort, never exit. */
#ifndef SEG_DIST_H
#define SEG_DIST_H

#include <stddef.h>

struct seg_dist {
	int rank, size;
	void *state;
	double patience; /* seconds to wait for the others before all is given up; 0: for ever */
	double waited;   /* seconds spent waiting for them so far */
	/* All ranks receive all blocks in rank order.  n[r]: bytes of rank r (known to all).
	 * mine may alias its place in all. */
	int (*gather)(struct seg_dist *d, const void *mine, void *all, const size_t *nbytes);
	/* root's bytes reach everyone. */
	int (*bcast)(struct seg_dist *d, void *p, size_t nbytes, int root);
	/* Rank 0 sends block r (from all, blocks one after another) to rank r. */
	int (*scatter)(struct seg_dist *d, const void *all, void *mine, const size_t *nbytes);
	/* Everyone sends block q of its buffer to rank q: alltoallv in bytes.
	 * send may be recv if this rank sends nothing. */
	int (*exchange)(struct seg_dist *d, const void *send, const size_t *nsend, void *recv, const size_t *nrecv);
	int (*barrier)(struct seg_dist *d);
	/* End all ranks with this exit status after one line on stderr; does not return. */
	void (*abort)(struct seg_dist *d, int status, const char *message);
	/* Finish; collective. */
	void (*close)(struct seg_dist *d);
};

/* One process. */
void seg_dist_alone(struct seg_dist *d);
/* Over MPI if this process was launched by it (OMPI_COMM_WORLD_SIZE > 1, PMIX_RANK or PMI_RANK),
 * else alone: MPI_Init is never called needlessly.  In lib/dist/mpi.c, linked by seg-train only;
 * in a build without MPI a launched process is refused (lib/dist/open.c). */
int seg_dist_open(struct seg_dist *d);
/* What the launcher's environment says, before and without MPI_Init: 1 if this is one of several
 * ranks.  *rank (may be NULL): its number, 0 if not launched. */
int seg_dist_launched(int *rank);

/* Collective: the blocks of nbytes of all ranks in rank order, the caller's to free.  Never NULL: without
 * memory even for this all ranks are ended. */
void *seg_gather_all(struct seg_dist *d, const void *mine, size_t nbytes);

/* Collective: how many ranks run on this host. */
int seg_dist_neighbours(struct seg_dist *d);

/* Do all ranks agree that all is well?  Each gives the result of its last piece of own work.  0 if
 * nobody failed; else every rank returns the code of the lowest rank that did, with its reason
 * (and which rank and host it was): all can then leave in order, and one of them prints. */
int seg_agree(struct seg_dist *d, int code);

/* Collective: the bits that any rank gives. */
int seg_any(struct seg_dist *d, int bits);

/* Which items of 0..n-1 rank r owns: [seg_share(n, r, size), seg_share(n, r+1, size)). */
size_t seg_share(size_t n, int r, int size);

/* Sum of vectors of n floats, one for each item of a batch of nb, in the fixed binary tree over the items
 * (pairs (0,1)(2,3).. then pairs of pairs; a missing right child passes the left through): the same bits for
 * any number of ranks, and whatever the pieces in which they are added.  Between start and sum a rank adds its
 * share (seg_share of nb, maybe nothing), in order.
 * (cluster.md section 8 "owner": partial trees go to the owner of a segment, then are gathered.) */
struct seg_tree;
int seg_tree_new(struct seg_tree **t, struct seg_dist *d, size_t n, int threads);
void seg_tree_free(struct seg_tree *t);
int seg_tree_start(struct seg_tree *t, size_t nb); /* nb >= 1 */
/* The next count own items, vectors that free() frees: they are overwritten, and some are exchanged for
 * others. */
int seg_tree_add(struct seg_tree *t, float **mine, size_t count);
/* Collective, when the share is complete: sum, n floats, receives the total on every rank. */
int seg_tree_sum(struct seg_tree *t, float *sum);

#endif
