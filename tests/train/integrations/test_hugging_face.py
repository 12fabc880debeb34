"""In Hugging Face's Trainer a window learns what one pass over all its items would, and its noise scale is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.integrations.hugging_face import CarpoolCallback, LossKind, hold
from carpool.train.noise.listener import NoiseScale
from tests.llm.tiny import VOCABULARY, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (5, 23, 2, 12, 9, 30, 2, 17, 3, 3, 20, 8, 6, 11)
WHOLE = BatchPlan(effective_batch_size=6, micro_batch_size=6)
PARTS = BatchPlan(effective_batch_size=6, micro_batch_size=2)


class TupleOfLabels(nn.Module):
    """A model of the user's own, whose loss is the mean over the labels that count; it takes no other arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 5)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Say which of five things each token is; labels below zero do not count."""
        logits = self.table(input_ids)
        kept = torch.where(labels < 0, labels, labels % 5)
        return cross_entropy(logits.flatten(0, 1), kept.flatten()), logits


def texts() -> list[dict[str, torch.Tensor]]:
    """Padded texts of several lengths, each token with its label."""
    chance = torch.Generator().manual_seed(1)
    items = []
    for length in LENGTHS:
        tokens = torch.randint(3, VOCABULARY, (max(LENGTHS),), generator=chance)
        labels = torch.where(torch.arange(max(LENGTHS)) < length, tokens, -100)
        items.append({"input_ids": tokens, "labels": labels})
    return items


def classes() -> list[dict[str, torch.Tensor]]:
    """Texts of one length, each with a label of its own."""
    return [{"input_ids": text["input_ids"], "labels": text["input_ids"][0] % 2} for text in texts()]


def classifier() -> Any:
    """A model that takes any argument, and whose loss is the mean of a micro-batch whatever it is told."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_hidden_layers=1, **sizes, hidden_dropout_prob=0.0)
    config.attention_probs_dropout_prob = 0.0
    return transformers.BertForSequenceClassification(config)


def own_model(kind: type[nn.Module]) -> nn.Module:
    """A model with the same weights each time."""
    torch.manual_seed(0)
    return kind()


def arguments(folder: Path, **more: Any) -> transformers.TrainingArguments:
    """Plain gradient descent over the texts in their order."""
    usual: dict[str, Any] = {
        "use_cpu": True,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "max_grad_norm": 0.0,
        "disable_tqdm": True,
    }
    return transformers.TrainingArguments(output_dir=str(folder), **usual | more)


def train(model: Any, data: list[Any], folder: Path, plan: BatchPlan, **more: Any) -> tuple[CarpoolCallback, Any]:
    """Train a model, and give the callback and the Trainer."""
    callback = CarpoolCallback(plan, decay=1.0)
    trainer = transformers.Trainer(model.double(), hold(arguments(folder, **more), plan), train_dataset=data)
    callback.install(trainer)
    trainer.train()
    return callback, trainer


def weights(model: nn.Module) -> torch.Tensor:
    """All of them, one after another."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


MODELS = [
    pytest.param(lambda: tiny_model("llama"), texts, LossKind.EXACT, id="divides by the window's tokens"),
    pytest.param(classifier, classes, LossKind.DEAF, id="does not listen"),
    pytest.param(lambda: own_model(TupleOfLabels), texts, LossKind.MEAN, id="is not told"),
]


@pytest.mark.parametrize(("make", "data", "kind"), MODELS)
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.5])
def test_a_window_is_learnt_as_one_batch(
    make: Any, data: Any, kind: LossKind, max_grad_norm: float, tmp_path: Path
) -> None:
    """Whatever the model does with the number of items, three micro-batches of two learn what one of six does."""
    learnt = []
    for plan in (WHOLE, PARTS):
        model = make()
        callback, trainer = train(model, data(), tmp_path, plan, max_grad_norm=max_grad_norm)
        assert callback.loss_kind is kind
        assert trainer.state.global_step == 3
        assert trainer.args.max_grad_norm == max_grad_norm
        learnt.append(weights(model))
    before = weights(make().double())
    assert (learnt[0] - before).abs().max() > 1e-4
    torch.testing.assert_close(learnt[1], learnt[0], rtol=0, atol=1e-9)


def test_without_it_trainer_learns_something_else(tmp_path: Path) -> None:
    """Where the model is not told the items of a window, Trainer averages the micro-batches' means."""
    learnt = []
    for plan in (WHOLE, PARTS):
        model = own_model(TupleOfLabels).double()
        transformers.Trainer(model, hold(arguments(tmp_path), plan), train_dataset=texts()).train()
        learnt.append(weights(model))
    assert (learnt[1] - learnt[0]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("make", "kind"), [(lambda: tiny_model("llama"), "exact"), (lambda: own_model(TupleOfLabels), "mean")]
)
def test_noise_scale_is_that_of_an_accumulator(make: Any, kind: str, tmp_path: Path) -> None:
    """From the same micro-batches both measure the same, although the host divides losses in other ways."""
    told = train(make(), texts(), tmp_path, PARTS)[0].estimate()
    model = make().double().train()
    skip = 1 if kind == "exact" else 0

    def count(batch: dict[str, torch.Tensor]) -> int:
        return int((batch["labels"][:, skip:] >= 0).sum())

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        output = model(**batch)
        mean: torch.Tensor = output["loss"] if kind == "exact" else output[0]
        return mean * count(batch)

    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=PARTS, count=count)
    noise = NoiseScale(model, decay=1.0)
    accumulator.listeners.append(noise)
    items = texts()
    batches = [items[start : start + 2] for start in range(0, len(items), 2)]
    for start in range(0, len(batches), 3):
        window = [
            {key: torch.stack([item[key] for item in batch]) for key in batch[0]}
            for batch in batches[start : start + 3]
        ]
        accumulator.step(window, loss)
    assert told.num_windows == noise.estimate().num_windows == 2  # the last has one micro-batch
    assert told.noise_scale == pytest.approx(noise.estimate().noise_scale, rel=1e-4)
    assert told.low == pytest.approx(noise.estimate().low, rel=1e-4)


def test_logs_have_the_batch_and_the_noise_scale(tmp_path: Path) -> None:
    """Those who report logs see them, and a checkpoint keeps them."""

    class Reporter(transformers.TrainerCallback):
        """Writes down what is logged."""

        def __init__(self) -> None:
            self.logs: list[dict[str, float]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """Write it down."""
            self.logs.append(dict(logs))

    reporter = Reporter()
    trainer = transformers.Trainer(
        own_model(TupleOfLabels),
        hold(arguments(tmp_path), PARTS),
        train_dataset=texts() * 4,
        callbacks=[reporter],
    )
    callback = CarpoolCallback(PARTS).install(trainer)
    trainer.train()
    of_steps = [log for log in reporter.logs if "loss" in log]
    assert {log["effective_batch_size"] for log in of_steps} == {6}
    assert of_steps[-1]["noise_scale_low"] == pytest.approx(callback.estimate().low)
    assert trainer.state.log_history[-2]["noise_scale_low"] == of_steps[-1]["noise_scale_low"]


def test_a_checkpoint_of_another_effective_batch_is_refused(tmp_path: Path) -> None:
    """The learning rate belongs to the batch; the same batch in other micro-batches goes on."""
    often = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    train(own_model(TupleOfLabels), texts(), tmp_path, PARTS, **often)
    for plan in (
        BatchPlan(effective_batch_size=6, micro_batch_size=3),
        BatchPlan(effective_batch_size=7, micro_batch_size=7),
    ):
        trainer = transformers.Trainer(
            own_model(TupleOfLabels).double(),
            hold(arguments(tmp_path, num_train_epochs=2), plan),
            train_dataset=texts(),
        )
        CarpoolCallback(plan).install(trainer)
        if plan.effective_batch_size == 6:
            trainer.train(resume_from_checkpoint=True)
            assert trainer.state.global_step == 6
        else:
            with pytest.raises(
                ConfigError, match="trained with an effective batch of 6, and the plan says 7: plan for"
            ):
                trainer.train(resume_from_checkpoint=True)


def test_another_batch_than_planned_is_refused(tmp_path: Path) -> None:
    """Where `hold` was forgotten, nothing is trained."""
    trainer = transformers.Trainer(own_model(TupleOfLabels), arguments(tmp_path), train_dataset=texts())
    CarpoolCallback(PARTS).install(trainer)
    hold(trainer.args, PARTS)  # too late
    with pytest.raises(
        ConfigError, match="Trainer makes windows of 24 items, and the plan is effective batch 6 = 3 x 2: make it"
    ):
        trainer.train()


def test_a_batch_that_changes_by_itself_is_refused(tmp_path: Path) -> None:
    """Trainer halves the micro-batch when memory is short, and leaves the steps of accumulation as they are."""
    with pytest.raises(ConfigError, match="auto_find_batch_size is on, and would change the effective batch"):
        train(own_model(TupleOfLabels), texts(), tmp_path, PARTS, auto_find_batch_size=True)


def test_other_ranks_than_planned_are_refused(tmp_path: Path) -> None:
    """As are shares that are not equal."""
    with pytest.raises(
        ConfigError, match=r"the plan has 2 ranks, and Trainer 1 with 1 devices each: use plan.with_ranks\(1\)"
    ):
        hold(arguments(tmp_path), PARTS.with_ranks(2))


def test_a_micro_batch_without_labels_is_refused(tmp_path: Path) -> None:
    """Its mean is no number, and would make the whole window none."""
    data = [{"input_ids": text["input_ids"], "labels": torch.full_like(text["labels"], -100)} for text in texts()]
    with pytest.raises(ConfigError, match="a micro-batch has no label that counts, and its mean is no number"):
        train(own_model(TupleOfLabels), data, tmp_path, PARTS)


def test_a_run_may_follow_one_that_failed(tmp_path: Path) -> None:
    """It clips as before, and weights each loss once."""
    plan, model = PARTS, own_model(TupleOfLabels).double()
    without = [text | {"labels": torch.full_like(text["labels"], -100)} for text in texts()]
    trainer = transformers.Trainer(model, hold(arguments(tmp_path, max_grad_norm=0.5), plan), train_dataset=without)
    callback = CarpoolCallback(plan).install(trainer)
    with pytest.raises(ConfigError):
        trainer.train()
    trainer.train_dataset = texts()
    trainer.train()
    whole = own_model(TupleOfLabels)
    train(whole, texts(), tmp_path, WHOLE, max_grad_norm=0.5)
    torch.testing.assert_close(weights(model), weights(whole), rtol=0, atol=1e-9)
    assert trainer.args.max_grad_norm == 0.5
    assert callback.loss_kind is LossKind.MEAN


def test_a_loss_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    """With compute_loss_func the model is not given labels; what it divides by is its author's to say."""

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        return cross_entropy(outputs[1].flatten(0, 1), labels.flatten() % 5, reduction="sum") / num_items_in_batch

    class Plain(nn.Module):
        """Gives logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(VOCABULARY, 5)

        def forward(self, input_ids: torch.Tensor) -> Any:
            """Say which of five things each token is."""
            return None, self.table(input_ids)

    torch.manual_seed(0)
    plan = PARTS
    callback = CarpoolCallback(plan)
    trainer = transformers.Trainer(
        Plain(),
        hold(arguments(tmp_path, label_names=["labels"]), plan),
        train_dataset=classes_of_tokens(),
        compute_loss_func=loss,
    )
    callback.install(trainer)
    trainer.train()
    assert callback.loss_kind is LossKind.OWN
    assert callback.estimate().num_windows == 0


def classes_of_tokens() -> list[dict[str, torch.Tensor]]:
    """Texts of one length, each token with a label."""
    return [{"input_ids": text["input_ids"], "labels": text["input_ids"]} for text in texts()]
