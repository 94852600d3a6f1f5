/* seg-save: a stream to TIFF pictures. */
#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/image.h"
#include "seg/parallel.h"

enum { BACKGROUND = CMD_LONG, IMAGE, LABELS, MASKS, OVERLAY, PROBABILITIES, SIDE_BY_SIDE, TRUTH, VERBOSE };

static const struct cmd_opt options[] = {
	{BACKGROUND, "background", "CLASS", "overlay: the class that is not painted, or none"},
	{IMAGE, "image", NULL, "the image"},
	{LABELS, "labels", NULL, "class numbers: the first maximum (default if multiclass)"},
	{MASKS, "masks", NULL, "one page for each class: p > 0.5 (default if multilabel)"},
	{'o', "output", "DIR", "directory of the files; made if missing"},
	{OVERLAY, "overlay", NULL, "a picture to look at: prediction painted, truth drawn"},
	{PROBABILITIES, "probabilities", NULL, "float32, one sample for each class"},
	{SIDE_BY_SIDE, "side-by-side", NULL, "overlay: image, truth, prediction in a row"},
	{'@', "threads", "N", "threads (all processors)"},
	{TRUTH, "truth", NULL, "the truth: label map or masks"},
	{VERBOSE, "verbose", NULL, "say by which rule predictions are made"},
	{0},
};
static const struct cmd self = {
	"seg-save",
	"-o DIR [--image] [--labels] [--masks] [--overlay] [--probabilities] [--truth] [--background CLASS] [--side-by-side] "
	"[-@ N] [--verbose] [FILE]",
	"a stream to TIFF pictures", options,
};

static void say(void *arg, int skipped, const char *line)
{
	(void)arg;
	(void)skipped;
	cmd_say("%s", line);
}

int main(int argc, char **argv)
{
	struct seg_save o = {.threads = seg_ncpu(), .say = say};
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) != -1;)
		switch (k) {
		case BACKGROUND: o.background = cmd_arg; break;
		case IMAGE: o.what |= SEG_SAVE_IMAGE; break;
		case LABELS: o.what |= SEG_SAVE_LABELS; break;
		case MASKS: o.what |= SEG_SAVE_MASKS; break;
		case 'o': o.dir = cmd_arg; break;
		case OVERLAY: o.what |= SEG_SAVE_OVERLAY; break;
		case PROBABILITIES: o.what |= SEG_SAVE_PROBABILITIES; break;
		case SIDE_BY_SIDE: o.side_by_side = 1; break;
		case '@': o.threads = (int)cmd_int("--threads", cmd_arg, 1, 256); break;
		case TRUTH: o.what |= SEG_SAVE_TRUTH; break;
		case VERBOSE: cmd_verbose = 1; break;
		}
	if (!o.dir)
		cmd_usage("-o DIR is missing");
	if (argc - cmd_ind > 1)
		cmd_usage("one stream at a time");
	if ((o.background || o.side_by_side) && !(o.what & SEG_SAVE_OVERLAY))
		cmd_usage("--background and --side-by-side speak of --overlay");
	o.in = argv[cmd_ind];
	int rc = seg_save(&o);
	if (rc < 0)
		cmd_die(rc, NULL);
	return cmd_close(rc);
}
