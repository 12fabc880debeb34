"""What the log says of models that fail: where, in full once a minute, and then how often."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from carpool import Batcher
from carpool.core import AffineCost, Batch, BatchFormer, Item, Policy, VirtualClock
from carpool.errors import InvalidItem, ModelError
from carpool.runtime.delivery import Pile, nothing
from carpool.runtime.dispatcher import Dispatcher
from carpool.runtime.execute import run_checked
from carpool.runtime.failures import WINDOW_S, FailureLog
from tests.runtime import process_models
from tests.runtime.fakes import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THIS = "test_failure_log.py"


def poisoned(numbers: Sequence[int]) -> list[int]:
    """Can't stand 13."""
    if 13 in numbers:
        raise ValueError("thirteen is not a number here")
    return [2 * number for number in numbers]


def errors_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged of failures."""
    return [record for record in caplog.records if record.name == "carpool.runtime"]


def batch_of(num_items: int) -> Batch:
    """A batch that runs."""
    former = BatchFormer(Policy(), AffineCost(overhead_s=0.1, token_s=0.01))
    dispatcher = Dispatcher(former, VirtualClock(), Recorder(), lambda _, then=nothing: then())
    pile = Pile(num_items)
    dispatcher.submit_all([Item(handle=pile.place(number)) for number in range(num_items)])
    batch = dispatcher.step()
    assert isinstance(batch, Batch)
    return batch


class Alarms:
    """In the place of `threading.Timer`: keeps what was to be called, and after how long."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Callable[[], None]]] = []
        self.daemon = False

    def __call__(self, wait_s: float, ring: Callable[[], None]) -> Alarms:
        """Note it."""
        self.set.append((wait_s, ring))
        return self

    def start(self) -> None:
        """Wait for the test."""

    def cancel(self) -> None:
        """Nothing rings by itself."""


def raised(error: Exception) -> ModelError:
    """Return an error that came out of a model."""

    def model(_: object) -> None:
        raise error

    with pytest.raises(ModelError) as caught:
        run_checked(model, [1], 1)
    assert isinstance(caught.value, ModelError)
    return caught.value


def outcomes_of(model: Any, items: Sequence[Any], **options: Any) -> list[Any]:
    """Run items."""
    with Batcher(model, **options) as batcher:
        return batcher.map_outcomes(items)


def test_a_bisected_batch_is_logged_once_with_its_place_and_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """One of 64 items fails seven batches for one reason: one line in full, and one that counts the rest."""
    outcomes_of(poisoned, range(64), max_batch_size=64)
    full, count = errors_in(caplog)
    assert full.levelno == count.levelno == logging.ERROR
    message = full.getMessage()
    assert message.startswith(
        "model poisoned: batch 0 of 64 items failed: the model raised ValueError: thirteen is not"
    )
    assert f"{THIS}, line {poisoned.__code__.co_firstlineno + 3})" in message
    assert full.exc_info is not None
    assert isinstance(full.exc_info[1], ValueError)
    assert "more like it in the last minute: ValueError, " in count.getMessage()
    assert count.exc_info is None


def test_a_worker_process_tells_where_its_model_failed(caplog: pytest.LogCaptureFixture) -> None:
    """The place and the traceback are those of the other process."""
    (outcome,) = outcomes_of(process_models.exiting, [process_models.POISON], worker="process")
    assert isinstance(outcome, ModelError)
    (record,) = errors_in(caplog)
    assert "SystemExit: no more" in record.getMessage()
    assert f"process_models.py, line {process_models.exiting.__code__.co_firstlineno + 3})" in record.getMessage()
    assert record.exc_info is not None
    told = logging.Formatter().formatException(record.exc_info)
    assert 'sys.exit("no more")' in told
    assert "SystemExit: no more" in told


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda items: [float("nan")] * len(items), "3 of 3 items of batch 0 failed: the model returned NaN"),
        (lambda _: [1], "batch 0 of 3 items failed: the model returned 1 result for 3 items"),
        (lambda items: [KeyError("x")] * len(items), "the model returned KeyError: 'x' for this item"),
    ],
)
def test_wrong_results_are_logged(model: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    """NaN, a wrong count, and exceptions in the place of results."""
    outcomes_of(model, [1, 2, 3], max_batch_size=3)
    record = errors_in(caplog)[0]
    assert said in record.getMessage()
    assert record.levelno == logging.ERROR


def test_a_refused_item_is_no_failure_of_the_model(caplog: pytest.LogCaptureFixture) -> None:
    """The client is told, and the log is spared."""

    def refusing(items: list[int]) -> list[int]:
        raise InvalidItem("no such thing")

    outcomes_of(refusing, [1])
    assert errors_in(caplog) == []


def test_equal_failures_are_counted_for_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Ten thousand in a second are a line, then a count, and the next minute begins with a line again."""
    clock, batch, alarms = VirtualClock(), batch_of(2), Alarms()
    log = FailureLog("m", clock, alarms)  # type: ignore[arg-type]
    for _ in range(10_000):
        log.raised(batch, raised(ValueError("no")))
    assert len(errors_in(caplog)) == 1
    ((wait_s, ring),) = alarms.set
    assert wait_s == WINDOW_S
    clock.advance_to(WINDOW_S)
    ring()
    assert errors_in(caplog)[1].getMessage().startswith("model m: 9999 more like it in the last minute: ValueError, ")
    assert len(alarms.set) == 1
    log.raised(batch, raised(ValueError("no")))
    assert len(alarms.set) == 2
    assert len(errors_in(caplog)) == 3


def test_failures_that_all_differ_do_not_flood_either(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond a number of kinds they are told together."""
    log, batch = FailureLog("m", VirtualClock(), Alarms()), batch_of(1)  # type: ignore[arg-type]
    for number in range(1000):
        log.raised(batch, raised(type(f"Error{number}", (Exception,), {})("no")))
    assert len(errors_in(caplog)) < 100
    log.close()
    assert "more like it in the last minute: failures, of other kinds" in errors_in(caplog)[-1].getMessage()


def test_a_log_that_fails_harms_nobody() -> None:
    """A handler of the user's own raises; the item is answered all the same, and so is the next."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(record.name)

    logger, broken = logging.getLogger("carpool.runtime"), Broken()
    logger.addHandler(broken)
    try:
        with Batcher(poisoned) as batcher:
            (failed,) = batcher.map_outcomes([13])
            assert isinstance(failed, ModelError)
            assert batcher.map([1]) == [2]
    finally:
        logger.removeHandler(broken)
