// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: interrupts and event queues.
 *
 * EQ n triggers MSI-X vector n. Vector 0 also says that responses are in the command ring: they
 * are taken out in the hard interrupt. Asynchronous events are delivered by its thread, because
 * handlers of QP events may sleep. Completion events are delivered in hard interrupts. So an event
 * counts only in an EQ of its kind.
 */

#include <linux/interrupt.h>

#include "simhca.h"

#define SIMHCA_EQ_LOG_SIZE		9
#define SIMHCA_EQ_SIZE			BIT(SIMHCA_EQ_LOG_SIZE)

static bool simhca_eqe_ready(const struct simhca_eq *eq)
{
	const struct simhca_eqe *eqe = &eq->ring[eq->ci % SIMHCA_EQ_SIZE];
	u8 phase = !(eq->ci & SIMHCA_EQ_SIZE);

	return READ_ONCE(eqe->phase) == phase;
}

static void simhca_unknown_event(struct simhca_dev *dev, u32 event, u32 id)
{
	simhca_count(dev, SIMHCA_CNT_EVENT_LOST);
	dev_warn_ratelimited(&dev->pdev->dev, "unknown event %u for %#x\n", event, id);
}

static void simhca_async_event(struct simhca_dev *dev, u32 event, u32 id)
{
	switch (event) {
	case SIMHCA_EVENT_CQ_ERR:
		simhca_cq_error_event(dev, id);
		break;
	case SIMHCA_EVENT_QP_FATAL:
		simhca_qp_event(dev, id, IB_EVENT_QP_FATAL);
		break;
	case SIMHCA_EVENT_QP_REQ_ERR:
		simhca_qp_event(dev, id, IB_EVENT_QP_REQ_ERR);
		break;
	case SIMHCA_EVENT_QP_ACCESS_ERR:
		simhca_qp_event(dev, id, IB_EVENT_QP_ACCESS_ERR);
		break;
	case SIMHCA_EVENT_COMM_EST:
		simhca_qp_event(dev, id, IB_EVENT_COMM_EST);
		break;
	case SIMHCA_EVENT_SQ_DRAINED:
		simhca_qp_event(dev, id, IB_EVENT_SQ_DRAINED);
		break;
	case SIMHCA_EVENT_LAST_WQE:
		simhca_qp_event(dev, id, IB_EVENT_QP_LAST_WQE_REACHED);
		break;
	case SIMHCA_EVENT_SRQ_ERR:
		simhca_srq_event(dev, id, IB_EVENT_SRQ_ERR);
		break;
	case SIMHCA_EVENT_SRQ_LIMIT:
		simhca_srq_event(dev, id, IB_EVENT_SRQ_LIMIT_REACHED);
		break;
	case SIMHCA_EVENT_DEV_FATAL:
		simhca_dev_fail(dev, "fatal event");
		break;
	default:
		simhca_unknown_event(dev, event, id);
		break;
	}
}

static void simhca_event(struct simhca_eq *eq, u32 event, u32 id)
{
	if (eq->eqn == SIMHCA_ASYNC_EQN)
		simhca_async_event(eq->dev, event, id);
	else if (event == SIMHCA_EVENT_COMP)
		simhca_cq_comp_event(eq->dev, id);
	else
		simhca_unknown_event(eq->dev, event, id);
}

/* What is in the ring now: for events that come meanwhile there is another interrupt */
static void simhca_eq_poll(struct simhca_eq *eq)
{
	struct simhca_dev *dev = eq->dev;
	u32 start = eq->ci, ci = eq->ci;

	while (eq->ci - start < SIMHCA_EQ_SIZE && simhca_eqe_ready(eq)) {
		const struct simhca_eqe *eqe = &eq->ring[eq->ci % SIMHCA_EQ_SIZE];

		/* The rest of the event is read after its phase */
		dma_rmb();
		simhca_event(eq, le32_to_cpu(eqe->event), le32_to_cpu(eqe->id));
		eq->ci++;
		/* Give entries back early enough that a burst does not stop the device */
		if (eq->ci - ci == SIMHCA_EQ_SIZE / 4) {
			ci = eq->ci;
			writel(ci, simhca_uar_addr(dev, SIMHCA_KERNEL_UAR) +
			       offsetof(struct simhca_uar, eq_ci[eq->eqn]));
		}
	}
	if (eq->ci != ci)
		writel(eq->ci, simhca_uar_addr(dev, SIMHCA_KERNEL_UAR) +
		       offsetof(struct simhca_uar, eq_ci[eq->eqn]));
}

static irqreturn_t simhca_irq_cmd(int irq, void *data)
{
	struct simhca_eq *eq = data;

	simhca_cmdq_poll(eq->dev);
	return simhca_eqe_ready(eq) ? IRQ_WAKE_THREAD : IRQ_HANDLED;
}

static irqreturn_t simhca_irq_async(int irq, void *data)
{
	simhca_eq_poll(data);
	return IRQ_HANDLED;
}

static irqreturn_t simhca_irq_comp(int irq, void *data)
{
	simhca_eq_poll(data);
	return IRQ_HANDLED;
}

/* The ring and the interrupt; the device does not know of the EQ yet */
static int simhca_eq_init(struct simhca_dev *dev, struct simhca_eq *eq, u32 eqn)
{
	bool async = eqn == SIMHCA_ASYNC_EQN;
	int err;

	eq->dev = dev;
	eq->eqn = eqn;
	eq->irq = pci_irq_vector(dev->pdev, eqn);
	eq->ring = dma_alloc_coherent(&dev->pdev->dev, SIMHCA_EQ_SIZE * sizeof(*eq->ring),
				      &eq->dma, GFP_KERNEL);
	if (!eq->ring)
		return -ENOMEM;

	snprintf(eq->name, sizeof(eq->name), "simhca-%s%u@%s", async ? "async" : "comp", eqn,
		 pci_name(dev->pdev));
	if (async)
		err = request_threaded_irq(eq->irq, simhca_irq_cmd, simhca_irq_async, 0, eq->name,
					   eq);
	else
		err = request_irq(eq->irq, simhca_irq_comp, 0, eq->name, eq);
	if (err)
		goto err_free;

	return 0;

err_free:
	dma_free_coherent(&dev->pdev->dev, SIMHCA_EQ_SIZE * sizeof(*eq->ring), eq->ring, eq->dma);
	return err;
}

static void simhca_eq_cleanup(struct simhca_dev *dev, struct simhca_eq *eq)
{
	free_irq(eq->irq, eq);
	dma_free_coherent(&dev->pdev->dev, SIMHCA_EQ_SIZE * sizeof(*eq->ring), eq->ring, eq->dma);
}

static int simhca_eq_start(struct simhca_dev *dev, struct simhca_eq *eq)
{
	struct simhca_cmd cmd = {
		.opcode = cpu_to_le16(SIMHCA_CMD_CREATE_EQ),
		.payload.create_eq = {
			.eqn = cpu_to_le32(eq->eqn),
			.vector = cpu_to_le32(eq->eqn),
			.log_size = cpu_to_le32(SIMHCA_EQ_LOG_SIZE),
			.ring = {
				.addr = cpu_to_le64(eq->dma),
				.length = cpu_to_le64(SIMHCA_EQ_SIZE * sizeof(*eq->ring)),
				.nsegs = cpu_to_le32(1),
			},
		},
	};

	return simhca_cmd_exec(dev, &cmd);
}

/**
 * simhca_eqs_init - allocate interrupts and rings
 * @dev: the device; simhca_dev.cmdq is set up
 *
 * Commands may be executed afterwards.
 * Return: 0 or an errno. Undone by simhca_eqs_cleanup().
 */
int simhca_eqs_init(struct simhca_dev *dev)
{
	unsigned int max = min_t(unsigned int, num_online_cpus() + 1, SIMHCA_NUM_VECTORS);
	u32 i;
	int err;

	/* One for commands and asynchronous events, and at least one for completions */
	err = pci_alloc_irq_vectors(dev->pdev, 2, max, PCI_IRQ_MSIX);
	if (err < 0)
		return err;
	dev->num_eqs = err;

	dev->eqs = kzalloc_objs(*dev->eqs, dev->num_eqs);
	if (!dev->eqs) {
		err = -ENOMEM;
		goto err_vectors;
	}

	for (i = 0; i < dev->num_eqs; i++) {
		err = simhca_eq_init(dev, &dev->eqs[i], i);
		if (err)
			goto err_eqs;
	}
	return 0;

err_eqs:
	while (i--)
		simhca_eq_cleanup(dev, &dev->eqs[i]);
	kfree(dev->eqs);
err_vectors:
	pci_free_irq_vectors(dev->pdev);
	return err;
}

/**
 * simhca_eqs_cleanup - undo simhca_eqs_init()
 * @dev: the device; nobody executes commands any more
 */
void simhca_eqs_cleanup(struct simhca_dev *dev)
{
	u32 i = dev->num_eqs;

	while (i--)
		simhca_eq_cleanup(dev, &dev->eqs[i]);
	kfree(dev->eqs);
	pci_free_irq_vectors(dev->pdev);
}

/**
 * simhca_eqs_start - create the EQs in the device
 * @dev: the device
 *
 * Return: 0 or an errno. Undone by simhca_eqs_stop().
 */
int simhca_eqs_start(struct simhca_dev *dev)
{
	u32 i;
	int err;

	for (i = 0; i < dev->num_eqs; i++) {
		err = simhca_eq_start(dev, &dev->eqs[i]);
		if (err)
			goto err_stop;
	}
	return 0;

err_stop:
	while (i--)
		simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_EQ, dev->eqs[i].eqn);
	return err;
}

/**
 * simhca_eqs_stop - destroy the EQs in the device
 * @dev: the device
 */
void simhca_eqs_stop(struct simhca_dev *dev)
{
	u32 i = dev->num_eqs;

	while (i--)
		simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_EQ, dev->eqs[i].eqn);
}
