/* Finding translated code: a cache between the two that QEMU has.
 *
 * Its first one has 4096 places, is emptied with the TLB, and misses often in a kernel at work; behind it there
 * is a hash table whose search costs as much as a short block. This one is by virtual address, and what it gives
 * is compared as the hash table does it, by physical address too, so that it outlives the TLB. */
#include "native.h"

static inline bool is_wanted(const uint8_t *block, uint64_t pc, uint64_t cs_base, uint32_t flags, uint32_t cflags,
                             uint32_t trace, uint64_t page) {
    return U64_AT(block, TB_PC) == pc && U64_AT(block, TB_CS_BASE) == cs_base && U32_AT(block, TB_FLAGS) == flags &&
           (U32_AT(block, TB_CFLAGS) & TB_CFLAGS_MASK) == cflags && U32_AT(block, TB_TRACE) == trace &&
           U64_AT(block, TB_PAGES) == page && U64_AT(block, TB_PAGES + 8) == ~0ull; /* it ends in its first page */
}

void *tb_htable_lookup_x86_64(void *cpu, uint64_t pc, uint64_t cs_base, uint32_t flags, uint32_t cflags) {
    Core *core = running;
    if (core == NULL || core->cpu != cpu)
        return lib.find_block(cpu, pc, cs_base, flags, cflags);
    uint64_t address = lib.code_address(core->env, pc); /* may be a page fault */
    if (address == ~0ull)
        return NULL;
    uint64_t page = address & ~0xfffull;
    uint32_t trace = U32_AT(cpu, CPU_TRACE);
    void **slot = &core->blocks[(pc ^ pc >> BLOCK_BITS) & (BLOCKS - 1)];
    if (*slot != NULL && is_wanted(*slot, pc, cs_base, flags, cflags, trace, page))
        return *slot;
    void *block = lib.find_block(cpu, pc, cs_base, flags, cflags);
    if (block != NULL && is_wanted(block, pc, cs_base, flags, cflags, trace, page))
        *slot = block;
    return block;
}

void core_forget_blocks(Core *core) { memset(core->blocks, 0, sizeof core->blocks); }
