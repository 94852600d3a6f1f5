/* What all commands share. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "seg/err.h"
#include "seg/file.h"
#include "seg/isa.h"
#include "seg/parallel.h"

const char *cmd_arg;
int cmd_ind, cmd_verbose, cmd_progress_lines;

static const struct cmd *self;
static struct option *longs;
static char *shorts;
static int bar_shown;

static void on_signal(int sig)
{
	seg_new_cleanup();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* A closed stdin, stdout or stderr must not become the first file opened: hold its place with
 * something that cannot be used the way it would be. */
static void keep_standard(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
			_exit(1);
}

void cmd_start(const struct cmd *c)
{
	self = c;
	keep_standard();
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (signal(ends[i], on_signal) == SIG_IGN)
			signal(ends[i], SIG_IGN);
#ifdef M_MMAP_THRESHOLD /* samples come and go: their memory is not given back each time */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
	signal(SIGPIPE, SIG_IGN); /* a write then says EPIPE, and files being made are tidied up */

	size_t n = 0, s = 0;
	while (c->opt[n].name)
		n++;
	longs = calloc(n + 3, sizeof *longs);
	shorts = calloc(2 * n + 4, 1);
	if (!longs || !shorts)
		cmd_die(seg_fail(SEG_ENOMEM, "out of memory"), NULL);
	shorts[s++] = ':'; /* missing arguments are reported by us */
	for (size_t i = 0; i < n; i++) {
		const struct cmd_opt *o = &c->opt[i];
		longs[i] = (struct option){o->name, !o->arg ? no_argument : *o->arg == '[' ? optional_argument : required_argument, NULL, o->key};
		if (o->key < CMD_LONG) {
			shorts[s++] = (char)o->key;
			if (o->arg)
				shorts[s++] = ':';
		}
	}
	longs[n] = (struct option){"help", no_argument, NULL, 'h'};
	longs[n + 1] = (struct option){"version", no_argument, NULL, CMD_LONG - 1};
	shorts[s] = 'h';
	opterr = 0;
}

/* The synopsis in lines of 96 columns, cut between its brackets. */
static void usage(void)
{
	int at = printf("usage: %s", self->name);
	for (const char *w = self->usage; *w;) {
		size_t n = 0;
		for (int open = 0; w[n] && (open > 0 || w[n] != ' '); n++)
			open += (w[n] == '[') - (w[n] == ']');
		if (at + (int)n > 95)
			at = printf("\n      ") - 1;
		at += printf(" %.*s", (int)n, w);
		w += n + (w[n] == ' ');
	}
	puts("\n");
}

static _Noreturn void help(void)
{
	printf("%s - %s\n", self->name, self->about);
	usage();
	for (const struct cmd_opt *o = self->opt; o->name; o++) {
		char left[64];
		if (o->key < CMD_LONG)
			snprintf(left, sizeof left, "-%c, --%s%s%s", o->key, o->name, o->arg ? " " : "",
			    o->arg ? o->arg : "");
		else
			snprintf(left, sizeof left, "    --%s%s%s", o->name, o->arg && *o->arg != '[' ? " " : "",
			    o->arg ? o->arg : "");
		printf("  %-25s %s\n", left, o->help);
	}
	printf("  %-25s %s\n  %-25s %s\n", "-h, --help", "this text", "    --version", "version and instruction set");
	printf("\nManual: man %s\n", self->name);
	exit(cmd_close(SEG_OK));
}

int cmd_next(int argc, char **argv)
{
	int k = getopt_long(argc, argv, shorts, longs, NULL);
	cmd_arg = optarg;
	cmd_ind = optind;
	switch (k) {
	case 'h':
		help();
	case CMD_LONG - 1:
		printf("%s %s (%s)\n", self->name, SEG_VERSION, seg_isa_text(seg_isa()));
		exit(cmd_close(SEG_OK));
	case ':':
		if (argv[optind - 1][1] == '-')
			cmd_usage("option %s needs an argument", argv[optind - 1]);
		cmd_usage("option -%c needs an argument", optopt);
	case '?':
		if (!optopt || optopt >= CMD_LONG - 1)
			cmd_usage("no such option: %s", argv[optind - 1]);
		cmd_usage("no such option: -%c", optopt);
	}
	return k;
}

long long cmd_int(const char *option, const char *word, long long lo, long long hi)
{
	char *end;
	errno = 0;
	long long v = strtoll(word, &end, 10);
	if (end == word || *end || errno || v < lo || v > hi || word[0] == ' ' || word[0] == '+')
		cmd_usage("%s: '%s' is not a whole number from %lld to %lld", option, word, lo, hi);
	return v;
}

double cmd_num(const char *option, const char *word, double lo, double hi)
{
	char *end;
	double v = strtod(word, &end); /* no setlocale is ever called: the point is a point */
	if (end == word || *end || !isfinite(v) || v < lo || v > hi || word[0] == ' ' || word[0] == '+')
		cmd_usage("%s: '%s' is not a number from %g to %g", option, word, lo, hi);
	return v;
}

int cmd_list(const char *option, char *word, char **out, int max)
{
	int n = 0;
	for (char *p = word, *end; p; p = end) {
		end = strchr(p, ',');
		if (end)
			*end++ = 0;
		if (!*p)
			cmd_usage("%s: entry %d is empty", option, n + 1);
		if (n == max)
			cmd_usage("%s: more than %d entries", option, max);
		out[n++] = p;
	}
	return n;
}

int cmd_level(int option)
{
	const char *e = getenv("SEG_LEVEL");
	return option >= 0 ? option : e && *e ? (int)cmd_int("SEG_LEVEL", e, 0, 12) : -1;
}

static void vsay(const char *fmt, va_list ap)
{
	cmd_progress_end();
	fprintf(stderr, "%s: ", self->name);
	vfprintf(stderr, fmt, ap);
}

void cmd_usage(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsay(fmt, ap);
	va_end(ap);
	fprintf(stderr, "; try '%s --help'\n", self->name);
	exit(2);
}

void cmd_complain(const char *where)
{
	cmd_progress_end();
	fprintf(stderr, "%s: %s%s%s\n", self->name, where ? where : "", where ? ": " : "", seg_reason());
}

void cmd_die(int code, const char *where)
{
	seg_new_cleanup();
	if (code == SEG_EPIPE) {
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE); /* as a filter that was not told to look */
	}
	cmd_complain(where);
	exit(seg_status(code));
}

void cmd_say(const char *fmt, ...)
{
	va_list ap;
	if (!cmd_verbose)
		return;
	va_start(ap, fmt);
	vsay(fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void cmd_binary_stdout(void)
{
	if (isatty(STDOUT_FILENO))
		cmd_usage("stdout is a terminal; redirect it to a file or a pipe");
}

int cmd_close(int code)
{
	cmd_progress_end();
	int bad = ferror(stdout);
	errno = bad ? EIO : 0;
	if (fclose(stdout) != 0 || bad) {
		int rc = seg_fail_sys("<stdout>");
		cmd_die(rc, NULL);
	}
	return seg_status(code);
}

int cmd_colour(FILE *f)
{
	const char *no = getenv("NO_COLOR");
	return isatty(fileno(f)) && !(no && *no);
}

void cmd_progress(const char *what, double done, double total, const char *extra)
{
	static double start, last;
	int tty = isatty(STDERR_FILENO);
	double now = seg_seconds();
	if (!tty && !cmd_progress_lines)
		return;
	if (!start || done <= 0)
		start = now;
	if (done < total && now - last < (tty ? 0.1 : 5))
		return;
	last = now;
	double rate = now > start ? done / (now - start) : 0;
	char eta[32] = "";
	if (total > 0 && rate > 0 && done < total)
		snprintf(eta, sizeof eta, ", %.0f s left", (total - done) / rate);
	if (tty) {
		int width = 24, full = total > 0 ? (int)(done / total * width) : 0;
		fprintf(stderr, "\r\033[K%s ", what);
		if (total > 0)
			fprintf(stderr, "[%.*s%.*s] %.0f/%.0f", full, "########################", width - full,
			    "........................", done, total);
		else
			fprintf(stderr, "%.0f", done);
		fprintf(stderr, " %.1f/s%s%s%s", rate, eta, extra && *extra ? "  " : "", extra ? extra : "");
		bar_shown = 1;
	} else if (total > 0) {
		fprintf(stderr, "%s: %s %.0f/%.0f %.1f/s%s%s%s\n", self->name, what, done, total, rate, eta,
		    extra && *extra ? "  " : "", extra ? extra : "");
	} else {
		fprintf(stderr, "%s: %s %.0f %.1f/s\n", self->name, what, done, rate);
	}
	fflush(stderr);
}

void cmd_progress_end(void)
{
	if (bar_shown)
		fputs("\r\033[K", stderr);
	bar_shown = 0;
}
