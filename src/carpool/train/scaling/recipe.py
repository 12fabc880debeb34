"""What a rule makes of a parameter group: each new number beside the old one, and why."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, get_args

from carpool.errors import ConfigError
from carpool.train.scaling.change import Change
from carpool.train.scaling.groups import BETAS, has, read
from carpool.train.scaling.rules import (
    BERGSMA,
    BUSBRIDGE,
    MALLADI,
    MAREK,
    BetaForm,
    Rule,
    adam_beta,
    adam_eps,
    decoupled_weight_decay,
    ema_decay,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DECAYS = (*BETAS, "alpha")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A rule, and how far it is taken.

    Args:
        rule: to go by.
        factor: new effective batch over the old one.
        beta_form: what becomes of Adam's decays.

    Raises:
        ConfigError: there is no such form.
    """

    rule: Rule
    factor: float
    beta_form: BetaForm

    def __post_init__(self) -> None:
        if self.beta_form not in get_args(BetaForm):
            raise ConfigError(f"beta_form is {self.beta_form!r}; it must be one of {', '.join(get_args(BetaForm))}")

    def changes(self, group: Mapping[str, Any], index: int, *, decays_apart: bool) -> tuple[Change, ...]:
        """What becomes of a parameter group; numbers that stay are left out.

        Args:
            group: of the optimiser.
            index: of the group.
            decays_apart: whether its weight decay is taken from the weights, not added to the gradient.

        Raises:
            ConfigError: the factor is out of the range of the rule for these numbers.
        """
        made = [self._rate(group, index)]
        if self.rule.moves_moments:
            made += self._moments(group, index)
        if decays_apart and self.rule.keeps_time_scale and has(group, "weight_decay"):
            made.append(self._weight_decay(group, index))
        return tuple(change for change in made if change.before != change.after)

    def _rate(self, group: Mapping[str, Any], index: int) -> Change:
        rate = _peak_rate(group)
        return Change(
            name="lr",
            group=index,
            before=rate,
            after=self.rule.rate(rate, self.factor),
            why=f"times {_power(self.factor, self.rule.power)}, {self.rule.why}",
            source=self.rule.source,
            holds_for=self.rule.holds_for,
        )

    def _moments(self, group: Mapping[str, Any], index: int) -> Iterator[Change]:
        for name in _DECAYS:
            if has(group, name):
                yield self._decay(name, read(group, name), index)
        if has(group, "eps"):
            eps = read(group, "eps")
            yield Change(
                name="eps",
                group=index,
                before=eps,
                after=adam_eps(eps, self.factor),
                why=f"by {_power(self.factor, 0.5)}, as the noise that it stands beside",
                source=MALLADI,
                holds_for=self.rule.holds_for,
            )

    def _decay(self, name: str, decay: float, index: int) -> Change:
        linear = self.beta_form == "linear"
        formula = f"1 - {self.factor:g} x (1 - {name})" if linear else f"{name} to the power of {self.factor:g}"
        return Change(
            name=name,
            group=index,
            before=decay,
            after=adam_beta(decay, self.factor, form=self.beta_form),
            why=f"{formula}, so that it averages over as many items as before",
            source=MALLADI if linear else MAREK,
            holds_for=f"{self.factor:g} x (1 - {name}) well below 1, here {self.factor * (1 - decay):.3g}"
            if linear
            else "any factor, as far as the average goes; tried from a batch of 1 to one of 4,096",
        )

    def _weight_decay(self, group: Mapping[str, Any], index: int) -> Change:
        before, rate = read(group, "weight_decay"), _peak_rate(group)
        after = decoupled_weight_decay(
            before, factor=self.factor, rate_before=rate, rate_after=self.rule.rate(rate, self.factor)
        )
        return Change(
            name="weight_decay",
            group=index,
            before=before,
            after=after,
            why=f"times {_power(self.factor, 1 - self.rule.power)}, so that the share of training that AdamW averages "
            "over stays, B / (lr x weight_decay x D)",
            source=BERGSMA,
            holds_for="as many items D in all as before; tried from 111 million to 3.3 billion parameters",
        )


def ema_change(ema: Any, factor: float) -> tuple[Change, ...]:
    """What becomes of an average of the weights.

    Args:
        ema: the decay of a step, or an object that has it as `decay`.
        factor: new effective batch over the old one.

    Raises:
        ConfigError: there is no decay, or it is none.
    """
    decay = getattr(ema, "decay", ema)
    if isinstance(decay, bool) or not isinstance(decay, Real):
        raise ConfigError(
            f"ema is of type {type(ema).__name__}, which has no number named decay: give the decay itself, as 0.999, "
            "and set the new one"
        )
    change = Change(
        name="ema_decay",
        group=None,
        before=float(decay),
        after=ema_decay(float(decay), factor),
        why=f"to the power of {factor:g}, so that it averages over as many items as before",
        source=BUSBRIDGE,
        holds_for="weights that move little in a step; tried to a batch of 24,576",
    )
    return (change,) if change.before != change.after else ()


def _peak_rate(group: Mapping[str, Any]) -> float:
    """The learning rate of the recipe: what a schedule has made of it by now is not what was tuned."""
    return read(group, next(name for name in ("max_lr", "initial_lr", "lr") if has(group, name)))


def _power(factor: float, power: float) -> str:
    return {0.0: "1", 0.5: f"sqrt({factor:g})"}.get(power, f"{factor:g}")
