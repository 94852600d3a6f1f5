/* The ledger: a loss's total as cells of (term, pixel class, channel, present). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/report/split.h"
#include "seg/err.h"
#include "seg/mem.h"
#include "seg/report.h"

/* A sum that carries what it rounds off (Neumaier 1974): a picture has more pixels than a plain sum
 * of doubles can bear if it is to close at 1e-12. */
struct acc {
	double *sum, *lost;
};

static void gain(struct acc a, size_t i, double x)
{
	double s = a.sum[i], t = s + x;
	a.lost[i] += fabs(s) >= fabs(x) ? s - t + x : x - t + s;
	a.sum[i] = t;
}

/* Where things lie in a sample's block of doubles. */
struct place {
	size_t row, pixels, weight, grad, end; /* cells come first */
};

static struct place places(const struct seg_ledger *g)
{
	size_t k = (size_t)g->nclass;
	struct place p;
	p.row = (size_t)g->nterm * (k + 2) * (k + 1) * 2;
	p.pixels = p.row + (size_t)g->nrow * (k + 1);
	p.weight = p.pixels + k + 2;
	p.grad = p.weight + k + 2;
	p.end = p.grad + (k + 2) * k * 2;
	return p;
}

size_t seg_ledger_block(const struct seg_ledger *g)
{
	return places(g).end;
}

size_t seg_ledger_at(const struct seg_ledger *g, int term, int pixel, int channel, int present)
{
	size_t k = (size_t)g->nclass;
	return (((size_t)term * (k + 2) + (size_t)pixel) * (k + 1) + (size_t)channel) * 2 + (size_t)present;
}

/* Short and different names for the terms. */
static int labels(struct seg_ledger *g)
{
	for (int i = 0; i < g->nterm; i++) {
		int node = g->split->summand[i];
		g->formula[i] = node < 0 ? seg_strdup("constant") : seg_loss_node_text(g->split->l, node);
		g->term[i] = node < 0 ? seg_strdup("constant") : seg_split_label(g->split->l, node);
		if (!g->term[i] || !g->formula[i])
			return SEG_ENOMEM;
		int taken = strlen(g->term[i]) > 16 && g->nterm > 1;
		for (int j = 0; j < i; j++)
			taken |= !strcmp(g->term[i], g->term[j]);
		if (!taken)
			continue;
		free(g->term[i]);
		g->term[i] = seg_format("term %d", i + 1);
		if (!g->term[i])
			return SEG_ENOMEM;
	}
	return SEG_OK;
}

int seg_ledger_new(struct seg_ledger **out, struct seg_loss *l)
{
	struct seg_split *s;
	*out = NULL;
	int rc = seg_split_new(&s, l);
	if (rc < 0)
		return rc;
	struct seg_ledger *g = seg_alloc(1, sizeof *g);
	if (!g) {
		seg_split_free(s);
		return SEG_ENOMEM;
	}
	g->split = s;
	g->nclass = l->env.nclass;
	g->nterm = s->nterm;
	g->nrow = s->nrow;
	g->weighted = s->weight >= 0;
	size_t k = (size_t)g->nclass;
	g->term = seg_alloc((size_t)g->nterm, sizeof *g->term);
	g->formula = seg_alloc((size_t)g->nterm, sizeof *g->formula);
	g->row = seg_alloc((size_t)g->nrow, sizeof *g->row);
	g->cell = seg_alloc(places(g).end, sizeof *g->cell); /* one block, as a sample's */
	rc = g->term && g->formula && g->row && g->cell ? labels(g) : SEG_ENOMEM;
	if (rc < 0) {
		seg_ledger_free(g);
		return rc;
	}
	g->pixels = g->cell + places(g).pixels;
	g->weight = g->cell + places(g).weight;
	g->grad = g->cell + places(g).grad;
	for (int r = 0; r < g->nrow; r++)
		g->row[r] = (struct seg_ledger_row){s->row_term[r], s->why[r],
		    g->cell + places(g).row + (size_t)r * (k + 1)};
	*out = g;
	return SEG_OK;
}

void seg_ledger_clear(struct seg_ledger *g)
{
	memset(g->cell, 0, seg_ledger_block(g) * sizeof *g->cell);
	g->nsample = g->total = g->sum = g->rounding = 0;
}

void seg_ledger_free(struct seg_ledger *g)
{
	if (!g)
		return;
	for (int i = 0; g->term && i < g->nterm; i++)
		free(g->term[i]);
	for (int i = 0; g->formula && i < g->nterm; i++)
		free(g->formula[i]);
	free(g->term);
	free(g->formula);
	free(g->row);
	free(g->cell);
	seg_split_free(g->split);
	free(g);
}

/* A node's values on a sample, addressed by y, x, k whatever axes it has. */
struct field {
	double *v;
	size_t y, x, k; /* strides; 0 where the axis is missing */
};

static int evaluate(const struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, int node, struct field *f)
{
	unsigned a = node < 0 ? 0 : g->split->l->node[node].axes;
	size_t n = 1;
	f->k = a & SEG_K ? n : 0;
	n *= a & SEG_K ? (size_t)g->nclass : 1;
	f->x = a & SEG_X ? n : 0;
	n *= a & SEG_X ? s->w : 1;
	f->y = a & SEG_Y ? n : 0;
	n *= a & SEG_Y ? s->h : 1;
	f->v = seg_alloc(n, sizeof *f->v);
	if (!f->v)
		return SEG_ENOMEM;
	if (node >= 0)
		return seg_loss_field(g->split->l, st, s, node, f->v);
	f->v[0] = 1;
	return SEG_OK;
}

static double at(const struct field *f, size_t y, size_t x, size_t k)
{
	return f->v[y * f->y + x * f->x + k * f->k];
}

/* The truth of a sample: class of each pixel, and which channels are present. */
struct truth {
	int *pixel;
	unsigned char *present; /* [h w][nclass] */
};

static int classify(const struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, struct truth *t)
{
	struct field set = {0}, valid = {0};
	size_t n = s->h * s->w, nk = (size_t)g->nclass;
	t->pixel = seg_alloc(n, sizeof *t->pixel);
	t->present = seg_alloc(n, nk);
	int rc = t->pixel && t->present ? SEG_OK : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = evaluate(g, st, s, g->split->truth, &set);
	if (rc == SEG_OK)
		rc = evaluate(g, st, s, g->split->valid, &valid);
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		size_t k = nk, seen = 0;
		for (size_t j = nk; j-- > 0;) {
			t->present[i * nk + j] = set.v[i * nk + j] >= 0.5;
			k = t->present[i * nk + j] ? j : k;
			seen |= valid.v[i * nk + j] != 0;
		}
		t->pixel[i] = (int)(seen ? k : nk + 1);
	}
	free(set.v);
	free(valid.v);
	return rc;
}

static size_t cell(const struct seg_ledger *g, const struct truth *t, size_t i, int term, size_t k)
{
	size_t nk = (size_t)g->nclass;
	int present = k < nk ? t->present[i * nk + k] : t->pixel[i] < g->nclass;
	return seg_ledger_at(g, term, t->pixel[i], (int)k, present);
}

/* Enter one element of the field, f * its parts: channels k0..k1-1 (k1 = k0: the field has no
 * class axis, so that a part with classes enters all of its).  What float rounding leaves between
 * the field and its parts goes to the largest of them: the ledger must close.  Returns what was
 * entered. */
static double enter(const struct seg_ledger *g, const struct seg_group *gr, const struct field *f,
    double total, double factor, const struct truth *t, size_t y, size_t x, size_t w, int channel,
    struct acc a)
{
	const struct seg_part *p = &g->split->part[gr->part];
	size_t nk = (size_t)g->nclass, i = y * w + x, largest = 0;
	double sum = 0, most = -1, elsewhere = 0;
	for (int j = 0; j < gr->npart; j++) {
		size_t k0 = channel >= 0 ? (size_t)channel : 0;
		size_t k1 = channel < 0 && f[j].k ? nk : k0 + 1;
		for (size_t k = k0; k < k1; k++) {
			double v = at(&f[j], y, x, k);
			size_t c = cell(g, t, i, p[j].term, channel >= 0 || f[j].k ? k : nk);
			sum += v;
			if (p[j].elsewhere) {
				elsewhere += v;
				continue;
			}
			gain(a, c, v * factor);
			if (fabs(v) > most) {
				most = fabs(v);
				largest = c;
			}
		}
	}
	if (sum != total && most >= 0)
		gain(a, largest, (total - sum) * factor);
	return most >= 0 ? (total - elsewhere) * factor : 0;
}

static int group(const struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const struct seg_group *gr, const struct truth *t, struct acc a,
    double *map)
{
	struct field total = {0}, factor = {0}, *part = seg_alloc((size_t)gr->npart, sizeof *part);
	int rc = part ? evaluate(g, st, s, gr->field, &total) : SEG_ENOMEM;
	if (rc == SEG_OK)
		rc = evaluate(g, st, s, gr->factor, &factor);
	for (int j = 0; rc == SEG_OK && j < gr->npart; j++)
		rc = evaluate(g, st, s, g->split->part[gr->part + j].node, &part[j]);
	int has_k = rc == SEG_OK && total.k, nk = has_k ? g->nclass : 1;
	for (size_t y = 0; rc == SEG_OK && y < s->h; y++)
		for (size_t x = 0; x < s->w; x++)
			for (int k = 0; k < nk; k++) {
				double v = enter(g, gr, part, at(&total, y, x, (size_t)k), at(&factor, 0, 0, (size_t)k), t,
				    y, x, s->w, has_k ? k : -1, a);
				if (map)
					map[y * s->w + x] += v;
			}
	for (int j = 0; part && j < gr->npart; j++)
		free(part[j].v);
	free(part);
	free(total.v);
	free(factor.v);
	return rc;
}

/* Rows without pixels: those with a sample (n bound), or the others. */
static int lones(const struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, int of_samples, double scale, struct acc a)
{
	const struct seg_split *sp = g->split;
	int rc = SEG_OK;
	for (int i = 0; rc == SEG_OK && i < sp->nlone; i++) {
		const struct seg_lone *l = &sp->lone[i];
		struct field v = {0}, f = {0};
		if ((l->bound & SEG_N ? 1 : 0) != of_samples)
			continue;
		rc = evaluate(g, st, s, l->node, &v);
		if (rc == SEG_OK)
			rc = evaluate(g, st, s, l->factor, &f);
		size_t nk = (size_t)g->nclass, base = places(g).row + (size_t)l->row * (nk + 1);
		if (rc == SEG_OK && !(l->bound & SEG_K))
			gain(a, base + nk, scale * at(&v, 0, 0, 0) * at(&f, 0, 0, 0));
		for (size_t k = 0; rc == SEG_OK && l->bound & SEG_K && k < nk; k++)
			gain(a, base + k, scale * at(&v, 0, 0, k) * at(&f, 0, 0, k));
		free(v.v);
		free(f.v);
	}
	return rc;
}

static int pixels(const struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const struct truth *t, const float *dz, struct acc a)
{
	struct place p = places(g);
	size_t n = s->h * s->w, nk = (size_t)g->nclass;
	struct field w = {0};
	int rc = evaluate(g, st, s, g->split->weight, &w);
	for (size_t i = 0; rc == SEG_OK && i < n; i++) {
		size_t c = (size_t)t->pixel[i];
		a.sum[p.pixels + c]++;
		gain(a, p.weight + c, at(&w, i / s->w, i % s->w, 0));
		for (size_t k = 0; dz && k < nk; k++)
			gain(a, p.grad + (c * nk + k) * 2 + t->present[i * nk + k], fabs(dz[k * n + i]));
	}
	free(w.v);
	return rc;
}

int seg_ledger_sample(const struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, const float *dz, double *block, double *map)
{
	size_t n = seg_ledger_block(g);
	struct truth t = {0};
	struct acc a = {block, seg_alloc(n, sizeof *a.lost)};
	memset(block, 0, n * sizeof *block);
	int rc = a.lost ? classify(g, st, s, &t) : SEG_ENOMEM;
	for (int i = 0; rc == SEG_OK && i < g->split->ngroup; i++)
		rc = group(g, st, s, &g->split->group[i], &t, a, map);
	if (rc == SEG_OK)
		rc = lones(g, st, s, 1, 1, a);
	if (rc == SEG_OK)
		rc = pixels(g, st, s, &t, dz, a);
	for (size_t i = 0; rc == SEG_OK && i < n; i++)
		block[i] += a.lost[i];
	free(a.lost);
	free(t.pixel);
	free(t.present);
	return rc;
}

void seg_ledger_add(struct seg_ledger *g, const double *block, double scale)
{
	struct place p = places(g);
	for (size_t i = 0; i < p.end; i++)
		g->cell[i] += (i >= p.pixels && i < p.grad ? 1 : scale) * block[i];
	g->nsample++;
}

double seg_ledger_of_sample(const struct seg_ledger *g, const double *block)
{
	double sum = 0;
	for (size_t i = 0, n = places(g).pixels; i < n; i++)
		sum += block[i];
	return sum;
}

int seg_ledger_rest(struct seg_ledger *g, const struct seg_loss_state *st,
    const struct seg_loss_sample *s, double scale)
{
	struct acc a = {g->cell, seg_alloc(seg_ledger_block(g), sizeof *a.lost)};
	if (!a.lost)
		return SEG_ENOMEM;
	int rc = lones(g, st, s, 0, scale, a);
	for (size_t i = 0, n = places(g).pixels; rc == SEG_OK && i < n; i++)
		g->cell[i] += a.lost[i];
	free(a.lost);
	if (rc < 0)
		return rc;
	g->total += scale * seg_loss_value(g->split->l, st);
	g->sum = seg_ledger_of_sample(g, g->cell);
	g->rounding = g->total - g->sum;
	return SEG_OK;
}
