// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stands in for greenlet on CPython 3.8 to 3.10, of which Debian has none: stacks of its own, and
 * what a switch exchanges of the thread state (the frame, the depth of recursion, the exceptions
 * under way, the context). As much of the interface as greenlets.py uses; memory is not given back.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK_BYTES (1 << 20)

enum state { NEW, ALIVE, DEAD };

struct green {
	PyObject_HEAD
	PyObject *run;
	struct green *parent;
	enum state state;
	ucontext_t context;
	/* of the thread state, while another one runs */
	struct _frame *frame;
	int recursion_depth;
	_PyErr_StackItem *exc_info, exc_state;
	PyObject *variables;
#if PY_VERSION_HEX >= 0x030a0000
	CFrame *cframe, first;
#endif
};

static PyTypeObject green_type;
static PyObject *exit_type;
static __thread struct green *current;
/* what a switch brings: an object, or an exception */
static __thread PyObject *brought, *brought_type, *brought_value, *brought_traceback;

static struct green *green_current(void)
{
	if (!current) {
		current = PyObject_New(struct green, &green_type);
		if (!current)
			return NULL;
		memset((char *)current + sizeof(PyObject), 0, sizeof(*current) - sizeof(PyObject));
		current->state = ALIVE;
	}
	return current;
}

static void save(struct green *green, PyThreadState *tstate)
{
	green->frame = tstate->frame;
	green->recursion_depth = tstate->recursion_depth;
	green->exc_info = tstate->exc_info;
	green->exc_state = tstate->exc_state;
	green->variables = tstate->context;
#if PY_VERSION_HEX >= 0x030a0000
	green->cframe = tstate->cframe;
#endif
}

static void restore(struct green *green, PyThreadState *tstate)
{
	tstate->frame = green->frame;
	tstate->recursion_depth = green->recursion_depth;
	tstate->exc_info = green->exc_info;
	tstate->exc_state = green->exc_state;
	tstate->context = green->variables;
	tstate->context_ver++;
#if PY_VERSION_HEX >= 0x030a0000
	tstate->cframe = green->cframe;
#endif
}

/* obj: NULL with an exception set. Takes the reference. */
static void bring(PyObject *object)
{
	brought = object;
	if (!object)
		PyErr_Fetch(&brought_type, &brought_value, &brought_traceback);
}

static PyObject *fetch(void)
{
	PyObject *object = brought;

	if (!object)
		PyErr_Restore(brought_type, brought_value, brought_traceback);
	brought = NULL;
	return object;
}

static struct green *living(struct green *green)
{
	while (green->state == DEAD)
		green = green->parent;
	return green;
}

static void entry(void)
{
	struct green *green = current;
	PyObject *args = fetch(), *result = NULL;

	if (args)
		result = PyObject_Call(green->run, args, NULL);
	Py_XDECREF(args);
	if (!result && PyErr_ExceptionMatches(exit_type)) {
		PyErr_Clear();
		result = Py_None;
		Py_INCREF(result);
	}
	bring(result);
	green->state = DEAD;
	current = living(green->parent);
	setcontext(&current->context);
}

static int start(struct green *green, PyThreadState *tstate)
{
	void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (stack == MAP_FAILED) {
		PyErr_NoMemory();
		return -1;
	}
	getcontext(&green->context);
	green->context.uc_stack.ss_sp = stack;
	green->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&green->context, entry, 0);
	green->state = ALIVE;
	tstate->frame = NULL;
	memset(&tstate->exc_state, 0, sizeof(tstate->exc_state));
	tstate->exc_info = &tstate->exc_state;
	tstate->context = NULL;
	tstate->context_ver++;
#if PY_VERSION_HEX >= 0x030a0000
	green->first.use_tracing = tstate->cframe->use_tracing;
	tstate->cframe = &green->first;
#endif
	return 0;
}

/* object: as bring() takes it */
static PyObject *go(struct green *target, PyObject *object)
{
	PyThreadState *tstate = PyThreadState_Get();
	struct green *from = green_current();

	target = living(target);
	bring(object);
	if (target == from)
		return fetch();
	save(from, tstate);
	if (target->state == NEW && start(target, tstate))
		return NULL;
	current = target;
	Py_INCREF(from);
	swapcontext(&from->context, &target->context);
	restore(from, tstate);
	Py_DECREF(from);
	return fetch();
}

static PyObject *green_switch(struct green *self, PyObject *args)
{
	if (self->state == ALIVE && PyTuple_GET_SIZE(args) == 1)
		args = PyTuple_GET_ITEM(args, 0);
	Py_INCREF(args);
	return go(self, args);
}

static PyObject *green_throw(struct green *self, PyObject *thrown)
{
	if (PyExceptionInstance_Check(thrown))
		PyErr_SetObject((PyObject *)Py_TYPE(thrown), thrown);
	else
		PyErr_SetNone(thrown);
	return go(self, NULL);
}

static PyObject *green_dead(struct green *self, void *unused)
{
	return PyBool_FromLong(self->state == DEAD);
}

static int green_init(struct green *self, PyObject *args, PyObject *keywords)
{
	if (!PyArg_ParseTuple(args, "O", &self->run))
		return -1;
	Py_INCREF(self->run);
	self->parent = green_current();
	Py_XINCREF(self->parent);
	return self->parent ? 0 : -1;
}

static PyObject *get_current(PyObject *module, PyObject *unused)
{
	PyObject *object = (PyObject *)green_current();

	Py_XINCREF(object);
	return object;
}

static PyMethodDef methods[] = {
    {"switch", (PyCFunction)green_switch, METH_VARARGS, NULL},
    {"throw", (PyCFunction)green_throw, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"dead", (getter)green_dead, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject green_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenlet.greenlet",
    .tp_basicsize = sizeof(struct green),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = methods,
    .tp_getset = properties,
    .tp_init = (initproc)green_init,
    .tp_new = PyType_GenericNew,
};

static PyMethodDef functions[] = {
    {"getcurrent", get_current, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_greenlet", NULL, -1, functions,
					NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__greenlet(void)
{
	PyObject *module = PyModule_Create(&definition);

	exit_type = PyErr_NewException("greenlet.GreenletExit", PyExc_BaseException, NULL);
	if (!module || !exit_type || PyType_Ready(&green_type))
		return NULL;
	Py_INCREF(&green_type);
	PyModule_AddObject(module, "greenlet", (PyObject *)&green_type);
	PyModule_AddObject(module, "GreenletExit", exit_type);
	return module;
}
