/* gzip members with and without the subfield SG.  libdeflate is a faster engine for the same
 * format; whoever has zlib alone reads what it writes, and the other way round. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

#include "lib/stream/inner.h"
#include "seg/err.h"

static void put(unsigned char *p, uint64_t v, int nbytes)
{
	for (int i = 0; i < nbytes; i++)
		p[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get(const unsigned char *p, int nbytes)
{
	uint64_t v = 0;
	for (int i = 0; i < nbytes; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

/* ID1 ID2 deflate FEXTRA, mtime 0, XFL 0, OS unknown; XLEN 28; S G, 24 bytes. */
static const unsigned char lead[16] = {31, 139, 8, 4, 0, 0, 0, 0, 0, 255, 28, 0, 'S', 'G', 24, 0};

int frame_parse(const unsigned char *p, struct frame *f)
{
	*f = (struct frame){get(p + 16, 8), get(p + 24, 8), (uint32_t)get(p + 32, 4), (uint32_t)get(p + 36, 4)};
	return memcmp(p, lead, sizeof lead) == 0;
}

int frame_limit(const struct frame *f, size_t limit)
{
	if (f->nraw > limit)
		return seg_fail(SEG_ECORRUPT, "says %ju inflated bytes, the limit is %zu", (uintmax_t)f->nraw, limit);
	if (f->ngz < FRAME + TRAILER || f->nraw / 1032 > f->ngz || f->ngz > f->nraw + f->nraw / 8 + 4096)
		return seg_fail(SEG_ECORRUPT, "says %ju bytes for %ju inflated ones: impossible", (uintmax_t)f->ngz,
		    (uintmax_t)f->nraw);
	return SEG_OK;
}

#ifdef HAVE_LIBDEFLATE

uint32_t crc_add(uint32_t crc, const void *p, size_t n) { return libdeflate_crc32(crc, p, n); }

/* Engines are kept for the next member: making one costs as much as a small member. */
struct engine {
	struct libdeflate_compressor *c;
	struct libdeflate_decompressor *d;
	int level;
	struct engine *next;
};
static struct engine *idle;
static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;

static struct engine *engine_take(void)
{
	pthread_mutex_lock(&idle_lock);
	struct engine *e = idle;
	if (e)
		idle = e->next;
	pthread_mutex_unlock(&idle_lock);
	return e ? e : seg_alloc(1, sizeof *e);
}

static void engine_give(struct engine *e)
{
	pthread_mutex_lock(&idle_lock);
	e->next = idle;
	idle = e;
	pthread_mutex_unlock(&idle_lock);
}

static size_t deflated_bound(size_t n)
{
	return libdeflate_deflate_compress_bound(NULL, n);
}

static int deflated(const void *raw, size_t n, int level, unsigned char *out, size_t *nout)
{
	struct engine *e = engine_take();
	if (!e)
		return SEG_ENOMEM;
	if (!e->c || e->level != level) {
		libdeflate_free_compressor(e->c);
		e->c = libdeflate_alloc_compressor(level);
		e->level = level;
	}
	*nout = e->c ? libdeflate_deflate_compress(e->c, raw, n, out, *nout) : 0;
	engine_give(e);
	return *nout ? SEG_OK : seg_fail(SEG_ENOMEM, "out of memory: deflate");
}

/* All of in must give exactly n bytes. */
static int inflated(const unsigned char *in, size_t nin, void *raw, size_t n)
{
	struct engine *e = engine_take();
	size_t used = 0, got = 0;
	enum libdeflate_result r = LIBDEFLATE_BAD_DATA;
	if (!e)
		return SEG_ENOMEM;
	if (!e->d)
		e->d = libdeflate_alloc_decompressor();
	int have = e->d != NULL;
	if (have)
		r = libdeflate_deflate_decompress_ex(e->d, in, nin, raw, n, &used, &got);
	engine_give(e);
	if (!have)
		return seg_fail(SEG_ENOMEM, "out of memory: inflate");
	if (r != LIBDEFLATE_SUCCESS || used != nin || got != n)
		return seg_fail(SEG_ECORRUPT, "deflated data is wrong");
	return SEG_OK;
}

int seg_zlib_exact(const void *in, size_t nin, void *raw, size_t n)
{
	struct engine *e = engine_take();
	if (!e)
		return 0;
	if (!e->d)
		e->d = libdeflate_alloc_decompressor();
	int exact = e->d && libdeflate_zlib_decompress(e->d, in, nin, raw, n, NULL) == LIBDEFLATE_SUCCESS;
	engine_give(e);
	return exact;
}

#else

int seg_zlib_exact(const void *in, size_t nin, void *raw, size_t n)
{
	(void)in, (void)nin, (void)raw, (void)n;
	return 0;
}

uint32_t crc_add(uint32_t crc, const void *p, size_t n) { return (uint32_t)crc32_z(crc, p, n); }

/* zlib counts in 32 bits: more is given in pieces. */
enum { PIECE = 1 << 30 };

static size_t deflated_bound(size_t n)
{
	return n + n / 1000 + n / 4096 + 256; /* memLevel 8: stored blocks of at most 16 KiB, 5 bytes each */
}

static int deflated(const void *raw, size_t n, int level, unsigned char *out, size_t *nout)
{
	z_stream z = {0};
	size_t room = *nout, given = 0, got = 0;
	int rc = Z_OK;
	if (deflateInit2(&z, level > 9 ? 9 : level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return seg_fail(SEG_ENOMEM, "out of memory: deflate");
	while (rc == Z_OK) {
		size_t in = n - given < PIECE ? n - given : PIECE, to = room - got < PIECE ? room - got : PIECE;
		z.next_in = (unsigned char *)(uintptr_t)raw + given;
		z.avail_in = (unsigned)in;
		z.next_out = out + got;
		z.avail_out = (unsigned)to;
		rc = deflate(&z, given + in == n ? Z_FINISH : Z_NO_FLUSH);
		given += in - z.avail_in;
		got += to - z.avail_out;
	}
	deflateEnd(&z);
	*nout = got;
	return rc == Z_STREAM_END ? SEG_OK : seg_fail(SEG_ENOMEM, "deflate: no room");
}

static int inflated(const unsigned char *in, size_t nin, void *raw, size_t n)
{
	z_stream z = {0};
	size_t given = 0, got = 0;
	int rc = Z_OK;
	if (inflateInit2(&z, -15) != Z_OK)
		return seg_fail(SEG_ENOMEM, "out of memory: inflate");
	while (rc == Z_OK) {
		size_t from = nin - given < PIECE ? nin - given : PIECE, to = n - got < PIECE ? n - got : PIECE;
		z.next_in = (unsigned char *)(uintptr_t)in + given;
		z.avail_in = (unsigned)from;
		z.next_out = (unsigned char *)raw + got;
		z.avail_out = (unsigned)to;
		rc = inflate(&z, Z_NO_FLUSH);
		given += from - z.avail_in;
		got += to - z.avail_out;
	}
	inflateEnd(&z);
	if (rc != Z_STREAM_END || given != nin || got != n)
		return seg_fail(SEG_ECORRUPT, "deflated data is wrong");
	return SEG_OK;
}

#endif

uint32_t crc_join(uint32_t a, uint32_t b, size_t nb) { return (uint32_t)crc32_combine(a, b, (z_off_t)nb); }

int member_room(struct seg_member *m, size_t nbytes)
{
	if (nbytes <= m->cgz)
		return SEG_OK;
	unsigned char *p = seg_realloc(m->gz, nbytes, 1);
	if (!p)
		return SEG_ENOMEM;
	m->gz = p;
	m->cgz = nbytes;
	return SEG_OK;
}

/* CRC-32 of the whole member with its own field as zero. */
static uint32_t frame_crc(const struct seg_member *m)
{
	unsigned char head[FRAME];
	memcpy(head, m->gz, FRAME);
	put(head + 36, 0, 4);
	return crc_add(crc_add(0, head, FRAME), m->gz + FRAME, m->ngz - FRAME);
}

static void seal(struct seg_member *m, uint32_t flags)
{
	put(m->gz + 32, flags, 4);
	put(m->gz + 36, frame_crc(m), 4);
}

int member_pack(struct seg_member *m, const void *raw, size_t nraw, int level, uint32_t flags)
{
	size_t n = deflated_bound(nraw);
	if (member_room(m, FRAME + n + TRAILER) < 0 || deflated(raw, nraw, level, m->gz + FRAME, &n) < 0)
		return SEG_ENOMEM;
	m->ngz = FRAME + n + TRAILER;
	m->nraw = nraw;
	m->crc = crc_add(0, raw, nraw);
	memcpy(m->gz, lead, sizeof lead);
	put(m->gz + 16, m->ngz, 8);
	put(m->gz + 24, nraw, 8);
	put(m->gz + FRAME + n, m->crc, 4);
	put(m->gz + FRAME + n + 4, nraw, 4);
	seal(m, flags);
	return SEG_OK;
}

void member_flags(struct seg_member *m, uint32_t flags)
{
	if (get(m->gz + 32, 4) != flags)
		seal(m, flags);
}

int member_check(struct seg_member *m)
{
	struct frame f;
	if (!frame_parse(m->gz, &f) || f.ngz != m->ngz || f.crc != frame_crc(m))
		return seg_fail(SEG_ECORRUPT, "a member of %zu bytes fails its CRC", m->ngz);
	m->nraw = f.nraw;
	m->crc = (uint32_t)get(m->gz + m->ngz - 8, 4);
	return SEG_OK;
}

int member_inflate(const struct seg_member *m, void *raw)
{
	int rc = inflated(m->gz + FRAME, m->ngz - FRAME - TRAILER, raw, m->nraw);
	if (rc < 0)
		return rc;
	if (crc_add(0, raw, m->nraw) != m->crc || (uint32_t)m->nraw != get(m->gz + m->ngz - 4, 4))
		return seg_fail(SEG_ECORRUPT, "inflated data fails its CRC");
	return SEG_OK;
}

struct gunzip {
	z_stream z;
};

struct gunzip *gunzip_new(void)
{
	struct gunzip *g = seg_alloc(1, sizeof *g);
	if (g && inflateInit2(&g->z, 15 + 16) != Z_OK) {
		seg_fail(SEG_ENOMEM, "out of memory: inflate");
		free(g);
		g = NULL;
	}
	return g;
}

void gunzip_free(struct gunzip *g)
{
	if (g)
		inflateEnd(&g->z);
	free(g);
}

void gunzip_reset(struct gunzip *g)
{
	inflateReset(&g->z);
}

int gunzip_step(struct gunzip *g, const unsigned char *in, size_t *nin, void *out, size_t *nout)
{
	g->z.next_in = (unsigned char *)(uintptr_t)in;
	g->z.avail_in = (unsigned)*nin;
	g->z.next_out = out;
	g->z.avail_out = (unsigned)*nout;
	int rc = inflate(&g->z, Z_NO_FLUSH);
	*nin -= g->z.avail_in;
	*nout -= g->z.avail_out;
	if (rc == Z_STREAM_END)
		return 1;
	if (rc == Z_OK || rc == Z_BUF_ERROR)
		return 0;
	return seg_fail(SEG_ECORRUPT, "gzip: %s", g->z.msg ? g->z.msg : "damaged");
}
