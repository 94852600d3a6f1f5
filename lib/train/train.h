/* What the files of lib/train share. */
#ifndef TRAIN_H
#define TRAIN_H

#include "seg/json.h"
#include "seg/loss.h"
#include "seg/parallel.h"
#include "seg/report.h"
#include "seg/train.h"

/* ---- input.c: what an image must be */

struct input {
	int channels;         /* 0: any */
	int multiple;         /* H and W; 1: any */
	const char *range;    /* as in seg_train */
	unsigned weight;      /* axes of weight.npy */
};
/* The image of an open sample if it fits the network; NULL: the reason is recorded. */
const struct seg_tensor *input_image(const struct input *in, const struct seg_sample *s);
/* What the image is multiplied by. */
float input_scale(const char *range);
/* Is this a range?  SEG_EUSAGE. */
int input_range(const char *range);
/* The range that an image of this type asks for. */
const char *input_default(enum seg_dtype d);

/* ---- feed.c: who gets which sample */

struct item {
	struct seg_sample sample;
	struct seg_loss_sample l; /* z is for the step to set */
	const struct seg_tensor *image;
	int bound;
};
/* One batch: n samples over all ranks, of which this rank has items 0..mine-1, number at.. of it. */
struct batch {
	size_t n, at, mine;
	struct item *item;
	size_t cap;
};
/* What the first sample of a stream says. */
struct look {
	int channels;
	enum seg_dtype dtype;
	unsigned weight;
	int arrival;      /* carries epochs: trained as it comes */
	size_t count;     /* 0: not known */
};

struct feed;
/* Open on all ranks (collective): ordinary files, n of them, are indexed by each; anything else, of which
 * there can be one, is read by rank 0. */
int feed_open(struct feed **f, struct seg_dist *d, const char *const *path, int n, size_t batch, int threads, size_t cache);
const struct seg_header *feed_header(const struct feed *f);
const struct look *feed_look(const struct feed *f);
const char *feed_name(const struct feed *f);
/* What images must be from now on; in is copied, its texts are borrowed. */
void feed_expect(struct feed *f, const struct input *in);
/* Collective.  Begin epoch e (from 0) at its sample `from`.  A permutation that is a function of
 * (seed, e), or the stream's order.  1: there are samples; 0: the stream that carries epochs is at its
 * END. */
int feed_begin(struct feed *f, uint64_t e, int shuffle, uint64_t seed, size_t from);
/* What identifies the samples, on rank 0: of all; of a stream that carries epochs those that batches
 * were made of so far.  *epoch (may be NULL): the number of its epoch in that stream. */
struct seg_content feed_content(const struct feed *f, long long *epoch);
/* Collective, of a stream that carries epochs, before the first feed_begin: pass over what was trained,
 * which must be `used`, up to and into its epoch `epoch`.  1: that epoch goes on, 0: it is over.
 * SEG_EDATA: it is another stream. */
int feed_skip(struct feed *f, struct seg_content used, long long epoch);
/* Collective.  1: *b is the next batch, the feed's own until the next call; 0: the epoch is over. */
int feed_next(struct feed *f, struct batch **b);
/* Collective.  Read a stream that carries epochs to its END. */
int feed_drain(struct feed *f);
/* Seconds that batches were waited for so far, on this rank. */
double feed_waited(const struct feed *f);
void feed_close(struct feed *f);

/* ---- step.c: one batch */

/* Activations for one size of picture, made anew when the size changes. */
struct place {
	struct seg_acts *acts;
	struct seg_grads *grads;
	float *dz;
	size_t h, w;
	int keep;
};
/* What the batches of an epoch add up to so far; the same on every rank. */
struct tally {
	double sum;                 /* of v_b n_b */
	size_t n;                   /* samples */
	struct seg_buf part;        /* partials of pass 0 of all samples, in order */
	struct seg_confusion count; /* of what step_counts was asked for */
};
/* A loss and its values of a batch and of an epoch; ledger: NULL, or it is taken apart, too. */
struct goal {
	struct seg_loss *loss;
	struct seg_loss_state *state, *whole;
	int fused;           /* the value of state comes with the gradient, in step_update */
	int at_once;         /* and so does all that needs predictions: no activations are kept for it */
	struct seg_ledger *ledger;
};
struct trainer {
	const struct seg_train *o;
	const struct seg_run *run;
	struct seg_dist *d;
	struct feed *feed, *val;
	struct seg_header head;          /* of the model */
	struct seg_net *net;
	struct seg_weights *weights;
	struct goal goal, audit;         /* of training; of validation, with a ledger */
	size_t n;                        /* floats of a packed vector */
	float *p, *m, *v, *sum;          /* weights, moments, gradient of the batch */
	float scale;
	uint64_t step;
	int epoch;                       /* from 1: that of the batch to come, or being trained */
	int over;                        /* it has no batches left */
	struct tally tally;              /* of it */
	struct log *log;
	double saved;                    /* when the last checkpoint was written: seconds, rank 0 */
	/* workspace */
	struct place *kept, *thread;     /* of each own sample; of each thread */
	struct seg_team **team;          /* nteam of them, of the first threads */
	size_t nteam;
	float **z;                       /* of each own sample */
	float **grad;                    /* of each of a slice of them */
	size_t slice, ngrad;             /* samples of a slice; vectors there are */
	struct seg_tree *tree;           /* their sum */
	size_t *nz;
	size_t cap;
	struct seg_confusion *count;     /* of each thread */
};
int step_new(struct trainer *r);
void step_free(struct trainer *r);

/* Collective: forward pass and all passes of the loss over the batch.  train: activations are kept
 * for step_update, and of a g->fused *value is its business, of one at_once all that needs predictions.
 * Predictions are counted.  The partials of
 * pass 0 of all samples are appended to part. */
int step_loss(struct trainer *r, struct goal *g, struct batch *b, int train, struct seg_buf *part, double *value);
/* Collective, after step_loss: the batch's cells, times scale, are added to the ledger. */
int step_ledger(struct trainer *r, struct goal *g, struct batch *b, double scale);
/* Collective: forward pass and one later pass of the loss in state g->whole; partials are appended. */
int step_pass(struct trainer *r, struct goal *g, struct batch *b, int pass, struct seg_buf *part);
/* Collective: gradient, sum over the batch, optimiser. */
int step_update(struct trainer *r, struct batch *b, double *value);
/* Collective: the counts of all threads and ranks since the last call are added to all. */
int step_counts(struct trainer *r, struct seg_confusion *all);

/* ---- log.c: JSON lines */

struct log {
	int fd, rc;
	char *path, *reason; /* of the first failure */
};
/* path NULL: nothing is logged.  keep: bytes of an earlier run that stay. */
void log_open(struct log *l, const char *path, long long keep);
long long log_at(const struct log *l); /* bytes written; 0: nothing is logged */
void log_plan(struct log *l, const struct seg_plan *p);
void log_step(struct log *l, int epoch, uint64_t step, size_t n, double loss);
void log_epoch(struct log *l, const struct seg_epoch *e);
/* The first failure, if there was one. */
int log_check(const struct log *l);
int log_close(struct log *l); /* and the first failure */
void log_free(struct log *l);
/* Options as an object: the model's header and the log say the same. */
struct seg_json *train_json(const struct seg_train *t);

/* ---- epoch.c */

/* Collective: train epoch r->epoch from where r->tally stands, validate, report.  1: go on, 0: that was
 * the last.  SEG_ECKPT: a checkpoint was asked for and is written. */
int epoch_run(struct trainer *r);
/* Collective: nothing is tallied. */
int tally_clear(struct trainer *r);

/* ---- checkpoint.c: all that the rest of a run depends on, in one file */

/* Collective, between two steps: write one if it must be, if it is time, or if it was asked for.
 * SEG_ECKPT: it was asked for. */
int checkpoint_due(struct trainer *r, int must);
/* Collective, before the first step: go on from run->checkpoint, if there is one.  *keep: bytes of the
 * log that belong to it.  1: gone on, 0: there is none.  SEG_EDATA: of another run, and what differs. */
int checkpoint_resume(struct trainer *r, long long *keep);

#endif
