/* lib/stream: round trips, and every way a small stream can be damaged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/hash.h"
#include "seg/stream.h"

#define OK(call) do { int rc_ = (call); if (rc_ < 0) fail_msg("%s: %s", #call, seg_reason()); } while (0)

static const char *const classes[] = {"matrix", "crack"};

static struct seg_header header(void)
{
	struct seg_header h = {.ignore = 255};
	OK(seg_header_classes(&h, classes, 2));
	OK(seg_header_sign(&h, "u-stream", seg_json_object()));
	return h;
}

static struct seg_tensor tensor(enum seg_dtype d, int ndim, size_t a, size_t b, size_t c, int start)
{
	struct seg_tensor t;
	size_t dim[3] = {a, b, c};
	OK(seg_tensor_new(&t, d, ndim, dim));
	for (size_t i = 0; i < seg_tensor_count(&t); i++)
		switch (d) {
		case SEG_F4: ((float *)t.data)[i] = (float)(start + (int)i) / 7; break;
		case SEG_U2: ((uint16_t *)t.data)[i] = (uint16_t)(start + (int)i); break;
		case SEG_I8: ((int64_t *)t.data)[i] = start + (int)i; break;
		default: ((unsigned char *)t.data)[i] = (unsigned char)(start + (int)i); break;
		}
	return t;
}

/* n samples of a 4x5 image, its label, json and a float tensor. */
static void write_stream(const char *path, int n, int first)
{
	struct seg_header h = header();
	struct seg_writer *w;
	struct seg_sample s = {0};
	OK(seg_writer_open(&w, path, &h));
	for (int i = 0; i < n; i++) {
		struct seg_tensor image = tensor(SEG_U1, 3, 4, 5, 3, i), label = tensor(SEG_U1, 2, 4, 5, 0, 0);
		struct seg_tensor pred = tensor(SEG_F4, 3, 4, 5, 2, i);
		seg_sample_clear(&s);
		snprintf(s.key, sizeof s.key, "dir/s%d", first + i);
		OK(seg_sample_put(&s, "image.npy", &image));
		OK(seg_sample_put(&s, "label.npy", &label));
		OK(seg_sample_put(&s, "pred.npy", &pred));
		OK(seg_sample_put_bytes(&s, "json", strdup("{\"id\":\"s\"}"), 10));
		OK(seg_write(w, &s));
		assert_int_equal(s.nmember, 2);
	}
	OK(seg_writer_close(w));
	seg_sample_free(&s);
	seg_header_free(&h);
}

/* Reads all, checks all; the fingerprint, or the error. */
static int verify(const char *path, char hex[65])
{
	struct seg_reader *r;
	struct seg_sample s = {0};
	struct seg_print p;
	int rc = seg_reader_open(&r, path, NULL);
	if (rc < 0)
		return rc;
	OK(seg_print_start(&p, seg_reader_header(r)));
	while ((rc = seg_read(r, &s)) > 0) {
		unsigned char d[32];
		if (!s.nentry && (rc = seg_sample_open(&s)) < 0)
			break;
		seg_print_sample(&s, d);
		seg_print_add(&p, d);
	}
	seg_print_end(&p, hex);
	seg_sample_free(&s);
	seg_reader_close(r);
	return rc;
}

static void round_trip(void **state)
{
	(void)state;
	char a[65], b[65];
	write_stream("a.seg", 3, 0);
	OK(verify("a.seg", a));
	struct seg_reader *r;
	struct seg_sample s = {0};
	OK(seg_reader_open(&r, "a.seg", NULL));
	const struct seg_header *h = seg_reader_header(r);
	assert_int_equal(h->nclass, 2);
	assert_string_equal(h->classes[1], "crack");
	assert_int_equal(h->ignore, 255);
	assert_int_equal(seg_json_size(h->provenance), 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(seg_read(r, &s), 1);
		OK(seg_sample_open(&s));
		assert_int_equal(s.nentry, 4);
		const struct seg_tensor *t = seg_sample_tensor(&s, "pred.npy");
		assert_int_equal(t->dim[2], 2);
		assert_int_equal((uintptr_t)t->data % 64, 0);
		assert_true(((float *)t->data)[5] == (float)(i + 5) / 7);
	}
	assert_int_equal(seg_read(r, &s), 0);
	assert_int_equal(seg_read(r, &s), 0);
	seg_reader_close(r);
	seg_sample_free(&s);
	write_stream("b.seg", 3, 0);
	OK(verify("b.seg", b));
	assert_string_equal(a, b);
}

/* ---- damage ---- */

/* A file in memory, under a path. */
struct mem {
	int fd;
	char path[40];
	unsigned char *p;
	size_t n;
};

static struct mem mem_new(const void *p, size_t n)
{
	struct mem m = {.fd = memfd_create("seg", 0), .n = n};
	assert_true(m.fd >= 0 && ftruncate(m.fd, (off_t)n) == 0);
	m.p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	assert_true(m.p != MAP_FAILED);
	memcpy(m.p, p, n);
	snprintf(m.path, sizeof m.path, "/proc/self/fd/%d", m.fd);
	return m;
}

static void mem_free(struct mem *m)
{
	munmap(m->p, m->n);
	close(m->fd);
}

static int verify_index(const char *path, char hex[65])
{
	struct seg_index *x;
	struct seg_sample s = {0};
	struct seg_print p;
	int rc = seg_index_open(&x, path, NULL);
	if (rc < 0)
		return rc;
	OK(seg_print_start(&p, seg_index_header(x)));
	for (size_t i = 0; rc == SEG_OK && i < seg_index_count(x); i++) {
		unsigned char d[32];
		if ((rc = seg_index_read(x, i, &s)) < 0 || (rc = seg_sample_open(&s)) < 0)
			break;
		seg_print_sample(&s, d);
		seg_print_add(&p, d);
	}
	seg_print_end(&p, hex);
	seg_sample_free(&s);
	seg_index_close(x);
	return rc;
}

/* Every bit, every length: refused as corrupt, or the same content.  Returns how many were accepted. */
static int damage(const void *file, size_t n, int (*check)(const char *, char *))
{
	char want[65], got[65];
	int same = 0;
	struct mem m = mem_new(file, n);
	OK(check(m.path, want));
	for (size_t i = 0; i < 8 * n; i++) {
		m.p[i / 8] ^= (unsigned char)(1 << i % 8);
		int rc = check(m.path, got);
		m.p[i / 8] ^= (unsigned char)(1 << i % 8);
		if (rc < 0 ? rc != SEG_ECORRUPT && rc != SEG_EDATA : strcmp(got, want) != 0)
			fail_msg("bit %zu of byte %zu flipped: %s", i % 8, i / 8, rc < 0 ? seg_reason() : "other content");
		same += rc >= 0;
	}
	for (size_t k = n; k-- > 0;) {
		assert_int_equal(ftruncate(m.fd, (off_t)k), 0);
		int rc = check(m.path, got);
		if (rc != SEG_ECORRUPT)
			fail_msg("cut to %zu bytes of %zu: code %d", k, n, rc);
	}
	mem_free(&m);
	return same;
}

static void damage_framed(void **state)
{
	(void)state;
	size_t n;
	write_stream("d.seg", 1, 0);
	char *file = seg_read_file("d.seg", 1 << 20, &n);
	assert_int_equal(damage(file, n, verify), 0);
	assert_int_equal(damage(file, n, verify_index), 0);
	free(file);
}

/* The same entries as other writers have them: one gzip member, zero blocks behind. */
static unsigned char *unframed(const char *path, size_t *n)
{
	static unsigned char raw[1 << 16], out[1 << 16];
	gzFile g = gzopen(path, "rb");
	int nraw = gzread(g, raw, sizeof raw);
	gzclose(g);
	assert_true(nraw > 0 && nraw + 1024 < (int)sizeof raw);
	char *framing = memmem(raw, (size_t)nraw, "\"framing\":1", 11);
	framing[10] = '0';
	memset(raw + nraw, 0, 1024);
	z_stream z = {.next_in = raw, .avail_in = (unsigned)nraw + 1024, .next_out = out, .avail_out = sizeof out};
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	*n = z.total_out;
	deflateEnd(&z);
	return out;
}

static void damage_unframed(void **state)
{
	(void)state;
	size_t n;
	char a[65], b[65];
	write_stream("d.seg", 1, 0);
	unsigned char *file = unframed("d.seg", &n);
	int same = damage(file, n, verify);
	print_message("# %d of %zu flips leave the content as it is\n", same, 8 * n);
	assert_true(same < 100); /* 49 of mtime, XFL, OS, FTEXT; padding; a match that lies elsewhere, too */
	struct mem m = mem_new(file, n);
	OK(verify("d.seg", a));
	OK(verify(m.path, b));
	assert_string_equal(a, b);
	OK(verify_index(m.path, b)); /* through the spool */
	assert_string_equal(a, b);
	mem_free(&m);
}

/* ---- hostile streams, made by hand ---- */

static void entry(struct seg_buf *raw, const char *name, const void *data, size_t n)
{
	static const char zeros[BLOCK];
	char block[BLOCK];
	OK(tar_head(block, name, n));
	OK(seg_buf_add(raw, block, BLOCK));
	OK(seg_buf_add(raw, data, n));
	OK(seg_buf_add(raw, zeros, tar_padded(n) - n));
}

static void member(struct seg_buf *file, struct seg_buf *raw, uint32_t flags)
{
	struct seg_member m = {0};
	OK(member_pack(&m, raw->data, raw->n, 1, flags));
	OK(seg_buf_add(file, m.gz, m.ngz));
	free(m.gz);
	raw->n = 0;
}

#define HEAD "{\"version\":1,\"framing\":1,\"classes\":[\"a\",\"b\"]}"

/* header, one member of one entry, END that counts 1 and has the right CRC unless told otherwise. */
static int hostile(const char *head, const char *name, const void *data, size_t n, const char *end)
{
	struct seg_buf file = {0}, raw = {0};
	char text[200], hex[65];
	entry(&raw, "__seg__/header.json", head, strlen(head));
	member(&file, &raw, FLAG_HEADER);
	entry(&raw, name, data, n);
	snprintf(text, sizeof text, "{\"samples\":1,\"crc32\":%u}", crc_add(0, raw.data, raw.n));
	member(&file, &raw, FLAG_FIRST);
	entry(&raw, "__seg__/end.json", end ? end : text, strlen(end ? end : text));
	member(&file, &raw, FLAG_END);
	struct mem m = mem_new(file.data, file.n);
	int rc = verify(m.path, hex), rx = verify_index(m.path, hex);
	assert_int_equal(rc, rx);
	mem_free(&m);
	free(file.data);
	free(raw.data);
	return rc;
}

static size_t npy(char *out, const char *descr, const char *order, const char *shape, size_t ndata)
{
	memset(out, 0, 128 + ndata);
	memcpy(out, "\x93NUMPY\1\0\x76\0", 10);
	snprintf(out + 10, 118, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descr, order, shape);
	memset(out + strlen(out + 10) + 10, ' ', 118 - strlen(out + 10));
	out[127] = '\n';
	return 128 + ndata;
}

static void hostile_streams(void **state)
{
	(void)state;
	static const struct {
		const char *descr, *order, *shape;
		size_t ndata;
		int code;
		const char *says;
	} arrays[] = {
		{"|u1", "False", "(4, 4, 3)", 48, 0, ""},
		{"|u1", "False", "(65536, 65536, 1)", 48, SEG_ECORRUPT, "needs 4294967296 bytes of data, 48 are there"},
		{"<f4", "False", "(4294967296, 4294967296, 4294967296)", 48, SEG_ECORRUPT, "larger than memory"},
		{"<f4", "False", "(99999999999999999999999, 1, 1)", 48, SEG_ECORRUPT, "not understood"},
		{"|u1", "False", "(4, 4, 3)", 47, SEG_ECORRUPT, "needs 48"},
		{"|u1", "False", "(4, 4, 3)", 49, SEG_ECORRUPT, "needs 48"},
		{"|u1", "True", "(4, 4, 3)", 48, SEG_EDATA, "ascontiguousarray"},
		{">u2", "False", "(4, 4, 3)", 96, SEG_EDATA, "astype('<u2')"},
		{"|O", "False", "(4, 4, 3)", 48, SEG_EDATA, "not read"},
		{"|u1", "False", "(4, 12)", 48, SEG_EDATA, "expected [H,W,C]"},
		{"|u1", "False", "(4, 0, 3)", 0, SEG_EDATA, "empty"},
		{"|u1", "False", "(1, 1, 1, 4, 12)", 48, SEG_ECORRUPT, "not understood"},
		{"|u1", "Maybe", "(4, 4, 3)", 48, SEG_ECORRUPT, "not understood"},
		{"|u1", "False", "(4, 4, 3", 48, SEG_ECORRUPT, "not understood"},
	};
	char a[512];
	for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
		size_t n = npy(a, arrays[i].descr, arrays[i].order, arrays[i].shape, arrays[i].ndata);
		int rc = hostile(HEAD, "k.image.npy", a, n, NULL);
		if (rc != arrays[i].code || (rc < 0 && !strstr(seg_reason(), arrays[i].says)))
			fail_msg("array %zu: code %d, %s", i, rc, seg_reason());
	}
	static const struct {
		const char *head, *name, *text, *end;
		int code;
		const char *says;
	} texts[] = {
		{HEAD, "k.txt", "x", NULL, 0, ""},
		{HEAD, "k.txt", "x", "{\"samples\":2,\"crc32\":1}", SEG_ECORRUPT, "END says 2 samples, 1 were there"},
		{HEAD, "k.txt", "x", "{\"samples\":1,\"crc32\":1}", SEG_ECORRUPT, "END says CRC-32 1"},
		{HEAD, "k.txt", "x", "{\"samples\":1}", SEG_ECORRUPT, "END says CRC-32 -1"},
		{HEAD, "k.txt", "x", "[]", SEG_ECORRUPT, "END says -1 samples"},
		{HEAD, "../k.txt", "x", NULL, SEG_ECORRUPT, "not allowed"},
		{HEAD, "/k.txt", "x", NULL, SEG_ECORRUPT, "not allowed"},
		{HEAD, "k k.txt", "x", NULL, SEG_ECORRUPT, "not allowed"},
		{HEAD, "k", "x", NULL, SEG_ECORRUPT, "suffix '' is not allowed"},
		{HEAD, "k.t/t", "x", NULL, SEG_ECORRUPT, "suffix"},
		{HEAD, "k.a_suffix_far_too_long", "x", NULL, SEG_ECORRUPT, "suffix"},
		{HEAD, "__seg__/x.txt", "x", NULL, SEG_ECORRUPT, "not allowed"},
		{HEAD, "k.json", "{\"a\":1,\"a\":2}", NULL, SEG_ECORRUPT, "duplicate"},
		{HEAD, "k.json", "[1]", NULL, SEG_ECORRUPT, "not an object"},
		{"{\"version\":2,\"framing\":1}", "k.txt", "x", NULL, SEG_EDATA, "version 2"},
		{"{\"framing\":1}", "k.txt", "x", NULL, SEG_EDATA, "version 0"},
		{"{\"version\":1}", "k.txt", "x", NULL, SEG_ECORRUPT, "does not say"},
		{"{\"version\":1,\"framing\":1,\"classes\":1000000000}", "k.txt", "x", NULL, SEG_EDATA, "not a list"},
		{"{\"version\":1,\"framing\":1,\"classes\":[1]}", "k.txt", "x", NULL, SEG_EDATA, "not a list"},
		{"{\"version\":1,\"framing\":1,\"classes\":[\"a\",\"b\",\"a\"]}", "k.txt", "x", NULL, SEG_EDATA, "two classes"},
		{"{\"version\":1,\"framing\":1,\"ignore\":70000}", "k.txt", "x", NULL, SEG_EDATA, "ignore"},
		{"{\"version\":1,\"framing\":1,\"task\":\"sums\"}", "k.txt", "x", NULL, SEG_EDATA, "'sums'"},
		{"[]", "k.txt", "x", NULL, SEG_ECORRUPT, "not an object"},
		{"{", "k.txt", "x", NULL, SEG_ECORRUPT, "line 1"},
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		int rc = hostile(texts[i].head, texts[i].name, texts[i].text, strlen(texts[i].text), texts[i].end);
		if (rc != texts[i].code || (rc < 0 && !strstr(seg_reason(), texts[i].says)))
			fail_msg("text %zu: code %d, %s", i, rc, seg_reason());
	}
	char *head = seg_alloc(70000, 1);
	sprintf(head, "{\"version\":1,\"framing\":1,\"x\":\"%65536d\"}", 1);
	assert_int_equal(hostile(head, "k.txt", "x", 1, NULL), SEG_ECORRUPT);
	assert_non_null(strstr(seg_reason(), "the limit is 65536"));
	free(head);
}

/* Kinds of members in wrong places; frames that promise what cannot be. */
static void hostile_members(void **state)
{
	(void)state;
	static const char *const orders[] = { /* h header, f first, m more, e END of 1 sample */
		"hfe", "hfme", "", "fe", "hme", "hhfe", "hfhfe", "ehfe", "hfefe", "hfee", "hf", "h", "hfmmmmmmmmmmmmmmmme"};
	long before = 0;
	struct rusage u;
	for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
		struct seg_buf file = {0}, raw = {0};
		char name[20], end[100], hex[65];
		uint32_t crc = 0;
		for (const char *o = orders[i]; *o; o++) {
			snprintf(name, sizeof name, "k.%td", o - orders[i]);
			snprintf(end, sizeof end, "{\"samples\":1,\"crc32\":%u}", crc);
			if (*o == 'h')
				entry(&raw, "__seg__/header.json", HEAD, strlen(HEAD));
			else if (*o == 'e')
				entry(&raw, "__seg__/end.json", end, strlen(end));
			else
				entry(&raw, name, "x", 1);
			crc = *o == 'h' ? 0 : crc_add(crc, raw.data, raw.n);
			member(&file, &raw, *o == 'h' ? FLAG_HEADER : *o == 'e' ? FLAG_END : *o == 'f' ? FLAG_FIRST : 0);
		}
		struct mem m = mem_new(file.n ? file.data : "", file.n + !file.n);
		assert_int_equal(ftruncate(m.fd, (off_t)file.n), 0);
		int rc = verify(m.path, hex), rx = verify_index(m.path, hex);
		if ((i < 2 ? SEG_OK : SEG_ECORRUPT) != rc || rx != rc)
			fail_msg("members %s: code %d and %d, %s", orders[i], rc, rx, seg_reason());
		if (i == 0) { /* claims: 4 GiB in 100 bytes; 1 TiB; a member of 1 byte; one that never ends */
			static const uint64_t claims[][2] = {{0, 1ULL << 32}, {0, 1ULL << 40}, {1, 0}, {1ULL << 62, 1ULL << 62},
			                                     {1ULL << 31, 1ULL << 31}, {~0ULL, ~0ULL}};
			size_t at = 0;
			memcpy(&at, m.p + 16, 8); /* the sample's member follows the header's */
			getrusage(RUSAGE_SELF, &u);
			before = u.ru_maxrss;
			for (size_t c = 0; c < sizeof claims / sizeof *claims; c++) {
				for (int k = 0; k < 2; k++)
					if (claims[c][k])
						memcpy(m.p + at + 16 + 8 * k, &claims[c][k], 8);
				assert_int_equal(verify(m.path, hex), SEG_ECORRUPT);
				assert_int_equal(verify_index(m.path, hex), SEG_ECORRUPT);
			}
			getrusage(RUSAGE_SELF, &u);
			assert_true(u.ru_maxrss - before < 30 << 10);
		}
		mem_free(&m);
		free(file.data);
		free(raw.data);
	}
}

static void limits(void **state)
{
	(void)state;
	write_stream("l.seg", 3, 0);
	struct seg_limits small[] = {{.sample_bytes = 2000}, {.samples = 2}, {.header_bytes = 50}};
	for (int i = 0; i < 3; i++) {
		struct seg_reader *r = NULL;
		struct seg_sample s = {0};
		struct seg_index *x;
		int rc = seg_reader_open(&r, "l.seg", &small[i]), n = 0;
		while (rc >= 0 && (rc = seg_read(r, &s)) > 0)
			n++;
		assert_int_equal(rc, SEG_ECORRUPT);
		assert_int_equal(n, i == 1 ? 2 : 0);
		assert_int_equal(seg_index_open(&x, "l.seg", &small[i]), SEG_ECORRUPT);
		seg_sample_free(&s);
		seg_reader_close(r);
	}
}

/* ---- filters ---- */

static int add_map(void *arg, struct seg_sample *s, int t)
{
	(void)arg;
	(void)t;
	struct seg_tensor m = tensor(SEG_F4, 3, 4, 5, 1, (int)s->number);
	int rc = seg_sample_put(s, "loss.npy", &m);
	return rc < 0 ? rc : s->number % 5 != 4;
}

static int fail_at_7(void *arg, struct seg_sample *s, int t)
{
	(void)arg;
	(void)t;
	return s->number == 7 ? seg_fail(SEG_EDATA, "no seven") : 1;
}

/* What is not changed is copied byte for byte; the number of threads is not seen. */
static void filters(void **state)
{
	(void)state;
	size_t n1, n4;
	write_stream("f.seg", 20, 0);
	struct seg_filter f = {.in = "f.seg", .out = "f1.seg", .threads = 1, .level = -1, .each = add_map};
	OK(seg_filter(&f));
	f.threads = 4;
	f.out = "f4.seg";
	OK(seg_filter(&f));
	char *a = seg_read_file("f1.seg", 1 << 24, &n1), *b = seg_read_file("f4.seg", 1 << 24, &n4);
	assert_int_equal(n1, n4);
	assert_memory_equal(a, b, n1);
	struct seg_index *x, *y;
	struct seg_sample s = {0}, t = {0};
	OK(seg_index_open(&x, "f.seg", NULL));
	OK(seg_index_open(&y, "f1.seg", NULL));
	assert_int_equal(seg_index_count(y), 16);
	OK(seg_index_read(x, 5, &s));
	OK(seg_index_read(y, 4, &t));
	assert_int_equal(t.nmember, 3);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(s.member[i].ngz, t.member[i].ngz);
		assert_memory_equal(s.member[i].gz, t.member[i].gz, s.member[i].ngz);
	}
	f.each = fail_at_7;
	f.out = "f7.seg";
	assert_int_equal(seg_filter(&f), SEG_EDATA);
	assert_string_equal(seg_reason(), "f.seg: no seven");
	assert_int_not_equal(access("f7.seg", F_OK), 0);
	seg_sample_free(&s);
	seg_sample_free(&t);
	seg_index_close(x);
	seg_index_close(y);
	free(a);
	free(b);
}

/* Replacing, dropping, renaming; adjacent equal keys. */
static void changes(void **state)
{
	(void)state;
	struct seg_header h = header();
	struct seg_index *x;
	struct seg_writer *w;
	struct seg_sample s = {0};
	write_stream("c.seg", 2, 0);
	OK(seg_index_open(&x, "c.seg", NULL));
	OK(seg_writer_open(&w, "c2.seg", &h));
	OK(seg_index_read(x, 0, &s));
	OK(seg_sample_open(&s));
	struct seg_tensor label = tensor(SEG_I8, 2, 4, 5, 0, 250);
	OK(seg_sample_put(&s, "label.npy", &label));
	OK(seg_sample_drop(&s, "pred.npy"));
	struct seg_json *j = seg_sample_json(&s);
	OK(seg_json_set(j, "epoch", seg_json_int(3)));
	OK(seg_sample_set_json(&s, j));
	seg_json_free(j);
	OK(seg_write(w, &s));
	assert_int_equal(s.nmember, 1);
	assert_int_equal(seg_write(w, &s), SEG_EDATA);
	assert_non_null(strstr(seg_reason(), "dir/s0"));
	OK(seg_sample_rekey(&s, "dir/s0_c1"));
	OK(seg_write(w, &s));
	OK(seg_writer_close(w));
	seg_index_close(x);
	OK(seg_index_open(&x, "c2.seg", NULL));
	OK(seg_index_read(x, 1, &s));
	OK(seg_sample_open(&s));
	assert_string_equal(s.key, "dir/s0_c1");
	assert_int_equal(s.nentry, 3);
	assert_int_equal(seg_sample_tensor(&s, "label.npy")->dtype, SEG_U2);
	assert_int_equal(((uint16_t *)seg_sample_tensor(&s, "label.npy")->data)[19], 269);
	assert_int_equal(((unsigned char *)seg_sample_tensor(&s, "image.npy")->data)[7], 7);
	assert_int_equal(seg_sample_rekey(&s, "../x"), SEG_EDATA);
	struct seg_tensor wrong = tensor(SEG_F4, 3, 9, 5, 2, 0);
	OK(seg_sample_put(&s, "pred.npy", &wrong));
	assert_int_equal(seg_sample_pack(&s, -1), SEG_EDATA);
	assert_non_null(strstr(seg_reason(), "pred.npy is 9x5, but image.npy is 4x5"));
	seg_sample_free(&s);
	seg_index_close(x);
	seg_header_free(&h);
}

static void models(void **state)
{
	(void)state;
	struct seg_header h = header();
	struct seg_writer *w;
	struct seg_sample s = {0};
	char hex[65];
	h.kind = SEG_MODEL;
	h.more = seg_json_object();
	OK(seg_json_set(h.more, "loss", seg_json_str("mean[n,y,x,k](bce)")));
	OK(seg_writer_open(&w, "m.seg", &h));
	for (int i = 0; i < 3; i++) {
		struct seg_tensor t = tensor(SEG_F4, 3, 3, 3, 8, i);
		seg_sample_clear(&s);
		sprintf(s.key, "conv2d_%d/kernel", i);
		OK(seg_sample_put(&s, "npy", &t));
		OK(seg_write(w, &s));
	}
	OK(seg_writer_close(w));
	OK(verify("m.seg", hex));
	struct seg_index *x;
	OK(seg_index_open(&x, "m.seg", NULL));
	assert_int_equal(seg_index_header(x)->kind, SEG_MODEL);
	assert_string_equal(seg_json_string(seg_json_get(seg_index_header(x)->more, "loss"), ""), "mean[n,y,x,k](bce)");
	OK(seg_index_read(x, 2, &s));
	OK(seg_sample_open(&s));
	assert_true(((float *)seg_sample_tensor(&s, "npy")->data)[1] == 3.f / 7);
	seg_index_close(x);
	seg_sample_free(&s);
	seg_header_free(&h);
}

static void spools(void **state)
{
	(void)state;
	struct seg_reader *r;
	struct seg_spool *p;
	struct seg_sample s = {0};
	write_stream("p.seg", 40, 0);
	OK(seg_spool_new(&p, 20000)); /* about half of it */
	OK(seg_reader_open(&r, "p.seg", NULL));
	while (seg_read(r, &s) > 0)
		OK(seg_spool_add(p, &s));
	assert_int_equal(seg_spool_count(p), 40);
	for (size_t i = 0; i < 40; i++) {
		OK(seg_spool_read(p, i * 7 % 40, &s));
		OK(seg_sample_open(&s));
		assert_int_equal(((unsigned char *)seg_sample_tensor(&s, "image.npy")->data)[0], i * 7 % 40);
	}
	seg_reader_close(r);
	seg_spool_free(p);
	seg_sample_free(&s);
}

/* ---- header, keys, npy ---- */

static void provenance(void **state)
{
	(void)state;
	struct seg_header h = header();
	for (int i = 0; i < 1500; i++) {
		struct seg_json *o = seg_json_object();
		OK(seg_json_set(o, "round", seg_json_int(i)));
		OK(seg_header_sign(&h, "seg-augment", o));
	}
	char *text = seg_header_text(&h);
	size_t n = seg_json_size(h.provenance);
	print_message("# header of %zu bytes after 1501 entries, %zu of them whole\n", strlen(text), n - 1);
	assert_true(strlen(text) < 64 << 10 && n > 100);
	const struct seg_json *first = seg_json_at(h.provenance, 0);
	assert_int_equal(seg_json_integer(seg_json_get(first, "collapsed"), 0) + (long long)n - 1, 1501);
	struct seg_header back;
	OK(seg_header_parse(&back, text, strlen(text)));
	assert_true(seg_json_equal(back.provenance, h.provenance));
	free(text);
	seg_header_free(&h);
	seg_header_free(&back);
}

static void keys(void **state)
{
	(void)state;
	char a[SEG_KEY + 1], b[SEG_KEY + 1], many[300];
	seg_key("dir/img-7", "_p3", a);
	assert_string_equal(a, "dir/img-7_p3");
	seg_key("image 1.tif", "", a);
	seg_key("image_1.tif", "", b);
	assert_string_not_equal(a, b);
	assert_int_equal(strncmp(a, "image_1_tif_", 12), 0);
	assert_int_equal(strlen(a), 20);
	static const char *const odd[] = {"", "/etc/passwd", "../up", "__seg__/header", "\xc3\xa4", "a.b"};
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		seg_key(odd[i], "_e7_c2", a);
		OK(key_check(a, strlen(a)));
		assert_string_equal(a + strlen(a) - 6, "_e7_c2");
	}
	memset(many, 'k', sizeof many - 1);
	many[299] = 0;
	seg_key(many, "_y512x0", a);
	many[298] = 'l';
	seg_key(many, "_y512x0", b);
	assert_int_equal(strlen(a), SEG_KEY);
	assert_string_not_equal(a, b);
	assert_string_equal(a + SEG_KEY - 7, "_y512x0");
}

static void npy_files(void **state)
{
	(void)state;
	struct seg_tensor t = tensor(SEG_U2, 3, 2, 3, 4, 1), u;
	OK(seg_npy_save("t.npy", &t));
	OK(seg_npy_load("t.npy", &u));
	assert_int_equal(u.dtype, SEG_U2);
	assert_int_equal(u.ndim, 3);
	assert_memory_equal(t.data, u.data, 48);
	seg_tensor_free(&u);
	for (int ndim = 0; ndim <= 4; ndim++) { /* heads of every rank, read back */
		char *head, whole[1024] = "";
		size_t n;
		t.ndim = ndim;
		t.dim[3] = 2;
		OK(seg_npy_head(&t, &head, &n));
		assert_int_equal(n % 64, 0);
		memcpy(whole, head, n);
		OK(seg_npy_parse(whole, n + seg_tensor_nbytes(&t), 1024, &u));
		assert_int_equal(u.ndim, ndim);
		assert_int_equal(seg_tensor_count(&u), seg_tensor_count(&t));
		free(head);
	}
	assert_int_equal(seg_npy_load("none.npy", &u), SEG_EDATA);
	seg_tensor_free(&t);
}

static void put_file(const char *path, const void *p, size_t n)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static void keep(const char *path)
{
	struct seg_index *x;
	OK(seg_index_open(&x, path, NULL));
	seg_index_keep(x, 1);
	seg_index_close(x);
}

static void kept_index(void **state)
{
	(void)state;
	char want[65], got[65];
	size_t n, ni, m;
	write_stream("k1.seg", 5, 0);
	write_stream("k2.seg", 4, 50);
	char *a = seg_read_file("k1.seg", 1 << 24, &n), *b = seg_read_file("k2.seg", 1 << 24, &m);
	FILE *f = fopen("k.seg", "w");
	assert_true(fwrite(a, 1, n, f) == n && fwrite(b, 1, m, f) == m && fclose(f) == 0); /* of two parts */
	OK(verify_index("k.seg", want));
	assert_int_not_equal(access("k.seg.idx", F_OK), 0); /* only where it is asked for */
	keep("k.seg");
	OK(verify_index("k.seg", got));
	assert_string_equal(got, want);
	unsigned char *idx = (unsigned char *)seg_read_file("k.seg.idx", 1 << 24, &ni);
	assert_non_null(idx);
	struct seg_spool *at;
	struct table t;
	OK(seg_spool_new(&at, 0));
	at->fd = open("k.seg", O_RDONLY);
	at->nbytes = n + m;
	assert_int_equal(table_read("k.seg", at, 600, &t), 0); /* a sample is larger */
	assert_int_equal(table_read("k.seg", at, SIZE_MAX, &t), 1);
	assert_int_equal(t.nparts, 2);
	assert_int_equal(at->count, 9);
	free(t.part);
	seg_spool_free(at);

	for (size_t i = 0; i < ni; i++) { /* damaged, or cut: as if it were not there */
		idx[i] ^= 1 << i % 8;
		put_file("k.seg.idx", idx, ni);
		OK(verify_index("k.seg", got));
		assert_string_equal(got, want);
		idx[i] ^= 1 << i % 8;
		if (i % 8 == 0) {
			put_file("k.seg.idx", idx, i);
			OK(verify_index("k.seg", got));
			assert_string_equal(got, want);
		}
	}
	struct seg_limits few = {.samples = 3}, small = {.sample_bytes = 600};
	struct seg_index *x;
	put_file("k.seg.idx", idx, ni);
	assert_int_equal(seg_index_open(&x, "k.seg", &few), SEG_ECORRUPT);
	assert_int_equal(seg_index_open(&x, "k.seg", &small), SEG_ECORRUPT);

	/* another file of the same length */
	char *c = NULL;
	for (int first = 1; first < 6 && (!c || m != n); first++) {
		free(c);
		write_stream("l1.seg", 5, first);
		c = seg_read_file("l1.seg", 1 << 24, &m);
	}
	assert_int_equal(m, n);
	put_file("l.seg", a, n);
	keep("l.seg");
	put_file("l.seg", c, n);
	OK(verify_index("l1.seg", want));
	OK(verify_index("l.seg", got));
	assert_string_equal(got, want);
	/* the same file, but damaged: the samples are checked as ever */
	put_file("l.seg", a, n);
	a[n / 2] ^= 4;
	put_file("l.seg", a, n);
	assert_int_equal(verify_index("l.seg", got), SEG_ECORRUPT);
	free(a), free(b), free(c), free(idx);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(round_trip), cmocka_unit_test(damage_framed), cmocka_unit_test(damage_unframed),
		cmocka_unit_test(hostile_streams), cmocka_unit_test(hostile_members), cmocka_unit_test(limits),
		cmocka_unit_test(filters), cmocka_unit_test(changes), cmocka_unit_test(models),
		cmocka_unit_test(spools), cmocka_unit_test(provenance), cmocka_unit_test(keys),
		cmocka_unit_test(npy_files), cmocka_unit_test(kept_index),
	};
	return cmocka_run_group_tests_name("stream", t, NULL, NULL);
}
