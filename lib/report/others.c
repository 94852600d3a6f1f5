/* What others would print for the same predictions, and where their way parts from ours. */
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/report.h"

/* The usual loss of each project, by task. */
static const struct {
	const char *project, *multilabel, *multiclass;
} usual[] = {
	{"keras2", "@keras2.binary_crossentropy", "@keras2.categorical_crossentropy"},
	{"tfkeras", "@tfkeras.binary_crossentropy", "@tfkeras.categorical_crossentropy"},
	{"keras3", "@keras3.binary_crossentropy", "@keras3.categorical_crossentropy"},
	{"torch", "@torch.binary_cross_entropy_with_logits", "@torch.cross_entropy"},
	{"smp", "@smp.dice_loss", "@smp.dice_loss"},
	{"monai", "@monai.dice_loss", "@monai.dice_ce_loss"},
	{"nnunet", "@nnunet.dc_and_bce_loss", "@nnunet.dc_and_ce_loss"},
	{"kaggle", "@kaggle.bce_dice", "@kaggle.bce_dice"},
};
enum { NUSUAL = sizeof usual / sizeof *usual };

static int add(struct seg_other **o, size_t *n, const char *loss, size_t len)
{
	struct seg_other *more = seg_realloc(*o, *n + 1, sizeof *more);
	if (!more)
		return SEG_ENOMEM;
	*o = more;
	more[*n] = (struct seg_other){.loss = seg_format("%.*s", (int)len, loss)};
	return more[(*n)++].loss ? SEG_OK : SEG_ENOMEM;
}

static int add_project(struct seg_other **o, size_t *n, const char *name, size_t len, enum seg_task task)
{
	int all = len == 3 && !strncmp(name, "all", 3), found = 0, rc = SEG_OK;
	for (int i = 0; rc == SEG_OK && i < NUSUAL; i++)
		if (all || (strlen(usual[i].project) == len && !strncmp(usual[i].project, name, len))) {
			const char *loss = task == SEG_MULTILABEL ? usual[i].multilabel : usual[i].multiclass;
			rc = add(o, n, loss, strlen(loss));
			found = 1;
		}
	return found ? rc : seg_fail(SEG_EUSAGE, "'%.*s' is no project; there are keras2, tfkeras, keras3, torch, smp, "
	    "monai, nnunet, kaggle and all; a recipe begins with @", (int)len, name);
}

/* Words of the list: a bare word is a project, anything else a loss. */
static int parse(struct seg_other **o, size_t *n, const char *list, enum seg_task task)
{
	int rc = SEG_OK;
	for (const char *s = list; rc == SEG_OK; s++) {
		size_t len = 0, depth = 0;
		for (; s[len] && (s[len] != ',' || depth); len++)
			depth += (s[len] == '(' || s[len] == '[') - (size_t)((s[len] == ')' || s[len] == ']') && depth);
		int bare = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") >= len;
		rc = bare ? add_project(o, n, s, len, task) : add(o, n, s, len);
		s += len;
		if (!*s)
			break;
	}
	return rc;
}

/* The first step of `other`, in order of evaluation, that l does not have: a reduction or what ends
 * it.  NULL: it has them all, or no memory. */
static char *parting(const struct seg_loss *other, const struct seg_loss *l)
{
	for (int i = 0; i < other->n; i++) {
		enum seg_op op = other->node[i].op;
		if (i != other->root && op != SEG_OP_SUM && op != SEG_OP_MEAN && op != SEG_OP_MAX && op != SEG_OP_MIN)
			continue;
		char *text = seg_loss_node_text(other, i);
		int have = 0;
		for (int j = 0; text && !have && j < l->n; j++) {
			char *mine = l->node[j].op == op ? seg_loss_node_text(l, j) : NULL;
			have = mine && !strcmp(mine, text);
			free(mine);
		}
		if (text && !have)
			return text;
		free(text);
	}
	return NULL;
}

static int evaluate(struct seg_other *o, const struct seg_loss *l, const struct seg_loss_source *src, int threads)
{
	struct seg_loss *other = NULL;
	struct seg_loss_state *st = NULL;
	int rc = seg_loss_compile(&other, o->loss, &l->env);
	if (rc < 0)
		return seg_where(rc, "--as %s", o->loss);
	rc = seg_loss_state_new(&st, other);
	if (rc == SEG_OK)
		rc = seg_loss_run(other, st, 0, src, threads);
	if (rc == SEG_EDATA) { /* a logarithm of 0, say: its value is that it has none */
		o->why = seg_strdup(seg_reason());
		rc = o->why ? SEG_OK : SEG_ENOMEM;
	} else if (rc == SEG_OK) {
		o->value = seg_loss_value(other, st);
		o->differs = parting(other, l);
	}
	seg_loss_state_free(st);
	seg_loss_free(other);
	return rc;
}

int seg_others(struct seg_other **out, size_t *n, const char *list, const struct seg_loss *l, enum seg_task task,
    const struct seg_loss_source *src, int threads)
{
	*out = NULL;
	*n = 0;
	int rc = parse(out, n, list, task);
	for (size_t i = 0; rc == SEG_OK && i < *n; i++)
		rc = evaluate(&(*out)[i], l, src, threads);
	return rc;
}

void seg_others_free(struct seg_other *o, size_t n)
{
	for (size_t i = 0; o && i < n; i++) {
		free(o[i].loss);
		free(o[i].differs);
		free(o[i].why);
	}
	free(o);
}

int seg_others_text(const struct seg_other *o, size_t n, const char *loss, double value, int colour, struct seg_buf *b)
{
	struct seg_table t;
	seg_table_start(&t, "rl");
	seg_table_cell(&t, "others");
	seg_table_cell(&t, "for the same predictions, and the first step that the loss above does not have");
	seg_table_end(&t);
	seg_table_cell(&t, "%s", seg_text_value(value));
	seg_table_cell(&t, "%s", strlen(loss) > 84 ? "the loss above" : loss);
	seg_table_end(&t);
	for (size_t i = 0; i < n; i++) {
		seg_table_cell(&t, "%s", o[i].why ? "-" : seg_text_value(o[i].value));
		seg_table_cell(&t, "%s", strlen(o[i].loss) > 84 ? "" : o[i].loss);
		seg_table_end(&t);
		if (strlen(o[i].loss) > 84)
			seg_table_note(&t, 12, "%s", o[i].loss);
		if (o[i].why)
			seg_table_note(&t, 12, "has no value here: %s", o[i].why);
		else
			seg_table_note(&t, 12, "%s", o[i].differs ? o[i].differs : "the same");
	}
	return seg_table_text(&t, colour, b);
}

struct seg_json *seg_others_json(const struct seg_other *o, size_t n)
{
	struct seg_json *a = seg_json_array();
	for (size_t i = 0; i < n; i++) {
		struct seg_json *j = seg_json_object();
		seg_json_set(j, "loss", seg_json_str(o[i].loss));
		seg_json_set(j, "value", o[i].why ? seg_json_null() : seg_json_num(o[i].value));
		seg_json_set(j, "differs", o[i].differs ? seg_json_str(o[i].differs) : seg_json_null());
		if (o[i].why)
			seg_json_set(j, "why", seg_json_str(o[i].why));
		seg_json_add(a, j);
	}
	return a;
}
