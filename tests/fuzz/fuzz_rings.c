// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libFuzzer: the rings and doorbells of two HCAs that have all that bare_setup() makes. The input is
 * what their guests do, in records:
 *
 *	u8 what		bit 0: which of the two; the others:
 *			0-47: a send of bare_make_send(), 48-71: a receive, 72-95: a command of bare_make_cmd(), with
 *			lies in it
 *			96-107: fuzz_store()
 *			108-115: fuzz_doorbell()
 *			116-125: fuzz_step()
 *			126: connects a QP again
 *			127: everything anew
 *	u8 which	send, QP or command; of a step its argument
 *	u8 len		bytes that follow, or lies: u8 where, u8 which of bare_lie(), u8 2^bytes
 */
#include "fuzz_hca.h"

static void tell_lies(uint8_t *truth, size_t len, struct input *in, unsigned int num)
{
	uint8_t lie[3];
	uint64_t value;
	size_t width;

	for (; num && input_take(in, lie, sizeof(lie)) == sizeof(lie); num--) {
		value = bare_lie(lie[1] % bare_num_lies());
		width = 1u << (lie[2] & 3);
		memcpy(truth + lie[0] % (len - width + 1), &value, width);
	}
}

static void post_send(struct bare *b, struct bare_hca *h, struct input *in, const uint8_t *record)
{
	struct bare_send send;

	bare_make_send(b, h, record[1] % bare_num_sends(), &send);
	tell_lies(send.entry, sizeof(struct simhca_sq_wqe) + sizeof(struct simhca_mem_wqe), in,
		  record[2]);
	bare_post_send(h, &send);
}

static void post_recv(struct bare_hca *h, struct input *in, const uint8_t *record)
{
	_Alignas(8) uint8_t entry[1 << BARE_RQ_STRIDE];

	bare_make_recv(entry);
	tell_lies(entry, sizeof(struct simhca_rq_wqe) + 2 * sizeof(struct simhca_sge), in, record[2]);
	bare_post_recv(h, record[1] % BARE_QPS, entry);
}

static void command(struct bare *b, struct bare_hca *h, struct input *in, const uint8_t *record)
{
	struct simhca_cmd cmd;

	bare_make_cmd(b, h, record[1] % bare_num_cmds(), &cmd);
	tell_lies((uint8_t *)&cmd, sizeof(cmd), in, record[2]);
	bare_cmd(b, h, &cmd);
}

/* Made once, and as new for every input. */
static struct bare bare;

static void anew(struct bare *b)
{
	unsigned int i;

	for (i = 0; i < BARE_HCAS; i++)
		bare_reset(&b->hca[i], true);
	bare_setup(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t record[3];

	if (!bare.poller)
		bare_open(&bare);
	anew(&bare);
	while (input_take(&in, record, sizeof(record)) == sizeof(record)) {
		struct bare_hca *h = &bare.hca[record[0] & 1];
		unsigned int what = record[0] >> 1;

		if (what < 48)
			post_send(&bare, h, &in, record);
		else if (what < 72)
			post_recv(h, &in, record);
		else if (what < 96)
			command(&bare, h, &in, record);
		else if (what < 108)
			fuzz_store(h, &in, record[2]);
		else if (what < 116)
			fuzz_doorbell(h, &in, record[2]);
		else if (what < 126)
			fuzz_step(&bare, h, (what - 116) % FUZZ_STEPS, record[1]);
		else if (what < 127)
			bare_reconnect(&bare, h, record[1] % BARE_QPS);
		else
			anew(&bare);
		bare_run(&bare, 1, 1000);
	}
	fuzz_step(&bare, &bare.hca[0], FUZZ_TIME, 30);
	anew(&bare);
	return 0;
}
