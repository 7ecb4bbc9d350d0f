// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#define _GNU_SOURCE
#include "failures.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#define DEBUGFS "/sys/kernel/debug/"
#define NTH_TRIES 3

/*
 * All objects but those of kmemleak, of which there is one for each other: the nth would sometimes
 * be this and sometimes that, and some never fail.
 */
static int failures_choose_caches(void)
{
	DIR *dir = opendir("/sys/kernel/slab");
	struct dirent *entry;
	char path[320];
	int chosen = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !strncmp(entry->d_name, "kmemleak", 8))
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/failslab", entry->d_name);
		/* A cache that others share cannot be chosen. KASAN sees to it that there is none. */
		chosen += !write_file(path, "1");
	}
	closedir(dir);
	return chosen ? 0 : -ENOENT;
}

int failures_setup(void)
{
	static const char *const knobs[][2] = {
		{ "failslab/ignore-gfp-wait", "N" }, { "failslab/verbose", "0" },
		{ "failslab/cache-filter", "Y" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" }, { "fail_page_alloc/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" }, { "fail_page_alloc/min-order", "0" },
	};
	char path[64];
	int ret;

	for (size_t i = 0; i < sizeof(knobs) / sizeof(*knobs); i++) {
		snprintf(path, sizeof(path), DEBUGFS "%s", knobs[i][0]);
		ret = write_file(path, knobs[i][1]);
		if (ret)
			return ret;
	}
	return failures_choose_caches();
}

int nth_open(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void nth_arm(int fd, unsigned int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fd, text, n, 0) != n)
		abort();
}

bool nth_disarm(int fd)
{
	char text[16] = "";

	if (pread(fd, text, sizeof(text) - 1, 0) < 1)
		abort();
	nth_arm(fd, 0);
	return !atoi(text);
}

unsigned int nth_next(unsigned int nth, bool unnoticed, unsigned int *tries)
{
	if (unnoticed && ++*tries < NTH_TRIES)
		return nth;
	*tries = 0;
	return nth + 1;
}
