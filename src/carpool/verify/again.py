"""The profile that a plan is checked against: as it is, or measured again for the batches that the plan will form."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from carpool.errors import ConfigError
from carpool.plan.workload_table import from_settings
from carpool.profile.artefact import load_profile, save_profile
from carpool.profile.options import DEFAULT_LENGTHS, ProfileOptions
from carpool.profile.run import profile_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.config.settings import ModelSettings, ServeSettings
    from carpool.profile.artefact import Profile
    from carpool.report.progress import Progress


@contextmanager
def profile_of(
    settings: ServeSettings, *, again_s: float | None, out: Path | None, bar: Progress
) -> Iterator[tuple[Profile, Path]]:
    """Read the profile that a plan was made from, or measure it again; give it with its file.

    Args:
        settings: the plan's.
        again_s: how long to measure; None takes the profile as it is.
        out: where a new profile is kept; None for nowhere.
        bar: told the seconds that have gone.

    Raises:
        ConfigError: there is no profile, or it can't be read.
        KeyboardInterrupt: stopped while it was measured.
    """
    known = load_profile(settings.profile) if settings.profile else None
    if again_s is not None:
        with TemporaryDirectory() as scratch:
            yield _measured_again(settings, known, again_s, out or Path(scratch), bar)
    elif known is None or settings.profile is None:
        raise ConfigError(
            'the plan names no profile, so there is nothing to predict from: add profile = "out/profile.json" to it, '
            "or measure now with --profile-again 30s"
        )
    else:
        yield known, settings.profile


def _measured_again(
    settings: ServeSettings, known: Profile | None, again_s: float, out: Path, bar: Progress
) -> tuple[Profile, Path]:
    """Measure what the plan serves, and write it down."""
    assert settings.model.target is not None, "checked with the settings"
    asked = options_again(
        settings.model,
        max_batch_size=settings.policy.max_batch_size,
        lengths=_lengths(settings, known),
        buckets=settings.policy.length_buckets or (known.length_buckets if known else ()),
        budget_s=again_s,
    )
    measured = profile_target(settings.model.target, asked, bar)
    if not measured.complete:
        raise KeyboardInterrupt
    path = out / "profile.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_profile(path, measured)
    return measured, path


def _lengths(settings: ServeSettings, known: Profile | None) -> tuple[int, ...]:
    """Return the tokens of the items to come, as far as they are known before measuring."""
    examples = known.example_lengths if known else ()
    workload = from_settings(settings.workload, lengths=examples)
    if workload.replayed is None and not settings.workload.lengths and not examples:
        return ()
    clipped, _ = workload.clipped(known.max_length if known else None)
    return clipped.replayed or clipped.lengths


def options_again(
    model: ModelSettings, *, max_batch_size: int, lengths: Sequence[int], buckets: Sequence[int], budget_s: float
) -> ProfileOptions:
    """Choose what to measure: the same model on the same device, and no shapes that the load does not ask for.

    Args:
        model: what is served, and where.
        max_batch_size: most items in a batch.
        lengths: tokens of the items that will be sent; none where that is not known.
        buckets: lengths that the model pads to, ascending; none where it has no lengths, or that is not known.
        budget_s: how long to measure.
    """
    return ProfileOptions(
        device=model.device,
        dtype=model.dtype,
        num_threads=model.num_threads,
        batch_sizes=batch_sizes_up_to(max_batch_size),
        lengths=lengths_between(lengths, buckets) if lengths and buckets else (),
        budget_s=budget_s,
        probe_memory=False,
    )


def batch_sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return the doublings from 1 to the largest batch size, which ends them.

    >>> batch_sizes_up_to(24)
    (1, 2, 4, 8, 16, 24)
    """
    return (*(1 << power for power in range((largest - 1).bit_length())), largest)


def lengths_between(lengths: Sequence[int], buckets: Sequence[int]) -> tuple[int, ...]:
    """Return padded lengths to measure: the shortest and the longest that are served, and the usual ones between.

    >>> lengths_between([7, 9, 70], [8, 16, 24, 32, 64, 80, 96])
    (8, 16, 32, 64, 80)
    """
    first, last = (_padded(length, buckets) for length in (min(lengths), max(lengths)))
    return tuple(sorted({first, last, *(length for length in DEFAULT_LENGTHS if first < length < last)}))


def _padded(length: int, buckets: Sequence[int]) -> int:
    return buckets[min(bisect_left(buckets, length), len(buckets) - 1)]
