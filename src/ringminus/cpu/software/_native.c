/* The Python face of the software processor: one Core an engine. The interesting part is interpose.c. */
#include "native.h"

#include <structmember.h>
#include <x86intrin.h>

Library lib;
PyObject *guest_exception;
__thread Core *running;

static int core_init(Core *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"uc", "code_pages", "ram", "ram_size", "low_size", "high_base", NULL};
    unsigned long long uc, ram, ram_size, low_size, high_base;
    PyObject *pages;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KOKKKK", names, &uc, &pages, &ram, &ram_size, &low_size, &high_base))
        return -1;
    if (!PyByteArray_Check(pages) || (uint64_t)PyByteArray_GET_SIZE(pages) != ram_size >> 12) {
        PyErr_SetString(PyExc_ValueError, "code_pages must be a bytearray with one byte per page");
        return -1;
    }
    self->uc = (uint8_t *)uc;
    self->cpu = *(uint8_t **)field(self->uc, UC_CPU);
    self->env = (Env *)field(self->cpu, CPU_ENV);
    self->ram = (uint8_t *)ram;
    self->ram_size = ram_size;
    self->low_size = low_size;
    self->high_base = high_base;
    Py_INCREF(pages);
    self->code_pages_owner = pages;
    self->code_pages = (uint8_t *)PyByteArray_AS_STRING(pages);
    *field(self->uc, UC_NO_EXIT_REQUEST) = 1;
    return 0;
}

static int core_traverse(Core *self, visitproc visit, void *arg) {
    for (int i = 0; i < ASK_COUNT; i++)
        Py_VISIT(self->ask[i]);
    Py_VISIT(self->wake);
    Py_VISIT(self->fault);
    return 0;
}

static int core_clear(Core *self) {
    for (int i = 0; i < ASK_COUNT; i++)
        Py_CLEAR(self->ask[i]);
    Py_CLEAR(self->wake);
    Py_CLEAR(self->fault);
    return 0;
}

static void core_dealloc(Core *self) {
    PyObject_GC_UnTrack(self);
    core_clear(self);
    Py_CLEAR(self->code_pages_owner);
    PyMem_Free(self->watches);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *core_set_handler(Core *self, PyObject *methods) {
    if (!PyTuple_Check(methods) || PyTuple_GET_SIZE(methods) != ASK_COUNT) {
        PyErr_Format(PyExc_TypeError, "a tuple of %d callables is needed", ASK_COUNT);
        return NULL;
    }
    for (int i = 0; i < ASK_COUNT; i++) {
        PyObject *method = PyTuple_GET_ITEM(methods, i);
        Py_INCREF(method);
        Py_XSETREF(self->ask[i], method);
    }
    Py_RETURN_NONE;
}

static PyObject *core_run(Core *self, PyObject *unused) {
    (void)unused;
    if (running != NULL || self->uc == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a guest is running on this thread, or the engine is closed");
        return NULL;
    }
    self->outcome = OUTCOME_SHUTDOWN;
    self->watch_hit = self->unaligned = 0;
    running = self;
    self->thread = PyEval_SaveThread();
    int error = lib.emu_start(self->uc, self->env->eip, 0, 0, 0);
    PyEval_RestoreThread(self->thread);
    running = NULL;
    if (self->error_type != NULL) {
        PyErr_Restore(self->error_type, self->error_value, self->error_trace);
        self->error_type = self->error_value = self->error_trace = NULL;
        return NULL;
    }
    if (error)
        return PyLong_FromLong(OUTCOME_FAILED + error);
    if (self->outcome == OUTCOME_SHUTDOWN && *field(self->uc, UC_STOP_REQUEST))
        self->outcome = OUTCOME_STOPPED;
    return PyLong_FromLong(self->outcome);
}

static PyObject *core_step(Core *self, PyObject *unused) {
    if (self->uc == NULL)
        return core_run(self, unused);
    core_step_begin(self);
    PyObject *outcome = core_run(self, unused);
    core_step_end(self);
    return outcome;
}

static PyObject *core_set_watches(Core *self, PyObject *args) {
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    Watch *watches = PyMem_Realloc(self->watches, (size_t)data.len + 1);
    if (watches == NULL) {
        PyBuffer_Release(&data);
        return PyErr_NoMemory();
    }
    memcpy(watches, data.buf, (size_t)data.len);
    self->watches = watches;
    self->watch_count = (size_t)data.len / sizeof *watches;
    PyBuffer_Release(&data);
    Py_RETURN_NONE;
}

static PyObject *core_watch_hit(Core *self, PyObject *unused) {
    (void)unused;
    if (self->watch_hit == 0)
        Py_RETURN_NONE;
    return Py_BuildValue("nO", (Py_ssize_t)self->watch_hit - 1, self->watch_before ? Py_True : Py_False);
}

static PyObject *core_stop(Core *self, PyObject *unused) {
    (void)unused;
    if (self->uc != NULL)
        lib.emu_stop(self->uc);
    Py_RETURN_NONE;
}

/* The same for who has no GIL, for as long as the engine is open. */
static void stop_without_gil(void *core) {
    void *uc = ((Core *)core)->uc;
    if (uc != NULL)
        lib.emu_stop(uc);
}

static PyObject *core_native_stop(Core *self, PyObject *unused) {
    (void)unused;
    return Py_BuildValue("NN", PyLong_FromVoidPtr(stop_without_gil), PyLong_FromVoidPtr(self));
}

static PyObject *core_close(Core *self, PyObject *unused) {
    (void)unused;
    self->uc = NULL; /* a late stop from another thread must not find what is about to be freed */
    Py_RETURN_NONE;
}

static PyObject *core_request_interrupt(Core *self, PyObject *vector) {
    self->vector = (uint32_t)PyLong_AsUnsignedLongMask(vector) & 0xff;
    U32_AT(self->cpu, CPU_INTERRUPT_REQUEST) |= REQUEST_HARD;
    U16_AT(self->cpu, CPU_KICK) = 0xffff;
    if (running != self && self->wake != NULL && self->wake != Py_None)
        return PyObject_CallNoArgs(self->wake);
    Py_RETURN_NONE;
}

static PyObject *core_set_wake(Core *self, PyObject *wake) {
    Py_INCREF(wake);
    Py_XSETREF(self->wake, wake);
    Py_RETURN_NONE;
}

static PyObject *core_set_fault(Core *self, PyObject *fault) {
    PyObject *wanted = fault == Py_None ? NULL : Py_NewRef(fault);
    Py_XSETREF(self->fault, wanted);
    Py_RETURN_NONE;
}

static PyObject *core_cancel_interrupt(Core *self, PyObject *unused) {
    (void)unused;
    U32_AT(self->cpu, CPU_INTERRUPT_REQUEST) &= ~REQUEST_HARD;
    Py_RETURN_NONE;
}

static PyObject *core_interrupt_requested(Core *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(U32_AT(self->cpu, CPU_INTERRUPT_REQUEST) & REQUEST_HARD);
}

static PyObject *core_vector(Core *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(self->vector);
}

static PyObject *core_tsc(Core *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(__rdtsc() + U64_AT(self->env, ENV_TSC_OFFSET));
}

static PyObject *core_register(Core *self, PyObject *number) {
    return PyLong_FromUnsignedLongLong(self->env->regs[PyLong_AsUnsignedLongMask(number) & 15]);
}

static PyObject *core_rflags(Core *self, PyObject *unused) {
    (void)unused;
    uint64_t flags = running == self ? lib.read_eflags(self->env) : self->env->eflags;
    return PyLong_FromUnsignedLongLong(flags);
}

static PyObject *core_invalidate(Core *self, PyObject *args) {
    unsigned long long start, end;
    if (!PyArg_ParseTuple(args, "KK", &start, &end))
        return NULL;
    lib.invalidate(self->uc, start, end);
    Py_RETURN_NONE;
}

static PyObject *core_flush(Core *self, PyObject *translations) {
    if (PyObject_IsTrue(translations)) {
        lib.tb_flush(self->cpu);
        core_forget_blocks(self);
        memset(self->code_pages, 0, self->ram_size >> 12);
    }
    lib.tlb_flush(self->cpu);
    Py_RETURN_NONE;
}

static PyObject *core_window(Core *self, PyObject *args) {
    unsigned int index;
    unsigned long long base;
    if (!PyArg_ParseTuple(args, "IK", &index, &base))
        return NULL;
    if (index >= sizeof self->windows / sizeof *self->windows) {
        PyErr_SetString(PyExc_ValueError, "too many MMIO windows");
        return NULL;
    }
    self->windows[index] = (MmioWindow){base, self};
    return PyLong_FromVoidPtr(&self->windows[index]);
}

static PyObject *core_counters(Core *self, PyObject *unused) {
    (void)unused;
    PyObject *exceptions = PyDict_New();
    for (int i = 0; exceptions && i < 256; i++) {
        if (!self->exceptions[i])
            continue;
        PyObject *key = PyLong_FromLong(i), *value = PyLong_FromUnsignedLongLong(self->exceptions[i]);
        PyDict_SetItem(exceptions, key, value);
        Py_XDECREF(key), Py_XDECREF(value);
    }
    return Py_BuildValue("{s:N,s:K,s:K,s:K,s:K}", "exceptions", exceptions, "system_calls", self->system_calls,
                         "interrupts", self->interrupts, "code_pages", self->code_page_count, "flushes",
                         self->flushes);
}

static PyObject *core_address(Core *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromVoidPtr(self);
}

static PyObject *core_interposed(Core *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(core_tlb_fill_installed(self));
}

static PyObject *core_hooks(Core *self, PyObject *unused) {
    (void)self, (void)unused;
    return Py_BuildValue("NNNNN", PyLong_FromVoidPtr(core_deliver), PyLong_FromVoidPtr(core_invalid_opcode),
                         PyLong_FromVoidPtr(core_bad_fetch), PyLong_FromVoidPtr(core_mmio_read), PyLong_FromVoidPtr(core_mmio_write));
}

static PyMethodDef core_methods[] = {
    {"set_handler", (PyCFunction)core_set_handler, METH_O, "Who answers exits: a tuple of bound methods."},
    {"run", (PyCFunction)core_run, METH_NOARGS, "Run the guest; gives an outcome."},
    {"step", (PyCFunction)core_step, METH_NOARGS, "Run one instruction, interrupts masked; gives an outcome."},
    {"set_watches", (PyCFunction)core_set_watches, METH_VARARGS, "Watchpoints: u64 first, last, kind of each."},
    {"watch_hit", (PyCFunction)core_watch_hit, METH_NOARGS, "The run's first hit: its number, and whether before."},
    {"stop", (PyCFunction)core_stop, METH_NOARGS, "Make run return soon; from any thread."},
    {"native_stop", (PyCFunction)core_native_stop, METH_NOARGS, "Addresses of a C function that is stop, and of its argument."},
    {"close", (PyCFunction)core_close, METH_NOARGS, "The engine goes; stop does nothing any more."},
    {"request_interrupt", (PyCFunction)core_request_interrupt, METH_O, "Offer an interrupt vector."},
    {"set_wake", (PyCFunction)core_set_wake, METH_O, "What to call when an interrupt meets an idle guest."},
    {"set_fault", (PyCFunction)core_set_fault, METH_O, "What to call at each page fault: CR2, error code, RIP."},
    {"cancel_interrupt", (PyCFunction)core_cancel_interrupt, METH_NOARGS, "Withdraw it."},
    {"interrupt_requested", (PyCFunction)core_interrupt_requested, METH_NOARGS, "Not taken yet."},
    {"vector", (PyCFunction)core_vector, METH_NOARGS, "The vector last offered."},
    {"tsc", (PyCFunction)core_tsc, METH_NOARGS, "The guest's TSC."},
    {"register", (PyCFunction)core_register, METH_O, "A general register."},
    {"rflags", (PyCFunction)core_rflags, METH_NOARGS, "RFLAGS, complete."},
    {"invalidate", (PyCFunction)core_invalidate, METH_VARARGS, "Forget translations of [start, end)."},
    {"flush", (PyCFunction)core_flush, METH_O, "Flush the TLB; if true, all translations too."},
    {"window", (PyCFunction)core_window, METH_VARARGS, "Name an MMIO window; gives its hook data."},
    {"counters", (PyCFunction)core_counters, METH_NOARGS, "What was delivered natively."},
    {"address", (PyCFunction)core_address, METH_NOARGS, "Hook data of this core."},
    {"interposed", (PyCFunction)core_interposed, METH_NOARGS, "Whether our functions are in place."},
    {"hooks", (PyCFunction)core_hooks, METH_NOARGS, "Addresses: exception, #UD, bad fetch, MMIO read, MMIO write."},
    {0},
};

static PyTypeObject CoreType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ringminus.cpu.software._native.Core",
    .tp_doc = "The native side of one software engine.",
    .tp_basicsize = sizeof(Core),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)core_init,
    .tp_dealloc = (destructor)core_dealloc,
    .tp_traverse = (traverseproc)core_traverse,
    .tp_clear = (inquiry)core_clear,
    .tp_methods = core_methods,
};

/* bind(addresses, GuestException): the functions of libunicorn, in the order of struct Library */
static PyObject *native_bind(PyObject *module, PyObject *args) {
    PyObject *addresses, *exception;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O", &PyTuple_Type, &addresses, &exception))
        return NULL;
    void **slots = (void **)&lib;
    if (PyTuple_GET_SIZE(addresses) != sizeof lib / sizeof *slots) {
        PyErr_Format(PyExc_ValueError, "%zu functions are needed", sizeof lib / sizeof *slots);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(addresses); i++)
        slots[i] = PyLong_AsVoidPtr(PyTuple_GET_ITEM(addresses, i));
    Py_INCREF(exception);
    Py_XSETREF(guest_exception, exception);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef native_methods[] = {
    {"bind", native_bind, METH_VARARGS, "Give the functions of libunicorn and the exception for guests."},
    {0},
};

static struct PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT, "_native", "Native hooks of the software processor.", -1, native_methods,
    NULL, NULL, NULL, NULL,
};

static const struct {
    const char *name;
    long value;
} layout[] = {
#define CONSTANT(name) {#name, name}
    CONSTANT(UC_CPU), CONSTANT(UC_STOP_REQUEST), CONSTANT(UC_NO_EXIT_REQUEST), CONSTANT(CPU_NEXT_CFLAGS),
    CONSTANT(CPU_INTERRUPT_REQUEST), CONSTANT(CPU_SINGLESTEP),
    CONSTANT(CPU_EXCEPTION_INDEX), CONSTANT(CPU_CLASS), CONSTANT(CPU_KICK), CONSTANT(CPU_ENV),
    CONSTANT(CLASS_TLB_FILL), CONSTANT(ENV_EFER), CONSTANT(ENV_MXCSR), CONSTANT(ENV_XMM), CONSTANT(ENV_STAR), CONSTANT(ENV_LSTAR),
    CONSTANT(ENV_CSTAR), CONSTANT(ENV_FMASK), CONSTANT(ENV_ERROR_CODE), CONSTANT(ENV_EXCEPTION_IS_INT),
    CONSTANT(ENV_OLD_EXCEPTION), CONSTANT(ENV_TSC_OFFSET), CONSTANT(ENV_STATE_SIZE), CONSTANT(XMM_STRIDE),
    {"ENV_CR", offsetof(Env, cr)}, {"ENV_SEGMENTS", offsetof(Env, segs)}, {"SEGMENT_SIZE", sizeof(Segment)},
    CONSTANT(CPU_TRACE), CONSTANT(TB_CFLAGS), CONSTANT(TB_TRACE), CONSTANT(TB_PAGES),
    CONSTANT(TCG_CPU_ENV), CONSTANT(TCG_OP_SET_LABEL), CONSTANT(TCG_OP_LD_I32),
};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&native_module);
    if (module == NULL || PyType_Ready(&CoreType) < 0)
        return NULL;
    Py_INCREF(&CoreType);
    PyModule_AddObject(module, "Core", (PyObject *)&CoreType);
    PyObject *constants = PyDict_New();
    for (size_t i = 0; i < sizeof layout / sizeof *layout; i++) {
        PyObject *value = PyLong_FromLong(layout[i].value);
        PyDict_SetItemString(constants, layout[i].name, value);
        Py_DECREF(value);
    }
    PyModule_AddObject(module, "LAYOUT", constants);
    return module;
}
