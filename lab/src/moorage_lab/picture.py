"""The picture at the end of the demo: how long a service was down, with a person's help and without. Pure."""

from typing import NamedTuple

DOWN, UP = "█", "·"
_SCALES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""How many seconds a mark stands for."""
_TICK_MARKS = 10
_TAIL_MARKS = 4
"""How many marks show that it is up again."""


class Outage(NamedTuple):
    """What a client saw of an endpoint that went away."""

    seconds: float
    """How long until a request was answered again."""
    failed: int
    """Requests that failed meanwhile."""


def draw(outages: dict[str, Outage], width: int) -> list[str]:
    """A time axis and a bar for each name, in lines of at most `width` characters."""
    label = max(map(len, outages)) + 3
    marks = width - label
    longest = max(each.seconds for each in outages.values())
    scale = next((each for each in _SCALES if longest / each + _TAIL_MARKS <= marks), longest / (marks - _TAIL_MARKS))
    used = min(marks, round(longest / scale) + _TICK_MARKS)
    lines = [" " * label + _axis(scale, used)]
    for name, outage in outages.items():
        down = max(1, round(outage.seconds / scale))
        lines.append(f"{name.ljust(label)}{DOWN * down}{UP * (used - down)}")
    return lines


def _axis(scale: float, marks: int) -> str:
    axis = ""
    for tick in range(0, marks, _TICK_MARKS):
        text = f"{tick * scale:g} s"
        if tick + len(text) <= marks:
            axis = axis.ljust(tick) + text
    return axis
