/* Checked allocation.  Sizes are multiplied here and nowhere else. */
#ifndef SEG_MEM_H
#define SEG_MEM_H

#include <stddef.h>

/* n * size bytes, zeroed; never NULL for n = 0.  NULL: out of memory or the product overflows;
 * the reason is recorded (SEG_ENOMEM).  Free with free(). */
void *seg_alloc(size_t n, size_t size);

/* As realloc; new bytes are not zeroed.  On failure NULL, and p stays valid. */
void *seg_realloc(void *p, size_t n, size_t size);

/* As seg_alloc, but the address is a multiple of 64 bytes (a vector register, a cache line);
 * large blocks ask for huge pages. */
void *seg_alloc_aligned(size_t n, size_t size);

/* Copies of a string, or of a printf-made one; NULL when out of memory. */
char *seg_strdup(const char *s);
char *seg_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A growing run of bytes.  Start with {0}; free(b.data) at the end. */
struct seg_buf {
	char *data;
	size_t n, cap;
};
int seg_buf_need(struct seg_buf *b, size_t more); /* room for `more` bytes behind n */
int seg_buf_add(struct seg_buf *b, const void *p, size_t n);
int seg_buf_printf(struct seg_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
