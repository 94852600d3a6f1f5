/* A stream with maps: what each pixel contributes to the loss, and its gradient. */
#include <stdlib.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "seg/parallel.h"
#include "seg/report.h"

struct flow {
	const struct seg_maps *m;
	const struct seg_header *h;
	struct seg_writer *w;
	size_t next;
};

static int next(void *arg, void **item)
{
	struct flow *f = arg;
	struct seg_sample *s;
	if (f->next == seg_index_count(f->m->index))
		return 0;
	if (!(*item = s = seg_alloc(1, sizeof *s)))
		return SEG_ENOMEM;
	int rc = seg_index_read(f->m->index, f->next++, s);
	return rc < 0 ? rc : 1;
}

static void drop(void *arg, void *item)
{
	(void)arg;
	seg_sample_free(item);
	free(item);
}

static int add_map(const struct seg_maps *m, const struct seg_loss_sample *b, struct seg_sample *s)
{
	struct seg_tensor t;
	size_t n = b->h * b->w;
	double *v = seg_alloc(n, sizeof *v), *block = seg_alloc(seg_ledger_block(m->g), sizeof *block);
	int rc = v && block ? seg_ledger_sample(m->g, m->st, b, NULL, block, v) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_tensor_new(&t, SEG_F4, 2, (size_t[]){b->h, b->w});
	for (size_t i = 0; rc == SEG_OK && i < n; i++)
		((float *)t.data)[i] = (float)v[i];
	free(block);
	free(v);
	return rc < 0 ? rc : seg_sample_put(s, "loss.npy", &t);
}

static int add_gradient(const struct seg_maps *m, const struct seg_loss_sample *b, struct seg_sample *s)
{
	struct seg_tensor t;
	size_t n = b->h * b->w, nk = (size_t)m->l->env.nclass;
	float *dz = seg_alloc(n, nk * sizeof *dz);
	int rc = dz ? seg_loss_gradient(m->l, m->st, b, dz) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = seg_tensor_new(&t, SEG_F4, 3, (size_t[]){b->h, b->w, nk});
	for (size_t i = 0; rc == SEG_OK && i < n; i++)
		for (size_t k = 0; k < nk; k++)
			((float *)t.data)[i * nk + k] = dz[k * n + i];
	free(dz);
	return rc < 0 ? rc : seg_sample_put(s, "grad.npy", &t);
}

static int work(void *arg, void *item, int t)
{
	struct flow *f = arg;
	struct seg_loss_sample b;
	(void)t;
	int rc = seg_sample_open(item);
	if (rc == SEG_OK)
		rc = seg_bind(f->h, item, 1, 1, &b);
	if (rc < 0)
		return rc;
	b.index = (size_t)((struct seg_sample *)item)->number;
	if (f->m->map)
		rc = add_map(f->m, &b, item);
	if (rc == SEG_OK && f->m->gradient)
		rc = add_gradient(f->m, &b, item);
	seg_unbind(&b);
	return rc < 0 ? rc : seg_sample_pack(item, f->m->level);
}

static int sink(void *arg, void *item)
{
	struct flow *f = arg;
	int rc = seg_write(f->w, item);
	drop(NULL, item);
	return rc;
}

int seg_maps_write(const struct seg_maps *m)
{
	struct flow f = {.m = m, .h = seg_index_header(m->index)};
	const struct seg_flow flow = {next, work, sink, drop, &f};
	struct seg_header h = {0};
	struct seg_json *o = seg_json_object();
	int rc = seg_header_copy(&h, f.h);
	seg_json_set(o, "loss", seg_json_str(m->loss));
	seg_json_set(o, "map", seg_json_bool(m->map));
	seg_json_set(o, "gradient", seg_json_bool(m->gradient));
	if (rc == SEG_OK)
		rc = seg_header_sign(&h, "seg-loss", o);
	else
		seg_json_free(o);
	if (rc == SEG_OK)
		rc = seg_writer_open(&f.w, NULL, &h);
	if (rc == SEG_OK) {
		rc = seg_flow(&flow, m->threads > 1 ? m->threads : 1);
		if (rc == SEG_OK)
			rc = seg_writer_close(f.w);
		else
			seg_writer_abort(f.w);
	}
	seg_header_free(&h);
	return rc;
}
