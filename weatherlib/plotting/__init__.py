"""Maps, animations and score curves that need no network, window or JAX."""

from weatherlib.plotting.animation import save_animation
from weatherlib.plotting.curves import draw_score_curves
from weatherlib.plotting.maps import (
    draw_comparison,
    draw_field,
    draw_leads,
    draw_map,
    save_figure,
)

__all__ = [
    "draw_comparison",
    "draw_field",
    "draw_leads",
    "draw_map",
    "draw_score_curves",
    "save_animation",
    "save_figure",
]
