"""`carpool serve`: put a model on the network, requests batched."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carpool.cli.options import DEVICES, LENGTHS, json_option
from carpool.errors import ConfigError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.cli.output import Output
    from carpool.config.settings import ServeSettings
    from carpool.profile.artefact import Profile
    from carpool.serve.served import Served

# Flags that are settings under another name, by the name of the flag's argument.
_SETTINGS = {
    "name": "model.name",
    "device": "model.device",
    "dtype": "model.dtype",
    "threads": "model.num_threads",
    "workers": "model.num_workers",
    "worker": "model.worker",
    "devices": "model.devices",
    "batch_timeout": "model.batch_timeout",
    "max_worker_memory": "model.max_worker_memory",
    "host": "server.host",
    "port": "server.port",
    "max_body": "server.max_body",
    "request_timeout": "server.request_timeout",
    "drain_timeout": "server.drain_timeout",
    "max_batch_size": "policy.max_batch_size",
    "max_wait": "policy.max_wait",
    "token_budget": "policy.token_budget",
    "length_buckets": "policy.length_buckets",
    "max_queue": "policy.max_queue",
    "profile": "profile",
}


@click.command(
    epilog="Example: carpool serve demo:minilm --port 8000 --max-batch-size 64, or carpool serve carpool.toml"
)
@click.argument("target", required=False)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1, this machine alone]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8000]")
@click.option("--name", help="What clients call the model.  [default: the target's own name]")
@click.option("--max-batch-size", type=int, help="Most items in a batch.  [default: 32]")
@click.option("--max-wait", help="Longest wait for company while the model is free, such as 2ms.  [default: 0]")
@click.option("--token-budget", type=int, help="Most padded tokens in a batch.  [default: no limit]")
@click.option("--length-buckets", type=LENGTHS, help="Lengths that items are padded to, such as 16,32,64.")
@click.option("--max-queue", type=int, help="Most items waiting; one more is refused.  [default: 4096]")
@click.option("--no-batching", is_flag=True, help="Run items one by one, to compare with.")
@click.option("--profile", help="A profile.json of this model on this machine, whose cost model is used.")
@click.option("--workers", type=int, help="Batches that run at a time, each with a worker.  [default: the model's own]")
@click.option(
    "--worker", type=click.Choice(["thread", "process"]), help="What a worker is; a process may die.  [default: thread]"
)
@click.option("--devices", type=DEVICES, help="A worker and a copy of the model for each, such as cuda:0,cuda:1.")
@click.option("--batch-timeout", help="A batch that takes longer is taken to hang.  [default: no limit]")
@click.option("--max-worker-memory", help="A worker process with more is replaced, as in 4GiB.  [default: no limit]")
@click.option("--threads", type=int, help="Threads of one operation on a CPU.  [default: one for each core]")
@click.option("--dtype", help="float32, bfloat16 or float16.  [default: what suits the device]")
@click.option("--device", help="Where it runs, such as cpu or cuda:0.  [default: the best there is]")
@click.option("--max-body", help="Largest body of a request, such as 1MiB.  [default: 16MiB]")
@click.option("--request-timeout", help="Deadline of a request that brings none.  [default: 60s]")
@click.option("--drain-timeout", help="How long accepted requests may take once asked to stop.  [default: 30s]")
@json_option
def serve(target: str | None, output: Output, **given: Any) -> int:
    """Serve TARGET over HTTP, or what a carpool.toml says.

    TARGET is a file.py:name, a package.module:name, a model's directory, an .onnx file, demo:minilm (real weights) or
    demo:null (only waits). The server speaks the Open Inference Protocol (/v2), OpenAI's embeddings (/v1/embeddings)
    and Prometheus (/metrics). Every option is also a key of carpool.toml and an environment variable such as
    CARPOOL_SERVER_PORT; options win.

    With --json, one JSON document says where it listens as soon as it is ready; it then serves on. SIGTERM or Ctrl-C
    stops it once what was accepted is answered, or at once while it loads. Exits 0 when stopped so, 1 when it could
    not serve, 2 on wrong use.
    """
    settings = _settings(target, given)
    from carpool.serve.app import create_router
    from carpool.serve.http.limits import Limits
    from carpool.serve.offer import Offer
    from carpool.serve.server import listen, run_server

    profile = _profile(settings)
    served = _served(settings, profile)
    listening = listen(settings.server.host, settings.server.port)
    output.note(f"loading {settings.model.target} for {listening.url}")

    def announce() -> None:
        if profile is not None:
            _warn_of_doubts(output, profile, settings)
            _warn_of_another_machine(output, served, profile, settings)
        _announce(output, served, listening.url)

    offer = Offer.of(served)
    ending = run_server(
        create_router(offer),
        offer,
        listening,
        drain_timeout_s=settings.server.drain_timeout_s,
        on_ready=announce,
        limits=Limits(max_body_bytes=settings.server.max_body_bytes),
    )
    output.note(ending.value)
    return 0


def _settings(target: str | None, given: dict[str, Any]) -> ServeSettings:
    """Bring options, environment and file together."""
    from carpool.config.settings import load_settings

    flags = {key: given[name] for name, key in _SETTINGS.items()}
    if given["no_batching"]:
        if given["max_batch_size"] not in (None, 1):
            raise ConfigError(f"--no-batching contradicts --max-batch-size {given['max_batch_size']}: leave one out")
        flags |= {"policy.max_batch_size": 1, "policy.max_wait": 0}
    file = Path(target) if target is not None and target.endswith(".toml") else None
    if file is None:
        flags["model.target"] = target
    settings = load_settings(file, flags=flags, environ=os.environ)
    if settings.model.target is None:
        where = f"{file} has no [model] target" if file else "no TARGET was given"
        raise ConfigError(f"{where}: name what to serve, as in carpool serve demo:minilm")
    return settings


def _profile(settings: ServeSettings) -> Profile | None:
    """Read the profile that the settings name."""
    path = settings.profile
    if path is None:
        return None
    from carpool.profile.artefact import load_profile

    with _naming(settings, "profile"):
        if not path.exists():
            out = path.parent if path.name == "profile.json" else "DIR"
            remedy = f"measure one by `carpool profile {settings.model.target} --out {out}`, name another"
            raise ConfigError(f"there is no file {path.absolute()}: {remedy}, or leave it out")
        profile = load_profile(path)
        if profile.cost_model is None:
            raise ConfigError(f"{path} holds no cost model: profile at least two batch sizes, or leave it out")
    return profile


@contextlib.contextmanager
def _naming(settings: ServeSettings, key: str, kind: type[ConfigError] = ConfigError) -> Iterator[None]:
    """Let errors of a kind say where the setting that they are about was given: by an option, a variable or a file."""
    from carpool.config.settings import COMMAND_LINE

    setting = settings.setting(key)
    try:
        yield
    except kind as error:
        if setting.origin == COMMAND_LINE and key == "model.target":  # it is no option, and the message names it
            raise
        named = f"--{key}" if setting.origin == COMMAND_LINE else setting.named
        raise type(error)(f"{named}: {error}") from error


def _served(settings: ServeSettings, profile: Profile | None) -> Served:
    """Find the model, and put it behind a batcher that is not yet started."""
    from carpool.models.target import load_target
    from carpool.serve.build import worker_options
    from carpool.serve.served import Served

    given = settings.model
    assert given.target is not None, "checked with the settings"
    with _naming(settings, "model.target", TargetError):
        model = load_target(given.target, device=given.device, dtype=given.dtype, num_threads=given.num_threads)
    if profile is not None and settings.profile is not None:
        from carpool.profile.validity import require_target

        with _naming(settings, "profile"):
            require_target(profile, model.info.target, path=settings.profile, directory=Path.cwd())
    return Served(
        model,
        name=given.name,
        policy=settings.policy,
        cost_model=profile.cost_model.clipped() if profile and profile.cost_model else None,
        **worker_options(given, profile),
        request_timeout_s=settings.server.request_timeout_s,
    )


def _announce(output: Output, served: Served, url: str) -> None:
    """Say that it is ready, what it serves, and where."""
    info, policy = served.model.info, served.batcher.policy
    batching = f"batches of up to {policy.max_batch_size}" if policy.max_batch_size > 1 else "no batching"
    if served.num_workers > 1:
        batching += f", {served.num_workers} at a time"
    what = ", ".join(part for part in (info.kind, info.dtype, info.device) if part)
    output.say(f"{served.name} ({what}) is ready on {url}: {batching}")
    paths = [f"/v2/models/{served.name}/infer", *(["/v1/embeddings"] if served.embeds else []), "/metrics"]
    output.say(f"  {', '.join(paths)}; stop with Ctrl-C")
    output.result(
        {
            "url": url,
            "model": served.name,
            "paths": paths,
            "info": info,
            "policy": policy,
            "num_workers": served.num_workers,
        }
    )


def _warn_of_doubts(output: Output, profile: Profile, settings: ServeSettings) -> None:
    """Say why a profile is not to be trusted."""
    from carpool.profile.trust import headline

    if not profile.trust.trusted:
        reasons = "; ".join(profile.trust.reasons)
        output.note(f"warning: {settings.profile}: {headline(profile.trust)}: {reasons}")


def _warn_of_another_machine(output: Output, served: Served, profile: Profile, settings: ServeSettings) -> None:
    """Say in what the machine of the profile differs from this one."""
    from carpool.profile.validity import machine_differences

    assert served.machine is not None, "it is known once the model is loaded"
    differences = machine_differences(profile.machine, served.machine)
    if differences:
        output.note(f"warning: {settings.profile} was measured under other conditions, so its times may be wrong here:")
        for difference in differences:
            output.note(f"  {difference}")
        output.note(f"  measure here by `carpool profile {settings.model.target} --out DIR`, or leave the profile out")
