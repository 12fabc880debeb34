"""Read an encoder's weights from a local directory, and count its work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from carpool.errors import TargetError
from carpool.models.quiet import quiet
from carpool.units import counted

# The formula below was checked for these: attention over all tokens, every linear layer once a token.
_COUNTED = {"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet"}
# These compute `pooler` from the first token only to leave it unused here.
_DROP_POOLER = {"bert", "roberta", "xlm-roberta", "camembert", "mpnet"}


def load_encoder(directory: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """An encoder in evaluation mode, from local files only.

    Args:
        directory: with config.json and the weights.
        device: where it will compute.
        dtype: the type of its weights.

    Raises:
        TargetError: there are no weights, or they are not those that config.json describes.
    """
    try:
        with quiet():
            config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            _require_encoder_only(config, directory)
            encoder, found = AutoModel.from_pretrained(
                directory,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                dtype=dtype,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise TargetError(f"{directory} could not be loaded: {first}") from error
    _require_all_weights(found, directory)
    encoder.config.use_cache = False  # of keys and values, for texts that go on: these don't
    if config.model_type in _DROP_POOLER:
        encoder.pooler = None
    return encoder.eval().to(device)


def _require_encoder_only(config: Any, directory: Path) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise TargetError(f"{directory} holds an encoder with a decoder ({config.model_type}); give an encoder alone")


def _require_all_weights(found: dict[str, Any], directory: Path) -> None:
    # Without this the library would fill what is missing with random numbers and go on.
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
    wrong = sorted(str(key[0]) for key in found["mismatched_keys"])
    for what, names in (("lack", missing), ("have other shapes than config.json says for", wrong)):
        if names:
            raise TargetError(
                f"the weights in {directory} {what} {counted(len(names), 'tensor')}, such as {names[0]!r}"
            )


@dataclass(frozen=True, slots=True)
class Work:
    """What an encoder does for a token.

    Args:
        linear: weights of its linear layers; None for an architecture that is not known.
        attention: hidden size times layers.
    """

    linear: int | None
    attention: int = 0

    def flops(self, batch_size: int, length: int) -> float | None:
        """Floating-point operations of one batch: two for each weight of a linear layer, and attention.

        PyTorch's own counter leaves out its fused attention on the CPU, hence a formula.

        Args:
            batch_size: texts, B.
            length: tokens of each, L.

        Returns:
            ``2 B L (weights of linear layers) + 4 B L^2 (hidden size) (layers)``, or None for an unknown architecture.
        """
        if self.linear is None:
            return None
        return float(batch_size * length * (2 * self.linear + 4 * length * self.attention))


def count_work(encoder: Any) -> Work:
    """Count the weights of an encoder's linear layers.

    Args:
        encoder: of `load_encoder`, as it was loaded.
    """
    config = encoder.config
    if config.model_type not in _COUNTED:
        return Work(None)
    linear = sum(module.weight.numel() for module in encoder.modules() if isinstance(module, nn.Linear))
    return Work(linear, config.hidden_size * config.num_hidden_layers)
