/* seg-augment's work: every sample, in each epoch, in each copy, through the transforms. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/transform.h"

struct job {
	const struct seg_augment *a;
	struct seg_reader *in;
	struct seg_writer *out;
	struct seg_spool *spool;  /* samples for later epochs; NULL if there are none */
	struct seg_sample now;    /* packed; what copies are made of */
	int epoch, copy, last;    /* of the next item; copies of one sample are first..last */
	size_t i;                 /* sample of the epoch, from the second on */
};

struct item {
	int epoch, copy;
	struct seg_sample s;
};

static void drop(void *arg, void *p)
{
	struct item *it = p;
	(void)arg;
	seg_sample_free(&it->s);
	free(it);
}

/* The packed members of a sample, copied. */
static int duplicate(const struct seg_sample *from, struct seg_sample *to)
{
	to->member = seg_alloc((size_t)from->nmember, sizeof *to->member);
	if (!to->member)
		return SEG_ENOMEM;
	to->cmember = from->nmember;
	to->number = from->number;
	for (; to->nmember < from->nmember; to->nmember++) {
		struct seg_member *m = &to->member[to->nmember];
		*m = from->member[to->nmember];
		m->gz = seg_alloc(m->ngz, 1);
		if (!m->gz)
			return SEG_ENOMEM;
		m->cgz = m->ngz;
		memcpy(m->gz, from->member[to->nmember].gz, m->ngz);
	}
	return SEG_OK;
}

/* The next sample of this epoch, then of the next one: 1, 0 at the very end, or a failure. */
static int advance(struct job *j)
{
	int rc;
	if (j->epoch == 1) {
		rc = seg_read(j->in, &j->now);
		if (rc > 0 && (rc = seg_sample_pack(&j->now, -1)) == SEG_OK)
			rc = j->spool ? seg_spool_add(j->spool, &j->now) : SEG_OK;
		else if (rc <= 0)
			goto end;
		return rc < 0 ? rc : 1;
	}
	if (j->i < seg_spool_count(j->spool))
		return (rc = seg_spool_read(j->spool, j->i++, &j->now)) < 0 ? rc : 1;
	rc = 0;
end:
	if (rc < 0 || j->epoch >= j->a->epochs || !seg_spool_count(j->spool))
		return rc;
	j->epoch++;
	j->i = 0;
	return advance(j);
}

static int next(void *arg, void **p)
{
	struct job *j = arg;
	if (j->copy > j->last) {
		int rc = advance(j);
		if (rc <= 0)
			return rc;
		j->copy = j->a->keep ? 0 : 1;
	}
	struct item *it = *p = seg_alloc(1, sizeof *it);
	if (!it)
		return SEG_ENOMEM;
	it->epoch = j->epoch;
	it->copy = j->copy++;
	int rc = duplicate(&j->now, &it->s);
	if (rc < 0)
		drop(NULL, it);
	return rc < 0 ? rc : 1;
}

/* What was done, behind what an earlier run did. */
static int record(const struct seg_augment *a, const struct item *it, struct seg_json *o, struct seg_json *done)
{
	const struct seg_json *before = seg_json_get(o, "transforms");
	struct seg_json *all = seg_json_is_array(before) ? seg_json_copy(before) : seg_json_array();
	int bad = 0;
	for (size_t i = 0; i < seg_json_size(done); i++)
		bad |= seg_json_add(all, seg_json_copy(seg_json_at(done, i)));
	if (it->copy)
		bad |= seg_json_set(o, "transforms", all);
	else
		seg_json_free(all); /* nothing was to be done */
	if (a->epochs)
		bad |= seg_json_set(o, "epoch", seg_json_int(it->epoch));
	if (a->copies || a->keep)
		bad |= seg_json_set(o, "copy", seg_json_int(it->copy));
	return bad ? SEG_ENOMEM : SEG_OK;
}

static int rename_item(const struct seg_augment *a, struct item *it)
{
	char extra[32] = "", key[SEG_KEY + 1];
	int n = a->epochs ? snprintf(extra, sizeof extra, "_e%d", it->epoch) : 0;
	if (a->copies || a->keep)
		snprintf(extra + n, sizeof extra - (size_t)n, "_c%d", it->copy);
	if (!*extra)
		return SEG_OK;
	seg_key(it->s.key, extra, key);
	return seg_sample_rekey(&it->s, key);
}

static int work(void *arg, void *p, int t)
{
	static const char *const place[] = {"window", "size", "tags"}; /* a moved picture has it no longer */
	struct job *j = arg;
	const struct seg_augment *a = j->a;
	struct item *it = p;
	(void)t;
	int rc = seg_sample_open(&it->s);
	if (rc < 0)
		return rc;
	struct seg_json *o = seg_sample_json(&it->s), *done = seg_json_array();
	rc = o && done ? SEG_OK : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_transform_apply(a->t, it->copy ? a->nt : 0, a->seed, (uint64_t)it->epoch, (uint64_t)it->copy,
		    &it->s, done);
	for (size_t i = 0; rc > 0 && i < sizeof place / sizeof *place; i++)
		seg_json_del(o, place[i]);
	if (rc >= 0)
		rc = record(a, it, o, done);
	if (rc == SEG_OK)
		rc = seg_sample_set_json(&it->s, o);
	if (rc == SEG_OK)
		rc = rename_item(a, it);
	seg_json_free(done);
	seg_json_free(o);
	return rc < 0 ? rc : seg_sample_pack(&it->s, a->level);
}

static int sink(void *arg, void *p)
{
	struct job *j = arg;
	int rc = seg_write(j->out, &((struct item *)p)->s);
	drop(NULL, p);
	return rc;
}

static struct seg_json *options(const struct seg_augment *a)
{
	struct seg_json *o = seg_json_object(), *words = seg_json_array();
	int bad = 0;
	for (int i = 0; i < a->nt; i++)
		bad |= seg_json_add(words, seg_json_str(a->word[i]));
	bad |= seg_json_set(o, "transforms", words) | seg_json_set(o, "seed", seg_json_int((long long)a->seed)) |
	    seg_json_set(o, "epochs", seg_json_int(a->epochs)) | seg_json_set(o, "copies", seg_json_int(a->copies)) |
	    seg_json_set(o, "keep", seg_json_bool(a->keep));
	if (!bad)
		return o;
	seg_json_free(o);
	return NULL;
}

static int open_out(struct job *j)
{
	struct seg_header h = {0};
	int rc = seg_header_copy(&h, seg_reader_header(j->in));
	if (rc < 0)
		return rc;
	if (h.kind != SEG_STREAM)
		rc = seg_fail(SEG_EDATA, "this is a model, not a stream of samples");
	else if (j->a->epochs && seg_json_get(h.more, "epochs"))
		rc = seg_fail(SEG_EDATA, "the stream has been through seg-augment --epochs already; "
		    "without --epochs it is transformed once more");
	else if (j->a->epochs && seg_json_set(h.more, "epochs", seg_json_int(j->a->epochs)) < 0)
		rc = SEG_ENOMEM;
	struct seg_json *o = rc < 0 ? NULL : options(j->a);
	if (rc == SEG_OK)
		rc = o ? seg_header_sign(&h, "seg-augment", o) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_writer_open(&j->out, j->a->out, &h);
	seg_header_free(&h);
	return rc;
}

int seg_augment(const struct seg_augment *a)
{
	struct job j = {.a = a, .epoch = 1, .copy = 1, .last = 0};
	const struct seg_flow f = {next, work, sink, drop, &j};
	int rc = seg_reader_open(&j.in, a->in, NULL);
	if (rc == SEG_OK)
		rc = open_out(&j);
	if (rc == SEG_OK && a->epochs > 1)
		rc = seg_spool_new(&j.spool, a->cache);
	j.last = a->copies ? a->copies : 1;
	j.copy = j.last + 1; /* no sample yet */
	if (rc == SEG_OK)
		rc = seg_flow(&f, a->threads);
	if (rc < 0)
		seg_writer_abort(j.out);
	else
		rc = seg_writer_close(j.out);
	seg_spool_free(j.spool);
	seg_sample_free(&j.now);
	seg_reader_close(j.in);
	return rc;
}
