// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: shared receive queues.
 */
#include <errno.h>
#include <stdlib.h>

#include <ccan/minmax.h>

#include "simhca.h"
#include "simhca_abi.h"
#include "simhca_db.h"
#include "simhca_wqe.h"

/* At least @size tags; the new ones are free. */
static int simhca_add_tags(struct simhca_srq *srq, uint32_t size)
{
	uint32_t *free_tags;
	uint64_t *wrid;

	if (size <= srq->num_tags)
		return 0;

	wrid = realloc(srq->wrid, size * sizeof(*wrid));
	if (!wrid)
		return ENOMEM;
	srq->wrid = wrid;

	free_tags = realloc(srq->free_tags, size * sizeof(*free_tags));
	if (!free_tags)
		return ENOMEM;
	srq->free_tags = free_tags;

	while (srq->num_tags < size)
		free_tags[srq->num_free++] = srq->num_tags++;

	return 0;
}

/* Receives that were posted, and whose completions were not polled */
static uint32_t simhca_srq_used(const struct simhca_srq *srq)
{
	return srq->num_tags - srq->num_free;
}

static void simhca_free_srq_tags(struct simhca_srq *srq)
{
	free(srq->free_tags);
	free(srq->wrid);
}

/* The ring for the receives that are asked for, and their tags, all free. */
static int simhca_alloc_srq_bufs(struct simhca_context *ctx,
				 struct simhca_srq *srq, struct ibv_pd *pd,
				 const struct ibv_srq_attr *attr)
{
	size_t wqe_size = sizeof(struct simhca_rq_wqe) +
			  max_t(uint32_t, attr->max_sge, 1) *
				  sizeof(struct simhca_sge);
	uint32_t room;
	int ret;

	srq->size = 1u << simhca_log2_up(attr->max_wr);
	srq->log_stride = simhca_log2_up(wqe_size);
	room = (1u << srq->log_stride) - sizeof(struct simhca_rq_wqe);
	srq->max_sge = min_t(uint32_t, ctx->max_sge,
			     room / sizeof(struct simhca_sge));

	ret = simhca_add_tags(srq, srq->size);
	if (ret)
		goto err_free_tags;

	ret = simhca_alloc_buf(&srq->buf, pd,
			       (size_t)srq->size << srq->log_stride,
			       SIMHCA_RESOURCE_SRQ);
	if (ret)
		goto err_free_tags;

	return 0;

err_free_tags:
	simhca_free_srq_tags(srq);
	return ret;
}

static void simhca_free_srq_bufs(struct simhca_srq *srq)
{
	simhca_free_buf(&srq->buf);
	simhca_free_srq_tags(srq);
}

struct ibv_srq *simhca_create_srq(struct ibv_pd *pd,
				  struct ibv_srq_init_attr *attr)
{
	struct simhca_context *ctx = to_simhca_ctx(pd->context);
	struct ibv_srq_init_attr real_attr = *attr;
	struct simhca_create_srq_resp resp = {};
	struct simhca_create_srq cmd = {};
	struct simhca_srq *srq;
	int ret;

	if (!attr->attr.max_wr || attr->attr.max_wr > 1u << ctx->max_log_wr ||
	    attr->attr.max_sge > ctx->max_sge) {
		errno = EINVAL;
		return NULL;
	}

	srq = calloc(1, sizeof(*srq));
	if (!srq)
		return NULL;

	ret = simhca_alloc_srq_bufs(ctx, srq, pd, &attr->attr);
	if (ret)
		goto err_free_srq;

	cmd.buf_va = (uintptr_t)srq->buf.addr;
	cmd.log_size = simhca_log2_up(srq->size);
	cmd.log_stride = srq->log_stride;
	real_attr.attr.max_wr = srq->size;
	real_attr.attr.max_sge = srq->max_sge;
	ret = ibv_cmd_create_srq(pd, &srq->ibvsrq, &real_attr, &cmd.ibv_cmd,
				 sizeof(cmd), &resp.ibv_resp, sizeof(resp));
	if (ret)
		goto err_free_bufs;

	srq->uar_map = simhca_get_uar(ctx, resp.uar_mmap_key);
	if (!srq->uar_map) {
		ret = errno;
		goto err_destroy;
	}

	srq->db = &srq->uar_map->uar->srq[resp.slot];
	pthread_spin_init(&srq->lock, PTHREAD_PROCESS_PRIVATE);
	attr->attr.max_wr = srq->size;
	attr->attr.max_sge = srq->max_sge;

	return &srq->ibvsrq;

err_destroy:
	ibv_cmd_destroy_srq(&srq->ibvsrq);
err_free_bufs:
	simhca_free_srq_bufs(srq);
err_free_srq:
	free(srq);
	errno = ret;
	return NULL;
}

/* The device moves what is in the ring: nobody may post meanwhile. */
static int simhca_resize_srq(struct simhca_srq *srq, struct ibv_srq_attr *attr,
			     int attr_mask)
{
	struct simhca_context *ctx = to_simhca_ctx(srq->ibvsrq.context);
	struct simhca_modify_srq cmd = {};
	struct simhca_buf buf, old;
	uint32_t size;
	int ret;

	if (!attr->max_wr || attr->max_wr > 1u << ctx->max_log_wr)
		return EINVAL;

	cmd.log_size = simhca_log2_up(attr->max_wr);
	size = 1u << cmd.log_size;
	ret = simhca_alloc_buf(&buf, srq->ibvsrq.pd,
			       (size_t)size << srq->log_stride,
			       SIMHCA_RESOURCE_SRQ);
	if (ret)
		return ret;

	cmd.buf_va = (uintptr_t)buf.addr;
	pthread_spin_lock(&srq->lock);
	ret = simhca_srq_used(srq) > size ? EINVAL :
					    simhca_add_tags(srq, size);
	if (!ret)
		ret = ibv_cmd_modify_srq(&srq->ibvsrq, attr, attr_mask,
					 &cmd.ibv_cmd, sizeof(cmd));
	old = ret ? buf : srq->buf;
	if (!ret) {
		srq->buf = buf;
		srq->size = size;
	}
	pthread_spin_unlock(&srq->lock);
	simhca_free_buf(&old);

	return ret;
}

int simhca_modify_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr,
		      int attr_mask)
{
	struct ibv_modify_srq cmd = {};

	if (attr_mask & IBV_SRQ_MAX_WR)
		return simhca_resize_srq(to_simhca_srq(ibvsrq), attr,
					 attr_mask);

	return ibv_cmd_modify_srq(ibvsrq, attr, attr_mask, &cmd, sizeof(cmd));
}

int simhca_query_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr)
{
	struct ibv_query_srq cmd = {};

	return ibv_cmd_query_srq(ibvsrq, attr, &cmd, sizeof(cmd));
}

int simhca_destroy_srq(struct ibv_srq *ibvsrq)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvsrq->context);
	struct simhca_srq *srq = to_simhca_srq(ibvsrq);
	int ret;

	ret = ibv_cmd_destroy_srq(ibvsrq);
	if (ret)
		return ret;

	pthread_spin_destroy(&srq->lock);
	simhca_put_uar(ctx, srq->uar_map);
	simhca_free_srq_bufs(srq);
	free(srq);

	return 0;
}

int simhca_post_srq_recv(struct ibv_srq *ibvsrq, struct ibv_recv_wr *wr,
			 struct ibv_recv_wr **bad_wr)
{
	struct simhca_srq *srq = to_simhca_srq(ibvsrq);
	struct simhca_rq_wqe *wqe;
	uint32_t start, tag;
	int ret = 0;

	pthread_spin_lock(&srq->lock);

	start = srq->head;
	for (; wr; wr = wr->next) {
		if (simhca_srq_used(srq) >= srq->size)
			ret = ENOMEM;
		else if ((unsigned int)wr->num_sge > srq->max_sge)
			ret = EINVAL;
		if (ret) {
			*bad_wr = wr;
			break;
		}

		tag = srq->free_tags[--srq->num_free];
		srq->wrid[tag] = wr->wr_id;
		wqe = srq->buf.addr + ((size_t)(srq->head & (srq->size - 1))
				  << srq->log_stride);
		*wqe = (struct simhca_rq_wqe){
			.num_sge = htole32(wr->num_sge),
			.tag = htole32(tag),
		};
		simhca_set_sges((struct simhca_sge *)(wqe + 1), wr->sg_list,
				wr->num_sge);
		srq->head++;
	}

	if (srq->head != start)
		simhca_ring_srq(srq);

	pthread_spin_unlock(&srq->lock);

	return ret;
}

/* The receive with this tag is completed; false: there is none. */
bool simhca_srq_take(struct simhca_srq *srq, uint32_t tag, uint64_t *wr_id)
{
	bool ok;

	pthread_spin_lock(&srq->lock);
	ok = tag < srq->num_tags && simhca_srq_used(srq);
	if (ok) {
		*wr_id = srq->wrid[tag];
		srq->free_tags[srq->num_free++] = tag;
	}
	pthread_spin_unlock(&srq->lock);

	return ok;
}
