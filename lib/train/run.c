/* A run from its options to the model file. */
#include <stdlib.h>
#include <string.h>

#include "lib/train/train.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/isa.h"
#include "seg/report.h"

void seg_train_defaults(struct seg_train *t)
{
	*t = (struct seg_train){.batch = 16, .shuffle = 1, .head = SEG_HEAD_UNSET};
	seg_optim_defaults(&t->optim, "adam");
}

const char *seg_train_loss(enum seg_task task)
{
	return task == SEG_MULTILABEL ? "@keras3.binary_crossentropy" : "@torch.cross_entropy";
}

/* The best instruction set that all ranks have. */
static int agree_isa(struct seg_dist *d)
{
	int isa = (int)seg_isa(), rc = SEG_OK;
	for (int r = 0; rc == SEG_OK && r < d->size; r++) {
		int other = isa;
		rc = d->bcast(d, &other, sizeof other, r);
		isa = other < isa ? other : isa;
	}
	seg_isa_limit((enum seg_isa)isa);
	return rc;
}

/* Say now, not after hours, that the model cannot be written. */
static int writable(const char *path)
{
	struct seg_new f;
	int rc = seg_new_open(&f, path);
	if (rc == SEG_OK)
		seg_new_discard(&f);
	return rc;
}

static int same_classes(const struct seg_header *a, const struct seg_header *b, const char *who,
    const char *other)
{
	if (a->nclass != b->nclass)
		return seg_fail(SEG_EDATA, "%s: %d classes, but %s has %d", who, a->nclass, other, b->nclass);
	for (int k = 0; k < a->nclass; k++)
		if (strcmp(a->classes[k], b->classes[k]))
			return seg_fail(SEG_EDATA, "%s: class %d is '%s', but '%s' in %s", who, k, a->classes[k],
			    b->classes[k], other);
	if (a->task != b->task)
		return seg_fail(SEG_EDATA, "%s: is %s, but %s is %s", who, seg_task_text(a->task), other,
		    seg_task_text(b->task));
	return SEG_OK;
}

static int same_shape(const struct seg_train *o, const struct seg_net_shape *s, const char *from)
{
	int same = o->nstage == s->nstage && o->norm == s->norm &&
	    (o->norm != SEG_NORM_GROUP || o->groups == s->groups);
	for (int i = 0; same && i < o->nstage; i++)
		same = o->channels[i] == s->channels[i];
	return same ? SEG_OK : seg_fail(SEG_EUSAGE, "%s: the model has other channels or another norm than "
	    "asked for; leave --channels and --norm out to continue from it", from);
}

/* What was left open, from the model to continue from, else from the stream. */
static void settle(struct seg_train *o, const struct seg_header *from, const struct feed *f)
{
	const struct seg_header *h = feed_header(f);
	const struct look *look = feed_look(f);
	if (!o->epochs && !look->arrival)
		o->epochs = 20;
	if (!o->loss)
		o->loss = seg_json_string(from ? seg_json_get(from->more, "loss") : NULL, seg_train_loss(h->task));
	if (!o->range)
		o->range = seg_json_string(from ? seg_json_get(from->more, "range") : NULL,
		    input_default(look->dtype));
	if (o->head == SEG_HEAD_UNSET)
		o->head = from ? from->head : h->task == SEG_MULTILABEL ? SEG_SIGMOID : SEG_SOFTMAX;
}

/* Network and weights; o is settled on the way.  from: the header of the model continued. */
static int make_net(struct trainer *r, struct seg_train *o, struct seg_header *from)
{
	static const int post[] = {8, 16, 32, 64, 128};
	const struct seg_header *h = feed_header(r->feed);
	const char *in = feed_name(r->feed), *model = r->run->from;
	float *flat = NULL;
	int rc = SEG_OK;
	if (h->nclass < 1)
		return seg_fail(SEG_EDATA, "%s: its header names no classes; load it with labels or masks", in);
	if (model) {
		rc = seg_model_load(model, from, &r->net, &flat);
		if (rc == SEG_OK)
			rc = same_classes(h, from, in, model);
		if (rc == SEG_OK && o->nstage)
			rc = same_shape(o, seg_net_shape(r->net), model);
		if (rc == SEG_OK && seg_net_shape(r->net)->cin != feed_look(r->feed)->channels)
			rc = seg_fail(SEG_EDATA, "%s: images of %d channels, but %s takes %d", in,
			    feed_look(r->feed)->channels, model, seg_net_shape(r->net)->cin);
		settle(o, rc == SEG_OK ? from : NULL, r->feed);
	} else {
		if (!o->nstage)
			memcpy(o->channels, post, sizeof post), o->nstage = 5;
		settle(o, NULL, r->feed);
		struct seg_net_shape s = {.cin = feed_look(r->feed)->channels, .nclass = h->nclass,
		                          .nstage = o->nstage, .norm = o->norm, .groups = o->groups};
		memcpy(s.channels, o->channels, sizeof s.channels);
		rc = seg_net_new(&r->net, &s);
		if (rc == SEG_OK)
			flat = seg_alloc(seg_net_nparam(r->net), sizeof *flat);
		if (rc == SEG_OK && flat)
			seg_net_init(r->net, o->init, o->seed, flat);
	}
	if (rc < 0 || !flat || (rc = input_range(o->range)) < 0 || (rc = seg_weights_new(&r->weights, r->net)) < 0)
		goto done;
	int nmoment = seg_optim_moments(&o->optim);
	r->n = seg_net_npacked(r->net);
	r->p = seg_alloc_aligned(r->n, sizeof *r->p);
	r->sum = seg_alloc_aligned(r->n, sizeof *r->sum);
	r->m = nmoment > 0 ? seg_alloc_aligned(r->n, sizeof *r->m) : NULL;
	r->v = nmoment > 1 ? seg_alloc_aligned(r->n, sizeof *r->v) : NULL;
	r->scale = input_scale(o->range);
	if (!r->p || !r->sum || (nmoment > 0 && !r->m) || (nmoment > 1 && !r->v)) {
		rc = SEG_ENOMEM;
		goto done;
	}
	seg_net_pack(r->net, flat, r->p);
	seg_weights_set(r->weights, r->p);
done:
	free(flat);
	return rc == SEG_OK && !r->p ? SEG_ENOMEM : rc;
}

/* The model's header: what predicting needs, and how it was made. */
static int make_header(struct trainer *r)
{
	int rc = seg_header_copy(&r->head, feed_header(r->feed));
	if (rc < 0)
		return rc;
	r->head.kind = SEG_MODEL;
	r->head.head = r->o->head;
	seg_json_free(r->head.more);
	r->head.more = seg_json_object();
	seg_json_set(r->head.more, "loss", seg_json_str(r->o->loss));
	seg_json_set(r->head.more, "range", seg_json_str(r->o->range));
	if (seg_json_set(r->head.more, "train", train_json(r->o)) < 0)
		return SEG_ENOMEM;
	return seg_header_sign(&r->head, "seg-train", train_json(r->o));
}

/* ledger: take it apart, which makes it compute more. */
static int make_goal(const struct trainer *r, struct goal *g, int ledger)
{
	struct seg_loss_env env = {.w_axes = feed_look(r->feed)->weight};
	seg_bind_env(&r->head, &env);
	int rc = seg_loss_compile(&g->loss, r->o->loss, &env);
	if (rc < 0)
		return seg_where(rc, "loss");
	if (ledger)
		rc = seg_ledger_new(&g->ledger, g->loss);
	if (rc == SEG_OK)
		rc = seg_loss_state_new(&g->state, g->loss);
	if (rc == SEG_OK && !ledger)
		rc = g->fused = seg_loss_fuse(g->state);
	g->at_once = g->fused == 1 && seg_loss_npass(g->loss, 1) == 1 && !seg_loss_looks(g->state, 0);
	return rc < 0 ? rc : seg_loss_state_new(&g->whole, g->loss);
}

static void goal_free(struct goal *g)
{
	seg_loss_state_free(g->whole);
	seg_loss_state_free(g->state);
	seg_ledger_free(g->ledger);
	seg_loss_free(g->loss);
}

static int make_val(struct trainer *r)
{
	int rc = feed_open(&r->val, r->d, &r->run->val, 1, (size_t)r->o->batch, r->run->threads, r->run->cache);
	if (rc < 0)
		return rc;
	if (feed_look(r->val)->arrival)
		return seg_fail(SEG_EDATA, "%s: carries epochs; validate on samples that were not augmented",
		    feed_name(r->val));
	return same_classes(feed_header(r->val), &r->head, feed_name(r->val), feed_name(r->feed));
}

static int save(struct trainer *r)
{
	float *flat = seg_alloc(seg_net_nparam(r->net), sizeof *flat);
	if (!flat)
		return SEG_ENOMEM;
	seg_net_unpack(r->net, r->p, flat);
	int rc = seg_json_set(r->head.more, "steps", seg_json_int((long long)r->step));
	if (rc == SEG_OK)
		rc = seg_model_save(r->run->out, &r->head, r->net, flat);
	free(flat);
	return rc;
}

static int epochs(struct trainer *r)
{
	int rc = 1;
	while (rc == 1 && (!r->o->epochs || r->epoch <= r->o->epochs) && (r->step == 0 || r->step != r->o->max_steps))
		rc = epoch_run(r);
	/* no model of a stream that was cut */
	return rc < 0 ? rc : feed_drain(r->feed);
}

int seg_train_run(const struct seg_train *t, const struct seg_run *run, struct seg_dist *d)
{
	struct seg_train o = *t;
	struct seg_header from = {0};
	struct log log = {.fd = -1};
	struct trainer r = {.o = &o, .run = run, .d = d, .epoch = 1, .log = &log};
	long long keep = 0;
	int resumed = 0, rc = agree_isa(d);
	if (rc == SEG_OK && d->rank == 0 && (rc = writable(run->out)) == SEG_OK && run->checkpoint)
		rc = writable(run->checkpoint);
	if ((rc = seg_agree(d, rc)) < 0)
		return rc;
	if ((rc = feed_open(&r.feed, d, run->nin ? run->in : (const char *[]){"-"}, run->nin ? run->nin : 1, (size_t)o.batch, run->threads, run->cache)) < 0 ||
	    (rc = seg_agree(d, make_net(&r, &o, &from))) < 0)
		goto done;
	if ((rc = make_header(&r)) == SEG_OK && (rc = make_goal(&r, &r.goal, 0)) == SEG_OK &&
	    (!run->val || (rc = make_goal(&r, &r.audit, 1)) == SEG_OK))
		rc = step_new(&r);
	if ((rc = seg_agree(d, rc)) < 0 || (run->val && (rc = make_val(&r)) < 0) || (rc = tally_clear(&r)) < 0 ||
	    (run->resume && (rc = resumed = checkpoint_resume(&r, &keep)) < 0))
		goto done;
	struct input want = {feed_look(r.feed)->channels, seg_net_multiple(r.net), o.range, feed_look(r.feed)->weight};
	feed_expect(r.feed, &want);
	if (r.val)
		feed_expect(r.val, &want);

	struct seg_plan plan = {&o, r.net, &r.head, feed_look(r.feed)->count, r.val ? feed_look(r.val)->count : 0,
	                        d->size, run->threads, run->from != NULL, resumed ? r.step : 0};
	if (d->rank == 0) {
		log_open(&log, run->log, keep);
		if (!keep)
			log_plan(&log, &plan);
		if (run->start)
			run->start(run->arg, &plan);
	}
	if ((rc = seg_agree(d, log_check(&log))) < 0 || (rc = epochs(&r)) < 0)
		goto done;
	rc = d->rank == 0 ? save(&r) : SEG_OK;
	if (rc == SEG_OK)
		rc = log_close(&log);
	rc = seg_agree(d, rc);
done:
	log_free(&log);
	seg_confusion_free(&r.tally.count);
	free(r.tally.part.data);
	step_free(&r);
	feed_close(r.val);
	feed_close(r.feed);
	goal_free(&r.audit);
	goal_free(&r.goal);
	seg_header_free(&r.head);
	seg_weights_free(r.weights);
	free(r.v);
	free(r.m);
	free(r.sum);
	free(r.p);
	seg_net_free(r.net);
	seg_header_free(&from);
	return rc;
}
