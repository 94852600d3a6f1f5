/* Whole reads and writes, and files that appear only when complete. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "seg/err.h"
#include "seg/file.h"
#include "seg/mem.h"

ssize_t seg_read_full(int fd, void *p, size_t n)
{
	size_t done = 0;
	while (done < n) {
		ssize_t r = read(fd, (char *)p + done, n - done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return seg_fail_sys("read");
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int seg_write_full(int fd, const void *p, size_t n)
{
	size_t done = 0;
	while (done < n) {
		ssize_t r = write(fd, (const char *)p + done, n - done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return seg_fail_sys("write");
		done += (size_t)r;
	}
	return SEG_OK;
}

char *seg_read_file(const char *path, size_t limit, size_t *n)
{
	struct seg_buf b = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		seg_fail_sys("%s", path);
		return NULL;
	}
	for (;;) {
		if (seg_buf_need(&b, 65536) < 0)
			goto bad;
		ssize_t r = seg_read_full(fd, b.data + b.n, b.cap - b.n - 1);
		if (r < 0) {
			seg_where(SEG_EDATA, "%s", path);
			goto bad;
		}
		b.n += (size_t)r;
		if (b.n > limit) {
			seg_fail(SEG_EDATA, "%s: larger than the limit of %zu bytes", path, limit);
			goto bad;
		}
		if (r == 0)
			break;
	}
	close(fd);
	b.data[b.n] = 0;
	if (n)
		*n = b.n;
	return b.data;
bad:
	close(fd);
	free(b.data);
	return NULL;
}

/* Temporary files now open, for the signal handler: fixed places, no allocation. */
enum { NTMP = 16, TMPLEN = 4096 };
static char live[NTMP][TMPLEN];

static void live_add(const char *tmp)
{
	for (int i = 0; i < NTMP; i++)
		if (!live[i][0] && strlen(tmp) < TMPLEN) {
			memcpy(live[i] + 1, tmp + 1, strlen(tmp)); /* name whole before it is seen */
			__atomic_store_n(&live[i][0], tmp[0], __ATOMIC_RELEASE);
			return;
		}
}

static void live_remove(const char *tmp)
{
	for (int i = 0; i < NTMP; i++)
		if (live[i][0] && !strcmp(live[i], tmp))
			__atomic_store_n(&live[i][0], 0, __ATOMIC_RELEASE);
}

void seg_new_cleanup(void)
{
	for (int i = 0; i < NTMP; i++)
		if (__atomic_load_n(&live[i][0], __ATOMIC_ACQUIRE))
			unlink(live[i]);
}

int seg_new_open(struct seg_new *f, const char *path)
{
	struct stat st;
	*f = (struct seg_new){.fd = -1};
	f->path = seg_strdup(path);
	if (!f->path)
		return SEG_ENOMEM;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		f->fd = open(path, O_WRONLY | O_CLOEXEC);
	} else {
		f->tmp = seg_format("%s.XXXXXX.tmp", path);
		if (!f->tmp)
			goto bad;
		f->fd = mkostemps(f->tmp, 4, O_CLOEXEC);
		if (f->fd >= 0) {
			mode_t mask = umask(0);
			umask(mask);
			fchmod(f->fd, 0666 & ~mask); /* mkostemps gives 0600 */
			live_add(f->tmp);
		}
	}
	if (f->fd >= 0)
		return SEG_OK;
	seg_fail_sys("%s: cannot write", path);
	free(f->tmp);
	f->tmp = NULL; /* nothing to unlink */
bad:
	free(f->path);
	*f = (struct seg_new){.fd = -1};
	return SEG_EDATA;
}

int seg_new_stdio(struct seg_new *f)
{
	f->fp = fdopen(f->fd, "w");
	return f->fp ? SEG_OK : seg_fail_sys("%s", f->path);
}

static int sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	if (!dir)
		return seg_fail(SEG_ENOMEM, "out of memory");
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (fd < 0)
		return seg_fail_sys("%s: directory", path);
	int rc = fsync(fd);
	if (rc < 0 && errno == EINVAL)
		rc = 0; /* some file systems cannot sync a directory */
	close(fd);
	return rc < 0 ? seg_fail_sys("%s: directory", path) : SEG_OK;
}

int seg_new_commit(struct seg_new *f)
{
	int rc = SEG_OK;
	if (f->fp && fflush(f->fp) != 0)
		rc = seg_fail_sys("%s: write", f->path);
	if (rc == SEG_OK && f->tmp && fsync(f->fd) < 0)
		rc = seg_fail_sys("%s: fsync", f->path);
	int bad = f->fp ? fclose(f->fp) : close(f->fd);
	f->fp = NULL;
	f->fd = -1;
	if (rc == SEG_OK && bad)
		rc = seg_fail_sys("%s: close", f->path);
	if (rc == SEG_OK && f->tmp && rename(f->tmp, f->path) < 0)
		rc = seg_fail_sys("%s: rename", f->path);
	if (rc == SEG_OK && f->tmp) {
		live_remove(f->tmp);
		free(f->tmp);
		f->tmp = NULL;
		rc = sync_parent(f->path);
	}
	seg_new_discard(f);
	return rc;
}

void seg_new_discard(struct seg_new *f)
{
	if (f->fp)
		fclose(f->fp);
	else if (f->fd >= 0 && f->path)
		close(f->fd);
	if (f->tmp) {
		unlink(f->tmp);
		live_remove(f->tmp);
	}
	free(f->tmp);
	free(f->path);
	*f = (struct seg_new){.fd = -1};
}

int seg_mkdir(const char *path)
{
	struct stat st;
	if (mkdir(path, 0777) == 0)
		return SEG_OK;
	if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return SEG_OK;
	return seg_fail_sys("%s: cannot make the directory", path);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int seg_list_dir(const char *path, char ***names, size_t *n)
{
	struct seg_buf b = {0};
	size_t count = 0;
	int rc = SEG_OK;
	struct dirent *e;
	DIR *d = opendir(path);
	*names = NULL;
	*n = 0;
	if (!d)
		return seg_fail_sys("%s", path);
	while (rc == SEG_OK && (errno = 0, e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		char *s = seg_strdup(e->d_name);
		rc = s ? seg_buf_add(&b, &s, sizeof s) : SEG_ENOMEM;
		if (rc == SEG_OK)
			count++;
		else
			free(s);
	}
	if (rc == SEG_OK && errno)
		rc = seg_fail_sys("%s", path);
	closedir(d);
	if (rc < 0) {
		seg_list_free((char **)b.data, count);
		return rc;
	}
	if (count)
		qsort(b.data, count, sizeof(char *), by_bytes);
	*names = (char **)b.data;
	*n = count;
	return SEG_OK;
}

void seg_list_free(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}
