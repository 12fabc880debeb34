"""Whether a setup can be planned for: its loader gives, its loss is a sum that can be differentiated.

A mean cannot be told from a sum by one number: a micro-batch is put beside itself, and the loss of both must be twice
as large. So it is with any loss that is a sum over items; a mean stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch

from carpool.core.limits import check_whole
from carpool.errors import CarpoolError, ConfigError, ModelError, OutOfMemory
from carpool.models.blame import describe
from carpool.train.autosize.ran_out import ran_out_of_memory
from carpool.train.optimizer_step import OptimizerStep
from carpool.train.setup import TrainSetup, count_items
from carpool.units import counted, format_count, with_article

if TYPE_CHECKING:
    from collections.abc import Iterator

NUM_ITEMS = 4
_SUM, _WITHIN = 2.0, 0.02


def check_setup(setup: TrainSetup) -> tuple[str, ...]:
    """Try a setup on one small micro-batch.

    Args:
        setup: to try; its model is as it was afterwards.

    Returns:
        What speaks against figures about it.

    Raises:
        ConfigError: it gives nothing to train on, its loss can't be trained with, or is a mean.
        ModelError: something of it raised.
    """
    _check_parts(setup)
    batch = _first(setup)
    with asking("count"):
        num_valid = setup.num_valid(batch)
    if not _is_count(num_valid):
        raise ConfigError(f"count returned {num_valid!r} for a micro-batch; it must be a whole number from 0")
    if not num_valid:
        raise ConfigError("the loader's first micro-batch has no valid item, by count: correct one of them")
    with _as_evaluated(setup.model):
        loss = _loss(setup, batch)
        _check_loss(loss)
        return tuple(_additive(setup, batch, float(loss.detach())))


def _check_parts(setup: TrainSetup) -> None:
    for name, value, is_one, wanted in (
        ("model", setup.model, isinstance(setup.model, torch.nn.Module), "a torch.nn.Module"),
        ("optimizer", setup.optimizer, isinstance(setup.optimizer, torch.optim.Optimizer), "a torch.optim.Optimizer"),
        ("loss", setup.loss, callable(setup.loss), "a function"),
        ("loader", setup.loader, callable(setup.loader), "a function"),
    ):
        if not is_one:
            raise ConfigError(f"{name} of the setup is {with_article(type(value).__name__)}; it must be {wanted}")
    check_whole("num_items of the setup", setup.num_items)
    if setup.base_batch_size is not None:
        check_whole("base_batch_size of the setup", setup.base_batch_size)
    OptimizerStep(optimizer=setup.optimizer)  # refuses those that take no gradients
    if any(parameter.is_meta for parameter in setup.model.parameters()):
        raise ConfigError(
            "the model has parameters on the device meta, which hold no numbers: make it on a real device"
        )
    trained = {id(parameter) for parameter in setup.model.parameters() if parameter.requires_grad}
    stepped = {id(parameter) for group in setup.optimizer.param_groups for parameter in group["params"]}
    if not trained:
        raise ConfigError(
            f"the {type(setup.model).__name__} has no parameter that is trained: set requires_grad on some of them"
        )
    if not trained & stepped:
        raise ConfigError(
            f"none of the {counted(len(stepped), 'parameter')} of the {type(setup.optimizer).__name__} is one of the "
            "model's that are trained: make the optimiser of model.parameters()"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, SupportsIndex) and not isinstance(value, bool) and value.__index__() >= 0


def _first(setup: TrainSetup) -> Any:
    num_items = min(NUM_ITEMS, setup.num_items)
    with asking(f"loader({num_items})"):
        given = setup.loader(num_items)
        try:
            return next(iter(given))
        except StopIteration:
            raise ConfigError(f"loader({num_items}) gives no micro-batch: there is nothing to train on") from None
        except TypeError:
            if hasattr(given, "__iter__"):
                raise
            raise ConfigError(
                f"loader({num_items}) returned {with_article(type(given).__name__)}, which can't be iterated over: "
                "return what gives micro-batches, such as a DataLoader"
            ) from None


def _loss(setup: TrainSetup, batch: Any) -> torch.Tensor:
    with asking("loss"):
        return setup.loss(setup.model, batch)


def _check_loss(loss: object) -> None:
    if not isinstance(loss, torch.Tensor):
        raise ConfigError(
            f"loss returned {with_article(type(loss).__name__)}, not a tensor: return the sum over the micro-batch's "
            "valid items as a scalar tensor"
        )
    if loss.numel() != 1:
        raise ConfigError(
            f"loss returned a tensor of shape {tuple(loss.shape)}, not a scalar: sum over the micro-batch's valid items"
        )
    if not loss.requires_grad:
        raise ConfigError(
            "loss returned a tensor that can't be differentiated: compute it from the model's outputs, without "
            "torch.no_grad, detach() or item()"
        )
    if not bool(torch.isfinite(loss)):
        raise ConfigError(f"loss is {loss.item()} on the first micro-batch, before any training: it must be finite")


def _additive(setup: TrainSetup, batch: Any, once: float) -> Iterator[str]:
    """Put the micro-batch beside itself; a sum is then twice as large."""
    if not once:
        yield "The loss is 0 on the first micro-batch: whether it is a sum over items could not be tried."
        return
    num_items = count_items(batch) if setup.count is None else _length(batch)
    try:
        doubled = beside_itself(batch, num_items)
        if doubled is None:
            yield "Whether the loss is a sum over items could not be tried: micro-batches are of a kind of their own."
            return
        twice = float(setup.loss(setup.model, doubled).detach())
    except Exception as error:  # noqa: BLE001 - a batch of a kind that we made may not suit it
        yield f"Whether the loss is a sum over items could not be tried: with items twice it raised {describe(error)}."
        return
    ratio = twice / once
    if abs(ratio - 1.0) < _WITHIN:
        raise ConfigError(
            f"loss is the same, {format_count(once)}, when every item is there twice: it is a mean. Return the sum "
            "over a micro-batch's valid items, which is divided by their number in the whole window"
        )
    if abs(ratio - _SUM) > _WITHIN * _SUM:
        yield (
            f"The loss is {ratio:.3g} times as large, not twice, when every item is there twice: items change each "
            "other's losses, and accumulation is then not the effective batch."
        )


def _length(batch: Any) -> int:
    try:
        return count_items(batch)
    except ConfigError:
        return 0


def beside_itself(batch: Any, num_items: int) -> Any:
    """Put a micro-batch beside itself: tensors whose first dimension is its items are doubled.

    Args:
        batch: a tensor, or a tuple, list or mapping of them.
        num_items: of it.

    Returns:
        The same kind of thing; None where there is no such tensor in it.
    """
    return _doubled(batch, num_items) if num_items and _has_items(batch, num_items) else None


def _has_items(part: Any, num_items: int) -> bool:
    if isinstance(part, torch.Tensor):
        return part.ndim > 0 and part.shape[0] == num_items
    parts = part.values() if isinstance(part, Mapping) else part if isinstance(part, tuple | list) else ()
    return any(_has_items(one, num_items) for one in parts)


def _doubled(part: Any, num_items: int) -> Any:
    if isinstance(part, torch.Tensor):
        return torch.cat([part, part]) if _has_items(part, num_items) else part
    if isinstance(part, Mapping):
        return type(part)({key: _doubled(one, num_items) for key, one in part.items()})  # type: ignore[call-arg]
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return type(part)(*(_doubled(one, num_items) for one in part))
    if isinstance(part, tuple | list):
        return type(part)(_doubled(one, num_items) for one in part)
    return part


@contextmanager
def _as_evaluated(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off, and leave each module in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn what a part of the setup raises into a message with its line.

    Args:
        what: was asked, for the message.

    Raises:
        OutOfMemory: there was not enough of it.
        ModelError: it raised something else.
    """
    try:
        yield
    except CarpoolError:
        raise
    except RuntimeError as error:
        if ran_out_of_memory(error):
            raise OutOfMemory(f"{what} of the setup ran out of memory: {describe(error)}") from error
        raise ModelError(f"{what} of the setup raised {describe(error)}") from error
    except (Exception, SystemExit) as error:
        raise ModelError(f"{what} of the setup raised {describe(error)}") from error
