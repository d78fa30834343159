"""Colours of classes that are told apart with any colour vision."""

from __future__ import annotations

Colour = tuple[int, int, int, int]

# The eight of Okabe and Ito (2008), black last.
_BASE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (0, 0, 0),
)
_SHADES = (1.0, 0.55, 0.8, 0.3)
"""Where there are more classes than colours, the next eight are darker."""
NOTHING: Colour = (0, 0, 0, 0)


def palette(classes: int) -> dict[int, Colour]:
    """A colour for each class: red, green, blue and alpha, 0 to 255.

    Eight classes have colours of their own; of more, those eight numbers apart differ in lightness,
    and from the thirty-third on they repeat.
    """
    return {number: _colour(number) for number in range(classes)}


def _colour(number: int) -> Colour:
    turn, place = divmod(number, len(_BASE))
    shade = _SHADES[turn % len(_SHADES)]
    red, green, blue = _BASE[place]
    if turn and place == len(_BASE) - 1:
        # Black has no darker shade: greys take its place.
        red = green = blue = 255
    return round(red * shade), round(green * shade), round(blue * shade), 255
