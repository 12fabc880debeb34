"""The blocks of an LLM's cache: who holds them, and which of them are kept for sequences that begin in the same way.

A block holds the keys and values of `block_size` tokens that lie side by side. A full block has a digest of its tokens
and all before them, so that equal digests mean equal contents, whoever computed them; a sequence that begins with the
same tokens then shares the block. One that is not full is never shared, and a full one is never written again.

A block that nobody holds any more keeps its digest until its room is needed: then the one that was let go first is
taken. A sequence lets go of its last block first, so that beginnings, which more have in common, are kept longest.
"""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from struct import Struct

from carpool.core.sequence import Sequence


class Blocks:
    """All the blocks of a cache, by number.

    Args:
        num_blocks: how many there are.
        block_size: tokens in each.
        keeps: keep the contents of blocks that nobody holds any more.
    """

    def __init__(self, num_blocks: int, block_size: int, *, keeps: bool) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._keeps = keeps
        self._empty = list(range(num_blocks - 1, -1, -1))  # nobody's, of no meaning; the last is taken first
        self._kept: OrderedDict[int, None] = OrderedDict()  # nobody's, but of a digest; the first is taken first
        self._num_holders = [0] * num_blocks
        self._digests: list[bytes] = [b""] * num_blocks  # empty: nobody can find it
        self._by_digest: dict[bytes, int] = {}
        self._pack = Struct(f"{block_size}q").pack

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._empty) + len(self._kept)

    def take(self) -> int:
        """Return a block that nobody holds, for one holder; the digest that it had is forgotten."""
        if self._empty:
            block = self._empty.pop()
        else:
            block, _ = self._kept.popitem(last=False)
            del self._by_digest[self._digests[block]]
            self._digests[block] = b""
        self._num_holders[block] = 1
        return block

    def share(self, blocks: Iterable[int]) -> None:
        """Hold blocks that have been found, beside whoever else does."""
        for block in blocks:
            if not self._num_holders[block]:
                del self._kept[block]
            self._num_holders[block] += 1

    def give_back(self, blocks: list[int]) -> None:
        """Let go of a sequence's blocks, the last one first."""
        for block in reversed(blocks):
            self._num_holders[block] -= 1
            if self._num_holders[block]:
                continue
            digest = self._digests[block]
            if digest and self._keeps:
                self._kept[block] = None
                continue
            if digest:
                del self._by_digest[digest]
                self._digests[block] = b""
            self._empty.append(block)

    def num_unheld(self, blocks: Iterable[int]) -> int:
        """Return how many of these nobody holds, so that to share them takes from what is free."""
        return sum([not self._num_holders[block] for block in blocks])

    def publish(self, sequence: Sequence, start: int, end: int) -> None:
        """Let the blocks of a sequence that its tokens from `start` to `end` have filled be found.

        Where another block of the same contents can be found already, that one stays the one that is.
        """
        for index in range(start // self.block_size, end // self.block_size):
            digest = self.digest(sequence, index)
            if digest not in self._by_digest:
                block = sequence.blocks[index]
                self._by_digest[digest] = block
                self._digests[block] = digest

    def find(self, sequence: Sequence, most: int) -> list[int]:
        """Return the blocks that hold the first tokens of a sequence, as far as they can be found without a gap.

        Args:
            sequence: whose tokens.
            most: the most blocks.
        """
        found = []
        for index in range(most):
            block = self._by_digest.get(self.digest(sequence, index))
            if block is None:
                break
            found.append(block)
        return found

    def digest(self, sequence: Sequence, index: int) -> bytes:
        """Return the digest of a sequence's tokens up to the end of its block `index`; each is computed once."""
        digests, size = sequence.digests, self.block_size
        while len(digests) <= index:
            position = len(digests) * size
            before = digests[-1] if digests else self._root(sequence.cache_salt)
            digests.append(sha256(before + self._pack(*sequence.tokens[position : position + size])).digest())
        return digests[index]

    def _root(self, salt: str) -> bytes:
        """Return what the chain of digests begins with: of a longer text than any other, so that it is like none."""
        return sha256(bytes(32 + 8 * self.block_size) + salt.encode(errors="surrogatepass")).digest()

    def check_integrity(self, tables: Iterable[list[int]]) -> None:
        """Assert that every block is in one place, held as often as the tables say, and findable by its digest only."""
        num_holders = [0] * self.num_blocks
        for table in tables:
            assert len(set(table)) == len(table), table
            for block in table:
                num_holders[block] += 1
        assert num_holders == self._num_holders
        free = {block for block, count in enumerate(num_holders) if not count}
        assert len(self._empty) + len(self._kept) == len(free)
        assert free == set(self._empty) | set(self._kept)
        assert all(self._digests[block] for block in self._kept)
        assert not any(self._digests[block] for block in self._empty)
        assert {digest: block for block, digest in enumerate(self._digests) if digest} == self._by_digest
