"""Embed English text with all-MiniLM-L6-v2 (real weights) and find the closest sentence.

Run it::

    python examples/text_embeddings.py

Measure what batching buys, and serve it::

    carpool profile examples/text_embeddings.py:model
    carpool serve examples/text_embeddings.py:model

Another encoder is another directory: ``EncoderModel("path/to/a/hugging-face/directory")``.
"""

import carpool
from carpool.models.demo import minilm_directory
from carpool.models.embed import EncoderModel
from carpool.units import counted

model = EncoderModel(minilm_directory(), name="MiniLM")

SENTENCES = [
    "How do I reset my password?",
    "The parcel was delivered to the wrong address.",
    "I would like my money back.",
    "Which bus goes to the airport?",
    "The app crashes when I open the camera.",
]


def main() -> None:
    """Embed a few sentences and one question, all in flight at once, and print the closest."""
    question = "I can't log in any more"
    with carpool.Batcher(model, max_batch_size=32) as batcher:
        *vectors, asked = batcher.map([*SENTENCES, question])
        totals = batcher.metrics.totals()
    cosines = [float(asked @ vector) for vector in vectors]
    print(f"{len(SENTENCES) + 1} texts in {counted(totals.num_batches, 'batch')}, {len(asked)} dimensions each")
    for cosine, sentence in sorted(zip(cosines, SENTENCES, strict=True), reverse=True):
        print(f"{cosine:6.3f}  {sentence}")


if __name__ == "__main__":
    main()
