"""How long a service was down, drawn."""

import pytest

from moorage_lab.picture import DOWN, UP, Outage, draw

OUTAGES = {"by hand": Outage(3.9, 140), "ExternalService": Outage(1.7, 60)}


def test_a_bar_is_as_long_as_the_outage_and_goes_on_when_it_is_over() -> None:
    assert draw(OUTAGES, 78) == [
        "                  0 s       1 s       2 s       3 s       4 s",
        f"by hand           {DOWN * 39}{UP * 10}",
        f"ExternalService   {DOWN * 17}{UP * 32}",
    ]


@pytest.mark.parametrize("seconds", [0.0, 0.4, 3.0, 7.5, 60.0, 2000.0])
@pytest.mark.parametrize("width", [40, 58, 78, 120])
def test_every_outage_fits_into_the_width_and_shows_both_states(seconds: float, width: int) -> None:
    axis, by_hand, external = draw({**OUTAGES, "by hand": Outage(seconds, 1)}, width)
    assert max(map(len, (axis, by_hand, external))) <= width
    assert DOWN in by_hand
    assert by_hand.endswith(UP)
    assert external.endswith(UP)
