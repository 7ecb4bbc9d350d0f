// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the routes between peer-to-peer providers and their clients
 *
 * They run on devices of the machine. The provider is an ivshmem-plain device of
 * QEMU, which has memory in a BAR and usually no driver; clients are all other
 * PCI functions. What the routes are depends on where the devices stand, so boot
 * with the devices on the root bus, behind root ports and behind a switch, and
 * with a CPU that does not support peer-to-peer DMA, to see all of them.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/platform_device.h>
#include <linux/string.h>
#include <trace/events/printk.h>

#define IVSHMEM_DEVICE_ID	0x1110
#define IVSHMEM_MEMORY_BAR	2

#define MAX_CLIENTS		32

struct p2pdma_test {
	struct pci_dev *pdev;
	struct p2pdma_provider provider;
};

KUNIT_DEFINE_ACTION_WRAPPER(put_pci_dev, pci_dev_put, struct pci_dev *);

static bool is_client(struct p2pdma_test *ctx, struct pci_dev *pdev)
{
	return pdev != ctx->pdev && pdev->hdr_type == PCI_HEADER_TYPE_NORMAL &&
	       pdev->class >> 16 != PCI_BASE_CLASS_BRIDGE;
}

static enum pci_p2pdma_map_type map_type(struct p2pdma_test *ctx,
					 struct pci_dev *client)
{
	return pci_p2pdma_map_type(&ctx->provider, &client->dev);
}

static bool is_supported(enum pci_p2pdma_map_type type)
{
	return type == PCI_P2PDMA_MAP_BUS_ADDR ||
	       type == PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
}

static void count_messages(void *data, const char *text, size_t len)
{
	unsigned int *messages = data;

	if (strnstr(text, "peer-to-peer", len) || strnstr(text, "P2PDMA", len) ||
	    strnstr(text, "ACS redirect", len))
		(*messages)++;
}

/* User space can ask as often as it likes, so nothing may be logged */
static void test_route_without_state_is_quiet(struct kunit *test)
{
	struct p2pdma_test *ctx = test->priv;
	struct pci_dev *client = NULL;
	unsigned int messages = 0;

	if (register_trace_console(count_messages, &messages))
		kunit_skip(test, "kernel has no tracepoints");

	for_each_pci_dev(client)
		if (is_client(ctx, client))
			map_type(ctx, client);

	unregister_trace_console(count_messages, &messages);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_EQ(test, messages, 0);
}

/* The same answer as from the interface that always did without the state */
static void test_route_without_state(struct kunit *test)
{
	struct p2pdma_test *ctx = test->priv;
	struct pci_dev *client = NULL;
	enum pci_p2pdma_map_type type;
	unsigned int clients = 0;
	int dist;

	/* Whatever the machine, a device reaches itself */
	KUNIT_EXPECT_EQ(test, map_type(ctx, ctx->pdev),
			PCI_P2PDMA_MAP_BUS_ADDR);

	for_each_pci_dev(client) {
		if (!is_client(ctx, client))
			continue;

		type = map_type(ctx, client);
		dist = pci_p2pdma_distance(ctx->pdev, &client->dev, false);
		kunit_info(test, "%s -> %s: map type %d, distance %d",
			   pci_name(client), pci_name(ctx->pdev), type, dist);

		KUNIT_EXPECT_EQ_MSG(test, is_supported(type), dist >= 0, "%s",
				    pci_name(client));
		KUNIT_EXPECT_TRUE_MSG(test, is_supported(type) ||
				      type == PCI_P2PDMA_MAP_NOT_SUPPORTED,
				      "%s", pci_name(client));
		/* Now from the table */
		KUNIT_EXPECT_EQ_MSG(test, map_type(ctx, client), type, "%s",
				    pci_name(client));
		clients++;
	}
	KUNIT_EXPECT_GT(test, clients, 0);
}

static void test_client_is_not_pci(struct kunit *test)
{
	struct p2pdma_test *ctx = test->priv;

	KUNIT_EXPECT_EQ(test,
			pci_p2pdma_map_type(&ctx->provider, &platform_bus),
			PCI_P2PDMA_MAP_NOT_SUPPORTED);
}

/*
 * Configuration accesses of the bus a bridge is on, with those counted that
 * read the ACS control register of this bridge. Nobody else reads that.
 */
static struct {
	struct pci_dev *bridge;
	struct pci_ops *orig;
	struct pci_ops ops;
	unsigned int reads;
} acs_spy;

static int acs_spy_read(struct pci_bus *bus, unsigned int devfn, int where,
			int size, u32 *val)
{
	if (bus == acs_spy.bridge->bus && devfn == acs_spy.bridge->devfn &&
	    where == acs_spy.bridge->acs_cap + PCI_ACS_CTRL)
		acs_spy.reads++;

	return acs_spy.orig->read(bus, devfn, where, size, val);
}

static void acs_spy_stop(void *unused)
{
	pci_bus_set_ops(acs_spy.bridge->bus, acs_spy.orig);
}

/* Watch the first bridge above @pdev that has ACS */
static void acs_spy_start(struct kunit *test, struct pci_dev *pdev)
{
	struct pci_dev *bridge = pci_upstream_bridge(pdev);

	while (bridge && !bridge->acs_cap)
		bridge = pci_upstream_bridge(bridge);
	if (!bridge)
		kunit_skip(test, "no bridge with ACS above the provider");

	acs_spy.bridge = bridge;
	acs_spy.orig = bridge->bus->ops;
	acs_spy.ops = *acs_spy.orig;
	acs_spy.ops.read = acs_spy_read;
	acs_spy.reads = 0;
	pci_bus_set_ops(bridge->bus, &acs_spy.ops);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, acs_spy_stop, NULL));
}

static struct pci_dev *first_client(struct kunit *test)
{
	struct p2pdma_test *ctx = test->priv;
	struct pci_dev *client = NULL;

	for_each_pci_dev(client)
		if (is_client(ctx, client))
			break;
	KUNIT_ASSERT_NOT_NULL(test, client);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, put_pci_dev, client));
	return client;
}

static struct pci_dev *find_provider(void)
{
	return pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET, IVSHMEM_DEVICE_ID,
			      NULL);
}

static void fill_provider(struct p2pdma_test *ctx)
{
	ctx->provider.owner = &ctx->pdev->dev;
	ctx->provider.bus_offset =
		pci_bus_address(ctx->pdev, IVSHMEM_MEMORY_BAR) -
		pci_resource_start(ctx->pdev, IVSHMEM_MEMORY_BAR);
}

/*
 * A route is looked up in the bridges once. When the provider was unplugged and
 * came back, nothing that was known about it counts any more, although its place
 * is the same and the address of its struct pci_dev may well be.
 */
static void test_route_is_cached_until_unplug(struct kunit *test)
{
	struct p2pdma_test *ctx = test->priv;
	struct pci_dev *client = first_client(test);
	struct pci_bus *bus = ctx->pdev->bus;
	enum pci_p2pdma_map_type type;
	unsigned int reads;

	acs_spy_start(test, ctx->pdev);

	type = map_type(ctx, client);
	reads = acs_spy.reads;
	KUNIT_EXPECT_EQ(test, map_type(ctx, client), type);
	KUNIT_EXPECT_EQ(test, acs_spy.reads, reads);

	pci_lock_rescan_remove();
	pci_stop_and_remove_bus_device(ctx->pdev);
	pci_dev_put(ctx->pdev);
	pci_rescan_bus(bus);
	pci_unlock_rescan_remove();

	ctx->pdev = find_provider();
	KUNIT_ASSERT_NOT_NULL(test, ctx->pdev);
	fill_provider(ctx);

	reads = acs_spy.reads;
	KUNIT_EXPECT_EQ(test, map_type(ctx, client), type);
	KUNIT_EXPECT_GT(test, acs_spy.reads, reads);

	reads = acs_spy.reads;
	KUNIT_EXPECT_EQ(test, map_type(ctx, client), type);
	KUNIT_EXPECT_EQ(test, acs_spy.reads, reads);
}

/*
 * A driver for the provider that sets up the state and does nothing else. A
 * reader of the state, on another CPU, enters its read-side section just before
 * the state is released and is asked just after whether it has left.
 */
static struct {
	struct pci_dev *pdev;	/* the one to bind to */
	bool with_reader;
	struct task_struct *reader;
	struct completion reading;
	bool has_read;
	bool released_under_reader;
} driver_test;

static int slow_reader(void *unused)
{
	rcu_read_lock();
	complete(&driver_test.reading);
	mdelay(100);
	WRITE_ONCE(driver_test.has_read, true);
	rcu_read_unlock();

	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static void before_state_release(void *unused)
{
	struct task_struct *reader;

	if (!driver_test.with_reader)
		return;

	reader = kthread_run(slow_reader, NULL, "p2pdma_reader");
	if (IS_ERR(reader))
		return;

	driver_test.reader = reader;
	wait_for_completion(&driver_test.reading);
}

static void after_state_release(void *unused)
{
	if (!driver_test.reader)
		return;

	driver_test.released_under_reader = !READ_ONCE(driver_test.has_read);
	kthread_stop(driver_test.reader);
}

static int test_driver_probe(struct pci_dev *pdev,
			     const struct pci_device_id *id)
{
	int ret;

	if (pdev != driver_test.pdev)
		return -ENODEV;

	ret = devm_add_action(&pdev->dev, after_state_release, NULL);
	if (ret)
		return ret;

	ret = pcim_p2pdma_init(pdev);
	if (ret)
		return ret;

	return devm_add_action(&pdev->dev, before_state_release, NULL);
}

static const struct pci_device_id test_driver_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, IVSHMEM_DEVICE_ID) },
	{}
};

static struct pci_driver test_driver = {
	.name = "p2pdma_kunit",
	.id_table = test_driver_ids,
	.probe = test_driver_probe,
};

KUNIT_DEFINE_ACTION_WRAPPER(unregister_test_driver, pci_unregister_driver,
			    struct pci_driver *);

static void bind_test_driver(struct kunit *test, bool with_reader)
{
	struct p2pdma_test *ctx = test->priv;

	memset(&driver_test, 0, sizeof(driver_test));
	init_completion(&driver_test.reading);
	driver_test.pdev = ctx->pdev;
	driver_test.with_reader = with_reader;

	KUNIT_ASSERT_EQ(test, 0, pci_register_driver(&test_driver));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, unregister_test_driver,
						  &test_driver));
	KUNIT_ASSERT_PTR_EQ(test, ctx->pdev->dev.driver, &test_driver.driver);
}

/* A route that was found without the state does not stand in a driver's way */
static void test_route_with_and_without_state(struct kunit *test)
{
	struct p2pdma_test *ctx = test->priv;
	enum pci_p2pdma_map_type types[MAX_CLIENTS];
	struct pci_dev *client = NULL;
	unsigned int nr, i = 0;

	for_each_pci_dev(client)
		if (is_client(ctx, client) && i < MAX_CLIENTS)
			types[i++] = map_type(ctx, client);
	nr = i;

	bind_test_driver(test, false);
	KUNIT_EXPECT_NOT_NULL(test, rcu_access_pointer(ctx->pdev->p2pdma));
	i = 0;
	for_each_pci_dev(client)
		if (is_client(ctx, client) && i < nr)
			KUNIT_EXPECT_EQ_MSG(test, map_type(ctx, client),
					    types[i++], "%s", pci_name(client));

	kunit_release_action(test, unregister_test_driver, &test_driver);
	KUNIT_EXPECT_NULL(test, rcu_access_pointer(ctx->pdev->p2pdma));
	i = 0;
	for_each_pci_dev(client)
		if (is_client(ctx, client) && i < nr)
			KUNIT_EXPECT_EQ_MSG(test, map_type(ctx, client),
					    types[i++], "%s", pci_name(client));
}

static void test_release_waits_for_readers(struct kunit *test)
{
	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");

	bind_test_driver(test, true);
	kunit_release_action(test, unregister_test_driver, &test_driver);

	KUNIT_EXPECT_NOT_NULL(test, driver_test.reader);
	KUNIT_EXPECT_FALSE(test, driver_test.released_under_reader);
}

static int p2pdma_test_init(struct kunit *test)
{
	struct p2pdma_test *ctx;

	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	test->priv = ctx;

	ctx->pdev = find_provider();
	if (!ctx->pdev)
		kunit_skip(test, "no ivshmem-plain device");
	if (ctx->pdev->dev.driver)
		kunit_skip(test, "ivshmem-plain device is bound to a driver");

	fill_provider(ctx);
	return 0;
}

static void p2pdma_test_exit(struct kunit *test)
{
	struct p2pdma_test *ctx = test->priv;

	if (ctx)
		pci_dev_put(ctx->pdev);
}

static struct kunit_case p2pdma_test_cases[] = {
	KUNIT_CASE(test_route_without_state_is_quiet),	/* nothing cached yet */
	KUNIT_CASE(test_route_without_state),
	KUNIT_CASE(test_client_is_not_pci),
	KUNIT_CASE(test_route_with_and_without_state),
	KUNIT_CASE(test_release_waits_for_readers),
	KUNIT_CASE(test_route_is_cached_until_unplug),
	{}
};

static struct kunit_suite p2pdma_test_suite = {
	.name = "pci_p2pdma",
	.init = p2pdma_test_init,
	.exit = p2pdma_test_exit,
	.test_cases = p2pdma_test_cases,
};

kunit_test_suite(p2pdma_test_suite);
