"""Names beside their points in a figure, so that nothing covers anything."""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

INK, PALE = "#222222", "#5a5a5a"
Box = tuple[float, float, float, float]
FAR = 16  # points; names farther from their point than this get a line back to it


def place_labels(
    ax: "Axes",
    names: list[str],
    size: np.ndarray,
    rating: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    on_front: np.ndarray,
    front: np.ndarray,
) -> None:
    """Put each name beside its point, where it covers least of points, bars, front, names and edges.

    Greedy: the most crowded points choose first, among places around the point at growing distance;
    a name that had to go far gets a thin line back to its point.
    """
    figure = ax.figure.canvas.figure
    figure.draw_without_rendering()  # lays out the axes, so that pixels are where they will be
    points = ax.transData.transform(np.column_stack([size, rating]))
    unit = figure.dpi / 72  # pixels in a point
    taken = _drawn(ax, points, low, high, front, unit)
    inside = ax.get_window_extent()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    crowding = np.sort(distance, axis=1)[:, 1] if len(points) > 1 else distance[:, 0]
    for i in np.argsort(crowding, kind="stable"):
        x, y = points[i]
        text: Text = ax.annotate(
            names[i],
            (size[i], rating[i]),
            xytext=(0, 0),
            textcoords="offset points",
            parse_math=False,
            fontsize=9,
            zorder=6,
        )
        text.set_in_layout(False)
        text.set_color(INK if on_front[i] else PALE)
        extent = text.get_window_extent()
        width, height = extent.width, extent.height

        def cost(
            place: tuple[float, float, float], x: float = x, y: float = y, w: float = width, h: float = height
        ) -> float:
            dx, dy, penalty = place
            box = _beside(x, y, dx * unit, dy * unit, w, h)
            outside = w * h - _overlap(box, (inside.x0, inside.y0, inside.x1, inside.y1))
            covered = sum(weight * _overlap(box, other) for other, weight in taken) + 3 * outside
            # A line back to the point must not run through a name, nor through another point.
            crossed = 0.0
            for piece in _leader(x, y, box, unit) if math.hypot(dx, dy) > FAR else ():
                crossed += sum(weight * _overlap(piece, other) for other, weight in taken if weight > 2)
            return penalty + (covered + 2 * crossed) / (unit * unit)

        dx, dy, _ = min(_places(), key=cost)
        box = _beside(x, y, dx * unit, dy * unit, width, height)
        text.set_position(((box[0] - x) / unit, (box[1] - y) / unit))
        text.set_verticalalignment("bottom")
        # Two names on one another are worst; a pixel of air lies around each.
        taken.append(((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), 12.0))
        if math.hypot(dx, dy) > FAR:
            taken.extend((piece, 6.0) for piece in _leader(x, y, box, unit))
            ends = ax.transData.inverted().transform([(x, y), _nearest(x, y, box)])
            ax.plot(*ends.T, color="#999999", lw=0.7, zorder=2.5)


def _drawn(
    ax: "Axes", points: np.ndarray, low: np.ndarray, high: np.ndarray, front: np.ndarray, unit: float
) -> list[tuple[Box, float]]:
    """What is there before the names, points, front and bars, with how bad it is to cover a pixel of it."""
    taken = [(_box(x, y, 5 * unit, 5 * unit), 3.0) for x, y in points]
    for (x0, y0), (x1, y1) in itertools.pairwise(ax.transData.transform(front)):
        taken.append(((x0, y0 - 2.5 * unit, x1, y0 + 2.5 * unit), 1.0))
        taken.append(((x1 - 2.5 * unit, y0, x1 + 2.5 * unit, y1), 1.0))
    for (x, _), bottom, top in zip(points, low, high, strict=True):
        if not math.isnan(bottom):
            ends = ax.transData.transform([(1, bottom), (1, top)])[:, 1]
            taken.append(((x - 3 * unit, ends[0], x + 3 * unit, ends[1]), 3.0))
    return taken


def _nearest(x: float, y: float, box: Box) -> tuple[float, float]:
    """The place of a box nearest to a point."""
    return min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])


def _leader(x: float, y: float, box: Box, unit: float) -> list[Box]:
    """The line from a point to its name as a chain of small boxes, without what lies on the point itself."""
    to_x, to_y = _nearest(x, y, box)
    length = math.hypot(to_x - x, to_y - y)
    steps = np.arange(7 * unit, length, 4 * unit) / max(length, 1e-9)
    return [_box(x + t * (to_x - x), y + t * (to_y - y), 2 * unit, 2 * unit) for t in steps]


# Sides of a point in order of taste: right and left of it, above and below.
SIDES = (
    (1, 0.9),
    (1, -0.9),
    (-1, 0.9),
    (-1, -0.9),
    (1, 1.8),
    (1, -1.8),
    (-1, 1.8),
    (-1, -1.8),
    (0, 1),
    (0, -1),
)


def _places() -> Iterator[tuple[float, float, float]]:
    """Offsets (dx, dy) in points from the point to the near side of its label, with what each costs."""
    for reach, far in ((8, 0), (14, 8), (22, 30), (32, 60), (44, 100), (60, 150)):
        for taste, (dx, dy) in enumerate(SIDES):
            yield dx * reach, dy * reach, far + taste


def _beside(x: float, y: float, dx: float, dy: float, width: float, height: float) -> Box:
    left = x + dx if dx > 0 else x + dx - width if dx < 0 else x - width / 2
    bottom = y + dy - height / 2 if dx else (y + dy if dy > 0 else y + dy - height)
    return (left, bottom, left + width, bottom + height)


def _box(x: float, y: float, half_width: float, half_height: float) -> Box:
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def _overlap(a: Box, b: Box) -> float:
    """Area in square pixels that two boxes (x0, y0, x1, y1) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
