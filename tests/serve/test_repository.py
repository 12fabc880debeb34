"""What a model repository is, and what it tells of its models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.errors import ConfigError, TargetError
from carpool.serve.build import find_target
from carpool.serve.repository import is_repository, open_source
from tests.serve.repositories import repository_of, write_entry, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.serve.source import Sheet


def versions(sheet: Sheet | None) -> list[str]:
    """Return the versions that are to be served."""
    assert sheet is not None
    assert sheet.error is None, sheet.error
    return [blueprint.version for blueprint in sheet.versions]


def refusal(sheet: Sheet | None) -> str:
    """Return what is wrong with what is told of a model."""
    assert sheet is not None
    assert sheet.error is not None
    return str(sheet.error)


def test_a_directory_is_told_from_a_repository_and_from_neither(tmp_path: Path) -> None:
    """By what it holds, which is said where it is neither."""
    encoder, repository, neither = tmp_path / "encoder", tmp_path / "models", tmp_path / "photos"
    for directory in (encoder, neither / "2024", neither / ".git"):
        directory.mkdir(parents=True)
    (encoder / "config.json").write_text("{}")
    write_entry(repository, "a")
    assert not is_repository(encoder)
    assert is_repository(repository)
    with pytest.raises(TargetError, match=r"is neither a model .* nor a model repository .*: it holds .git/, 2024/"):
        is_repository(neither)
    with pytest.raises(TargetError, match="it holds nothing"):
        is_repository(neither / "2024")


def test_models_are_the_directories_with_a_settings_file(tmp_path: Path) -> None:
    """Others are left alone."""
    write_entry(tmp_path, "b")
    write_entry(tmp_path, "a")
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.md").write_text("# Models")
    repository = repository_of(tmp_path)
    assert list(repository.names()) == ["a", "b"]
    assert versions(repository.sheet("a")) == ["1"]
    assert repository.sheet("notes") is None


@pytest.mark.parametrize(
    ("told", "wanted"),
    [("", ["10"]), ("versions = 2", ["2", "10"]), ('versions = "all"', ["1", "2", "10"]), ("versions = [2]", ["2"])],
)
def test_versions_are_chosen_by_number(tmp_path: Path, told: str, wanted: list[str]) -> None:
    """The highest one, so many of the highest, all, or those that are named; 10 comes after 2."""
    directory = write_entry(tmp_path, "m")
    (directory / "carpool.toml").write_text(f'[model]\ntarget = "model.py:Model"\n{told}\n')
    for name in ("1", "2", "10", "01", "old"):
        write_model(directory / name, 3)
    assert versions(repository_of(tmp_path).sheet("m")) == wanted


def test_a_version_that_is_named_and_not_there_is_refused(tmp_path: Path) -> None:
    """With those that are."""
    directory = write_entry(tmp_path, "m")
    (directory / "carpool.toml").write_text('[model]\ntarget = "model.py:Model"\nversions = [1, 4]\n')
    write_model(directory / "1", 3)
    assert "model.versions names 4, and there are 1: correct the list" in refusal(repository_of(tmp_path).sheet("m"))


def test_a_version_may_have_settings_of_its_own(tmp_path: Path) -> None:
    """They win over the model's, which win over the repository's; the command line wins over all."""
    (tmp_path / "carpool.toml").write_text("[policy]\nmax_batch_size = 2\nmax_queue = 20\nlook_ahead = 9\n")
    directory = write_entry(tmp_path, "m", '[policy]\nmax_batch_size = 3\nmax_wait = "1ms"\n')
    write_model(directory / "7", 3)
    (directory / "7" / "carpool.toml").write_text("[policy]\nmax_batch_size = 4\n")
    sheet = repository_of(tmp_path, policy__look_ahead=8).sheet("m")
    assert sheet is not None
    policy = sheet.versions[0].policy
    assert (policy.max_batch_size, policy.max_wait_s, policy.max_queue, policy.look_ahead) == (4, 0.001, 20, 8)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[policy]\nmax_batch_size = 0\n", "policy.max_batch_size is 0"),
        ("[server]\nport = 9000\n", "server.port is for all models: put it into"),
        ("[polcy]\n", "unknown key 'polcy': did you mean 'policy'?"),
        ("name = 'other'\n", "model.name is 'other', and its directory 'm': leave the name out"),
    ],
)
def test_what_is_wrong_with_a_model_is_its_own(tmp_path: Path, toml: str, said: str) -> None:
    """Its sheet says so with file and key; the others are told as they are."""
    write_entry(tmp_path, "m", toml)
    write_entry(tmp_path, "good")
    repository = repository_of(tmp_path)
    assert said in refusal(repository.sheet("m"))
    assert str(tmp_path / "m" / "carpool.toml") in refusal(repository.sheet("m"))
    assert list(repository.names()) == ["good", "m"]
    assert versions(repository.sheet("good")) == ["1"]


def test_its_files_tell_whether_a_model_has_changed(tmp_path: Path) -> None:
    """Its own and those of its version; not its policy, those of other versions, or what Python leaves behind."""
    directory = write_entry(tmp_path, "m")
    write_model(directory / "1", 2)
    write_model(directory / "2", 2)
    repository = repository_of(tmp_path)

    def state() -> object:
        sheet = repository.sheet("m")
        assert sheet is not None
        return sheet.versions[0].files

    before = state()
    (directory / "2" / "__pycache__").mkdir()
    (directory / "2" / "__pycache__" / "model.pyc").write_text("")
    write_model(directory / "1", 3)
    (directory / "carpool.toml").write_text('[model]\ntarget = "model.py:Model"\n[policy]\nmax_batch_size = 3\n')
    assert state() == before
    (directory / "carpool.toml").write_text('[model]\ntarget = "model.py:Model"\nnum_threads = 1\n')
    with_threads = state()
    assert with_threads != before
    write_model(directory / "2", 3)
    assert state() != with_threads


def test_a_target_is_sought_with_the_version_and_then_with_the_model(tmp_path: Path) -> None:
    """What names no file is left as it is; what names one that is not there is refused with both places."""
    model, version = tmp_path / "m", tmp_path / "m" / "1"
    version.mkdir(parents=True)
    places = (version, model)
    (model / "code.py").write_text("")
    (version / "model.onnx").write_bytes(b"")
    assert find_target("code.py:f", places) == f"{model / 'code.py'}:f"
    assert find_target("model.onnx", places) == str(version / "model.onnx")
    assert find_target(None, places) == str(version / "model.onnx")
    assert find_target("demo:null", places) == "demo:null"
    assert find_target("package.module:f", places) == "package.module:f"
    with pytest.raises(TargetError, match=f"it is neither in {version} nor in {model}"):
        find_target("other.py:f", places)
    with pytest.raises(TargetError, match=f"it is not in {model}$"):
        find_target("other.py:f", (model,))
    with pytest.raises(TargetError, match=r"holds no model.onnx, no model.gguf and no config.json"):
        find_target(None, (model,))


def test_a_name_is_not_for_many_models(tmp_path: Path) -> None:
    """Each has its own."""
    write_entry(tmp_path, "a")
    with pytest.raises(ConfigError, match=r"--name is 'x', and .* has many models: leave it out"):
        open_source(str(tmp_path), flags={"model.name": "x"}, environ={})


def test_a_pipeline_of_one_file_needs_all_of_its_steps(tmp_path: Path) -> None:
    """There is no repository to take them from; its name is its directory's."""
    file = tmp_path / "carpool.toml"
    file.write_text('[pipeline]\nsteps = ["a", "b"]\n[step.a]\ntarget = "demo:null"\n')
    with pytest.raises(ConfigError, match=r"carpool.toml: pipeline.steps names 'b', and there is no table \[step.b\]"):
        open_source(str(file), flags={}, environ={})
    file.write_text('[pipeline]\nsteps = ["a"]\n[step.a]\ntarget = "demo:null"\n')
    _, source = open_source(str(file), flags={}, environ={})
    assert list(source.names()) == [tmp_path.name, f"{tmp_path.name}.a"]


CHAIN = '[pipeline]\nsteps = ["a"]\n[step.a]\ntarget = "demo:null"\n'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[cache]\nsize = "1MiB"\n', "cache.size does nothing for a pipeline: give a cache to a step that is a model"),
        ("[cache]\ndeduplicate = true\n", "cache.deduplicate does nothing for a pipeline: give a cache to a step"),
        ("[policy]\nmax_wait = '2ms'\n", "policy.max_wait does nothing for a pipeline: each step has a policy of its"),
        ("[model]\ntarget = 'demo:null'\n", "model.target does nothing for a pipeline: it runs its steps"),
    ],
)
def test_what_would_do_nothing_for_a_pipeline_is_refused(tmp_path: Path, table: str, said: str) -> None:
    """Before anything loads, with the key and what to do; in a repository its own file may not have it either."""
    file = tmp_path / "models" / "p" / "carpool.toml"
    file.parent.mkdir(parents=True)
    file.write_text(CHAIN + table)
    with pytest.raises(ConfigError) as caught:
        open_source(str(file), flags={}, environ={})
    assert f"carpool.toml: {said}" in str(caught.value)
    assert f"carpool.toml: {said}" in refusal(repository_of(tmp_path / "models").sheet("p"))


def test_options_that_would_do_nothing_for_a_pipeline_are_refused(tmp_path: Path) -> None:
    """By the name of the option, or of the variable."""
    file = tmp_path / "carpool.toml"
    file.write_text(CHAIN)
    with pytest.raises(ConfigError, match=r"^--max-batch-size does nothing for a pipeline: each step has a policy"):
        open_source(str(file), flags={"policy.max_batch_size": 8}, environ={})
    with pytest.raises(ConfigError, match=r"^CARPOOL_CACHE_SIZE does nothing for a pipeline: give a cache to a step"):
        open_source(str(file), flags={}, environ={"CARPOOL_CACHE_SIZE": "1MiB"})


def test_what_all_models_of_a_repository_share_is_no_fault_of_a_pipeline(tmp_path: Path) -> None:
    """What a load gives it is; so is what it would pass on to steps of its own, and has none."""
    write_entry(tmp_path, "m")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "carpool.toml").write_text('[pipeline]\nsteps = ["m"]\n')
    (tmp_path / "carpool.toml").write_text('[cache]\nsize = "1MiB"\n[policy]\nmax_queue = 9\n')
    repository = repository_of(tmp_path, policy__max_batch_size=8)
    assert versions(repository.sheet("p")) == ["1"]
    said = refusal(repository.sheet("p", {"cache": {"size": "2MiB"}}))
    assert said.startswith("the load of p: cache.size does nothing for a pipeline")
    for table in ("tenants", "objective", "model"):
        key = {"tenants": "paid = 4.0", "objective": 'p99 = "50ms"', "model": 'device = "cpu"'}[table]
        (tmp_path / "p" / "carpool.toml").write_text(f'[pipeline]\nsteps = ["m"]\n[{table}]\n{key}\n')
        assert f"{table}" in refusal(repository.sheet("p"))
        assert "does nothing for a pipeline: give " in refusal(repository.sheet("p"))


def test_the_steps_of_a_pipeline_have_what_its_file_says_of_all_of_them(tmp_path: Path) -> None:
    """Devices and threads, where a step does not say otherwise, and the tenants' shares."""
    file = tmp_path / "carpool.toml"
    shared = '[model]\ndevice = "cpu"\nnum_threads = 2\n[tenants]\npaid = 4.0\n'
    file.write_text(f"{shared}{CHAIN}num_threads = 1\n")
    step = open_source(str(file), flags={}, environ={})[0].own_steps["a"]
    assert (step.model.device, step.model.num_threads) == ("cpu", 1)
    assert step.policy.tenant_weights == {"paid": 4.0}
    file.write_text(f"{shared}{CHAIN}")
    assert open_source(str(file), flags={}, environ={})[0].own_steps["a"].model.num_threads == 2
