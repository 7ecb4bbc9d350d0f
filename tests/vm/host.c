// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define DIR "/out/.guest/"

static int ask(unsigned int number, const char *request)
{
	FILE *f = fopen(DIR "ask.new", "we");

	if (!f)
		return -errno;
	fprintf(f, "%u %s\n", number, request);
	if (fclose(f) || rename(DIR "ask.new", DIR "ask"))
		return -errno;
	return 0;
}

/* Whether there is an answer, and which */
static int answer(unsigned int number, char *text, size_t size)
{
	unsigned int got;
	int n = 0, ret = 0;
	char line[512];
	FILE *f;

	f = fopen(DIR "answer", "re");
	if (!f)
		return 0;
	if (fgets(line, sizeof(line), f) && sscanf(line, "%u %n", &got, &n) == 1 && got == number) {
		snprintf(text, size, "%.*s", (int)strcspn(line + n, "\n"), line + n);
		ret = 1;
	}
	fclose(f);
	return ret;
}

int host_ask(const char *request, int seconds)
{
	unsigned int number;
	char text[512];
	int ret;

	/* Not that of the process before */
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -EIO;
	ret = ask(number, request);
	if (ret)
		return ret;
	for (int i = 0; i < 100 * seconds; i++) {
		if (answer(number, text, sizeof(text))) {
			if (!strcmp(text, "ok"))
				return 0;
			printf("# the host says to \"%s\": %s\n", request, text);
			return -EBADMSG;
		}
		usleep(10000);
	}
	return -ETIMEDOUT;
}
