/* Ordinary files of a backup and of a restore, many in one call.

   What Python takes longest for with small files, and nothing else.  Ordinary is: a regular file of one name,
   without holes, extended attributes, ACLs or flags that matter, small enough to be at hand as a whole, whose
   headers are as encode.py makes them for such a file.  At anything else, and at anything that goes wrong, a
   run of files ends, and of that file there is no trace; the caller then goes the long way, in Python, which
   is the reference and tells of errors.  Tests hold both against each other, byte by byte.

   Python's stable ABI (3.11): one file serves all later versions. */

#include "quick.h"

static PyMethodDef methods[] = {
    {"save", save, METH_VARARGS, save_doc},
    {"span", span, METH_VARARGS, span_doc},
    {"restore", restore, METH_VARARGS, restore_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_quick", "Ordinary files, each in one call.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__quick(void)
{
    make_crc_table();
    return PyModuleDef_Init(&definition);
}
