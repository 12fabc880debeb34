"""The keys of `[llm]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.config.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_language_model_generates_as_told(tmp_path: Path) -> None:
    """Sizes and times are read with their units, and what is not told is left to the model and the machine."""
    path = tmp_path / "carpool.toml"
    path.write_text('[llm]\nnum_slots = 8\nkv_memory = "1MiB"\nttft = "1s"\nweights = "int8"\n')
    llm = load_settings(path).llm
    assert (llm.num_slots, llm.kv_memory_bytes, llm.ttft_s, llm.weights) == (8, 1024**2, 1.0, "int8")
    assert (llm.token_budget, llm.max_length, llm.tpot_s, llm.prefix_caching) == (512, None, None, True)
