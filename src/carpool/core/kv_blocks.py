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

    Attributes:
        keeps: the same.
    """

    def __init__(self, num_blocks: int, block_size: int, *, keeps: bool) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.keeps = keeps
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

    def take(self, num_blocks: int) -> list[int]:
        """Return blocks that nobody holds, each for one holder; the digests that they had are forgotten."""
        empty, kept = self._empty, self._kept
        first = max(0, len(empty) - num_blocks)
        taken = empty[first:]
        del empty[first:]
        while len(taken) < num_blocks:
            block, _ = kept.popitem(last=False)
            del self._by_digest[self._digests[block]]
            self._digests[block] = b""
            taken.append(block)
        for block in taken:
            self._num_holders[block] = 1
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """Hold blocks that have been found, beside whoever else does."""
        num_holders = self._num_holders
        for block in blocks:
            if not num_holders[block]:
                del self._kept[block]
            num_holders[block] += 1

    def give_back(self, sequence: Sequence) -> None:
        """Let go of a running sequence's blocks, the last one first; those that are full can be found before."""
        if self.keeps:
            self.publish(sequence)
        num_holders, digests = self._num_holders, self._digests
        for block in reversed(sequence.blocks):
            num_left = num_holders[block] = num_holders[block] - 1
            if num_left:
                continue
            digest = digests[block]
            if digest and self.keeps:
                self._kept[block] = None
                continue
            if digest:
                del self._by_digest[digest]
                digests[block] = b""
            self._empty.append(block)

    def num_unheld(self, blocks: Iterable[int]) -> int:
        """Return how many of these nobody holds, so that to share them takes from what is free."""
        return sum([not self._num_holders[block] for block in blocks])

    def publish(self, sequence: Sequence) -> None:
        """Let the blocks be found that a running sequence has filled.

        Where another block of the same contents can be found already, that one stays the one that is.
        """
        first, last = sequence.num_published, sequence.num_computed // self.block_size
        if first >= last:
            return
        sequence.num_published = last
        by_digest, digests = self._by_digest, self._digests_of(sequence, last)
        for index in range(first, last):
            digest = digests[index]
            if digest not in by_digest:
                block = sequence.blocks[index]
                by_digest[digest] = block
                self._digests[block] = digest

    def prepare(self, sequence: Sequence) -> None:
        """Compute the digests of a new sequence, so that no step has to wait for them."""
        self._digests_of(sequence, len(sequence.tokens) // self.block_size)

    def find(self, sequence: Sequence, most: int) -> list[int]:
        """Return the blocks that hold the first tokens of a sequence, as far as they can be found without a gap.

        Args:
            sequence: whose tokens.
            most: the most blocks.
        """
        by_digest, found = self._by_digest, []
        for digest in self._digests_of(sequence, most)[:most]:
            block = by_digest.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def _digests_of(self, sequence: Sequence, num_blocks: int) -> list[bytes]:
        """Return at least the digests of so many blocks of a sequence; each is computed once."""
        digests = sequence.digests
        if len(digests) >= num_blocks:
            return digests
        size, tokens, pack = self.block_size, sequence.tokens, self._pack
        digest = digests[-1] if digests else self._root(sequence.cache_salt)
        for position in range(len(digests) * size, num_blocks * size, size):
            digest = sha256(digest + pack(*tokens[position : position + size])).digest()
            digests.append(digest)
        return digests

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
