"""FastAPI without batching: what people write first. The model is one device, so one call at a time."""

import threading

import numpy as np
import uvicorn
from fastapi import FastAPI
from peers.serving.model import PORT, WORKLOAD, make
from pydantic import BaseModel


class Numbers(BaseModel):
    """128 numbers."""

    x: list[float]


class Text(BaseModel):
    """A text."""

    text: str


app = FastAPI()
model = make()
one_at_a_time = threading.Lock()


def answer(item: object) -> dict[str, object]:
    """Run the model on one item."""
    with one_at_a_time:
        return {"y": model([item])[0].tolist()}


if WORKLOAD == "null":

    @app.post("/p")
    def predict_numbers(body: Numbers) -> dict[str, object]:
        """Sum numbers."""
        return answer(np.asarray(body.x, np.float32))

else:

    @app.post("/p")
    def predict_text(body: Text) -> dict[str, object]:
        """Embed a text."""
        return answer(body.text)


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
