"""EleutherAI's harness over a server's completions, and over the same weights by its own Hugging Face backend.

Run by the Python of an environment that has it, with the server's address, the model's name there, and its directory.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
from lm_eval.tasks import TaskManager

URL, NAME, DIRECTORY = sys.argv[1:4]
TASK = "which_goes_on"
ITEMS = [
    {"question": f"{who} {did} the", "choices": [" bread", " house and went away", " sea", "y"], "answer": place % 4}
    for place, (who, did) in enumerate(
        (who, did) for who in ("A man", "She", "The old king", "Nobody", "We all") for did in ("saw", "made", "left")
    )
]


def write_task(directory: Path) -> None:
    """Write a task of choices, whose items are the file beside it."""
    items = directory / "items.jsonl"
    items.write_text("".join(json.dumps(item) + "\n" for item in ITEMS), encoding="utf-8")
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(items)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (directory / f"{TASK}.yaml").write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML


def evaluate(tasks: TaskManager, backend: str, **arguments: Any) -> dict[str, Any]:
    """Score one backend, and give what it said of each choice: its log probability, and whether it is the likeliest."""
    found = lm_eval.simple_evaluate(
        model=backend, model_args=arguments, tasks=[TASK], task_manager=tasks, batch_size=4, bootstrap_iters=0
    )
    scores = found["results"][TASK]
    said = [choice for sample in found["samples"][TASK] for choice in sample["filtered_resps"]]
    return {
        "acc": scores["acc,none"],
        "acc_norm": scores["acc_norm,none"],
        "logprobs": [float(logprob) for logprob, _ in said],
        "likeliest": [bool(is_likeliest) for _, is_likeliest in said],
    }


def main() -> None:
    """Score both, and print what came of it."""
    with tempfile.TemporaryDirectory() as directory:
        write_task(Path(directory))
        tasks = TaskManager(include_path=directory)
        served = evaluate(
            tasks,
            "local-completions",
            model=NAME,
            base_url=f"{URL}/v1/completions",
            tokenizer=DIRECTORY,
            num_concurrent=2,
            max_retries=1,
            max_length=128,
        )
        own = evaluate(tasks, "hf", pretrained=DIRECTORY, dtype="float32", device="cpu", max_length=128)
    print(json.dumps({"version": lm_eval.__version__, "served": served, "own": own}))  # noqa: T201


main()
