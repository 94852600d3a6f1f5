/* Losses and streams as people read them: binding of a stream's sample to a loss, the ledger, the
 * explanation; text and JSON.  Order of floors: base, stream, loss -> report -> train. */
#ifndef SEG_REPORT_H
#define SEG_REPORT_H

#include <stdio.h>

#include "seg/confusion.h"
#include "seg/loss.h"
#include "seg/mem.h"
#include "seg/stream.h"

/* What a stream's header says to a loss: classes (borrowed from h) and head, unset as its task has
 * it (multiclass softmax, multilabel sigmoid).  The rest is left alone. */
void seg_bind_env(const struct seg_header *h, struct seg_loss_env *env);
/* Axes of an open sample's weight.npy, for env.w_axes: the header does not know them.  0: none. */
unsigned seg_bind_weight(const struct seg_sample *s);
/* An open sample as a loss sees it; pointers into s, valid while it lives.  Checks what the stream
 * cannot know: truth present (if need_truth), as many classes as h has, labels in range, masks 0/1
 * (<f4: 0..1, or anything finite where the head is none), truth, predictions and weights finite.  need_pred: pred or logit must be there.
 * SEG_EDATA names sample, class, pixel.  The sample's weight is "sample_weight" of its json, else 1.
 * seg_unbind forgets them again. */
int seg_bind(const struct seg_header *h, const struct seg_sample *s, int need_truth, int need_pred,
    struct seg_loss_sample *out);
void seg_unbind(struct seg_loss_sample *out);

/* Aligned columns of text, as people read them.  Cells are added row by row. */
struct seg_table {
	const char *align;  /* 'l' or 'r' for each column; borrowed */
	struct seg_line *line;
	int n, cap;
	int width;          /* of the widest row, after seg_table_text */
	int rc;             /* the first failure; adding goes on harmlessly */
};
void seg_table_start(struct seg_table *t, const char *align);
/* The next cell of the row; columns left out stay empty. */
void seg_table_cell(struct seg_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A cell with v in a format for one double; 0 is written as 0. */
void seg_table_number(struct seg_table *t, const char *fmt, double v);
void seg_table_end(struct seg_table *t);                      /* the row is complete */
void seg_table_mark(struct seg_table *t, const char *escape); /* colour of the row being filled */
/* A line across all columns, wrapped at SEG_COLUMNS and indented by `indent`. */
void seg_table_note(struct seg_table *t, int indent, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Append all to b (colour: escapes are used) and free the table.  Two blanks between columns. */
int seg_table_text(struct seg_table *t, int colour, struct seg_buf *b);

enum { SEG_COLUMNS = 100 };
/* Text broken at blanks so that no line passes SEG_COLUMNS; each line indented by `indent`. */
int seg_wrap(struct seg_buf *b, int indent, const char *text);
/* Numbers for people, in a buffer of a ring of 16 of this thread: 1,048,576; 0.012641; 2.29 %. */
const char *seg_text_count(double n);
const char *seg_text_value(double v);
const char *seg_text_share(double part, double whole);
/* The format for all losses of a table, so that columns can be compared by eye; most: the largest. */
const char *seg_text_format(double most);

/* ---- counts over a stream: the tables and the JSON of seg-iou ---- */
struct seg_counts {
	struct seg_header h;  /* classes and task */
	double *threshold;    /* multilabel: one for each class */
	double *sweep;        /* of c, or NULL */
	size_t samples;
	struct seg_confusion c;
};
/* The thresholds step, 2 step, .. below 1, as they are printed with 6 digits, into a->sweep; how many, or < 0. */
int seg_counts_sweep(struct seg_counts *a, double step);
void seg_counts_free(struct seg_counts *a);
int seg_counts_text(const struct seg_counts *a, struct seg_buf *b);
struct seg_json *seg_counts_json(const struct seg_counts *a); /* NULL: out of memory */
/* Back from that JSON.  SEG_EDATA: it is no such object; a is then empty. */
int seg_counts_read(struct seg_counts *a, const struct seg_json *o);
/* The counts of n files of that JSON together, as if their samples had been counted in one run: to
 * the last bit.  SEG_EDATA names the file, and in what it was counted otherwise than the first. */
int seg_counts_merge(struct seg_counts *a, char **file, int n);

/* ---- the ledger: the total taken apart ----
 * Cells are (term, pixel class, channel, present).  Terms: the summands of the loss, by name.
 * Pixel class: the first truth class 0..K-1 of the pixel, K for none, K+1 for ignored.  Channel:
 * 0..K-1, or K where the loss has no class axis.  present: t >= 1/2 in that channel (without a
 * channel: the pixel has a class).  What belongs to no pixel stands in rows of its own: constants,
 * and functions of reduced values, which are not split.
 *
 * The loss's own tree is transformed (seg-lang(7), "Ledger"), so there is one evaluator.  Order of
 * calls: new, then make and run a state of the same loss; sample for each sample (any thread),
 * add in sample order, rest once for each state. */
struct seg_ledger_row {
	int term;
	char *text;   /* "constant", "not split: log(...)" */
	double *chan; /* nclass + 1 sums */
};
struct seg_ledger {
	int nclass, nterm, nrow;
	char **term, **formula;     /* nterm: label; expression */
	struct seg_ledger_row *row;
	double *cell;               /* [nterm][nclass+2][nclass+1][2], see seg_ledger_at */
	double *grad;               /* [nclass+2][nclass][2]: sum of |dL/dz| */
	double *pixels, *weight;    /* [nclass+2]: how many; sum of the pixel weight of the loss */
	int weighted;               /* the loss has a pixel weight made from the truth alone */
	double nsample, total, sum, rounding; /* total = sum + rounding */
	struct seg_split *split;    /* how; private */
};
/* Appends nodes to l. */
int seg_ledger_new(struct seg_ledger **g, struct seg_loss *l);
void seg_ledger_free(struct seg_ledger *g);
size_t seg_ledger_block(const struct seg_ledger *g); /* doubles for a sample */
/* dz: seg_loss_gradient's planes, or NULL.  map, if not NULL: [H,W], what each pixel contributes to
 * the loss is added.  Thread-safe. */
int seg_ledger_sample(const struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const float *dz, double *block, double *map);
/* scale: 1, or a batch's share in the mean over batches. */
void seg_ledger_add(struct seg_ledger *g, const double *block, double scale);
/* Rows without a sample (s: any sample), and the total. */
int seg_ledger_rest(struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, double scale);
/* A sample's sum over its cells, from its block. */
double seg_ledger_of_sample(const struct seg_ledger *g, const double *block);
size_t seg_ledger_at(const struct seg_ledger *g, int term, int pixel, int channel, int present);
/* Sums of cells: over channels and presence (term -1: all terms); over pixel classes. */
double seg_ledger_of_pixel(const struct seg_ledger *g, int term, int pixel);
double seg_ledger_of_channel(const struct seg_ledger *g, int term, int channel);
double seg_ledger_of_term(const struct seg_ledger *g, int term);
/* A pixel class's share of the gradient, sum of |dL/dz|; NaN where there is none. */
double seg_ledger_gradient(const struct seg_ledger *g, int pixel);
/* Forget what was added. */
void seg_ledger_clear(struct seg_ledger *g);
/* Tables by pixel class and by channel.  c (may be NULL): counts for the IoU column; classes:
 * nclass names. */
int seg_ledger_text(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes, int colour, struct seg_buf *b);
struct seg_json *seg_ledger_json(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes);
/* A pixel class as it is called: a class's name, "no class", "ignored". */
const char *seg_ledger_class(const struct seg_ledger *g, const char *const *classes, int pixel);
/* The rows of the classes, as an array of objects. */
struct seg_json *seg_ledger_classes(const struct seg_ledger *g, const struct seg_confusion *c,
    const char *const *classes);

/* ---- samples, and windows of samples, that carry most of the loss ----
 * Each sample's [H,W] is cut into windows of SEG_WINDOW x SEG_WINDOW from its first pixel on, the last ones
 * smaller.  A window's loss is the sum of its map (seg_ledger_sample); a sample's has its rows without
 * pixels, too.  The largest come first; of equal ones the first in the stream, then the upper, the left. */
enum { SEG_WINDOW = 64 };
struct seg_spot {
	char key[SEG_KEY + 1];
	size_t y, x, height, width;
	double loss;
	int class;                      /* samples: the pixel class with most of it, by size */
	double of_class, iou;           /* its part; its IoU in the sample, or NaN */
};
struct seg_worst {
	int cap, nsample, nwindow;      /* at most cap of each */
	struct seg_spot *sample, *window;
	size_t samples, windows;        /* seen */
	double in_samples, in_windows;  /* the loss of all that were seen */
	double of_samples;              /* the ledger's rows that belong to samples */
};
int seg_worst_new(struct seg_worst *w, int n);
void seg_worst_free(struct seg_worst *w);
void seg_worst_clear(struct seg_worst *w); /* forget what was seen */
/* Look at one sample, as seg_ledger_sample left block and map; c has its counts alone. */
void seg_worst_sample(struct seg_worst *w, const struct seg_ledger *g, const struct seg_loss_sample *s,
    const double *block, const double *map, const struct seg_confusion *c);
/* other saw what follows in the stream. */
void seg_worst_merge(struct seg_worst *w, const struct seg_worst *other);
/* After all samples were added to g, before seg_ledger_rest; what is said needs both. */
void seg_worst_rows(struct seg_worst *w, const struct seg_ledger *g);
int seg_worst_text(const struct seg_worst *w, const struct seg_ledger *g, const char *const *classes, int colour,
    struct seg_buf *b);
struct seg_json *seg_worst_json(const struct seg_worst *w, const struct seg_ledger *g, const char *const *classes);

/* ---- the explanation: the tree in order of evaluation, with what the data say ---- */
struct seg_step {
	int node, field;       /* field: whose entries are counted (itself, or what it reduces); -1 */
	const char *name;      /* of a definition, or NULL */
	char *text;            /* in terms of earlier steps: "mean[n,y,x](#5)" */
	double *stat;          /* enum below, then nclass sums */
	double *value;         /* [1 or nclass] where n, y, x are gone, else NULL */
	double above, below;   /* numerator and denominator of a mean or quotient; 0, 0: neither */
	char *note;            /* what one should know about it, or NULL */
};
enum { SEG_STAT_COUNT, SEG_STAT_NEG, SEG_STAT_ZERO, SEG_STAT_NEGSUM, SEG_STAT_POSSUM, SEG_STAT_MIN, SEG_STAT_MAX,
	SEG_STAT_CHAN };
struct seg_attain {
	const char *at;        /* "p = t", ... */
	double value;
	char *why;             /* not NULL: it has none, and why */
};
struct seg_explain {
	const struct seg_loss *l;
	const struct seg_ledger *g;
	struct seg_step *step;
	int nstep;
	double *block;         /* what seg_explain_sample fills, added up */
	double nsample, pixels, value;
	int recovered;         /* samples whose z was made from p */
	struct seg_attain attain[5];
	int nattain;
	const char *range;     /* the recipe's, or NULL */
	char **warning;
	int nwarning;
	struct seg_look *look; /* private */
};
/* g: the ledger of the same loss, borrowed, filled at the same time. */
int seg_explain_new(struct seg_explain **e, struct seg_loss *l, const struct seg_ledger *g);
void seg_explain_free(struct seg_explain *e);
size_t seg_explain_block(const struct seg_explain *e);
int seg_explain_sample(const struct seg_explain *e, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const float *dz, double *block);
void seg_explain_add(struct seg_explain *e, const double *block);
/* The loss at p = t, 1-t, 0, 1, 1/2 (what the head allows of it) on this truth. */
int seg_explain_attain(struct seg_explain *e, const struct seg_loss_source *src, int threads);
/* After all samples, and after seg_ledger_rest: values, warnings. */
int seg_explain_rest(struct seg_explain *e, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const char *const *classes);
int seg_explain_text(const struct seg_explain *e, int colour, struct seg_buf *b);
struct seg_json *seg_explain_json(const struct seg_explain *e);

/* ---- samples of a stream, bound, as a source for a loss ---- */
struct seg_feed {
	const struct seg_index *index; /* borrowed */
	const char *name;              /* of the stream, for messages; borrowed */
	size_t first;                  /* sample 0 of the source */
	struct seg_sample *sample;     /* one for each thread */
	size_t *area;                  /* pixels of each sample of the stream seen so far */
	int threads, bound;
	unsigned w_axes;               /* of the weights, once the first sample was bound */
};
int seg_feed_new(struct seg_feed *f, const struct seg_index *x, const char *name, int threads);
void seg_feed_free(struct seg_feed *f);
/* Samples first .. first+n-1, with truth and predictions; valid until f changes. */
struct seg_loss_source seg_feed_source(struct seg_feed *f, size_t first, size_t n);

/* Pass the stream on to stdout with each pixel's contribution to the loss, KEY.loss.npy <f4 [H,W], and
 * the gradient dL/dz, KEY.grad.npy <f4 [H,W,K].  st: of g's loss, run with gradient.  loss: its text,
 * for the provenance.  Maps and the ledger's rows without pixels add up to the loss. */
struct seg_maps {
	const struct seg_index *index;
	const struct seg_loss *l;
	const struct seg_loss_state *st;
	const struct seg_ledger *g;
	const char *loss;
	int map, gradient, threads, level;
};
int seg_maps_write(const struct seg_maps *m);

/* ---- what others would print for the same predictions ---- */
struct seg_other {
	char *loss;           /* expression or recipe */
	double value;
	char *differs;        /* the first step of its own that the loss beside it does not have; NULL: none */
	char *why;            /* not NULL: it has no value here, and why */
};
/* list: recipes, expressions or projects ("keras3": its usual loss of the task; "all"), separated by
 * commas outside of brackets.  l: the loss to compare with.  *out: *n entries the caller frees with
 * seg_others_free.  SEG_EUSAGE: no such project. */
int seg_others(struct seg_other **out, size_t *n, const char *list, const struct seg_loss *l, enum seg_task task,
    const struct seg_loss_source *src, int threads);
void seg_others_free(struct seg_other *o, size_t n);
int seg_others_text(const struct seg_other *o, size_t n, const char *loss, double value, int colour, struct seg_buf *b);
struct seg_json *seg_others_json(const struct seg_other *o, size_t n);

/* ---- all of it at once, for a stream: what seg-loss does ---- */
struct seg_ask {
	const char *in;       /* NULL: stdin */
	const char *loss;     /* NULL: by task */
	const char *recipes;  /* text of a user's file, or NULL */
	const char *as;       /* list of seg_others, or NULL */
	int ledger, explain;  /* what is wanted besides the value */
	int field;            /* the loss need not be a scalar: its values are wanted, see seg_audit.field */
	int map, gradient;    /* write the stream to stdout with KEY.loss.npy, KEY.grad.npy */
	int level;            /* of what is written, as seg_sample_pack */
	int f64, threads;
	int worst;            /* how many samples and windows, see seg_worst; 0: none */
	size_t batch, cache;  /* batch 0: none; cache: bytes of stdin kept in memory */
};
struct seg_audit {
	struct seg_index *index;
	const struct seg_header *header; /* of index */
	const char *loss;
	int by_default;       /* the loss was not asked for */
	size_t nsample, nbatch;
	double value, pixels;
	double running;       /* Keras's running mean over batches, if asked for */
	struct seg_loss *l;
	struct seg_ledger *ledger;
	struct seg_explain *explain;
	struct seg_confusion confusion;
	struct seg_worst worst; /* cap 0: not asked for */
	struct seg_other *other; /* nother of them */
	size_t nother;
	struct seg_json *field; /* values as nested arrays, in the order of `axes` */
	double *of_sample;    /* each sample's cells added up, with the ledger */
	char **key;
};
int seg_audit_run(struct seg_audit *a, const struct seg_ask *ask);
void seg_audit_free(struct seg_audit *a);
int seg_audit_text(const struct seg_audit *a, int colour, struct seg_buf *b);
struct seg_json *seg_audit_json(const struct seg_audit *a);

/* ---- two ledgers of one loss, subtracted ---- */
struct seg_diff_row {
	const char *name, *term;            /* of what belongs to no pixel: its words, its term; else term is NULL */
	double pixels[2], loss[2];          /* in A, in B */
	double gradient[2], iou[2];         /* share of the gradient; NaN: none */
};
struct seg_diff {
	const char *name[2];                /* of the files; borrowed */
	struct seg_json *side[2];           /* the ledgers; rows borrow their words */
	double samples[2], pixels[2], loss[2];
	struct seg_diff_row *row, *channel; /* nrow, nchannel; largest change first, equal ones in the ledger's order */
	int nrow, nchannel;                 /* nchannel 0: the loss has no channels */
	int other_pixels;                   /* a class has other pixels in B than in A: compared all the same, and said */
	double rounding;                    /* the rows' changes, added in their order, and this are the loss's */
};
/* Read two files that seg_audit_json wrote; b NULL or "-": stdin.  SEG_EDATA names the file: no JSON, no
 * ledger, another loss (by its words and by its terms' formulas), other classes.  Free it in any case. */
int seg_diff_read(struct seg_diff *d, const char *a, const char *b);
void seg_diff_free(struct seg_diff *d);
int seg_diff_text(const struct seg_diff *d, int colour, struct seg_buf *b);
struct seg_json *seg_diff_json(const struct seg_diff *d);

/* The recipes as a table for people. */
int seg_recipe_text(struct seg_buf *b);

#endif
