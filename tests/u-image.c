/* lib/image: samples of odd depths, orientations, the map of values, pages written and read back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/file.h"

static void depths(void **state)
{
	(void)state;
	static const unsigned char bytes[] = {0xb2, 0x6d, 0x91, 0x00}; /* 10110010 01101101 10010001 */
	uint8_t u1[8];
	uint16_t u2[4];
	seg_sample_unpack(bytes, 4, 3, SEG_FORMAT_UINT, u1, 2);
	assert_int_equal(u1[0], 5);
	assert_int_equal(u1[2], 4);
	assert_int_equal(u1[4], 4);
	assert_int_equal(u1[6], 6);
	seg_sample_unpack(bytes, 2, 12, SEG_FORMAT_UINT, u2, 1);
	assert_int_equal(u2[0], 0xb26);
	assert_int_equal(u2[1], 0xd91);
	static const uint16_t h[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000}; /* Wikipedia, "Half-precision" */
	float f[6];
	seg_sample_unpack((const unsigned char *)h, 6, 16, SEG_FORMAT_FLOAT, f, 1);
	assert_true(f[0] == 1 && f[1] == -2 && f[2] == 0x1p-24f && f[3] == 65504 && isinf(f[4]) && f[5] == 0 && signbit(f[5]));
	assert_int_equal(seg_sample_type(17, SEG_FORMAT_UINT), -1);
	assert_int_equal(seg_sample_type(24, SEG_FORMAT_FLOAT), -1);
}

static void orientation(void **state)
{
	(void)state;
	/* where the corner pixel 1 of  1 2 3 / 4 5 6  is, and its right neighbour: TIFF 6.0, page 36 */
	static const char *const want[] = {"123456", "321654", "654321", "456123", "142536", "415263", "635241", "362514"};
	for (int o = 1; o <= 8; o++) {
		struct seg_tensor t;
		assert_int_equal(seg_tensor_new(&t, SEG_U1, 3, (size_t[]){2, 3, 1}), SEG_OK);
		memcpy(t.data, "123456", 6);
		assert_int_equal(seg_upright(&t, o), SEG_OK);
		assert_memory_equal(t.data, want[o - 1], 6);
		assert_int_equal(t.dim[0], o < 5 ? 2 : 3);
		seg_tensor_free(&t);
	}
}

static void map(void **state)
{
	(void)state;
	struct seg_map *m = calloc(1, sizeof *m);
	assert_int_equal(seg_map_parse(m, "0=0,128=1,-1=ignore,*=2"), SEG_OK);
	assert_int_equal(m->to[128 - SEG_MAP_LO], 1);
	assert_int_equal(m->to[-1 - SEG_MAP_LO], SEG_MAP_IGNORE);
	assert_int_equal(m->to[7 - SEG_MAP_LO], 2);
	static const char *const wrong[] = {"0", "=1", "0=", "0=1,", "0=x", "0=1;2=3", "*", "70000=1", "0=-1", "0=ignored", " 0=1", "+1=1", "0==1"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		memset(m, 0, sizeof *m);
		if (seg_map_parse(m, wrong[i]) != SEG_EUSAGE)
			fail_msg("'%s' was taken", wrong[i]);
	}
	free(m);
}

static void stems(void **state)
{
	(void)state;
	assert_int_equal(seg_stem("a.tif"), 1);
	assert_int_equal(seg_stem("a.b.OME.TIFF"), 3);
	assert_int_equal(seg_stem("a.png"), 0);
	assert_int_equal(seg_stem(".tif"), 0);
	struct seg_json *j = seg_text_json("\xc3\xa4 \xff\xc3");
	assert_string_equal(seg_json_string(j, ""), "\xc3\xa4 %FF%C3");
	seg_json_free(j);
}

static void there_and_back(void **state)
{
	(void)state;
	static const uint8_t rgb[2][3] = {{1, 2, 3}, {250, 251, 252}};
	struct seg_tiff *f;
	struct seg_page p;
	for (int planar = 0; planar < 2; planar++)
		for (int d = SEG_U1; d <= SEG_F4; d++)
			for (size_t c = 1; c < 5; c++) {
				struct seg_tensor t[2], r;
				struct seg_tiff_how how = {.planar = planar};
				for (int i = 0; i < 2; i++) {
					assert_int_equal(seg_tensor_new(&t[i], (enum seg_dtype)d, 3, (size_t[]){70, 500, c}), SEG_OK);
					for (size_t k = 0; k < seg_tensor_nbytes(&t[i]); k++)
						((uint8_t *)t[i].data)[k] = (uint8_t)(k * k >> 5) & (d == SEG_F4 ? 0x3f : 0xff);
				}
				assert_int_equal(seg_tiff_write("x.tif", t, 2, &how), SEG_OK);
				assert_int_equal(seg_tiff_open(&f, "x.tif", NULL), SEG_OK);
				for (int i = 0; i < 2; i++) {
					assert_int_equal(seg_tiff_page(f, &p), 1);
					assert_int_equal(p.number, i + 1);
					assert_int_equal(p.alpha, 0);
					assert_int_equal(seg_tiff_read(f, &r, 0), SEG_OK);
					assert_int_equal(r.dtype, d);
					assert_int_equal(r.dim[2], c);
					assert_memory_equal(r.data, t[i].data, seg_tensor_nbytes(&r));
					seg_tensor_free(&r);
					seg_tensor_free(&t[i]);
				}
				assert_int_equal(seg_tiff_page(f, &p), 0);
				seg_tiff_close(f);
			}
	struct seg_tensor l, r;
	assert_int_equal(seg_tensor_new(&l, SEG_U1, 2, (size_t[]){9, 13}), SEG_OK);
	for (int i = 0; i < 9 * 13; i++)
		((uint8_t *)l.data)[i] = i % 7 == 0;
	for (int bilevel = 0; bilevel < 2; bilevel++) {
		struct seg_tiff_how how = {.bilevel = bilevel, .palette = bilevel ? NULL : rgb, .npalette = 2};
		assert_int_equal(seg_tiff_write("l.tif", &l, 1, &how), SEG_OK);
		assert_int_equal(seg_tiff_open(&f, "l.tif", NULL), SEG_OK);
		assert_int_equal(seg_tiff_page(f, &p), 1);
		assert_int_equal(p.bits, bilevel ? 1 : 8);
		assert_int_equal(p.photo, bilevel ? SEG_GREY : SEG_PALETTE);
		assert_true(bilevel || p.palette[2][1] >> 8 == 252);
		assert_int_equal(seg_tiff_read(f, &r, 0), SEG_OK);
		assert_memory_equal(r.data, l.data, 9 * 13);
		seg_tensor_free(&r);
		seg_tiff_close(f);
	}
	l.dtype = SEG_I4;
	assert_int_equal(seg_tiff_write("never.tif", &l, 1, NULL), SEG_EDATA);
	assert_int_not_equal(access("never.tif", F_OK), 0);
	seg_tensor_free(&l);
}

/* Every truncation and many flipped bytes: no crash, and a reason. */
static void broken(void **state)
{
	(void)state;
	struct seg_tensor t, r;
	struct seg_tiff *f;
	struct seg_page p;
	size_t n;
	assert_int_equal(seg_tensor_new(&t, SEG_U1, 3, (size_t[]){20, 20, 3}), SEG_OK);
	for (int i = 0; i < 1200; i++)
		((uint8_t *)t.data)[i] = (uint8_t)(i * 37);
	assert_int_equal(seg_tiff_write("b.tif", &t, 1, NULL), SEG_OK);
	seg_tensor_free(&t);
	char *whole = seg_read_file("b.tif", 1 << 20, &n);
	for (size_t i = 0; i < 2 * n; i++) {
		struct seg_new w;
		char *copy = malloc(n);
		memcpy(copy, whole, n);
		if (i >= n)
			copy[i - n] ^= (char)(1 << i % 8);
		assert_int_equal(seg_new_open(&w, "c.tif"), SEG_OK);
		assert_int_equal(seg_write_full(w.fd, copy, i < n ? i : n), SEG_OK);
		lseek(w.fd, 0, SEEK_SET);
		int rc = seg_tiff_open(&f, w.tmp, &(struct seg_tiff_rules){.max_pixels = 1 << 16});
		if (rc == SEG_OK)
			rc = seg_tiff_page(f, &p);
		if (rc > 0)
			rc = seg_tiff_read(f, &r, 0);
		if (rc == SEG_OK)
			seg_tensor_free(&r);
		assert_true(rc == SEG_OK || strstr(seg_reason(), "c.tif"));
		assert_false(rc == SEG_OK && i < n - 1); /* cut */
		seg_tiff_close(f);
		seg_new_discard(&w);
		free(copy);
	}
	free(whole);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(depths), cmocka_unit_test(orientation), cmocka_unit_test(map), cmocka_unit_test(stems),
		cmocka_unit_test(there_and_back), cmocka_unit_test(broken),
	};
	return cmocka_run_group_tests_name("image", t, NULL, NULL);
}
