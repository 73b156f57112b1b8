/* What a debugger needs of the processor: the end of a block at a breakpoint or after one instruction, and
 * watchpoints. QEMU's own translator plants the breakpoints and single steps; Unicorn has left out
 * the watchpoints and the way back to who asked. Without a debugger a TLB fill costs one test. */
#include "native.h"

/* A step's block is translated with its own flags, so no other run finds it, nor the step another's: one
 * instruction is in it because `singlestep_enabled` is set, whatever number is said here. */
#define STEP_CFLAGS 2u
/* An interrupt that nobody else raises or takes, so that QEMU's main loop asks us before each block. */
#define REQUEST_STEP 0x2000u

static void leave(Core *core) {
    core->outcome = OUTCOME_DEBUG;
    I32_AT(core->cpu, CPU_EXCEPTION_INDEX) = EXCP_HLT;
    lib.loop_exit(core->cpu);
}

/* Called by a block in the place of an instruction with a breakpoint, and after the one of a step. */
void helper_debug_x86_64(Env *env) {
    (void)env;
    leave(running);
}

/* ---- single step ---- */

void core_step_begin(Core *core) {
    core->stepping = STEP_PENDING;
    U32_AT(core->cpu, CPU_SINGLESTEP) = 1;
    U32_AT(core->cpu, CPU_NEXT_CFLAGS) = STEP_CFLAGS;
    U32_AT(core->cpu, CPU_INTERRUPT_REQUEST) |= REQUEST_STEP;
}

void core_step_end(Core *core) {
    U32_AT(core->cpu, CPU_INTERRUPT_REQUEST) &= ~REQUEST_STEP;
    U32_AT(core->cpu, CPU_NEXT_CFLAGS) = ~0u;
    U32_AT(core->cpu, CPU_SINGLESTEP) = 0;
    core->stepping = STEP_NONE;
}

/* QEMU's main loop is about to look for a block: the step's, unless an exception has ended the step. */
void core_step_turn(Core *core) {
    if (core->stepping == STEP_DONE) {
        core->outcome = OUTCOME_DEBUG;
        lib.emu_stop(core->uc);
    } else if (U32_AT(core->cpu, CPU_NEXT_CFLAGS) == ~0u) {
        U32_AT(core->cpu, CPU_NEXT_CFLAGS) = STEP_CFLAGS; /* a kick came before the instruction */
    }
}

/* ---- watchpoints ---- */

int cpu_watchpoint_address_matches_x86_64(void *cpu, uint64_t address, uint64_t length) {
    Core *core = running;
    int kinds = 0;
    if (core == NULL || core->watch_count == 0 || core->cpu != cpu)
        return 0;
    for (size_t i = 0; i < core->watch_count; i++)
        if (core->watches[i].first <= address + (length - 1) && core->watches[i].last >= address)
            kinds |= (int)core->watches[i].kind;
    return kinds;
}

static const Watch *find(const Core *core, uint64_t address, uint64_t length, int access) {
    for (size_t i = 0; i < core->watch_count; i++) {
        const Watch *watch = &core->watches[i];
        if (watch->kind & (uint64_t)access && watch->first <= address + (length - 1) && watch->last >= address)
            return watch;
    }
    return NULL;
}

/* Called before each access to a page that has a watchpoint. The first hit counts. Within a block the guest
 * is stopped before the access; the instruction is done afterwards as a step, in which hits only count. */
void cpu_check_watchpoint_x86_64(void *cpu, uint64_t address, uint64_t length, uint32_t attributes, int access,
                                 uintptr_t return_address) {
    Core *core = running;
    (void)attributes;
    if (core == NULL || core->cpu != cpu)
        return;
    /* Of an unaligned store within one page QEMU tells the address with a length below zero first, and
     * then the page with the place in it where the store ends. */
    if ((int64_t)length < 0) {
        core->unaligned = address;
        return;
    }
    if (core->unaligned != 0) {
        length = address + length - core->unaligned;
        address = core->unaligned;
        core->unaligned = 0;
    }
    const Watch *watch = core->watch_hit == 0 && length != 0 ? find(core, address, length, access) : NULL;
    if (watch == NULL)
        return;
    core->watch_hit = (size_t)(watch - core->watches) + 1;
    core->watch_before = core->stepping == STEP_NONE && lib.restore_state(cpu, return_address, true);
    if (core->watch_before)
        leave(core);
    if (core->stepping == STEP_NONE) { /* the delivery of an exception or interrupt: it is finished first */
        core->outcome = OUTCOME_DEBUG;
        lib.emu_stop(core->uc);
    }
}
