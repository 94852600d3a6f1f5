/* Forward and backward pass of one sample. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/layer.h"
#include "seg/err.h"
#include "seg/mem.h"

/* -- weights as the kernels want them ---------------------------------------------------------- */

struct seg_weights {
	const struct seg_net *net;
	float *packed;   /* a copy */
	float *prepared; /* weights of the way back, and biases for all outputs of a kernel */
};

int seg_weights_new(struct seg_weights **w, const struct seg_net *net)
{
	*w = seg_alloc(1, sizeof **w);
	if (!*w)
		return SEG_ENOMEM;
	(*w)->net = net;
	(*w)->packed = seg_alloc_aligned(net->npacked, sizeof(float));
	(*w)->prepared = seg_alloc_aligned(net->nprepared, sizeof(float));
	if (!(*w)->packed || !(*w)->prepared) {
		seg_weights_free(*w);
		*w = NULL;
		return SEG_ENOMEM;
	}
	return SEG_OK;
}

void seg_weights_free(struct seg_weights *w)
{
	if (!w)
		return;
	free(w->prepared);
	free(w->packed);
	free(w);
}

/* w[o/8][c * filter + f][8] -> back[plane/8][o * filter + f][8]: outputs and inputs change places. */
static void transpose(const struct layer *l, const float *w, float *back)
{
	size_t taps = l->nout * l->filter;
	for (size_t c = 0; c < l->cin; c++) {
		size_t plane = layer_plane(l, c);
		float *b = back + plane / SEG_BLOCK * taps * SEG_BLOCK + plane % SEG_BLOCK;
		for (size_t o = 0; o < l->nout; o++)
			for (size_t f = 0; f < l->filter; f++)
				b[(o * l->filter + f) * SEG_BLOCK] =
				    w[(o / SEG_BLOCK * l->ntap + c * l->filter + f) * SEG_BLOCK + o % SEG_BLOCK];
	}
}

void seg_weights_set(struct seg_weights *w, const float *packed)
{
	const struct seg_net *net = w->net;
	memcpy(w->packed, packed, net->npacked * sizeof *packed);
	for (const struct layer *l = net->layer; l < net->layer + net->nlayer; l++) {
		transpose(l, packed + l->kernel, w->prepared + l->back);
		if (l->kind == CONV3) {
			net->kernels->winograd_weights(seg_blocks(l->cout), l->cin, 0, packed + l->kernel, w->prepared + l->sums);
			net->kernels->winograd_weights(l->planes, l->cout, 1, w->prepared + l->back, w->prepared + l->sums_back);
		}
		for (size_t o = 0; o < l->nout; o++)
			w->prepared[l->bias_out + o] = packed[l->bias + (l->kind == UP ? o / 4 : o)];
	}
}

/* -- activations --------------------------------------------------------------------------------- */

struct seg_acts {
	const struct seg_net *net;
	int keep;
	struct seg_grid grid[SEG_MAXSTAGE];
	struct seg_conv forward[SEG_MAXLAYER], back[SEG_MAXLAYER];
	double *stat[SEG_MAXLAYER]; /* of normalisation, two for each group */
	/* Tensors, at their first pixel.  Per stage: pooled input (of stage 0: the image), after the
	 * first convolution, [upsampled, after the second], and on the way up after the first and
	 * second.  The last stage has no way up; its `skip` is what goes up. */
	float *in[SEG_MAXSTAGE], *mid[SEG_MAXSTAGE], *cat[SEG_MAXSTAGE], *skip[SEG_MAXSTAGE];
	float *upmid[SEG_MAXSTAGE], *out[SEG_MAXSTAGE];
	float *up, *z;                 /* before it is spread (shared by the stages); logits */
	float *raw[SEG_MAXLAYER];      /* before normalisation, if that is done and kept */
	float *mem;
	ptrdiff_t *taps;
	double *stats;
};

/* Lays tensors one behind another: counts first (base NULL), then gives addresses. */
struct bump {
	float *base;
	size_t n;
};

static float *tensor(struct bump *b, const struct seg_grid *g, size_t channels)
{
	size_t at = b->n;
	b->n += (seg_grid_floats(g, seg_blocks(channels)) + 15) / 16 * 16;
	return b->base ? b->base + at + g->lead : NULL;
}

static float *pair(struct bump *b, const struct seg_grid *g, size_t channels) /* each in full blocks */
{
	return tensor(b, g, 2 * seg_blocks(channels));
}

static size_t up_floats(const struct seg_net *net, const struct seg_grid *grid)
{
	size_t most = 0;
	for (int i = 0; i + 1 < net->shape.nstage; i++) {
		size_t n = seg_grid_floats(&grid[i + 1], seg_blocks(4 * (size_t)net->shape.channels[i]));
		most = n > most ? n : most;
	}
	return most;
}

/* Without a backward pass to follow, what has been used is overwritten. */
static size_t lay_acts(struct seg_acts *a, float *base)
{
	const struct seg_net *net = a->net;
	struct bump b = {base, 0};
	int last = net->shape.nstage - 1;
	for (int i = 0; i <= last; i++) {
		const struct seg_grid *g = &a->grid[i];
		size_t c = (size_t)net->shape.channels[i];
		a->in[i] = tensor(&b, g, i ? (size_t)net->shape.channels[i - 1] : (size_t)net->shape.cin);
		a->mid[i] = tensor(&b, g, c);
		a->cat[i] = i < last ? pair(&b, g, c) : NULL;
		a->skip[i] = i == last ? tensor(&b, g, c) : base ? a->cat[i] + seg_blocks(c) * g->plane : NULL;
		if (i == last)
			continue;
		a->upmid[i] = a->keep ? tensor(&b, g, c) : a->mid[i];
		a->out[i] = a->keep ? tensor(&b, g, c) : a->cat[i];
	}
	a->out[last] = a->skip[last];
	a->z = tensor(&b, &a->grid[0], (size_t)net->shape.nclass);
	for (int i = 0; i < net->nlayer; i++)
		a->raw[i] = a->keep && net->layer[i].gamma ?
		    tensor(&b, &a->grid[net->layer[i].stage], net->layer[i].cout) : NULL;
	a->up = base ? base + b.n + a->grid[1].lead : NULL;
	return b.n + up_floats(net, a->grid);
}

static void set_grids(const struct seg_net *net, size_t h, size_t w, struct seg_grid *grid)
{
	for (int i = 0; i < net->shape.nstage; i++)
		seg_grid_set(&grid[i], h >> i, w >> i);
}

size_t seg_acts_nbytes(const struct seg_net *net, size_t h, size_t w, int keep)
{
	struct seg_acts a = {.net = net, .keep = keep};
	set_grids(net, h, w, a.grid);
	return lay_acts(&a, NULL) * sizeof(float);
}

static ptrdiff_t filter_offset(const struct layer *l, const struct seg_grid *g, size_t f)
{
	return l->filter == 1 ? 0 : ((ptrdiff_t)(f / 3) - 1) * (ptrdiff_t)g->row + (ptrdiff_t)(f % 3) - 1;
}

/* The taps of a layer on this grid: what output i reads; and the reverse, with the filter turned
 * about: what the gradient at input i reads.  Returns the end of what was written at tap. */
static ptrdiff_t *set_taps(const struct layer *l, const struct seg_grid *g, struct seg_conv *forward,
    struct seg_conv *back, ptrdiff_t *tap)
{
	*forward = (struct seg_conv){g, seg_blocks(l->nout), l->ntap, l->used, tap};
	for (size_t k = 0; k < l->ntap; k++) {
		size_t real = k < l->used ? k : l->used - 1;
		*tap++ = (ptrdiff_t)(layer_plane(l, real / l->filter) * g->plane) + filter_offset(l, g, real % l->filter);
	}
	size_t n = l->nout * l->filter;
	*back = (struct seg_conv){g, l->planes, n, n, tap};
	for (size_t k = 0; k < n; k++)
		*tap++ = (ptrdiff_t)(k / l->filter * g->plane) - filter_offset(l, g, k % l->filter);
	return tap;
}

static int set_layers(struct seg_acts *a)
{
	const struct seg_net *net = a->net;
	size_t ntap = 0, nstat = 0;
	for (const struct layer *l = net->layer; l < net->layer + net->nlayer; l++) {
		ntap += l->ntap + l->nout * l->filter;
		nstat += 2 * l->cout;
	}
	a->taps = seg_alloc(ntap, sizeof *a->taps);
	a->stats = seg_alloc(nstat, sizeof *a->stats);
	if (!a->taps || !a->stats)
		return SEG_ENOMEM;
	ptrdiff_t *tap = a->taps;
	double *stat = a->stats;
	for (int i = 0; i < net->nlayer; i++) {
		const struct layer *l = &net->layer[i];
		tap = set_taps(l, &a->grid[l->stage], &a->forward[i], &a->back[i], tap);
		a->stat[i] = stat;
		stat += 2 * l->cout;
	}
	return SEG_OK;
}

static int check_size(const struct seg_net *net, size_t h, size_t w)
{
	size_t m = (size_t)seg_net_multiple(net), most = (size_t)1 << 20;
	if (h == 0 || w == 0 || h % m || w % m)
		return seg_fail(SEG_EDATA, "picture of %zu x %zu: %d stages need height and width in multiples of %zu",
		    h, w, net->shape.nstage, m);
	if (h > most || w > most)
		return seg_fail(SEG_EDATA, "picture of %zu x %zu: at most %zu x %zu are possible", h, w, most, most);
	return SEG_OK;
}

int seg_acts_new(struct seg_acts **acts, const struct seg_net *net, size_t h, size_t w, int keep)
{
	*acts = NULL;
	int rc = check_size(net, h, w);
	if (rc < 0)
		return rc;
	struct seg_acts *a = seg_alloc(1, sizeof *a);
	if (!a)
		return SEG_ENOMEM;
	a->net = net;
	a->keep = keep;
	set_grids(net, h, w, a->grid);
	a->mem = seg_alloc_aligned(lay_acts(a, NULL), sizeof(float));
	rc = a->mem ? set_layers(a) : SEG_ENOMEM;
	if (rc < 0) {
		seg_acts_free(a);
		return rc;
	}
	lay_acts(a, a->mem);
	*acts = a;
	return SEG_OK;
}

void seg_acts_free(struct seg_acts *a)
{
	if (!a)
		return;
	free(a->stats);
	free(a->taps);
	free(a->mem);
	free(a);
}

/* -- gradients of activations -------------------------------------------------------------------- */

/* One set serves down and up: when the way down is reached, the way up is done. */
struct seg_grads {
	struct seg_grid grid[SEG_MAXSTAGE];
	float *in[SEG_MAXSTAGE], *first[SEG_MAXSTAGE], *second[SEG_MAXSTAGE], *cat[SEG_MAXSTAGE], *skip[SEG_MAXSTAGE];
	float *up[SEG_MAXSTAGE]; /* of the transposed convolution that ends in this stage */
	float *z, *bias; /* bias: of a transposed convolution, before its four are added; 0 in between */
	float *mem;
};

static size_t lay_grads(const struct seg_net *net, struct seg_grads *d, float *base)
{
	struct bump b = {base, 0};
	int last = net->shape.nstage - 1;
	for (int i = 0; i <= last; i++) {
		const struct seg_grid *g = &d->grid[i];
		size_t c = (size_t)net->shape.channels[i];
		d->in[i] = i ? tensor(&b, g, (size_t)net->shape.channels[i - 1]) : NULL;
		d->first[i] = tensor(&b, g, c);
		d->second[i] = tensor(&b, g, c);
		d->cat[i] = i < last ? pair(&b, g, c) : NULL;
		d->skip[i] = i == last ? d->second[i] : base ? d->cat[i] + seg_blocks(c) * g->plane : NULL;
		d->up[i] = i < last ? tensor(&b, &d->grid[i + 1], 4 * c) : NULL;
	}
	d->z = tensor(&b, &d->grid[0], (size_t)net->shape.nclass);
	size_t most = 0;
	for (int i = 0; i < net->nlayer; i++)
		most = net->layer[i].nout > most ? net->layer[i].nout : most;
	d->bias = base ? base + b.n : NULL;
	return b.n + seg_blocks(most);
}

int seg_grads_new(struct seg_grads **grads, const struct seg_net *net, size_t h, size_t w)
{
	*grads = NULL;
	int rc = check_size(net, h, w);
	if (rc < 0)
		return rc;
	struct seg_grads *d = seg_alloc(1, sizeof *d);
	if (!d)
		return SEG_ENOMEM;
	set_grids(net, h, w, d->grid);
	d->mem = seg_alloc_aligned(lay_grads(net, d, NULL), sizeof(float));
	if (!d->mem) {
		seg_grads_free(d);
		return SEG_ENOMEM;
	}
	lay_grads(net, d, d->mem);
	*grads = d;
	return SEG_OK;
}

void seg_grads_free(struct seg_grads *d)
{
	if (d)
		free(d->mem);
	free(d);
}

/* -- forward ------------------------------------------------------------------------------------- */

/* One pass, of a team: each member does its part of a layer, then they meet, since the next layer
 * reads what all have written. */
struct pass {
	const struct seg_weights *w;
	struct seg_acts *a;
	struct seg_grads *d;
	const struct seg_tensor *image;
	float scale, *z;
	const float *dz;
	float *grad;
};

static void read_image(const struct seg_tensor *image, float scale, const struct seg_grid *g, float *x,
    struct seg_part me)
{
	size_t channels = image->ndim == 3 ? image->dim[2] : 1;
	for (size_t c = 0; c < channels; c++, x += g->plane)
		for (size_t i = seg_part_from(me, g->h); i < seg_part_to(me, g->h); i++) {
			size_t from = i * g->w * channels + c;
			float *row = x + i * g->row;
			if (image->dtype == SEG_U1) {
				const uint8_t *p = (const uint8_t *)image->data + from;
				for (size_t j = 0; j < g->w; j++)
					row[j] = (float)p[j * channels] * scale;
			} else if (image->dtype == SEG_U2) {
				const uint16_t *p = (const uint16_t *)image->data + from;
				for (size_t j = 0; j < g->w; j++)
					row[j] = (float)p[j * channels] * scale;
			} else {
				const float *p = (const float *)image->data + from;
				for (size_t j = 0; j < g->w; j++)
					row[j] = p[j * channels] * scale;
			}
		}
}

/* Rows without what stands behind them. */
static void copy_planes(const struct seg_grid *g, size_t channels, const float *from, size_t row,
    size_t plane, float *to, size_t torow, size_t toplane, struct seg_part me)
{
	for (size_t c = 0; c < channels; c++)
		for (size_t i = seg_part_from(me, g->h); i < seg_part_to(me, g->h); i++)
			memcpy(to + c * toplane + i * torow, from + c * plane + i * row, g->w * sizeof *to);
}

/* A layer without its norm and ReLU. */
static void linear(const struct pass *p, const struct layer *l, enum seg_epilogue epilogue, const float *x,
    float *y, struct seg_part me)
{
	const struct seg_weights *w = p->w;
	const struct seg_conv *c = &p->a->forward[l - w->net->layer];
	const float *bias = w->prepared + l->bias_out;
	if (l->kind == CONV3)
		w->net->kernels->winograd(c, x, w->prepared + l->sums, bias, epilogue, NULL, y, me);
	else
		w->net->kernels->conv(c, x, w->packed + l->kernel, bias, epilogue, NULL, y, me);
	seg_team_meet(me);
}

static void conv3(const struct pass *p, const struct layer *l, const float *x, float *y, struct seg_part me)
{
	const struct seg_weights *w = p->w;
	const struct seg_acts *a = p->a;
	if (!l->gamma) {
		linear(p, l, SEG_RELU, x, y, me);
		return;
	}
	const struct seg_grid *g = &a->grid[l->stage];
	size_t at = (size_t)(l - w->net->layer), group = layer_group(w->net, l);
	float *raw = a->raw[at] ? a->raw[at] : y;
	linear(p, l, SEG_PLAIN, x, raw, me);
	size_t n = l->cout / group;
	for (size_t c = seg_part_from(me, n) * group; c < seg_part_to(me, n) * group; c += group)
		w->net->kernels->norm(g, group, raw + c * g->plane, w->packed + l->gamma + c,
		    w->packed + l->beta + c, a->stat[at] + 2 * c / group, y + c * g->plane);
	seg_team_meet(me);
}

static void forward(void *arg, struct seg_part me)
{
	const struct pass *p = arg;
	const struct seg_net *net = p->w->net;
	const struct seg_kernels *k = net->kernels;
	const struct seg_acts *a = p->a;
	const struct seg_grid *g = a->grid;
	int last = net->shape.nstage - 1;

	read_image(p->image, p->scale, &g[0], a->in[0], me);
	seg_team_meet(me);
	for (int i = 0; i <= last; i++) {
		conv3(p, layer_down(net, i, 0), a->in[i], a->mid[i], me);
		conv3(p, layer_down(net, i, 1), a->mid[i], a->skip[i], me);
		if (i == last)
			break;
		k->pool(&g[i], &g[i + 1], (size_t)net->shape.channels[i], a->skip[i], a->in[i + 1], me);
		seg_team_meet(me);
	}
	for (int i = last - 1; i >= 0; i--) {
		linear(p, layer_up(net, i, 0), SEG_PLAIN, a->out[i + 1], a->up, me);
		k->spread(&g[i], &g[i + 1], (size_t)net->shape.channels[i], a->up, a->cat[i], me);
		seg_team_meet(me);
		conv3(p, layer_up(net, i, 1), a->cat[i], a->upmid[i], me);
		conv3(p, layer_up(net, i, 2), a->upmid[i], a->out[i], me);
	}
	linear(p, layer_head(net), SEG_PLAIN, a->out[0], a->z, me);
	copy_planes(&g[0], (size_t)net->shape.nclass, a->z, g[0].row, g[0].plane, p->z, g[0].w, g[0].h * g[0].w, me);
}

void seg_net_forward(const struct seg_weights *w, struct seg_acts *a, const struct seg_tensor *image,
    float scale, float *z, struct seg_team *team)
{
	seg_team_run(team, forward, &(struct pass){.w = w, .a = a, .image = image, .scale = scale, .z = z});
}

/* -- backward ------------------------------------------------------------------------------------ */

/* dy, the gradient before the ReLU of l (masked already), -> the gradients of its parameters, and
 * that of its input x unless dx is NULL: masked by x if x came out of a ReLU (epilogue). */
static void back(const struct pass *p, const struct layer *l, const float *x, float *dy,
    enum seg_epilogue epilogue, float *dx, struct seg_part me)
{
	const struct seg_weights *w = p->w;
	const struct seg_acts *a = p->a;
	const struct seg_kernels *k = w->net->kernels;
	const struct seg_grid *g = &a->grid[l->stage];
	float *grad = p->grad, *bias = l->kind == UP ? p->d->bias : grad + l->bias;
	size_t at = (size_t)(l - w->net->layer), group = layer_group(w->net, l), n = l->cout / group;
	if (l->gamma) {
		for (size_t c = seg_part_from(me, n) * group; c < seg_part_to(me, n) * group; c += group)
			k->norm_back(g, group, a->raw[at] + c * g->plane, w->packed + l->gamma + c,
			    a->stat[at] + 2 * c / group, dy + c * g->plane, grad + l->gamma + c, grad + l->beta + c);
		seg_team_meet(me);
	}
	int wino = l->kind == CONV3;
	(wino ? k->winograd_gradient : k->wgrad)(&a->forward[at], x, dy, grad + l->kernel, bias, me);
	if (dx)
		(wino ? k->winograd : k->conv)(&a->back[at], dy, w->prepared + (wino ? l->sums_back : l->back), NULL, epilogue, x,
		    dx, me);
	seg_team_meet(me);
	if (l->kind == UP && me.i == 0) {
		for (size_t c = 0; c < l->cout; c++) {
			const float *b = bias + 4 * c;
			grad[l->bias + c] = (b[0] + b[1]) + (b[2] + b[3]);
		}
		memset(bias, 0, a->forward[at].cout * sizeof *bias); /* as the next one wants to find it */
	}
}

static void backward(void *arg, struct seg_part me)
{
	const struct pass *p = arg;
	const struct seg_net *net = p->w->net;
	const struct seg_kernels *k = net->kernels;
	const struct seg_acts *a = p->a;
	const struct seg_grads *d = p->d;
	const struct seg_grid *g = a->grid;
	int last = net->shape.nstage - 1;

	size_t from = seg_part_from(me, net->npacked), to = seg_part_to(me, net->npacked);
	memset(p->grad + from, 0, (to - from) * sizeof *p->grad);
	copy_planes(&g[0], (size_t)net->shape.nclass, p->dz, g[0].w, g[0].h * g[0].w, d->z, g[0].row, g[0].plane, me);
	seg_team_meet(me);
	back(p, layer_head(net), a->out[0], d->z, SEG_MASK, d->second[0], me);
	for (int i = 0; i < last; i++) {
		back(p, layer_up(net, i, 2), a->upmid[i], d->second[i], SEG_MASK, d->first[i], me);
		back(p, layer_up(net, i, 1), a->cat[i], d->first[i], SEG_PLAIN, d->cat[i], me);
		k->gather(&g[i], &g[i + 1], (size_t)net->shape.channels[i], d->cat[i], d->up[i], me);
		seg_team_meet(me);
		back(p, layer_up(net, i, 0), a->out[i + 1], d->up[i], SEG_MASK, d->second[i + 1], me);
	}
	for (int i = last; i >= 0; i--) {
		if (i < last) {
			k->unpool(&g[i], &g[i + 1], (size_t)net->shape.channels[i], a->skip[i], a->in[i + 1],
			    d->in[i + 1], d->skip[i], me);
			seg_team_meet(me);
		}
		back(p, layer_down(net, i, 1), a->mid[i], d->skip[i], SEG_MASK, d->first[i], me);
		back(p, layer_down(net, i, 0), a->in[i], d->first[i], SEG_PLAIN, d->in[i], me);
	}
}

void seg_net_backward(const struct seg_weights *w, struct seg_acts *a, struct seg_grads *d,
    const float *dz, float *grad, struct seg_team *team)
{
	assert(a->keep);
	seg_team_run(team, backward, &(struct pass){.w = w, .a = a, .d = d, .dz = dz, .grad = grad});
}
