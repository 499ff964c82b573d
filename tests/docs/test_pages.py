"""The code and the commands that the documentation shows."""

import ast
import contextlib
import inspect
import json
import pathlib
import re

import jax
import numpy as np
import pytest

import weatherlib
from weatherlib import data
from weatherlib.cli import families, models
from weatherlib.data import radar, synthetic

_ROOT = pathlib.Path(__file__).parent.parent.parent
_PAGES = [*sorted((_ROOT / "docs").rglob("*.md")), _ROOT / "README.md"]


def _python_blocks(page: pathlib.Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf8"), re.M | re.S)


def _run(page: str) -> dict:
    code = "\n\n".join(_python_blocks(_ROOT / page))
    namespace: dict = {"__name__": "page"}
    exec(compile(code, page, "exec"), namespace)
    return namespace


@pytest.fixture(scope="module")
def new_model(tmp_path_factory):
    """What the guide leaves behind, run where its configuration has been saved."""
    page = "docs/adding-a-model.md"
    folder = tmp_path_factory.mktemp("new_model")
    [configuration] = re.findall(
        r"^```yaml\n(.*?)^```", (_ROOT / page).read_text("utf8"), re.M | re.S
    )
    (folder / "periodic_cnn.yaml").write_text(configuration, encoding="utf8")
    with contextlib.chdir(folder):
        try:
            yield _run(page) | {"folder": folder}
        finally:
            families.FAMILIES.pop("periodic_cnn", None)


def test_the_new_model_of_the_guide_forecasts_every_target(new_model):
    forecast, targets = new_model["forecast"], new_model["targets"]
    assert dict(forecast.sizes) == dict(targets.sizes)
    assert set(forecast) == set(targets)
    assert all(np.isfinite(forecast[name]).all() for name in forecast)


def test_the_new_model_of_the_guide_has_a_loss_and_gradients(new_model):
    assert float(new_model["value"]) > 0
    norms = [float(np.abs(g).max()) for g in jax.tree.leaves(new_model["gradients"])]
    assert min(norms) > 0


def test_the_new_model_of_the_guide_is_saved_and_loaded(new_model):
    made, again = new_model["made"], new_model["read_again"]
    assert again.model_config == made.model_config
    assert again.task_config == made.task_config
    jax.tree.map(np.testing.assert_array_equal, again.params, made.params)


def test_the_new_model_of_the_guide_is_trained_and_forecasts_by_command(new_model):
    assert (new_model["trained"], new_model["predicted"]) == (0, 0)
    folder = new_model["folder"]
    model = models.load_model(folder / "runs" / "periodic_cnn")
    assert (model.family, model.time_step) == ("periodic_cnn", "360min")
    records = (folder / "runs" / "periodic_cnn" / "metrics.jsonl").read_text()
    last = [r for r in map(json.loads, records.splitlines()) if r["kind"] == "train"][
        -1
    ]
    assert (last["step"], np.isfinite(last["loss"])) == (12, True)
    with data.open_dataset(folder / "forecast.nc") as forecast:
        assert forecast.sizes["time"] == 4
        assert set(model.task_config.target_variables) <= set(forecast)
        assert all(np.isfinite(forecast[name]).all() for name in forecast)


def test_the_new_model_of_the_guide_commutes_with_shifts_in_longitude(new_model):
    network = new_model["hk"].transform(
        lambda x: new_model["PeriodicCnn"](new_model["ModelConfig"](width=4))(x, 3)
    )
    field = jax.random.normal(jax.random.key(1), (1, 6, 8, 2))
    params = network.init(jax.random.key(0), field)
    shifted = network.apply(params, None, np.roll(field, 3, axis=2))
    expected = np.roll(network.apply(params, None, field), 3, axis=2)
    np.testing.assert_allclose(shifted, expected, atol=1e-5)


def test_the_ten_lines_of_the_readme_draw_a_forecast(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [code] = _python_blocks(_ROOT / "README.md")
    lines = [line for line in code.splitlines() if line and "import" not in line]
    assert len(lines) <= 10
    for whole, brief in (("steps=12)", "steps=1)"), ("isel(time=13)", "isel(time=2)")):
        assert code.count(whole) == 1
        code = code.replace(whole, brief)
    namespace: dict = {}
    exec(compile(code, "README.md", "exec"), namespace)
    forecast, truth = namespace["forecast"], namespace["truth"]
    # Truth is that of the step which is drawn.
    date = forecast["datetime"].isel(time=-1)
    np.testing.assert_array_equal(date, truth["datetime"])
    assert np.isfinite(forecast["geopotential"]).all()
    assert (tmp_path / "day-three.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", _PAGES, ids=lambda p: p.relative_to(_ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", _PAGES, ids=lambda p: p.relative_to(_ROOT).as_posix())
def test_python_shown_on_a_page_is_valid_and_names_what_exists(page):
    blocks = _python_blocks(page)
    # Blocks inside lists are not found, so there must be none.
    assert len(blocks) == page.read_text("utf8").count("```python\n")
    modules = {}
    for block in blocks:
        for node in ast.walk(ast.parse(block, str(page))):
            for module, name, alias in _imported(node):
                modules[alias] = _resolved(module, name)
    for block in blocks:
        tree = ast.parse(block, str(page))
        assigned = {n.id for n in ast.walk(tree) if _is_assigned(n)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = modules.get(node.value.id)
                if inspect.ismodule(owner) and node.value.id not in assigned:
                    assert hasattr(owner, node.attr), ast.unparse(node)


def _imported(node):
    """Yields module, name and alias of all that an import takes from the package."""
    if isinstance(node, ast.ImportFrom):
        for found in node.names:
            if f"{node.module}.".startswith("weatherlib."):
                yield node.module, found.name, found.asname or found.name
    elif isinstance(node, ast.Import):
        for found in node.names:
            if f"{found.name}.".startswith("weatherlib."):
                yield found.name, None, found.asname or "weatherlib"


def _resolved(module, name):
    """Returns what an import gives, or raises what it would."""
    namespace = {}
    exec(f"from {module} import {name}" if name else f"import {module}", namespace)
    return namespace[name or "weatherlib"]


def _is_assigned(node):
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def test_every_make_target_that_the_pages_name_exists():
    makefile = (_ROOT / "Makefile").read_text("utf8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    for page in [*_PAGES, _ROOT / "CONTRIBUTING.md"]:
        named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf8"), re.M)
        assert set(named) <= targets, page


def test_the_radar_page_leads_from_a_file_to_scores_and_pictures(tmp_path):
    page = _run("docs/how-to/radar.md")
    made = synthetic.synthetic_radar(frames=26, rows=80, columns=80)
    rain = radar.as_quantity(made, "rain_rate")
    rain.rename("rain").to_netcdf(tmp_path / "rain.nc")
    series, rate = page["open_series"](tmp_path / "rain.nc")
    assert dict(series.sizes) == {"time": 26, "lat": 64, "lon": 64}
    np.testing.assert_allclose(rate, rain[:, 8:-8, 8:-8], rtol=0.05)
    samples = page["cut"](series, str(series["time"].values[20]))
    assert samples.shape == (32, 32)
    batch = page["feed"](samples)[0][0]
    assert batch.frames.shape == (4, 13, 32, 32, 1)
    scores = page["judge"](samples)
    assert scores["model"].values.tolist() == ["persistence", "extrapolation"]
    page["draw"](scores, tmp_path)
    assert {"csi.png", "spectra.png"} <= {p.name for p in tmp_path.iterdir()}
    test = page["open_test"](_ROOT / "tests" / "goldens" / "prediff" / "sevirlr")
    assert len(test) == 9


@pytest.mark.parametrize("name", sorted(weatherlib._LAZY))
def test_every_public_module_is_in_the_reference(name):
    pages = (_ROOT / "docs" / "reference").glob("*.md")
    found = re.findall(
        r"^::: (\S+)$", "\n".join(p.read_text("utf8") for p in pages), re.M
    )
    folders = {f"weatherlib.{name}", f"weatherlib.compat.{name}"}
    assert [f for f in found if ".".join(f.split(".")[:2]) in folders or f in folders]


@pytest.mark.parametrize(("name", "module"), sorted(weatherlib._FUNCTIONS.items()))
def test_every_short_name_of_a_function_is_in_the_reference(name, module):
    pages = (_ROOT / "docs" / "reference").glob("*.md")
    text = "\n".join(page.read_text("utf8") for page in pages)
    assert re.search(rf"^::: {module}\n    options:\n.*\b{name}\b", text, re.M)
