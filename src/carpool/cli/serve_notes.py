"""What `carpool serve` says once it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.serve.llm.served import ServedLM
from carpool.serve.served import Served

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.cli.output import Output
    from carpool.profile.artefact import Trust
    from carpool.serve.offer import Offer
    from carpool.serve.on_offer import OnOffer


def announce(output: Output, offer: Offer, url: str, grpc: str | None) -> None:
    """Say what is ready, and where; what is not was said when it failed.

    Args:
        output: where to say it.
        offer: the models.
        url: where HTTP is spoken.
        grpc: where gRPC is; None where it is not.
    """
    for served in offer.batched():
        _warn_of_profile(output, offer, served)
    ready = [one for one in offer.all() if one.ready]
    for one in ready:
        if isinstance(one, ServedLM):
            _warn_of_llm_profile(output, offer, one)
    for one in ready:
        output.say(_sentence_of_lm(one, url) if isinstance(one, ServedLM) else _sentence(_batched(one), url))
    paths = _paths(ready)
    output.say(f"  {', '.join(paths)}{'' if grpc is None else f'; gRPC on {grpc}'}; stop with Ctrl-C")
    models = [_document_of_lm(one) if isinstance(one, ServedLM) else _document(_batched(one)) for one in ready]
    alone = models[0] if len(offer.index()) == 1 else {}
    output.result({"url": url, "grpc": grpc, "paths": paths, **alone, "models": models})


def _batched(one: OnOffer) -> Served:
    assert isinstance(one, Served), "there is nothing else"
    return one


def _paths(ready: list[OnOffer]) -> list[str]:
    """Return the paths that are of use, the first before the others."""
    batched = [one for one in ready if isinstance(one, Served)]
    generate = len(batched) < len(ready)
    name = batched[0].name if len(batched) == 1 else "NAME"
    return [
        *([f"/predict/{name}", f"/v2/models/{name}/infer"] if batched else []),
        *(["/v1/completions", "/v1/chat/completions"] if generate else []),
        *(["/v1/embeddings"] if generate or any(served.embeds for served in batched) else []),
        "/docs",
        "/metrics",
    ]


def _document_of_lm(served: ServedLM) -> dict[str, Any]:
    parts = served.parts
    return {
        "model": served.name,
        "version": served.version,
        "info": {"name": parts.name, "kind": "generator", "dtype": parts.dtype, "device": parts.device},
        "num_slots": served.policy.num_slots,
        "token_budget": served.policy.token_budget,
        "max_length": served.max_length,
        "num_blocks": parts.runner.num_blocks,
        "block_size": parts.runner.block_size,
        "weights_bytes": parts.runner.weights_bytes,
        "cache_bytes": parts.runner.cache_bytes,
    }


def _sentence_of_lm(served: ServedLM, url: str) -> str:
    """Say that a language model is ready, and how much it does at a time."""
    parts, policy = served.parts, served.policy
    what = ", ".join(part for part in ("generator", parts.dtype, parts.device) if part)
    cache = f"a KV cache of {parts.runner.num_blocks * parts.runner.block_size:,} tokens"
    return f"{served.name} ({what}) is ready on {url}: up to {policy.num_slots} sequences at a time, {cache}"


def _document(served: Served) -> dict[str, Any]:
    return {
        "model": served.name,
        "version": served.version,
        "info": served.model.info,
        "policy": served.batcher.policy,
        "num_workers": served.num_workers,
    }


def _sentence(served: Served, url: str) -> str:
    """Say that one model is ready, and what it is."""
    info, policy = served.model.info, served.batcher.policy
    batching = f"batches of up to {policy.max_batch_size}" if policy.max_batch_size > 1 else "no batching"
    if served.num_workers > 1:
        batching += f", {served.num_workers} at a time"
    what = ", ".join(part for part in (info.kind, info.dtype, info.device) if part)
    version = f" version {served.version}" if served.version != "1" else ""
    return f"{served.name}{version} ({what}) is ready on {url}: {batching}"


def _warn_of_profile(output: Output, offer: Offer, served: Served) -> None:
    """Say why the profile that a model goes by is not to be trusted, or in what its machine differs from this one."""
    settings = offer.told_of(served)
    if settings is None or settings.profile is None or served.machine is None:
        return
    from carpool.profile.artefact import load_profile
    from carpool.profile.validity import machine_differences

    profile = load_profile(settings.profile)
    _warn_of_trust(output, settings.profile, profile.trust)
    differences = machine_differences(profile.machine, served.machine)
    if differences:
        output.note(f"warning: {settings.profile} was measured under other conditions, so its times may be wrong here:")
        for difference in differences:
            output.note(f"  {difference}")
        output.note(f"  measure here by `carpool profile {settings.model.target} --out DIR`, or leave the profile out")


def _warn_of_llm_profile(output: Output, offer: Offer, served: ServedLM) -> None:
    """Say why the profile that a language model goes by is not to be trusted."""
    settings = offer.told_of(served)
    if settings is not None and settings.profile is not None:
        from carpool.profile.llm_artefact import load_llm_profile

        _warn_of_trust(output, settings.profile, load_llm_profile(settings.profile).trust)


def _warn_of_trust(output: Output, path: Path, trust: Trust) -> None:
    from carpool.profile.trust import headline

    if not trust.trusted:
        output.note(f"warning: {path}: {headline(trust)}: {'; '.join(trust.reasons)}")
