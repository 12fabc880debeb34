"""From the vectors of a text's tokens to one vector of the text."""

from collections.abc import Callable, Sequence

import torch


def pool(hidden: torch.Tensor, lengths: Sequence[int], modes: Sequence[str], *, normalize: bool) -> torch.Tensor:
    """Reduce the tokens' vectors to one a text, in float32.

    Args:
        hidden: the encoder's last layer, the tokens of one text after those of another, (sum of lengths, D).
        lengths: tokens of each text, at least 1.
        modes: ``"mean"``, ``"cls"``, ``"max"``, ...; several are joined to a longer vector.
        normalize: whether to scale the result to length 1.

    Returns:
        (B, D) for one mode, (B, D * len(modes)) for several.
    """
    texts = _Texts(hidden.float(), torch.tensor(lengths, device=hidden.device))
    vectors = torch.cat([_MODES[mode](texts) for mode in modes], dim=-1)
    return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors


class _Texts:
    """The tokens of texts, one after another.

    Args:
        tokens: (T, D).
        lengths: (B,), adding up to T.
    """

    def __init__(self, tokens: torch.Tensor, lengths: torch.Tensor) -> None:
        self.tokens = tokens
        self.lengths = lengths
        self.last = lengths.cumsum(0) - 1
        self.first = self.last - lengths + 1

    def reduced(self, how: str, tokens: torch.Tensor) -> torch.Tensor:
        return torch.segment_reduce(tokens, how, lengths=self.lengths)

    @property
    def num(self) -> torch.Tensor:
        return self.lengths[:, None]


def _cls(texts: _Texts) -> torch.Tensor:
    return texts.tokens[texts.first]


def _max(texts: _Texts) -> torch.Tensor:
    return texts.reduced("max", texts.tokens)


def _mean(texts: _Texts) -> torch.Tensor:
    return texts.reduced("mean", texts.tokens)


def _mean_sqrt(texts: _Texts) -> torch.Tensor:
    return texts.reduced("sum", texts.tokens) / texts.num.sqrt()


def _weighted_mean(texts: _Texts) -> torch.Tensor:
    """The n-th token counts n times."""
    first = torch.repeat_interleave(texts.first, texts.lengths)
    weights = torch.arange(1, len(texts.tokens) + 1, device=first.device) - first
    return texts.reduced("sum", texts.tokens * weights[:, None]) / (texts.num * (texts.num + 1) / 2)


def _last(texts: _Texts) -> torch.Tensor:
    return texts.tokens[texts.last]


_MODES: dict[str, Callable[[_Texts], torch.Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
