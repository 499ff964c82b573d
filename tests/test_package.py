"""What importing the package costs and reaches."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

import weatherlib

_ROOT = pathlib.Path(__file__).parent.parent
_JAX_FREE = [
    "weatherlib",
    "weatherlib.config",
    "weatherlib.data",
    "weatherlib.data_utils",
    "weatherlib.diffusion",
    "weatherlib.diffusion.samplers",
    "weatherlib.geometry.graph",
    "weatherlib.geometry.solar",
    "weatherlib.geometry.sphere",
    "weatherlib.graphcast.config",
    "weatherlib.hub",
    "weatherlib.plotting",
    "weatherlib.prediff",
    "weatherlib.task",
    "weatherlib.training.config",
    "weatherlib.typing",
    "weatherlib.variables",
]


def _run(code: str, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=_ROOT,
    )


def _modules_after(statement: str) -> set[str]:
    out = _run(f"{statement}; import sys, json; print(json.dumps(list(sys.modules)))")
    return set(json.loads(out.stdout))


def test_importing_the_package_loads_no_third_party_module():
    loaded = {name.split(".")[0] for name in _modules_after("import weatherlib")}
    own = loaded - set(sys.stdlib_module_names) - {"weatherlib"}
    heavy = {"jax", "haiku", "numpy", "xarray", "scipy", "pandas", "matplotlib"}
    assert not own & heavy


@pytest.mark.parametrize("module", _JAX_FREE)
def test_data_geometry_and_configuration_do_not_load_jax(module):
    loaded = _modules_after(f"import {module}")
    assert module in loaded
    assert not {"jax", "jaxlib", "haiku"} & loaded


@pytest.mark.parametrize(
    "module",
    [
        "weatherlib.diffusion.sampling",
        "weatherlib.nn.graph_net",
        "weatherlib.prediff.alignment",
        "weatherlib.prediff.ensembles",
        "weatherlib.prediff.network",
        "weatherlib.task",
    ],
)
def test_networks_and_tasks_do_not_load_xarray(module):
    assert "xarray" not in _modules_after(f"import {module}")


def test_importing_everything_leaves_the_jax_settings_alone():
    code = """
import jax, json
before = dict(jax.config.values)
import weatherlib
for name in dir(weatherlib):
    getattr(weatherlib, name)
import weatherlib.cli.main
after = dict(jax.config.values)
print(json.dumps([name for name in before if before[name] != after[name]]))
"""
    assert json.loads(_run(code).stdout) == []


def test_importing_everything_opens_no_file_outside_the_interpreter():
    code = """
import sys
opened = []
def audit(event, args):
    if event == "open" and isinstance(args[0], str) and isinstance(args[1], str):
        opened.append((args[0], args[1]))
    if event in ("socket.connect", "socket.getaddrinfo"):
        opened.append(("network", str(args)))
import jax, haiku, xarray, dask, scipy.spatial, scipy.spatial.transform, pandas
import matplotlib.figure, matplotlib.backends.backend_agg
sys.addaudithook(audit)
import weatherlib
for name in dir(weatherlib):
    getattr(weatherlib, name)
code, own = (".py", ".pyc"), weatherlib.__path__[0]
print([o for o in opened if o[0].startswith(own) and not o[0].endswith(code)])
print([o for o in opened if o[0] == "network" or "w" in o[1]])
"""
    assert _run(code, "-B").stdout.split() == ["[]", "[]"]


@pytest.mark.parametrize("name", sorted(weatherlib._LAZY))
def test_every_public_module_is_reached_as_an_attribute(name):
    assert getattr(weatherlib, name).__name__ == f"weatherlib.{name}"
    assert name in dir(weatherlib)


def test_the_short_name_of_a_function_leads_to_it():
    from weatherlib.cli import forecasting

    assert weatherlib.load_forecaster is forecasting.load_forecaster
    assert "load_forecaster" in dir(weatherlib)


def test_an_unknown_attribute_raises_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = weatherlib.no_such_thing


def test_the_version_is_that_of_the_citation_file():
    citation = (_ROOT / "CITATION.cff").read_text(encoding="utf8")
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == weatherlib.__version__


def test_the_excluded_jax_versions_stay_excluded():
    setup = (_ROOT / "setup.py").read_text(encoding="utf8")
    assert '"jax>=0.8,!=0.10.2,!=0.11.0"' in setup
    for path in (_ROOT / "constraints").glob("py3*.txt"):
        found = re.search(r"^jax==(.*)$", path.read_text(encoding="utf8"), re.M)[1]
        assert found not in ("0.10.2", "0.11.0")


def test_every_folder_with_code_is_a_package_so_that_a_wheel_holds_it():
    folders = {path.parent for path in (_ROOT / "weatherlib").rglob("*.py")}
    assert [f.name for f in folders if not (f / "__init__.py").exists()] == []
