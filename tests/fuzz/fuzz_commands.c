// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libFuzzer: the command channel of an HCA that was enabled and has nothing yet. The input is what
 * its guest does, in records:
 *
 *	u8 what		0-223: a command
 *			224-239: fuzz_store()
 *			240-247: fuzz_doorbell()
 *			248-254: fuzz_step()
 *			255: a reset
 *	u8 len		bytes that follow, what is left out of a command is 0; of a step its argument
 */
#include "fuzz_hca.h"

static void command(struct bare *b, struct bare_hca *h, struct input *in, size_t len)
{
	struct simhca_cmd cmd = { 0 };

	input_take(in, &cmd, len < sizeof(cmd) ? len : sizeof(cmd));
	bare_cmd(b, h, &cmd);
}

/* Made once, and as new for every input. */
static struct bare bare;

static void reset(struct bare_hca *h)
{
	bare_reset(h, true);
	bare_enable(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct bare_hca *h = &bare.hca[0];
	uint8_t record[2];

	if (!bare.poller)
		bare_open(&bare);
	reset(h);
	while (input_take(&in, record, sizeof(record)) == sizeof(record)) {
		if (record[0] < 224)
			command(&bare, h, &in, record[1]);
		else if (record[0] < 240)
			fuzz_store(h, &in, record[1]);
		else if (record[0] < 248)
			fuzz_doorbell(h, &in, record[1]);
		else if (record[0] < 255)
			fuzz_step(&bare, h, (record[0] - 248) % FUZZ_STEPS, record[1]);
		else
			reset(h);
	}
	fuzz_step(&bare, h, FUZZ_TIME, 30);
	bare_reset(h, true);
	return 0;
}
