/* TIFF pages in and out: the only door to libtiff.
 * Its own file access carries its errors: what libtiff says about a file lands in that file's
 * struct port, never on stderr, never in another thread's file.  Strips and tiles are read one by
 * one and their sizes compared; the RGBA helpers, which report success for data they could not
 * decode, are not used. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tiffio.h>
#include <unistd.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/mem.h"
#include "seg/stream.h"

#if TIFFLIB_VERSION < 20221213
#define SEG_OLD_TIFF /* before 4.5: global handlers, which are given the handle of the file */
#endif

/* An open file as libtiff sees it, and what libtiff said about it. */
struct port {
	int fd, err;      /* err: errno of the first read or write that failed */
	uint64_t pos, size;
	int tolerant;
	char why[400];    /* first error (or warning, if those count), one line */
};

/* ---- what libtiff says ---- */

#define NAME "the file" /* libtiff puts the name it knows into some texts; ours precede it already */

/* Complaints that say nothing about pixels: tags that nobody here reads, and a decoder that is old
 * but exact. */
static int harmless(const char *text)
{
	static const char *const known[] = {
		"Unknown field with tag", "of custom tag", "\"XResolution\"", "\"YResolution\"",
		"\"PageNumber\"", "does not end in null byte", "Old-style LZW codes",
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strstr(text, known[i]))
			return 1;
	return 0;
}

static void heard(struct port *p, int warning, const char *module, const char *fmt, va_list ap)
{
	char text[300];
	vsnprintf(text, sizeof text, fmt, ap);
	if (p->why[0] || (warning && p->tolerant) || harmless(text))
		return;
	int named = module && strcmp(module, NAME) != 0;
	snprintf(p->why, sizeof p->why, "%s%s%s%s", named ? module : "", named ? ": " : "", text,
	    warning ? "; a warning of libtiff, which --tolerant accepts" : "");
	for (char *s = p->why; *s; s++)
		if ((unsigned char)*s < 32 || *s == 127)
			*s = '?';
}

#ifndef SEG_OLD_TIFF
static int on_error(TIFF *tif, void *p, const char *module, const char *fmt, va_list ap)
{
	(void)tif;
	heard(p, 0, module, fmt, ap);
	return 1;
}

static int on_warning(TIFF *tif, void *p, const char *module, const char *fmt, va_list ap)
{
	(void)tif;
	heard(p, 1, module, fmt, ap);
	return 1;
}
#else
static void on_error(thandle_t h, const char *module, const char *fmt, va_list ap)
{
	if (h)
		heard(h, 0, module, fmt, ap);
}

static void on_warning(thandle_t h, const char *module, const char *fmt, va_list ap)
{
	if (h)
		heard(h, 1, module, fmt, ap);
}
#endif

/* ---- file access ---- */

static tmsize_t port_read(thandle_t h, void *buf, tmsize_t n)
{
	struct port *p = h;
	tmsize_t done = 0;
	while (done < n && p->pos + (uint64_t)done < p->size) {
		ssize_t r = pread(p->fd, (char *)buf + done, (size_t)(n - done), (off_t)(p->pos + (uint64_t)done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && !p->err)
			p->err = errno;
		if (r <= 0)
			break;
		done += r;
	}
	p->pos += (uint64_t)done;
	return done;
}

static tmsize_t port_write(thandle_t h, void *buf, tmsize_t n)
{
	struct port *p = h;
	tmsize_t done = 0;
	while (done < n) {
		ssize_t r = pwrite(p->fd, (char *)buf + done, (size_t)(n - done), (off_t)(p->pos + (uint64_t)done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && !p->err)
			p->err = errno;
		if (r <= 0)
			break;
		done += r;
	}
	p->pos += (uint64_t)done;
	if (p->size < p->pos)
		p->size = p->pos;
	return done;
}

static toff_t port_seek(thandle_t h, toff_t off, int whence)
{
	struct port *p = h;
	uint64_t to = whence == SEEK_CUR ? p->pos + off : whence == SEEK_END ? p->size + off : off;
	if (to > INT64_MAX)
		return (toff_t)-1;
	return p->pos = to;
}

static int port_close(thandle_t h)
{
	(void)h; /* the descriptor is its opener's */
	return 0;
}

static toff_t port_size(thandle_t h)
{
	return ((struct port *)h)->size;
}

/* Files are never mapped: one that shrinks while it is read would be a SIGBUS. */
static int port_map(thandle_t h, void **base, toff_t *size)
{
	(void)h, (void)base, (void)size;
	return 0;
}

static void port_unmap(thandle_t h, void *base, toff_t size)
{
	(void)h, (void)base, (void)size;
}

/* Georeferencing tags, which libtiff does not know by itself.  Written as counted lists. */
#define LIST(tag, type, name) {tag, -1, -1, type, FIELD_CUSTOM, 1, 1, (char *)(uintptr_t)(name)}
static const TIFFFieldInfo geo[] = {
	LIST(33550, TIFF_DOUBLE, "ModelPixelScale"),
	LIST(33922, TIFF_DOUBLE, "ModelTiepoint"),
	LIST(34264, TIFF_DOUBLE, "ModelTransformation"),
	LIST(34735, TIFF_SHORT, "GeoKeyDirectory"),
	LIST(34736, TIFF_DOUBLE, "GeoDoubleParams"),
	{34737, -1, -1, TIFF_ASCII, FIELD_CUSTOM, 1, 0, (char *)(uintptr_t)"GeoAsciiParams"},
	{42113, -1, -1, TIFF_ASCII, FIELD_CUSTOM, 1, 0, (char *)(uintptr_t)"GDAL_NODATA"},
};
enum { NGEO = sizeof geo / sizeof *geo };

static void extend(TIFF *tif)
{
	TIFFMergeFieldInfo(tif, geo, NGEO);
}

static void once(void)
{
	TIFFSetTagExtender(extend);
#ifdef SEG_OLD_TIFF
	TIFFSetErrorHandler(NULL);
	TIFFSetWarningHandler(NULL);
	TIFFSetErrorHandlerExt(on_error);
	TIFFSetWarningHandlerExt(on_warning);
#endif
}

static TIFF *port_open(struct port *p, const char *mode, size_t most)
{
	static pthread_once_t done = PTHREAD_ONCE_INIT;
	TIFF *tif = NULL;
	pthread_once(&done, once);
#ifndef SEG_OLD_TIFF
	TIFFOpenOptions *o = TIFFOpenOptionsAlloc();
	if (!o)
		return NULL;
	TIFFOpenOptionsSetMaxSingleMemAlloc(o, (tmsize_t)most);
	TIFFOpenOptionsSetErrorHandlerExtR(o, on_error, p);
	TIFFOpenOptionsSetWarningHandlerExtR(o, on_warning, p);
	tif = TIFFClientOpenExt(NAME, mode, p, port_read, port_write, port_seek, port_close, port_size,
	    port_map, port_unmap, o);
	TIFFOpenOptionsFree(o);
#else
	(void)most;
	tif = TIFFClientOpen(NAME, mode, p, port_read, port_write, port_seek, port_close, port_size,
	    port_map, port_unmap);
#endif
	return tif;
}

/* ---- reading ---- */

struct seg_tiff {
	struct port port;
	struct seg_tiff_rules rules;
	TIFF *tif;
	char *path;
	int number;      /* of the current directory; 0: none described yet */
	struct seg_page page;
	void *raw;       /* a strip as it is in the file */
	uint64_t nraw;   /* bytes there is room for */
};

/* The reason: what libtiff said, or the words given; page and block (-1: none) before it. */
static int bad(struct seg_tiff *f, long block, const char *otherwise)
{
	char where[64] = "", blk[48] = "";
	if (block >= 0)
		snprintf(blk, sizeof blk, ", %s %ld", TIFFIsTiled(f->tif) ? "tile" : "strip", block);
	if (f->number)
		snprintf(where, sizeof where, "page %d%s: ", f->number, blk);
	const char *why = f->port.why[0] ? f->port.why : otherwise;
	if (f->port.err)
		return seg_fail(SEG_EDATA, "%s: %scannot read: %s", f->path, where, strerror(f->port.err));
	return seg_fail(SEG_EDATA, "%s: %s%s", f->path, where, why);
}

/* A file that is no TIFF at all is often something well known. */
static int not_tiff(struct seg_tiff *f)
{
	char head[16] = "";
	ssize_t n = pread(f->port.fd, head, sizeof head - 1, 0);
	if (f->port.size == 0)
		return seg_fail(SEG_EDATA, "%s: the file is empty", f->path);
	if (n > 11 && !memcmp(head, "version http", 12))
		return seg_fail(SEG_EDATA, "%s: a git-lfs pointer, not the picture; run git lfs pull", f->path);
	if (n > 3 && !memcmp(head, "\211PNG", 4))
		return seg_fail(SEG_EDATA, "%s: a PNG file; convert it to TIFF", f->path);
	if (n > 2 && !memcmp(head, "\377\330\377", 3))
		return seg_fail(SEG_EDATA, "%s: a JPEG file; convert it to TIFF", f->path);
	return bad(f, -1, "cannot be read as TIFF");
}

int seg_tiff_open(struct seg_tiff **out, const char *path, const struct seg_tiff_rules *rules)
{
	struct stat st;
	struct seg_tiff *f = seg_alloc(1, sizeof *f);
	*out = NULL;
	if (!f)
		return SEG_ENOMEM;
	int rc = SEG_EDATA;
	f->rules = rules ? *rules : (struct seg_tiff_rules){0};
	if (!f->rules.max_pixels)
		f->rules.max_pixels = SEG_MAX_PIXELS;
	f->port.tolerant = f->rules.tolerant;
	f->port.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
	f->path = seg_strdup(path);
	if (!f->path)
		rc = SEG_ENOMEM;
	else if (f->port.fd < 0 || fstat(f->port.fd, &st) < 0)
		rc = seg_fail_sys("%s", path);
	else if (!S_ISREG(st.st_mode))
		rc = seg_fail(SEG_EDATA, S_ISDIR(st.st_mode) ? "%s: a directory; --images %s reads what is in it" :
		    "%s: not a regular file; TIFF needs one that can be sought in", path, path);
	else {
		size_t most = f->rules.max_pixels < SIZE_MAX / 16 ? f->rules.max_pixels * 8 : SIZE_MAX / 2;
		f->port.size = (uint64_t)st.st_size;
		f->tif = port_open(&f->port, "rm", most < 1 << 26 ? 1 << 26 : most);
		if (f->tif && !f->port.why[0]) {
			*out = f;
			return SEG_OK;
		}
		rc = f->tif ? bad(f, -1, "") : not_tiff(f);
	}
	seg_tiff_close(f);
	return rc;
}

void seg_tiff_close(struct seg_tiff *f)
{
	if (!f)
		return;
	if (f->tif)
		TIFFClose(f->tif);
	if (f->port.fd >= 0)
		close(f->port.fd);
	free(f->raw);
	free(f->path);
	free(f);
}

const char *seg_tiff_path(const struct seg_tiff *f)
{
	return f->path;
}

static uint16_t short_tag(TIFF *tif, uint32_t tag)
{
	uint16_t v = 0;
	TIFFGetFieldDefaulted(tif, tag, &v);
	return v;
}

/* Colours of a photometric interpretation; 0: one we do not read, with the reason in *why. */
static int photo(struct seg_tiff *f, struct seg_page *p, const char **why)
{
	uint16_t v = 0, compression = short_tag(f->tif, TIFFTAG_COMPRESSION);
	if (!TIFFGetField(f->tif, TIFFTAG_PHOTOMETRIC, &v)) {
		*why = "PhotometricInterpretation is missing; --tolerant takes it as grey or RGB";
		v = p->samples < 3 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB;
		if (!f->rules.tolerant)
			return 0;
	}
	switch (v) {
	case PHOTOMETRIC_MINISWHITE:
		p->photo = SEG_GREY_INVERTED;
		return 1;
	case PHOTOMETRIC_MINISBLACK:
		p->photo = SEG_GREY;
		return 1;
	case PHOTOMETRIC_RGB:
		p->photo = SEG_RGB;
		return 3;
	case PHOTOMETRIC_PALETTE:
		p->photo = SEG_PALETTE;
		return 1;
	case PHOTOMETRIC_SEPARATED:
		p->photo = SEG_CMYK;
		return 4;
	case PHOTOMETRIC_YCBCR: /* libtiff's JPEG turns it into RGB itself */
		p->photo = SEG_RGB;
		if (compression == COMPRESSION_JPEG && short_tag(f->tif, TIFFTAG_PLANARCONFIG) == PLANARCONFIG_CONTIG)
			return 3;
		*why = "YCbCr without JPEG compression is not read; convert it to RGB";
		return 0;
	case PHOTOMETRIC_MASK:
		p->photo = SEG_GREY;
		p->reduced = 1;
		return 1;
	case PHOTOMETRIC_CIELAB: case PHOTOMETRIC_ICCLAB: case PHOTOMETRIC_ITULAB:
		*why = "L*a*b* colours are not read; convert it to RGB";
		return 0;
	case PHOTOMETRIC_LOGL: case PHOTOMETRIC_LOGLUV:
		*why = "LogL and LogLuv colours are not read; convert it to float32";
		return 0;
	case PHOTOMETRIC_CFA:
		*why = "a raw colour filter array is not read; develop it first";
		return 0;
	}
	*why = "this PhotometricInterpretation is not read; convert it to grey or RGB";
	return 0;
}

static int formats(TIFF *tif, struct seg_page *p, const char **why)
{
	switch (short_tag(tif, TIFFTAG_SAMPLEFORMAT)) {
	case SAMPLEFORMAT_UINT: case SAMPLEFORMAT_VOID:
		p->format = SEG_FORMAT_UINT;
		break;
	case SAMPLEFORMAT_INT:
		p->format = SEG_FORMAT_INT;
		break;
	case SAMPLEFORMAT_IEEEFP:
		p->format = SEG_FORMAT_FLOAT;
		break;
	default:
		*why = "complex samples are not read";
		return 0;
	}
	*why = "this depth of samples is not read; convert it to 8 or 16 bit integers or float32";
	return seg_sample_type(p->bits, p->format) >= 0;
}

static int describe(struct seg_tiff *f)
{
	struct seg_page *p = &f->page;
	TIFF *tif = f->tif;
	uint32_t w = 0, h = 0, depth = 1, tiledepth = 1, sub = 0;
	uint16_t nextra = 0, *extra = NULL, *pal[3];
	const char *why = "";
	*p = (struct seg_page){.number = f->number};
	if (!TIFFGetField(tif, TIFFTAG_IMAGEWIDTH, &w) || !TIFFGetField(tif, TIFFTAG_IMAGELENGTH, &h) || !w || !h)
		return bad(f, -1, "has no width or height");
	p->width = w;
	p->height = h;
	p->samples = short_tag(tif, TIFFTAG_SAMPLESPERPIXEL);
	p->bits = short_tag(tif, TIFFTAG_BITSPERSAMPLE);
	p->orientation = short_tag(tif, TIFFTAG_ORIENTATION);
	p->last = TIFFLastDirectory(tif) != 0;
	p->offset = TIFFCurrentDirOffset(tif);
	TIFFGetFieldDefaulted(tif, TIFFTAG_SUBFILETYPE, &sub);
	p->reduced = (sub & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)) != 0;
	if (p->orientation < 1 || p->orientation > 8)
		return bad(f, -1, "Orientation is not 1 to 8");
	TIFFGetFieldDefaulted(tif, TIFFTAG_IMAGEDEPTH, &depth);
	TIFFGetFieldDefaulted(tif, TIFFTAG_TILEDEPTH, &tiledepth);
	if (depth > 1 || tiledepth > 1)
		return bad(f, -1, "a volume (ImageDepth) is not read; write its slices as pages");
	if (!formats(tif, p, &why) || !(p->colours = photo(f, p, &why)))
		return bad(f, -1, why);
	if (p->samples < p->colours)
		return bad(f, -1, "fewer samples per pixel than its colours need");
	TIFFGetFieldDefaulted(tif, TIFFTAG_EXTRASAMPLES, &nextra, &extra);
	int first = p->samples - nextra; /* where the extra samples begin */
	for (int i = 0; i < nextra && first >= 0 && first + i < 64; i++)
		if (extra[i] != EXTRASAMPLE_UNSPECIFIED)
			p->alpha |= (uint64_t)1 << (first + i);
	if (p->photo == SEG_PALETTE) {
		if (p->bits > 16 || !TIFFGetField(tif, TIFFTAG_COLORMAP, &pal[0], &pal[1], &pal[2]))
			return bad(f, -1, "a palette picture without a usable ColorMap");
		for (int i = 0; i < 3; i++)
			p->palette[i] = pal[i];
	}
	if (p->width > f->rules.max_pixels / p->height)
		return seg_fail(SEG_EDATA, "%s: page %d: %zux%zu pixels are more than the limit of %zu; --max-pixels raises it",
		    f->path, f->number, p->width, p->height, f->rules.max_pixels);
	return f->port.why[0] ? bad(f, -1, "") : 1;
}

int seg_tiff_page(struct seg_tiff *f, struct seg_page *p)
{
	if (f->number) {
		if (TIFFLastDirectory(f->tif))
			return 0;
		f->number++;
		f->port.err = 0;
		f->port.why[0] = 0; /* a page that failed says nothing about the next */
		if (!TIFFReadDirectory(f->tif))
			return bad(f, -1, "cannot be read: the chain of pages is broken");
	} else {
		f->number = 1;
	}
	int rc = describe(f);
	*p = f->page;
	return rc;
}

int seg_tiff_seek(struct seg_tiff *f, const struct seg_page *q, struct seg_page *p)
{
	f->number = q->number;
	if (TIFFCurrentDirOffset(f->tif) != q->offset && !TIFFSetSubDirectory(f->tif, q->offset))
		return bad(f, -1, "cannot be read");
	int rc = describe(f);
	*p = f->page;
	return rc < 0 ? rc : SEG_OK;
}

static tmsize_t decode(struct seg_tiff *f, uint32_t i, void *buf, tmsize_t n)
{
	return TIFFIsTiled(f->tif) ? TIFFReadEncodedTile(f->tif, i, buf, n) : TIFFReadEncodedStrip(f->tif, i, buf, n);
}

/* Deflate data are what they should be: as many as are wanted, with the right checksum, and now in buf.
 * 2: and no predictor or order of bytes is to be undone.  0: not, or it is not known. */
static int exact(struct seg_tiff *f, uint32_t i, void *buf, tmsize_t want)
{
	uint64_t n = TIFFGetStrileByteCount(f->tif, i);
	if (n > f->nraw && n < (uint64_t)want * 2 + 4096) { /* what is longer than that is odd */
		free(f->raw);
		f->raw = seg_alloc(n, 1);
		f->nraw = f->raw ? n : 0;
	}
	if (n == 0 || n > f->nraw || short_tag(f->tif, TIFFTAG_FILLORDER) != FILLORDER_MSB2LSB ||
	    (TIFFIsTiled(f->tif) ? TIFFReadRawTile(f->tif, i, f->raw, (tmsize_t)n)
	    : TIFFReadRawStrip(f->tif, i, f->raw, (tmsize_t)n)) != (tmsize_t)n ||
	    !seg_zlib_exact(f->raw, n, buf, (size_t)want))
		return 0;
	return short_tag(f->tif, TIFFTAG_PREDICTOR) == PREDICTOR_NONE && (!TIFFIsByteSwapped(f->tif) || f->page.bits <= 8) ? 2 : 1;
}

/* One strip or tile of `rows` rows of `row` bytes into buf, all of it.
 * Deflate that is not exact is decoded twice: libdeflate checks the checksum, but libtiff calls it a
 * success when the data go on behind the strip, and up to 64 KiB at its end are then left as they
 * were; zlib fills every byte, but libtiff stops it before the checksum. */
static int block(struct seg_tiff *f, uint32_t i, void *buf, size_t row, size_t rows)
{
	uint16_t c = short_tag(f->tif, TIFFTAG_COMPRESSION);
	int deflate = c == COMPRESSION_DEFLATE || c == COMPRESSION_ADOBE_DEFLATE;
	tmsize_t want = (tmsize_t)(row * rows);
	int good = deflate ? exact(f, i, buf, want) : 0;
	if (good == 2)
		return SEG_OK;
	tmsize_t got = decode(f, i, buf, want);
	char short_of[80];
#ifdef TIFFTAG_DEFLATE_SUBCODEC
	int subcodec = 0;
	if (got == want && deflate && !good &&
	    TIFFGetField(f->tif, TIFFTAG_DEFLATE_SUBCODEC, &subcodec) && subcodec != DEFLATE_SUBCODEC_ZLIB) {
		TIFFSetField(f->tif, TIFFTAG_DEFLATE_SUBCODEC, DEFLATE_SUBCODEC_ZLIB);
		got = decode(f, i, buf, want);
		TIFFSetField(f->tif, TIFFTAG_DEFLATE_SUBCODEC, subcodec);
	}
#endif
	snprintf(short_of, sizeof short_of, "gives %jd of %jd bytes", (intmax_t)got, (intmax_t)want);
	return got != want || f->port.why[0] ? bad(f, i, short_of) : SEG_OK;
}

/* Strips.  `per` samples lie together: all of them, or one if the planes are separate. */
static int strips(struct seg_tiff *f, struct seg_tensor *t, size_t per)
{
	const struct seg_page *p = &f->page;
	size_t size = seg_dtype_size(t->dtype), row = (p->width * per * (size_t)p->bits + 7) / 8;
	size_t planes = (size_t)p->samples / per, n = p->width * per;
	uint32_t rps = 0;
	TIFFGetFieldDefaulted(f->tif, TIFFTAG_ROWSPERSTRIP, &rps);
	if (!rps || rps > p->height)
		rps = (uint32_t)p->height;
	if (TIFFScanlineSize64(f->tif) != row)
		return bad(f, -1, "rows have an unexpected size");
	/* samples that need no unpacking are decoded where they belong */
	int direct = planes == 1 && row == n * size && (t->dtype != SEG_F8 || p->format == SEG_FORMAT_FLOAT);
	unsigned char *buf = direct ? NULL : seg_alloc(rps, row);
	int rc = direct || buf ? SEG_OK : SEG_ENOMEM;
	uint32_t i = 0;
	for (size_t c = 0; rc == SEG_OK && c < planes; c++)
		for (size_t y = 0; rc == SEG_OK && y < p->height; y += rps) {
			size_t rows = p->height - y < rps ? p->height - y : rps;
			char *to = (char *)t->data + (y * p->width * (size_t)p->samples + c) * size;
			rc = block(f, i++, direct ? (void *)to : buf, row, rows);
			for (size_t r = 0; rc == SEG_OK && !direct && r < rows; r++)
				seg_sample_unpack(buf + r * row, n, p->bits, p->format,
				    to + r * p->width * (size_t)p->samples * size, planes);
		}
	free(buf);
	return rc;
}

static int tiles(struct seg_tiff *f, struct seg_tensor *t, size_t per)
{
	const struct seg_page *p = &f->page;
	size_t size = seg_dtype_size(t->dtype), planes = (size_t)p->samples / per;
	uint32_t tw = 0, th = 0;
	TIFFGetField(f->tif, TIFFTAG_TILEWIDTH, &tw);
	TIFFGetField(f->tif, TIFFTAG_TILELENGTH, &th);
	if (!tw || !th || tw > f->rules.max_pixels / th)
		return seg_fail(SEG_EDATA, "%s: page %d: tiles of %ux%u pixels are more than the limit of %zu; --max-pixels raises it",
		    f->path, f->number, tw, th, f->rules.max_pixels);
	size_t row = ((size_t)tw * per * (size_t)p->bits + 7) / 8;
	if (TIFFTileRowSize64(f->tif) != row || TIFFTileSize64(f->tif) != row * th)
		return bad(f, -1, "tiles have an unexpected size");
	unsigned char *buf = seg_alloc(th, row);
	int rc = buf ? SEG_OK : SEG_ENOMEM;
	for (size_t c = 0; rc == SEG_OK && c < planes; c++)
		for (size_t y = 0; rc == SEG_OK && y < p->height; y += th)
			for (size_t x = 0; rc == SEG_OK && x < p->width; x += tw) {
				size_t rows = p->height - y < th ? p->height - y : th, n = p->width - x < tw ? p->width - x : tw;
				rc = block(f, TIFFComputeTile(f->tif, (uint32_t)x, (uint32_t)y, 0, (uint16_t)c), buf, row, th);
				for (size_t r = 0; rc == SEG_OK && r < rows; r++)
					seg_sample_unpack(buf + r * row, n * per, p->bits, p->format, (char *)t->data +
					    (((y + r) * p->width + x) * (size_t)p->samples + c) * size, planes);
			}
	free(buf);
	return rc;
}

int seg_tiff_read(struct seg_tiff *f, struct seg_tensor *t, int keep)
{
	const struct seg_page *p = &f->page;
	size_t dim[3] = {p->height, p->width, (size_t)p->samples};
	enum seg_dtype type = (enum seg_dtype)seg_sample_type(p->bits, p->format);
	uint16_t compression = short_tag(f->tif, TIFFTAG_COMPRESSION);
	*t = (struct seg_tensor){0};
	if (!TIFFIsCODECConfigured(compression)) {
		char name[80];
		const TIFFCodec *c = TIFFFindCODEC(compression);
		snprintf(name, sizeof name, "compression %u (%s) is not in this libtiff; convert the file", compression,
		    c ? c->name : "unknown");
		return bad(f, -1, name);
	}
	if (dim[2] > 16 * f->rules.max_pixels / (dim[0] * dim[1] * seg_dtype_size(type)))
		return seg_fail(SEG_EDATA, "%s: page %d: %zux%zu pixels of %zu samples need more than %zu bytes; --max-pixels raises this",
		    f->path, f->number, p->width, p->height, dim[2], 16 * f->rules.max_pixels);
	if (compression == COMPRESSION_JPEG && short_tag(f->tif, TIFFTAG_PHOTOMETRIC) == PHOTOMETRIC_YCBCR)
		TIFFSetField(f->tif, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
	int rc = seg_tensor_new(t, type, 3, dim);
	if (rc < 0)
		return seg_where(rc, "%s: page %d", f->path, f->number);
	size_t per = short_tag(f->tif, TIFFTAG_PLANARCONFIG) == PLANARCONFIG_SEPARATE ? 1 : dim[2];
	rc = TIFFIsTiled(f->tif) ? tiles(f, t, per) : strips(f, t, per);
	if (rc == SEG_OK && !keep)
		rc = seg_upright(t, p->orientation);
	if (rc < 0)
		seg_tensor_free(t);
	return rc;
}

/* ---- tags that travel ---- */

static const struct {
	uint32_t tag;
	const char *name;
} resolution[] = {
	{TIFFTAG_XRESOLUTION, "XResolution"}, {TIFFTAG_YRESOLUTION, "YResolution"},
	{TIFFTAG_XPOSITION, "XPosition"}, {TIFFTAG_YPOSITION, "YPosition"},
};
enum { NRESOLUTION = sizeof resolution / sizeof *resolution, MAXTAG = 65535 };

static struct seg_json *geo_json(TIFF *tif, const TIFFFieldInfo *g)
{
	uint16_t n = 0;
	const void *v = NULL;
	const char *s = NULL;
	if (g->field_type == TIFF_ASCII)
		return TIFFGetField(tif, g->field_tag, &s) && s ? seg_text_json(s) : NULL;
	if (!TIFFGetField(tif, g->field_tag, &n, &v) || !v)
		return NULL;
	struct seg_json *a = seg_json_array();
	for (int i = 0; a && i < n; i++)
		seg_json_add(a, g->field_type == TIFF_SHORT ? seg_json_int(((const uint16_t *)v)[i]) :
		    seg_json_num(((const double *)v)[i]));
	return a;
}

struct seg_json *seg_tiff_tags(struct seg_tiff *f)
{
	struct seg_json *o = seg_json_object(), *v;
	float r;
	uint16_t unit;
	for (int i = 0; o && i < NRESOLUTION; i++)
		if (TIFFGetField(f->tif, resolution[i].tag, &r) && r - r == 0)
			seg_json_set(o, resolution[i].name, seg_json_num(r));
	if (o && TIFFGetField(f->tif, TIFFTAG_RESOLUTIONUNIT, &unit))
		seg_json_set(o, "ResolutionUnit", seg_json_int(unit));
	for (int i = 0; o && i < NGEO; i++)
		if ((v = geo_json(f->tif, &geo[i])))
			seg_json_set(o, geo[i].field_name, v);
	return o;
}

static int put_geo(TIFF *tif, const TIFFFieldInfo *g, const struct seg_json *v)
{
	size_t n = seg_json_size(v), size = g->field_type == TIFF_SHORT ? sizeof(uint16_t) : sizeof(double);
	if (g->field_type == TIFF_ASCII) {
		const char *s = seg_json_string(v, NULL);
		return s && TIFFSetField(tif, g->field_tag, s);
	}
	if (!seg_json_is_array(v) || !n || n > MAXTAG)
		return 0;
	void *p = seg_alloc(n, size);
	for (size_t i = 0; p && i < n; i++)
		if (g->field_type == TIFF_SHORT)
			((uint16_t *)p)[i] = (uint16_t)seg_json_integer(seg_json_at(v, i), 0);
		else
			((double *)p)[i] = seg_json_number(seg_json_at(v, i), 0);
	int ok = p && TIFFSetField(tif, g->field_tag, (int)n, p);
	free(p);
	return ok;
}

static int put_tags(TIFF *tif, const struct seg_json *tags)
{
	const struct seg_json *v;
	for (int i = 0; i < NRESOLUTION; i++)
		if ((v = seg_json_get(tags, resolution[i].name)) &&
		    !TIFFSetField(tif, resolution[i].tag, seg_json_number(v, 0)))
			return 0;
	if ((v = seg_json_get(tags, "ResolutionUnit")) &&
	    !TIFFSetField(tif, TIFFTAG_RESOLUTIONUNIT, (int)seg_json_integer(v, RESUNIT_INCH)))
		return 0;
	for (int i = 0; i < NGEO; i++)
		if ((v = seg_json_get(tags, geo[i].field_name)) && !put_geo(tif, &geo[i], v))
			return 0;
	return 1;
}

/* ---- writing ---- */

static int put_palette(TIFF *tif, const struct seg_tiff_how *how)
{
	uint16_t map[3][256] = {{0}};
	for (int i = 0; i < how->npalette && i < 256; i++)
		for (int c = 0; c < 3; c++)
			map[c][i] = (uint16_t)(how->palette[i][c] * 257);
	return TIFFSetField(tif, TIFFTAG_COLORMAP, map[0], map[1], map[2]);
}

/* Everything the directory says but the compression. */
static int put_form(TIFF *tif, const struct seg_tensor *t, int samples, int bits, const struct seg_tiff_how *how)
{
	static const uint16_t unspecified[MAXTAG];
	int rgb = samples == 3 && t->dtype != SEG_F4, palette = how->palette && t->ndim == 2 && bits == 8;
	int extra = samples - (rgb ? 3 : 1), planar = how->planar && samples > 1;
	return TIFFSetField(tif, TIFFTAG_IMAGEWIDTH, (uint32_t)t->dim[1]) &&
	    TIFFSetField(tif, TIFFTAG_IMAGELENGTH, (uint32_t)t->dim[0]) &&
	    TIFFSetField(tif, TIFFTAG_SAMPLESPERPIXEL, samples) && TIFFSetField(tif, TIFFTAG_BITSPERSAMPLE, bits) &&
	    TIFFSetField(tif, TIFFTAG_SAMPLEFORMAT, t->dtype == SEG_F4 ? SAMPLEFORMAT_IEEEFP : SAMPLEFORMAT_UINT) &&
	    TIFFSetField(tif, TIFFTAG_PHOTOMETRIC, rgb ? PHOTOMETRIC_RGB : palette ? PHOTOMETRIC_PALETTE : PHOTOMETRIC_MINISBLACK) &&
	    TIFFSetField(tif, TIFFTAG_PLANARCONFIG, planar ? PLANARCONFIG_SEPARATE : PLANARCONFIG_CONTIG) &&
	    (extra < 1 || TIFFSetField(tif, TIFFTAG_EXTRASAMPLES, extra, unspecified)) &&
	    (!palette || put_palette(tif, how));
}

/* Rows y.. of plane c (or of all samples) as libtiff wants them. */
static void pack(const struct seg_tensor *t, size_t y, size_t rows, size_t samples, size_t per, size_t c, int bilevel, unsigned char *buf)
{
	size_t w = t->dim[1], size = seg_dtype_size(t->dtype);
	const unsigned char *from = (const unsigned char *)t->data + y * w * samples * size;
	if (bilevel) {
		memset(buf, 0, rows * ((w + 7) / 8));
		for (size_t r = 0; r < rows; r++)
			for (size_t x = 0; x < w; x++)
				if (from[r * w + x])
					buf[r * ((w + 7) / 8) + x / 8] |= (unsigned char)(0x80 >> x % 8);
	} else if (per == samples) {
		memcpy(buf, from, rows * w * samples * size);
	} else {
		for (size_t i = 0; i < rows * w; i++)
			memcpy(buf + i * size, from + (i * samples + c) * size, size);
	}
}

static int put_page(TIFF *tif, const struct seg_tensor *t, const struct seg_tiff_how *how)
{
	size_t samples = t->ndim == 3 ? t->dim[2] : 1, per = how->planar ? 1 : samples;
	int bilevel = how->bilevel && t->ndim == 2 && t->dtype == SEG_U1;
	int bits = bilevel ? 1 : 8 * (int)seg_dtype_size(t->dtype);
	size_t row = (t->dim[1] * per * (size_t)bits + 7) / 8, rps = row < 1 << 16 ? (1 << 16) / row : 1;
	if (rps > t->dim[0])
		rps = t->dim[0];
	/* none for floats: not every reader knows theirs */
	int predictor = t->dtype == SEG_U2 || (t->dtype == SEG_U1 && samples > 1) ? PREDICTOR_HORIZONTAL : PREDICTOR_NONE;
	if (!put_form(tif, t, (int)samples, bits, how) || !TIFFSetField(tif, TIFFTAG_ROWSPERSTRIP, (uint32_t)rps) ||
	    !TIFFSetField(tif, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE) ||
	    !TIFFSetField(tif, TIFFTAG_PREDICTOR, predictor))
		return 0;
	unsigned char *buf = seg_alloc(rps, row);
	int ok = buf != NULL;
	uint32_t strip = 0;
	for (size_t c = 0; ok && c < samples / per; c++)
		for (size_t y = 0; ok && y < t->dim[0]; y += rps) {
			size_t rows = t->dim[0] - y < rps ? t->dim[0] - y : rps;
			pack(t, y, rows, samples, per, c, bilevel, buf);
			ok = TIFFWriteEncodedStrip(tif, strip++, buf, (tmsize_t)(rows * row)) == (tmsize_t)(rows * row);
		}
	free(buf);
	return ok;
}

static int put_pages(TIFF *tif, const struct seg_tensor *page, size_t npage, const struct seg_tiff_how *how)
{
	for (size_t i = 0; i < npage; i++) {
		if (npage > 1 && (!TIFFSetField(tif, TIFFTAG_SUBFILETYPE, FILETYPE_PAGE) ||
		    !TIFFSetField(tif, TIFFTAG_PAGENUMBER, (int)(i & 65535), (int)(npage & 65535))))
			return 0;
		if (i == 0 && how->description && !TIFFSetField(tif, TIFFTAG_IMAGEDESCRIPTION, how->description))
			return 0;
		if (i == 0 && how->tags && !put_tags(tif, how->tags))
			return 0;
		if (!put_page(tif, &page[i], how) || !TIFFWriteDirectory(tif))
			return 0;
	}
	return TIFFFlush(tif);
}

int seg_tiff_write(const char *path, const struct seg_tensor *page, size_t npage, const struct seg_tiff_how *how)
{
	static const struct seg_tiff_how plain;
	struct port p = {.tolerant = 1};
	struct seg_new f;
	uint64_t total = 0;
	for (size_t i = 0; i < npage; i++) {
		const struct seg_tensor *t = &page[i];
		if (t->dtype > SEG_F4 || t->ndim < 2 || t->ndim > 3 || !t->dim[0] || !t->dim[1] || t->dim[0] > INT32_MAX ||
		    t->dim[1] > INT32_MAX || (t->ndim == 3 && (!t->dim[2] || t->dim[2] > 65535)))
			return seg_fail(SEG_EDATA, "%s: page %zu: a tensor of this type or shape is not a picture", path, i + 1);
		total += seg_tensor_nbytes(t);
	}
	int rc = seg_new_open(&f, path);
	if (rc < 0)
		return rc;
	p.fd = f.fd;
	TIFF *tif = port_open(&p, total > 4000000000u ? "w8m" : "wm", SIZE_MAX / 2);
	int ok = tif && put_pages(tif, page, npage, how ? how : &plain);
	if (tif)
		TIFFClose(tif);
	if (ok && !p.why[0] && !p.err)
		return seg_new_commit(&f);
	seg_new_discard(&f);
	errno = p.err;
	return p.err ? seg_fail_sys("%s: cannot write", path) :
	    seg_fail(SEG_EDATA, "%s: cannot write: %s", path, p.why[0] ? p.why : "libtiff refuses a tag");
}
