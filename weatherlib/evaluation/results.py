"""Scores as datasets: made from sums, and read from files of others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data_utils import times
from weatherlib.evaluation import bootstrap, metrics, settings, totals

__all__ = ["KINDS", "assemble", "canonical_results"]

_ORDER = ("metric", "model", "region", "init_time", "lead_time", "level")
KINDS = ("lower", "upper", "difference", "difference_lower", "difference_upper",
         "p_value", "by_start")  # fmt: skip

# What other files call our metrics.
_METRIC_ALIASES = {
    "fcrps": "crps_fair",
    "energyscore": "energy_score",
    "fenergyscore": "energy_score_fair",
    "frmse": "ensemble_mean_rmse_fair",
    "var": "ensemble_variance",
    "spskr": "spread_skill_ratio",
    "rankhist": "rank_histogram",
    "brierscore": "brier_score",
    "fbrierscore": "brier_score_fair",
    "ensemble_stddev": "ensemble_spread",
    "debiased_ensemble_mean_mse": "ensemble_mean_mse_fair",
    "debiased_brier_score": "brier_score_fair",
    "anomaly_correlation": "acc",
    "seeps": "seeps",
}
# What WeatherBench 2 and X estimate fairly under the names of our biased scores, and
# metrics that only result files of WeatherBench 2 hold.
_FAIR = {"crps": "crps_fair", "energy_score": "energy_score_fair"}
_OF_WEATHERBENCH2 = {"crps_spread", "crps_skill", "energy_score_spread",
                     "energy_score_skill", "debiased_ensemble_mean_mse"}  # fmt: skip
# Short names of tables, beside those of the vocabulary: letter, then level or height.
_TABLE_NAMES = {
    "Z": "geopotential",
    "T": "temperature",
    "U": "u_component_of_wind",
    "V": "v_component_of_wind",
    "Q": "specific_humidity",
    "T2m": "2m_temperature",
    "U10m": "10m_u_component_of_wind",
    "V10m": "10m_v_component_of_wind",
    # So called in the published tables of ArchesWeather, and meaning this.
    "SP": "mean_sea_level_pressure",
}


def assemble(
    found: Mapping[str, totals.Totals],
    wanted: Sequence[metrics.Metric],
    chosen: settings.Settings,
    *,
    baseline: str,
    units: Mapping[str, str],
    attrs: Mapping[str, str],
) -> xarray.Dataset:
    """Returns the scores of all models in one dataset.

    Args:
      found: Totals of each model and reference.
      wanted: Metrics.
      chosen: Confidence, samples, block and seed.
      baseline: Model that the others are compared with.
      units: Of each variable.
      attrs: Of the dataset.
    """
    counts, note = _samples(found, chosen)
    lost: dict[str, int] = {}
    plain = [m for m in wanted if not m.dims]
    out: dict[str, xarray.DataArray] = {}
    for variable in units:
        stacked = _stack(found, plain, variable, counts, chosen, baseline, lost)
        for kind, array in stacked.items():
            label = variable if kind == "value" else f"{kind}.{variable}"
            out[label] = array.assign_attrs(_attrs(variable, units))
        for metric in wanted:
            if metric.dims:
                parts = _stack(
                    found, [metric], variable, counts, chosen, baseline, lost
                )
                out |= _labelled(parts, metric, variable, units[variable])
    order = {"model": list(found), "metric": [m.name for m in plain]}
    dataset = _merged(out, order)
    starts = 0 if counts is None else counts.shape[1]
    unlike = [
        f"{name}: differences from {baseline} leave out {count} of {starts} starts, at "
        "lead times and in regions where the two do not hold values of the same points"
        for name, count in lost.items()
    ]
    notes = "\n".join(x for x in (attrs.get("notes", ""), note, *unlike) if x)
    dataset.attrs = {**attrs, "notes": notes, "baseline": baseline}
    if counts is not None:
        dataset.attrs["confidence"] = f"{chosen.confidence:g}"
    if "radial_wavenumber" in dataset.dims and "shorter_side_km" in attrs:
        lengths = float(attrs["shorter_side_km"]) / dataset["radial_wavenumber"]
        dataset = dataset.assign_coords(wavelength_km=lengths)
    return _with_counts(dataset, found[baseline])


def _labelled(
    parts: Mapping[str, xarray.DataArray],
    metric: metrics.Metric,
    variable: str,
    units: str,
) -> dict[str, xarray.DataArray]:
    """Returns the parts of a metric of further dimensions under their names."""
    attrs = {
        "long_name": metric.long_name,
        "better": metric.better,
        "units": metrics.units_of(metric.name, units),
    }
    name = f"{metric.name}.{variable}"
    return {
        name if kind == "value" else f"{kind}.{name}": array.isel(
            metric=0, drop=True
        ).assign_attrs(attrs)
        for kind, array in parts.items()
    }


def _merged(
    arrays: Mapping[str, xarray.DataArray], order: Mapping[str, list[str]]
) -> xarray.Dataset:
    """Returns arrays in one dataset, along some dimensions in this order."""
    dataset = xarray.merge(
        [array.rename(name) for name, array in arrays.items()],
        join="outer",
        compat="no_conflicts",
        combine_attrs="drop",
    )
    for name, array in arrays.items():
        dataset[name].attrs = array.attrs
    dataset = dataset.transpose(*_ORDER, ..., missing_dims="ignore")
    return dataset.reindex({d: v for d, v in order.items() if d in dataset.dims})


def _samples(
    found: Mapping[str, totals.Totals], chosen: settings.Settings
) -> tuple[np.ndarray | None, str]:
    """Returns the samples of the bootstrap, and what to say about them."""
    if not chosen.confidence:
        return None, ""
    held = [t.dataset for t in found.values() if "init_time" in t.dataset.coords]
    if not held:
        return None, (
            "no confidence intervals: spectra, histograms and reliability are summed "
            "over all starts at once"
        )
    inits = held[0]["init_time"].values
    if len(inits) < 2:
        return None, "no confidence intervals: there is a single start"
    block = chosen.block or bootstrap.default_block(inits)
    counts = bootstrap.block_counts(len(inits), block, chosen.resamples, chosen.seed)
    note = (
        f"{chosen.confidence:.0%} confidence intervals: {chosen.resamples} samples of "
        f"the {len(inits)} starts in blocks of {min(block, len(inits))}"
    )
    if len(inits) < 5 * block:
        note += "; few blocks, so the intervals are rough and mostly too narrow"
    return counts, note


def _stack(
    found: Mapping[str, totals.Totals],
    wanted: Sequence[metrics.Metric],
    variable: str,
    counts: np.ndarray | None,
    chosen: settings.Settings,
    baseline: str,
    lost: dict[str, int],
) -> dict[str, xarray.DataArray]:
    """Returns values, intervals and comparisons of metrics of the same dimensions.

    `lost` takes how many starts are left out of the comparison with each model.
    """
    parts: dict[str, list[xarray.DataArray]] = {}
    for metric in wanted:
        first: xarray.DataArray | None = None
        ordered = [baseline, *(name for name in found if name != baseline)]
        for name in ordered:
            place = {"metric": [metric.name], "model": [name]}
            value = totals.metric_values(found[name], metric, variable)
            if value is None:
                continue
            kinds = {"value": value}
            if "sample" in value.dims:
                kinds = {"value": value.isel(sample=0)}
                drawn = None
                if counts is not None:
                    drawn = totals.metric_values(found[name], metric, variable, counts)
                if drawn is not None:
                    first = drawn if name == baseline else first
                    kinds |= _intervals(drawn, kinds["value"], chosen.confidence)
                    if first is not None and name != baseline:
                        assert counts is not None
                        ours, theirs, count = totals.on_common_starts(
                            found[name], found[baseline], metric, variable
                        )
                        if count:
                            lost[name] = max(count, lost.get(name, 0))
                            apart = _apart(ours, theirs, metric, variable, counts)
                        else:
                            apart = drawn - first
                        ones = np.ones((1, counts.shape[1]))
                        plain = _apart(ours, theirs, metric, variable, ones)
                        kinds |= _comparison(
                            plain.isel(sample=0), apart, chosen.confidence
                        )
                if chosen.by_start:
                    kinds["by_start"] = _each_start(found[name], metric, variable)
            for kind, array in kinds.items():
                array = array.expand_dims(place)
                plain = f"threshold.{variable}"
                if plain in array.dims:
                    array = array.rename({plain: "threshold"})
                parts.setdefault(kind, []).append(array)
    return {kind: _joined(arrays) for kind, arrays in parts.items()}


def _joined(arrays: list[xarray.DataArray]) -> xarray.DataArray:
    """Returns arrays of single metrics and models as one."""
    if len(arrays) == 1:
        return arrays[0]
    merged = xarray.combine_by_coords(
        [array.rename("value") for array in arrays],
        join="outer",
        compat="no_conflicts",
        data_vars="all",
        coords="minimal",
    )
    if isinstance(merged, xarray.Dataset):
        return merged["value"]
    return merged


def _intervals(
    drawn: xarray.DataArray, value: xarray.DataArray, confidence: float
) -> dict[str, xarray.DataArray]:
    low, high = bootstrap.interval(drawn.values, confidence)
    return {"lower": value.copy(data=low), "upper": value.copy(data=high)}


def _apart(
    ours: totals.Totals,
    theirs: totals.Totals,
    metric: metrics.Metric,
    variable: str,
    counts: np.ndarray,
) -> xarray.DataArray:
    """Returns the difference of a metric of two models in each sample."""
    pair = [totals.metric_values(t, metric, variable, counts) for t in (ours, theirs)]
    assert pair[0] is not None and pair[1] is not None
    return pair[0] - pair[1]


def _comparison(
    value: xarray.DataArray, drawn: xarray.DataArray, confidence: float
) -> dict[str, xarray.DataArray]:
    low, high = bootstrap.interval(drawn.values, confidence)
    chance = bootstrap.p_value(drawn.values)
    arrays = {"difference_lower": low, "difference_upper": high, "p_value": chance}
    return {"difference": value, **{k: value.copy(data=v) for k, v in arrays.items()}}


def _each_start(
    found: totals.Totals, metric: metrics.Metric, variable: str
) -> xarray.DataArray:
    """Returns the metric of every start by itself."""
    inits = found.dataset["init_time"]
    each = totals.metric_values(found, metric, variable, np.eye(inits.size))
    assert each is not None
    return each.rename(sample="init_time").assign_coords(init_time=inits.values)


def _with_counts(dataset: xarray.Dataset, found: totals.Totals) -> xarray.Dataset:
    """Returns the dataset with the number of starts of each lead time."""
    for name, array in found.dataset.data_vars.items():
        if "init_time" in array.dims and "region" in array.dims:
            held = array.isel(part=1) > 0
            over = [d for d in held.dims if d not in ("init_time", "lead_time")]
            starts = held.any(over).sum("init_time")
            note = {"long_name": "starts that were verified"}
            del name
            return dataset.assign_coords(
                starts=("lead_time", starts.values.astype(np.int64), note)
            )
    return dataset


def _attrs(variable: str, units: Mapping[str, str]) -> dict[str, str]:
    known = variables.find(variable)
    title = known.display_name if known else variable.replace("_", " ")
    return {
        "long_name": f"scores of {title}",
        "units": units[variable],
        "comment": "errors in these units, squares in their square, others without",
    }


def canonical_results(dataset: xarray.Dataset, name: str = "results") -> xarray.Dataset:
    """Returns results of WeatherBench 2 or X, of ArchesWeather or of ours in our form.

    Lead times become the dimension `lead_time` (timedelta64), models and regions
    dimensions, variables of WeatherBench X named METRIC.VARIABLE values along `metric`,
    names such as T850 the variable and its level, and metrics have our names.

    `crps` and `energy_score` of WeatherBench 2 and X are fair estimates, and are called
    `crps_fair` and `energy_score_fair` here. A file is of WeatherBench 2 where it says
    `ensemble_size` or holds the parts of these scores beside them; one that was cut
    down to `crps` alone cannot be told and keeps the name, and so do files of
    ArchesWeather, whose `crps` is biased as ours. That of WeatherBench X is fair unless
    it was asked for otherwise, which its files do not say.

    Args:
      dataset: As opened.
      name: For messages, and of the model where the file does not say.

    Raises:
      ValueError: It has no lead times.
    """
    dataset = _lead_times(dataset, name)
    if "quantile" in dataset.dims:
        labels = [_quantile_label(str(q)) for q in dataset["quantile"].values]
        dataset = dataset.assign_coords(quantile=labels).rename(quantile="threshold")
    dataset = _with_fair_names(dataset)
    arrays: dict[str, list[xarray.DataArray]] = {}
    for label, array in dataset.data_vars.items():
        title, metric, level = _parts(str(label))
        if metric is not None and "metric" not in array.dims:
            if _is_long(array):
                title = f"{metric}.{title}"
            else:
                array = array.expand_dims(metric=[metric])
        if level is not None and "level" not in array.dims:
            array = array.expand_dims(level=[level])
        if "model" not in array.dims and "lead_time" in array.dims:
            array = array.expand_dims(model=[name])
        arrays.setdefault(title, []).append(array.rename(title))
    merged = xarray.merge(
        [array for group in arrays.values() for array in group],
        join="outer",
        compat="no_conflicts",
        combine_attrs="override",
    )
    if "metric" in merged.dims:
        renamed = [_METRIC_ALIASES.get(str(m), str(m)) for m in merged["metric"].values]
        merged = merged.assign_coords(metric=renamed)
    merged = _split_long(merged)
    merged.attrs = dict(dataset.attrs)
    return merged.transpose(*_ORDER, ..., missing_dims="ignore")


def _with_fair_names(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns results of WeatherBench with the fair scores that it has called so."""
    if "metric" in dataset.coords and "metric" in dataset.dims:
        held = [str(name) for name in dataset["metric"].values]
        if "ensemble_size" in dataset.attrs or _OF_WEATHERBENCH2 & set(held):
            names = [n if _FAIR.get(n, n) in held else _FAIR[n] for n in held]
            return dataset.assign_coords(metric=names)
        return dataset
    renamed = {}
    for label, array in dataset.data_vars.items():
        head, dot, title = str(label).partition(".")
        fair = f"{_FAIR.get(head)}.{title}"
        # Ours with such names hold metrics of further dimensions only.
        if dot and head in _FAIR and not _is_long(array) and fair not in dataset:
            renamed[label] = fair
    return dataset.rename(renamed)


def _lead_times(dataset: xarray.Dataset, name: str) -> xarray.Dataset:
    held = ("lead_time", "prediction_timedelta")
    lead = next((n for n in held if n in dataset.dims), None)
    if lead is None or lead not in dataset.coords:
        raise ValueError(
            f"{name}: no scores by lead time; there is no dimension lead_time or "
            f"prediction_timedelta among {', '.join(map(str, dataset.dims)) or 'none'}"
        )
    values = dataset[lead]
    if values.dtype.kind in "iuf":
        if values.attrs.get("units"):
            values = times.decode_time(dataset, [lead])[lead]
        elif values.max() > 1e6:  # Nanoseconds, as WeatherBench 2 leaves them.
            values = values.astype("timedelta64[ns]")
        else:  # Days, as in the published tables of ArchesWeather.
            values = (values * 86_400_000_000_000).astype("timedelta64[ns]")
    elif values.dtype.kind != "m":
        raise ValueError(f"{name}: {lead} holds {values.dtype}, expected lead times")
    dataset = dataset.assign_coords({lead: values.values.astype("timedelta64[ns]")})
    return dataset if lead == "lead_time" else dataset.rename({lead: "lead_time"})


def _parts(label: str) -> tuple[str, str | None, float | None]:
    """Returns variable, metric and level that the name of a variable holds."""
    head, _, rest = label.partition(".")
    if rest and head in KINDS:
        return label, None, None
    metric = _METRIC_ALIASES.get(head, head) if rest else None
    title = rest or head
    if title in _TABLE_NAMES:
        return _TABLE_NAMES[title], metric, None
    match = re.fullmatch(r"([ZTUVQ])(\d+)", title)
    if match:
        return _TABLE_NAMES[match[1]], metric, float(match[2])
    known = variables.find(title)
    return (known.name if known else title), metric, None


_LONG = {"rank", "threshold", "neighbourhood", "probability", "total_wavenumber",
         "zonal_wavenumber", "radial_wavenumber"}  # fmt: skip


def _is_long(array: xarray.DataArray) -> bool:
    return bool(_LONG & set(map(str, array.dims)))


def _split_long(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns metrics with further dimensions as variables METRIC.VARIABLE."""
    for name in list(dataset.data_vars):
        array = dataset[name]
        if "metric" in array.dims and _is_long(array):
            dataset = dataset.drop_vars(str(name))
            for metric in array["metric"].values:
                dataset[f"{metric}.{name}"] = array.sel(metric=metric, drop=True)
    if "metric" in dataset.dims and not any(
        "metric" in array.dims for array in dataset.data_vars.values()
    ):
        dataset = dataset.drop_vars("metric")
    return dataset


def _quantile_label(text: str) -> str:
    """Returns "q0.99" for "99%" or 0.99."""
    value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    return f"q{value:g}"
