/* The shape of every filter. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"
#include "seg/parallel.h"

struct item {
	struct seg_sample s;
	int keep;
	char key[SEG_KEY + 1]; /* as it came */
	struct item *next;
};

struct run {
	const struct seg_filter *f;
	struct seg_reader *r;
	struct seg_writer *w;
	pthread_mutex_t lock;
	struct item *idle; /* samples that keep their memory; under lock */
	char last[SEG_KEY + 1];
};

static struct item *get(struct run *x)
{
	pthread_mutex_lock(&x->lock);
	struct item *i = x->idle;
	if (i)
		x->idle = i->next;
	pthread_mutex_unlock(&x->lock);
	return i ? i : seg_alloc(1, sizeof *i);
}

static void give(void *arg, void *item)
{
	struct run *x = arg;
	struct item *i = item;
	seg_sample_clear(&i->s);
	pthread_mutex_lock(&x->lock);
	i->next = x->idle;
	x->idle = i;
	pthread_mutex_unlock(&x->lock);
}

static int next(void *arg, void **item)
{
	struct run *x = arg;
	struct item *i = get(x);
	if (!i)
		return SEG_ENOMEM;
	int rc = seg_read(x->r, &i->s);
	if (rc <= 0)
		give(x, i);
	else
		*item = i;
	return rc;
}

static int work(void *arg, void *item, int t)
{
	struct run *x = arg;
	struct item *i = item;
	int rc = seg_sample_open(&i->s);
	i->keep = 1;
	memcpy(i->key, i->s.key, sizeof i->key);
	if (rc == SEG_OK && x->f->each)
		rc = i->keep = x->f->each(x->f->arg, &i->s, t);
	if (rc >= 0 && i->keep && x->w)
		rc = seg_sample_pack(&i->s, x->f->level);
	return rc < 0 ? seg_where(rc, "%s", seg_reader_name(x->r)) : SEG_OK;
}

static int sink(void *arg, void *item)
{
	struct run *x = arg;
	struct item *i = item;
	int rc = SEG_OK;
	if (!strcmp(i->key, x->last))
		rc = seg_fail(SEG_ECORRUPT, "%s: samples %ju and %ju have one key, '%s'", seg_reader_name(x->r),
		    (uintmax_t)i->s.number - 1, (uintmax_t)i->s.number, i->key);
	memcpy(x->last, i->key, sizeof x->last);
	if (rc == SEG_OK && x->f->after)
		rc = x->f->after(x->f->arg, &i->s, i->keep);
	if (rc == SEG_OK && x->w && i->keep)
		rc = seg_write(x->w, &i->s);
	give(x, i);
	return rc;
}

/* The header as the caller wants it, written. */
static int open_writer(struct run *x)
{
	struct seg_header h;
	int rc = seg_header_copy(&h, seg_reader_header(x->r));
	if (rc == SEG_OK && x->f->header && (rc = x->f->header(x->f->arg, &h)) < 0)
		seg_where(rc, "%s", seg_reader_name(x->r));
	if (rc == SEG_OK && !(x->f->out && !*x->f->out))
		rc = seg_writer_open(&x->w, x->f->out, &h);
	seg_header_free(&h);
	return rc;
}

int seg_filter(const struct seg_filter *f)
{
	struct run x = {.f = f, .lock = PTHREAD_MUTEX_INITIALIZER};
	struct seg_flow flow = {next, work, sink, give, &x};
	int rc = seg_reader_open(&x.r, f->in, f->limits);
	if (rc < 0)
		return rc;
	size_t parts = seg_json_size(seg_reader_header(x.r)->provenance);
	rc = open_writer(&x);
	if (rc == SEG_OK)
		rc = seg_flow(&flow, f->threads);
	if (rc == SEG_OK && f->end)
		rc = f->end(f->arg, seg_reader_header(x.r));
	if (rc == SEG_OK && x.w) /* provenance that came with later parts of a concatenation */
		rc = writer_also(x.w, seg_reader_header(x.r)->provenance, parts);
	if (rc == SEG_OK && x.w)
		rc = seg_writer_close(x.w);
	else
		seg_writer_abort(x.w);
	while (x.idle) {
		struct item *i = x.idle;
		x.idle = i->next;
		seg_sample_free(&i->s);
		free(i);
	}
	pthread_mutex_destroy(&x.lock);
	seg_reader_close(x.r);
	return rc;
}
