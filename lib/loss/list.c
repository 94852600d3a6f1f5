/* The list of recipes, from the text that defines them. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "lib/loss/tree.h"

extern const char _binary_recipes_start[], _binary_recipes_end[];

static struct arena *mem; /* lives as long as the program */
static struct seg_recipe *recipe;
static size_t nrecipe;

/* The words behind `tag` in the comment lines just above a definition, or NULL. */
static const char *remark(const struct def *d, const char *tag)
{
	const char *text = d->src->s, *line = text + d->at;
	size_t n = strlen(tag);
	while (line > text) {
		const char *end = line - 1; /* the newline before this line */
		for (line = end; line > text && line[-1] != '\n';)
			line--;
		if (*line != '#')
			return NULL;
		if (!strncmp(line + 2, tag, n))
			return seg_arena_copy(&mem, line + 2 + n, (size_t)(end - (line + 2 + n)));
	}
	return NULL;
}

static const char *span(const struct text *t, int at, int len)
{
	return seg_arena_copy(&mem, t->s + at, (size_t)len);
}

static void load(void)
{
	struct text t = {.name = "recipes"};
	t.s = seg_arena_copy(&mem, _binary_recipes_start, (size_t)(_binary_recipes_end - _binary_recipes_start));
	size_t n = 0;
	if (!t.s || seg_loss_parse(&mem, &t, NULL) < 0)
		return;
	for (const struct def *d = t.def; d; d = d->next)
		n++;
	if (!(recipe = seg_arena_new(&mem, n + 1, sizeof *recipe)))
		return;
	for (const struct def *d = t.def; d; d = d->next) {
		const char *source = remark(d, "source: "), *range = remark(d, "range: ");
		if (!source)
			continue;
		recipe[nrecipe++] = (struct seg_recipe){.name = d->name, .args = span(&t, d->head, d->headlen),
		    .body = span(&t, d->body->at, d->body->len), .source = source, .range = range ? range : ""};
	}
}

const struct seg_recipe *seg_recipe_list(size_t *n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
	*n = nrecipe;
	return recipe;
}
