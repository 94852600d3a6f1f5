/* lib/loss: golden values of Keras and TensorFlow.js, sums done by hand, finite differences, the same
 * bits however the work is cut, and what is said about mistakes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/isa.h"
#include "seg/loss.h"
#include "seg/rng.h"
#include "seg/tensor.h"
#include "lib/loss/state.h"

static const char *const five[] = {"matrix", "oxide", "gamma2", "gamma3", "crack"};

/* ---- samples ---- */

enum { MOST = 16 };
struct world {
	int n;
	struct seg_loss_env env;
	struct seg_loss_sample s[MOST];
};

static int get(void *arg, size_t i, int t, struct seg_loss_sample *s)
{
	(void)t;
	*s = ((struct world *)arg)->s[i];
	return 0;
}

static size_t elements(const struct world *w, int i)
{
	return w->s[i].h * w->s[i].w * (size_t)w->env.nclass;
}

static void world_free(struct world *w)
{
	for (int i = 0; i < w->n; i++) {
		free((void *)w->s[i].z);
		free((void *)w->s[i].p);
		free((void *)w->s[i].truth);
		free((void *)w->s[i].weight);
	}
}

/* n samples of different sizes; logits on a grid of 1/512, so that steps of it are exact. */
static struct world made(int n, int K, enum seg_loss_head head, int labels, uint64_t seed)
{
	static const size_t size[][2] = {{3, 5}, {9, 77}, {1, 4}, {20, 31}, {2, 2}, {16, 16}, {5, 3}};
	static const char *const name[] = {"s0", "s1", "s2", "s3", "s4", "s5", "s6"};
	struct world w = {.n = n, .env = {.nclass = K, .classes = K == 5 ? five : NULL, .head = head, .f64 = 1}};
	struct seg_rng r;
	seg_rng_start(&r, seed, "test", "u-loss", 0, 0, 0);
	for (int i = 0; i < n; i++) {
		struct seg_loss_sample *s = &w.s[i];
		size_t P = size[i % 7][0] * size[i % 7][1];
		float *z = malloc(P * (size_t)K * sizeof *z), *wt = malloc(P * (size_t)K * sizeof *wt);
		uint8_t *t = malloc(P * (size_t)K);
		for (size_t j = 0; j < P * (size_t)K; j++) {
			z[j] = ((float)seg_rng_below(&r, 4096) - 2048) / 512;
			wt[j] = (float)seg_rng_below(&r, 8) / 4;
			t[j] = (uint8_t)(labels ? seg_rng_below(&r, (uint32_t)K) : seg_rng_below(&r, 4) == 0);
			if (seg_rng_below(&r, 20) == 0)
				t[j] = 255;
		}
		*s = (struct seg_loss_sample){.h = size[i % 7][0], .w = size[i % 7][1], .z = z, .zi = 1, .zk = P, .truth = t,
		    .kind = labels ? SEG_LABEL_U1 : SEG_MASK_U1, .ignore = 255, .weight = wt, .sample_weight = 0.5 + i % 3,
		    .key = name[i], .index = (size_t)i};
	}
	return w;
}

static void must(int rc)
{
	if (rc < 0)
		print_error("# %s\n", seg_reason());
	assert_true(rc >= 0);
}

/* The value; gradients of all samples, one after another, if g is not NULL. */
static double loss(struct world *w, const char *text, float *g)
{
	struct seg_loss *l;
	struct seg_loss_state *st;
	int rc = seg_loss_compile(&l, text, &w->env);
	if (rc < 0)
		print_error("# %s: %s\n", text, seg_reason());
	assert_int_equal(rc, 0);
	must(seg_loss_state_new(&st, l));
	rc = seg_loss_run(l, st, g != NULL, &(struct seg_loss_source){.n = (size_t)w->n, .get = get, .arg = w}, 2);
	if (rc < 0)
		print_error("# %s: %s\n", text, seg_reason());
	assert_int_equal(rc, 0);
	for (int i = 0; g && i < w->n; i++) {
		if (seg_loss_gradient(l, st, &w->s[i], g) < 0) {
			print_error("# %s: %s\n", text, seg_reason());
			fail();
		}
		g += elements(w, i);
	}
	double v = seg_loss_value(l, st);
	seg_loss_state_free(st);
	seg_loss_free(l);
	return v;
}

static void near(const char *what, double got, double want, double tol)
{
	if (!(fabs(got - want) <= tol * fmax(1, fabs(want)))) {
		print_error("# %s: got %.12g, want %.12g\n", what, got, want);
		fail();
	}
}

/* ---- reductions done by hand ---- */

static double truth(const struct seg_loss_sample *s, size_t i, int k, int K)
{
	const uint8_t *t = s->truth;
	uint8_t v = s->kind == SEG_LABEL_U1 ? t[i] : t[i * (size_t)K + (size_t)k];
	return v == 255 ? 0 : s->kind == SEG_LABEL_U1 ? v == k : v;
}

static void reductions(void **state)
{
	(void)state;
	struct world w = made(4, 5, SEG_LOSS_SIGMOID, 0, 1);
	double sum = 0, pixels = 0, means = 0, weighted = 0, tallest = 0, dice = 0, heights = 0;
	for (int i = 0; i < w.n; i++) {
		const struct seg_loss_sample *s = &w.s[i];
		size_t P = s->h * s->w;
		double mine = 0, st = 0, sp = 0, stp = 0;
		for (size_t j = 0; j < P; j++)
			for (int k = 0; k < 5; k++) {
				double z = s->z[(size_t)k * P + j], t = truth(s, j, k, 5), p = 1 / (1 + exp(-z));
				mine += log(1 + exp(z)) - t * z;
				st += t, sp += p, stp += t * p;
			}
		sum += mine;
		pixels += (double)P;
		heights += (double)s->h;
		means += mine / (double)(P * 5);
		weighted += s->sample_weight * mine / (double)(P * 5);
		tallest = fmax(tallest, mine);
		dice += (2 * stp + 1) / (st + sp + 1);
	}
	near("mean over all", loss(&w, "mean[n,y,x,k](bce)", NULL), sum / pixels / 5, 1e-12);
	near("classes first", loss(&w, "mean[n,y,x](mean[k](bce))", NULL), sum / pixels / 5, 1e-12);
	near("samples alone", loss(&w, "mean[n](mean[y,x,k](bce))", NULL), means / 4, 1e-12);
	near("rows, then all", loss(&w, "sum[n,y](sum[x,k](bce))", NULL), sum, 1e-12);
	near("columns, then all", loss(&w, "sum[n,x](sum[k](sum[y](bce)))", NULL), sum, 1e-12);
	near("sample weights", loss(&w, "mean[n](s*mean[y,x,k](bce))", NULL), weighted / 4, 1e-12);
	near("largest sample", loss(&w, "max[n](sum[y,x,k](bce))", NULL), tallest, 1e-12);
	near("dice per sample", loss(&w, "mean[n](dice[y,x,k])", NULL), dice / 4, 1e-12);
	near("pixels", loss(&w, "sum[n,y,x](1)", NULL), pixels, 0);
	near("elements", loss(&w, "sum[n,y,x,k](1)", NULL), 5 * pixels, 0);
	near("samples", loss(&w, "sum[n](1)", NULL), 4, 0);
	near("rows", loss(&w, "sum[n,y](1)", NULL), heights, 0);
	near("largest picture", loss(&w, "max[n](sum[y,x](1))", NULL), 20 * 77 < 693 ? 0 : 693, 0);
	near("classes", loss(&w, "sum[k](1)", NULL), 5, 0);
	near("class numbers", loss(&w, "sum[k](c*[crack=10, *=1])", NULL), 46, 0);
	near("mean by pixels of a number per sample",
	    loss(&w, "mean[n,y,x](sum[y,x](1))", NULL), (15. * 15 + 693. * 693 + 16 + 620. * 620) / pixels, 1e-15);
	near("mean of a global", loss(&w, "mean[n,y,x](mean[n,y,x,k](p)) - mean[n,y,x,k](p)", NULL), 0, 0);
	near("sum of a global", loss(&w, "sum[n,y,x,k](mean[n,y,x,k](p)) / sum[n,y,x,k](p)", NULL), 1, 1e-15);
	w.env.f64 = 0;
	near("single precision", loss(&w, "mean[n,y,x,k](bce)", NULL), sum / pixels / 5, 1e-7);
	world_free(&w);
}

/* ---- finite differences ---- */

static const char *const operations[] = {
	"mean[n,y,x,k](bce)", "mean[n,y,x](ce)", "1 - dice", "mean[n,k](1 - dice[y,x])", "1 - mean[k](dice[n,y,x])",
	"mean[n](1 - dice[y,x,k])", "mean[n,y,x,k](p*z - t/(1 + p))", "mean[n,y,x,k](-p^3 + p^1.5 + p^t)",
	"mean[n,y,x,k](exp(-z) + log(p) + sqrt(p) + abs(z - 0.1001) + tanh(z))",
	"mean[n,y,x,k](xlogy(p, 1 - p) + xlogy(t, p))", "mean[n,y,x,k](min(z, 0.3001*t) + max(p, 0.4001))",
	"mean[n,y,x,k](clip(z, -1.0001, 1.0001)*z)", "mean[n,y,x,k](softplus(z) + sigmoid(2*z))",
	"mean[n,y,x,k](where(t > 0, log(p), p^2))", "mean[n,y,x,k](where(t > 0, log(t*p), 0))",
	"mean[n,y,x,k](where(z < -0.1001, sqrt(-min(z, 0)), 0))",
	"mean[n,y,x,k](softmax[k](z*z)*c)", "mean[n,y,x,k](logsoftmax[k](2*z)*t)", "mean[n,y,x](max[k](z) - min[k](z))",
	"mean[n,y,x,k](max[k](p)*argmax[k](z)*[1,2,3,4,5])",
	"max[n,y,x,k](z*p)", "mean[k](max[n,y,x](z))", "mean[n](max[y,x,k](z))", "mean[n,y](max[x,k](z)*min[x,k](p))",
	"sum[n](min[y,x](sum[k](p)))", "max[n](mean[y,x,k](p))", "mean[k](max[n](mean[y,x](z*p)))",
	"mean[n,y](mean[x,k](p)^2)", "mean[n,x](max[k](mean[y](p)))", "mean[n,y,x,k](p*mean[x](p)*mean[y](z))",
	"mean[n,y,x,k]((p - mean[y,x](p))^2)", "mean[n,y,x,k]((p - mean[n,y,x](p))^2 / (0.1 + mean[n,y,x,k](p)))",
	"mean[n,y,x](w*mean[k](p))/mean[n,y,x](w)", "mean[n](s*mean[y,x,k](p*z))/mean[n](s)",
	"sum[n,y,x,k](v*bce)/sum[n,y,x,k](v)", "mean[n,y,x](class_weight([0,1,2,3,4])*(mean[k](bce) - (1 + dice)))",
	"mean[n,y,x,k](softmax[k](mean[n,y,x](z))*p*[1,0,2,0,5])", "mean[n,k](argmax[k](mean[y,x](p))*logsoftmax[k](mean[y,x](z)))", "log(sum[n,y,x,k](exp(z)))",
	"(mean[n,y,x,k](p))^mean[n,y,x,k](abs(z))", "max(mean[n,y,x,k](p), 0.1)*min(mean[n,y,x,k](z*z), 99)",
	"where(mean[n,y,x,k](p) > 2, 1, mean[n,y,x,k](z*z))", "max[k](mean[n,y,x](p)) - min[k](mean[n,y,x](z))",
	"mean[n](exp(mean[y,x](log(sum[k](p*p)))))", "sum[n,y,x,k](mean[n,y,x,k](p)*[1,2,3,4,5])",
	"mean[n,y,x,k](p*mean[n,y,x,k](z*mean[n,y,x](p*z)))", "mean[n,y,x,k](torch_bce(p, t))",
};

static void one_difference(struct world *w, const char *text)
{
	size_t total = 0, at = 0;
	for (int i = 0; i < w->n; i++)
		total += elements(w, i);
	float *g = malloc(total * sizeof *g);
	double most = 0;
	loss(w, text, g);
	for (size_t j = 0; j < total; j++)
		most = fmax(most, fabsf(g[j]));
	for (int i = 0; i < w->n; i++) {
		size_t n = elements(w, i);
		float *z = (float *)w->s[i].z;
		for (int q = 0; q < 4; q++) {
			size_t j = (n - 1) * (size_t)q / 3;
			float keep = z[j];
			double h = 1. / 512, f[4];
			for (int d = 0; d < 4; d++) {
				z[j] = keep + (float)(h * (d < 2 ? d - 2 : d - 1));
				f[d] = loss(w, text, NULL);
			}
			z[j] = keep;
			double fd = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h);
			if (fabs(fd - g[at + j]) > 2e-6 * most + 1e-10) {
				print_error("# %s: sample %d, element %zu: gradient %.9g, differences %.9g (largest %g)\n", text, i,
				    j, g[at + j], fd, most);
				fail();
			}
		}
		at += n;
	}
	free(g);
}

static void differences(void **state)
{
	(void)state;
	struct world w = made(4, 5, SEG_LOSS_SIGMOID, 0, 3), m = made(3, 5, SEG_LOSS_SOFTMAX, 1, 4);
	w.env.w_axes = m.env.w_axes = SEG_Y | SEG_X;
	for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
		one_difference(&w, operations[i]);
		if (i < 6)
			one_difference(&m, operations[i]);
	}
	world_free(&m);
	world_free(&w);
}

/* At kinks, and where the language says so, the gradient is what it says. */
static void kinks(void **state)
{
	(void)state;
	static const float z[4] = {-1, 0, 1, 2};
	static const uint8_t t[4] = {0};
	static const struct { const char *text; double g[4]; } table[] = {
		{"stop(z)*z", {-1, 0, 1, 2}}, {"abs(z)", {-1, 0, 1, 1}}, {"clip(z, 0, 1)*3", {0, 3, 3, 0}},
		{"max(z, 1)", {0, 0, 1, 1}}, {"max(1, z)", {0, 0, 0, 1}}, {"min(z, 1)", {1, 1, 1, 0}}, {"z > 0", {0, 0, 0, 0}},
		{"where(z > 0, sqrt(z), 0)", {0, 0, 0.5, 0.5 / M_SQRT2}},
		{"where(z > 0, z*log(z), 0)", {0, 0, 1, 1 + M_LN2}}, {"max[n,y,x](abs(z - 0.5))/4", {-1, 0, 0, 0}},
		{"max[n,y,x](z*z - 3*z)/4", {-5, 0, 0, 0}}, {"max[n,y,x](-z*(z - 1))/4", {0, 1, 0, 0}},
		{"z^2", {-2, 0, 2, 4}}, {"xlogy(z > 0, z)", {0, 0, 1, 0.5}}, {"f32(z)", {1, 1, 1, 1}},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct world w = {.n = 1, .env = {.nclass = 1, .head = SEG_LOSS_SIGMOID}};
		w.s[0] = (struct seg_loss_sample){.h = 2, .w = 2, .z = z, .zi = 1, .zk = 4, .truth = t, .kind = SEG_MASK_U1,
		    .ignore = -1, .sample_weight = 1, .key = "kink"};
		float g[4];
		char text[200];
		snprintf(text, sizeof text, "sum[n,y,x,k](%s)", table[i].text);
		loss(&w, text, g);
		for (int j = 0; j < 4; j++)
			near(table[i].text, g[j], table[i].g[j], 1e-6);
	}
}

/* A recipe, called with what it must be given. */
static void call(const struct seg_recipe *r, char *text, size_t n)
{
	snprintf(text, n, "%s%s", r->name, strstr(r->args, "(weights") ? "(weights=[0,1,2,3,4])" :
	    strstr(r->args, "(alpha, ") ? "(0.3, 0.7)" : "");
}

static void recipes(void **state)
{
	(void)state;
	struct world w = made(3, 5, SEG_LOSS_SIGMOID, 0, 5), m = made(3, 5, SEG_LOSS_SOFTMAX, 1, 6);
	size_t n, whole = 0;
	const struct seg_recipe *r = seg_recipe_list(&n);
	assert_true(n > 15);
	for (size_t i = 0; i < n; i++) {
		char text[200];
		if (r[i].name[0] != '@')
			continue;
		whole++;
		assert_true(*r[i].source && *r[i].range);
		call(&r[i], text, sizeof text);
		one_difference(&w, text);
		one_difference(&m, text);
	}
	assert_true(whole > 10);
	one_difference(&w, "@post.weighted_loss(weights=[1,1,1,1,1000], sign=1)");
	one_difference(&w, "@keras3.binary_crossentropy(from_logits=1, label_smoothing=0.1)");
	one_difference(&w, "@keras3.binary_focal_crossentropy(apply_class_balancing=1, gamma=3, from_logits=1, reduction=1)");
	one_difference(&m, "@keras3.categorical_focal_crossentropy(alpha=[1,2,3,4,5], reduction=2)");
	one_difference(&m, "@keras3.tversky[y,x](alpha=0.2, beta=0.8)");
	one_difference(&m, "@smp.dice_loss(log_loss=1, smooth=1, classes=[0,1,1,0,1])");
	one_difference(&m, "@smp.tversky_loss(gamma=2)");
	one_difference(&m, "@smp.focal_loss(alpha=0.25, normalized=1)");
	one_difference(&w, "@smp.focal_loss(alpha=0.25)");
	one_difference(&m, "@monai.dice_loss(squared_pred=1, jaccard=1, include_background=0, batch=1, weight=[0,1,2,3,4])");
	one_difference(&w, "@monai.dice_loss(other_act=1)");
	one_difference(&m, "@monai.generalized_dice_loss(w_type=1, include_background=0, batch=1)");
	one_difference(&m, "@monai.focal_loss(use_softmax=1, alpha=0.8)");
	one_difference(&w, "@monai.tversky_loss(batch=1, alpha=0.3, beta=0.7, reduction=1)");
	one_difference(&w, "@nnunet.dc_and_bce_loss(use_ignore_label=1, batch_dice=1)");
	one_difference(&m, "@nnunet.dc_and_ce_loss(batch_dice=1, do_bg=1, smooth=1e-5)");
	one_difference(&m, "@keras3.categorical_crossentropy(label_smoothing=0.1)");
	one_difference(&m, "@torch.cross_entropy(weight=[crack=1000, *=1], label_smoothing=0.1)");
	one_difference(&w, "@torch.binary_cross_entropy_with_logits(weight=[1,2,3,4,5], pos_weight=[5,4,3,2,1])");
	w.env.w_axes = SEG_Y;
	one_difference(&w, "@keras2.binary_crossentropy(temporal=1)");
	world_free(&m);
	world_free(&w);
}

/* ---- golden ---- */

static const char *reference(void)
{
	const char *dir = getenv("SEG_REF");
	char path[500];
	snprintf(path, sizeof path, "%s/golden/weights_note.json", dir ? dir : "");
	FILE *f = fopen(path, "r");
	if (f)
		fclose(f);
	return f ? dir : NULL;
}

static struct seg_tensor npy(const char *name)
{
	char path[500];
	struct seg_tensor t;
	snprintf(path, sizeof path, "%s/golden/%s.npy", reference(), name);
	must(seg_npy_load(path, &t));
	return t;
}

/* A batch of predictions and masks [N,H,W,K] as samples. */
static struct world batch(const struct seg_tensor *p, const struct seg_tensor *t, enum seg_loss_head head)
{
	struct world w = {.n = (int)p->dim[0], .env = {.nclass = (int)p->dim[3], .head = head}};
	size_t P = p->dim[1] * p->dim[2], K = p->dim[3];
	for (int i = 0; i < w.n; i++)
		w.s[i] = (struct seg_loss_sample){.h = p->dim[1], .w = p->dim[2], .p = (float *)p->data + (size_t)i * P * K,
		    .pi = K, .pk = 1, .truth = (float *)t->data + (size_t)i * P * K, .kind = SEG_MASK_F4, .ignore = -1,
		    .sample_weight = 1, .key = "golden", .index = (size_t)i};
	return w;
}

static void golden_losses(void **state)
{
	(void)state;
	static const struct { const char *pred, *truth, *loss; double want; } table[] = {
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@keras2.binary_crossentropy", 0.6942611336708069},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@keras3.binary_crossentropy", 0.6942611336708069},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "mean[n,y,x,k](bce)", 0.6942611336708069},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@torch.binary_cross_entropy", 0.6942611336708069},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@torch.binary_cross_entropy_with_logits", 0.6942611336708069},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@kaggle.dice_coef", 0.3582000434398651},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@kaggle.bce_dice", -0.011069471947848797},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@kaggle.bce_plus_dice", 1.3360611200332642},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@post.weighted_loss(weights=[0,1,2,3,4])", -0.38556718826293945},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "@post.weighted_loss(weights=[1,1,1,1,1000])", -11.437752723693848},
		{"1a_net_16x16_loss_and_grad_bce/pred", "io_16x16/y", "mean[n,y,x](class_weight([1,1,1,1,1000]))", 16.609375},
		{"1g_net_16x16_loss_and_grad_cce_softmax/pred", "io_16x16/y_onehot", "@keras2.categorical_crossentropy", 1.6118806600570679},
		{"1g_net_16x16_loss_and_grad_cce_softmax/pred", "io_16x16/y_onehot", "@keras3.categorical_crossentropy", 1.6118806600570679},
		{"1g_net_16x16_loss_and_grad_cce_softmax/pred", "io_16x16/y_onehot", "@torch.cross_entropy", 1.6118806600570679},
		{"2a_net_32x48_loss_and_grad_bce/pred", "io_32x48/y", "@keras2.binary_crossentropy", 0.6940584182739258},
		{"2a_net_32x48_loss_and_grad_bce/pred", "io_32x48/y", "@kaggle.bce_dice", -0.01367803756147623},
		{"2a_net_32x48_loss_and_grad_bce/pred", "io_32x48/y", "@post.weighted_loss(weights=[1,1,1,1,1000])", -15.139991760253906},
	};
	if (!reference())
		skip();
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct seg_tensor p = npy(table[i].pred), t = npy(table[i].truth);
		struct world w = batch(&p, &t, strstr(table[i].pred, "1g") ? SEG_LOSS_SOFTMAX : SEG_LOSS_SIGMOID);
		near(table[i].loss, loss(&w, table[i].loss, NULL), table[i].want, 1e-6);
		seg_tensor_free(&p);
		seg_tensor_free(&t);
	}
}

static void golden_weights(void **state)
{
	(void)state;
	if (!reference())
		skip();
	struct seg_tensor p = npy("1a_net_16x16_loss_and_grad_bce/pred"), t = npy("io_16x16/y");
	struct seg_tensor s = npy("6a_sample_weight_per_sample_1d_raw/sample_weight"), row = npy("6d_sample_weight_temporal_BH/sample_weight");
	struct world w = batch(&p, &t, SEG_LOSS_SIGMOID);
	for (int i = 0; i < w.n; i++) {
		w.s[i].sample_weight = ((float *)s.data)[i];
		w.s[i].weight = (float *)row.data + 16 * i;
	}
	near("6a as Keras 2.1.6", loss(&w, "@keras2.binary_crossentropy", NULL), 1.0414388179779053, 1e-6);
	near("6a as Keras 3", loss(&w, "@keras3.binary_crossentropy", NULL), 0.7810791580122896, 1e-6);
	w.env.w_axes = SEG_Y;
	near("6d as Keras 2.1.6", loss(&w, "@keras2.binary_crossentropy(temporal=1)", NULL), 1.059568166732788, 1e-6);
	near("6d, mean over rows", loss(&w, "mean[n,y,x](mean[k](bce)*w)", NULL), 0.6953416608739644, 1e-6);
	seg_tensor_free(&row);
	seg_tensor_free(&s);
	seg_tensor_free(&t);
	seg_tensor_free(&p);
}

/* Values of each element and the gradient of their sum. */
static void each(struct world *w, const char *field, double *v, float *g)
{
	struct seg_loss *l;
	struct seg_loss_state *st;
	char text[300];
	w->env.field_ok = 1;
	must(seg_loss_compile(&l, field, &w->env));
	must(seg_loss_state_new(&st, l));
	must(seg_loss_run(l, st, 0, &(struct seg_loss_source){.n = (size_t)w->n, .get = get, .arg = w}, 1));
	must(seg_loss_field(l, st, &w->s[0], l->root, v));
	seg_loss_state_free(st);
	seg_loss_free(l);
	snprintf(text, sizeof text, "sum[n,y,x,k](%s)", field);
	if (g)
		loss(w, text, g);
}

static void golden_elements(void **state)
{
	(void)state;
	if (!reference())
		skip();
	static const char *const form[] = {"keras3_bce(t, 0)", "keras2_bce"};
	for (int form_of = 0; form_of < 2; form_of++) {
		struct seg_tensor x = npy("3a_bce_clip_epsilon_1e-7_on_probabilities/p"), t = npy("3a_bce_clip_epsilon_1e-7_on_probabilities/t");
		struct seg_tensor b = npy("3a_bce_clip_epsilon_1e-7_on_probabilities/bce"), d = npy("3a_bce_clip_epsilon_1e-7_on_probabilities/dbce_dp");
		struct seg_tensor z = npy("3b_bce_of_sigmoid_saturated_logits_vanishing_gradient/z"), tz = npy("3b_bce_of_sigmoid_saturated_logits_vanishing_gradient/t");
		struct seg_tensor bz = npy("3b_bce_of_sigmoid_saturated_logits_vanishing_gradient/bce"), dz = npy("3b_bce_of_sigmoid_saturated_logits_vanishing_gradient/dbce_dz");
		struct seg_tensor be = npy("3e_bce_from_logits_no_clip_tf_keras_2x_form/bce"), de = npy("3e_bce_from_logits_no_clip_tf_keras_2x_form/dbce_dz");
		double v[48];
		float g[48];
		struct world w = {.n = 1, .env = {.nclass = 1, .head = SEG_LOSS_NONE}};
		w.s[0] = (struct seg_loss_sample){.h = 1, .w = 40, .p = x.data, .pi = 1, .pk = 40, .truth = t.data,
		    .kind = SEG_MASK_F4, .ignore = -1, .sample_weight = 1, .key = "3a"};
		each(&w, form[form_of], v, g);
		for (int i = 0; i < 40; i++) {
			near("3a value", v[i], ((float *)b.data)[i], 1e-6);
			double q = ((float *)x.data)[i], slope = fmax(q*(1 - q), 1e-7); /* theirs is rounded on its way through the logit */
			near("3a gradient", g[i], ((float *)d.data)[i], 1e-5 + 1.2e-7 / slope);
		}
		w = (struct world){.n = 1, .env = {.nclass = 1, .head = SEG_LOSS_SIGMOID}};
		w.s[0] = (struct seg_loss_sample){.h = 1, .w = 48, .z = z.data, .zi = 1, .zk = 48, .truth = tz.data,
		    .kind = SEG_MASK_F4, .ignore = -1, .sample_weight = 1, .key = "3b"};
		each(&w, form[form_of], v, g);
		for (int i = 0; i < 48; i++) {
			float a = fabsf(((float *)z.data)[i]);
			if (a > 14.9f && a < 16.7f)
				continue;
			near("3b value", v[i], ((float *)bz.data)[i], a > 10 ? 2e-3 : 1e-6);
			near("3b gradient", g[i], ((float *)dz.data)[i], a > 10 ? 2e-3 : 1e-5);
		}
		each(&w, "bce", v, g);
		for (int i = 0; i < 48; i++) {
			near("3e value", v[i], ((float *)be.data)[i], 1e-6);
			near("3e gradient", g[i], ((float *)de.data)[i], 1e-6);
		}
		struct seg_tensor *all[] = {&x, &t, &b, &d, &z, &tz, &bz, &dz, &be, &de};
		for (size_t i = 0; i < 10; i++)
			seg_tensor_free(all[i]);
	}
}

static void golden_argmax(void **state)
{
	(void)state;
	if (!reference())
		skip();
	const char *dir = "3c_argmax_of_multilabel_mask_first_index_background_is_class0";
	char name[3][200];
	snprintf(name[0], 200, "%s/y", dir);
	snprintf(name[1], 200, "%s/multiplier_dict_keys", dir);
	snprintf(name[2], 200, "%s/multiplier_values", dir);
	struct seg_tensor y = npy(name[0]), keys = npy(name[1]), values = npy(name[2]);
	struct world w = {.n = 1, .env = {.nclass = 5, .head = SEG_LOSS_SIGMOID}};
	w.s[0] = (struct seg_loss_sample){.h = 8, .w = 1, .p = y.data, .pi = 5, .pk = 1, .truth = y.data,
	    .kind = SEG_MASK_F4, .ignore = -1, .sample_weight = 1, .key = "3c"};
	double v[8];
	each(&w, "class_weight([0,1,2,3,4])", v, NULL);
	for (int i = 0; i < 8; i++)
		assert_true(v[i] == ((float *)keys.data)[i]);
	each(&w, "class_weight([1,1,1,1,1000])", v, NULL);
	for (int i = 0; i < 8; i++)
		assert_true(v[i] == ((float *)values.data)[i]);
	seg_tensor_free(&y);
	seg_tensor_free(&keys);
	seg_tensor_free(&values);
}

/* ---- the post's situation ---- */

/* 16 x 256 x 256 pixels: classes 0-3 have 24,000 true pixels at IoU 0.96, class 4 has n4 at 0.23, the rest
 * no class; found is p = 0.999, the rest 0.001; where class 4 is or is said to be: 1 - low and low. */
static struct world post(int n4, float low)
{
	enum { K = 5, P = 256 * 256, N = 16 };
	struct world w = {.n = N, .env = {.nclass = K, .classes = five, .head = SEG_LOSS_SIGMOID}};
	float *p = malloc((size_t)N * P * K * sizeof *p);
	uint8_t *t = calloc((size_t)N * P, K);
	for (size_t i = 0; i < (size_t)N * P * K; i++)
		p[i] = 0.001f;
	size_t at = 0;
	for (int k = 0; k < K; k++) {
		int n = k < 4 ? 24000 : n4, tp = (int)lround((k < 4 ? 0.98 : 0.254) * n);
		int fp = (int)lround(tp / (k < 4 ? 0.96 : 0.23) - n);
		float no = k < 4 ? 0.001f : low;
		for (int i = 0; i < n + fp; i++, at++) { /* false positives: on pixels with no class */
			t[at * K + (size_t)k] = i < n;
			for (int q = 0; q < K; q++)
				p[at * K + (size_t)q] = no;
			p[at * K + (size_t)k] = i < tp || i >= n ? 1 - no : no;
		}
	}
	for (int i = 0; i < N; i++) {
		float *mine = malloc(P * K * sizeof *mine);
		uint8_t *truth_of = malloc(P * K);
		memcpy(mine, p + (size_t)i * P * K, P * K * sizeof *mine);
		memcpy(truth_of, t + (size_t)i * P * K, P * K);
		w.s[i] = (struct seg_loss_sample){.h = 256, .w = 256, .p = mine, .pi = K, .pk = 1, .truth = truth_of,
		    .kind = SEG_MASK_U1, .ignore = -1, .sample_weight = 1, .key = "post", .index = (size_t)i};
	}
	free(p);
	free(t);
	return w;
}

static void the_question(void **state)
{
	(void)state;
	static const struct { const char *loss; double want; } a[] = {
		{"dice", 0.951574}, {"mean[n,y,x,k](bce)", 0.006724},
		{"mean[n,y,x](class_weight([0,1,2,3,4]))", 0.139236}, {"mean[n,y,x](class_weight([1,1,1,1,1000]))", 1.476360},
		{"mean[n,y,x](class_weight([0,1,2,3,4])*mean[k](bce))", 0.005899},
		{"mean[n,y,x](class_weight([1,1,1,1,1000])*mean[k](bce))", 0.498085},
		{"sum[n,y,x](class_weight([0,0,0,0,1])*mean[k](bce))/sum[n,y,x](class_weight([0,0,0,0,1]))", 1.0315},
		{"@post.weighted_loss(weights=[0,1,2,3,4])", -0.265831}, {"@post.weighted_loss(weights=[0,1,2,3,4], sign=1)", 0.012641},
		{"mean[n,y,x](class_weight([0,1,2,3,4])*(0.5*mean[k](bce) - dice))", -0.129544},
		{"@post.weighted_loss(weights=[1,1,1,1,1000])", -2.383142}, {"@post.weighted_loss(weights=[crack=1000,*=1], sign=1)", 0.569579},
		{"mean[n,y,x](class_weight([1,1,1,1,1000])*(0.5*mean[k](bce) - dice))", -1.155824},
		{"@post.weighted_loss(weights=1+[0,0,0,0,0])", -1.944849}, {"@kaggle.bce_plus_dice", 0.055151}, {"@kaggle.bce_dice", -0.948212},
		{"sum[n,y,x](class_weight([0,1,2,3,4])*(mean[k](bce) + 1 - dice))/sum[n,y,x](class_weight([0,1,2,3,4]))", 0.090791},
		{"1 - mean[k](dice[n,y,x])", 0.203506},
	};
	struct world w = post(500, 0.001f);
	for (size_t i = 0; i < sizeof a / sizeof *a; i++)
		near(a[i].loss, loss(&w, a[i].loss, NULL), a[i].want, i == 6 ? 5e-5 : 1.5e-6);
	world_free(&w);
	w = post(4327, 1e-7f);
	near("B2: dice", loss(&w, "dice", NULL), 0.936891, 1e-6);
	/* worked out in double: the 451 false positives cost 16.118 there, 15.942 after a clip in single precision */
	near("B2: two terms cancel", loss(&w, "@post.weighted_loss(weights=[1,1,1,1,1000])", NULL),
	    0.009758 - 451 * (16.118095 - 15.942385) / 5 / 1048576, 2e-6);
	world_free(&w);
}

static void by_hand(void **state)
{
	(void)state;
	float p[8 * 5];
	uint8_t t[8] = {0, 0, 0, 0, 0, 0, 1, 4};
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < 5; k++)
			p[i * 5 + k] = i < 7 && t[i] == k ? 0.9f : 0.1f;
	struct world w = {.n = 1, .env = {.nclass = 5, .head = SEG_LOSS_SIGMOID}};
	w.s[0] = (struct seg_loss_sample){.h = 2, .w = 4, .p = p, .pi = 5, .pk = 1, .truth = t, .kind = SEG_LABEL_U1,
	    .ignore = -1, .sample_weight = 1, .key = "C"};
	near("C: dice", loss(&w, "dice", NULL), 13.8 / 18.6, 1e-6);
	near("C: keys, posted", loss(&w, "@post.weighted_loss(weights=[0,1,2,3,4])", NULL), -0.803137, 1e-6);
	near("C: keys, usual", loss(&w, "@post.weighted_loss(weights=[0,1,2,3,4], sign=1)", NULL), 0.446863, 1e-6);
	near("C: values, posted", loss(&w, "@post.weighted_loss(weights=[1,1,1,1,1000])", NULL), -151.073, 1e-5);
	near("C: values, usual", loss(&w, "@post.weighted_loss(weights=[1,1,1,1,1000], sign=1)", NULL), 100.677, 1e-5);
	p[0] = 0; /* clipped to 1e-7 in single precision, and 1 to 1 - 1.19e-7 */
	near("t=1, p=0", loss(&w, "max[n,y,x,k](keras2_bce)", NULL), 16.118095, 1e-6);
	near("t=1, p=0, two epsilons", loss(&w, "max[n,y,x,k](tfkeras_bce)", NULL), 15.424949, 1e-6);
	near("t=1, p=0, torch", loss(&w, "max[n,y,x,k](torch_bce(p, t))", NULL), 100, 0);
	p[0] = 0.9f;
	p[1] = 1;
	near("t=0, p=1", loss(&w, "max[n,y,x,k](keras2_bce)", NULL), 15.942385, 1e-6);
	near("t=0, p=1, two epsilons", loss(&w, "max[n,y,x,k](tfkeras_bce)", NULL), 15.333239, 1e-6);
	/* torch's cross-entropy, computed by its formula in double */
	float z[4] = {1, 2, 3, 0.5f};
	uint8_t y[2] = {1, 0};
	w = (struct world){.n = 1, .env = {.nclass = 2, .head = SEG_LOSS_SOFTMAX, .f64 = 1}};
	w.s[0] = (struct seg_loss_sample){.h = 1, .w = 2, .z = z, .zi = 1, .zk = 2, .truth = y, .kind = SEG_LABEL_U1,
	    .ignore = 0, .sample_weight = 1, .key = "torch"};
	double n0 = log(exp(1) + exp(3)) - 3, n1 = log(exp(2) + exp(0.5)) - 2;
	near("torch, ignored", loss(&w, "@torch.cross_entropy(weight=[3,7])", NULL), n0, 1e-12);
	w.s[0].ignore = -1;
	near("torch, weighted", loss(&w, "@torch.cross_entropy(weight=[3,7])", NULL), (7 * n0 + 3 * n1) / 10, 1e-12);
}

/* ---- what sorts ---- */

/* Against the definition: the coefficient of an error is what the Jaccard loss of all errors before it,
 * itself included, exceeds that of those before it by. */
static void lovasz(void **state)
{
	(void)state;
	enum { N = 40 };
	double e[N], t[N], got[N], positives = 0;
	for (int i = 0; i < N; i++) { /* ties, zeros, minus zero */
		e[i] = i % 7 == 3 ? -0. : (i * 37 % 11) / 8. - 0.25;
		t[i] = i * i % 5 == 1;
		positives += t[i];
		got[i] = e[i];
	}
	must(seg_lovasz(got, t, N));
	for (int i = 0; i < N; i++) {
		double hit[2] = {0}, miss[2] = {0}; /* with and without i: positives and negatives in error */
		for (int j = 0; j < N; j++)
			for (int without = 0; without < 2; without++)
				if (e[j] > e[i] || (e[j] == e[i] && j < i + !without)) {
					hit[without] += t[j];
					miss[without] += 1 - t[j];
				}
		double with = 1 - (positives - hit[0]) / (positives + miss[0]), less = 1 - (positives - hit[1]) / (positives + miss[1]);
		near("coefficient", got[i], with - (hit[1] + miss[1] > 0 ? less : 0), 1e-14);
	}
	/* the only true pixel has the largest error, .75: the Jaccard loss is 1 from there on */
	struct world w = {.n = 1, .env = {.nclass = 1, .head = SEG_LOSS_NONE}};
	static const float p[3] = {0.25f, 0.5f, 0};
	static const uint8_t m[3] = {1, 0, 0};
	w.s[0] = (struct seg_loss_sample){.h = 1, .w = 3, .p = p, .pi = 1, .pk = 3, .truth = m, .kind = SEG_MASK_U1, .ignore = -1,
	    .sample_weight = 1, .key = "three"};
	near("by hand", loss(&w, "mean[n,k](sum[y,x](abs(t - p)*lovasz[y,x](abs(t - p), t)))", NULL), 0.75, 1e-15);
}

/* ---- the same bits ---- */

/* Over ranks; as seg-train does, if fuse: the rest of the value together with the gradient.  1: it was. */
static int cut(const struct seg_loss *l, struct world *w, int ranks, int fuse, double *value, float *g)
{
	struct seg_loss_state *st[5];
	double *all = calloc(4096, sizeof *all);
	int fused = 0, npass = seg_loss_npass(l, 1);
	for (int r = 0; r < ranks; r++) {
		must(seg_loss_state_new(&st[r], l));
		if (fuse)
			must(fused = seg_loss_fuse(st[r]));
	}
	for (int pass = 0; pass <= npass; pass++) {
		size_t n = seg_loss_npartial(l, pass);
		for (int i = w->n - 1; i >= 0 && pass < npass; i--) { /* in any order */
			struct seg_loss_sample s = w->s[i];
			if (fuse && !seg_loss_looks(st[i % ranks], pass))
				s.z = s.p = NULL;
			must(seg_loss_pass(l, st[i % ranks], pass, &s, all + (size_t)i * n));
		}
		for (int i = 0; i < w->n && pass == npass; i++) {
			must(!fused ? seg_loss_gradient(l, st[i % ranks], &w->s[i], g)
			    : seg_loss_gradient_pass(l, st[i % ranks], &w->s[i], g, all + (size_t)i * n));
			g += elements(w, i);
		}
		for (int r = 0; r < ranks && (pass < npass || fused); r++)
			must(seg_loss_combine(l, st[r], pass, all, (size_t)w->n));
	}
	*value = seg_loss_value(l, st[ranks - 1]);
	for (int r = 0; r < ranks; r++)
		seg_loss_state_free(st[r]);
	free(all);
	return fused;
}

static void same_bits(void **state)
{
	(void)state;
	static const char *const text[] = {"@post.weighted_loss(weights=[0,1,2,3,4])", "@kaggle.bce_dice", "max[n,y,x,k](z*p)",
	    "@torch.cross_entropy(weight=[1,2,3,4,5], label_smoothing=0.1)", "@keras2.binary_crossentropy",
	    "@keras3.categorical_crossentropy", "mean[n,y,x,k](p*mean[x](p)*mean[y](z) + tanh(z)*p^1.5 - sqrt(p)*exp(-z)*log(p))"};
	enum { T = sizeof text / sizeof *text };
	struct world w = made(7, 5, SEG_LOSS_SIGMOID, 0, 7);
	size_t total = 0;
	for (int i = 0; i < w.n; i++)
		total += elements(&w, i);
	float *g[2 * T], *mine = malloc(total * sizeof *mine);
	double v[2 * T];
	for (enum seg_isa isa = SEG_ISA_AVX512; (int)isa >= 0; isa--) {
		seg_isa_limit(isa);
		for (int i = 0; i < 2 * T; i++) {
			struct seg_loss *l;
			w.env.f64 = i >= T;
			must(seg_loss_compile(&l, text[i % T], &w.env));
			for (int ranks = 1; ranks <= 5; ranks += 1 + (ranks == 3)) {
				double value;
				cut(l, &w, ranks, ranks > 1, &value, mine);
				if (isa == SEG_ISA_AVX512 && ranks == 1) {
					g[i] = malloc(total * sizeof *mine);
					memcpy(g[i], mine, total * sizeof *mine);
					v[i] = value;
				}
				if (value != v[i] || memcmp(mine, g[i], total * sizeof *mine)) {
					print_error("# %s on %s, %d ranks: other bits\n", text[i % T], seg_isa_text(seg_isa()), ranks);
					fail();
				}
			}
			near("threads", loss(&w, text[i % T], mine), v[i], 0);
			assert_memory_equal(mine, g[i], total * sizeof *mine);
			seg_loss_free(l);
		}
	}
	for (int i = 0; i < 2 * T; i++)
		free(g[i]);
	free(mine);
	world_free(&w);
}

/* The last pass made with the gradient: 1 if that can be, and then with the same bits. */
static int fused(struct world *w, const char *text)
{
	struct seg_loss *l;
	size_t total = 0;
	double v[2];
	for (int i = 0; i < w->n; i++)
		total += elements(w, i);
	float *g = malloc(2 * total * sizeof *g);
	must(seg_loss_compile(&l, text, &w->env));
	cut(l, w, 1, 0, &v[0], g);
	int was = cut(l, w, 2, 1, &v[1], g + total);
	if (v[0] != v[1] || memcmp(g, g + total, total * sizeof *g)) {
		print_error("# %s: other bits when the last pass is made with the gradient\n", text);
		fail();
	}
	seg_loss_free(l);
	free(g);
	return was;
}

/* Fused, do its passes look at predictions? */
static int looks(struct world *w, const char *text)
{
	struct seg_loss *l;
	struct seg_loss_state *st;
	must(seg_loss_compile(&l, text, &w->env));
	must(seg_loss_state_new(&st, l));
	assert_int_equal(seg_loss_fuse(st), 1);
	int any = 0;
	for (int pass = 0; pass < seg_loss_npass(l, 1); pass++)
		any |= seg_loss_looks(st, pass);
	seg_loss_state_free(st);
	seg_loss_free(l);
	return any;
}

static void fusion(void **state)
{
	(void)state;
	struct world w = made(4, 5, SEG_LOSS_SIGMOID, 0, 3), m = made(3, 5, SEG_LOSS_SOFTMAX, 1, 4);
	w.env.w_axes = m.env.w_axes = SEG_Y | SEG_X;
	size_t n;
	int was = 0;
	const struct seg_recipe *r = seg_recipe_list(&n);
	for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
		was += fused(&w, operations[i]);
	for (size_t i = 0; i < n; i++) {
		char text[200];
		call(&r[i], text, sizeof text);
		if (*text == '@')
			was += fused(&w, text) + fused(&m, text);
	}
	assert_true(was > 10);
	assert_int_equal(fused(&w, "@post.weighted_loss(weights=[0,1,2,3,4])"), 1);
	assert_int_equal(fused(&w, "@kaggle.bce_dice"), 1);
	assert_int_equal(fused(&w, "mean[n,y,x,k](bce)"), 1);
	assert_int_equal(fused(&w, "sum[n,y,x,k](w*bce)/sum[n,y,x,k](w)"), 1); /* the weights' sum comes early */
	assert_int_equal(fused(&w, "mean[n,y,x,k](p)*stop(mean[n,y,x,k](p))"), 0);
	assert_int_equal(fused(&w, "log(mean[n,y,x,k](p*dice[n,y,x]))"), 0);
	assert_int_equal(looks(&w, "sum[n,y,x,k](w*bce)/sum[n,y,x,k](w)"), 0);
	assert_int_equal(looks(&w, "mean[n,k](1 - dice[y,x])"), 0);
	assert_int_equal(looks(&w, "@kaggle.bce_dice"), 1);
	assert_int_equal(looks(&w, "mean[n,y,x,k](bce*stop(max[n,y,x,k](p)))"), 1);
	world_free(&m);
	world_free(&w);
}

/* ---- what is said about mistakes ---- */

static void mistakes(void **state)
{
	(void)state;
	static const struct { const char *text, *says; } table[] = {
		{"bce", "column 1: loss has axes [n,y,x,k]; say how to reduce them, e.g. mean[n,y,x,k](bce)"},
		{"  1 - dice[n]", "n"},
		{"mean[n](bce)", "column 1: mean[n] would join samples while their pixels [y,x] remain"},
		{"1 + mean[n](bce)", "column 5: mean[n] would"},
		{"mean[n](bce)", "e.g. mean[n,y,x](bce)"},
		{"sum[n,y,x,k](p*lovasz[n,y,x](p, t))", "column 16: lovasz sorts the pixels of one sample, found [n,y,x]"},
		{"sum[n,y,x,k](p*lovasz[y,x](p, 1))", "column 16: lovasz needs operands with axes y and x; this one has no axes"},
		{"mean[n,y,x,k](bec)", "column 15: there is no 'bec'; did you mean 'bce'?"},
		{"@post.weighted_loss(weights=[1,2,3])", "column 29: this vector has 3 entries, expected 5: one for each class (matrix, "
		    "oxide, gamma2, gamma3, crack)"},
		{"@post.weighted_loss([1,2,3,4,5,6])", "column 21: this vector has 6 entries, expected 5"},
		{"@post.weighted_loss", "column 1: '@post.weighted_loss' needs its argument 'weights'"},
		{"@post.weighted_loss({0:1})", "column 21: a dict of weights is written as a vector over the classes: [1]"},
		{"@post.weighted_loss({a:1})", "column 21: '{' is not part of the language"},
		{"@keras3.binary_crossentropi", "did you mean '@keras3.binary_crossentropy'?"},
		{"@keras3.binary_crossentropy(form=1)", "column 29: '@keras3.binary_crossentropy' has no argument 'form'"},
		{"mean(bce)", "column 1: mean needs its axes"}, {"mean[](bce)", "column 5: no axes"},
		{"mean[n,y,y](bce)", "column 10: the axis 'y' is named twice"}, {"mean[n,h](p)", "column 8: found 'h', expected an axis"},
		{"sum[n,y,x,k](t*", "column 16: the text ends here, expected"}, {"mean[n,y,x,k](p k)", "column 17: found 'k', expected ',' or ')'"},
		{"2 +* 3", "column 4: found '*', expected a number"}, {"(1", "expected an operator or ')'"}, {"", "column 1: the text ends here"},
		{"1 2", "column 3: found '2', expected an operator or the end"}, {"3x", "column 1: found '3x', expected a number; write a product"},
		{"[crack=1, oxide=2]", "column 1: class matrix has no entry"}, {"[crack=1,oxid=2,*=1]", "column 10: there is no class 'oxid'"},
		{"sum[k]([1,crack=2])", "name all of them, or none"}, {"sum[k]([1,2,3,4,p])", "column 17: an entry of a vector must be a number"},
		{"f(a)=f(a); f(1)", "'f' calls itself"}, {"f=g; g=f; f", "calls itself"}, {"t=3; t", "'t' is a word of the language"},
		{"f=1; f=2; f", "column 6: 'f' is defined twice"}, {"f=1 f", "expected an operator, or ';' at the end of the definition"},
		{"f(a)=a; f(1,2)", "column 13: too many arguments: f(a)"}, {"f(a)=a; f(a=1, 2)", "follows one with a name"},
		{"log(1,2)", "column 1: log takes 1 argument, found 2"}, {"log[k](p)", "takes no axes"}, {"softmax[y](z)", "works along k alone"},
		{"argmax[k](3)", "needs an operand with axis k"}, {"k", "'k' is an axis"}, {"t(3)", "'t' is not a function"},
		{"1/0", "column 1: this constant is not a finite number"}, {"1e999", "too large"}, {"@x", "a recipe's name has two parts"},
		{"mean[n,y,x,k](clip(p, 0, p))", "bounds of clip must not depend"}, {"# only\n 1 +\n $", "line 3, column 2: '$'"},
		{"mean[n,y,x,k](\xc3\xa9)", "column 15: '\xc3\xa9' is not part of the language"},
		{"mean[n,y,x](keras2_bce)", "column 1: loss has axes [k]"},
	};
	struct seg_loss_env env = {.nclass = 5, .classes = five};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct seg_loss *l;
		int rc = seg_loss_compile(&l, table[i].text, &env);
		if (rc != SEG_EUSAGE || l || !strstr(seg_reason(), table[i].says) || strchr(seg_reason(), '\n')) {
			print_error("# %s: %d: %s\n", table[i].text, rc, rc < 0 ? seg_reason() : "accepted");
			fail();
		}
	}
}

static void domains(void **state)
{
	(void)state;
	static const struct { const char *text, *says; } table[] = {
		{"mean[n,y,x,k](log(t))", "sample s1, pixel (y 0, x 0), class matrix: logarithm of 0 in log(t), column 15"},
		{"mean[n,y,x,k](1/(t - t))", "sample s1, pixel (y 0, x 0), class matrix: division by 0 in 1/(t - t), column 15"},
		{"mean[n,y,x,k](t^(-1))", "0 to a negative power"}, {"mean[n,y,x,k](exp(1000 + z))", "a value that is not finite in exp("},
		{"mean[n,y,x,k](max(log(t), -100))", "logarithm of 0"}, {"mean[n](1/sum[y,x,k](0*t))", "sample s1: division by 0 in 1/sum[y,x,k]"},
		{"1/sum[n,y,x,k](0*t)", "division by 0 in 1/sum[n,y,x,k](0*t), column 1"},
		{"sum[k](log(sum[n,y,x](t*[1,1,0,1,1])))", "class matrix: logarithm of 0"},
		{"mean[n,y,x,k](where(t > 2, 1, log(t - 1)))", "sample s1, pixel"}, {"mean[n,y,x](sqrt(-1 - sum[k](t)))", "square root"},
		{"mean[n,y,x,k](sqrt(t*p) + 0*z)", NULL}, /* the value is fine */
	};
	struct world w = made(2, 5, SEG_LOSS_SIGMOID, 0, 9);
	memset((void *)w.s[1].truth, 0, elements(&w, 1));
	w.s[0] = w.s[1];
	w.n = 1;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct seg_loss *l;
		struct seg_loss_state *st;
		must(seg_loss_compile(&l, table[i].text, &w.env));
		must(seg_loss_state_new(&st, l));
		int rc = seg_loss_run(l, st, 0, &(struct seg_loss_source){.n = 1, .get = get, .arg = &w}, 1);
		if (table[i].says ? rc != SEG_EDATA || !strstr(seg_reason(), table[i].says) : rc < 0) {
			print_error("# %s: %d: %s\n", table[i].text, rc, seg_reason());
			fail();
		}
		seg_loss_state_free(st);
		seg_loss_free(l);
	}
	near("log under where", loss(&w, "mean[n,y,x,k](where(t > 0, log(t), 5))", NULL), 5, 0);
	/* recovered logits */
	float p[5] = {0.5f, 0.25f, 1, 0.5f, 0.5f};
	struct world r = {.n = 1, .env = w.env};
	r.s[0] = (struct seg_loss_sample){.h = 1, .w = 1, .p = p, .pi = 5, .pk = 1, .truth = w.s[1].truth, .kind = SEG_MASK_U1,
	    .ignore = -1, .sample_weight = 1, .key = "full"};
	struct seg_loss *l;
	struct seg_loss_state *st;
	must(seg_loss_compile(&l, "mean[n,y,x,k](z)", &r.env));
	must(seg_loss_state_new(&st, l));
	assert_int_equal(seg_loss_run(l, st, 0, &(struct seg_loss_source){.n = 1, .get = get, .arg = &r}, 1), SEG_EDATA);
	assert_non_null(strstr(seg_reason(), "sample full, pixel (y 0, x 0), class gamma2: the logit z cannot be recovered"));
	p[2] = 0.5f;
	near("z = logit p", loss(&r, "mean[n,y,x,k](z)", NULL), log(1. / 3) / 5, 1e-7);
	seg_loss_state_free(st);
	seg_loss_free(l);
	w.n = 2;
	w.s[0] = (struct seg_loss_sample){0};
	world_free(&w);
}

/* Text of nodes, and building on. */
static void texts(void **state)
{
	(void)state;
	static const struct { const char *text, *back; } table[] = {
		{"mean[n,y,x,k](bce)", NULL}, {"-(1 - dice[n,y,x,k](smooth=0))^2", "-(1 - dice[n,y,x,k](smooth=0))^2"},
		{"2*(3*mean[n,y,x,k](p))/(mean[n,y,x,k](t)*7)", "2*(3*mean[n,y,x,k](p))/(mean[n,y,x,k](t)*7)"},
		{"mean[n,y,x,k](p - (t - z) - w)", "mean[n,y,x,k](p - (t - z) - 1)"}, {"mean[n,y,x,k]((p < t) == (z >= 0.5))", NULL},
		{"f(a, b=2) = a*b + 1e-7; f(mean[n,y,x,k](p))", "mean[n,y,x,k](p)*2 + 1e-07"}, {"where(1 > 0, 2, log(0))", "2"},
		{"g[A](e, B=[y,x]) = sum[A](mean[B](e)); g[n,k](p)", "sum[n,k](mean[y,x](p))"},
		{"mean[n,y,x](sum[k]([2=5, *=0]*t))", "mean[n,y,x](sum[k]([0,0,5,0,0]*t))"}, {"2^3^2", "512"}, {"-2^2", "-4"},
		{"f32(1 - 1e-7)", "0.9999998807907104"}, {"head", "1"}, {"mean[n,y,x,k](max(p, t)) # done", "mean[n,y,x,k](max(p, t))"},
	};
	struct seg_loss_env env = {.nclass = 5, .classes = five, .head = SEG_LOSS_SIGMOID};
	struct seg_loss *l;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		must(seg_loss_compile(&l, table[i].text, &env));
		char *back = seg_loss_node_text(l, l->root);
		assert_string_equal(back, table[i].back ? table[i].back : table[i].text);
		free(back);
		seg_loss_free(l);
	}
	must(seg_loss_compile(&l, "mean[n,y,x,k](bce)", &env));
	int n = l->n, one = seg_loss_num(l, 1), t = seg_loss_make(l, SEG_OP_T, 0, 0, NULL);
	int sum = seg_loss_make(l, SEG_OP_SUM, SEG_N | SEG_Y | SEG_X, 1, &t);
	assert_int_equal(one, n);
	assert_int_equal(l->node[t].op, SEG_OP_T);
	assert_int_equal(l->node[sum].axes, SEG_K);
	assert_int_equal(seg_loss_make(l, SEG_OP_SUM, SEG_N | SEG_Y | SEG_X, 1, &t), sum);
	assert_int_equal(seg_loss_make(l, SEG_OP_SUM, SEG_N, 1, &t), SEG_EUSAGE);
	const char *as[64] = {0};
	as[l->node[l->root].kid[0]] = "(1)";
	char *text = seg_loss_node_text_as(l, l->root, as);
	assert_string_equal(text, "mean[n,y,x,k]((1))");
	free(text);
	seg_loss_free(l);
	env.extra_recipes = "@my.loss(a=1) = a*mean[n,y,x,k](bce);";
	must(seg_loss_compile(&l, "@my.loss(a=2)", &env));
	seg_loss_free(l);
	env.extra_recipes = "@my.loss = \n oops";
	assert_int_equal(seg_loss_compile(&l, "1", &env), SEG_EUSAGE);
	assert_non_null(strstr(seg_reason(), "recipe file, line 2, column 6: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reductions), cmocka_unit_test(differences), cmocka_unit_test(kinks), cmocka_unit_test(recipes),
		cmocka_unit_test(golden_losses), cmocka_unit_test(golden_weights), cmocka_unit_test(golden_elements),
		cmocka_unit_test(golden_argmax), cmocka_unit_test(the_question), cmocka_unit_test(by_hand),
		cmocka_unit_test(mistakes), cmocka_unit_test(domains), cmocka_unit_test(texts),
		cmocka_unit_test(lovasz), cmocka_unit_test(fusion), cmocka_unit_test(same_bits), /* last: it lowers the instruction set */
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
