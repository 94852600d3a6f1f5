/* The shape of a network: its layers, its parameters by name, and where they lie when packed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/layer.h"
#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "seg/rng.h"

enum { MAXCHANNEL = 4096, ALIGN = 16 }; /* floats in a cache line */

static int check(const struct seg_net_shape *s)
{
	if (s->nstage < 2 || s->nstage > SEG_MAXSTAGE)
		return seg_fail(SEG_EUSAGE, "network: %d stages; 2 to %d are possible", s->nstage, SEG_MAXSTAGE);
	if (s->cin < 1 || s->cin > MAXCHANNEL || s->nclass < 1 || s->nclass > MAXCHANNEL)
		return seg_fail(SEG_EUSAGE, "network: %d input channels, %d classes; 1 to %d are possible", s->cin,
		    s->nclass, MAXCHANNEL);
	for (int i = 0; i < s->nstage; i++) {
		if (s->channels[i] < 1 || s->channels[i] > MAXCHANNEL)
			return seg_fail(SEG_EUSAGE, "network: stage %d has %d channels; 1 to %d are possible", i + 1,
			    s->channels[i], MAXCHANNEL);
		if (s->norm == SEG_NORM_GROUP && (s->groups < 1 || s->channels[i] % s->groups))
			return seg_fail(SEG_EUSAGE, "network: %d groups do not divide the %d channels of stage %d", s->groups,
			    s->channels[i], i + 1);
	}
	return SEG_OK;
}

static size_t take(size_t *at, size_t n)
{
	size_t here = *at;
	*at = (here + n + ALIGN - 1) / ALIGN * ALIGN;
	return here;
}

static void add_layer(struct seg_net *n, enum layer_kind kind, int stage, size_t cin, size_t split, size_t cout)
{
	struct layer *l = &n->layer[n->nlayer++];
	*l = (struct layer){.kind = kind, .stage = stage, .cin = cin, .cout = cout, .split = split};
	l->planes = seg_blocks(split) + seg_blocks(cin - split);
	l->nout = kind == UP ? 4 * cout : cout;
	l->filter = kind == CONV3 ? 9 : 1;
	l->used = cin * l->filter;
	l->ntap = (l->used + 2) / 3 * 3;
	l->kernel = take(&n->npacked, seg_blocks(l->nout) * l->ntap);
	l->bias = take(&n->npacked, seg_blocks(cout));
	if (kind == CONV3 && n->shape.norm != SEG_NORM_NONE) {
		l->gamma = take(&n->npacked, seg_blocks(cout));
		l->beta = take(&n->npacked, seg_blocks(cout));
	}
	l->back = take(&n->nprepared, l->planes * l->nout * l->filter);
	if (kind == CONV3) {
		l->sums = take(&n->nprepared, seg_blocks(cout) * 18 * cin);
		l->sums_back = take(&n->nprepared, l->planes * 18 * cout);
	}
	l->bias_out = take(&n->nprepared, seg_blocks(l->nout));
}

static void add_layers(struct seg_net *n)
{
	const struct seg_net_shape *s = &n->shape;
	size_t in = (size_t)s->cin;
	for (int i = 0; i < s->nstage; i++) {
		size_t c = (size_t)s->channels[i];
		add_layer(n, CONV3, i, in, in, c);
		add_layer(n, CONV3, i, c, c, c);
		in = c;
	}
	for (int i = s->nstage - 2; i >= 0; i--) {
		size_t c = (size_t)s->channels[i];
		add_layer(n, UP, i + 1, in, in, c);
		add_layer(n, CONV3, i, 2 * c, c, c);
		add_layer(n, CONV3, i, c, c, c);
		in = c;
	}
	add_layer(n, HEAD, 0, in, in, (size_t)s->nclass);
}

static void add_param(struct seg_net *n, const char *layer, int number, const char *what, int ndim,
    size_t d0, size_t d1, size_t d2, size_t d3)
{
	struct seg_param *p = &n->param[n->nparam++];
	*p = (struct seg_param){.ndim = ndim, .dim = {d0, d1, d2, d3}, .off = n->nfloat, .count = d0};
	for (int i = 1; i < ndim; i++)
		p->count *= p->dim[i];
	snprintf(p->name, sizeof p->name, "%s_%d/%s", layer, number, what);
	n->nfloat += p->count;
}

/* The names Keras gives: counted per kind, from 1.  norm_N belongs to conv2d_N. */
static void add_params(struct seg_net *n)
{
	int conv = 0, up = 0;
	for (const struct layer *l = n->layer; l < n->layer + n->nlayer; l++) {
		size_t f = l->kind == HEAD ? 1 : l->kind == UP ? 2 : 3;
		const char *name = l->kind == UP ? "conv2d_transpose" : "conv2d";
		int number = l->kind == UP ? ++up : ++conv;
		if (l->kind == UP)
			add_param(n, name, number, "kernel", 4, f, f, l->cout, l->cin);
		else
			add_param(n, name, number, "kernel", 4, f, f, l->cin, l->cout);
		add_param(n, name, number, "bias", 1, l->cout, 0, 0, 0);
		if (l->kind == CONV3 && n->shape.norm != SEG_NORM_NONE) {
			add_param(n, "norm", number, "gamma", 1, l->cout, 0, 0, 0);
			add_param(n, "norm", number, "beta", 1, l->cout, 0, 0, 0);
		}
	}
}

/* Element i, in canonical order, of the kernel of l lies here. */
static size_t slot(const struct layer *l, size_t i)
{
	size_t last = l->kind == UP ? l->cin : l->cout, before = l->kind == UP ? l->cout : l->cin;
	size_t z = i % last, y = i / last % before, f = i / last / before; /* f: position in the filter */
	size_t out = l->kind == UP ? 4 * y + f : z;
	size_t tap = l->kind == UP ? z : y * l->filter + f;
	return l->kernel + (out / SEG_BLOCK * l->ntap + tap) * SEG_BLOCK + out % SEG_BLOCK;
}

/* Where each parameter lies when packed, in canonical order. */
static int add_places(struct seg_net *n)
{
	size_t *at = n->place = seg_alloc(n->nfloat, sizeof *n->place);
	if (!at)
		return SEG_ENOMEM;
	for (const struct layer *l = n->layer; l < n->layer + n->nlayer; l++) {
		size_t count = l->cin * l->cout * (l->kind == UP ? 4 : l->filter);
		for (size_t i = 0; i < count; i++)
			*at++ = slot(l, i);
		for (size_t i = 0; i < l->cout; i++)
			*at++ = l->bias + i;
		for (size_t i = 0; i < 2 * l->cout && l->gamma; i++)
			*at++ = i < l->cout ? l->gamma + i : l->beta + i - l->cout;
	}
	return SEG_OK;
}

int seg_net_new(struct seg_net **net, const struct seg_net_shape *shape)
{
	*net = NULL;
	int rc = check(shape);
	if (rc < 0)
		return rc;
	struct seg_net *n = seg_alloc(1, sizeof *n);
	if (!n || !(n->param = seg_alloc(4 * SEG_MAXLAYER, sizeof *n->param))) {
		seg_net_free(n);
		return SEG_ENOMEM;
	}
	n->shape = *shape;
	n->kernels = SEG_ISA_PICK(&seg_kernels);
	add_layers(n);
	add_params(n);
	if ((rc = add_places(n)) < 0) {
		seg_net_free(n);
		return rc;
	}
	*net = n;
	return SEG_OK;
}

void seg_net_free(struct seg_net *net)
{
	if (!net)
		return;
	free(net->place);
	free(net->param);
	free(net);
}

const struct seg_net_shape *seg_net_shape(const struct seg_net *net) { return &net->shape; }
int seg_net_multiple(const struct seg_net *net) { return 1 << (net->shape.nstage - 1); }
size_t seg_net_nparam(const struct seg_net *net) { return net->nfloat; }
size_t seg_net_npacked(const struct seg_net *net) { return net->npacked; }

const struct seg_param *seg_net_params(const struct seg_net *net, int *n)
{
	*n = net->nparam;
	return net->param;
}

void seg_net_pack(const struct seg_net *net, const float *flat, float *packed)
{
	memset(packed, 0, net->npacked * sizeof *packed);
	for (size_t i = 0; i < net->nfloat; i++)
		packed[net->place[i]] = flat[i];
}

void seg_net_unpack(const struct seg_net *net, const float *packed, float *flat)
{
	for (size_t i = 0; i < net->nfloat; i++)
		flat[i] = packed[net->place[i]];
}

/* Keras glorot_uniform: U(-a, a), a = sqrt(6 / (fan_in + fan_out)); he_uniform: a = sqrt(6 / fan_in).
 * A fan is the filter's size times a channel count; fan_in takes the last but one extent, which for
 * a transposed convolution is its outputs: so do Keras and (by its own layout) PyTorch. */
static double limit(const struct seg_param *p, enum seg_init how)
{
	double filter = (double)(p->dim[0] * p->dim[1]);
	double in = filter * (double)p->dim[2], out = filter * (double)p->dim[3];
	return seg_sqrt(6 / (how == SEG_HE ? in : in + out));
}

void seg_net_init(const struct seg_net *net, enum seg_init how, uint64_t seed, float *flat)
{
	for (const struct seg_param *p = net->param; p < net->param + net->nparam; p++) {
		float *w = flat + p->off, constant = strstr(p->name, "/gamma") ? 1 : 0;
		for (size_t i = 0; i < p->count && p->ndim == 1; i++)
			w[i] = constant;
		if (p->ndim == 1)
			continue;
		struct seg_rng r;
		double a = limit(p, how);
		seg_rng_start(&r, seed, "init", p->name, 0, 0, 0);
		for (size_t i = 0; i < p->count; i++)
			w[i] = (float)((2 * seg_rng_unit(&r) - 1) * a);
	}
}
