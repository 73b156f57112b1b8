/* One engine's native side: what the replaced functions and the Python type share. */
#ifndef RINGMINUS_NATIVE_H
#define RINGMINUS_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

#include "layout.h"

/* Methods of the exit handler, in the order in which Python gives them. */
enum { ASK_CPUID, ASK_READ_MSR, ASK_WRITE_MSR, ASK_HYPERCALL, ASK_PORT_IN, ASK_PORT_OUT, ASK_MMIO_READ,
       ASK_MMIO_WRITE, ASK_READ_CR8, ASK_WRITE_CR8, ASK_COUNT };

/* Why run() came back. */
enum { OUTCOME_STOPPED, OUTCOME_HALTED, OUTCOME_SHUTDOWN, OUTCOME_DEBUG, OUTCOME_FAILED };

/* A single step: its instruction is still to be run, or something else has happened in its place. */
enum { STEP_NONE, STEP_PENDING, STEP_DONE };

/* Functions of libunicorn that we call; Python looks them up by the names in layout.py, in this order. */
typedef struct {
    int (*emu_start)(void *uc, uint64_t begin, uint64_t until, uint64_t timeout, size_t count);
    int (*emu_stop)(void *uc);
    void (*do_interrupt)(void *cpu);
    void (*do_hardirq)(Env *env, int vector, int is_hardware);
    uint64_t (*read_eflags)(Env *env);
    uint64_t (*cpu_get_tsc)(Env *env);
    void (*loop_exit)(void *cpu);
    void (*loop_exit_noexc)(void *cpu);
    void (*raise)(Env *env, int vector, uintptr_t return_address);
    void (*raise_error)(Env *env, int vector, int error_code, uintptr_t return_address);
    bool (*restore_state)(void *cpu, uintptr_t return_address, bool will_exit);
    bool (*tlb_fill)(void *cpu, uint64_t address, int size, int access, int mode, bool probe, uintptr_t ra);
    void (*rdmsr)(Env *env);
    void (*wrmsr)(Env *env);
    uint64_t (*read_cr)(Env *env, int number);
    void (*write_cr)(Env *env, int number, uint64_t value);
    void (*check_io[3])(Env *env, uint32_t port);
    void (*invalidate)(void *uc, uint64_t start, uint64_t end);
    void (*tlb_flush)(void *cpu);
    void (*tb_flush)(void *cpu);
    uint64_t (*code_address)(Env *env, uint64_t pc);
    void *(*find_block)(void *cpu, uint64_t pc, uint64_t cs_base, uint32_t flags, uint32_t cflags);
    void *check_exit_request;
    void (*gen_call)(void *tcg, void *function, void *result, int count, void **arguments);
    void (*gen_exit)(void *tcg, void *block, unsigned index);
    void (*gen_op1)(void *tcg, int op, uintptr_t a);
    void (*gen_op3)(void *tcg, int op, uintptr_t a, uintptr_t b, uintptr_t c);
    void *(*new_label)(void *tcg);
    void (*gen_brcondi)(void *tcg, int condition, void *value, int32_t constant, void *label);
    uint64_t (*read_physical)(void *cpu, uint64_t gpa);
    void (*write_physical)(void *cpu, uint64_t gpa, uint32_t value);
    void (*arithmetic[22])(Env *env, void *destination, void *source);
    void (*compare[4])(Env *env, void *destination, void *source);
} Library;

#define BLOCK_BITS 15
#define BLOCKS (1u << BLOCK_BITS)

typedef struct {
    uint64_t base;
    struct Core *core;
} MmioWindow;

/* A debugger's watchpoint: linear addresses, both inclusive; kind has bit 0 for reads and bit 1 for writes. */
typedef struct {
    uint64_t first, last, kind;
} Watch;

typedef struct Core {
    PyObject_HEAD
    uint8_t *uc, *cpu;
    Env *env;
    PyObject *ask[ASK_COUNT];
    PyObject *error_type, *error_value, *error_trace; /* what a handler raised and run() must raise again */
    PyThreadState *thread;                            /* while the guest runs: the thread without the GIL */
    int outcome;
    uint8_t *ram;
    uint8_t *code_pages; /* one byte a page of RAM: "holds translated code" */
    PyObject *code_pages_owner;
    uint64_t ram_size, low_size, high_base;
    uint32_t vector; /* the interrupt on offer */
    PyObject *wake;  /* called when an interrupt is offered while the guest does not run */
    PyObject *fault; /* called at each page fault, or NULL */
    uint64_t exceptions[256], system_calls, interrupts, code_page_count, flushes;
    MmioWindow windows[4];
    int stepping;
    Watch *watches;
    size_t watch_count, watch_hit; /* the hit is a number from 1 on; 0 is none */
    bool watch_before;             /* the instruction of the hit is still to be run */
    uint64_t unaligned;            /* address of a store of which a second half is to be told */
    void *blocks[BLOCKS];          /* translated blocks, by where they begin: see lookup.c */
} Core;

extern Library lib;
extern PyObject *guest_exception; /* cpu.engine.GuestException */
extern __thread Core *running;    /* the engine whose guest executes on this thread */

void core_deliver(void *uc, uint32_t vector, void *core);
bool core_invalid_opcode(void *uc, void *core);
bool core_bad_fetch(void *uc, int type, uint64_t address, int size, int64_t value, void *core);
uint64_t core_mmio_read(void *uc, uint64_t offset, unsigned size, void *window);
void core_mmio_write(void *uc, uint64_t offset, unsigned size, uint64_t value, void *window);
bool core_tlb_fill_installed(const Core *core);
void core_forget_blocks(Core *core);
void core_step_begin(Core *core);
void core_step_end(Core *core);
void core_step_turn(Core *core);

static inline uint8_t *field(const void *base, long offset) { return (uint8_t *)base + offset; }
#define U16_AT(base, offset) (*(uint16_t *)field(base, offset))
#define U32_AT(base, offset) (*(uint32_t *)field(base, offset))
#define I32_AT(base, offset) (*(int32_t *)field(base, offset))
#define U64_AT(base, offset) (*(uint64_t *)field(base, offset))

#endif
