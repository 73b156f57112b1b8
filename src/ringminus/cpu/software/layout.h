/* Private layout of libunicorn 2.1.4, the x86-64 Linux wheel: all that our C code has to know of it.
 * layout.py holds the same for Python and compares the two at start, so neither can go stale alone. */
#ifndef RINGMINUS_LAYOUT_H
#define RINGMINUS_LAYOUT_H

#include <stdint.h>

/* struct uc_struct */
#define UC_CPU 0x1b8             /* CPUState *cpu */
#define UC_STOP_REQUEST 0x56d
#define UC_NO_EXIT_REQUEST 0x7f2 /* bool: no stop checks inside a block (they would run a store twice) */

/* CPUState */
#define CPU_NEXT_CFLAGS 0x18 /* u32: flags of the next block, or all ones */
#define CPU_INTERRUPT_REQUEST 0x1c
#define CPU_SINGLESTEP 0x20
#define CPU_TRACE 0x8188 /* u32: which trace events the CPU's blocks tell */
#define CPU_EXCEPTION_INDEX 0x81a0
#define CPU_CLASS 0x81b0
#define CPU_KICK 0x8a42 /* u16, icount_decr.high: not 0 makes the next block return to the main loop */
#define CPU_ENV 0x8a50
#define CLASS_TLB_FILL 0x48

/* CPUX86State, behind the fields of struct Env */
#define ENV_EFER 0x250
#define ENV_MXCSR 0x330
#define ENV_XMM 0x338
#define ENV_STAR 0x12d8
#define ENV_LSTAR 0x12e8
#define ENV_CSTAR 0x12f0
#define ENV_FMASK 0x12f8
#define ENV_ERROR_CODE 0x1508
#define ENV_EXCEPTION_IS_INT 0x150c
#define ENV_OLD_EXCEPTION 0x1578
#define ENV_TSC_OFFSET 0x1588
#define ENV_STATE_SIZE 0x15c0 /* what belongs to a virtual processor ends here */
#define XMM_STRIDE 0x40

/* The software TLB lies before env: per MMU mode a table with its mask, and a victim table. */
#define TLB_MASK(mode) (-0x40 + 16 * (mode))
#define TLB_TABLE(mode) (-0x38 + 16 * (mode))
#define TLB_VICTIMS(mode) (-0x840 + 0x2b8 * (mode))
#define TLB_MODES 3
#define TLB_VICTIM_COUNT 8
#define TLB_INVALID 0x800
#define TLB_NOTDIRTY 0x400
#define TLB_ENTRY_BITS 6

/* TranslationBlock; its pages are two physical addresses, all ones for none */
#define TB_PC 0
#define TB_CS_BASE 8
#define TB_FLAGS 0x10
#define TB_CFLAGS 0x18
#define TB_CFLAGS_MASK 0xff0effffu /* those that are compared: CF_HASH_MASK and CF_INVALID */
#define TB_TRACE 0x1c
#define TB_PAGES 0x48

/* TCGContext, and numbers of its operations */
#define TCG_CPU_ENV 0x98f0 /* the temporary that holds env, as an offset into the context */
#define TCG_OP_SET_LABEL 1
#define TCG_OP_LD_I32 13
#define TCG_COND_LT 2
#define TB_EXIT_REQUESTED 3

typedef struct {
    uint32_t selector;
    uint64_t base;
    uint32_t limit, flags;
} Segment;

typedef struct {
    uint64_t regs[16], eip, eflags, cc_dst, cc_src, cc_src2;
    uint32_t cc_op;
    int32_t df;
    uint32_t hflags, hflags2;
    Segment segs[6], ldt, tr, gdt, idt;
    uint64_t cr[5];
} Env;

typedef struct {
    uint64_t addr_read, addr_write, addr_code, paddr, addend, unused[3];
} TlbEntry;

enum { RAX, RCX, RDX, RBX, R8 = 8, R11 = 11 };
enum { ES, CS, SS };

#define CC_OP_EFLAGS 1
#define HF_CPL 3u
#define HF_INHIBIT_IRQ (1u << 3)
#define HF_CS32 (1u << 4)
#define HF_SS32 (1u << 5)
#define HF_ADDSEG (1u << 6)
#define HF_CS64 (1u << 15)
#define HF_SVME (1u << 20)
#define EFLAGS_IF 0x200u
#define EFLAGS_IOPL_SHIFT 12
#define EFLAGS_RF 0x10000u
#define REQUEST_HARD 2u /* CPU_INTERRUPT_HARD */
#define EXCP_HLT 0x10001

#endif
