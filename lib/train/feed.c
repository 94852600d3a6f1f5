/* Who gets which sample.
 * A file is indexed by every rank, and each reads its own samples.  Anything else is read by rank 0,
 * put aside to its END, and handed out packed, batch by batch; a stream that carries epochs is not
 * put aside but handed out as it comes.  While a batch is trained the next one is read. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/train/train.h"
#include "seg/err.h"
#include "seg/parallel.h"
#include "seg/report.h"
#include "seg/rng.h"

enum kind { INDEXED, SPOOLED, ARRIVING };

/* A batch being filled, and what became of it. */
struct slot {
	struct batch b;
	struct seg_sample *raw; /* rank 0, not INDEXED: all samples of the batch, packed */
	size_t nraw;
	int rc;
	char reason[1024];
};

struct feed {
	struct seg_dist *d;
	size_t batch;
	int threads;
	char *name;
	enum kind kind;
	struct look look;
	struct input expect;
	struct seg_header head;
	struct seg_index *index;
	struct seg_spool *spool;   /* rank 0 */
	struct seg_reader *reader; /* rank 0 */
	size_t *order, pos;        /* of the epoch; pos: where the batch that is being filled begins */

	struct seg_content content; /* rank 0: of all samples; ARRIVING: of those of batches handed out */

	struct seg_sample next;    /* rank 0, ARRIVING: read, but of no batch yet */
	int have, ended;           /* next is one; END was seen */
	long long next_epoch, epoch;

	struct slot slot[2];
	int cur;                   /* the slot being filled */
	pthread_t reading;
	int running;
	double waited;
};

/* ---- one sample */

static int look_at(struct feed *f, struct seg_sample *s)
{
	int rc = s->nentry ? SEG_OK : seg_sample_open(s);
	if (rc < 0)
		return rc;
	const struct seg_tensor *t = input_image(&(struct input){.multiple = 1}, s);
	struct seg_json *j = t ? seg_sample_json(s) : NULL;
	if (!j)
		return SEG_EDATA;
	f->look = (struct look){.channels = (int)t->dim[2], .dtype = t->dtype, .weight = seg_bind_weight(s),
	                        .arrival = seg_json_get(j, "epoch") != NULL};
	seg_json_free(j);
	return SEG_OK;
}

static void item_clear(struct item *it)
{
	if (it->bound)
		seg_unbind(&it->l);
	it->bound = 0;
	seg_sample_clear(&it->sample);
}

static int item_bind(const struct feed *f, struct item *it)
{
	struct seg_sample *s = &it->sample;
	int rc = seg_sample_open(s);
	if (rc < 0)
		return rc;
	it->image = input_image(&f->expect, s);
	if (!it->image)
		return SEG_EDATA;
	rc = seg_bind(&f->head, s, 1, 0, &it->l);
	if (rc < 0)
		return rc;
	it->bound = 1;
	if (it->l.weight && seg_bind_weight(s) != f->expect.weight)
		return seg_fail(SEG_EDATA, "sample %s: weight.npy has other axes than that of the first sample "
		    "(or the first has none)", s->key);
	it->l.p = it->l.z = NULL; /* predictions a stream may carry are not ours */
	return SEG_OK;
}

/* Inflate, check and bind. */
static int item_ready(const struct feed *f, struct item *it)
{
	int rc = item_bind(f, it);
	return rc < 0 ? seg_where(rc, "%s", f->name) : rc;
}

/* ---- filling a batch: beside the training, without the other ranks */

static int share(struct feed *f, struct slot *s, size_t n)
{
	struct batch *b = &s->b;
	b->n = n;
	b->at = seg_share(n, f->d->rank, f->d->size);
	b->mine = seg_share(n, f->d->rank + 1, f->d->size) - b->at;
	if (b->mine <= b->cap)
		return SEG_OK;
	struct item *more = seg_realloc(b->item, b->mine, sizeof *more);
	if (!more)
		return SEG_ENOMEM;
	memset(more + b->cap, 0, (b->mine - b->cap) * sizeof *more);
	b->item = more;
	b->cap = b->mine;
	return SEG_OK;
}

static size_t left(const struct feed *f)
{
	size_t n = f->look.count - f->pos;
	return n < f->batch ? n : f->batch;
}

static int fill_indexed(struct feed *f, struct slot *s)
{
	int rc = share(f, s, left(f));
	for (size_t i = 0; rc == SEG_OK && i < s->b.mine; i++) {
		item_clear(&s->b.item[i]);
		rc = seg_index_read(f->index, f->order[f->pos + s->b.at + i], &s->b.item[i].sample);
		if (rc == SEG_OK)
			rc = item_ready(f, &s->b.item[i]);
	}
	return rc;
}

static int fill_spooled(struct feed *f, struct slot *s)
{
	int rc = SEG_OK;
	for (s->nraw = 0; rc == SEG_OK && s->nraw < left(f); s->nraw++)
		rc = seg_spool_read(f->spool, f->order[f->pos + s->nraw], &s->raw[s->nraw]);
	return rc;
}

/* The epoch of the sample just read into f->next, which must not be before that of the last. */
static int take_epoch(struct feed *f)
{
	int rc = f->next.nentry ? SEG_OK : seg_sample_open(&f->next);
	struct seg_json *j = rc == SEG_OK ? seg_sample_json(&f->next) : NULL;
	if (!j)
		return rc < 0 ? rc : SEG_EDATA;
	f->next_epoch = seg_json_integer(seg_json_get(j, "epoch"), -1);
	seg_json_free(j);
	if (f->next_epoch < 0)
		return seg_fail(SEG_EDATA, "sample %s: its json has no \"epoch\", but samples before it have",
		    f->next.key);
	if (f->next_epoch < f->epoch)
		return seg_fail(SEG_EDATA, "sample %s: of epoch %lld, arrives after epoch %lld", f->next.key,
		    f->next_epoch, f->epoch);
	f->have = 1;
	return seg_sample_pack(&f->next, -1);
}

/* Have the next sample of the stream at hand, unless it is at its END. */
static int peek(struct feed *f)
{
	if (f->have || f->ended)
		return SEG_OK;
	int rc = seg_read(f->reader, &f->next);
	f->ended = rc == 0;
	if (rc <= 0)
		return rc;
	rc = take_epoch(f);
	return rc < 0 ? seg_where(rc, "%s", f->name) : rc;
}

static int fill_arriving(struct feed *f, struct slot *s)
{
	for (s->nraw = 0; s->nraw < f->batch; s->nraw++) {
		int rc = peek(f);
		if (rc < 0 || f->ended || f->next_epoch != f->epoch)
			return rc;
		struct seg_sample t = s->raw[s->nraw];
		s->raw[s->nraw] = f->next;
		f->next = t;
		f->have = 0;
	}
	return SEG_OK;
}

static void *fill(void *arg)
{
	struct feed *f = arg;
	struct slot *s = &f->slot[f->cur];
	s->rc = f->kind == INDEXED ? fill_indexed(f, s) :
	        f->d->rank > 0 ? SEG_OK :
	        f->kind == SPOOLED ? fill_spooled(f, s) : fill_arriving(f, s);
	if (s->rc < 0)
		snprintf(s->reason, sizeof s->reason, "%s", seg_reason());
	return NULL;
}

static void start(struct feed *f)
{
	f->running = pthread_create(&f->reading, NULL, fill, f) == 0;
	if (!f->running)
		fill(f);
}

static int filled(struct feed *f)
{
	struct slot *s = &f->slot[f->cur];
	double start = seg_seconds();
	if (f->running)
		pthread_join(f->reading, NULL);
	f->running = 0;
	f->waited += seg_seconds() - start;
	return s->rc < 0 ? seg_fail(s->rc, "%s", s->reason) : SEG_OK;
}

/* ---- handing out from rank 0 */

struct packet { /* before each sample and each of its members */
	uint64_t a, b, c; /* number, members | member bytes, inflated bytes, CRC */
};

static int put(struct seg_buf *out, const struct seg_sample *s)
{
	struct packet p = {s->number, (uint64_t)s->nmember, 0};
	int rc = seg_buf_add(out, &p, sizeof p);
	for (int i = 0; rc == SEG_OK && i < s->nmember; i++) {
		const struct seg_member *m = &s->member[i];
		p = (struct packet){m->ngz, m->nraw, m->crc};
		rc = seg_buf_add(out, &p, sizeof p);
		if (rc == SEG_OK)
			rc = seg_buf_add(out, m->gz, m->ngz);
	}
	return rc;
}

/* The ranks are one program: what comes is what put made. */
static const char *get(const char *at, struct seg_sample *s)
{
	struct packet head, p;
	memcpy(&head, at, sizeof head);
	at += sizeof head;
	seg_sample_clear(s);
	s->number = head.a;
	for (uint64_t i = 0; i < head.b; i++) {
		memcpy(&p, at, sizeof p);
		at += sizeof p;
		struct seg_member m = {.gz = (unsigned char *)(uintptr_t)at, .ngz = p.a, .nraw = p.b, .crc = (uint32_t)p.c};
		if (seg_sample_add_member(s, &m) < 0)
			return NULL;
		at += p.a;
	}
	return at;
}

static int ready(void *arg, size_t i, int t)
{
	struct feed *f = arg;
	(void)t;
	return item_ready(f, &f->slot[f->cur].b.item[i]);
}

/* Rank 0's packed samples to those who train them. */
static int hand_out(struct feed *f, struct slot *s)
{
	size_t ranks = (size_t)f->d->size, *n = seg_alloc(ranks + 1, sizeof *n); /* bytes; samples */
	struct seg_buf all = {0};
	char *mine = NULL;
	int rc = n ? SEG_OK : SEG_ENOMEM;
	if (f->d->rank == 0 && n) {
		n[ranks] = s->nraw;
		for (int r = 0; r < f->d->size; r++) {
			size_t was = all.n;
			for (size_t i = seg_share(s->nraw, r, f->d->size);
			     rc == SEG_OK && i < seg_share(s->nraw, r + 1, f->d->size); i++) {
				rc = put(&all, &s->raw[i]);
				if (f->kind == ARRIVING)
					seg_content_add(&f->content, &s->raw[i]);
			}
			n[r] = all.n - was;
		}
	}
	if ((rc = seg_agree(f->d, rc)) < 0 || (rc = f->d->bcast(f->d, n, (ranks + 1) * sizeof *n, 0)) < 0)
		goto done;
	rc = share(f, s, n[ranks]);
	mine = seg_alloc(n[f->d->rank], 1);
	if ((rc = seg_agree(f->d, mine ? rc : SEG_ENOMEM)) < 0 ||
	    (rc = f->d->scatter(f->d, all.data, mine, n)) < 0)
		goto done;
	const char *at = mine;
	for (size_t i = 0; rc == SEG_OK && i < s->b.mine; i++) {
		item_clear(&s->b.item[i]);
		at = get(at, &s->b.item[i].sample);
		if (!at)
			rc = SEG_ENOMEM;
	}
	if (rc == SEG_OK)
		rc = seg_parallel(f->threads, s->b.mine, ready, f);
	rc = seg_agree(f->d, rc);
done:
	free(mine);
	free(all.data);
	free(n);
	return rc;
}

int feed_next(struct feed *f, struct batch **b)
{
	if (f->kind != ARRIVING && f->pos == f->look.count)
		return 0;
	struct slot *s = &f->slot[f->cur];
	int rc = seg_agree(f->d, filled(f));
	if (rc == SEG_OK && f->kind != INDEXED)
		rc = hand_out(f, s);
	if (rc < 0)
		return rc;
	f->pos += s->b.n;
	if (f->kind == ARRIVING && s->b.n == 0)
		return 0;
	f->cur = !f->cur;
	if (f->kind == ARRIVING || f->pos < f->look.count)
		start(f);
	*b = &s->b;
	return 1;
}

int feed_begin(struct feed *f, uint64_t e, int shuffle, uint64_t seed, size_t from)
{
	f->pos = f->kind == ARRIVING ? 0 : from;
	if (f->kind == ARRIVING) {
		long long now[2] = {0, 0};
		int rc = f->d->rank == 0 ? peek(f) : SEG_OK;
		rc = seg_agree(f->d, rc);
		if (f->d->rank == 0) {
			now[0] = f->have;
			now[1] = f->next_epoch;
		}
		if (rc < 0 || (rc = f->d->bcast(f->d, now, sizeof now, 0)) < 0 || !now[0])
			return rc;
		f->epoch = now[1];
	} else {
		struct seg_rng r;
		seg_rng_start(&r, seed, "train", "order", e, 0, 0);
		for (size_t i = 0; i < f->look.count; i++)
			f->order[i] = i;
		for (size_t i = f->look.count; shuffle && i > 1; i--) {
			size_t j = seg_rng_below(&r, (uint32_t)i), was = f->order[j];
			f->order[j] = f->order[i - 1];
			f->order[i - 1] = was;
		}
	}
	if (f->kind == ARRIVING || f->pos < f->look.count)
		start(f);
	return 1;
}

struct seg_content feed_content(const struct feed *f, long long *epoch)
{
	if (epoch)
		*epoch = f->epoch;
	return f->kind == INDEXED ? seg_index_content(f->index) : f->content;
}

int feed_skip(struct feed *f, struct seg_content used, long long epoch)
{
	long long on = 0;
	int rc = SEG_OK;
	while (f->d->rank == 0 && rc == SEG_OK && f->content.samples < used.samples) {
		rc = peek(f);
		if (rc == SEG_OK && f->ended)
			rc = seg_fail(SEG_EDATA, "%s: ends after %ju samples, the checkpoint has used %ju; give it the stream it was "
			    "made of", f->name, (uintmax_t)f->content.samples, (uintmax_t)used.samples);
		if (rc == SEG_OK)
			seg_content_add(&f->content, &f->next);
		f->epoch = f->next_epoch;
		f->have = 0;
	}
	if (f->d->rank == 0 && rc == SEG_OK && (f->content.crc != used.crc || f->content.nbytes != used.nbytes))
		rc = seg_fail(SEG_EDATA, "%s: its first %ju samples are not those the checkpoint has used (CRC-32 %08x, not %08x)",
		    f->name, (uintmax_t)used.samples, f->content.crc, used.crc);
	if (f->d->rank == 0 && rc == SEG_OK && (rc = peek(f)) == SEG_OK)
		on = f->have && f->next_epoch == epoch;
	if ((rc = seg_agree(f->d, rc)) < 0 || (rc = f->d->bcast(f->d, &on, sizeof on, 0)) < 0)
		return rc;
	f->epoch = epoch;
	return (int)on;
}

int feed_drain(struct feed *f)
{
	if (f->kind != ARRIVING)
		return SEG_OK;
	int rc = filled(f);
	while (f->d->rank == 0 && rc == SEG_OK && !f->ended) {
		f->have = 0;
		rc = peek(f);
	}
	return seg_agree(f->d, rc);
}

/* ---- opening */

enum { MANY = 1000 }; /* samples of a file for which an index is kept: finding fewer takes no time */

static int open_index(struct feed *f, const char *const *path, int n)
{
	struct seg_sample s = {0};
	int rc = seg_index_open_all(&f->index, path, n, NULL);
	if (rc == SEG_OK)
		rc = seg_header_copy(&f->head, seg_index_header(f->index));
	if (rc == SEG_OK && seg_index_count(f->index) == 0)
		rc = seg_fail(SEG_EDATA, "the stream has no samples");
	if (rc == SEG_OK)
		rc = seg_index_read(f->index, 0, &s);
	if (rc == SEG_OK)
		rc = look_at(f, &s);
	f->look.count = rc == SEG_OK ? seg_index_count(f->index) : 0;
	seg_sample_free(&s);
	return rc;
}

static int open_reader(struct feed *f, const char *path, size_t cache)
{
	int rc = seg_reader_open(&f->reader, path, NULL);
	if (rc < 0)
		return rc;
	rc = seg_header_copy(&f->head, seg_reader_header(f->reader));
	if (rc == SEG_OK)
		rc = seg_read(f->reader, &f->next);
	if (rc <= 0)
		return rc < 0 ? rc : seg_fail(SEG_EDATA, "the stream has no samples");
	rc = look_at(f, &f->next);
	if (rc < 0)
		return rc;
	if (f->look.arrival)
		return take_epoch(f);
	rc = seg_spool_new(&f->spool, cache);
	while (rc == SEG_OK && (rc = seg_spool_add(f->spool, &f->next)) == SEG_OK) {
		seg_content_add(&f->content, &f->next);
		rc = seg_read(f->reader, &f->next);
		if (rc != 1)
			break;
		rc = SEG_OK;
	}
	f->look.count = seg_spool_count(f->spool);
	return rc;
}

/* What rank 0 learned, to all. */
static int tell(struct feed *f)
{
	struct { struct look look; size_t ntext; } m = {f->look, 0};
	char *text = NULL;
	int rc = SEG_OK;
	if (f->d->size == 1)
		return SEG_OK;
	if (f->d->rank == 0) {
		text = seg_header_text(&f->head);
		m.ntext = text ? strlen(text) : 0;
	}
	if ((rc = seg_agree(f->d, f->d->rank == 0 && !text ? SEG_ENOMEM : SEG_OK)) < 0 ||
	    (rc = f->d->bcast(f->d, &m, sizeof m, 0)) < 0)
		goto done;
	f->look = m.look;
	if (f->d->rank > 0)
		text = seg_alloc(m.ntext + 1, 1);
	if ((rc = seg_agree(f->d, text ? SEG_OK : SEG_ENOMEM)) < 0 ||
	    (rc = f->d->bcast(f->d, text, m.ntext, 0)) < 0)
		goto done;
	if (f->d->rank > 0)
		rc = seg_header_parse(&f->head, text, m.ntext);
	rc = seg_agree(f->d, rc);
done:
	free(text);
	return rc;
}

/* Can each rank open it and read where it likes? */
static int is_file(const char *path)
{
	struct stat st;
	return path && strcmp(path, "-") && (stat(path, &st) < 0 || S_ISREG(st.st_mode));
}

static char *name_of(const char *const *path, int n)
{
	struct seg_buf b = {0};
	seg_buf_printf(&b, "%s", path[0] && strcmp(path[0], "-") ? path[0] : "<stdin>");
	if (n > 1)
		seg_buf_printf(&b, " and %d more", n - 1);
	return b.data;
}

int feed_open(struct feed **out, struct seg_dist *d, const char *const *path, int n, size_t batch, int threads, size_t cache)
{
	struct feed *f = *out = seg_alloc(1, sizeof *f);
	int plain = 1, rc = seg_agree(d, f ? SEG_OK : SEG_ENOMEM);
	if (rc < 0)
		return rc;
	f->d = d;
	f->batch = batch;
	f->threads = threads;
	f->expect = (struct input){.multiple = 1};
	f->name = name_of(path, n);
	rc = f->name ? SEG_OK : SEG_ENOMEM;
	for (int i = 0; i < n && plain; i++)
		if (!(plain = is_file(path[i])) && n > 1)
			rc = seg_fail(SEG_EUSAGE, "%s is not a file; of several inputs each must be one", path[i]);
	/* rank 0 first: what it has found in a large file the others can read beside it */
	for (int others = 0; others < 2; others++) {
		if (plain && rc == SEG_OK && (d->rank > 0) == others && (rc = open_index(f, path, n)) == SEG_OK && !others)
			seg_index_keep(f->index, MANY);
		if (!others)
			d->barrier(d);
	}
	if (rc == SEG_OK && f->look.arrival && n > 1)
		rc = seg_fail(SEG_EUSAGE, "carries epochs; such a stream is trained by itself, in its order");
	/* the order of its samples matters: one must read it */
	if (!plain || (rc == SEG_OK && f->look.arrival)) {
		seg_index_close(f->index);
		seg_header_free(&f->head);
		f->index = NULL;
		plain = 0;
		if (rc == SEG_OK && d->rank == 0)
			rc = open_reader(f, path[0], cache);
	}
	if (rc < 0 && f->name)
		seg_where(rc, "%s", f->name);
	rc = seg_agree(d, rc);
	if (rc == SEG_OK && !plain)
		rc = tell(f);
	if (rc < 0)
		return rc;
	f->kind = plain ? INDEXED : f->look.arrival ? ARRIVING : SPOOLED;
	if (f->look.count > UINT32_MAX)
		return seg_fail(SEG_EDATA, "%s: %zu samples are more than 2^32", f->name, f->look.count);
	f->order = seg_alloc(f->look.count, sizeof *f->order);
	if (!f->order)
		rc = SEG_ENOMEM;
	for (int i = 0; i < 2 && f->kind != INDEXED && d->rank == 0; i++) {
		f->slot[i].raw = seg_alloc(batch, sizeof *f->slot[i].raw);
		if (!f->slot[i].raw)
			rc = SEG_ENOMEM;
	}
	return seg_agree(d, rc);
}

void feed_close(struct feed *f)
{
	if (!f)
		return;
	if (f->running && f->kind == ARRIVING)
		pthread_cancel(f->reading); /* it may wait for a sample that nobody will send */
	if (f->running)
		pthread_join(f->reading, NULL);
	for (int i = 0; i < 2; i++) {
		struct slot *s = &f->slot[i];
		for (size_t j = 0; j < s->b.cap; j++) {
			item_clear(&s->b.item[j]);
			seg_sample_free(&s->b.item[j].sample);
		}
		for (size_t j = 0; s->raw && j < f->batch; j++)
			seg_sample_free(&s->raw[j]);
		free(s->raw);
		free(s->b.item);
	}
	free(f->order);
	seg_sample_free(&f->next);
	seg_reader_close(f->reader);
	seg_spool_free(f->spool);
	seg_index_close(f->index);
	seg_header_free(&f->head);
	free(f->name);
	free(f);
}

const struct seg_header *feed_header(const struct feed *f)
{
	return &f->head;
}

const struct look *feed_look(const struct feed *f)
{
	return &f->look;
}

double feed_waited(const struct feed *f)
{
	return f->waited;
}

const char *feed_name(const struct feed *f)
{
	return f->name;
}

void feed_expect(struct feed *f, const struct input *in)
{
	f->expect = *in;
}
