"""The machinery of set-up: finding Python, make, checks, matrix and wheel."""

import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import types
import zipfile

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_TOOLS = "/usr/bin:/bin"
_RESOURCES = {
    path.relative_to(_ROOT / "weatherlib").as_posix()
    for path in (_ROOT / "weatherlib" / "resources").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}


def _script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf8")
    path.chmod(0o755)


def _python(path, minor):
    """Writes what answers like Python 3.MINOR when it is asked for its version."""
    _script(path, f'case "$2" in *"(3, {minor})"*) exit 0;; esac; exit 1')


def _run(command, path, folder, **variables):
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": str(path), "HOME": str(folder), **variables},
        timeout=60,
    )


@pytest.fixture
def find(tmp_path):
    """Runs a copy of find-python that looks nowhere outside of the folder."""
    script = tmp_path / "find-python"
    text = (_ROOT / "scripts" / "find-python").read_text(encoding="utf8")
    for place in ("/usr/local/bin", "/opt/homebrew/bin"):
        assert place in text
        text = text.replace(place, str(tmp_path / "nowhere"))
    script.write_text(text, encoding="utf8")

    def run(*words, **variables):
        command = ["/bin/sh", script, *words]
        return _run(command, tmp_path / "path", tmp_path, **variables)

    return run


def test_the_newest_python_is_taken(find, tmp_path):
    for minor in (10, 11, 12, 14):
        _python(tmp_path / "path" / f"python3.{minor}", minor)
    found = find()
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"{tmp_path}/path/python3.12\n"
    listed = find("--all").stdout.split()
    assert [pathlib.Path(path).name for path in listed] == ["python3.12", "python3.11"]


def test_a_shim_that_fails_is_passed_over(find, tmp_path):
    _script(tmp_path / "path" / "python3.13", "echo 'version not installed'; exit 127")
    _python(tmp_path / "path" / "python3.12", 12)
    found = find()
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"{tmp_path}/path/python3.12\n"


@pytest.mark.parametrize("folder", [".pyenv", "elsewhere"])
def test_versions_of_a_version_manager_are_looked_at(find, tmp_path, folder):
    _script(tmp_path / "path" / "python3.13", "exit 127")
    _python(tmp_path / "path" / "python3.11", 11)
    real = tmp_path / folder / "versions" / "3.13.2" / "bin" / "python3.13"
    _python(real, 13)
    variables = {} if folder == ".pyenv" else {"PYENV_ROOT": str(tmp_path / folder)}
    assert find(**variables).stdout == f"{real}\n"


def test_without_any_python_the_versions_that_would_do_are_named(find, tmp_path):
    _python(tmp_path / "path" / "python3.10", 10)
    found = find()
    assert (found.returncode, found.stdout) == (1, "")
    assert "needs Python 3.11, 3.12 or 3.13" in found.stderr


@pytest.fixture
def checks(tmp_path):
    """Runs a copy of .ci/run with a make that fails for the targets named."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(_ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    make = 'for target; do :; done; echo "made $target"\n'
    make += '[ "$target" = test ] && echo "== 3 passed in 1.0s =="\n'
    make += 'case " $FAIL " in *" $target "*) exit 1;; esac; exit 0'
    _script(tmp_path / "path" / "make", make)

    def run(fail=""):
        path = f"{tmp_path / 'path'}:{_TOOLS}"
        return _run([tmp_path / ".ci" / "run"], path, tmp_path, FAIL=fail)

    return run


def test_the_checks_end_with_the_closing_line_of_the_tests(checks):
    found = checks()
    assert (found.returncode, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[-1] == "== 3 passed in 1.0s =="
    made = [line.removeprefix("made ") for line in lines if line.startswith("made ")]
    assert made == ["lint", "types", "layers", "test"]


@pytest.mark.parametrize("fail", ["lint", "types", "layers", "test", "lint layers"])
def test_the_checks_fail_with_any_of_them_and_run_all(checks, fail):
    found = checks(fail)
    assert found.returncode != 0
    assert f"Failed: {fail}" in found.stderr
    assert found.stdout.count("made ") == 4
    assert found.stdout.splitlines()[-1] == "== 3 passed in 1.0s =="


@pytest.fixture
def matrix(tmp_path):
    """Runs a copy of test-matrix with Pythons that write down what they are told."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(_ROOT / "scripts" / "test-matrix", tmp_path / "scripts")
    log = tmp_path / "log"
    inner = f'echo "$*" >> {log}\n'
    inner += 'case "$*" in "-m pytest"*"$FAIL"*) exit "${CODE:-0}";; esac; exit 0'
    _script(tmp_path / "inner", inner)
    outer = '[ "$1" = -c ] && { echo 313; exit 0; }\n'
    outer += f'mkdir -p "$3/bin" && cp {tmp_path}/inner "$3/bin/python"'
    _script(tmp_path / "python", outer)
    _script(tmp_path / "scripts" / "find-python", f"echo {tmp_path}/python")

    def run(*words, **variables):
        log.write_text("")
        command = [tmp_path / "scripts" / "test-matrix", *words]
        variables = {"FAIL": "", "GIT_CEILING_DIRECTORIES": "/", **variables}
        found = _run(command, _TOOLS, tmp_path, **variables)
        return found, log.read_text().splitlines()

    return run


def test_the_matrix_runs_one_combination_with_the_arguments_given(matrix):
    only = "py313 jax 0.8.0 xarray 2024*"
    found, told = matrix("-k", "word", ONLY=only, WORKERS="3")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1] == "passed  py313 jax 0.8.0 xarray 2024.10.0"
    assert len(told) == 2
    pins = "jax==0.8.0 jaxlib==0.8.0 xarray==2024.10.0 pandas<3 zarr<3"
    assert told[0].startswith("-m pip install") and told[0].endswith(pins)
    assert told[1] == "-m pytest -q -n 3 --dist loadfile -m not slow -k word"


def test_the_matrix_runs_all_and_fails_with_any(matrix):
    found, told = matrix()
    assert found.returncode == 0
    combinations = [line for line in found.stdout.splitlines() if "passed  " in line]
    assert len(combinations) == len(set(combinations)) == 6
    assert sum(line.startswith("-m pytest") for line in told) == 6
    found, told = matrix("wrong", FAIL="wrong", CODE="1", ONLY="*newest xarray newest")
    assert found.returncode == 1
    assert found.stdout.splitlines()[-1] == "FAILED  py313 jax newest xarray newest"
    # The environment is there already, so nothing is installed again.
    assert [line.split()[1] for line in told] == ["pytest"]


def test_a_pattern_that_fits_no_combination_is_a_mistake(matrix):
    found, told = matrix(ONLY="py27*")
    assert (found.returncode, told) == (2, [])
    assert "no combination is like ONLY=py27*" in found.stderr


@pytest.fixture
def made(tmp_path):
    """Runs make where all has been installed, a second ago."""
    for name in ("Makefile", "setup.py", "constraints", "scripts"):
        copy = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy
        copy(_ROOT / name, tmp_path / name)
    _script(tmp_path / ".venv" / "bin" / "python", "echo 313")
    for path in (tmp_path / "setup.py", *(tmp_path / "constraints").iterdir()):
        os.utime(path, (1e9, 1e9))
    for age, name in enumerate(("core", "dev", "docs")):
        stamp = tmp_path / ".venv" / f".installed-{name}"
        stamp.touch()
        os.utime(stamp, (1e9 + 1 + age, 1e9 + 1 + age))
    if shutil.which("make", path=_TOOLS) is None:
        pytest.skip("make is not installed")
    return lambda *words: _run(["make", *words], _TOOLS, tmp_path)


@pytest.mark.parametrize("name", ["core", "dev", "docs"])
def test_nothing_is_installed_again_until_a_list_changes(made, tmp_path, name):
    stamp = f".venv/.installed-{name}"
    assert made("-q", stamp).returncode == 0
    for changed in ("setup.py", "constraints/py313.txt"):
        os.utime(tmp_path / changed, (2e9, 2e9))
        assert made("-q", stamp).returncode == 1
        os.utime(tmp_path / changed, (1e9, 1e9))


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("forecast", "examples/inference.py"),
        ("test", '-m pytest -n 2 --dist loadfile -m "not slow"'),
    ],
)
def test_a_second_call_does_only_what_was_asked(made, target, command):
    planned = made("-n", target).stdout.splitlines()
    assert [line.split(None, 1)[1].strip() for line in planned] == [command]


def test_a_first_call_creates_the_environment_and_installs(made, tmp_path):
    shutil.rmtree(tmp_path / ".venv")
    planned = made("-n", "test", "PYTHON=/fake/python3.13").stdout
    steps = ["-m venv .venv", "--editable", "[dev,", "-m pytest"]
    places = [planned.index(step) for step in steps]
    assert places == sorted(places)


def _settings(monkeypatch):
    """Returns what setup.py tells setuptools."""
    told = {}
    stand_in = types.ModuleType("setuptools")
    stand_in.setup = told.update
    stand_in.find_packages = lambda include: include
    monkeypatch.setitem(sys.modules, "setuptools", stand_in)
    path = _ROOT / "setup.py"
    code = compile(path.read_text(encoding="utf8"), path, "exec")
    exec(code, {"__file__": str(path), "__name__": "setup"})
    return told


def test_setup_packs_all_resources_and_leaves_the_jax_of_others_alone(monkeypatch):
    told = _settings(monkeypatch)
    assert told["packages"] == ["weatherlib", "weatherlib.*"]
    package = _ROOT / "weatherlib"
    packed = {
        path.relative_to(package).as_posix()
        for pattern in told["package_data"]["weatherlib"]
        for path in package.glob(pattern)
    }
    assert _RESOURCES | {"py.typed"} <= packed
    [jax] = [one for one in told["install_requires"] if one.startswith("jax>")]
    assert not any(word in jax for word in ("==", "<", "["))
    assert told["extras_require"]["mp4"] == told["extras_require"]["plot"]
    assert told["entry_points"] == {
        "console_scripts": ["weatherlib = weatherlib.cli.main:main"]
    }


def _builds_wheels() -> bool:
    """Whether setuptools is here, and new enough or with `wheel` beside it."""
    if importlib.util.find_spec("setuptools") is None:
        return False
    release = importlib.metadata.version("setuptools").split(".")[:2]
    is_new = tuple(map(int, release)) >= (70, 1)
    return is_new or importlib.util.find_spec("wheel") is not None


@pytest.mark.skipif(
    not _builds_wheels(), reason="neither setuptools 70.1 nor wheel is installed"
)
def test_a_wheel_holds_the_resources_and_the_code(tmp_path):
    for name in ("setup.py", "README.md"):
        shutil.copy(_ROOT / name, tmp_path)
    (tmp_path / "weatherlib").symlink_to(_ROOT / "weatherlib")
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=120)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    code = {
        path.relative_to(_ROOT).as_posix()
        for path in (_ROOT / "weatherlib").rglob("*.py")
    }
    assert code | {f"weatherlib/{name}" for name in _RESOURCES} <= names
