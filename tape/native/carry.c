/* Records between a drive's two lanes and a socket, many in one call.

   The same as the mover does record by record in Python, and only as long as everything is as it should be:
   each command ends plainly, the connection goes on, nobody waits long.  Whatever else comes is left as it
   is for Python, which is the reference, judges and tells: a command that ended otherwise keeps its outcome,
   one that runs goes on running, bytes stay in their lane.  There is never a second command at the drive.

   Python's stable ABI (3.11): one file serves all later versions. */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <scsi/sg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LANES = 2,
    NO_LANE = -1,
    /* Longer waits are Python's, which then has counted all that was done, so a DMA that asks is told the
       truth. So it is where there are many short ones, as of a data server that sends in small pieces. */
    PATIENCE_MS = 100,
    CALL_MS = 500,
    HOST_ERROR = 7, /* DID_ERROR of the kernel's scsi_status.h */
};

struct lane {
    int fd;
    sg_io_hdr_t *header;
    sg_io_hdr_t fresh; /* the command, as it is given to the driver */
    unsigned char *bytes;
};

struct way {
    struct lane lanes[LANES];
    size_t length; /* of each record */
    int connection;
    const volatile unsigned char *halt; /* not 0: nothing more is begun */
    Py_ssize_t count;                   /* records to carry */
    long long until_ms;                 /* when a call waits no more */

    Py_ssize_t done; /* records carried */
    size_t odd;      /* bytes of one more that went through the connection */
    int lane;        /* where that one lies */
    int running;     /* lane of the command at the drive, or that ended otherwise than plainly; NO_LANE */
    int ended;       /* it has ended: its header says how */
    int error;       /* errno of the connection */
};

enum step { ON, OUT };

/* Whether there was nothing about the end of a command but that it ended. */
static int
is_plain(const sg_io_hdr_t *header)
{
    return !header->status && !header->host_status && !header->driver_status && !header->sb_len_wr &&
           header->resid == 0;
}

static long long
now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Wait for either of two; OUT if neither is ready in time.  A descriptor of -1 is not waited for. */
static enum step
wait_for(const struct way *way, struct pollfd *either)
{
    long long left = way->until_ms - now_ms();
    int ready;

    if (left <= 0)
        return OUT;
    do
        ready = poll(either, 2, left < PATIENCE_MS ? (int)left : PATIENCE_MS);
    while (ready < 0 && errno == EINTR);
    return ready > 0 ? ON : OUT;
}

/* Take note of the end of the command at the drive; OUT if it has none yet, or no plain one. */
static enum step
collect(struct way *way)
{
    struct lane *lane = &way->lanes[way->running];
    struct pollfd either[2] = {{lane->fd, POLLIN, 0}, {-1, 0, 0}};
    ssize_t got;

    if (wait_for(way, either) == OUT)
        return OUT;
    do
        got = read(lane->fd, lane->header, sizeof *lane->header);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return OUT; /* the device is going away: Python waits for it once more, and is told the same */
    if (got != sizeof *lane->header) {
        /* The driver has forgotten the command: who waited for it would wait for ever. */
        *lane->header = lane->fresh;
        lane->header->host_status = HOST_ERROR;
    }
    if (!is_plain(lane->header)) {
        way->ended = 1;
        return OUT;
    }
    way->running = NO_LANE;
    return ON;
}

/* Begin a lane's command; OUT if nothing is to be begun any more, or the driver does not take it. */
static enum step
begin(struct way *way, int number)
{
    struct lane *lane = &way->lanes[number];
    ssize_t put;

    if (*way->halt)
        return OUT;
    *lane->header = lane->fresh;
    do
        put = write(lane->fd, lane->header, sizeof *lane->header);
    while (put < 0 && errno == EINTR);
    if (put != sizeof *lane->header)
        return OUT;
    way->running = number;
    return ON;
}

/* Whether an answer of the connection means: not now. */
static int
not_now(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Send a whole record.  A read that ends meanwhile is collected when this one is away: both lanes are full.
 */
static enum step
send_record(struct way *way)
{
    struct pollfd either[2] = {{way->connection, POLLOUT, 0}, {-1, 0, 0}};

    while (way->odd < way->length) {
        const unsigned char *from = way->lanes[way->lane].bytes + way->odd;
        ssize_t sent = send(way->connection, from, way->length - way->odd, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            way->odd += (size_t)sent;
        } else if (!not_now()) {
            way->error = errno;
            return OUT;
        } else if (wait_for(way, either) == OUT) {
            return OUT;
        }
    }
    return ON;
}

/* From tape: a read runs.  Each record is sent while the drive reads the next, of which there always is one.
 */
static void
send_records(struct way *way)
{
    way->lane = NO_LANE;
    while (way->done < way->count) {
        enum step begun;
        int number = way->running;

        if (collect(way) == OUT)
            return;
        way->lane = number;
        way->odd = 0;
        begun = begin(way, 1 - number);
        if (send_record(way) == OUT)
            return;
        way->done++;
        way->odd = 0;
        way->lane = NO_LANE;
        if (begun == OUT)
            return;
    }
}

/* Receive a whole record; a write that ends meanwhile is seen to at once. */
static enum step
receive_record(struct way *way)
{
    while (way->odd < way->length) {
        unsigned char *to = way->lanes[way->lane].bytes + way->odd;
        ssize_t got = recv(way->connection, to, way->length - way->odd, MSG_DONTWAIT);
        if (got > 0) {
            way->odd += (size_t)got;
        } else if (got == 0) {
            return OUT;
        } else if (!not_now()) {
            way->error = errno;
            return OUT;
        } else {
            int drive = way->running == NO_LANE ? -1 : way->lanes[way->running].fd;
            struct pollfd either[2] = {{way->connection, POLLIN, 0}, {drive, POLLIN, 0}};
            if (wait_for(way, either) == OUT)
                return OUT;
            if (either[1].revents) {
                if (collect(way) == OUT)
                    return OUT;
                way->done++;
            }
        }
    }
    return ON;
}

/* To tape: a write runs, and `odd` bytes of the next record are there. */
static void
receive_records(struct way *way)
{
    while (way->done < way->count) {
        if (receive_record(way) == OUT)
            return;
        if (way->running != NO_LANE) {
            if (collect(way) == OUT)
                return;
            way->done++;
        }
        if (begin(way, way->lane) == OUT)
            return;
        way->lane = 1 - way->lane;
        way->odd = 0;
    }
}

/* Call one of the two with Python's arguments, and return what became of it. */
static PyObject *
carry(PyObject *arguments, void (*move)(struct way *))
{
    struct way way = {.lane = NO_LANE};
    struct lane *lanes = way.lanes;
    Py_buffer headers[LANES], bytes[LANES], halt;
    Py_ssize_t odd;
    PyObject *result = NULL;

    if (!PyArg_ParseTuple(arguments, "(iw*w*)(iw*w*)iiy*nn", &lanes[0].fd, &headers[0], &bytes[0],
                          &lanes[1].fd, &headers[1], &bytes[1], &way.running, &way.connection, &halt, &odd,
                          &way.count))
        return NULL;
    if (headers[0].len != sizeof(sg_io_hdr_t) || headers[1].len != sizeof(sg_io_hdr_t) || halt.len != 1 ||
        bytes[0].len != bytes[1].len || odd < 0 || odd > bytes[0].len || (way.running & ~1)) {
        PyErr_SetString(PyExc_ValueError, "two headers, two lanes of one size, one of them running");
    } else {
        for (int number = 0; number < LANES; number++) {
            lanes[number].header = headers[number].buf;
            lanes[number].fresh = *lanes[number].header;
            lanes[number].bytes = bytes[number].buf;
        }
        way.length = (size_t)bytes[0].len;
        way.halt = halt.buf;
        way.odd = (size_t)odd;
        way.lane = 1 - way.running;
        way.until_ms = now_ms() + CALL_MS;
        Py_BEGIN_ALLOW_THREADS
        move(&way);
        Py_END_ALLOW_THREADS
        result = Py_BuildValue("nniiii", way.done, (Py_ssize_t)way.odd, way.lane, way.running, way.ended,
                               way.error);
    }
    PyBuffer_Release(&headers[0]);
    PyBuffer_Release(&headers[1]);
    PyBuffer_Release(&bytes[0]);
    PyBuffer_Release(&bytes[1]);
    PyBuffer_Release(&halt);
    return result;
}

static PyObject *
send_(PyObject *module, PyObject *arguments)
{
    (void)module;
    return carry(arguments, send_records);
}

static PyObject *
receive(PyObject *module, PyObject *arguments)
{
    (void)module;
    return carry(arguments, receive_records);
}

static PyMethodDef methods[] = {
    {"send", send_, METH_VARARGS, "From tape to a socket."},
    {"receive", receive, METH_VARARGS, "From a socket to tape."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_carry", "Records, many in one call.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__carry(void)
{
    return PyModuleDef_Init(&definition);
}
