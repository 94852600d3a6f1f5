/* The loss language: lexer and recursive descent to a syntax tree.  A text is UTF-8; `#` begins a
 * comment that ends with its line; blanks and newlines only separate.
 *
 *     text       = { definition } [ expression ]        a recipe file has definitions only
 *     definition = name [ "[" parameter "]" ] [ "(" [ parameter { "," parameter } ] ")" ]
 *                  "=" expression ";"
 *     parameter  = word [ "=" default ]                 in brackets: a set of axes, "[A=n,y,x]"
 *     expression = sum [ ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum ]
 *     sum        = product { ( "+" | "-" ) product }
 *     product    = sign { ( "*" | "/" ) sign }
 *     sign       = "-" sign | power
 *     power      = atom [ "^" sign ]                    -a^2 is -(a^2); a^b^c is a^(b^c)
 *     atom       = number | "(" expression ")" | list | call
 *     call       = name [ "[" axis { "," axis } "]" ] [ "(" [ argument { "," argument } ] ")" ]
 *     argument   = [ word "=" ] expression              by position, then by name
 *     list       = "[" entry { "," entry } "]"          K numbers over k, or axes: "[y,x]"
 *     entry      = [ ( word | number | string | "*" ) "=" ] expression
 *     axis       = "n" | "y" | "x" | "k" | word         a word: a parameter that holds axes
 *     name       = word | "@" word "." word
 *     word       = letter or "_", then letters, digits, "_"
 *     number     = digits [ "." digits ] [ "e" [ sign ] digits ]       also ".5"
 *     string     = '"' anything but '"' '"'             class names that are not words
 *
 * Leaves: t p z v w (axes n,y,x,k; w: those of the weight map), s (n), c (k); `head` is 1 for a sigmoid,
 * 2 for a softmax, 0 for none.  Elementwise: exp log sqrt abs tanh softplus sigmoid stop f32 (a);
 * xlogy min max (a,b); clip (a,low,high); where (c,a,b).  sum mean max min [axes](a) reduce;
 * argmax softmax logsoftmax [k](a) keep k.  torch_bce(p,t) is a primitive with torch's gradient.
 * where(c,a,b) with a constant c is the operand chosen; the other is not even looked at.
 *
 * Axes of a value                                           what is refused
 *   number {}, [a,b,..] {k}, leaves as above                [..] without exactly K entries
 *   elementwise: the union of its operands' axes
 *   sum[A](e): axes of e less A; an axis that e lacks       n in A while e keeps y or x
 *     multiplies by its extent (and leaves n, if A lacks
 *     n: the extents of y and x are the sample's own)
 *   mean[A](e): sum[A](e) / sum[A](1)                       the same
 *   max[A](e), min[A](e): axes of e less A                  the same
 *   argmax, softmax, logsoftmax [k](e): axes of e           e without k
 *   the whole: {}                                           anything else */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seg/err.h"
#include "seg/mem.h"
#include "lib/loss/tree.h"

enum { DEPTH = 200, LONGEST = 1 << 20 };
enum { END, WORD, NUMBER, STRING, LE, GE, EQ, NE }; /* other tokens: their character */

struct token {
	int kind, at, len;
	double num;
};
struct parser {
	struct arena **mem;
	struct text *text;
	struct token *tok; /* ends with END */
	int pos, depth;
};

void seg_loss_place(struct spot where, char *buf, size_t n)
{
	int line = 1, column = 1, lines = 1;
	const char *s = where.src ? where.src->s : "";
	for (int i = 0; s[i]; i++) {
		if (i < where.at && s[i] == '\n')
			line++, column = 1;
		else if (i < where.at && ((unsigned char)s[i] & 0xC0) != 0x80) /* characters, not bytes */
			column++;
		lines += s[i] == '\n' && s[i + 1];
	}
	const char *name = where.src ? where.src->name : NULL;
	if (name)
		snprintf(buf, n, "%s, line %d, column %d", name, line, column);
	else if (lines > 1)
		snprintf(buf, n, "line %d, column %d", line, column);
	else
		snprintf(buf, n, "column %d", column);
}

int seg_loss_wrong(struct spot where, const char *fmt, ...)
{
	char text[1500], place[120];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (!where.src)
		return seg_fail(SEG_EUSAGE, "%s", text);
	seg_loss_place(where, place, sizeof place);
	return seg_fail(SEG_EUSAGE, "%s: %s", place, text);
}

/* ---- tokens ---- */

static int letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static int digit(char c) { return c >= '0' && c <= '9'; }

static int word_end(const char *s, int i)
{
	while (letter(s[i]) || digit(s[i]))
		i++;
	return i;
}

static int number_end(const char *s, int i)
{
	while (digit(s[i]))
		i++;
	if (s[i] == '.')
		for (i++; digit(s[i]); i++)
			;
	if (s[i] == 'e' || s[i] == 'E') {
		int j = i + 1 + (s[i + 1] == '-' || s[i + 1] == '+');
		if (digit(s[j]))
			for (i = j; digit(s[i]); i++)
				;
	}
	return i;
}

/* What someone who writes a dict of class numbers, {0:1, 1:1, 2:1000}, means: [1,1,1000]. */
static int dict(struct spot where)
{
	char list[400] = "";
	size_t n = 0;
	const char *s = where.src->s + where.at + 1;
	for (int k = 0;; k++, s++) {
		char *end;
		if (strtol(s, &end, 10) != k || end == s || *(end += strspn(end, " ")) != ':')
			break;
		double v = strtod(s = end + 1, &end);
		if (end == s || n > sizeof list - 40)
			break;
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%g", k ? "," : "", v);
		s = end + strspn(end, " ");
		if (*s == '}')
			return seg_loss_wrong(where, "a dict of weights is written as a vector over the classes: [%s]", list);
		if (*s != ',')
			break;
	}
	return seg_loss_wrong(where, "'{' is not part of the language; a vector over the classes is [a,b,..] or by name "
	    "[crack=1000, *=1]");
}

/* One token at s[i]; returns where it ends, or a negative code. */
static int lex(const struct text *t, int i, struct token *k)
{
	const char *s = t->s;
	*k = (struct token){.kind = s[i], .at = i, .len = 1};
	if (letter(s[i]) || s[i] == '@') {
		k->kind = WORD;
		int end = word_end(s, i + (s[i] == '@'));
		if (s[i] == '@') {
			if (s[end] != '.' || !letter(s[end + 1]) || end == i + 1)
				return seg_loss_wrong((struct spot){t, i, 1}, "a recipe's name has two parts, "
				    "as in @keras3.binary_crossentropy");
			end = word_end(s, end + 1);
		}
		k->len = end - i;
	} else if (digit(s[i]) || (s[i] == '.' && digit(s[i + 1]))) {
		k->kind = NUMBER;
		k->len = number_end(s, i) - i;
		k->num = strtod(s + i, NULL);
		if (letter(s[i + k->len]))
			return seg_loss_wrong((struct spot){t, i, 1}, "found '%.*s', expected a number; "
			    "write a product with '*'", word_end(s, i + k->len) - i, s + i);
		if (k->num - k->num != 0)
			return seg_loss_wrong((struct spot){t, i, k->len}, "the number %.*s is too large",
			    k->len, s + i);
	} else if (s[i] == '"') {
		const char *e = strchr(s + i + 1, '"');
		if (!e)
			return seg_loss_wrong((struct spot){t, i, 1}, "this string has no closing '\"'");
		k->kind = STRING;
		k->len = (int)(e + 1 - (s + i));
	} else if (s[i + 1] == '=' && strchr("<>=!", s[i])) {
		k->kind = s[i] == '<' ? LE : s[i] == '>' ? GE : s[i] == '=' ? EQ : NE;
		k->len = 2;
	} else if (!strchr("+-*/^()[],;=<>", s[i])) {
		int n = 1;
		while (((unsigned char)s[i + n] & 0xC0) == 0x80)
			n++;
		if (s[i] == '{')
			return dict((struct spot){t, i, n});
		return seg_loss_wrong((struct spot){t, i, n}, "'%.*s' is not part of the language", n, s + i);
	}
	return i + k->len;
}

static int tokens(struct parser *p)
{
	const char *s = p->text->s;
	size_t n = strlen(s);
	if (n > LONGEST)
		return seg_fail(SEG_EUSAGE, "a loss of %zu bytes is longer than any (limit %d)", n, LONGEST);
	p->tok = seg_alloc(n + 1, sizeof *p->tok);
	if (!p->tok)
		return SEG_ENOMEM;
	int m = 0;
	for (int i = 0; s[i];) {
		if (strchr(" \t\r\n", s[i]))
			i++;
		else if (s[i] == '#')
			i += (int)strcspn(s + i, "\n");
		else if ((i = lex(p->text, i, &p->tok[m++])) < 0)
			return i;
	}
	p->tok[m] = (struct token){.kind = END, .at = (int)n};
	return SEG_OK;
}

/* ---- grammar; functions return NULL when they failed ---- */

static struct token *peek(struct parser *p) { return &p->tok[p->pos]; }

static struct spot here(struct parser *p)
{
	return (struct spot){p->text, peek(p)->at, peek(p)->len};
}

static int accept(struct parser *p, int kind)
{
	return peek(p)->kind == kind ? p->pos++, 1 : 0;
}

static void *unexpected(struct parser *p, const char *expected)
{
	if (peek(p)->kind == END)
		seg_loss_wrong(here(p), "the text ends here, expected %s", expected);
	else
		seg_loss_wrong(here(p), "found '%.*s', expected %s", peek(p)->len, p->text->s + peek(p)->at,
		    expected);
	return NULL;
}

static const char *spell(struct parser *p, const struct token *k)
{
	int quote = k->kind == STRING;
	return seg_arena_copy(p->mem, p->text->s + k->at + quote, (size_t)(k->len - 2 * quote));
}

static struct ast *leaf(struct parser *p, enum ast_kind kind, int at)
{
	struct ast *a = seg_arena_new(p->mem, 1, sizeof *a);
	if (a)
		*a = (struct ast){.kind = kind, .src = p->text, .at = at, .len = peek(p)->len};
	return a;
}

/* Close a: it ends where the last token taken ended. */
static struct ast *closed(struct parser *p, struct ast *a)
{
	a->len = p->tok[p->pos - 1].at + p->tok[p->pos - 1].len - a->at;
	return a;
}

static struct ast *expression(struct parser *p);

static struct ast *operation(struct parser *p, enum seg_op op, struct ast *x, struct ast *y)
{
	if (!x || !y)
		return NULL;
	struct ast *a = leaf(p, AST_OP, x->at);
	if (!a)
		return NULL;
	a->op = op;
	a->kid = x;
	x->next = y;
	return closed(p, a);
}

/* Elements up to `close`, each with an optional "key =".  any: numbers, strings and * are keys too. */
static int elements(struct parser *p, struct ast *a, int close, int any)
{
	struct ast **tail = &a->kid;
	if (accept(p, close))
		return SEG_OK;
	do {
		const struct token *k = peek(p);
		int keyed = k[0].kind != END && k[1].kind == '=' &&
		    (k->kind == WORD || (any && (k->kind == NUMBER || k->kind == STRING || k->kind == '*')));
		if (keyed)
			p->pos += 2;
		struct ast *e = expression(p);
		if (!e)
			return SEG_EUSAGE;
		if (keyed && !(e->key = spell(p, k)))
			return SEG_ENOMEM;
		e->keyat = keyed ? k->at : e->at;
		*tail = e;
		tail = &e->next;
	} while (accept(p, ','));
	if (accept(p, close))
		return SEG_OK;
	unexpected(p, close == ')' ? "',' or ')'" : "',' or ']'");
	return SEG_EUSAGE;
}

static struct ast *list(struct parser *p)
{
	struct ast *a = leaf(p, AST_LIST, peek(p)->at);
	p->pos++;
	return a && elements(p, a, ']', 1) >= 0 ? closed(p, a) : NULL;
}

static struct ast *call(struct parser *p)
{
	struct ast *a = leaf(p, AST_NAME, peek(p)->at);
	if (!a || !(a->name = spell(p, peek(p))))
		return NULL;
	p->pos++;
	if (peek(p)->kind == '[' && !(a->axes = list(p)))
		return NULL;
	if (accept(p, '(')) {
		a->called = 1;
		if (elements(p, a, ')', 0) < 0)
			return NULL;
	}
	return closed(p, a);
}

static struct ast *atom(struct parser *p)
{
	struct token *k = peek(p);
	struct ast *a = NULL;
	switch (k->kind) {
	case NUMBER:
		a = leaf(p, AST_NUM, k->at);
		p->pos++;
		if (a)
			a->num = k->num;
		return a;
	case '(':
		p->pos++;
		a = expression(p);
		if (a && !accept(p, ')'))
			return unexpected(p, "an operator or ')'");
		return a;
	case '[':
		return list(p);
	case WORD:
		return call(p);
	}
	return unexpected(p, "a number, a name, '(' or '['");
}

static struct ast *sign(struct parser *p);

static struct ast *power(struct parser *p)
{
	struct ast *a = atom(p);
	return a && accept(p, '^') ? operation(p, SEG_OP_POW, a, sign(p)) : a;
}

static struct ast *sign(struct parser *p)
{
	if (peek(p)->kind != '-')
		return power(p);
	if (++p->depth > DEPTH) {
		seg_loss_wrong(here(p), "nested deeper than %d", DEPTH);
		return NULL;
	}
	struct ast *a = leaf(p, AST_OP, peek(p)->at);
	p->pos++;
	if (!a || !(a->kid = sign(p)))
		return NULL;
	p->depth--;
	a->op = SEG_OP_NEG;
	return closed(p, a);
}

static struct ast *product(struct parser *p)
{
	struct ast *a = sign(p);
	while (a && (peek(p)->kind == '*' || peek(p)->kind == '/')) {
		enum seg_op op = p->tok[p->pos++].kind == '*' ? SEG_OP_MUL : SEG_OP_DIV;
		a = operation(p, op, a, sign(p));
	}
	return a;
}

static struct ast *sum(struct parser *p)
{
	struct ast *a = product(p);
	while (a && (peek(p)->kind == '+' || peek(p)->kind == '-')) {
		enum seg_op op = p->tok[p->pos++].kind == '+' ? SEG_OP_ADD : SEG_OP_SUB;
		a = operation(p, op, a, product(p));
	}
	return a;
}

static struct ast *expression(struct parser *p)
{
	static const struct { int kind; enum seg_op op; } compare[] = {{'<', SEG_OP_LT}, {LE, SEG_OP_LE},
	    {'>', SEG_OP_GT}, {GE, SEG_OP_GE}, {EQ, SEG_OP_EQ}, {NE, SEG_OP_NE}};
	if (++p->depth > DEPTH) {
		seg_loss_wrong(here(p), "nested deeper than %d", DEPTH);
		return NULL;
	}
	struct ast *a = sum(p);
	for (size_t i = 0; a && i < sizeof compare / sizeof *compare; i++)
		if (accept(p, compare[i].kind)) {
			a = operation(p, compare[i].op, a, sum(p));
			break;
		}
	p->depth--;
	return a;
}

/* ---- definitions ---- */

/* Is what begins here `name [..] (..) =`? */
static int defines(const struct parser *p)
{
	const struct token *k = p->tok + p->pos;
	if (k++->kind != WORD)
		return 0;
	for (const char *pair = "[]()"; *pair; pair += 2)
		if (k->kind == pair[0]) {
			int depth = 0;
			do {
				depth += (k->kind == '[' || k->kind == '(') - (k->kind == ']' || k->kind == ')');
				if (k++->kind == END)
					return 0;
			} while (depth > 0);
		}
	return k->kind == '=';
}

/* `word [= default]`; in brackets the default is a row of axes, read as a list. */
static struct param *parameter(struct parser *p, int brackets)
{
	struct param *q = seg_arena_new(p->mem, 1, sizeof *q);
	if (!q)
		return NULL;
	if (peek(p)->kind != WORD || p->text->s[peek(p)->at] == '@')
		return unexpected(p, "the name of a parameter");
	if (!(q->name = spell(p, peek(p))))
		return NULL;
	p->pos++;
	if (!accept(p, '='))
		return q;
	if (!brackets)
		return (q->otherwise = expression(p)) ? q : NULL;
	struct ast *a = leaf(p, AST_LIST, peek(p)->at);
	if (!a || elements(p, a, ']', 0) < 0)
		return NULL;
	p->pos--; /* the caller takes the bracket */
	q->otherwise = closed(p, a);
	return q;
}

static struct def *definition(struct parser *p)
{
	struct def *d = seg_arena_new(p->mem, 1, sizeof *d);
	if (!d)
		return NULL;
	*d = (struct def){.src = p->text, .at = peek(p)->at, .len = peek(p)->len};
	if (!(d->name = spell(p, peek(p))))
		return NULL;
	p->pos++;
	d->head = d->at + d->len;
	if (accept(p, '[')) {
		if (!(d->axes = parameter(p, 1)))
			return NULL;
		if (!accept(p, ']'))
			return unexpected(p, "']': one parameter stands for all axes");
	}
	if (accept(p, '(') && !accept(p, ')')) {
		struct param **tail = &d->param;
		do {
			if (!(*tail = parameter(p, 0)))
				return NULL;
			tail = &(*tail)->next;
		} while (accept(p, ','));
		if (!accept(p, ')'))
			return unexpected(p, "',' or ')'");
	}
	d->headlen = p->tok[p->pos - 1].at + p->tok[p->pos - 1].len - d->head;
	p->pos++; /* the '=' that made it a definition */
	if (!(d->body = expression(p)))
		return NULL;
	if (!accept(p, ';'))
		return unexpected(p, "an operator, or ';' at the end of the definition");
	return d;
}

static int reserved(const char *name, int parameter_too)
{
	static const char *const word[] = {"n", "y", "x", "k", "t", "p", "z", "v", "s", "w", "c", "head"};
	for (size_t i = 0; i < sizeof word / sizeof *word; i++)
		if (!strcmp(name, word[i]))
			return 1;
	return !parameter_too && (seg_func_find(name, 0) || seg_func_find(name, 1));
}

static int check_names(const struct def *d)
{
	struct spot at = {d->src, d->at, d->len};
	if (reserved(d->name, 0))
		return seg_loss_wrong(at, "'%s' is a word of the language; choose another name", d->name);
	for (const struct def *e = d->src->def; e != d; e = e->next)
		if (!strcmp(e->name, d->name))
			return seg_loss_wrong(at, "'%s' is defined twice", d->name);
	for (const struct param *q = d->param; q; q = q->next) {
		if (reserved(q->name, 1))
			return seg_loss_wrong(at, "the parameter '%s' of '%s' is a word of the language; choose "
			    "another name", q->name, d->name);
		for (const struct param *r = d->param; r != q; r = r->next)
			if (!strcmp(q->name, r->name))
				return seg_loss_wrong(at, "'%s' has two parameters '%s'", d->name, q->name);
	}
	return SEG_OK;
}

static int whole(struct parser *p, struct ast **expr)
{
	struct def **tail = &p->text->def;
	while (defines(p)) {
		if (!(*tail = definition(p)))
			return SEG_EUSAGE;
		if (check_names(*tail) < 0)
			return SEG_EUSAGE;
		tail = &(*tail)->next;
	}
	if (expr && !(*expr = expression(p)))
		return SEG_EUSAGE;
	if (peek(p)->kind != END) {
		unexpected(p, expr ? "an operator or the end" : "a definition: name[axes](parameters) = expression;");
		return SEG_EUSAGE;
	}
	return SEG_OK;
}

int seg_loss_parse(struct arena **mem, struct text *t, struct ast **expr)
{
	struct parser p = {.mem = mem, .text = t};
	int rc = tokens(&p);
	if (rc >= 0)
		rc = whole(&p, expr);
	free(p.tok);
	return rc;
}
