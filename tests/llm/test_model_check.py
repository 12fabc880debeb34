"""What is asked of a model before it is run step by step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import transformers
from torch import nn

from carpool.errors import ConfigError
from carpool.llm.attention.hook import describe, use_paged_attention
from carpool.llm.make_runner import make_runner
from carpool.llm.row_sizes import round_up
from carpool.llm.steady_positions import steady_length
from tests.llm.steps import loaded
from tests.llm.tiny import VOCABULARY, tiny_model

_QUERY, _KEY = torch.zeros(1, 4, 5, 8), torch.zeros(1, 2, 5, 8)


def _describe(module: Any = None, *, key: torch.Tensor = _KEY, **more: Any) -> Any:
    return describe(nn.Identity() if module is None else module, _QUERY, key, key, more)


def test_a_layer_is_what_the_model_calls_it_with() -> None:
    """Heads and sizes from the shapes, the rest from the arguments."""
    layer = _describe(scaling=0.5, sliding_window=16, softcap=30.0)
    assert (layer.num_heads, layer.num_kv_heads, layer.key_size, layer.value_size) == (4, 2, 8, 8)
    assert (layer.scaling, layer.window, layer.soft_cap) == (0.5, 16, 30.0)
    assert _describe().scaling == 8**-0.5


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"s_aux": torch.zeros(4)}, "attention sinks"),
        ({"position_bias": torch.zeros(4)}, "a position bias"),
        ({"is_causal": False}, "attention to later tokens"),
        ({"key": torch.zeros(1, 2, 9, 8)}, "attention to another sequence"),
    ],
)
def test_attention_of_another_kind_is_refused_by_name(more: dict[str, Any], named: str) -> None:
    """Nothing that is not computed is passed over in silence."""
    with pytest.raises(ConfigError, match=named):
        _describe(**more)


def test_a_model_whose_attention_can_not_be_replaced_is_refused() -> None:
    """It is named, and what to run instead."""
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=9, hidden_size=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match=r"BloomForCausalLM can't be batched step by step.*such as Llama"):
        use_paged_attention(bloom)


def test_a_model_with_layers_that_are_not_attention_is_refused() -> None:
    """What such layers remember is not in the cache."""
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    config.num_attention_heads = config.num_key_value_heads = 4
    model = transformers.LlamaForCausalLM(config)
    layers = cast("Any", model.model.layers)
    layers[1].self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(ConfigError, match=r"has 2 layers, but 1 of them attend"):
        make_runner(loaded(model), most_tokens=128)


def test_a_model_that_looks_at_neighbours_beside_attention_is_refused() -> None:
    """Two chunks are not the whole then."""
    model = tiny_model("llama")
    inner = model.model.layers[0].mlp
    model.model.layers[0].mlp.forward = lambda rows, forward=inner.forward: forward(rows) + rows.mean(1, keepdim=True)
    with pytest.raises(ConfigError, match=r"in two chunks its logits lie .* looks at other tokens"):
        make_runner(loaded(model), most_tokens=128)


def test_positions_that_stretch_by_the_batch_end_where_they_begin_to() -> None:
    """Whatever else is in the batch, shorter sequences mean the same."""
    dynamic = {"rope_type": "dynamic", "factor": 2.0}
    assert steady_length(SimpleNamespace(rope_parameters=dynamic, max_position_embeddings=64)) == 64
    by_kind = {"full_attention": dynamic, "sliding_attention": {"rope_type": "default"}}
    assert steady_length(SimpleNamespace(rope_parameters=by_kind, max_position_embeddings=32)) == 32
    yarn = {"rope_type": "yarn", "factor": 4.0}
    assert steady_length(SimpleNamespace(rope_parameters=yarn, max_position_embeddings=64)) is None
    assert steady_length(SimpleNamespace()) is None


def test_a_runner_takes_no_longer_sequences_than_positions_allow() -> None:
    """The model says 128, its positions 32."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model = tiny_model("llama", rope_parameters=rope, max_position_embeddings=32)
    assert make_runner(loaded(model), most_tokens=128, block_size=8).max_length == 32


def test_sizes_are_few_and_waste_little() -> None:
    """At most a quarter more rows than are needed, but for the smallest."""
    sizes = {num_rows: round_up(num_rows) for num_rows in range(1, 601)}
    assert len(set(sizes.values())) < 45
    assert all(num_rows <= size <= max(1.25 * num_rows, num_rows + 3) for num_rows, size in sizes.items())
    assert all(round_up(size) == size for size in sizes.values())
