/* Ice 3.6 reads PyThreadState_GET()->frame, which CPython hides since 3.11: give it a struct that has this member. */
#pragma once
#include_next <frameobject.h>
#if PY_VERSION_HEX >= 0x030B0000
struct IceThreadState
{
    PyFrameObject* frame;
};
static inline IceThreadState* iceThreadState()
{
    static thread_local IceThreadState state;
    /* PyThreadState_GetFrame returns a new reference; Ice wants a borrowed one, and the running frame outlives it. */
    state.frame = PyThreadState_GetFrame(PyThreadState_Get());
    Py_XDECREF(state.frame);
    return &state;
}
#undef PyThreadState_GET
#define PyThreadState_GET() iceThreadState()
#endif
