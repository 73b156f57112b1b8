/* A thread that gets a guest to leave, without the GIL: see kicker.py.
 *
 * With the GIL each alarm and each event would cost the machine's thread two hand-overs of it, in the middle of
 * an exit. What both threads write is atomic. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000ll
/* a stop can be lost in the instant in which the guest is entered, so it is said again */
#define REPEAT_NS 500000
/* and a guest that runs on without a deadline is stopped this often, for the loop's own timers */
#define SLICE_MS 50

typedef struct {
    PyObject_HEAD
    int loop, alarm, end, epoll;
    void (*stop)(void *argument);
    void *argument;
    pthread_t thread;
    bool has_thread, resting;
    uint64_t entries;
    _Atomic uint64_t inside; /* the number of the entry that is under way, or 0 */
    _Atomic int64_t armed_for;
    atomic_bool closed, loop_is_ready, slice_is_over;
} Kicker;

static void *watch(void *argument) {
    Kicker *self = argument;
    while (!self->closed) {
        struct epoll_event events[3];
        int count = epoll_wait(self->epoll, events, 3, SLICE_MS);
        self->slice_is_over = count == 0;
        for (int i = 0; i < count; i++) {
            uint64_t times;
            if (events[i].data.fd == self->loop)
                self->loop_is_ready = true;
            else if (events[i].data.fd == self->alarm && read(self->alarm, &times, sizeof times) >= 0)
                self->armed_for = 0; /* before inside is read: who enters writes inside first, and reads this then */
        }
        uint64_t entry = self->inside;
        while (entry && self->inside == entry && !self->closed) {
            self->stop(self->argument);
            nanosleep(&(struct timespec){0, REPEAT_NS}, NULL);
        }
    }
    return NULL;
}

static int add(Kicker *self, int fd, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(self->epoll, operation, fd, &event);
}

static int start(Kicker *self) {
    self->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    self->end = eventfd(0, EFD_CLOEXEC);
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->alarm < 0 || self->end < 0 || self->epoll < 0 || add(self, self->alarm, EPOLLIN, EPOLL_CTL_ADD) ||
        add(self, self->end, EPOLLIN, EPOLL_CTL_ADD) || add(self, self->loop, EPOLLIN | EPOLLONESHOT, EPOLL_CTL_ADD))
        return -1;
    sigset_t all, before; /* signals are for Python's thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = pthread_create(&self->thread, NULL, watch, self);
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    self->has_thread = !failed;
    return failed ? -1 : 0;
}

static int kicker_init(Kicker *self, PyObject *args, PyObject *named) {
    static char *names[] = {"loop_fd", "stop", NULL};
    unsigned long long function, argument;
    if (self->has_thread || self->closed) {
        PyErr_SetString(PyExc_RuntimeError, "it has been made already");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, named, "i(KK)", names, &self->loop, &function, &argument))
        return -1;
    self->stop = (void (*)(void *))(uintptr_t)function;
    self->argument = (void *)(uintptr_t)argument;
    if (start(self) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static PyObject *kicker_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    (void)args, (void)named;
    Kicker *self = (Kicker *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->loop = self->alarm = self->end = self->epoll = -1;
    return (PyObject *)self;
}

static void close_all(Kicker *self) {
    self->inside = 0;
    self->closed = true;
    if (self->has_thread) {
        uint64_t one = 1;
        ssize_t written = write(self->end, &one, sizeof one);
        (void)written; /* at worst the thread looks when its slice is over */
        Py_BEGIN_ALLOW_THREADS
        pthread_join(self->thread, NULL);
        Py_END_ALLOW_THREADS
        self->has_thread = false;
    }
    int *files[] = {&self->epoll, &self->alarm, &self->end};
    for (int i = 0; i < 3; i++) {
        if (*files[i] >= 0)
            close(*files[i]);
        *files[i] = -1;
    }
}

static void kicker_dealloc(Kicker *self) {
    close_all(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *arm(Kicker *self, int64_t deadline) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t left = deadline - (now.tv_sec * NANOSECONDS + now.tv_nsec);
    if (left < 1)
        left = 1; /* 0 would be never */
    struct itimerspec value = {.it_value = {left / NANOSECONDS, left % NANOSECONDS}};
    self->armed_for = deadline;
    if (timerfd_settime(self->alarm, 0, &value, NULL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *kicker_enter(Kicker *self, PyObject *deadline) {
    self->slice_is_over = false;
    if (self->loop_is_ready || self->resting) {
        self->loop_is_ready = self->resting = false;
        if (add(self, self->loop, EPOLLIN | EPOLLONESHOT, EPOLL_CTL_MOD) < 0)
            return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->inside = ++self->entries;
    if (deadline == Py_None)
        Py_RETURN_NONE;
    int64_t wanted = PyLong_AsLongLong(deadline);
    if (wanted == -1 && PyErr_Occurred())
        return NULL;
    /* an alarm that is set for an earlier time costs one stop in vain, less than setting it anew */
    int64_t armed = self->armed_for;
    if (armed > 0 && armed <= wanted)
        Py_RETURN_NONE;
    return arm(self, wanted);
}

static PyObject *kicker_stop_at(Kicker *self, PyObject *deadline) {
    int64_t wanted = PyLong_AsLongLong(deadline);
    if (wanted == -1 && PyErr_Occurred())
        return NULL;
    return arm(self, wanted);
}

static PyObject *kicker_leave(Kicker *self, PyObject *unused) {
    (void)unused;
    self->inside = 0;
    Py_RETURN_NONE;
}

static PyObject *kicker_rest(Kicker *self, PyObject *unused) {
    (void)unused;
    if (!self->loop_is_ready && !self->resting) {
        self->resting = true;
        if (add(self, self->loop, 0, EPOLL_CTL_MOD) < 0)
            return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *kicker_close(Kicker *self, PyObject *unused) {
    (void)unused;
    close_all(self);
    Py_RETURN_NONE;
}

static PyObject *is_ready(Kicker *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->loop_is_ready);
}

static PyObject *is_over(Kicker *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->slice_is_over);
}

static PyMethodDef methods[] = {
    {"enter", (PyCFunction)kicker_enter, METH_O,
     "The guest is about to run; stop it at that time of time.monotonic_ns, if any, or earlier."},
    {"stop_at", (PyCFunction)kicker_stop_at, METH_O, "Move the deadline while the guest runs."},
    {"leave", (PyCFunction)kicker_leave, METH_NOARGS, "The guest does not run any more."},
    {"rest", (PyCFunction)kicker_rest, METH_NOARGS,
     "The guest idles: what makes the loop ready meanwhile is the loop's alone, until the next entry."},
    {"close", (PyCFunction)kicker_close, METH_NOARGS, "End the helper thread."},
    {0},
};

static PyGetSetDef attributes[] = {
    {"loop_is_ready", (getter)is_ready, NULL, "Whether the loop has had something to do since the entry.", NULL},
    {"slice_is_over", (getter)is_over, NULL, "Whether the guest was stopped for having run for long.", NULL},
    {0},
};

static PyTypeObject KickerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ringminus.machine._kicker.Kicker",
    .tp_doc = "Gets a guest to leave: see ringminus.machine.kicker.",
    .tp_basicsize = sizeof(Kicker),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = kicker_new,
    .tp_init = (initproc)kicker_init,
    .tp_dealloc = (destructor)kicker_dealloc,
    .tp_methods = methods,
    .tp_getset = attributes,
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "_kicker", "The kicker's thread.", -1, NULL, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kicker(void) {
    PyObject *module = PyModule_Create(&module_definition);
    if (module == NULL || PyType_Ready(&KickerType) < 0)
        return NULL;
    Py_INCREF(&KickerType);
    PyModule_AddObject(module, "Kicker", (PyObject *)&KickerType);
    return module;
}
