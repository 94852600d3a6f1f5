/* One epoch: its batches, its numbers, the validation of the frozen model. */
#include <stdlib.h>
#include <time.h>

#include "lib/train/train.h"
#include "seg/err.h"
#include "seg/math.h"

/* What an epoch's batches add up to. */
struct tally {
	double sum;          /* of v_b n_b */
	size_t n;
	struct seg_buf part; /* partials of pass 0 of all samples, in order */
};

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int combine(struct goal *g, int pass, const struct seg_buf *part, size_t n)
{
	return seg_loss_combine(g->loss, g->whole, pass, (const double *)(const void *)part->data, n);
}

static void tell(const struct trainer *r, int epoch, const struct tally *t, double value)
{
	if (r->d->rank == 0 && r->run->step)
		r->run->step(r->run->arg, epoch, t->n, feed_look(r->feed)->count, value);
}

/* All batches of the epoch, or as many as max_steps allows.  1: there were some. */
static int train(struct trainer *r, int epoch, struct tally *t, struct log *log)
{
	struct batch *b;
	double v;
	int rc = feed_begin(r->feed, (uint64_t)epoch - 1, r->o->shuffle, r->o->seed);
	if (rc <= 0)
		return rc;
	tell(r, epoch, t, 0);
	while ((rc = feed_next(r->feed, &b)) == 1) {
		rc = step_loss(r, &r->goal, b, 1, &t->part, &v);
		if (rc == SEG_OK)
			rc = step_update(r, b, &v);
		if (rc < 0)
			return seg_where(rc, "epoch %d, step %ju", epoch, (uintmax_t)r->step + 1);
		t->sum += v * (double)b->n;
		t->n += b->n;
		tell(r, epoch, t, v);
		log_step(log, epoch, r->step, b->n, v);
		if (r->step == r->o->max_steps)
			break;
	}
	return rc < 0 ? rc : 1;
}

static int validate(struct trainer *r, struct tally *t, double *exact)
{
	struct batch *b;
	struct seg_buf part = {0};
	double v;
	struct goal *g = &r->audit;
	double all = (double)feed_look(r->val)->count;
	int rc = feed_begin(r->val, 0, 0, 0), npass = seg_loss_npass(g->loss, 0);
	seg_ledger_clear(g->ledger);
	while (rc >= 0 && (rc = feed_next(r->val, &b)) == 1) {
		rc = step_loss(r, g, b, 0, &t->part, &v);
		if (rc == SEG_OK)
			rc = step_ledger(r, g, b, (double)b->n / all);
		t->sum += v * (double)b->n;
		t->n += b->n;
	}
	if (rc == SEG_OK && npass > 0)
		rc = combine(g, 0, &t->part, t->n);
	/* what the loss needs to know of all samples before it can go on: predictions are made again */
	for (int pass = 1; rc >= 0 && pass < npass; pass++) {
		part.n = 0;
		rc = feed_begin(r->val, 0, 0, 0);
		while (rc >= 0 && (rc = feed_next(r->val, &b)) == 1)
			rc = step_pass(r, g, b, pass, &part);
		if (rc == SEG_OK)
			rc = combine(g, pass, &part, t->n);
	}
	free(part.data);
	*exact = rc < 0 ? 0 : seg_loss_value(g->loss, g->whole);
	return rc < 0 ? seg_where(rc, "validation") : SEG_OK;
}

int epoch_run(struct trainer *r, int epoch, struct log *log)
{
	struct tally t = {0}, tv = {0};
	struct seg_confusion c = {0}, cv = {0};
	int multilabel = r->head.task == SEG_MULTILABEL;
	struct seg_epoch e = {.epoch = epoch, .epochs = r->o->epochs, .head = &r->head, .train = &c,
	                      .exact = SEG_NAN, .npass = seg_loss_npass(r->goal.loss, 0)};
	double start = seconds();
	int rc = seg_confusion_new(&c, r->head.nclass, multilabel);
	if (rc == SEG_OK)
		rc = seg_confusion_new(&cv, r->head.nclass, multilabel);
	rc = seg_agree(r->d, rc);
	if (rc < 0 || (rc = train(r, epoch, &t, log)) <= 0 || (rc = step_counts(r, &c)) < 0)
		goto done;
	e.step = r->step;
	e.samples = t.n;
	e.running = t.sum / (double)t.n;
	if (e.npass == 1 && (rc = combine(&r->goal, 0, &t.part, t.n)) == SEG_OK)
		e.exact = seg_loss_value(r->goal.loss, r->goal.whole);
	if (rc == SEG_OK && r->val) {
		rc = validate(r, &tv, &e.val_exact);
		if (rc == SEG_OK)
			rc = step_counts(r, &cv);
		e.val = &cv;
		e.ledger = r->audit.ledger;
		e.val_samples = tv.n;
		e.val_running = tv.sum / (double)tv.n;
	}
	if (rc < 0)
		goto done;
	e.seconds = seconds() - start;
	log_epoch(log, &e);
	rc = seg_agree(r->d, log_check(log));
	if (rc == SEG_OK && r->d->rank == 0 && r->run->epoch)
		r->run->epoch(r->run->arg, &e);
	if (rc == SEG_OK)
		rc = r->step != r->o->max_steps;
done:
	seg_confusion_free(&cv);
	seg_confusion_free(&c);
	free(tv.part.data);
	free(t.part.data);
	return rc;
}
