"""The process that serves, on a real socket: readiness, drain, disconnects, and what can go wrong at the start."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from carpool.errors import ModelError
from carpool.serve.app import create_router
from carpool.serve.offer import Offer
from carpool.serve.server import CannotListen, Ending, listen, run_server
from tests.serve.fakes import Doubler, embed, offer, request
from tests.serve.live import stop, visit, visit_to_the_end

if TYPE_CHECKING:
    from collections.abc import Sequence


def connect(url: str) -> http.client.HTTPConnection:
    """Open a connection to a server."""
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)


def infer(url: str, document: Any) -> tuple[int, Any]:
    """Send an inference request; return the status and what was answered."""
    with closing(connect(url)) as connection:
        connection.request("POST", "/v2/models/m/infer", json.dumps(document))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def held_by(model: Doubler) -> None:
    """Close the gate, so that the next batch is held."""
    while model.entered.acquire(blocking=False):  # its warm-up
        continue
    model.gate.clear()


def test_it_serves_and_stops_cleanly() -> None:
    """On a signal it returns, and leaves the interpreter as it was."""
    interval, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    status, answer = visit(offer(Doubler()), lambda url: infer(url, request([1, 2], shape=[1, 2])))
    assert (status, answer["outputs"][0]["data"]) == (200, [2, 4])
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (interval, frozen)


def test_what_was_accepted_is_answered_before_it_stops() -> None:
    """Once asked to stop it takes no more, and finishes what it has."""
    model = Doubler()

    def client(url: str) -> tuple[int, bool]:
        with ThreadPoolExecutor(1) as pool:
            held_by(model)
            accepted = pool.submit(infer, url, request([1, 2], shape=[1, 2]))
            model.entered.acquire()
            stop()
            refused = _is_refused(url)
            model.gate.set()
            return accepted.result()[0], refused

    assert visit_to_the_end(offer(model), client) == ((200, True), Ending.ANSWERED)


def _is_refused(url: str) -> bool:
    """Try to connect until the server no longer takes connections."""
    address = urlsplit(url)
    for _ in range(100_000):
        try:
            socket.create_connection((address.hostname, address.port or 0), timeout=5).close()
        except OSError:
            return True
    return False


def test_what_takes_longer_than_the_drain_timeout_is_given_up() -> None:
    """A model that hangs does not keep the process alive."""
    model = Doubler()

    def client(url: str) -> tuple[int, Any]:
        with ThreadPoolExecutor(1) as pool:
            held_by(model)
            accepted = pool.submit(infer, url, request([1, 2], shape=[1, 2]))
            model.entered.acquire()
            stop()
            return accepted.result()

    try:
        (status, answer), ending = visit_to_the_end(offer(model), client, drain_timeout_s=0.0)
    finally:
        model.gate.set()
    assert ending is Ending.CUT_SHORT
    assert (status, answer["error"]) == (503, "the server is stopping and has given this up: ask again")


class Watched:
    """A model on offer that says when it is closed, and how long that may take."""

    def __init__(self, served: Any) -> None:
        self.closing = threading.Event()
        self.allowed_s: list[float] = []
        self._close = served.close
        served.close = self.close

    def close(self, timeout_s: float) -> None:
        """Note it, and close."""
        self.allowed_s.append(timeout_s)
        self.closing.set()
        self._close(timeout_s)


def test_the_time_to_finish_is_given_once() -> None:
    """A model that outlasts it does not get as much again once its requests have been given up."""
    model = Doubler()
    served = offer(model)
    watched = Watched(served)

    def client(url: str) -> int:
        with ThreadPoolExecutor(1) as pool:
            held_by(model)
            accepted = pool.submit(infer, url, request([1, 2], shape=[1, 2]))
            model.entered.acquire()
            stop()
            return accepted.result()[0]

    try:
        assert visit(served, client, drain_timeout_s=0.5) == 503
    finally:
        model.gate.set()
    watched.closing.wait(30)  # it is closed on a thread that a hurried end does not wait for
    assert watched.allowed_s == [0.0]


def test_a_second_signal_ends_the_wait_for_a_model_whose_clients_have_left() -> None:
    """Nobody wants its answer any more, so that nothing is given up."""
    model = Doubler()
    served = offer(model)
    watched = Watched(served)

    def client(url: str) -> None:
        held_by(model)
        with closing(connect(url)) as connection:
            connection.request("POST", "/v2/models/m/infer", json.dumps(request([1, 2], shape=[1, 2])))
            model.entered.acquire()
        stop()
        watched.closing.wait(30)

    try:
        _, ending = visit_to_the_end(served, client, drain_timeout_s=3600.0)
        assert not model.gate.is_set()
    finally:
        model.gate.set()
    assert ending is Ending.ANSWERED


def test_a_connection_that_breaks_takes_its_items_with_it() -> None:
    """They leave the queue while another batch runs."""
    model = Doubler()
    served = offer(model)

    def client(url: str) -> list[Any]:
        with ThreadPoolExecutor(1) as pool:
            held_by(model)
            held = pool.submit(infer, url, request([1, 2], shape=[1, 2]))
            model.entered.acquire()
            with closing(connect(url)) as connection:
                connection.request("POST", "/v2/models/m/infer", json.dumps(request([7, 7], shape=[1, 2])))
                _until(lambda: served.batcher.num_waiting == 1)
            _until(lambda: served.batcher.num_waiting == 0)
            model.gate.set()
            return [held.result()[0], [7.0, 7.0] in model.seen]

    assert visit(served, client) == [200, False]


def _until(come: Any) -> None:
    """Give way to other threads until something has come."""
    pause = threading.Event()
    while not come():
        pause.wait(0.001)


def test_a_truncated_body_does_not_disturb_the_next_client() -> None:
    """A client that says 100 bytes, sends 10 and leaves."""

    def client(url: str) -> tuple[int, Any]:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port or 0), timeout=30) as raw:
            raw.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{123456789")
        return infer(url, request([1, 2], shape=[1, 2]))

    assert visit(offer(Doubler()), client)[0] == 200


def test_one_connection_carries_many_requests() -> None:
    """Also after a refusal."""

    def client(url: str) -> list[int]:
        statuses = []
        with closing(connect(url)) as connection:
            for body in (b"{", json.dumps(request(["a"], shape=[1], datatype="BYTES")).encode()) * 2:
                connection.request("POST", "/v2/models/m/infer", body)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
        return statuses

    assert visit(offer(embed), client) == [400, 200, 400, 200]


def test_a_model_that_cannot_load_stops_the_server() -> None:
    """With the reason."""

    class Broken:
        def load(self) -> None:
            message = "no weights"
            raise RuntimeError(message)

        def __call__(self, batch: Sequence[Any]) -> Sequence[Any]:
            return batch

    models, listening = Offer.of(offer(Broken())), listen("127.0.0.1", 0)
    with pytest.raises(ModelError, match="no weights"):
        run_server(create_router(models), models, listening, drain_timeout_s=1.0, on_ready=lambda: None)


def test_a_model_that_fails_its_own_examples_is_not_served() -> None:
    """Nobody else's items would fare better."""

    def broken(batch: list[Any]) -> list[Any]:
        raise ValueError(batch)

    broken.examples = [1]  # type: ignore[attr-defined]
    models, listening = Offer.of(offer(broken)), listen("127.0.0.1", 0)
    with pytest.raises(ModelError):
        run_server(create_router(models), models, listening, drain_timeout_s=1.0, on_ready=lambda: None)


def test_a_stop_overtakes_a_load() -> None:
    """A model that loads for long does not hold the process back."""
    loading, release = threading.Event(), threading.Event()

    class Slow:
        def load(self) -> None:
            loading.set()
            release.wait(30)

        def __call__(self, batch: Sequence[Any]) -> Sequence[Any]:
            return batch

    def stop_while_loading() -> None:
        loading.wait()
        stop()

    models, listening = Offer.of(offer(Slow())), listen("127.0.0.1", 0)
    stopper = threading.Thread(target=stop_while_loading)
    stopper.start()
    ready: list[bool] = []
    router = create_router(models)
    ending = run_server(router, models, listening, drain_timeout_s=1.0, on_ready=lambda: ready.append(True))
    stopper.join()
    release.set()
    assert (ready, ending) == ([], Ending.EARLY)


def test_a_port_in_use_is_told_with_a_remedy() -> None:
    """Before anything is loaded."""
    taken = listen("127.0.0.1", 0)
    port = urlsplit(taken.url).port or 0
    with closing(taken.socket):
        taken.socket.listen()
        with pytest.raises(CannotListen, match=f"can't listen on 127.0.0.1 port {port} .*give another by --port"):
            listen("127.0.0.1", port)


def test_an_unknown_host_is_told() -> None:
    """With ones that work."""
    with pytest.raises(CannotListen, match=r"the host 'no such host' is not known here .*use 127\.0\.0\.1"):
        listen("no such host", 0)


def test_an_ipv6_address_stands_in_brackets() -> None:
    """So that the URL can be used as it is."""
    listening = listen("::1", 0)
    with closing(listening.socket):
        assert listening.url.startswith("http://[::1]:")
