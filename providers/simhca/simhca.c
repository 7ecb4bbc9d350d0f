// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: provider of the simulated HCA: device and context.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <infiniband/cmd_ioctl.h>

#include "simhca.h"
#include "simhca_abi.h"
#include "simhca_db.h"

static void simhca_free_context(struct ibv_context *ibvctx);

static const struct verbs_context_ops simhca_context_ops = {
	.alloc_mw = simhca_alloc_mw,
	.alloc_parent_domain = simhca_alloc_parent_domain,
	.alloc_pd = simhca_alloc_pd,
	.alloc_td = simhca_alloc_td,
	.attach_mcast = ibv_cmd_attach_mcast,
	.bind_mw = simhca_bind_mw,
	.cq_event = simhca_cq_event,
	.create_ah = simhca_create_ah,
	.create_cq = simhca_create_cq,
	.create_cq_ex = simhca_create_cq_ex,
	.create_qp = simhca_create_qp,
	.create_qp_ex = simhca_create_qp_ex,
	.create_srq = simhca_create_srq,
	.dealloc_mw = simhca_dealloc_mw,
	.dealloc_pd = simhca_dealloc_pd,
	.dealloc_td = simhca_dealloc_td,
	.dereg_mr = simhca_dereg_mr,
	.destroy_ah = simhca_destroy_ah,
	.destroy_cq = simhca_destroy_cq,
	.destroy_qp = simhca_destroy_qp,
	.destroy_srq = simhca_destroy_srq,
	.detach_mcast = ibv_cmd_detach_mcast,
	.free_context = simhca_free_context,
	.import_mr = simhca_import_mr,
	.import_pd = simhca_import_pd,
	.modify_cq = simhca_modify_cq,
	.modify_qp = simhca_modify_qp,
	.modify_srq = simhca_modify_srq,
	.poll_cq = simhca_poll_cq,
	.post_recv = simhca_post_recv,
	.post_send = simhca_post_send,
	.post_srq_recv = simhca_post_srq_recv,
	.query_device_ex = simhca_query_device_ex,
	.query_port = simhca_query_port,
	.query_qp = simhca_query_qp,
	.query_rt_values = simhca_query_rt_values,
	.query_srq = simhca_query_srq,
	.reg_dmabuf_mr = simhca_reg_dmabuf_mr,
	.reg_mr = simhca_reg_mr,
	.req_notify_cq = simhca_req_notify_cq,
	.rereg_mr = simhca_rereg_mr,
	.resize_cq = simhca_resize_cq,
	.unimport_mr = simhca_unimport_mr,
	.unimport_pd = simhca_unimport_pd,
};

static struct simhca_context *simhca_new_context(struct ibv_device *ibvdev,
						 int cmd_fd)
{
	struct simhca_context *ctx;

	return verbs_init_and_alloc_context(ibvdev, cmd_fd, ctx, ibvctx,
					    RDMA_DRIVER_UNKNOWN);
}

/* Also after an error */
static void simhca_drop_context(struct simhca_context *ctx)
{
	verbs_uninit_context(&ctx->ibvctx);
	free(ctx);
}

static int simhca_init_context(struct simhca_context *ctx, int cmd_fd,
			       const struct simhca_ibv_alloc_ucontext_resp *resp)
{
	void *page;

	page = mmap(NULL, SIMHCA_PAGE_SIZE, PROT_READ, MAP_SHARED, cmd_fd,
		    resp->status_mmap_key);
	if (page == MAP_FAILED)
		return errno;
	ctx->status = page;
	ctx->epoch = simhca_read_epoch(ctx);
	if (!ctx->epoch) {
		errno = EIO;
		goto err_unmap_status;
	}

	page = mmap(NULL, SIMHCA_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		    cmd_fd, resp->kick_mmap_key);
	if (page == MAP_FAILED)
		goto err_unmap_status;
	ctx->kick = page;

	ctx->max_inline = resp->max_inline;
	ctx->max_sge = resp->max_sge;
	ctx->max_log_wr = resp->max_log_wr;
	ctx->max_log_cqe = resp->max_log_cqe;
	pthread_mutex_init(&ctx->uar_mutex, NULL);
	list_head_init(&ctx->uar_maps);
	pthread_mutex_init(&ctx->qp_table_mutex, NULL);
	verbs_set_ops(&ctx->ibvctx, &simhca_context_ops);
	return 0;

err_unmap_status:
	munmap((void *)ctx->status, SIMHCA_PAGE_SIZE);
	return errno;
}

static struct verbs_context *simhca_alloc_context(struct ibv_device *ibvdev,
						  int cmd_fd,
						  void *private_data)
{
	struct simhca_alloc_ucontext_resp resp = {};
	struct simhca_alloc_ucontext cmd = {};
	struct simhca_context *ctx;

	ctx = simhca_new_context(ibvdev, cmd_fd);
	if (!ctx)
		return NULL;

	if (ibv_cmd_get_context(&ctx->ibvctx, &cmd.ibv_cmd, sizeof(cmd),
				&resp.ibv_resp, sizeof(resp)) ||
	    simhca_init_context(ctx, cmd_fd, &resp.drv_payload)) {
		simhca_drop_context(ctx);
		return NULL;
	}

	return &ctx->ibvctx;
}

/* The context that somebody else opened: its objects are found by their handles. */
static struct verbs_context *simhca_import_context(struct ibv_device *ibvdev,
						   int cmd_fd)
{
	struct simhca_ibv_alloc_ucontext_resp resp = {};
	DECLARE_COMMAND_BUFFER_LINK(driver, UVERBS_OBJECT_DEVICE,
				    UVERBS_METHOD_QUERY_CONTEXT, 1, NULL);
	struct simhca_context *ctx;

	ctx = simhca_new_context(ibvdev, cmd_fd);
	if (!ctx)
		return NULL;

	fill_attr_out_ptr(driver, SIMHCA_ATTR_QUERY_CONTEXT_RESP, &resp);
	if (ibv_cmd_query_context(&ctx->ibvctx.context, driver) ||
	    simhca_init_context(ctx, cmd_fd, &resp)) {
		simhca_drop_context(ctx);
		return NULL;
	}

	return &ctx->ibvctx;
}

static void simhca_free_context(struct ibv_context *ibvctx)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvctx);
	unsigned int i;

	for (i = 0; i < SIMHCA_QP_TABLE_SIZE; i++)
		free(ctx->qp_table[i]);
	pthread_mutex_destroy(&ctx->qp_table_mutex);
	pthread_mutex_destroy(&ctx->uar_mutex);
	munmap(ctx->kick, SIMHCA_PAGE_SIZE);
	munmap((void *)ctx->status, SIMHCA_PAGE_SIZE);
	simhca_drop_context(ctx);
}

static struct verbs_device *
simhca_alloc_device(struct verbs_sysfs_dev *sysfs_dev)
{
	return calloc(1, sizeof(struct verbs_device));
}

static void simhca_uninit_device(struct verbs_device *vdev)
{
	free(vdev);
}

/* By PCI identity: an rdma_driver_id is given out by the kernel's maintainers only. */
static const struct verbs_match_ent simhca_match_table[] = {
	VERBS_PCI_MATCH(SIMHCA_PCI_VENDOR_ID, SIMHCA_PCI_DEVICE_ID, NULL),
	{}
};

static const struct verbs_device_ops simhca_device_ops = {
	.name = "simhca",
	.match_min_abi_version = SIMHCA_ABI_VERSION,
	.match_max_abi_version = SIMHCA_ABI_VERSION,
	.match_table = simhca_match_table,
	.alloc_context = simhca_alloc_context,
	.alloc_device = simhca_alloc_device,
	.import_context = simhca_import_context,
	.uninit_device = simhca_uninit_device,
};

PROVIDER_DRIVER(simhca, simhca_device_ops);
