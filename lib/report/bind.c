/* A stream's sample as a loss sees it, with every check that makes its arrays safe to use. */
#include <stdio.h>

#include "seg/err.h"
#include "seg/report.h"

void seg_bind_env(const struct seg_header *h, struct seg_loss_env *env)
{
	env->nclass = h->nclass;
	env->classes = (const char *const *)h->classes;
	switch (h->head) {
	case SEG_SIGMOID: env->head = SEG_LOSS_SIGMOID; break;
	case SEG_SOFTMAX: env->head = SEG_LOSS_SOFTMAX; break;
	case SEG_NONE: env->head = SEG_LOSS_NONE; break;
	case SEG_HEAD_UNSET:
		env->head = h->task == SEG_MULTICLASS ? SEG_LOSS_SOFTMAX : SEG_LOSS_SIGMOID;
	}
}

unsigned seg_bind_weight(const struct seg_sample *s)
{
	const struct seg_tensor *t = seg_sample_tensor(s, "weight.npy");
	return !t ? 0 : t->ndim == 2 ? SEG_Y | SEG_X : SEG_Y | SEG_X | SEG_K;
}

/* What the checks share.  That shapes agree with each other, and types, the stream has seen to. */
struct bind {
	const struct seg_header *h;
	const struct seg_sample *s;
	struct seg_loss_sample *out;
};

/* A tensor sets H and W; one that has classes must have as many as the header. */
static int shape(struct bind *b, const char *name, const struct seg_tensor *t, int classes)
{
	b->out->h = t->dim[0];
	b->out->w = t->dim[1];
	return !classes || t->dim[2] == (size_t)b->h->nclass ? SEG_OK
	    : seg_fail(SEG_EDATA, "sample %s: %s has %zu classes, but the stream's header names %d", b->s->key, name,
	          t->dim[2], b->h->nclass);
}

/* Element i, with value v, is not what it should be. */
static int refuse(const struct bind *b, const char *name, const struct seg_tensor *t, size_t i, double v,
    const char *expected)
{
	size_t k = t->ndim == 3 ? t->dim[2] : 1, pixel = i / k, w = t->dim[1];
	char is[32];
	snprintf(is, sizeof is, "%g", v);
	return seg_fail(SEG_EDATA, "sample %s: %s is %s at y %zu x %zu%s%s, expected %s", b->s->key, name,
	    v != v ? "NaN" : is, pixel / w, pixel % w, t->ndim == 3 ? ", class " : "",
	    t->ndim == 3 ? b->h->classes[i % k] : "", expected);
}

/* A <f4 tensor of finite numbers; *out NULL if the sample has none of that name. */
static int floats(struct bind *b, const char *name, const float **out)
{
	const struct seg_tensor *t = seg_sample_tensor(b->s, name);
	*out = NULL;
	if (!t)
		return SEG_OK;
	int rc = shape(b, name, t, t->ndim == 3);
	const float *x = t->data;
	size_t n = seg_tensor_count(t);
	for (size_t i = 0; i < n && rc == SEG_OK; i++)
		if (x[i] - x[i] != 0)
			rc = refuse(b, name, t, i, x[i], "a finite number");
	*out = x;
	return rc;
}

/* Are all bytes at most this?  The common case, looked at without a branch. */
static int at_most(const struct seg_tensor *t, int most)
{
	const uint8_t *x = t->data;
	uint8_t seen = 0;
	for (size_t i = seg_tensor_count(t); t->dtype == SEG_U1 && i--;)
		seen = x[i] > seen ? x[i] : seen;
	return t->dtype == SEG_U1 && seen <= most;
}

static int labels(struct bind *b, const struct seg_tensor *t)
{
	size_t n = at_most(t, b->h->nclass - 1) ? 0 : seg_tensor_count(t); /* to be looked at one by one */
	int wide = t->dtype == SEG_U2, rc = shape(b, "label.npy", t, 0);
	b->out->truth = t->data;
	b->out->kind = wide ? SEG_LABEL_U2 : SEG_LABEL_U1;
	for (size_t i = 0; i < n && rc == SEG_OK; i++) {
		long v = wide ? ((const uint16_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
		if (v >= b->h->nclass && v != b->out->ignore) {
			char expected[64];
			snprintf(expected, sizeof expected, "0..%d (or map it: seg-load --map)", b->h->nclass - 1);
			rc = refuse(b, "label.npy", t, i, (double)v, expected);
		}
	}
	return rc;
}

static int masks(struct bind *b, const struct seg_tensor *t)
{
	size_t n = at_most(t, 1) ? 0 : seg_tensor_count(t);
	int soft = t->dtype == SEG_F4, rc = shape(b, "mask.npy", t, 1);
	int any = b->h->head == SEG_NONE; /* other people's arrays */
	b->out->truth = t->data;
	b->out->kind = soft ? SEG_MASK_F4 : SEG_MASK_U1;
	for (size_t i = 0; i < n && rc == SEG_OK; i++) {
		float v = soft ? ((const float *)t->data)[i] : (float)((const uint8_t *)t->data)[i];
		int fits = soft ? any ? v - v == 0 : v >= 0 && v <= 1 : v == 0 || v == 1;
		if (!fits && !(b->out->ignore >= 0 && v == (float)b->out->ignore))
			rc = refuse(b, "mask.npy", t, i, v, soft ? any ? "a finite number" : "0 to 1" : "0 or 1");
	}
	return rc;
}

static int truth(struct bind *b, int needed)
{
	const struct seg_tensor *label = seg_sample_tensor(b->s, "label.npy");
	const struct seg_tensor *mask = seg_sample_tensor(b->s, "mask.npy");
	if (label && mask)
		return seg_fail(SEG_EDATA, "sample %s: has both label.npy and mask.npy; keep one", b->s->key);
	if (!label && !mask && needed)
		return seg_fail(SEG_EDATA, "sample %s: has no truth (label.npy or mask.npy); load it with "
		    "seg-load --labels or --masks", b->s->key);
	return label ? labels(b, label) : mask ? masks(b, mask) : SEG_OK;
}

static int sample_weight(struct bind *b)
{
	if (!seg_sample_find(b->s, "json"))
		return SEG_OK;
	struct seg_json *j = seg_sample_json(b->s);
	if (!j)
		return SEG_EDATA;
	b->out->sample_weight = seg_json_number(seg_json_get(j, "sample_weight"), 1);
	seg_json_free(j);
	return SEG_OK;
}

int seg_bind(const struct seg_header *h, const struct seg_sample *s, int need_truth, int need_pred,
    struct seg_loss_sample *out)
{
	struct bind b = {h, s, out};
	const struct seg_tensor *image = seg_sample_tensor(s, "image.npy");
	int rc = SEG_OK;
	*out = (struct seg_loss_sample){.key = s->key, .sample_weight = 1, .pk = 1, .zk = 1};
	out->pi = out->zi = (size_t)h->nclass;
	out->weight_k = (seg_bind_weight(s) & SEG_K) != 0;
	out->ignore = h->ignore == SEG_NOIGNORE ? -1 : h->ignore;
	if (h->nclass < 1 && (need_truth || need_pred))
		return seg_fail(SEG_EDATA, "the stream's header names no classes; load it with --classes");
	if (image)
		rc = shape(&b, "image.npy", image, 0);
	if (rc < 0 || (rc = truth(&b, need_truth)) < 0 || (rc = floats(&b, "pred.npy", &out->p)) < 0 ||
	    (rc = floats(&b, "logit.npy", &out->z)) < 0 || (rc = floats(&b, "weight.npy", &out->weight)) < 0 ||
	    (rc = sample_weight(&b)) < 0)
		return rc;
	return !need_pred || out->p || out->z ? SEG_OK : seg_fail(SEG_EDATA, "sample %s: has no predictions "
	    "(pred.npy or logit.npy); add them with seg-predict", s->key);
}

void seg_unbind(struct seg_loss_sample *out)
{
	*out = (struct seg_loss_sample){0};
}
