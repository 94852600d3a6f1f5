/* Checked allocation. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "seg/err.h"
#include "seg/mem.h"

static int product(size_t n, size_t size, size_t *out)
{
	if (__builtin_mul_overflow(n, size, out) || *out > PTRDIFF_MAX - 64)
		return seg_fail(SEG_ENOMEM, "out of memory: %zu x %zu bytes", n, size);
	if (*out == 0)
		*out = 1;
	return SEG_OK;
}

void *seg_alloc(size_t n, size_t size)
{
	size_t nbytes;
	if (product(n, size, &nbytes) < 0)
		return NULL;
	void *p = calloc(nbytes, 1);
	if (!p)
		seg_fail(SEG_ENOMEM, "out of memory: %zu bytes", nbytes);
	return p;
}

void *seg_realloc(void *old, size_t n, size_t size)
{
	size_t nbytes;
	if (product(n, size, &nbytes) < 0)
		return NULL;
	void *p = realloc(old, nbytes);
	if (!p)
		seg_fail(SEG_ENOMEM, "out of memory: %zu bytes", nbytes);
	return p;
}

void *seg_alloc_aligned(size_t n, size_t size)
{
	enum { HUGE_PAGE = 2 << 20, FRESH = 32 << 20 };
	size_t nbytes;
	if (product(n, size, &nbytes) < 0)
		return NULL;
	size_t align = nbytes >= HUGE_PAGE ? HUGE_PAGE : 64;
	size_t whole = (nbytes + align - 1) / align * align;
	void *p = aligned_alloc(align, whole);
	if (!p) {
		seg_fail(SEG_ENOMEM, "out of memory: %zu bytes", nbytes);
		return NULL;
	}
	if (align == HUGE_PAGE)
		madvise(p, whole, MADV_HUGEPAGE); /* a hint: refusal costs only speed */
	/* From 32 MiB on malloc has just got the pages from the system, which zeroes a page when it is first
	 * touched: once, and on the thread that works on it.  This makes sure. */
	if (nbytes >= FRESH && madvise(p, whole, MADV_DONTNEED) == 0)
		return p;
	return memset(p, 0, whole);
}

char *seg_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = seg_alloc(n, 1);
	return p ? memcpy(p, s, n) : NULL;
}

char *seg_format(const char *fmt, ...)
{
	char *p;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (n < 0) {
		seg_fail(SEG_ENOMEM, "out of memory");
		return NULL;
	}
	return p;
}

int seg_buf_need(struct seg_buf *b, size_t more)
{
	if (b->cap - b->n >= more)
		return SEG_OK;
	size_t want = b->n + more;
	if (want < b->n)
		return seg_fail(SEG_ENOMEM, "out of memory: %zu more bytes", more);
	if (want < 2 * b->cap)
		want = 2 * b->cap;
	char *p = seg_realloc(b->data, want, 1);
	if (!p)
		return SEG_ENOMEM;
	b->data = p;
	b->cap = want;
	return SEG_OK;
}

int seg_buf_add(struct seg_buf *b, const void *p, size_t n)
{
	if (seg_buf_need(b, n) < 0)
		return SEG_ENOMEM;
	if (n)
		memcpy(b->data + b->n, p, n);
	b->n += n;
	return SEG_OK;
}

int seg_buf_printf(struct seg_buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || seg_buf_need(b, (size_t)n + 1) < 0)
		return SEG_ENOMEM;
	va_start(ap, fmt);
	vsnprintf(b->data + b->n, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->n += (size_t)n; /* the NUL behind is not counted: data reads as a string */
	return SEG_OK;
}
