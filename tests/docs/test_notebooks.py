"""The example notebooks, which the build of the site executes."""

import json
import pathlib
import re

import packaging.requirements
import pytest

_FOLDER = pathlib.Path(__file__).parent.parent.parent / "examples" / "notebooks"
_NOTEBOOKS = sorted(_FOLDER.glob("*.ipynb"))


def _cells(path, kind="code"):
    notebook = json.loads(path.read_text(encoding="utf8"))
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == kind]
    return ["".join(cell["source"]) for cell in cells]


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("repository", ["", "git+https://example.org/weatherlib"])
def test_a_fresh_colab_installs_the_release_or_a_repository(path, repository):
    first, *others = _cells(path)
    assert not any("pip install" in cell for cell in others)
    assert first.count("%pip") == 1 and "jax" not in first.partition("%pip")[2]
    code = first.replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}")
    code = re.sub(r'%pip install -q (".*")', r"installed.append(f\1)", code)
    asked = []
    exec(compile(code, path.name, "exec"), {"installed": asked})
    assert asked == []
    missing = code.replace('"weatherlib")', '"no_such_package")')
    exec(compile(missing, path.name, "exec"), {"installed": asked})
    [requirement] = map(packaging.requirements.Requirement, asked)
    assert requirement.name == "weatherlib"
    assert (requirement.url or "") == repository


def test_the_rollout_notebook_is_moved_to_other_weights_in_one_place():
    code = _cells(_FOLDER / "graphcast_rollout.ipynb")
    names = ("checkpoint_path", "statistics_path", "weather_path", "steps")
    [top] = [cell for cell in code if "load_forecaster(" in cell]
    for name in names:
        assert len(re.findall(rf"^{name} = ", "\n".join(code), re.M)) == 1
        assert re.search(rf"^{name} = ", top, re.M)
    assert not any("bundled." in cell for cell in code if cell != top)
    told = _cells(_FOLDER / "graphcast_rollout.ipynb", "markdown")[-1]
    assert re.findall(r"^(\w+) = ", told, re.M) == list(names)
    # What shows a single step has to exist in a shorter forecast too.
    [single] = [cell for cell in code if "day_two =" in cell]
    found = {"steps": 4}
    exec(re.search(r"^day_two = .*", single, re.M)[0], found)
    assert found["day_two"] == 3
