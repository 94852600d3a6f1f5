/* Predictions as a filter: each sample's image through the network, one sample on a thread, or a large one
 * on all. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "lib/train/head.h"
#include "lib/train/train.h"
#include "seg/err.h"

/* Pixels from which on a picture has all threads to itself, while other pictures wait.  A team of two is
 * then as fast as two pictures side by side (within 5 %), it is all that helps a single picture, and
 * activations are held once, not once for each thread.  What the filter does before and after, unpacking
 * and packing, goes on in the other threads meanwhile. */
enum { LARGE = 512 * 512 };

struct room {
	struct seg_acts *acts;
	float *z;
	size_t h, w;
};
struct predict {
	const struct seg_predict *o;
	struct seg_header head; /* of the model */
	struct seg_net *net;
	struct seg_weights *weights;
	struct input want;
	float scale;
	struct room *room;      /* of each thread */
	pthread_mutex_t lock;   /* of these two: */
	struct seg_team *team;  /* all threads; NULL until it is needed */
	struct room large;
};

static int header(void *arg, struct seg_header *h)
{
	struct predict *p = arg;
	if (h->nclass == 0) {
		int rc = seg_header_classes(h, (const char *const *)p->head.classes, p->head.nclass);
		if (rc < 0)
			return rc;
		h->task = p->head.task;
	}
	if (h->nclass != p->head.nclass)
		return seg_fail(SEG_EDATA, "the stream has %d classes, the model %s has %d", h->nclass, p->o->model,
		    p->head.nclass);
	for (int k = 0; k < h->nclass; k++)
		if (strcmp(h->classes[k], p->head.classes[k]))
			return seg_fail(SEG_EDATA, "class %d is '%s', but '%s' in the model %s", k, h->classes[k],
			    p->head.classes[k], p->o->model);
	h->head = p->head.head;
	struct seg_json *options = seg_json_object();
	if (p->o->logits)
		seg_json_set(options, "logits", seg_json_bool(1));
	return seg_header_sign(h, "seg-predict", options);
}

static void room_free(struct room *r)
{
	seg_acts_free(r->acts);
	free(r->z);
	*r = (struct room){0};
}

static int room_for(struct predict *p, struct room *r, size_t h, size_t w)
{
	if (r->acts && r->h == h && r->w == w)
		return SEG_OK;
	room_free(r);
	*r = (struct room){.h = h, .w = w, .z = seg_alloc_aligned(h * w * (size_t)p->head.nclass, sizeof *r->z)};
	return r->z ? seg_acts_new(&r->acts, p->net, h, w, 0) : SEG_ENOMEM;
}

/* Planes [K][P] of logits -> [P][K], through the head. */
struct heads {
	enum seg_head head;
	const float *z;
	size_t plane, nclass;
	float *out;
	atomic_int wild; /* not all of it is finite */
};

static void apply_head(void *arg, struct seg_part me)
{
	struct heads *h = arg;
	size_t from = seg_part_from(me, h->plane), n = seg_part_to(me, h->plane) - from;
	if (SEG_ISA_PICK(seg_head_apply)(h->head, h->z + from, h->plane, h->nclass, n, h->out + from * h->nclass))
		h->wild = 1;
}

/* The network and its head on one image; out is [H][W][K]. */
static int run(struct predict *p, struct room *r, struct seg_team *team, const struct seg_tensor *image,
    const struct seg_tensor *out, const char *key)
{
	size_t h = out->dim[0], w = out->dim[1], n = seg_tensor_count(out), i = 0;
	int rc = room_for(p, r, h, w);
	if (rc < 0)
		return rc;
	struct heads heads = {p->o->logits ? SEG_NONE : p->head.head, r->z, h * w, out->dim[2], out->data, 0};
	seg_net_forward(p->weights, r->acts, image, p->scale, r->z, team);
	seg_team_run(team, apply_head, &heads);
	if (!heads.wild)
		return SEG_OK;
	for (const float *v = out->data; i < n && v[i] - v[i] == 0;)
		i++;
	return seg_fail(SEG_EDATA, "sample %s: the prediction is not finite at y %zu x %zu; is the model sound, "
	    "the image in range?", key, i / heads.nclass / w, i / heads.nclass % w);
}

static int run_large(struct predict *p, const struct seg_tensor *image, const struct seg_tensor *out, const char *key)
{
	pthread_mutex_lock(&p->lock);
	int rc = p->team ? SEG_OK : seg_team_new(&p->team, p->o->threads);
	if (rc == SEG_OK)
		rc = run(p, &p->large, p->team, image, out, key);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static int each(void *arg, struct seg_sample *s, int t)
{
	struct predict *p = arg;
	const struct seg_tensor *image = input_image(&p->want, s);
	if (!image)
		return SEG_EDATA;
	size_t dim[] = {image->dim[0], image->dim[1], (size_t)p->head.nclass};
	struct seg_tensor out;
	int rc = seg_tensor_new(&out, SEG_F4, 3, dim);
	if (rc == SEG_OK)
		rc = p->o->threads > 1 && dim[0] * dim[1] >= LARGE ? run_large(p, image, &out, s->key)
		    : run(p, &p->room[t], NULL, image, &out, s->key);
	/* predictions of another model may not stand beside ours */
	if (rc == SEG_OK)
		rc = seg_sample_drop(s, p->o->logits ? "pred.npy" : "logit.npy");
	if (rc < 0) {
		seg_tensor_free(&out);
		return rc;
	}
	rc = seg_sample_put(s, p->o->logits ? "logit.npy" : "pred.npy", &out);
	return rc < 0 ? rc : 1;
}

int seg_predict_run(const struct seg_predict *o)
{
	struct predict p = {.o = o, .lock = PTHREAD_MUTEX_INITIALIZER};
	float *flat = NULL, *packed = NULL;
	int rc = seg_model_load(o->model, &p.head, &p.net, &flat);
	if (rc < 0)
		return rc;
	const char *range = seg_json_string(seg_json_get(p.head.more, "range"), NULL);
	rc = range ? input_range(range) : seg_fail(SEG_EDATA, "the header has no range");
	if (rc < 0) {
		rc = seg_where(SEG_EDATA, "%s", o->model);
		goto done;
	}
	p.want = (struct input){seg_net_shape(p.net)->cin, seg_net_multiple(p.net), range, 0};
	p.scale = input_scale(range);
	rc = SEG_ENOMEM;
	packed = seg_alloc_aligned(seg_net_npacked(p.net), sizeof *packed);
	p.room = seg_alloc((size_t)o->threads, sizeof *p.room);
	if (!packed || !p.room || seg_weights_new(&p.weights, p.net) < 0)
		goto done;
	seg_net_pack(p.net, flat, packed);
	seg_weights_set(p.weights, packed);
	struct seg_filter f = {.in = o->in, .out = o->out, .threads = o->threads, .level = o->level,
	                       .header = header, .each = each, .arg = &p};
	rc = seg_filter(&f);
done:
	seg_team_free(p.team);
	pthread_mutex_destroy(&p.lock);
	room_free(&p.large);
	for (int t = 0; p.room && t < o->threads; t++)
		room_free(&p.room[t]);
	free(p.room);
	seg_weights_free(p.weights);
	free(packed);
	free(flat);
	seg_net_free(p.net);
	seg_header_free(&p.head);
	return rc;
}
