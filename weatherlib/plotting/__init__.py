"""Maps, animations, curves and scorecards that need no network, window or JAX."""

from weatherlib.plotting.animation import save_animation
from weatherlib.plotting.curves import draw_score_curves
from weatherlib.plotting.ensembles import draw_plume, draw_spaghetti
from weatherlib.plotting.maps import (
    draw_comparison,
    draw_field,
    draw_leads,
    draw_map,
    save_figure,
)
from weatherlib.plotting.nowcasts import (
    draw_nowcast,
    draw_nowcast_scores,
    draw_radial_spectra,
    save_nowcast_animation,
    vil_colormap,
)
from weatherlib.plotting.pairs import draw_pairs
from weatherlib.plotting.profiles import draw_section, draw_spectra, zonal_spectrum
from weatherlib.plotting.projections import NAMES as PROJECTIONS
from weatherlib.plotting.scorecards import draw_scorecard
from weatherlib.plotting.tradeoffs import draw_skill_and_cost, relative_error
from weatherlib.plotting.views import REGIONS, View
from weatherlib.plotting.views import find as find_view

__all__ = [
    "PROJECTIONS",
    "REGIONS",
    "View",
    "draw_comparison",
    "draw_field",
    "draw_leads",
    "draw_map",
    "draw_nowcast",
    "draw_nowcast_scores",
    "draw_pairs",
    "draw_plume",
    "draw_radial_spectra",
    "draw_score_curves",
    "draw_scorecard",
    "draw_section",
    "draw_skill_and_cost",
    "draw_spaghetti",
    "draw_spectra",
    "find_view",
    "relative_error",
    "save_animation",
    "save_figure",
    "save_nowcast_animation",
    "vil_colormap",
    "zonal_spectrum",
]
