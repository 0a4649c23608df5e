"""CONFIG interface (draft-skardal-ndmpv4-04, 3.2)."""

from __future__ import annotations

from appliance.ndmp.declare import reply, request
from appliance.ndmp.enums import AddressType, AuthType, ErrorCode
from appliance.ndmp.types import AuthAttr, Pval
from appliance.ndmp.xdr import U16, U32, U64, Opaque, Struct, struct


@struct
class ButypeInfo(Struct):
    """A backup type; `attrs` are ButypeAttr bits."""

    butype_name: Opaque
    default_env: tuple[Pval, ...] = ()
    attrs: U32 = 0


@struct
class FsInfo(Struct):
    """A file system that can be named in FILESYSTEM; sizes in bytes."""

    unsupported: U32
    fs_type: Opaque
    fs_logical_device: Opaque
    fs_physical_device: Opaque = b""
    total_size: U64 = 0
    used_size: U64 = 0
    avail_size: U64 = 0
    total_inodes: U64 = 0
    used_inodes: U64 = 0
    fs_env: tuple[Pval, ...] = ()
    fs_status: Opaque = b""


@struct
class DeviceCapability(Struct):
    """A device's name for TAPE_OPEN or SCSI_OPEN."""

    device: Opaque
    attr: U32 = 0
    capability: tuple[Pval, ...] = ()


@struct
class DeviceInfo(Struct):
    """A tape drive or changer and its names."""

    model: Opaque
    caplist: tuple[DeviceCapability, ...] = ()


@struct
class ClassList(Struct):
    """An extension class and the versions that are offered."""

    class_id: U16
    class_version: tuple[U16, ...] = ()


@struct
class ClassVersion(Struct):
    """An extension class and the version that is chosen."""

    class_id: U16
    class_version: U16


@request(0x100)
class ConfigGetHostInfoRequest(Struct):
    """Ask who the host is."""


@reply(0x100)
class ConfigGetHostInfoReply(Struct):
    """Answer to ConfigGetHostInfoRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    hostname: Opaque = b""
    os_type: Opaque = b""
    os_vers: Opaque = b""
    hostid: Opaque = b""


@request(0x102)
class ConfigGetConnectionTypeRequest(Struct):
    """Ask which data connections are supported."""


@reply(0x102)
class ConfigGetConnectionTypeReply(Struct):
    """Answer to ConfigGetConnectionTypeRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    addr_types: tuple[AddressType, ...] = ()


@request(0x103)
class ConfigGetAuthAttrRequest(Struct):
    """Ask what an authentication needs."""

    auth_type: AuthType = AuthType.MD5


@reply(0x103)
class ConfigGetAuthAttrReply(Struct):
    """Answer to ConfigGetAuthAttrRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    server_attr: AuthAttr = AuthAttr()


@request(0x104)
class ConfigGetButypeInfoRequest(Struct):
    """Ask for the backup types."""


@reply(0x104)
class ConfigGetButypeInfoReply(Struct):
    """Answer to ConfigGetButypeInfoRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    butype_info: tuple[ButypeInfo, ...] = ()


@request(0x105)
class ConfigGetFsInfoRequest(Struct):
    """Ask for the file systems."""


@reply(0x105)
class ConfigGetFsInfoReply(Struct):
    """Answer to ConfigGetFsInfoRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    fs_info: tuple[FsInfo, ...] = ()


@request(0x106)
class ConfigGetTapeInfoRequest(Struct):
    """Ask for the tape drives."""


@reply(0x106)
class ConfigGetTapeInfoReply(Struct):
    """Answer to ConfigGetTapeInfoRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    tape_info: tuple[DeviceInfo, ...] = ()


@request(0x107)
class ConfigGetScsiInfoRequest(Struct):
    """Ask for the changers."""


@reply(0x107)
class ConfigGetScsiInfoReply(Struct):
    """Answer to ConfigGetScsiInfoRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    scsi_info: tuple[DeviceInfo, ...] = ()


@request(0x108)
class ConfigGetServerInfoRequest(Struct):
    """Ask who made the server."""


@reply(0x108)
class ConfigGetServerInfoReply(Struct):
    """Answer to ConfigGetServerInfoRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    vendor_name: Opaque = b""
    product_name: Opaque = b""
    revision_number: Opaque = b""
    auth_types: tuple[AuthType, ...] = ()


@request(0x109)
class ConfigSetExtListRequest(Struct):
    """Choose extension versions."""

    accepted: tuple[ClassVersion, ...] = ()


@reply(0x109)
class ConfigSetExtListReply(Struct):
    """Answer to ConfigSetExtListRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x10A)
class ConfigGetExtListRequest(Struct):
    """Ask for the extensions."""


@reply(0x10A)
class ConfigGetExtListReply(Struct):
    """Answer to ConfigGetExtListRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    class_list: tuple[ClassList, ...] = ()
