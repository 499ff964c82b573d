"""Models of several kinds trained alike on one data set, to be compared.

`measure` trains one model as `weatherlib train` would, makes
its forecasts as `weatherlib predict` would, and says what that took.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import resource
import shutil
import sys
import time
from typing import Any

import jax
import xarray

from weatherlib import config, data, training
from weatherlib.cli import (
    console,
    families,
    fitting,
    forecasting,
    hindcasting,
    predict_options,
    runs,
    settings,
    setups,
    sources,
)
from weatherlib.cli.comparison_plan import Plan, Request

__all__ = [
    "FORECASTS",
    "configure",
    "costs",
    "keep_request",
    "measure",
    "updates",
]

FORECASTS = "hindcasts.nc"
"""Name of the file of a model's forecasts."""

_RESULT, _REQUEST, _BUDGET = "result.json", "request.json", "budget.json"
# Largest learning rates; attention needs smaller ones.
_RATES = {"residual_cnn": 2e-3}
_RATE, _ATTENTION_RATE = 1e-3, 5e-4
_COSTS = {
    "parameters": ("parameters", ""),
    "training_seconds": ("training", "s"),
    "forecast_seconds": ("one forecast", "s"),
    "memory_mb": ("memory added by training", "MB"),
}
# Of linear models, which choose the best by the last fifth of the training period.
_PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
# Without these it needs thousands of updates to leave persistence behind.
_UNPUBLISHED = {
    "weather_transformer": {
        "pre_norm": True, "queries_see_last": True, "start": "glorot",
    }
}  # fmt: skip
# Updates by which the speed of training is measured.
_TRIAL = 16


def configure(
    name: str, request: Request, plan: Plan, *, updates: int, folder: pathlib.Path
) -> training.TrainConfig:
    """Returns what `weatherlib train` would read to train one model.

    Args:
      name: Of its family.
      request: What is compared.
      plan: From `comparison_plan.make_plan`.
      updates: Length of the run.
      folder: Takes the results.

    Raises:
      ValueError: There is no such model, or a setting is wrong.
    """
    if name not in families.FAMILIES:
        # Says so, with the closest name.
        families.find_family({"family": name})
    family = families.FAMILIES[name]()
    fields = {field.name for field in dataclasses.fields(family.config_class)}
    common: dict[str, Any] = {
        "input_length": request.input_length,
        "output_length": request.output_length,
    }
    if not request.as_published:
        common |= {"edges": "auto", "predicts": "change"}
        common |= {"fit": {"candidates": list(_PENALTIES), "held_out": 0.2}}
        common |= _UNPUBLISHED.get(name, {})
    model = {"family": name, **{k: v for k, v in common.items() if k in fields}}
    for change in request.changes:
        place, _, text = change.partition("=")
        owner, key = place.split(".")
        if owner == name:
            model[key] = settings.parse(text, change)
    families.find_family(model)
    values: dict[str, Any] = {
        "output": folder,
        "data": {
            "path": request.data, "task": plan.task, "train": {"end": plan.train_end},
        },
        "model": model,
        "wrappers": {} if plan.waves is None else {"climatology": plan.waves},
        "seed": request.seed,
    }  # fmt: skip
    if not family.closed_form:
        values |= _descent(name, request, updates)
    return config.from_dict(training.TrainConfig, values)


def _descent(name: str, request: Request, updates: int) -> dict[str, Any]:
    """Returns how a model is trained that has no solution in closed form."""
    rate = _RATES.get(name, _ATTENTION_RATE if "transformer" in name else _RATE)
    return {
        # The last weights count, so that nothing is chosen by what is scored.
        "stages": [{"steps": updates, "batch_size": request.batch_size}],
        "schedule": {
            "peak": rate, "start": rate / 20, "end": rate / 50,
            "warmup": min(100, updates // 10),
        },
        "optimizer": {
            "b2": 0.98, "weight_decay": 0.05,
            # The average of the last fiftieth of a run.
            "ema": 1 - 1 / max(2.0, updates / 50),
        },
        "loss": {"kind": "mse"},
    }  # fmt: skip


def keep_request(name: str, request: Request, plan: Plan, folder: pathlib.Path) -> bool:
    """Writes down what decides the results of a model, and returns if they are there.

    Args:
      name: Of its family.
      request: What is compared.
      plan: From `comparison_plan.make_plan`.
      folder: Of the model.

    Raises:
      ValueError: There is no such model, a setting is wrong, or the folder was made for
        another request.
      OSError: The folder cannot be written.
    """
    settled = configure(name, request, plan, updates=1, folder=folder)
    asked = {
        "settings": settings.dump(settled),
        "budget": request.budget,
        "starts": plan.starts,
        "frames": request.frames,
    }
    text, path = json.dumps(asked, indent=1), folder / _REQUEST
    if path.exists() and path.read_text("utf8") != text:
        held = json.loads(path.read_text("utf8"))
        what = ", ".join(key for key in asked if held.get(key) != asked[key])
        raise ValueError(
            f"{folder}: was made with other {what}; choose another --output, or delete "
            "that folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf8")
    return (folder / _RESULT).exists()


def measure(name: str, request: Request, plan: Plan, folder: pathlib.Path) -> None:
    """Trains a model, or goes on, makes its forecasts, and writes what it took.

    Memory is that of the process, so that only one model should be measured in it.

    Args:
      name: Of its family.
      request: What is compared.
      plan: From `comparison_plan.make_plan`.
      folder: Takes the results.

    Raises:
      As `training.Trainer.run` and `weatherlib predict`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if families.FAMILIES[name]().closed_form:
        found = _fit(name, request, plan, folder)
    else:
        found = _train(name, request, plan, folder)
    options = predict_options.Options(
        pretrained=str(folder / "checkpoint.npz"),
        dataset=request.data,
        init=plan.starts,
        steps=request.frames,
        output=str(folder / FORECASTS),
        overwrite=True,
        conform=True,
    )
    hindcasting.make_set(options)
    found["forecast_seconds"] = _time_forecast(options)
    text = json.dumps(found, indent=1)
    (folder / _RESULT).write_text(text + "\n", encoding="utf8")


def _train(
    name: str, request: Request, plan: Plan, folder: pathlib.Path
) -> dict[str, float]:
    """Returns what it took to train a model."""
    out = console.Console()
    length = updates(name, request, plan, folder)
    settled = configure(name, request, plan, updates=length, folder=folder)
    run = runs.Run(settled, out=out)
    out.facts(run.plan())
    before = _forget_peak()
    result = run.train(resume=True)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(run.abstract_params)),
        "updates": result.step,
        "training_seconds": result.seconds - result.compiling,
        "compiling_seconds": result.compiling,
        "memory_mb": _peak() - before,
    }


def _fit(
    name: str, request: Request, plan: Plan, folder: pathlib.Path
) -> dict[str, float]:
    """Returns what it took to fit a model that has a solution in closed form."""
    out = console.Console()
    settled = configure(name, request, plan, updates=1, folder=folder)
    prepared = fitting.Fitting(settled, say=out.print)
    out.facts(prepared.plan())
    before, began = _forget_peak(), time.perf_counter()
    found = prepared.solve(lambda done: None)
    prepared.save(found)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(found.params)),
        "training_seconds": time.perf_counter() - began,
        "memory_mb": _peak() - before,
    }


def updates(name: str, request: Request, plan: Plan, folder: pathlib.Path) -> int:
    """Returns how many updates the budget is; a time is measured on a few of them.

    Args:
      name: Of its family.
      request: What is compared.
      plan: From `comparison_plan.make_plan`.
      folder: Keeps what was measured, for the next call.

    Raises:
      As `training.Trainer.run`.
    """
    if request.updates is not None:
        return request.updates
    known = folder / _BUDGET
    if known.exists():
        return int(json.loads(known.read_text("utf8"))["updates"])
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    settled = configure(name, request, plan, updates=_TRIAL, folder=trial)
    result = runs.Run(settled).train()
    shutil.rmtree(trial)
    spent = (result.seconds - result.compiling) / (_TRIAL - 1)
    found = max(1, round(request.seconds / spent))
    known.write_text(json.dumps({"updates": found, "seconds_each": spent}), "utf8")
    return found


def _time_forecast(options: predict_options.Options) -> float:
    """Returns the seconds of one forecast of a compiled model."""
    model, statistics = sources.load_model(options)
    states = sources.open_states(options, model)
    rule = data.parse_starts(str(options.init))
    start = rule.resolve(states.starts, states.why_no_start)[0]
    steps = sources.steps(options, model, lambda text: None)
    setup = setups.prepare_start(model, statistics, states, start, steps=steps)
    forecaster = forecasting.build_forecaster(model, statistics)
    spent = []
    for _ in range(4):
        began = time.perf_counter()
        forecasting.run(forecaster, setup, model)
        spent.append(time.perf_counter() - began)
    return min(spent[1:])


def _forget_peak() -> float:
    """Returns the memory in use, MB, and counts the peak from here where it can be."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5", "ascii")
    return _peak()


def _peak() -> float:
    """Returns the most memory in use so far, MB: of the accelerator if there is one."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 1e6
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path("/proc/self/status").read_text("ascii").splitlines()
        return float(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def costs(folders: dict[str, pathlib.Path]) -> xarray.Dataset:
    """Returns what finished models took, with the dimension `source`.

    Args:
      folders: By name.

    Raises:
      FileNotFoundError: A model is not finished.
    """
    held = [
        json.loads((folder / _RESULT).read_text("utf8")) for folder in folders.values()
    ]
    return xarray.Dataset(
        {
            key: (
                "source", [float(each[key]) for each in held],
                {"long_name": label, "units": units},
            )
            for key, (label, units) in _COSTS.items()
        },
        coords={"source": list(folders)},
    )  # fmt: skip
