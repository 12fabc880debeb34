"""Profiles a model: loads it here and in the process that probes memory, and measures."""

from __future__ import annotations

from contextlib import ExitStack, chdir
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError, ModelError
from carpool.models.model import Model
from carpool.models.target import wrap
from carpool.profile.options import ProfileOptions
from carpool.profile.probe_process import ProbeProcess, source_of
from carpool.profile.session import Session
from carpool.profile.worker import OneThread
from carpool.report.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from carpool.profile.artefact import Profile

LOAD_TIMEOUT_S = 300.0


def profile_target(target: object, options: ProfileOptions | None = None, progress: Progress | None = None) -> Profile:
    """Measure what batching buys on a model, and what it costs.

    Ctrl-C ends the measuring early, and a model that fails at some batch size is not measured there: the profile
    holds what was measured.

    Args:
        target: A TARGET such as `file.py:name`, a `Model`, or a live function, class or module.
        options: What to measure.
        progress: Told how far it is, in seconds of the budget.

    Raises:
        ConfigError: The target can't be loaded, or what is asked for can't be measured on it.
        ModelError: The model failed at every shape.
        KeyboardInterrupt: Stopped before there was anything to keep.

    Example:
        profile = profile_target("demo:minilm", ProfileOptions(budget_s=20))
        print(profile.knee.batch_size)
    """
    options = options or ProfileOptions()
    with ExitStack() as stack:
        stack.enter_context(chdir("."))  # a model that goes elsewhere does not take the results along
        thread = stack.enter_context(OneThread())
        model = wrap(target, **_model_options(target, options))
        model.share_cores(model.preferred_workers)  # so that one worker is measured as a server would run it
        prober, unavailable = _start_prober(target, model.info.device, options, stack)
        thread.call(model.load)
        stack.callback(lambda: thread.call_last(model.close) if not isinstance(target, Model) else None)
        if prober is not None:
            unavailable = _wait_until_loaded(prober)
        session = Session.open(model, options, thread, progress or SilentProgress())
        return session.run(None if unavailable else prober, unavailable)


def _wait_until_loaded(prober: ProbeProcess) -> str:
    """Wait for the other process, so that loading counts in no budget; return why it has no model, if so."""
    try:
        prober.wait_until_loaded(LOAD_TIMEOUT_S)
    except ModelError as error:
        return str(error)
    return ""


def _model_options(target: object, options: ProfileOptions) -> dict[str, Any]:
    """Return what the model is told; one that is there already has been told before."""
    if isinstance(target, Model):
        return {}
    return {"device": options.device, "dtype": options.dtype, "num_threads": options.num_threads}


def _start_prober(
    target: object, device: str, options: ProfileOptions, stack: ExitStack
) -> tuple[ProbeProcess | None, str]:
    """Start the process that probes memory, which loads the model while this one does; or say why not."""
    if not options.probe_memory:
        return None, "switched off"
    try:
        source = source_of(target, **_model_options(target, options))
    except ConfigError as error:
        return None, str(error)
    # On an accelerator the limit is the device's, and the process's own memory says nothing of it.
    watched = {} if device == "cpu" else {"memory_of": lambda _: 0}
    prober = ProbeProcess(source, seed=options.seed, most_items=max(options.batch_sizes), **watched)
    stack.enter_context(prober)
    prober.start()
    return prober, ""
