"""GGUF files: the model and the tokenizer that transformers' own loader makes of them, and what it does not know."""

from functools import cache
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from transformers.integrations.gguf.dequant import dequantize as dequantize_by_torch
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from carpool.errors import TargetError
from carpool.llm.gguf_config import gguf_config
from carpool.llm.gguf_file import read_gguf
from carpool.llm.load import LoadedLM, load_lm
from carpool.models.demo import smollm2_gguf
from carpool.models.text import sentences
from tests.llm.gguf_writing import write_gguf
from tests.llm.tiny import CONFIGS, byte_tokenizer, ids_of, logits_of, tiny_model

Kind = gguf.GGMLQuantizationType
TEXTS = [
    *sentences(40),
    "Über naïve café",
    "  two  spaces\n\n\tand tabs ",
    "x" * 50,
    "中文 and 🎉🎉",
    "it's they'LL",
    "1234 5",
]


def loaded(path: Path, **options: Any) -> LoadedLM:
    """Plain modules on the CPU, in float32."""
    return load_lm(str(path), device="cpu", dtype="float32", fast=False, **options)


def by_transformers(path: Path, like: Any) -> Any:
    """The model as transformers' own loader for these files makes it; `like` has layers of the same names."""
    # Its modules, each of which it would go through, have nothing to add to the names.
    flat = SimpleNamespace(config=like.config, state_dict=like.state_dict, named_children=tuple)
    read: Any = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=flat)  # type: ignore[no-untyped-call]
    causal: Any = transformers.AutoModelForCausalLM
    model = causal.from_config(transformers.AutoConfig.for_model(**read["config"])).eval()
    missing, unexpected = model.load_state_dict(read["tensors"], strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    return model


@cache
def smollm2() -> LoadedLM:
    """The demo, once."""
    return loaded(smollm2_gguf())


def test_the_demo_is_what_transformers_makes_of_its_file() -> None:
    """Weights bit for bit, logits too."""
    ours = smollm2().model
    theirs = by_transformers(smollm2_gguf(), like=ours)
    expected = theirs.state_dict()
    assert set(ours.state_dict()) == set(expected)
    assert all(torch.equal(weight, expected[name]) for name, weight in ours.state_dict().items())
    ids = ids_of(ours, 30)
    assert torch.equal(logits_of(ours, ids), logits_of(theirs, ids))


def test_the_demo_says_what_its_file_says() -> None:
    """Names, lengths, the tokens that end a text, and the template."""
    lm = load_lm("demo:smollm2", device="cpu", dtype="bfloat16")
    assert (lm.name, lm.dtype, lm.device) == ("SmolLM2-135M-Instruct", "bfloat16", "cpu")
    assert (lm.max_length, lm.vocabulary_size, lm.eos_ids, lm.bos_id) == (8192, 49152, frozenset({2}), 1)
    assert dict(lm.special_tokens).items() >= {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}.items()
    assert lm.chat_template is not None
    assert "<|im_start|>" in lm.chat_template
    num_weights = 134515008 + 49152 * 576  # of which the latter are the output projection's, laid out apart
    assert 2 * num_weights <= lm.weights_bytes < 2 * num_weights + 1000  # and the frequencies of the positions


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The demo's tokenizer as transformers makes it."""
    path = smollm2_gguf()
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def test_the_demos_tokens_are_those_of_transformers(theirs: Any) -> None:
    """And back again; with the template's marks kept whole."""
    tokenizer = smollm2().tokenizer
    for text in [*TEXTS, "<|im_start|>user\nHi<|im_end|>\n"]:
        ids = tokenizer.encode(text).ids
        assert ids == theirs(text).input_ids, text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_demos_digits_are_cut_apart() -> None:
    """As its name of a way to cut says, and the library's loader does not know."""
    tokens = smollm2().tokenizer.encode("In 1987 it cost 35.50").tokens
    assert [token for token in tokens if any(sign.isdigit() for sign in token)] == list("19873550")


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("tied", [False, True])
def test_each_architecture_comes_back_as_it_was_written(kind: str, tied: bool, tmp_path: Path) -> None:
    """The logits of the model that llama.cpp's conversion was made of, past its sliding window."""
    if kind == "gemma2":  # whose output is always the embedding, and has no name of its own in a file
        tied = True
    if kind == "mistral":  # llama.cpp writes it as a Llama, and drops the window
        model = tiny_model(kind, tie_word_embeddings=tied, sliding_window=None)
    else:
        model = tiny_model(kind, tie_word_embeddings=tied)
    lm = loaded(write_gguf(model, tmp_path / "tiny.gguf"))
    ids = ids_of(model)
    torch.testing.assert_close(logits_of(lm.model, ids), logits_of(model, ids), rtol=1e-5, atol=1e-5)
    assert lm.model.config.tie_word_embeddings == tied


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "phi3"])
def test_logits_are_those_of_transformers_loader(kind: str, tmp_path: Path) -> None:
    """From the same file, quantised, bit for bit."""
    width: dict[str, Any] = {"head_dim": 128} if kind == "qwen3" else {}  # whose it does not read
    path = write_gguf(tiny_model(kind, **width), tmp_path / "tiny.gguf", kind=Kind.Q8_0)
    ours = loaded(path).model
    expected = by_transformers(path, like=ours)
    assert torch.equal(logits_of(ours, ids_of(ours)), logits_of(expected, ids_of(ours)))


KINDS = [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_quantised_weights_are_those_of_another_dequantiser(kind: Kind, tmp_path: Path) -> None:
    """Of each block type that transformers unpacks with operations of its own."""
    path = write_gguf(tiny_model("qwen2", hidden_size=256, intermediate_size=512), tmp_path / "tiny.gguf", kind=kind)
    file, weights = read_gguf(path), loaded(path).model.state_dict()
    for name, parameter in (("ffn_up", "mlp.up_proj"), ("attn_k", "self_attn.k_proj"), ("ffn_down", "mlp.down_proj")):
        tensor = file.tensors[f"blk.1.{name}.weight"]
        stored = torch.from_numpy(file.rows(tensor).copy())
        expected = dequantize_by_torch(stored, int(kind)).view(tensor.shape)
        torch.testing.assert_close(weights[f"model.layers.1.{parameter}.weight"], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "allowed"), [(Kind.F16, 1e-3), (Kind.BF16, 1e-2), (Kind.Q5_0, 0.1), (Kind.Q5_1, 0.1)], ids=str
)
def test_rounded_weights_are_near_those_they_were_made_of(kind: Kind, allowed: float, tmp_path: Path) -> None:
    """Half floats, and the five-bit blocks."""
    model = tiny_model("llama")
    path = write_gguf(model, tmp_path / "tiny.gguf", kind=kind)
    found, expected = loaded(path).model.state_dict(), model.state_dict()
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"):
        assert 0 < (found[name] - expected[name]).abs().max() < allowed * expected[name].abs().max()


def test_wider_and_narrower_types_hold_the_same_numbers(tmp_path: Path) -> None:
    """Of one file, as float64 and as bfloat16."""
    path = write_gguf(tiny_model("llama"), tmp_path / "tiny.gguf", kind=Kind.Q8_0)
    plain = loaded(path).model.state_dict()
    for dtype in ("float64", "bfloat16"):
        other = load_lm(str(path), device="cpu", dtype=dtype, fast=False)
        assert other.dtype == dtype
        assert all(torch.equal(w, plain[n].to(w.dtype)) for n, w in other.model.state_dict().items())


def test_large_tensors_are_dequantised_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A few rows at a time give what all at once do."""
    path = write_gguf(tiny_model("llama"), tmp_path / "tiny.gguf", kind=Kind.Q8_0)
    whole = loaded(path).model.state_dict()
    monkeypatch.setattr("carpool.llm.gguf_unpacking._PIECE", 100)
    assert all(torch.equal(weight, whole[name]) for name, weight in loaded(path).model.state_dict().items())


def test_loading_leaves_the_number_of_threads_alone(tmp_path: Path) -> None:
    """Of a thread that begins later, too: PyTorch gives it what was set last, wherever that was."""
    path = write_gguf(tiny_model("llama"), tmp_path / "tiny.gguf")
    found = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        loaded(path)
        thread = Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert found == [3]


def test_llama_31_stretches_its_positions(tmp_path: Path) -> None:
    """The file has divisors of the frequencies; the original has parameters from which they follow."""
    scaling = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    model, plain = tiny_model("llama", rope_parameters=scaling), tiny_model("llama")
    divisors = (plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq).numpy()
    lm = loaded(write_gguf(model, tmp_path / "tiny.gguf", extra={"rope_freqs.weight": divisors}))
    ids = ids_of(model, 100)
    torch.testing.assert_close(logits_of(lm.model, ids), logits_of(model, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_stretched_positions_are_read(kind: str, tmp_path: Path) -> None:
    """By one factor, or by frequency."""
    scaling = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    model = tiny_model("llama", rope_parameters=scaling)
    said = {"scaling.type": kind, "scaling.factor": 4.0, "scaling.original_context_length": 32}
    path = write_gguf(model, tmp_path / "t.gguf", metadata={f"llama.rope.{key}": value for key, value in said.items()})
    ids = ids_of(model, 60)
    torch.testing.assert_close(logits_of(loaded(path).model, ids), logits_of(model, ids), rtol=1e-4, atol=1e-4)


def test_long_contexts_of_phi3_are_read(tmp_path: Path) -> None:
    """Divisors of each frequency for short texts and for long ones."""
    short, long = ([factor * number for number in (1.0, 2.0, 3.0, 4.0)] for factor in (1.0, 1.5))
    scaling = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": short, "long_factor": long}
    model = tiny_model("phi3", rope_parameters=scaling, original_max_position_embeddings=64)
    extra = {f"rope_factors_{n}.weight": np.array(f, np.float32) for n, f in (("short", short), ("long", long))}
    path = write_gguf(
        model, tmp_path / "t.gguf", extra=extra, metadata={"phi3.rope.scaling.original_context_length": 64}
    )
    for num_tokens in (20, 100):
        ids = ids_of(model, num_tokens)
        torch.testing.assert_close(logits_of(loaded(path).model, ids), logits_of(model, ids), rtol=1e-4, atol=1e-4)


def test_the_largest_gemmas_scale_their_scores_by_the_share_of_a_head(tmp_path: Path) -> None:
    """Told by their number of layers; all others by the width of a head."""
    for layers, expected in ((46, 32 // 4), (2, 16)):
        model = tiny_model("gemma2", num_hidden_layers=layers, head_dim=16)
        config = gguf_config(read_gguf(write_gguf(model, tmp_path / f"{layers}.gguf")))
        assert config.query_pre_attn_scalar == expected


def test_the_tokenizer_of_a_file_is_the_one_it_was_made_of(tmp_path: Path) -> None:
    """Byte-level, with its special tokens."""
    lm = loaded(write_gguf(tiny_model("llama"), tmp_path / "tiny.gguf"))
    for text in TEXTS:
        assert lm.tokenizer.encode(text).ids == byte_tokenizer().encode(text).ids
        assert lm.tokenizer.decode(lm.tokenizer.encode(text).ids) == text
    assert lm.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    assert (lm.bos_id, lm.eos_ids, lm.chat_template, lm.name) == (1, frozenset({2}), None, "tiny")


def test_end_of_turn_ends_a_text_too(tmp_path: Path) -> None:
    """Several tokens may end it."""
    metadata = {"tokenizer.ggml.eot_token_id": 7, "tokenizer.chat_template": "{{ messages }}"}
    lm = loaded(write_gguf(tiny_model("llama"), tmp_path / "tiny.gguf", metadata=metadata))
    assert lm.eos_ids == frozenset({2, 7})
    assert lm.chat_template == "{{ messages }}"


def refusal(path: Path) -> str:
    """What is said when a file is not taken."""
    with pytest.raises(TargetError) as refused:
        loaded(path)
    return str(refused.value)


def test_what_is_no_gguf_file_is_told(tmp_path: Path) -> None:
    """Empty, something else, or of another version."""
    path = tmp_path / "x.gguf"
    path.write_bytes(b"")
    assert refusal(path) == f"{path} is empty; copy it again"
    path.write_bytes(b"PK\3\4 and more")
    assert refusal(path).startswith(f"{path} is not a GGUF file: it begins with b'PK\\x03\\x04'")
    path.write_bytes(b"GGUF" + (1).to_bytes(4, "little") + bytes(16))
    assert refusal(path) == f"{path} is GGUF of version 1; 2 and 3 are read"
    path.unlink()
    path.mkdir()
    assert refusal(path) == f"{path} is a directory; give the .gguf file in it"


def test_a_file_that_is_cut_short_is_told_wherever_it_is_cut(tmp_path: Path) -> None:
    """In the header, and in the weights."""
    whole = write_gguf(tiny_model("llama", num_hidden_layers=1), tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [5, 20, 30, *range(40, len(whole), len(whole) // 40), len(whole) - 100]:
        path.write_bytes(whole[:size])
        assert refusal(path).startswith(f"{path} is cut short"), size


def test_numbers_that_can_not_be_unpacked_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a package that knows their name, and no more."""

    def fail(*_: object) -> None:
        raise NotImplementedError("Dequantization for Q8_K is not yet implemented")

    monkeypatch.setattr("carpool.llm.gguf_unpacking.dequantize", fail)
    said = refusal(write_gguf(tiny_model("llama"), tmp_path / "tiny.gguf", kind=Kind.Q8_0))
    assert (
        "stores numbers as one of F32, Q8_0, which the installed gguf does not unpack: Dequantization for Q8_K" in said
    )


def test_models_that_are_not_read_are_named(tmp_path: Path) -> None:
    """Unknown architectures, experts, ways to stretch, keys and layers that are missing, tensors left over."""
    model, path = tiny_model("llama"), tmp_path / "t.gguf"

    def said(**more: Any) -> str:
        return refusal(write_gguf(model, path, **more))

    assert "holds the architecture 'rwkv6'; GGUF files are read of llama, qwen2," in said(
        metadata={"general.architecture": "rwkv6"}
    )
    assert "a mixture of experts" in said(metadata={"llama.expert_count": 8})
    assert "stretches its positions by 'odd'" in said(
        metadata={"llama.rope.scaling.type": "odd", "llama.rope.scaling.factor": 2.0}
    )
    assert "does not say llama.block_count" in said(metadata={"llama.block_count": None})
    assert "layers of different sizes: [48, 64]" in said(metadata={"llama.feed_forward_length": [48, 64]})
    assert "values of another width" in said(metadata={"llama.attention.value_length": 4})
    left = "1 tensor that llama has no place for, such as 'blk.0.odd.weight'"
    assert left in said(extra={"blk.0.odd.weight": np.zeros(4, np.float32)})
    assert "lack" in said(metadata={"llama.block_count": 3})


def test_vocabularies_that_are_not_read_are_named(tmp_path: Path) -> None:
    """With a way out: a tokenizer.json beside the file."""
    model, path = tiny_model("llama"), tmp_path / "t.gguf"
    assert "has no vocabulary" in refusal(write_gguf(model, path, vocabulary=False))
    write_gguf(model, path, metadata={"tokenizer.ggml.pre": "of-tomorrow"})
    assert "of the kind 'gpt2, of-tomorrow', which is not read from GGUF; put the model's tokenizer.json" in refusal(
        path
    )
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert loaded(path).tokenizer.encode("Hello").ids == byte_tokenizer().encode("Hello").ids
