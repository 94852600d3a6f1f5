/* One batch: forward passes, the passes of the loss with the ranks' partials between them,
 * gradient, ordered sum, optimiser.  A sample is one thread's, or with fewer samples than threads one
 * team's; nothing of one sample enters another but through the loss and the tree sum, and a team has the
 * bits of one thread, so the bits do not depend on who did which. */
#include <stdlib.h>
#include <string.h>

#include "lib/train/train.h"
#include "seg/err.h"

/* Activations kept from the forward to the backward pass, for all own samples of a batch.  What is
 * over is computed again in the backward pass: the same bits, a third more work. */
static const size_t KEPT_BYTES = (size_t)1 << 30;

enum { SLICE = 16 }; /* gradients that exist at a time: or twice the threads */

struct job {
	struct trainer *r;
	struct batch *b;
	struct goal *g;
	struct seg_loss_state *state;
	size_t nkept;    /* of the own samples, those whose activations are kept */
	int teams;       /* the network is run by teams, one for each of the own samples */
	int train;       /* a backward pass will follow */
	int at_once;     /* it does everything */
	int count;       /* predictions are counted */
	int pass;
	size_t first;    /* sample of a slice */
	size_t npartial;
	double *partial; /* of the own samples */
	double *block;   /* of their ledgers */
};

static void place_free(struct place *p)
{
	seg_acts_free(p->acts);
	seg_grads_free(p->grads);
	free(p->dz);
	*p = (struct place){0};
}

/* p takes a picture of this size.  keep: a backward pass will follow. */
static int place_for(struct place *p, const struct seg_net *net, size_t h, size_t w, int keep)
{
	if (p->acts && p->h == h && p->w == w && p->keep == keep)
		return SEG_OK;
	seg_acts_free(p->acts);
	p->acts = NULL;
	if (p->h != h || p->w != w) {
		place_free(p);
		p->h = h;
		p->w = w;
	}
	p->keep = keep;
	return seg_acts_new(&p->acts, net, h, w, keep);
}

static int grads_for(struct place *p, const struct seg_net *net, size_t h, size_t w)
{
	if (p->h != h || p->w != w) {
		place_free(p);
		p->h = h;
		p->w = w;
	}
	if (p->grads)
		return SEG_OK;
	free(p->dz);
	p->dz = seg_alloc_aligned(h * w * (size_t)seg_net_shape(net)->nclass, sizeof *p->dz);
	return p->dz ? seg_grads_new(&p->grads, net, h, w) : SEG_ENOMEM;
}

int step_new(struct trainer *r)
{
	size_t t = (size_t)r->run->threads;
	r->thread = seg_alloc(t, sizeof *r->thread);
	r->count = seg_alloc(t, sizeof *r->count);
	r->team = seg_alloc(t, sizeof *r->team);
	for (r->slice = SLICE; r->slice < 2 * t; r->slice *= 2)
		;
	r->grad = seg_alloc(r->slice, sizeof *r->grad);
	int rc = r->thread && r->count && r->team && r->grad ? seg_tree_new(&r->tree, r->d, r->n, r->run->threads) : SEG_ENOMEM;
	for (size_t i = 0; rc == SEG_OK && i < t; i++)
		rc = seg_confusion_new(&r->count[i], r->head.nclass, r->head.task == SEG_MULTILABEL);
	return rc;
}

static void teams_free(struct trainer *r)
{
	while (r->nteam)
		seg_team_free(r->team[--r->nteam]);
}

void step_free(struct trainer *r)
{
	teams_free(r);
	for (size_t i = 0; i < r->cap; i++) {
		place_free(&r->kept[i]);
		free(r->z[i]);
	}
	for (size_t i = 0; i < r->ngrad; i++)
		free(r->grad[i]);
	for (int i = 0; i < r->run->threads; i++) {
		if (r->thread)
			place_free(&r->thread[i]);
		if (r->count)
			seg_confusion_free(&r->count[i]);
	}
	free(r->kept);
	free(r->z);
	free(r->nz);
	free(r->grad);
	seg_tree_free(r->tree);
	free(r->thread);
	free(r->count);
	free(r->team);
}

static int grow(void *pp, size_t was, size_t now, size_t size)
{
	void **p = pp;
	char *more = seg_realloc(*p, now, size);
	if (!more)
		return SEG_ENOMEM;
	memset(more + was * size, 0, (now - was) * size);
	*p = more;
	return SEG_OK;
}

/* Fewer own samples than threads: as many teams as samples, of as many threads as there are for each.
 * They stay for the next batch of this size. */
static int teams(struct job *j)
{
	struct trainer *r = j->r;
	size_t mine = j->b->mine, threads = (size_t)r->run->threads;
	j->teams = mine > 0 && threads / mine > 1;
	if (!j->teams || r->nteam == mine)
		return SEG_OK;
	teams_free(r);
	for (; r->nteam < mine; r->nteam++) {
		int rc = seg_team_new(&r->team[r->nteam], (int)(threads / mine));
		if (rc < 0)
			return rc;
	}
	return SEG_OK;
}

/* Room for the own samples of a batch, how many of them keep their activations, and who works on them. */
static int room(struct job *j)
{
	struct trainer *r = j->r;
	const struct batch *b = j->b;
	if (b->mine > r->cap) {
		if (grow(&r->kept, r->cap, b->mine, sizeof *r->kept) < 0 ||
		    grow(&r->z, r->cap, b->mine, sizeof *r->z) < 0 ||
		    grow(&r->nz, r->cap, b->mine, sizeof *r->nz) < 0)
			return SEG_ENOMEM;
		r->cap = b->mine;
	}
	size_t sum = 0, ranks = (size_t)r->d->size, most = ((size_t)r->run->micro + ranks - 1) / ranks;
	j->nkept = 0;
	for (size_t i = 0; j->train && !j->at_once && i < b->mine; i++) {
		sum += seg_acts_nbytes(r->net, b->item[i].l.h, b->item[i].l.w, 1);
		if (most ? i == most : sum > KEPT_BYTES)
			break;
		j->nkept++;
	}
	for (; j->train && r->ngrad < r->slice && r->ngrad < b->mine; r->ngrad++)
		if (!(r->grad[r->ngrad] = seg_alloc_aligned(r->n, sizeof **r->grad)))
			return SEG_ENOMEM;
	return teams(j);
}

static struct place *place_of(const struct job *j, size_t i, int t)
{
	return i < j->nkept ? &j->r->kept[i] : &j->r->thread[t];
}

static struct seg_team *team_of(const struct job *j, int t)
{
	return j->teams ? j->r->team[t] : NULL;
}

static int forward(const struct job *j, size_t i, int t)
{
	struct trainer *r = j->r;
	struct item *it = &j->b->item[i];
	struct place *p = place_of(j, i, t);
	int rc = place_for(p, r->net, it->l.h, it->l.w, j->train);
	size_t plane = it->l.h * it->l.w, n = plane * (size_t)r->head.nclass;
	if (rc == SEG_OK && r->nz[i] < n) {
		free(r->z[i]);
		r->z[i] = seg_alloc_aligned(n, sizeof **r->z);
		r->nz[i] = r->z[i] ? n : 0;
		rc = r->z[i] ? SEG_OK : SEG_ENOMEM;
	}
	if (rc < 0)
		return rc;
	seg_net_forward(r->weights, p->acts, it->image, r->scale, r->z[i], team_of(j, t));
	it->l.z = r->z[i];
	it->l.zi = 1;
	it->l.zk = plane;
	return SEG_OK;
}

static int loss_one(void *arg, size_t i, int t)
{
	const struct job *j = arg;
	struct trainer *r = j->r;
	struct seg_loss_sample *l = &j->b->item[i].l;
	int rc = l->z || j->at_once ? SEG_OK : forward(j, i, t);
	if (rc == SEG_OK && j->count)
		rc = seg_confusion_add(&r->count[t], l, NULL);
	if (rc == SEG_OK)
		rc = seg_loss_pass(j->g->loss, j->state, j->pass, l, j->partial + i * j->npartial);
	return rc;
}

static int backward_one(void *arg, size_t k, int t)
{
	const struct job *j = arg;
	size_t i = j->first + k;
	struct trainer *r = j->r;
	const struct seg_loss_sample *l = &j->b->item[i].l;
	struct place *own = &r->thread[t];
	int rc = grads_for(own, r->net, l->h, l->w);
	if (rc == SEG_OK && i >= j->nkept)
		rc = forward(j, i, t);
	if (rc == SEG_OK && j->count)
		rc = seg_confusion_add(&r->count[t], l, NULL);
	if (rc == SEG_OK)
		rc = !j->g->fused ? seg_loss_gradient(j->g->loss, j->state, l, own->dz)
		    : seg_loss_gradient_pass(j->g->loss, j->state, l, own->dz, j->partial + i * j->npartial);
	if (rc == SEG_OK)
		seg_net_backward(r->weights, place_of(j, i, t)->acts, own->grads, own->dz, r->grad[k], team_of(j, t));
	return rc;
}

/* Gradients are added up slice by slice of the batch, so that there need not be as many as samples. */
static int backward_all(struct job *j)
{
	struct trainer *r = j->r;
	const struct batch *b = j->b;
	int rc = seg_tree_start(r->tree, b->n);
	for (size_t n; rc == SEG_OK && j->first < b->mine; j->first += n) {
		n = r->slice - (b->at + j->first) % r->slice;
		n = n < b->mine - j->first ? n : b->mine - j->first;
		rc = seg_parallel(r->run->threads, n, backward_one, j);
		if (rc == SEG_OK)
			rc = seg_tree_add(r->tree, r->grad, n);
	}
	return rc;
}

static int loss_all(struct job *j)
{
	return seg_parallel(j->r->run->threads, j->b->mine, loss_one, j);
}

/* Work on the own samples, each of which gives `size` doubles in *mine; those of all ranks are
 * appended in the order of the samples. */
static int each(struct job *j, int rc, int (*work)(struct job *), size_t n, double **mine, struct seg_buf *all)
{
	struct seg_dist *d = j->r->d;
	size_t *nbytes = seg_alloc((size_t)d->size, sizeof *nbytes), was = all->n, size = n * sizeof **mine;
	*mine = seg_alloc(j->b->mine, size);
	if (rc == SEG_OK)
		rc = nbytes && *mine ? seg_buf_need(all, j->b->n * size) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = work(j);
	rc = seg_agree(d, rc);
	for (int q = 0; rc == SEG_OK && q < d->size; q++)
		nbytes[q] = size * (seg_share(j->b->n, q + 1, d->size) - seg_share(j->b->n, q, d->size));
	if (rc == SEG_OK)
		rc = d->gather(d, *mine, all->data + was, nbytes);
	all->n = was + (rc == SEG_OK ? j->b->n * size : 0);
	free(*mine);
	free(nbytes);
	return rc;
}

/* A pass over the own samples; all ranks' partials, in the order of the samples, are appended. */
static int pass(struct job *j, int rc, struct seg_buf *all)
{
	j->npartial = seg_loss_npartial(j->g->loss, j->pass);
	return each(j, rc, loss_all, j->npartial, &j->partial, all);
}

static int value_of(const struct job *j, double *value)
{
	*value = seg_loss_value(j->g->loss, j->state);
	return *value - *value == 0 ? SEG_OK : seg_fail(SEG_EDATA, "the loss is %g", *value);
}

int step_loss(struct trainer *r, struct goal *g, struct batch *b, int train, struct seg_buf *part, double *value)
{
	struct job j = {.r = r, .b = b, .g = g, .state = g->state, .train = train, .at_once = train && g->at_once};
	struct seg_buf later = {0};
	int rc = room(&j), npass = seg_loss_npass(g->loss, train || g->ledger);
	for (j.pass = 0; j.pass < npass; j.pass++) {
		struct seg_buf *to = j.pass ? &later : part;
		size_t was = to->n;
		j.count = j.pass == 0 && !j.at_once;
		rc = pass(&j, rc, to);
		if (rc == SEG_OK)
			rc = seg_agree(r->d, seg_loss_combine(g->loss, j.state, j.pass,
			    (const double *)(const void *)(to->data + was), b->n));
		if (rc < 0)
			break;
		later.n = 0;
	}
	free(later.data);
	return rc < 0 || (train && g->fused) ? rc : value_of(&j, value);
}

static int ledger_one(void *arg, size_t i, int t)
{
	const struct job *j = arg;
	const struct seg_loss_sample *l = &j->b->item[i].l;
	struct place *own = &j->r->thread[t];
	int rc = grads_for(own, j->r->net, l->h, l->w);
	if (rc == SEG_OK)
		rc = seg_loss_gradient(j->g->loss, j->state, l, own->dz);
	return rc < 0 ? rc : seg_ledger_sample(j->g->ledger, j->state, l, own->dz,
	    j->block + i * seg_ledger_block(j->g->ledger), NULL);
}

static int ledger_all(struct job *j)
{
	return seg_parallel(j->r->run->threads, j->b->mine, ledger_one, j);
}

int step_ledger(struct trainer *r, struct goal *g, struct batch *b, double scale)
{
	struct job j = {.r = r, .b = b, .g = g, .state = g->state};
	struct seg_buf all = {0};
	size_t n = seg_ledger_block(g->ledger);
	int rc = each(&j, SEG_OK, ledger_all, n, &j.block, &all);
	for (size_t i = 0; rc == SEG_OK && i < b->n; i++)
		seg_ledger_add(g->ledger, (const double *)(const void *)all.data + i * n, scale);
	free(all.data);
	return rc;
}

int step_pass(struct trainer *r, struct goal *g, struct batch *b, int npass, struct seg_buf *part)
{
	struct job j = {.r = r, .b = b, .g = g, .state = g->whole, .pass = npass};
	return pass(&j, room(&j), part);
}

/* The gradients of the own samples; with them, if so planned, the rest of the value. */
static int backward(struct job *j, double *value)
{
	struct trainer *r = j->r;
	int pass = seg_loss_npass(j->g->loss, 1), rc = room(j);
	if (!j->g->fused) {
		if (rc == SEG_OK)
			rc = backward_all(j);
		return seg_agree(r->d, rc);
	}
	struct seg_buf all = {0};
	j->npartial = seg_loss_npartial(j->g->loss, pass);
	rc = each(j, rc, backward_all, j->npartial, &j->partial, &all);
	if (rc == SEG_OK)
		rc = seg_loss_combine(j->g->loss, j->state, pass, (const double *)(const void *)all.data, j->b->n);
	if (rc == SEG_OK)
		rc = value_of(j, value);
	if (rc == SEG_OK && seg_loss_npass(j->g->loss, 0) == 1) /* step_loss put the first half there */
		seg_loss_join(j->g->loss, j->b->n, (double *)(void *)r->tally.part.data + r->tally.n * seg_loss_npartial(j->g->loss, 0),
		    (const double *)(const void *)all.data);
	free(all.data);
	return seg_agree(r->d, rc);
}

int step_update(struct trainer *r, struct batch *b, double *value)
{
	int at_once = r->goal.at_once;
	struct job j = {.r = r, .b = b, .g = &r->goal, .state = r->goal.state, .train = 1, .at_once = at_once, .count = at_once};
	int rc = backward(&j, value);
	if (rc == SEG_OK)
		rc = seg_tree_sum(r->tree, r->sum);
	if (rc < 0)
		return rc;
	/* the same sum on every rank: all see what one sees */
	for (size_t i = 0; i < r->n; i++)
		if (r->sum[i] - r->sum[i] != 0)
			return seg_fail(SEG_EDATA, "the gradient is not finite");
	r->step++;
	seg_optim_step(&r->o->optim, r->step, r->n, r->p, r->sum, r->m, r->v);
	seg_weights_set(r->weights, r->p);
	return SEG_OK;
}

int step_counts(struct trainer *r, struct seg_confusion *all)
{
	size_t ranks = (size_t)r->d->size, nclass = (size_t)r->head.nclass, n = 2 + 3 * nclass;
	uint64_t *mine = seg_alloc(n, sizeof *mine);
	int rc = seg_agree(r->d, mine ? SEG_OK : SEG_ENOMEM);
	if (rc < 0) {
		free(mine);
		return rc;
	}
	for (int t = 0; t < r->run->threads; t++) {
		struct seg_confusion *c = &r->count[t];
		mine[0] += c->pixels;
		mine[1] += c->ignored;
		for (size_t k = 0; k < 3 * nclass; k++)
			mine[2 + k] += c->tp[k]; /* tp, fp, fn are one block */
		c->pixels = c->ignored = 0;
		memset(c->tp, 0, 3 * nclass * sizeof *c->tp);
	}
	uint64_t *every = seg_gather_all(r->d, mine, n * sizeof *mine);
	for (size_t q = 0; q < ranks; q++) {
		const uint64_t *from = every + q * n;
		all->pixels += from[0];
		all->ignored += from[1];
		for (size_t k = 0; k < 3 * nclass; k++)
			all->tp[k] += from[2 + k];
	}
	free(every);
	free(mine);
	return SEG_OK;
}
