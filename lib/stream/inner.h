/* What the files of lib/stream share and nobody else needs: members, tar entries, header and END. */
#ifndef STREAM_INNER_H
#define STREAM_INNER_H

#include <sys/types.h>

#include "seg/mem.h"
#include "seg/stream.h"

/* ---- codec.c: gzip members.  The door to zlib and libdeflate. ---- */

/* A framed member is 40 bytes of gzip header, deflated data, CRC-32 and size of the inflated
 * bytes.  Bytes 16.. of the header are the subfield SG of seg-stream(5). */
enum { FRAME = 40, TRAILER = 8 };
enum { FLAG_FIRST = 1, FLAG_HEADER = 2, FLAG_END = 4 };
struct frame {
	uint64_t ngz, nraw;
	uint32_t flags, crc;
};
/* 1: p[FRAME] begins a framed member; 0: it does not. */
int frame_parse(const unsigned char *p, struct frame *f);
/* SEG_ECORRUPT, before anything is allocated: more than limit inflated bytes, or a ratio that deflate
 * cannot have (at best 1032:1, at worst stored). */
int frame_limit(const struct frame *f, size_t limit);

/* m->gz, m->cgz are reused.  level 0..12. */
int member_pack(struct seg_member *m, const void *raw, size_t nraw, int level, uint32_t flags);
/* m->gz[m->ngz] against its frame; sets nraw and crc.  SEG_ECORRUPT. */
int member_check(struct seg_member *m);
/* raw has room for m->nraw bytes.  SEG_ECORRUPT. */
int member_inflate(const struct seg_member *m, void *raw);
/* Another flag: frame and its CRC are rewritten if it differs. */
void member_flags(struct seg_member *m, uint32_t flags);
int member_room(struct seg_member *m, size_t nbytes);

uint32_t crc_add(uint32_t crc, const void *p, size_t n);
uint32_t crc_join(uint32_t a, uint32_t b, size_t nb);

/* gzip files without framing, one piece after another. */
struct gunzip;
struct gunzip *gunzip_new(void);
void gunzip_free(struct gunzip *g);
void gunzip_reset(struct gunzip *g);
/* Inflate from in[*nin] to out[*nout]; both receive what was used.  1: the member is at its end
 * and its checks hold; 0: go on; < 0: SEG_ECORRUPT. */
int gunzip_step(struct gunzip *g, const unsigned char *in, size_t *nin, void *out, size_t *nout);

/* ---- tar.c ---- */

enum { BLOCK = 512, NAME = SEG_KEY + 1 + SEG_SUFFIX };
struct tar_entry {
	char name[NAME + 1];
	char *data;
	size_t n;
};
static inline size_t tar_padded(size_t n) { return (n + BLOCK - 1) / BLOCK * BLOCK; }
int tar_head(char block[BLOCK], const char *name, size_t n);
/* Is this block all zero? */
int tar_zero(const char block[BLOCK]);
/* Type and size of the entry this block begins; its checksum holds.  SEG_ECORRUPT. */
int tar_size(const char block[BLOCK], char *type, size_t *n);
/* Does an entry of this type only describe the next one (pax, GNU long name)? */
int tar_extends(char type);
/* The next regular entry in raw[n] from *off on; zero blocks and directories are passed over.
 * 1; 0 at the end; SEG_ECORRUPT. */
int tar_next(char *raw, size_t n, size_t *off, struct tar_entry *e);

/* ---- header.c ---- */

#define HEADER_NAME "__seg__/header.json"
#define END_NAME "__seg__/end.json"
enum { HEADER_BYTES = 64 << 10, MODEL_HEADER_BYTES = 1 << 20 };

/* *framing: 1 if the header promises framed members. */
int header_parse(const char *text, size_t n, struct seg_header *h, int *framing);
/* JSON with framing and provenance (whole) or without both (for fingerprints); caller frees. */
char *header_text(const struct seg_header *h, int whole); /* whole: seg_header_text */
/* May b follow a in one stream?  SEG_EDATA says what differs. */
int header_agree(const struct seg_header *a, const struct seg_header *b);
/* Add what is not there yet; folds the oldest when it grows too long. */
int header_merge(struct seg_header *h, const struct seg_json *provenance);
/* SEG_ECORRUPT unless [A-Za-z0-9_/-]{1,80}, no leading /, not of __seg__/. */
int key_check(const char *key, size_t n);

/* ---- sample.c ---- */

/* Entries of raw[n], a whole run of tar bytes that the sample owns, as member `member`. */
int sample_parse(struct seg_sample *s, char *raw, size_t n, int member);
/* Types and shapes of the entries fit what seg-stream(5) says of their names; truth of other
 * integer types becomes |u1 or <u2 in place. */
int sample_check(struct seg_sample *s);
/* Room for mem[i]. */
int sample_mem(struct seg_sample *s, int i, size_t nbytes);
/* Member number nmember, empty, its buffer reused. */
struct seg_member *sample_member(struct seg_sample *s);

/* ---- part.c: what is between a header and its END, whoever reads it ---- */

struct part {
	struct seg_header h;   /* of the first part, provenance of all */
	int have, open;        /* a header was seen; between header and END */
	int framing;
	uint64_t nparts, count, total; /* samples in this part, in all */
	uint32_t crc;          /* of the inflated bytes since the header */
	struct seg_content all; /* of all parts */
	size_t header_limit, sample_limit, max_samples;
};
void part_start(struct part *p, const struct seg_limits *l);
void part_free(struct part *p);
/* Tar bytes of a header, of an END: SEG_ECORRUPT, SEG_EDATA. */
int part_header(struct part *p, char *raw, size_t n, int framed);
int part_end(struct part *p, char *raw, size_t n);
/* A framed header or END, checked; most bytes one may inflate to. */
int part_json(struct part *p, const struct seg_member *m, uint32_t flags);
size_t part_json_limit(const struct part *p);
void part_bytes(struct part *p, uint32_t crc, size_t n);
int part_sample(struct part *p); /* one more */
int part_samples(struct part *p, struct seg_content all); /* all of this part at once */
void part_join(struct part *p, struct seg_content more); /* to what is in all parts */

/* ---- spool.c: bytes with samples in them, also those of an indexed file ---- */

struct place {
	uint64_t off, n, number;
};
struct seg_spool {
	size_t cache;
	struct seg_buf mem;  /* the first bytes */
	int fd;              /* the others; -1: none */
	uint64_t nbytes;     /* in all */
	struct place *place;
	size_t count, room;
};
int spool_place(struct seg_spool *p, uint64_t off, uint64_t number);
int spool_fetch(const struct seg_spool *p, uint64_t off, void *to, size_t n);
/* The member of n bytes at off, checked. */
int spool_member(const struct seg_spool *p, uint64_t off, size_t n, struct seg_member *m);

/* ---- table.c: what an index knows of a file, kept in FILE.idx ---- */

struct stretch { /* one part of a file: places and bytes of header and END, its samples */
	uint64_t header, nheader, end, nend, samples, nbytes, crc;
};
struct table {
	struct stretch *part;
	size_t nparts;
	uint64_t largest; /* sample, inflated bytes */
};
/* 1: at's samples are placed and *t is filled as path.idx says; 0: there is none, it is of another file, or
 * a sample is larger than limit. */
int table_read(const char *path, struct seg_spool *at, size_t limit, struct table *t);
int table_write(const char *path, const struct seg_spool *at, const struct table *t);

/* ---- reader.c ---- */

struct seg_content reader_content(const struct seg_reader *r); /* of what was read so far */

/* ---- writer.c ---- */

/* Provenance that END adds to the header's: of parts that came later.  Copied. */
int writer_also(struct seg_writer *w, const struct seg_json *provenance, size_t from);
const char *writer_name(const struct seg_writer *w);

#endif
