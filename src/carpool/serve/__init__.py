"""Over the network: the Open Inference Protocol, OpenAI's embeddings, health and metrics, in front of a batcher."""
