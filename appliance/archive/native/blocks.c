/* Numbers and checksums as header blocks have them. */

#include "quick.h"

#include <string.h>

const char HEX[] = "0123456789abcdef";

static uint32_t crc_table[256];

void
make_crc_table(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t value = n;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? 0xedb88320u ^ (value >> 1) : value >> 1;
        crc_table[n] = value;
    }
}

/* CRC-32 as zlib has it. */
uint32_t
crc32_of(const unsigned char *data, size_t count)
{
    uint32_t value = 0xffffffffu;
    while (count--)
        value = crc_table[(value ^ *data++) & 0xff] ^ (value >> 8);
    return value ^ 0xffffffffu;
}

void
put_octal(unsigned char *at, int digits, unsigned long long value)
{
    for (int n = digits - 1; n >= 0; n--, value >>= 3)
        at[n] = (unsigned char)('0' + (value & 7));
}

/* Write a decimal number; return how many digits. */
int
put_decimal(unsigned char *at, unsigned long long value)
{
    unsigned char digits[20];
    int count = 0;
    do
        digits[count++] = (unsigned char)('0' + value % 10);
    while (value /= 10);
    for (int n = 0; n < count; n++)
        at[n] = digits[count - 1 - n];
    return count;
}

/* Read exactly `digits` octal digits with `end` behind them; -1 for anything else. */
long long
take_octal(const unsigned char *at, int digits, unsigned char end)
{
    long long value = 0;
    for (int n = 0; n < digits; n++) {
        if (at[n] < '0' || at[n] > '7')
            return -1;
        value = value << 3 | (at[n] - '0');
    }
    return at[digits] == end ? value : -1;
}

/* Read `count` decimal digits; -1 for anything else.  At most 18. */
long long
take_decimal(const unsigned char *at, int count)
{
    long long value = 0;
    for (int n = 0; n < count; n++) {
        if (at[n] < '0' || at[n] > '9')
            return -1;
        value = value * 10 + (at[n] - '0');
    }
    return value;
}

/* The checksum of a header block: its own field counts as spaces. */
unsigned
block_sum(const unsigned char *block)
{
    unsigned sum = 8 * ' ';
    for (int n = 0; n < BLOCK; n++)
        sum += block[n];
    for (int n = 148; n < 156; n++)
        sum -= block[n];
    return sum;
}

int
is_sound(const unsigned char *block)
{
    return take_octal(block + 148, 6, '\0') == (long long)block_sum(block) && block[155] == ' ';
}

void
put_hex(unsigned char *at, const unsigned char *digest)
{
    for (int n = 0; n < CHECKSUM; n++) {
        *at++ = (unsigned char)HEX[digest[n] >> 4];
        *at++ = (unsigned char)HEX[digest[n] & 15];
    }
}

/* Put the checksum of some bytes, made by Python's function, in `digest`; false with an exception set. */
int
sum_up(PyObject *checksum, const char *data, Py_ssize_t bytes, unsigned char *digest)
{
    PyObject *view = PyMemoryView_FromMemory((char *)data, bytes, PyBUF_READ);
    PyObject *value = view ? PyObject_CallFunctionObjArgs(checksum, view, NULL) : NULL;
    Py_XDECREF(view);
    char *made;
    Py_ssize_t count;
    int is_there = value && PyBytes_AsStringAndSize(value, &made, &count) == 0;
    if (is_there && count != CHECKSUM) {
        PyErr_SetString(PyExc_ValueError, "a checksum has another length");
        is_there = 0;
    }
    if (is_there)
        memcpy(digest, made, CHECKSUM);
    Py_XDECREF(value);
    return is_there;
}
