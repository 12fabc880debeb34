# ruff: noqa: S106 - tokens of a tokenizer, not of a login
"""Small encoders with random weights, as directories that sentence-transformers itself wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from carpool.models.text import sentences

_SIZES: dict[str, Any] = {"vocab_size": 200, "max_position_embeddings": 66}
_WIDTH: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_CONFIGS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "bert": lambda: transformers.BertConfig(**_SIZES, **_WIDTH, pad_token_id=0),
    "roberta": lambda: transformers.RobertaConfig(**_SIZES, **_WIDTH, pad_token_id=1),
    "distilbert": lambda: transformers.DistilBertConfig(**_SIZES, dim=32, n_layers=2, n_heads=4, hidden_dim=48),
    "mpnet": lambda: transformers.MPNetConfig(**_SIZES, **_WIDTH, pad_token_id=1),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**_SIZES, **_WIDTH, pad_token_id=1),
    "modernbert": lambda: transformers.ModernBertConfig(
        **_SIZES, **_WIDTH, pad_token_id=0, local_attention=12, layer_types=["full_attention", "sliding_attention"]
    ),
    "qwen3": lambda: transformers.Qwen3Config(
        **_SIZES, **_WIDTH, num_key_value_heads=2, head_dim=8, pad_token_id=0, attention_dropout=0.0
    ),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **_SIZES, **_WIDTH, pad_token_id=0, relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0
    ),
}


def word_tokenizer() -> tokenizers.Tokenizer:
    """A tokenizer trained on the sample, with [CLS] and [SEP] around each text."""
    special = ["[PAD]", "[MASK]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences(200), trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def encoder_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build a tiny encoder's directory: `encoder_directory("bert", pooling="cls", normalize=False)`."""
    built: dict[tuple[str, Any, bool], Path] = {}

    def build(kind: str = "bert", pooling: Any = "mean", *, normalize: bool = True) -> Path:
        key = kind, pooling, normalize
        if key not in built:
            built[key] = _build(tmp_path_factory.mktemp(kind), *key)
        return built[key]

    return build


def _build(directory: Path, kind: str, pooling: Any, normalize: bool) -> Path:
    torch.manual_seed(0)
    plain = directory / "plain"
    transformers.AutoModel.from_config(_CONFIGS[kind]()).save_pretrained(plain)  # type: ignore[no-untyped-call]
    transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=word_tokenizer(),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(plain)
    steps: list[torch.nn.Module] = [Transformer(str(plain)), Pooling(32, pooling_mode=pooling)]
    if normalize:
        steps.append(Normalize())
    SentenceTransformer(modules=steps, device="cpu").save(str(directory / "saved"))
    return directory / "saved"
