/* Whole reads and writes, and files that appear only when complete. */
#ifndef SEG_FILE_H
#define SEG_FILE_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Read until n bytes or end of file; EINTR and short reads are continued.
 * Returns the bytes read (< n only at end of file), or a negative code. */
ssize_t seg_read_full(int fd, void *p, size_t n);

/* Write all n bytes.  SEG_EPIPE when the reader has gone. */
int seg_write_full(int fd, const void *p, size_t n);

/* From now on a thread takes what the pipe fd gives, up to `most` bytes ahead of whoever reads fd, which has
 * become the end of another pipe.  For a writer that is not to be kept waiting.  What cannot be read, or
 * finds no memory, ends the pipe.  After a failure fd is not to be used. */
int seg_read_ahead(int fd, size_t most);

/* A whole file as a NUL-terminated block the caller frees; files over limit bytes are refused.
 * *n, if not NULL, receives the length without the NUL. */
char *seg_read_file(const char *path, size_t limit, size_t *n);

/* A file that gets its name only when complete: write to f.fd or f.fp, then commit (flush,
 * fsync, rename, fsync of the directory) or discard (the temporary file is removed).
 * path is copied.  Devices, pipes and other non-regular files are written directly.
 * A temporary file is removed by the signals that end a process, too (seg_new_cleanup). */
struct seg_new {
	char *path, *tmp;
	int fd;
	FILE *fp; /* NULL until seg_new_stdio */
};
int seg_new_open(struct seg_new *f, const char *path);
int seg_new_stdio(struct seg_new *f); /* sets fp over fd */
int seg_new_commit(struct seg_new *f);
void seg_new_discard(struct seg_new *f);

/* Unlink every temporary file now open; async-signal-safe, for a command's signal handler. */
void seg_new_cleanup(void);

/* Make a directory (parents must exist) unless it is there. */
int seg_mkdir(const char *path);

/* Names in a directory without . and .., sorted by bytes (never in disk order).
 * *names is one block to free with seg_list_free. */
int seg_list_dir(const char *path, char ***names, size_t *n);
void seg_list_free(char **names, size_t n);

#endif
