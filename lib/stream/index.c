/* Random access.  A framed file is hopped through: of each member only its 40 first and 8 last
 * bytes are read.  What cannot be hopped (a pipe, a file without framing) is read once and
 * spooled. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/stream/inner.h"
#include "seg/err.h"

struct seg_index {
	char *name;
	struct part part;
	struct seg_spool *at; /* the file itself, or what was spooled */
};

static int hop_json(struct seg_index *x, uint64_t off, const struct frame *f)
{
	struct seg_member m = {0};
	int rc = frame_limit(f, part_json_limit(&x->part));
	if (rc == SEG_OK)
		rc = spool_member(x->at, off, f->ngz, &m);
	if (rc == SEG_OK)
		rc = part_json(&x->part, &m, f->flags);
	free(m.gz);
	return rc;
}

static int hop_member(struct seg_index *x, uint64_t off, const struct frame *f, size_t *nraw)
{
	unsigned char crc[4];
	int rc = SEG_OK;
	if (f->flags == FLAG_FIRST) {
		*nraw = 0;
		if ((rc = part_sample(&x->part)) == SEG_OK)
			rc = spool_place(x->at, off, x->at->count);
	}
	if (rc == SEG_OK)
		rc = frame_limit(f, x->part.sample_limit - *nraw);
	if (rc == SEG_OK)
		rc = spool_fetch(x->at, off + f->ngz - TRAILER, crc, 4);
	if (rc < 0)
		return rc;
	part_bytes(&x->part, crc[0] | (uint32_t)crc[1] << 8 | (uint32_t)crc[2] << 16 | (uint32_t)crc[3] << 24, f->nraw);
	x->at->place[x->at->count - 1].n += f->ngz;
	*nraw += f->nraw;
	return SEG_OK;
}

static int hop(struct seg_index *x)
{
	uint64_t off = 0;
	size_t nraw = 0;
	int rc = SEG_OK, inside = 0; /* a sample has begun */
	while (rc == SEG_OK && (off < x->at->nbytes || x->part.open)) {
		unsigned char p[FRAME];
		struct frame f;
		if ((rc = spool_fetch(x->at, off, p, FRAME)) < 0)
			break;
		if (!frame_parse(p, &f))
			return seg_fail(SEG_ECORRUPT, "no framed gzip member at byte %ju", (uintmax_t)off);
		if (f.flags == (x->part.open ? FLAG_END : FLAG_HEADER))
			rc = hop_json(x, off, &f);
		else if (x->part.open && (f.flags == FLAG_FIRST || (f.flags == 0 && inside)))
			rc = hop_member(x, off, &f, &nraw);
		else
			rc = seg_fail(SEG_ECORRUPT, "a member of kind %u out of place at byte %ju", f.flags, (uintmax_t)off);
		inside = f.flags <= FLAG_FIRST;
		off += f.ngz;
	}
	return rc;
}

static int spool(struct seg_index *x, const char *path, const struct seg_limits *limits)
{
	struct seg_reader *r = NULL;
	struct seg_sample s = {0};
	int rc = seg_reader_open(&r, path, limits);
	while (rc == SEG_OK && (rc = seg_read(r, &s)) > 0)
		rc = seg_spool_add(x->at, &s);
	if (rc == SEG_OK)
		rc = seg_header_copy(&x->part.h, seg_reader_header(r));
	if (r)
		x->part.all = reader_content(r);
	seg_sample_free(&s);
	seg_reader_close(r);
	return rc;
}

/* Can fd be hopped?  Then it is x's. */
static int hoppable(struct seg_index *x, int fd)
{
	unsigned char p[FRAME];
	struct frame f;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_CUR) != 0 ||
	    pread(fd, p, FRAME, 0) != FRAME || !frame_parse(p, &f))
		return 0;
	x->at->fd = fd;
	x->at->nbytes = (uint64_t)st.st_size;
	return 1;
}

static int open_file(struct seg_index *x, const char *path, const struct seg_limits *limits)
{
	struct stat st;
	int file = strcmp(path, "-") != 0, fd = -1;
	int rc = seg_spool_new(&x->at, limits && limits->cache_bytes ? limits->cache_bytes : (size_t)256 << 20);
	if (rc < 0)
		return rc;
	if (!file)
		fd = dup(STDIN_FILENO);
	else if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) /* a named pipe is opened only once */
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (hoppable(x, fd)) {
		rc = hop(x);
		return rc < 0 ? seg_where(rc, "%s", x->name) : rc;
	}
	if (fd >= 0)
		close(fd);
	return spool(x, path, limits);
}

int seg_index_open(struct seg_index **out, const char *path, const struct seg_limits *limits)
{
	struct seg_index *x = seg_alloc(1, sizeof *x);
	*out = NULL;
	if (!x)
		return SEG_ENOMEM;
	if (!path)
		path = "-";
	part_start(&x->part, limits);
	x->name = seg_strdup(strcmp(path, "-") ? path : "<stdin>");
	int rc = x->name ? open_file(x, path, limits) : SEG_ENOMEM;
	if (rc < 0)
		seg_index_close(x);
	else
		*out = x;
	return rc;
}

const struct seg_header *seg_index_header(const struct seg_index *x) { return &x->part.h; }
struct seg_content seg_index_content(const struct seg_index *x) { return x->part.all; }
size_t seg_index_count(const struct seg_index *x) { return x->at->count; }

int seg_index_read(const struct seg_index *x, size_t i, struct seg_sample *s)
{
	int rc = seg_spool_read(x->at, i, s);
	return rc < 0 ? seg_where(rc, "%s: sample %zu", x->name, i) : rc;
}

void seg_index_close(struct seg_index *x)
{
	if (!x)
		return;
	part_free(&x->part);
	seg_spool_free(x->at);
	free(x->name);
	free(x);
}
