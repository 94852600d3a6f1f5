/* What holds between a header and its END, whoever reads it: a pipe, a file by index, a tar of
 * other people. */
#include <stdlib.h>
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"

void part_start(struct part *p, const struct seg_limits *l)
{
	struct seg_limits none = {0};
	if (!l)
		l = &none;
	*p = (struct part){.h.ignore = SEG_NOIGNORE};
	p->header_limit = l->header_bytes;
	p->sample_limit = l->sample_bytes ? l->sample_bytes : (size_t)4 << 30;
	p->max_samples = l->samples ? l->samples : (size_t)1 << 31;
}

void part_free(struct part *p)
{
	seg_header_free(&p->h);
}

/* The only entry of raw, which must have this name. */
static int only(char *raw, size_t n, const char *name, struct tar_entry *e)
{
	size_t off = 0;
	struct tar_entry more;
	int rc = tar_next(raw, n, &off, e);
	if (rc < 0)
		return rc;
	if (rc == 0 || strcmp(e->name, name) != 0)
		return seg_fail(SEG_ECORRUPT, "expected %s, found '%s'", name, rc ? e->name : "nothing");
	rc = tar_next(raw, n, &off, &more);
	return rc < 0 ? rc : rc ? seg_fail(SEG_ECORRUPT, "%s is followed by '%s'", name, more.name) : SEG_OK;
}

int part_header(struct part *p, char *raw, size_t n, int framed)
{
	struct tar_entry e;
	struct seg_header h;
	int framing, rc = only(raw, n, HEADER_NAME, &e);
	if (rc < 0 || (rc = header_parse(e.data, e.n, &h, &framing)) < 0)
		return rc;
	size_t limit = p->header_limit ? p->header_limit : h.kind == SEG_STREAM ? HEADER_BYTES : MODEL_HEADER_BYTES;
	if (framing != framed)
		rc = seg_fail(SEG_ECORRUPT, framing ? "header: it promises framing, but its gzip member has none"
		    : "header: its gzip member is framed, but it does not say \"framing\":1");
	else if (e.n > limit)
		rc = seg_fail(SEG_ECORRUPT, "header: %zu bytes, the limit is %zu", e.n, limit);
	else if (p->have && (rc = header_agree(&p->h, &h)) == SEG_OK)
		rc = header_merge(&p->h, h.provenance);
	if (rc < 0 || p->have) {
		seg_header_free(&h);
	} else {
		p->h = h;
		p->have = 1;
	}
	p->open = 1;
	p->framing = framed;
	p->nparts++;
	p->count = 0;
	p->crc = 0;
	return rc;
}

int part_end(struct part *p, char *raw, size_t n)
{
	struct tar_entry e;
	int rc = only(raw, n, END_NAME, &e);
	if (rc < 0)
		return rc;
	struct seg_json *j = seg_json_parse(e.data, e.n);
	if (!j)
		return seg_where(SEG_ECORRUPT, "END");
	const struct seg_json *crc = seg_json_get(j, "crc32");
	long long count = seg_json_integer(seg_json_get(j, "samples"), -1);
	if (count != (long long)p->count)
		rc = seg_fail(SEG_ECORRUPT, "END says %lld samples, %ju were there", count, (uintmax_t)p->count);
	else if ((crc || p->framing) && seg_json_integer(crc, -1) != (long long)p->crc)
		rc = seg_fail(SEG_ECORRUPT, "END says CRC-32 %lld, the data have %u", seg_json_integer(crc, -1), p->crc);
	else
		rc = header_merge(&p->h, seg_json_get(j, "provenance"));
	seg_json_free(j);
	p->open = 0;
	return rc;
}

size_t part_json_limit(const struct part *p)
{
	return (p->header_limit > MODEL_HEADER_BYTES ? p->header_limit : MODEL_HEADER_BYTES) + 2 * BLOCK;
}

int part_json(struct part *p, const struct seg_member *m, uint32_t flags)
{
	char *raw = seg_alloc(m->nraw, 1);
	int rc = raw ? member_inflate(m, raw) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = flags == FLAG_END ? part_end(p, raw, m->nraw) : part_header(p, raw, m->nraw, 1);
	free(raw);
	return rc;
}

void part_bytes(struct part *p, uint32_t crc, size_t n)
{
	p->crc = crc_join(p->crc, crc, n);
	part_join(p, (struct seg_content){0, n, crc});
}

void part_join(struct part *p, struct seg_content more)
{
	p->all.crc = crc_join(p->all.crc, more.crc, more.nbytes);
	p->all.nbytes += more.nbytes;
	p->all.samples += more.samples;
}

static int too_many(const struct part *p)
{
	return seg_fail(SEG_ECORRUPT, "more than %zu samples", p->max_samples);
}

int part_samples(struct part *p, struct seg_content all)
{
	p->count = all.samples;
	p->crc = all.crc;
	part_join(p, all);
	p->total += all.samples;
	return p->total > p->max_samples ? too_many(p) : SEG_OK;
}

int part_sample(struct part *p)
{
	p->count++;
	p->all.samples++;
	return p->total++ >= p->max_samples ? too_many(p) : SEG_OK;
}

void seg_content_add(struct seg_content *c, const struct seg_sample *s)
{
	c->samples++;
	for (int i = 0; i < s->nmember; i++) {
		c->crc = crc_join(c->crc, s->member[i].crc, s->member[i].nraw);
		c->nbytes += s->member[i].nraw;
	}
}
