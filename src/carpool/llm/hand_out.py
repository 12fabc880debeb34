"""Handing out what a step did: one wake-up for each place where outputs are taken."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carpool.llm.consumer import Consumer
    from carpool.llm.job import Job
    from carpool.llm.outputs import FinishReason
    from carpool.llm.stream import News

    Told = tuple[Job, News | int]
    End = Callable[[list[Job], FinishReason], None]

_logger = logging.getLogger("carpool.llm")


def hand_out(news: Iterable[Told], end: End) -> None:
    """Have every consumer take its news.

    Args:
        news: of a step, each with whose it is, in order.
        end: is called with jobs whose text is at its end, or that nobody waits for any more; on any thread.
    """
    batches: dict[Consumer, list[Told]] = {}
    last: Consumer | None = None
    batch: list[Told] = []
    for one in news:
        consumer = one[0].consumer
        if consumer is not last:  # mostly there is but one
            last, batch = consumer, batches.setdefault(consumer, [])
        batch.append(one)
    for consumer, batch in batches.items():
        if not consumer.post(partial(_land, batch, end)):
            end([job for job, _ in batch], "abort")


def _land(batch: list[Told], end: End) -> None:
    """Take news in, on the consumer's side."""
    stopped: list[Job] = []
    lost: list[Job] = []
    for job, news in batch:
        stream = job.stream
        if stream.is_closed:
            continue
        try:
            if stream.take(news):
                stopped.append(job)
        except Exception:  # the others are told all the same
            stream.is_closed = True
            lost.append(job)
            _logger.exception("whoever takes the outputs of a generation failed, and it is given up")
    if stopped:
        end(stopped, "stop")
    if lost:
        end(lost, "abort")
