/* Synthetic scenes: soil and grass, ploughed fields, lakes and rivers, roofs with shadows, and a few
 * thin cracks.  Everything is a function of the position and of numbers drawn for the scene. */
#include <stdlib.h>

#include "seg/err.h"
#include "seg/math.h"
#include "seg/mem.h"
#include "seg/rng.h"
#include "seg/synth.h"

const char *const seg_synth_class[SEG_SYNTH_CLASSES] = {"ground", "field", "water", "roof", "crack"};
enum { GROUND, FIELD, WATER, ROOF, CRACK };

enum { MOST = 16, JOINTS = 64 };

/* Land is measured in units: a scene is 256 of them wide if it is square. */
struct shape { /* a rectangle, an ellipse or a band about a wavy line, turned by (ux, uy) */
	double x, y, ux, uy, a, b, tone[3], period;
	uint32_t salt;
};
struct joint {
	double x, y, half; /* half the width of the crack here */
};
struct scene {
	double height, width; /* units */
	double scale;         /* pixels for one unit */
	double light[2];      /* where light comes from, unit length */
	double tint[3], grain;
	struct shape field[MOST], lake[MOST], river[1], roof[MOST];
	int nfield, nlake, nriver, nroof;
	uint32_t salt;
};

/* ---- noise ---- */

static uint32_t mix(uint32_t x)
{
	x = (x ^ x >> 16) * 0x7feb352d; /* lowbias32 (Wellons, 2018) */
	x = (x ^ x >> 15) * 0x846ca68b;
	return x ^ x >> 16;
}

static double lattice(uint32_t salt, int x, int y)
{
	return mix(mix(salt + (uint32_t)x * 0x9e3779b9) + (uint32_t)y * 0x85ebca6b) * 0x1p-32;
}

static int whole(double x) /* floor */
{
	int i = (int)x;
	return i - (i > x);
}

static double lerp(double a, double b, double t) { return a + (b - a) * t; }

/* 0 below a, 1 above b, a soft step between. */
static double step(double a, double b, double x)
{
	double t = (x - a) / (b - a);
	t = t < 0 ? 0 : t > 1 ? 1 : t;
	return t * t * (3 - 2 * t);
}

/* Value noise (Perlin's lattice with values, not gradients): 0..1, features of one unit. */
static double noise(uint32_t salt, double x, double y)
{
	int i = whole(x), j = whole(y);
	double s = step(0, 1, x - i), t = step(0, 1, y - j);
	return lerp(lerp(lattice(salt, i, j), lattice(salt, i + 1, j), s),
	    lerp(lattice(salt, i, j + 1), lattice(salt, i + 1, j + 1), s), t);
}

static double clouds(uint32_t salt, double x, double y, int octaves)
{
	double sum = 0, all = 0, amp = 1;
	for (int o = 0; o < octaves; o++, amp /= 2, x *= 2, y *= 2, all += 2 * amp)
		sum += amp * noise(salt + (uint32_t)o, x, y);
	return sum / all;
}

/* ---- what a scene holds ---- */

static double between(struct seg_rng *r, double lo, double hi)
{
	return lo + (hi - lo) * seg_rng_unit(r);
}

static void shape(struct seg_rng *r, const struct scene *s, struct shape *p, double lo, double hi)
{
	double turn = between(r, 0, 3.14159265358979);
	*p = (struct shape){.x = between(r, 0, s->width), .y = between(r, 0, s->height),
	                    .ux = seg_cos(turn), .uy = seg_sin(turn), .salt = seg_rng_u32(r)};
	p->a = between(r, lo, hi);
	p->b = p->a * between(r, 0.5, 0.9);
}

static void tone(struct seg_rng *r, struct shape *p, const double (*palette)[3], uint32_t n)
{
	const double *c = palette[seg_rng_below(r, n)];
	double lightness = between(r, 0.88, 1.12);
	for (int i = 0; i < 3; i++)
		p->tone[i] = c[i] * lightness * between(r, 0.95, 1.05);
}

static void plan(struct seg_rng *r, struct scene *s)
{
	static const double crops[][3] = {{.34, .47, .18}, {.62, .55, .26}, {.27, .42, .24}, {.52, .52, .20}};
	static const double tiles[][3] = {{.68, .30, .21}, {.50, .26, .20}, {.55, .54, .56}, {.74, .68, .62}};
	static const double deep[][3] = {{.10, .26, .38}, {.13, .30, .34}};
	double turn = between(r, 0, 6.28318530717958);
	s->light[0] = seg_cos(turn);
	s->light[1] = seg_sin(turn);
	for (int i = 0; i < 3; i++)
		s->tint[i] = between(r, 0.9, 1.1);
	s->grain = between(r, 0.012, 0.03);
	s->salt = seg_rng_u32(r);
	s->nfield = 2 + (int)seg_rng_below(r, 3);
	s->nlake = (int)seg_rng_below(r, 3);
	s->nriver = seg_rng_below(r, 5) < 2 || s->nlake == 0;
	s->nroof = 6 + (int)seg_rng_below(r, 6);
	for (int i = 0; i < s->nfield; i++) {
		shape(r, s, &s->field[i], 38, 66);
		tone(r, &s->field[i], crops, 4);
		s->field[i].period = between(r, 5, 9);
	}
	for (int i = 0; i < s->nlake; i++) {
		shape(r, s, &s->lake[i], 32, 60);
		tone(r, &s->lake[i], deep, 2);
	}
	for (int i = 0; i < s->nriver; i++) {
		shape(r, s, &s->river[i], 10, 18);
		tone(r, &s->river[i], deep, 2);
		s->river[i].period = between(r, 0.014, 0.03);
	}
	for (int i = 0; i < s->nroof; i++) {
		shape(r, s, &s->roof[i], 11, 21);
		tone(r, &s->roof[i], tiles, 4);
	}
}

/* ---- surfaces: how far (x, y) lies inside, in units; negative outside ---- */

static void turn(const struct shape *p, double x, double y, double *u, double *v)
{
	x -= p->x;
	y -= p->y;
	*u = x * p->ux + y * p->uy;
	*v = y * p->ux - x * p->uy;
}

static double in_box(const struct shape *p, double x, double y)
{
	double u, v;
	turn(p, x, y, &u, &v);
	u = p->a - (u < 0 ? -u : u);
	v = p->b - (v < 0 ? -v : v);
	return u < v ? u : v;
}

static double in_field(const struct shape *p, double x, double y)
{
	double d = in_box(p, x, y);
	return d < -6 ? d : d + 5 * (clouds(p->salt, x / 14, y / 14, 2) - 0.5);
}

static double in_lake(const struct shape *p, double x, double y)
{
	double u, v;
	turn(p, x, y, &u, &v);
	double d = p->b * (1 - seg_sqrt(u * u / (p->a * p->a) + v * v / (p->b * p->b)));
	return d < -12 ? d : d + 22 * (clouds(p->salt, x / 30, y / 30, 3) - 0.5);
}

static double in_river(const struct shape *p, double x, double y)
{
	double u, v;
	turn(p, x, y, &u, &v);
	v += 26 * seg_sin(u * p->period) + 7 * seg_sin(u * p->period * 2.3 + 1);
	return p->a - (v < 0 ? -v : v) + 6 * (clouds(p->salt, x / 20, y / 20, 2) - 0.5);
}

/* ---- colours ---- */

static void blend(double *c, const double *over, double cover)
{
	for (int i = 0; i < 3; i++)
		c[i] = lerp(c[i], over[i], cover);
}

static void shade(double *c, double by)
{
	for (int i = 0; i < 3; i++)
		c[i] *= by;
}

static void ground(const struct scene *s, double x, double y, double *c)
{
	static const double soil[3] = {.52, .43, .32}, grass[3] = {.40, .45, .27}, bush[3] = {.17, .27, .13};
	double far = clouds(s->salt, x / 50, y / 50, 4);
	double near = clouds(s->salt + 11, x / 7, y / 7, 3);
	double lit = near - clouds(s->salt + 11, (x - s->light[0]) / 7, (y - s->light[1]) / 7, 3);
	for (int i = 0; i < 3; i++)
		c[i] = lerp(soil[i], grass[i], step(0.35, 0.65, far));
	shade(c, 0.86 + 0.28 * near + 1.2 * lit);
	double bushes = clouds(s->salt + 23, x / 9, y / 9, 2);
	blend(c, bush, 0.85 * step(0.70, 0.76, bushes) * step(0.45, 0.55, far));
}

static void crops(const struct shape *p, double x, double y, double *c)
{
	double u, v;
	turn(p, x, y, &u, &v);
	double row = seg_sin(6.28318530717958 * (v + 1.2 * noise(p->salt, u / 25, v / 25)) / p->period);
	double by = (0.90 + 0.2 * clouds(p->salt + 5, x / 18, y / 18, 3)) * (1 + 0.16 * row);
	for (int i = 0; i < 3; i++)
		c[i] = p->tone[i] * by;
}

static void water(const struct shape *p, double x, double y, double inside, double *c)
{
	static const double shallow[3] = {.30, .42, .40};
	double ripple = clouds(p->salt + 7, x / 10 + y / 40, y / 3.5, 2) - 0.5;
	double depth = step(0, 9, inside);
	for (int i = 0; i < 3; i++)
		c[i] = lerp(shallow[i], p->tone[i], depth) * (1 + 0.18 * ripple);
}

static void tiles(const struct scene *s, const struct shape *p, double x, double y, double *c)
{
	double u, v;
	turn(p, x, y, &u, &v);
	/* two slopes that meet in a ridge: one faces the light */
	double faces = (v > 0 ? 1 : -1) * (s->light[1] * p->ux - s->light[0] * p->uy);
	double by = 0.92 + 0.2 * faces + 0.05 * seg_sin(v * 2.4) + 0.12 * (noise(p->salt, u / 2, v / 2) - 0.5);
	by += 0.25 * (1 - step(0.4, 1.1, v < 0 ? -v : v));
	for (int i = 0; i < 3; i++)
		c[i] = p->tone[i] * by;
}

/* Colour and class at (x, y); soft is half the width of an edge. */
static int look(const struct scene *s, double x, double y, double soft, double *c)
{
	int class = GROUND;
	double over[3], d;
	ground(s, x, y, c);
	for (int i = 0; i < s->nfield; i++)
		if ((d = in_field(&s->field[i], x, y)) > -soft) {
			crops(&s->field[i], x, y, over);
			blend(c, over, step(-soft, soft, d));
			class = d > 0 ? FIELD : class;
		}
	for (int i = 0; i < s->nriver + s->nlake; i++) {
		const struct shape *p = i < s->nriver ? &s->river[i] : &s->lake[i - s->nriver];
		if ((d = i < s->nriver ? in_river(p, x, y) : in_lake(p, x, y)) > -soft) {
			water(p, x, y, d, over);
			blend(c, over, step(-soft, soft, d));
			class = d > 0 ? WATER : class;
		}
	}
	for (int i = 0; i < s->nroof; i++) /* shadows first: they fall on the land, not on roofs */
		if ((d = in_box(&s->roof[i], x + 4 * s->light[0], y + 4 * s->light[1])) > -1.5)
			shade(c, 1 - 0.45 * step(-1.5, 1.5, d));
	for (int i = 0; i < s->nroof; i++)
		if ((d = in_box(&s->roof[i], x, y)) > -soft) {
			tiles(s, &s->roof[i], x, y, over);
			blend(c, over, step(-soft, soft, d));
			class = d > 0 ? ROOF : class;
		}
	return class;
}

/* ---- cracks ---- */

/* A walk that bends, thin at both ends. */
static int walk(struct seg_rng *r, double x, double y, double heading, int n, double half, struct joint *j)
{
	for (int i = 0; i < n; i++) {
		double t = (i + 0.5) / n, thick = 4 * t * (1 - t);
		j[i] = (struct joint){x, y, half * (0.45 + 0.55 * thick)};
		heading += between(r, -0.55, 0.55);
		x += 2.8 * seg_cos(heading);
		y += 2.8 * seg_sin(heading);
	}
	return n;
}

/* How far (x, y) lies inside the piece from a to b. */
static double in_piece(const struct joint *a, const struct joint *b, double x, double y)
{
	double dx = b->x - a->x, dy = b->y - a->y;
	double t = ((x - a->x) * dx + (y - a->y) * dy) / (dx * dx + dy * dy);
	t = t < 0 ? 0 : t > 1 ? 1 : t;
	dx = a->x + t * dx - x;
	dy = a->y + t * dy - y;
	return lerp(a->half, b->half, t) - seg_sqrt(dx * dx + dy * dy);
}

struct canvas {
	size_t h, w;
	double *colour; /* [h][w][3] */
	float *inside;  /* [h][w]: how far inside a crack */
	uint8_t *label;
};

static int pixel(double x, size_t n)
{
	return x < 0 ? 0 : x > (double)n ? (int)n : (int)x;
}

static void trace(const struct scene *s, struct canvas *v, const struct joint *j, int n)
{
	for (int i = 0; i + 1 < n; i++) {
		double x0 = j[i].x < j[i + 1].x ? j[i].x : j[i + 1].x, y0 = j[i].y < j[i + 1].y ? j[i].y : j[i + 1].y;
		double reach = 4;
		int left = pixel((x0 - reach) * s->scale, v->w), right = pixel((x0 + 2.8 + reach) * s->scale + 1, v->w);
		int top = pixel((y0 - reach) * s->scale, v->h), bottom = pixel((y0 + 2.8 + reach) * s->scale + 1, v->h);
		for (int y = top; y < bottom; y++)
			for (int x = left; x < right; x++) {
				float *at = &v->inside[(size_t)y * v->w + (size_t)x];
				float d = (float)in_piece(&j[i], &j[i + 1], (x + 0.5) / s->scale, (y + 0.5) / s->scale);
				*at = d > *at ? d : *at;
			}
	}
}

/* Cracks run through ground and fields; water and roofs hide them. */
static void cracks(const struct scene *s, struct seg_rng *r, struct canvas *v)
{
	static const double edge[3] = {.80, .74, .62}, core[3] = {.07, .055, .05};
	struct joint j[JOINTS];
	int n = (int)seg_rng_below(r, 4); /* 0..3 */
	double soft = 0.5 / s->scale;
	for (int i = 0; i < n; i++) {
		double x = 0, y = 0;
		for (int try = 0; try < 6; try++) { /* a start where it can be seen, if one is found */
			x = between(r, 0.1, 0.9) * s->width;
			y = between(r, 0.1, 0.9) * s->height;
			size_t row = (size_t)(y * s->scale), col = (size_t)(x * s->scale);
			if (v->label[row * v->w + col] <= FIELD)
				break;
		}
		double heading = between(r, 0, 6.28318530717958), half = between(r, 0.9, 1.4);
		int joints = 9 + (int)seg_rng_below(r, 22);
		trace(s, v, j, walk(r, x, y, heading, joints, half, j));
		int branch = joints / 2;
		trace(s, v, j, walk(r, j[branch].x, j[branch].y, heading + between(r, 0.6, 1.2),
		    joints / 3, 0.7 * half, j));
	}
	for (size_t i = 0; i < v->h * v->w; i++) {
		double d = v->inside[i];
		if (v->label[i] > FIELD || d < -2.5)
			continue;
		blend(v->colour + 3 * i, edge, 0.6 * step(-2.2, -0.3, d)); /* the ground breaks up bright beside it */
		blend(v->colour + 3 * i, core, step(-soft, soft, d));
		if (d > 0)
			v->label[i] = CRACK;
	}
}

/* ---- the picture ---- */

/* Sum of four uniform numbers: near enough to a normal, variance 1. */
static double grain(uint32_t salt, uint32_t i)
{
	uint32_t a = mix(salt + i), b = mix(a ^ 0x5bd1e995);
	return ((a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16) - 131070.0) * (1.7320508 / 65536);
}

static void develop(const struct scene *s, const struct canvas *v, uint8_t *image)
{
	for (size_t y = 0; y < v->h; y++)
		for (size_t x = 0; x < v->w; x++) {
			size_t i = y * v->w + x;
			double light = 0.86 + 0.28 * noise(s->salt + 31, (double)x / s->scale / 110, (double)y / s->scale / 110);
			for (size_t c = 0; c < 3; c++) {
				double p = v->colour[3 * i + c] * light * s->tint[c] +
				    s->grain * grain(s->salt, (uint32_t)(3 * i + c));
				image[3 * i + c] = (uint8_t)(p <= 0 ? 0 : p >= 1 ? 255 : p * 255 + 0.5);
			}
		}
}

int seg_synth_scene(uint64_t seed, uint64_t index, size_t h, size_t w, uint8_t *image, uint8_t *label)
{
	struct seg_rng r;
	struct scene s = {0};
	struct canvas v = {.h = h, .w = w, .label = label};
	v.colour = seg_alloc(h * w, 3 * sizeof *v.colour);
	v.inside = seg_alloc(h * w, sizeof *v.inside);
	int rc = v.colour && v.inside ? SEG_OK : SEG_ENOMEM;
	if (rc < 0)
		goto done;
	s.scale = seg_sqrt((double)h * (double)w) / 256;
	s.height = (double)h / s.scale;
	s.width = (double)w / s.scale;
	seg_rng_start(&r, seed, "synth", "", 0, 0, index);
	plan(&r, &s);
	for (size_t y = 0; y < h; y++)
		for (size_t x = 0; x < w; x++) {
			size_t i = y * w + x;
			label[i] = (uint8_t)look(&s, ((double)x + 0.5) / s.scale, ((double)y + 0.5) / s.scale, 0.7 / s.scale,
			    v.colour + 3 * i);
			v.inside[i] = -100;
		}
	cracks(&s, &r, &v);
	develop(&s, &v, image);
done:
	free(v.inside);
	free(v.colour);
	return rc;
}

void seg_synth_mask(const uint8_t *label, size_t n, int k, uint8_t set, size_t stride, uint8_t *mask)
{
	for (size_t i = 0; i < n; i++)
		mask[i * stride] = label[i] == k ? set : 0;
}
