/* What a header and a sample say to a loss.  The refusals are in t-iou.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "seg/err.h"
#include "seg/report.h"

static void put(struct seg_sample *s, const char *suffix, enum seg_dtype d, int ndim, size_t c)
{
	struct seg_tensor t;
	assert_int_equal(seg_tensor_new(&t, d, ndim, (size_t[]){2, 3, c}), SEG_OK);
	assert_int_equal(seg_sample_put(s, suffix, &t), SEG_OK);
}

static void environment(void **state)
{
	(void)state;
	struct seg_header h = {.ignore = SEG_NOIGNORE};
	struct seg_loss_env env = {.f64 = 1};
	assert_int_equal(seg_header_classes(&h, (const char *const[]){"a", "b"}, 2), SEG_OK);
	static const struct {
		enum seg_task task;
		enum seg_head head;
		enum seg_loss_head want;
	} row[] = {{SEG_MULTICLASS, SEG_HEAD_UNSET, SEG_LOSS_SOFTMAX}, {SEG_MULTILABEL, SEG_HEAD_UNSET, SEG_LOSS_SIGMOID},
	           {SEG_MULTICLASS, SEG_SIGMOID, SEG_LOSS_SIGMOID}, {SEG_MULTILABEL, SEG_SOFTMAX, SEG_LOSS_SOFTMAX},
	           {SEG_MULTICLASS, SEG_NONE, SEG_LOSS_NONE}};
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		h.task = row[i].task;
		h.head = row[i].head;
		seg_bind_env(&h, &env);
		assert_true(env.head == row[i].want && env.nclass == 2 && env.f64 == 1);
		assert_string_equal(env.classes[1], "b");
	}
	seg_header_free(&h);
}

static void whole_sample(void **state)
{
	(void)state;
	struct seg_header h = {.ignore = 255};
	struct seg_sample s = {0};
	struct seg_loss_sample l;
	assert_int_equal(seg_header_classes(&h, NULL, 4), SEG_OK);
	strcpy(s.key, "k");
	assert_int_equal(seg_bind_weight(&s), 0);
	put(&s, "image.npy", SEG_U1, 3, 3);
	put(&s, "label.npy", SEG_U2, 2, 0);
	put(&s, "logit.npy", SEG_F4, 3, 4);
	put(&s, "weight.npy", SEG_F4, 2, 0);
	assert_int_equal(seg_bind_weight(&s), SEG_Y | SEG_X);
	put(&s, "weight.npy", SEG_F4, 3, 4);
	assert_int_equal(seg_bind_weight(&s), SEG_Y | SEG_X | SEG_K);
	struct seg_json *j = seg_json_object();
	assert_int_equal(seg_json_set(j, "sample_weight", seg_json_num(2.5)), SEG_OK);
	assert_int_equal(seg_sample_set_json(&s, j), SEG_OK);
	seg_json_free(j);

	assert_int_equal(seg_bind(&h, &s, 1, 1, &l), SEG_OK);
	assert_true(l.h == 2 && l.w == 3 && l.kind == SEG_LABEL_U2 && l.ignore == 255 && l.sample_weight == 2.5);
	assert_true(l.z && !l.p && l.zi == 4 && l.zk == 1 && l.weight && l.truth);
	assert_string_equal(l.key, "k");
	seg_unbind(&l);

	assert_int_equal(seg_sample_drop(&s, "logit.npy"), SEG_OK);
	assert_int_equal(seg_sample_drop(&s, "label.npy"), SEG_OK);
	assert_int_equal(seg_bind(&h, &s, 0, 0, &l), SEG_OK);
	assert_true(l.kind == SEG_TRUTH_NONE && l.h == 2 && !l.z);
	assert_int_equal(seg_bind(&h, &s, 1, 0, &l), SEG_EDATA);
	assert_int_equal(seg_bind(&h, &s, 0, 1, &l), SEG_EDATA);
	seg_sample_free(&s);
	seg_header_free(&h);
}

int main(void)
{
	const struct CMUnitTest t[] = {cmocka_unit_test(environment), cmocka_unit_test(whole_sample)};
	return cmocka_run_group_tests_name("bind", t, NULL, NULL);
}
