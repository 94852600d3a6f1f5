/* Model files: a stream of kind model, one record for each tensor, named and shaped as in the
 * parameter table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "seg/net.h"

static const char *const norms[] = {"none", "instance", "group"};

/* The "net" of the header, from a shape. */
static struct seg_json *describe(const struct seg_net_shape *s)
{
	struct seg_json *j = seg_json_object(), *ch = seg_json_array();
	int bad = 0;
	for (int i = 0; i < s->nstage; i++)
		bad |= seg_json_add(ch, seg_json_int(s->channels[i]));
	bad |= seg_json_set(j, "channels", ch);
	bad |= seg_json_set(j, "input", seg_json_int(s->cin));
	bad |= seg_json_set(j, "output", seg_json_int(s->nclass));
	bad |= seg_json_set(j, "norm", seg_json_str(norms[s->norm]));
	if (s->norm == SEG_NORM_GROUP)
		bad |= seg_json_set(j, "groups", seg_json_int(s->groups));
	if (bad) {
		seg_json_free(j);
		return NULL;
	}
	return j;
}

static int understand(const struct seg_header *h, struct seg_net_shape *s)
{
	const struct seg_json *j = seg_json_get(h->more, "net"), *ch = seg_json_get(j, "channels");
	const char *norm = seg_json_string(seg_json_get(j, "norm"), "");
	size_t n = seg_json_size(ch);
	*s = (struct seg_net_shape){.cin = (int)seg_json_integer(seg_json_get(j, "input"), 0),
	    .nclass = (int)seg_json_integer(seg_json_get(j, "output"), 0),
	    .groups = (int)seg_json_integer(seg_json_get(j, "groups"), 0)};
	if (!seg_json_is_array(ch) || n < 1 || n > SEG_MAXSTAGE)
		return seg_fail(SEG_ECORRUPT, "header: \"net\" has no \"channels\" of 1 to %d stages", SEG_MAXSTAGE);
	for (s->nstage = 0; s->nstage < (int)n; s->nstage++)
		s->channels[s->nstage] = (int)seg_json_integer(seg_json_at(ch, (size_t)s->nstage), 0);
	for (int i = 0; i < 3; i++)
		if (!strcmp(norm, norms[i])) {
			s->norm = (enum seg_norm)i;
			if (h->nclass && h->nclass != s->nclass)
				return seg_fail(SEG_ECORRUPT, "header: %d classes, but a net of %d outputs",
				    h->nclass, s->nclass);
			return SEG_OK;
		}
	return seg_fail(SEG_ECORRUPT, "header: \"norm\" is \"%s\", not none, instance or group", norm);
}

static int write_param(struct seg_writer *w, const char *prefix, const struct seg_param *p, const float *flat)
{
	struct seg_sample s = {0};
	struct seg_tensor t;
	int rc = seg_tensor_new(&t, SEG_F4, p->ndim, p->dim);
	if (rc < 0)
		return rc;
	memcpy(t.data, flat + p->off, p->count * sizeof *flat);
	snprintf(s.key, sizeof s.key, "%s%s", prefix, p->name);
	rc = seg_sample_put(&s, "npy", &t);
	if (rc == SEG_OK)
		rc = seg_sample_pack(&s, -1);
	if (rc == SEG_OK)
		rc = seg_write(w, &s);
	seg_sample_free(&s);
	return rc;
}

int seg_params_write(struct seg_writer *w, const char *prefix, const struct seg_net *net, const float *flat)
{
	int n, rc = SEG_OK;
	const struct seg_param *p = seg_net_params(net, &n);
	for (int i = 0; rc == SEG_OK && i < n; i++)
		rc = write_param(w, prefix, &p[i], flat);
	return rc;
}

struct seg_json *seg_net_json(const struct seg_net *net)
{
	return describe(seg_net_shape(net));
}

int seg_model_save(const char *path, const struct seg_header *head, const struct seg_net *net, const float *flat)
{
	struct seg_header h = {0};
	struct seg_writer *w = NULL;
	int rc = seg_header_copy(&h, head);
	h.kind = SEG_MODEL;
	if (rc == SEG_OK && !h.more && !(h.more = seg_json_object()))
		rc = SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_json_set(h.more, "net", describe(seg_net_shape(net)));
	if (rc == SEG_OK)
		rc = seg_writer_open(&w, path, &h);
	if (rc == SEG_OK)
		rc = seg_params_write(w, "", net, flat);
	if (rc == SEG_OK)
		rc = seg_writer_close(w);
	else
		seg_writer_abort(w);
	seg_header_free(&h);
	return rc;
}

/* The next record must be p: its values to flat. */
static int read_param(struct seg_reader *r, const char *prefix, struct seg_sample *s, const struct seg_param *p, float *flat)
{
	size_t skip = strlen(prefix);
	int rc = seg_read(r, s);
	if (rc == 0)
		return seg_fail(SEG_ECORRUPT, "ends before tensor %s", p->name);
	if (rc > 0)
		rc = seg_sample_open(s);
	if (rc < 0)
		return rc;
	const struct seg_tensor *t = seg_sample_tensor(s, "npy");
	if (strncmp(s->key, prefix, skip) || strcmp(s->key + skip, p->name) || !t)
		return seg_fail(SEG_ECORRUPT, "record %s where the net has tensor %s%s", s->key, prefix, p->name);
	if (t->dtype != SEG_F4 || t->ndim != p->ndim || memcmp(t->dim, p->dim, (size_t)p->ndim * sizeof *p->dim))
		return seg_fail(SEG_ECORRUPT, "tensor %s has another type or shape than the net", p->name);
	memcpy(flat + p->off, t->data, p->count * sizeof *flat);
	for (size_t i = 0; i < p->count; i++)
		if (!__builtin_isfinite(flat[p->off + i]))
			return seg_fail(SEG_EDATA, "tensor %s: weight %zu is not finite", p->name, i);
	return SEG_OK;
}

int seg_params_read(struct seg_reader *r, const char *prefix, const struct seg_net *net, float *flat)
{
	struct seg_sample s = {0};
	int n, rc = SEG_OK;
	const struct seg_param *p = seg_net_params(net, &n);
	for (int i = 0; rc == SEG_OK && i < n; i++)
		rc = read_param(r, prefix, &s, &p[i], flat);
	seg_sample_free(&s);
	return rc;
}

int seg_model_load(const char *path, struct seg_header *h, struct seg_net **net, float **flat)
{
	struct seg_reader *r = NULL;
	struct seg_sample s = {0};
	struct seg_net_shape shape;
	*h = (struct seg_header){0};
	*net = NULL;
	*flat = NULL;
	int rc = seg_reader_open(&r, path, NULL);
	if (rc < 0)
		return rc;
	const struct seg_header *head = seg_reader_header(r);
	if (head->kind != SEG_MODEL)
		rc = seg_fail(SEG_EDATA, "%s: not a model but a stream of samples", seg_reader_name(r));
	if (rc == SEG_OK && (rc = understand(head, &shape)) == SEG_OK)
		rc = seg_net_new(net, &shape);
	if (rc == SEG_OK && !(*flat = seg_alloc(seg_net_nparam(*net), sizeof **flat)))
		rc = SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_params_read(r, "", *net, *flat);
	if (rc == SEG_OK && (rc = seg_read(r, &s)) > 0)
		rc = seg_fail(SEG_ECORRUPT, "more tensors than the net has");
	if (rc == SEG_OK)
		rc = seg_header_copy(h, head);
	if (rc < 0) {
		if (strncmp(seg_reason(), seg_reader_name(r), strlen(seg_reader_name(r))))
			seg_where(rc, "%s", seg_reader_name(r));
		seg_net_free(*net);
		free(*flat);
		seg_header_free(h);
		*net = NULL;
		*flat = NULL;
	}
	seg_sample_free(&s);
	seg_reader_close(r);
	return rc;
}
