// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "holds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORTER "\tp2pdma_buf\t"

static int read_bufs(struct holds *now)
{
	FILE *f = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");
	bool ours = false;
	char line[256];
	long refs;

	if (!f)
		return -errno;
	/* A line for each buffer, "size flags mode count exporter ...", then what is attached */
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*u %*x %*x %ld", &refs) == 1) {
			ours = strstr(line, EXPORTER);
			if (ours)
				now->buf_refs += refs;
		} else if (strstr(line, "attached") && sscanf(line, "Total %ld", &refs) == 1) {
			now->attached += refs;
		}
	}
	fclose(f);
	return 0;
}

static int read_awake(struct holds *now)
{
	char path[256];
	FILE *f;
	int n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/power/runtime_usage",
		 getenv("VRAM_BDF"));
	f = fopen(path, "re");
	/* A device that was removed needs nobody to keep it awake. */
	if (!f)
		return errno == ENOENT ? 0 : -errno;
	n = fscanf(f, "%ld", &now->awake);
	fclose(f);
	return n == 1 ? 0 : -EIO;
}

static int read_pinned(struct holds *now)
{
	long value, acquired = -1, released = -1;
	char name[64];
	FILE *f;

	/* What the CPUs have counted for themselves */
	f = fopen("/proc/sys/vm/stat_refresh", "we");
	if (!f)
		return -errno;
	fputs("1", f);
	if (fclose(f))
		return -errno;

	f = fopen("/proc/vmstat", "re");
	if (!f)
		return -errno;
	while (fscanf(f, "%63s %ld", name, &value) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		else if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	}
	fclose(f);
	now->pinned = acquired - released;
	return acquired < 0 || released < 0 ? -EIO : 0;
}

int holds_read(struct holds *now)
{
	int ret;

	memset(now, 0, sizeof(*now));
	ret = read_bufs(now);
	if (!ret)
		ret = read_awake(now);
	if (!ret)
		ret = read_pinned(now);
	return ret;
}

/*
 * Pages that others may have given back meanwhile: the count is of the whole system, and work that was left to the kernel
 * ends late. A region that was unpinned twice is larger.
 */
#define OTHERS 16

static bool same(const struct holds *now, const struct holds *want)
{
	return now->buf_refs == want->buf_refs && now->attached == want->attached &&
	       now->awake == want->awake && now->pinned <= want->pinned && now->pinned + OTHERS >= want->pinned;
}

bool holds_settle(const struct holds *want)
{
	struct holds now;

	for (int i = 0; i < 1000; i++) {
		if (holds_read(&now))
			break;
		if (same(&now, want))
			return true;
		usleep(10000);
	}
	printf("# held, and was: %ld, %ld references to buffers, %ld, %ld attachments, "
	       "runtime PM usage %ld, %ld, pinned %ld, %ld\n", now.buf_refs, want->buf_refs,
	       now.attached, want->attached, now.awake, want->awake, now.pinned, want->pinned);
	return false;
}
