// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Tables of runs of DMA addresses. */
#include <errno.h>
#include <stdlib.h>

#include "sgtab.h"

void sgtab_init_one(struct sgtab *tab, uint64_t addr, uint64_t length)
{
	*tab = (struct sgtab) { .length = length, .addr0 = addr, .nsegs = 1 };
}

uint64_t sgtab_mem(uint32_t max)
{
	return max > 1 ? (uint64_t)max * 2 * sizeof(uint64_t) : 0;
}

int sgtab_init(struct sgtab *tab, uint32_t max)
{
	*tab = (struct sgtab) { .cap = max };
	if (max <= 1)
		return 0;
	tab->start = malloc(max * sizeof(tab->start[0]));
	tab->addr = malloc(max * sizeof(tab->addr[0]));
	if (!tab->start || !tab->addr) {
		sgtab_destroy(tab);
		return -ENOMEM;
	}
	return 0;
}

static uint64_t sgtab_seg_start(const struct sgtab *tab, uint32_t i)
{
	return tab->start ? tab->start[i] : 0;
}

static uint64_t sgtab_seg_addr(const struct sgtab *tab, uint32_t i)
{
	return tab->addr ? tab->addr[i] : tab->addr0;
}

int sgtab_add(struct sgtab *tab, uint64_t addr, uint64_t length)
{
	uint32_t n = tab->nsegs;
	uint64_t end;

	/* The last byte must have an address; one past it may be 2^64. */
	if (!length || __builtin_add_overflow(addr, length - 1, &end) ||
	    __builtin_add_overflow(tab->length, length, &end))
		return -EINVAL;
	if (n && sgtab_seg_addr(tab, n - 1) + (tab->length - sgtab_seg_start(tab, n - 1)) == addr) {
		tab->length += length;
		return 0;
	}
	if (n >= tab->cap)
		return -ENOSPC;
	if (tab->start) {
		tab->start[n] = tab->length;
		tab->addr[n] = addr;
	} else {
		tab->addr0 = addr;
	}
	tab->nsegs++;
	tab->length += length;
	return 0;
}

void sgtab_trim(struct sgtab *tab)
{
	uint64_t *p;

	if (!tab->start || tab->nsegs == tab->cap)
		return;
	if (tab->nsegs <= 1) {
		tab->addr0 = tab->nsegs ? tab->addr[0] : 0;
		free(tab->start);
		free(tab->addr);
		tab->start = NULL;
		tab->addr = NULL;
		tab->cap = 1;
		return;
	}
	p = realloc(tab->start, tab->nsegs * sizeof(p[0]));
	if (p)
		tab->start = p;
	p = realloc(tab->addr, tab->nsegs * sizeof(p[0]));
	if (p)
		tab->addr = p;
	tab->cap = tab->nsegs;
}

void sgtab_reset(struct sgtab *tab)
{
	tab->nsegs = 0;
	tab->length = 0;
}

void sgtab_destroy(struct sgtab *tab)
{
	free(tab->start);
	free(tab->addr);
	*tab = (struct sgtab) { 0 };
}

static uint64_t sgtab_seg_end(const struct sgtab *tab, uint32_t i)
{
	return i + 1 < tab->nsegs ? tab->start[i + 1] : tab->length;
}

static int sgtab_hit(const struct sgtab *tab, uint32_t i, uint64_t off)
{
	return i < tab->nsegs && tab->start[i] <= off && off < sgtab_seg_end(tab, i);
}

static uint32_t sgtab_search(const struct sgtab *tab, uint32_t hint, uint64_t off)
{
	uint32_t lo = 0, hi = tab->nsegs - 1;
	uint32_t guess;

	if (sgtab_hit(tab, hint, off))
		return hint;
	if (sgtab_hit(tab, hint + 1, off))
		return hint + 1;

	/* Most tables have runs of one size, but for the first and the last. */
	guess = (uint32_t)((unsigned __int128)off * tab->nsegs / tab->length);
	if (sgtab_hit(tab, guess, off))
		return guess;
	if (sgtab_hit(tab, guess + 1, off))
		return guess + 1;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo + 1) / 2;

		if (tab->start[mid] <= off)
			lo = mid;
		else
			hi = mid - 1;
	}
	return lo;
}

uint64_t sgtab_at(const struct sgtab *tab, uint32_t *seg, uint64_t off, uint64_t *addr)
{
	uint32_t i;

	if (!tab->start) {
		*addr = tab->addr0 + off;
		return tab->length - off;
	}
	i = sgtab_search(tab, *seg, off);
	*seg = i;
	*addr = tab->addr[i] + (off - tab->start[i]);
	return sgtab_seg_end(tab, i) - off;
}

size_t sgtab_ptr(const struct sgtab *tab, struct sgtab_hint *hint, struct dma_map *map,
		 uint64_t off, size_t len, unsigned int prot, void **ptr)
{
	uint64_t addr, n;

	n = sgtab_at(tab, &hint->seg, off, &addr);
	if (n < len)
		len = n;
	return dma_map_translate(map, &hint->cur, addr, len, prot, ptr);
}
