/* What the helper's files share; module.c says what the helper is. */

#ifndef SPANREEL_QUICK_H
#define SPANREEL_QUICK_H

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <stdint.h>

enum {
    BLOCK = 512,
    HEADERS = 3 * BLOCK, /* an `x` header, its body, and the file's own header */
    NAME = 100,
    PREFIX = 155,
    PREFIX_AT = 345,
    MAGIC_AT = 257,
    ID_DIGITS = 7,
    SIZE_DIGITS = 11,
    RECORDS_MAX = 96, /* a time and a guard take 56 */
    CHECKSUM = 16,
    BATCH_MAX = 256, /* files of one call: between calls a job can be stopped */
};

static const char MAGIC[8] = {'u', 's', 't', 'a', 'r', 0, '0', '0'}; /* POSIX, with its version */

#define OCTAL_SIZE_MAX 077777777777LL
#define NANOSECONDS 1000000000LL
#define GUARD "26 comment=crc32 " /* and eight digits, and a line's end: pax.guarded */
#define GUARD_BYTES 26
#define ORIGIN "./PaxHeaders/spanreel-"

/* blocks.c */
extern const char HEX[];
void make_crc_table(void);
uint32_t crc32_of(const unsigned char *data, size_t count);
void put_octal(unsigned char *at, int digits, unsigned long long value);
int put_decimal(unsigned char *at, unsigned long long value);
long long take_octal(const unsigned char *at, int digits, unsigned char end);
long long take_decimal(const unsigned char *at, int count);
unsigned block_sum(const unsigned char *block);
int is_sound(const unsigned char *block);
void put_hex(unsigned char *at, const unsigned char *digest);
int sum_up(PyObject *checksum, const char *data, Py_ssize_t bytes, unsigned char *digest);

/* save.c */
extern const char save_doc[];
PyObject *save(PyObject *module, PyObject *arguments);

/* restore.c */
extern const char span_doc[], restore_doc[];
PyObject *span(PyObject *module, PyObject *arguments);
PyObject *restore(PyObject *module, PyObject *arguments);

#endif
