"""Which device and number type to compute with, by what the machine has."""

import torch

from carpool.errors import ConfigError

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def resolve_device(name: str | None) -> torch.device:
    """The device of that name; the accelerator, else the CPU, where there is none.

    Args:
        name: such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None or ``"auto"`` to choose.

    Raises:
        ConfigError: this machine has no such device; the message names those it has.
    """
    here = torch.accelerator.current_accelerator(check_available=True)
    if name in (None, "auto"):
        return here or torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{name!r} is not a device; write one of {_devices(here)}") from error
    num_devices = torch.accelerator.device_count() if here else 0
    is_here = here is not None and device.type == here.type and (device.index or 0) < num_devices
    if device.type != "cpu" and not is_here:
        raise ConfigError(f"device {name!r} is not on this machine; it has {_devices(here)}")
    return device


def _devices(here: torch.device | None) -> str:
    names = [f"{here.type}:{i}" for i in range(torch.accelerator.device_count())] if here else []
    return ", ".join(["cpu", *names])


def resolve_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The number type of that name, or the fastest that keeps an encoder's results.

    Args:
        name: ``"float32"``, ``"bfloat16"``, ``"float16"`` or their short forms; None or ``"auto"`` to choose.
        device: where it will compute.

    Raises:
        ConfigError: the name is none of those.
    """
    if name in (None, "auto"):
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in _DTYPES:
        raise ConfigError(f"dtype {name!r} is not known; write auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: AMX or AVX512-BF16 on a CPU, most GPUs since 2020.

    Args:
        device: the device.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return device.type == "xpu"
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))
