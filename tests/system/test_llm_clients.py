"""Programs that ask language models, unchanged against the server, each in an environment of its own.

The environments are made on the first run, under ``benchmarks/.envs``, and kept.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from envs import environment

from tests.clients.repository import write_language_model
from tests.system.server import Running, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN = Path(__file__).with_name("foreign")
LM_EVAL = ["lm-eval[api,hf]==0.4.13", "torch==2.13.0", "transformers==5.23.0"]
GUIDELLM = ["guidellm==0.8.1", "torch==2.13.0", "transformers==5.23.0"]
NUM_REQUESTS = 12
LIMIT_S = 300


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small language model into a repository of its own."""
    return write_language_model(tmp_path_factory.mktemp("repository") / "lm") / "weights"


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[Running]:
    """Serve that repository."""
    with serving(str(weights.parents[1])) as running:
        yield running


def told_by(python: Path, script: str, *arguments: str) -> Any:
    """Run a client, and give the document that it prints."""
    command = [str(python), str(FOREIGN / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_harness_scores_the_server_as_it_scores_the_weights(server: Running, weights: Path) -> None:
    """EleutherAI's lm-eval: its `local-completions` beside its own Hugging Face backend, choice by choice."""
    python = environment("lm-eval", LM_EVAL)
    told = told_by(python, "lm_eval_client.py", server.url, "lm", str(weights))
    served, own = told["served"], told["own"]
    assert (served["acc"], served["acc_norm"]) == (own["acc"], own["acc_norm"])
    assert served["logprobs"] == pytest.approx(own["logprobs"], abs=1e-3)
    assert served["likeliest"] == own["likeliest"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_guidellm_measures_every_request(server: Running, weights: Path, tmp_path: Path, path: str) -> None:
    """`guidellm run`, several at a time: none fails, and each has as many tokens as it asked for."""
    program = environment("guidellm", GUIDELLM).with_name("guidellm")
    command = [
        str(program), "run", "--disable-console",
        "--backend", f"kind=openai_http,target={server.url},model=lm,request_format={path}",
        "--profile", "kind=concurrent,streams=4",
        "--constraint", f"kind=max_requests,count={NUM_REQUESTS}",
        "--tokenizer", f"kind=hf_auto,model={weights}",
        "--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=8",
        "--output", f"kind=json,path={tmp_path / 'told.json'}",
    ]  # fmt: skip
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=offline)
    assert done.returncode == 0, done.stderr
    [told] = json.loads((tmp_path / "told.json").read_text())["benchmarks"]
    totals = told["metrics"]["request_totals"]
    assert (totals["errored"], totals["incomplete"]) == (0, 0)
    assert totals["successful"] > NUM_REQUESTS / 2  # it may leave out those at the edges of what it measures
    assert {one["output_tokens"] for one in told["requests"]["successful"]} == {8}
