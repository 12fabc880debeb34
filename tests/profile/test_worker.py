"""The one thread that a model runs on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from carpool.profile import worker
from carpool.profile.worker import OneThread

if TYPE_CHECKING:
    import pytest


def test_the_last_call_runs_after_the_others() -> None:
    """What tidies up is run on the same thread, and awaited."""
    ran: list[str] = []
    with OneThread() as thread:
        thread.call(lambda: ran.append("work"))
        thread.call_last(lambda: ran.append("close"))
        assert ran == ["work", "close"]


def test_a_call_that_never_returns_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C amid an endless call, tidying up and leaving are given up after a while."""
    monkeypatch.setattr(worker, "FINISH_WITHIN_S", 0.01)
    began, released, closed = threading.Event(), threading.Event(), threading.Event()

    def endless() -> None:
        began.set()
        released.wait()

    thread = OneThread()
    with thread:
        threading.Thread(target=lambda: thread.call(endless), daemon=True).start()
        began.wait()
        thread.call_last(closed.set)
    assert not closed.is_set()
    released.set()
    assert closed.wait(30)
