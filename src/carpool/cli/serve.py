"""`carpool serve`: put a model on the network, requests batched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from carpool.cli.options import DEVICES, LENGTHS, json_option
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from carpool.cli.output import Output
    from carpool.config.settings import ServeSettings
    from carpool.serve.control import Control
    from carpool.serve.front import Front
    from carpool.serve.grpc.server import GrpcServer
    from carpool.serve.offer import Offer
    from carpool.serve.source import Source
    from carpool.serve.telemetry import Telemetry

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
    "grpc_port": "server.grpc_port",
    "max_body": "server.max_body",
    "request_timeout": "server.request_timeout",
    "drain_timeout": "server.drain_timeout",
    "api_keys": "http.api_keys",
    "tls_certificate": "http.tls_certificate",
    "tls_key": "http.tls_key",
    "max_connections": "http.max_connections",
    "strict": "server.strict",
    "control": "server.control",
    "watch": "server.watch",
    "max_batch_size": "policy.max_batch_size",
    "max_wait": "policy.max_wait",
    "token_budget": "policy.token_budget",
    "length_buckets": "policy.length_buckets",
    "max_queue": "policy.max_queue",
    "profile": "profile",
    "num_slots": "llm.num_slots",
    "max_length": "llm.max_length",
    "kv_memory": "llm.kv_memory",
    "block_size": "llm.block_size",
    "weights": "llm.weights",
    "deterministic": "llm.deterministic",
    "prefix_caching": "llm.prefix_caching",
    "ttft": "llm.ttft",
    "tpot": "llm.tpot",
}
# Of two kinds of models each has its own key for these.
_OF_LANGUAGE_MODELS = {"token_budget": "llm.token_budget", "max_queue": "llm.max_waiting"}


@click.command(
    epilog="Example: carpool serve demo:minilm --port 8000 --max-batch-size 64, or carpool serve carpool.toml"
)
@click.argument("target", required=False)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1, this machine alone]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8000]")
@click.option("--grpc-port", type=int, help="Port for gRPC on the same host; 0 takes a free one.  [default: no gRPC]")
@click.option("--name", help="What clients call the model.  [default: the target's own name]")
@click.option("--max-batch-size", type=int, help="Most items in a batch.  [default: 32]")
@click.option("--max-wait", help="Longest wait for company while the model is free, such as 2ms.  [default: 0]")
@click.option("--token-budget", type=int, help="Most padded tokens in a batch, or tokens in a step of an LLM (512).")
@click.option("--length-buckets", type=LENGTHS, help="Lengths that items are padded to, such as 16,32,64.")
@click.option("--max-queue", type=int, help="Most items waiting; one more is refused.  [default: 4096; an LLM: 1024]")
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
@click.option("--num-slots", type=int, help="LLM: most sequences that generate at a time.  [default: 64]")
@click.option("--max-length", type=int, help="LLM: longest prompt with its answer, in tokens.  [default: the model's]")
@click.option("--kv-memory", help="LLM: memory of the KV cache, such as 2GiB.  [default: what can be used]")
@click.option("--block-size", type=int, help="LLM: tokens in a block of the KV cache.  [default: 16]")
@click.option(
    "--weights", type=click.Choice(["as_is", "int8"]), help="LLM: int8 halves their memory.  [default: as_is]"
)
@click.option(
    "--deterministic",
    is_flag=True,
    default=None,
    help="LLM: the same logits bit for bit whatever else is in the batch.",
)
@click.option(
    "--prefix-caching/--no-prefix-caching", default=None, help="LLM: read a common beginning once.  [default: so]"
)
@click.option("--ttft", help="LLM: time to the first token that requests are to have, such as 1s.  [default: none]")
@click.option("--tpot", help="LLM: time between tokens that they are to have, such as 150ms.  [default: none]")
@click.option("--max-body", help="Largest body of a request, such as 1MiB.  [default: 16MiB]")
@click.option("--max-connections", type=int, help="Most connections at a time; one more is refused.  [default: 8192]")
@click.option("--api-keys", help="File of API keys, one a line and its tenant after it.  [default: no key is needed]")
@click.option("--tls-certificate", help="Certificate in PEM: connections are encrypted.  [default: they are not]")
@click.option("--tls-key", help="Its key in PEM.  [default: in the certificate's file]")
@click.option("--request-timeout", help="Deadline of a request that brings none.  [default: 60s]")
@click.option("--drain-timeout", help="How long accepted requests may take once asked to stop.  [default: 30s]")
@click.option("--watch", help="How often to look for changed files, such as 5s.  [default: only on SIGHUP]")
@click.option(
    "--on", type=click.Choice(["ray"]), help="Run replicas on Ray Serve, as [ray] says, in place of one process."
)
@click.option(
    "--control",
    is_flag=True,
    default=None,
    help="Let clients load and unload models and change policies: anybody, or keys marked `control`.",
)
@click.option("--strict", is_flag=True, default=None, help="End if one of several models can't be loaded.")
@json_option
def serve(target: str | None, output: Output, **given: Any) -> int:
    """Serve TARGET over HTTP, or what a carpool.toml says.

    TARGET is a file.py:name, a package.module:name, a model's directory, an .onnx or .gguf file, demo:minilm or
    demo:smollm2 (real weights), demo:null (only waits), or a model repository: a directory with a directory for each
    model, which holds its carpool.toml. The server speaks the Open Inference Protocol (/v2), OpenAI's API (/v1: for a
    model that generates text completions, chat completions and embeddings, for one that embeds embeddings) and
    Prometheus (/metrics). Every option is also a key of carpool.toml and an environment variable such as
    CARPOOL_SERVER_PORT; options win.

    With --json, one JSON document says where it listens as soon as it is ready; it then serves on. SIGHUP loads what
    has changed anew, without a break. SIGTERM or Ctrl-C stops it once what was accepted is answered, or at once while
    it loads. Exits 0 when stopped so, 1 when it could not serve, 2 on wrong use.
    """
    flags = _flags(given)
    from carpool.cli.serve_notes import announce
    from carpool.serve.app import create_router
    from carpool.serve.control import Control
    from carpool.serve.front import open_front, warning_of
    from carpool.serve.refresh import Refresh
    from carpool.serve.repository import open_source
    from carpool.serve.server import listen, run_server
    from carpool.serve.telemetry import telemetry

    settings, source = open_source(target, flags=flags, environ=os.environ)
    if given["on"] == "ray":
        return _serve_on_ray(target, flags, settings, output)
    front = open_front(settings.http, max_body_bytes=settings.server.max_body_bytes)
    listening = listen(settings.server.host, settings.server.port, scheme=front.scheme)
    if warning := warning_of(settings.server.host, front, has_control=settings.server.control):
        output.note(f"warning: {warning}")
    with listening.socket, telemetry(settings.telemetry) as telling:
        offer = _offer(settings, source, telling)
        control = Control(front.access) if settings.server.control else Control()
        grpc = _grpc(settings, offer, front, telling, control)
        output.note(
            f"loading {', '.join(source.names()) if settings.model.target is None else settings.model.target} "
            f"for {listening.url}"
        )

        def begin() -> None:
            Refresh(offer, settings.server.watch_s).begin()
            announce(output, offer, listening.url, None if grpc is None else grpc.address)

        ending = run_server(
            create_router(offer, telling.watch, control),
            offer,
            listening,
            drain_timeout_s=settings.server.drain_timeout_s,
            on_ready=begin,
            limits=front.limits,
            access=front.access,
            tls=front.tls,
            beside=grpc,
            watcher=telling.watch,
        )
    output.note(ending.value)
    return 0


def _serve_on_ray(target: str | None, flags: dict[str, Any], settings: ServeSettings, output: Output) -> int:
    """Serve from replicas on Ray Serve, each of which opens TARGET for itself."""
    if settings.server.grpc_port is not None:
        raise ConfigError("gRPC is not spoken from Ray: leave server.grpc_port out, or --on ray")
    from carpool.serve.unused import kind_of

    if settings.model.target is not None and kind_of(settings) == "language model":
        raise ConfigError(
            f"{target} generates text, which is not done on Ray, where nothing is streamed: leave --on out"
        )
    import functools
    from pathlib import Path

    from carpool.serve.ray.deploy import serve_on_ray
    from carpool.serve.ray.replica import open_offer

    def announce(url: str) -> None:
        output.say(f"ready on {url}, on Ray Serve; stop with Ctrl-C")
        output.result({"url": url, "on": "ray", "ray": settings.ray})

    told = {name: value for name, value in os.environ.items() if name.startswith("CARPOOL_")}
    build = functools.partial(open_offer, target, flags=flags, environ=told, directory=str(Path.cwd()))
    output.note(f"bringing up replicas on Ray Serve for {settings.server.host}")
    output.note(serve_on_ray(build, settings.ray, settings.server, on_ready=announce).value)
    return 0


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    """Return what the options set, by the settings' keys."""
    flags = {key: given[name] for name, key in {**_SETTINGS, **_OF_LANGUAGE_MODELS}.items()}
    flags |= {_SETTINGS[name]: given[name] for name in _OF_LANGUAGE_MODELS}
    if given["no_batching"]:
        if given["max_batch_size"] not in (None, 1):
            raise ConfigError(f"--no-batching contradicts --max-batch-size {given['max_batch_size']}: leave one out")
        flags |= {"policy.max_batch_size": 1, "policy.max_wait": 0}
    return flags


def _offer(settings: ServeSettings, source: Source, telling: Telemetry) -> Offer:
    from carpool.serve.offer import Offer

    server = settings.server
    return Offer(
        source,
        num_loading=server.num_loading,
        strict=server.strict,
        drain_timeout_s=server.drain_timeout_s,
        sinks_of=telling.sinks_of,
    )


def _grpc(
    settings: ServeSettings, offer: Offer, front: Front, telling: Telemetry, control: Control
) -> GrpcServer | None:
    """Take the address for gRPC, if it is to be spoken."""
    server = settings.server
    if server.grpc_port is None:
        return None
    from carpool.serve.server import listen

    try:
        from carpool.serve.grpc.server import Certificate, GrpcServer
    except ImportError as error:
        raise ConfigError(f"server.grpc_port needs {error.name}: run `pip install 'carpool[grpc]'`") from None
    return GrpcServer(
        listen(server.host, server.grpc_port, option="--grpc-port").socket,
        offer,
        front.access,
        max_message_bytes=server.max_body_bytes,
        max_calls=front.limits.max_connections,
        certificate=None
        if front.certificate is None
        else Certificate(chain=front.certificate[0], key=front.certificate[1]),
        watch=telling.watch,
        control=control,
    )
