/* Writing a stream: header, samples, END. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/file.h"

struct seg_writer {
	struct seg_new file; /* file.path NULL: stdout */
	int fd;
	char *name, last[SEG_KEY + 1];
	uint64_t count;
	uint32_t crc;
	struct seg_json *also;
};

const char *writer_name(const struct seg_writer *w) { return w->name; }

static void writer_free(struct seg_writer *w)
{
	seg_json_free(w->also);
	free(w->name);
	free(w);
}

void seg_writer_abort(struct seg_writer *w)
{
	if (!w)
		return;
	if (w->file.path)
		seg_new_discard(&w->file);
	writer_free(w);
}

static int put(struct seg_writer *w, const struct seg_member *m)
{
	int rc = seg_write_full(w->fd, m->gz, m->ngz);
	return rc < 0 ? seg_where(rc, "%s", w->name) : rc;
}

/* A member of one JSON entry: header or END.  Takes text. */
static int put_json(struct seg_writer *w, const char *name, char *text, uint32_t flags)
{
	struct seg_member m = {0};
	size_t n = text ? strlen(text) : 0;
	char *raw = text ? seg_alloc(BLOCK + tar_padded(n), 1) : NULL;
	int rc = raw ? tar_head(raw, name, n) : SEG_EDATA;
	if (rc == SEG_OK) {
		memcpy(raw + BLOCK, text, n);
		rc = member_pack(&m, raw, BLOCK + tar_padded(n), 1, flags);
	}
	if (rc == SEG_OK)
		rc = put(w, &m);
	free(m.gz);
	free(raw);
	free(text);
	return rc;
}

static int open_file(struct seg_writer *w, const char *path)
{
	w->fd = STDOUT_FILENO;
	w->name = seg_strdup(path ? path : "<stdout>");
	if (!w->name)
		return SEG_ENOMEM;
	if (path) {
		int rc = seg_new_open(&w->file, path);
		w->fd = w->file.fd;
		return rc;
	}
	fcntl(w->fd, F_SETPIPE_SZ, 1 << 20); /* three times the speed of a 64 KiB pipe; may be refused */
	return SEG_OK;
}

int seg_writer_open(struct seg_writer **out, const char *path, const struct seg_header *h)
{
	struct seg_writer *w = seg_alloc(1, sizeof *w);
	size_t limit = h->kind == SEG_STREAM ? HEADER_BYTES : MODEL_HEADER_BYTES;
	*out = NULL;
	if (!w)
		return SEG_ENOMEM;
	w->also = seg_json_array();
	char *text = header_text(h, 1);
	int rc = text && w->also ? SEG_OK : SEG_EDATA;
	if (rc == SEG_OK && strlen(text) > limit)
		rc = seg_fail(SEG_EDATA, "header: %zu bytes, %zu are possible; use shorter class names", strlen(text), limit);
	if (rc == SEG_OK)
		rc = open_file(w, path && strcmp(path, "-") != 0 ? path : NULL);
	if (rc < 0) {
		free(text);
		writer_free(w);
		return rc;
	}
	rc = put_json(w, HEADER_NAME, text, FLAG_HEADER);
	if (rc < 0)
		seg_writer_abort(w);
	else
		*out = w;
	return rc;
}

int seg_write(struct seg_writer *w, struct seg_sample *s)
{
	int rc = seg_sample_pack(s, -1); /* what is packed already stays as it is */
	if (rc == SEG_OK && s->key[0] && !strcmp(s->key, w->last))
		rc = seg_fail(SEG_EDATA, "%s: sample %ju has the key of the one before, '%s'", w->name,
		    (uintmax_t)w->count, s->key);
	for (int i = 0; rc == SEG_OK && i < s->nmember; i++) {
		rc = put(w, &s->member[i]);
		w->crc = crc_join(w->crc, s->member[i].crc, s->member[i].nraw);
	}
	if (rc == SEG_OK)
		w->count++;
	memcpy(w->last, s->key, sizeof w->last);
	return rc;
}

int writer_also(struct seg_writer *w, const struct seg_json *provenance, size_t from)
{
	int rc = SEG_OK;
	for (size_t i = from; rc == SEG_OK && i < seg_json_size(provenance); i++)
		rc = seg_json_add(w->also, seg_json_copy(seg_json_at(provenance, i)));
	return rc;
}

static int put_end(struct seg_writer *w)
{
	struct seg_json *j = seg_json_object();
	int rc = seg_json_set(j, "samples", seg_json_int((long long)w->count));
	rc |= seg_json_set(j, "crc32", seg_json_int(w->crc));
	if (seg_json_size(w->also))
		rc |= seg_json_set(j, "provenance", seg_json_copy(w->also));
	char *text = rc < 0 ? NULL : seg_json_text(j);
	seg_json_free(j);
	return put_json(w, END_NAME, text, FLAG_END);
}

int seg_writer_close(struct seg_writer *w)
{
	int rc = put_end(w);
	if (rc < 0) {
		seg_writer_abort(w);
		return rc;
	}
	if (w->file.path)
		rc = seg_new_commit(&w->file);
	writer_free(w);
	return rc;
}
