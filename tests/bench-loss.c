/* Cost of losses beside a training step: bench-loss [LOSS...].  Value and gradient of a batch of 16
 * 256x256 pixels and 5 classes on 2 threads, and the forward and backward pass of the network on the
 * same; minima of alternated repetitions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "seg/err.h"
#include "seg/loss.h"
#include "seg/mem.h"
#include "seg/net.h"
#include "seg/parallel.h"
#include "seg/rng.h"

enum { N = 16, SIDE = 256, P = SIDE * SIDE, K = 5, THREADS = 2, TIMES = 12 };

static const char *const usual[] = {"mean[n,y,x,k](bce)", "mean[n,y,x](ce)", "@keras2.binary_crossentropy",
	"@keras3.binary_crossentropy", "@keras3.categorical_crossentropy", "@torch.cross_entropy",
	"@torch.binary_cross_entropy_with_logits", "@kaggle.bce_dice", "@kaggle.bce_plus_dice",
	"@post.weighted_loss(weights=[0,1,2,3,4])", "@smp.dice_loss", "@monai.dice_ce_loss", "@nnunet.dc_and_ce_loss",
	"@keras3.binary_focal_crossentropy", "mean[n,y,x](ce) + mean[k](1 - dice[n,y,x])"};

static struct seg_loss_sample sample[N];
static struct {
	struct seg_weights *w;
	struct seg_acts *a[THREADS];
	struct seg_grads *g[THREADS];
	struct seg_tensor image;
	float *z[THREADS], *dz[THREADS], *grad[THREADS];
} net;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(int rc)
{
	if (rc < 0) {
		fprintf(stderr, "bench-loss: %s\n", seg_reason());
		exit(1);
	}
}

struct one {
	struct seg_loss *l;
	struct seg_loss_state *st;
	int fused; /* the value comes with the gradient */
	double *partial;
	size_t npartial;
	int pass;
};

static int gradient(void *arg, size_t i, int t)
{
	struct one *o = arg;
	return !o->fused ? seg_loss_gradient(o->l, o->st, &sample[i], net.dz[t])
	    : seg_loss_gradient_pass(o->l, o->st, &sample[i], net.dz[t], o->partial + i * o->npartial);
}

static int pass_one(void *arg, size_t i, int t)
{
	struct one *o = arg;
	(void)t;
	return seg_loss_pass(o->l, o->st, o->pass, &sample[i], o->partial + i * o->npartial);
}

static double loss_time(struct one *o)
{
	double start = now();
	int npass = seg_loss_npass(o->l, 1);
	for (o->pass = 0; o->pass <= npass; o->pass++) { /* as a step of seg-train does */
		int last = o->pass == npass;
		o->npartial = seg_loss_npartial(o->l, o->pass);
		o->partial = seg_alloc(N, (o->npartial + 1) * sizeof *o->partial);
		must(seg_parallel(THREADS, N, last ? gradient : pass_one, o));
		if (!last || o->fused)
			must(seg_loss_combine(o->l, o->st, o->pass, o->partial, N));
		free(o->partial);
	}
	return now() - start;
}

static int step_one(void *arg, size_t i, int t)
{
	(void)arg, (void)i;
	seg_net_forward(net.w, net.a[t], &net.image, 1 / 255.f, net.z[t], NULL);
	seg_net_backward(net.w, net.a[t], net.g[t], net.dz[t], net.grad[t], NULL);
	return SEG_OK;
}

static double step_time(void)
{
	double start = now();
	must(seg_parallel(THREADS, N, step_one, NULL));
	return now() - start;
}

static void make(int multilabel)
{
	struct seg_rng r;
	seg_rng_start(&r, 1, "bench", "loss", 0, 0, 0);
	for (int i = 0; i < N; i++) {
		float *z = malloc(P * K * sizeof *z);
		unsigned char *t = malloc(P * K);
		for (int j = 0; j < P * K; j++) {
			z[j] = 4 * (float)seg_rng_unit(&r) - 2;
			t[j] = multilabel ? seg_rng_below(&r, 5) == 0 : (unsigned char)seg_rng_below(&r, K);
		}
		sample[i] = (struct seg_loss_sample){.h = SIDE, .w = SIDE, .z = z, .zi = 1, .zk = P, .truth = t,
		    .kind = multilabel ? SEG_MASK_U1 : SEG_LABEL_U1, .ignore = -1, .sample_weight = 1, .key = "s", .index = (size_t)i};
	}
}

static void make_net(void)
{
	static const struct seg_net_shape post = {.cin = 3, .nclass = K, .nstage = 5, .channels = {8, 16, 32, 64, 128}};
	struct seg_net *n;
	must(seg_net_new(&n, &post));
	float *flat = malloc(seg_net_nparam(n) * sizeof *flat), *packed = seg_alloc_aligned(seg_net_npacked(n), sizeof *packed);
	seg_net_init(n, SEG_HE, 0, flat);
	seg_net_pack(n, flat, packed);
	must(seg_weights_new(&net.w, n));
	seg_weights_set(net.w, packed);
	must(seg_tensor_new(&net.image, SEG_U1, 3, (size_t[]){SIDE, SIDE, 3}));
	for (int t = 0; t < THREADS; t++) {
		must(seg_acts_new(&net.a[t], n, SIDE, SIDE, 1));
		must(seg_grads_new(&net.g[t], n, SIDE, SIDE));
		net.z[t] = seg_alloc_aligned(P * K, sizeof(float));
		net.dz[t] = seg_alloc_aligned(P * K, sizeof(float));
		net.grad[t] = seg_alloc_aligned(seg_net_npacked(n), sizeof(float));
	}
	free(flat);
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? argc - 1 : (int)(sizeof usual / sizeof *usual);
	const char *const *text = argc > 1 ? (const char *const *)argv + 1 : usual;
	make_net();
	printf("%-50s %9s %9s   value and gradient, 16x256x256x5, 2 threads\n", "loss", "masks", "labels");
	for (int i = 0; i < n; i++) {
		double best[2] = {1e9, 1e9}, step = 1e9;
		for (int labels = 0; labels < 2; labels++) {
			struct seg_loss_env env = {.nclass = K, .head = labels ? SEG_LOSS_SOFTMAX : SEG_LOSS_SIGMOID};
			struct one o;
			make(!labels);
			must(seg_loss_compile(&o.l, text[i], &env));
			must(seg_loss_state_new(&o.st, o.l));
			o.fused = seg_loss_fuse(o.st);
			for (int r = 0; r < TIMES; r++) {
				double v = loss_time(&o), s = step_time();
				best[labels] = v < best[labels] ? v : best[labels];
				step = s < step ? s : step;
			}
			seg_loss_state_free(o.st);
			seg_loss_free(o.l);
			for (int j = 0; j < N; j++) {
				free((void *)(uintptr_t)sample[j].z);
				free((void *)(uintptr_t)sample[j].truth);
			}
		}
		printf("%-50s %6.1f ms %6.1f ms   %4.1f %% and %4.1f %% of a step of %.0f ms\n", text[i], 1e3 * best[0], 1e3 * best[1],
		    100 * best[0] / step, 100 * best[1] / step, 1e3 * step);
	}
	return 0;
}
