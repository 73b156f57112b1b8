/* How a translated block begins and ends: changes to the code that QEMU's translator emits.
 *
 * Unicorn begins each block with a call that looks whether to stop. Here it is what QEMU's own blocks
 * have: a load, a compare, and a branch to the block's end that is never taken but when kicked. */
#include "native.h"

static __thread void *exit_label; /* of the block that is being translated */

#define LABEL_PRESENT 1u

static bool is_exit_check(const void *function) { return function == lib.check_exit_request; }

void tcg_gen_callN_x86_64(void *tcg, void *function, void *result, int count, void **arguments) {
    if (!is_exit_check(function)) {
        lib.gen_call(tcg, function, result, count, arguments);
        return;
    }
    /* the call's second argument is a constant 0 that nobody needs now: its temporary takes the word */
    uint8_t *word = arguments[1];
    uint8_t *env = (uint8_t *)tcg + U64_AT(tcg, TCG_CPU_ENV);
    lib.gen_op3(tcg, TCG_OP_LD_I32, (uintptr_t)word, (uintptr_t)env, CPU_KICK - 2 - CPU_ENV);
    exit_label = lib.new_label(tcg);
    lib.gen_brcondi(tcg, TCG_COND_LT, (void *)(word - (uint8_t *)tcg), 0, exit_label);
}

void tcg_gen_exit_tb_x86_64(void *tcg, void *block, unsigned index) {
    if (index == TB_EXIT_REQUESTED && exit_label != NULL) {
        U32_AT(exit_label, 0) |= LABEL_PRESENT;
        lib.gen_op1(tcg, TCG_OP_SET_LABEL, (uintptr_t)exit_label);
        exit_label = NULL;
    }
    lib.gen_exit(tcg, block, index);
}

/* After each new block Unicorn walks the whole TLB to trap writes to the block's page, by virtual
 * address. Our TLB fill has done that already, by physical page. */
void tlb_reset_dirty_by_vaddr_x86_64(void *cpu, uint64_t start, uint64_t length) {
    (void)cpu, (void)start, (void)length;
}
