"""The servers: how each is started, asked and understood."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from envs import environment

from carpool.models.demo import minilm_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rig.workloads import Workload

BENCHMARKS = Path(__file__).parents[1]
MODEL_PINS = ("torch==2.13.0", "transformers==5.23.0", "tokenizers==0.23.3", "safetensors==0.8.0")


class Contender(Protocol):
    """A server that can be measured."""

    @property
    def label(self) -> str:
        """What tables call it."""
        ...

    def prepare(self) -> None:
        """Install what it needs."""
        ...

    def command(self, workload: Workload, port: int) -> list[str]:
        """Give the command that starts it."""
        ...

    def environment(self, workload: Workload, port: int, counts: Path) -> dict[str, str]:
        """Give the variables that it is started with."""
        ...

    def path(self, workload: Workload) -> str:
        """Give the path that requests go to."""
        ...

    def body(self, workload: Workload, item: Any) -> dict[str, Any]:
        """Give the document of a request for one item."""
        ...

    def answer(self, document: Any) -> NDArray[np.float32]:
        """Give the numbers of an answer: one sum, or one vector."""
        ...

    def counts(self, port: int, counts: Path) -> tuple[int, int]:
        """Give how many batches and items its model has run so far."""
        ...


@dataclass(frozen=True, slots=True)
class Carpool:
    """Our own, as its command line starts it: the limits of the workload for the null model, else its defaults."""

    label: str = "Carpool"

    def prepare(self) -> None:
        """Need nothing: it is what runs this."""

    def command(self, workload: Workload, port: int) -> list[str]:
        """Start `carpool serve`."""
        carpool = str(Path(sys.executable).with_name("carpool"))
        limits = ["--max-batch-size", str(workload.max_batch_size), "--max-wait", f"{1e3 * workload.max_wait_s:g}ms"]
        given = limits if workload.name == "null" else []
        return [carpool, "serve", f"demo:{workload.name}", "--name", workload.name, "--port", str(port), *given]

    def environment(self, workload: Workload, port: int, counts: Path) -> dict[str, str]:
        """Need no variables."""
        del workload, port, counts
        return {}

    def path(self, workload: Workload) -> str:
        """Use plain JSON, as the peers do."""
        return f"/predict/{workload.name}"

    def body(self, workload: Workload, item: Any) -> dict[str, Any]:
        """Write the item."""
        del workload
        return {"input": item}

    def answer(self, document: Any) -> NDArray[np.float32]:
        """Read the result."""
        return np.asarray(document["output"], np.float32).ravel()

    def counts(self, port: int, counts: Path) -> tuple[int, int]:
        """Read the histogram of batch sizes from its metrics."""
        del counts
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            page = response.read().decode()
        num_batches, num_items = (
            re.search(rf"^carpool_batch_size_{part}{{.*}} (\S+)$", page, re.MULTILINE) for part in ("count", "sum")
        )
        assert num_batches is not None
        assert num_items is not None
        return int(float(num_batches[1])), int(float(num_items[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another server, in an environment of its own; the model counts its batches in a file.

    Args:
        label: what tables call it.
        name: of its environment, and of its module under `peers.serving`.
        pins: what to install besides the model's packages.
        variables: of its environment.
    """

    label: str
    name: str
    pins: tuple[str, ...]
    variables: Mapping[str, str]

    def python(self) -> Path:
        """Give the Python of its environment, made when it is not there yet."""
        return environment(self.name, [*self.pins, *MODEL_PINS])

    def prepare(self) -> None:
        """Make its environment."""
        self.python()

    def command(self, workload: Workload, port: int) -> list[str]:
        """Run its module."""
        del workload, port
        return [str(self.python()), "-m", f"peers.serving.{self.name}_server"]

    def environment(self, workload: Workload, port: int, counts: Path) -> dict[str, str]:
        """Tell the model what to be, and where to count."""
        return {
            "WORKLOAD": workload.name,
            "PORT": str(port),
            "COUNTS": str(counts),
            "MINILM": str(minilm_directory()),
            "PYTHONPATH": str(BENCHMARKS),
            **self.variables,
        }

    def path(self, workload: Workload) -> str:
        """Use the path that all of these scripts share."""
        del workload
        return "/p"

    def body(self, workload: Workload, item: Any) -> dict[str, Any]:
        """Write the item under its name."""
        return {_field(workload): item}

    def answer(self, document: Any) -> NDArray[np.float32]:
        """Read what the model gave."""
        return np.asarray(document["y"], np.float32).ravel()

    def counts(self, port: int, counts: Path) -> tuple[int, int]:
        """Read the model's own file."""
        del port
        num_batches, num_items = np.fromfile(counts, np.int64)
        return int(num_batches), int(num_items)


class BentoMl(Peer):
    """BentoML: started by its own command, takes a batch of one, gives a bare array."""

    __slots__ = ()

    def command(self, workload: Workload, port: int) -> list[str]:
        """Start `bentoml serve`."""
        del workload
        bentoml = str(self.python().with_name("bentoml"))
        return [bentoml, "serve", f"peers.serving.{self.name}_server:Service", "--port", str(port), "--host", LOOPBACK]

    def body(self, workload: Workload, item: Any) -> dict[str, Any]:
        """Write a batch of one."""
        return {_field(workload): [item]}

    def answer(self, document: Any) -> NDArray[np.float32]:
        """Read the array."""
        return np.asarray(document, np.float32).ravel()


class MoSec(Peer):
    """Mosec, whose path is its own."""

    __slots__ = ()

    def path(self, workload: Workload) -> str:
        """Use its only route."""
        del workload
        return "/inference"


class TritonServer(Peer):
    """Triton: the Open Inference Protocol, with a batch dimension."""

    __slots__ = ()

    def prepare(self) -> None:
        """Make its environment, and mend one line there.

        The interpreter inside Triton is older than the standard library that it finds, whose resource tracker asks its
        lock how often it is held: only the lock that is written in Python can tell in both.
        """
        [source] = self.python().parents[1].glob("lib/*/site-packages/pytriton/proxy/data.py")
        text = source.read_text(encoding="utf-8")
        use = "tracker_fd = resource_tracker.getfd()"
        lock = "resource_tracker._resource_tracker._lock = threading._PyRLock(); "
        if lock not in text:
            source.write_text(text.replace(use, lock + use), encoding="utf-8")

    def path(self, workload: Workload) -> str:
        """Use the protocol's path."""
        del workload
        return "/v2/models/m/infer"

    def body(self, workload: Workload, item: Any) -> dict[str, Any]:
        """Write one row of a tensor."""
        text = workload.name == "minilm"
        shape, datatype = ([1, 1], "BYTES") if text else ([1, len(item)], "FP32")
        return {"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": [item] if text else item}]}

    def answer(self, document: Any) -> NDArray[np.float32]:
        """Read the only output."""
        return np.asarray(document["outputs"][0]["data"], np.float32).ravel()


LOOPBACK = "127.0.0.1"
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}

CONTENDERS: Mapping[str, Contender] = {
    "carpool": Carpool(),
    "mosec": MoSec(label="mosec 0.9.8", name="mosec", pins=("mosec==0.9.8",), variables=OFFLINE),
    "triton": TritonServer(
        label="Triton (pytriton 0.7.0)", name="triton", pins=("nvidia-pytriton==0.7.0",), variables=OFFLINE
    ),
    "litserve": Peer(label="LitServe 0.2.19", name="litserve", pins=("litserve==0.2.19",), variables=OFFLINE),
    "bentoml": BentoMl(
        label="BentoML 1.4.39",
        name="bentoml",
        pins=("bentoml==1.4.39",),
        variables=OFFLINE | {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    "ray": Peer(
        label="Ray Serve 2.60.0 (HAProxy)",
        name="ray_serve",
        pins=("ray[serve]==2.60.0",),
        variables=OFFLINE | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
    ),
    "fastapi": Peer(
        label="no batching (FastAPI 0.165.0)",
        name="fastapi",
        pins=("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
        variables=OFFLINE,
    ),
}


def _field(workload: Workload) -> str:
    return "x" if workload.name == "null" else "text"
