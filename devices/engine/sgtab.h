/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * A buffer as a table of runs of DMA addresses, by offset: what an MR and a ring are made of.
 */
#ifndef ENGINE_SGTAB_H
#define ENGINE_SGTAB_H

#include <stddef.h>
#include <stdint.h>

#include "dma_map.h"

/*
 * @length: bytes in all
 * @nsegs: runs
 * @start: offset of each run; NULL: one run, at @addr0
 * @addr: DMA address of each run
 */
struct sgtab {
	uint64_t length;
	uint64_t addr0;
	uint32_t nsegs;
	uint32_t cap;
	uint64_t *start;
	uint64_t *addr;
};

/*
 * Where one user looked last, in the table and in the DMA map. Zero-initialise it. Harmless with
 * another table, useless there; must not be carried from one DMA map to another.
 */
struct sgtab_hint {
	uint32_t seg;
	struct dma_map_cursor cur;
};

/* One run; needs no memory. @addr + @length must not pass the end of the address space. */
void sgtab_init_one(struct sgtab *tab, uint64_t addr, uint64_t length);

/*
 * Room for @max runs, to be filled by sgtab_add(). Returns 0 or -ENOMEM; memory is
 * sgtab_mem() bytes.
 */
int sgtab_init(struct sgtab *tab, uint32_t max);

/*
 * Appends a run; runs that continue the one before are merged with it.
 * Returns 0, -EINVAL when it is empty or something overflows, -ENOSPC.
 */
int sgtab_add(struct sgtab *tab, uint64_t addr, uint64_t length);

/* No more sgtab_add(): gives back what was not needed. */
void sgtab_trim(struct sgtab *tab);

/* Empty again, with the room it has. */
void sgtab_reset(struct sgtab *tab);

void sgtab_destroy(struct sgtab *tab);

/* Bytes of memory sgtab_init(@max) takes. */
uint64_t sgtab_mem(uint32_t max);

/*
 * Returns the bytes from @off on that are contiguous in DMA addresses, and the first of
 * these. @off is below @tab->length. A hint of zero length is not needed: @seg may hold anything.
 */
uint64_t sgtab_at(const struct sgtab *tab, uint32_t *seg, uint64_t off, uint64_t *addr);

/*
 * The same to a pointer, at most @len bytes; the caller holds @map's read lock. 0: not reachable
 * with @prot (DMA_MAP_*).
 */
size_t sgtab_ptr(const struct sgtab *tab, struct sgtab_hint *hint, struct dma_map *map,
		 uint64_t off, size_t len, unsigned int prot, void **ptr);

#endif /* ENGINE_SGTAB_H */
