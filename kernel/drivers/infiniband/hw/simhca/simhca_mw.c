// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: memory windows. The kernel gives a key; what it stands for is between the process and the
 * device, which changes the variant, too.
 */

#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

int simhca_alloc_mw(struct ib_mw *ibmw, struct ib_udata *udata)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_MW) };
	struct simhca_cmd_create_mw *create = &cmd.payload.create_mw;
	struct simhca_dev *dev = to_sdev(ibmw->device);
	u32 key;
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	err = simhca_key_alloc(dev, ibmw, &key);
	if (err)
		return err;

	create->key = cpu_to_le32(key);
	create->pdn = cpu_to_le32(to_spd(ibmw->pd)->pdn);
	create->type = cpu_to_le32(ibmw->type);
	err = simhca_cmd_exec(dev, &cmd);
	if (err) {
		simhca_key_free(dev, key);
		return err;
	}

	ibmw->rkey = key;
	ibdev_dbg(&dev->ibdev, "MW %#x: type %u\n", key, ibmw->type);
	return 0;
}

int simhca_dealloc_mw(struct ib_mw *ibmw)
{
	struct simhca_dev *dev = to_sdev(ibmw->device);

	simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_MW, ibmw->rkey);
	simhca_key_free(dev, ibmw->rkey);
	return 0;
}
