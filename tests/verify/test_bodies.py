"""Bodies for drawn items, read back by the server's own parser."""

from __future__ import annotations

import math

import numpy as np

from carpool.loadgen.bodies import InputTensor, oip_bodies
from carpool.loadgen.http import Requests
from carpool.plan.stream import Stream
from carpool.serve.oip import parse_request
from carpool.serve.signature import Signature, describe
from carpool.verify.bodies import PlannedBodies

URL = "http://127.0.0.1:9/v2/models/m/infer"
TEXT = Signature(inputs=describe(["a text"], name="text"))


def stream(lengths: list[int], **more: object) -> Stream:
    """Items of these lengths, evenly spaced."""
    times_s = np.arange(len(lengths)) / 1000
    return Stream(times_s=times_s, lengths=np.array(lengths), window_s=10.0, **more)  # type: ignore[arg-type]


def texts() -> PlannedBodies:
    """Bodies for a model of texts that counts words."""
    made_up = Requests(URL, oip_bodies([InputTensor("text", "BYTES", (-1,))], ["some text"], np.random.default_rng(0)))
    return PlannedBodies(made_up, lambda text: len(text.split()), seed=0)


def test_each_item_has_its_length_in_the_order_of_the_stream() -> None:
    """Equal lengths are different texts; the address and the input's name stay."""
    lengths = [7, 300, 12, 7]
    requests = texts().requests(stream(lengths))
    items = [parse_request(body, TEXT, max_rows=1).items[0] for body in requests.bodies]
    assert [len(item.split()) for item in items] == lengths
    assert items[0] != items[3]
    assert requests.url == URL


def test_deadlines_and_priorities_are_sent() -> None:
    """An infinite deadline and the usual priority are left out."""
    drawn = stream([7, 7], deadlines_s=np.array([0.05, math.inf]), priorities=np.array([0, 3]))
    calls = [parse_request(body, TEXT, max_rows=1) for body in texts().requests(drawn).bodies]
    assert [call.timeout_s for call in calls] == [0.05, None]
    assert [call.priority for call in calls] == [0, 3]


def test_bodies_of_equal_items_are_one_object() -> None:
    """A long window needs no more memory than its different bodies."""
    bodies = texts().requests(stream([7] * 1000)).bodies
    assert len(bodies) == 1000
    assert len({id(body) for body in bodies}) <= 16


def test_a_model_without_texts_gets_what_was_made_up() -> None:
    """In turn, with deadlines all the same."""
    made_up = Requests(URL, oip_bodies([InputTensor("x", "FP32", (-1, 2))], ["", ""], np.random.default_rng(0)))
    bodies = PlannedBodies(made_up, lambda _: 1, seed=0)
    assert not bodies.have_lengths
    sent = bodies.requests(stream([1, 1, 1])).bodies
    assert sent == [*made_up.bodies, made_up.bodies[0]]
    assert b'"timeout":50000' in bodies.requests(stream([1], deadlines_s=np.array([0.05]))).bodies[0]


def test_an_empty_stream_still_has_something_to_send() -> None:
    """One client alone is served before the window, whatever arrives in it."""
    assert len(texts().requests(stream([])).bodies) == 1
