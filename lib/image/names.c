/* Names of files: which are TIFF, what their stem is, and as JSON text. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/image/parts.h"
#include "seg/err.h"
#include "seg/mem.h"

size_t seg_stem(const char *name)
{
	static const char *const ending[] = {".ome.tiff", ".ome.tif", ".tiff", ".tif", ".btf", ".tf8"};
	size_t n = strlen(name);
	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
		size_t e = strlen(ending[i]);
		if (n > e && !strcasecmp(name + n - e, ending[i]))
			return n - e;
	}
	return 0;
}

/* Bytes of the UTF-8 character at s; 0 if it is none (Unicode 3.9, table 3-7). */
static int utf8(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	int n = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
	for (int i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

struct seg_json *seg_text_json(const char *s)
{
	struct seg_buf b = {0};
	int rc = seg_buf_printf(&b, "%s", "");
	while (rc == SEG_OK && *s) {
		int n = utf8((const unsigned char *)s);
		rc = n ? seg_buf_add(&b, s, (size_t)n) : seg_buf_printf(&b, "%%%02X", (unsigned char)*s);
		s += n ? n : 1;
	}
	if (rc == SEG_OK)
		rc = seg_buf_add(&b, "", 1);
	struct seg_json *j = rc == SEG_OK ? seg_json_str(b.data) : NULL;
	free(b.data);
	return j;
}
