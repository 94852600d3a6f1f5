/* The few parts of tar we need.  Written: plain ustar (POSIX.1-1988), regular files, mode 0644,
 * everything else 0.  Read: ustar, old tar, GNU and pax long names, base-256 sizes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stream/inner.h"
#include "seg/err.h"

/* Offsets in a header block. */
enum { T_MODE = 100, T_UID = 108, T_GID = 116, T_SIZE = 124, T_MTIME = 136, T_SUM = 148, T_TYPE = 156,
       T_MAGIC = 257, T_PREFIX = 345 };

static unsigned sum(const char block[BLOCK])
{
	unsigned s = 0;
	for (int i = 0; i < BLOCK; i++)
		s += i >= T_SUM && i < T_SUM + 8 ? ' ' : (unsigned char)block[i];
	return s;
}

int tar_head(char block[BLOCK], const char *name, size_t n)
{
	if (n > 077777777777)
		return seg_fail(SEG_EDATA, "%s: %zu bytes, an entry holds at most 8 GiB", name, n);
	memset(block, 0, BLOCK);
	snprintf(block, 100, "%s", name);
	strcpy(block + T_MODE, "0000644");
	strcpy(block + T_UID, "0000000");
	strcpy(block + T_GID, "0000000");
	sprintf(block + T_SIZE, "%011zo", n);
	strcpy(block + T_MTIME, "00000000000");
	block[T_TYPE] = '0';
	memcpy(block + T_MAGIC, "ustar\00000", 8);
	sprintf(block + T_SUM, "%06o", sum(block));
	block[T_SUM + 7] = ' ';
	return SEG_OK;
}

int tar_zero(const char block[BLOCK])
{
	return block[0] == 0 && memcmp(block, block + 1, BLOCK - 1) == 0;
}

/* Octal digits between blanks, ended by blank, NUL or the field's end. */
static int octal(const char *p, int n, size_t *v)
{
	int i = 0, digits = 0;
	*v = 0;
	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++, digits++)
		*v = *v << 3 | (size_t)(p[i] - '0'); /* at most 12 digits */
	return digits > 0 && (i == n || p[i] == ' ' || p[i] == 0);
}

/* GNU: first byte 0x80, then the number, most significant byte first. */
static int base256(const char *p, int n, size_t *v)
{
	*v = 0;
	if (p[0] != (char)0x80)
		return 0;
	for (int i = 1; i < n; i++) {
		if (*v >> 55)
			return 0;
		*v = *v << 8 | (unsigned char)p[i];
	}
	return 1;
}

int tar_size(const char block[BLOCK], char *type, size_t *n)
{
	size_t want;
	if (!octal(block + T_SUM, 8, &want) || want != sum(block))
		return seg_fail(SEG_ECORRUPT, "not a tar header, or its checksum is wrong");
	*type = block[T_TYPE];
	int rc = (unsigned char)block[T_SIZE] & 0x80 ? base256(block + T_SIZE, 12, n) : octal(block + T_SIZE, 12, n);
	if (!rc)
		return seg_fail(SEG_ECORRUPT, "%.100s: size is not a number", block);
	if (*n > SIZE_MAX - BLOCK)
		return seg_fail(SEG_ECORRUPT, "%.100s: says %zu bytes", block, *n);
	if (*type == '5')
		*n = 0; /* directories have no data, whatever they say */
	return SEG_OK;
}

int tar_extends(char type)
{
	return type == 'x' || type == 'g' || type == 'L' || type == 'K';
}

static int long_name(char name[NAME + 1], const char *p, size_t n)
{
	if (n > NAME)
		return seg_fail(SEG_ECORRUPT, "a name of %zu bytes, at most %d are possible: %.40s...", n, NAME, p);
	memcpy(name, p, n);
	name[n] = 0;
	return SEG_OK;
}

/* Name of a ustar block: prefix/name. */
static int short_name(char name[NAME + 1], const char block[BLOCK])
{
	char whole[257];
	size_t n = 0;
	if (!memcmp(block + T_MAGIC, "ustar\0", 6) && block[T_PREFIX]) {
		n = strnlen(block + T_PREFIX, 155);
		memcpy(whole, block + T_PREFIX, n);
		whole[n++] = '/';
	}
	size_t m = strnlen(block, 100);
	memcpy(whole + n, block, m);
	whole[n + m] = 0;
	return long_name(name, whole, n + m);
}

/* pax records, "LENGTH KEY=VALUE\n": path is the name; a size must be the one in the header. */
static int pax(const char *p, size_t n, char name[NAME + 1], size_t *size)
{
	for (const char *end = p + n; p < end;) {
		size_t len = 0;
		const char *q = p;
		while (q < end && *q >= '0' && *q <= '9' && len < n)
			len = len * 10 + (size_t)(*q++ - '0');
		const char *eq = q < end && *q == ' ' && len > (size_t)(q - p) && len <= (size_t)(end - p)
		    ? memchr(q, '=', len - (size_t)(q - p)) : NULL;
		if (!eq || p[len - 1] != '\n')
			return seg_fail(SEG_ECORRUPT, "pax header is damaged");
		const char *value = eq + 1;
		size_t nkey = (size_t)(eq - ++q), nvalue = (size_t)(p + len - 1 - value);
		if (nkey == 4 && !memcmp(q, "path", 4)) {
			if (long_name(name, value, nvalue) < 0)
				return SEG_ECORRUPT;
		} else if (nkey == 4 && !memcmp(q, "size", 4)) {
			*size = strtoull(value, NULL, 10); /* ends at the newline */
		} else if (nkey >= 11 && !memcmp(q, "GNU.sparse.", 11)) {
			return seg_fail(SEG_ECORRUPT, "sparse entries are not read; write the archive without --sparse");
		}
		p += len;
	}
	return SEG_OK;
}

static int refuse(char type, const char *name)
{
	const char *what = type == '1' || type == '2' ? "a link" : type == 'S' ? "sparse"
	    : type >= '3' && type <= '6' ? "a device" : "of unknown type";
	return seg_fail(SEG_ECORRUPT, "entry '%s' is %s; only plain files are read", name, what);
}

int tar_next(char *raw, size_t n, size_t *off, struct tar_entry *e)
{
	size_t pax_size = SIZE_MAX;
	e->name[0] = 0;
	while (*off < n) {
		char *block = raw + *off, type;
		size_t size;
		if (n - *off < BLOCK)
			return seg_fail(SEG_ECORRUPT, "%zu bytes behind the last tar block", n - *off);
		if (tar_zero(block)) {
			*off += BLOCK;
			continue;
		}
		int rc = tar_size(block, &type, &size);
		if (rc < 0)
			return rc;
		if (tar_padded(size) > n - *off - BLOCK)
			return seg_fail(SEG_ECORRUPT, "%.100s: says %zu bytes, %zu are there", block, size, n - *off - BLOCK);
		*off += BLOCK + tar_padded(size);
		if (type == 'x')
			rc = pax(block + BLOCK, size, e->name, &pax_size);
		else if (type == 'L')
			rc = long_name(e->name, block + BLOCK, strnlen(block + BLOCK, size));
		if (rc < 0)
			return rc;
		if (tar_extends(type))
			continue;
		if (!e->name[0] && type != '5' && short_name(e->name, block) < 0)
			return SEG_ECORRUPT;
		if (type != '0' && type != 0 && type != '7' && type != '5')
			return refuse(type, e->name);
		if (pax_size != SIZE_MAX && pax_size != size)
			return seg_fail(SEG_ECORRUPT, "%s: pax size %zu is not the header's %zu", e->name, pax_size, size);
		if (type == '5') {
			e->name[0] = 0;
			continue;
		}
		e->data = block + BLOCK;
		e->n = size;
		return 1;
	}
	return 0;
}
