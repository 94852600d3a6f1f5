/* Fingerprints: the same for the same content, whoever packed it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/hash.h"

int seg_print_start(struct seg_print *p, const struct seg_header *h)
{
	char *text = header_text(h, 0);
	p->state = text ? seg_alloc(1, sizeof *p->state) : NULL;
	if (p->state) {
		seg_sha256_start(p->state);
		seg_sha256_add(p->state, text, strlen(text) + 1);
	}
	free(text);
	return p->state ? SEG_OK : SEG_ENOMEM;
}

/* NAME NUL, what it is, NUL, its bytes: canonical text for json. */
static void add_entry(struct seg_sha256 *h, const struct seg_sample *s, const struct seg_entry *e)
{
	char what[128];
	int n = 0;
	struct seg_json *j = strcmp(e->suffix, "json") ? NULL : seg_sample_json(s);
	char *text = j ? seg_json_text(j) : NULL;
	size_t nbytes = text ? strlen(text) : e->is_tensor ? seg_tensor_nbytes(&e->t) : e->nbytes;
	seg_sha256_add(h, s->key, strlen(s->key));
	seg_sha256_add(h, ".", 1);
	seg_sha256_add(h, e->suffix, strlen(e->suffix) + 1);
	if (e->is_tensor) {
		n = sprintf(what, "%s", seg_dtype_text(e->t.dtype));
		for (int i = 0; i < e->t.ndim; i++)
			n += sprintf(what + n, " %zu", e->t.dim[i]);
	} else {
		n = sprintf(what, "bytes %zu", nbytes);
	}
	seg_sha256_add(h, what, (size_t)n + 1);
	seg_sha256_add(h, text ? text : e->is_tensor ? e->t.data : e->bytes, nbytes);
	free(text);
	seg_json_free(j);
}

/* In order of suffix: in which member an entry lies is not content. */
void seg_print_sample(const struct seg_sample *s, unsigned char digest[32])
{
	struct seg_sha256 h;
	const struct seg_entry *last = NULL;
	seg_sha256_start(&h);
	for (int i = 0; i < s->nentry; i++) {
		const struct seg_entry *least = NULL;
		for (int k = 0; k < s->nentry; k++) {
			const struct seg_entry *e = &s->entry[k];
			if ((!last || strcmp(e->suffix, last->suffix) > 0) && (!least || strcmp(e->suffix, least->suffix) < 0))
				least = e;
		}
		add_entry(&h, s, least);
		last = least;
	}
	seg_sha256_end(&h, digest);
}

void seg_print_add(struct seg_print *p, const unsigned char digest[32])
{
	seg_sha256_add(p->state, digest, 32);
}

void seg_print_end(struct seg_print *p, char hex[65])
{
	unsigned char d[32];
	seg_sha256_end(p->state, d);
	seg_hex(d, 32, hex);
	free(p->state);
	p->state = NULL;
}
