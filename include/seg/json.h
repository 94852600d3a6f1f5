/* JSON values: the one door to jansson.  A value built here is freed with seg_json_free; what is
 * set into an object or array is taken by it.  Constructors return NULL when out of memory or when
 * a number is not finite, and setters accept NULL (they then fail), so that calls may be chained
 * and checked once. */
#ifndef SEG_JSON_H
#define SEG_JSON_H

#include <stddef.h>

struct seg_json;

/* Parse n bytes of text; nesting up to 64, duplicate keys refused.  NULL: the reason says line and
 * column. */
struct seg_json *seg_json_parse(const char *text, size_t n);

/* Text the caller frees: canonical (sorted keys, no spaces, 17 digits), or pretty (2 spaces,
 * insertion order).  NULL: out of memory. */
char *seg_json_text(const struct seg_json *j);
char *seg_json_pretty(const struct seg_json *j);

struct seg_json *seg_json_object(void);
struct seg_json *seg_json_array(void);
struct seg_json *seg_json_str(const char *s);
struct seg_json *seg_json_int(long long v);
struct seg_json *seg_json_num(double v); /* not finite: a JSON null */
struct seg_json *seg_json_bool(int v);
struct seg_json *seg_json_null(void);
struct seg_json *seg_json_copy(const struct seg_json *j); /* deep */
void seg_json_free(struct seg_json *j);

int seg_json_set(struct seg_json *obj, const char *key, struct seg_json *v); /* takes v */
int seg_json_add(struct seg_json *arr, struct seg_json *v);                  /* takes v */
void seg_json_del(struct seg_json *obj, const char *key);

/* Reading: borrowed until the container changes; NULL or the default if absent or of another type. */
const struct seg_json *seg_json_get(const struct seg_json *obj, const char *key);
const struct seg_json *seg_json_at(const struct seg_json *arr, size_t i);
size_t seg_json_size(const struct seg_json *j); /* of an array or object, else 0 */
const char *seg_json_string(const struct seg_json *j, const char *otherwise);
double seg_json_number(const struct seg_json *j, double otherwise);
long long seg_json_integer(const struct seg_json *j, long long otherwise);
int seg_json_is_object(const struct seg_json *j);
int seg_json_is_array(const struct seg_json *j);
/* Walk an object: for (it = NULL; (it = seg_json_next(obj, it, &key, &v));) */
void *seg_json_next(const struct seg_json *obj, void *it, const char **key, const struct seg_json **v);
int seg_json_equal(const struct seg_json *a, const struct seg_json *b);

#endif
