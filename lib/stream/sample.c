/* A sample: packed members on one side, tensors and bytes on the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"

void seg_sample_clear(struct seg_sample *s)
{
	for (int i = 0; i < s->nentry; i++)
		if (s->entry[i].owned)
			free(s->entry[i].is_tensor ? s->entry[i].t.data : s->entry[i].bytes);
	s->nentry = s->nmember = 0;
	s->key[0] = 0;
}

void seg_sample_free(struct seg_sample *s)
{
	seg_sample_clear(s);
	for (int i = 0; i < s->cmember; i++)
		free(s->member[i].gz);
	for (int i = 0; i < SEG_MAXMEMBER; i++)
		free(s->mem[i]);
	free(s->member);
	free(s->entry);
	free(s->raw);
	*s = (struct seg_sample){0};
}

int sample_mem(struct seg_sample *s, int i, size_t nbytes)
{
	if (nbytes <= s->cmem[i])
		return SEG_OK;
	free(s->mem[i]);
	s->mem[i] = seg_alloc_aligned(nbytes, 1);
	s->cmem[i] = s->mem[i] ? nbytes : 0;
	return s->mem[i] ? SEG_OK : SEG_ENOMEM;
}

struct seg_member *sample_member(struct seg_sample *s)
{
	if (s->nmember == SEG_MAXMEMBER) {
		seg_fail(SEG_ECORRUPT, "more than %d members in a sample", SEG_MAXMEMBER);
		return NULL;
	}
	if (s->nmember == s->cmember) {
		struct seg_member *m = seg_realloc(s->member, (size_t)s->cmember + 4, sizeof *m);
		if (!m)
			return NULL;
		memset(m + s->cmember, 0, 4 * sizeof *m);
		s->member = m;
		s->cmember += 4;
	}
	return &s->member[s->nmember];
}

int seg_sample_add_member(struct seg_sample *s, const struct seg_member *from)
{
	struct seg_member *m = sample_member(s);
	if (!m || member_room(m, from->ngz) < 0)
		return SEG_ENOMEM;
	memcpy(m->gz, from->gz, from->ngz);
	m->ngz = from->ngz;
	m->nraw = from->nraw;
	m->crc = from->crc;
	s->nmember++;
	return SEG_OK;
}

/* ---- entries ---- */

/* A new entry of that suffix at the end, or NULL. */
static struct seg_entry *entry_new(struct seg_sample *s, const char *suffix)
{
	size_t n = strlen(suffix);
	if (n == 0 || n > SEG_SUFFIX || strspn(suffix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") != n) {
		seg_fail(SEG_ECORRUPT, "suffix '%.40s' is not allowed (1 to %d of A-Z a-z 0-9 _ . -)", suffix, SEG_SUFFIX);
		return NULL;
	}
	if (s->nentry == s->centry) {
		int c = s->centry ? 2 * s->centry : 8;
		struct seg_entry *e = seg_realloc(s->entry, (size_t)c, sizeof *e);
		if (!e)
			return NULL;
		s->entry = e;
		s->centry = c;
	}
	struct seg_entry *e = &s->entry[s->nentry];
	*e = (struct seg_entry){.member = -1};
	strcpy(e->suffix, suffix);
	e->is_tensor = !strcmp(suffix, "npy") || (n > 4 && !strcmp(suffix + n - 4, ".npy"));
	s->nentry++;
	return e;
}

struct seg_entry *seg_sample_find(const struct seg_sample *s, const char *suffix)
{
	for (int i = 0; i < s->nentry; i++)
		if (!strcmp(s->entry[i].suffix, suffix))
			return &s->entry[i];
	return NULL;
}

const struct seg_tensor *seg_sample_tensor(const struct seg_sample *s, const char *suffix)
{
	const struct seg_entry *e = seg_sample_find(s, suffix);
	return e && e->is_tensor ? &e->t : NULL;
}

/* The data of an .npy entry, moved down within its entry where its writer did not align it. */
static int tensor_in_place(struct seg_entry *e, const struct tar_entry *te)
{
	int rc = seg_npy_parse(te->data, te->n, SIZE_MAX, &e->t);
	size_t off = rc < 0 ? 0 : (uintptr_t)e->t.data % 64;
	if (off % seg_dtype_size(e->t.dtype))
		e->t.data = memmove((char *)e->t.data - off, e->t.data, seg_tensor_nbytes(&e->t));
	return rc;
}

static int parse_entry(struct seg_sample *s, const struct tar_entry *te, int member)
{
	size_t nkey = strcspn(te->name, ".");
	const char *suffix = te->name + nkey + (te->name[nkey] == '.');
	if (key_check(te->name, nkey) < 0)
		return SEG_ECORRUPT;
	if (!s->key[0]) {
		memcpy(s->key, te->name, nkey);
		s->key[nkey] = 0;
	}
	if (strlen(s->key) != nkey || memcmp(s->key, te->name, nkey) != 0)
		return seg_fail(SEG_ECORRUPT, "an entry '%s' among those of '%s'", te->name, s->key);
	if (seg_sample_find(s, suffix))
		return seg_fail(SEG_ECORRUPT, "two entries '%s'", te->name);
	struct seg_entry *e = entry_new(s, suffix);
	if (!e)
		return SEG_ECORRUPT;
	e->member = member;
	e->bytes = te->data;
	e->nbytes = te->n;
	int rc = e->is_tensor ? tensor_in_place(e, te) : SEG_OK;
	return rc < 0 ? seg_where(rc, "%s", te->name) : rc;
}

int sample_parse(struct seg_sample *s, char *raw, size_t n, int member)
{
	struct tar_entry te;
	size_t off = 0;
	int rc;
	while ((rc = tar_next(raw, n, &off, &te)) > 0)
		if ((rc = parse_entry(s, &te, member)) < 0)
			break;
	return rc;
}

int seg_sample_open(struct seg_sample *s)
{
	int rc = SEG_OK;
	if (s->nentry)
		return SEG_OK; /* open already */
	for (int i = 0; rc == SEG_OK && i < s->nmember; i++) {
		rc = sample_mem(s, i, s->member[i].nraw);
		if (rc == SEG_OK)
			rc = member_inflate(&s->member[i], s->mem[i]);
		if (rc == SEG_OK)
			rc = sample_parse(s, s->mem[i], s->member[i].nraw, i);
	}
	if (rc == SEG_OK && s->nentry == 0)
		rc = seg_fail(SEG_ECORRUPT, "no entry");
	if (rc == SEG_OK)
		rc = sample_check(s);
	if (rc < 0)
		seg_where(rc, s->key[0] ? "sample %ju (%s)" : "sample %ju", (uintmax_t)s->number, s->key);
	return rc;
}

/* ---- changes ---- */

/* Member i is to be packed anew: its entries are new again. */
static void unpack(struct seg_sample *s, int i)
{
	struct seg_member m = s->member[i];
	for (int j = 0; j < s->nentry; j++) {
		struct seg_entry *e = &s->entry[j];
		e->member = e->member == i ? -1 : e->member > i ? e->member - 1 : e->member;
	}
	s->nmember--;
	memmove(&s->member[i], &s->member[i + 1], (size_t)(s->nmember - i) * sizeof m);
	s->member[s->nmember] = m; /* its buffer serves the next */
}

int seg_sample_drop(struct seg_sample *s, const char *suffix)
{
	struct seg_entry *e = seg_sample_find(s, suffix);
	if (!e)
		return SEG_OK;
	if (e->member >= 0)
		unpack(s, e->member);
	if (e->owned)
		free(e->is_tensor ? e->t.data : e->bytes);
	s->nentry--;
	memmove(e, e + 1, (size_t)(&s->entry[s->nentry] - e) * sizeof *e);
	return SEG_OK;
}

int seg_sample_put(struct seg_sample *s, const char *suffix, struct seg_tensor *t)
{
	seg_sample_drop(s, suffix);
	struct seg_entry *e = entry_new(s, suffix);
	if (!e || !e->is_tensor) {
		if (e)
			s->nentry--;
		seg_tensor_free(t);
		return e ? seg_fail(SEG_EDATA, "%s: a tensor's suffix ends in npy", suffix) : SEG_EDATA;
	}
	e->t = *t;
	e->owned = 1;
	*t = (struct seg_tensor){0};
	return SEG_OK;
}

int seg_sample_put_bytes(struct seg_sample *s, const char *suffix, char *bytes, size_t nbytes)
{
	seg_sample_drop(s, suffix);
	struct seg_entry *e = entry_new(s, suffix);
	if (!e || e->is_tensor) {
		if (e)
			s->nentry--;
		free(bytes);
		return e ? seg_fail(SEG_EDATA, "%s: bytes under a tensor's suffix", suffix) : SEG_EDATA;
	}
	e->bytes = bytes;
	e->nbytes = nbytes;
	e->owned = 1;
	return SEG_OK;
}

struct seg_json *seg_sample_json(const struct seg_sample *s)
{
	const struct seg_entry *e = seg_sample_find(s, "json");
	struct seg_json *j = e ? seg_json_parse(e->bytes, e->nbytes) : seg_json_object();
	if (!j)
		seg_where(SEG_ECORRUPT, "%s.json", s->key);
	return j;
}

int seg_sample_set_json(struct seg_sample *s, const struct seg_json *j)
{
	char *text = seg_json_text(j);
	return text ? seg_sample_put_bytes(s, "json", text, strlen(text)) : SEG_ENOMEM;
}

int seg_sample_rekey(struct seg_sample *s, const char *key)
{
	size_t n = strlen(key);
	if (key_check(key, n) < 0)
		return SEG_EDATA;
	while (s->nmember)
		unpack(s, s->nmember - 1);
	memcpy(s->key, key, n + 1);
	return SEG_OK;
}

/* ---- packing ---- */

static int is_float(const struct seg_entry *e)
{
	return e->is_tensor && (e->t.dtype == SEG_F4 || e->t.dtype == SEG_F8);
}

static int append(struct seg_buf *b, const struct seg_sample *s, const struct seg_entry *e)
{
	static const char zeros[BLOCK];
	char name[NAME + 2], block[BLOCK], *head = NULL;
	size_t nhead = 0, ndata = e->is_tensor ? seg_tensor_nbytes(&e->t) : e->nbytes;
	int rc = e->is_tensor ? seg_npy_head(&e->t, &head, &nhead) : SEG_OK;
	snprintf(name, sizeof name, "%s.%s", s->key, e->suffix);
	if (rc == SEG_OK)
		rc = tar_head(block, name, nhead + ndata);
	size_t pad = tar_padded(nhead + ndata) - nhead - ndata;
	if (rc == SEG_OK)
		rc = seg_buf_need(b, BLOCK + nhead + ndata + pad);
	if (rc == SEG_OK) {
		seg_buf_add(b, block, BLOCK);
		seg_buf_add(b, head, nhead);
		seg_buf_add(b, e->is_tensor ? e->t.data : e->bytes, ndata);
		seg_buf_add(b, zeros, pad);
	}
	free(head);
	return rc;
}

/* New entries `floats` or not, from *i on, become the next member: one float tensor, or all others. */
static int pack_some(struct seg_sample *s, int from, int floats, int level)
{
	struct seg_buf b = {s->raw, 0, s->craw};
	struct seg_member *m = sample_member(s);
	int rc = m ? SEG_OK : SEG_EDATA, used = 0;
	for (int i = from; rc == SEG_OK && i < s->nentry && !(floats && used); i++) {
		struct seg_entry *e = &s->entry[i];
		if (e->member >= 0 || is_float(e) != floats)
			continue;
		rc = append(&b, s, e);
		e->member = s->nmember;
		used = 1;
	}
	s->raw = b.data;
	s->craw = b.cap;
	if (rc == SEG_OK)
		rc = member_pack(m, s->raw, b.n, level < 0 ? !floats : level, 0);
	if (rc == SEG_OK)
		s->nmember++;
	return rc;
}

/* The last member becomes the first: where images, truth and json are looked for. */
static void to_front(struct seg_sample *s)
{
	int last = s->nmember - 1;
	struct seg_member m = s->member[last];
	memmove(&s->member[1], &s->member[0], (size_t)last * sizeof m);
	s->member[0] = m;
	for (int i = 0; i < s->nentry; i++)
		if (s->entry[i].member >= 0)
			s->entry[i].member = s->entry[i].member == last ? 0 : s->entry[i].member + 1;
}

int seg_sample_pack(struct seg_sample *s, int level)
{
	int fresh = 0, kept = 0, rc = key_check(s->key, strlen(s->key));
	if (rc < 0 && s->nentry == 0 && s->nmember > 0)
		return SEG_OK; /* never opened: nothing is new */
	if (rc == SEG_OK && s->nentry == 0)
		rc = seg_fail(SEG_EDATA, "no entry");
	if (rc == SEG_OK)
		rc = sample_check(s);
	for (int i = 0; i < s->nentry; i++)
		if (!is_float(&s->entry[i]))
			*(s->entry[i].member < 0 ? &fresh : &kept) = 1;
	if (rc == SEG_OK && fresh && (rc = pack_some(s, 0, 0, level)) == SEG_OK && !kept)
		to_front(s);
	for (int i = 0; rc == SEG_OK && i < s->nentry; i++)
		if (s->entry[i].member < 0)
			rc = pack_some(s, i, 1, level);
	for (int i = 0; rc == SEG_OK && i < s->nmember; i++)
		member_flags(&s->member[i], i == 0 ? FLAG_FIRST : 0);
	return rc < 0 ? seg_where(rc, "sample %s", s->key) : rc;
}
