"""Items to measure with: of each exact length, and in the mix that is natural for the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.models.model import Admitted
from carpool.profile.calls import Pool
from carpool.profile.options import DEFAULT_LENGTHS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.models.model import Model

MIX_SIZE = 512
# Where a model can't make items of any length, lengths are taken from its own examples at these shares of them.
SHARES_OF_EXAMPLES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What a model is measured with.

    Args:
        lengths: Padded lengths that are measured, ascending; `(1,)` where lengths mean nothing.
        pools: Payloads by length.
        mix: Items as they naturally come, admitted; their lengths differ.
        raw: Some of the mix before admission.
        typical_length: The measured length nearest to the mix's mean.
    """

    lengths: tuple[int, ...]
    pools: dict[int, Pool]
    mix: list[Admitted]
    raw: list[Any]
    typical_length: int


def gather(model: Model, lengths: Sequence[int], *, most_items: int, seed: int) -> Items:
    """Make the items for every length.

    Args:
        model: A loaded model.
        lengths: As asked for; none takes the usual ones.
        most_items: Items of the largest batch.
        seed: Another seed gives others.

    Raises:
        ConfigError: The model offers no examples, or none of a length that was asked for.
        InvalidItem: It refuses its own examples.
    """
    raw = model.examples(MIX_SIZE, seed=seed)
    mix = [model.admit(item) for item in raw]
    if not model.has_length:
        if lengths:
            raise ConfigError(
                f"items of {model.info.target} have no length, so {_listed(lengths)} mean nothing: leave --lengths out"
            )
        payloads = [one.payload for one in mix[:most_items]]
        return Items(lengths=(1,), pools={1: Pool(payloads)}, mix=mix, raw=raw, typical_length=1)
    chosen = _padded(model, lengths) if lengths else _usual_lengths(model, mix)
    pools = {length: Pool(of_length(model, length, most_items=most_items, seed=seed)) for length in chosen}
    mean = sum(one.length for one in mix) / len(mix)
    typical = min(chosen, key=lambda length: abs(length - mean))
    return Items(lengths=chosen, pools=pools, mix=mix, raw=raw, typical_length=typical)


def of_length(model: Model, length: int, *, most_items: int, seed: int) -> list[Any]:
    """Return admitted payloads of one exact length.

    Args:
        model: A loaded model.
        length: Tokens of each; 1 where the model knows no lengths.
        most_items: How many; fewer where the model's own examples are fewer.
        seed: Another seed gives others.
    """
    items = model.examples(most_items, length=length if model.has_length else None, seed=seed)
    return [model.admit(item).payload for item in items]


def _padded(model: Model, lengths: Sequence[int]) -> tuple[int, ...]:
    """Round lengths to those that batches are really padded to, and refuse those beyond the model's own."""
    longest = model.info.max_length
    for length in lengths:
        if longest is not None and length > longest:
            raise ConfigError(
                f"length {length} is beyond what {model.info.target} takes, {longest} at most: give shorter --lengths"
            )
    return tuple(sorted({model.padded_length(length) for length in lengths}))


def _usual_lengths(model: Model, mix: Sequence[Admitted]) -> tuple[int, ...]:
    """Return the default lengths, or for a model that can't make items of those, ones that its examples have."""
    longest = model.info.max_length or DEFAULT_LENGTHS[-1]
    usual = tuple(length for length in DEFAULT_LENGTHS if length <= longest)
    try:
        for length in usual:
            model.examples(1, length=length)
    except ConfigError:
        usual = ()
    if usual:
        return _padded(model, usual)
    ordered = sorted(one.length for one in mix)
    counted = Counter(ordered)
    near = {ordered[int(share * (len(ordered) - 1))] for share in SHARES_OF_EXAMPLES}
    return tuple(sorted(length for length in near if counted[length]))


def _listed(lengths: Sequence[int]) -> str:
    return f"--lengths {','.join(map(str, lengths))}"
