/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What a client (QEMU) lets the device reach: a map from IO virtual address
 * (IOVA) to host memory, filled by VFIO_USER_DMA_MAP / DMA_UNMAP messages.
 *
 * One thread writes (the message thread of the vfio-user server), any number
 * of threads read (the engine). Writers are preferred: a waiting writer stops
 * new readers, so a flood of copies cannot hold up an unmap, and an unmap
 * returns only when no reader uses the range any more.
 *
 * Every file is mapped once per connection, however many maps lie in it, since
 * a guest with a vIOMMU makes hundreds of thousands of 4 KiB maps and
 * vm.max_map_count is 65530. Maps are kept in a search tree: add, look-up and
 * the removal of each map cost O(log n).
 *
 * Errors are negative errno values; nothing here sets errno, except that
 * dma_map_create() returns NULL.
 */
#ifndef DMA_MAP_H
#define DMA_MAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dma_map;

/* What the device may do with the memory. */
#define DMA_MAP_READ	0x1u
#define DMA_MAP_WRITE	0x2u

/* Advice: never hold the read lock for a copy of more than this. */
#define DMA_MAP_MAX_CHUNK	((size_t)1 << 20)

/* More maps than this at a time are refused with -ENOSPC. */
#define DMA_MAP_MAX_MAPS	((uint64_t)1 << 22)
#define DMA_MAP_MAX_FILES	1024u	/* the same for different files */

/*
 * Remembers the last hit of one user, so that neighbouring look-ups need no
 * search. Zero-initialise it; one cursor belongs to one thread at a time. It
 * may outlive every map in it: a stale cursor is detected, not followed. It
 * must not be carried from one struct dma_map to another.
 */
struct dma_map_cursor {
	uint64_t generation;
	const void *node;
};

struct dma_map_stats {
	uint64_t maps;		/* maps present now */
	uint64_t bytes;		/* bytes they cover now */
	uint64_t unreachable;	/* of maps: without file, translate to nothing */
	uint64_t files;		/* files mapped now */
	uint64_t added;		/* successful dma_map_add(), ever */
	uint64_t refused;	/* failed dma_map_add(), ever */
	uint64_t unmaps;	/* dma_map_remove_range() and _clear(), ever */
	uint64_t unmaps_empty;	/* of unmaps: matched no map */
	uint64_t removed;	/* maps removed whole, ever */
	uint64_t split;		/* maps of which a part remained, ever */
};

/* Returns an empty map, or NULL when out of memory. */
struct dma_map *dma_map_create(void);

/* Frees @map and unmaps all files. No user may be left. NULL is allowed. */
void dma_map_destroy(struct dma_map *map);

/*
 * Lets the device reach [@iova, @iova + @size) with @prot (DMA_MAP_*).
 *
 * @fd: file that holds the memory, from byte @offset on; the caller keeps the
 *	descriptor and may close it afterwards. -1: the range exists but cannot
 *	be reached from this process (the device's own BAR, guest RAM that is
 *	not shared); it translates to nothing.
 *
 * The file must reach to @offset + @size already, otherwise a copy would end
 * in SIGBUS. That is checked here only: a client that truncates the file later
 * can still kill the process. (QEMU's memory-backend-memfd is sealed against
 * that unless seal=off.)
 *
 * Returns 0, or
 *   -EINVAL  @size 0, range past the end of the address space, @prot empty or
 *	      unknown, @fd no regular file (memfds are), file too short;
 *   -EEXIST  a part of the range is mapped already;
 *   -EACCES  @fd was not opened for what @prot asks;
 *   -ENOSPC  too many maps or files;
 *   -EBADF, -ENOMEM or what mmap() says.
 * After an error nothing has changed.
 * Waits for readers.
 */
int dma_map_add(struct dma_map *map, uint64_t iova, uint64_t size,
		unsigned int prot, int fd, uint64_t offset);

/*
 * Takes [@iova, @iova + @size) away from the device. The range may cover many
 * maps or none (a vIOMMU flushes aligned power-of-two ranges, up to half the
 * address space). A map that lies partly in it is cut: what lies outside stays
 * as it is, since the client took back only the rest.
 *
 * When this returns nobody uses the range any more. A file is unmapped with its
 * last map.
 *
 * Returns the number of maps removed or cut, -EINVAL for @size 0 or a range
 * past the end of the address space, -ENOMEM when a cut in the middle needs a
 * second map and there is no memory (then nothing has changed).
 * Waits for readers.
 */
int64_t dma_map_remove_range(struct dma_map *map, uint64_t iova, uint64_t size);

/* Takes everything away; returns the number of maps removed. Waits for readers. */
int64_t dma_map_clear(struct dma_map *map);

/*
 * Read side. Between lock and unlock translations stay valid and unmaps wait,
 * so copy at most DMA_MAP_MAX_CHUNK bytes, never sleep, and never take the lock
 * twice in one thread (a writer in between would be a deadlock).
 */
void dma_map_read_lock(struct dma_map *map);
void dma_map_read_unlock(struct dma_map *map);

/*
 * The same for two maps (of two devices), which may be one and the same. Threads
 * that hold two maps at once must take them this way: in any order of their own,
 * two of them and the waiting writers of both maps can block each other for good.
 */
void dma_map_read_lock_pair(struct dma_map *a, struct dma_map *b);
void dma_map_read_unlock_pair(struct dma_map *a, struct dma_map *b);

/*
 * Looks @iova up; the caller holds the read lock.
 *
 * Returns how many bytes from @iova on (at most @len) are contiguous in host
 * memory, allow @prot and are reachable, and sets *@ptr to the first of them.
 * Adjacent maps that are contiguous in one file count as one. 0: @iova is not
 * mapped, does not allow @prot, or cannot be reached; *@ptr is then NULL.
 * A result shorter than @len says nothing about the bytes after it: translate
 * again from there.
 *
 * @cur may be NULL. *@ptr is valid until the read lock is dropped.
 */
size_t dma_map_translate(struct dma_map *map, struct dma_map_cursor *cur,
			 uint64_t iova, size_t len, unsigned int prot,
			 void **ptr);

/*
 * Copies between @buf and the memory at @iova, in chunks, taking the read lock
 * for each. For commands, events and other small things; the engine's data path
 * translates both sides and copies once.
 * Returns 0, or -EFAULT when a part cannot be translated; bytes before it may
 * have been copied.
 */
int dma_map_read(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
		 void *buf, size_t len);
int dma_map_write(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
		  const void *buf, size_t len);

/* Any thread, not under the read lock: waits for a writer, who waits for readers. */
void dma_map_get_stats(struct dma_map *map, struct dma_map_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* DMA_MAP_H */
