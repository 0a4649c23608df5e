/* Saving: files of a directory, one after the other, as members in a buffer.

   Sources: POSIX.1-2017, pax; openat(2), flistxattr(2), ioctl_iflags(2). */

#include "quick.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* What a caller gets of each file: `quick.ROW` unpacks it. */
typedef struct {
    uint64_t offset, inode;
    int64_t size, mtime, ctime; /* times in nanoseconds */
    uint32_t mode, uid, gid, unused;
} Row;

/* The owner's fields, as attributes.Identities has them. */
typedef struct {
    const char *user_number, *group_number, *user, *group;
    Py_ssize_t user_bytes, group_bytes;
} Owner;

/* Fill a block's fields that all headers have, and its checksum; the name is there already, all else zero. */
static void
finish_block(unsigned char *block, char flag, unsigned mode, const Owner *owner, unsigned long long size,
             unsigned long long mtime)
{
    put_octal(block + 100, ID_DIGITS, mode);
    memcpy(block + 108, owner->user_number, ID_DIGITS);
    memcpy(block + 116, owner->group_number, ID_DIGITS);
    put_octal(block + 124, SIZE_DIGITS, size);
    put_octal(block + 136, SIZE_DIGITS, mtime);
    block[156] = (unsigned char)flag;
    memcpy(block + MAGIC_AT, MAGIC, sizeof MAGIC);
    memcpy(block + 265, owner->user, (size_t)owner->user_bytes);
    memcpy(block + 297, owner->group, (size_t)owner->group_bytes);
    put_octal(block + 329, ID_DIGITS, 0);
    put_octal(block + 337, ID_DIGITS, 0);
    put_octal(block + 148, 6, block_sum(block));
    block[155] = ' ';
}

/* Put a name, split where it is long (ustar.split_name); false if it does not fit. */
static int
put_name(unsigned char *block, const char *name, Py_ssize_t bytes)
{
    if (bytes <= NAME) {
        memcpy(block, name, (size_t)bytes);
        return bytes > 0;
    }
    const char *cut = memchr(name + bytes - NAME - 1, '/', NAME + 1);
    if (cut == NULL || cut == name || cut - name > PREFIX || cut == name + bytes - 1)
        return 0;
    memcpy(block, cut + 1, (size_t)(name + bytes - cut - 1));
    memcpy(block + PREFIX_AT, name, (size_t)(cut - name));
    return 1;
}

/* Put the records of a time, and their guard; return how many bytes, 0 where the time needs another form. */
static int
put_records(unsigned char *at, const struct timespec *mtime)
{
    int used;
    if (mtime->tv_sec < 1000000000LL || mtime->tv_sec > OCTAL_SIZE_MAX)
        return 0;
    memcpy(at, mtime->tv_nsec ? "30 mtime=" : "20 mtime=", 9);
    used = 9 + put_decimal(at + 9, (unsigned long long)mtime->tv_sec);
    if (mtime->tv_nsec) {
        unsigned char *fraction = at + used;
        long rest = mtime->tv_nsec;
        fraction[0] = '.';
        for (int n = 9; n > 0; n--, rest /= 10)
            fraction[n] = (unsigned char)('0' + rest % 10);
        used += 10;
    }
    at[used++] = '\n';
    uint32_t crc = crc32_of(at, (size_t)used);
    memcpy(at + used, GUARD, sizeof GUARD - 1);
    used += (int)sizeof GUARD - 1;
    for (int n = 7; n >= 0; n--)
        at[used++] = (unsigned char)HEX[crc >> (4 * n) & 15];
    at[used++] = '\n';
    return used;
}

/* Write all header blocks at `at`; false if they are not of the ordinary form. */
static int
put_headers(unsigned char *at, const char *job, Py_ssize_t job_bytes, unsigned long long offset,
            const char *name, Py_ssize_t name_bytes, const struct stat *status, const Owner *owner)
{
    static const Owner nobody = {"0000000", "0000000", "", "", 0, 0};
    memset(at, 0, HEADERS);
    memcpy(at, ORIGIN, sizeof ORIGIN - 1);
    memcpy(at + sizeof ORIGIN - 1, job, (size_t)job_bytes);
    unsigned char *digits = at + sizeof ORIGIN - 1 + job_bytes;
    *digits++ = '-';
    put_decimal(digits, offset);
    int records = put_records(at + BLOCK, &status->st_mtim);
    if (!records || !put_name(at + 2 * BLOCK, name, name_bytes))
        return 0;
    finish_block(at, 'x', 0644, &nobody, (unsigned long long)records, 0);
    finish_block(at + 2 * BLOCK, '0', status->st_mode & 07777, owner, (unsigned long long)status->st_size,
                 (unsigned long long)status->st_mtim.tv_sec);
    return 1;
}

/* Whether a time can be told in nanoseconds; btrfs has times of 64 bits, in seconds. */
static int
is_near(const struct timespec *time)
{
    return -OCTAL_SIZE_MAX <= time->tv_sec && time->tv_sec <= OCTAL_SIZE_MAX;
}

/* Whether an open file is ordinary; fills in its status. */
static int
is_ordinary(int file, struct stat *status, long long room)
{
    /* The kernel fills an int; some file systems in user space fill the long that is declared. */
    int flags[2] = {0, 0};
    if (fstat(file, status) != 0 || !S_ISREG(status->st_mode) || status->st_nlink != 1)
        return 0;
    if (status->st_size > room || status->st_blocks * 512LL < status->st_size)
        return 0;
    if (!is_near(&status->st_atim) || !is_near(&status->st_mtim) || !is_near(&status->st_ctim))
        return 0;
    ssize_t attributes = flistxattr(file, NULL, 0);
    if (attributes > 0 || (attributes < 0 && errno != ENOTSUP && errno != ENODATA))
        return 0;
    /* A file system that has no flags says so by an error. */
    if (ioctl(file, FS_IOC_GETFLAGS, flags) == 0 && flags[0] & (FS_IMMUTABLE_FL | FS_APPEND_FL))
        return 0;
    return 1;
}

/* Read a whole file; false unless it is, afterwards as before, what its status says. */
static int
read_whole(int file, unsigned char *at, const struct stat *status)
{
    struct stat after;
    off_t done = 0;
    while (done < status->st_size) {
        ssize_t got = pread(file, at + done, (size_t)(status->st_size - done), done);
        if (got <= 0)
            return 0;
        done += got;
    }
    return !status->st_size || (fstat(file, &after) == 0 && after.st_size == status->st_size &&
                                after.st_mtim.tv_sec == status->st_mtim.tv_sec &&
                                after.st_mtim.tv_nsec == status->st_mtim.tv_nsec);
}

/* The fields of an owner that is known; 1 if found, 0 if not, -1 with an exception set. */
static int
find_owner(PyObject *owners, const struct stat *status, Owner *owner)
{
    PyObject *key = Py_BuildValue("(kk)", (unsigned long)status->st_uid, (unsigned long)status->st_gid);
    if (key == NULL)
        return -1;
    PyObject *found = PyDict_GetItemWithError(owners, key); /* borrowed; the dictionary outlives the call */
    Py_DECREF(key);
    if (found == NULL)
        return PyErr_Occurred() ? -1 : 0;
    Py_ssize_t user_digits, group_digits;
    if (!PyArg_ParseTuple(found, "y#y#y#y#", &owner->user_number, &user_digits, &owner->group_number,
                          &group_digits, &owner->user, &owner->user_bytes, &owner->group,
                          &owner->group_bytes))
        return -1;
    return user_digits == ID_DIGITS && group_digits == ID_DIGITS && owner->user_bytes < 32 &&
           owner->group_bytes < 32;
}

/* What a batch has come to. */
typedef struct {
    unsigned char *lines; /* of the index, as index.py has them */
    size_t used, room;
    Row *rows;
    Py_ssize_t count;
} Batch;

/* Make room for one more line, whose path has so many bytes; false where memory is out. */
static int
has_room(Batch *batch, size_t path)
{
    /* Eleven fields of at most 32 bytes, and what parts them. */
    size_t needed = batch->used + path + 11 * 33;
    if (needed > batch->room) {
        size_t room = 2 * needed;
        unsigned char *lines = PyMem_Realloc(batch->lines, room);
        if (lines == NULL) {
            PyErr_NoMemory();
            return 0;
        }
        batch->lines = lines;
        batch->room = room;
    }
    return 1;
}

/* Add a decimal number and a blank. */
static unsigned char *
field(unsigned char *at, unsigned long long value)
{
    at += put_decimal(at, value);
    *at++ = ' ';
    return at;
}

/* Add a member's line to the index; false with an exception set. */
static int
add_line(Batch *batch, const Row *row, unsigned long long length, const unsigned char *digest,
         unsigned long long node, const char *path, size_t path_bytes)
{
    if (!has_room(batch, path_bytes))
        return 0;
    unsigned char *at = batch->lines + batch->used;
    at = field(field(at, row->offset), length);
    put_hex(at, digest);
    at += 2 * CHECKSUM;
    memcpy(at, " 0 ", 3);
    at = field(field(at + 3, node), row->offset);
    int digits = 1;
    while (digits < 4 && (row->mode & 07777) >> (3 * digits))
        digits++;
    put_octal(at, digits, row->mode & 07777);
    at += digits;
    *at++ = ' ';
    at = field(field(at, row->uid), row->gid);
    at = field(field(at, (unsigned long long)row->size), (unsigned long long)row->mtime);
    memcpy(at, path, path_bytes);
    at += path_bytes;
    *at++ = '\n';
    batch->used = (size_t)(at - batch->lines);
    return 1;
}

/* Whether a path stands in the index as it is (index.escape); others are escaped in Python. */
static int
is_shown(const char *path, Py_ssize_t bytes)
{
    for (Py_ssize_t n = 0; n < bytes; n++)
        if (path[n] < ' ' || path[n] > '~' || path[n] == '\\')
            return 0;
    return 1;
}

/* What every file of a batch is saved with. */
typedef struct {
    int directory;
    const char *base, *job; /* the global path of the directory, with a slash at its end */
    Py_ssize_t base_bytes, job_bytes;
    Py_buffer buffer;
    Py_ssize_t used, reserve;
    unsigned long long sent; /* the offset in the image of the buffer's first byte */
    PyObject *owners, *checksum, *escape;
} Save;

/* Enter a member in the index; false with an exception set. */
static int
enter(const Save *save, Batch *batch, const char *path, Py_ssize_t path_bytes, Py_ssize_t start,
      unsigned long long node)
{
    unsigned char digest[CHECKSUM];
    Row *row = &batch->rows[batch->count];
    unsigned long long length = (unsigned long long)(save->used - start);
    if (!sum_up(save->checksum, (const char *)save->buffer.buf + start, save->used - start, digest))
        return 0;
    if (is_shown(path, path_bytes))
        return add_line(batch, row, length, digest, node, path, (size_t)path_bytes);
    PyObject *escaped = PyObject_CallFunction(save->escape, "y#", path, path_bytes);
    char *shown;
    Py_ssize_t bytes;
    int is_added = escaped && PyBytes_AsStringAndSize(escaped, &shown, &bytes) == 0 &&
                   add_line(batch, row, length, digest, node, shown, (size_t)bytes);
    Py_XDECREF(escaped);
    return is_added;
}

static long long
nanoseconds(const struct timespec *time)
{
    return time->tv_sec * NANOSECONDS + time->tv_nsec;
}

/* Open a file to read it, which must not change its time of access where the kernel allows that (open(2)). */
static int
open_file(int directory, const char *name)
{
    /* O_NONBLOCK: a FIFO put in a file's place meanwhile must not hang the job. */
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int file = openat(directory, name, flags | O_NOATIME);
    return file < 0 && errno == EPERM ? openat(directory, name, flags) : file;
}

/* Read an ordinary file to where it goes, and its status; false if it is none. */
static int
fetch(int directory, const char *name, unsigned char *at, long long room, struct stat *status)
{
    int file = open_file(directory, name);
    if (file < 0)
        return 0;
    int is_whole = is_ordinary(file, status, room) && read_whole(file, at, status);
    close(file);
    return is_whole;
}

/* Save one file; 1 if it is saved, 0 if it is not ordinary, -1 with an exception set. */
static int
save_one(Save *save, Batch *batch, const char *name, Py_ssize_t name_bytes, unsigned long long node)
{
    char path[PREFIX + NAME + 2];
    Py_ssize_t path_bytes = save->base_bytes + name_bytes;
    long long room = (long long)(save->buffer.len - save->used) - HEADERS - BLOCK;
    if (path_bytes > (Py_ssize_t)sizeof path || !name_bytes || memchr(name, '\0', (size_t)name_bytes) ||
        room < 0)
        return 0;
    memcpy(path, save->base, (size_t)save->base_bytes);
    memcpy(path + save->base_bytes, name, (size_t)name_bytes);
    unsigned char *at = (unsigned char *)save->buffer.buf + save->used;
    struct stat status;
    PyThreadState *state = PyEval_SaveThread();
    int is_whole = fetch(save->directory, name, at + HEADERS, room, &status);
    PyEval_RestoreThread(state);
    if (!is_whole)
        return 0;
    Owner owner;
    int found = find_owner(save->owners, &status, &owner);
    if (found <= 0)
        return found;
    Row *row = &batch->rows[batch->count];
    row->offset = save->sent + (unsigned long long)save->used;
    row->inode = status.st_ino;
    row->size = status.st_size;
    row->mtime = nanoseconds(&status.st_mtim);
    row->ctime = nanoseconds(&status.st_ctim);
    row->mode = status.st_mode & 07777;
    row->uid = status.st_uid;
    row->gid = status.st_gid;
    /* A member's name is the path without its slash. */
    if (!put_headers(at, save->job, save->job_bytes, row->offset, path + 1, path_bytes - 1, &status, &owner))
        return 0;
    Py_ssize_t padding = (Py_ssize_t)(-status.st_size & (BLOCK - 1)), start = save->used;
    memset(at + HEADERS + status.st_size, 0, (size_t)padding);
    save->used += HEADERS + (Py_ssize_t)status.st_size + padding;
    if (!enter(save, batch, path, path_bytes, start, node))
        return -1;
    batch->count++;
    return 1;
}

/* Save one file after the other; false with an exception set. */
static int
save_run(Save *save, Batch *batch, PyObject *names, PyObject *numbers, Py_ssize_t first,
         Py_ssize_t lines_room)
{
    Py_ssize_t end = PyList_Size(names);
    for (Py_ssize_t n = first; n < end && batch->count < BATCH_MAX; n++) {
        /* Borrowed; the lock is released below, and the caller's list must stay as it is. */
        PyObject *item = PyList_GetItem(names, n);
        if (item == NULL)
            return 0;
        if (item == Py_None)
            break; /* no regular file: nothing is opened */
        char *name;
        Py_ssize_t name_bytes;
        if (PyBytes_AsStringAndSize(item, &name, &name_bytes) != 0)
            return 0;
        PyObject *number = PySequence_GetItem(numbers, n);
        unsigned long long node = number ? PyLong_AsUnsignedLongLong(number) : 0;
        Py_XDECREF(number);
        if (PyErr_Occurred())
            return 0;
        Py_INCREF(item);
        int is_saved = save_one(save, batch, name, name_bytes, node);
        Py_DECREF(item);
        if (is_saved < 0)
            return 0;
        if (!is_saved || (Py_ssize_t)batch->used - batch->count > lines_room ||
            save->buffer.len - save->used < save->reserve)
            break;
    }
    return 1;
}

const char save_doc[] =
    "save(directory, base, names, numbers, first, buffer, used, reserve, sent, job, owners, "
    "lines_room, checksum, escape, /)\n--\n\nSee quick.py.";

PyObject *
save(PyObject *module, PyObject *arguments)
{
    (void)module;
    Save save = {0};
    Batch batch = {0};
    PyObject *names, *numbers, *result = NULL;
    Py_ssize_t first, lines_room;
    if (!PyArg_ParseTuple(arguments, "iy#O!Onw*nnKy#O!nOO", &save.directory, &save.base, &save.base_bytes,
                          &PyList_Type, &names, &numbers, &first, &save.buffer, &save.used, &save.reserve,
                          &save.sent, &save.job, &save.job_bytes, &PyDict_Type, &save.owners, &lines_room,
                          &save.checksum, &save.escape))
        return NULL;
    batch.rows = PyMem_Calloc(BATCH_MAX, sizeof(Row));
    if (batch.rows == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    /* An `x` header's name holds the job and at most 20 digits. */
    int is_possible = first >= 0 && save.used >= 0 && save.used <= save.buffer.len && save.base_bytes > 0 &&
                      (Py_ssize_t)sizeof ORIGIN + save.job_bytes + 21 <= NAME;
    if (is_possible && !save_run(&save, &batch, names, numbers, first, lines_room))
        goto done;
    result = Py_BuildValue("nny#y#", batch.count, save.used, batch.lines ? (char *)batch.lines : "",
                           (Py_ssize_t)batch.used, (char *)batch.rows, batch.count * (Py_ssize_t)sizeof(Row));
done:
    PyMem_Free(batch.lines);
    PyMem_Free(batch.rows);
    PyBuffer_Release(&save.buffer);
    return result;
}
