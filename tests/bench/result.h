/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* What the programs of ./run bench traffic print. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include <stdint.h>
#include <time.h>

#define NUM(a) (sizeof(a) / sizeof((a)[0]))

/* A JSON object in a line: {"series", "kind", "x", "values": of @num rounds}. */
void print_result(const char *series, const char *kind, uint32_t x, const double *values,
		  unsigned int num);

/* Of CLOCK_MONOTONIC, or of CPU time. */
uint64_t clock_ns(clockid_t clock);

#endif /* BENCH_RESULT_H */
