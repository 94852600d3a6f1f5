/* The .npy format of NumPy (NEP 1): a magic, a version, the text of a Python dict, the data. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/file.h"
#include "seg/mem.h"
#include "seg/tensor.h"

static const char magic[6] = "\x93NUMPY";

int seg_npy_head(const struct seg_tensor *t, char **head, size_t *n)
{
	char shape[SEG_MAXDIM * 22 + 2] = "", *p = shape;
	for (int i = 0; i < t->ndim; i++)
		p += sprintf(p, i + 1 == t->ndim && i > 0 ? "%zu" : "%zu, ", t->dim[i]);
	if (t->ndim == 1)
		p[-1] = 0; /* "3," */
	char *dict = seg_format("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
	    seg_dtype_text(t->dtype), shape);
	if (!dict)
		return SEG_ENOMEM;
	size_t len = strlen(dict), whole = (10 + len + 1 + 63) / 64 * 64;
	*head = seg_alloc(whole, 1);
	if (*head) {
		memset(*head, ' ', whole);
		memcpy(*head, magic, 6);
		memcpy(*head + 6, "\1\0", 2);
		(*head)[8] = (char)((whole - 10) & 255);
		(*head)[9] = (char)((whole - 10) >> 8);
		memcpy(*head + 10, dict, len);
		(*head)[whole - 1] = '\n';
		*n = whole;
	}
	free(dict);
	return *head ? SEG_OK : SEG_ENOMEM;
}

/* The dict, character by character. */
struct text {
	const char *p, *end;
};

static void blanks(struct text *x)
{
	while (x->p < x->end && (*x->p == ' ' || *x->p == '\n' || *x->p == '\t'))
		x->p++;
}

static int at(struct text *x, char c)
{
	blanks(x);
	return x->p < x->end && *x->p == c;
}

static int take(struct text *x, char c)
{
	int yes = at(x, c);
	x->p += yes;
	return yes;
}

static int word(struct text *x, const char *w)
{
	size_t n = strlen(w);
	blanks(x);
	if ((size_t)(x->end - x->p) < n || memcmp(x->p, w, n) != 0)
		return 0;
	x->p += n;
	return 1;
}

/* A quoted string without escapes. */
static int quoted(struct text *x, char *out, size_t room)
{
	blanks(x);
	if (x->p == x->end || (*x->p != '\'' && *x->p != '"'))
		return 0;
	char q = *x->p++;
	size_t n = 0;
	while (x->p < x->end && *x->p != q && n + 1 < room)
		out[n++] = *x->p++;
	out[n] = 0;
	return take(x, q);
}

static int number(struct text *x, size_t *v)
{
	blanks(x);
	const char *start = x->p;
	*v = 0;
	while (x->p < x->end && *x->p >= '0' && *x->p <= '9')
		if (__builtin_mul_overflow(*v, (size_t)10, v) ||
		    __builtin_add_overflow(*v, (size_t)(*x->p++ - '0'), v))
			return 0;
	return x->p > start;
}

static int shape(struct text *x, struct seg_tensor *t)
{
	if (!take(x, '('))
		return 0;
	for (t->ndim = 0; !take(x, ')'); t->ndim++) {
		if (t->ndim == SEG_MAXDIM || !number(x, &t->dim[t->ndim]))
			return 0;
		if (!take(x, ',')) {
			t->ndim++;
			return take(x, ')');
		}
	}
	return 1;
}

static int dtype(const char *descr, enum seg_dtype *d)
{
	for (int i = SEG_U1; i <= SEG_F8; i++)
		if (!strcmp(descr, seg_dtype_text((enum seg_dtype)i))) {
			*d = (enum seg_dtype)i;
			return SEG_OK;
		}
	return seg_fail(SEG_EDATA, "npy: type '%s' is not read; save a.astype('%s') instead", descr,
	    strchr(descr, 'f') ? "<f4" : strchr(descr, 'i') || strchr(descr, 'u') ? "<u2" : "|u1");
}

/* The dict of keys descr, fortran_order, shape, in any order. */
static int dict(const char *p, size_t n, struct seg_tensor *t)
{
	struct text x = {p, p + n};
	char key[16], descr[32] = "";
	int seen = 0, fortran = 0, bad = !take(&x, '{');
	while (!bad && !take(&x, '}')) {
		bad = !quoted(&x, key, sizeof key) || !take(&x, ':');
		if (bad)
			break;
		int which = !strcmp(key, "descr") ? 1 : !strcmp(key, "fortran_order") ? 2 : !strcmp(key, "shape") ? 4 : 0;
		bad = !which || seen & which;
		seen |= which;
		if (which == 1 && !quoted(&x, descr, sizeof descr))
			return seg_fail(SEG_EDATA, "npy: structured types are not read; save plain arrays");
		if (which == 2)
			bad |= !(fortran = word(&x, "True")) && !word(&x, "False");
		if (which == 4)
			bad |= !shape(&x, t);
		bad |= !take(&x, ',') && !at(&x, '}');
	}
	blanks(&x);
	if (bad || seen != 7 || x.p != x.end)
		return seg_fail(SEG_ECORRUPT, "npy: header is not understood (up to %d axes): %.*s", SEG_MAXDIM,
		    n > 100 ? 100 : (int)n, p);
	if (fortran)
		return seg_fail(SEG_EDATA, "npy: Fortran order; save numpy.ascontiguousarray(a) instead");
	return dtype(descr, &t->dtype);
}

int seg_npy_parse(const char *p, size_t n, size_t limit, struct seg_tensor *t)
{
	const unsigned char *u = (const unsigned char *)p;
	*t = (struct seg_tensor){0};
	if (n < 12 || memcmp(p, magic, 6) != 0)
		return seg_fail(SEG_ECORRUPT, "npy: not an .npy file (%zu bytes)", n);
	if (u[6] != 1 && u[6] != 2)
		return seg_fail(SEG_EDATA, "npy: version %d; versions 1 and 2 are read", u[6]);
	size_t head = u[6] == 1 ? 10 : 12;
	size_t len = u[6] == 1 ? u[8] | (size_t)u[9] << 8
	                       : u[8] | (size_t)u[9] << 8 | (size_t)u[10] << 16 | (size_t)u[11] << 24;
	if (len > n - head)
		return seg_fail(SEG_ECORRUPT, "npy: header says %zu bytes, %zu are there", len, n - head);
	int rc = dict(p + head, len, t);
	if (rc < 0)
		return rc;
	size_t size = seg_dtype_size(t->dtype), have = n - head - len;
	for (int i = 0; i < t->ndim; i++)
		if (__builtin_mul_overflow(size, t->dim[i], &size))
			return seg_fail(SEG_ECORRUPT, "npy: the shape is larger than memory can be");
	if (size > limit)
		return seg_fail(SEG_ECORRUPT, "npy: %zu bytes, the limit is %zu", size, limit);
	if (size != have)
		return seg_fail(SEG_ECORRUPT, "npy: the shape needs %zu bytes of data, %zu are there", size, have);
	t->data = (void *)(uintptr_t)(p + head + len);
	return SEG_OK;
}

int seg_npy_load(const char *path, struct seg_tensor *t)
{
	size_t n;
	struct seg_tensor in;
	char *p = seg_read_file(path, (size_t)1 << 40, &n);
	if (!p)
		return SEG_EDATA;
	int rc = seg_npy_parse(p, n, SIZE_MAX, &in);
	if (rc < 0)
		rc = seg_where(rc, "%s", path);
	else if ((rc = seg_tensor_new(t, in.dtype, in.ndim, in.dim)) == SEG_OK)
		memcpy(t->data, in.data, seg_tensor_nbytes(&in));
	free(p);
	return rc;
}

int seg_npy_save(const char *path, const struct seg_tensor *t)
{
	struct seg_new f;
	char *head;
	size_t n;
	int rc = seg_npy_head(t, &head, &n);
	if (rc < 0)
		return rc;
	rc = seg_new_open(&f, path);
	if (rc == SEG_OK && ((rc = seg_write_full(f.fd, head, n)) < 0 ||
	    (rc = seg_write_full(f.fd, t->data, seg_tensor_nbytes(t))) < 0)) {
		seg_where(rc, "%s", path);
		seg_new_discard(&f);
	} else if (rc == SEG_OK) {
		rc = seg_new_commit(&f);
	}
	free(head);
	return rc;
}
