"""Draw the picture of the page about the noise scale: steps against examples, where both are known exactly.

The problem is the noisy quadratic, with curvature and noise `1/i` in 200 directions and a loss that is to fall to a
twentieth. Steps of each batch come from its recursion, at the learning rate that gets there first; the curve is fitted
to them. The second panel follows the noise scale on the way::

    python tools/draw_noise_scale.py docs/images/noise-scale.png
"""

import argparse
from pathlib import Path

import numpy as np

from carpool.cost.least_squares import fit_affine
from carpool.report.plot import LineSeries, Mark, Panel, Picture, figure
from carpool.train.noise.quadratic import NoisyQuadratic

TARGET = 0.05
SIZES = tuple(2**power for power in range(12))
WATCHED = 64  # the batch whose noise scale is followed


def draw(problem: NoisyQuadratic) -> Picture:
    """Compute and draw both panels."""
    steps = np.array([problem.num_steps(size, target=TARGET) for size in SIZES], dtype=float)
    sizes = np.array(SIZES, dtype=float)
    fewest_steps, fewest_examples = (float(one) for one in fit_affine(1 / sizes, steps, 1 / steps**2))
    critical = fewest_examples / fewest_steps
    scales = noise_scales(problem, int(steps[SIZES.index(WATCHED)]))
    print(f"fewest steps {fewest_steps:.1f}, fewest examples {fewest_examples:.0f}, critical batch size {critical:.1f}")
    print(f"largest error {np.abs((fewest_steps + fewest_examples / sizes) / steps - 1).max():.1%}")
    print(
        f"noise scale at the start {scales[0]:.1f}, mean on the way {np.mean(scales):.0f}, at the end {scales[-1]:.0f}"
    )
    panels = (
        steps_against_examples(sizes, steps, fewest_steps, fewest_examples),
        noise_on_the_way(scales, critical),
    )
    return figure(panels, title="Steps against examples on the noisy quadratic")


def steps_against_examples(sizes: np.ndarray, steps: np.ndarray, fewest_steps: float, fewest_examples: float) -> Panel:
    """Draw what each batch takes of both, and the curve that was fitted."""
    critical = fewest_examples / fewest_steps
    smooth = np.geomspace(sizes[0], sizes[-1], 200)
    return Panel(
        title=f"Twice the least of both at batch {critical:.0f}",
        x_label="examples",
        y_label="steps",
        series=(
            LineSeries(
                label=f"batch {SIZES[0]} (left) to {SIZES[-1]:,} (right)",
                x=(sizes * steps).tolist(),
                y=steps.tolist(),
                style="points",
                tone=0,
            ),
            LineSeries(
                label="fitted: steps = S (1 + N / B)",
                x=(fewest_steps * smooth + fewest_examples).tolist(),
                y=(fewest_steps + fewest_examples / smooth).tolist(),
                tone=1,
            ),
        ),
        marks=(Mark(2 * fewest_examples, f"batch {critical:.0f}"),),
        x_scale="log10",
        y_scale="log10",
    )


def noise_on_the_way(scales: np.ndarray, critical: float) -> Panel:
    """Draw how the noise scale rises, beside the critical batch size."""
    at = np.arange(len(scales)).tolist()
    return Panel(
        title=f"The noise scale rises from {scales[0]:.0f} to {scales[-1]:.0f}",
        x_label=f"step, at batch {WATCHED}",
        y_label="items",
        series=(
            LineSeries(label="noise scale", x=at, y=scales.tolist(), tone=0),
            LineSeries(label="critical batch size", x=at, y=[critical] * len(at), style="dashed"),
        ),
        y_scale="log10",
    )


def noise_scales(problem: NoisyQuadratic, num_steps: int) -> np.ndarray:
    """Follow `tr(Sigma) / E|G|^2` on the way to the target, at the rate that arrives in so many steps."""
    h = problem.curvature
    for rate in np.geomspace(1e-3, 2.0, 2000, endpoint=False):
        squares = problem.start.copy()
        scales = []
        for _ in range(num_steps):
            scales.append(problem.noise.sum() / (h**2 * squares).sum())
            squares = (1 - rate * h) ** 2 * squares + rate**2 * problem.noise / WATCHED
        if h @ squares <= TARGET * (h @ problem.start):
            return np.array(scales)
    message = f"no learning rate arrives in {num_steps} steps"
    raise ValueError(message)


def main() -> None:
    """Draw it where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="where to write it, .png or .svg")
    path = parser.parse_args().path
    h = 1 / np.arange(1, 201)
    draw(NoisyQuadratic(curvature=h, noise=h, start=np.ones(200))).save(path)


if __name__ == "__main__":
    main()
