// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * IOVA -> host memory; see dma_map.h.
 *
 * Maps are nodes of a treap (a binary search tree by IOVA that is also a heap
 * by random priorities, hence balanced whatever the client does) and of a list
 * in the same order. Cutting a range out of a treap is two splits and a merge.
 *
 * Locks: @writer serialises those who change the map and is enough for them to
 * read it. @lock, taken for writing inside @writer, is held only while nodes
 * are linked, cut or unlinked; mmap(), munmap() and free() happen outside.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "dma_map.h"

/* One mapped file. Protected by @writer; @base also readable under @lock. */
struct map_file {
	dev_t dev;
	ino_t ino;
	bool writable;
	uint8_t *base;		/* byte 0 of the file */
	uint64_t len;
	uint64_t refs;		/* nodes that point here */
	struct map_file *next;
};

/* One map, or what a cut left of it. Protected by @lock. */
struct map_node {
	uint64_t iova;
	uint64_t last;		/* inclusive, so that a map may end at 2^64 */
	uint64_t offset;	/* in @file */
	struct map_file *file;	/* NULL: unreachable */
	unsigned int prot;
	uint32_t priority;
	struct map_node *left, *right;
	struct map_node *prev, *next;
};

struct dma_map {
	pthread_mutex_t writer;
	pthread_rwlock_t lock;

	/* protected by @lock */
	struct map_node *root;
	struct map_node *head;
	uint64_t generation;	/* changes whenever a node is freed */

	/* protected by @writer */
	struct map_file *files;
	uint64_t random;
	struct dma_map_stats stats;
};

/* ---- files ---- */

static struct map_file **file_find(struct dma_map *map, const struct stat *st,
				   bool writable)
{
	struct map_file **p;

	for (p = &map->files; *p; p = &(*p)->next)
		if ((*p)->ino == st->st_ino && (*p)->dev == st->st_dev &&
		    (*p)->writable == writable)
			break;
	return p;
}

static int file_mmap(int fd, uint64_t len, bool writable, uint8_t **base)
{
	void *p = mmap(NULL, len, PROT_READ | (writable ? PROT_WRITE : 0),
		       MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	*base = p;
	return 0;
}

/*
 * Finds or makes the mapping of the whole of @fd. When an existing mapping is
 * too short since the file has grown, a longer one replaces it; translations
 * are made from file->base each time, so only the read lock keeps them valid.
 */
static int file_get(struct dma_map *map, int fd, const struct stat *st,
		    bool writable, struct map_file **filep)
{
	struct map_file *file = *file_find(map, st, writable);
	uint64_t len = (uint64_t)st->st_size;
	uint8_t *base = NULL, *old;
	uint64_t old_len;
	int ret;

	if (file && file->len >= len) {
		file->refs++;
		*filep = file;
		return 0;
	}

	if (len > SIZE_MAX)
		return -ENOMEM;
	ret = file_mmap(fd, len, writable, &base);
	if (ret)
		return ret;

	if (file) {
		pthread_rwlock_wrlock(&map->lock);
		old = file->base;
		old_len = file->len;
		file->base = base;
		file->len = len;
		pthread_rwlock_unlock(&map->lock);
		munmap(old, old_len);
	} else {
		if (map->stats.files >= DMA_MAP_MAX_FILES) {
			munmap(base, len);
			return -ENOSPC;
		}
		file = malloc(sizeof(*file));
		if (!file) {
			munmap(base, len);
			return -ENOMEM;
		}
		*file = (struct map_file){
			.dev = st->st_dev,
			.ino = st->st_ino,
			.writable = writable,
			.base = base,
			.len = len,
			.next = map->files,
		};
		map->files = file;
		map->stats.files++;
	}
	file->refs++;
	*filep = file;
	return 0;
}

/* Drops one reference; no node that a reader could find may point to @file then. */
static void file_put(struct dma_map *map, struct map_file *file)
{
	struct map_file **p;

	if (!file || --file->refs)
		return;

	for (p = &map->files; *p != file; p = &(*p)->next)
		;
	*p = file->next;
	munmap(file->base, file->len);
	free(file);
	map->stats.files--;
}

/* ---- tree ---- */

/* xorshift64*; the seed is unknown to the client, so it cannot unbalance the tree. */
static uint32_t map_random(struct dma_map *map)
{
	uint64_t x = map->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	map->random = x;
	return (uint32_t)((x * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}

/* The last node that starts at or below @iova. */
static struct map_node *tree_floor(struct map_node *t, uint64_t iova)
{
	struct map_node *best = NULL;

	while (t) {
		if (t->iova <= iova) {
			best = t;
			t = t->right;
		} else {
			t = t->left;
		}
	}
	return best;
}

/* Nodes that start below @key go to *@l, the others to *@r. */
static void tree_split(struct map_node *t, uint64_t key, struct map_node **l,
		       struct map_node **r)
{
	while (t) {
		if (t->iova < key) {
			*l = t;
			l = &t->right;
			t = t->right;
		} else {
			*r = t;
			r = &t->left;
			t = t->left;
		}
	}
	*l = NULL;
	*r = NULL;
}

/* All of @l lies below all of @r. */
static struct map_node *tree_merge(struct map_node *l, struct map_node *r)
{
	struct map_node *root, **p = &root;

	while (l && r) {
		if (l->priority > r->priority) {
			*p = l;
			p = &l->right;
			l = l->right;
		} else {
			*p = r;
			p = &r->left;
			r = r->left;
		}
	}
	*p = l ? l : r;
	return root;
}

/* Links @node, which overlaps nothing, behind @prev (NULL: at the front). */
static void tree_insert(struct dma_map *map, struct map_node *node,
			struct map_node *prev)
{
	struct map_node **p = &map->root;

	while (*p && (*p)->priority > node->priority)
		p = node->iova < (*p)->iova ? &(*p)->left : &(*p)->right;
	tree_split(*p, node->iova, &node->left, &node->right);
	*p = node;

	node->prev = prev;
	node->next = prev ? prev->next : map->head;
	if (node->next)
		node->next->prev = node;
	if (prev)
		prev->next = node;
	else
		map->head = node;
}

static struct map_node *node_new(struct dma_map *map, uint64_t iova, uint64_t last,
				 unsigned int prot, struct map_file *file,
				 uint64_t offset)
{
	struct map_node *node = malloc(sizeof(*node));

	if (node)
		*node = (struct map_node){
			.iova = iova,
			.last = last,
			.offset = offset,
			.file = file,
			.prot = prot,
			.priority = map_random(map),
		};
	return node;
}

/* ---- life ---- */

struct dma_map *dma_map_create(void)
{
	pthread_rwlockattr_t attr;
	struct dma_map *map;

	map = calloc(1, sizeof(*map));
	if (!map)
		return NULL;

	pthread_mutex_init(&map->writer, NULL);
	pthread_rwlockattr_init(&attr);
	/* the only kind of glibc's in which readers do not starve the writer */
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&map->lock, &attr);
	pthread_rwlockattr_destroy(&attr);

	map->generation = 1;
	if (getrandom(&map->random, sizeof(map->random), GRND_NONBLOCK) !=
	    sizeof(map->random))
		map->random = (uintptr_t)map;
	map->random |= 1;	/* xorshift must not start from 0 */
	return map;
}

void dma_map_destroy(struct dma_map *map)
{
	if (!map)
		return;
	dma_map_clear(map);
	pthread_rwlock_destroy(&map->lock);
	pthread_mutex_destroy(&map->writer);
	free(map);
}

/* ---- writers ---- */

static bool range_ok(uint64_t iova, uint64_t size)
{
	return size && iova + (size - 1) >= iova;
}

/* Maps the file behind @fd; *@file is NULL for @fd -1. */
static int get_backing(struct dma_map *map, int fd, uint64_t offset, uint64_t size,
		       unsigned int prot, struct map_file **file)
{
	struct stat st;
	bool writable;
	int flags, ret;

	*file = NULL;
	if (fd == -1)
		return 0;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < 0)
		return -EINVAL;
	if (offset + size < offset || offset + size > (uint64_t)st.st_size)
		return -EINVAL;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EACCES;
	writable = (flags & O_ACCMODE) == O_RDWR;
	if ((prot & DMA_MAP_WRITE) && !writable)
		return -EACCES;

	ret = file_get(map, fd, &st, writable, file);
	/* a file sealed against writing can still be read */
	if (ret == -EPERM && writable) {
		if (prot & DMA_MAP_WRITE)
			return -EACCES;
		ret = file_get(map, fd, &st, false, file);
	}
	return ret;
}

static int add_locked(struct dma_map *map, uint64_t iova, uint64_t size,
		      unsigned int prot, int fd, uint64_t offset)
{
	struct map_node *prev, *next, *node;
	struct map_file *file;
	uint64_t last;
	int ret;

	if (!range_ok(iova, size) || !prot || (prot & ~(DMA_MAP_READ | DMA_MAP_WRITE)))
		return -EINVAL;
	last = iova + (size - 1);

	prev = tree_floor(map->root, iova);
	next = prev ? prev->next : map->head;
	if ((prev && prev->last >= iova) || (next && next->iova <= last))
		return -EEXIST;
	if (map->stats.maps >= DMA_MAP_MAX_MAPS)
		return -ENOSPC;

	ret = get_backing(map, fd, offset, size, prot, &file);
	if (ret)
		return ret;
	node = node_new(map, iova, last, prot, file, offset);
	if (!node) {
		file_put(map, file);
		return -ENOMEM;
	}

	pthread_rwlock_wrlock(&map->lock);
	tree_insert(map, node, prev);
	pthread_rwlock_unlock(&map->lock);

	map->stats.maps++;
	map->stats.bytes += size;
	map->stats.unreachable += !file;
	return 0;
}

int dma_map_add(struct dma_map *map, uint64_t iova, uint64_t size,
		unsigned int prot, int fd, uint64_t offset)
{
	int ret;

	pthread_mutex_lock(&map->writer);
	ret = add_locked(map, iova, size, prot, fd, offset);
	if (ret)
		map->stats.refused++;
	else
		map->stats.added++;
	pthread_mutex_unlock(&map->writer);
	return ret;
}

/* Frees the list from @node to @end (exclusive), which readers cannot find any more. */
static int64_t free_nodes(struct dma_map *map, struct map_node *node,
			  struct map_node *end)
{
	struct map_node *next;
	int64_t count = 0;

	for (; node != end; node = next) {
		next = node->next;
		map->stats.bytes -= node->last - node->iova + 1;
		map->stats.unreachable -= !node->file;
		file_put(map, node->file);
		free(node);
		count++;
	}
	map->stats.maps -= (uint64_t)count;
	map->stats.removed += (uint64_t)count;
	return count;
}

/* The range lies inside @node, touching neither end: what is behind it becomes a node. */
static int punch_hole(struct dma_map *map, struct map_node *node, uint64_t iova,
		      uint64_t last)
{
	struct map_node *tail;

	tail = node_new(map, last + 1, node->last, node->prot, node->file,
			node->offset + (last + 1 - node->iova));
	if (!tail)
		return -ENOMEM;

	pthread_rwlock_wrlock(&map->lock);
	node->last = iova - 1;
	tree_insert(map, tail, node);
	pthread_rwlock_unlock(&map->lock);

	if (tail->file)
		tail->file->refs++;
	else
		map->stats.unreachable++;
	map->stats.maps++;
	map->stats.bytes -= last - iova + 1;
	map->stats.split++;
	return 0;
}

static int64_t remove_locked(struct dma_map *map, uint64_t iova, uint64_t last)
{
	struct map_node *node, *head_cut = NULL, *tail_cut = NULL;
	struct map_node *first, *end, *before, *l, *m, *r;
	int64_t cuts = 0;
	int ret;

	/* the first node that reaches into the range */
	node = tree_floor(map->root, iova);
	if (!node)
		node = map->head;
	else if (node->last < iova)
		node = node->next;
	if (!node || node->iova > last) {
		map->stats.unmaps_empty++;
		return 0;
	}

	if (node->iova < iova) {
		if (node->last > last) {
			ret = punch_hole(map, node, iova, last);
			return ret ? ret : 1;
		}
		tail_cut = node;
		node = node->next;
	}
	first = node;
	while (node && node->last <= last)
		node = node->next;
	end = node;
	if (end && end->iova <= last)
		head_cut = end;

	pthread_rwlock_wrlock(&map->lock);
	if (tail_cut) {
		map->stats.bytes -= tail_cut->last - iova + 1;
		tail_cut->last = iova - 1;
		cuts++;
	}
	if (head_cut) {
		/* moves up inside a gap of its own, so the order stays */
		map->stats.bytes -= last - head_cut->iova + 1;
		head_cut->offset += last + 1 - head_cut->iova;
		head_cut->iova = last + 1;
		cuts++;
	}
	if (first != end) {
		before = first->prev;
		tree_split(map->root, first->iova, &l, &r);
		if (end)
			tree_split(r, end->iova, &m, &r);
		else
			r = NULL;
		map->root = tree_merge(l, r);
		if (before)
			before->next = end;
		else
			map->head = end;
		if (end)
			end->prev = before;
		map->generation++;
	}
	pthread_rwlock_unlock(&map->lock);

	map->stats.split += (uint64_t)cuts;
	return cuts + free_nodes(map, first, end);
}

int64_t dma_map_remove_range(struct dma_map *map, uint64_t iova, uint64_t size)
{
	int64_t ret;

	if (!range_ok(iova, size))
		return -EINVAL;

	pthread_mutex_lock(&map->writer);
	map->stats.unmaps++;
	ret = remove_locked(map, iova, iova + (size - 1));
	pthread_mutex_unlock(&map->writer);
	return ret;
}

int64_t dma_map_clear(struct dma_map *map)
{
	int64_t ret;

	pthread_mutex_lock(&map->writer);
	map->stats.unmaps++;
	ret = remove_locked(map, 0, UINT64_MAX);
	pthread_mutex_unlock(&map->writer);
	return ret;
}

/* ---- readers ---- */

void dma_map_read_lock(struct dma_map *map)
{
	pthread_rwlock_rdlock(&map->lock);
}

void dma_map_read_unlock(struct dma_map *map)
{
	pthread_rwlock_unlock(&map->lock);
}

void dma_map_read_lock_pair(struct dma_map *a, struct dma_map *b)
{
	struct dma_map *first = (uintptr_t)a < (uintptr_t)b ? a : b;

	dma_map_read_lock(first);
	if (a != b)
		dma_map_read_lock(first == a ? b : a);
}

void dma_map_read_unlock_pair(struct dma_map *a, struct dma_map *b)
{
	dma_map_read_unlock(a);
	if (a != b)
		dma_map_read_unlock(b);
}

static bool node_has(const struct map_node *node, uint64_t iova)
{
	return node && node->iova <= iova && iova <= node->last;
}

static const struct map_node *find_node(struct dma_map *map,
					struct dma_map_cursor *cur, uint64_t iova)
{
	const struct map_node *node = NULL;

	if (cur && cur->generation == map->generation) {
		node = cur->node;
		if (node_has(node, iova))
			return node;
		if (node && node_has(node->next, iova)) {
			cur->node = node->next;
			return node->next;
		}
	}

	node = tree_floor(map->root, iova);
	if (!node_has(node, iova))
		return NULL;
	if (cur) {
		cur->generation = map->generation;
		cur->node = node;
	}
	return node;
}

size_t dma_map_translate(struct dma_map *map, struct dma_map_cursor *cur,
			 uint64_t iova, size_t len, unsigned int prot, void **ptr)
{
	const struct map_node *node = find_node(map, cur, iova);
	const struct map_node *next;
	uint64_t avail;

	*ptr = NULL;
	if (!node || !node->file || (prot & ~node->prot) || !len)
		return 0;

	*ptr = node->file->base + node->offset + (iova - node->iova);
	avail = node->last - iova + 1;
	for (; avail < len; node = next) {
		next = node->next;
		if (!next || next->iova != node->last + 1 ||
		    next->file != node->file || (prot & ~next->prot) ||
		    next->offset != node->offset + (node->last - node->iova + 1))
			break;
		avail += next->last - next->iova + 1;
	}
	return avail < len ? (size_t)avail : len;
}

static int map_copy(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
		    uint8_t *buf, size_t len, unsigned int prot)
{
	size_t n;
	void *p;

	for (; len; iova += n, buf += n, len -= n) {
		n = len < DMA_MAP_MAX_CHUNK ? len : DMA_MAP_MAX_CHUNK;
		dma_map_read_lock(map);
		n = dma_map_translate(map, cur, iova, n, prot, &p);
		if (n) {
			if (prot == DMA_MAP_READ)
				memcpy(buf, p, n);
			else
				memcpy(p, buf, n);
		}
		dma_map_read_unlock(map);
		if (!n)
			return -EFAULT;
	}
	return 0;
}

int dma_map_read(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
		 void *buf, size_t len)
{
	return map_copy(map, cur, iova, buf, len, DMA_MAP_READ);
}

int dma_map_write(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
		  const void *buf, size_t len)
{
	return map_copy(map, cur, iova, (uint8_t *)buf, len, DMA_MAP_WRITE);
}

void dma_map_get_stats(struct dma_map *map, struct dma_map_stats *stats)
{
	pthread_mutex_lock(&map->writer);
	*stats = map->stats;
	pthread_mutex_unlock(&map->writer);
}
