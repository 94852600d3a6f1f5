/* The tensor stream of seg-stream(5): a multi-member gzip file holding a tar archive of .npy
 * tensors.  Reader, writer, filter and index.  The only module that knows gzip, tar and END. */
#ifndef SEG_STREAM_H
#define SEG_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "seg/json.h"
#include "seg/tensor.h"

enum seg_kind { SEG_STREAM, SEG_MODEL, SEG_CHECKPOINT };
enum seg_task { SEG_MULTICLASS, SEG_MULTILABEL };
enum seg_head { SEG_HEAD_UNSET, SEG_SIGMOID, SEG_SOFTMAX, SEG_NONE }; /* unset: no predictions yet */

enum { SEG_KEY = 80, SEG_SUFFIX = 15, SEG_MAXMEMBER = 16, SEG_NOIGNORE = -1 };

/* The header.  Fields without a member here (input range, loss of the model, ...) live in `more`
 * and travel untouched. */
struct seg_header {
	enum seg_kind kind;
	enum seg_task task;
	enum seg_head head;
	long ignore;                 /* truth value that is not a class; SEG_NOIGNORE */
	int nclass;                  /* 0: not known (bare images) */
	char **classes;              /* nclass names */
	struct seg_json *more;       /* object: all other keys */
	struct seg_json *provenance; /* array of {"program","version","options"{}} */
};
const char *seg_task_text(enum seg_task t);
const char *seg_head_text(enum seg_head h);
void seg_header_free(struct seg_header *h);
int seg_header_copy(struct seg_header *to, const struct seg_header *from);
/* Class names from an array of n words (copies); default names "0","1",.. when names is NULL. */
int seg_header_classes(struct seg_header *h, const char *const *names, int n);
/* Append one provenance entry; options is taken (an object, only what changes content). */
int seg_header_sign(struct seg_header *h, const char *program, struct seg_json *options);
/* The text of __seg__/header.json, which the caller frees (NULL: out of memory); and back, with the
 * reader's checks.  For ranks that learn of a stream from the one that reads it. */
char *seg_header_text(const struct seg_header *h);
int seg_header_parse(struct seg_header *h, const char *text, size_t n);
/* Position of a class name, or -1. */
int seg_header_class(const struct seg_header *h, const char *name);

/* One tar entry KEY.SUFFIX of a sample: a tensor ("image.npy", "label.npy", "npy") or bytes
 * ("json").  suffix is without the leading dot. */
struct seg_entry {
	char suffix[SEG_SUFFIX + 1];
	int member;          /* index of the packed member it came from; -1: new, not packed yet */
	struct seg_tensor t; /* if is_tensor; else bytes/nbytes */
	int is_tensor;
	char *bytes;
	size_t nbytes;
	int owned;           /* data or bytes are freed with the entry; else they lie in the sample's mem */
};

/* A gzip member, whole, with its sizes.  Bytes are what the file has. */
struct seg_member {
	unsigned char *gz;
	size_t ngz, nraw;    /* member bytes, inflated bytes */
	size_t cgz;          /* room at gz */
	uint32_t crc;        /* CRC-32 of the inflated bytes */
};

/* A sample: packed members and, after seg_sample_open, its entries.  A reused struct keeps its
 * memory; start with {0}, end with seg_sample_free. */
struct seg_sample {
	char key[SEG_KEY + 1];     /* after open */
	struct seg_member *member; /* packed members, in order */
	int nmember, cmember;
	struct seg_entry *entry;   /* after open, in order */
	int nentry, centry;
	void *mem[SEG_MAXMEMBER];  /* inflated members that entries point into; owned */
	size_t cmem[SEG_MAXMEMBER];
	char *raw;                 /* scratch of seg_sample_pack */
	size_t craw;
	uint64_t number;           /* index in its stream */
	unsigned char digest[32];  /* free for a filter's each to leave seg_print_sample's result for after */
};
void seg_sample_free(struct seg_sample *s);
void seg_sample_clear(struct seg_sample *s); /* empty, memory kept where that is useful */

/* Inflate and check everything; entries become readable.  Truth of other integer types is |u1 or
 * <u2 afterwards.  A sample that is open stays as it is.  Thread-safe for different samples.
 * SEG_ECORRUPT with the sample's number and key. */
int seg_sample_open(struct seg_sample *s);
/* The entry of that suffix, or NULL.  Borrowed. */
struct seg_entry *seg_sample_find(const struct seg_sample *s, const char *suffix);
const struct seg_tensor *seg_sample_tensor(const struct seg_sample *s, const char *suffix); /* or NULL */
/* Add an entry (takes t->data / bytes on success and failure alike), or replace the one of that
 * name: then its whole member is packed anew. */
int seg_sample_put(struct seg_sample *s, const char *suffix, struct seg_tensor *t);
int seg_sample_put_bytes(struct seg_sample *s, const char *suffix, char *bytes, size_t nbytes);
int seg_sample_drop(struct seg_sample *s, const char *suffix); /* remove an entry if there */
/* KEY.json as an object (empty if absent) that the caller frees; and back. */
struct seg_json *seg_sample_json(const struct seg_sample *s);
int seg_sample_set_json(struct seg_sample *s, const struct seg_json *j);
/* Rename: every member is packed anew. */
int seg_sample_rekey(struct seg_sample *s, const char *key);
/* Deflate what is new: images, truth and json share a member, each float tensor has its own.
 * level 0..12, or -1 for the default (1; float tensors stored).  Thread-safe for different
 * samples.  Afterwards the sample can be written. */
int seg_sample_pack(struct seg_sample *s, int level);

/* Append a copy of a packed member to a sample that is not open: for those who carry samples. */
int seg_sample_add_member(struct seg_sample *s, const struct seg_member *m);

/* KEY from any id: bytes outside [A-Za-z0-9_/-] become _ and 8 hex digits of the id's hash are
 * appended; extra ("_p3", "_e7", "" ) follows; the whole is cut to fit 80. */
void seg_key(const char *id, const char *extra, char key[SEG_KEY + 1]);

/* What samples a stream holds, at a glance: their number, the length and the CRC-32 of their inflated
 * bytes in order, whatever the compression. */
struct seg_content {
	uint64_t samples, nbytes;
	uint32_t crc;
};
/* One more sample, packed. */
void seg_content_add(struct seg_content *c, const struct seg_sample *s);

/* What a reader accepts before it allocates; zero fields take the defaults. */
struct seg_limits {
	size_t sample_bytes;  /* inflated, 4 GiB */
	size_t samples;       /* 2^31 */
	size_t header_bytes;  /* 64 KiB; 1 MiB for models */
	size_t cache_bytes;   /* of an index's spool, in memory; past it $TMPDIR: 256 MiB */
};

struct seg_reader;
/* path NULL or "-": stdin.  Reads the header.  *r is NULL on failure.  An empty input is
 * SEG_ECORRUPT.  limits: NULL for the defaults.  Here and in all functions that take a path, the
 * reason of a failure begins with the file's name. */
int seg_reader_open(struct seg_reader **r, const char *path, const struct seg_limits *limits);
const struct seg_header *seg_reader_header(const struct seg_reader *r); /* borrowed until close */
const char *seg_reader_name(const struct seg_reader *r);                /* path or "<stdin>" */
/* 1: the next sample, packed (checked against its framing CRC, not inflated); 0: END was seen and
 * all of its checks hold, and input is at its end; < 0: SEG_ECORRUPT and kin.  Concatenated
 * streams continue as one.  Without framing samples come already open. */
int seg_read(struct seg_reader *r, struct seg_sample *s);
void seg_reader_close(struct seg_reader *r);

struct seg_writer;
/* path NULL or "-": stdout; else a file that appears at close only.  Writes the header (copied). */
int seg_writer_open(struct seg_writer **w, const char *path, const struct seg_header *h);
/* Writes a packed sample (packs it at the default level if needed).  Adjacent equal keys: error. */
int seg_write(struct seg_writer *w, struct seg_sample *s);
/* END, flush, rename; stdout stays open (cmd_close closes and checks it).  Frees w whatever happens. */
int seg_writer_close(struct seg_writer *w);
/* No END: what was written is seen to be broken; a named file is removed.  NULL allowed. */
void seg_writer_abort(struct seg_writer *w);

/* The shape of every filter: read, call each in parallel, write in order; END only if all was
 * well.  in/out as above; out NULL-able pointers mean stdin/stdout. */
struct seg_filter {
	const char *in, *out;           /* NULL: stdin, stdout; out "" : no output at all (a sink) */
	int threads, level; /* level as of seg_sample_pack: -1, not 0, is the default */
	const struct seg_limits *limits;
	/* Look at and change the header before it is written; may be NULL. */
	int (*header)(void *arg, struct seg_header *h);
	/* The sample is open.  1: pass on, 0: drop, < 0: fail.  Parallel.  t: thread. */
	int (*each)(void *arg, struct seg_sample *s, int t);
	/* Called in order after each, with its result (0 or 1); for sinks that gather; may be NULL. */
	int (*after)(void *arg, struct seg_sample *s, int keep);
	/* Called when END of the input was seen: the input's header, now with the provenance of all
	 * parts of a concatenation; may be NULL. */
	int (*end)(void *arg, const struct seg_header *h);
	void *arg;
};
int seg_filter(const struct seg_filter *f);

/* Random access: where each sample of a file lies, found by hopping from member to member without
 * inflating.  path NULL or "-": stdin.  A pipe, and a file without framing, is read to its END and
 * spooled instead.  Thread-safe reads (pread). */
struct seg_index;
int seg_index_open(struct seg_index **x, const char *path, const struct seg_limits *limits);
/* n files as if they were one after another in one; their headers must agree. */
int seg_index_open_all(struct seg_index **x, const char *const *path, int n, const struct seg_limits *limits);
/* Write FILE.idx beside each file of `least` samples or more that has none yet, where that is possible:
 * seg_index_open will read it instead of hopping through the file.  An index of another file is ignored. */
void seg_index_keep(const struct seg_index *x, size_t least);
const struct seg_header *seg_index_header(const struct seg_index *x);
size_t seg_index_count(const struct seg_index *x);
struct seg_content seg_index_content(const struct seg_index *x);
int seg_index_read(const struct seg_index *x, size_t i, struct seg_sample *s); /* packed and checked */
void seg_index_close(struct seg_index *x);

/* Samples put aside, packed as they are: in memory up to `cache` bytes, beyond that in a file in
 * $TMPDIR (or /tmp) that has no name.  What a program that reads stdin twice needs. */
struct seg_spool;
int seg_spool_new(struct seg_spool **p, size_t cache);
/* Append (copies; packs the sample at the default level if needed). */
int seg_spool_add(struct seg_spool *p, struct seg_sample *s);
size_t seg_spool_count(const struct seg_spool *p);
/* Sample i, packed; thread-safe once nothing is added any more. */
int seg_spool_read(const struct seg_spool *p, size_t i, struct seg_sample *s);
void seg_spool_free(struct seg_spool *p);

/* Which samples go to the held-out side: those of the first round(share * n) of the n source images
 * in order of SHA-256 of "SEED NAME".  The source is "source" of KEY.json, else the KEY without
 * page, window, epoch and copy suffix.  held, one byte for each sample, receives 0 or 1; *nsource
 * and *nheld count source images.  Opens (and so verifies) every sample.  SEG_EDATA if a side would be
 * empty, or two samples of one key adjacent. */
int seg_hold_out(const struct seg_index *x, double share, uint64_t seed, int threads, unsigned char *held,
    size_t *nsource, size_t *nheld);

/* Fingerprints (SHA-256 over per-record digests in order; name, dtype, shape, data, canonical
 * JSON; header without provenance): add the header, then every open sample. */
struct seg_print {
	struct seg_sha256 *state;
};
int seg_print_start(struct seg_print *p, const struct seg_header *h);
/* Digest of one open sample; thread-safe. */
void seg_print_sample(const struct seg_sample *s, unsigned char digest[32]);
void seg_print_add(struct seg_print *p, const unsigned char digest[32]);
void seg_print_end(struct seg_print *p, char hex[65]);

/* 1: zlib data (RFC 1950) that give exactly n bytes, now in raw, with the right checksum.  0: they do not,
 * or it is not known, where there is no libdeflate. */
int seg_zlib_exact(const void *in, size_t nin, void *raw, size_t n);

#endif
