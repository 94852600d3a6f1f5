/* seg-predict: add a model's predictions to each sample of a stream. */
#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/parallel.h"
#include "seg/train.h"

enum { LEVEL = CMD_LONG, LOGITS };

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (all processors)"},
	{LEVEL, "level", "L", "compression of what is new, 0 to 12"},
	{LOGITS, "logits", NULL, "add logits instead of probabilities"},
	{'m', "model", "MODEL", "the model"},
	{0},
};
static const struct cmd self = {"seg-predict", "-m MODEL [-@ N] [--level L] [--logits]",
	"add a model's predictions to a stream", options};

int main(int argc, char **argv)
{
	struct seg_predict p = {.threads = seg_ncpu(), .level = -1};
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) != -1;)
		switch (k) {
		case '@': p.threads = (int)cmd_int("--threads", cmd_arg, 1, 256); break;
		case LEVEL: p.level = (int)cmd_int("--level", cmd_arg, 0, 12); break;
		case LOGITS: p.logits = 1; break;
		case 'm': p.model = cmd_arg; break;
		}
	if (cmd_ind < argc)
		cmd_usage("unexpected argument '%s'; the stream comes on stdin", argv[cmd_ind]);
	if (!p.model)
		cmd_usage("with which model? give -m MODEL");
	cmd_binary_stdout();
	p.level = cmd_level(p.level);
	int rc = seg_predict_run(&p);
	if (rc < 0)
		cmd_die(rc, NULL);
	return cmd_close(SEG_OK);
}
