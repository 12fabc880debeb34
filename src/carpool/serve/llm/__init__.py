"""Language models over the network, as OpenAI's clients and vLLM's ask them."""
