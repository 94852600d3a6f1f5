/* The door to jansson. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "seg/err.h"
#include "seg/json.h"

#define J(j) ((json_t *)(j))
#define OURS(j) ((struct seg_json *)(j))

static int depth(const char *s, size_t n)
{
	int d = 0, most = 0, quoted = 0;
	for (size_t i = 0; i < n; i++) {
		if (quoted && s[i] == '\\')
			i++;
		else if (s[i] == '"')
			quoted = !quoted;
		else if (!quoted && (s[i] == '{' || s[i] == '['))
			most = ++d > most ? d : most;
		else if (!quoted && (s[i] == '}' || s[i] == ']'))
			d--;
	}
	return most;
}

struct seg_json *seg_json_parse(const char *text, size_t n)
{
	json_error_t e;
	if (depth(text, n) > 64) {
		seg_fail(SEG_EDATA, "JSON: nested deeper than 64");
		return NULL;
	}
	json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
	if (!j)
		seg_fail(SEG_EDATA, "JSON: line %d, column %d: %s", e.line, e.column, e.text);
	return OURS(j);
}

static char *dump(const struct seg_json *j, size_t flags)
{
	char *s = json_dumps(J(j), flags | JSON_ENCODE_ANY);
	if (!s)
		seg_fail(SEG_ENOMEM, "JSON: cannot be written");
	return s;
}

char *seg_json_text(const struct seg_json *j) { return dump(j, JSON_SORT_KEYS | JSON_COMPACT); }
char *seg_json_pretty(const struct seg_json *j) { return dump(j, JSON_INDENT(2)); }

struct seg_json *seg_json_object(void) { return OURS(json_object()); }
struct seg_json *seg_json_array(void) { return OURS(json_array()); }
struct seg_json *seg_json_int(long long v) { return OURS(json_integer(v)); }
struct seg_json *seg_json_num(double v) { return OURS(isfinite(v) ? json_real(v) : json_null()); }
struct seg_json *seg_json_bool(int v) { return OURS(json_boolean(v)); }
struct seg_json *seg_json_null(void) { return OURS(json_null()); }
struct seg_json *seg_json_copy(const struct seg_json *j) { return OURS(json_deep_copy(J(j))); }
void seg_json_free(struct seg_json *j) { json_decref(J(j)); }

struct seg_json *seg_json_str(const char *s)
{
	json_t *j = json_string(s);
	if (!j)
		seg_fail(SEG_EDATA, "JSON: text is not UTF-8");
	return OURS(j);
}

int seg_json_set(struct seg_json *obj, const char *key, struct seg_json *v)
{
	return json_object_set_new(J(obj), key, J(v)) < 0
	    ? seg_fail(SEG_EDATA, "JSON: cannot set \"%s\"", key) : SEG_OK;
}

int seg_json_add(struct seg_json *arr, struct seg_json *v)
{
	return json_array_append_new(J(arr), J(v)) < 0 ? seg_fail(SEG_EDATA, "JSON: cannot append") : SEG_OK;
}

void seg_json_del(struct seg_json *obj, const char *key) { json_object_del(J(obj), key); }

const struct seg_json *seg_json_get(const struct seg_json *obj, const char *key)
{
	return OURS(json_object_get(J(obj), key));
}

const struct seg_json *seg_json_at(const struct seg_json *arr, size_t i)
{
	return OURS(json_array_get(J(arr), i));
}

size_t seg_json_size(const struct seg_json *j)
{
	return json_is_array(J(j)) ? json_array_size(J(j)) : json_object_size(J(j));
}

const char *seg_json_string(const struct seg_json *j, const char *otherwise)
{
	return json_is_string(J(j)) ? json_string_value(J(j)) : otherwise;
}

double seg_json_number(const struct seg_json *j, double otherwise)
{
	return json_is_number(J(j)) ? json_number_value(J(j)) : otherwise;
}

long long seg_json_integer(const struct seg_json *j, long long otherwise)
{
	return json_is_integer(J(j)) ? json_integer_value(J(j)) : otherwise;
}

int seg_json_is_object(const struct seg_json *j) { return json_is_object(J(j)); }
int seg_json_is_array(const struct seg_json *j) { return json_is_array(J(j)); }

void *seg_json_next(const struct seg_json *obj, void *it, const char **key, const struct seg_json **v)
{
	it = it ? json_object_iter_next(J(obj), it) : json_object_iter(J(obj));
	if (it) {
		*key = json_object_iter_key(it);
		*v = OURS(json_object_iter_value(it));
	}
	return it;
}

int seg_json_equal(const struct seg_json *a, const struct seg_json *b) { return json_equal(J(a), J(b)); }
