/* Speed of the network: bench-net [SIDE [BATCH [THREADS [REPEATS]]]].  Time per sample on one
 * thread and on a team of all, each 3x3 kernel, and a training step, beside the multiply-adds this machine manages in the
 * same minutes; work is counted as the multiply-adds of direct convolutions, whatever is done instead.  Minima over the repetitions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/layer.h"
#include "seg/dist.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/rng.h"
#include "tests/peak.h"

static void keep(double *best, double seconds)
{
	if (*best == 0 || seconds < *best)
		*best = seconds;
}

/* -- one step of training ---------------------------------------------------------------------------- */

enum { MAXBATCH = 256 };
static size_t side = 256, batch = 16;
static int threads = 2, repeats = 10;
static struct seg_net *net;
static struct seg_weights *weights;
static struct seg_acts *acts[MAXBATCH];
static struct seg_grads *grads[256];
static struct seg_tensor image;
static struct seg_tree *tree;
static float *z[MAXBATCH], *grad[MAXBATCH], *packed, *total, *m, *v;
static double fwd1, bwd1, fwdt, bwdt;

static int forward(void *arg, size_t i, int t)
{
	(void)arg;
	(void)t;
	seg_net_forward(weights, acts[i], &image, 1 / 255.f, z[i], NULL);
	return 0;
}

static int backward(void *arg, size_t i, int t)
{
	(void)arg;
	seg_net_backward(weights, acts[i], grads[t], z[i], grad[i], NULL);
	return 0;
}

static int update(void *arg, size_t i, int t)
{
	(void)t;
	size_t n = seg_net_npacked(net), parts = (size_t)threads * 16, from = n * i / parts, to = n * (i + 1) / parts;
	seg_optim_step(arg, 1, to - from, packed + from, total + from, m + from, v + from);
	return 0;
}

static void ck(int rc)
{
	if (rc < 0) {
		fprintf(stderr, "bench-net: %s\n", seg_reason());
		exit(1);
	}
}

static void open_all(void)
{
	struct seg_net_shape shape = {.cin = 3, .nclass = 5, .nstage = 5, .channels = {8, 16, 32, 64, 128}};
	ck(seg_net_new(&net, &shape));
	ck(seg_weights_new(&weights, net));
	size_t n = seg_net_npacked(net), flat = seg_net_nparam(net);
	float *f = seg_alloc(flat, sizeof *f);
	packed = seg_alloc_aligned(n, sizeof *packed);
	total = seg_alloc_aligned(n, sizeof *total);
	m = seg_alloc_aligned(n, sizeof *m);
	v = seg_alloc_aligned(n, sizeof *v);
	seg_net_init(net, SEG_GLOROT, 1, f);
	seg_net_pack(net, f, packed);
	free(f);
	seg_weights_set(weights, packed);
	ck(seg_tensor_new(&image, SEG_U1, 3, (size_t[]){side, side, 3}));
	struct seg_rng r;
	seg_rng_start(&r, 1, "bench", "", 0, 0, 0);
	for (size_t i = 0; i < 3 * side * side; i++)
		((uint8_t *)image.data)[i] = (uint8_t)seg_rng_u32(&r);
	for (size_t i = 0; i < batch; i++) {
		ck(seg_acts_new(&acts[i], net, side, side, 1));
		z[i] = seg_alloc_aligned(5 * side * side, sizeof(float));
		grad[i] = seg_alloc_aligned(n, sizeof(float));
	}
	for (int t = 0; t < threads; t++)
		ck(seg_grads_new(&grads[t], net, side, side));
}

/* -- the kernels alone --------------------------------------------------------------------------------- */

static void layers(double top)
{
	static const size_t shape[][3] = {{3, 8, 1}, {8, 8, 1}, {16, 8, 1}, {8, 16, 2}, {16, 16, 2}, {32, 16, 2},
		{16, 32, 4}, {32, 32, 4}, {64, 32, 4}, {32, 64, 8}, {64, 64, 8}, {128, 64, 8}, {64, 128, 16},
		{128, 128, 16}};
	const struct seg_kernels *k = net->kernels;
	double sum[6] = {0}, work = 0, back_work = 0;
	printf("%-16s %32s %32s\n%-16s %10s %10s %10s %10s %10s %10s\n", "", "direct", "Winograd", "GFLOP/s", "forward", "data",
	    "weights", "forward", "data", "weights");
	for (size_t q = 0; q < sizeof shape / sizeof *shape; q++) {
		size_t in = shape[q][0], out = shape[q][1], n = side / shape[q][2], taps = 9 * in;
		struct seg_grid g;
		seg_grid_set(&g, n, n);
		size_t big = in > out ? in : out, floats = seg_grid_floats(&g, seg_blocks(big));
		float *x = seg_alloc_aligned(floats, 4), *y = seg_alloc_aligned(floats, 4);
		float *w = seg_alloc_aligned(9 * seg_blocks(big) * seg_blocks(big), 4);
		float *u = seg_alloc_aligned(18 * seg_blocks(big) * seg_blocks(big), 4);
		float *bias = seg_alloc_aligned(seg_blocks(big), 4);
		ptrdiff_t *tap = seg_alloc(9 * big, sizeof *tap);
		for (size_t i = 0; i < 9 * big; i++)
			tap[i] = (ptrdiff_t)(i / 9 * g.plane) + ((ptrdiff_t)(i % 9 / 3) - 1) * (ptrdiff_t)g.row +
			    (ptrdiff_t)(i % 3) - 1;
		for (size_t c = 0; c < big; c++)
			for (size_t i = 0; i < n; i++)
				for (size_t j = 0; j < n; j++)
					x[g.lead + c * g.plane + i * g.row + j] = (float)((i * 7 + j * 3 + c) % 13) - 6;
		double best[6] = {0}, gflop = 2e-9 * (double)(n * n * taps * out);
		struct seg_conv fwd = {&g, seg_blocks(out), taps, taps, tap};
		struct seg_conv bwd = {&g, seg_blocks(in), 9 * out, 9 * out, tap};
		for (int r = 0; r < 3 * repeats; r++) {
			for (int d = 0; d < 6; d += 3) { /* direct, Winograd */
				const float *weight = d ? u : w;
				double t = now();
				(d ? k->winograd : k->conv)(&fwd, x + g.lead, weight, bias, SEG_RELU, NULL, y + g.lead, SEG_ALONE);
				keep(&best[d], now() - t);
				t = now();
				(d ? k->winograd : k->conv)(&bwd, x + g.lead, weight, NULL, SEG_MASK, x + g.lead, y + g.lead, SEG_ALONE);
				keep(&best[d + 1], now() - t);
				t = now();
				(d ? k->winograd_gradient : k->wgrad)(&fwd, x + g.lead, x + g.lead, w, bias, SEG_ALONE);
				keep(&best[d + 2], now() - t);
			}
			memset(w, 0, 9 * seg_blocks(big) * seg_blocks(big) * sizeof *w);
		}
		printf("%4zu ->%4zu @%-4zu", in, out, n);
		for (int d = 0; d < 6; d++) {
			printf(" %6.1f %2.0f%%", gflop / best[d], 100 * gflop * 1e9 / best[d] / top);
			sum[d] += q == 0 && (d == 1 || d == 4) ? 0 : best[d];
		}
		printf("\n");
		work += gflop;
		back_work += q ? gflop : 0;
		free(tap);
		free(bias);
		free(u);
		free(w);
		free(y);
		free(x);
	}
	printf("all, ms:        ");
	for (int d = 0; d < 6; d++)
		printf(" %6.2f %2.0f%%", sum[d] * 1e3, 100e9 * (d % 3 == 1 ? back_work : work) / sum[d] / top);
	printf("\n");
}

int main(int argc, char **argv)
{
	side = argc > 1 ? (size_t)atoi(argv[1]) : side;
	batch = argc > 2 ? (size_t)atoi(argv[2]) : batch;
	threads = argc > 3 ? atoi(argv[3]) : threads;
	repeats = argc > 4 ? atoi(argv[4]) : repeats;
	if (batch < 1 || batch > MAXBATCH || threads < 1 || threads > 256)
		return fprintf(stderr, "usage: bench-net [SIDE [BATCH [THREADS [REPEATS]]]]\n"), 2;
	struct seg_dist d;
	struct seg_optim adam;
	double step = 0, best[5] = {0}, top1 = peak(1), top = peak(threads);
	double gflop = 4.574 * (double)(side * side) / 65536; /* direct multiplications and additions, one sample */
	struct seg_team *team;
	open_all();
	ck(seg_team_new(&team, threads));
	seg_dist_alone(&d);
	ck(seg_tree_new(&tree, &d, seg_net_npacked(net), threads));
	ck(seg_optim_defaults(&adam, "adam"));
	for (int r = 0; r < repeats; r++) {
		double t[7];
		t[0] = now();
		forward(NULL, 0, 0);
		t[1] = now();
		backward(NULL, 0, 0);
		keep(&fwd1, t[1] - t[0]);
		keep(&bwd1, now() - t[1]);
		t[0] = now();
		seg_net_forward(weights, acts[0], &image, 1 / 255.f, z[0], team);
		t[1] = now();
		seg_net_backward(weights, acts[0], grads[0], z[0], grad[0], team);
		keep(&fwdt, t[1] - t[0]);
		keep(&bwdt, now() - t[1]);
		t[0] = now();
		seg_weights_set(weights, packed);
		t[1] = now();
		seg_parallel(threads, batch, forward, NULL);
		t[2] = now();
		seg_parallel(threads, batch, backward, NULL);
		t[3] = now();
		ck(seg_tree_start(tree, batch));
		ck(seg_tree_add(tree, grad, batch));
		ck(seg_tree_sum(tree, total));
		t[4] = now();
		seg_parallel(threads, (size_t)threads * 16, update, &adam);
		t[5] = now();
		keep(&step, t[5] - t[0]);
		for (int i = 0; i < 5; i++)
			keep(&best[i], t[i + 1] - t[i]);
	}
	double after1 = peak(1), after = peak(threads);
	top1 = after1 > top1 ? after1 : top1;
	top = after > top ? after : top;
	printf("%s, peak %.0f GFLOP/s on one thread, %.0f on %d\n", seg_isa_text(seg_isa()), top1 / 1e9, top / 1e9, threads);
	printf("%zux%zux3, one sample, one thread: forward %.2f ms, backward %.2f ms: %.0f%% of the peak\n", side, side,
	    fwd1 * 1e3, bwd1 * 1e3, 100e9 * gflop / (fwd1 + bwd1) / top1);
	printf("one sample, %d threads: forward %.2f ms, backward %.2f ms: %.2f and %.2f times as fast\n", threads, fwdt * 1e3,
	    bwdt * 1e3, fwd1 / fwdt, bwd1 / bwdt);
	printf("batch %zu, %d threads: step %.1f ms = %.1f images/s, %.0f%% of the peak\n", batch, threads, step * 1e3,
	    (double)batch / step, 100e9 * gflop * (double)batch / step / top);
	printf("  prepare %.2f, forward %.1f, backward %.1f, add up %.2f, adam %.2f ms\n", best[0] * 1e3, best[1] * 1e3,
	    best[2] * 1e3, best[3] * 1e3, best[4] * 1e3);
	layers(top1);
	seg_team_free(team);
	return 0;
}
