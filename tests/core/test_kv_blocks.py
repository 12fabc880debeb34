"""The blocks of a cache: who holds them, and which are kept."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carpool.core.kv_blocks import Blocks
from carpool.core.sequence import Sequence

Prefix = tuple[str, tuple[int, ...]]


def computed(blocks: Blocks, tokens: list[int], *, salt: str = "") -> Sequence:
    """Return a sequence that holds blocks for all its tokens, those that can be found and others that it computed."""
    sequence = Sequence(tokens=tokens, max_new_tokens=1, cache_salt=salt)
    found = blocks.find(sequence, len(tokens) // blocks.block_size)
    blocks.share(found)
    num_more = -(-len(tokens) // blocks.block_size) - len(found)
    sequence.blocks = [*found, *blocks.take(num_more)]
    sequence.num_published, sequence.num_computed = len(found), len(tokens)
    blocks.publish(sequence)
    return sequence


def num_found(blocks: Blocks, tokens: list[int], *, salt: str = "") -> int:
    """Return how many blocks a sequence of these tokens would find."""
    return len(blocks.find(Sequence(tokens=tokens, max_new_tokens=1, cache_salt=salt), len(tokens) // 2))


def test_full_blocks_are_found_as_far_as_the_tokens_are_the_same() -> None:
    """A sequence finds what begins like it, up to the first difference, and no block that is not full."""
    blocks = Blocks(8, 2, keeps=True)
    computed(blocks, [1, 2, 3, 4, 5])
    assert num_found(blocks, [1, 2, 3, 4, 5, 6]) == 2
    assert num_found(blocks, [1, 2, 9, 4]) == 1
    assert num_found(blocks, [3, 4]) == 0  # the same tokens elsewhere


def test_salts_keep_apart() -> None:
    """Who has another salt finds nothing."""
    blocks = Blocks(8, 2, keeps=True)
    computed(blocks, [1, 2], salt="a")
    assert num_found(blocks, [1, 2], salt="a") == 1
    assert num_found(blocks, [1, 2]) == num_found(blocks, [1, 2], salt="b") == 0


def test_the_last_block_of_what_was_let_go_first_is_taken_first() -> None:
    """Beginnings are kept longest, and what was used lately longer than what was not."""
    blocks = Blocks(4, 2, keeps=True)
    for tokens in ([1, 2, 3, 4], [5, 6, 7, 8]):
        blocks.give_back(computed(blocks, tokens))
    blocks.take(1)
    assert num_found(blocks, [1, 2, 3, 4]) == 1
    blocks.take(1)
    assert num_found(blocks, [1, 2, 3, 4]) == 0
    assert num_found(blocks, [5, 6, 7, 8]) == 2


def test_a_block_that_is_found_again_is_kept_longer() -> None:
    """Sharing counts as use."""
    blocks = Blocks(2, 2, keeps=True)
    blocks.give_back(computed(blocks, [1, 2]))
    blocks.give_back(computed(blocks, [3, 4]))
    blocks.give_back(computed(blocks, [1, 2]))
    blocks.take(1)
    assert (num_found(blocks, [1, 2]), num_found(blocks, [3, 4])) == (1, 0)


def test_nothing_is_kept_where_that_is_off() -> None:
    """Without prefix caching a block is found only while somebody holds it."""
    blocks = Blocks(2, 2, keeps=False)
    sequence = computed(blocks, [1, 2])
    assert num_found(blocks, [1, 2]) == 1
    blocks.give_back(sequence)
    assert num_found(blocks, [1, 2]) == 0
    blocks.check_integrity([])


class BlocksMachine(RuleBasedStateMachine):
    """Sequences come and go; what can be found is what a list of all that was let go says, the oldest gone first."""

    @initialize(num_blocks=st.integers(1, 12))
    def start(self, num_blocks: int) -> None:
        """Begin with nothing."""
        self.blocks = Blocks(num_blocks, 2, keeps=True)
        self.held: list[Sequence] = []
        self.known: dict[int, Prefix] = {}  # by block: the tokens up to its end
        self.let_go: list[int] = []  # blocks that nobody holds and that hold something, the oldest first
        self.num_empty = num_blocks

    @staticmethod
    def prefix(sequence: Sequence, index: int) -> Prefix:
        """Return what a sequence's block stands for."""
        return sequence.cache_salt, tuple(sequence.tokens[: 2 * index + 2])

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=9), salt=st.sampled_from(["", "salt"]))
    def come(self, tokens: list[int], salt: str) -> None:
        """A sequence comes, if there is room for it, and is computed."""
        sequence = Sequence(tokens=tokens, max_new_tokens=1, cache_salt=salt)
        found = self.blocks.find(sequence, len(tokens) // 2)
        assert [self.known[block] for block in found] == [self.prefix(sequence, i) for i in range(len(found))]
        assert self.prefix(sequence, len(found)) not in self.known.values() or 2 * len(found) + 2 > len(tokens)
        num_more = -(-len(tokens) // 2) - len(found)
        assert self.blocks.num_free == self.num_empty + len(self.let_go)
        if num_more + self.blocks.num_unheld(found) > self.blocks.num_free:
            return
        self.let_go = [block for block in self.let_go if block not in found]
        num_evicted = max(0, num_more - self.num_empty)
        for block in self.let_go[:num_evicted]:
            del self.known[block]
        del self.let_go[:num_evicted]
        self.num_empty -= num_more - num_evicted
        sequence = computed(self.blocks, tokens, salt=salt)
        assert sequence.blocks[: len(found)] == found
        for index in range(len(tokens) // 2):
            if self.prefix(sequence, index) not in self.known.values():
                self.known[sequence.blocks[index]] = self.prefix(sequence, index)
        self.held.append(sequence)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        """A sequence goes."""
        sequence = data.draw(st.sampled_from(self.held))
        self.held.remove(sequence)
        self.blocks.give_back(sequence)
        for block in reversed(sequence.blocks):
            if any(block in other.blocks for other in self.held):
                continue
            if block in self.known:
                self.let_go.append(block)
            else:
                self.num_empty += 1

    @invariant()
    def all_is_in_its_place(self) -> None:
        """Every block is held, kept or empty."""
        if hasattr(self, "blocks"):
            self.blocks.check_integrity(sequence.blocks for sequence in self.held)
            assert self.blocks.num_free == self.num_empty + len(self.let_go)


TestBlocks = BlocksMachine.TestCase
TestBlocks.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
