"""Load a causal language model: `demo:smollm2`, a Hugging Face directory, or a `.gguf` file."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carpool.core.limits import check_whole
from carpool.errors import ConfigError, TargetError
from carpool.llm.loaded import LoadedLM, TextFiles
from carpool.models import demo
from carpool.models.generator import DEMO

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import torch

    Load: TypeAlias = Callable[[], Any]

__all__ = ["LoadedLM", "Weights", "load_lm"]

Weights = Literal["as_is", "int8"]

FORMS = f"a Hugging Face directory of a causal language model, a .gguf file, or {DEMO}"
_DTYPES = ("auto", "float32", "fp32", "bfloat16", "bf16", "float16", "fp16", "float64")
_TOLD_DTYPES = "auto, float32, bfloat16, float16 or float64"
_NO_LIMIT = 10**9


def load_lm(
    target: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    weights: Weights = "as_is",
    num_threads: int | None = None,
    fast: bool = True,
) -> LoadedLM:
    """Load a causal language model from local files; nothing is downloaded.

    Args:
        target: a Hugging Face directory, a `.gguf` file, or `demo:smollm2`.
        device: such as ``"cpu"`` or ``"cuda:0"``; None takes the accelerator where there is one.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"float64"``; None is auto: bfloat16 where
            the device multiplies it in hardware, else float32.
        weights: ``"int8"`` rounds those of the linear layers to 8 bits, a scale for each output channel.
        num_threads: threads of one operation on the CPU, on the calling thread; None leaves PyTorch's choice.
        fast: whether layers give way to faster ones that compute the same within rounding; False leaves transformers'
            own modules, but for those with 8-bit weights.

    Raises:
        TargetError: it names no causal language model that can be loaded; the message says why, and what to do.
        ConfigError: an option has a value that is not known or can't be had here.
    """
    path = check_loadable(target, dtype=dtype, weights=weights, num_threads=num_threads)
    _need(target, *(("gguf",) if path.suffix == ".gguf" else ()))
    import torch

    from carpool.models.torch_device import resolve_device

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    where = resolve_device(device)
    kind = _dtype(dtype, where)
    load, text = (_gguf if path.suffix == ".gguf" else _directory)(path, where, kind)
    model, notes = (load(), ()) if not fast and weights == "as_is" else _made_fast(load, weights)
    return _described(model, text, path, name="SmolLM2-135M-Instruct" if target == DEMO else None, notes=notes)


def _made_fast(load: "Load", weights: Weights) -> tuple[Any, tuple[str, ...]]:
    from carpool.llm.made_fast import made_fast

    return made_fast(load, weights=weights)


def check_loadable(target: str, *, dtype: str | None, weights: str, num_threads: int | None) -> Path:
    """See, without loading anything, that a target is there and that options have values that are known.

    Args:
        target: as for `load_lm`, as all others.
        dtype: its name.
        weights: how they are kept.
        num_threads: threads of one operation.

    Returns:
        Where the target lies.

    Raises:
        TargetError: there is no such target, or it can't be a causal language model.
        ConfigError: an option has a value that is not known.
    """
    if dtype is not None and dtype not in _DTYPES:
        raise ConfigError(f"dtype {dtype!r} is not known; write {_TOLD_DTYPES}")
    if weights not in ("as_is", "int8"):
        raise ConfigError(f"weights {weights!r} is not known; write as_is or int8")
    if num_threads is not None:
        check_whole("num_threads", num_threads)
    return demo.smollm2_gguf() if target == DEMO else _path(str(target))


def _path(target: str) -> Path:
    if target.startswith("demo:"):
        raise TargetError(f"{target} is no causal language model, or not known: give {FORMS}")
    path = Path(target)
    if not target or not path.exists():
        raise TargetError(
            f"{target!r} is not here: no such file or directory in {Path.cwd()}. Give {FORMS}{_hub(target)}"
        )
    if path.is_file() and path.suffix != ".gguf":
        raise TargetError(f"{target} is a file ending in {path.suffix!r}; a causal language model is {FORMS}")
    if path.is_dir() and path.suffix == ".gguf":
        raise TargetError(f"{target} is a directory; give the .gguf file in it")
    return path


def _hub(target: str) -> str:
    looks_like_one = target.count("/") == 1 and not target.startswith((".", "/"))
    return "; if it names a model on a hub: nothing is downloaded, so give the directory that holds it" * looks_like_one


def _need(target: str, *packages: str) -> None:
    wanted = ("torch", "transformers", "tokenizers", *packages)
    missing = [package for package in wanted if importlib.util.find_spec(package) is None]
    if missing:
        raise TargetError(f"{target} needs {', '.join(missing)}: run `pip install 'carpool[llm]'`")


def _dtype(name: str | None, device: "torch.device") -> "torch.dtype":
    import torch

    from carpool.models.torch_device import resolve_dtype

    return torch.float64 if name == "float64" else resolve_dtype(name, device)


def _directory(path: Path, device: "torch.device", dtype: "torch.dtype") -> tuple["Load", TextFiles]:
    from carpool.llm.hf_directory import load_directory, read_config
    from carpool.llm.text_files import read_text_files

    return partial(load_directory, path, device, dtype), read_text_files(path, read_config(path))


def _gguf(path: Path, device: "torch.device", dtype: "torch.dtype") -> tuple["Load", TextFiles]:
    from carpool.llm.gguf_file import read_gguf
    from carpool.llm.gguf_unpacking import Unpacking

    file = read_gguf(path)
    unpacking = Unpacking(file, dtype)
    try:  # what is imported here takes seconds, in which threads unpack
        from carpool.llm.gguf_config import gguf_config
        from carpool.llm.gguf_tokenizer import gguf_text_files
        from carpool.llm.gguf_weights import load_gguf_model

        load = partial(load_gguf_model, file, gguf_config(file), device, dtype, [unpacking])
        return load, gguf_text_files(file)
    except BaseException:
        unpacking.cancel()
        raise


def _described(model: Any, text: TextFiles, path: Path, *, name: str | None, notes: tuple[str, ...]) -> LoadedLM:
    config = model.config.get_text_config()
    vocabulary = int(config.vocab_size)
    most = max(text.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if most >= vocabulary:
        raise TargetError(
            f"{path}: its tokenizer has the token {most}, but the model only {vocabulary} tokens; "
            "they don't belong together"
        )
    return LoadedLM(
        model=model,
        tokenizer=text.tokenizer,
        chat_template=text.chat_template,
        special_tokens=text.special_tokens,
        eos_ids=text.eos_ids,
        bos_id=text.bos_id,
        max_length=_max_length(config, path),
        vocabulary_size=vocabulary,
        name=name or (path.resolve().name if path.is_dir() else path.stem),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        weights_bytes=weights_bytes(model),
        notes=notes,
    )


def _max_length(config: Any, path: Path) -> int:
    length = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    if not isinstance(length, int) or not 0 < length < _NO_LIMIT:
        raise TargetError(f"{path} does not say how long a text may be, by a positive max_position_embeddings")
    return length


def weights_bytes(model: Any) -> int:
    """Memory of a model's weights, each counted once.

    Args:
        model: an `nn.Module`.
    """
    from itertools import chain

    tensors = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    packed = sum(int(getattr(module, "packed_bytes", 0)) for module in model.modules())
    return packed + sum(int(tensor.numel() * tensor.element_size()) for tensor in tensors.values())
