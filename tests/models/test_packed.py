"""Packed encoders: the vectors of padding, without padding, for every architecture that can; and those that can't."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModel, MPNetModel

from carpool import Batcher, Policy
from carpool.errors import ConfigError
from carpool.models import encoder_check, packed, prepack
from carpool.models.embed import EncoderModel
from carpool.models.encoder_files import read_encoder_files
from carpool.models.function import FunctionModel
from carpool.models.packed import lay_out
from carpool.models.pooling import pool
from carpool.models.threads import num_cores, preferred_workers
from carpool.models.torch_model import TorchModel

Build = Callable[..., Path]
PACKED = ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "qwen3"]
PADDED = ["mpnet", "deberta-v2"]


def loaded(directory: Path, dtype: str = "float32", **options: Any) -> EncoderModel:
    """Return a loaded encoder on the CPU."""
    model = EncoderModel(directory, device="cpu", dtype=dtype, **options)
    model.load()
    return model


def some_ids(*lengths: int) -> list[NDArray[np.int64]]:
    """Return token ids of these lengths, none of them padding."""
    rng = np.random.default_rng(0)
    return [rng.integers(5, 200, length) for length in lengths]


def reference(directory: Path, ids: NDArray[np.int64], pooling: str) -> NDArray[np.float32]:
    """Return what transformers itself gives for one text alone, pooled by hand."""
    plain = AutoModel.from_pretrained(read_encoder_files(directory).directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        hidden = plain(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0].numpy()
    vector: NDArray[np.float32] = hidden[-1] if pooling == "lasttoken" else hidden.mean(axis=0)
    return vector


@pytest.mark.parametrize("kind", PACKED)
def test_every_text_of_a_packed_batch_is_as_it_is_alone(encoder_directory: Build, kind: str) -> None:
    """Whoever lies beside it: equal and unequal lengths, one token, and more than a window of attention."""
    pooling = "lasttoken" if kind == "qwen3" else "mean"
    directory = encoder_directory(kind, pooling, normalize=False)
    model, ids = loaded(directory), some_ids(9, 1, 30, 9, 64, 2, 30, 30)
    assert (model.info.batching, model.ragged) == ("packed", True)
    expected = np.stack([reference(directory, its, pooling) for its in ids])
    np.testing.assert_allclose(model.run(ids), expected, atol=2e-5)


@pytest.mark.parametrize("kind", PACKED)
def test_bfloat16_stays_close_to_float32(encoder_directory: Build, kind: str) -> None:
    """Cosine 0.999, in any company."""
    directory, ids = encoder_directory(kind), some_ids(9, 1, 30, 9, 64)
    model, exact = loaded(directory, "bfloat16"), loaded(directory)
    assert model.info.batching == "packed"
    assert ((model.run(ids) * exact.run(ids)).sum(axis=1) > 0.999).all()


@pytest.mark.parametrize("kind", PADDED)
def test_attention_that_can_not_be_replaced_is_padded(
    encoder_directory: Build, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is found out at loading, told once, and the vectors are right."""
    directory, ids = encoder_directory(kind, "mean", normalize=False), some_ids(9, 1, 30, 9)
    with caplog.at_level(logging.WARNING):
        model = loaded(directory)
    assert (model.info.batching, model.ragged) == ("padded", False)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("packing them fails: NotImplementedError: its attention can't be replaced")
    alone = np.concatenate([model.run([its]) for its in ids])
    np.testing.assert_allclose(model.run(ids), alone, atol=2e-5)


def test_an_attention_that_looks_at_neighbours_is_found_out(
    encoder_directory: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An architecture that takes the name of the attention, but lets texts see each other, gives other vectors."""
    attend = packed.attend

    def over_all(module: Any, query: Any, key: Any, value: Any, *more: Any, scaling: Any = None, **named: Any) -> Any:
        attend(module, query, key, value, *more, scaling=scaling, **named)
        return nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2), None

    monkeypatch.setattr(packed, "attend", over_all)
    assert loaded(encoder_directory("bert")).info.batching == "padded"
    assert "its vectors have a cosine of" in caplog.text


def test_an_attention_of_its_own_is_found_out_by_not_being_asked(
    encoder_directory: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In bfloat16 a few tokens of others may not show in the vectors."""
    monkeypatch.setattr(MPNetModel, "_can_set_attn_implementation", classmethod(lambda _: True))
    assert loaded(encoder_directory("mpnet"), "bfloat16").info.batching == "padded"
    assert "its attention is its own" in caplog.text


def test_what_attention_adds_and_is_not_known_is_padded(
    encoder_directory: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a soft cap, which some architectures hand over."""
    attend = packed.attend
    monkeypatch.setattr(packed, "attend", lambda *given, **more: attend(*given, **more, softcap=50.0))
    assert loaded(encoder_directory("bert")).info.batching == "padded"
    assert "packed attention knows no softcap" in caplog.text


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30))
def test_a_layout_holds_every_text_once_and_in_order(lengths: list[int]) -> None:
    """Groups follow each other without a gap, and places lead back to where each text came from."""
    layout = lay_out(lengths, sum(lengths) + 5)
    assert [lengths[index] for index in layout.order] == list(layout.lengths) == sorted(lengths)
    assert [layout.order[place] for place in layout.places] == list(range(len(lengths)))
    start = 0
    for first, num_texts, length in layout.groups:
        assert first == start
        start += num_texts * length
    assert start == layout.num_tokens == sum(lengths)
    assert len({length for _, _, length in layout.groups}) == len(layout.groups)


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_pooling_of_many_texts_is_that_of_each(mode: str) -> None:
    """Each by numpy, on its own tokens."""
    tokens, lengths = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), (5, 1, 6)
    by_hand: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "cls": lambda rows: rows[0],
        "max": lambda rows: rows.max(axis=0),
        "mean": lambda rows: rows.mean(axis=0),
        "mean_sqrt_len_tokens": lambda rows: rows.sum(axis=0) / len(rows) ** 0.5,
        "weightedmean": lambda rows: np.average(rows, axis=0, weights=np.arange(1, len(rows) + 1)),
        "lasttoken": lambda rows: rows[-1],
    }
    expected = np.stack([by_hand[mode](rows) for rows in np.split(tokens.numpy(), [5, 6])])
    np.testing.assert_allclose(pool(tokens, lengths, [mode], normalize=False), expected, rtol=1e-5, atol=1e-6)


def test_prepacked_layers_take_the_place_of_the_plain_ones() -> None:
    """The same products, the weights there once, and a layer that stands in two places packed once."""
    shared = nn.Linear(8, 8)
    layers = nn.Sequential(shared, nn.GELU(), shared, nn.Linear(8, 4, bias=False)).eval()
    rows = torch.randn(5, 8)
    expected = layers(rows).detach()
    assert prepack.prepack(layers) == 2
    assert layers[0] is layers[2]
    assert shared.weight is None
    torch.testing.assert_close(layers(rows), expected)


def test_layers_of_a_kind_of_their_own_stay_as_they_are() -> None:
    """Whoever changed what a linear layer does means it; and oneDNN has no double precision."""

    class Doubled(nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    assert prepack.prepack(nn.Sequential(Doubled(4, 4))) == 0
    assert prepack.prepack(nn.Sequential(nn.Linear(4, 4).double())) == 0


@pytest.mark.parametrize("trouble", [RuntimeError("unsupported on this processor"), AttributeError("no such operator")])
def test_without_the_operators_layers_stay_plain(trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are private to PyTorch, and not there on every processor."""

    def fail(_: nn.Linear) -> None:
        raise trouble

    monkeypatch.setattr(prepack, "PrepackedLinear", fail)
    layers = nn.Sequential(nn.Linear(4, 4))
    assert prepack.prepack(layers) == 0
    assert type(layers[0]) is nn.Linear


def test_operators_that_differ_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer is held against the plain one on the spot."""
    monkeypatch.setattr(prepack, "PrepackedLinear", lambda linear: lambda rows: 1.5 * linear(rows))
    assert prepack.prepack(nn.Sequential(nn.Linear(4, 4))) == 0


def test_an_encoder_that_fails_on_prepacked_weights_is_loaded_plain(
    encoder_directory: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one that looks at a layer's weights itself."""

    def breaks(encoder: nn.Module) -> int:
        encoder.get_submodule("encoder.layer.0.output").dense = nn.Identity()
        return 1

    monkeypatch.setattr(encoder_check, "prepack", breaks)
    directory, ids = encoder_directory("bert", "mean", normalize=False), some_ids(5, 9)
    model = loaded(directory)
    assert "runs on plain weights" in caplog.text
    expected = np.stack([reference(directory, its, "mean") for its in ids])
    np.testing.assert_allclose(model.run(ids), expected, atol=2e-5)


def test_workers_share_the_cores(encoder_directory: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread each by default, and as many workers as leave cores for the threads that are asked for."""
    monkeypatch.setattr("carpool.models.threads.num_cores", lambda: 6)
    monkeypatch.setattr("carpool.models.embed.num_cores", lambda: 6)
    assert [preferred_workers(threads) for threads in (None, 1, 2, 4, 16)] == [6, 6, 3, 1, 1]
    free, bound = (EncoderModel(encoder_directory("bert"), device="cpu", num_threads=number) for number in (None, 2))
    assert (free.preferred_workers, bound.preferred_workers) == (6, 3)
    for model in (free, bound):
        model.share_cores(3)
    assert (free.info.num_threads, bound.info.num_threads) == (2, 2)
    free.share_cores(1)
    assert num_cores() >= 1


def test_a_function_says_that_it_pads_nothing() -> None:
    """Then its items' lengths add up, which it must tell."""

    class Ragged:
        ragged = True

        def length(self, item: str) -> int:
            return len(item)

        def __call__(self, batch: list[str]) -> list[int]:
            return [len(text) for text in batch]

    assert FunctionModel(Ragged, name="ragged").ragged
    assert not FunctionModel(len, name="plain").ragged
    with pytest.raises(ConfigError, match=r"says `ragged = True`.*needs a function length\(item\)"):
        FunctionModel(type("Bare", (Ragged,), {"length": None}), name="bare")


def test_a_module_that_pads_nothing_is_given_lists() -> None:
    """Each item's tensors as they are, in the type of the weights, one row of the output an item."""

    class Sums(nn.Module):
        ragged = True

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def length(self, item: Any) -> int:
            return len(item)

        def forward(self, rows: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack([self.scale * row.sum() for row in rows])

    model = TorchModel(Sums, name="sums", device="cpu")
    model.load()
    assert model.ragged
    items = [model.admit(item) for item in ([1.0, 2.0], [3.0], [1.0, 1.0, 1.0])]
    assert [item.length for item in items] == [2, 1, 3]
    assert np.asarray(model.run([item.payload for item in items])).tolist() == [6.0, 6.0, 6.0]


def test_a_batcher_counts_the_tokens_of_ragged_items() -> None:
    """Four items of 40 tokens in all are one batch of a budget of 40: padded, they would be 80."""

    def total(batch: list[list[int]]) -> list[int]:
        return [sum(item) for item in batch]

    total.ragged, total.length = True, len  # type: ignore[attr-defined]
    with Batcher(total, policy=Policy(max_batch_size=8, token_budget=40)) as batcher:
        assert batcher.policy.ragged
        assert batcher.map([[1] * 20, [1] * 5, [1] * 5, [1] * 10]) == [20, 5, 5, 10]
        totals = batcher.metrics.totals()
    assert (totals.num_items, totals.real_tokens, totals.padded_tokens) == (4, 40, 40)
