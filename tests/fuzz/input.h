/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* The input of a fuzzer, taken from the front. */
#ifndef INPUT_H
#define INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
	const uint8_t *next;
	size_t left;
};

/* Copies at most @len bytes; returns how many there were. */
static inline size_t input_take(struct input *in, void *buf, size_t len)
{
	if (len > in->left)
		len = in->left;
	memcpy(buf, in->next, len);
	in->next += len;
	in->left -= len;
	return len;
}

#endif /* INPUT_H */
