"""Imports of packages that may be absent."""

import importlib.metadata
import json
import types

import pytest

from weatherlib import optional


def test_an_installed_module_is_returned():
    assert optional.require("json") is json
    assert optional.require("os.path").join("a", "b") == "a/b"


@pytest.fixture
def installed(monkeypatch):
    """Sets what pip has noted of where this package came from; None is nothing."""

    def note(source):
        texts = [None, None if source is None else json.dumps(source)]
        found = [types.SimpleNamespace(read_text=lambda _, t=text: t) for text in texts]
        monkeypatch.setattr(importlib.metadata, "distributions", lambda name: found)

    note(None)
    return note


def test_an_absent_module_is_an_error_with_the_command_for_its_extra(installed):
    with pytest.raises(
        ImportError, match=r"no_such_module.*pip install 'weatherlib\[grib\]'"
    ) as caught:
        optional.require("no_such_module", extra="grib")
    assert caught.value.name == "no_such_module"


@pytest.mark.parametrize(("editable", "flag"), [(True, "-e "), (False, "")])
def test_in_a_clone_the_command_is_that_for_its_folder(
    installed, tmp_path, editable, flag
):
    folder = tmp_path / "a clone"
    folder.mkdir()
    installed({"url": folder.as_uri(), "dir_info": {"editable": editable}})
    with pytest.raises(ImportError, match=r"pip install 'weatherlib\[sim\]'$"):
        optional.require("no_such_module", extra="sim")
    (folder / "setup.py").touch()
    with pytest.raises(ImportError) as caught:
        optional.require("no_such_module", extra="sim")
    assert str(caught.value).endswith(f"pip install {flag}'{folder}[sim]'")


def test_a_package_from_elsewhere_is_installed_by_its_name(installed):
    installed({"url": "https://example.org/weatherlib.whl"})
    with pytest.raises(ImportError, match=r"pip install 'weatherlib\[sim\]'$"):
        optional.require("no_such_module", extra="sim")


def test_without_an_extra_the_package_itself_is_named():
    with pytest.raises(ImportError, match=r"pip install no_such_module$"):
        optional.require("no_such_module.inner")


def test_a_module_that_fails_to_import_another_says_so(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import missing_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"half_installed.*missing_dependency"):
        optional.require("half_installed", extra="mp4")
