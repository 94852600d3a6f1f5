/* seg-synth: scenes of five classes, one of them rare, as a stream or as TIFF files. */
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/image.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/stream.h"
#include "seg/synth.h"

enum { LEVEL = CMD_LONG, MASKS, SIZE, START, TIFF };

static const struct cmd_opt options[] = {
	{'@', "threads", "N", "threads (all processors)"},
	{LEVEL, "level", "L", "compression of the stream, 0 to 12 (1)"},
	{MASKS, "masks", NULL, "five binary masks as truth, task multilabel"},
	{'n', "number", "N", "how many scenes"},
	{'s', "seed", "S", "another seed, other scenes (0)"},
	{SIZE, "size", "H[xW]", "rows and columns (256)"},
	{START, "start", "I", "number of the first scene (0)"},
	{TIFF, "tiff", "DIR", "write TIFF files below DIR instead of a stream"},
	{0},
};
static const struct cmd self = {"seg-synth",
	"-n N [-@ N] [-s S] [--level L] [--masks] [--size H[xW]] [--start I] [--tiff DIR]",
	"synthetic scenes of five classes, one of them rare", options};

struct job {
	uint64_t seed, start, next, n;
	size_t h, w;
	int masks, level;
	const char *dir; /* NULL: a stream */
	struct seg_writer *out;
};

struct scene {
	uint64_t index;
	struct seg_tensor image, label, mask;
	struct seg_sample sample;
};

static void drop(void *arg, void *item)
{
	struct scene *s = item;
	(void)arg;
	seg_tensor_free(&s->image);
	seg_tensor_free(&s->label);
	seg_tensor_free(&s->mask);
	seg_sample_free(&s->sample);
	free(s);
}

static int next(void *arg, void **item)
{
	struct job *j = arg;
	if (j->next == j->n)
		return 0;
	struct scene *s = *item = seg_alloc(1, sizeof *s);
	if (!s)
		return SEG_ENOMEM;
	s->index = j->start + j->next++;
	return 1;
}

/* Image and label; masks have their classes last, or first for pages. */
static int draw(const struct job *j, struct scene *s)
{
	enum { K = SEG_SYNTH_CLASSES };
	size_t n = j->h * j->w;
	int rc, pages = j->dir != NULL;
	if ((rc = seg_tensor_new(&s->image, SEG_U1, 3, (size_t[]){j->h, j->w, 3})) < 0 ||
	    (rc = seg_tensor_new(&s->label, SEG_U1, 2, (size_t[]){j->h, j->w})) < 0 ||
	    (rc = seg_tensor_new(&s->mask, SEG_U1, 3, (size_t[]){j->h, j->w, K})) < 0 ||
	    (rc = seg_synth_scene(j->seed, s->index, j->h, j->w, s->image.data, s->label.data)) < 0)
		return rc;
	uint8_t *m = s->mask.data;
	for (int k = 0; k < K; k++)
		seg_synth_mask(s->label.data, n, k, pages ? 255 : 1, pages ? 1 : K, pages ? m + (size_t)k * n : m + k);
	return SEG_OK;
}

static int give(struct seg_sample *s, const char *suffix, struct seg_tensor *from)
{
	struct seg_tensor t = *from;
	from->data = NULL; /* the sample takes it */
	return seg_sample_put(s, suffix, &t);
}

static int to_sample(void *arg, void *item, int t)
{
	struct job *j = arg;
	struct scene *s = item;
	char id[24];
	(void)t;
	int rc = draw(j, s);
	if (rc < 0)
		return rc;
	snprintf(id, sizeof id, "%04ju", (uintmax_t)s->index);
	seg_key(id, "", s->sample.key);
	rc = give(&s->sample, "image.npy", &s->image);
	if (rc == SEG_OK)
		rc = j->masks ? give(&s->sample, "mask.npy", &s->mask) : give(&s->sample, "label.npy", &s->label);
	struct seg_json *o = seg_json_object();
	if (rc == SEG_OK && (seg_json_set(o, "id", seg_json_str(id)) < 0 ||
	    seg_json_set(o, "source", seg_json_str(id)) < 0))
		rc = SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_sample_set_json(&s->sample, o);
	seg_json_free(o);
	return rc < 0 ? rc : seg_sample_pack(&s->sample, j->level);
}

static int write_tiff(const struct job *j, const char *kind, uint64_t index, const struct seg_tensor *page,
    size_t npage, const struct seg_tiff_how *how)
{
	char *path = seg_format("%s/%s/%04ju.tif", j->dir, kind, (uintmax_t)index);
	int rc = path ? seg_tiff_write(path, page, npage, how) : SEG_ENOMEM;
	free(path);
	return rc;
}

static int to_tiff(void *arg, void *item, int t)
{
	static const uint8_t colours[SEG_SYNTH_CLASSES][3] = {{148, 130, 96}, {126, 190, 66}, {46, 108, 180},
	                                                      {214, 84, 54}, {0, 0, 0}};
	const struct seg_tiff_how palette = {.palette = colours, .npalette = SEG_SYNTH_CLASSES};
	struct job *j = arg;
	struct scene *s = item;
	struct seg_tensor page[SEG_SYNTH_CLASSES];
	(void)t;
	int rc = draw(j, s);
	for (size_t k = 0; k < SEG_SYNTH_CLASSES && rc == SEG_OK; k++) {
		page[k] = s->label;
		page[k].data = (uint8_t *)s->mask.data + k * j->h * j->w;
	}
	if (rc < 0 || (rc = write_tiff(j, "images", s->index, &s->image, 1, NULL)) < 0 ||
	    (rc = write_tiff(j, "labels", s->index, &s->label, 1, &palette)) < 0)
		return rc;
	return write_tiff(j, "masks", s->index, page, SEG_SYNTH_CLASSES, NULL);
}

static int sink(void *arg, void *item)
{
	struct job *j = arg;
	struct scene *s = item;
	int rc = j->out ? seg_write(j->out, &s->sample) : SEG_OK;
	cmd_progress("scenes", (double)(s->index - j->start + 1), (double)j->n, NULL);
	drop(arg, item);
	return rc;
}

static int open_stream(struct job *j)
{
	struct seg_header h = {.kind = SEG_STREAM, .task = j->masks ? SEG_MULTILABEL : SEG_MULTICLASS,
	                       .ignore = SEG_NOIGNORE};
	struct seg_json *o = seg_json_object();
	char size[48];
	snprintf(size, sizeof size, "%zux%zu", j->h, j->w);
	int bad = seg_json_set(o, "n", seg_json_int((long long)j->n)) |
	    seg_json_set(o, "seed", seg_json_int((long long)j->seed)) |
	    seg_json_set(o, "size", seg_json_str(size)) | seg_json_set(o, "masks", seg_json_bool(j->masks)) |
	    seg_json_set(o, "start", seg_json_int((long long)j->start));
	int rc = bad ? SEG_ENOMEM : seg_header_classes(&h, seg_synth_class, SEG_SYNTH_CLASSES);
	if (rc == SEG_OK)
		rc = seg_header_sign(&h, "seg-synth", o);
	else
		seg_json_free(o);
	if (rc == SEG_OK)
		rc = seg_writer_open(&j->out, NULL, &h);
	seg_header_free(&h);
	return rc;
}

static int open_dirs(const struct job *j)
{
	static const char *const below[] = {"", "/images", "/labels", "/masks"};
	int rc = SEG_OK;
	for (int i = 0; i < 4 && rc == SEG_OK; i++) {
		char *path = seg_format("%s%s", j->dir, below[i]);
		rc = path ? seg_mkdir(path) : SEG_ENOMEM;
		free(path);
	}
	return rc;
}

static void size(struct job *j, char *word)
{
	char *by = strchr(word, 'x');
	if (by)
		*by = 0;
	j->h = (size_t)cmd_int("--size", word, 1, 65536);
	j->w = by ? (size_t)cmd_int("--size", by + 1, 1, 65536) : j->h;
}

int main(int argc, char **argv)
{
	struct job j = {.h = 256, .w = 256, .level = -1};
	int threads = seg_ncpu();
	cmd_start(&self);
	for (int k; (k = cmd_next(argc, argv)) >= 0;)
		switch (k) {
		case '@': threads = (int)cmd_int("-@", cmd_arg, 1, 256); break;
		case 'n': j.n = (uint64_t)cmd_int("-n", cmd_arg, 1, 1000000000); break;
		case 's': j.seed = (uint64_t)cmd_int("-s", cmd_arg, 0, INT64_MAX); break;
		case LEVEL: j.level = (int)cmd_int("--level", cmd_arg, 0, 12); break;
		case MASKS: j.masks = 1; break;
		case SIZE: size(&j, (char *)cmd_arg); break;
		case START: j.start = (uint64_t)cmd_int("--start", cmd_arg, 0, 1000000000); break;
		case TIFF: j.dir = cmd_arg; break;
		}
	if (cmd_ind < argc)
		cmd_usage("'%s': seg-synth takes no operands", argv[cmd_ind]);
	if (!j.n)
		cmd_usage("how many scenes? give -n N");
	if (j.dir && j.masks)
		cmd_usage("--masks is for streams; --tiff writes labels and masks alike");
	j.level = cmd_level(j.level);
	if (!j.dir)
		cmd_binary_stdout();

	const struct seg_flow f = {next, j.dir ? to_tiff : to_sample, sink, drop, &j};
	int rc = j.dir ? open_dirs(&j) : open_stream(&j);
	if (rc == SEG_OK)
		rc = seg_flow(&f, threads);
	if (rc < 0)
		seg_writer_abort(j.out);
	else if (j.out)
		rc = seg_writer_close(j.out);
	if (rc < 0)
		cmd_die(rc, NULL);
	return cmd_close(rc);
}
