// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* simhcad: simulated HCAs as a process. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simhca.h"

#define SIMHCAD_MAX_HCAS	16
#define SIMHCAD_MAX_SPIN_US	1000000

struct simhcad_hca {
	const char *socket;
	uint8_t mac[6];
	uint32_t max_mr;
	struct simhca_dev *dev;
};

struct simhcad_options {
	struct simhcad_hca hca[SIMHCAD_MAX_HCAS];
	unsigned int num_hcas;
	unsigned int spin_us;
};

static void usage(FILE *out)
{
	fprintf(out,
		"Usage: simhcad --hca socket=PATH[,mac=XX:XX:XX:XX:XX:XX][,max-mr=N] [--hca ...] [OPTIONS]\n"
		"\n"
		"Simulated RDMA adapters for QEMU. Each --hca is one PCI device, served to\n"
		"  -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":\"unix\",\"path\":PATH}}'\n"
		"Guest memory must be shared (memory-backend-memfd,share=on). All adapters of a process\n"
		"reach each other, whichever guests they are in.\n"
		"\n"
		"  --hca socket=PATH[,mac=MAC]  an adapter; default MAC 52:54:00:c0:00:00, :01, ...\n"
		"                               (that of the network device whose addresses it uses);\n"
		"                               max-mr: memory regions at the same time (default %u)\n"
		"  --spin-us N                  poll so long without work before resting (default %d)\n"
		"  --verbose                    say what happens on the connections; twice: all of it\n"
		"  --help                       this text\n"
		"  --version                    version\n"
		"\n"
		"Prints \"simhcad: ready\" on standard error when all sockets listen. Ends with status 0\n"
		"on SIGTERM or SIGINT and removes the sockets.\n",
		SIMHCA_MAX_MRS - 1, POLLER_SPIN_US);
}

static void log_line(const char *name, const char *line)
{
	fprintf(stderr, "simhcad: %s: %s\n", name, line);
}

static void log_errors(const char *name, enum vfu_log_level level, const char *line)
{
	if (level == VFU_LOG_ERROR)
		log_line(name, line);
}

static void log_info(const char *name, enum vfu_log_level level, const char *line)
{
	if (level != VFU_LOG_DEBUG)
		log_line(name, line);
}

static void log_all(const char *name, enum vfu_log_level level, const char *line)
{
	(void)level;
	log_line(name, line);
}

static int parse_mac(const char *text, uint8_t mac[6])
{
	char end;

	if (strlen(text) != 17 ||
	    sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5], &end) != 6 || mac[0] & 1)
		return -EINVAL;
	return 0;
}

/* A number from @min to @max */
static int parse_number(const char *text, unsigned long min, unsigned long max,
			unsigned int *number)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < min || value > max)
		return -EINVAL;
	*number = value;
	return 0;
}

/* @text is changed, and referred to. */
static int parse_hca(struct simhcad_options *opts, char *text)
{
	char *const keys[] = { "socket", "mac", "max-mr", NULL };
	struct simhcad_hca *hca;
	char *value;

	if (opts->num_hcas == SIMHCAD_MAX_HCAS) {
		fprintf(stderr, "simhcad: more than %d adapters\n", SIMHCAD_MAX_HCAS);
		return -EINVAL;
	}
	hca = &opts->hca[opts->num_hcas];
	hca->max_mr = SIMHCA_MAX_MRS - 1;
	memcpy(hca->mac, (const uint8_t[]) { 0x52, 0x54, 0x00, 0xc0, 0x00, opts->num_hcas }, 6);
	while (*text) {
		switch (getsubopt(&text, keys, &value)) {
		case 0:
			hca->socket = value;
			break;
		case 1:
			if (value && !parse_mac(value, hca->mac))
				break;
			fprintf(stderr, "simhcad: not a unicast MAC address: %s\n",
				value ? value : "(nothing)");
			return -EINVAL;
		case 2:
			if (value && !parse_number(value, 1, SIMHCA_MAX_MRS - 1, &hca->max_mr))
				break;
			fprintf(stderr, "simhcad: max-mr takes 1 to %u\n", SIMHCA_MAX_MRS - 1);
			return -EINVAL;
		default:
			fprintf(stderr, "simhcad: --hca does not know %s\n", value);
			return -EINVAL;
		}
	}
	if (!hca->socket || !*hca->socket) {
		fprintf(stderr, "simhcad: --hca needs socket=PATH\n");
		return -EINVAL;
	}
	opts->num_hcas++;
	return 0;
}

static int parse_spin(struct simhcad_options *opts, const char *text)
{
	if (!parse_number(text, 0, SIMHCAD_MAX_SPIN_US, &opts->spin_us))
		return 0;
	fprintf(stderr, "simhcad: --spin-us takes 0 to %d\n", SIMHCAD_MAX_SPIN_US);
	return -EINVAL;
}

static int create_hcas(struct simhcad_options *opts, struct poller *poller, simhca_log_fn log)
{
	unsigned int i;

	for (i = 0; i < opts->num_hcas; i++) {
		struct simhcad_hca *hca = &opts->hca[i];

		hca->dev = simhca_dev_create(poller, hca->socket, hca->mac, log);
		if (!hca->dev) {
			fprintf(stderr, "simhcad: %s: cannot create the adapter: %s\n", hca->socket,
				strerror(errno));
			return -errno;
		}
		simhca_dev_set_max_mr(hca->dev, hca->max_mr);
	}
	return 0;
}

static int listen_hcas(struct simhcad_options *opts)
{
	unsigned int i;
	int ret;

	for (i = 0; i < opts->num_hcas; i++) {
		ret = simhca_dev_listen(opts->hca[i].dev, opts->hca[i].socket);
		if (ret) {
			fprintf(stderr, "simhcad: %s: cannot listen: %s\n", opts->hca[i].socket,
				strerror(-ret));
			return ret;
		}
	}
	return 0;
}

/* Serves until a signal says to end. */
static int serve(struct simhcad_options *opts, const sigset_t *signals, simhca_log_fn log)
{
	struct poller *poller = poller_create(opts->spin_us, POLLER_NAPS);
	unsigned int i;
	int ret, sig;

	if (!poller) {
		fprintf(stderr, "simhcad: cannot start: %s\n", strerror(errno));
		return -errno;
	}
	ret = create_hcas(opts, poller, log);
	if (ret)
		goto out_destroy;
	ret = poller_start(poller);
	if (ret) {
		fprintf(stderr, "simhcad: cannot start a thread: %s\n", strerror(-ret));
		goto out_destroy;
	}
	ret = listen_hcas(opts);
	if (!ret) {
		fprintf(stderr, "simhcad: ready\n");
		sigwait(signals, &sig);
	}
	for (i = 0; i < opts->num_hcas; i++)
		simhca_dev_stop(opts->hca[i].dev);
	poller_stop(poller);

out_destroy:
	for (i = 0; i < opts->num_hcas; i++)
		simhca_dev_destroy(opts->hca[i].dev);
	poller_destroy(poller);
	return ret;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "hca", required_argument, NULL, 'c' },
		{ "spin-us", required_argument, NULL, 's' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	static const simhca_log_fn logs[] = { log_errors, log_info, log_all };
	struct simhcad_options opts = { .spin_us = POLLER_SPIN_US };
	unsigned int verbose = 0;
	sigset_t signals;
	int opt;

	while ((opt = getopt_long(argc, argv, "hv", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			if (parse_hca(&opts, optarg))
				return 2;
			break;
		case 's':
			if (parse_spin(&opts, optarg))
				return 2;
			break;
		case 'v':
			verbose += verbose < 2;
			break;
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			printf("simhcad %d.%d\n", SIMHCAD_VERSION_MAJOR, SIMHCAD_VERSION_MINOR);
			return 0;
		default:
			fprintf(stderr, "Try simhcad --help.\n");
			return 2;
		}
	}
	if (optind != argc || !opts.num_hcas) {
		fprintf(stderr, optind != argc ? "simhcad: no arguments, please: only options\n" :
			"simhcad: at least one --hca is needed\n");
		fprintf(stderr, "Try simhcad --help.\n");
		return 2;
	}

	/* Only sigwait() takes them; inherited by all threads. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	return serve(&opts, &signals, logs[verbose]) ? 1 : 0;
}
