"""Enumerations of NDMP version 4 (draft-skardal-ndmpv4-04, appendix C)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

ALL_ONES = 2**64 - 1
"""Length "to the end", or a value that is not known (draft, 2.3.5 and 4.3)."""


class ErrorCode(IntEnum):
    """ndmp_error (draft, 2.8)."""

    NO_ERR = 0
    NOT_SUPPORTED = 1
    DEVICE_BUSY = 2
    DEVICE_OPENED = 3
    NOT_AUTHORIZED = 4
    PERMISSION = 5
    DEV_NOT_OPEN = 6
    IO = 7
    TIMEOUT = 8
    ILLEGAL_ARGS = 9
    NO_TAPE_LOADED = 10
    WRITE_PROTECT = 11
    EOF = 12
    EOM = 13
    FILE_NOT_FOUND = 14
    BAD_FILE = 15
    NO_DEVICE = 16
    NO_BUS = 17
    XDR_DECODE = 18
    ILLEGAL_STATE = 19
    UNDEFINED = 20
    XDR_ENCODE = 21
    NO_MEM = 22
    CONNECT = 23
    SEQUENCE_NUM = 24
    READ_IN_PROGRESS = 25
    PRECONDITION = 26
    CLASS_NOT_SUPPORTED = 27
    VERSION_NOT_SUPPORTED = 28
    EXT_DUPL_CLASSES = 29
    EXT_DANDN_ILLEGAL = 30


class MessageType(IntEnum):
    """ndmp_header_message_type (draft, 2.7)."""

    REQUEST = 0
    REPLY = 1


class AuthType(IntEnum):
    """ndmp_auth_type (draft, 3.1.2)."""

    NONE = 0
    TEXT = 1
    MD5 = 2


class AddressType(IntEnum):
    """ndmp_addr_type (draft, 2.12); 2 was FC in version 3 and is reserved."""

    LOCAL = 0
    TCP = 1
    RESERVED = 2
    IPC = 3
    TCP_IPV6 = 0x20510004  # of extension class 0x2051


class ConnectionReason(IntEnum):
    """ndmp_connection_status_reason (draft, 4.1.2)."""

    CONNECTED = 0
    SHUTDOWN = 1
    REFUSED = 2


class DataOperation(IntEnum):
    """ndmp_data_operation (draft, 3.5.1.1)."""

    NOACTION = 0
    BACKUP = 1
    RECOVER = 2
    RECOVER_FILEHIST = 3


class DataState(IntEnum):
    """ndmp_data_state (draft, 2.11.5)."""

    IDLE = 0
    ACTIVE = 1
    HALTED = 2
    LISTEN = 3
    CONNECTED = 4


class DataHaltReason(IntEnum):
    """ndmp_data_halt_reason (draft, 3.5.1.1)."""

    NA = 0
    SUCCESSFUL = 1
    ABORTED = 2
    INTERNAL_ERROR = 3
    CONNECT_ERROR = 4


class MoverState(IntEnum):
    """ndmp_mover_state (draft, 2.11.6)."""

    IDLE = 0
    LISTEN = 1
    ACTIVE = 2
    PAUSED = 3
    HALTED = 4


class MoverMode(IntEnum):
    """ndmp_mover_mode: READ reads the data connection (a backup), WRITE writes it (a restore)."""

    READ = 0
    WRITE = 1
    NOACTION = 2


class MoverPauseReason(IntEnum):
    """ndmp_mover_pause_reason (draft, 3.6.1.1)."""

    NA = 0
    EOM = 1
    EOF = 2
    SEEK = 3
    MEDIA_ERROR = 4  # version 3 only; in version 4 the mover halts
    EOW = 5


class MoverHaltReason(IntEnum):
    """ndmp_mover_halt_reason (draft, 3.6.1.1)."""

    NA = 0
    CONNECT_CLOSED = 1
    ABORTED = 2
    INTERNAL_ERROR = 3
    CONNECT_ERROR = 4
    MEDIA_ERROR = 5


class TapeOpenMode(IntEnum):
    """ndmp_tape_open_mode (draft, 3.4.2)."""

    READ = 0
    RDWR = 1
    RAW = 2


class MtioOp(IntEnum):
    """ndmp_tape_mtio_op (draft, 3.4.5)."""

    FSF = 0
    BSF = 1
    FSR = 2
    BSR = 3
    REW = 4
    EOF = 5
    OFF = 6
    TUR = 7


class TapeFlag(IntFlag):
    """Flags of TAPE_GET_STATE (draft, 3.4.4)."""

    NOREWIND = 0x08
    WR_PROT = 0x10
    ERROR = 0x20
    UNLOAD = 0x40


class TapeUnsupported(IntFlag):
    """Fields of TAPE_GET_STATE that a server does not know (draft, 3.4.4)."""

    FILE_NUM = 0x01
    SOFT_ERRORS = 0x02
    BLOCK_SIZE = 0x04
    BLOCKNO = 0x08
    TOTAL_SPACE = 0x10
    SPACE_REMAIN = 0x20


class DataUnsupported(IntFlag):
    """Fields of DATA_GET_STATE that a server does not know (draft, 3.5.1.1)."""

    EST_BYTES_REMAIN = 1
    EST_TIME_REMAIN = 2


class CdbFlag(IntFlag):
    """Direction of SCSI_EXECUTE_CDB (draft, 3.3.5)."""

    DATA_IN = 1
    DATA_OUT = 2


class LogType(IntEnum):
    """ndmp_log_type (draft, 4.2.1)."""

    NORMAL = 0
    DEBUG = 1
    ERROR = 2
    WARNING = 3


class RecoveryStatus(IntEnum):
    """ndmp_recovery_status (draft, 4.2.2)."""

    SUCCESSFUL = 0
    FAILED_PERMISSION = 1
    FAILED_NOT_FOUND = 2
    FAILED_NO_DIRECTORY = 3
    FAILED_OUT_OF_MEMORY = 4
    FAILED_IO_ERROR = 5
    FAILED_UNDEFINED_ERROR = 6
    FAILED_FILE_PATH_EXISTS = 7


class FsType(IntEnum):
    """ndmp_fs_type (draft, 4.3)."""

    UNIX = 0
    NT = 1
    OTHER = 2


class FileType(IntEnum):
    """ndmp_file_type (draft, 4.3)."""

    DIR = 0
    FIFO = 1
    CSPEC = 2
    BSPEC = 3
    REG = 4
    SLINK = 5
    SOCK = 6
    REGISTRY = 7
    OTHER = 8


class FileStatUnsupported(IntFlag):
    """Fields of a file's status that a server does not know (draft, 4.3)."""

    ATIME = 1
    CTIME = 2
    GROUP = 4


class FsInfoUnsupported(IntFlag):
    """Fields of CONFIG_GET_FS_INFO that a server does not know (draft, 3.2.6)."""

    TOTAL_SIZE = 1
    USED_SIZE = 2
    AVAIL_SIZE = 4
    TOTAL_INODES = 8
    USED_INODES = 0x10


class ButypeAttr(IntFlag):
    """Attributes of a backup type (draft, 3.2.5)."""

    BACKUP_FILELIST = 0x2
    RECOVER_FILELIST = 0x4
    BACKUP_DIRECT = 0x8
    RECOVER_DIRECT = 0x10
    BACKUP_INCREMENTAL = 0x20
    RECOVER_INCREMENTAL = 0x40
    BACKUP_UTF8 = 0x80
    RECOVER_UTF8 = 0x100
    BACKUP_FH_FILE = 0x200
    BACKUP_FH_DIR = 0x400
    RECOVER_FILEHIST = 0x800
    RECOVER_FH_FILE = 0x1000
    RECOVER_FH_DIR = 0x2000
