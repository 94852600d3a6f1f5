/* Reading a stream once, from a file or a pipe: framed members one after another, or the gzip and
 * tar of other writers byte after byte. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/file.h"

enum { INPUT = 256 << 10, STEP = 1 << 20 };

struct seg_reader {
	int fd;
	char *name;
	struct part part;
	unsigned char *buf;      /* input */
	size_t at, n;
	uint64_t pos;            /* bytes taken from it */
	struct seg_member m;     /* header, END */
	struct gunzip *gz;       /* unframed */
	int ended;               /* its present gzip member is at its end */
	struct seg_buf unit;     /* the next tar entry with what describes it; may wait for its sample */
	char unit_name[NAME + 1];
	int state;               /* < 0: failed; 1: END of the last part */
};

/* ---- input ---- */

/* As many of n bytes as there are (n <= INPUT), not taken. */
static ssize_t peek(struct seg_reader *r, size_t n)
{
	if (r->n - r->at < n) {
		memmove(r->buf, r->buf + r->at, r->n - r->at);
		r->n -= r->at;
		r->at = 0;
	}
	while (r->n < n) {
		ssize_t got = read(r->fd, r->buf + r->n, INPUT - r->n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return seg_fail_sys("read");
		if (got == 0)
			break;
		r->n += (size_t)got;
	}
	return (ssize_t)(r->n - r->at < n ? r->n - r->at : n);
}

/* Take n bytes, or as many as there are. */
static ssize_t take(struct seg_reader *r, void *p, size_t n)
{
	size_t have = r->n - r->at < n ? r->n - r->at : n;
	if (have)
		memcpy(p, r->buf + r->at, have);
	r->at += have;
	ssize_t got = have < n ? seg_read_full(r->fd, (char *)p + have, n - have) : 0;
	if (got < 0)
		return got;
	r->pos += have + (size_t)got;
	return (ssize_t)(have + (size_t)got);
}

static int cut(const struct seg_reader *r)
{
	return seg_fail(SEG_ECORRUPT, "truncated: ends at byte %ju after %ju samples, without END",
	    (uintmax_t)r->pos, (uintmax_t)r->part.total);
}

/* ---- framed ---- */

/* The whole member of frame f into m; memory grows with what has come, not with what was said. */
static int take_member(struct seg_reader *r, const struct frame *f, struct seg_member *m)
{
	m->ngz = 0;
	while (m->ngz < f->ngz) {
		size_t step = m->ngz > STEP ? m->ngz : STEP;
		if (step > f->ngz - m->ngz)
			step = f->ngz - m->ngz;
		if (member_room(m, m->ngz + step) < 0)
			return SEG_ENOMEM;
		ssize_t got = take(r, m->gz + m->ngz, step);
		if (got < 0)
			return (int)got;
		m->ngz += (size_t)got;
		if ((size_t)got < step)
			return cut(r);
	}
	return member_check(m);
}

/* Header or END. */
static int take_json(struct seg_reader *r, const struct frame *f)
{
	int rc = frame_limit(f, part_json_limit(&r->part));
	if (rc == SEG_OK)
		rc = take_member(r, f, &r->m);
	return rc < 0 ? rc : part_json(&r->part, &r->m, f->flags);
}

/* The frame of the next member, not taken.  1; 0 at the end of input. */
static int next_frame(struct seg_reader *r, struct frame *f)
{
	ssize_t n = peek(r, FRAME);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return 0;
	if (n < FRAME) {
		r->pos += (size_t)n;
		return cut(r);
	}
	return frame_parse(r->buf + r->at, f) ? 1 : seg_fail(SEG_ECORRUPT, "no framed gzip member at byte %ju",
	    (uintmax_t)r->pos);
}

/* 1: a sample; 0: END was taken. */
static int framed_sample(struct seg_reader *r, struct seg_sample *s)
{
	struct frame f;
	size_t nraw = 0;
	int rc;
	while ((rc = next_frame(r, &f)) > 0) {
		if (s->nmember == 0 && f.flags == FLAG_END)
			return take_json(r, &f);
		if (f.flags != (s->nmember == 0 ? FLAG_FIRST : 0))
			break;
		struct seg_member *m = sample_member(s);
		rc = m ? frame_limit(&f, r->part.sample_limit - nraw) : SEG_ECORRUPT;
		if (rc == SEG_OK)
			rc = take_member(r, &f, m);
		if (rc < 0)
			return rc;
		s->nmember++;
		nraw += m->nraw;
		part_bytes(&r->part, m->crc, m->nraw);
	}
	if (rc < 0)
		return rc;
	if (rc == 0)
		return cut(r);
	return s->nmember ? 1 : seg_fail(SEG_ECORRUPT, "a member of kind %u where a sample should begin, at byte %ju",
	    f.flags, (uintmax_t)r->pos);
}

/* ---- unframed ---- */

/* Inflate n bytes.  Returns fewer at the end of input or, if none yet, of a gzip member that
 * ends a part. */
static ssize_t inflate_some(struct seg_reader *r, char *p, size_t n)
{
	size_t done = 0;
	while (done < n) {
		if (r->ended && !r->part.open && r->part.nparts && done == 0 && r->unit.n == 0)
			return 0;
		ssize_t in = peek(r, 1);
		if (in < 0)
			return in;
		if (in == 0)
			return r->ended ? (ssize_t)done : cut(r);
		if (r->ended) {
			gunzip_reset(r->gz);
			r->ended = 0;
		}
		size_t nin = r->n - r->at, nout = n - done < STEP ? n - done : STEP;
		int rc = gunzip_step(r->gz, r->buf + r->at, &nin, p + done, &nout);
		if (rc < 0)
			return rc;
		r->at += nin;
		r->pos += nin;
		done += nout;
		r->ended = rc;
	}
	return (ssize_t)done;
}

/* n more inflated bytes behind unit; memory grows with what has come. */
static int unit_add(struct seg_reader *r, size_t n)
{
	while (n > 0) {
		size_t step = n < STEP ? n : STEP;
		if (seg_buf_need(&r->unit, step) < 0)
			return SEG_ENOMEM;
		ssize_t got = inflate_some(r, r->unit.data + r->unit.n, step);
		if (got < 0)
			return (int)got;
		if (got == 0 && r->unit.n == 0)
			return 0;
		if ((size_t)got < step)
			return cut(r);
		r->unit.n += step;
		n -= step;
	}
	return 1;
}

/* The next tar entry with the headers that describe it.  1; 0: no more here. */
static int unit_next(struct seg_reader *r)
{
	struct tar_entry e;
	char type;
	size_t size, off = 0;
	r->unit.n = 0;
	for (;;) {
		size_t at = r->unit.n;
		int rc = unit_add(r, BLOCK);
		if (rc <= 0)
			return rc;
		if (tar_zero(r->unit.data + at)) {
			if (at > 0)
				return seg_fail(SEG_ECORRUPT, "a tar header that describes nothing");
			if (r->part.open)
				part_bytes(&r->part, crc_add(0, r->unit.data, BLOCK), BLOCK);
			r->unit.n = 0;
			continue;
		}
		if ((rc = tar_size(r->unit.data + at, &type, &size)) < 0)
			return rc;
		if (size > r->part.sample_limit || r->unit.n > r->part.sample_limit || (tar_extends(type) && size > STEP))
			return seg_fail(SEG_ECORRUPT, "an entry says %zu bytes, the limit is %zu", size, r->part.sample_limit);
		if (size && (rc = unit_add(r, tar_padded(size))) < 0)
			return rc;
		if (!tar_extends(type))
			break;
	}
	int rc = tar_next(r->unit.data, r->unit.n, &off, &e);
	if (rc == 0) /* a directory */
		e.name[0] = 0;
	strcpy(r->unit_name, e.name);
	return rc < 0 ? rc : 1;
}

/* 1: a sample, open; 0: END was taken. */
static int unframed_sample(struct seg_reader *r, struct seg_sample *s)
{
	struct seg_buf b = {s->mem[0], 0, s->cmem[0]};
	size_t nkey = 0;
	char key[NAME + 1] = "";
	int rc = SEG_OK;
	for (;;) {
		if (r->unit.n == 0 && (rc = unit_next(r)) <= 0)
			break;
		size_t n = strcspn(r->unit_name, ".");
		if (!strcmp(r->unit_name, END_NAME) || !strcmp(r->unit_name, HEADER_NAME))
			break;
		if (b.n && r->unit_name[0] && (n != nkey || memcmp(key, r->unit_name, n) != 0))
			break;
		if (r->unit_name[0]) {
			memcpy(key, r->unit_name, nkey = n);
			if (r->unit.n > r->part.sample_limit - b.n)
				rc = seg_fail(SEG_ECORRUPT, "%s: more than the limit of %zu bytes", r->unit_name, r->part.sample_limit);
			else
				rc = seg_buf_add(&b, r->unit.data, r->unit.n);
		}
		part_bytes(&r->part, crc_add(0, r->unit.data, r->unit.n), r->unit.n);
		r->unit.n = 0;
		if (rc < 0)
			break;
	}
	s->mem[0] = b.data;
	s->cmem[0] = b.cap;
	if (rc < 0)
		return rc;
	if (r->unit.n == 0)
		return cut(r);
	if (b.n) {
		rc = sample_parse(s, s->mem[0], b.n, -1);
		if (rc == SEG_OK)
			rc = sample_check(s);
		return rc < 0 ? seg_where(rc, "sample %ju (%s)", (uintmax_t)s->number, key) : 1;
	}
	if (strcmp(r->unit_name, END_NAME) != 0)
		return seg_fail(SEG_ECORRUPT, "a second header before END");
	rc = part_end(&r->part, r->unit.data, r->unit.n);
	r->unit.n = 0;
	return rc;
}

/* ---- parts ---- */

static int unframed_header(struct seg_reader *r)
{
	int rc;
	if (!r->gz && !(r->gz = gunzip_new()))
		return SEG_ENOMEM;
	while ((rc = unit_next(r)) > 0 && !r->unit_name[0])
		;
	if (rc <= 0)
		return rc;
	rc = part_header(&r->part, r->unit.data, r->unit.n, 0);
	r->unit.n = 0;
	return rc < 0 ? rc : 1;
}

/* The header of the next part.  1; 0: no more parts. */
static int next_part(struct seg_reader *r)
{
	struct frame f;
	if (r->part.nparts && !r->part.framing) { /* the rest of this gzip member first */
		int rc = unframed_header(r);
		if (rc != 0)
			return rc;
	}
	ssize_t n = peek(r, FRAME);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return r->part.nparts ? 0 : seg_fail(SEG_ECORRUPT, "empty input, not even a header");
	const unsigned char *p = r->buf + r->at;
	if (n < 2 || p[0] != 31 || p[1] != 139)
		return seg_fail(SEG_ECORRUPT, r->part.nparts ? "data after END at byte %ju" : "not a stream: no gzip member at byte %ju",
		    (uintmax_t)r->pos);
	if (n == FRAME && frame_parse(p, &f)) {
		if (f.flags != FLAG_HEADER)
			return seg_fail(SEG_ECORRUPT, "no header at byte %ju", (uintmax_t)r->pos);
		int rc = take_json(r, &f);
		return rc < 0 ? rc : 1;
	}
	r->ended = 1;
	r->unit.n = 0;
	r->part.open = 1; /* for inflate_some: a part is being begun */
	int rc = unframed_header(r);
	return rc == 0 && !r->part.nparts ? cut(r) : rc; /* an empty member may follow the last END */
}

static int where(struct seg_reader *r, int rc)
{
	if (rc < 0) {
		r->state = rc;
		seg_where(rc, "%s", r->name);
	}
	return rc;
}

int seg_read(struct seg_reader *r, struct seg_sample *s)
{
	seg_sample_clear(s);
	s->number = r->part.total;
	if (r->state)
		return r->state > 0 ? 0 : r->state;
	for (;;) {
		int rc = r->part.framing ? framed_sample(r, s) : unframed_sample(r, s);
		if (rc > 0)
			rc = part_sample(&r->part);
		else if (rc == 0 && (rc = next_part(r)) > 0)
			continue;
		else if (rc == 0)
			return r->state = 1, 0;
		return rc < 0 ? where(r, rc) : 1;
	}
}

int seg_reader_open(struct seg_reader **out, const char *path, const struct seg_limits *limits)
{
	struct seg_reader *r = seg_alloc(1, sizeof *r);
	*out = NULL;
	if (!r)
		return SEG_ENOMEM;
	int file = path && strcmp(path, "-") != 0, rc = SEG_OK;
	part_start(&r->part, limits);
	r->fd = file ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	r->name = seg_strdup(file ? path : "<stdin>");
	r->buf = seg_alloc(INPUT, 1);
	if (!r->name || !r->buf)
		rc = SEG_ENOMEM;
	else if (r->fd < 0)
		rc = seg_fail_sys("%s", path);
	else
		rc = where(r, next_part(r));
	if (rc < 0)
		seg_reader_close(r);
	else
		*out = r;
	return rc < 0 ? rc : SEG_OK;
}

struct seg_content reader_content(const struct seg_reader *r) { return r->part.all; }
const struct seg_header *seg_reader_header(const struct seg_reader *r) { return &r->part.h; }
const char *seg_reader_name(const struct seg_reader *r) { return r->name; }

void seg_reader_close(struct seg_reader *r)
{
	if (!r)
		return;
	if (r->fd > STDIN_FILENO)
		close(r->fd);
	part_free(&r->part);
	gunzip_free(r->gz);
	free(r->unit.data);
	free(r->m.gz);
	free(r->buf);
	free(r->name);
	free(r);
}
