"""From settings to a language model on offer: what is passed on, what is refused, and where errors come from."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from carpool.config.settings import load_settings
from carpool.cost.step_cost import decode_work
from carpool.errors import ConfigError
from carpool.profile.artefact import save_profile
from carpool.serve.build_any import build_any, engine_options, measured_time
from carpool.serve.llm.served import ServedLM
from carpool.serve.offer import Offer
from carpool.serve.repository import Repository, open_source
from tests.profile.llm_virtual import profiled
from tests.serve.fakes import Doubler
from tests.serve.fakes import offer as batched
from tests.serve.llm.rig import language_model, serving

if TYPE_CHECKING:
    from pathlib import Path

SMOL = "demo:smollm2"


def opened(**flags: Any) -> Any:
    """Open what a command line says; underscores before the key's name stand for the dot."""
    return open_source(SMOL, flags={key.replace("__", "."): value for key, value in flags.items()}, environ={})


def test_settings_become_options() -> None:
    """Of the engine and of its steps; the tenants' shares are among them."""
    tables = {
        "model": {"target": SMOL, "dtype": "float32", "num_threads": 2, "batch_timeout": "5s"},
        "llm": {
            "num_slots": 8, "token_budget": 32, "max_waiting": 9, "block_size": 8, "kv_memory": "1MiB",
            "max_length": 99, "deterministic": True, "prefix_caching": False, "weights": "int8", "ttft": "1s",
            "tpot": "150ms",
        },
        "tenants": {"paid": 4.0},
        "server": {"request_timeout": "7s"},
    }  # fmt: skip
    settings = load_settings(tables=tables)
    options = engine_options(settings, SMOL)
    assert (options.target, options.dtype, options.num_threads, options.step_timeout_s) == (SMOL, "float32", 2, 5.0)
    assert (options.kv_memory_bytes, options.max_length, options.weights) == (1024**2, 99, "int8")
    assert options.deterministic
    policy = options.policy
    assert (policy.num_slots, policy.token_budget, policy.max_waiting, policy.block_size) == (8, 32, 9, 8)
    assert not policy.prefix_caching
    assert policy.tenant_weights == {"paid": 4.0}
    served = build_any(settings)
    assert isinstance(served, ServedLM)
    assert (served.name, served.ready, served.policy) == ("smollm2", False, policy)
    assert (served.promises.ttft_s, served.promises.tpot_s, served.promises.timeout_s) == (1.0, 0.15, 7.0)


def test_one_option_is_for_both_kinds_of_models() -> None:
    """The budget of tokens, and how many may wait."""
    flags = {"policy__token_budget": 100, "llm__token_budget": 100, "policy__max_queue": 5, "llm__max_waiting": 5}
    settings, source = opened(**flags)
    assert list(source.names()) == ["smollm2"]
    assert (settings.llm.token_budget, settings.llm.max_waiting) == (100, 5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"policy__max_batch_size": 5},
            "--max-batch-size does nothing for a language model: its steps are formed as [llm] says",
        ),
        ({"model__num_workers": 2}, "--workers does nothing for a language model: leave it out"),
        ({"cache__size": "1MiB"}, "what prompts have in common is cached by llm.prefix_caching"),
        ({"llm__num_slots": 0}, "llm.num_slots is 0; it must be a whole number of at least 1"),
        ({"llm__token_budget": 8}, "[llm] from command line: token_budget is 8, below num_slots 64"),
        ({"llm__kv_memory": "0"}, "would refuse every request"),
    ],
)
def test_what_does_nothing_or_can_not_be_is_refused(flags: dict[str, Any], said: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError) as refusal:
        opened(**flags)
    assert said in str(refusal.value)


def test_what_is_for_language_models_is_refused_for_others() -> None:
    """It would do nothing there."""
    with pytest.raises(ConfigError, match=r"^--num-slots does nothing for a model: it is for language models"):
        open_source("demo:null", flags={"llm.num_slots": 5}, environ={})
    open_source("demo:null", flags={"llm.token_budget": 5, "policy.token_budget": 5}, environ={})


def test_repository_may_hold_language_models(tmp_path: Path) -> None:
    """What its own file says and is of no use is refused there; what all models share is not."""
    (tmp_path / "carpool.toml").write_text("[policy]\nmax_batch_size = 8\n[llm]\nnum_slots = 4\n")
    for name, told in (("lm", f'[model]\ntarget = "{SMOL}"\n'), ("null", '[model]\ntarget = "demo:null"\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "carpool.toml").write_text(told)
    repository = Repository(tmp_path, flags={}, environ={})
    for name in ("lm", "null"):
        sheet = repository.sheet(name)
        assert sheet is not None
        assert sheet.error is None
    (tmp_path / "lm" / "carpool.toml").write_text(f'[model]\ntarget = "{SMOL}"\n[policy]\nmax_wait = "1ms"\n')
    sheet = repository.sheet("lm")
    assert sheet is not None
    assert "policy.max_wait does nothing for a language model" in str(sheet.error)


async def test_each_kind_is_found_by_those_who_ask_for_it() -> None:
    """And refused to the others, with where to ask."""
    offer = Offer.of(language_model(name="lm"), batched(Doubler(), name="rows"))
    assert offer.generator("lm").name == "lm"
    assert offer.named("rows").name == "rows"
    assert [one.name for one in offer.all()] == ["lm", "rows"]
    assert [one.name for one in offer.batched()] == ["rows"]
    assert [*offer.generators()] == [("lm", "1")]
    with pytest.raises(Exception, match=r"'lm' generates text, which this path does not: ask it at /v1/completions"):
        offer.named("lm")
    with pytest.raises(Exception, match=r"'rows' does not generate text: ask it at /predict/rows; of those .* is lm"):
        offer.generator("rows")


def test_name_must_fit_into_a_path() -> None:
    """As for any model."""
    with pytest.raises(ConfigError, match="can't stand in a URL"):
        language_model(name="a/b")


def test_a_profile_tells_the_engine_what_steps_take(tmp_path: Path) -> None:
    """What a plan's carpool.toml names; that of another model, and one that is not there, are refused."""
    path = tmp_path / "profile.json"
    save_profile(path, replace(profiled(), target=SMOL))
    settings, _ = opened(profile=str(path))
    time_model = measured_time(settings, SMOL)
    assert time_model is not None
    assert time_model.time_s(decode_work(1000, 4096)) > time_model.time_s(decode_work(1, 1)) > 0
    assert measured_time(opened()[0], SMOL) is None
    save_profile(path, replace(profiled(), target="demo:other"))
    with pytest.raises(ConfigError, match="is a profile of demo:other, and says nothing of demo:smollm2"):
        measured_time(settings, SMOL)
    save_profile(path, replace(profiled(), target=SMOL, step_cost=None))
    with pytest.raises(ConfigError, match="does not say what a step takes"):
        measured_time(settings, SMOL)
    path.unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        measured_time(settings, SMOL)


async def test_model_that_is_taken_out_finishes_what_it_has_begun() -> None:
    """And is gone for those who come later, who are told how to have it back."""
    async with serving() as client:
        asked = {"model": "m", "prompt": "hello", "max_tokens": 40, "temperature": 0}
        before = asyncio.create_task(client.post("/v1/completions", asked))
        await asyncio.sleep(0)  # it is under way
        out = await client.post("/v2/repository/models/m/unload", {})
        after = await client.post("/v1/completions", asked)
        assert (await before).status == 200
    assert out.status == 200
    assert (after.status, after.json["error"]["code"]) == (404, "model_not_found")
    assert "is unloaded" in after.json["error"]["message"]
