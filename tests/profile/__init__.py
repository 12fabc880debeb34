"""Tests of carpool.profile."""
