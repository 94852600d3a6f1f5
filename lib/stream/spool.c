/* Packed samples by number: in memory, in a file without a name, or where an index found them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/file.h"

int seg_spool_new(struct seg_spool **p, size_t cache)
{
	*p = seg_alloc(1, sizeof **p);
	if (!*p)
		return SEG_ENOMEM;
	(*p)->cache = cache;
	(*p)->fd = -1;
	return SEG_OK;
}

void seg_spool_free(struct seg_spool *p)
{
	if (!p)
		return;
	if (p->fd >= 0)
		close(p->fd);
	free(p->mem.data);
	free(p->place);
	free(p);
}

size_t seg_spool_count(const struct seg_spool *p) { return p->count; }

int spool_place(struct seg_spool *p, uint64_t off, uint64_t number)
{
	if (p->count == p->room) {
		size_t room = p->room ? 2 * p->room : 256;
		struct place *more = seg_realloc(p->place, room, sizeof *more);
		if (!more)
			return SEG_ENOMEM;
		p->place = more;
		p->room = room;
	}
	p->place[p->count++] = (struct place){off, 0, number};
	return SEG_OK;
}

static int nameless(struct seg_spool *p)
{
	const char *dir = getenv("TMPDIR");
	char *path = seg_format("%s/seg.XXXXXX", dir && *dir ? dir : "/tmp");
	if (!path)
		return SEG_ENOMEM;
	p->fd = mkostemp(path, O_CLOEXEC);
	int rc = p->fd < 0 || unlink(path) < 0
	    ? seg_fail_sys("%s: cannot put samples aside (set TMPDIR or a larger --cache)", path) : SEG_OK;
	free(path);
	return rc;
}

static int append(struct seg_spool *p, const struct seg_member *m)
{
	int rc = SEG_OK;
	if (p->fd < 0 && m->ngz > p->cache - p->mem.n)
		rc = nameless(p);
	if (rc == SEG_OK && p->fd < 0)
		rc = seg_buf_add(&p->mem, m->gz, m->ngz);
	else if (rc == SEG_OK && (rc = seg_write_full(p->fd, m->gz, m->ngz)) < 0)
		seg_where(rc, "putting samples aside in $TMPDIR");
	p->nbytes += m->ngz;
	p->place[p->count - 1].n += m->ngz;
	return rc;
}

int seg_spool_add(struct seg_spool *p, struct seg_sample *s)
{
	int rc = seg_sample_pack(s, -1);
	if (rc == SEG_OK)
		rc = spool_place(p, p->nbytes, s->number);
	for (int i = 0; rc == SEG_OK && i < s->nmember; i++)
		rc = append(p, &s->member[i]);
	return rc;
}

int spool_fetch(const struct seg_spool *p, uint64_t off, void *to, size_t n)
{
	size_t done = 0;
	if (n > p->nbytes || off > p->nbytes - n)
		return seg_fail(SEG_ECORRUPT, "truncated: ends at byte %ju after %zu samples, without END",
		    (uintmax_t)p->nbytes, p->count);
	if (off < p->mem.n) /* a member is never half in memory */
		memcpy(to, p->mem.data + off, done = n);
	while (done < n) {
		ssize_t got = pread(p->fd, (char *)to + done, n - done, (off_t)(off - p->mem.n + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return seg_fail_sys("read");
		if (got == 0)
			return seg_fail(SEG_ECORRUPT, "has become shorter while it was read");
		done += (size_t)got;
	}
	return SEG_OK;
}

int spool_member(const struct seg_spool *p, uint64_t off, size_t n, struct seg_member *m)
{
	int rc = member_room(m, n);
	m->ngz = n;
	if (rc == SEG_OK)
		rc = spool_fetch(p, off, m->gz, n);
	return rc < 0 ? rc : member_check(m);
}

int seg_spool_read(const struct seg_spool *p, size_t i, struct seg_sample *s)
{
	const struct place *at = &p->place[i];
	int rc = SEG_OK;
	seg_sample_clear(s);
	s->number = at->number;
	for (uint64_t done = 0; rc == SEG_OK && done < at->n;) {
		unsigned char head[FRAME];
		struct frame f;
		struct seg_member *m = sample_member(s);
		if (!m)
			return SEG_ECORRUPT;
		if ((rc = spool_fetch(p, at->off + done, head, FRAME)) < 0)
			break;
		if (!frame_parse(head, &f) || f.ngz > at->n - done)
			return seg_fail(SEG_ECORRUPT, "has changed while it was read");
		rc = spool_member(p, at->off + done, f.ngz, m);
		s->nmember++;
		done += f.ngz;
	}
	return rc;
}
