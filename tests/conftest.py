"""What every test shares: Hypothesis without deadlines (they assert timings), and the same examples on every run."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("carpool", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("carpool")
