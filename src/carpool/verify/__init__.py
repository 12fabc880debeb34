"""Holding promises against what a served model really does."""
