// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: memory of rings.
 */
#include <errno.h>
#include <sys/mman.h>

#include "simhca.h"

/* Zeroed and page aligned; a child of fork() does not get it. */
void *simhca_alloc_buf(size_t size)
{
	void *buf;
	int ret;

	buf = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		return NULL;

	ret = ibv_dontfork_range(buf, size);
	if (ret) {
		munmap(buf, size);
		errno = ret;
		return NULL;
	}

	return buf;
}

void simhca_free_buf(void *buf, size_t size)
{
	ibv_dofork_range(buf, size);
	munmap(buf, size);
}
