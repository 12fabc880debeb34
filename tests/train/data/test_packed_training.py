"""Training on packed rows is training on each sequence apart: the same loss and the same gradients, in float64."""

from operator import attrgetter
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy

from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.packing import IGNORED, Packed, pack
from carpool.train.data.token_budget import TokenBudgetSampler
from tests.llm.tiny import VOCABULARY, tiny_model

LENGTHS = (5, 23, 1, 12, 9, 30, 2, 17)
_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,
}


def sequences() -> list[torch.Tensor]:
    """Token ids of several lengths, the same ones each time."""
    chance = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (length,), generator=chance) for length in LENGTHS]


def causal_loss(model: nn.Module, batch: Packed) -> torch.Tensor:
    """The loss of a causal model, summed over the tokens that are learnt."""
    logits = model(**batch.arguments()).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def lone_loss(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """The same of a sequence alone."""
    return cross_entropy(model(tokens[None]).logits[0, :-1], tokens[1:], reduction="sum")


def gradients(model: nn.Module) -> torch.Tensor:
    """All of them, one after another; those of the parameters are taken away."""
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    return torch.cat([gradient.flatten() for gradient in found])


def compare(model: nn.Module, tolerance: float) -> None:
    """Check that a causal model learns the same from packed rows and from each sequence apart."""
    apart = torch.stack([lone_loss(model, tokens) for tokens in sequences()]).sum()
    torch.autograd.backward(apart)
    expected = gradients(model)
    packed = causal_loss(model, pack(sequences(), row_length=32))
    torch.autograd.backward(packed)
    torch.testing.assert_close(packed, apart, rtol=tolerance, atol=0)
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("kind", "attention", "tolerance"),
    [
        ("llama", "sdpa", 1e-12),
        ("mistral", "sdpa", 1e-12),
        ("llama", "eager", 1e-6),  # it takes the softmax in float32, whatever the model computes in
        ("gemma2", "eager", 1e-6),
    ],
)
def test_packed_loss_and_gradients_are_those_of_the_sequences_apart(
    kind: str, attention: str, tolerance: float
) -> None:
    """For rotary positions, and for windows of attention shorter than the sequences."""
    compare(tiny_model(kind, attn_implementation=attention).double().train(), tolerance)


def test_learnt_positions_begin_anew_in_each_sequence() -> None:
    """For a model that looks positions up in a table."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "initializer_range": 0.3,
    }
    config = transformers.GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    compare(transformers.GPT2LMHeadModel(config).double().train(), 1e-12)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_encoder_sees_each_sequence_alone(attention: str) -> None:
    """Every token attends to its whole sequence, at learnt positions, and all labels count."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**_ENCODER | {"attn_implementation": attention})
    model = transformers.BertForMaskedLM(config).double().train()
    rows = pack(sequences(), row_length=32, causal=False)
    apart = torch.stack(
        [cross_entropy(model(tokens[None]).logits[0], tokens, reduction="sum") for tokens in sequences()]
    ).sum()
    torch.autograd.backward(apart)
    expected = gradients(model)
    logits = model(**rows.arguments(torch.float64)).logits
    packed = cross_entropy(logits.flatten(0, 1), rows.labels.flatten(), ignore_index=IGNORED, reduction="sum")
    torch.autograd.backward(packed)
    torch.testing.assert_close(packed, apart, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_windows_of_a_token_budget_train_as_one_batch() -> None:
    """Sampler, packing and accumulation together make the step that one pass over all sequences would."""
    texts = sequences()
    steps = []
    for token_budget in (1000, 40):
        model = tiny_model("llama").double().train()
        plan = BatchPlan(effective_batch_size=len(texts), micro_batch_size=len(texts))
        accumulator = Accumulator(
            model, torch.optim.SGD(model.parameters(), lr=0.1), plan=plan, count=attrgetter("num_valid")
        )
        sampler = TokenBudgetSampler(LENGTHS, plan, token_budget=token_budget)
        loader = ([texts[index] for index in indices] for indices in sampler)
        for window in sampler.windows(pack(batch, row_length=32) for batch in loader):
            result = accumulator.step(window, causal_loss)
            parameters = torch.cat([parameter.flatten() for parameter in model.parameters()])
            steps.append((result.num_micro_batches, result.num_valid, parameters))
    assert [num for num, _, _ in steps] == [1, 4]
    assert steps[0][1] == steps[1][1] == sum(LENGTHS) - len(LENGTHS)
    torch.testing.assert_close(steps[1][2], steps[0][2], rtol=1e-12, atol=1e-12)
