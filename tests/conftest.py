"""What every test shares: Hypothesis without deadlines (they assert timings), and the same examples on every run.

CARPOOL_HYPOTHESIS=long chooses thousands of examples instead, other ones on every run.
"""

from __future__ import annotations

import os

import hypothesis

hypothesis.settings.register_profile("carpool", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=10_000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("CARPOOL_HYPOTHESIS", "carpool"))
