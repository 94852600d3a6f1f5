/* One epoch: its batches, its numbers, the validation of the frozen model. */
#include <stdlib.h>

#include "lib/train/train.h"
#include "seg/err.h"
#include "seg/math.h"
#include "seg/parallel.h"

static int combine(struct goal *g, int pass, const struct seg_buf *part, size_t n)
{
	return seg_loss_combine(g->loss, g->whole, pass, (const double *)(const void *)part->data, n);
}

static void tell(const struct trainer *r, double value)
{
	if (r->d->rank == 0 && r->run->step)
		r->run->step(r->run->arg, r->epoch, r->tally.n, feed_look(r->feed)->count, value);
}

/* All batches of the epoch that are left, or as many as max_steps allows.  1: there were some. */
static int train(struct trainer *r)
{
	struct tally *t = &r->tally;
	struct batch *b;
	double v;
	int rc = feed_begin(r->feed, (uint64_t)r->epoch - 1, r->o->shuffle, r->o->seed, t->n);
	if (rc <= 0)
		return rc;
	tell(r, 0);
	while ((rc = feed_next(r->feed, &b)) == 1) {
		rc = step_loss(r, &r->goal, b, 1, &t->part, &v);
		if (rc == SEG_OK)
			rc = step_update(r, b, &v);
		if (rc < 0)
			return seg_where(rc, "epoch %d, step %ju", r->epoch, (uintmax_t)r->step + 1);
		t->sum += v * (double)b->n;
		t->n += b->n;
		tell(r, v);
		log_step(r->log, r->epoch, r->step, b->n, v);
		int last = r->step == r->o->max_steps;
		if ((rc = checkpoint_due(r, last)) < 0)
			return rc;
		if (last)
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
	int rc = feed_begin(r->val, 0, 0, 0, 0), npass = seg_loss_npass(g->loss, 0);
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
		rc = feed_begin(r->val, 0, 0, 0, 0);
		while (rc >= 0 && (rc = feed_next(r->val, &b)) == 1)
			rc = step_pass(r, g, b, pass, &part);
		if (rc == SEG_OK)
			rc = combine(g, pass, &part, t->n);
	}
	free(part.data);
	*exact = rc < 0 ? 0 : seg_loss_value(g->loss, g->whole);
	return rc < 0 ? seg_where(rc, "validation") : SEG_OK;
}

int tally_clear(struct trainer *r)
{
	struct tally *t = &r->tally;
	seg_confusion_free(&t->count);
	t->sum = 0;
	t->n = t->part.n = 0;
	return seg_agree(r->d, seg_confusion_new(&t->count, r->head.nclass, r->head.task == SEG_MULTILABEL));
}

/* What ranks waited for since the epoch began. */
static void waits(const struct trainer *r, double input, double others, struct seg_epoch *e)
{
	double mine[2] = {feed_waited(r->feed) - input, r->d->waited - others}, *all = seg_gather_all(r->d, mine, sizeof mine);
	e->ranks = r->d->size;
	e->least = 1;
	for (int q = 0; q < e->ranks; q++) {
		double in = all[2 * q] / e->seconds, other = all[2 * q + 1] / e->seconds;
		e->input = in > e->input ? in : e->input;
		e->least = other < e->least ? other : e->least;
		e->most = other > e->most ? other : e->most;
	}
	free(all);
}

int epoch_run(struct trainer *r)
{
	struct tally *t = &r->tally, tv = {0};
	int multilabel = r->head.task == SEG_MULTILABEL;
	struct seg_epoch e = {.epoch = r->epoch, .epochs = r->o->epochs, .head = &r->head, .train = &t->count,
	                      .exact = SEG_NAN, .npass = seg_loss_npass(r->goal.loss, 0)};
	double start = seg_seconds(), input = feed_waited(r->feed), others = r->d->waited;
	int rc = seg_agree(r->d, seg_confusion_new(&tv.count, r->head.nclass, multilabel));
	if (rc < 0 || (!r->over && (rc = train(r)) <= 0) || (rc = step_counts(r, &t->count)) < 0)
		goto done;
	e.step = r->step;
	e.samples = t->n;
	e.running = t->sum / (double)t->n;
	if (e.npass == 1 && (rc = combine(&r->goal, 0, &t->part, t->n)) == SEG_OK)
		e.exact = seg_loss_value(r->goal.loss, r->goal.whole);
	if (rc == SEG_OK && r->val) {
		rc = validate(r, &tv, &e.val_exact);
		if (rc == SEG_OK)
			rc = step_counts(r, &tv.count);
		e.val = &tv.count;
		e.ledger = r->audit.ledger;
		e.val_samples = tv.n;
		e.val_running = tv.sum / (double)tv.n;
	}
	if (rc < 0)
		goto done;
	e.seconds = seg_seconds() - start;
	log_epoch(r->log, &e);
	waits(r, input, others, &e);
	rc = seg_agree(r->d, log_check(r->log));
	if (rc == SEG_OK && r->d->rank == 0 && r->run->epoch)
		r->run->epoch(r->run->arg, &e);
	if (rc == SEG_OK)
		rc = tally_clear(r);
	r->epoch++;
	r->over = 0;
	if (rc == SEG_OK && r->step != r->o->max_steps && (rc = checkpoint_due(r, 1)) == SEG_OK)
		rc = 1;
done:
	seg_confusion_free(&tv.count);
	free(tv.part.data);
	return rc;
}
