/* seg-split: hold out a share of the source images. */
#include <stdlib.h>

#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/stream.h"

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (default: processors)"},
	{CMD_LONG, "hold-out", "F", "share of source images that go to FILE, between 0 and 1"},
	{'s', "seed", "SEED", "another choice of images (default 0)"},
	{CMD_LONG + 1, "verbose", NULL, "say how many images and samples went where"},
	{0},
};
static const struct cmd self = {"seg-split", "[-@ N] [-s SEED] [--verbose] --hold-out F FILE",
	"hold out a share of the source images of a stream", options};

/* A side of the split: the input's header, signed. */
static int open_side(struct seg_writer **w, const char *path, const struct seg_header *from, double share,
    long long seed)
{
	struct seg_header h;
	struct seg_json *o = seg_json_object();
	int rc = seg_header_copy(&h, from);
	seg_json_set(o, "hold-out", seg_json_num(share));
	seg_json_set(o, "seed", seg_json_int(seed));
	seg_json_set(o, "side", seg_json_str(path ? "held out" : "rest"));
	if (rc == SEG_OK)
		rc = seg_header_sign(&h, "seg-split", o);
	else
		seg_json_free(o);
	if (rc == SEG_OK)
		rc = seg_writer_open(w, path, &h);
	seg_header_free(&h);
	return rc;
}

/* Both sides or, after a failure, neither. */
static int write_sides(const struct seg_index *x, const unsigned char *held, struct seg_writer *side[2])
{
	struct seg_sample s = {0};
	int rc = SEG_OK;
	for (size_t i = 0; rc == SEG_OK && i < seg_index_count(x); i++)
		if ((rc = seg_index_read(x, i, &s)) == SEG_OK)
			rc = seg_write(side[held[i]], &s);
	seg_sample_free(&s);
	for (int k = 1; k >= 0; k--)
		if (rc == SEG_OK)
			rc = seg_writer_close(side[k]);
		else
			seg_writer_abort(side[k]);
	return rc;
}

int main(int argc, char **argv)
{
	int threads = seg_ncpu(), rc;
	long long seed = 0;
	double share = 0;
	struct seg_index *x;
	struct seg_writer *side[2] = {NULL, NULL};
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case 's': seed = cmd_int("--seed", cmd_arg, 0, 0x7fffffffffffffff); break;
		case CMD_LONG: share = cmd_num("--hold-out", cmd_arg, 1e-9, 1 - 1e-9); break;
		case CMD_LONG + 1: cmd_verbose = 1; break;
		}
	if (!share)
		cmd_usage("say what share to hold out: --hold-out 0.2 FILE");
	if (cmd_ind != argc - 1)
		cmd_usage("one FILE is needed for the held-out samples; the stream is read from stdin");
	cmd_binary_stdout();
	if ((rc = seg_index_open(&x, NULL, NULL)) < 0)
		cmd_die(rc, NULL);
	size_t nsource, nheld, samples = 0, n = seg_index_count(x);
	unsigned char *held = seg_alloc(n, 1);
	if (!held)
		cmd_die(SEG_ENOMEM, NULL);
	if ((rc = seg_hold_out(x, share, (uint64_t)seed, threads, held, &nsource, &nheld)) < 0)
		cmd_die(rc, NULL);
	if ((rc = open_side(&side[0], NULL, seg_index_header(x), share, seed)) < 0 ||
	    (rc = open_side(&side[1], argv[cmd_ind], seg_index_header(x), share, seed)) < 0 ||
	    (rc = write_sides(x, held, side)) < 0)
		cmd_die(rc, NULL);
	for (size_t i = 0; i < n; i++)
		samples += held[i];
	cmd_say("held out %zu of %zu source images, %zu of %zu samples", nheld, nsource, samples, n);
	free(held);
	seg_index_close(x);
	return cmd_close(SEG_OK);
}
