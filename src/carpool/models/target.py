"""TARGET: how a model is named, from a file's function to a directory of weights."""

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError, TargetError
from carpool.models import demo
from carpool.models.function import FunctionModel, refuse_options, require_no_arguments
from carpool.models.generator import DEMO, causal_architecture, generating_architecture
from carpool.models.lookup import closest, files_nearby, names_in_source, object_in_file, object_in_module
from carpool.models.model import Model, Recipe
from carpool.units import with_article

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS = "file.py:name, package.module:name, a Hugging Face directory, a .onnx file, demo:minilm or demo:null"
_MOST_SHOWN = 12


def load_target(
    target: str, *, device: str | None = None, dtype: str | None = None, num_threads: int | None = None
) -> Model:
    """Find the model that a TARGET names; its heavy work waits for `load()`.

    Args:
        target: `file.py:name`, `package.module:name`, a directory, a `.onnx` file, or `demo:name`.
        device: such as ``"cpu"`` or ``"cuda:0"``; None takes the accelerator where there is one.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``; None is auto.
        num_threads: threads of one operation on the CPU; None leaves the library's choice.

    Raises:
        TargetError: it names nothing that can be run; the message says what was looked for and what is there.
        ConfigError: an option has no meaning for it.

    >>> load_target("demo:null").info.kind
    'function'
    """
    if num_threads is not None and num_threads < 1:
        raise ConfigError(f"num_threads is {num_threads}; it must be at least 1")
    options: dict[str, Any] = {"device": device, "dtype": dtype, "num_threads": num_threads}
    model = _load_target(target, options)
    is_independent = model.recipe is None or model.recipe.is_independent
    model.recipe = Recipe(source=target, is_independent=is_independent, **options)
    return model


def _load_target(target: str, options: dict[str, Any]) -> Model:
    if target.startswith("demo:"):
        return _demo(target, options)
    path = Path(target)
    if target and path.exists():  # Path("") is the working directory
        return _from_path(path, target, options)
    if path.suffix == ".onnx":
        raise TargetError(f"{target}: there is no such file; {files_nearby(path)}")
    head, colon, name = target.rpartition(":")
    if not colon or not head or not name:
        raise TargetError(_what_was_meant(target))
    if head.endswith(".py") or "/" in head or "\\" in head:
        found = object_in_file(Path(head), name, target)
    else:
        found = object_in_module(head, name, target)
    return wrap(found, name.rpartition(".")[2], target=target, **options)


def remake(recipe: Recipe, *, device: str | None = None) -> Model:
    """Make another model by the recipe of one.

    Args:
        recipe: how that one was made.
        device: where the new one computes; None leaves what the recipe says.

    Raises:
        CarpoolError: as `load_target`.
    """
    return wrap(
        recipe.source,
        recipe.name,
        target=recipe.target,
        device=device or recipe.device,
        dtype=recipe.dtype,
        num_threads=recipe.num_threads,
    )


def wrap(
    obj: Any,
    name: str | None = None,
    *,
    target: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    num_threads: int | None = None,
) -> Model:
    """Make a `Model` of a live object: a function over a list, an instance or class with `__call__`, an `nn.Module`.

    Args:
        obj: the object; a `Model` is returned as it is, and a string is a TARGET.
        name: a short name; None takes the object's own.
        target: how to name it in messages; None takes its name.
        device: for an `nn.Module`; None leaves an instance where it is.
        dtype: for an `nn.Module`; None leaves it as it is.
        num_threads: threads of one operation on the CPU; None leaves the library's choice.

    Raises:
        TargetError: it can't be called with a list of items; the message says why.
        ConfigError: an option has no meaning for it.

    >>> model = wrap(lambda numbers: [n + 1 for n in numbers])
    >>> model.load()
    >>> model.run([1, 2])
    [2, 3]
    """
    if isinstance(obj, Model):
        _refuse_late_options(obj, device=device, dtype=dtype, num_threads=num_threads)
        return obj
    if isinstance(obj, str | Path):
        return load_target(str(obj), device=device, dtype=dtype, num_threads=num_threads)
    name = name or _own_name(obj)
    options: dict[str, Any] = {"device": device, "dtype": dtype, "num_threads": num_threads}
    model = _wrap(obj, name, target or name, options)
    model.recipe = Recipe(source=obj, name=name, target=target, is_independent=isinstance(obj, type), **options)
    return model


def _wrap(obj: Any, name: str, target: str, options: dict[str, Any]) -> Model:
    if isinstance(obj, type) and issubclass(obj, Model):
        require_no_arguments(obj, target)
        return obj()
    if _is_module(obj):  # then PyTorch is there
        from carpool.models.torch_model import TorchModel

        return TorchModel(obj, name=name, target=target, **options)
    if not callable(obj):
        raise TargetError(
            f"{target} is {with_article(type(obj).__name__)}, which can't be called; "
            "name a function, a class or an nn.Module"
        )
    refuse_options(target, device=options["device"], dtype=options["dtype"])
    return FunctionModel(obj, name=name, target=target, num_threads=options["num_threads"])


def _refuse_late_options(model: Model, **options: object) -> None:
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{model.info.target} is made already; give {', '.join(given)} where it is made")


def _own_name(obj: Any) -> str:
    name = getattr(obj, "__name__", None)
    return name.strip("<>") if isinstance(name, str) else type(obj).__name__


def _is_module(obj: Any) -> bool:
    """Whether this is an `nn.Module` or a class of them, found without importing PyTorch."""
    made = obj if isinstance(obj, type) else type(obj)
    return any(base.__module__ == "torch.nn.modules.module" and base.__name__ == "Module" for base in made.__mro__)


def _demo(target: str, options: dict[str, Any]) -> Model:
    known: dict[str, Callable[[], Model]] = {
        "null": lambda: _null(target, options),
        "minilm": lambda: _encoder(demo.minilm_directory(), target, options, name="all-MiniLM-L6-v2"),
    }
    name = target.removeprefix("demo:")
    if target == DEMO:
        raise TargetError(_generates(target, "SmolLM2-135M-Instruct"))
    if name not in known:
        close = closest(name, known)
        hint = f" (did you mean demo:{close}?)" if close else ""
        raise TargetError(f"{target}: there is no such demo; there are {', '.join(f'demo:{n}' for n in known)}{hint}")
    return known[name]()


def _null(target: str, options: dict[str, Any]) -> Model:
    refuse_options(target, device=options["device"], dtype=options["dtype"])
    return FunctionModel(demo.NullModel(), name="null", target=target, num_threads=options["num_threads"])


def _encoder(directory: Path, target: str, options: dict[str, Any], name: str | None = None) -> Model:
    _need(target, "torch", "torch", "transformers", "tokenizers")
    from carpool.models.embed import EncoderModel

    return EncoderModel(directory, name=name, target=target, **options)


def _need(target: str, extra: str, *packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise TargetError(f"{target} needs {', '.join(missing)}: run `pip install 'carpool[{extra}]'`")


def _from_path(path: Path, target: str, options: dict[str, Any]) -> Model:
    if path.is_dir():
        _require_encoder(path, target)
        return _encoder(path, target, options)
    if path.suffix == ".onnx":
        _need(target, "onnx", "onnxruntime")
        from carpool.models.onnx_model import OnnxModel

        return OnnxModel(path, target=target, **options)
    if path.suffix == ".gguf":
        raise TargetError(_generates(target, "a GGUF file"))
    if path.suffix == ".py":
        raise TargetError(_name_is_missing(path, target))
    raise TargetError(f"{target}: files ending in {path.suffix!r} can't be loaded; give {FORMS}")


def _name_is_missing(path: Path, target: str) -> str:
    names = names_in_source(path)
    offered = f"it defines {', '.join(names)}" if names else "it defines no function or class"
    example = f"{target}:{names[0] if names else 'name'}"
    return f"{target} is a file; add the name of a function, class or module in it, as in {example}; {offered}"


def _generates(target: str, what: str, *, runs: bool = True) -> str:
    where = (
        f"`carpool serve {target}` serves it and carpool.LLM({target!r}) runs it" if runs else "Carpool runs no such"
    )
    return (
        f"{target} is {what}: a model that generates text token by token; {where}. Here a model is wanted that answers "
        f"an item in one call: give a directory with an encoder (embeddings), or {FORMS}"
    )


def _require_encoder(directory: Path, target: str) -> None:
    """Refuse a directory that holds no model, or one that generates."""
    if (directory / "modules.json").is_file():
        return
    config = directory / "config.json"
    if not config.is_file():
        raise TargetError(f"{target}: a model's directory needs config.json (or modules.json); {_contents(directory)}")
    try:
        said = json.loads(config.read_bytes())
    except ValueError as error:
        raise TargetError(f"{config} is not JSON: {error}") from error
    architectures = said.get("architectures") or [] if isinstance(said, dict) else []
    names = [str(name) for name in architectures]
    generating = generating_architecture(names)
    if generating:
        runs = causal_architecture(names) is not None
        raise TargetError(_generates(target, f"a directory with {generating}", runs=runs))


def _contents(directory: Path) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in directory.iterdir())
    loadable = [f"{directory / name}" for name in entries if name.endswith((".onnx", ".py"))]
    shown = entries[:_MOST_SHOWN] + ["..."] * (len(entries) > _MOST_SHOWN)
    found = f"found {', '.join(shown)}" if entries else "it is empty"
    return found + (f"; did you mean {loadable[0]}?" if loadable else "")


def _what_was_meant(target: str) -> str:
    said = f"{target!r} is not a target that is here: no such file or directory in {Path.cwd()}"
    if target.endswith(".py") or target.startswith((".", "/")):
        return f"{said}; {files_nearby(Path(target))}"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", target):
        return f"{said}. If it names a model on a hub: nothing is downloaded; give the directory that holds it"
    return f"{said}; a target is {FORMS}"
