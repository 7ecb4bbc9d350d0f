/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>

/* Makes @text all that the file @path holds, or tells it that, in sysfs and the like. 0 or a negative errno. */
int write_file(const char *path, const char *text);

/* Whether the first line of the file @path begins with @text. */
bool file_says(const char *path, const char *text);

#endif /* FILE_H */
