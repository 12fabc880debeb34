"""The largest micro-batch that fits in memory, and the fastest one, found by training steps that are really made."""
