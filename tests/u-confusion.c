/* Confusion counts in memory: planes and interleaved predictions, merging, 0/0.  The programs'
 * counts are held against NumPy in t-iou.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "seg/confusion.h"
#include "seg/err.h"

/* two pixels of three classes: truth 0 and 2; the second is a tie of 1 and 2 */
static const float last[] = {.7f, .2f, .1f, .1f, .4f, .4f}, planes[] = {.7f, .1f, .2f, .4f, .1f, .4f};
static const uint8_t label[] = {0, 2};

static struct seg_loss_sample sample(int in_planes)
{
	struct seg_loss_sample s = {.h = 1, .w = 2, .truth = label, .kind = SEG_LABEL_U1, .ignore = -1, .key = "s"};
	s.p = in_planes ? planes : last;
	s.pi = in_planes ? 1 : 3;
	s.pk = in_planes ? 2 : 1;
	return s;
}

static void both_layouts(void **state)
{
	(void)state;
	for (int in_planes = 0; in_planes < 2; in_planes++) {
		struct seg_confusion c, d;
		struct seg_loss_sample s = sample(in_planes);
		int present;
		assert_int_equal(seg_confusion_new(&c, 3, 0), SEG_OK);
		assert_int_equal(seg_confusion_new(&d, 3, 0), SEG_OK);
		assert_int_equal(seg_confusion_add(&c, &s, NULL), SEG_OK);
		assert_true(c.tp[0] == 1 && c.fp[1] == 1 && c.fn[2] == 1 && c.tp[2] == 0 && c.fp[0] == 0);
		assert_true(c.pixels == 2 && c.ignored == 0);
		assert_true(seg_mean_iou(&c, &present) == 1.0 / 3 && present == 3);
		seg_confusion_merge(&d, &c);
		seg_confusion_merge(&d, &c);
		assert_true(d.tp[0] == 2 && d.fp[1] == 2 && d.fn[2] == 2 && d.pixels == 4);
		seg_confusion_free(&c);
		seg_confusion_free(&d);
	}
}

static void nothing(void **state)
{
	(void)state;
	struct seg_confusion c;
	int present;
	assert_int_equal(seg_confusion_new(&c, 2, 1), SEG_OK);
	double v[] = {seg_iou(&c, 0), seg_dice(&c, 0), seg_precision(&c, 0), seg_recall(&c, 0), seg_mean_iou(&c, &present)};
	for (int i = 0; i < 5; i++)
		assert_true(v[i] != v[i]);
	assert_int_equal(present, 0);
	seg_confusion_free(&c);
}

static void nan_is_refused(void **state)
{
	(void)state;
	float p[6];
	struct seg_confusion c;
	struct seg_loss_sample s = sample(0);
	memcpy(p, last, sizeof p);
	p[4] = __builtin_nanf("");
	s.p = p;
	assert_int_equal(seg_confusion_new(&c, 3, 0), SEG_OK);
	assert_int_equal(seg_confusion_add(&c, &s, NULL), SEG_EDATA);
	assert_string_equal(seg_reason(), "sample s: prediction of class 1 is NaN at y 0 x 1");
	seg_confusion_free(&c);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(both_layouts), cmocka_unit_test(nothing), cmocka_unit_test(nan_is_refused),
	};
	return cmocka_run_group_tests_name("confusion", t, NULL, NULL);
}
