/* seg-train: train a U-Net on a stream, alone or on many ranks. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "seg/dist.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/parallel.h"
#include "seg/train.h"

enum {
	ACCUMULATE = CMD_LONG, BATCH, CACHE, CHANNELS, CHECKPOINT, CHECKPOINT_EVERY, EPOCHS, FORCE, FROM, HEAD, INIT, LOG, LR,
	MAX_STEPS, MICRO_BATCH, MOMENTUM, EPSILON, NO_SHUFFLE, NORM, OPTIMIZER, PROGRESS, RANGE, RESUME, SEED, TIMEOUT
};

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads of a rank (processors / ranks here)"},
	{ACCUMULATE, "accumulate", "A", "a step of A batches: that of A times --batch (1)"},
	{BATCH, "batch", "B", "samples in a step, over all ranks (16)"},
	{CACHE, "cache", "BYTES", "of stdin kept in memory, the rest in $TMPDIR (1e9)"},
	{CHANNELS, "channels", "LIST", "channels of the stages (8,16,32,64,128)"},
	{CHECKPOINT, "checkpoint", "FILE", "write the state there after each epoch, and on USR1"},
	{CHECKPOINT_EVERY, "checkpoint-every", "MIN", "and every MIN minutes; 0: after each step"},
	{EPOCHS, "epochs", "E", "times every sample is seen (20)"},
	{EPSILON, "epsilon", "E", "of Adam's division (1e-7; adam-torch 1e-8)"},
	{FORCE, "force", NULL, "resume on another class of instructions: other bits"},
	{FROM, "from", "MODEL", "continue from the weights of MODEL"},
	{HEAD, "head", "NAME", "sigmoid or softmax (by task)"},
	{'i', "input", "FILE", "stream to train on (stdin); may be given again"},
	{INIT, "init", "NAME", "first weights: glorot or he (glorot)"},
	{'l', "loss", "LOSS", "expression or @recipe (by task)"},
	{LOG, "log", "FILE", "write steps and epochs as JSON lines"},
	{LR, "lr", "RATE", "learning rate (0.001)"},
	{MAX_STEPS, "max-steps", "N", "stop after N steps"},
	{MICRO_BATCH, "micro-batch", "M", "keep activations of M samples (what 1 GiB holds)"},
	{MOMENTUM, "momentum", "M", "of sgd (0)"},
	{NO_SHUFFLE, "no-shuffle", NULL, "keep the order of the stream"},
	{NORM, "norm", "NAME", "none, instance or group:G (none)"},
	{'o', "output", "MODEL", "file of the trained model"},
	{OPTIMIZER, "optimizer", "NAME", "adam, adam-torch or sgd (adam)"},
	{PROGRESS, "progress", NULL, "lines of progress without a terminal"},
	{RANGE, "range", "R", "u1, u2, f4 or what the input is divided by (by type)"},
	{RESUME, "resume", NULL, "go on from the checkpoint if it is there"},
	{SEED, "seed", "S", "of first weights and order (0)"},
	{TIMEOUT, "timeout", "MIN", "end when the other ranks are silent; 0: never (10)"},
	{'v', "val", "FILE", "validate on this stream after each epoch"},
	{0},
};
static const struct cmd self = {"seg-train",
	"-o MODEL [-@ N] [-i FILE] [-l LOSS] [-v FILE] [--accumulate A] [--batch B] [--cache BYTES] [--channels LIST] "
	"[--checkpoint FILE] [--checkpoint-every MIN] [--epochs E] [--epsilon E] [--force] [--from MODEL] [--head NAME] "
	"[--init NAME] [--log FILE] [--lr RATE] [--max-steps N] [--micro-batch M] "
	"[--momentum M] [--no-shuffle] [--norm NAME] [--optimizer NAME] [--progress] [--range R] [--resume] [--seed S] [--timeout MIN]",
	"train a U-Net on a stream", options};

static void channels(struct seg_train *t, char *list)
{
	char *word[SEG_MAXSTAGE];
	t->nstage = cmd_list("--channels", list, word, SEG_MAXSTAGE);
	for (int i = 0; i < t->nstage; i++)
		t->channels[i] = (int)cmd_int("--channels", word[i], 1, 65536);
}

static void norm(struct seg_train *t, const char *name)
{
	if (!strncmp(name, "group:", 6)) {
		t->norm = SEG_NORM_GROUP;
		t->groups = (int)cmd_int("--norm group", name + 6, 1, 65536);
	} else if (!strcmp(name, "instance")) {
		t->norm = SEG_NORM_INSTANCE;
	} else if (strcmp(name, "none")) {
		cmd_usage("--norm: '%s' is none of none, instance, group:G", name);
	}
}

static int choice(const char *option, const char *word, const char *a, const char *b)
{
	if (strcmp(word, a) && strcmp(word, b))
		cmd_usage("%s: '%s' is neither %s nor %s", option, word, a, b);
	return !strcmp(word, b);
}

enum { MOST_FILES = 10000 };
static const char *in[MOST_FILES];
static const size_t AHEAD = 256 << 20; /* of stdin, while MPI starts */

static double patience = 600;

static void parse(int argc, char **argv, struct seg_train *t, struct seg_run *run)
{
	long long accumulate = 1;
	double lr = -1, momentum = -1, epsilon = -1;
	for (int k; (k = cmd_next(argc, argv)) != -1;)
		switch (k) {
		case '@': run->threads = (int)cmd_int("--threads", cmd_arg, 1, 256); break;
		case ACCUMULATE: accumulate = cmd_int("--accumulate", cmd_arg, 1, 65536); break;
		case BATCH: t->batch = (int)cmd_int("--batch", cmd_arg, 1, 65536); break;
		case CACHE: run->cache = (size_t)cmd_num("--cache", cmd_arg, 0, 1e18); break;
		case CHANNELS: channels(t, (char *)cmd_arg); break;
		case CHECKPOINT: run->checkpoint = cmd_arg; break;
		case CHECKPOINT_EVERY: run->every = 60 * cmd_num("--checkpoint-every", cmd_arg, 0, 1e6); break;
		case EPOCHS: t->epochs = (int)cmd_int("--epochs", cmd_arg, 1, 1000000); break;
		case FORCE: run->force = 1; break;
		case FROM: run->from = cmd_arg; break;
		case HEAD: t->head = choice("--head", cmd_arg, "sigmoid", "softmax") ? SEG_SOFTMAX : SEG_SIGMOID; break;
		case 'i':
			if (run->nin == MOST_FILES)
				cmd_usage("-i: more than %d files; concatenate some", MOST_FILES);
			in[run->nin++] = cmd_arg;
			break;
		case INIT: t->init = choice("--init", cmd_arg, "glorot", "he") ? SEG_HE : SEG_GLOROT; break;
		case 'l': t->loss = cmd_arg; break;
		case LOG: run->log = cmd_arg; break;
		case LR: lr = cmd_num("--lr", cmd_arg, 0, 1e6); break;
		case MAX_STEPS: t->max_steps = (uint64_t)cmd_int("--max-steps", cmd_arg, 1, 1LL << 60); break;
		case EPSILON: epsilon = cmd_num("--epsilon", cmd_arg, 0, 1); break;
		case MICRO_BATCH: run->micro = (int)cmd_int("--micro-batch", cmd_arg, 1, 65536); break;
		case MOMENTUM: momentum = cmd_num("--momentum", cmd_arg, 0, 1); break;
		case NO_SHUFFLE: t->shuffle = 0; break;
		case NORM: norm(t, cmd_arg); break;
		case 'o': run->out = cmd_arg; break;
		case OPTIMIZER:
			if (seg_optim_defaults(&t->optim, cmd_arg) < 0)
				cmd_usage("--optimizer: %s", seg_reason());
			break;
		case PROGRESS: cmd_progress_lines = 1; break;
		case RANGE: t->range = cmd_arg; break;
		case RESUME: run->resume = 1; break;
		case SEED: t->seed = (uint64_t)cmd_int("--seed", cmd_arg, 0, INT64_MAX); break;
		case TIMEOUT: patience = 60 * cmd_num("--timeout", cmd_arg, 0, 1e6); break;
		case 'v': run->val = cmd_arg; break;
		}
	if (cmd_ind < argc)
		cmd_usage("unexpected argument '%s'; the stream is given with -i or on stdin", argv[cmd_ind]);
	if (!run->out)
		cmd_usage("where to? give -o MODEL");
	if (!run->nin && isatty(STDIN_FILENO))
		cmd_usage("stdin is a terminal; give -i FILE or a stream");
	if (!run->checkpoint && (run->resume || run->every >= 0))
		cmd_usage("--resume and --checkpoint-every need --checkpoint FILE");
	if (momentum >= 0 && t->optim.kind != SEG_SGD)
		cmd_usage("--momentum belongs to --optimizer sgd");
	if (accumulate > 65536 / t->batch)
		cmd_usage("--accumulate: %lld batches of %d are more than 65536 samples in a step", accumulate, t->batch);
	if (accumulate > 1 && !run->micro)
		run->micro = t->batch;
	t->batch *= (int)accumulate;
	if (lr >= 0)
		t->optim.lr = lr;
	if (epsilon >= 0)
		t->optim.epsilon = epsilon;
	if (momentum >= 0)
		t->optim.momentum = momentum;
}

static volatile sig_atomic_t asked; /* USR1: checkpoint and leave */

static void ask(int sig)
{
	asked = sig;
}

static void show(const struct seg_buf *b)
{
	cmd_progress_end();
	fwrite(b->data, 1, b->n, stderr);
	free(b->data);
}

static void start(void *arg, const struct seg_plan *p)
{
	struct seg_buf b = {0};
	(void)arg;
	if (seg_plan_text(p, &b) == SEG_OK)
		show(&b);
}

static void step(void *arg, int epoch, size_t done, size_t total, double loss)
{
	char what[32], extra[32];
	(void)arg;
	snprintf(what, sizeof what, "epoch %d", epoch);
	snprintf(extra, sizeof extra, "loss %.6g", loss);
	cmd_progress(what, (double)done, (double)total, extra);
}

static void epoch(void *arg, const struct seg_epoch *e)
{
	struct seg_buf b = {0};
	(void)arg;
	if (seg_epoch_text(e, &b) == SEG_OK)
		show(&b);
}

static int parsing;

/* mpirun ends all ranks as soon as one fails: rank 0 must be the first. */
static void let_rank_0_speak(int status, void *arg)
{
	(void)arg;
	if (parsing && status)
		sleep(5);
}

int main(int argc, char **argv)
{
	struct seg_train t;
	struct seg_run run = {.cache = 1000000000, .in = in, .every = -1, .asked = &asked, .start = start, .step = step, .epoch = epoch};
	struct seg_dist d;
	int rank, keep = -1;
	cmd_start(&self);
	seg_train_defaults(&t);

	/* what is wrong with the options is said once, by rank 0 */
	if (seg_dist_launched(&rank) && rank > 0) {
		int null = open("/dev/null", O_WRONLY);
		keep = dup(STDERR_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
		parsing = 1;
		on_exit(let_rank_0_speak, NULL);
	}
	parse(argc, argv, &t, &run);
	parsing = 0;
	if (keep >= 0) {
		dup2(keep, STDERR_FILENO);
		close(keep);
	}

	if (run.checkpoint)
		signal(SIGUSR1, ask); /* before MPI starts */
	int rc = SEG_OK;
	if (seg_dist_launched(&rank) && rank == 0 && !run.nin) /* Open MPI 4's mpirun may crash when it is kept waiting */
		rc = seg_read_ahead(STDIN_FILENO, AHEAD);
	if (rc == SEG_OK)
		rc = seg_dist_open(&d);
	if (rc < 0)
		cmd_die(rc, NULL);
	d.patience = patience;
	int here = seg_dist_neighbours(&d), ncpu = seg_ncpu();
	if (!run.threads)
		run.threads = here < ncpu ? ncpu / here : 1;
	rc = seg_train_run(&t, &run, &d);
	cmd_progress_end();
	if (rc < 0 && d.rank == 0)
		cmd_complain(NULL);
	d.close(&d); /* nobody leaves before rank 0 has spoken: mpirun ends all when one fails */
	return rc < 0 ? seg_status(rc) : cmd_close(SEG_OK);
}
