/* The head of the network: logits to probabilities. */
#include "lib/train/head.h"
#include "seg/math.h"

enum { BLOCK = 64 }; /* pixels at a time */

/* Class k of the block's pixels, in out [BLOCK][nclass]. */
static void put(const float *v, size_t n, size_t nclass, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i * nclass] = v[i];
}

static void softmax(const float *z, size_t plane, size_t nclass, size_t n, float *out)
{
	float max[BLOCK], sum[BLOCK] = {0}, v[BLOCK];
	for (size_t i = 0; i < n; i++)
		max[i] = z[i];
	for (size_t k = 1; k < nclass; k++)
		for (size_t i = 0; i < n; i++)
			max[i] = z[k * plane + i] > max[i] ? z[k * plane + i] : max[i];
	for (size_t k = 0; k < nclass; k++) {
		for (size_t i = 0; i < n; i++)
			sum[i] += v[i] = seg_expf(z[k * plane + i] - max[i]);
		put(v, n, nclass, out + k);
	}
	for (size_t k = 0; k < nclass; k++) {
		for (size_t i = 0; i < n; i++)
			v[i] = out[i * nclass + k] / sum[i];
		put(v, n, nclass, out + k);
	}
}

int SEG_ISA_NAME(seg_head_apply)(enum seg_head head, const float *z, size_t plane, size_t nclass, size_t n, float *out)
{
	int wild = 0;
	for (size_t at = 0; at < n; at += BLOCK, z += BLOCK, out += BLOCK * nclass) {
		size_t some = n - at < BLOCK ? n - at : BLOCK;
		float v[BLOCK];
		if (head == SEG_SOFTMAX)
			softmax(z, plane, nclass, some, out);
		for (size_t k = 0; k < nclass && head != SEG_SOFTMAX; k++) {
			for (size_t i = 0; i < some; i++)
				v[i] = head == SEG_SIGMOID ? seg_sigmoidf(z[k * plane + i]) : z[k * plane + i];
			put(v, some, nclass, out + k);
		}
		for (size_t i = 0; i < some * nclass; i++)
			wild |= out[i] - out[i] != 0;
	}
	return wild;
}
