"""Labels of logarithmic axes."""

import matplotlib.figure
import numpy as np
import pytest

from weatherlib.plotting import powers


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0, 60.0], ["2", "5", "10", "20", "50"]),
        ([0.1, 0.4], ["0.1", "0.2"]),
        ([100.0, 2e6], ["100", "1k", "10k", "100k", "1M"]),
    ],
)
def test_labels_are_plain_and_few(values, expected):
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    axes.loglog(values, values)
    powers.label_powers(axes.xaxis, np.array(values))
    figure.canvas.draw()
    low, high = min(values), max(values)
    shown = [
        label.get_text()
        for label in axes.get_xticklabels()
        if low <= label.get_position()[0] <= high
    ]
    assert shown == expected
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))
