/* Written by editors/generate/run from editors/words.json. */
#ifndef MESH_WORDS_H
#define MESH_WORDS_H

#define LONGEST_WORD 15

/* The words of the grammar, in the order of its external tokens. */
static const char *const WORDS[] = {
	"accelerate",
	"accelerated",
	"address",
	"all",
	"always",
	"and",
	"any",
	"as",
	"by",
	"cgroup",
	"denied",
	"deny",
	"exclude",
	"excluded",
	"exempt",
	"failed-attach",
	"for",
	"from",
	"gid",
	"group",
	"import",
	"inbound",
	"interface",
	"is",
	"label",
	"local",
	"mesh",
	"missing-sidecar",
	"namespace",
	"namespace-label",
	"node",
	"not",
	"on",
	"outbound",
	"pass",
	"pod",
	"redirect",
	"redirected",
	"refuse",
	"service",
	"service-account",
	"set",
	"start",
	"tcp",
	"test",
	"to",
	"transparent",
	"udp",
	"uid",
	"within",
	"workload",
};

/* Kept for later: no names either. */
static const char *const KEPT[] = {
	"log",
	"rules",
	"use",
	"when",
};

#endif
