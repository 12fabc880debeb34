"""`carpool policy` against a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main
from tests.serve.fakes import Doubler, offer
from tests.serve.live import visit

if TYPE_CHECKING:
    from collections.abc import Callable


def told(client: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Serve a model, have commands run against it; return the last one's exit code and all that was printed."""
    code = visit(offer(Doubler(), max_batch_size=4), client)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_policy_is_shown_changed_and_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, lists and durations as one writes them; the history says what was."""

    def client(url: str) -> int:
        keys = ["max_batch_size=16", "max_wait=2ms", "length_buckets=8,16"]
        assert main(["policy", url, "m"]) == 0
        assert main(["policy", url, "m", *keys]) == 0
        assert main(["policy", url, "m", "max_queue=9", "--share", "0.5", "--watch", "60s"]) == 0
        return main(["policy", url, "m", "--to", "1"])

    code, said = told(client, capsys)
    assert code == 0
    assert "m: version 1 is in force: what it was told to begin with\n  max_batch_size = 4\n" in said
    assert "m: version 2 is in force: put in force at once\n  max_batch_size = 16\n" in said
    assert "version 3 is on trial for 50% of the time" in said
    assert "m: version 4 is in force" in said
    assert 'by 127.0.0.1: max_batch_size=16, max_wait="2ms", length_buckets=[8, 16]; replaced' in said
    assert "max_queue=9; rolled back: given up, as another change came" in said


def test_with_json_it_prints_what_the_server_said(capsys: pytest.CaptureFixture[str]) -> None:
    """As one document."""
    _, said = told(lambda url: main(["policy", url, "m", "max_queue=9", "--json"]), capsys)
    assert json.loads(said)["in_force"]["policy"]["max_queue"] == 9


def test_what_the_server_refuses_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """With its message; a model that is not there can't be asked."""
    code, said = told(lambda url: main(["policy", url, "m", "max_batchsize=9"]), capsys)
    assert code == 2
    assert "unknown key 'max_batchsize': did you mean 'max_batch_size'?" in " ".join(said.split())
    code, said = told(lambda url: main(["policy", url, "x"]), capsys)
    assert code == 1
    assert "there is no model 'x' here: use one of m" in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["http://127.0.0.1:9", "m"], 1, "can't be asked"),
        (["localhost:8000", "m"], 2, "'localhost:8000' is no URL of a server"),
        (["http://127.0.0.1:9", "m", "max_queue"], 2, "'max_queue' changes nothing: write KEY=VALUE"),
        (["http://127.0.0.1:9", "m", "--share", "0.5"], 2, "nothing is to change: name a key"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the value and the remedy."""
    assert main(["policy", *arguments]) == code
    assert said in " ".join(capsys.readouterr().err.split())
