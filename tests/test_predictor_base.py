"""What a predictor inherits."""

import numpy as np
import pytest

from tests import toy
from weatherlib import losses, predictor_base


class Minimal(predictor_base.Predictor):
    def __call__(self, inputs, targets_template, forcings, **optional_kwargs):
        return targets_template


def test_a_predictor_must_be_callable():
    with pytest.raises(TypeError, match="abstract"):
        predictor_base.Predictor()


def test_a_step_is_one_frame_unless_said_otherwise():
    assert Minimal().frames_per_step == 1


def test_the_loss_of_an_untrained_predictor_is_zero_for_each_member():
    loss, diagnostics = Minimal().loss(*toy.example(1, batch=3), key="value")
    assert loss.dims == ("batch",)
    np.testing.assert_array_equal(loss, [0, 0, 0])
    assert diagnostics == {}


def test_loss_and_predictions_says_who_lacks_it():
    with pytest.raises(NotImplementedError, match="Minimal does not implement loss_an"):
        Minimal().loss_and_predictions(*toy.example(1))


def test_the_published_alias_is_that_of_losses():
    assert predictor_base.LossAndDiagnostics is losses.LossAndDiagnostics
