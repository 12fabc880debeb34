"""Every example runs as a script, and its name is a target that can be measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from carpool.models.target import load_target

ROOT = Path(__file__).parents[2]
EXAMPLES = {"text_embeddings.py": "model", "images.py": "SmallConvNet", "plain_function.py": "nearest"}
SCRIPTS = {"generate.py"}  # their model is a target by itself
SAYS = {
    "text_embeddings.py": r"6 texts in \d+ batch(es)?, 384 dimensions each\n 0\.\d+  How do I reset my password\?",
    "images.py": r"24 images in \d+ batch(es)?; classes \(random weights",
    "generate.py": r"The capital of France is Paris\.\n(?s:.)*36 tokens in \d+ steps, .*\nName three fruits\.",
    "plain_function.py": r"refused: nearest refuses this item: .*\n200 queries in \d+ batch(es)?; all found",
}


def test_every_example_is_tested_and_listed() -> None:
    """A new file must come here and into the README."""
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {*EXAMPLES, *SCRIPTS}
    readme = (ROOT / "examples" / "README.md").read_text()
    assert all(f"`examples/{file}:{name}`" in readme for file, name in EXAMPLES.items())
    assert all(f"[{file}]({file})" in readme for file in SCRIPTS)


@pytest.mark.parametrize("file", [*EXAMPLES, *SCRIPTS])
def test_example_runs_as_a_script(file: str) -> None:
    """From the root of the project, with nothing on standard error."""
    done = subprocess.run([sys.executable, f"examples/{file}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(SAYS[file], done.stdout)


@pytest.mark.parametrize("file", EXAMPLES)
def test_example_is_a_target_with_items_to_measure_with(file: str) -> None:
    """What `carpool profile` does first."""
    model = load_target(f"{ROOT / 'examples' / file}:{EXAMPLES[file]}")
    model.load()
    payloads = [model.admit(item).payload for item in model.examples(3)]
    assert len(model.run(payloads)) == 3
    model.close()
