/* Forced in front of every source of Ice 3.6: calls that CPython 3.13 dropped. */
#pragma once
#ifdef __cplusplus
#include <Python.h>
#if PY_VERSION_HEX >= 0x030D0000
#undef PyEval_CallObject
#define PyEval_CallObject(callable, args) PyObject_CallObject(callable, args)
static inline int PyObject_AsReadBuffer(PyObject* object, const void** data, Py_ssize_t* size)
{
    Py_buffer view;
    if(PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0)
    {
        return -1;
    }
    *data = view.buf;
    *size = view.len;
    PyBuffer_Release(&view);
    return 0;
}
#endif
#endif
