/* Optimisers. */
#include <string.h>

#include "lib/net/optim.h"
#include "seg/err.h"
#include "seg/math.h"
#include "seg/net.h"

int seg_optim_defaults(struct seg_optim *o, const char *name)
{
	static const struct {
		const char *name;
		struct seg_optim o;
	} known[] = {
		{"adam", {SEG_ADAM, 0.001, 0.9, 0.999, 1e-7, 0}},             /* Keras */
		{"adam-torch", {SEG_ADAM_TORCH, 0.001, 0.9, 0.999, 1e-8, 0}}, /* PyTorch */
		{"sgd", {SEG_SGD, 0.01, 0, 0, 0, 0}},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(name, known[i].name)) {
			*o = known[i].o;
			return SEG_OK;
		}
	return seg_fail(SEG_EUSAGE, "no optimizer '%s': adam, adam-torch, sgd", name);
}

int seg_optim_moments(const struct seg_optim *o)
{
	return o->kind != SEG_SGD ? 2 : o->momentum != 0;
}

void seg_optim_step(const struct seg_optim *o, uint64_t t, size_t n, float *p, const float *g, float *m, float *v)
{
	const struct optim_loops *loops = SEG_ISA_PICK(&seg_optim_loops);
	struct optim_step s = {.lr = (float)o->lr, .beta1 = (float)o->beta1, .rest1 = (float)(1 - o->beta1),
	                       .beta2 = (float)o->beta2, .rest2 = (float)(1 - o->beta2), .root = 1,
	                       .epsilon = (float)o->epsilon, .momentum = (float)o->momentum};
	double bias1 = 1 - seg_exp((double)t * seg_log(o->beta1)), bias2 = 1 - seg_exp((double)t * seg_log(o->beta2));
	switch (o->kind) {
	case SEG_ADAM:
		s.lr = (float)(o->lr * seg_sqrt(bias2) / bias1);
		loops->adam(&s, n, p, g, m, v);
		break;
	case SEG_ADAM_TORCH: /* lr mhat / (sqrt vhat + eps), mhat = m / bias1, vhat = v / bias2 */
		s.lr = (float)(o->lr / bias1);
		s.root = (float)(1 / seg_sqrt(bias2));
		loops->adam(&s, n, p, g, m, v);
		break;
	case SEG_SGD:
		if (o->momentum != 0)
			loops->momentum(&s, n, p, g, m);
		else
			loops->sgd(&s, n, p, g);
		break;
	}
}
