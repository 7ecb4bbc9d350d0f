// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: command ring.
 *
 * Any number of threads post commands; each sleeps until the response of its command is there.
 * Responses come in order. A device that does not answer, says that it has stopped, or reads as
 * all ones is given up: all commands fail from then on, but whoever destroys an object may free
 * its memory, because the device was reset. Who only waits for completions would not find out: so
 * the driver looks now and then.
 */

#include <linux/completion.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iopoll.h>

#include "simhca.h"

#define SIMHCA_CMD_TIMEOUT_S		8
#define SIMHCA_ENABLE_TIMEOUT_US	(1 * USEC_PER_SEC)
#define SIMHCA_HEALTH_PERIOD		HZ

/**
 * struct simhca_cmd_wait - a thread that waits for its command, on its stack
 * @done: completed with the entry of &simhca_cmdq.wait cleared, which ends all use of this
 * @err: result, valid after @done
 */
struct simhca_cmd_wait {
	struct completion done;
	int err;
};

static int simhca_status_to_errno(u16 status)
{
	switch (status) {
	case SIMHCA_CMD_OK:
		return 0;
	case SIMHCA_CMD_EINVAL:
		return -EINVAL;
	case SIMHCA_CMD_ENOENT:
		return -ENOENT;
	case SIMHCA_CMD_EEXIST:
		return -EEXIST;
	case SIMHCA_CMD_EBUSY:
		return -EBUSY;
	case SIMHCA_CMD_ENOMEM:
		return -ENOMEM;
	case SIMHCA_CMD_EFAULT:
		return -EFAULT;
	case SIMHCA_CMD_EOPNOTSUPP:
		return -EOPNOTSUPP;
	case SIMHCA_CMD_ENETUNREACH:
		return -ENETUNREACH;
	default:
		return -EPROTO;
	}
}

static void simhca_cmd_complete(struct simhca_cmdq *cmdq, u32 entry, int err)
{
	struct simhca_cmd_wait *wait = cmdq->wait[entry];

	lockdep_assert_held(&cmdq->lock);

	cmdq->wait[entry] = NULL;
	wait->err = err;
	complete(&wait->done);
}

/**
 * simhca_dev_reset - make the device forget everything
 * @dev: the device
 *
 * It touches no memory any more when this returns. Context: any.
 */
void simhca_dev_reset(struct simhca_dev *dev)
{
	writel(0, dev->regs + SIMHCA_REG_CTRL);
	/* Waits until the write has arrived */
	readl(dev->regs + SIMHCA_REG_STATUS);
}

/**
 * simhca_dev_fail - give the device up
 * @dev: the device
 * @why: for the log
 *
 * Wakes all who wait for a command. Tells users with IB_EVENT_DEVICE_FATAL, and who waits for
 * completions that he should look: the provider completes his requests. Only the first call has an
 * effect. Context: any.
 */
void simhca_dev_fail(struct simhca_dev *dev, const char *why)
{
	struct simhca_cmdq *cmdq = &dev->cmdq;
	unsigned long flags;
	bool first;
	u32 i;

	/* Before anybody is woken and frees what the device might still write to */
	if (!READ_ONCE(cmdq->dead)) {
		simhca_dev_reset(dev);
		/* A device that is gone cannot tell processes that it is */
		writel(0, simhca_uar_addr(dev, SIMHCA_STATUS_UAR) +
		       offsetof(struct simhca_status_page, epoch));
	}

	spin_lock_irqsave(&cmdq->lock, flags);
	first = !cmdq->dead;
	WRITE_ONCE(cmdq->dead, true);
	for (i = 0; i < SIMHCA_CMDQ_SIZE; i++)
		if (cmdq->wait[i])
			simhca_cmd_complete(cmdq, i, -EIO);
	if (first && cmdq->registered) {
		struct ib_event event = {
			.device = &dev->ibdev,
			.event = IB_EVENT_DEVICE_FATAL,
			.element.port_num = SIMHCA_PORT,
		};

		ib_dispatch_event(&event);
		schedule_work(&dev->fail_work);
	}
	spin_unlock_irqrestore(&cmdq->lock, flags);

	if (first)
		dev_err(&dev->pdev->dev, "device given up: %s\n", why);
}

/**
 * simhca_cmdq_set_registered - say whether the ib_device may be told of events
 * @dev: the device
 * @registered: set false before ib_unregister_device(), which waits for events under way
 */
void simhca_cmdq_set_registered(struct simhca_dev *dev, bool registered)
{
	spin_lock_irq(&dev->cmdq.lock);
	dev->cmdq.registered = registered;
	spin_unlock_irq(&dev->cmdq.lock);
}

static bool simhca_rsp_ready(const struct simhca_cmdq *cmdq)
{
	const struct simhca_rsp *rsp = &cmdq->rsps[cmdq->ci % SIMHCA_CMDQ_SIZE];
	u8 phase = !(cmdq->ci & SIMHCA_CMDQ_SIZE);

	return READ_ONCE(rsp->phase) == phase;
}

/**
 * simhca_cmdq_poll - take responses out of the ring
 * @dev: the device
 *
 * Context: any, hard interrupts too.
 */
void simhca_cmdq_poll(struct simhca_dev *dev)
{
	struct simhca_cmdq *cmdq = &dev->cmdq;
	const char *fault = NULL;
	unsigned long flags;

	spin_lock_irqsave(&cmdq->lock, flags);
	while (!cmdq->dead && cmdq->ci != cmdq->pi && simhca_rsp_ready(cmdq)) {
		u32 entry = cmdq->ci % SIMHCA_CMDQ_SIZE;
		const struct simhca_rsp *rsp = &cmdq->rsps[entry];

		/* The rest of the response is read after its phase */
		dma_rmb();
		if (le32_to_cpu(rsp->token) != cmdq->ci) {
			fault = "response with wrong token";
			break;
		}
		simhca_cmd_complete(cmdq, entry,
				    simhca_status_to_errno(le16_to_cpu(rsp->status)));
		cmdq->ci++;
	}
	spin_unlock_irqrestore(&cmdq->lock, flags);

	if (fault)
		simhca_dev_fail(dev, fault);
}

/* Returns false if the device is not what it was, and gives it up then */
static bool simhca_dev_check(struct simhca_dev *dev)
{
	u32 status = readl(dev->regs + SIMHCA_REG_STATUS);

	if (status == SIMHCA_STATUS_ENABLED)
		return true;

	if (status == ~0U)
		simhca_dev_fail(dev, "registers read as all ones");
	else if (status & SIMHCA_STATUS_FATAL)
		simhca_dev_fail(dev, "it has stopped");
	else
		simhca_dev_fail(dev, "it was reset by others");
	return false;
}

static void simhca_health(struct work_struct *work)
{
	struct simhca_cmdq *cmdq = container_of(to_delayed_work(work), struct simhca_cmdq, health);
	struct simhca_dev *dev = container_of(cmdq, struct simhca_dev, cmdq);

	if (!READ_ONCE(cmdq->dead))
		simhca_dev_check(dev);
	/* Of a dead device, too: somebody may still wait for what is to be flushed */
	simhca_cq_comp_event_overdue(dev, false);
	queue_delayed_work(system_power_efficient_wq, &cmdq->health, SIMHCA_HEALTH_PERIOD);
}

/**
 * simhca_health_start - look now and then whether the device is alive
 * @dev: the device, enabled
 */
void simhca_health_start(struct simhca_dev *dev)
{
	queue_delayed_work(system_power_efficient_wq, &dev->cmdq.health, SIMHCA_HEALTH_PERIOD);
}

/**
 * simhca_health_stop - undo simhca_health_start()
 * @dev: the device
 */
void simhca_health_stop(struct simhca_dev *dev)
{
	cancel_delayed_work_sync(&dev->cmdq.health);
}

static void simhca_cmd_wait(struct simhca_dev *dev, struct simhca_cmd_wait *wait)
{
	int i;

	for (i = 0; i < SIMHCA_CMD_TIMEOUT_S; i++) {
		if (wait_for_completion_timeout(&wait->done, HZ))
			return;

		/* Slow, or an interrupt was lost, or there is no device any more */
		simhca_cmdq_poll(dev);
		if (completion_done(&wait->done) || !simhca_dev_check(dev))
			break;
	}
	if (i == SIMHCA_CMD_TIMEOUT_S) {
		simhca_count(dev, SIMHCA_CNT_CMD_TIMEOUT);
		simhca_dev_fail(dev, "a command timed out");
	}

	/* Somebody has completed or failed it, or does so at this moment */
	wait_for_completion(&wait->done);
}

/**
 * simhca_cmd_exec - execute a command
 * @dev: the device
 * @cmd: opcode, payload and output address are filled in
 *
 * Context: process, sleeps until the device has answered.
 * Return: 0, -EIO if the device was given up, or what the device answered.
 */
int simhca_cmd_exec(struct simhca_dev *dev, struct simhca_cmd *cmd)
{
	struct simhca_cmdq *cmdq = &dev->cmdq;
	struct simhca_cmd_wait wait = {};
	u32 entry;

	init_completion(&wait.done);
	down(&cmdq->credits);
	spin_lock_irq(&cmdq->lock);
	if (cmdq->dead) {
		spin_unlock_irq(&cmdq->lock);
		wait.err = -EIO;
		goto out;
	}
	entry = cmdq->pi % SIMHCA_CMDQ_SIZE;
	cmd->token = cpu_to_le32(cmdq->pi);
	cmdq->cmds[entry] = *cmd;
	cmdq->wait[entry] = &wait;
	cmdq->pi++;
	/* writel() orders the entry before the index */
	writel(cmdq->pi, simhca_uar_addr(dev, SIMHCA_KERNEL_UAR) +
	       offsetof(struct simhca_uar, cmdq_pi));
	spin_unlock_irq(&cmdq->lock);

	simhca_kick(dev);
	simhca_cmd_wait(dev, &wait);
	simhca_count(dev, SIMHCA_CNT_CMD);
out:
	up(&cmdq->credits);
	if (wait.err)
		simhca_count(dev, SIMHCA_CNT_CMD_ERR);
	return wait.err;
}

/**
 * simhca_cmd_query - execute a command that has an output
 * @dev: the device
 * @cmd: opcode and payload are filled in
 * @out: where the output goes
 * @len: its size, at most SIMHCA_OUT_SIZE
 *
 * Return: as simhca_cmd_exec(), or -ENOMEM.
 */
int simhca_cmd_query(struct simhca_dev *dev, struct simhca_cmd *cmd, void *out, size_t len)
{
	dma_addr_t dma;
	void *buf;
	int err;

	buf = dma_pool_zalloc(dev->out_pool, GFP_KERNEL, &dma);
	if (!buf)
		return -ENOMEM;

	cmd->out_addr = cpu_to_le64(dma);
	err = simhca_cmd_exec(dev, cmd);
	if (!err)
		memcpy(out, buf, len);

	dma_pool_free(dev->out_pool, buf, dma);
	return err;
}

/* Zero also if the device is dead, and so has forgotten everything */
static int simhca_cmd_try_destroy(struct simhca_dev *dev, enum simhca_cmd_opcode opcode, u32 id)
{
	struct simhca_cmd cmd = {
		.opcode = cpu_to_le16(opcode),
		.payload.destroy.id = cpu_to_le32(id),
	};
	int err;

	err = simhca_cmd_exec(dev, &cmd);
	return err == -EIO ? 0 : err;
}

static void simhca_cmd_destroy_failed(struct simhca_dev *dev, enum simhca_cmd_opcode opcode,
				      u32 id, int err)
{
	dev_err(&dev->pdev->dev, "command %u for object %#x failed: %pe\n", opcode, id,
		ERR_PTR(err));
	simhca_dev_fail(dev, "an object could not be destroyed");
}

/**
 * simhca_cmd_destroy - make the device forget an object, or the memory of an MR
 * @dev: the device
 * @opcode: one of the DESTROY commands, or FENCE_MR
 * @id: the object
 *
 * The device does not touch the memory of the object after this returns: if it refuses, it is
 * given up, and a device that was given up was reset.
 */
void simhca_cmd_destroy(struct simhca_dev *dev, enum simhca_cmd_opcode opcode, u32 id)
{
	int err;

	err = simhca_cmd_try_destroy(dev, opcode, id);
	if (err)
		simhca_cmd_destroy_failed(dev, opcode, id, err);
}

/**
 * simhca_cmd_destroy_mr - make the device forget an MR
 * @dev: the device
 * @key: the MR
 *
 * Return: 0, as simhca_cmd_destroy(), or -EBUSY when windows are bound to it.
 */
int simhca_cmd_destroy_mr(struct simhca_dev *dev, u32 key)
{
	int err;

	err = simhca_cmd_try_destroy(dev, SIMHCA_CMD_DESTROY_MR, key);
	if (err && err != -EBUSY) {
		simhca_cmd_destroy_failed(dev, SIMHCA_CMD_DESTROY_MR, key, err);
		return 0;
	}
	return err;
}

static int simhca_dev_enable(struct simhca_dev *dev)
{
	struct simhca_cmdq *cmdq = &dev->cmdq;
	u32 status;
	int err;

	lo_hi_writeq(cmdq->cmds_dma, dev->regs + SIMHCA_REG_CMDQ_BASE);
	lo_hi_writeq(cmdq->rsps_dma, dev->regs + SIMHCA_REG_RSPQ_BASE);
	writel(SIMHCA_CMDQ_LOG_SIZE, dev->regs + SIMHCA_REG_CMDQ_LOG_SIZE);
	writel(SIMHCA_CTRL_ENABLE, dev->regs + SIMHCA_REG_CTRL);

	err = readl_poll_timeout(dev->regs + SIMHCA_REG_STATUS, status,
				 status & SIMHCA_STATUS_ENABLED, 1000,
				 SIMHCA_ENABLE_TIMEOUT_US);
	if (!err && status & SIMHCA_STATUS_FATAL)
		err = -EIO;
	if (err)
		dev_err(&dev->pdev->dev, "device cannot be enabled: status %#x\n", status);
	return err;
}

/**
 * simhca_cmdq_init - set up the rings and enable the device
 * @dev: the device
 *
 * Return: 0 or an errno. Undone by simhca_cmdq_cleanup().
 */
int simhca_cmdq_init(struct simhca_dev *dev)
{
	struct simhca_cmdq *cmdq = &dev->cmdq;
	int err = -ENOMEM;

	sema_init(&cmdq->credits, SIMHCA_CMDQ_SIZE);
	spin_lock_init(&cmdq->lock);
	INIT_DELAYED_WORK(&cmdq->health, simhca_health);

	dev->out_pool = dma_pool_create("simhca_out", &dev->pdev->dev, SIMHCA_OUT_SIZE,
					SIMHCA_OUT_SIZE, 0);
	if (!dev->out_pool)
		return err;

	cmdq->cmds = dma_alloc_coherent(&dev->pdev->dev, SIMHCA_CMDQ_SIZE * sizeof(*cmdq->cmds),
					&cmdq->cmds_dma, GFP_KERNEL);
	if (!cmdq->cmds)
		goto err_pool;

	cmdq->rsps = dma_alloc_coherent(&dev->pdev->dev, SIMHCA_CMDQ_SIZE * sizeof(*cmdq->rsps),
					&cmdq->rsps_dma, GFP_KERNEL);
	if (!cmdq->rsps)
		goto err_cmds;

	err = simhca_dev_enable(dev);
	if (err)
		goto err_reset;

	return 0;

err_reset:
	simhca_dev_reset(dev);
	dma_free_coherent(&dev->pdev->dev, SIMHCA_CMDQ_SIZE * sizeof(*cmdq->rsps), cmdq->rsps,
			  cmdq->rsps_dma);
err_cmds:
	dma_free_coherent(&dev->pdev->dev, SIMHCA_CMDQ_SIZE * sizeof(*cmdq->cmds), cmdq->cmds,
			  cmdq->cmds_dma);
err_pool:
	dma_pool_destroy(dev->out_pool);
	return err;
}

/**
 * simhca_cmdq_cleanup - reset the device and free the rings
 * @dev: the device
 */
void simhca_cmdq_cleanup(struct simhca_dev *dev)
{
	struct simhca_cmdq *cmdq = &dev->cmdq;

	simhca_dev_reset(dev);
	dma_free_coherent(&dev->pdev->dev, SIMHCA_CMDQ_SIZE * sizeof(*cmdq->rsps), cmdq->rsps,
			  cmdq->rsps_dma);
	dma_free_coherent(&dev->pdev->dev, SIMHCA_CMDQ_SIZE * sizeof(*cmdq->cmds), cmdq->cmds,
			  cmdq->cmds_dma);
	dma_pool_destroy(dev->out_pool);
}
