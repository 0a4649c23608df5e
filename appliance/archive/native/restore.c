/* Reading ordinary members that are at hand, and restoring them.

   Nothing here trusts what it reads: a header counts if it has the form that save.c writes, byte by byte. */

#include "quick.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether a name is plain: no component is empty, "." or "..". */
static int
is_plain(const unsigned char *name, size_t count)
{
    size_t start = 0;
    if (!count)
        return 0;
    for (size_t n = 0; n <= count; n++) {
        if (n < count && name[n] != '/')
            continue;
        size_t length = n - start;
        if (!length || (name[start] == '.' && (length == 1 || (length == 2 && name[start + 1] == '.'))))
            return 0;
        start = n + 1;
    }
    return 1;
}

/* The offset that the name of an `x` header of ours holds; -1 for another's. */
static long long
origin_of(const unsigned char *name)
{
    size_t length = strnlen((const char *)name, NAME);
    size_t start = sizeof ORIGIN - 1;
    if (length <= start || memcmp(name, ORIGIN, start) != 0)
        return -1;
    size_t digits = length;
    while (digits > start && name[digits - 1] >= '0' && name[digits - 1] <= '9')
        digits--;
    /* A job's name may end in digits, never without the '-' behind it. */
    if (digits <= start + 1 || name[digits - 1] != '-' || length - digits < 1 || length - digits > 18)
        return -1;
    for (size_t n = start; n < digits - 1; n++) {
        unsigned char c = name[n];
        if (!(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && c != '.' &&
            c != '_' && c != '-')
            return -1;
    }
    for (size_t n = length; n < NAME; n++)
        if (name[n])
            return -1;
    return take_decimal(name + digits, (int)(length - digits));
}

/* The time in the records of an ordinary file, in nanoseconds, their guard checked; -1 for other records. */
static long long
records_time(const unsigned char *records, long long size)
{
    long long seconds, fraction = 0;
    int used;
    if (size == 30 + GUARD_BYTES && memcmp(records, "30 mtime=", 9) == 0 && records[19] == '.') {
        used = 30;
        fraction = take_decimal(records + 20, 9);
    } else if (size == 20 + GUARD_BYTES && memcmp(records, "20 mtime=", 9) == 0) {
        used = 20;
    } else {
        return -1;
    }
    seconds = take_decimal(records + 9, 10);
    if (seconds < 0 || seconds >= INT64_MAX / NANOSECONDS || fraction < 0 || records[used - 1] != '\n')
        return -1;
    if (memcmp(records + used, GUARD, sizeof GUARD - 1) != 0 || records[size - 1] != '\n')
        return -1;
    uint32_t crc = crc32_of(records, (size_t)used);
    for (int n = 0; n < 8; n++)
        if (records[used + (int)sizeof GUARD - 1 + n] != HEX[crc >> (4 * (7 - n)) & 15])
            return -1;
    return seconds * NANOSECONDS + fraction;
}

/* An ordinary member, as its headers tell. */
typedef struct {
    unsigned char name[PREFIX + 1 + NAME];
    size_t name_bytes;
    long long size, mode, uid, gid, mtime, origin;
    Py_ssize_t bytes; /* of all of it, with its padding */
} Found;

/* Read the headers at `at`; false unless they are of the ordinary form and sound. */
static int
read_headers(const unsigned char *at, Found *found)
{
    const unsigned char *block = at + 2 * BLOCK;
    if (at[156] != 'x' || block[156] != '0' || block[157] ||
        memcmp(block + MAGIC_AT, MAGIC, sizeof MAGIC) != 0)
        return 0;
    if (!is_sound(at) || !is_sound(block))
        return 0;
    long long records = take_octal(at + 124, SIZE_DIGITS, '\0');
    if (records <= 0 || records > RECORDS_MAX)
        return 0;
    found->mtime = records_time(at + BLOCK, records);
    found->origin = origin_of(at);
    found->mode = take_octal(block + 100, ID_DIGITS, '\0');
    found->uid = take_octal(block + 108, ID_DIGITS, '\0');
    found->gid = take_octal(block + 116, ID_DIGITS, '\0');
    found->size = take_octal(block + 124, SIZE_DIGITS, '\0');
    if (found->mtime < 0 || found->origin < 0 || found->mode < 0 || found->mode > 07777 || found->uid < 0 ||
        found->gid < 0 || found->size < 0)
        return 0;
    size_t count = strnlen((const char *)block + PREFIX_AT, PREFIX);
    memcpy(found->name, block + PREFIX_AT, count);
    if (count)
        found->name[count++] = '/';
    size_t rest = strnlen((const char *)block, NAME);
    memcpy(found->name + count, block, rest);
    found->name_bytes = count + rest;
    found->bytes = HEADERS + (Py_ssize_t)((found->size + BLOCK - 1) / BLOCK * BLOCK);
    return is_plain(found->name, found->name_bytes);
}

/* Bytes of a stream that are at hand; `base` is what the names in it begin with: a directory and a slash. */
typedef struct {
    Py_buffer buffer;
    Py_ssize_t low, high, base_bytes;
    const char *base;
} Stream;

/* Whether the stream goes on with an ordinary member, all at hand, of the directory. */
static int
has_next(const Stream *stream, Found *found)
{
    if (stream->high - stream->low < HEADERS)
        return 0;
    if (!read_headers((const unsigned char *)stream->buffer.buf + stream->low, found) ||
        found->bytes > stream->high - stream->low)
        return 0;
    size_t base = (size_t)stream->base_bytes;
    return found->name_bytes > base && memcmp(found->name, stream->base, base) == 0 &&
           memchr(found->name + base, '/', found->name_bytes - base) == NULL;
}

/* Check what a caller gave; false with an exception set. */
static int
is_within(const Stream *stream)
{
    if (stream->low >= 0 && stream->low <= stream->high && stream->high <= stream->buffer.len)
        return 1;
    PyErr_SetString(PyExc_ValueError, "not within the buffer");
    return 0;
}

const char span_doc[] = "span(buffer, low, high, base, /)\n--\n\nSee quick.py.";

PyObject *
span(PyObject *module, PyObject *arguments)
{
    (void)module;
    Stream stream = {0};
    Found found;
    PyObject *places = NULL, *result = NULL;
    if (!PyArg_ParseTuple(arguments, "y*nny#", &stream.buffer, &stream.low, &stream.high, &stream.base,
                          &stream.base_bytes))
        return NULL;
    if (!is_within(&stream) || (places = PyList_New(0)) == NULL)
        goto done;
    while (has_next(&stream, &found)) {
        PyObject *place = PyLong_FromSsize_t(stream.low);
        int is_kept = place && PyList_Append(places, place) == 0;
        Py_XDECREF(place);
        if (!is_kept)
            goto done;
        stream.low += found.bytes;
    }
    result = Py_BuildValue("nO", stream.low, places);
done:
    Py_XDECREF(places);
    PyBuffer_Release(&stream.buffer);
    return result;
}

/* Who restores: may files be given away, and whose are they if not? */
typedef struct {
    int may_give;
    unsigned uid, gid;
} Restorer;

static int
write_whole(int file, const char *data, long long count)
{
    while (count > 0) {
        ssize_t done = write(file, data, (size_t)count);
        if (done <= 0)
            return 0;
        data += done;
        count -= done;
    }
    return 1;
}

/* Give a new file its data and attributes, in the order of restore_attributes.py, and close it. */
static int
complete(int file, const char *data, const Found *found, const Restorer *restorer)
{
    struct timespec times[2];
    times[0].tv_sec = times[1].tv_sec = (time_t)(found->mtime / NANOSECONDS);
    times[0].tv_nsec = times[1].tv_nsec = (long)(found->mtime % NANOSECONDS);
    int is_done = write_whole(file, data, found->size) &&
                  (!restorer->may_give || fchown(file, (uid_t)found->uid, (gid_t)found->gid) == 0) &&
                  fchmod(file, (mode_t)found->mode) == 0 && futimens(file, times) == 0;
    /* A network file system says late that it is full. */
    return close(file) == 0 && is_done;
}

/* Make a file; false if it is not there afterwards.  `failed` is why half of it cannot be removed again. */
static int
create(int directory, const char *name, const char *data, const Found *found, const Restorer *restorer,
       int *failed)
{
    /* O_EXCL: a new inode or nothing, so no link that somebody put there is written through. */
    int file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return 0;
    if (complete(file, data, found, restorer))
        return 1;
    if (unlinkat(directory, name, 0) != 0)
        *failed = errno;
    return 0;
}

/* Make a file: 1 if it is there, 0 if nothing is, -1 with an exception set if half of it stays. */
static int
make_file(int directory, const char *name, const char *data, const Found *found, const Restorer *restorer)
{
    int failed = 0;
    if (!restorer->may_give && (found->uid != restorer->uid || found->gid != restorer->gid))
        return 0;
    PyThreadState *state = PyEval_SaveThread();
    int is_made = create(directory, name, data, found, restorer, &failed);
    PyEval_RestoreThread(state);
    if (failed) {
        errno = failed;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return is_made;
}

/* Add what the caller gets of a file; false with an exception set. */
static int
tell(PyObject *files, const Found *found, const char *name, const char *data, PyObject *checksum)
{
    unsigned char digest[CHECKSUM], digits[2 * CHECKSUM];
    if (!sum_up(checksum, data, found->bytes, digest))
        return 0;
    put_hex(digits, digest);
    PyObject *told =
        Py_BuildValue("Ly#y", found->origin, (const char *)digits, (Py_ssize_t)sizeof digits, name);
    int is_told = told && PyList_Append(files, told) == 0;
    Py_XDECREF(told);
    return is_told;
}

/* Restore one member after the other; false with an exception set. */
static int
restore_run(Stream *stream, int directory, const Restorer *restorer, PyObject *checksum, PyObject *files,
            long long *data_bytes)
{
    Found found;
    for (int n = 0; n < BATCH_MAX && has_next(stream, &found); n++) {
        char name[PREFIX + NAME + 2];
        size_t base = (size_t)stream->base_bytes, bytes = found.name_bytes - base;
        memcpy(name, found.name + base, bytes);
        name[bytes] = '\0';
        const char *member = (const char *)stream->buffer.buf + stream->low;
        int is_made = make_file(directory, name, member + HEADERS, &found, restorer);
        if (is_made < 0)
            return 0;
        if (!is_made)
            break;
        if (!tell(files, &found, name, member, checksum))
            return 0;
        stream->low += found.bytes;
        *data_bytes += found.size;
    }
    return 1;
}

const char restore_doc[] =
    "restore(buffer, low, high, base, directory, may_give, uid, gid, checksum, /)\n--\n\n"
    "See quick.py.";

PyObject *
restore(PyObject *module, PyObject *arguments)
{
    (void)module;
    Stream stream = {0};
    Restorer restorer;
    PyObject *checksum, *files = NULL, *result = NULL;
    int directory;
    long long data_bytes = 0;
    if (!PyArg_ParseTuple(arguments, "y*nny#ipIIO", &stream.buffer, &stream.low, &stream.high, &stream.base,
                          &stream.base_bytes, &directory, &restorer.may_give, &restorer.uid, &restorer.gid,
                          &checksum))
        return NULL;
    if (is_within(&stream) && (files = PyList_New(0)) != NULL &&
        restore_run(&stream, directory, &restorer, checksum, files, &data_bytes))
        result = Py_BuildValue("nLO", stream.low, data_bytes, files);
    Py_XDECREF(files);
    PyBuffer_Release(&stream.buffer);
    return result;
}
