// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "fuzz_hca.h"

#define FUZZ_DB_PAGES	4

static uint32_t take16(struct input *in, size_t *len)
{
	uint16_t value = 0;

	*len -= input_take(in, &value, *len < sizeof(value) ? *len : sizeof(value));
	return value;
}

void fuzz_store(struct bare_hca *h, struct input *in, size_t len)
{
	uint32_t at = take16(in, &len) * 8 % (BARE_FENCE - BARE_RAM - 256);

	input_take(in, h->ram + at, len);
}

void fuzz_doorbell(struct bare_hca *h, struct input *in, size_t len)
{
	uint32_t at = take16(in, &len) * 4 % (FUZZ_DB_PAGES * SIMHCA_PAGE_SIZE);
	uint32_t value = 0;

	input_take(in, &value, len < sizeof(value) ? len : sizeof(value));
	__atomic_store_n((uint32_t *)(h->dev->db + at), value, __ATOMIC_RELAXED);
}

void fuzz_step(struct bare *b, struct bare_hca *h, unsigned int step, uint8_t arg)
{
	struct dma_map *map = vfu_dma_map(h->dev->srv);
	uint64_t page = (arg % (BARE_RAM_SIZE / SIMHCA_PAGE_SIZE - 1)) * SIMHCA_PAGE_SIZE;

	switch (step) {
	case FUZZ_TIME:
		bare_run(b, 20, 1ull << arg % 36);
		break;
	case FUZZ_CONSUME:
		bare_consume(h);
		break;
	case FUZZ_BUS_MASTER:
		h->dev->req_bus_master = arg & 1;
		atomic_store(&h->dev->req, SIMHCA_REQ_BUS_MASTER);
		break;
	case FUZZ_UNMAP:
		dma_map_remove_range(map, BARE_RAM + page, SIMHCA_PAGE_SIZE);
		break;
	case FUZZ_MAP:
		dma_map_add(map, BARE_RAM + page, SIMHCA_PAGE_SIZE, DMA_MAP_READ | DMA_MAP_WRITE,
			    h->ram_fd, page);
		break;
	}
	bare_run(b, 2, 1000);
}
