// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include <stdio.h>

#include "result.h"

void print_result(const char *series, const char *kind, uint32_t x, const double *values,
		  unsigned int num)
{
	unsigned int i;

	printf("{\"series\": \"%s\", \"kind\": \"%s\", \"x\": %u, \"values\": [", series, kind, x);
	for (i = 0; i < num; i++)
		printf("%s%.2f", i ? ", " : "", values[i]);
	printf("]}\n");
	fflush(stdout);
}

uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
