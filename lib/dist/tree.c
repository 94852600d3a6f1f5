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

void *seg_gather_all(struct seg_dist *d, const void *mine, size_t nbytes)
{
	size_t ranks = (size_t)d->size, *n = seg_alloc(ranks, sizeof *n);
	char *all = seg_alloc(ranks, nbytes);
	if (!n || !all)
		d->abort(d, 1, "seg-train: out of memory");
	for (size_t r = 0; r < ranks; r++)
		n[r] = nbytes;
	d->gather(d, mine, all, n);
	free(n);
	return all;
}

enum { HOST = 256 };

int seg_dist_neighbours(struct seg_dist *d)
{
	char mine[HOST] = "";
	int n = 0;
	gethostname(mine, sizeof mine - 1);
	char *all = seg_gather_all(d, mine, HOST);
	for (int r = 0; r < d->size; r++)
		n += !strcmp(mine, all + (size_t)r * HOST);
	free(all);
	return n;
}

struct blame {
	int code;
	char reason[1020];
};

int seg_agree(struct seg_dist *d, int code)
{
	if (d->size == 1)
		return code;
	int *codes = seg_gather_all(d, &code, sizeof code), r = 0;
	while (r < d->size && codes[r] >= 0)
		r++;
	struct blame b = {.code = r < d->size ? codes[r] : SEG_OK};
	free(codes);
	if (b.code == SEG_OK)
		return SEG_OK;
	if (r == d->rank) {
		char host[HOST] = "?";
		gethostname(host, sizeof host - 1);
		snprintf(b.reason, sizeof b.reason, "rank %d on %s: %s", r, host, seg_reason());
	}
	int rc = d->bcast(d, &b, sizeof b, r);
	return rc < 0 ? rc : seg_fail(b.code, "%s", b.reason);
}

int seg_any(struct seg_dist *d, int bits)
{
	int *all = seg_gather_all(d, &bits, sizeof bits), any = 0;
	for (int r = 0; r < d->size; r++)
		any |= all[r];
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

/* Merge, as a carry runs, whenever two neighbours of the n nodes are siblings: the right one's value is
 * added into the left one's, floats from.. of it.  close: what is left then, whose siblings are beyond the
 * batch, too, from the right.  Nodes and values that remain take the first places; returns how many. */
static int fold(struct node *node, float **value, int n, size_t from, size_t count, int close)
{
	int depth = 0;
	for (int i = 0; i <= n; i++) {
		while (depth >= 2 && ((i == n && close) || (node[depth - 2].len == node[depth - 1].len &&
		                                 node[depth - 2].at % (2 * node[depth - 1].len) == 0))) {
			float *a = value[depth - 2], *b = value[depth - 1];
			for (size_t j = from; j < from + count; j++)
				a[j] += b[j];
			node[--depth - 1].len *= 2;
		}
		if (i < n) {
			node[depth] = node[i];
			value[depth++] = value[i];
		}
	}
	return depth;
}

struct seg_tree {
	struct seg_dist *d;
	size_t nb, n, at;          /* leaves of the batch; floats of a vector; the next own leaf */
	int threads, depth;
	struct node node[MAXNODE]; /* of what was added so far: the largest whole ones, in order */
	float *value[MAXNODE];
	float **spare;             /* vectors that are free */
	size_t nspare;
	float *room;               /* what is sent and received */
	size_t nroom;
};

int seg_tree_new(struct seg_tree **t, struct seg_dist *d, size_t n, int threads)
{
	*t = seg_alloc(1, sizeof **t);
	if (!*t)
		return SEG_ENOMEM;
	(*t)->d = d;
	(*t)->n = n;
	(*t)->threads = threads;
	return SEG_OK;
}

void seg_tree_free(struct seg_tree *t)
{
	if (!t)
		return;
	for (int i = 0; i < t->depth; i++)
		free(t->value[i]);
	for (size_t i = 0; i < t->nspare; i++)
		free(t->spare[i]);
	free(t->spare);
	free(t->room);
	free(t);
}

static int set_free(struct seg_tree *t, float *vector)
{
	float **more = seg_realloc(t->spare, t->nspare + 1, sizeof *more);
	if (!more) {
		free(vector);
		return SEG_ENOMEM;
	}
	t->spare = more;
	t->spare[t->nspare++] = vector;
	return SEG_OK;
}

int seg_tree_start(struct seg_tree *t, size_t nb)
{
	int rc = SEG_OK;
	while (t->depth > 0 && rc == SEG_OK)
		rc = set_free(t, t->value[--t->depth]);
	t->nb = nb;
	t->at = seg_share(nb, t->d->rank, t->d->size);
	return rc;
}

/* All merges of n nodes, chunk by chunk of the vectors on several threads. */
struct merge {
	const struct node *node;
	float *const *value;
	int n, close;
	size_t floats;
};
enum { CHUNK = 4096 }; /* floats added at a time: two of them stay in the cache */

static int merge_chunk(void *arg, size_t i, int t)
{
	(void)t;
	const struct merge *m = arg;
	size_t from = i * CHUNK, count = m->floats - from < CHUNK ? m->floats - from : CHUNK, n = (size_t)m->n;
	struct node *node = seg_alloc(n, sizeof *node);
	float **value = seg_alloc(n, sizeof *value);
	int rc = node && value ? SEG_OK : SEG_ENOMEM;
	if (rc == SEG_OK) {
		memcpy(node, m->node, n * sizeof *node);
		memcpy(value, m->value, n * sizeof *value);
		fold(node, value, m->n, from, count, m->close);
	}
	free(value);
	free(node);
	return rc;
}

static int merge(struct seg_tree *t, const struct node *node, float *const *value, int n, int close)
{
	struct merge m = {node, value, n, close, t->n};
	return seg_parallel(t->threads, (t->n + CHUNK - 1) / CHUNK, merge_chunk, &m);
}

static int among(float *const *list, int n, const float *v)
{
	while (n > 0 && list[n - 1] != v)
		n--;
	return n > 0;
}

int seg_tree_add(struct seg_tree *t, float **mine, size_t count)
{
	size_t n = (size_t)t->depth + count;
	int was = t->depth, rc = SEG_OK;
	struct node *node = seg_alloc(n, sizeof *node);
	float **value = seg_alloc(n, sizeof *value), *before[MAXNODE];
	if (!node || !value) {
		rc = SEG_ENOMEM;
		goto done;
	}
	memcpy(before, t->value, sizeof before);
	memcpy(node, t->node, (size_t)was * sizeof *node);
	memcpy(value, t->value, (size_t)was * sizeof *value);
	for (size_t i = 0; i < count; i++) {
		node[(size_t)was + i] = (struct node){t->at + i, 1};
		value[(size_t)was + i] = mine[i];
	}
	if ((rc = merge(t, node, value, (int)n, 0)) < 0)
		goto done;
	t->depth = fold(node, value, (int)n, 0, 0, 0);
	memcpy(t->node, node, (size_t)t->depth * sizeof *node);
	memcpy(t->value, value, (size_t)t->depth * sizeof *value);
	t->at += count;
	for (int i = 0; i < was && rc == SEG_OK; i++)
		if (!among(t->value, t->depth, before[i]))
			rc = set_free(t, before[i]);
	/* a sum that is kept in a vector of the caller's: he gets another for it */
	for (size_t i = 0; i < count; i++)
		if (among(t->value, t->depth, mine[i])) {
			mine[i] = t->nspare > 0 ? t->spare[--t->nspare] : seg_alloc_aligned(t->n, sizeof **mine);
			if (!mine[i])
				rc = SEG_ENOMEM;
		}
done:
	free(value);
	free(node);
	return rc;
}

static int room_for(struct seg_tree *t, size_t floats)
{
	if (t->room && floats <= t->nroom)
		return SEG_OK;
	free(t->room);
	t->room = seg_alloc_aligned(floats + 1, sizeof *t->room); /* never NULL, of which nothing may be sent */
	t->nroom = t->room ? floats : 0;
	return t->room ? SEG_OK : SEG_ENOMEM;
}

/* My nodes' segments to their owners, their trees, the segments back. */
static int fold_ranks(struct seg_tree *t, float *sum)
{
	struct seg_dist *d = t->d;
	size_t ranks = (size_t)d->size, have = 0, nb = t->nb, n = t->n, nown = (size_t)t->depth;
	size_t nseg = seg_share(n, d->rank + 1, d->size) - seg_share(n, d->rank, d->size);
	size_t *nsend = seg_alloc(ranks, sizeof *nsend), *nrecv = seg_alloc(ranks, sizeof *nrecv);
	size_t *nall = seg_alloc(ranks, sizeof *nall);
	struct node *all = seg_alloc(ranks * MAXNODE, sizeof *all);
	float *out = NULL, *in = NULL, **value = NULL;
	int rc = nsend && nrecv && nall && all ? SEG_OK : SEG_ENOMEM;
	for (int q = 0; rc == SEG_OK && q < d->size; q++) {
		size_t from = seg_share(n, q, d->size), count = seg_share(n, q + 1, d->size) - from;
		int k = nodes(seg_share(nb, q, d->size), seg_share(nb, q + 1, d->size), all + have);
		nsend[q] = nown * count * sizeof *out;
		nrecv[q] = (size_t)k * nseg * sizeof *in;
		nall[q] = count * sizeof *sum;
		have += (size_t)k;
	}
	size_t nout = nown > 1 ? nown * n : 0; /* of one node the segments lie one behind another already */
	value = seg_alloc(have, sizeof *value);
	if (rc == SEG_OK && (rc = value ? room_for(t, nout + have * nseg) : SEG_ENOMEM) == SEG_OK) {
		out = nown == 1 ? t->value[0] : t->room;
		in = t->room + nout;
	}
	float *p = out;
	for (int q = 0; rc == SEG_OK && nout && q < d->size; q++) {
		size_t from = seg_share(n, q, d->size), count = seg_share(n, q + 1, d->size) - from;
		for (size_t i = 0; i < nown; i++, p += count)
			memcpy(p, t->value[i] + from, count * sizeof *p);
	}
	rc = seg_agree(d, rc);
	if (rc < 0 || (rc = d->exchange(d, out, nsend, in, nrecv)) < 0)
		goto done;
	for (size_t k = 0; k < have; k++)
		value[k] = in + k * nseg;
	fold(all, value, (int)have, 0, nseg, 1);
	rc = d->gather(d, in, sum, nall);
done:
	free(value);
	free(all);
	free(nall);
	free(nrecv);
	free(nsend);
	return rc;
}

int seg_tree_sum(struct seg_tree *t, float *sum)
{
	if (t->d->size > 1)
		return fold_ranks(t, sum);
	int rc = merge(t, t->node, t->value, t->depth, 1); /* alone: the whole tree */
	if (rc == SEG_OK)
		memcpy(sum, t->value[0], t->n * sizeof *sum);
	return rc;
}
