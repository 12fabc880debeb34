"""`carpool policy` against a real server."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main
from carpool.cli.policy import policy_lines
from carpool.config.environment import settings_in
from carpool.config.settings import load_settings
from carpool.config.tables import leaves
from carpool.core import Policy
from carpool.serve.access import Access, Holder
from carpool.serve.control import Control
from carpool.serve.front import Front
from carpool.serve.http.limits import Limits
from carpool.serve.http.tls import load_tls
from tests.serve.fakes import Doubler, embed, offer
from tests.serve.live import visit, visit_to_the_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "a-key-of-operators-1"


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
    assert "m: version 1 is in force: what it was told to begin with\n  [policy]\n  max_batch_size = 4\n" in said
    assert "m: version 2 is in force: put in force at once\n  [policy]\n  max_batch_size = 16\n" in said
    assert "version 3 is on trial for 50% of the time" in said
    assert "m: version 4 is in force" in said
    assert 'by 127.0.0.1: max_batch_size=16, max_wait="2ms", length_buckets=[8, 16]; replaced' in said
    assert "max_queue=9; rolled back: given up, as another change came" in said
    assert "replaced: replaced" not in said
    assert "on trial: on trial" not in said


def test_what_is_in_force_can_be_written_to_a_carpool_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is printed, tenants' shares too; what is not set is a comment."""
    policy = Policy(max_batch_size=4, max_wait_s=0.002, length_buckets=(8, 16), tenant_weights={"paid": 4.0})
    offered = offer(Doubler(), max_batch_size=4, tenant_weights={"paid": 4.0})
    code = visit(offered, lambda url: main(["policy", url, "m", "max_wait=2ms", "length_buckets=8,16"]))
    said = capsys.readouterr().out
    assert code == 0
    assert "  # token_budget: not set, no limit\n" in said
    file = tmp_path / "carpool.toml"
    file.write_text("\n".join(line for line in said.splitlines() if line.startswith("  ")))
    assert load_settings(file).policy == policy


def test_the_token_cap_of_the_model_is_told_where_the_policy_has_none() -> None:
    """It is no key that anybody set, so it stands in a comment."""
    lines = list(policy_lines({"max_batch_size": 64, "token_budget": None, "tenants": {}}, 1024))
    assert lines == [
        "  [policy]",
        "  max_batch_size = 64",
        "  # token_budget: not set, batches are held to 1024 tokens, which the model is best run with",
    ]


def test_every_version_is_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Also the last one where it was rolled back, with the reason; none of it is a mere note."""

    def client(url: str) -> int:
        main(["policy", url, "m", "max_queue=9", "--share", "0.5", "--watch", "60s"])
        main(["policy", url, "m", "max_queue=8"])
        capsys.readouterr()
        return main(["policy", url, "m"])

    visit(offer(Doubler(), max_batch_size=4), client)
    said = capsys.readouterr().out
    assert [line.partition(",")[0] for line in said.splitlines() if line.startswith("version")] == [
        "version 3",
        "version 2",
        "version 1",
    ]
    assert "max_queue=9; rolled back: given up, as another change came" in said
    assert "a whole policy; replaced by version 3" in said


def test_where_control_is_off_the_remedy_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The policy is shown, and a change is refused."""

    def client(url: str) -> tuple[int, int]:
        return main(["policy", url, "m"]), main(["policy", url, "m", "max_queue=9"])

    codes, _ = visit_to_the_end(offer(Doubler()), client, control=Control())
    assert codes == (0, 2)
    assert "start the server with --control, or set `control = true` in [server]" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_key_may_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it does not stand among the processes; `carpool serve` lets the variable be."""
    front = Front(limits=Limits(), access=Access({KEY: Holder("ops", controls=True)}))

    def client(url: str) -> tuple[int, int]:
        without = main(["policy", url, "m", "max_queue=9"])
        monkeypatch.setenv("CARPOOL_API_KEY", KEY)
        return without, main(["policy", url, "m", "max_queue=9"])

    codes, _ = visit_to_the_end(offer(Doubler()), client, front=front)
    assert codes == (1, 0)
    assert "by ops: max_queue=9; in force" in capsys.readouterr().out
    assert settings_in({"CARPOOL_API_KEY": KEY}, leaves()) == {}


def test_a_certificate_of_ones_own_is_trusted_where_it_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And else the message says how to."""
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    subprocess.run(["openssl", *options.split(), *names.split()], cwd=tmp_path, check=True, capture_output=True)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    front = Front(limits=Limits(), access=Access(), tls=load_tls(certificate, key))

    def client(url: str) -> tuple[int, ...]:
        files = [None, certificate, key, tmp_path / "none"]
        load = ["bench", url, "--connections", "1", "--requests", "2", "--duration", "5s"]
        commands = (["policy", url, "m"], load)
        return tuple(main([*command, *(["--ca", str(file)] if file else [])]) for command in commands for file in files)

    codes, _ = visit_to_the_end(offer(embed), client, front=front)
    assert codes == (1, 0, 2, 2) * 2
    said = " ".join(capsys.readouterr().err.split())
    assert "has a certificate that is not trusted (self-signed certificate)" in said
    assert said.count("by --ca FILE") == 2
    assert "key.pem can't be read (it holds no certificate in PEM)" in said
    assert "none can't be read (No such file or directory)" in said


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
        (["http://[::1", "m"], 2, "'http://[::1' is no URL of a server"),
        (["http://localhost:99999", "m"], 2, "is no URL of a server"),
        (["http://a b", "m"], 1, "can't be asked"),
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
