/* What hopping through a file finds, kept in FILE.idx beside it: so that a million samples need not be
 * hopped through by each program and rank again.  Numbers are u64, little-endian:
 *
 *   magic, bytes of the file, CRC-32 of its headers and ENDs, inflated bytes of the largest sample,
 *   number of parts, number of samples,
 *   of each part: place and length of header and END, samples, their inflated bytes and CRC-32,
 *   of each sample: place and length,
 *   CRC-32 of all this.
 *
 * It belongs to the file if length, headers and ENDs are the same: an END has the CRC-32 of all data. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/file.h"

static const uint64_t MAGIC = 0x0131786469676573; /* "segidx1" and 1 */
enum { HEAD = 6, PART = sizeof(struct stretch) / sizeof(uint64_t), PLACE = 2 };

static char *name_of(const char *path)
{
	return seg_format("%s.idx", path);
}

/* CRC-32 of headers and ENDs as they lie in the file. */
static int stamp(const struct seg_spool *at, const struct stretch *part, uint64_t nparts, uint64_t *crc)
{
	struct seg_buf b = {0};
	int rc = SEG_OK;
	uint32_t sum = 0;
	for (uint64_t i = 0; rc == SEG_OK && i < 2 * nparts; i++) {
		uint64_t off = i % 2 ? part[i / 2].end : part[i / 2].header, n = i % 2 ? part[i / 2].nend : part[i / 2].nheader;
		if (n > (uint64_t)2 * MODEL_HEADER_BYTES)
			rc = SEG_ECORRUPT;
		if (rc == SEG_OK && (rc = seg_buf_need(&b, n)) == SEG_OK && (rc = spool_fetch(at, off, b.data, n)) == SEG_OK)
			sum = crc_add(sum, b.data, n);
	}
	free(b.data);
	*crc = sum;
	return rc;
}

/* The numbers u[n] are those of this file: places lie in it, one behind another. */
static int fits(const uint64_t *u, size_t n, const struct seg_spool *at)
{
	uint64_t crc, samples = 0, off = 0;
	if (n < HEAD + 1 || u[0] != MAGIC || u[1] != at->nbytes || u[n - 1] != crc_add(0, u, (n - 1) * sizeof *u) ||
	    u[4] > n || u[5] > n || n != HEAD + PART * u[4] + PLACE * u[5] + 1)
		return 0;
	const struct stretch *part = (const struct stretch *)(const void *)(u + HEAD);
	const uint64_t *place = u + HEAD + PART * u[4];
	for (uint64_t i = 0; i < u[4]; i++)
		samples += part[i].samples;
	for (uint64_t i = 0; i < u[5]; off = place[PLACE * i] + place[PLACE * i + 1], i++)
		if (place[PLACE * i] < off || place[PLACE * i + 1] > at->nbytes || place[PLACE * i] > at->nbytes - place[PLACE * i + 1])
			return 0;
	return samples == u[5] && stamp(at, part, u[4], &crc) == SEG_OK && crc == u[2];
}

int table_read(const char *path, struct seg_spool *at, size_t limit, struct table *t)
{
	char *name = name_of(path), *text = NULL;
	struct stat st;
	size_t nbytes, n = 0;
	int found = 0;
	*t = (struct table){0};
	/* no sample is shorter than what the table says of it */
	if (name && stat(name, &st) == 0 && S_ISREG(st.st_mode))
		text = seg_read_file(name, at->nbytes + 4096, &nbytes);
	free(name);
	uint64_t *u = text ? seg_alloc(nbytes / sizeof *u + 1, sizeof *u) : NULL; /* aligned */
	if (u && nbytes % sizeof *u == 0) {
		memcpy(u, text, nbytes);
		n = nbytes / sizeof *u;
		found = fits(u, n, at) && u[3] <= limit;
	}
	free(text);
	if (found) {
		t->largest = u[3];
		t->nparts = u[4];
		t->part = seg_alloc(t->nparts, sizeof *t->part);
		found = t->part != NULL;
	}
	if (found)
		memcpy(t->part, u + HEAD, t->nparts * sizeof *t->part);
	for (uint64_t i = 0; found && i < u[5]; i++) {
		const uint64_t *place = u + HEAD + PART * u[4] + PLACE * i;
		found = spool_place(at, place[0], i) == SEG_OK;
		if (found)
			at->place[i].n = place[1];
	}
	free(u);
	return found;
}

int table_write(const char *path, const struct seg_spool *at, const struct table *t)
{
	uint64_t head[HEAD] = {MAGIC, at->nbytes, 0, t->largest, t->nparts, at->count}, crc;
	struct seg_buf b = {0};
	struct seg_new f = {.fd = -1};
	char *name = name_of(path);
	int rc = name ? stamp(at, t->part, t->nparts, &head[2]) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_buf_add(&b, head, sizeof head);
	if (rc == SEG_OK)
		rc = seg_buf_add(&b, t->part, t->nparts * sizeof *t->part);
	for (size_t i = 0; rc == SEG_OK && i < at->count; i++)
		rc = seg_buf_add(&b, (uint64_t[]){at->place[i].off, at->place[i].n}, PLACE * sizeof(uint64_t));
	crc = crc_add(0, b.data, b.n);
	if (rc == SEG_OK)
		rc = seg_buf_add(&b, &crc, sizeof crc);
	if (rc == SEG_OK && (rc = seg_new_open(&f, name)) == SEG_OK) {
		rc = seg_write_full(f.fd, b.data, b.n);
		if (rc == SEG_OK)
			rc = seg_new_commit(&f);
		else
			seg_new_discard(&f);
	}
	free(b.data);
	free(name);
	return rc;
}
