// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Registers memory, for ./run bench register, which counts the kernel's instructions from outside.
 *
 *	reg_cost all LIMIT MRS		all kinds and sizes; LIMIT bytes of ordinary memory, MRS at a time at most
 *	reg_cost ordinary LIMIT		sizes of ordinary memory
 *	reg_cost number KIND MRS	MRS at a time of a buffer of KIND
 *
 * Prints in order what it does, a line each, and how long it took, in ns:
 *
 *	case SERIES KIND BYTES SEGMENTS	what follows is for this; ends with the next case
 *	reg NS, dereg NS		a whole ibv_reg_mr(), ibv_reg_dmabuf_mr(), ibv_dereg_mr()
 *	export NS			a DMA-buf was exported, of the memory that the next reg is for
 *	close NS			its file descriptor was closed, after that
 *	ioctl				something else was asked of the exporter
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "rc_pair.h"
#include "simgpu.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define PAGE (4 * KIB)
/* On each buffer: the first MR is the one that maps it, and the last to go. */
#define MRS_PER_BUFFER 4
/* What is dear is done less often. */
#define ROUNDS(pages_or_segments) ((pages_or_segments) > 4096 ? 2 : 5)
#define NUMBER_ORDINARY (4 * KIB)
#define NUMBER_DEVICE (2 * MIB)

static const size_t sizes[] = {
	4 * KIB, 32 * KIB, 256 * KIB, 2 * MIB, 16 * MIB, 128 * MIB, 1 * GIB, 8 * GIB,
};
static const uint32_t segments[] = { 1, 16, 256, 4096, 65536 };

enum kind {
	ORDINARY,	/* in 4 KiB pages */
	HUGE,		/* ordinary memory in huge pages */
	BAR,		/* a mapping of the BAR's file in sysfs */
	DEVICE,		/* a buffer of the sample exporter */
	DMABUF,		/* the same as a DMA-buf, exported for each MR */
};

static const char *const kind_names[] = {
	[ORDINARY] = "ordinary", [HUGE] = "huge", [BAR] = "bar", [DEVICE] = "device", [DMABUF] = "dma-buf",
};

struct memory {
	enum kind kind;
	size_t size;
	void *addr;
	uint32_t handle;	/* DEVICE, DMABUF */
};

static struct ibv_pd *pd;
static int gpu = -1;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000000000) + ts.tv_nsec;
}

static void *map(size_t size, int flags, int fd, uint64_t offset)
{
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (addr == MAP_FAILED)
		err(1, "mmap of %zu bytes", size);
	return addr;
}

/* ---- the sample exporter --------------------------------------------------------------------- */

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err(1, "%s", path);
	close(fd);
}

static void gpu_open(void)
{
	const char *bdf = getenv("VRAM_BDF");
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", bdf);
	write_text(path, "simgpu");
	write_text("/sys/bus/pci/drivers_probe", bdf);
	gpu = open("/dev/simgpu0", O_RDWR | O_CLOEXEC);
	if (gpu < 0)
		err(1, "/dev/simgpu0");
}

static void gpu_create(struct memory *mem, uint32_t nr_frags)
{
	struct simgpu_create create = {
		.size = mem->size,
		.frag_size = mem->size / nr_frags,
		.flags = nr_frags > 1 ? SIMGPU_DESCENDING : 0,
	};

	puts("ioctl");
	if (ioctl(gpu, SIMGPU_IOC_CREATE, &create))
		err(1, "SIMGPU_IOC_CREATE of %zu bytes in %u fragments", mem->size, nr_frags);
	mem->handle = create.handle;
	mem->addr = map(mem->size, MAP_SHARED, gpu, create.mmap_offset);
}

static void gpu_close(struct memory *mem)
{
	struct simgpu_handle arg = { .handle = mem->handle };

	munmap(mem->addr, mem->size);
	puts("ioctl");
	if (ioctl(gpu, SIMGPU_IOC_CLOSE, &arg))
		err(1, "SIMGPU_IOC_CLOSE");
}

/* ---- memory, MRs ----------------------------------------------------------------------------- */

static void memory_open(struct memory *mem, enum kind kind, size_t size, uint32_t nr_frags)
{
	uint64_t vram;
	int fd;

	*mem = (struct memory){ .kind = kind, .size = size };
	switch (kind) {
	case ORDINARY:
	case HUGE:
		mem->addr = map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (madvise(mem->addr, size, kind == HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ||
		    madvise(mem->addr, size, MADV_POPULATE_WRITE))
			err(1, "madvise of %zu bytes", size);
		break;
	case BAR:
		fd = vram_open(O_RDWR, &vram);
		if (fd < 0)
			errx(1, "%s: %s", getenv("VRAM_RESOURCE"), strerror(-fd));
		mem->addr = map(size, MAP_SHARED, fd, 0);
		close(fd);
		break;
	case DEVICE:
	case DMABUF:
		gpu_create(mem, nr_frags);
		break;
	}
}

static void memory_close(struct memory *mem)
{
	if (mem->kind == DEVICE || mem->kind == DMABUF)
		gpu_close(mem);
	else
		munmap(mem->addr, mem->size);
}

static struct ibv_mr *reg_dmabuf(struct memory *mem, size_t size)
{
	struct simgpu_handle arg = { .handle = mem->handle };
	struct ibv_mr *mr;
	uint64_t start;
	int fd;

	start = now();
	fd = ioctl(gpu, SIMGPU_IOC_EXPORT, &arg);
	printf("export %" PRIu64 "\n", now() - start);
	if (fd < 0)
		err(1, "SIMGPU_IOC_EXPORT");

	start = now();
	mr = ibv_reg_dmabuf_mr(pd, 0, size, 0, fd, RC_PAIR_ALL);
	printf("reg %" PRIu64 "\n", now() - start);

	start = now();
	close(fd);
	printf("close %" PRIu64 "\n", now() - start);
	return mr;
}

static struct ibv_mr *reg(struct memory *mem, size_t size)
{
	struct ibv_mr *mr;
	uint64_t start;

	if (mem->kind == DMABUF) {
		mr = reg_dmabuf(mem, size);
	} else {
		start = now();
		mr = ibv_reg_mr(pd, mem->addr, size, RC_PAIR_ALL);
		printf("reg %" PRIu64 "\n", now() - start);
	}
	if (!mr)
		err(1, "an MR of %zu bytes, %s", size, kind_names[mem->kind]);
	return mr;
}

static void dereg(struct ibv_mr *mr)
{
	uint64_t start = now();

	if (ibv_dereg_mr(mr))
		err(1, "ibv_dereg_mr");
	printf("dereg %" PRIu64 "\n", now() - start);
}

/* @nr MRs at a time, all of the same @size bytes */
static void reg_many(struct memory *mem, size_t size, unsigned int nr)
{
	struct ibv_mr **mrs = calloc(nr, sizeof(struct ibv_mr *));
	unsigned int i;

	if (!mrs)
		err(1, "memory");
	for (i = 0; i < nr; i++)
		mrs[i] = reg(mem, size);
	while (i--)
		dereg(mrs[i]);
	free(mrs);
}

/* ---- series ---------------------------------------------------------------------------------- */

static void begin(const char *series, enum kind kind, size_t size, uint32_t nr_segments)
{
	printf("case %s %s %zu %u\n", series, kind_names[kind], size, nr_segments);
}

/* All sizes from one mapping: none differs in how it lies in memory. */
static void size_ordinary(enum kind kind, size_t limit)
{
	struct memory mem;

	memory_open(&mem, kind, limit, 1);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes) && sizes[i] <= limit; i++) {
		if (kind == HUGE && sizes[i] < 2 * MIB)
			continue;
		begin("size", kind, sizes[i], 0);
		for (int round = 0; round < ROUNDS(sizes[i] / PAGE); round++)
			reg_many(&mem, sizes[i], 1);
	}
	memory_close(&mem);
}

static void size_device(enum kind kind, size_t limit)
{
	struct memory mem;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes) && sizes[i] <= limit; i++) {
		begin("size", kind, sizes[i], 1);
		for (int round = 0; round < ROUNDS(1); round++) {
			memory_open(&mem, kind, sizes[i], 1);
			reg_many(&mem, sizes[i], MRS_PER_BUFFER);
			memory_close(&mem);
		}
	}
}

static void number(enum kind kind, unsigned int nr)
{
	size_t size = kind == ORDINARY ? NUMBER_ORDINARY : NUMBER_DEVICE;
	struct memory mem;

	begin("number", kind, size, 1);
	memory_open(&mem, kind, size, 1);
	reg_many(&mem, size, nr);
	memory_close(&mem);
}

static void segment(enum kind kind)
{
	struct memory mem;

	for (size_t i = 0; i < sizeof(segments) / sizeof(*segments); i++) {
		size_t size = segments[i] * PAGE;

		begin("segments", kind, size, segments[i]);
		for (int round = 0; round < ROUNDS(segments[i]); round++) {
			memory_open(&mem, kind, size, segments[i]);
			reg_many(&mem, size, MRS_PER_BUFFER);
			memory_close(&mem);
		}
	}
}

static void all(size_t limit, unsigned int nr)
{
	uint64_t vram;
	int fd = vram_open(O_RDWR, &vram);

	if (fd < 0)
		errx(1, "%s: %s", getenv("VRAM_RESOURCE"), strerror(-fd));
	close(fd);

	size_ordinary(ORDINARY, limit);
	size_ordinary(HUGE, limit);
	number(ORDINARY, nr);
	for (enum kind kind = BAR; kind <= DMABUF; kind++) {
		size_device(kind, vram);
		number(kind, nr);
		if (kind != BAR)
			segment(kind);
	}
}

static enum kind kind_by_name(const char *name)
{
	for (enum kind kind = ORDINARY; kind <= DMABUF; kind++)
		if (!strcmp(kind_names[kind], name))
			return kind;
	errx(2, "no memory of this kind: %s", name);
}

int main(int argc, char **argv)
{
	struct ibv_context *ctx = hca_open(NULL);

	pd = ctx ? ibv_alloc_pd(ctx) : NULL;
	if (!pd)
		err(1, "HCA");

	if (argc == 3 && !strcmp(argv[1], "ordinary")) {
		size_ordinary(ORDINARY, strtoull(argv[2], NULL, 0));
		return 0;
	}
	gpu_open();
	if (argc == 4 && !strcmp(argv[1], "all")) {
		all(strtoull(argv[2], NULL, 0), strtoul(argv[3], NULL, 0));
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "number")) {
		number(kind_by_name(argv[2]), strtoul(argv[3], NULL, 0));
		return 0;
	}
	fprintf(stderr, "usage: reg_cost all LIMIT MRS | ordinary LIMIT | number KIND MRS\n");
	return 2;
}
