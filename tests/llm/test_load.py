"""Loading a directory: the model transformers loads, what its files say about text, and words where they don't."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from carpool.errors import ConfigError, TargetError
from carpool.llm.load import load_lm
from tests.llm.tiny import CONFIGS, byte_tokenizer, ids_of, logits_of, save, tiny_model


def loaded(path: Path, **options: Any) -> Any:
    """On the CPU, in float32, with plain modules."""
    plain: dict[str, Any] = {"device": "cpu", "dtype": "float32", "fast": False}
    return load_lm(str(path), **plain | options)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama's directory; not to be written to."""
    return save(tiny_model("llama"), tmp_path_factory.mktemp("llama"))


@pytest.fixture
def directory(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


def change(path: Path, **more: Any) -> None:
    """Write other values into a JSON file."""
    said = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(said | more))


def refusal(path: Path | str, **options: Any) -> str:
    """What is said when a model is not taken."""
    with pytest.raises(ConfigError) as refused:
        load_lm(str(path), **options)
    return str(refused.value)


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_architecture_is_what_transformers_loads(kind: str, tmp_path: Path) -> None:
    """Bit for bit, with plain modules."""
    path = save(tiny_model(kind), tmp_path / "it")
    causal: Any = transformers.AutoModelForCausalLM
    expected = causal.from_pretrained(path).eval()
    lm = loaded(path)
    assert torch.equal(logits_of(lm.model, ids_of(expected)), logits_of(expected, ids_of(expected)))
    assert (lm.name, lm.dtype, lm.device, lm.vocabulary_size, lm.max_length) == ("it", "float32", "cpu", 300, 128)


def test_weights_in_several_files_are_one_model(original: Path, tmp_path: Path) -> None:
    """Found by the index."""
    model = tiny_model("llama")
    path = save(model, tmp_path / "it", max_shard_size="20KB")
    assert len(list(path.glob("*.safetensors"))) > 2
    assert torch.equal(logits_of(loaded(path).model, ids_of(model)), logits_of(loaded(original).model, ids_of(model)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_weights_get_the_type_that_is_asked_for(original: Path, dtype: str) -> None:
    """And the model says so."""
    lm = loaded(original, dtype=dtype)
    assert lm.dtype == dtype
    assert {weight.dtype for weight in lm.model.parameters()} == {getattr(torch, dtype)}


def test_the_type_is_chosen_by_what_the_processor_multiplies(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half as wide where it does so natively, else float32."""
    for has, dtype in (({"avx512_bf16": True}, "bfloat16"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert loaded(original, dtype=None).dtype == dtype


def test_8_bit_weights_are_smaller(original: Path) -> None:
    """And it is told."""
    plain, small = loaded(original), loaded(original, weights="int8")
    assert small.weights_bytes < 0.6 * plain.weights_bytes
    assert any("8-bit" in note for note in small.notes)
    assert plain.notes == ()


def test_texts_are_read_from_the_directory(original: Path) -> None:
    """Tokenizer, template, and the tokens that begin and end."""
    lm = loaded(original)
    text = "Ünder the bridge, 42 times"
    assert lm.tokenizer.encode(text).ids == byte_tokenizer().encode(text).ids
    assert lm.chat_template == "{{ bos_token }}{{ messages[0].content }}"
    assert lm.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert (lm.bos_id, lm.eos_ids) == (1, frozenset({2}))


def test_a_tokenizer_neither_cuts_nor_pads(directory: Path) -> None:
    """Whatever its file asks for."""
    tokenizer = byte_tokenizer()
    strict = type(tokenizer).from_str(tokenizer.to_str())
    strict.enable_truncation(4)
    strict.enable_padding(length=20)
    strict.save(str(directory / "tokenizer.json"))
    text = "One, two, three, four, five and six"
    assert loaded(directory).tokenizer.encode(text).ids == tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ([7, 8], 2, {7, 8}),
        (9, 2, {9}),
        (None, 5, {5}),
        (None, [5, 6], {5, 6}),
        (None, None, {2}),  # the tokenizer's own
    ],
)
def test_what_ends_a_text(directory: Path, generation: object, config: object, expected: set[int]) -> None:
    """generation_config.json before config.json, before the tokenizer."""
    change(directory / "generation_config.json", eos_token_id=generation)
    change(directory / "config.json", eos_token_id=config)
    assert loaded(directory).eos_ids == expected


def test_templates_are_found_where_they_may_be(directory: Path) -> None:
    """Several by name, a file of their own, or none."""
    settings = directory / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    change(settings, chat_template=named)
    assert loaded(directory).chat_template == "plain"
    (directory / "chat_template.jinja").write_text("of a file")
    assert loaded(directory).chat_template == "of a file"
    (directory / "chat_template.jinja").unlink()
    change(settings, chat_template=None)
    assert loaded(directory).chat_template is None
    change(settings, chat_template=5)
    assert "chat_template must be a text, not 5" in refusal(directory)


def remove(name: str) -> Callable[[Path], None]:
    """A file is missing."""
    return lambda directory: (directory / name).unlink()


def write(name: str, content: str) -> Callable[[Path], None]:
    """A file says something else."""

    def overwrite(directory: Path) -> None:
        (directory / name).write_text(content)

    return overwrite


def configure(**more: Any) -> Callable[[Path], None]:
    """config.json says something else."""
    return lambda directory: change(directory / "config.json", **more)


def cut(directory: Path) -> None:
    """The weights end too early."""
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (remove("config.json"), "config.json is missing; a causal language model's directory needs it"),
    (write("config.json", "{"), "config.json is not JSON"),
    (write("config.json", "[]"), "config.json must hold a JSON object, not list"),
    (configure(architectures=None), "names no architecture"),
    (configure(architectures=["BertModel"]), "holds BertModel, which is no causal language model"),
    (configure(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True), "an encoder with a decoder"),
    (configure(quantization_config={"quant_method": "gptq"}), "are quantised by GPTQ, which is not read; give the"),
    (configure(quantization_config={"quant_method": "awq"}), "are quantised by AWQ"),
    (configure(quantization_config={}), "are quantised by UNNAMED"),
    (configure(model_type="of_tomorrow"), "could not be loaded: "),
    (configure(hidden_size=64), "have other shapes than its configuration says for"),
    (configure(num_hidden_layers=3), "lack 9 tensors, such as 'model.layers.2.input_layernorm.weight'"),
    (configure(max_position_embeddings="long"), "could not be loaded: Validation error for field 'max_position_"),
    (configure(max_position_embeddings=0), "does not say how long a text may be"),
    (remove("tokenizer.json"), "tokenizer.json is missing; without it text can't become tokens"),
    (write("tokenizer.json", "{}"), "tokenizer.json is not a tokenizer"),
    (write("tokenizer_config.json", "nope"), "tokenizer_config.json is not JSON"),
    (remove("model.safetensors"), "has no weights: neither model.safetensors nor model.safetensors.index.json"),
    (cut, "is cut short: it has "),
    (write("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "is a pointer of Git LFS"),
    (write("model.safetensors", "no"), "is not a safetensors file, or is cut short"),
    (write("model.safetensors", "\x02\0\0\0\0\0\0\0{}"), "its header is not a list of tensors"),
]


@pytest.mark.parametrize(("damage", "said"), BROKEN, ids=[said[:40] for _, said in BROKEN])
def test_what_is_wrong_with_a_directory_is_told(directory: Path, damage: Callable[[Path], None], said: str) -> None:
    """Each in its own words."""
    damage(directory)
    with pytest.raises(TargetError) as refused:
        loaded(directory)
    assert said in str(refused.value)


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    """Out of those that the index names."""
    path = save(tiny_model("llama"), tmp_path / "it", max_shard_size="20KB")
    files = sorted(path.glob("*.safetensors"))
    files[1].unlink()
    assert f"lacks 1 file of weights out of {len(files)} that model.safetensors.index.json names" in refusal(path)
    assert f"such as '{files[1].name}'" in refusal(path)
    (path / "model.safetensors.index.json").write_text("{}")
    assert "must map the tensors to files in its weight_map" in refusal(path)


def test_weights_of_another_kind_are_named(directory: Path) -> None:
    """With what to do about them."""
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    assert "but weights as pickles (.bin), which are not read; write safetensors once" in refusal(directory)
    (directory / "pytorch_model.bin").rename(directory / "it.gguf")
    assert f"did you mean {directory / 'it.gguf'}?" in refusal(directory)


def test_a_tokenizer_of_another_model_is_told(directory: Path) -> None:
    """By a token that the model does not have."""
    tokenizer = type(byte_tokenizer()).from_str(byte_tokenizer().to_str())
    tokenizer.add_tokens(["a token more"])
    tokenizer.save(str(directory / "tokenizer.json"))
    assert "its tokenizer has the token 300, but the model only 300 tokens" in refusal(directory)


def test_what_names_no_model_is_told(tmp_path: Path) -> None:
    """Nothing there, a name on a hub, another kind of file, values that are not known."""
    assert "is not here: no such file or directory" in refusal(tmp_path / "none.gguf")
    assert "if it names a model on a hub: nothing is downloaded" in refusal("meta-llama/Llama-3.2-1B")
    assert "'' is not here" in refusal("")
    (tmp_path / "x.bin").touch()
    assert "is a file ending in '.bin'; a causal language model is a Hugging Face directory" in refusal(
        tmp_path / "x.bin"
    )
    assert refusal("demo:smollm2", weights="int4") == "weights 'int4' is not known; write as_is or int8"
    assert refusal("demo:smollm2", num_threads=0) == "num_threads is 0; it must be at least 1, a whole number"
    assert "dtype 'int3' is not known" in refusal("demo:smollm2", dtype="int3")
    assert "device 'cuda:7' is not on this machine" in refusal("demo:smollm2", device="cuda:7")


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra of that name."""
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else real(name))
    assert refusal("demo:smollm2") == "demo:smollm2 needs gguf: run `pip install 'carpool[llm]'`"
