/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What insns.c uses of QEMU's plugin interface, version 7 (QEMU 11.1). Debian packages no header of it. QEMU refuses
 * a plugin for a version that it does not offer any more, and says so.
 */
#ifndef QEMU_PLUGIN_H
#define QEMU_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QEMU_PLUGIN_VERSION 7
#define QEMU_PLUGIN_EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;		/* a translated block */
struct qemu_plugin_register;
struct qemu_plugin_scoreboard;	/* a struct for each virtual CPU */
typedef uint64_t qemu_plugin_id;

struct qemu_plugin_info {
	const char *target_name;
	int min_version, version;
	bool system_emulation;
	int smp_vcpus, max_vcpus;
};

/* A field of a scoreboard's struct */
struct qemu_plugin_u64 {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
};

/* GLib's arrays */
struct qemu_plugin_array {
	void *data;
	unsigned int len;
};

struct qemu_plugin_reg_descriptor {
	struct qemu_plugin_register *handle;
	const char *name;
	const char *feature;
	bool is_readonly;
};

enum qemu_plugin_discon { QEMU_PLUGIN_DISCON_INTERRUPT = 1 };
enum qemu_plugin_regs { QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS };
enum qemu_plugin_cond { QEMU_PLUGIN_COND_EQ = 2, QEMU_PLUGIN_COND_NE = 3 };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void qemu_plugin_cb(void *arg);
typedef void qemu_plugin_vcpu_cb(unsigned int vcpu, void *arg);
typedef void qemu_plugin_tb_cb(struct qemu_plugin_tb *tb, void *arg);
typedef void qemu_plugin_discon_cb(unsigned int vcpu, enum qemu_plugin_discon type, uint64_t from, uint64_t to,
				   void *arg);

void qemu_plugin_register_atexit_cb(qemu_plugin_id id, qemu_plugin_cb *cb, void *arg);
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id id, qemu_plugin_vcpu_cb *cb, void *arg);
void qemu_plugin_register_vcpu_discon_cb(qemu_plugin_id id, enum qemu_plugin_discon type, qemu_plugin_discon_cb *cb,
					 void *arg);
/* When a block is translated: the place to say what is to be done when it runs, in the order said */
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id id, qemu_plugin_tb_cb *cb, void *arg);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, qemu_plugin_vcpu_cb *cb,
					  enum qemu_plugin_regs regs, void *arg);
void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, qemu_plugin_vcpu_cb *cb,
					       enum qemu_plugin_regs regs, enum qemu_plugin_cond cond,
					       struct qemu_plugin_u64 field, uint64_t value, void *arg);
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, enum qemu_plugin_op op,
						       struct qemu_plugin_u64 field, uint64_t value);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t size);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned int vcpu);

/* An array of struct qemu_plugin_reg_descriptor */
struct qemu_plugin_array *qemu_plugin_get_registers(void);
/* Appends to @to */
bool qemu_plugin_read_register(struct qemu_plugin_register *handle, struct qemu_plugin_array *to);
/* Replaces what is in @to */
bool qemu_plugin_read_memory_vaddr(uint64_t addr, struct qemu_plugin_array *to, size_t len);

struct qemu_plugin_array *g_byte_array_new(void);
struct qemu_plugin_array *g_byte_array_set_size(struct qemu_plugin_array *array, unsigned int len);

QEMU_PLUGIN_EXPORT extern int qemu_plugin_version;
QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id id, const struct qemu_plugin_info *info, int argc,
					   char **argv);

#endif
