// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A plugin for QEMU's TCG that counts the instructions of calls of functions of the guest's x86-64 kernel:
 *
 *	-plugin file=libinsns.so,out=FILE,watch=NAME@ADDR,...[,exclude=NAME@ADDR,...][,profile=on]
 *
 * FILE gets a line "NAME INSTRUCTIONS" for each call, when it returns: all that runs from the first instruction to the
 * return, in whatever it calls, less interrupts (and what is scheduled at their end), less the functions excluded.
 * A watched function called by another one is part of that. The guest has one CPU, and its kernel is not changed.
 * With profile=on there are lines "@ADDR INSTRUCTIONS" at the end: the same, by the blocks of code they were in.
 *
 * Counted are the instructions of blocks that were begun: a fault in the middle of one makes no difference of more than
 * a few. A "rep" instruction is one for each time QEMU goes through it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define MAX_FUNCTIONS 32
#define KERNEL_HALF (UINT64_C(1) << 63)

/* Of the CPU; what generated code has to look at */
struct cpu {
	uint64_t insns;		/* that ran so far */
	uint64_t wait_pc;	/* look when a block begins here; 0: nowhere */
	uint64_t counting;	/* in a call, and not in what is left out of it */
};

struct function {
	char name[64];
	uint64_t addr;
	bool excluded;
};

/* Where something ends: a block that begins at @pc, with this stack pointer. Another task may come by there. */
struct place {
	uint64_t pc, sp;
};

struct block {
	uint64_t addr, insns, counted;
	struct block *next;
};

static struct {
	FILE *out;
	bool profile;
	struct function functions[MAX_FUNCTIONS];
	unsigned int nr_functions;
	struct block *blocks;

	struct qemu_plugin_scoreboard *score;
	struct qemu_plugin_register *sp;
	struct qemu_plugin_array *bytes;

	const struct function *call;	/* the call that runs, or NULL */
	struct place ret;		/* where it returns to */
	struct place resume;		/* where the code that is left out ends */
	uint64_t begin, left_out_begin, left_out;
} insns;

int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static struct cpu *cpu(void)
{
	return qemu_plugin_scoreboard_find(insns.score, 0);
}

static struct qemu_plugin_u64 cpu_field(size_t offset)
{
	return (struct qemu_plugin_u64){ insns.score, offset };
}

static void die(const char *what)
{
	fprintf(stderr, "insns: %s\n", what);
	exit(1);
}

static uint64_t read_sp(void)
{
	uint64_t value;

	g_byte_array_set_size(insns.bytes, 0);
	if (!qemu_plugin_read_register(insns.sp, insns.bytes) || insns.bytes->len != sizeof(value))
		die("cannot read the stack pointer");
	memcpy(&value, insns.bytes->data, sizeof(value));
	return value;
}

static uint64_t read_stack(uint64_t addr)
{
	uint64_t value;

	if (!qemu_plugin_read_memory_vaddr(addr, insns.bytes, sizeof(value)))
		die("cannot read the stack");
	memcpy(&value, insns.bytes->data, sizeof(value));
	return value;
}

static void resume_counting(void)
{
	cpu()->counting = 1;
	cpu()->wait_pc = insns.ret.pc;
}

static void leave_out_until(struct place place)
{
	insns.left_out_begin = cpu()->insns;
	insns.resume = place;
	cpu()->counting = 0;
	cpu()->wait_pc = place.pc;
}

/* ---- what happens while the guest runs ----------------------------------------------------------------------- */

/* The first instruction of a function comes next. */
static void on_call(unsigned int vcpu, void *arg)
{
	const struct function *function = arg;
	struct place ret;

	(void)vcpu;
	if (function->excluded ? !cpu()->counting : !!insns.call)
		return;

	ret.sp = read_sp();
	ret.pc = read_stack(ret.sp);
	ret.sp += sizeof(uint64_t);
	if (function->excluded) {
		leave_out_until(ret);
		return;
	}
	insns.call = function;
	insns.ret = ret;
	insns.begin = cpu()->insns;
	insns.left_out = 0;
	resume_counting();
}

/* The block at wait_pc comes next. */
static void on_wait(unsigned int vcpu, void *arg)
{
	uint64_t sp = read_sp();

	(void)vcpu;
	(void)arg;
	if (!cpu()->counting) {
		if (sp != insns.resume.sp)
			return;
		insns.left_out += cpu()->insns - insns.left_out_begin;
		resume_counting();
		if (insns.resume.pc != insns.ret.pc)
			return;
	}
	if (sp != insns.ret.sp)
		return;

	fprintf(insns.out, "%s %" PRIu64 "\n", insns.call->name, cpu()->insns - insns.begin - insns.left_out);
	insns.call = NULL;
	cpu()->counting = 0;
	cpu()->wait_pc = 0;
}

/* The first instruction of an interrupt's handler comes next. The stack has RIP, CS, RFLAGS, RSP, SS. */
static void on_interrupt(unsigned int vcpu, enum qemu_plugin_discon type, uint64_t from, uint64_t to, void *arg)
{
	(void)vcpu;
	(void)type;
	(void)to;
	(void)arg;
	if (cpu()->counting)
		leave_out_until((struct place){ from, read_stack(read_sp() + 3 * sizeof(uint64_t)) });
}

static void on_block(unsigned int vcpu, void *arg)
{
	struct block *block = arg;

	(void)vcpu;
	block->counted += block->insns;
}

/* ---- what is done at other times ------------------------------------------------------------------------------ */

static void profile_block(struct qemu_plugin_tb *tb)
{
	struct block *block = calloc(1, sizeof(*block));

	if (!block)
		die("no memory");
	block->addr = qemu_plugin_tb_vaddr(tb);
	block->insns = qemu_plugin_tb_n_insns(tb);
	block->next = insns.blocks;
	insns.blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_COND_NE,
						  cpu_field(offsetof(struct cpu, counting)), 0, block);
}

/* Callbacks run before the block's own instructions are added. */
static void on_translate(struct qemu_plugin_tb *tb, void *arg)
{
	uint64_t addr = qemu_plugin_tb_vaddr(tb);
	unsigned int i;

	(void)arg;
	if (addr >= KERNEL_HALF) {
		qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_wait, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_COND_EQ,
							  cpu_field(offsetof(struct cpu, wait_pc)), addr, NULL);
		for (i = 0; i < insns.nr_functions; i++)
			if (insns.functions[i].addr == addr)
				qemu_plugin_register_vcpu_tb_exec_cb(tb, on_call, QEMU_PLUGIN_CB_R_REGS,
								     &insns.functions[i]);
		if (insns.profile)
			profile_block(tb);
	}
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
							  cpu_field(offsetof(struct cpu, insns)),
							  qemu_plugin_tb_n_insns(tb));
}

static void on_vcpu(unsigned int vcpu, void *arg)
{
	struct qemu_plugin_array *registers = qemu_plugin_get_registers();
	const struct qemu_plugin_reg_descriptor *reg = registers->data;
	unsigned int i;

	(void)arg;
	if (vcpu)
		die("the guest must have one CPU");
	for (i = 0; i < registers->len; i++)
		if (!strcmp(reg[i].name, "rsp"))
			insns.sp = reg[i].handle;
	if (!insns.sp)
		die("no register rsp");
}

static void at_exit(void *arg)
{
	struct block *block;

	(void)arg;
	for (block = insns.blocks; block; block = block->next)
		if (block->counted)
			fprintf(insns.out, "@%" PRIx64 " %" PRIu64 "\n", block->addr, block->counted);
	if (fclose(insns.out))
		perror("insns");
}

static bool add_function(const char *text, bool excluded)
{
	struct function *function = &insns.functions[insns.nr_functions];

	if (insns.nr_functions == MAX_FUNCTIONS ||
	    sscanf(text, "%63[^@]@%" SCNx64, function->name, &function->addr) != 2)
		return false;
	function->excluded = excluded;
	insns.nr_functions++;
	return true;
}

static bool parse(const char *arg)
{
	if (!strncmp(arg, "out=", 4)) {
		insns.out = fopen(arg + 4, "w");
		return insns.out;
	}
	if (!strncmp(arg, "watch=", 6))
		return add_function(arg + 6, false);
	if (!strncmp(arg, "exclude=", 8))
		return add_function(arg + 8, true);
	insns.profile = !strcmp(arg, "profile=on");
	return insns.profile;
}

int qemu_plugin_install(qemu_plugin_id id, const struct qemu_plugin_info *info, int argc, char **argv)
{
	int i;

	if (strcmp(info->target_name, "x86_64") || !info->system_emulation)
		return -1;
	for (i = 0; i < argc; i++) {
		if (!parse(argv[i])) {
			fprintf(stderr, "insns: bad argument %s\n", argv[i]);
			return -1;
		}
	}
	if (!insns.out) {
		fprintf(stderr, "insns: no out=FILE\n");
		return -1;
	}

	insns.score = qemu_plugin_scoreboard_new(sizeof(struct cpu));
	insns.bytes = g_byte_array_new();
	qemu_plugin_register_vcpu_init_cb(id, on_vcpu, NULL);
	qemu_plugin_register_vcpu_discon_cb(id, QEMU_PLUGIN_DISCON_INTERRUPT, on_interrupt, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate, NULL);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return 0;
}
