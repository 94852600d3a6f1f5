/* Checkpoints: a stream of kind checkpoint with the model, the optimiser's moments, and what the epoch
 * adds up to so far.  Where a run goes on from one it has the bits of the run that was not
 * interrupted, on any number of ranks: nothing that a rank knows alone is in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/train/train.h"
#include "seg/err.h"
#include "seg/isa.h"
#include "seg/parallel.h"

enum { VERSION = 1 };

/* Results are the same on all instruction sets of a class. */
static const char *class(void)
{
	return seg_isa() == SEG_ISA_PLAIN ? "plain" : "fma";
}

static struct seg_json *content_json(struct seg_content c)
{
	struct seg_json *j = seg_json_object();
	seg_json_set(j, "samples", seg_json_int((long long)c.samples));
	seg_json_set(j, "bytes", seg_json_int((long long)c.nbytes));
	seg_json_set(j, "crc32", seg_json_int(c.crc));
	return j;
}

/* ---- writing ---- */

/* Where the run stands. */
static struct seg_json *place(const struct trainer *r)
{
	struct seg_json *j = seg_json_object();
	long long epoch;
	struct seg_content c = feed_content(r->feed, &epoch);
	seg_json_set(j, "version", seg_json_int(VERSION));
	seg_json_set(j, "class", seg_json_str(class()));
	seg_json_set(j, "step", seg_json_int((long long)r->step));
	seg_json_set(j, "epoch", seg_json_int(r->epoch));
	seg_json_set(j, "done", seg_json_int((long long)r->tally.n));
	seg_json_set(j, "sum", seg_json_num(r->tally.sum));
	seg_json_set(j, "log", seg_json_int(log_at(r->log)));
	seg_json_set(j, "data", content_json(c));
	if (feed_look(r->feed)->arrival)
		seg_json_set(j, "arrived", seg_json_int(epoch));
	return j;
}

static int put(struct seg_sample *s, const char *suffix, const void *p, size_t n)
{
	struct seg_tensor t;
	if (!n)
		return SEG_OK;
	int rc = seg_tensor_new(&t, SEG_U1, 1, &n);
	if (rc < 0)
		return rc;
	memcpy(t.data, p, n);
	return seg_sample_put(s, suffix, &t);
}

/* Numbers of the epoch so far, as they lie in memory (little-endian, like all of a stream). */
static int write_tally(struct seg_writer *w, const struct trainer *r)
{
	const struct seg_confusion *c = &r->tally.count;
	struct seg_sample s = {0};
	uint64_t pixels[2] = {c->pixels, c->ignored};
	snprintf(s.key, sizeof s.key, "epoch");
	int rc = put(&s, "pixels.npy", pixels, sizeof pixels);
	if (rc == SEG_OK)
		rc = put(&s, "counts.npy", c->tp, 3 * (size_t)c->nclass * sizeof *c->tp);
	if (rc == SEG_OK)
		rc = put(&s, "partials.npy", r->tally.part.data, r->tally.part.n);
	if (rc == SEG_OK)
		rc = seg_sample_pack(&s, -1);
	if (rc == SEG_OK)
		rc = seg_write(w, &s);
	seg_sample_free(&s);
	return rc;
}

static int write_vector(struct seg_writer *w, const char *prefix, const struct trainer *r, const float *packed, float *flat)
{
	if (!packed)
		return SEG_OK;
	seg_net_unpack(r->net, packed, flat);
	return seg_params_write(w, prefix, r->net, flat);
}

static int save(struct trainer *r)
{
	struct seg_header h = {0};
	struct seg_writer *w = NULL;
	float *flat = seg_alloc(seg_net_nparam(r->net), sizeof *flat);
	int rc = flat ? seg_header_copy(&h, &r->head) : SEG_ENOMEM;
	h.kind = SEG_CHECKPOINT;
	if (rc == SEG_OK)
		rc = seg_json_set(h.more, "net", seg_net_json(r->net));
	if (rc == SEG_OK)
		rc = seg_json_set(h.more, "checkpoint", place(r));
	if (rc == SEG_OK)
		rc = seg_writer_open(&w, r->run->checkpoint, &h);
	if (rc == SEG_OK)
		rc = write_vector(w, "", r, r->p, flat);
	if (rc == SEG_OK)
		rc = write_vector(w, "moment1/", r, r->m, flat);
	if (rc == SEG_OK)
		rc = write_vector(w, "moment2/", r, r->v, flat);
	if (rc == SEG_OK)
		rc = write_tally(w, r);
	if (rc == SEG_OK)
		rc = seg_writer_close(w);
	else
		seg_writer_abort(w);
	seg_header_free(&h);
	free(flat);
	r->saved = seg_seconds();
	return rc < 0 ? seg_where(rc, "checkpoint") : rc;
}

int checkpoint_due(struct trainer *r, int must)
{
	enum { ASKED = 1, TIME = 2 };
	const struct seg_run *run = r->run;
	if (!run->checkpoint)
		return SEG_OK;
	if (r->saved == 0)
		r->saved = seg_seconds();
	int bits = run->asked && *run->asked ? ASKED : 0;
	if (r->d->rank == 0 && run->every >= 0 && seg_seconds() - r->saved >= run->every)
		bits |= TIME;
	bits = seg_any(r->d, bits);
	if (!bits && !must)
		return SEG_OK;
	int rc = step_counts(r, &r->tally.count);
	if (rc == SEG_OK)
		rc = seg_agree(r->d, r->d->rank == 0 ? save(r) : SEG_OK);
	return rc < 0 || !(bits & ASKED) ? rc : seg_fail(SEG_ECKPT, "%s: checkpoint after step %ju; run again with --resume to go on",
	    run->checkpoint, (uintmax_t)r->step);
}

/* ---- going on ---- */

/* An option that may differ: it says how far to go, and nothing done so far depends on it. */
static int free_to_differ(const char *key)
{
	return !strcmp(key, "epochs") || !strcmp(key, "max_steps");
}

static int differ(const char *what, const struct seg_json *here, const struct seg_json *there)
{
	char *a = here ? seg_json_text(here) : NULL, *b = there ? seg_json_text(there) : NULL;
	int rc = seg_fail(SEG_EDATA, "of another run: %s is %s here, %s in the checkpoint", what, a ? a : "not given", b ? b : "not given");
	free(a);
	free(b);
	return rc;
}

/* The options of this run and of the checkpoint's. */
static int same_options(const struct seg_json *here, const struct seg_json *there)
{
	const struct seg_json *v;
	const char *key;
	for (void *it = NULL; (it = seg_json_next(here, it, &key, &v));)
		if (!free_to_differ(key) && !seg_json_equal(v, seg_json_get(there, key)))
			return differ(key, v, seg_json_get(there, key));
	return SEG_OK;
}

static int same_run(const struct trainer *r, const struct seg_header *h, const struct seg_json *at)
{
	static const char *const more[] = {"loss", "range"};
	struct seg_json *net = seg_net_json(r->net), *data = content_json(feed_content(r->feed, NULL));
	int rc = SEG_OK;
	if (seg_json_integer(seg_json_get(at, "version"), 0) != VERSION)
		rc = seg_fail(SEG_EDATA, "a checkpoint of version %lld, this program reads %d",
		    seg_json_integer(seg_json_get(at, "version"), 0), VERSION);
	else if (h->task != r->head.task || h->head != r->head.head)
		rc = seg_fail(SEG_EDATA, "of another run: task and head are %s, %s here, %s, %s in the checkpoint", seg_task_text(r->head.task),
		    seg_head_text(r->head.head), seg_task_text(h->task), seg_head_text(h->head));
	else if (h->nclass != r->head.nclass)
		rc = seg_fail(SEG_EDATA, "of another run: %d classes here, %d in the checkpoint", r->head.nclass, h->nclass);
	else if (!seg_json_equal(net, seg_json_get(h->more, "net")))
		rc = differ("the network", net, seg_json_get(h->more, "net"));
	for (int k = 0; rc == SEG_OK && k < h->nclass; k++)
		if (strcmp(h->classes[k], r->head.classes[k]))
			rc = seg_fail(SEG_EDATA, "of another run: class %d is '%s' here, '%s' in the checkpoint", k, r->head.classes[k], h->classes[k]);
	for (int i = 0; rc == SEG_OK && i < 2; i++)
		if (!seg_json_equal(seg_json_get(r->head.more, more[i]), seg_json_get(h->more, more[i])))
			rc = differ(more[i], seg_json_get(r->head.more, more[i]), seg_json_get(h->more, more[i]));
	if (rc == SEG_OK)
		rc = same_options(seg_json_get(r->head.more, "train"), seg_json_get(h->more, "train"));
	if (rc == SEG_OK && !!seg_json_get(at, "arrived") != feed_look(r->feed)->arrival)
		rc = seg_fail(SEG_EDATA, "of another run: one has a stream that carries epochs, the other has not");
	if (rc == SEG_OK && !feed_look(r->feed)->arrival && !seg_json_equal(data, seg_json_get(at, "data")))
		rc = differ("the data", data, seg_json_get(at, "data"));
	const char *was = seg_json_string(seg_json_get(at, "class"), "?");
	if (rc == SEG_OK && strcmp(was, class()) && !r->run->force)
		rc = seg_fail(SEG_EDATA, "made with instructions of class %s, this machine's are %s: other bits from here on; --force goes on",
		    was, class());
	seg_json_free(data);
	seg_json_free(net);
	return rc;
}

static int read_vector(struct seg_reader *rd, const char *prefix, const struct trainer *r, float *flat, float *packed)
{
	int rc = packed ? seg_params_read(rd, prefix, r->net, flat) : SEG_OK;
	if (packed && rc == SEG_OK)
		seg_net_pack(r->net, flat, packed);
	return rc;
}

static int take(const struct seg_sample *s, const char *suffix, void *p, size_t n)
{
	const struct seg_tensor *t = seg_sample_tensor(s, suffix);
	if (n && (!t || t->dtype != SEG_U1 || seg_tensor_count(t) != n))
		return seg_fail(SEG_ECORRUPT, "epoch.%s is not %zu bytes", suffix, n);
	if (n)
		memcpy(p, t->data, n);
	return SEG_OK;
}

static int read_tally(struct seg_reader *rd, struct trainer *r)
{
	struct seg_confusion *c = &r->tally.count;
	struct seg_sample s = {0};
	uint64_t pixels[2] = {0};
	int rc = seg_read(rd, &s);
	rc = rc == 1 ? seg_sample_open(&s) : rc < 0 ? rc : seg_fail(SEG_ECORRUPT, "ends before the record of the epoch");
	if (rc == SEG_OK)
		rc = take(&s, "pixels.npy", pixels, sizeof pixels);
	if (rc == SEG_OK)
		rc = take(&s, "counts.npy", c->tp, 3 * (size_t)c->nclass * sizeof *c->tp);
	const struct seg_tensor *t = rc == SEG_OK ? seg_sample_tensor(&s, "partials.npy") : NULL;
	size_t n = r->tally.n * seg_loss_npartial(r->goal.loss, 0) * sizeof(double);
	if (rc == SEG_OK && (t ? seg_tensor_count(t) : 0) != n)
		rc = seg_fail(SEG_ECORRUPT, "partials of another number of samples than %zu", r->tally.n);
	if (rc == SEG_OK && n)
		rc = seg_buf_add(&r->tally.part, t->data, n);
	c->pixels = pixels[0];
	c->ignored = pixels[1];
	if (rc == SEG_OK && (rc = seg_read(rd, &s)) == 1)
		rc = seg_fail(SEG_ECORRUPT, "goes on behind the record of the epoch");
	seg_sample_free(&s);
	return rc;
}

/* What rank 0 tells the others besides the vectors. */
struct state {
	uint64_t step, n;
	double sum;
	int epoch, here;
	size_t npart;
	long long keep, arrived;
	struct seg_content used;
};

static int load(struct trainer *r, struct state *s)
{
	struct seg_reader *rd = NULL;
	float *flat = seg_alloc(seg_net_nparam(r->net), sizeof *flat);
	int rc = flat ? seg_reader_open(&rd, r->run->checkpoint, NULL) : SEG_ENOMEM;
	if (rc < 0)
		goto done;
	const struct seg_header *h = seg_reader_header(rd);
	const struct seg_json *at = seg_json_get(h->more, "checkpoint"), *data = seg_json_get(at, "data");
	rc = h->kind == SEG_CHECKPOINT ? same_run(r, h, at) : seg_fail(SEG_EDATA, "not a checkpoint");
	if (rc == SEG_OK)
		rc = read_vector(rd, "", r, flat, r->p);
	if (rc == SEG_OK)
		rc = read_vector(rd, "moment1/", r, flat, r->m);
	if (rc == SEG_OK)
		rc = read_vector(rd, "moment2/", r, flat, r->v);
	*s = (struct state){.step = (uint64_t)seg_json_integer(seg_json_get(at, "step"), 0), .here = 1,
	    .n = (uint64_t)seg_json_integer(seg_json_get(at, "done"), 0), .sum = seg_json_number(seg_json_get(at, "sum"), 0),
	    .epoch = (int)seg_json_integer(seg_json_get(at, "epoch"), 1), .keep = seg_json_integer(seg_json_get(at, "log"), 0),
	    .arrived = seg_json_integer(seg_json_get(at, "arrived"), 0),
	    .used = {(uint64_t)seg_json_integer(seg_json_get(data, "samples"), 0),
	        (uint64_t)seg_json_integer(seg_json_get(data, "bytes"), 0), (uint32_t)seg_json_integer(seg_json_get(data, "crc32"), 0)}};
	r->tally.n = s->n;
	if (rc == SEG_OK)
		rc = read_tally(rd, r);
	s->npart = r->tally.part.n;
	if (rc < 0 && strncmp(seg_reason(), r->run->checkpoint, strlen(r->run->checkpoint)))
		seg_where(rc, "%s", r->run->checkpoint);
done:
	seg_reader_close(rd);
	free(flat);
	return rc;
}

/* Vectors and tally, from rank 0 to all. */
static int spread(struct trainer *r, const struct state *s)
{
	struct seg_dist *d = r->d;
	struct seg_confusion *c = &r->tally.count;
	float *const vector[] = {r->p, r->m, r->v};
	int rc = seg_agree(d, d->rank > 0 ? seg_buf_need(&r->tally.part, s->npart) : SEG_OK);
	for (int i = 0; rc == SEG_OK && i < 3; i++)
		if (vector[i])
			rc = d->bcast(d, vector[i], r->n * sizeof **vector, 0);
	if (rc == SEG_OK)
		rc = d->bcast(d, r->tally.part.data, s->npart, 0);
	if (rc == SEG_OK)
		rc = d->bcast(d, c->tp, 3 * (size_t)c->nclass * sizeof *c->tp, 0);
	if (rc == SEG_OK)
		rc = d->bcast(d, &c->pixels, sizeof c->pixels, 0);
	if (rc == SEG_OK)
		rc = d->bcast(d, &c->ignored, sizeof c->ignored, 0);
	r->tally.part.n = s->npart;
	return rc;
}

int checkpoint_resume(struct trainer *r, long long *keep)
{
	struct state s = {0};
	int rc = r->d->rank == 0 && access(r->run->checkpoint, F_OK) == 0 ? load(r, &s) : SEG_OK;
	if ((rc = seg_agree(r->d, rc)) < 0 || (rc = r->d->bcast(r->d, &s, sizeof s, 0)) < 0 || !s.here ||
	    (rc = spread(r, &s)) < 0)
		return rc;
	r->step = s.step;
	r->epoch = s.epoch;
	r->tally.n = s.n;
	r->tally.sum = s.sum;
	*keep = s.keep;
	seg_weights_set(r->weights, r->p);
	if (feed_look(r->feed)->arrival && (rc = feed_skip(r->feed, s.used, s.arrived)) >= 0)
		r->over = s.n > 0 && rc == 0;
	return rc < 0 ? rc : 1;
}
