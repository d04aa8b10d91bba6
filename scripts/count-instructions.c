// A plugin of QEMU's emulator that prints how many instructions a program executed, in all and per function:
//
//   gcc -shared -fPIC -O2 -o count.so scripts/count-instructions.c
//   qemu-aarch64 -plugin ./count.so -d plugin -D COUNTS PROGRAM
//
// With `,stack=FROM:TO` behind count.so also how deep the stack became that grows down from the address TO, and that nothing else
// above the address FROM is: from TO to the lowest byte that was written.
//
// Debian's packages of QEMU 7.2 have no qemu-plugin.h, so what is used of version 1 of the interface is declared here.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_W = 2 };
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef uint32_t qemu_plugin_meminfo_t;

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
                                      void (*)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *),
                                      enum qemu_plugin_cb_flags, enum qemu_plugin_mem_rw, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
void qemu_plugin_outs(const char *);

int qemu_plugin_version = 1;

// QEMU has one text per symbol, so that its address stands for it.
struct function {
    const char *symbol;
    uint64_t instructions;
    struct function *next;
};

static struct function *functions;

// Addresses of the stack, and the lowest that was written.
static uint64_t stack_from, stack_to, stack_lowest;

static struct function *function_of(const char *symbol)
{
    for (struct function *f = functions; f; f = f->next) {
        if (f->symbol == symbol) {
            return f;
        }
    }
    struct function *f = calloc(1, sizeof *f);
    if (!f) {
        abort();
    }
    *f = (struct function){symbol, 0, functions};
    return functions = f;
}

static void written(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused)
{
    (void)cpu, (void)info, (void)unused;
    if (address >= stack_from && address < stack_lowest) {
        stack_lowest = address;
    }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    struct function *f = function_of(qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0)));
    size_t instructions = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &f->instructions, instructions);
    for (size_t i = 0; stack_to && i < instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        qemu_plugin_register_vcpu_mem_cb(instruction, written, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_W, NULL);
    }
}

static void print(uint64_t instructions, const char *name)
{
    char line[1024];
    snprintf(line, sizeof line, "%" PRIu64 " %s\n", instructions, name && *name ? name : "?");
    qemu_plugin_outs(line);
}

static void ended(qemu_plugin_id_t id, void *unused)
{
    (void)id, (void)unused;
    uint64_t all = 0;
    for (struct function *f = functions; f; f = f->next) {
        all += f->instructions;
        print(f->instructions, f->symbol);
    }
    print(all, "total");
    if (stack_to) {
        print(stack_to - stack_lowest, "stack");
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (sscanf(argv[i], "stack=%" SCNx64 ":%" SCNx64, &stack_from, &stack_to) != 2) {
            fprintf(stderr, "count-instructions: unknown argument '%s'\n", argv[i]);
            return 1;
        }
    }
    stack_lowest = stack_to;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
