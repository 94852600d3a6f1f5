/* Our side of `make bench`: bench-work DATA.seg INIT.seg THREADS LOSS.  It trains as seg-train does, but
 * each step waits for a line on stdin; so steps of several programs alternate, while none pays for its
 * start.  Its seconds are printed, and those of the processors.  Other lines ask for other measurements,
 * between two steps:
 *   step     one more step of training, with its reading, loss and counts
 *   forward  logits of a batch; both numbers, too
 *   peak     GFLOP/s of multiply-adds (not seconds)
 *   copy     GB/s of memory, read and written
 *   unpack FILE, pack FILE   all samples of a stream, inflated and checked; deflated at level 1, on one thread
 * Before that it prints JSON, a line when the training starts, one after the first step, and one when three
 * steps are done and it waits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/dist.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/train.h"
#include "tests/peak.h"

enum { BATCH = 16, WARM = 3, AGAIN = 64 }; /* AGAIN: times DATA is read in an epoch, so that its end is rare */

static const char *data;
static int threads;

static double started, cpu_started;

/* Of all threads. */
static double cpu(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void spent(void)
{
	printf("%.9g %.9g\n", now() - started, cpu() - cpu_started);
}

static void ck(int rc)
{
	if (rc < 0) {
		fprintf(stderr, "bench-work: %s\n", seg_reason());
		exit(1);
	}
}

/* -- memory: each thread copies what no cache holds */

static const size_t COPIED = 128 << 20;
static char *block[256];

static int copy_one(void *arg, size_t i, int t)
{
	(void)arg;
	(void)t;
	memcpy(block[i] + COPIED, block[i], COPIED);
	return 0;
}

static double copy(void)
{
	double best = 0;
	for (int i = 0; i < threads; i++) {
		block[i] = malloc(2 * COPIED);
		if (!block[i])
			return 0;
		memset(block[i], 1, 2 * COPIED);
	}
	for (int r = 0; r < 5; r++) {
		double t = now();
		seg_parallel(threads, (size_t)threads, copy_one, NULL);
		double rate = 2e-9 * (double)COPIED * threads / (now() - t);
		best = rate > best ? rate : best;
	}
	for (int i = 0; i < threads; i++)
		free(block[i]);
	return best;
}

/* -- streams */

struct samples {
	struct seg_sample *at;
	size_t n;
};

static struct samples load(const char *path)
{
	struct seg_index *x;
	struct samples s;
	ck(seg_index_open(&x, path, NULL));
	s.n = seg_index_count(x);
	s.at = seg_alloc(s.n, sizeof *s.at);
	for (size_t i = 0; i < s.n; i++)
		ck(seg_index_read(x, i, &s.at[i]));
	seg_index_close(x);
	return s;
}

static double codec(const char *path, int pack)
{
	struct samples s = load(path);
	char key[SEG_KEY + 1];
	double sum = 0;
	for (size_t i = 0; i < s.n; i++) {
		double t = now();
		ck(seg_sample_open(&s.at[i]));
		if (pack) {
			memcpy(key, s.at[i].key, sizeof key);
			ck(seg_sample_rekey(&s.at[i], key)); /* all of it is new now */
			t = now();
			ck(seg_sample_pack(&s.at[i], 1));
		}
		sum += now() - t;
		seg_sample_free(&s.at[i]);
	}
	free(s.at);
	return sum;
}

/* -- the network alone */

static struct {
	struct seg_net *n;
	struct seg_weights *w;
	struct seg_acts *a[256];
	const struct seg_tensor *image[BATCH];
	float *z[BATCH];
} net;

static void load_net(const char *model)
{
	struct seg_header h = {0};
	float *flat, *packed;
	struct samples s = load(data);
	ck(seg_model_load(model, &h, &net.n, &flat));
	ck(seg_weights_new(&net.w, net.n));
	packed = seg_alloc_aligned(seg_net_npacked(net.n), sizeof *packed);
	seg_net_pack(net.n, flat, packed);
	seg_weights_set(net.w, packed);
	for (size_t i = 0; i < BATCH; i++) {
		ck(seg_sample_open(&s.at[i % s.n]));
		net.image[i] = seg_sample_tensor(&s.at[i % s.n], "image.npy");
		net.z[i] = seg_alloc_aligned(net.image[i]->dim[0] * net.image[i]->dim[1] * (size_t)h.nclass, sizeof(float));
	}
	for (int t = 0; t < threads; t++)
		ck(seg_acts_new(&net.a[t], net.n, net.image[0]->dim[0], net.image[0]->dim[1], 0));
	free(packed);
	free(flat);
	seg_header_free(&h);
}

static int forward_one(void *arg, size_t i, int t)
{
	(void)arg;
	seg_net_forward(net.w, net.a[t], net.image[i], 1 / 255.f, net.z[i], NULL);
	return 0;
}

static void forward(const char *model)
{
	if (!net.n)
		load_net(model);
	started = now();
	cpu_started = cpu();
	seg_parallel(threads, BATCH, forward_one, NULL);
	spent();
}

/* -- the training, and who waits in it */

static void start(void *arg, const struct seg_plan *p)
{
	(void)arg;
	printf("{\"at\": \"start\", \"parameters\": %zu, \"isa\": \"%s\"}\n", seg_net_nparam(p->net), seg_isa_text(seg_isa()));
	fflush(stdout);
}

static size_t memory(void)
{
	char line[256];
	size_t kb = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "VmHWM:", 6))
			kb = (size_t)atol(line + 6);
	if (f)
		fclose(f);
	return kb;
}

static void step(void *arg, int epoch, size_t done, size_t total, double loss)
{
	static int n;
	char line[4096];
	(void)total;
	if (epoch > 1 && done == 0)
		return; /* an epoch begins; that was told at the end of the last */
	if (++n == 2)
		printf("{\"at\": \"first\", \"loss\": %.9g}\n", loss);
	fflush(stdout);
	if (n <= WARM)
		return;
	if (n == WARM + 1)
		printf("{\"at\": \"ready\", \"memory\": %zu}\n", memory());
	else
		spent();
	for (;;) {
		fflush(stdout);
		if (!fgets(line, sizeof line, stdin))
			exit(0);
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "step"))
			break;
		if (!strcmp(line, "forward"))
			forward(arg);
		else
			printf("%.9g\n", !strcmp(line, "peak") ? 1e-9 * peak(threads) : !strcmp(line, "copy") ? copy() :
			    !strncmp(line, "pack ", 5) ? codec(line + 5, 1) : !strncmp(line, "unpack ", 7) ? codec(line + 7, 0) : -1);
	}
	started = now();
	cpu_started = cpu();
}

int main(int argc, char **argv)
{
	const char *in[AGAIN];
	char out[4096];
	struct seg_train t;
	struct seg_dist d;
	if (argc != 5)
		return fprintf(stderr, "usage: bench-work DATA.seg INIT.seg THREADS LOSS\n"), 2;
	data = argv[1];
	threads = atoi(argv[3]);
	if (threads < 1 || threads > 256)
		return fprintf(stderr, "bench-work: %s threads\n", argv[3]), 2;
	for (int i = 0; i < AGAIN; i++)
		in[i] = data;
	seg_train_defaults(&t);
	t.loss = argv[4];
	t.batch = BATCH;
	t.shuffle = 0;
	t.epochs = 1000;
	snprintf(out, sizeof out, "%s.out", argv[2]); /* never completed */
	ck(seg_dist_open(&d));
	struct seg_run run = {.in = in, .nin = AGAIN, .from = argv[2], .out = out, .threads = threads, .every = -1,
	    .cache = 1000000000, .start = start, .step = step, .arg = argv[2]};
	ck(seg_train_run(&t, &run, &d));
	return 0;
}
