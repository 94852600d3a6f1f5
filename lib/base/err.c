/* The reason of the last failure, one per thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "seg/err.h"

static _Thread_local char reason[2048];

int seg_fail(int code, const char *fmt, ...)
{
	char text[sizeof reason]; /* the arguments may include the old reason */
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	memcpy(reason, text, sizeof reason);
	return code;
}

int seg_fail_sys(const char *fmt, ...)
{
	int e = errno;
	char text[1024], sys[128] = "";
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	const char *s = strerror_r(e, sys, sizeof sys);
	return seg_fail(e == EPIPE ? SEG_EPIPE : SEG_EDATA, "%s: %s", text, s);
}

int seg_where(int code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return seg_fail(code, "%s: %s", text, reason);
}

const char *seg_reason(void)
{
	return reason;
}

int seg_status(int code)
{
	switch (code) {
	case SEG_OK: return 0;
	case SEG_EUSAGE: return 2;
	case SEG_ECORRUPT: return 3;
	case SEG_ESKIPPED: return 4;
	case SEG_ECKPT: return 99;
	default: return 1;
	}
}
