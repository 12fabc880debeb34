"""The knobs of batch forming, in one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from carpool.core.limits import check_ascending, check_at_most, check_seconds, check_weights, check_whole
from carpool.core.objective_cap import check_objectives
from carpool.errors import ConfigError

MOST_WORKERS = 1024
"""Each worker is a thread, or a process, of its own: far more than any machine runs beside each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How batches are formed.

    Args:
        max_batch_size: most items in a batch; like `look_ahead` and `max_queue`, up to `MOST_ITEMS`.
        max_wait_s: the longest that an item may wait for company, from its arrival or, if a worker was busy then, from
            when one came free; 0 never waits. Within it, a batch waits only while the cost model and the
            arrivals say that it pays.
        token_budget: most tokens in a batch, or None: padded ones (items x longest), where ragged the sum of lengths.
        ragged: items run side by side without padding, and a batch costs the sum of their lengths; the model says so.
        token_buckets: where ragged, the totals that a batch's tokens are rounded up to, ascending; beyond the last one,
            and where empty, the sum itself.
        length_buckets: lengths that items are padded to, ascending; beyond the last one, and where empty, the longest
            member's own.
        batch_size_buckets: batch sizes that the executor runs, ascending: smaller batches are padded up; empty allows
            every size.
        look_ahead: how many waiting items are looked through for ones of similar length; at least a batch of them.
        max_queue: most items waiting; one more is refused.
        patience_s: the deadline that an item without one is ordered by, so that items with deadlines can't starve it.
        ageing_s: how many seconds of waiting one level of priority is worth.
        memory_limit_bytes: most predicted memory of a batch, or None.
        tenant_weights: shares of the tenants; 1 where not named.
        objectives_s: promised latencies in seconds by percentile, such as `{"p99": 0.05}`: no batch takes so long that
            they could not be kept, while smaller ones keep up with what arrives. Empty: batches may take any time.

    Raises:
        ConfigError: a value is outside its range.
    """

    max_batch_size: int = 32
    max_wait_s: float = 0.0
    token_budget: int | None = None
    ragged: bool = False
    token_buckets: tuple[int, ...] = ()
    length_buckets: tuple[int, ...] = ()
    batch_size_buckets: tuple[int, ...] = ()
    look_ahead: int = 256
    max_queue: int = 4096
    patience_s: float = 10.0
    ageing_s: float = 1.0
    memory_limit_bytes: int | None = None
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    objectives_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "look_ahead", "max_queue"):
            check_whole(name, getattr(self, name))
            check_at_most(name, getattr(self, name))
        for name in ("max_wait_s", "patience_s", "ageing_s"):
            check_seconds(name, getattr(self, name))
        for name in ("token_budget", "memory_limit_bytes"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        for name in ("token_buckets", "length_buckets", "batch_size_buckets"):
            check_ascending(name, getattr(self, name))
        check_weights(self.tenant_weights)
        check_objectives(self.objectives_s)
        if self.batch_size_buckets and self.batch_size_buckets[-1] < self.max_batch_size:
            raise ConfigError(
                f"batch_size_buckets ends at {self.batch_size_buckets[-1]}, below max_batch_size "
                f"{self.max_batch_size}: add {self.max_batch_size}, or lower max_batch_size"
            )
