/*
 * Tokens of `.mesh` policies. Where a statement ends depends on the line that follows, and what a word is on
 * where it stands; both are decided as in the compiler: grammar/src/scan.rs and grammar/mesh.pest.
 */
#include "tree_sitter/alloc.h"
#include "tree_sitter/parser.h"
#include "words.h"

#include <string.h>

/* As in `externals` of grammar.js; the words of words.h follow. */
enum token {
	END,
	JUNK,
	NUMBER,
	ADDRESS,
	NAME,
	SERVICE_NAME,
	VALUE,
	STRING,
	ARROW,
	BOTH,
	EQUALS,
	COMMA,
	SEMICOLON,
	OPEN,
	CLOSE,
	BLOCK,
	BLOCK_END,
	FIRST_WORD,
};

struct scanner {
	/* Brackets that are open; more than this are counted as this many. */
	uint8_t depth;
	/* Whether a statement has begun. */
	bool begun;
	/* Whether its last token is one after which it goes on in the next line. */
	bool joins;
};

#define DEEPEST 255

/* A word, and what it can be. */
struct word {
	/* Its first characters; longer ones are no words of the language. */
	char text[LONGEST_WORD + 1];
	uint32_t length;
	bool number, address, name, service, value;
};

static bool is_digit(int32_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(int32_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_word(int32_t c)
{
	return is_letter(c) || (c >= '.' && c <= ':') || c == '_' || c == '%';
}

/* Control characters, and those that change the direction in which text is shown. */
static bool is_forbidden(int32_t c)
{
	return (c < ' ' && c != '\t') || (c >= 0x7f && c <= 0x9f) || c == 0x61c || c == 0x200e || c == 0x200f ||
	       c == 0x2028 || c == 0x2029 || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/*
 * Reads the word that begins here, up to where another token can begin: `->` ends it, another `-` is part of it.
 * The end of the token is marked by the caller.
 */
static struct word read_word(TSLexer *lexer)
{
	struct word word = {.number = true, .name = true, .service = true, .value = true};
	bool colon_may_follow = true;
	int32_t last = 0;

	while (is_word(lexer->lookahead) || (lexer->lookahead == '-' && word.length > 0)) {
		int32_t c = lexer->lookahead;

		if (c == '-') {
			/* Whether it is part of the word is seen behind it. */
			lexer->mark_end(lexer);
			lexer->advance(lexer, false);
			if (lexer->lookahead == '>')
				goto ended_before;
		} else {
			lexer->advance(lexer, false);
		}

		bool digit = is_digit(c), letter = is_letter(c);
		bool plain = digit || letter || c == '_';

		if (word.length < LONGEST_WORD)
			word.text[word.length] = (char)c;
		if (word.length == 0) {
			word.name = letter;
			word.service = word.value = digit || letter;
			word.number = word.address = digit;
		}
		word.number &= digit || c == '-';
		word.name &= plain || c == '-';
		word.value &= plain || c == '.' || c == '/' || c == '-';
		/* A literal begins with a digit, or holds a colon behind nothing but these. */
		if (c == ':' && colon_may_follow)
			word.address = true;
		colon_may_follow &= plain || c == '.' || c == '-';
		word.length++;
		last = c;
	}
	lexer->mark_end(lexer);
ended_before:
	if (last == '-')
		word.number = word.address = word.name = word.service = false;
	if (word.length > LONGEST_WORD)
		word.text[0] = 0;
	else
		word.text[word.length] = 0;
	return word;
}

static bool is(const struct word *word, const char *text)
{
	return strcmp(word->text, text) == 0;
}

/* Which token a word is: what may stand here, and where nothing fits, what it looks like. */
static enum token kind_of(const struct word *word, const bool *valid)
{
	bool reserved = false;
	enum token as_word = JUNK;

	for (unsigned i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++) {
		if (is(word, WORDS[i])) {
			as_word = (enum token)(FIRST_WORD + i);
			reserved = true;
			break;
		}
	}
	for (unsigned i = 0; i < sizeof(KEPT) / sizeof(KEPT[0]); i++)
		reserved |= is(word, KEPT[i]);

	const struct {
		enum token token;
		bool fits;
	} kinds[] = {
		{as_word, as_word != JUNK},
		{NUMBER, word->number},
		{ADDRESS, word->address},
		{NAME, word->name && !reserved},
		{SERVICE_NAME, word->service},
		{VALUE, word->value},
	};
	enum token looks = JUNK;

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!kinds[i].fits)
			continue;
		if (valid[kinds[i].token])
			return kinds[i].token;
		/* A service's name and a value are only what stands where one is asked for. */
		if (looks == JUNK && kinds[i].token <= NAME)
			looks = kinds[i].token;
	}
	return as_word != JUNK ? as_word : looks;
}

static bool found(struct scanner *state, TSLexer *lexer, enum token token)
{
	state->begun = true;
	state->joins = token == COMMA || token == EQUALS || token == ARROW;
	lexer->result_symbol = token;
	return true;
}

/* Between statements; `token` is what leads there. */
static bool between(struct scanner *state, TSLexer *lexer, enum token token)
{
	*state = (struct scanner){0};
	lexer->result_symbol = token;
	return true;
}

static bool one(struct scanner *state, TSLexer *lexer, enum token token)
{
	lexer->advance(lexer, false);
	lexer->mark_end(lexer);
	if (token == OPEN && state->depth < DEEPEST)
		state->depth++;
	if (token == CLOSE && state->depth > 0)
		state->depth--;
	return found(state, lexer, token);
}

/* On one line, and without escapes. What lacks its second quote is junk up to the end of the line; a block may follow. */
static bool string(struct scanner *state, TSLexer *lexer)
{
	lexer->advance(lexer, false);
	lexer->mark_end(lexer);
	while (!lexer->eof(lexer) && lexer->lookahead != '\n') {
		int32_t c = lexer->lookahead;

		if (c != '"' && is_forbidden(c))
			break;
		lexer->advance(lexer, false);
		if (c != ' ' && c != '{')
			lexer->mark_end(lexer);
		if (c == '"')
			return found(state, lexer, STRING);
	}
	return found(state, lexer, JUNK);
}

/* `->`, from its `-`, which nothing else begins with. */
static bool arrow(struct scanner *state, TSLexer *lexer, enum token token)
{
	lexer->advance(lexer, false);
	if (lexer->lookahead != '>')
		return false;
	lexer->advance(lexer, false);
	lexer->mark_end(lexer);
	return found(state, lexer, token);
}

/* Skips white space. Whether that is all there was: a carriage return alone is no white space. */
static bool skip_space(TSLexer *lexer, bool *newline)
{
	for (;;) {
		int32_t c = lexer->lookahead;

		if (c == '\n')
			*newline = true;
		else if (c != ' ' && c != '\t' && c != '\r')
			return true;
		lexer->advance(lexer, true);
		if (c == '\r' && lexer->lookahead != '\n')
			return false;
	}
}

/* Whether the word that begins here goes on with the statement of the line before; then it is marked. */
static bool read_joint(TSLexer *lexer, struct word *word)
{
	while (is_letter(lexer->lookahead) && word->length < LONGEST_WORD) {
		word->text[word->length++] = (char)lexer->lookahead;
		lexer->advance(lexer, false);
	}
	word->text[word->length] = 0;
	if (is_word(lexer->lookahead) || lexer->lookahead == '-')
		return false;
	return is(word, "to") || is(word, "from") || is(word, "as") || is(word, "and");
}

/* At the first token, or comment, behind a newline at which a statement may end. */
static bool next_line(struct scanner *state, TSLexer *lexer, const bool *valid)
{
	bool comment = false, newline = false;

	while (lexer->lookahead == '#') {
		comment = true;
		while (!lexer->eof(lexer) && lexer->lookahead != '\n')
			lexer->advance(lexer, true);
		if (!skip_space(lexer, &newline))
			return false;
	}

	struct word word = {0};
	enum token token;

	if (lexer->lookahead == '-') {
		lexer->advance(lexer, false);
		if (lexer->lookahead != '>')
			return between(state, lexer, END);
		lexer->advance(lexer, false);
		token = ARROW;
	} else if (read_joint(lexer, &word)) {
		token = kind_of(&word, valid);
	} else {
		return between(state, lexer, END);
	}
	/* The comment is a token of its own, and comes first. */
	if (comment)
		return false;
	lexer->mark_end(lexer);
	return found(state, lexer, token);
}

bool tree_sitter_mesh_external_scanner_scan(void *payload, TSLexer *lexer, const bool *valid)
{
	struct scanner *state = payload;

	/* An end is as long as nothing, behind the last token. */
	lexer->mark_end(lexer);
	bool newline = false;

	if (!skip_space(lexer, &newline))
		return false;
	if (newline && state->begun && !state->joins && state->depth == 0)
		return next_line(state, lexer, valid);
	if (lexer->eof(lexer))
		return state->begun && between(state, lexer, END);

	switch (lexer->lookahead) {
	case '{':
		lexer->advance(lexer, false);
		lexer->mark_end(lexer);
		return between(state, lexer, BLOCK);
	case '}':
	case ';':
		if (state->begun && (lexer->lookahead == '}' || state->depth == 0))
			return between(state, lexer, END);
		enum token token = lexer->lookahead == '}' ? BLOCK_END : SEMICOLON;

		lexer->advance(lexer, false);
		lexer->mark_end(lexer);
		return state->begun ? found(state, lexer, token) : between(state, lexer, token);
	case '[':
		return one(state, lexer, OPEN);
	case ']':
		return one(state, lexer, CLOSE);
	case ',':
		return one(state, lexer, COMMA);
	case '=':
		return one(state, lexer, EQUALS);
	case '"':
		return string(state, lexer);
	case '-':
		return arrow(state, lexer, ARROW);
	case '<':
		lexer->advance(lexer, false);
		return lexer->lookahead == '-' && arrow(state, lexer, BOTH);
	}
	if (!is_word(lexer->lookahead))
		return false;
	struct word word = read_word(lexer);

	return found(state, lexer, kind_of(&word, valid));
}

void *tree_sitter_mesh_external_scanner_create(void)
{
	return ts_calloc(1, sizeof(struct scanner));
}

void tree_sitter_mesh_external_scanner_destroy(void *payload)
{
	ts_free(payload);
}

unsigned tree_sitter_mesh_external_scanner_serialize(void *payload, char *buffer)
{
	memcpy(buffer, payload, sizeof(struct scanner));
	return sizeof(struct scanner);
}

void tree_sitter_mesh_external_scanner_deserialize(void *payload, const char *buffer, unsigned length)
{
	struct scanner *state = payload;

	*state = (struct scanner){0};
	if (length == sizeof(*state))
		memcpy(state, buffer, length);
}
