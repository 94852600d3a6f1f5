/* Lovasz extension of the Jaccard loss (Berman, Triki, Blaschko, CVPR 2018, algorithm 1): errors are
 * sorted, and each gets as its coefficient what the Jaccard loss grows by when it joins the larger ones. */
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "lib/loss/state.h"

struct item {
	uint64_t key; /* ascending as the errors descend */
	size_t at;
};

static uint64_t key(double e)
{
	uint64_t u;
	e += 0; /* -0 is 0 */
	memcpy(&u, &e, sizeof u);
	return u >> 63 ? u : ~u & ~((uint64_t)1 << 63);
}

/* By bytes, from the lowest: stable, so equal errors stay in their order.  Bytes that all keys share
 * are skipped.  Returns where the result lies, a or b. */
static struct item *sort(struct item *a, struct item *b, size_t n)
{
	for (int shift = 0; shift < 64; shift += 8) {
		size_t count[256] = {0}, sum = 0;
		for (size_t i = 0; i < n; i++)
			count[a[i].key >> shift & 255]++;
		if (count[a[0].key >> shift & 255] == n)
			continue;
		for (int d = 0; d < 256; d++) {
			size_t c = count[d];
			count[d] = sum;
			sum += c;
		}
		for (size_t i = 0; i < n; i++)
			b[count[a[i].key >> shift & 255]++] = a[i];
		struct item *swap = a;
		a = b;
		b = swap;
	}
	return a;
}

int seg_lovasz(double *e, const double *t, size_t n)
{
	struct item *a = seg_alloc(2 * n, sizeof *a);
	double sum = 0, found = 0, other = 0, was = 0;
	if (!a)
		return SEG_ENOMEM;
	for (size_t i = 0; i < n; i++) {
		a[i] = (struct item){key(e[i]), i};
		sum += t[i];
	}
	const struct item *s = sort(a, a + n, n);
	for (size_t i = 0; i < n; i++) {
		size_t j = s[i].at;
		found += t[j];
		other += 1 - t[j];
		double jaccard = 1 - (sum - found) / (sum + other);
		e[j] = jaccard - was;
		was = jaccard;
	}
	free(a);
	return SEG_OK;
}
