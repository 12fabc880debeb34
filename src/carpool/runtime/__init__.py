"""The live shells around the batch former: threads, clocks, and the public `Batcher`."""

from carpool.runtime.batcher import Batcher, batched

__all__ = ["Batcher", "batched"]
