/* Train and validation sides that never share a source image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/hash.h"
#include "seg/parallel.h"

struct mark {
	unsigned char source[32]; /* salted hash */
	unsigned char key[32];
};

struct look {
	const struct seg_index *x;
	uint64_t seed;
	struct mark *mark;
	struct seg_sample *s; /* one per thread */
};

/* Where the digits at the end of key[n] begin. */
static size_t digits(const char *key, size_t n)
{
	while (n > 0 && key[n - 1] >= '0' && key[n - 1] <= '9')
		n--;
	return n;
}

/* Length of KEY without _pN, _yNxN, _eN, _cN at its end. */
static size_t bare(const char *key)
{
	for (size_t n = strlen(key);;) {
		const char *kinds = "pec";
		size_t at = digits(key, n), number = n - at;
		if (number && at > 0 && key[at - 1] == 'x') {
			size_t x = at - 1;
			kinds = "y";
			at = digits(key, x);
			number = x - at;
		}
		if (!number || at < 3 || key[at - 2] != '_' || !strchr(kinds, key[at - 1]))
			return n;
		n = at - 2;
	}
}

static void digest(unsigned char out[32], uint64_t seed, const char *name, size_t n)
{
	struct seg_sha256 h;
	char salt[32];
	seg_sha256_start(&h);
	seg_sha256_add(&h, salt, (size_t)sprintf(salt, "%ju ", (uintmax_t)seed));
	seg_sha256_add(&h, name, n);
	seg_sha256_end(&h, out);
}

static int look(void *arg, size_t i, int t)
{
	struct look *l = arg;
	struct seg_sample *s = &l->s[t];
	int rc = seg_index_read(l->x, i, s);
	if (rc == SEG_OK)
		rc = seg_sample_open(s);
	struct seg_json *j = rc == SEG_OK ? seg_sample_json(s) : NULL;
	if (!j)
		return rc < 0 ? rc : SEG_ECORRUPT;
	const char *source = seg_json_string(seg_json_get(j, "source"), NULL);
	digest(l->mark[i].source, l->seed, source ? source : s->key, source ? strlen(source) : bare(s->key));
	digest(l->mark[i].key, 0, s->key, strlen(s->key));
	seg_json_free(j);
	return SEG_OK;
}

static int by_hash(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

/* The distinct hashes of all sources, sorted; *n of them. */
static unsigned char *sources(const struct mark *mark, size_t count, size_t *n)
{
	unsigned char *h = seg_alloc(count, 32);
	if (!h)
		return NULL;
	for (size_t i = 0; i < count; i++)
		memcpy(h + 32 * i, mark[i].source, 32);
	qsort(h, count, 32, by_hash);
	*n = 0;
	for (size_t i = 0; i < count; i++)
		if (*n == 0 || memcmp(h + 32 * (*n - 1), h + 32 * i, 32) != 0)
			memmove(h + 32 * (*n)++, h + 32 * i, 32);
	return h;
}

/* Leaving out what lies between must not bring equal keys together. */
static int apart(const struct mark *mark, const unsigned char *held, size_t count)
{
	const struct mark *last[2] = {NULL, NULL};
	for (size_t i = 0; i < count; i++) {
		const struct mark **l = &last[held[i]];
		if (*l && !memcmp((*l)->key, mark[i].key, 32))
			return seg_fail(SEG_EDATA, "sample %zu would follow sample %td of the same key; keys must differ", i,
			    *l - mark);
		*l = &mark[i];
	}
	return SEG_OK;
}

int seg_hold_out(const struct seg_index *x, double share, uint64_t seed, int threads, unsigned char *held,
    size_t *nsource, size_t *nheld)
{
	size_t count = seg_index_count(x);
	struct look l = {x, seed, seg_alloc(count, sizeof *l.mark), seg_alloc((size_t)threads, sizeof *l.s)};
	unsigned char *h = NULL;
	int rc = l.mark && l.s ? seg_parallel(threads, count, look, &l) : SEG_ENOMEM;
	if (rc == SEG_OK && !(h = sources(l.mark, count, nsource)))
		rc = SEG_ENOMEM;
	if (rc == SEG_OK) {
		*nheld = (size_t)(share * (double)*nsource + 0.5);
		if (*nheld == 0 || *nheld >= *nsource)
			rc = seg_fail(SEG_EDATA, "%g of %zu source images is %zu: one side would be empty; give more images or another share",
			    share, *nsource, *nheld);
	}
	for (size_t i = 0; rc == SEG_OK && i < count; i++)
		held[i] = memcmp(l.mark[i].source, h + 32 * (*nheld - 1), 32) <= 0;
	if (rc == SEG_OK)
		rc = apart(l.mark, held, count);
	for (int t = 0; l.s && t < threads; t++)
		seg_sample_free(&l.s[t]);
	free(l.s);
	free(l.mark);
	free(h);
	return rc;
}
