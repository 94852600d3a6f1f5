/* One process: every collective is a copy, or nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/dist.h"
#include "seg/err.h"

static int copy(struct seg_dist *d, const void *from, void *to, const size_t *nbytes)
{
	(void)d;
	if (from != to && nbytes[0])
		memcpy(to, from, nbytes[0]);
	return SEG_OK;
}

static int bcast(struct seg_dist *d, void *p, size_t nbytes, int root)
{
	(void)d, (void)p, (void)nbytes, (void)root;
	return SEG_OK;
}

static int exchange(struct seg_dist *d, const void *send, const size_t *nsend, void *recv,
    const size_t *nrecv)
{
	(void)nrecv;
	return copy(d, send, recv, nsend);
}

static int barrier(struct seg_dist *d)
{
	(void)d;
	return SEG_OK;
}

static void end(struct seg_dist *d, int status, const char *message)
{
	(void)d;
	fprintf(stderr, "%s\n", message);
	exit(status);
}

static void nothing(struct seg_dist *d)
{
	(void)d;
}

void seg_dist_alone(struct seg_dist *d)
{
	*d = (struct seg_dist){.rank = 0, .size = 1, .gather = copy, .bcast = bcast, .scatter = copy,
	                       .exchange = exchange, .barrier = barrier, .abort = end, .close = nothing};
}

int seg_dist_launched(int *rank)
{
	/* Open MPI's mpirun; PMIx and PMI under srun and MPICH.  SLURM_PROCID is no sign: a batch
	 * script has it without any launcher. */
	static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
	const char *r = NULL, *size = getenv("OMPI_COMM_WORLD_SIZE");
	for (size_t i = 0; !r && i < sizeof names / sizeof *names; i++)
		r = getenv(names[i]);
	int launched = size ? atoi(size) > 1 : r != NULL;
	if (rank)
		*rank = launched && r ? atoi(r) : 0;
	return launched;
}
