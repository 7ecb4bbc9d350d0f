/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Trace points of memory regions in the memory of other PCI devices
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM umem_p2p

#if !defined(_TRACE_UMEM_P2P_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_UMEM_P2P_H

#include <linux/tracepoint.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

/* Memory was mapped for a region; @pieces of it are memory of one kind each. */
TRACE_EVENT(umem_p2p_map,
	TP_PROTO(const struct ib_umem *umem, unsigned int pieces,
		 bool revocable),

	TP_ARGS(umem, pieces, revocable),

	TP_STRUCT__entry(
		__string(device, dev_name(&umem->ibdev->dev))
		__field(unsigned long, addr)
		__field(size_t, len)
		__field(unsigned int, segments)
		__field(unsigned int, pieces)
		__field(bool, revocable)
	),

	TP_fast_assign(
		__assign_str(device);
		__entry->addr = umem->address;
		__entry->len = umem->length;
		__entry->segments = umem->sgt_append.sgt.nents;
		__entry->pieces = pieces;
		__entry->revocable = revocable;
	),

	TP_printk("device=%s addr=%#lx len=%zu segments=%u pieces=%u revocable=%u",
		  __get_str(device), __entry->addr, __entry->len,
		  __entry->segments, __entry->pieces, __entry->revocable)
);

/* A region was not made. @err is what the caller gets, @reason says it in words. */
TRACE_EVENT(umem_p2p_refuse,
	TP_PROTO(const struct ib_device *device, unsigned long addr, size_t len,
		 int err, const char *reason),

	TP_ARGS(device, addr, len, err, reason),

	TP_STRUCT__entry(
		__string(device, dev_name(&device->dev))
		__field(unsigned long, addr)
		__field(size_t, len)
		__field(int, err)
		__string(reason, reason)
	),

	TP_fast_assign(
		__assign_str(device);
		__entry->addr = addr;
		__entry->len = len;
		__entry->err = err;
		__assign_str(reason);
	),

	TP_printk("device=%s addr=%#lx len=%zu err=%d reason=\"%s\"",
		  __get_str(device), __entry->addr, __entry->len, __entry->err,
		  __get_str(reason))
);

DECLARE_EVENT_CLASS(umem_p2p_class,
	TP_PROTO(const struct ib_umem *umem),

	TP_ARGS(umem),

	TP_STRUCT__entry(
		__string(device, dev_name(&umem->ibdev->dev))
		__field(unsigned long, addr)
		__field(size_t, len)
	),

	TP_fast_assign(
		__assign_str(device);
		__entry->addr = umem->address;
		__entry->len = umem->length;
	),

	TP_printk("device=%s addr=%#lx len=%zu", __get_str(device),
		  __entry->addr, __entry->len)
);

/* An exporter takes its memory back; the key is fenced when this is seen. */
DEFINE_EVENT(umem_p2p_class, umem_p2p_revoke,
	TP_PROTO(const struct ib_umem *umem),
	TP_ARGS(umem));

/* The region is given back, or could not be made after all. */
DEFINE_EVENT(umem_p2p_class, umem_p2p_unmap,
	TP_PROTO(const struct ib_umem *umem),
	TP_ARGS(umem));

#endif /* _TRACE_UMEM_P2P_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
