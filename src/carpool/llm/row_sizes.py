"""To how many rows a step is filled up: a CPU's matrix products are made ready for each number of rows apart."""

_FINE, _MIDDLE, _COARSE = 4, 16, 64
_FINE_TO, _MIDDLE_TO = 64, 256


def round_up(num_rows: int) -> int:
    """Return the next of few sizes: steps of 4 up to 64 rows, of 16 up to 256, then of 64; 1 to 4 as they are.

    Args:
        num_rows: rows that are needed.

    >>> [round_up(n) for n in (1, 3, 5, 64, 65, 257)]
    [1, 3, 8, 64, 80, 320]
    """
    if num_rows <= _FINE:
        return num_rows
    step = _FINE if num_rows <= _FINE_TO else _MIDDLE if num_rows <= _MIDDLE_TO else _COARSE
    return -(-num_rows // step) * step
