/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#ifndef SIZES_H
#define SIZES_H

#define KIB (1ul << 10)
#define MIB (1ul << 20)
#define GIB (1ul << 30)
#define PAGE (4 * KIB)

#endif /* SIZES_H */
