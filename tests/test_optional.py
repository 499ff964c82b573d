"""Imports of packages that may be absent."""

import json

import pytest

from weatherlib import optional


def test_an_installed_module_is_returned():
    assert optional.require("json") is json
    assert optional.require("os.path").join("a", "b") == "a/b"


def test_an_absent_module_is_an_error_with_the_command_for_its_extra():
    with pytest.raises(
        ImportError, match=r"no_such_module.*pip install 'weatherlib\[grib\]'"
    ) as caught:
        optional.require("no_such_module", extra="grib")
    assert caught.value.name == "no_such_module"


def test_without_an_extra_the_package_itself_is_named():
    with pytest.raises(ImportError, match=r"pip install no_such_module$"):
        optional.require("no_such_module.inner")


def test_a_module_that_fails_to_import_another_says_so(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import missing_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"half_installed.*missing_dependency"):
        optional.require("half_installed", extra="mp4")
