/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Memory regions in the memory of other PCI devices
 */
#ifndef _UMEM_P2P_H
#define _UMEM_P2P_H

#include <linux/err.h>
#include <linux/types.h>

struct attribute_group;
struct ib_device;
struct ib_umem;
struct ib_uverbs_p2p_info;
struct sk_buff;

extern const struct attribute_group ib_umem_p2p_attr_group;

#ifdef CONFIG_INFINIBAND_UMEM_P2P
struct ib_umem *ib_umem_p2p_get(struct ib_device *device, unsigned long addr,
				size_t size, int access, int pin_err,
				bool revocable);
void ib_umem_p2p_release(struct ib_umem *umem);
struct ib_umem *ib_umem_p2p_refuse(struct ib_umem *umem);
void ib_umem_p2p_lock(struct ib_umem *umem);
void ib_umem_p2p_unlock(struct ib_umem *umem);
void ib_umem_p2p_set_revoke_locked(struct ib_umem *umem,
				   int (*revoke)(void *priv), void *priv);
bool ib_umem_p2p_revoked(struct ib_umem *umem);
int ib_umem_p2p_fill_res(struct sk_buff *msg, struct ib_umem *umem);
int ib_umem_p2p_query(struct ib_device *device, unsigned long addr, size_t size,
		      int access, bool revocable,
		      struct ib_uverbs_p2p_info *info);
#else
static inline struct ib_umem *ib_umem_p2p_get(struct ib_device *device,
					      unsigned long addr, size_t size,
					      int access, int pin_err,
					      bool revocable)
{
	return ERR_PTR(pin_err);
}

static inline void ib_umem_p2p_release(struct ib_umem *umem) { }

static inline struct ib_umem *ib_umem_p2p_refuse(struct ib_umem *umem)
{
	return ERR_PTR(-ENODEV);
}

static inline void ib_umem_p2p_lock(struct ib_umem *umem) { }
static inline void ib_umem_p2p_unlock(struct ib_umem *umem) { }

static inline void ib_umem_p2p_set_revoke_locked(struct ib_umem *umem,
						 int (*revoke)(void *priv),
						 void *priv) { }

static inline bool ib_umem_p2p_revoked(struct ib_umem *umem)
{
	return false;
}

static inline int ib_umem_p2p_fill_res(struct sk_buff *msg,
				       struct ib_umem *umem)
{
	return 0;
}

static inline int ib_umem_p2p_query(struct ib_device *device,
				    unsigned long addr, size_t size, int access,
				    bool revocable,
				    struct ib_uverbs_p2p_info *info)
{
	return -EOPNOTSUPP;
}
#endif

#endif /* _UMEM_P2P_H */
