"""The passes that make BatchNorm exact over a window: for the statistics first, then for the gradient through them."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from math import isclose, isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from carpool.errors import ConfigError
from carpool.train.replay import Replay
from carpool.train.window_statistics import (
    Moments,
    Site,
    ThroughStatistics,
    normalise,
    update_running_statistics,
    uses_batch_statistics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.train.exchange import Exchange
    from carpool.train.setup import Loss

# Of what passes must repeat: on an accelerator, half precision may add up in another order; dropout changes far more.
_TOLERANCE = 0.01


class WindowPasses:
    """Computes what the BatchNorm layers of a model need to see a whole window, and makes them use it.

    Args:
        model: without a wrapper.
        loss: the sum over a micro-batch's valid items.
        micro_batches: of this rank, in the order in which they are computed later.
        scale: what each loss is multiplied with before its backward pass.
        exchange: the ranks that share the window.
    """

    def __init__(
        self, *, model: nn.Module, loss: Loss, micro_batches: tuple[Any, ...], scale: float, exchange: Exchange
    ) -> None:
        self._model = model
        self._loss = loss
        self._micro_batches = micro_batches
        self._scale = scale
        self._exchange = exchange
        self._layers = {name: one for name, one in model.named_modules() if isinstance(one, _BatchNorm)}
        self._replay = Replay([model])
        self._sites: list[Site] = []  # in the order in which a forward pass comes to them
        self._next = 0  # which of them it comes to next
        self._discovering = False
        self._counts = True  # the micro-batch at hand is one of the window's
        self._measured: int | None = None  # the site whose statistics are being found
        self._target: Site | None = None  # the site whose gradient is being found
        self._stand_ins: tuple[torch.Tensor, ...] = ()  # for the weight and the bias there
        self._energies: list[torch.Tensor] = []  # of the gradients that reach the last site
        self._expected_energy = 0.0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the layers take their statistics from here while the block runs."""
        with ExitStack() as stack:
            for name, layer in self._layers.items():
                stack.enter_context(_replaced_forward(layer, self._forward_of(name, layer)))
            yield

    def prepare(self) -> None:
        """Find the statistics of all layers over the window, and the gradient of its loss through them.

        Raises:
            ConfigError: the layers are not called alike for all micro-batches, or see too little.
        """
        if not any(map(uses_batch_statistics, self._layers.values())):
            return
        try:
            self._measure(0)
            self._agree()
            for number, site in enumerate(self._sites):
                if number:
                    self._measure(number)
                self._unite(site)
            for site in reversed(self._sites):
                self._differentiate(site)
        finally:
            self._replay.rewind()
        for site in self._sites:
            site.num_expected = site.num_delivered = 0

    def begin(self, index: int) -> None:
        """Go to where a micro-batch's forward pass starts, with the random numbers that it had before.

        Args:
            index: of the micro-batch; beyond the last one, those that take part without weight.
        """
        self._next = 0
        self._counts = index < len(self._micro_batches)
        if self._counts:
            self._replay.at(index)

    def check(self) -> None:
        """Make sure that the passes since `prepare` were those that it prepared for.

        Raises:
            ConfigError: they were not.
        """
        for site in self._sites:
            if not site.reached and site.num_delivered:
                raise ConfigError(
                    f"gradients through the BatchNorm layer {site.name} are taken for something else than the loss's "
                    "own: exact BatchNorm cannot give them; freeze its statistics with eval()"
                )
            if site.reached and site.num_delivered != site.num_expected:
                raise ConfigError(
                    f"the BatchNorm layer {site.name} had {site.num_expected} forward passes, and {site.num_delivered} "
                    "backward passes: call backward once for each micro-batch, and let each loss depend on the layer, "
                    "if only by 0 * output.sum()"
                )
        seen = self._take_energy()
        if isfinite(seen) and not isclose(seen, self._expected_energy, rel_tol=_TOLERANCE):
            ratio = (seen / self._expected_energy) ** 0.5 if self._expected_energy else float("inf")
            raise ConfigError(
                f"the gradient that reached the BatchNorm layer {self._sites[-1].name} is {ratio:.3g} times that of "
                "the passes before: compute the same loss, a sum and not a mean, at the same scale, and draw random "
                "numbers from torch only"
            )

    def update_running_statistics(self) -> None:
        """Let the layers' running statistics follow the window; not where a statistic of it is not finite."""
        if all(site.moments.is_finite() for site in self._sites):
            for site in self._sites:
                update_running_statistics(self._layers[site.name], site.moments)

    def _measure(self, number: int) -> None:
        """Find this rank's statistics of a site; those of all before it are known."""
        self._measured = number
        with torch.no_grad():
            for index in range(len(self._micro_batches)):
                self._discovering = number == index == 0
                try:
                    self._pass(index)
                except RuntimeError as error:
                    raise (_no_gradients() if "does not require grad" in str(error) else error) from error
        self._measured = None
        self._replay.rewind()

    def _agree(self) -> None:
        """Let a rank that has no micro-batch know the sites of the others, which must be alike."""
        mine = [(site.name, len(site.gain), site.gain.dtype) for site in self._sites]
        told = [theirs for theirs in self._exchange.objects(mine) if theirs]
        if any(theirs != told[0] for theirs in told):
            raise ConfigError(
                "the ranks do not call the same BatchNorm layers in the same order: exact BatchNorm needs them alike"
            )
        if told and not mine:
            self._sites = [self._site_of(name, num, dtype) for name, num, dtype in told[0]]

    def _site_of(self, name: str, num_channels: int, dtype: torch.dtype) -> Site:
        layer = self._layers[name]
        device = next((one.device for one in (*layer.parameters(), *layer.buffers())), torch.device("cpu"))
        gain = torch.ones(num_channels, dtype=dtype, device=device)
        if layer.weight is not None:
            gain = layer.weight.detach().to(dtype)
        return Site(name, Moments.none(num_channels, like=gain), layer.eps, gain)

    def _unite(self, site: Site) -> None:
        """Know the statistics of a site over all ranks."""
        site.moments = site.moments.united(self._exchange.tensors(site.moments.packed()))
        site.known = True
        if site.moments.count < 2:  # noqa: PLR2004 - one value has no variance
            raise ConfigError(
                f"the BatchNorm layer {site.name} sees {site.moments.count} value of each channel in the whole window: "
                "its statistics need 2 at least"
            )

    def _differentiate(self, site: Site) -> None:
        """Find the gradient of the window's loss through a site's statistics; those of all after it are known."""
        self._target = site
        num_channels = len(site.gain)
        total = torch.zeros(2 * num_channels + 1, dtype=torch.float64, device=site.gain.device)
        for index in range(len(self._micro_batches)):
            value = self._pass(index) * self._scale
            by: tuple[torch.Tensor | None, ...] = ()
            if value.requires_grad:
                by = torch.autograd.grad(value, self._stand_ins, allow_unused=True)
            reached = [one.double() for one in by if one is not None]
            if reached:
                total += torch.cat([*reached, reached[0].new_ones(1)])
        if site is self._sites[-1]:
            self._expected_energy = self._take_energy()
        self._energies.clear()
        self._target = None
        self._replay.rewind()
        everywhere = torch.stack(self._exchange.tensors(total)).sum(0).to(site.gain.dtype)
        site.reached = bool(everywhere[-1].item())
        site.set_gradient(by_weight=everywhere[:num_channels], by_bias=everywhere[num_channels:-1])

    def _pass(self, index: int) -> torch.Tensor:
        """Compute the loss of a micro-batch."""
        self.begin(index)
        value: Any = self._loss(self._model, self._micro_batches[index])
        self._discovering = False
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ConfigError(f"the loss of micro-batch {index} must be a tensor of one number: sum it up")
        if self._next != len(self._sites):
            raise ConfigError(
                f"micro-batch {index} calls {self._next} BatchNorm layers, and others {len(self._sites)}: exact "
                "BatchNorm needs the same calls in the same order for all"
            )
        loss: torch.Tensor = value.reshape(())
        return loss

    def _forward_of(self, name: str, layer: _BatchNorm) -> Callable[..., Any]:
        """What runs instead of a layer's own forward pass: the same, with the statistics of the window."""
        own = layer.forward
        if type(layer).forward is nn.SyncBatchNorm.forward:  # which would exchange the statistics of the micro-batch
            own = partial(_BatchNorm.forward, layer)

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not uses_batch_statistics(layer):
                return own(*args, **kwargs)
            with _not_counted(layer), _Intercepted(partial(self._normalise, name)) as intercepted:
                result = own(*args, **kwargs)
            if not intercepted.used:
                raise ConfigError(
                    f"the BatchNorm layer {name}, a {type(layer).__name__}, does not call "
                    "torch.nn.functional.batch_norm: exact BatchNorm cannot give it the statistics of the window"
                )
            return result

        return forward

    def _normalise(
        self, name: str, values: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
    ) -> torch.Tensor:
        """Compute what a layer would return for a micro-batch if it saw the whole window."""
        again = torch._C._current_graph_task_id() != -1  # noqa: SLF001 - a backward pass runs: a checkpoint asks
        site = self._only_site_of(name) if again else self._come_to(name, values, weight, eps)
        if not site.known:
            return self._measure_at(site, values, weight, bias)
        learns = any(one is not None and one.requires_grad for one in (values, weight, bias))
        if site is self._target:
            weight, bias = self._stand_ins = self._stand_ins if again else _stand_ins(site.gain, bias)
        flows = values.requires_grad and torch.is_grad_enabled()
        if flows and site.shift is not None and self._counts:
            site.num_expected += not again
            if not site.num_expected:
                raise ConfigError(
                    f"the BatchNorm layer {name} is in a checkpoint that takes its gradients apart from the others: "
                    "use checkpoint(..., use_reentrant=False)"
                )
            values = ThroughStatistics.apply(values, site)  # type: ignore[no-untyped-call]
        result = normalise(values, site.moments, weight, bias, eps)
        if learns and not again and site is self._sites[-1] and result.requires_grad:
            result.register_hook(self._add_energy)  # type: ignore[no-untyped-call]
        return result

    def _measure_at(
        self, site: Site, values: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Add a micro-batch's statistics where they are being found; what is returned only keeps the pass going."""
        moments = Moments.of(values)
        if self._measured is not None and site is self._sites[self._measured]:
            site.moments = site.moments.merged(moments)
        return normalise(values, moments, weight, bias, site.eps)

    def _come_to(self, name: str, values: torch.Tensor, weight: torch.Tensor | None, eps: float) -> Site:
        if self._discovering:
            like = Moments.of(values[:0]).mean
            gain = torch.ones_like(like) if weight is None else weight.detach().to(like.dtype)
            self._sites.append(Site(name, Moments.none(len(gain), like=like), eps, gain))
        if self._next == len(self._sites) or self._sites[self._next].name != name:
            raise ConfigError(
                f"the BatchNorm layer {name} is called where it was not before: exact BatchNorm needs the same calls "
                "in the same order for all micro-batches; after leaving a window early, call close()"
            )
        self._next += 1
        return self._sites[self._next - 1]

    def _only_site_of(self, name: str) -> Site:
        sites = [site for site in self._sites if site.name == name]
        if len(sites) != 1:
            raise ConfigError(
                f"the BatchNorm layer {name} is called {len(sites)} times in a forward pass, and computed again in the "
                "backward pass: exact BatchNorm cannot tell for which call; leave it out of the checkpoint"
            )
        return sites[0]

    def _add_energy(self, gradient: torch.Tensor) -> None:
        self._energies.append(gradient.detach().double().square().sum())

    def _take_energy(self) -> float:
        energy = float(torch.stack(self._energies).sum()) if self._energies else 0.0
        self._energies.clear()
        return energy


def _no_gradients() -> ConfigError:
    return ConfigError(
        "the loss is itself computed from gradients, and BatchNorm's statistics are found in passes without: freeze "
        "them with eval()"
    )


class _Intercepted(TorchFunctionMode):
    """Computes a layer's `batch_norm` in another way, and leaves all else that it does as it is.

    Args:
        instead: takes the values, the weight, the bias and eps.
    """

    def __init__(
        self, instead: Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor | None, float], torch.Tensor]
    ) -> None:
        super().__init__()
        self.used = False
        self._instead = instead

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch's.

        Args:
            func: that is called.
            types: of the arguments.
            args: by position.
            kwargs: by name.
        """
        if func is not functional.batch_norm:
            return func(*args, **(kwargs or {}))
        self.used = True
        call = signature(functional.batch_norm).bind(*args, **(kwargs or {})).arguments
        return self._instead(call["input"], call.get("weight"), call.get("bias"), call.get("eps", 1e-5))


@contextmanager
def _replaced_forward(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    before = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


@contextmanager
def _not_counted(layer: _BatchNorm) -> Iterator[None]:
    """Let a pass of a micro-batch not count as a batch: the window counts as one."""
    tracked = layer.num_batches_tracked
    if tracked is None:
        yield
        return
    before = tracked.clone()
    try:
        yield
    finally:
        layer.num_batches_tracked = tracked.copy_(before)


def _stand_ins(gain: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and a bias of the same values, with respect to which a single call is differentiated."""
    weight = gain.clone().requires_grad_()
    if bias is None:
        return weight, torch.zeros_like(gain).requires_grad_()
    return weight, bias.detach().to(gain.dtype, copy=True).requires_grad_()
