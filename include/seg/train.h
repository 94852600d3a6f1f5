/* Training and prediction.  What is trained is plain data (struct seg_train) that goes into the
 * model's header; where and on how many threads and ranks is apart (struct seg_run), because the
 * result does not depend on it. */
#ifndef SEG_TRAIN_H
#define SEG_TRAIN_H

#include <signal.h>

#include "seg/confusion.h"
#include "seg/dist.h"
#include "seg/mem.h"
#include "seg/net.h"
#include "seg/report.h"

/* All that changes the content of a model, besides the streams. */
struct seg_train {
	const char *loss;                   /* text; NULL: by task (seg_train_loss) */
	int epochs, batch;                  /* samples in a step over all ranks */
	uint64_t seed;                      /* of the initial weights and the order of samples */
	uint64_t max_steps;                 /* stop after so many; 0: no limit */
	int shuffle;                        /* 0: the order of the stream */
	struct seg_optim optim;
	int nstage, channels[SEG_MAXSTAGE]; /* nstage 0: the default, or those of --from */
	enum seg_norm norm;
	int groups;
	enum seg_init init;
	enum seg_head head;                 /* SEG_HEAD_UNSET: by task, or that of --from */
	const char *range;                  /* "u1", "u2", "f4" or a number the input is divided by; NULL: by the first image */
};
/* The defaults of DESIGN: 20 epochs, batch 16, Adam with 0.001, 8-16-32-64-128, shuffled, seed 0. */
void seg_train_defaults(struct seg_train *t);
/* The loss of a task where none is named. */
const char *seg_train_loss(enum seg_task task);

/* One epoch, or what max_steps left of it. */
struct seg_epoch {
	int epoch, epochs;         /* from 1; epochs 0: the stream decides */
	uint64_t step;             /* steps done in all */
	size_t samples, val_samples;
	/* running: sum v_b n_b / sum n_b over batches, as Keras prints it; each v_b of the weights
	 * before its step.  exact: the loss over the epoch's samples as one batch, of the same
	 * predictions; NaN if it takes more than one pass over them (npass > 1). */
	double running, exact;
	double val_running, val_exact; /* frozen model after the epoch; always exact */
	int npass;
	const struct seg_confusion *train, *val; /* val NULL: no validation */
	const struct seg_ledger *ledger;         /* of the validation's mean over batches; NULL: none */
	const struct seg_header *head;           /* class names */
	double seconds;
	/* shares of them that ranks waited: for their input, most; for each other, least and most */
	double input, least, most;
	int ranks;
};

/* What a run is: printed at its start. */
struct seg_plan {
	const struct seg_train *train;  /* nothing left open: loss, channels, head and range are set */
	const struct seg_net *net;
	const struct seg_header *head;
	size_t samples, val_samples;    /* 0: not known before the end, no validation */
	int ranks, threads;
	int from;                       /* continues from a model */
	uint64_t resumed;               /* goes on after that step of a checkpoint; 0: it does not */
};

/* Where, and who looks on.  Callbacks may be NULL; they are called on rank 0. */
struct seg_run {
	const char *const *in; /* nin files, as if they were one; nin 0 or "-": stdin */
	int nin;
	const char *val;     /* or NULL */
	const char *from;    /* a model, or NULL */
	const char *out;     /* the model's file */
	const char *log;     /* JSON lines, written as they come; or NULL */
	const char *checkpoint; /* file, or NULL: written after each epoch, and in between */
	double every;        /* seconds between checkpoints within an epoch; 0: after each step; < 0: never */
	const volatile sig_atomic_t *asked; /* not 0: checkpoint and return SEG_ECKPT; or NULL */
	int resume, force;   /* go on from checkpoint if it is there; even on another class of instructions */
	int threads;
	int micro;           /* activations are kept of so many samples over all ranks, those of the others computed
	                      * again; 0: as many as fit into 1 GiB of a rank */
	size_t cache;        /* bytes of stdin kept in memory before $TMPDIR is used */
	void (*start)(void *arg, const struct seg_plan *p);
	void (*step)(void *arg, int epoch, size_t done, size_t total, double loss); /* samples; total 0: not known */
	void (*epoch)(void *arg, const struct seg_epoch *e);
	void *arg;
};

/* Train and write run->out.  Collective: all ranks give the same and get the same result; on
 * failure the reason is that of the lowest rank that failed, on every rank.  The same model for
 * any d->size, threads, and -i or stdin. */
int seg_train_run(const struct seg_train *t, const struct seg_run *run, struct seg_dist *d);

/* A plan and an epoch as people read them. */
int seg_plan_text(const struct seg_plan *p, struct seg_buf *out);
int seg_epoch_text(const struct seg_epoch *e, struct seg_buf *out);

/* seg-predict: KEY.pred.npy, or KEY.logit.npy, is added to each sample of in. */
struct seg_predict {
	const char *model, *in, *out; /* in, out NULL: stdin, stdout */
	int logits, threads, level;
};
int seg_predict_run(const struct seg_predict *p);

#endif
