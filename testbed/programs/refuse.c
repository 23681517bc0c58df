/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Loaded into a command (LD_PRELOAD): bpf(2) answers as a kernel that refuses some kinds of programs.
 *
 * TESTBED_REFUSE has a rule for each of them, numbers with `*` for any: `load TYPE ATTACH-TYPE BTF-ID;` of programs that
 * are loaded, and `link ATTACH-TYPE;` of links that are made.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

enum { PROGRAM_LOAD = 5, LINK_CREATE = 28, RULES = 32, FIELDS = 3, ANY = -1 };

/* Where union bpf_attr has what is asked for. */
enum { OF_TYPE = 0, OF_ATTACH_TYPE = 68, OF_BTF_ID = 108, OF_LINK_ATTACH_TYPE = 8 };

struct rule {
	long command;
	long wanted[FIELDS];
};

static struct rule rules[RULES];
static int count;
static long (*original)(long number, ...);

static long field(const char **text)
{
	char *end;
	long number;

	*text += strspn(*text, " ");
	if (**text == '*') {
		*text += 1;
		return ANY;
	}
	number = strtol(*text, &end, 10);
	if (end == *text) {
		fprintf(stderr, "refuse: `%s` is no number\n", *text);
		_Exit(127);
	}
	*text = end;
	return number;
}

__attribute__((constructor)) static void read_rules(void)
{
	const char *text = getenv("TESTBED_REFUSE");

	original = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	while (text && *text) {
		int fields = strncmp(text, "load ", 5) ? 1 : FIELDS;
		struct rule *rule = &rules[count];

		if (count == RULES || (fields == 1 && strncmp(text, "link ", 5))) {
			fprintf(stderr, "refuse: `%s` is no rule\n", text);
			_Exit(127);
		}
		rule->command = fields == 1 ? LINK_CREATE : PROGRAM_LOAD;
		text += 5;
		for (int i = 0; i < fields; i++)
			rule->wanted[i] = field(&text);
		count += 1;
		text += strspn(text, "; ");
	}
}

static long at(const char *attributes, unsigned long size, unsigned long place)
{
	uint32_t word = 0;

	if (place + sizeof(word) <= size)
		memcpy(&word, attributes + place, sizeof(word));
	return word;
}

static int is_refused(long command, const char *attributes, unsigned long size)
{
	long found[FIELDS] = {
		at(attributes, size, command == LINK_CREATE ? OF_LINK_ATTACH_TYPE : OF_TYPE),
		at(attributes, size, OF_ATTACH_TYPE),
		at(attributes, size, OF_BTF_ID),
	};

	for (int i = 0; i < count; i++) {
		int fits = rules[i].command == command;

		for (int j = 0; j < (command == LINK_CREATE ? 1 : FIELDS); j++)
			fits = fits && (rules[i].wanted[j] == ANY || rules[i].wanted[j] == found[j]);
		if (fits)
			return 1;
	}
	return 0;
}

/* The C library's own, through which programs that are not written in C make this call. */
long syscall(long number, ...)
{
	unsigned long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, unsigned long);
	va_end(list);
	/* Before the rules are read nobody makes the call. */
	if (!original)
		original = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	if (number == SYS_bpf && (a[0] == PROGRAM_LOAD || a[0] == LINK_CREATE) &&
	    is_refused((long)a[0], (const char *)a[1], a[2])) {
		errno = EPERM;
		return -1;
	}
	return original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
