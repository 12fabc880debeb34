"""Choosing how an encoder is given its batches: the fastest way whose results are those of the plainest."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from carpool.models.encoder_files import EncoderFiles
from carpool.models.encoder_ways import PackedWay, PaddedWay, Way
from carpool.models.prepack import prepack

_LOG = logging.getLogger(__name__)

Payload: TypeAlias = NDArray[np.int64]

_SHORT = (3, 7, 7, 12, 30)
_LONG = 96
_MOST_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class _Rounding:
    """What two ways of one type may differ by: roundings, and no more.

    Args:
        least_cosine: of two vectors.
        most_apart: of two elements, relative to the largest.
    """

    least_cosine: float
    most_apart: float


_ALLOWED = {
    torch.float32: _Rounding(0.99999, 1e-3),
    torch.float16: _Rounding(0.9999, 2e-2),
    torch.bfloat16: _Rounding(0.999, 1e-1),
}


def prepare_encoder(load: Callable[[], Any], files: EncoderFiles, texts: Callable[[int], Payload]) -> Way:
    """Load an encoder, and choose the fastest way to run it that gives what the plainest gives.

    Args:
        load: gives an encoder of transformers, in evaluation mode, anew each time.
        files: what its directory says.
        texts: gives the token ids of a text of so many tokens, to try it with.
    """
    encoder = load()
    payloads = [texts(length) for length in _lengths_to_try(files, encoder.config)]
    expected = vectors_of(PaddedWay(encoder, files), payloads)

    def problem(make: Callable[[], Way]) -> str:
        """Say what is wrong with a way: whatever it raises, or how its vectors differ; nothing where it is right."""
        try:
            return _difference(vectors_of(make(), payloads), expected, _ALLOWED[encoder.dtype])
        except Exception as error:  # noqa: BLE001 - whatever an architecture says to what it does not know
            return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

    name = type(encoder).__name__
    if encoder.device.type == "cpu" and prepack(encoder):
        wrong = problem(lambda: PaddedWay(encoder, files))
        if wrong:
            _LOG.warning("%s runs on plain weights, since prepacked ones fail: %s", name, wrong)
            encoder = load()
    plain = encoder.config._attn_implementation  # noqa: SLF001 - the library's own name for what it chose
    wrong = problem(lambda: PackedWay(encoder, files))
    if not wrong:
        return PackedWay(encoder, files)
    if encoder.config._attn_implementation != plain:  # noqa: SLF001
        encoder.set_attn_implementation(plain)
    _LOG.warning("%s pads its texts, since packing them fails: %s", name, wrong)
    return PaddedWay(encoder, files)


def _lengths_to_try(files: EncoderFiles, config: Any) -> list[int]:
    """Lengths that show what a mistake would do: short ones, equal ones, and one beyond a window of attention."""
    window = getattr(config, "sliding_window", None) or 0
    longest = min(max(_LONG, 2 * window), _MOST_TOKENS)
    return [min(length, files.max_length) for length in (*_SHORT, longest)]


@torch.inference_mode()
def vectors_of(way: Way, payloads: Sequence[Payload]) -> torch.Tensor:
    """The vectors of a batch, on the host.

    Args:
        way: how the encoder is given it.
        payloads: token ids of each text.
    """
    return way.compute(way.prepare(payloads).to(way.device)).cpu()


def _difference(found: torch.Tensor, expected: torch.Tensor, allowed: _Rounding) -> str:
    """Say how two sets of vectors (B, D) differ by more than rounding; nothing where they don't."""
    if not bool(torch.isfinite(found).all()):
        return "its vectors are not finite"
    cosine = float(torch.nn.functional.cosine_similarity(found, expected).min())
    apart = float((found - expected).abs().max() / expected.abs().max())
    if cosine >= allowed.least_cosine and apart <= allowed.most_apart:
        return ""
    limits = f"at least {allowed.least_cosine} and at most {allowed.most_apart} were allowed"
    return f"its vectors have a cosine of {cosine:.5f} to padded ones, and elements {apart:.2g} apart; {limits}"
