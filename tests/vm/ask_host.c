// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* ask_host REQUEST: for scripts, what host.h has for programs. */
#include <stdio.h>
#include <string.h>

#include "host.h"

#define TIMEOUT_S 60

int main(int argc, char **argv)
{
	int ret;

	if (argc != 2) {
		fputs("usage: ask_host REQUEST\n", stderr);
		return 2;
	}
	ret = host_ask(argv[1], TIMEOUT_S);
	if (ret)
		fprintf(stderr, "ask_host: %s: %s\n", argv[1], strerror(-ret));
	return ret ? 1 : 0;
}
