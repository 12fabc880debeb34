"""After a failure: find the guilty item, spare its batch-mates, and remember.

A failed batch is halved and run again until the items that fail alone are found. Out of memory is no item's fault
unless it runs alone: the batch is halved just so, and the budget keeps below what did not fit for a while. A worker may
die for a cause outside of its batch, which therefore runs again whole once before any of its items is suspected.
"""

from collections import OrderedDict, deque
from math import ceil, log2

from carpool.core.batch import Batch, Fault, Lineage
from carpool.core.budget import Budget
from carpool.core.item import Item

_MOST_SUSPECTS = 64
_SPARE_FAILURES = 2


class Recovery:
    """Halves of failed batches that wait to run again, and the shapes of the items that were guilty."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[list[Item], Lineage]] = deque()
        self._suspects: OrderedDict[int, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __len__(self) -> int:
        return sum(len(items) for items, _ in self._pieces)

    def items(self) -> list[Item]:
        """Return the items that wait to run again."""
        return [item for items, _ in self._pieces for item in items]

    def split(self, batch: Batch, fault: Fault) -> list[Item]:
        """Take a batch that failed; return the items that have failed for good.

        A model that fails on everything must not be called again for every item: when more calls in a row have failed
        than a single guilty item can explain (one a level of halving), one item from the far end runs alone; if it
        fails as well, all that is left of the batch fails too.
        """
        lineage = batch.lineage or _lineage(len(batch.items))
        if fault is Fault.WORKER and not lineage.has_lost_worker:
            lineage.has_lost_worker = True
            self._pieces.appendleft((batch.items, lineage))
            return []
        lineage.num_failures_in_a_row += 1
        if len(batch.items) == 1:
            if fault is not Fault.MEMORY:
                self._suspect(batch.items[0].length)
            return batch.items + self._give_up(lineage)
        by_length = sorted(batch.items, key=lambda item: item.length)  # the shorter half is padded less
        middle = len(by_length) // 2
        self._pieces.appendleft((by_length[middle:], lineage))
        self._pieces.appendleft((by_length[:middle], lineage))
        return []

    def _give_up(self, lineage: Lineage) -> list[Item]:
        if lineage.num_failures_in_a_row <= lineage.most_failures_in_a_row:
            return []
        if not lineage.is_probed:
            lineage.is_probed = True
            self._bring_forward(lineage)
            return []
        doomed = [item for items, other in self._pieces if other is lineage for item in items]
        self._pieces = deque(piece for piece in self._pieces if piece[1] is not lineage)
        return doomed

    def _bring_forward(self, lineage: Lineage) -> None:
        """Let the last item of the last part run alone, before everything else."""
        last = next((items for items, other in reversed(self._pieces) if other is lineage), None)
        if last:
            probe = last[-1]
            self.remove(probe)
            self._pieces.appendleft(([probe], lineage))

    def succeeded(self, batch: Batch) -> None:
        """Take note that a batch ran: its shapes are no longer suspect, and not all calls fail."""
        if batch.lineage:
            batch.lineage.num_failures_in_a_row = 0
            batch.lineage.is_probed = False
        if self._suspects:
            for item in batch.items:
                self._suspects.pop(item.length, None)

    def next_piece(self, budget: Budget) -> tuple[list[Item], Lineage] | None:
        """Return what should run again first, as much of it as the budget holds by now, or None."""
        if not self._pieces:
            return None
        items, lineage = self._pieces.popleft()
        most, _ = budget.most_of(items)
        if len(items) > most:
            self._pieces.appendleft((items[most:], lineage))
        return items[:most], lineage

    def remove(self, gone: Item) -> None:
        """Forget an item: it is not to run again."""
        kept = ([item for item in items if item is not gone] for items, _ in self._pieces)
        lineages = (lineage for _, lineage in self._pieces)
        self._pieces = deque((items, lineage) for items, lineage in zip(kept, lineages, strict=True) if items)

    def quarantine(self, candidates: list[Item]) -> list[Item]:
        """Return those that may run together: the first alone if its shape is suspect, else all that are not."""
        if not self._suspects:
            return candidates
        if self.is_suspect(candidates[0]):
            return candidates[:1]
        return [item for item in candidates if item.length not in self._suspects]

    def is_suspect(self, item: Item) -> bool:
        """Return whether an item of its length failed alone, and none has succeeded since."""
        return item.length in self._suspects

    def _suspect(self, length: int) -> None:
        self._suspects[length] = None
        if len(self._suspects) > _MOST_SUSPECTS:
            self._suspects.popitem(last=False)


def _lineage(num_items: int) -> Lineage:
    return Lineage(0, ceil(log2(num_items)) + 1 + _SPARE_FAILURES)
