"""Measures what a batch costs on this machine, where its time goes, what it needs of memory, and what it changes."""
