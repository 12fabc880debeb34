"""Large language models: continuous batching, from weights to tokens."""
