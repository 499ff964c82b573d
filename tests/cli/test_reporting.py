import logging
import warnings

import numpy as np
import pytest

from weatherlib.cli import reporting
from weatherlib.geometry import sphere


def _raises(error):
    def work():
        raise error

    return work


def _our_message():
    sphere.latitude_weights(np.array([100.0, 110.0]))


def _bug_elsewhere():
    np.zeros(3).reshape(2, 2)


def test_success_is_zero_and_silent(capsys):
    assert reporting.run_reported(lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_an_error_of_ours_is_one_message(capsys):
    assert reporting.run_reported(_our_message) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("weatherlib: error: ") and "Traceback" not in errors


def test_a_value_error_from_another_package_is_a_bug_with_its_traceback(capsys):
    assert reporting.run_reported(_bug_elsewhere) == 1
    errors = capsys.readouterr().err
    assert "Traceback" in errors and "reshape" in errors


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), RuntimeError("x")])
def test_other_errors_are_bugs(error, capsys):
    assert reporting.run_reported(_raises(error)) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debugging_shows_the_traceback_of_every_error(capsys):
    assert reporting.run_reported(_our_message, debug=True) == 2
    assert "Traceback" in capsys.readouterr().err


def test_system_errors_name_the_file_and_what_happened(capsys):
    error = OSError(28, "No space left on device", "out.nc")
    error.add_note("half of it is in out.nc.partial")
    assert reporting.run_reported(_raises(error)) == 2
    assert capsys.readouterr().err == (
        "weatherlib: error: out.nc: No space left on device\n"
        "  half of it is in out.nc.partial\n"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(30, "Read-only file system"), "Read-only file system"),
        (FileNotFoundError("x.nc: not there"), "x.nc: not there"),
        (FloatingPointError("t is NaN at step 3"), "t is NaN at step 3"),
    ],
)
def test_messages_are_passed_on(error, message, capsys):
    assert reporting.run_reported(_raises(error)) == 2
    assert capsys.readouterr().err == f"weatherlib: error: {message}\n"


def test_warnings_are_one_line(capsys):
    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("temperature is outside its bounds", stacklevel=1)

    assert reporting.run_reported(work) == 0
    assert capsys.readouterr().err == (
        "weatherlib: warning: temperature is outside its bounds\n"
    )


def test_what_is_logged_several_times_is_said_once(capsys):
    logger = logging.getLogger("weatherlib.some.module")

    def work():
        for hours in (6, 6, 12):
            logger.warning("lead time %d h", hours)

    assert reporting.run_reported(work) == 0
    assert capsys.readouterr().err.splitlines() == [
        "weatherlib: warning: lead time 6 h",
        "weatherlib: warning: lead time 12 h",
    ]
    assert not logging.getLogger("weatherlib").handlers
