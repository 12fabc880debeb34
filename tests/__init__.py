"""The tests mirror the package: ``tests/core/test_queue.py`` tests ``carpool.core.queue``."""
