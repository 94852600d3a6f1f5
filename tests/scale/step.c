/* One training step as the ranks see it, for SimGrid's SMPI: the project's own lib/dist between
 * simulated hosts, called in the order of lib/train (feed_next, step_loss, step_update; one pass, fused)
 * and with its sizes.  What a rank does by itself is a simulated sleep, given on the command line, so
 * that nothing depends on the machine that simulates.
 *
 * usage: step BATCH PARAMETERS THREADS MS-PER-SAMPLE SPEEDUP-SHARED US-PER-MESSAGE GB/S-OF-MEMORY
 * prints: RANKS BATCH STEP-MS COMMUNICATION-MS (all but the computing of the largest share) */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "seg/dist.h"
#include "seg/err.h"
#include "seg/mem.h"

/* Doubles per sample of a cross-entropy's pass, and of what comes fused with the gradient. */
enum { VALUE = 4, FUSED = 2 };

static struct seg_dist real;
static double us_per_message, bytes_per_us;

/* Sending a message and receiving one takes the processor's time.  (SMPI's own smpi/ois hangs with three
 * ranks.) */
static void handle(int messages)
{
	usleep((unsigned)(us_per_message * messages));
}

/* As many messages as lib/dist/mpi.c has rounds. */
static int gather(struct seg_dist *d, const void *mine, void *all, const size_t *nbytes)
{
	int rounds = 0;
	while (1 << rounds < d->size)
		rounds++;
	handle(rounds);
	return real.gather(d, mine, all, nbytes);
}

static void pass_memory(const struct seg_dist *d, const size_t *nbytes)
{
	size_t sum = 0;
	for (int r = 0; r < d->size; r++)
		sum += nbytes[r];
	usleep((unsigned)((double)sum / bytes_per_us));
}

/* Around the exchange seg_tree_sum cuts its nodes into segments, and adds up those of all ranks. */
static int exchange(struct seg_dist *d, const void *send, const size_t *nsend, void *recv, const size_t *nrecv)
{
	pass_memory(d, nsend);
	handle(d->size - 1);
	int rc = real.exchange(d, send, nsend, recv, nrecv);
	pass_memory(d, nrecv);
	return rc;
}

static void must(int rc)
{
	if (rc < 0) {
		fprintf(stderr, "step: %s\n", seg_reason());
		exit(1);
	}
}

/* As each() of lib/train/step.c: all ranks' partials, n doubles of each sample. */
static void partials(struct seg_dist *d, size_t nb, size_t n, const double *mine, double *all, size_t *nbytes)
{
	must(seg_agree(d, SEG_OK));
	for (int r = 0; r < d->size; r++)
		nbytes[r] = n * sizeof *all * (seg_share(nb, r + 1, d->size) - seg_share(nb, r, d->size));
	must(d->gather(d, mine, all, nbytes));
}

/* The moment the last rank is here. */
static double last(struct seg_dist *d, size_t *nbytes)
{
	double now = MPI_Wtime(), max = now, *all = seg_alloc((size_t)d->size, sizeof *all);
	for (int r = 0; r < d->size; r++)
		nbytes[r] = sizeof *all;
	must(real.gather(d, &now, all, nbytes));
	for (int r = 0; r < d->size; r++)
		max = all[r] > max ? all[r] : max;
	free(all);
	return max;
}

/* A sample is one thread's, threads * us per sample of it; fewer samples than threads are shared. */
static double computing(size_t b, size_t threads, double us_per_sample, double shared)
{
	return us_per_sample * (double)threads * (b < threads ? 1 / shared : (double)((b + threads - 1) / threads));
}

int main(int argc, char **argv)
{
	struct seg_dist d;
	if (argc != 8)
		return 2;
	size_t nb = strtoul(argv[1], NULL, 10), n = strtoul(argv[2], NULL, 10), threads = strtoul(argv[3], NULL, 10);
	us_per_message = atof(argv[6]);
	bytes_per_us = 1e3 * atof(argv[7]);
	must(seg_dist_open(&d));
	real = d;
	d.gather = gather;
	d.exchange = exchange;
	size_t b = seg_share(nb, d.rank + 1, d.size) - seg_share(nb, d.rank, d.size), ranks = (size_t)d.size;
	double us_per_sample = 1e3 * atof(argv[4]), shared = atof(argv[5]);
	double us = computing(b, threads, us_per_sample, shared);
	/* what the gradients add up to is of no interest here; adding up the own ones is part of the time per sample */
	float *grad = seg_alloc_aligned(n, sizeof *grad);
	struct seg_tree *tree;
	must(seg_tree_new(&tree, &d, n, 1));
	float *sum = SMPI_SHARED_MALLOC(n * sizeof *sum);
	double *mine = seg_alloc(b * VALUE, sizeof *mine), *all = seg_alloc(nb * VALUE, sizeof *all);
	size_t *nbytes = seg_alloc((size_t)d.size, sizeof *nbytes);
	must(seg_tree_start(tree, nb));
	for (size_t i = 0; i < b; i++)
		must(seg_tree_add(tree, &grad, 1));

	must(d.barrier(&d));
	double start = MPI_Wtime();
	must(seg_agree(&d, SEG_OK));   /* feed_next */
	usleep((unsigned)(us / 3));    /* forward */
	partials(&d, nb, VALUE, mine, all, nbytes);
	must(seg_agree(&d, SEG_OK));   /* step_loss, combined */
	usleep((unsigned)(us - us / 3));
	partials(&d, nb, FUSED, mine, all, nbytes);
	must(seg_agree(&d, SEG_OK));   /* backward, combined */
	must(seg_tree_sum(tree, sum));
	double ms = 1e3 * (last(&d, nbytes) - start);
	if (d.rank == 0)
		printf("%d %zu %.3f %.3f\n", d.size, nb, ms, ms - computing((nb + ranks - 1) / ranks, threads, us_per_sample, shared) / 1e3);
	d.close(&d);
	return 0;
}
