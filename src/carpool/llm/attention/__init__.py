"""Attention over keys and values that lie in blocks: a file for each way to compute it."""
