"""Make a model fast, and see that it still says the same: else it is loaded anew, and stays as transformers made it."""

import logging
from collections.abc import Callable
from typing import Any

import torch

from carpool.errors import ConfigError
from carpool.llm.fast_modules import make_fast
from carpool.llm.model_check import sample_tokens

_LOG = logging.getLogger(__name__)

_NUM_TRIED = 8
# How far a token's logits may lie from the plain model's, relative to their length; half of the tokens may be worse.
_ALLOWED = {torch.float64: 1e-6, torch.float32: 1e-3}
_ALLOWED_ELSE, _ALLOWED_INT8 = 0.1, 0.5


def made_fast(load: Callable[[], Any], *, weights: str) -> tuple[Any, tuple[str, ...]]:
    """Load a model and make it fast.

    Args:
        load: gives the model, in evaluation mode, anew each time.
        weights: ``"as_is"``, or ``"int8"`` to round those of linear layers.

    Returns:
        The model, and what was done, a sentence each.

    Raises:
        ConfigError: it can't be run with 8-bit weights.
    """
    model = load()
    expected = _logits(model)
    notes = make_fast(model, weights=weights)
    wrong = _problem(model, expected, weights)
    if not wrong:
        return model, notes
    name = type(model).__name__
    if weights == "int8":
        raise ConfigError(f"{name} can't be run with 8-bit weights: {wrong}; leave the weights as they are")
    _LOG.warning("%s runs on transformers' own modules, since faster ones fail: %s", name, wrong)
    del model  # or both would be there at once
    return load(), (f"transformers' own modules, since faster ones fail: {wrong}",)


def _problem(model: Any, expected: torch.Tensor, weights: str) -> str:
    """What is wrong with a model: whatever it raises, or how its logits differ; nothing where it is right."""
    try:
        found = _logits(model)
    except Exception as error:  # noqa: BLE001 - whatever an architecture says to modules that are not its own
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    apart = (found - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    difference = float(apart.median())
    allowed = _ALLOWED_INT8 if weights == "int8" else _ALLOWED.get(model.dtype, _ALLOWED_ELSE)
    return "" if difference <= allowed else f"its logits lie {difference:.2g} apart (relative), {allowed:g} is allowed"


@torch.inference_mode()
def _logits(model: Any) -> torch.Tensor:
    """What a model says of a few tokens, (T, V) in float64."""
    tokens = sample_tokens(_NUM_TRIED, int(model.config.get_text_config().vocab_size)).to(model.device)
    logits: torch.Tensor = model(input_ids=tokens[None], use_cache=False).logits[0]
    return logits.double()
