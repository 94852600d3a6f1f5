/* Random access.  A framed file is hopped through: of each member only its 40 first and 8 last
 * bytes are read; or not even those, if there is a FILE.idx (table.c).  What cannot be hopped (a pipe, a file without framing) is read once and
 * spooled. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/stream/inner.h"
#include "seg/err.h"

struct file {
	char *name;
	struct seg_spool *at; /* the file itself, or what was spooled */
	size_t first;         /* number of its first sample */
	struct table table;   /* nparts 0: it was not hopped through */
	int kept;             /* the table came from FILE.idx */
};
struct seg_index {
	struct part part;     /* of all files, as if they were one */
	struct file *file;
	int nfile;
	/* of the file being opened */
	char *name;
	struct seg_spool *at;
	struct table table;
	int kept;
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
	x->table.part[x->table.nparts - 1].nbytes += f->nraw;
	x->table.largest = *nraw > x->table.largest ? *nraw : x->table.largest;
	return SEG_OK;
}

/* Where header and END are, and the samples between them. */
static int note(struct seg_index *x, uint64_t off, const struct frame *f)
{
	struct table *t = &x->table;
	if (f->flags == FLAG_HEADER) {
		struct stretch *more = seg_realloc(t->part, t->nparts + 1, sizeof *more);
		if (!more)
			return SEG_ENOMEM;
		t->part = more;
		t->part[t->nparts++] = (struct stretch){.header = off, .nheader = f->ngz};
		return SEG_OK;
	}
	struct stretch *s = &t->part[t->nparts - 1];
	s->end = off;
	s->nend = f->ngz;
	s->samples = x->part.count;
	s->crc = x->part.crc;
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
			rc = (rc = note(x, off, &f)) < 0 ? rc : hop_json(x, off, &f);
		else if (x->part.open && (f.flags == FLAG_FIRST || (f.flags == 0 && inside)))
			rc = hop_member(x, off, &f, &nraw);
		else
			rc = seg_fail(SEG_ECORRUPT, "a member of kind %u out of place at byte %ju", f.flags, (uintmax_t)off);
		inside = f.flags <= FLAG_FIRST;
		off += f.ngz;
	}
	return rc;
}

static int walk_json(struct seg_index *x, uint64_t off, uint32_t flags)
{
	unsigned char p[FRAME];
	struct frame f;
	int rc = spool_fetch(x->at, off, p, FRAME);
	if (rc == SEG_OK && (!frame_parse(p, &f) || f.flags != flags))
		rc = seg_fail(SEG_ECORRUPT, "no member of kind %u at byte %ju", flags, (uintmax_t)off);
	return rc < 0 ? rc : hop_json(x, off, &f);
}

/* Only headers and ENDs: the samples are in the table. */
static int walk(struct seg_index *x)
{
	int rc = SEG_OK;
	for (const struct stretch *s = x->table.part; rc == SEG_OK && s < x->table.part + x->table.nparts; s++) {
		rc = walk_json(x, s->header, FLAG_HEADER);
		if (rc == SEG_OK)
			rc = part_samples(&x->part, (struct seg_content){s->samples, s->nbytes, (uint32_t)s->crc});
		if (rc == SEG_OK)
			rc = walk_json(x, s->end, FLAG_END);
	}
	return rc;
}

static int spool(struct seg_index *x, const char *path, const struct seg_limits *limits)
{
	struct seg_reader *r = NULL;
	struct seg_sample s = {0};
	struct part *p = &x->part;
	int rc = seg_reader_open(&r, path, limits);
	while (rc == SEG_OK && (rc = seg_read(r, &s)) > 0)
		rc = seg_spool_add(x->at, &s);
	if (rc == SEG_OK && !p->have)
		rc = seg_header_copy(&p->h, seg_reader_header(r));
	else if (rc == SEG_OK && (rc = header_agree(&p->h, seg_reader_header(r))) == SEG_OK)
		rc = header_merge(&p->h, seg_reader_header(r)->provenance);
	p->have = 1;
	if (r)
		part_join(p, reader_content(r));
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
		x->kept = file && table_read(path, x->at, x->part.sample_limit, &x->table);
		rc = x->kept ? walk(x) : hop(x);
		return rc < 0 ? seg_where(rc, "%s", x->name) : rc;
	}
	if (fd >= 0)
		close(fd);
	return spool(x, path, limits);
}

int seg_index_open_all(struct seg_index **out, const char *const *path, int n, const struct seg_limits *limits)
{
	struct seg_index *x = seg_alloc(1, sizeof *x);
	int rc = x ? SEG_OK : SEG_ENOMEM;
	*out = NULL;
	if (!x)
		return rc;
	part_start(&x->part, limits);
	if (!(x->file = seg_alloc((size_t)n, sizeof *x->file)))
		rc = SEG_ENOMEM;
	for (size_t first = 0; rc == SEG_OK && x->nfile < n; first += x->at->count) {
		const char *p = path[x->nfile] ? path[x->nfile] : "-";
		x->at = NULL;
		x->table = (struct table){0};
		x->kept = 0;
		x->name = seg_strdup(strcmp(p, "-") ? p : "<stdin>");
		rc = x->name ? open_file(x, p, limits) : SEG_ENOMEM;
		x->file[x->nfile++] = (struct file){x->name, x->at, first, x->table, x->kept};
		if (rc < 0)
			break;
	}
	if (rc < 0)
		seg_index_close(x);
	else
		*out = x;
	return rc;
}

int seg_index_open(struct seg_index **out, const char *path, const struct seg_limits *limits)
{
	return seg_index_open_all(out, &path, 1, limits);
}

void seg_index_keep(const struct seg_index *x, size_t least)
{
	for (const struct file *f = x->file; f < x->file + x->nfile; f++)
		if (!f->kept && f->table.nparts && f->at->count >= least)
			table_write(f->name, f->at, &f->table);
}

const struct seg_header *seg_index_header(const struct seg_index *x) { return &x->part.h; }
struct seg_content seg_index_content(const struct seg_index *x) { return x->part.all; }
size_t seg_index_count(const struct seg_index *x) { return x->file[x->nfile - 1].first + x->file[x->nfile - 1].at->count; }

int seg_index_read(const struct seg_index *x, size_t i, struct seg_sample *s)
{
	int lo = 0;
	for (int hi = x->nfile; hi - lo > 1;) {
		int mid = (lo + hi) / 2;
		*(x->file[mid].first <= i ? &lo : &hi) = mid;
	}
	const struct file *f = &x->file[lo];
	int rc = seg_spool_read(f->at, i - f->first, s);
	s->number = i;
	return rc < 0 ? seg_where(rc, "%s: sample %zu", f->name, i - f->first) : rc;
}

void seg_index_close(struct seg_index *x)
{
	if (!x)
		return;
	for (int i = 0; i < x->nfile; i++) {
		seg_spool_free(x->file[i].at);
		free(x->file[i].table.part);
		free(x->file[i].name);
	}
	free(x->file);
	part_free(&x->part);
	free(x);
}
