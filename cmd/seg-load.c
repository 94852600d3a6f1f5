/* seg-load: TIFF images, with label maps or binary masks, to a stream. */
#include <string.h>

#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/image.h"
#include "seg/mem.h"
#include "seg/parallel.h"

enum { CLASSES = CMD_LONG, IGNORE, IMAGES, KEEP_GOING, LABELS, LEVEL, MAP, MASKS, MAX_PIXELS, PAGE, RAW, SOURCES, TOLERANT, VERBOSE };

static const struct cmd_opt options[] = {
	{CLASSES, "classes", "LIST", "names of the classes, in order; or how many"},
	{IGNORE, "ignore", "V", "truth value that is no class: the pixel is left out"},
	{IMAGES, "images", "DIR", "directory of the images"},
	{KEEP_GOING, "keep-going", NULL, "skip what cannot be read; exit status 4"},
	{LABELS, "labels", "DIR", "directory of label maps of the same names"},
	{LEVEL, "level", "N", "compression of the output, 0 to 12 (or SEG_LEVEL)"},
	{MAP, "map", "LIST", "renumber truth values: 0=0,128=1,*=ignore"},
	{MASKS, "masks", "DIR", "directory of binary masks of the same names"},
	{MAX_PIXELS, "max-pixels", "N", "largest picture accepted (268435456)"},
	{PAGE, "page", "N", "only this page of image files"},
	{RAW, "raw", NULL, "numbers and rows as stored"},
	{SOURCES, "sources", "FILE", "table: image, tab, the picture it was cut from"},
	{'@', "threads", "N", "threads (all processors)"},
	{TOLERANT, "tolerant", NULL, "libtiff's warnings are not errors"},
	{VERBOSE, "verbose", NULL, "say what is paired, counted and left out"},
	{0},
};
static const struct cmd self = {
	"seg-load",
	"[--images DIR] [--labels DIR | --masks DIR] [--classes LIST] [--ignore V] [--keep-going] [--level N] "
	"[--map LIST] [--max-pixels N] [--page N] [--raw] [--sources FILE] [-@ N] [--tolerant] [--verbose] [FILE ...]",
	"TIFF images with label maps or masks to a stream", options,
};

static void say(void *arg, int skipped, const char *line)
{
	(void)arg;
	if (skipped)
		fprintf(stderr, "seg-load: skipped: %s\n", line);
	else
		cmd_say("%s", line);
}

/* A list of names, or one number: so many classes. */
static void classes(struct seg_load *o, const char *list)
{
	enum { MOST = 4096 };
	static char *name[MOST], *word;
	if (*list && !list[strspn(list, "0123456789")]) {
		o->nclass = (int)cmd_int("--classes", list, 1, MOST);
		return;
	}
	word = seg_strdup(list); /* the names lie in it */
	if (!word)
		cmd_die(SEG_ENOMEM, NULL);
	o->nclass = cmd_list("--classes", word, name, MOST);
	o->classes = (const char *const *)name;
}

int main(int argc, char **argv)
{
	struct seg_load o = {.ignore = SEG_NOIGNORE, .threads = seg_ncpu(), .say = say};
	int level = -1;
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) != -1;)
		switch (k) {
		case CLASSES: classes(&o, cmd_arg); break;
		case IGNORE: o.ignore = (long)cmd_int("--ignore", cmd_arg, 0, 65535); break;
		case IMAGES: o.images = cmd_arg; break;
		case KEEP_GOING: o.keep_going = 1; break;
		case LABELS: o.labels = cmd_arg; break;
		case LEVEL: level = (int)cmd_int("--level", cmd_arg, 0, 12); break;
		case MAP: o.map = cmd_arg; break;
		case MASKS: o.masks = cmd_arg; break;
		case MAX_PIXELS: o.rules.max_pixels = (size_t)cmd_int("--max-pixels", cmd_arg, 1, 1LL << 40); break;
		case PAGE: o.page = (int)cmd_int("--page", cmd_arg, 1, 1 << 30); break;
		case RAW: o.raw = 1; break;
		case SOURCES: o.sources = cmd_arg; break;
		case '@': o.threads = (int)cmd_int("--threads", cmd_arg, 1, 256); break;
		case TOLERANT: o.rules.tolerant = 1; break;
		case VERBOSE: cmd_verbose = 1; break;
		}
	o.file = argv + cmd_ind;
	o.nfile = argc - cmd_ind;
	o.level = cmd_level(level);
	if (o.labels && o.masks)
		cmd_usage("--labels or --masks, not both");
	if (o.images && o.nfile)
		cmd_usage("--images or files, not both");
	if (!o.images && !o.nfile)
		cmd_usage("no images: give --images DIR or files");
	if ((o.map || o.ignore != SEG_NOIGNORE) && !o.labels && !o.masks)
		cmd_usage("--map and --ignore speak of truth: give --labels or --masks");
	cmd_binary_stdout();
	int rc = seg_load(&o);
	if (rc < 0 && rc != SEG_ESKIPPED)
		cmd_die(rc, NULL);
	return seg_status(rc); /* the writer has closed stdout */
}
