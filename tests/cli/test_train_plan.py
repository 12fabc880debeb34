"""`carpool train-plan`, from its words to its files; wrong use is told before anything is measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main
from carpool.cli.train_plan import parse_noise

if TYPE_CHECKING:
    from pathlib import Path

SETUP = """
import torch
from carpool.train import TrainSetup

INPUTS = torch.randn(96, 3, generator=torch.Generator().manual_seed(0))


def mean_loss(model, batch):
    return (model(batch) - batch[:, :1]).square().mean()


def loss(model, batch):
    return (model(batch) - batch[:, :1]).square().sum()


def made(**changes):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    values = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05),
        "loss": loss,
        "loader": lambda size: INPUTS[torch.randperm(96)].split(size),
        "num_items": 96,
        "base_batch_size": 8,
    }
    return TrainSetup(**(values | changes))


def setup():
    return made()


def of_means():
    return made(loss=mean_loss)


def of_rows():
    return made(loss=lambda model, batch: model(batch))


def of_nothing():
    return made(loader=lambda size: [])


def raising():
    raise KeyError("no such file")


def something_else():
    return 3


def needs_an_argument(size):
    return made()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a setup, and with several that can't be planned for."""
    path = tmp_path_factory.mktemp("training") / "train.py"
    path.write_text(SETUP)
    return path


def test_a_plan_is_printed_and_written_and_is_one_document(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured really, in processes of their own."""
    html = tmp_path / "out" / "plan.html"
    asked = ["--effective-batch", "32", "--memory", "4GiB", "--batches", "8,16,128", "--noise-scale", "measure"]
    arguments = ["train-plan", f"{file}:setup", *asked, "--budget", "1s", "--html", str(html), "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert [row["plan"]["effective_batch_size"] for row in document["trade_off"]["rows"]] == [8, 16, 32]
    assert document["trade_off"]["left_out"] == [128]
    assert document["micro_batch"]["size"] == 32
    assert document["micro_batch"]["limit_bytes"] <= 4 * 1024**3
    assert document["scaling"]["changes"][0]["after"] == pytest.approx(0.2)
    assert "What each effective batch takes on 1 rank" in printed.err
    assert "Left out: 128, more than the data's 96 items." in printed.err
    assert {path.name for path in html.parent.iterdir()} >= {"plan.html", "plan-time.png"}


@pytest.mark.parametrize(("text", "scale"), [("400", 400.0), ("0.5", 0.5), ("measure", "measure")])
def test_a_noise_scale_is_a_number_or_measured(text: str, scale: float | str) -> None:
    """In items."""
    assert parse_noise(text) == scale


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("setpu", "did you mean 'setup'"),
        ("of_means", "when every item is there twice: it is a mean"),
        ("of_rows", "loss returned a tensor of shape (4, 1), not a scalar"),
        ("of_nothing", "loader(4) gives no micro-batch"),
        ("raising", "KeyError: 'no such file'"),
        ("something_else", "returned an int: it must return a carpool.train.TrainSetup"),
        ("needs_an_argument", "missing 1 required positional argument"),
        ("INPUTS", "it must be a function without arguments"),
    ],
)
def test_a_target_that_cannot_be_planned_for_exits_2(
    name: str, said: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is wrong, and no traceback; nothing is written."""
    arguments = ["train-plan", f"{file}:{name}", "--effective-batch", "32", "--html", str(tmp_path / "plan.html")]
    assert main(arguments) == 2
    words = " ".join(capsys.readouterr().err.split())
    assert said in words
    assert "Traceback" not in words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--effective-batch", "0"), "0 is not in the range"),
        (("--effective-batch", "many"), "is not a valid integer"),
        (("--effective-batch", "97"), "an effective batch of 97 is more than the 96 items of the data"),
        (("--effective-batch", "2", "--ranks", "4"), "leaves some of 4 ranks without an item"),
        (("--effective-batch", "32", "--memory", "lots"), "'lots' is not a size"),
        (("--effective-batch", "32", "--noise-scale", "-1"), "'-1' is no noise scale"),
        (("--effective-batch", "32", "--noise-scale", "nan"), "'nan' is no noise scale"),
        (("--effective-batch", "32", "--noise-scale", "loud"), "'loud' is no noise scale"),
        (("--effective-batch", "32", "--base-steps", "5"), "only with the noise scale"),
        (("--effective-batch", "32", "--batches", "64..32"), "runs downwards"),
        (("--effective-batch", "32", "--html", "plan.txt"), "must name a file that ends in .html"),
        (("--effective-batch", "32", "--html", "x" * 300 + ".html"), "must name a file that ends in .html"),
        (("--effective-batch", "32", "--html", "/dev/null/plan.html"), "the directory of --html /dev/null"),
        ((), "Missing option '--effective-batch'"),
    ],
)
def test_wrong_options_exit_2(
    options: tuple[str, ...], said: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured."""
    html = () if "--html" in options else ("--html", str(tmp_path / "plan.html"))
    assert main(["train-plan", f"{file}:setup", *options, *html]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_memory_that_holds_nothing_exits_1(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even one item fits into it."""
    html = str(tmp_path / "plan.html")
    asked = ["--effective-batch", "32", "--memory", "50MiB", "--html", html]
    assert main(["train-plan", f"{file}:setup", *asked]) == 1
    words = " ".join(capsys.readouterr().err.split())
    assert "1 item does not fit in memory" in words
    assert "Traceback" not in words
