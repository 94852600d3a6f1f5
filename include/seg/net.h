/* The U-Net: shape, parameters, forward and backward pass of one sample, optimisers, model files.
 * Layers as in the post: per stage two 3x3 same convolutions + ReLU, 2x2 max pooling, then per
 * stage a 2x2 stride-2 transposed convolution (no ReLU), concatenation [upsampled, skip], two 3x3
 * convolutions + ReLU, and a 1x1 convolution giving logits.  The head (sigmoid, softmax) is not
 * applied here: logits leave the net. */
#ifndef SEG_NET_H
#define SEG_NET_H

#include <stddef.h>
#include <stdint.h>

#include "seg/parallel.h"
#include "seg/stream.h"

enum { SEG_MAXSTAGE = 8 };
enum seg_norm { SEG_NORM_NONE, SEG_NORM_INSTANCE, SEG_NORM_GROUP };
enum seg_init { SEG_GLOROT, SEG_HE };

struct seg_net_shape {
	int cin, nclass;              /* input channels, output channels */
	int nstage, channels[SEG_MAXSTAGE]; /* 5: 8 16 32 64 128 */
	enum seg_norm norm;           /* after each 3x3 convolution, before ReLU */
	int groups;                   /* of SEG_NORM_GROUP */
};

/* One named tensor of the model: canonical (Keras) shape and order, golden/layout.txt:
 * conv2d_1/kernel [kh,kw,in,out], conv2d_transpose_1/kernel [kh,kw,out,in], */
struct seg_param {
	char name[40];
	int ndim;
	size_t dim[4];
	size_t off, count; /* in the flat canonical vector */
};

struct seg_net; /* shape + parameter table + packed layout; immutable, shared by threads */
int seg_net_new(struct seg_net **net, const struct seg_net_shape *shape);
void seg_net_free(struct seg_net *net);
const struct seg_net_shape *seg_net_shape(const struct seg_net *net);
int seg_net_multiple(const struct seg_net *net); /* H and W must be multiples of this: 2^(nstage-1) */
size_t seg_net_nparam(const struct seg_net *net);          /* 485,853 for 3 channels, 5 classes */
const struct seg_param *seg_net_params(const struct seg_net *net, int *n);

/* Weights, gradients and optimiser moments live in a packed layout of this many floats (padding
 * stays 0).  Conversion to and from the flat canonical vector of nparam floats. */
size_t seg_net_npacked(const struct seg_net *net);
void seg_net_pack(const struct seg_net *net, const float *flat, float *packed);
void seg_net_unpack(const struct seg_net *net, const float *packed, float *flat);

/* Initial weights, flat canonical: a function of the seed (and tensor name) alone. */
void seg_net_init(const struct seg_net *net, enum seg_init how, uint64_t seed, float *flat);

/* Weights prepared for the kernels (transposed copies); made once a step from packed weights,
 * then shared by all threads. */
struct seg_weights;
int seg_weights_new(struct seg_weights **w, const struct seg_net *net);
void seg_weights_set(struct seg_weights *w, const float *packed);
void seg_weights_free(struct seg_weights *w);

/* Activations of one sample of H x W, allocated once and reused. keep: backward will follow. */
struct seg_acts;
int seg_acts_new(struct seg_acts **a, const struct seg_net *net, size_t h, size_t w, int keep);
void seg_acts_free(struct seg_acts *a);
size_t seg_acts_nbytes(const struct seg_net *net, size_t h, size_t w, int keep);
/* Gradients with respect to activations: one per thread. */
struct seg_grads;
int seg_grads_new(struct seg_grads **g, const struct seg_net *net, size_t h, size_t w);
void seg_grads_free(struct seg_grads *g);

/* Forward: image [H][W][C] as u1, u2 or f4 times scale (1/255, 1/65535, 1) -> logits, dense planes
 * z [K][H*W].  Backward: dz [K][H*W] = dL/dz of this sample -> grad, npacked floats, overwritten
 * (this sample's gradient alone).  a must hold this sample's forward pass.  The team, NULL for the
 * caller alone, shares the work; the bits do not depend on its size.  Cannot fail. */
void seg_net_forward(const struct seg_weights *w, struct seg_acts *a, const struct seg_tensor *image,
    float scale, float *z, struct seg_team *team);
void seg_net_backward(const struct seg_weights *w, struct seg_acts *a, struct seg_grads *g,
    const float *dz, float *grad, struct seg_team *team);

/* Optimisers.  Elementwise over packed vectors; t counts steps from 1.  Hyper-parameters and
 * formulas: adam as Keras (epsilon 1e-7 outside the bias correction: p -= lr sqrt(1-b2^t)/(1-b1^t)
 * m/(sqrt v + eps)), adam-torch (p -= lr mhat/(sqrt vhat + 1e-8)), sgd with momentum (Keras). */
enum seg_optimizer { SEG_ADAM, SEG_ADAM_TORCH, SEG_SGD };
struct seg_optim {
	enum seg_optimizer kind;
	double lr, beta1, beta2, epsilon, momentum;
};
int seg_optim_defaults(struct seg_optim *o, const char *name); /* "adam", "adam-torch", "sgd" */
int seg_optim_moments(const struct seg_optim *o);              /* vectors of state: 2, 2, 0 or 1 */
void seg_optim_step(const struct seg_optim *o, uint64_t t, size_t n, float *p, const float *g,
    float *m, float *v);

/* A model file is a stream of kind model whose header's `more` holds "net" (shape), "range"
 * ("u1", "u2", "f4" or a number), "loss" (text), "range" and whatever the trainer adds; each tensor
 * is a record named as in seg_param. h carries classes, task, head, ignore, more, provenance. */
int seg_model_save(const char *path, const struct seg_header *h, const struct seg_net *net, const float *flat);
/* *net and *flat are the caller's to free; *h too. */
int seg_model_load(const char *path, struct seg_header *h, struct seg_net **net, float **flat);
/* For files that hold more than a model: records PREFIX/NAME of the tensors of flat, in order; the
 * header's "net". */
int seg_params_write(struct seg_writer *w, const char *prefix, const struct seg_net *net, const float *flat);
int seg_params_read(struct seg_reader *r, const char *prefix, const struct seg_net *net, float *flat);
struct seg_json *seg_net_json(const struct seg_net *net);

#endif
