"""Faster modules in the place of transformers' own: the same logits, and a way back where they don't fit."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from carpool.errors import ConfigError
from carpool.llm.fast_modules import make_fast
from carpool.llm.int8 import Int8Linear, round_to_int8
from carpool.llm.joined import JoinedPart, join_linears
from carpool.llm.load import weights_bytes
from carpool.llm.made_fast import made_fast
from carpool.llm.norms import FusedRMSNorm, fuse_norms, fused_norm
from carpool.models import prepack
from tests.llm.tiny import CONFIGS, ids_of, logits_of, tiny_model

CLOSE: Any = {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.parametrize("kind", CONFIGS)
def test_fast_modules_give_the_logits_of_the_plain_ones(kind: str) -> None:
    """For every tested architecture, in float32."""
    plain, fast = tiny_model(kind), tiny_model(kind)
    notes = make_fast(fast)
    ids = ids_of(plain)
    torch.testing.assert_close(logits_of(fast, ids), logits_of(plain, ids), **CLOSE)
    assert any("laid out once" in note for note in notes)
    assert any("as one operation each" in note for note in notes)
    assert not any(isinstance(module, nn.Linear) for module in fast.modules())


@pytest.mark.parametrize("kind", CONFIGS)
def test_fast_modules_stay_within_the_rounding_of_bfloat16(kind: str) -> None:
    """Nearer to the float32 logits than a little more than the plain bfloat16 model is."""
    exact, plain, fast = tiny_model(kind), tiny_model(kind).bfloat16(), tiny_model(kind).bfloat16()
    make_fast(fast)
    ids = ids_of(plain)
    expected = logits_of(exact, ids)
    ours, theirs = ((logits_of(model, ids) - expected).abs().mean() for model in (fast, plain))
    assert ours <= 1.2 * theirs + 1e-3


def test_layers_on_the_same_rows_are_one_product() -> None:
    """Queries, keys and values; gate and up: two products a layer, each computed once a step."""
    model = tiny_model("qwen2")  # with biases
    expected = logits_of(model, ids_of(model))
    calls: list[int] = []

    def make(linear: nn.Linear) -> nn.Module:
        linear.register_forward_hook(lambda *_: calls.append(linear.out_features))
        return linear

    assert join_linears(model, make) == 4
    torch.testing.assert_close(logits_of(model, ids_of(model)), expected, **CLOSE)
    assert calls == [32 + 16 + 16, 128] * 2
    parts = [module for module in model.modules() if isinstance(module, JoinedPart)]
    assert len(parts) == 10
    assert all(part._joined._rows is None and not part._joined._waiting for part in parts)


class Crossed(nn.Module):
    """Calls its layers on rows of which nothing was foreseen."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(4, 3), nn.Linear(4, 5, bias=False)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> list[torch.Tensor]:
        """Twice the same layer, then the other one on other rows, then on the first."""
        return [self.gate_proj(one), self.gate_proj(one), self.up_proj(other), self.up_proj(one), self.gate_proj(other)]


def test_joined_layers_are_right_however_they_are_called() -> None:
    """Joining is about speed: a model that calls its layers in another way gets its results all the same."""
    torch.manual_seed(0)
    model = Crossed()
    one, other = torch.randn(2, 4), torch.randn(3, 4)
    with torch.no_grad():
        expected = model(one, other)
        assert join_linears(model, lambda linear: linear) == 1
        for found, wanted in zip(model(one, other), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def test_layers_of_other_kinds_are_not_joined() -> None:
    """One is missing, or has other inputs, or is a subclass; and nothing changes where a product can't be made."""
    lacking, unlike, special, plain = (nn.Module() for _ in range(4))
    lacking.gate_proj = nn.Linear(4, 4)
    unlike.gate_proj, unlike.up_proj = nn.Linear(4, 4), nn.Linear(5, 4)
    special.gate_proj, special.up_proj = nn.Identity(), nn.Linear(4, 4)
    plain.gate_proj, plain.up_proj = nn.Linear(4, 4), nn.Linear(4, 4)
    assert join_linears(nn.ModuleList([lacking, unlike, special]), lambda linear: linear) == 0
    assert join_linears(plain, lambda _: None) == 0
    assert type(plain.gate_proj) is nn.Linear
    assert plain.gate_proj.weight is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma2RMSNorm])
def test_norms_become_one_operation(kind: type[Any], dtype: torch.dtype) -> None:
    """Llama's, and Gemma's that multiplies by one more than its weights."""
    torch.manual_seed(0)
    norm = kind(48, eps=1e-3).to(dtype)
    nn.init.normal_(norm.weight)
    fused = fused_norm(norm)
    assert isinstance(fused, FusedRMSNorm)
    rows = (3 * torch.randn(5, 7, 48)).to(dtype)
    one_rounding = {torch.float32: 1e-5, torch.float16: 2**-9, torch.bfloat16: 2**-6}[dtype]
    torch.testing.assert_close(fused(rows), norm(rows), rtol=one_rounding, atol=1e-6)


class ShiftedRMSNorm(nn.Module):
    """One whose results are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-5

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Neither Llama's nor Gemma's."""
        return nn.functional.rms_norm(rows, (8,), self.weight, self.eps) + 0.5


class GatedRMSNorm(ShiftedRMSNorm):
    """One that wants two tensors."""

    def forward(self, rows: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Takes a gate."""
        return rows * gate


def test_norms_that_differ_stay() -> None:
    """Other arithmetic, other arguments, and float64, which transformers computes in float32."""
    model = nn.ModuleList([ShiftedRMSNorm(), GatedRMSNorm(), LlamaRMSNorm(8).double(), nn.LayerNorm(8)])
    kinds = [type(module) for module in model]
    assert fuse_norms(model) == 0
    assert [type(module) for module in model] == kinds


def test_float64_is_left_to_the_plain_layers() -> None:
    """OneDNN has no layout for it; logits are bitwise those of transformers."""
    plain, fast = tiny_model("llama").double(), tiny_model("llama").double()
    assert make_fast(fast) == ("linear layers as they are: oneDNN lays out no such weights here",)
    assert torch.equal(logits_of(fast, ids_of(plain)), logits_of(plain, ids_of(plain)))


def test_a_processor_without_the_layout_keeps_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library says so when the first weights are laid out."""

    def fail(linear: nn.Linear) -> nn.Module:
        raise RuntimeError("no such layout")

    monkeypatch.setattr(prepack, "PrepackedLinear", fail)
    plain, fast = tiny_model("llama"), tiny_model("llama")
    assert make_fast(fast)[0].startswith("linear layers as they are")
    torch.testing.assert_close(logits_of(fast, ids_of(plain)), logits_of(plain, ids_of(plain)), **CLOSE)


def test_a_tied_output_projection_tells_its_memory() -> None:
    """Its weights are the embedding's until they are laid out apart."""
    model = tiny_model("llama", tie_word_embeddings=True)
    before = weights_bytes(model)
    notes = make_fast(model)
    assert any("the output projection has weights of its own now, 37.5 KiB" in note for note in notes)
    assert weights_bytes(model) == before + 300 * 32 * 4
    assert not any("weights of its own" in note for note in make_fast(tiny_model("llama")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [1, 3, 64])
def test_int8_products_are_those_of_the_rounded_weights(dtype: torch.dtype, num_rows: int) -> None:
    """Few rows, which PyTorch multiplies by 8-bit weights as they lie, and many."""
    torch.manual_seed(0)
    linear = nn.Linear(48, 32).to(dtype)
    rounded, scale = round_to_int8(linear.weight.detach())
    rows = torch.randn(2, num_rows, 48).to(dtype)
    expected = rows.double() @ (rounded.double() * scale.double()[:, None]).T + linear.bias.double()
    found = Int8Linear(linear)(rows)
    assert found.shape == (2, num_rows, 32)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


def test_int8_rounds_to_half_a_step_of_each_channel() -> None:
    """Channels of very different sizes, one of nothing but zeros included."""
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1e-3], [1.0], [50.0], [0.0], [1.0]]
    )
    rounded, scale = round_to_int8(weight)
    assert rounded.dtype == torch.int8
    assert ((rounded * scale[:, None] - weight).abs() <= 0.5001 * scale[:, None]).all()
    assert rounded[:3].abs().amax(dim=1).tolist() == [127, 127, 127]


def test_int8_weights_take_half_the_memory_and_err_little() -> None:
    """In place of bfloat16: a quarter of float32, and a scale for each channel."""
    plain, small = (tiny_model("llama", hidden_size=128, intermediate_size=256).bfloat16() for _ in range(2))
    notes = make_fast(small, weights="int8")
    assert any("with 8-bit weights" in note for note in notes)
    embedding = weights_bytes(plain.get_input_embeddings())
    assert weights_bytes(small) - embedding < 0.52 * (weights_bytes(plain) - embedding)
    ids = ids_of(plain)
    expected, found = logits_of(plain, ids), logits_of(small, ids)
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.99


def test_layers_that_do_more_than_multiply_stay() -> None:
    """A subclass with a way of its own, between plain ones that give way."""

    class Doubled(nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    for make in (prepack.packed, Int8Linear):
        layers = nn.Sequential(nn.Linear(4, 4), Doubled(4, 4), nn.Linear(4, 4))
        assert prepack.replace_linears(layers, make) == 2
        assert [isinstance(layer, nn.Linear) for layer in layers] == [False, True, False]


def broken(model: Any, *, weights: str) -> tuple[str, ...]:
    """Make a model wrong, or unable to run."""
    if weights == "int8":
        del model.lm_head
    else:
        model.lm_head.weight.data.neg_()
    return ("done",)


def test_a_model_that_says_something_else_is_loaded_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And runs on the modules that it came with."""
    monkeypatch.setattr("carpool.llm.made_fast.make_fast", broken)
    model, notes = made_fast(lambda: tiny_model("llama"), weights="as_is")
    expected = logits_of(tiny_model("llama"), ids_of(model))
    assert torch.equal(logits_of(model, ids_of(model)), expected)
    assert notes == (
        "transformers' own modules, since faster ones fail: its logits lie 2 apart (relative), 0.001 is allowed",
    )
    assert "LlamaForCausalLM runs on transformers' own modules" in caplog.text


def test_8_bit_weights_that_can_not_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """For they were asked for: plain ones would take twice the memory."""
    monkeypatch.setattr("carpool.llm.made_fast.make_fast", broken)
    with pytest.raises(
        ConfigError, match=r"can't be run with 8-bit weights: AttributeError: .*leave the weights as they"
    ):
        made_fast(lambda: tiny_model("llama"), weights="int8")


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_each_architecture_is_made_fast_at_once(kind: str, dtype: torch.dtype) -> None:
    """Nothing is loaded twice, whatever the type and the weights."""
    loads: list[str] = []

    def load() -> Any:
        loads.append(kind)
        return tiny_model(kind).to(dtype)

    for weights in ("as_is", "int8"):
        made_fast(load, weights=weights)
    assert loads == [kind, kind]
