/* Shares, agreement, and the sum whose order of additions does not depend on who adds.
 *
 * The batch is the leaves of a binary tree; node (at, len) covers leaves at .. at+len-1, len a power
 * of two, and what lies beyond the batch is missing.  A rank's share is a run of leaves: it adds up
 * the largest whole nodes inside it, cuts them into segments and sends segment q to rank q, which
 * finishes the tree over that segment; then the segments are gathered.  Every addition has the same
 * two operands on any number of ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "seg/dist.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"

size_t seg_share(size_t n, int r, int size)
{
	size_t ranks = (size_t)size;
	return n / ranks * (size_t)r + n % ranks * (size_t)r / ranks; /* n * r would overflow */
}

enum { HOST = 256 };

int seg_dist_neighbours(struct seg_dist *d)
{
	size_t ranks = (size_t)d->size, *nbytes = seg_alloc(ranks, sizeof *nbytes);
	char mine[HOST] = "", *all = seg_alloc(ranks, HOST);
	int n = 0;
	gethostname(mine, sizeof mine - 1);
	if (seg_agree(d, nbytes && all ? SEG_OK : SEG_ENOMEM) == SEG_OK) {
		for (size_t r = 0; r < ranks; r++)
			nbytes[r] = HOST;
		d->gather(d, mine, all, nbytes);
		for (size_t r = 0; r < ranks; r++)
			n += !strcmp(mine, all + r * HOST);
	}
	free(all);
	free(nbytes);
	return n > 0 ? n : 1;
}

struct blame {
	int code;
	char reason[1020];
};

int seg_agree(struct seg_dist *d, int code)
{
	if (d->size == 1)
		return code;
	size_t ranks = (size_t)d->size;
	int *codes = seg_alloc(ranks, sizeof *codes), rc = SEG_ENOMEM;
	size_t *nbytes = seg_alloc(ranks, sizeof *nbytes);
	if (!codes || !nbytes)
		goto done;
	for (size_t r = 0; r < ranks; r++)
		nbytes[r] = sizeof *codes;
	rc = d->gather(d, &code, codes, nbytes);
	if (rc < 0)
		goto done;
	int r = 0;
	while (r < d->size && codes[r] >= 0)
		r++;
	if (r == d->size)
		goto done;
	struct blame b = {.code = codes[r]};
	if (r == d->rank) {
		char host[HOST] = "?";
		gethostname(host, sizeof host - 1);
		snprintf(b.reason, sizeof b.reason, "rank %d on %s: %s", r, host, seg_reason());
	}
	rc = d->bcast(d, &b, sizeof b, r);
	if (rc == SEG_OK)
		rc = seg_fail(b.code, "%s", b.reason);
done:
	free(nbytes);
	free(codes);
	return rc;
}

int seg_any(struct seg_dist *d, int bits)
{
	size_t ranks = (size_t)d->size;
	int *all = seg_alloc(ranks, sizeof *all), any = bits;
	size_t *nbytes = seg_alloc(ranks, sizeof *nbytes);
	if (!all || !nbytes)
		d->abort(d, 1, "seg-train: out of memory");
	for (size_t r = 0; r < ranks; r++)
		nbytes[r] = sizeof *all;
	if (d->gather(d, &bits, all, nbytes) == SEG_OK)
		for (size_t r = 0; r < ranks; r++)
			any |= all[r];
	free(nbytes);
	free(all);
	return any;
}

struct node {
	size_t at, len;
};
enum { MAXNODE = 128 }; /* two for each power of two a size_t holds */

/* The largest nodes inside [lo, hi), in order. */
static int nodes(size_t lo, size_t hi, struct node *out)
{
	int n = 0;
	for (; lo < hi; lo += out[n++].len) {
		size_t len = 1;
		while (lo % (2 * len) == 0 && 2 * len <= hi - lo)
			len *= 2;
		out[n] = (struct node){lo, len};
	}
	return n;
}

/* Add the tree over the values whose nodes are given in order, into the first of them.  Nodes are
 * merged as a carry runs: whenever the two last are siblings, or no more will come. */
static float *fold(float **value, const struct node *node, int n, size_t from, size_t count)
{
	struct node top[MAXNODE];
	float *sum[MAXNODE];
	int depth = 0;
	for (int i = 0; i <= n; i++) {
		/* at the end what is left closes from the right: its missing siblings pass it through */
		while (depth >= 2 && (i == n || (top[depth - 2].len == top[depth - 1].len &&
		                                 top[depth - 2].at % (2 * top[depth - 1].len) == 0))) {
			float *a = sum[depth - 2], *b = sum[depth - 1];
			for (size_t j = from; j < from + count; j++)
				a[j] += b[j];
			top[--depth - 1].len *= 2;
		}
		if (i < n) {
			top[depth] = node[i];
			sum[depth++] = value[i];
		}
	}
	return sum[0];
}

struct local {
	float **mine;
	const struct node *leaf; /* of each of mine */
	const struct node *node;
	int nnode;
	size_t base, n;          /* first leaf of mine; floats in a vector */
};
enum { CHUNK = 4096 };       /* floats added at a time: two of them stay in the cache */

static int fold_chunk(void *arg, size_t i, int t)
{
	(void)t;
	const struct local *l = arg;
	size_t from = i * CHUNK, count = l->n - from < CHUNK ? l->n - from : CHUNK;
	for (int k = 0; k < l->nnode; k++) {
		size_t at = l->node[k].at - l->base;
		fold(l->mine + at, l->leaf + at, (int)l->node[k].len, from, count);
	}
	return SEG_OK;
}

/* My nodes' segments to their owners, their trees, the segments back.  own: nown nodes, each summed
 * in the vector of its first leaf. */
static int fold_ranks(struct seg_dist *d, float **mine, size_t nb, size_t n, float *sum,
    const struct node *own, int nown)
{
	size_t ranks = (size_t)d->size, have = 0, lo = seg_share(nb, d->rank, d->size);
	size_t nseg = seg_share(n, d->rank + 1, d->size) - seg_share(n, d->rank, d->size);
	size_t *nsend = seg_alloc(ranks, sizeof *nsend), *nrecv = seg_alloc(ranks, sizeof *nrecv);
	size_t *nall = seg_alloc(ranks, sizeof *nall);
	struct node *all = seg_alloc(ranks * MAXNODE, sizeof *all);
	float *out = seg_alloc((size_t)nown * n, sizeof *out), *in = NULL, **value = NULL, *p = out;
	int rc = nsend && nrecv && nall && all && out ? SEG_OK : SEG_ENOMEM;
	for (int q = 0; rc == SEG_OK && q < d->size; q++) {
		size_t from = seg_share(n, q, d->size), count = seg_share(n, q + 1, d->size) - from;
		int k = nodes(seg_share(nb, q, d->size), seg_share(nb, q + 1, d->size), all + have);
		nsend[q] = (size_t)nown * count * sizeof *out;
		nrecv[q] = (size_t)k * nseg * sizeof *in;
		nall[q] = count * sizeof *sum;
		have += (size_t)k;
		for (int i = 0; i < nown; i++, p += count)
			memcpy(p, mine[own[i].at - lo] + from, count * sizeof *p);
	}
	in = seg_alloc(have * nseg, sizeof *in);
	value = seg_alloc(have, sizeof *value);
	rc = seg_agree(d, in && value ? rc : SEG_ENOMEM);
	if (rc < 0 || (rc = d->exchange(d, out, nsend, in, nrecv)) < 0)
		goto done;
	for (size_t k = 0; k < have; k++)
		value[k] = in + k * nseg;
	fold(value, all, (int)have, 0, nseg);
	rc = d->gather(d, in, sum, nall);
done:
	free(value);
	free(in);
	free(out);
	free(all);
	free(nall);
	free(nrecv);
	free(nsend);
	return rc;
}

int seg_tree_sum(struct seg_dist *d, float **mine, size_t nb, size_t n, float *sum, int threads)
{
	size_t lo = seg_share(nb, d->rank, d->size), hi = seg_share(nb, d->rank + 1, d->size);
	struct node own[MAXNODE] = {{0, nb}}, *leaf = seg_alloc(hi - lo, sizeof *leaf);
	if (!leaf)
		return SEG_ENOMEM;
	for (size_t i = lo; i < hi; i++)
		leaf[i - lo] = (struct node){i, 1};
	int nown = d->size > 1 ? nodes(lo, hi, own) : 1; /* alone: the whole tree at once */
	struct local l = {mine, leaf, own, nown, lo, n};
	int rc = seg_parallel(threads, (n + CHUNK - 1) / CHUNK, fold_chunk, &l);
	free(leaf);
	if (rc < 0)
		return rc;
	if (d->size > 1)
		return fold_ranks(d, mine, nb, n, sum, own, nown);
	memcpy(sum, mine[0], n * sizeof *sum);
	return SEG_OK;
}
