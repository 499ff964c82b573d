"""Sets of forecasts: many starts, perhaps many members, in one file.

The layout is that of WeatherBench 2: `time` holds the starts, `prediction_timedelta`
the lead times, `number` the members. Each start (of each member) is a part of its own
that is marked when it is complete, so a set that was interrupted, even by a kill, goes
on with the parts that are missing.

Until it is complete a set is the Zarr store NAME.partial, where parts to come are NaN.
A set that is to be NetCDF is copied into one file at the end, because an HDF5 file
does not survive a kill.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

import numpy as np
import xarray

from weatherlib.data import derived, hindcast_copies, hindcast_layout, output_files

HindcastPlan = hindcast_layout.HindcastPlan

__all__ = ["HindcastPlan", "HindcastSlot", "HindcastWriter", "open_hindcasts"]

# What must agree for a set to be continued, beside its axes and variables.
_IDENTITY = (
    "checkpoint_sha256",
    "perturbation",
    "seed",
    "sampler",
    "initial_conditions",
    "initial_state_sha256",
)


@final
class HindcastWriter:
    """Fills a set part by part. Made by `open_hindcasts`."""

    def __init__(
        self,
        path: pathlib.Path,
        group: Any,
        plan: HindcastPlan,
        *,
        zarr_format: int,
        leads_per_chunk: int,
        derive: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._partial = output_files.partial_path(path)
        self._group = group
        self._plan = plan
        self._format = zarr_format
        self.leads_per_chunk = leads_per_chunk
        self.derive = tuple(derive)
        self._complete = np.asarray(group[hindcast_layout.COMPLETE][...], bool)
        if plan.members is None:
            self._complete = self._complete[:, np.newaxis]
        self._left_out = np.zeros(plan.starts.size, bool)
        self._closed = False

    @property
    def path(self) -> pathlib.Path:
        """The name that the finished set gets."""
        return self._path

    @property
    def plan(self) -> HindcastPlan:
        """The axes of the set."""
        return self._plan

    @property
    def parts_written(self) -> int:
        """How many parts are complete, those of an earlier run included."""
        return int(self._complete.sum())

    @property
    def complete(self) -> np.ndarray:
        """Which parts are complete, bool, shape [start, member]."""
        return self._complete.copy()

    def leave_out(self, starts: Collection[int]) -> None:
        """Says that some starts are not made: the finished set is without them.

        Until then it has their places, so that another run may still make them.

        Args:
          starts: Their places in `plan.starts`.

        Raises:
          ValueError: There is no such start, or none would be left.
        """
        odd = [start for start in starts if not 0 <= start < self._plan.starts.size]
        if odd:
            raise ValueError(f"{self._path}: there is no start number {odd[0]}")
        left_out = np.zeros(self._plan.starts.size, bool)
        left_out[list(starts)] = True
        if left_out.all():
            raise ValueError(f"{self._path}: no start is left of the set")
        self._left_out = left_out

    def is_complete(self, start: int, members: range | None = None) -> bool:
        """Whether the parts of one start, of all or of some members, are complete."""
        chosen = slice(None) if members is None else slice(members.start, members.stop)
        return bool(self._complete[start, chosen].all())

    def slot(self, start: int, members: range | None = None) -> HindcastSlot:
        """Returns a writer for the frames of one start.

        Args:
          start: Its place in `plan.starts`.
          members: Numbers of the members that the frames hold; None for a set without.

        Raises:
          ValueError: The set is closed, or has no such part.
        """
        if self._closed:
            raise ValueError(f"{self._path}: the set is closed")
        if not 0 <= start < self._plan.starts.size:
            raise ValueError(f"{self._path}: there is no start number {start}")
        if (members is None) != (self._plan.members is None):
            raise ValueError(
                f"{self._path}: members {members} given to a set with "
                f"{self._plan.members}"
            )
        stop = 1 if members is None else members.stop
        if members is not None and (stop > (self._plan.members or 0) or not members):
            raise ValueError(
                f"{self._path}: members {members.start} to {stop - 1} are not among "
                f"the {self._plan.members} of the set"
            )
        return HindcastSlot(self, range(start, start + 1), members)

    def block(self, starts: range) -> HindcastSlot:
        """Returns a writer for the frames of several starts of a set without members.

        Args:
          starts: Their places in `plan.starts`, in a row. The frames written have
            `sample` for them.

        Raises:
          ValueError: The set is closed, has members, or no such parts.
        """
        self.slot(starts.start)
        if starts.step != 1 or not 0 < len(starts) <= self._plan.starts.size:
            raise ValueError(f"{self._path}: {starts} are no starts in a row")
        self.slot(starts[-1])
        return HindcastSlot(self, starts, None, is_block=True)

    def store(self, slot: HindcastSlot, chunk: xarray.Dataset, first: int) -> None:
        """Puts frames into the file; called by slots.

        Raises:
          ValueError: A variable, the grid or the lead times differ from the set's.
          OSError: They cannot be stored.
        """
        last = first + chunk.sizes["time"]
        expected = self._plan.lead_times[first:last]
        if not np.array_equal(chunk["time"].values, expected):
            raise ValueError(
                f"{self._path}: lead times {chunk['time'].values} do not follow the "
                f"{first} frames of this part; expected {expected}"
            )
        held = {n for n, a in self._group.arrays() if "latitude" in _dims(a)}
        held -= {"latitude"}
        if held != set(map(str, chunk.data_vars)):
            raise ValueError(
                f"{self._path}: frames of {', '.join(sorted(map(str, chunk)))} given "
                f"to a set of {', '.join(sorted(held))}"
            )
        place: tuple[Any, ...] = (slot.start,)
        samples = slot.members
        if slot.is_block:
            place, samples = (slice(slot.starts.start, slot.starts.stop),), slot.starts
        if slot.members is not None:
            place += (slice(slot.members.start, slot.members.stop),)
        place += (slice(first, last),)
        with output_files.storing(self._partial, self.parts_written):
            for name, field in chunk.data_vars.items():
                self._group[str(name)][place] = hindcast_layout.arranged(field, samples)

    def mark(self, slot: HindcastSlot) -> None:
        """Says that a part is complete; called by slots."""
        if slot.members is None:
            parts = slice(slot.starts.start, slot.starts.stop)
            self._group[hindcast_layout.COMPLETE][parts] = 1
            self._complete[parts] = True
        else:
            chosen = slice(slot.members.start, slot.members.stop)
            self._group[hindcast_layout.COMPLETE][slot.start, chosen] = 1
            self._complete[slot.start, chosen] = True

    def close(self) -> None:
        """Finishes the set and gives it its name. Closing twice does nothing.

        Raises:
          ValueError: Parts are missing.
          OSError: The set cannot be finished.
        """
        if self._closed:
            return
        left_out, complete = self._left_out, self._complete[~self._left_out]
        if not complete.all():
            raise ValueError(
                f"{self._path}: {complete.sum()} of {complete.size} forecasts are "
                "complete; write the others before closing"
            )
        self._closed = True
        with output_files.storing(self._partial, self.parts_written):
            if self._path.suffix != ".zarr":
                hindcast_copies.to_netcdf(self._partial, self._path, left_out)
            elif left_out.any():
                hindcast_copies.to_zarr(
                    self._partial, self._path, left_out, self._format
                )
            else:
                del self._group[hindcast_layout.COMPLETE]
                _consolidate(self._partial, self._format)
                output_files.replace(self._partial, self._path, shutil.rmtree)

    def __enter__(self) -> HindcastWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        self._closed = True


@final
class HindcastSlot:
    """Takes the frames of one start or of a block of them; `rollout`'s writer.

    Frames are held back until they fill a chunk of the file. A part that was not
    completed is made again from its beginning.
    """

    def __init__(
        self,
        owner: HindcastWriter,
        starts: range,
        members: range | None,
        *,
        is_block: bool = False,
    ) -> None:
        self.starts = starts
        self.members = members
        self.is_block = is_block
        self._owner = owner
        self._frames = 0
        self._stored = 0
        self._waiting: list[xarray.Dataset] = []

    @property
    def start(self) -> int:
        """Place of the first start."""
        return self.starts.start

    @property
    def frames_written(self) -> int:
        """Frames taken."""
        return self._frames

    def write(self, chunk: xarray.Dataset) -> None:
        """Takes the frames that follow.

        Raises:
          ValueError: They do not follow, or do not belong to this set.
          OSError: They cannot be stored.
        """
        members = None if self.members is None else len(self.members)
        if self.is_block:
            members = len(self.starts)
        if chunk.sizes.get("sample") != members:
            raise ValueError(
                f"{self._owner.path}: frames of {chunk.sizes.get('sample')} members "
                f"given to a part of {members}"
            )
        self._waiting.append(derived.add_derived(chunk, self._owner.derive))
        self._frames += chunk.sizes["time"]
        waiting = self._frames - self._stored
        is_last = self._frames == self._owner.plan.lead_times.size
        if waiting >= self._owner.leads_per_chunk or is_last:
            self._flush()

    def last_frames(self, n: int) -> xarray.Dataset:
        """Never needed: a part is always made from its beginning.

        Raises:
          ValueError: Always.
        """
        raise ValueError(f"{self._owner.path}: a part is not continued, asked for {n}")

    def finish(self) -> None:
        """Marks the part as complete.

        Raises:
          ValueError: Frames are missing.
        """
        expected = self._owner.plan.lead_times.size
        if self._frames != expected:
            raise ValueError(
                f"{self._owner.path}: {self._frames} frames of {expected} were written"
            )
        self._owner.mark(self)

    def _flush(self) -> None:
        whole = self._waiting[0]
        if len(self._waiting) > 1:
            whole = xarray.concat(
                self._waiting,
                "time",
                data_vars="all",
                coords="minimal",
                compat="override",
            )
        self._owner.store(self, whole, self._stored)
        self._stored = self._frames
        self._waiting = []


def open_hindcasts(
    path: str | os.PathLike[str],
    plan: HindcastPlan,
    template: xarray.Dataset,
    *,
    attrs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    level: int | None = None,
    zarr_format: int = 2,
    derive: Sequence[str] = (),
) -> HindcastWriter:
    """Returns a writer for a set of forecasts, going on with one that was interrupted.

    Args:
      path: Name of the finished set: .zarr, or .nc for one NetCDF file.
      plan: Its starts, lead times and members.
      template: Variables and grid of one forecast, such as
        `data_utils.targets_template` returns; its values are not read.
      attrs: Global attributes. `checkpoint_sha256`, `perturbation`, `seed`, `sampler`,
        `initial_conditions` and `initial_state_sha256` have to agree with those of a
        set that is continued.
      overwrite: Replaces a finished set of this name once the new one is complete.
      level: Effort of compression from 0 to 9; None for the usual one of Zarr.
      zarr_format: 2 or 3.
      derive: Quantities to add to every frame, as `data.add_derived` names them.

    Raises:
      ValueError: The suffix is unknown, or NAME.partial holds another set.
      FileExistsError: A finished set has this name.
      OSError: The folder cannot be written, or NAME.partial cannot be read.
    """
    from weatherlib.data import zarr_groups

    zarr_groups.require_format(zarr_format, "zarr_format 3")
    path = pathlib.Path(path)
    if path.suffix not in (*output_files.NETCDF_SUFFIXES, ".zarr"):
        raise output_files.unknown_kind(path)
    output_files.require_free(path, overwrite=overwrite)
    output_files.require_writable_folder(path)
    partial = output_files.partial_path(path)
    if template.sizes.get("batch", 1) != 1:
        raise ValueError(
            f"{path}: the forecasts of a set have a batch of one, found "
            f"{template.sizes['batch']}"
        )
    template = derived.add_derived(template, derive)
    given = output_files.global_attrs(attrs or {})
    leads = hindcast_layout.leads_per_chunk(plan, template)
    settings: dict[str, Any] = {"zarr_format": zarr_format, "leads_per_chunk": leads}
    settings["derive"] = derive
    if partial.exists():
        group = _reopen(partial, plan, template, given)
        return HindcastWriter(path, group, plan, **settings)
    # Under a name that is not taken for an unfinished set before all of it is there.
    building = path.with_name(path.name + ".building")
    if building.exists():
        shutil.rmtree(building)
    group = zarr_groups.new_group(building, zarr_format)
    group.attrs.update(zarr_groups.plain(given))
    hindcast_layout.create(group, plan, template, zarr_format=zarr_format, level=level)
    _consolidate(building, zarr_format)
    building.rename(partial)
    return HindcastWriter(path, zarr_groups.open_group(partial), plan, **settings)


def _reopen(
    partial: pathlib.Path,
    plan: HindcastPlan,
    template: xarray.Dataset,
    attrs: Mapping[str, Any],
) -> Any:
    """Returns the group of an interrupted set.

    Raises:
      ValueError: It is another one, or something else.
      OSError: It cannot be read.
    """
    from weatherlib.data import zarr_groups

    advice = "delete it, or write under another name, to start anew"
    try:
        group = zarr_groups.open_group(partial)
        arrays = dict(group.arrays())
    except (KeyError, ValueError, OSError) as error:
        raise OSError(
            f"{partial}: left by an earlier run and unreadable ({error}); delete it"
        ) from error
    if hindcast_layout.COMPLETE not in arrays:
        raise ValueError(f"{partial}: is no unfinished set of forecasts; {advice}")
    expected = hindcast_layout.skeleton(plan, template)
    if set(arrays) != set(expected):
        odd = ", ".join(sorted(set(arrays) ^ set(expected)))
        raise ValueError(f"{partial}: differs in the variables {odd}; {advice}")
    for name, variable in expected.items():
        if variable.dims != (name,):
            continue
        if not np.array_equal(np.asarray(arrays[name][...]), variable.values):
            raise ValueError(
                f"{partial}: left by an earlier run with other values of {name}; "
                f"{advice}"
            )
    for name in _IDENTITY:
        if group.attrs.get(name) != zarr_groups.plain(attrs).get(name):
            raise ValueError(
                f"{partial}: left by an earlier run with {name} "
                f"{group.attrs.get(name)}, this one has {attrs.get(name)}; {advice}"
            )
    return group


def _dims(array: Any) -> tuple[str, ...]:
    from weatherlib.data import zarr_groups

    return zarr_groups.dimensions(array)


def _consolidate(path: pathlib.Path, zarr_format: int) -> None:
    import zarr

    if zarr_format == 2:
        zarr.consolidate_metadata(str(path))
