"""Make the fixed sample of English sentences that Carpool measures with.

The text is that of Python's standard library: the docstrings of its modules, classes and functions, and the
help topics of `pydoc`. It is real English, it comes with every Python, and its licence (PSF) allows passing
it on. A sentence of 5 to 200 words is kept when it is prose: no code, no prompt, no table, no list of names.

Single sentences of more than about 60 words are rare, so that long ones are made by joining the sentences
that follow each other in one paragraph or topic. The sample takes as many from each range of lengths as
`MIX` says: most are short, as in what people send, and some are long enough to fill a model's window.

The same Python version gives the same file, byte for byte::

    python tools/make_sentences.py src/carpool/models/sentences.txt.gz
"""

import argparse
import ast
import gzip
import inspect
import itertools
import pydoc_data.topics
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

MIN_WORDS, MAX_WORDS = 5, 200
# (fewest words, most words): how many. Sums to 4,096; half are under 20 words, a twelfth over 100.
MIX = {(5, 9): 640, (10, 19): 1472, (20, 39): 1088, (40, 69): 352, (70, 99): 208, (100, 149): 192, (150, 200): 144}
NUM_PASSES = 3
SEED = 1

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_CODE = re.compile(r"[{}<>=|\\@#$%^~_`*]|::|\(\)|\w\(|\[|\.\w|/\w|--|->|\.\.\.")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|Dr|Mr|No|St)\.|\b[A-Z]\.)$")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*[,;:]?|\d+[,.]?|\(?[A-Za-z'-]+\)?[,;:.!?]?|[\"'][A-Za-z' -]+[\"'][,;:.]?")
_COMMON = {
    "the",
    "a",
    "an",
    "is",
    "are",
    "to",
    "of",
    "and",
    "in",
    "for",
    "be",
    "if",
    "it",
    "this",
    "that",
    "or",
    "with",
}


def main() -> None:
    """Write the sample and say what it holds."""
    parser = argparse.ArgumentParser(description="Make the fixed sample of English sentences.")
    parser.add_argument("out", type=Path, help="the file to write, such as src/carpool/models/sentences.txt.gz")
    out = parser.parse_args().out
    sample = choose(list(paragraphs()))
    out.write_bytes(gzip.compress("".join(f"{text}\n" for text in sample).encode(), mtime=0))
    lengths = sorted(len(text.split()) for text in sample)
    print(f"{len(sample)} sentences, {sum(lengths) / len(lengths):.1f} words on average, to {lengths[-1]}: {out}")


def choose(found: list[list[str]]) -> list[str]:
    """Draw the sample from paragraphs by length, in a shuffled order.

    Args:
        found: paragraphs, each a list of sentences.
    """
    chance = random.Random(SEED)
    singles = list(dict.fromkeys(text for paragraph in found for text in paragraph))
    joined = list(dict.fromkeys(joined_sentences(found)))
    sample: list[str] = []
    for (low, high), count in MIX.items():
        fitting = [text for text in singles if low <= len(text.split()) <= high]
        longer = [text for text in joined if low <= len(text.split()) <= high]
        taken = chance.sample(fitting, min(count, len(fitting)))
        sample += taken + chance.sample(longer, count - len(taken))
    chance.shuffle(sample)
    return sample


def joined_sentences(found: list[list[str]]) -> Iterator[str]:
    """Runs of sentences that follow each other, each to a length drawn between 40 and 200 words.

    Several passes are made over the text, as the longest runs are few in one; two runs of different
    passes may share sentences, and no two are equal.

    Args:
        found: paragraphs, each a list of sentences.
    """
    chance = random.Random(SEED)
    for _ in range(NUM_PASSES):
        yield from one_pass(itertools.chain.from_iterable(found), chance)


def one_pass(texts: Iterable[str], chance: random.Random) -> Iterator[str]:
    """Join each sentence of a text to the run before it, until the run's length is reached."""
    run: list[str] = []
    goal = chance.randint(40, MAX_WORDS)
    for text in texts:
        if num_words(run) + len(text.split()) > goal:
            if len(run) > 1:
                yield " ".join(run)
            run, goal = [], chance.randint(40, MAX_WORDS)
        run.append(text)


def num_words(texts: list[str]) -> int:
    """Words in several texts together."""
    return sum(len(text.split()) for text in texts)


def paragraphs() -> Iterator[list[str]]:
    """The prose of the standard library, paragraph by paragraph, each sentence once."""
    seen: set[str] = set()
    for text in itertools.chain(topics(), docstrings()):
        for block in re.split(r"\n\s*\n", text):
            kept = [said for said in sentences_of(block) if said not in seen]
            seen.update(kept)
            if kept:
                yield kept


def topics() -> Iterator[str]:
    """The help topics, in the order of their names."""
    for _, text in sorted(pydoc_data.topics.topics.items()):
        yield inspect.cleandoc(text)


def docstrings() -> Iterator[str]:
    """Every docstring of the standard library's own modules, found without importing them."""
    root = Path(sysconfig.get_path("stdlib"))
    apart = {"site-packages", "test", "tests", "idle_test", "lib2to3", "idlelib", "__pycache__"}
    for path in sorted(root.rglob("*.py")):
        if not apart.intersection(path.relative_to(root).parts):
            yield from docstrings_of(path)


def docstrings_of(path: Path) -> Iterator[str]:
    """The docstrings of one file; a file that can't be parsed has none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        if text:
            yield text


def sentences_of(block: str) -> list[str]:
    """The sentences of one paragraph that are prose.

    Args:
        block: lines without an empty one between them.
    """
    lines = block.splitlines()
    indents = {len(line) - len(line.lstrip()) for line in lines}
    is_table = any(re.search(r"\S {3,}\S", line) or line.lstrip().startswith((">>>", "...", "+-")) for line in lines)
    if is_table or len(indents) > 2:
        return []
    text = re.sub(r"^[*\-]\s+", "", " ".join(" ".join(lines).split()))
    text = re.sub(r"\*\*?([A-Za-z' -]+)\*\*?|\"([A-Za-z-]+)\"", r"\1\2", text.replace("``", '"'))
    return [piece for piece in whole_pieces(text) if is_prose(piece)]


def whole_pieces(text: str) -> Iterator[str]:
    """Split after full stops, but not after an abbreviation."""
    held = ""
    for piece in _END.split(text):
        held = f"{held} {piece}".strip()
        if not _ABBREVIATION.search(held):
            yield held
            held = ""


def is_prose(text: str) -> bool:
    """Whether a piece is an English sentence of 5 to 200 words, without code.

    Args:
        text: the piece, on one line.
    """
    words = text.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or not re.match(r"[A-Z]", text) or text[-1] not in ".!?":
        return False
    plain = sum(bool(_WORD.fullmatch(word.rstrip(".!?"))) for word in words)
    common = sum(word.lower() in _COMMON for word in words)
    balanced = text.count("(") == text.count(")") and text.count('"') % 2 == 0
    return text.isascii() and balanced and not _CODE.search(text) and plain >= 0.9 * len(words) and common >= 1


if __name__ == "__main__":
    main()
