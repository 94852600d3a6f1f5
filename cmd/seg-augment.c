/* seg-augment: random transforms of every sample, reproducible from their key alone. */
#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/parallel.h"
#include "seg/transform.h"

enum { CACHE = CMD_LONG, EPOCHS, KEEP, LEVEL, LIST, MOST = 64 };

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (all processors)"},
	{CACHE, "cache", "BYTES", "memory for samples kept for later epochs (1073741824)"},
	{EPOCHS, "epochs", "E", "pass the whole input E times, each time anew"},
	{KEEP, "keep", NULL, "the untouched sample, too"},
	{LEVEL, "level", "L", "compression of the stream, 0 to 12 (1)"},
	{LIST, "list", NULL, "print the transforms"},
	{'n', "copies", "N", "N transformed copies of every sample"},
	{'s', "seed", "S", "another seed, other draws (0)"},
	{0},
};
static const struct cmd self = {"seg-augment",
	"[-@ N] [-n N] [-s S] [--cache BYTES] [--epochs E] [--keep] [--level L] [--list] TRANSFORM...",
	"random transforms of pictures and their truth", options};

static int list(void)
{
	size_t n;
	const struct seg_transform_kind *k = seg_transform_list(&n);
	printf("%-18s %-4s %-10s %-52s %s\n", "transform", "p", "arguments", "image", "label, mask, weight");
	for (; n--; k++) {
		char word[64], range[32] = "";
		snprintf(word, sizeof word, k->narg ? "%s(%s)" : "%s%s", k->name, k->args);
		if (k->narg)
			snprintf(range, sizeof range, "%g..%g", k->least, k->most);
		printf("%-18s %-4g %-10s %-52s %s\n", word, k->p, range, k->image, k->truth);
	}
	puts("NAME(...)@P: applied with probability P instead of p.");
	return cmd_close(SEG_OK);
}

int main(int argc, char **argv)
{
	struct seg_transform t[MOST];
	struct seg_augment a = {.t = t, .threads = seg_ncpu(), .level = -1, .cache = (size_t)1 << 30};
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': a.threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case 'n': a.copies = (int)cmd_int("-n", cmd_arg, 1, 1000000); break;
		case 's': a.seed = (uint64_t)cmd_int("-s", cmd_arg, 0, INT64_MAX); break;
		case CACHE: a.cache = (size_t)cmd_int("--cache", cmd_arg, 0, INT64_MAX); break;
		case EPOCHS: a.epochs = (int)cmd_int("--epochs", cmd_arg, 1, 1000000); break;
		case KEEP: a.keep = 1; break;
		case LEVEL: a.level = (int)cmd_int("--level", cmd_arg, 0, 12); break;
		case LIST: return list();
		}
	if (cmd_ind == argc)
		cmd_usage("which transforms? e.g. flip rot90 'gamma(0.8,1.2)'; --list shows them");
	a.level = cmd_level(a.level);
	a.nt = argc - cmd_ind;
	a.word = (const char *const *)argv + cmd_ind;
	if (a.nt > MOST)
		cmd_usage("%d transforms; at most %d are possible", a.nt, MOST);
	for (int i = 0; i < a.nt; i++)
		if (seg_transform_parse(&t[i], a.word[i]) < 0)
			cmd_usage("%s", seg_reason());
	cmd_binary_stdout();
	int rc = seg_augment(&a);
	if (rc < 0)
		cmd_die(rc, NULL);
	return cmd_close(rc);
}
