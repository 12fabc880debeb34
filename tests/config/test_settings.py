"""What a server is told: layers, origins, and errors that name the value, the limit and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carpool.config.cache_keys import CacheSettings
from carpool.config.settings import COMMAND_LINE, DEFAULT, load_settings
from carpool.config.tables import leaves
from carpool.core.policy import Policy
from carpool.errors import ConfigError, SchemaError

FULL = """
schema_version = 1
profile = "out/profile.json"

[model]
target = "demo:minilm"
num_threads = 4

[policy]
max_batch_size = 64
max_wait = "2ms"
length_buckets = [16, 32, 64]
memory_limit = "2GiB"
patience = 5

[server]
port = 9000
max_body = "1MB"

[objective]
p99 = "50ms"

[tenants]
paid = 4
free = 1.0
"""


def written(tmp_path: Path, text: str) -> Path:
    """Write a carpool.toml."""
    path = tmp_path / "carpool.toml"
    path.write_text(text)
    return path


def refusal(**layers: Any) -> str:
    """Return the message that these layers are refused with."""
    with pytest.raises(ConfigError) as caught:
        load_settings(**layers)
    return str(caught.value)


def test_a_whole_file_becomes_settings_with_units_read(tmp_path: Path) -> None:
    """Durations are seconds, sizes bytes, tenants weights of the policy."""
    settings = load_settings(written(tmp_path, FULL))
    assert settings.policy == Policy(
        max_batch_size=64,
        max_wait_s=0.002,
        length_buckets=(16, 32, 64),
        memory_limit_bytes=2 * 1024**3,
        patience_s=5.0,
        tenant_weights={"paid": 4.0, "free": 1.0},
        objectives_s={"p99": 0.05},
    )
    assert (settings.model.target, settings.model.num_threads, settings.model.device) == ("demo:minilm", 4, None)
    assert (settings.server.port, settings.server.max_body_bytes, settings.server.drain_timeout_s) == (
        9000,
        10**6,
        30.0,
    )
    assert settings.objectives_s == {"p99": 0.05}
    assert settings.profile == tmp_path / "out/profile.json"


def test_nothing_given_is_the_core_default_policy() -> None:
    """The defaults are said once, in the core."""
    assert load_settings().policy == Policy()


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """And each value says which layer it came from."""
    path = written(tmp_path, "[policy]\nmax_batch_size = 2\nmax_queue = 3\nlook_ahead = 4\n")
    settings = load_settings(
        path,
        flags={"policy.max_batch_size": 64, "policy.max_queue": None},
        environ={"CARPOOL_POLICY_MAX_BATCH_SIZE": "8", "CARPOOL_POLICY_MAX_QUEUE": "9"},
    )
    origins = {setting.key: (setting.value, setting.origin) for setting in settings.explain()}
    assert origins["policy.max_batch_size"] == (64, COMMAND_LINE)
    assert origins["policy.max_queue"] == (9, "environment CARPOOL_POLICY_MAX_QUEUE")
    assert origins["policy.look_ahead"] == (4, str(path))
    assert origins["server.port"] == (8000, DEFAULT)


def test_every_key_is_explained_once() -> None:
    """explain() leaves nothing out."""
    assert [setting.key for setting in load_settings().explain()] == [leaf.key for leaf in leaves()]


def test_the_environment_is_text_that_stands_for_numbers_lists_and_durations() -> None:
    """Every kind of key can be set from it."""
    settings = load_settings(
        environ={
            "CARPOOL_PROFILE": "p.json",
            "CARPOOL_MODEL_NAME": "7",
            "CARPOOL_POLICY_TOKEN_BUDGET": "4096",
            "CARPOOL_POLICY_LENGTH_BUCKETS": "16,32",
            "CARPOOL_POLICY_MAX_WAIT": "1.5ms",
            "CARPOOL_POLICY_AGEING": "2",
            "CARPOOL_POLICY_MEMORY_LIMIT": "1000",
            "CARPOOL_OBJECTIVE_P50": "20ms",
            "CARPOOL_DEBUG": "1",
            "HOME": "somewhere",
        }
    )
    assert settings.profile == Path("p.json")
    assert settings.model.name == "7"
    assert settings.objectives_s == {"p50": 0.02}
    assert settings.policy == Policy(
        token_budget=4096,
        length_buckets=(16, 32),
        max_wait_s=0.0015,
        ageing_s=2.0,
        memory_limit_bytes=1000,
        objectives_s={"p50": 0.02},
    )


def test_a_cache_is_off_until_it_is_given_a_size(tmp_path: Path) -> None:
    """And sizes and durations are read as everywhere."""
    assert load_settings().cache == CacheSettings(size_bytes=0, ttl_s=0.0, deduplicate=False)
    cache = load_settings(written(tmp_path, '[cache]\nsize = "64MiB"\nttl = "5m"\n')).cache
    assert (cache.size_bytes, cache.ttl_s, cache.deduplicate) == (64 * 1024**2, 300.0, False)


def test_a_batch_size_of_zero_names_value_limit_and_remedy(tmp_path: Path) -> None:
    """Wherever it was set."""
    path = written(tmp_path, "[policy]\nmax_batch_size = 0\n")
    rest = (
        "policy.max_batch_size is 0; it must be a whole number from 1 to 1048576 "
        "(most items in a batch; 1 turns batching off). Correct it, or leave it out for the default, 32"
    )
    assert refusal(path=path) == f"{path}: {rest}"
    assert refusal(flags={"policy.max_batch_size": 0}) == f"command line: {rest}"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"CARPOOL_SERVER_PORT": "http"},
            "CARPOOL_SERVER_PORT is 'http'; it must be a whole number from 0 to 65535 (port to listen on; ",
        ),
        (
            {"CARPOOL_SERVER_PORT": "70000"},
            "CARPOOL_SERVER_PORT is '70000'; it must be a whole number from 0 to 65535 (",
        ),
        (
            {"CARPOOL_POLICY_LENGTH_BUCKETS": "16,many"},
            "CARPOOL_POLICY_LENGTH_BUCKETS is '16,many'; it must be a list, each part a whole number of at least 1 (",
        ),
        ({"CARPOOL_POLICY_MAX_WAIT": "soon"}, "CARPOOL_POLICY_MAX_WAIT: 'soon' is not a duration: write a number"),
        (
            {"CARPOOL_POLICY_MEMORY_LIMIT": "-2GiB"},
            "CARPOOL_POLICY_MEMORY_LIMIT: '-2GiB' is not a size: write a number",
        ),
        (
            {"CARPOOL_POLICY_LENGTH_BUCKETS": "32,16"},
            "[policy] from environment CARPOOL_POLICY_LENGTH_BUCKETS: length_buckets is [32, 16]",
        ),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(environ: dict[str, str], expected: str) -> None:
    """The variable, the value, and what it should have been."""
    assert refusal(environ=environ).startswith(expected)


def test_a_wrong_value_is_said_once() -> None:
    """By what reads durations and sizes, not by the settings too."""
    assert refusal(flags={"policy.max_wait": "soonish"}).count("soonish") == 1
    assert refusal(environ={"CARPOOL_SERVER_MAX_BODY": "hugely"}).count("hugely") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[policy]\nmax_batchsize = 4\n", "unknown key 'policy.max_batchsize': did you mean 'max_batch_size'?"),
        ("[polcy]\nmax_batch_size = 4\n", "unknown key 'polcy': did you mean 'policy'?"),
        ("policy = 3\n", "policy is 3: it must be a table, [policy]"),
        ("schema_version = 7\n", "schema_version is 7; known versions: 1."),
        ("[policy]\nmax_wait = \n", "Invalid value (at line 2, column 12); correct the TOML there"),
    ],
)
def test_a_wrong_file_is_a_schema_error(tmp_path: Path, text: str, expected: str) -> None:
    """With its path, and where and what."""
    path = written(tmp_path, text)
    with pytest.raises(SchemaError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[policy]\nmax_wait = true\n", "policy.max_wait is True; it must be text or a number ("),
        (
            "[policy]\nlength_buckets = [16, 0]\n",
            "policy.length_buckets is [16, 0]; it must be a list, each part a whole number of at least 1 (",
        ),
        ("[tenants]\npaid = 'lots'\n", "tenants is {'paid': 'lots'}; it must be a table, each value a number ("),
        ("[model]\ntarget = 3\n", "model.target is 3; it must be text ("),
        ("[objective]\np99 = 'nan'\n", "objective.p99: 'nan' is not a duration"),
        ("[server]\nmax_body = 0\n", "server.max_body: 0 would refuse every request; it must be above 0"),
        ("[server]\nrequest_timeout = '0s'\n", "server.request_timeout: '0s' would refuse every request"),
        ("[model]\nname = ''\n", "model.name is ''; it must be text that is not empty ("),
        ('[model]\nname = "a\\nb"\n', "model.name: 'a\\nb' holds what can't be printed; it must be"),
        ("[objective]\np99 = '0s'\n", "objective.p99: '0s' is no time at all; it must be above 0 ("),
        ("[tenants]\na = -1\n", "tenants: the share of 'a' is -1.0; it must be above 0 and finite ("),
        ("[tenants]\na = inf\n", "tenants: the share of 'a' is inf; it must be above 0 and finite ("),
        ("[tenants]\n'a b' = 1\n", "tenants: 'a b' is no name of a tenant; it must be 1 to 64 printable characters"),
        ('[tenants]\n"a\\t" = 1\n', "tenants: 'a\\t' is no name of a tenant"),
    ],
)
def test_a_wrong_value_in_a_file_is_named_with_its_key(tmp_path: Path, text: str, expected: str) -> None:
    """With its path, and what was expected."""
    path = written(tmp_path, text)
    assert refusal(path=path).startswith(f"{path}: {expected}")


def test_those_without_a_name_may_have_a_share_too(tmp_path: Path) -> None:
    """Whose requests name no tenant belong to the one with the empty name."""
    path = written(tmp_path, '[tenants]\n"" = 0.5\n')
    assert load_settings(path).policy.tenant_weights == {"": 0.5}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """It was asked for by name, so its absence is an error."""
    assert refusal(path=tmp_path / "none.toml").startswith(f"cannot read {tmp_path / 'none.toml'}: No such file")


def test_the_reference_page_has_every_key_with_its_default_and_meaning() -> None:
    """A key that is added or changed must be told there."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "carpool-toml.md").read_text(encoding="utf-8")
    for leaf in leaves():
        default = list(leaf.default) if isinstance(leaf.default, tuple) else leaf.default
        default = str(default).lower() if isinstance(leaf.default, bool) else default  # as TOML writes it
        shown = "none" if default is None else f"`{default}`"
        assert f"| `{leaf.key}` | {shown} | {leaf.description} |" in page


WORKLOAD = """
profile_sha256 = "{sha}"
[model]
num_workers = 3
[workload]
rate = 400
arrivals = "gamma"
burstiness = 2.5
lengths = [16, 16, 64]
deadline = "200ms"
priorities = {{ 0 = 0.9, "5" = 0.1 }}
"""


def test_a_workload_is_read_with_its_units(tmp_path: Path) -> None:
    """Durations are seconds, priorities whole numbers; what was not told is None."""
    settings = load_settings(written(tmp_path, WORKLOAD.format(sha="0a" * 32)))
    workload = settings.workload
    assert (workload.rate, workload.arrivals, workload.burstiness, workload.speed) == (400.0, "gamma", 2.5, None)
    assert (workload.lengths, workload.deadline_s, workload.patience_s) == ((16, 16, 64), 0.2, None)
    assert workload.priorities == {0: 0.9, 5: 0.1}
    assert (settings.profile_sha256, settings.model.num_workers) == ("0a" * 32, 3)


def test_files_that_a_file_names_are_sought_beside_it(tmp_path: Path) -> None:
    """Those that the command line names, and absolute ones, are left as they are."""
    path = written(tmp_path, 'profile = "p.json"\n[workload]\ntrace = "/data/t.csv"\n')
    settings = load_settings(path)
    assert (settings.profile, settings.workload.trace) == (tmp_path / "p.json", Path("/data/t.csv"))
    assert load_settings(path, flags={"profile": "p.json"}).profile == Path("p.json")


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ({"rate": 5}, {"rate": 5.0, "arrivals": "gamma", "burstiness": 2.5}),
        ({"arrivals": "poisson"}, {"rate": 400.0, "arrivals": "poisson", "burstiness": None}),
        ({"trace": "t.csv"}, {"rate": 400.0, "arrivals": None, "burstiness": None, "trace": Path("t.csv")}),
        ({"trace": "t.csv", "speed": 2}, {"rate": None, "arrivals": None, "speed": 2.0}),
    ],
)
def test_a_stronger_layer_displaces_what_has_no_meaning_beside_it(
    tmp_path: Path, flags: dict[str, Any], left: dict[str, Any]
) -> None:
    """Other arrivals take away the shape of those before; a rate and a speed take away each other."""
    path = written(tmp_path, WORKLOAD.format(sha="0" * 64))
    workload = load_settings(path, flags={f"workload.{key}": value for key, value in flags.items()}).workload
    assert {key: getattr(workload, key) for key in left} == left
    assert workload.deadline_s == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile_sha256 = 'abc'\n", "profile_sha256 is 'abc'; it must be text"),
        ("[model]\nnum_workers = 0\n", "model.num_workers is 0; it must be a whole number from 1 to 1024"),
        ("[model]\nnum_workers = 1000000000\n", "num_workers is 1000000000; it must be a whole number from 1 to 1024"),
        ("[policy]\nmax_queue = 2000000\n", "max_queue is 2000000; it must be a whole number from 1 to 1048576"),
        ("[workload]\nrate = 0\n", "workload.rate is 0; it must be a number above 0"),
        ("[workload]\narrivals = 'often'\n", "workload.arrivals is 'often'; it must be one of"),
        ("[workload]\npeak_to_mean = 3\n", "workload.peak_to_mean is 3; it must be a number from 1 to 2"),
        ("[workload]\non = '0s'\n", "workload.on: '0s' is no time at all; it must be above 0"),
        ("[workload]\nlengths = [0]\n", "workload.lengths is [0]; it must be a list, each part a whole number of at"),
        ("[workload]\npriorities = { high = 1 }\n", "workload.priorities: 'high' is no priority; it must be a whole"),
        ("[workload]\nburstness = 3\n", "unknown key 'workload.burstness': did you mean 'burstiness'?"),
    ],
)
def test_a_workload_that_is_none_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    """As are a hash that is none, and no workers."""
    assert message in refusal(path=written(tmp_path, text))


PIPELINE = """
[pipeline]
steps = ["clean", "embed"]
[model]
versions = [1, 3]
warm_up = "5s"
[server]
watch = "2s"
strict = true
[step.clean]
target = "steps.py:clean"
[step.clean.policy]
max_batch_size = 128
max_wait = "1ms"
"""


def test_the_steps_of_a_pipeline_have_policies_of_their_own(tmp_path: Path) -> None:
    """What a step's table leaves out is as by default, not as the file's own policy; what it shares is the model's."""
    settings = load_settings(written(tmp_path, f"{PIPELINE}\n[policy]\nmax_batch_size = 7\n"))
    assert settings.steps == ("clean", "embed")
    clean = settings.own_steps["clean"]
    assert (clean.model.target, clean.model.num_workers, clean.model.warm_up_s) == ("steps.py:clean", None, 5.0)
    assert clean.policy == Policy(max_batch_size=128, max_wait_s=0.001)
    assert set(settings.own_steps) == {"clean"}
    assert (settings.model.versions, settings.server.watch_s, settings.server.strict) == ((1, 3), 2.0, True)


def test_an_earlier_file_wins_over_a_later_one(tmp_path: Path) -> None:
    """As a model's own over that of its repository; tables given by hand win over all, flags included."""
    own, shared = tmp_path / "own.toml", tmp_path / "shared.toml"
    own.write_text("[policy]\nmax_batch_size = 2\n")
    shared.write_text("[policy]\nmax_batch_size = 3\nmax_queue = 4\n")
    policy = load_settings([own, shared]).policy
    assert (policy.max_batch_size, policy.max_queue) == (2, 4)
    tables = {"policy": {"max_batch_size": 9}}
    settings = load_settings([own, shared], flags={"policy.max_batch_size": 5}, tables=tables, tables_from="the load")
    assert settings.policy.max_batch_size == 9
    assert refusal(tables={"polcy": {}}, tables_from="the load").startswith("the load: unknown key 'polcy': did you")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nversions = 'some'\n", "model.versions is 'some'; it must be one of all or a whole number of at"),
        ("[model]\nversions = 0\n", "model.versions is 0; it must be one of all or a whole number of at least 1"),
        ("[server]\nstrict = 'maybe'\n", "server.strict is 'maybe'; it must be true or false"),
        ("[pipeline]\nsteps = 'all'\n", "pipeline.steps is 'all'; it must be a list, each part text"),
        ("[step.a]\ntarget = 'x'\n", "step.a is no step of the pipeline: name it in [pipeline] steps, which has none"),
        ("[pipeline]\nsteps = ['a']\n[step.a]\ntarget = 3\n", "step is {'a': {'target': 3}}; it must be a table, each"),
        ("[pipeline]\nsteps = ['a']\n[step.a]\ntargt = 'x'\n", "unknown key 'step.a.targt': did you mean 'target'?"),
        (
            "[pipeline]\nsteps = ['a']\n[step.a]\ntarget = 'x'\n[step.a.policy]\nmax_wait = 'soon'\n",
            "step.a.policy: max_wait: 'soon' is not a duration",
        ),
        (
            "[pipeline]\nsteps = ['a']\n[step.a]\ntarget = 'x'\n[step.a.policy]\nlength_buckets = [2, 1]\n",
            "step.a.policy: length_buckets is [2, 1]",
        ),
        ("step = 3\n", "step is 3: it must be a table, [step]"),
    ],
)
def test_a_pipeline_that_is_none_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    """As are the versions of a repository."""
    assert message in refusal(path=written(tmp_path, text))


def test_the_environment_sets_truth_values_and_versions() -> None:
    """As text."""
    settings = load_settings(environ={"CARPOOL_SERVER_STRICT": "true", "CARPOOL_MODEL_VERSIONS": "2"})
    assert (settings.server.strict, settings.model.versions) == (True, 2)
