"""Every example runs as a script, and its name is a target that can be measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from carpool.models.target import load_target
from carpool.train.autosize.source import load_setup
from carpool.train.planning.check import check_setup
from carpool.train.setup import count_items

ROOT = Path(__file__).parents[2]
EXAMPLES = {"text_embeddings.py": "model", "images.py": "SmallConvNet", "plain_function.py": "nearest"}
SCRIPTS = {"generate.py"}  # their model is a target by itself
TRAINING = {  # their setup is a target of `carpool train-plan`; what they are run with here, to be quick
    "train_digits.py": ("--batches", "16", "64", "256", "--target", "0.9"),
    "train_small_lm.py": ("--batches", "4", "8", "32", "--target", "1.5"),
}
SAYS = {
    "text_embeddings.py": r"6 texts in \d+ batch(es)?, 384 dimensions each\n 0\.\d+  How do I reset my password\?",
    "images.py": r"24 images in \d+ batch(es)?; classes \(random weights",
    "generate.py": r"The capital of France is Paris\.\n(?s:.)*36 tokens in \d+ steps, .*\nName three fruits\.",
    "train_digits.py": r"batch 64: \d+ steps at a learning rate of (?s:.*)its critical batch is (?s:.*)\nDrawn: ",
    "train_small_lm.py": r"batch 32: \d+ steps at a learning rate of (?s:.*), which is [\d.]+ in items\.\nDrawn: ",
    "plain_function.py": r"refused: nearest refuses this item: .*\n200 queries in \d+ batch(es)?; all found",
}


def test_every_example_is_tested_and_listed() -> None:
    """A new file must come here and into the README."""
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {*EXAMPLES, *SCRIPTS, *TRAINING}
    readme = (ROOT / "examples" / "README.md").read_text()
    assert all(f"`examples/{file}:{name}`" in readme for file, name in EXAMPLES.items())
    assert all(f"[{file}]({file})" in readme for file in SCRIPTS)
    assert all(f"`examples/{file}:setup`" in readme for file in TRAINING)


@pytest.mark.parametrize("file", [*EXAMPLES, *SCRIPTS])
def test_example_runs_as_a_script(file: str) -> None:
    """From the root of the project, with nothing on standard error."""
    done = subprocess.run([sys.executable, f"examples/{file}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(SAYS[file], done.stdout)


@pytest.mark.parametrize("file", TRAINING)
def test_example_trains_to_a_target_at_several_effective_batches(file: str, tmp_path: Path) -> None:
    """Really, with nothing on standard error; and draws the curve."""
    picture = tmp_path / f"{file}.png"
    command = [sys.executable, f"examples/{file}", *TRAINING[file], "--out", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(SAYS[file], done.stdout)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("file", TRAINING)
def test_example_is_a_setup_to_plan_training_with(file: str) -> None:
    """Its loss is a sum, its loader gives what it is asked for, and it is in the same state each time."""
    made, again = (load_setup(f"{ROOT / 'examples' / file}:setup") for _ in range(2))
    assert check_setup(made) == ()
    assert count_items(made.largest_batch(5)) == 5
    assert made.validate is not None
    assert again.validate is not None
    assert made.validate(made.model) == again.validate(again.model)


@pytest.mark.parametrize("file", EXAMPLES)
def test_example_is_a_target_with_items_to_measure_with(file: str) -> None:
    """What `carpool profile` does first."""
    model = load_target(f"{ROOT / 'examples' / file}:{EXAMPLES[file]}")
    model.load()
    payloads = [model.admit(item).payload for item in model.examples(3)]
    assert len(model.run(payloads)) == 3
    model.close()
