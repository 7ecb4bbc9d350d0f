// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* From SGEs to pointers, and the copy between two of them. */
#include <string.h>

#include "internal.h"

uint32_t xfer_check(const struct xfer_side *side)
{
	struct engine_mr *mr;
	uint32_t i, verr;
	uint64_t off;

	for (i = 0; i < side->num_sge; i++) {
		const struct engine_sge *sge = &side->sge[i];

		if (!sge->length)
			continue;
		verr = mr_check(side, sge, &mr, &off);
		if (verr)
			return verr;
	}
	return 0;
}

void xfer_seek(struct xfer_side *side, uint64_t pos)
{
	side->mr = NULL;
	side->idx = 0;
	if (!side->inline_data) {
		while (side->idx < side->num_sge && pos >= side->sge[side->idx].length)
			pos -= side->sge[side->idx++].length;
	}
	side->off = pos;
}

size_t xfer_ptr(struct xfer_side *side, size_t want, void **ptr)
{
	const struct engine_sge *sge;
	size_t n;

	if (side->inline_data) {
		*ptr = (void *)(side->inline_data + side->off);
		return want;
	}
	while (side->idx < side->num_sge && side->off == side->sge[side->idx].length) {
		side->idx++;
		side->off = 0;
		side->mr = NULL;
	}
	if (side->idx == side->num_sge) {
		side->verr = ENGINE_VERR_LENGTH;
		return 0;
	}
	sge = &side->sge[side->idx];
	if (!side->mr) {
		side->verr = mr_check(side, sge, &side->mr, &side->mr_off);
		if (side->verr)
			return 0;
	}
	n = sge->length - side->off;
	if (n > want)
		n = want;
	n = sgtab_ptr(&side->mr->sg, side->hint, side->hca->map, side->mr_off + side->off, n,
		      side->prot, ptr);
	if (!n) {
		side->verr = ENGINE_VERR_DMA;
		side->hca->stats.translate_faults++;
	}
	return n;
}

void xfer_advance(struct xfer_side *side, size_t n)
{
	side->off += n;
}

enum xfer_result xfer_copy(struct xfer_side *src, struct xfer_side *dst, uint64_t length,
			   uint64_t *done, uint32_t *budget)
{
	while (*done < length) {
		void *from, *to;
		size_t n;

		if (!*budget)
			return XFER_BUDGET;
		n = length - *done < *budget ? length - *done : *budget;
		n = xfer_ptr(src, n, &from);
		if (!n)
			return XFER_SRC_ERR;
		n = xfer_ptr(dst, n, &to);
		if (!n)
			return XFER_DST_ERR;
		/* The guest decides whether they overlap. */
		memmove(to, from, n);
		xfer_advance(src, n);
		xfer_advance(dst, n);
		*done += n;
		if (n < ENGINE_PIECE_BYTES)
			n = ENGINE_PIECE_BYTES;
		*budget -= n < *budget ? n : *budget;
	}
	return XFER_DONE;
}

void xfer_lock_maps(struct dma_map *a, struct dma_map *b)
{
	dma_map_read_lock(a < b ? a : b);
	if (a != b)
		dma_map_read_lock(a < b ? b : a);
}

void xfer_unlock_maps(struct dma_map *a, struct dma_map *b)
{
	dma_map_read_unlock(a);
	if (a != b)
		dma_map_read_unlock(b);
}
