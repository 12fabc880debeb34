"""Calls for what is not to be had here: shared memory, and settings of traces and logs.

They are answered so that clients which look at them go on: there is nothing to be seen and nothing to be undone; to set
something up is refused with what to do instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from carpool.serve.faults import Fault, bad_request
from carpool.serve.grpc import messages as m

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.serve.grpc.catalogue import Method
    from carpool.serve.grpc.rpc import Caller

_NOT_IMPLEMENTED = 501


def methods() -> Mapping[str, Method]:
    """Return for each call what it takes, what answers it, and who calls it."""
    return {
        "SystemSharedMemoryStatus": (m.SystemSharedMemoryStatusRequest, _no_system_regions, "clients"),
        "SystemSharedMemoryRegister": (m.SystemSharedMemoryRegisterRequest, _register, "clients"),
        "SystemSharedMemoryUnregister": (m.SystemSharedMemoryUnregisterRequest, _unregister_system, "clients"),
        "CudaSharedMemoryStatus": (m.CudaSharedMemoryStatusRequest, _no_cuda_regions, "clients"),
        "CudaSharedMemoryRegister": (m.CudaSharedMemoryRegisterRequest, _register, "clients"),
        "CudaSharedMemoryUnregister": (m.CudaSharedMemoryUnregisterRequest, _unregister_cuda, "clients"),
        "TraceSetting": (m.TraceSettingRequest, _trace_setting, "clients"),
        "LogSettings": (m.LogSettingsRequest, _log_settings, "clients"),
    }


async def _no_system_regions(_request: Any, _caller: Caller) -> m.SystemSharedMemoryStatusResponse:
    return m.SystemSharedMemoryStatusResponse()


async def _no_cuda_regions(_request: Any, _caller: Caller) -> m.CudaSharedMemoryStatusResponse:
    return m.CudaSharedMemoryStatusResponse()


async def _register(request: Any, _caller: Caller) -> NoReturn:
    what = f"the shared memory region {request.name[:60]!r} can't be registered"
    raise Fault(_NOT_IMPLEMENTED, f"{what}: this server opens no shared memory; send tensors in the message")


async def _unregister_system(_request: Any, _caller: Caller) -> m.SystemSharedMemoryUnregisterResponse:
    return m.SystemSharedMemoryUnregisterResponse()


async def _unregister_cuda(_request: Any, _caller: Caller) -> m.CudaSharedMemoryUnregisterResponse:
    return m.CudaSharedMemoryUnregisterResponse()


async def _trace_setting(request: m.TraceSettingRequest, _caller: Caller) -> m.TraceSettingResponse:
    _check_unset("traces", request.settings)
    return m.TraceSettingResponse()


async def _log_settings(request: m.LogSettingsRequest, _caller: Caller) -> m.LogSettingsResponse:
    _check_unset("logs", request.settings)
    return m.LogSettingsResponse()


def _check_unset(what: str, settings: Mapping[str, object]) -> None:
    if settings:
        raise bad_request(f"settings of {what} can't be changed over the network: start the server with others")
