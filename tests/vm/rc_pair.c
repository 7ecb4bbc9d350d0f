// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "file.h"
#include "rc_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLL_TIMEOUT_S 10

struct ibv_context *hca_open(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *ctx = NULL;

	if (!name)
		name = getenv("HCA");
	if (!list || !name) {
		errno = ENODEV;
		return NULL;
	}
	errno = ENODEV;
	for (int i = 0; list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			ctx = ibv_open_device(list[i]);
	ibv_free_device_list(list);
	return ctx;
}

/* The last entry of the GID table: RoCE v2 of an IPv4 address, when there is one. */
int rc_gid_entry(struct ibv_context *ctx, struct ibv_gid_entry *gid)
{
	struct ibv_gid_entry entry;
	int ret = -ENOENT;

	for (int i = 0; i < 16; i++) {
		if (ibv_query_gid_ex(ctx, 1, i, &entry, 0))
			continue;
		if (entry.gid_type == IBV_GID_TYPE_ROCE_V2 || ret) {
			*gid = entry;
			ret = 0;
		}
	}
	return ret;
}

bool hca_has_hook(void)
{
	return file_says(HCA_REVOKE, "hook");
}

int rc_gid(struct ibv_context *ctx, union ibv_gid *gid)
{
	struct ibv_gid_entry entry;
	int ret = rc_gid_entry(ctx, &entry);

	if (!ret)
		*gid = entry.gid;
	return ret;
}

int rc_connect_to(struct ibv_qp *qp, const union ibv_gid *dest_gid, uint32_t dest_qpn)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };
	struct ibv_gid_entry gid;
	int ret;

	ret = rc_gid_entry(qp->context, &gid);
	if (ret)
		return ret;

	ret = ibv_modify_qp(qp, &attr, IBV_QP_STATE);
	if (ret)
		return -ret;

	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_INIT, .port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_ATOMIC,
	};
	ret = ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			    IBV_QP_ACCESS_FLAGS);
	if (ret)
		return -ret;

	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024,
		.dest_qp_num = dest_qpn, .max_dest_rd_atomic = 1, .min_rnr_timer = 1,
		.ah_attr = {
			.is_global = 1, .port_num = 1,
			.grh = { .dgid = *dest_gid, .sgid_index = gid.gid_index, .hop_limit = 1 },
		},
	};
	ret = ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			    IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			    IBV_QP_MIN_RNR_TIMER);
	if (ret)
		return -ret;

	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTS, .timeout = 10, .retry_cnt = 3, .rnr_retry = 3,
		.max_rd_atomic = 1,
	};
	ret = ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			    IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
	return -ret;
}

int rc_connect(struct ibv_qp *qp, uint32_t dest_qpn)
{
	union ibv_gid gid;
	int ret = rc_gid(qp->context, &gid);

	return ret ?: rc_connect_to(qp, &gid, dest_qpn);
}

int rc_pair_connect(struct rc_pair *pair)
{
	int ret = 0;

	for (int i = 0; !ret && i < 2; i++)
		ret = rc_connect(pair->qp[i], pair->qp[!i]->qp_num);
	return ret;
}

int rc_pair_open(struct rc_pair *pair, const char *name)
{
	struct ibv_qp_init_attr init = {
		.cap = { .max_send_wr = RC_PAIR_DEPTH, .max_recv_wr = RC_PAIR_DEPTH,
			 .max_send_sge = 4, .max_recv_sge = 4, .max_inline_data = 64 },
		.qp_type = IBV_QPT_RC,
	};
	int ret;

	memset(pair, 0, sizeof(*pair));
	pair->ctx = hca_open(name);
	if (!pair->ctx)
		return -errno;
	pair->pd = ibv_alloc_pd(pair->ctx);
	if (!pair->pd)
		goto err;
	pair->channel = ibv_create_comp_channel(pair->ctx);
	if (!pair->channel)
		goto err;
	pair->cq = ibv_create_cq(pair->ctx, 4 * RC_PAIR_DEPTH, NULL, pair->channel, 0);
	if (!pair->cq)
		goto err;
	init.send_cq = pair->cq;
	init.recv_cq = pair->cq;
	for (int i = 0; i < 2; i++) {
		pair->qp[i] = ibv_create_qp(pair->pd, &init);
		if (!pair->qp[i])
			goto err;
	}
	ret = rc_pair_connect(pair);
	if (!ret)
		return 0;
	errno = -ret;
err:
	ret = -errno;
	rc_pair_close(pair);
	return ret;
}

void rc_pair_close(struct rc_pair *pair)
{
	for (int i = 0; i < 2; i++)
		if (pair->qp[i])
			ibv_destroy_qp(pair->qp[i]);
	if (pair->cq)
		ibv_destroy_cq(pair->cq);
	if (pair->channel)
		ibv_destroy_comp_channel(pair->channel);
	if (pair->pd)
		ibv_dealloc_pd(pair->pd);
	if (pair->ctx)
		ibv_close_device(pair->ctx);
	memset(pair, 0, sizeof(*pair));
}

int reg_errno(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, addr, len, access);

	if (!mr)
		return errno;
	ibv_dereg_mr(mr);
	return 0;
}

int rc_pair_poll(struct rc_pair *pair, struct ibv_wc *wc)
{
	struct timespec now, end;
	int n;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += POLL_TIMEOUT_S;
	for (;;) {
		n = ibv_poll_cq(pair->cq, 1, wc);
		if (n)
			return n < 0 ? -EIO : 0;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end.tv_sec)
			return -ETIMEDOUT;
	}
}

int rc_pair_rdma(struct rc_pair *pair, enum ibv_wr_opcode opcode, void *local, uint32_t lkey,
		 uint32_t len, const void *remote, uint32_t rkey)
{
	struct ibv_sge sge = { .addr = (uintptr_t)local, .length = len, .lkey = lkey };
	struct ibv_send_wr wr = {
		.wr_id = 0x5eed, .sg_list = &sge, .num_sge = 1, .opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { .remote_addr = (uintptr_t)remote, .rkey = rkey },
	}, *bad;
	struct ibv_wc wc;
	int ret;

	ret = ibv_post_send(pair->qp[0], &wr, &bad);
	if (ret)
		return -ret;
	ret = rc_pair_poll(pair, &wc);
	if (ret)
		return ret;
	return wc.wr_id == 0x5eed ? (int)wc.status : -EPROTO;
}

int vram_open(int flags, uint64_t *size)
{
	const char *path = getenv("VRAM_RESOURCE");
	struct stat st;
	int fd;

	if (!path)
		return -ENODEV;
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		close(fd);
		return -errno;
	}
	*size = st.st_size;
	return fd;
}
