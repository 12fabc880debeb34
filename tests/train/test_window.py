"""A window: its loop, what goes wrong in one, and who is told of it."""

from __future__ import annotations

import re
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from carpool.errors import ConfigError
from carpool.train import Accumulator, BatchPlan, GradientListener, Window, WindowResult, WindowStart
from carpool.train.window import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def model() -> nn.Linear:
    """Give a model with known weights."""
    model = nn.Linear(3, 1, bias=False)
    nn.init.ones_(model.weight)
    return model


@pytest.fixture
def accumulator(model: nn.Linear) -> Accumulator:
    """Give one for windows of 2 x 4 items."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return Accumulator(model, optimizer, plan=BatchPlan(effective_batch_size=8, micro_batch_size=4))


def loss_of(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Sum a loss whose gradient is the sum of the items."""
    loss: torch.Tensor = model(batch).sum()
    return loss


def ones(num_micro_batches: int = 2) -> list[torch.Tensor]:
    """Give micro-batches of 4 items."""
    return [torch.ones(4, 3) for _ in range(num_micro_batches)]


def first_window(accumulator: Accumulator) -> Window:
    """Open a window of ones."""
    return next(iter(accumulator.windows(ones())))


def test_the_step_is_taken_when_the_loop_ends(accumulator: Accumulator, model: nn.Linear) -> None:
    """Not before, and with the mean of all items."""
    for window in accumulator.windows(ones()):
        for batch in window:
            assert model.weight.tolist() == [[1, 1, 1]]
            window.backward(loss_of(model, batch))
        assert model.weight.tolist() == [[0.5, 0.5, 0.5]]
        assert window.result.loss == 3
        assert window.result.grad_norm == pytest.approx(3**0.5)
        assert (window.result.num_valid, window.result.num_micro_batches, window.result.skipped) == (8, 2, False)
    assert model.weight.grad is None


def run(window: Window, model: nn.Module, *, passes: dict[int, int]) -> None:
    """Go through a window with so many backward passes for each of its micro-batches."""
    for index, batch in enumerate(window):
        for _ in range(passes[index]):
            window.backward(loss_of(model, batch))


@pytest.mark.parametrize("forgotten", [0, 1])
def test_a_forgotten_backward_pass_is_named(accumulator: Accumulator, model: nn.Linear, forgotten: int) -> None:
    """At the next micro-batch, or at the end; no step is taken."""
    with pytest.raises(ConfigError, match=f"micro-batch {forgotten} of the window had no backward pass"):
        run(first_window(accumulator), model, passes={0: 1, 1: 1} | {forgotten: 0})
    assert model.weight.tolist() == [[1, 1, 1]]
    assert model.weight.grad is None


def test_a_second_backward_pass_is_refused(accumulator: Accumulator, model: nn.Linear) -> None:
    """It would count the micro-batch twice."""
    with pytest.raises(ConfigError, match="micro-batch 0 of the window had its backward pass already"):
        run(first_window(accumulator), model, passes={0: 2})


def test_a_backward_pass_outside_the_loop_is_refused(accumulator: Accumulator, model: nn.Linear) -> None:
    """Before it as well as after it."""
    window = first_window(accumulator)
    with pytest.raises(ConfigError, match="no micro-batch waits for its backward pass"):
        window.backward(loss_of(model, torch.ones(4, 3)))
    for batch in window:
        window.backward(loss_of(model, batch))
    with pytest.raises(ConfigError, match="no micro-batch waits for its backward pass"):
        window.backward(loss_of(model, torch.ones(4, 3)))


def test_a_window_is_iterated_over_once(accumulator: Accumulator, model: nn.Linear) -> None:
    """A second loop would train on the same items again."""
    window = first_window(accumulator)
    for batch in window:
        window.backward(loss_of(model, batch))
    with pytest.raises(ConfigError, match="this window was iterated over already"):
        iter(window)


def test_a_result_is_there_when_the_loop_is_over(accumulator: Accumulator, model: nn.Linear) -> None:
    """Asking earlier is answered with what is missing."""
    window = first_window(accumulator)
    with pytest.raises(ConfigError, match="no result before its loop is over"):
        _ = window.result
    for batch in window:
        window.backward(loss_of(model, batch))
        with pytest.raises(ConfigError, match="no result before its loop is over"):
            _ = window.result
    assert window.result.loss == 3


def test_a_window_that_is_over_keeps_none_of_its_data(accumulator: Accumulator, model: nn.Linear) -> None:
    """So that two windows are never in memory at once."""
    kept = ones()
    references = [weakref.ref(batch) for batch in kept]
    window = next(iter(accumulator.windows(kept.pop() for _ in range(2))))
    run(window, model, passes={0: 1, 1: 1})
    assert [reference() for reference in references] == [None, None]
    assert window.start.sizes == (4, 4)


def test_a_window_left_early_takes_no_step_and_leaves_nothing(accumulator: Accumulator, model: nn.Linear) -> None:
    """The next window begins with empty gradients, and is worth what it would be alone."""
    results = []
    for number, window in enumerate(accumulator.windows(ones(4))):
        for batch in window:
            window.backward(loss_of(model, batch))
            if number == 0:
                break
        else:
            results.append(window.result)
    assert [result.grad_norm for result in results] == [pytest.approx(3**0.5)]
    assert model.weight.tolist() == [[0.5, 0.5, 0.5]]
    assert accumulator.num_windows == 1


def test_leaving_all_windows_drops_the_gradients(accumulator: Accumulator, model: nn.Linear) -> None:
    """As soon as the windows are closed."""
    windows = accumulator.windows(ones())
    for window in windows:
        for batch in window:
            window.backward(loss_of(model, batch))
            break
        break
    windows.close()  # type: ignore[attr-defined]
    assert model.weight.grad is None


def test_an_error_in_a_window_is_survived(accumulator: Accumulator, model: nn.Linear) -> None:
    """What the failed window added is not in the next one, even while the error is still held."""
    kept = None
    try:
        for batch in (window := first_window(accumulator)):
            window.backward(loss_of(model, batch))
            raise MemoryError  # noqa: TRY301
    except MemoryError as error:
        kept = error
    result = accumulator.step(ones(), loss_of)
    assert kept is not None
    assert result.grad_norm == pytest.approx(3**0.5)


def test_gradients_from_elsewhere_do_not_count(accumulator: Accumulator, model: nn.Linear) -> None:
    """Whatever was there before the window is dropped."""
    loss_of(model, 100 * torch.ones(4, 3)).backward()  # type: ignore[no-untyped-call]
    assert accumulator.step(ones(), loss_of).grad_norm == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            torch.ones(4, requires_grad=True),
            "the loss of micro-batch 0 has shape (4,); it must be a tensor of one number",
        ),
        (torch.ones(0, requires_grad=True), "the loss of micro-batch 0 has shape (0,)"),
        (torch.tensor(3.0), "does not depend on a parameter that learns"),
        (3.0, "the loss of micro-batch 0 has type float"),
        (None, "the loss of micro-batch 0 has type NoneType"),
        ({"loss": torch.ones(1)}, "the loss of micro-batch 0 has type dict"),
    ],
)
def test_what_is_no_loss_is_refused(accumulator: Accumulator, loss: Any, message: str) -> None:
    """The message says what came, and what must."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        accumulator.step(ones(), lambda _model, _batch: loss)


def test_a_loss_of_one_number_may_have_any_shape(accumulator: Accumulator) -> None:
    """As (1,) or (1, 1), which some models return."""
    assert accumulator.step(ones(), lambda model, batch: model(batch).sum().reshape(1, 1)).loss == 3


class Diary:
    """Writes down what it is told, and what the gradients are then."""

    def __init__(self, model: nn.Linear) -> None:
        self.model = model
        self.lines: list[str] = []
        self.starts: list[WindowStart] = []

    def _gradient(self) -> str:
        return "none" if self.model.weight.grad is None else str(self.model.weight.grad[0, 0].item())

    def before_window(self, start: WindowStart) -> None:
        """Write it down."""
        self.starts.append(start)
        self.lines.append(f"before {start.sizes} {start.num_valid} {self._gradient()}")

    def after_micro_batch(self, index: int, num_valid: int) -> None:
        """Write it down."""
        self.lines.append(f"after {index} {num_valid} {self._gradient()}")

    def after_window(self, result: WindowResult) -> None:
        """Write it down."""
        self.lines.append(f"over {result.skipped} {result.grad_norm:.3f} {self._gradient()} {self.model.weight[0, 0]}")


def test_a_listener_is_told_of_everything_with_the_gradients_in_place(
    accumulator: Accumulator, model: nn.Linear
) -> None:
    """Before the first pass, after each, and before the step; in the order of the passes."""
    diary = Diary(model)
    assert isinstance(diary, GradientListener)
    accumulator.listeners.append(diary)
    accumulator.step([torch.ones(6, 3), torch.ones(2, 3)], loss_of)
    assert diary.lines == ["before (6, 2) 8 none", "after 0 6 0.75", "after 1 2 1.0", "over False 1.732 1.0 1.0"]
    assert diary.starts[0].scale == 1 / 8
    assert diary.starts[0].num_ranks == 1


def test_a_listener_sees_what_hooks_see(accumulator: Accumulator, model: nn.Linear) -> None:
    """The gradient of a micro-batch that reaches a parameter is that of its summed loss, times the scale told."""
    seen: list[torch.Tensor] = []
    model.weight.register_hook(lambda gradient: seen.append(gradient.clone()))  # type: ignore[no-untyped-call]
    accumulator.listeners.append(diary := Diary(model))
    accumulator.step([torch.ones(4, 3), torch.ones(2, 3)], loss_of)
    scale = diary.starts[0].scale
    assert [(gradient / scale)[0, 0].item() for gradient in seen] == pytest.approx([4, 2])


def test_a_skipped_window_is_told_of_as_skipped(accumulator: Accumulator, model: nn.Linear) -> None:
    """So that a listener does not take its gradients for real ones."""
    accumulator.listeners.append(diary := Diary(model))
    accumulator.step([torch.ones(4, 3), torch.full((4, 3), torch.inf)], loss_of)
    assert diary.lines[-1] == "over True inf inf 1.0"


def test_a_listener_sees_gradients_that_are_not_yet_clipped(model: nn.Linear) -> None:
    """And without the factor of mixed precision, which hooks see."""
    plan = BatchPlan(effective_batch_size=8, micro_batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    accumulator = Accumulator(model, optimizer, plan=plan, max_norm=0.1, scaler=scaler)
    accumulator.listeners.append(diary := Diary(model))
    accumulator.step(ones(), loss_of)
    assert diary.lines == ["before (4, 4) 8 none", "after 0 4 512.0", "after 1 4 1024.0", "over False 1.732 1.0 1.0"]
    assert diary.starts[0].scale == 1024 / 8


def test_a_stopwatch_adds_up_its_blocks() -> None:
    """And not what lies between them."""
    times: Iterator[float] = iter([1.0, 1.5, 7.0, 7.25])
    watch = Stopwatch(lambda: next(times))
    for _ in range(2):
        with watch:
            pass
    assert watch.seconds == 0.75


def test_the_time_of_others_is_not_ours(
    accumulator: Accumulator, model: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The passes through the model do not count, however long they take."""
    now = 0.0

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += 100
        return loss_of(model, batch)

    monkeypatch.setattr("carpool.train.accumulate.Stopwatch", lambda: Stopwatch(lambda: now))
    assert accumulator.step(ones(), loss).overhead_s == 0
    assert now == 200
