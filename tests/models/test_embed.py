"""Encoders give what sentence-transformers gives, whatever the batch."""

import json
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from carpool.errors import ConfigError, InvalidItem, TargetError
from carpool.models.demo import minilm_directory
from carpool.models.embed import EncoderModel
from carpool.models.model import Stages
from carpool.models.text import sentences

Build = Callable[..., Path]


def embed(model: EncoderModel, items: list[Any]) -> NDArray[np.float32]:
    """Admit and run all items as one batch."""
    return model.run([model.admit(item).payload for item in items])


def cosines(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
    """The cosine of each pair of rows."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosine: NDArray[Any] = (ours * theirs).sum(axis=1) / norms
    return cosine


def loaded(directory: Path, **options: Any) -> EncoderModel:
    """A loaded encoder, in float32 on the CPU unless told otherwise."""
    model = EncoderModel(directory, **{"device": "cpu", "dtype": "float32", **options})
    model.load()
    return model


@pytest.fixture(scope="module")
def minilm() -> EncoderModel:
    """MiniLM in float32."""
    return loaded(minilm_directory())


@pytest.fixture(scope="module")
def bert(encoder_directory: Build) -> EncoderModel:
    """A tiny BERT in float32."""
    return loaded(encoder_directory("bert"))


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.9999), ("bfloat16", 0.999)])
def test_minilm_equals_sentence_transformers(dtype: str, least: float) -> None:
    """On 100 real sentences of 5 to 200 words, in one batch."""
    texts = sentences(100, seed=3)
    reference = SentenceTransformer(str(minilm_directory()), device="cpu", local_files_only=True)
    assert cosines(embed(loaded(minilm_directory(), dtype=dtype), texts), reference.encode(texts)).min() > least


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "mpnet", "deberta-v2", "qwen3"]
)
def test_any_architecture_equals_sentence_transformers(encoder_directory: Build, kind: str) -> None:
    """Also for texts that are longer than the model's limit."""
    directory, texts = encoder_directory(kind), sentences(20, seed=1)
    theirs = SentenceTransformer(str(directory), device="cpu", local_files_only=True).encode(texts)
    np.testing.assert_allclose(embed(loaded(directory), texts), theirs, atol=1e-5)


@pytest.mark.parametrize(
    "pooling", ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "mean")], ids=str
)
def test_every_pooling_equals_sentence_transformers(encoder_directory: Build, pooling: Any) -> None:
    """Without normalising, so that lengths are compared too."""
    directory, texts = encoder_directory("bert", pooling, normalize=False), sentences(9, seed=2)
    theirs = SentenceTransformer(str(directory), device="cpu", local_files_only=True).encode(texts)
    np.testing.assert_allclose(embed(loaded(directory), texts), theirs, rtol=1e-4, atol=1e-5)


def test_default_prompt_stands_before_every_text(encoder_directory: Build, tmp_path: Path) -> None:
    """As sentence-transformers does with the directory's default prompt."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "prompted"))
    said = {"prompts": {"query": "search for: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(said))
    theirs = SentenceTransformer(str(directory), device="cpu", local_files_only=True).encode(["a small dog"])
    np.testing.assert_allclose(embed(loaded(directory), ["a small dog"]), theirs, atol=1e-5)


def test_plain_hugging_face_directory_is_pooled_by_the_mean(encoder_directory: Build) -> None:
    """Without modules.json, sentence-transformers means the mean, and so do we."""
    directory = encoder_directory("bert").parent / "plain"
    texts = sentences(5, min_words=3, max_words=9)
    theirs = SentenceTransformer(str(directory), device="cpu", local_files_only=True).encode(texts)
    np.testing.assert_allclose(embed(loaded(directory), texts), theirs, atol=1e-5)


def test_batch_mates_and_their_order_do_not_matter(bert: EncoderModel) -> None:
    """A text alone, in a mixed batch, and in the batch turned round gives one vector."""
    texts = sentences(12, seed=4)
    together = embed(bert, texts)
    np.testing.assert_allclose(together, embed(bert, texts[::-1])[::-1], atol=1e-5)
    np.testing.assert_allclose(together, np.concatenate([embed(bert, [text]) for text in texts]), atol=1e-5)


def test_run_is_the_composition_of_its_stages(bert: EncoderModel) -> None:
    """So that a breakdown of the stages is one of the whole."""
    payloads = [bert.admit(text).payload for text in sentences(3)]
    stages = bert.stages
    assert isinstance(stages, Stages)
    by_hand = stages.to_host(stages.compute(stages.to_device(stages.prepare(payloads))))
    np.testing.assert_array_equal(bert.run(payloads), stages.finish(by_hand))


def test_loading_and_running_never_touch_the_network(encoder_directory: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt to connect would raise."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert embed(loaded(encoder_directory("bert")), ["a dog"]).shape == (1, 32)


def test_admit_is_the_same_from_many_threads(minilm: EncoderModel) -> None:
    """Eight threads at once give what one gives."""
    texts = sentences(400, seed=5)
    alone = [minilm.admit(text).payload for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = [admitted.payload for admitted in pool.map(minilm.admit, texts)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_token_ids_stand_for_their_text(minilm: EncoderModel) -> None:
    """Admitting a text's ids gives the text's vector."""
    ids = minilm.admit("The weather is lovely.").payload.tolist()
    np.testing.assert_array_equal(embed(minilm, [ids]), embed(minilm, ["The weather is lovely."]))


def test_length_is_in_tokens_and_cut_at_the_limit(minilm: EncoderModel) -> None:
    """MiniLM's own limit is 256, though its tokenizer's file says 128."""
    assert minilm.admit("hello world").length == 4
    assert minilm.admit("word " * 500).length == 256


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (7, "an item must be a text or a list of token ids, not int"),
        ([], "flat, not empty list of whole numbers"),
        ([[1, 2]], "flat, not empty list of whole numbers, not int64 (1, 2)"),
        ([1.5], "whole numbers, not float64"),
        ([[1], [2, 3]], "one flat list of whole numbers"),
        ([30522], "token id 30522 is not in the vocabulary; it must be from 0 to 30521"),
        ([-1], "token id -1 is not in the vocabulary"),
        ([5] * 257, "257 token ids were given; the model takes 1 to 256"),
        ("\ud800", "can't be encoded as UTF-8"),
    ],
    ids=["number", "empty", "nested", "floats", "ragged", "too-high", "negative", "too-long", "surrogate"],
)
def test_wrong_items_are_refused_with_the_limit(minilm: EncoderModel, item: object, said: str) -> None:
    """Before they could join a batch."""
    with pytest.raises(InvalidItem) as caught:
        minilm.admit(item)
    assert said in str(caught.value)


def test_rows_are_rounded_to_few_totals(minilm: EncoderModel) -> None:
    """28 shapes up to 1,024 tokens, none more than an eighth too long beyond 64 tokens."""
    totals = [minilm.rounded_total(tokens) for tokens in range(1, 1025)]
    assert len(set(totals)) == 28
    assert all(tokens <= its <= tokens + max(7, tokens // 4) for tokens, its in enumerate(totals, start=1))


def test_padded_lengths_stay_few_and_within_the_limit(encoder_directory: Build) -> None:
    """A tiny MPNet takes 64 tokens, in steps of 8."""
    model = loaded(encoder_directory("mpnet"))
    padded = [model.padded_length(length) for length in range(1, 65)]
    assert sorted(set(padded)) == list(range(8, 65, 8))


def test_examples_are_sentences_or_ids_of_an_exact_length(minilm: EncoderModel) -> None:
    """The ids begin and end as the tokenizer's own, and hold real text."""
    assert all(isinstance(text, str) for text in minilm.examples(3))
    for length in (3, 50, 256):
        items = minilm.examples(4, length=length, seed=1)
        assert [minilm.admit(item).length for item in items] == [length] * 4
        assert all(item[0] == 101 and item[-1] == 102 and 0 not in item for item in items)
    assert minilm.examples(4, length=50) != minilm.examples(4, length=50, seed=1)


@pytest.mark.parametrize("length", [2, 257])
def test_examples_of_an_impossible_length_name_the_limits(minilm: EncoderModel, length: int) -> None:
    """Two tokens are the special ones alone."""
    with pytest.raises(ConfigError, match=f"length {length} can't be had: this model takes 3 to 256 tokens"):
        minilm.examples(1, length=length)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet"])
def test_flops_agree_with_pytorchs_counter(encoder_directory: Build, kind: str) -> None:
    """With attention unfused, which PyTorch counts whole."""
    directory = encoder_directory(kind)
    model, config = loaded(directory), AutoConfig.from_pretrained(directory)
    plain = AutoModel.from_pretrained(directory, config=config, attn_implementation="eager").eval()
    plain.pooler = None
    ids = torch.randint(5, 200, (3, 40))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        plain(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert model.flops(3, 40) == counter.get_total_flops()


def test_info_says_what_was_loaded(minilm: EncoderModel) -> None:
    """Parameters without the unused pooler; four bytes each."""
    info = minilm.info
    assert (info.kind, info.dtype, info.device, info.max_length) == ("encoder", "float32", "cpu", 256)
    assert info.num_parameters == 22_565_376
    assert info.parameter_bytes == 4 * 22_565_376


def test_threads_are_set_where_the_model_runs(encoder_directory: Build) -> None:
    """PyTorch keeps the number for each thread apart."""
    model = loaded(encoder_directory("bert"), num_threads=1)
    payloads = [model.admit("a dog").payload]
    with ThreadPoolExecutor(1) as worker:
        worker.submit(model.run, payloads).result()
        assert worker.submit(torch.get_num_threads).result() == 1


def test_missing_weights_are_an_error_not_random_numbers(encoder_directory: Build, tmp_path: Path) -> None:
    """The library underneath would fill them in and go on."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "changed"))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(TargetError, match=r"lack 16 tensors, such as 'encoder\.layer\.2\."):
        loaded(directory)


@pytest.mark.parametrize(
    ("missing", "said"),
    [("model.safetensors", "could not be loaded"), ("config.json", r"config\.json is missing")],
)
def test_missing_file_is_named(encoder_directory: Build, tmp_path: Path, missing: str, said: str) -> None:
    """Weights or configuration."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "changed"))
    (directory / missing).unlink()
    with pytest.raises(TargetError, match=said):
        loaded(directory)


def test_missing_tokenizer_is_named(encoder_directory: Build, tmp_path: Path) -> None:
    """A directory without any tokenizer's file."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "changed"))
    for path in directory.glob("*token*"):
        path.unlink()
    with pytest.raises(TargetError, match=r"has no tokenizer: neither tokenizer\.json nor vocab\.txt"):
        loaded(directory)


def test_broken_tokenizer_is_named(encoder_directory: Build, tmp_path: Path) -> None:
    """A truncated tokenizer.json."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "changed"))
    (directory / "tokenizer.json").write_text("{")
    with pytest.raises(TargetError, match=r"the tokenizer in .* can't be read: EOF"):
        loaded(directory)


def test_older_tokenizer_files_are_converted(minilm: EncoderModel, tmp_path: Path) -> None:
    """A directory with vocab.txt alone gives the same ids."""
    ignore = shutil.ignore_patterns("tokenizer.json", "*.md", "data_config.json")
    directory = Path(shutil.copytree(minilm_directory(), tmp_path / "older", ignore=ignore))
    texts = sentences(20, seed=6)
    older = loaded(directory)
    assert [older.admit(t).payload.tolist() for t in texts] == [minilm.admit(t).payload.tolist() for t in texts]


def test_unknown_step_is_refused_with_the_remedy(encoder_directory: Build, tmp_path: Path) -> None:
    """A step that would change the vectors is never left out silently."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "changed"))
    steps = json.loads((directory / "modules.json").read_text())
    steps.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (directory / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(TargetError, match="asks for the step 'Dense'; known are Transformer, Pooling, Normalize"):
        EncoderModel(directory)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"device": "cuda:99"}, "device 'cuda:99' is not on this machine; it has cpu"),
        ({"device": "gpu"}, "'gpu' is not a device; write one of cpu"),
        ({"dtype": "int3"}, "dtype 'int3' is not known; write auto, float32"),
    ],
    ids=["absent", "unknown", "dtype"],
)
def test_impossible_option_names_the_possible(encoder_directory: Build, option: dict[str, str], said: str) -> None:
    """Refused before anything is loaded."""
    with pytest.raises(ConfigError) as caught:
        EncoderModel(encoder_directory("bert"), **option)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", "{", "is not JSON"),
        ("modules.json", '{"type": "Pooling"}', "must be a list of modules"),
        ("config.json", "[]", "must hold a JSON object, not list"),
        (
            "1_Pooling/config.json",
            '{"pooling_mode": "median"}',
            r"asks for the pooling \['median'\]; it must name at least one of",
        ),
        ("1_Pooling/config.json", "{}", r"asks for the pooling \[\]"),
    ],
)
def test_malformed_file_is_named(encoder_directory: Build, tmp_path: Path, file: str, content: str, said: str) -> None:
    """With what it must hold."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "changed"))
    (directory / file).write_text(content)
    with pytest.raises(TargetError, match=said):
        EncoderModel(directory)


def test_prompt_left_out_of_the_pooling_is_refused(encoder_directory: Build, tmp_path: Path) -> None:
    """Rather than pooled over all the same."""
    directory = Path(shutil.copytree(encoder_directory("bert"), tmp_path / "changed"))
    said = {"prompts": {"query": "search for: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(said))
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean", "include_prompt": false}')
    with pytest.raises(TargetError, match="leaves the prompt's tokens out of the pooling"):
        EncoderModel(directory)


def test_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    """Its decoder would want inputs of its own."""
    (tmp_path / "config.json").write_text('{"model_type": "t5", "architectures": ["T5Model"]}')
    with pytest.raises(TargetError, match=r"holds an encoder with a decoder \(t5\); give an encoder alone"):
        loaded(tmp_path)


def test_unknown_architecture_has_no_formula(encoder_directory: Build) -> None:
    """Then PyTorch's counter is asked instead."""
    assert loaded(encoder_directory("bert")).flops(1, 8) is not None
    assert loaded(encoder_directory("modernbert")).flops(1, 8) is None


def test_closed_model_can_be_loaded_again(encoder_directory: Build) -> None:
    """As when two batchers are given one model, one after the other."""
    model = loaded(encoder_directory("bert"))
    before = embed(model, ["a dog"])
    model.close()
    model.load()
    model.load()
    np.testing.assert_array_equal(embed(model, ["a dog"]), before)


def test_examples_of_a_length_need_a_loaded_model(encoder_directory: Build) -> None:
    """The tokenizer is read by load()."""
    with pytest.raises(ConfigError, match=r"need the tokenizer; call load\(\) first"):
        EncoderModel(encoder_directory("bert")).examples(1, length=9)
