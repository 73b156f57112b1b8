/* Functions of QEMU's x86 target that ringminus replaces.
 *
 * libunicorn calls its own exported functions through its relocation table, so a definition that the
 * dynamic linker meets first is the one it uses. This module is loaded first, with global symbols, and
 * defines the few functions at which a guest leaves guest mode: there the processor asks the
 * hypervisor, without leaving the translated code. _native.c checks that the replacement took effect.
 *
 * A raise is a longjmp over the caller's frames: never with the GIL held. */
#include "native.h"

#define RETURN_ADDRESS ((uintptr_t)__builtin_return_address(0))
#define VECTOR_UD 6
#define VECTOR_PF 14

/* ---- asking the handler ---- */

typedef struct {
    bool refused; /* the handler raised GuestException */
    int vector, error_code;
    bool has_error_code;
    uint64_t value[4];
} Answer;

static void note_exception(Core *core, Answer *answer) {
    if (PyErr_ExceptionMatches(guest_exception)) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        PyErr_NormalizeException(&type, &value, &trace);
        PyObject *vector = PyObject_GetAttrString(value, "vector");
        PyObject *code = PyObject_GetAttrString(value, "error_code");
        answer->refused = true;
        answer->vector = vector ? (int)PyLong_AsLong(vector) & 31 : VECTOR_UD;
        answer->has_error_code = code && code != Py_None;
        answer->error_code = answer->has_error_code ? (int)PyLong_AsLong(code) : 0;
        PyErr_Clear();
        Py_XDECREF(vector), Py_XDECREF(code), Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(trace);
        return;
    }
    if (core->error_type == NULL)
        PyErr_Fetch(&core->error_type, &core->error_value, &core->error_trace);
    else
        PyErr_Clear();
    lib.emu_stop(core->uc);
}

static void take_answer(Answer *answer, PyObject *result, int values) {
    if (values == 1) {
        answer->value[0] = PyLong_AsUnsignedLongLongMask(result);
        return;
    }
    if (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != values) {
        PyErr_Format(PyExc_TypeError, "an exit handler must give a tuple of %d", values);
        return;
    }
    for (int i = 0; i < values; i++)
        answer->value[i] = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(result, i));
}

static Answer ask(Core *core, int what, int values, int count, uint64_t a, uint64_t b, uint64_t c) {
    Answer answer = {.value = {~0ull, ~0ull, ~0ull, ~0ull}};
    PyEval_RestoreThread(core->thread);
    uint64_t words[3] = {a, b, c};
    PyObject *arguments[4] = {NULL};
    for (int i = 0; i < count; i++)
        arguments[i + 1] = PyLong_FromUnsignedLongLong(words[i]);
    PyObject *result = PyObject_Vectorcall(core->ask[what], arguments + 1,
                                           count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    for (int i = 1; i <= count; i++)
        Py_XDECREF(arguments[i]);
    if (result != NULL && values > 0)
        take_answer(&answer, result, values);
    Py_XDECREF(result);
    if (PyErr_Occurred())
        note_exception(core, &answer);
    core->thread = PyEval_SaveThread();
    return answer;
}

static void refuse(Env *env, const Answer *answer, uintptr_t return_address) {
    if (answer->has_error_code)
        lib.raise_error(env, answer->vector, answer->error_code, return_address);
    else
        lib.raise(env, answer->vector, return_address);
}

/* ---- instructions that leave the guest ---- */

void helper_cpuid_x86_64(Env *env) {
    Answer answer = ask(running, ASK_CPUID, 4, 2, (uint32_t)env->regs[RAX], (uint32_t)env->regs[RCX], 0);
    if (answer.refused)
        refuse(env, &answer, RETURN_ADDRESS);
    env->regs[RAX] = (uint32_t)answer.value[0];
    env->regs[RBX] = (uint32_t)answer.value[1];
    env->regs[RCX] = (uint32_t)answer.value[2];
    env->regs[RDX] = (uint32_t)answer.value[3];
}

/* MSRs that are the processor's own state and nobody else's business. */
static bool is_native_msr(uint32_t msr) {
    return (msr >= 0xc0000081 && msr <= 0xc0000084) || (msr >= 0xc0000100 && msr <= 0xc0000103) ||
           (msr >= 0x174 && msr <= 0x176);
}

void helper_rdmsr_x86_64(Env *env) {
    uint32_t msr = env->regs[RCX];
    if (is_native_msr(msr)) {
        lib.rdmsr(env);
        return;
    }
    Answer answer = ask(running, ASK_READ_MSR, 1, 1, msr, 0, 0);
    if (answer.refused)
        refuse(env, &answer, RETURN_ADDRESS);
    env->regs[RAX] = (uint32_t)answer.value[0];
    env->regs[RDX] = answer.value[0] >> 32;
}

void helper_wrmsr_x86_64(Env *env) {
    uint32_t msr = env->regs[RCX];
    if (is_native_msr(msr)) {
        lib.wrmsr(env);
        return;
    }
    uint64_t value = (uint32_t)env->regs[RAX] | env->regs[RDX] << 32;
    Answer answer = ask(running, ASK_WRITE_MSR, 0, 2, msr, value, 0);
    if (answer.refused)
        refuse(env, &answer, RETURN_ADDRESS);
}

void helper_vmmcall_x86_64(Env *env) {
    Answer answer = ask(running, ASK_HYPERCALL, 1, 3, env->regs[RCX], env->regs[RDX], env->regs[R8]);
    if (answer.refused)
        refuse(env, &answer, RETURN_ADDRESS);
    env->regs[RAX] = answer.value[0];
}

void helper_hlt_x86_64(Env *env, int length) {
    Core *core = running;
    env->eip += length;
    env->hflags &= ~HF_INHIBIT_IRQ;
    if (U32_AT(core->cpu, CPU_INTERRUPT_REQUEST) & REQUEST_HARD && env->eflags & EFLAGS_IF) {
        if (core->stepping)
            core->stepping = STEP_DONE;
        lib.loop_exit_noexc(core->cpu);
    }
    core->outcome = OUTCOME_HALTED;
    I32_AT(core->cpu, CPU_EXCEPTION_INDEX) = EXCP_HLT;
    lib.loop_exit(core->cpu);
}

uint64_t helper_read_crN_x86_64(Env *env, int number) {
    if (number != 8)
        return lib.read_cr(env, number);
    return ask(running, ASK_READ_CR8, 1, 0, 0, 0, 0).value[0] & 0xf;
}

void helper_write_crN_x86_64(Env *env, int number, uint64_t value) {
    if (number != 8) {
        lib.write_cr(env, number, value);
        return;
    }
    Answer answer = ask(running, ASK_WRITE_CR8, 0, 1, value, 0, 0);
    if (answer.refused)
        refuse(env, &answer, RETURN_ADDRESS);
}

/* Ports: QEMU's check of IOPL and of the TSS's bitmap is left out of Unicorn's translation, so it is here.
 * Translated code does not say where it is, as it does before the other exits; whoever is asked wants to know. */
static inline void check_port(Env *env, uint32_t port, int log_size, uintptr_t return_address) {
    lib.restore_state(running->cpu, return_address, true);
    if ((env->hflags & HF_CPL) > (env->eflags >> EFLAGS_IOPL_SHIFT & 3))
        lib.check_io[log_size](env, port);
}

#define DEFINE_PORT(suffix, log_size)                                                          \
    uint64_t helper_in##suffix##_x86_64(Env *env, uint32_t port) {                             \
        check_port(env, port & 0xffff, log_size, RETURN_ADDRESS);                              \
        Answer answer = ask(running, ASK_PORT_IN, 1, 2, port & 0xffff, 1 << log_size, 0); \
        return answer.value[0] & (~0ull >> (64 - (8 << log_size)));                            \
    }                                                                                          \
    void helper_out##suffix##_x86_64(Env *env, uint32_t port, uint32_t value) {                \
        check_port(env, port & 0xffff, log_size, RETURN_ADDRESS);                              \
        ask(running, ASK_PORT_OUT, 0, 3, port & 0xffff, 1 << log_size,                    \
            value & (~0ull >> (64 - (8 << log_size))));                                        \
    }
DEFINE_PORT(b, 0)
DEFINE_PORT(w, 1)
DEFINE_PORT(l, 2)

/* SVM's own instructions and MONITOR/MWAIT exist in the translator and not in our processor. */
#define DEFINE_ABSENT(name, ...) \
    void helper_##name##_x86_64(Env *env, ##__VA_ARGS__) { lib.raise(env, VECTOR_UD, RETURN_ADDRESS); }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
DEFINE_ABSENT(vmrun, int aflag, int length)
DEFINE_ABSENT(vmload, int aflag)
DEFINE_ABSENT(vmsave, int aflag)
DEFINE_ABSENT(stgi)
DEFINE_ABSENT(clgi)
DEFINE_ABSENT(skinit)
DEFINE_ABSENT(invlpga, int aflag)
DEFINE_ABSENT(monitor, uint64_t address)
DEFINE_ABSENT(mwait, int length)
#pragma GCC diagnostic pop

/* SYSCALL: Unicorn's only calls hooks. Semantics: AMD64 Architecture Programmer's Manual, volume 3. */
void helper_syscall_x86_64(Env *env, int length) {
    /* SCE, and long mode: legacy mode's SYSCALL has no guest behind it */
    if ((U64_AT(env, ENV_EFER) & 0x401) != 0x401)
        lib.raise(env, VECTOR_UD, RETURN_ADDRESS);
    uint64_t mask = U64_AT(env, ENV_FMASK) | EFLAGS_RF;
    uint32_t selector = U64_AT(env, ENV_STAR) >> 32 & 0xfffc;
    uint64_t flags = lib.read_eflags(env);
    running->system_calls++;
    env->regs[RCX] = env->eip + length;
    env->regs[R11] = flags & ~(uint64_t)EFLAGS_RF;
    env->eip = U64_AT(env, env->hflags & HF_CS64 ? ENV_LSTAR : ENV_CSTAR);
    flags &= ~mask;
    env->cc_op = CC_OP_EFLAGS;
    env->cc_src = flags & 0x8d5;
    env->df = flags & 0x400 ? -1 : 1;
    env->eflags = (flags & ~0xcd5ull) | 2;
    env->segs[CS] = (Segment){selector, 0, 0xffffffff, 0x00a09b00};
    env->segs[SS] = (Segment){selector + 8, 0, 0xffffffff, 0x00c09300};
    env->hflags = (env->hflags & ~(HF_CPL | HF_ADDSEG)) | HF_CS32 | HF_SS32 | HF_CS64;
}

/* ---- interrupts and exceptions ---- */

bool x86_cpu_exec_interrupt_x86_64(void *cpu, int request) {
    Core *core = running;
    Env *env = core->env;
    if (core->stepping) { /* interrupts wait for the end of the step */
        core_step_turn(core);
        return false;
    }
    if (!(request & REQUEST_HARD) || !(env->eflags & EFLAGS_IF) || env->hflags & HF_INHIBIT_IRQ)
        return false;
    core->interrupts++;
    lib.do_hardirq(env, core->vector, 1);
    U32_AT(cpu, CPU_INTERRUPT_REQUEST) &= ~REQUEST_HARD;
    return true;
}

/* A page fault, before it is delivered, for who watches: CR2, error code, RIP. */
static void tell_fault(Core *core) {
    PyEval_RestoreThread(core->thread);
    PyObject *result = PyObject_CallFunction(core->fault, "KKK", (unsigned long long)core->env->cr[2],
                                             (unsigned long long)U32_AT(core->env, ENV_ERROR_CODE),
                                             (unsigned long long)core->env->eip);
    Py_XDECREF(result);
    if (result == NULL) {
        if (core->error_type == NULL)
            PyErr_Fetch(&core->error_type, &core->error_value, &core->error_trace);
        else
            PyErr_Clear();
        lib.emu_stop(core->uc);
    }
    core->thread = PyEval_SaveThread();
}

/* An exception that the translated code raised: delivered through the guest's IDT by QEMU's own code. */
void core_deliver(void *uc, uint32_t vector, void *data) {
    Core *core = data;
    (void)uc;
    core->exceptions[vector & 0xff]++;
    if (vector == VECTOR_PF && core->fault != NULL)
        tell_fault(core);
    if (core->stepping)
        core->stepping = STEP_DONE;
    lib.do_interrupt(core->cpu);
    /* QEMU adds the length of an INT to RIP wherever this is left set */
    I32_AT(core->env, ENV_EXCEPTION_IS_INT) = 0;
}

bool core_invalid_opcode(void *uc, void *data) {
    core_deliver(uc, VECTOR_UD, data);
    return true;
}

/* A fetch from memory that is no RAM: hardware would read all ones there, which is no instruction. */
bool core_bad_fetch(void *uc, int type, uint64_t address, int size, int64_t value, void *data) {
    Core *core = data;
    (void)uc, (void)type, (void)address, (void)size, (void)value;
    lib.raise(core->env, VECTOR_UD, 0);
    return false;
}

/* ---- memory ---- */

uint64_t core_mmio_read(void *uc, uint64_t offset, unsigned size, void *data) {
    MmioWindow *window = data;
    (void)uc;
    return ask(window->core, ASK_MMIO_READ, 1, 2, window->base + offset, size, 0).value[0];
}

void core_mmio_write(void *uc, uint64_t offset, unsigned size, uint64_t value, void *data) {
    MmioWindow *window = data;
    (void)uc;
    ask(window->core, ASK_MMIO_WRITE, 0, 3, window->base + offset, size, value);
}

static inline uint64_t ram_page(const Core *core, uint64_t gpa) {
    if (gpa >= core->high_base)
        gpa -= core->high_base - core->low_size;
    else if (gpa >= core->low_size)
        return ~0ull;
    return gpa < core->ram_size ? gpa >> 12 : ~0ull;
}

/* Page-table walks read and mark entries in RAM without a search for the region they are in. */
static inline uint8_t *host_word(const Core *core, void *cpu, uint64_t gpa) {
    if (core == NULL || core->cpu != cpu)
        return NULL;
    uint64_t page = ram_page(core, gpa);
    return page == ~0ull || (gpa & 0xfff) > 0xff8 ? NULL : core->ram + (page << 12) + (gpa & 0xfff);
}

uint64_t x86_ldq_phys_x86_64(void *cpu, uint64_t gpa) {
    uint8_t *word = host_word(running, cpu, gpa);
    return word != NULL ? *(uint64_t *)word : lib.read_physical(cpu, gpa);
}

void x86_stl_phys_notdirty_x86_64(void *cpu, uint64_t gpa, uint32_t value) {
    uint8_t *word = host_word(running, cpu, gpa);
    if (word != NULL)
        *(uint32_t *)word = value;
    else
        lib.write_physical(cpu, gpa, value);
}

/* A page became code: every TLB entry of it must trap its writes, for good. QEMU keeps a page's writes
 * slow while its entry is executable, so a data entry is given its own address as code, but invalid. */
static void trap_writes(Core *core, uint64_t gpa) {
    for (int mode = 0; mode < TLB_MODES; mode++) {
        TlbEntry *table = *(TlbEntry **)field(core->env, TLB_TABLE(mode));
        uint64_t count = (U64_AT(core->env, TLB_MASK(mode)) >> TLB_ENTRY_BITS) + 1;
        for (int pass = 0; pass < 2; pass++) {
            for (uint64_t i = 0; i < count; i++) {
                TlbEntry *entry = &table[i];
                if (entry->paddr != gpa || entry->addr_write == ~0ull)
                    continue;
                entry->addr_write |= TLB_NOTDIRTY;
                if (entry->addr_code == ~0ull)
                    entry->addr_code = (entry->addr_write & ~0xfffull) | TLB_INVALID;
            }
            table = (TlbEntry *)field(core->env, TLB_VICTIMS(mode));
            count = TLB_VICTIM_COUNT;
        }
    }
}

/* Self-modification is found by virtual address in Unicorn; kernels patch their text through other
 * mappings. So the truth is kept per physical page, and stores to pages without code are fast. */
bool x86_cpu_tlb_fill_x86_64(void *cpu, uint64_t address, int size, int access, int mode, bool probe,
                             uintptr_t return_address) {
    if (!lib.tlb_fill(cpu, address, size, access, mode, probe, return_address))
        return false;
    Core *core = running;
    if (core == NULL || core->cpu != cpu)
        return true;
    uint64_t mask = U64_AT(core->env, TLB_MASK(mode));
    uint8_t *table = *(uint8_t **)field(core->env, TLB_TABLE(mode));
    TlbEntry *entry = (TlbEntry *)(table + ((address >> 12 << TLB_ENTRY_BITS) & mask));
    uint64_t page = ram_page(core, entry->paddr);
    if (page == ~0ull)
        return true;
    if (access == 2) {
        if (!core->code_pages[page]) {
            core->code_pages[page] = 1;
            core->code_page_count++;
            trap_writes(core, entry->paddr);
        }
    } else if (!core->code_pages[page]) {
        entry->addr_code = ~0ull;
    } else if (entry->addr_code == ~0ull) {
        entry->addr_code = (address & ~0xfffull) | TLB_INVALID;
    }
    return true;
}

/* When the translation buffer is full QEMU drops all of it; then no page holds code any more, and the
 * TLB's executable entries must go too, so that the next fetch marks its page again. */
void tb_flush_x86_64(void *cpu) {
    lib.tb_flush(cpu);
    if (running != NULL && running->cpu == cpu) {
        core_forget_blocks(running);
        memset(running->code_pages, 0, running->ram_size >> 12);
        running->flushes++;
        lib.tlb_flush(cpu);
    }
}

bool core_tlb_fill_installed(const Core *core) {
    uint8_t *class = *(uint8_t **)field(core->cpu, CPU_CLASS);
    return *(void **)field(class, CLASS_TLB_FILL) == (void *)x86_cpu_tlb_fill_x86_64;
}
