"""The cost model: what a batch takes in time and memory, fitted to what was measured, and how far it can be trusted."""
