/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What a test can ask of ./run guest on the host, class Requests in scripts/guest.py.
 */
#ifndef HOST_H
#define HOST_H

/*
 * Asks for @request and waits at most @seconds for the answer:
 *
 *	"device_del vram", "device_del hca0"
 *		press the attention button of the device; answered when it is unplugged, or, for an
 *		HCA, at once
 *	"peer device_del hca0", "peer kill"
 *		with two guests, to the other one: the same, or end its QEMU at once
 *	"simhcad kill"
 *		end the device process at once: the HCAs are gone
 *	"simhcad remember", "simhcad compare"
 *		descriptors, threads, mappings and memory of the device process; compare: no more than
 *		they were
 *	"late SECONDS"
 *		fill all of the device memory, and look for so long whether a byte changes
 *
 * Returns 0 when it was done and all is well, -EBADMSG with what went wrong on standard output,
 * or another negative errno.
 */
int host_ask(const char *request, int seconds);

#endif
