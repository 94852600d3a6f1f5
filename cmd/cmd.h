/* What all commands share: one option table, strict numbers, one message, one exit status. */
#ifndef CMD_H
#define CMD_H

#include <stdio.h>

struct cmd_opt {
	int key;          /* the letter, or CMD_LONG + n for an option without one */
	const char *name; /* long name */
	const char *arg;  /* name of the argument, or NULL; "[=NAME]": may be left out (cmd_arg is then NULL) */
	const char *help; /* one line */
};
#define CMD_LONG 256

struct cmd {
	const char *name;             /* "seg-load" */
	const char *usage;            /* what follows the name in the SYNOPSIS of the manual, word for word */
	const char *about;            /* one line */
	const struct cmd_opt *opt;    /* ends with name NULL; sorted as in the manual */
};

/* Start: names the program, sets signals up (SIGPIPE ends quietly, temporary files are removed). */
void cmd_start(const struct cmd *c);

/* The next option's key, its argument in cmd_arg; -1 at the first operand (index in cmd_ind).
 * -h, --help and --version are answered here; an unknown option is a usage error. */
int cmd_next(int argc, char **argv);
extern const char *cmd_arg;
extern int cmd_ind;
extern int cmd_verbose; /* the command sets it for --verbose */

/* Strict numbers: the whole word, in range, else a usage error that names the option. */
long long cmd_int(const char *option, const char *word, long long lo, long long hi);
double cmd_num(const char *option, const char *word, double lo, double hi);
/* Split "a,b,c" in place; returns the count, pointers in out; empty names are usage errors. */
int cmd_list(const char *option, char *word, char **out, int max);

/* The level of output streams: the option if given (>= 0), else SEG_LEVEL, else -1 (the default). */
int cmd_level(int option);

/* "seg-x: message; try 'seg-x --help'", exit 2. */
_Noreturn void cmd_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "seg-x: where: reason", exit with the status of code (quietly for SEG_EPIPE).  where may be NULL. */
_Noreturn void cmd_die(int code, const char *where);
/* The line of cmd_die, without the end. */
void cmd_complain(const char *where);
/* "seg-x: ..." to stderr, only with --verbose. */
void cmd_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Refuse to write binary to a terminal. */
void cmd_binary_stdout(void);
/* Close stdout, checking delayed write errors; returns the exit status for code. */
int cmd_close(int code);

/* Progress on stderr: a bar on a terminal, nothing elsewhere unless cmd_progress_lines is set.
 * total 0: unknown.  cmd_progress_end clears the bar. */
extern int cmd_progress_lines;
void cmd_progress(const char *what, double done, double total, const char *extra);
void cmd_progress_end(void);
/* 1 if colour may be used on this file (a terminal, no NO_COLOR). */
int cmd_colour(FILE *f);

#endif
