/* The run as JSON lines and as text.  No times and no rank or thread counts in the log: it is the
 * same, byte for byte, however the run was spread. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/train/train.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/isa.h"
#include "seg/math.h"

static const char *const OPTIM[] = {[SEG_ADAM] = "adam", [SEG_ADAM_TORCH] = "adam-torch", [SEG_SGD] = "sgd"};
static const char *const INIT[] = {[SEG_GLOROT] = "glorot", [SEG_HE] = "he"};

struct seg_json *train_json(const struct seg_train *t)
{
	struct seg_json *j = seg_json_object();
	seg_json_set(j, "optimizer", seg_json_str(OPTIM[t->optim.kind]));
	seg_json_set(j, "lr", seg_json_num(t->optim.lr));
	if (t->optim.kind != SEG_SGD)
		seg_json_set(j, "epsilon", seg_json_num(t->optim.epsilon));
	else
		seg_json_set(j, "momentum", seg_json_num(t->optim.momentum));
	seg_json_set(j, "batch", seg_json_int(t->batch));
	if (t->epochs)
		seg_json_set(j, "epochs", seg_json_int(t->epochs));
	if (t->max_steps)
		seg_json_set(j, "max_steps", seg_json_int((long long)t->max_steps));
	seg_json_set(j, "seed", seg_json_int((long long)t->seed));
	seg_json_set(j, "shuffle", seg_json_bool(t->shuffle));
	seg_json_set(j, "init", seg_json_str(INIT[t->init]));
	return j;
}

/* ---- JSON lines */

void log_open(struct log *l, const char *path, long long keep)
{
	*l = (struct log){.fd = -1};
	if (!path)
		return;
	l->path = seg_strdup(path);
	l->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (keep ? 0 : O_TRUNC), 0666);
	off_t end = l->fd < 0 || !keep ? 0 : lseek(l->fd, 0, SEEK_END);
	if (l->fd < 0 || end < 0 || (end > keep && ftruncate(l->fd, keep) < 0) || (keep && lseek(l->fd, 0, SEEK_END) < 0))
		l->rc = seg_fail_sys("%s", path);
	else if (end < keep)
		l->rc = seg_fail(SEG_EDATA, "%s: has %lld bytes, those before the checkpoint were %lld; give the log of that run, "
		    "or none", path, (long long)end, keep);
	if (l->rc < 0)
		l->reason = seg_strdup(seg_reason());
}

long long log_at(const struct log *l)
{
	off_t at = l->fd >= 0 ? lseek(l->fd, 0, SEEK_CUR) : 0;
	return at < 0 ? 0 : at;
}

/* Takes j. */
static void line(struct log *l, struct seg_json *j)
{
	struct seg_buf b = {0};
	char *text = l->fd >= 0 && l->rc == SEG_OK ? seg_json_text(j) : NULL;
	if (text) {
		int rc = seg_buf_printf(&b, "%s\n", text);
		if (rc == SEG_OK && (rc = seg_write_full(l->fd, b.data, b.n)) < 0)
			seg_where(rc, "%s", l->path);
		if (rc < 0) {
			l->rc = rc == SEG_EPIPE ? SEG_EDATA : rc;
			l->reason = seg_strdup(seg_reason());
		}
	}
	free(b.data);
	free(text);
	seg_json_free(j);
}

static struct seg_json *event(const char *name)
{
	struct seg_json *j = seg_json_object();
	seg_json_set(j, "event", seg_json_str(name));
	return j;
}

void log_plan(struct log *l, const struct seg_plan *p)
{
	struct seg_json *j = event("start"), *names = seg_json_array();
	for (int k = 0; k < p->head->nclass; k++)
		seg_json_add(names, seg_json_str(p->head->classes[k]));
	seg_json_set(j, "classes", names);
	seg_json_set(j, "task", seg_json_str(seg_task_text(p->head->task)));
	seg_json_set(j, "head", seg_json_str(seg_head_text(p->head->head)));
	seg_json_set(j, "loss", seg_json_str(p->train->loss));
	seg_json_set(j, "parameters", seg_json_int((long long)seg_net_nparam(p->net)));
	seg_json_set(j, "train", train_json(p->train));
	line(l, j);
}

void log_step(struct log *l, int epoch, uint64_t step, size_t n, double loss)
{
	struct seg_json *j = event("step");
	seg_json_set(j, "epoch", seg_json_int(epoch));
	seg_json_set(j, "step", seg_json_int((long long)step));
	seg_json_set(j, "samples", seg_json_int((long long)n));
	seg_json_set(j, "loss", seg_json_num(loss));
	line(l, j);
}

static double share(const struct seg_confusion *c, int k)
{
	return c->pixels ? (double)(c->tp[k] + c->fn[k]) / (double)c->pixels : 0;
}

static struct seg_json *counts(const struct seg_confusion *c, int k)
{
	struct seg_json *j = seg_json_object();
	seg_json_set(j, "pixels", seg_json_num(share(c, k)));
	seg_json_set(j, "iou", seg_json_num(seg_iou(c, k)));
	seg_json_set(j, "tp", seg_json_int((long long)c->tp[k]));
	seg_json_set(j, "fp", seg_json_int((long long)c->fp[k]));
	seg_json_set(j, "fn", seg_json_int((long long)c->fn[k]));
	return j;
}

/* Class k's share of the loss, and of the gradient, in validation. */
static double loss_share(const struct seg_epoch *e, int k)
{
	return seg_ledger_of_pixel(e->ledger, -1, k) / e->val_running;
}

static struct seg_json *part(const struct seg_epoch *e, const struct seg_confusion *c, size_t n, double running,
    double exact)
{
	int present;
	struct seg_json *j = seg_json_object(), *classes = seg_json_array();
	seg_json_set(j, "samples", seg_json_int((long long)n));
	seg_json_set(j, "loss_running", seg_json_num(running));
	seg_json_set(j, "loss_exact", seg_json_num(exact));
	seg_json_set(j, "mean_iou", seg_json_num(seg_mean_iou(c, &present)));
	seg_json_set(j, "present", seg_json_int(present));
	for (int k = 0; k < e->head->nclass; k++) {
		struct seg_json *one = counts(c, k);
		seg_json_set(one, "name", seg_json_str(e->head->classes[k]));
		if (c == e->val) {
			seg_json_set(one, "loss", seg_json_num(seg_ledger_of_pixel(e->ledger, -1, k)));
			seg_json_set(one, "loss_share", seg_json_num(loss_share(e, k)));
			seg_json_set(one, "gradient_share", seg_json_num(seg_ledger_gradient(e->ledger, k)));
		}
		seg_json_add(classes, one);
	}
	seg_json_set(j, "classes", classes);
	return j;
}

void log_epoch(struct log *l, const struct seg_epoch *e)
{
	struct seg_json *j = event("epoch");
	seg_json_set(j, "epoch", seg_json_int(e->epoch));
	seg_json_set(j, "step", seg_json_int((long long)e->step));
	seg_json_set(j, "train", part(e, e->train, e->samples, e->running, e->exact));
	if (e->val)
		seg_json_set(j, "val", part(e, e->val, e->val_samples, e->val_running, e->val_exact));
	line(l, j);
}

int log_check(const struct log *l)
{
	return l->rc < 0 ? seg_fail(l->rc, "%s", l->reason ? l->reason : "out of memory") : SEG_OK;
}

int log_close(struct log *l)
{
	int rc = log_check(l), fd = l->fd;
	l->fd = -1;
	return fd >= 0 && close(fd) < 0 && rc == SEG_OK ? seg_fail_sys("%s", l->path) : rc;
}

void log_free(struct log *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->path);
	free(l->reason);
}

/* ---- text */

int seg_plan_text(const struct seg_plan *p, struct seg_buf *out)
{
	static const char *const norm[] = {"none", "instance", "group"};
	const struct seg_train *t = p->train;
	const struct seg_net_shape *s = seg_net_shape(p->net);
	seg_buf_printf(out, "data      ");
	if (p->samples)
		seg_buf_printf(out, "%zu samples", p->samples);
	else
		seg_buf_printf(out, "epochs as they come");
	seg_buf_printf(out, " of %d channels, range %s", s->cin, t->range);
	if (p->val_samples)
		seg_buf_printf(out, "; validation on %zu", p->val_samples);
	seg_buf_printf(out, "\nclasses   %d, %s:", p->head->nclass, seg_task_text(p->head->task));
	for (int k = 0; k < p->head->nclass; k++)
		seg_buf_printf(out, " %s", p->head->classes[k]);
	seg_buf_printf(out, "\nnetwork   ");
	for (int i = 0; i < s->nstage; i++)
		seg_buf_printf(out, "%s%d", i ? "-" : "", s->channels[i]);
	seg_buf_printf(out, ", norm %s, head %s, %zu parameters, %s\nloss      %s\ntraining  ", norm[s->norm],
	    seg_head_text(p->head->head), seg_net_nparam(p->net), p->from ? "continued" : INIT[t->init], t->loss);
	if (t->epochs)
		seg_buf_printf(out, "%d epochs, ", t->epochs);
	seg_buf_printf(out, "batch %d, %s, lr %g", t->batch, OPTIM[t->optim.kind], t->optim.lr);
	if (t->optim.kind == SEG_SGD)
		seg_buf_printf(out, ", momentum %g", t->optim.momentum);
	seg_buf_printf(out, ", %s, seed %ju\n",
	    !p->samples ? "in order of arrival" : t->shuffle ? "shuffled" : "not shuffled", (uintmax_t)t->seed);
	if (p->resumed)
		seg_buf_printf(out, "resumed   after step %ju\n", (uintmax_t)p->resumed);
	return seg_buf_printf(out, "on        %d rank%s x %d thread%s, %s\n",
	    p->ranks, p->ranks == 1 ? "" : "s", p->threads, p->threads == 1 ? "" : "s",
	    seg_isa_text(seg_isa()));
}

static void losses(struct seg_buf *out, double running, double exact, int npass)
{
	seg_buf_printf(out, "%.8g (mean of batches), ", running);
	if (exact == exact)
		seg_buf_printf(out, "%.8g (exact)", exact);
	else
		seg_buf_printf(out, "exact: not known, the loss takes %d passes", npass);
}

static void percent(struct seg_buf *out, double v)
{
	if (v == v)
		seg_buf_printf(out, " %9.2f%%", 100 * v);
	else
		seg_buf_printf(out, " %10s", "-");
}

static void row(struct seg_buf *out, const char *name, const struct seg_epoch *e, int k)
{
	const struct seg_confusion *both[] = {e->train, e->val};
	int present;
	seg_buf_printf(out, "  %-16s", name);
	for (int i = 0; i < 2 && both[i]; i++) {
		percent(out, k < 0 ? SEG_NAN : share(both[i], k));
		percent(out, k < 0 ? seg_mean_iou(both[i], &present) : seg_iou(both[i], k));
	}
	if (e->val && k >= 0) {
		percent(out, loss_share(e, k));
		percent(out, seg_ledger_gradient(e->ledger, k));
	}
	seg_buf_printf(out, "\n");
}

int seg_epoch_text(const struct seg_epoch *e, struct seg_buf *out)
{
	seg_buf_printf(out, "epoch %d", e->epoch);
	if (e->epochs)
		seg_buf_printf(out, "/%d", e->epochs);
	seg_buf_printf(out, ", step %ju, %.1f s", (uintmax_t)e->step, e->seconds);
	if (e->ranks > 1)
		seg_buf_printf(out, "; ranks waited %.1f to %.1f %% for each other", 100 * e->least, 100 * e->most);
	if (e->input > 0.05)
		seg_buf_printf(out, "; %.0f %% for input", 100 * e->input);
	seg_buf_printf(out, "\n  loss ");
	losses(out, e->running, e->exact, e->npass);
	if (e->val) {
		seg_buf_printf(out, "\n  val  ");
		losses(out, e->val_running, e->val_exact, e->npass);
	}
	seg_buf_printf(out, "\n  %-16s %10s %10s%s\n", "class", "pixels", "IoU",
	    e->val ? " val pixels    val IoU   its loss   gradient" : "");
	for (int k = 0; k < e->head->nclass; k++)
		row(out, e->head->classes[k], e, k);
	row(out, "mean", e, -1);
	return seg_buf_printf(out, "%s", "");
}
