"""What each hyper-parameter becomes when the effective batch is `factor` times what it was: numbers, and who says so.

With the batch, the noise of a gradient falls as 1/sqrt(factor), and a pass over the data has 1/factor as many steps.
A rule sets the hyper-parameters such that training, seen by the items that it has gone through, stays what it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

BetaForm = Literal["linear", "power"]
"""How a decay follows the batch: `1 - factor (1 - beta)`, or `beta ** factor`; the same where `beta` is near 1."""

BERGSMA = "Bergsma et al. 2025, arXiv:2505.13738"
BUSBRIDGE = "Busbridge et al. 2023, arXiv:2307.13813"
GOYAL = "Goyal et al. 2017, arXiv:1706.02677"
HOFFER = "Hoffer et al. 2017, arXiv:1705.08741"
MALLADI = "Malladi et al. 2022, arXiv:2205.10287"
MAREK = "Marek et al. 2025, arXiv:2507.07101"
YOU = "You et al. 2019, arXiv:1901.08256; You et al. 2020, arXiv:1904.00962"

_LEAST_FACTOR, _MOST_FACTOR = 1e-9, 1e9
_ROUNDING = 1e-9  # 10 x (1 - 0.9) is 1, and comes out a little below

EPOCHS_OF_WARM_UP = 5
"""Passes over the data in which the linear rule goes from the old learning rate to the new one (Goyal et al. 2017)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How the learning rate follows the effective batch.

    Args:
        name: that users give.
        power: the learning rate is multiplied by `factor ** power`.
        moves_moments: whether Adam's and RMSprop's decays and eps follow the batch.
        keeps_time_scale: whether a decoupled weight decay follows the batch.
        why: what stays as it is by it.
        source: the paper.
        holds_for: the range in which it was derived or tried.
    """

    name: str
    power: float
    moves_moments: bool = False
    keeps_time_scale: bool = True
    why: str
    source: str
    holds_for: str

    def rate(self, rate: float, factor: float) -> float:
        """The learning rate for the new batch.

        Args:
            rate: for the old one.
            factor: new batch over old batch.

        >>> round(RULES["linear"].rate(0.1, 32), 6), RULES["square_root"].rate(0.001, 4)
        (3.2, 0.002)
        """
        return rate * math.pow(factor, self.power)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule(
                name="linear",
                power=1.0,
                why="so that as many items move the weights as far as before",
                source=GOYAL,
                holds_for="SGD whose batch stays well below the noise scale, after a warm-up; tried up to 8,192 on "
                "ImageNet",
            ),
            Rule(
                name="square_root",
                power=0.5,
                moves_moments=True,
                why="so that drift and noise over as many items stay as they were",
                source=MALLADI,
                holds_for="Adam and RMSprop whose batch stays well below the noise scale",
            ),
            Rule(
                name="legw",
                power=0.5,
                why="so that the variance of a step stays as it was",
                source=YOU,
                holds_for="LARS and LAMB, whose steps follow the size of the weights, with the warm-up below; "
                "tried to 32,768 on ImageNet and for BERT",
            ),
            Rule(
                name="weight_decay",
                power=0.0,
                why="which this rule leaves alone",
                source=BERGSMA,
                holds_for="AdamW on as much data as before",
            ),
            Rule(
                name="none",
                power=0.0,
                keeps_time_scale=False,
                why="which this rule leaves alone",
                source="nobody: what was tuned for another batch is kept",
                holds_for="a change of the batch by a few per cent",
            ),
        )
    }
)
"""The rules by their names. `auto` chooses among them by the optimiser."""

SQUARE_ROOT_OF_SGD = Rule(
    name="square_root",
    power=0.5,
    why="so that the variance of a step stays as it was",
    source=HOFFER,
    holds_for="SGD with as many steps as before, which are more passes over the data; tried to 4,096 on CIFAR-10",
)
"""What `square_root` means to an optimiser that does not divide by the size of its gradients."""


def check_factor(factor: object) -> float:
    """Refuse what is no ratio of two batch sizes.

    Args:
        factor: new batch over old batch.

    Raises:
        ConfigError: it is no number, or so small or large that no two batches make it.
    """
    if isinstance(factor, bool) or not isinstance(factor, Real) or not _LEAST_FACTOR <= float(factor) <= _MOST_FACTOR:
        raise ConfigError(
            f"factor is {factor!r}; it must be a number from {_LEAST_FACTOR:g} to {_MOST_FACTOR:g}, the new "
            "effective batch over the old one: 4 to go from 256 to 1,024"
        )
    return float(factor)


def adam_beta(beta: float, factor: float, *, form: BetaForm = "linear") -> float:
    """A decay of Adam's or RMSprop's averages that spans as many items as before.

    Args:
        beta: the decay of a step, from 0 to below 1; 0 averages nothing, and stays.
        factor: new batch over old batch.
        form: `linear` is `1 - factor (1 - beta)`, from the stochastic differential equation; `power` is
            `beta ** factor`, which is as long in items for any factor.

    Raises:
        ConfigError: the decay is no share, or `linear` would bring it to 0 or below.

    Source:
        Malladi et al. 2022, arXiv:2205.10287 (linear); Marek et al. 2025, arXiv:2507.07101 (power, a constant half-life
        in tokens).

    >>> round(adam_beta(0.999, 4), 6), round(adam_beta(0.9, 16, form="power"), 6)
    (0.996, 0.185302)
    """
    _check_decay("beta", beta)
    if beta == 0 or form == "power":
        return math.pow(beta, factor)
    if factor * (1 - beta) >= 1 - _ROUNDING:
        raise ConfigError(
            f"{factor:g} times the batch uses up the decay {beta:g}: {factor:g} x (1 - {beta:g}) must be below 1, so "
            f"the factor below {1 / (1 - beta):.4g}; use beta_form='power', which goes on beyond, or a smaller factor"
        )
    return 1 - factor * (1 - beta)


def adam_eps(eps: float, factor: float) -> float:
    """What Adam adds to the root of its second average, which is 1/sqrt(factor) as large where noise dominates.

    Args:
        eps: for the old batch.
        factor: new batch over old batch.

    Source:
        Malladi et al. 2022, arXiv:2205.10287.

    >>> adam_eps(1e-8, 4)
    5e-09
    """
    return eps / math.sqrt(factor)


def ema_decay(decay: float, factor: float) -> float:
    """A decay of an average of the weights that spans as many items as before.

    Args:
        decay: of a step, from 0 to below 1.
        factor: new batch over old batch.

    Raises:
        ConfigError: the decay is no share.

    Source:
        Busbridge et al. 2023, arXiv:2307.13813.

    >>> round(ema_decay(0.9999, 8), 8)
    0.99920028
    """
    _check_decay("the average's decay", decay)
    return math.pow(decay, factor)


def adamw_time_scale(rate: float, weight_decay: float, *, batch_size: int, num_items: int) -> float:
    """The share of training over which AdamW averages its updates: B / (rate x weight decay x D).

    Args:
        rate: learning rate, above 0.
        weight_decay: decoupled, above 0.
        batch_size: the effective batch, in items (tokens, of a language model).
        num_items: of the whole training, in the same unit.

    Source:
        Bergsma et al. 2025, arXiv:2505.13738, after Wang and Aitchison 2024, arXiv:2405.13698.

    >>> adamw_time_scale(0.002, 0.1, batch_size=500_000, num_items=10_000_000_000)
    0.25
    """
    return batch_size / (rate * weight_decay * num_items)


def decoupled_weight_decay(weight_decay: float, *, factor: float, rate_before: float, rate_after: float) -> float:
    """AdamW's weight decay, such that its time scale B / (rate x weight decay x D) stays, D being as before.

    Args:
        weight_decay: for the old batch.
        factor: new batch over old batch.
        rate_before: learning rate for the old batch.
        rate_after: learning rate for the new batch.

    Raises:
        ConfigError: a step would take away all of a weight, or more.

    Source:
        Bergsma et al. 2025, arXiv:2505.13738.

    >>> decoupled_weight_decay(0.1, factor=4, rate_before=1e-3, rate_after=2e-3)
    0.2
    """
    share = factor * rate_before * weight_decay
    if share >= 1:
        raise ConfigError(
            f"{factor:g} times the batch makes a step take {share:.3g} of each weight, as {factor:g} x learning rate "
            f"{rate_before:g} x weight decay {weight_decay:g}; it must be below 1: use a smaller factor or weight decay"
        )
    return weight_decay * factor * (rate_before / rate_after) if rate_after else weight_decay


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value!r}; it must be at least 0 and below 1")
