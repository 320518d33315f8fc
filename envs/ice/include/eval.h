/* CPython 3.11 no longer ships eval.h, which Ice 3.6 includes for what Python.h declares today. */
#include <Python.h>
