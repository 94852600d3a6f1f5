/* lib/net: the golden cases of Keras and TensorFlow.js; every kernel against plain loops; the same
 * bits from AVX2 and AVX-512, and from teams of any size; normalisation against finite differences;
 * packing, init, models. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/net/layer.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/net.h"
#include "seg/rng.h"

/* -- helpers ----------------------------------------------------------------------------------- */

static const struct seg_net_shape post = {.cin = 3, .nclass = 5, .nstage = 5, .channels = {8, 16, 32, 64, 128}};

/* Tables this machine can run: the reference first. */
static const struct {
	const char *name;
	const struct seg_kernels *k;
} table[] = {
	{"reference", &seg_kernels_reference}, {"plain", &seg_kernels_plain},
#ifdef __x86_64__
	{"avx2", &seg_kernels_avx2}, {"avx512", &seg_kernels_avx512},
#elif defined __aarch64__
	{"neon", &seg_kernels_neon},
#endif
};
static int ntable(void)
{
	return 2 + (int)seg_isa();
}

static struct seg_tensor golden(const char *name)
{
	char path[4096];
	struct seg_tensor t;
	snprintf(path, sizeof path, "%s/golden/%s", getenv("SEG_REF") ? getenv("SEG_REF") : "?", name);
	if (access(path, R_OK) != 0) {
		if (getenv("CI"))
			fail_msg("no %s in CI", path);
		print_message("# skipped: no %s\n", path);
		skip();
	}
	if (seg_npy_load(path, &t) < 0)
		fail_msg("%s: %s", path, seg_reason());
	return t;
}

/* A batch of the golden folder with the network to run it. */
struct batch {
	struct seg_net *net;
	struct seg_weights *w;
	struct seg_acts **a;
	struct seg_grads *g;
	size_t n, h, wd, k, npix, nparam, npacked;
	struct seg_tensor x, y;
	float *packed, *z, *dz, *grad, *flat; /* packed; [n][k][pixel] twice; packed; canonical */
	double *sum;                          /* gradient of the batch, packed */
};

static void batch_open(struct batch *b, const struct seg_kernels *k, const char *io, const char *truth)
{
	char name[100];
	memset(b, 0, sizeof *b);
	snprintf(name, sizeof name, "%s/x.npy", io);
	b->x = golden(name);
	snprintf(name, sizeof name, "%s/%s", io, truth);
	b->y = golden(name);
	struct seg_tensor weights = golden("weights.npy");
	assert_int_equal(seg_net_new(&b->net, &post), SEG_OK);
	b->net->kernels = k;
	b->nparam = seg_net_nparam(b->net);
	b->npacked = seg_net_npacked(b->net);
	assert_int_equal(seg_tensor_count(&weights), b->nparam);
	b->n = b->x.dim[0], b->h = b->x.dim[1], b->wd = b->x.dim[2], b->k = b->y.dim[3];
	b->npix = b->h * b->wd;
	b->packed = seg_alloc(b->npacked, sizeof(float));
	b->grad = seg_alloc(b->npacked, sizeof(float));
	b->sum = seg_alloc(b->npacked, sizeof(double));
	b->flat = seg_alloc(b->nparam, sizeof(float));
	b->z = seg_alloc(b->n * b->k * b->npix, sizeof(float));
	b->dz = seg_alloc(b->n * b->k * b->npix, sizeof(float));
	seg_net_pack(b->net, weights.data, b->packed);
	seg_tensor_free(&weights);
	assert_int_equal(seg_weights_new(&b->w, b->net), SEG_OK);
	b->a = seg_alloc(b->n, sizeof *b->a);
	for (size_t i = 0; i < b->n; i++)
		assert_int_equal(seg_acts_new(&b->a[i], b->net, b->h, b->wd, 1), SEG_OK);
	assert_int_equal(seg_grads_new(&b->g, b->net, b->h, b->wd), SEG_OK);
}

static void batch_close(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		seg_acts_free(b->a[i]);
	seg_grads_free(b->g);
	seg_weights_free(b->w);
	seg_net_free(b->net);
	seg_tensor_free(&b->x);
	seg_tensor_free(&b->y);
	free(b->a);
	free(b->packed);
	free(b->grad);
	free(b->sum);
	free(b->flat);
	free(b->z);
	free(b->dz);
}

/* Samples from..to-1. */
static void batch_forward(struct batch *b, size_t from, size_t to)
{
	seg_weights_set(b->w, b->packed);
	for (size_t i = from; i < to; i++) {
		struct seg_tensor image = {SEG_F4, 3, {b->h, b->wd, b->x.dim[3], 0},
		                           (float *)b->x.data + i * b->npix * b->x.dim[3]};
		seg_net_forward(b->w, b->a[i], &image, 1 / 255.f, b->z + i * b->k * b->npix, NULL);
	}
}

static void batch_backward(struct batch *b, size_t from, size_t to)
{
	memset(b->sum, 0, b->npacked * sizeof *b->sum);
	for (size_t i = from; i < to; i++) {
		memset(b->grad, 0xff, b->npacked * sizeof *b->grad); /* NaN: all of it must be written */
		seg_net_backward(b->w, b->a[i], b->g, b->dz + i * b->k * b->npix, b->grad, NULL);
		for (size_t j = 0; j < b->npacked; j++)
			b->sum[j] += b->grad[j];
	}
	for (size_t j = 0; j < b->npacked; j++)
		b->grad[j] = (float)b->sum[j];
}

static double z_at(const struct batch *b, size_t i, size_t pixel, size_t k)
{
	return b->z[(i * b->k + k) * b->npix + pixel];
}
static double t_at(const struct batch *b, size_t i, size_t pixel, size_t k)
{
	return ((float *)b->y.data)[(i * b->npix + pixel) * b->k + k];
}
static double sigmoid(double z) { return 1 / (1 + exp(-z)); }

static double softmax(const struct batch *b, size_t i, size_t pixel, size_t k)
{
	double sum = 0;
	for (size_t c = 0; c < b->k; c++)
		sum += exp(z_at(b, i, pixel, c) - z_at(b, i, pixel, k));
	return 1 / sum;
}

/* dL/dz of samples from..to-1 for L = mean(bce) + dice_weight (1 - dice), Keras's clip included. */
static double loss_bce(struct batch *b, size_t from, size_t to, double dice_weight)
{
	double n = (double)((to - from) * b->npix * b->k), hi = 1 - 0x1p-23, bce = 0, sum = 1, both = 1;
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = from; i < to; i++)
			for (size_t j = 0; j < b->npix; j++)
				for (size_t k = 0; k < b->k; k++) {
					double p = sigmoid(z_at(b, i, j, k)), t = t_at(b, i, j, k);
					if (pass == 0) {
						double c = fmin(fmax(p, 1e-7), hi);
						bce -= (t * log(c) + (1 - t) * log(1 - c)) / n;
						sum += t + p;
						both += 2 * t * p;
						continue;
					}
					double d = p < 1e-7 || p > hi ? 0 : (p - t) / n;
					d -= dice_weight * (2 * t * sum - both) / (sum * sum) * p * (1 - p);
					b->dz[(i * b->k + k) * b->npix + j] = (float)d;
				}
	return bce + dice_weight * (1 - both / sum);
}

static void loss_cce(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < b->npix; j++)
			for (size_t k = 0; k < b->k; k++)
				b->dz[(i * b->k + k) * b->npix + j] = (float)((softmax(b, i, j, k) - t_at(b, i, j, k)) /
				    (double)(b->n * b->npix));
}

/* Largest difference of predictions. */
static double pred_error(const struct batch *b, const char *file, int soft)
{
	struct seg_tensor pred = golden(file);
	double worst = 0;
	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < b->npix; j++)
			for (size_t k = 0; k < b->k; k++) {
				double p = soft ? softmax(b, i, j, k) : sigmoid(z_at(b, i, j, k));
				worst = fmax(worst, fabs(p - ((float *)pred.data)[(i * b->npix + j) * b->k + k]));
			}
	seg_tensor_free(&pred);
	return worst;
}

/* Compare a packed vector with golden values at sampled (or all) positions: the largest difference,
 * and the largest relative L2 error of a tensor. */
static void compare(const struct batch *b, const float *packed, const char *file, double *abs, double *rel)
{
	struct seg_tensor want = golden(file), index = golden("sample_index.npy");
	size_t n = seg_tensor_count(&want), j = 0;
	int np;
	const struct seg_param *p = seg_net_params(b->net, &np);
	seg_net_unpack(b->net, packed, b->flat);
	*abs = *rel = 0;
	for (; np--; p++) {
		double d2 = 0, w2 = 0;
		for (; j < n; j++) {
			size_t at = n == b->nparam ? j : (size_t)((int32_t *)index.data)[j];
			if (at >= p->off + p->count)
				break;
			double w = ((float *)want.data)[j], d = b->flat[at] - w;
			*abs = fmax(*abs, fabs(d));
			d2 += d * d;
			w2 += w * w;
		}
		*rel = fmax(*rel, sqrt(d2 / w2));
	}
	assert_int_equal(j, n);
	seg_tensor_free(&want);
	seg_tensor_free(&index);
}

/* -- golden cases ------------------------------------------------------------------------------ */

static void golden_case(const char *io, const char *truth, const char *dir, int soft, const char *grad)
{
	for (int i = 0; i < ntable(); i++) {
		struct batch b;
		char file[200];
		double abs, rel;
		batch_open(&b, table[i].k, io, truth);
		batch_forward(&b, 0, b.n);
		snprintf(file, sizeof file, "%s/pred.npy", dir);
		double pred = pred_error(&b, file, soft);
		if (soft)
			loss_cce(&b);
		else
			loss_bce(&b, 0, b.n, 0);
		batch_backward(&b, 0, b.n);
		snprintf(file, sizeof file, "%s/%s", dir, grad);
		compare(&b, b.grad, file, &abs, &rel);
		print_message("# %.2s %-9s prediction %.1e, gradient %.1e (worst tensor, relative L2)\n", dir,
		    table[i].name, pred, rel);
		assert_true(pred <= 1e-6 && rel <= 1e-5);
		batch_close(&b);
	}
}

static void golden_1a(void **state)
{
	(void)state;
	golden_case("io_16x16", "y.npy", "1a_net_16x16_loss_and_grad_bce", 0, "grad.npy");
}
static void golden_1g(void **state)
{
	(void)state;
	golden_case("io_16x16", "y_onehot.npy", "1g_net_16x16_loss_and_grad_cce_softmax", 1, "grad_sampled.npy");
}
static void golden_2a(void **state)
{
	(void)state;
	golden_case("io_32x48", "y.npy", "2a_net_32x48_loss_and_grad_bce", 0, "grad_sampled.npy");
}

static void golden_adam(const char *optimizer, double epsilon, const char *dir)
{
	struct batch b;
	struct seg_optim o;
	batch_open(&b, table[ntable() - 1].k, "io_adam", "y.npy");
	assert_int_equal(seg_optim_defaults(&o, optimizer), SEG_OK);
	o.epsilon = epsilon;
	assert_int_equal(seg_optim_moments(&o), 2);
	float *m = seg_alloc(2 * b.npacked, sizeof *m), *v = m + b.npacked;
	for (size_t t = 1; t <= 5; t++) {
		char file[200];
		double abs, rel;
		batch_forward(&b, 4 * t - 4, 4 * t);
		double loss = loss_bce(&b, 4 * t - 4, 4 * t, 1);
		batch_backward(&b, 4 * t - 4, 4 * t);
		seg_optim_step(&o, t, b.npacked, b.packed, b.grad, m, v);
		snprintf(file, sizeof file, "%s/weights_after_step%zu_sampled.npy", dir, t);
		compare(&b, b.packed, file, &abs, &rel);
		print_message("# %.2s step %zu: loss %.9f, weights differ by %.1e\n", dir, t, loss, abs);
		assert_true(abs <= 1e-5);
	}
	free(m);
	batch_close(&b);
}

static void golden_4a(void **state)
{
	(void)state;
	golden_adam("adam-torch", 1e-7, "4a_adam_5_steps_batch4_tfjs_epsilon_inside_bias_correction");
}
static void golden_4b(void **state)
{
	(void)state;
	golden_adam("adam", 1e-7, "4b_adam_5_steps_batch4_keras_formula_epsilon_outside_bias_correction");
}

/* Ten samples in batches of 4, 4, 2, two epochs, plain SGD. */
static void golden_5a(void **state)
{
	(void)state;
	static const size_t from[] = {0, 4, 8, 0, 4, 8}, to[] = {4, 8, 10, 4, 8, 10};
	static const double want[] = {0.6928050518, 0.6917733550, 0.6894105077, 0.6872987747, 0.6869273186,
		0.6851291656};
	struct batch b;
	struct seg_optim o;
	double abs, rel;
	batch_open(&b, table[ntable() - 1].k, "io_fit", "y.npy");
	assert_int_equal(seg_optim_defaults(&o, "sgd"), SEG_OK);
	o.lr = 0.05;
	assert_int_equal(seg_optim_moments(&o), 0);
	for (int t = 0; t < 6; t++) {
		batch_forward(&b, from[t], to[t]);
		double loss = loss_bce(&b, from[t], to[t], 0);
		assert_true(fabs(loss - want[t]) < 1e-6);
		batch_backward(&b, from[t], to[t]);
		seg_optim_step(&o, 1, b.npacked, b.packed, b.grad, NULL, NULL);
	}
	compare(&b, b.packed, "5a_fit_10_samples_batch4_epoch_aggregation_bce/weights_after_fit_sampled.npy", &abs,
	    &rel);
	print_message("# 5a: weights differ by %.1e\n", abs);
	assert_true(abs <= 1e-5);
	batch_close(&b);
}

/* -- random nets ------------------------------------------------------------------------------- */

/* Shapes at which blocks, vectors and rows do not come out even. */
static const struct shape {
	struct seg_net_shape s;
	size_t h, w;
} shapes[] = {
	{{.cin = 3, .nclass = 5, .nstage = 3, .channels = {8, 16, 32}}, 12, 20},
	{{.cin = 1, .nclass = 1, .nstage = 2, .channels = {1, 1}}, 2, 2},
	{{.cin = 2, .nclass = 3, .nstage = 2, .channels = {3, 5}}, 2, 34},
	{{.cin = 4, .nclass = 9, .nstage = 3, .channels = {7, 17, 9}}, 20, 4},
	{{.cin = 5, .nclass = 17, .nstage = 2, .channels = {31, 16}}, 6, 18},
	{{.cin = 2, .nclass = 3, .nstage = 2, .channels = {33, 70}}, 6, 10},
	{{.cin = 1, .nclass = 2, .nstage = 2, .channels = {4, 9}}, 10, 450},
	{{.cin = 3, .nclass = 2, .nstage = 3, .channels = {4, 8, 12}, .norm = SEG_NORM_INSTANCE}, 16, 12},
	{{.cin = 1, .nclass = 4, .nstage = 2, .channels = {6, 9}, .norm = SEG_NORM_GROUP, .groups = 3}, 10, 14},
};
enum { NSHAPE = sizeof shapes / sizeof *shapes };

/* A net with random parameters, image and gradient at its output. */
struct trial {
	struct seg_net *net;
	struct seg_weights *w;
	struct seg_acts *a;
	struct seg_grads *g;
	struct seg_team *team;
	struct seg_tensor image;
	size_t nz, nparam, npacked;
	float *flat, *packed, *z, *dz, *grad, *gflat; /* canonical, packed; output; its gradient; packed, canonical */
};

static void trial_open(struct trial *t, const struct shape *s, const struct seg_kernels *k)
{
	struct seg_rng r;
	memset(t, 0, sizeof *t);
	if (seg_net_new(&t->net, &s->s) < 0)
		fail_msg("shape %td: %s", s - shapes, seg_reason());
	t->net->kernels = k;
	t->nz = s->h * s->w * (size_t)s->s.nclass;
	t->nparam = seg_net_nparam(t->net);
	t->npacked = seg_net_npacked(t->net);
	t->flat = seg_alloc(t->nparam, sizeof(float));
	t->gflat = seg_alloc(t->nparam, sizeof(float));
	t->packed = seg_alloc(t->npacked, sizeof(float));
	t->grad = seg_alloc(t->npacked, sizeof(float));
	t->z = seg_alloc(t->nz, sizeof(float));
	t->dz = seg_alloc(t->nz, sizeof(float));
	assert_int_equal(seg_tensor_new(&t->image, SEG_F4, 3, (size_t[]){s->h, s->w, (size_t)s->s.cin}), SEG_OK);
	seg_rng_start(&r, 11, "u-net", "trial", 0, 0, 0);
	seg_net_init(t->net, SEG_HE, 7, t->flat);
	for (size_t i = 0; i < t->nparam; i++) /* biases, too, and gammas that are not 1 */
		t->flat[i] += 0.1f * ((float)seg_rng_unit(&r) - 0.5f);
	for (size_t i = 0; i < seg_tensor_count(&t->image); i++)
		((float *)t->image.data)[i] = (float)seg_rng_unit(&r);
	for (size_t i = 0; i < t->nz; i++)
		t->dz[i] = (float)seg_rng_unit(&r) - 0.5f;
	assert_int_equal(seg_weights_new(&t->w, t->net), SEG_OK);
	assert_int_equal(seg_acts_new(&t->a, t->net, s->h, s->w, 1), SEG_OK);
	assert_int_equal(seg_grads_new(&t->g, t->net, s->h, s->w), SEG_OK);
}

static void trial_close(struct trial *t)
{
	seg_grads_free(t->g);
	seg_acts_free(t->a);
	seg_weights_free(t->w);
	seg_net_free(t->net);
	seg_tensor_free(&t->image);
	free(t->flat);
	free(t->gflat);
	free(t->packed);
	free(t->grad);
	free(t->z);
	free(t->dz);
}

/* sum of z dz */
static double trial_forward(struct trial *t)
{
	double sum = 0;
	seg_net_pack(t->net, t->flat, t->packed);
	seg_weights_set(t->w, t->packed);
	seg_net_forward(t->w, t->a, &t->image, 1, t->z, t->team);
	for (size_t i = 0; i < t->nz; i++)
		sum += (double)t->z[i] * t->dz[i];
	return sum;
}

static void trial_backward(struct trial *t)
{
	memset(t->grad, 0xff, t->npacked * sizeof *t->grad);
	seg_net_backward(t->w, t->a, t->g, t->dz, t->grad, t->team);
	seg_net_unpack(t->net, t->grad, t->gflat);
}

static double distance(const float *a, const float *b, size_t n)
{
	double d = 0, s = 0;
	for (size_t i = 0; i < n; i++) {
		d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
		s += (double)b[i] * b[i];
	}
	return sqrt(d / (s > 0 ? s : 1));
}

static void kernels_agree(void **state)
{
	(void)state;
	double worst = 0;
	for (int i = 0; i < NSHAPE; i++) {
		struct trial want, got;
		trial_open(&want, &shapes[i], &seg_kernels_reference);
		trial_forward(&want);
		trial_backward(&want);
		for (int k = 1; k < ntable(); k++) {
			trial_open(&got, &shapes[i], table[k].k);
			trial_forward(&got);
			trial_backward(&got);
			double dz = distance(got.z, want.z, want.nz), dg = distance(got.gflat, want.gflat, want.nparam);
			if (!(dz < 1e-5 && dg < 1e-5))
				fail_msg("shape %d, %s against plain loops: output differs by %.1e, gradient by %.1e", i,
				    table[k].name, dz, dg);
			worst = fmax(worst, fmax(dz, dg));
			trial_close(&got);
		}
		trial_close(&want);
	}
	print_message("# kernels differ from plain loops by at most %.1e\n", worst);
}

static void same_bits(void **state)
{
	(void)state;
	if (ntable() < 4) {
		print_message("# skipped: this machine has no AVX-512\n");
		skip();
	}
	for (int i = 0; i < NSHAPE; i++) {
		struct trial a, b;
		trial_open(&a, &shapes[i], table[2].k);
		trial_open(&b, &shapes[i], table[3].k);
		trial_forward(&a), trial_backward(&a);
		trial_forward(&b), trial_backward(&b);
		if (memcmp(a.z, b.z, a.nz * sizeof *a.z) || memcmp(a.grad, b.grad, a.npacked * sizeof *a.grad))
			fail_msg("shape %d: AVX2 and AVX-512 differ", i);
		trial_close(&a);
		trial_close(&b);
	}
}

/* A sample worked on by a team, of sizes that do not divide anything. */
static void teams(void **state)
{
	(void)state;
	static const int sizes[] = {1, 2, 3, 5, 8};
	for (size_t q = 0; q < sizeof sizes / sizeof *sizes; q++) {
		struct seg_team *team;
		assert_int_equal(seg_team_new(&team, sizes[q]), SEG_OK);
		for (int i = 0; i < NSHAPE; i++)
			for (int k = 0; k < ntable(); k++) {
				struct trial a, b;
				trial_open(&a, &shapes[i], table[k].k);
				trial_open(&b, &shapes[i], table[k].k);
				b.team = team;
				trial_forward(&a), trial_backward(&a);
				for (int again = 0; again < 2; again++) { /* workspace is left as it was found */
					trial_forward(&b), trial_backward(&b);
					if (memcmp(a.z, b.z, a.nz * sizeof *a.z) || memcmp(a.grad, b.grad, a.npacked * sizeof *a.grad))
						fail_msg("shape %d, %s: a team of %d differs from one thread", i, table[k].name, sizes[q]);
				}
				seg_acts_free(b.a); /* and without a backward pass to follow */
				assert_int_equal(seg_acts_new(&b.a, b.net, shapes[i].h, shapes[i].w, 0), SEG_OK);
				trial_forward(&b);
				assert_memory_equal(a.z, b.z, a.nz * sizeof *a.z);
				trial_close(&a);
				trial_close(&b);
			}
		seg_team_free(team);
	}
}

/* Along the gradient of each tensor the loss must rise by the gradient's length: central differences
 * of plain loops in float, at a step where neither rounding nor kinks of ReLU matter much. */
static void finite_differences(void **state)
{
	(void)state;
	double worst = 0;
	int checked = 0, all = 0;
	for (int i = 0; i < NSHAPE; i++) {
		struct trial t;
		int n;
		if (shapes[i].h == 2 && shapes[i].w == 2)
			continue; /* a handful of ReLUs: nothing but kinks */
		trial_open(&t, &shapes[i], &seg_kernels_reference);
		const struct seg_param *p = seg_net_params(t.net, &n);
		float *was = seg_alloc(t.nparam, sizeof *was);
		trial_forward(&t);
		trial_backward(&t);
		memcpy(was, t.flat, t.nparam * sizeof *was);
		all += n;
		for (int j = 0; j < n; j++) {
			const float *g = t.gflat + p[j].off;
			double length = 0, rise[2];
			for (size_t k = 0; k < p[j].count; k++)
				length += (double)g[k] * g[k];
			length = sqrt(length);
			if (length < 0.05) /* lost in rounding: a bias that the norm takes out again, a dead unit */
				continue;
			checked++;
			double far = fmin(1e-2, 2e-3 / length);
			for (int side = 0; side < 2; side++) {
				double step = (side ? 1 : -1) * far / length;
				memcpy(t.flat, was, t.nparam * sizeof *was);
				for (size_t k = 0; k < p[j].count; k++)
					t.flat[p[j].off + k] += (float)(step * g[k]);
				rise[side] = trial_forward(&t);
			}
			double slope = (rise[1] - rise[0]) / (2 * far), off = fabs(slope - length) / length;
			if (!(off < 0.02))
				fail_msg("shape %d, %s: slope %.6g along the gradient, whose length is %.6g", i, p[j].name, slope,
				    length);
			worst = fmax(worst, off);
		}
		free(was);
		trial_close(&t);
	}
	print_message("# %d of %d tensors: slopes differ from gradients by at most %.1e\n", checked, all, worst);
	assert_true(checked > all / 2);
}

/* The formulas of the manual in double. */
static void optimisers(void **state)
{
	(void)state;
	enum { N = 37, STEPS = 4 };
	static const char *const names[] = {"adam", "adam-torch", "sgd"};
	for (int which = 0; which < 3; which++) {
		struct seg_optim o;
		float p[N], g[N], m[N] = {0}, v[N] = {0};
		double dp[N], dm[N] = {0}, dv[N] = {0};
		struct seg_rng r;
		seg_rng_start(&r, 3, "u-net", "optim", 0, 0, 0);
		assert_int_equal(seg_optim_defaults(&o, names[which]), SEG_OK);
		o.lr = 0.01;
		o.momentum = which == 2 ? 0.9 : 0;
		for (int i = 0; i < N; i++)
			dp[i] = p[i] = (float)seg_rng_unit(&r);
		for (int t = 1; t <= STEPS; t++) {
			for (int i = 0; i < N; i++)
				g[i] = (float)seg_rng_unit(&r) - 0.5f;
			seg_optim_step(&o, (uint64_t)t, N, p, g, m, v);
			for (int i = 0; i < N; i++) {
				double c1 = 1 - pow(o.beta1, t), c2 = 1 - pow(o.beta2, t);
				if (which == 2) {
					dm[i] = o.momentum * dm[i] - o.lr * g[i];
					dp[i] += dm[i];
					continue;
				}
				dm[i] = o.beta1 * dm[i] + (1 - o.beta1) * g[i];
				dv[i] = o.beta2 * dv[i] + (1 - o.beta2) * g[i] * g[i];
				dp[i] -= which ? o.lr * (dm[i] / c1) / (sqrt(dv[i] / c2) + o.epsilon)
				               : o.lr * sqrt(c2) / c1 * dm[i] / (sqrt(dv[i]) + o.epsilon);
			}
		}
		for (int i = 0; i < N; i++)
			if (!(fabs(p[i] - dp[i]) < 1e-6))
				fail_msg("%s: parameter %d is %.9g, in double %.9g", names[which], i, p[i], dp[i]);
	}
	struct seg_optim o;
	assert_int_equal(seg_optim_defaults(&o, "rmsprop"), SEG_EUSAGE);
}

static void pack_and_init(void **state)
{
	(void)state;
	for (int i = 0; i < NSHAPE; i++) {
		struct trial t;
		trial_open(&t, &shapes[i], &seg_kernels_reference);
		seg_net_pack(t.net, t.flat, t.packed);
		seg_net_unpack(t.net, t.packed, t.gflat);
		assert_memory_equal(t.flat, t.gflat, t.nparam * sizeof *t.flat);
		seg_net_init(t.net, SEG_GLOROT, 5, t.flat);
		seg_net_init(t.net, SEG_GLOROT, 5, t.gflat);
		assert_memory_equal(t.flat, t.gflat, t.nparam * sizeof *t.flat);
		seg_net_init(t.net, SEG_GLOROT, 6, t.gflat);
		assert_memory_not_equal(t.flat, t.gflat, t.nparam * sizeof *t.flat);
		trial_close(&t);
	}
	/* Glorot uniform: within sqrt(6 / (fan_in + fan_out)) and spread out over it; biases 0 */
	struct seg_net *net;
	int n;
	assert_int_equal(seg_net_new(&net, &post), SEG_OK);
	assert_int_equal(seg_net_nparam(net), 485853);
	const struct seg_param *p = seg_net_params(net, &n);
	float *flat = seg_alloc(485853, sizeof *flat);
	seg_net_init(net, SEG_GLOROT, 0, flat);
	for (int i = 0; i < n; i++) {
		double most = 0, field = p[i].ndim == 4 ? (double)(p[i].dim[0] * p[i].dim[1]) : 0;
		double limit = field ? sqrt(6 / (field * (double)(p[i].dim[2] + p[i].dim[3]))) : 0;
		for (size_t j = 0; j < p[i].count; j++)
			most = fmax(most, fabs(flat[p[i].off + j]));
		if (most > limit || (p[i].count > 100 && most < 0.9 * limit))
			fail_msg("%s: largest weight %g, limit %g", p[i].name, most, limit);
	}
	free(flat);
	seg_net_free(net);
}

static void model_files(void **state)
{
	(void)state;
	static const char *const classes[] = {"a", "b"};
	for (int i = 2; i < NSHAPE; i++) {
		struct trial t;
		struct seg_header h = {.kind = SEG_MODEL, .ignore = SEG_NOIGNORE, .task = SEG_MULTILABEL, .head = SEG_SIGMOID}, back;
		struct seg_net *net;
		float *flat;
		if (shapes[i].s.nclass == 2)
			assert_int_equal(seg_header_classes(&h, classes, 2), SEG_OK);
		trial_open(&t, &shapes[i], &seg_kernels_reference);
		assert_int_equal(seg_model_save("model.seg", &h, t.net, t.flat), SEG_OK);
		assert_int_equal(seg_model_load("model.seg", &back, &net, &flat), SEG_OK);
		assert_memory_equal(seg_net_shape(net), seg_net_shape(t.net), sizeof(struct seg_net_shape));
		assert_memory_equal(flat, t.flat, t.nparam * sizeof *flat);
		assert_int_equal(back.head, SEG_SIGMOID);
		assert_int_equal(back.nclass, h.nclass);
		free(flat);
		seg_net_free(net);
		seg_header_free(&back);
		/* weights that are no numbers are not loaded */
		t.flat[t.nparam - 1] = NAN;
		assert_int_equal(seg_model_save("model.seg", &h, t.net, t.flat), SEG_OK);
		assert_int_equal(seg_model_load("model.seg", &back, &net, &flat), SEG_EDATA);
		assert_non_null(strstr(seg_reason(), "is not finite"));
		seg_header_free(&h);
		trial_close(&t);
	}
	unlink("model.seg");
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(golden_1a), cmocka_unit_test(golden_1g), cmocka_unit_test(golden_2a),
		cmocka_unit_test(golden_4a), cmocka_unit_test(golden_4b), cmocka_unit_test(golden_5a),
		cmocka_unit_test(kernels_agree), cmocka_unit_test(same_bits), cmocka_unit_test(teams),
		cmocka_unit_test(finite_differences), cmocka_unit_test(optimisers), cmocka_unit_test(pack_and_init),
		cmocka_unit_test(model_files),
	};
	return cmocka_run_group_tests_name("net", t, NULL, NULL);
}
