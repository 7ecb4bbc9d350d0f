// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * regmr [-p] [-r] DEVICE FILE [OFFSET [LENGTH]]: what ibv_reg_mr(), with all access rights, says of a mapping of FILE
 * (64 KiB from its start on), shared and writable: -p: private, -r: read-only.
 * Prints {"ok": true, "errno": null, "us": median} or {"ok": false, "errno": "EFAULT", "us": null}.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "rc_pair.h"

#define ROUNDS 51

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static int usage(void)
{
	fprintf(stderr, "usage: regmr [-p] [-r] DEVICE FILE [OFFSET [LENGTH]]\n");
	return 2;
}

int main(int argc, char **argv)
{
	int fd, c, prot = PROT_READ | PROT_WRITE, kind = MAP_SHARED;
	size_t offset = 0, len = 65536;
	double us[ROUNDS];
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	void *addr;

	while ((c = getopt(argc, argv, "pr")) != -1) {
		if (c == 'p')
			kind = MAP_PRIVATE;
		else if (c == 'r')
			prot = PROT_READ;
		else
			return usage();
	}
	argv += optind;
	argc -= optind;
	if (argc < 2 || argc > 4)
		return usage();
	if (argc > 2)
		offset = strtoul(argv[2], NULL, 0);
	if (argc > 3)
		len = strtoul(argv[3], NULL, 0);
	fd = open(argv[1], O_RDWR);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	addr = mmap(NULL, len, prot, kind, fd, offset);
	if (addr == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	ctx = hca_open(argv[0]);
	pd = ctx ? ibv_alloc_pd(ctx) : NULL;
	if (!pd) {
		perror(argv[0]);
		return 1;
	}

	for (int i = 0; i < ROUNDS; i++) {
		double start = now_us();
		struct ibv_mr *mr = ibv_reg_mr(pd, addr, len, RC_PAIR_ALL);

		us[i] = now_us() - start;
		if (!mr) {
			printf("{\"ok\": false, \"errno\": \"%s\", \"us\": null}\n",
			       strerrorname_np(errno));
			return 0;
		}
		if (ibv_dereg_mr(mr)) {
			perror("ibv_dereg_mr");
			return 1;
		}
	}
	qsort(us, ROUNDS, sizeof(*us), compare);
	printf("{\"ok\": true, \"errno\": null, \"us\": %.1f}\n", us[ROUNDS / 2]);
	return 0;
}
