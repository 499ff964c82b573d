"""List published weights and data, fetch them, say where they are, or convert them.

`list` shows what there is, `fetch NAME` downloads it, `path NAME` prints where it lies.
`convert IN OUT` reads a file of torch (.ckpt, .pt, .pth), safetensors or npz, without
torch and without running anything of it, and writes its arrays as safetensors, as npz,
or as a checkpoint of weatherlib: of ClimaX, also for another grid or other variables,
and with --family of the models on grids (convlstm, pixel_unet, ...) and of PreDiff.
A folder of a vision encoder or an autoencoder becomes a folder (OUT without a suffix,
--format npz or safetensors) or a file, and the autoencoder of a checkpoint a folder.
Nothing is downloaded without --yes: without it, `fetch` says what would be, under which
licence and where to. A download that broke off is continued by the same command, and
its hash is checked before the file gets its name.

Files go to the folder in WEATHERLIB_CACHE, or to where the platform keeps caches. What
has been fetched can be named where a model is asked for, as in predict --model NAME.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from weatherlib.cli import console
    from weatherlib.hub import Entry, File, Record

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib weights list --family graphcast",
    "weatherlib weights fetch graphcast-small --yes",
    "weatherlib weights path graphcast-small",
    "weatherlib weights convert climax-5.625deg climax.npz",
    "weatherlib weights convert 5.625deg.ckpt climax.safetensors --grid 64x128",
    "weatherlib weights convert convlstm.pt convlstm.npz --family convlstm "
    "--variables 2m_temperature geopotential_500",
    "weatherlib weights convert sevirlr_vae.pt vae.npz --format npz",
    "weatherlib weights convert sd-vae-mse vae_npz --format npz",
    "weatherlib weights convert runs/latent_autoencoder/checkpoint.npz vae_folder",
    "weatherlib weights convert earthformerunet.pt prediff.npz --family prediff "
    "--autoencoder vae.pt",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to do with which files."""

    action: Annotated[
        Literal["list", "fetch", "path", "convert"], tyro.conf.Positional
    ] = "list"
    """list, fetch, path or convert."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = (
        None
    )
    """Which files, as `list` calls them; for `list`, part of the name; for `convert`,
    also any file."""

    output: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")
    ] = None
    """convert: the file to write, or the folder, for folders."""

    family: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """list: those of one family only, such as graphcast. convert: which model the
    arrays are of: one on grids, such as convlstm, or a stage of PreDiff
    (prediff_autoencoder, prediff, prediff_alignment)."""

    kind: Annotated[
        Literal["weights", "statistics", "data"] | None,
        tyro.conf.arg(metavar="{weights,statistics,data}"),
    ] = None
    """List those of one kind only."""

    to: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to use in place of the cache."""

    yes: bool = False
    """Download; without it, fetch only says what it would do."""

    format: Annotated[
        Literal["npz", "safetensors", "weatherlib"] | None,
        tyro.conf.arg(metavar="{npz,safetensors,weatherlib}"),
    ] = None
    """convert: write arrays by their published names as npz or safetensors, or a
    checkpoint of weatherlib, which .npz stands for by default where the model is
    known."""

    grid: Annotated[str | None, tyro.conf.arg(metavar="ROWSxCOLUMNS")] = None
    """convert: carry the position embedding of ClimaX over to another grid, such as
    64x128; of a model on grids, the one that it was trained on, by default 32x64."""

    variables: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """convert: names of the variables, in the order of the file; for ClimaX where they
    are not the 48 published ones."""

    frames: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="PAST AHEAD")] = (
        None
    )
    """convert: frames that a model reads and predicts, as far as they do not follow
    from the file. Default: 12 4; of PreDiff 7 6."""

    time_step: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """convert: time between the frames of a model on grids, by default 6h, or of
    PreDiff, by default 10min."""

    autoencoder: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """convert: weights of PreDiff's autoencoder, for --family prediff, whose checkpoint
    holds both, and prediff_alignment."""

    norm_groups: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """convert: groups of the norms of that autoencoder, which do not follow from its
    file. Default: 32."""

    num_heads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """convert: attention heads, which do not follow from the file. Default: those of
    the published sizes, 16 for ClimaX."""

    strict: bool = False
    """convert: refuse ClimaX weights that do not fit exactly, in place of reporting
    what was left out."""

    unchecked: bool = False
    """convert: do not compare torch files with their checksums."""


def run(options: Options) -> None:
    """Does what the options say.

    Raises:
      ValueError: The name is unknown, nothing may be downloaded yet, or `convert`: the
        file is of another kind, is damaged or would run something.
      FileNotFoundError: `path`, `convert`: the files were not fetched.
      OSError: A download failed, or a file is damaged or cannot be written.
    """
    from weatherlib.cli import console

    out = console.Console()
    if options.action == "list":
        _list(out, options)
        return
    if options.name is None:
        raise ValueError(
            f"weights {options.action}: needs a NAME; weatherlib weights list shows all"
        )
    if options.action == "convert":
        from weatherlib.cli import conversion

        conversion.convert(out, options)
    elif options.action == "path":
        _path(options)
    else:
        _fetch(out, options)


def _list(out: console.Console, options: Options) -> None:
    """Prints a table of the registry."""
    from weatherlib import hub
    from weatherlib.hub import fetching

    families = list(dict.fromkeys(entry.family for entry in hub.entries().values()))
    if options.family is not None and options.family not in families:
        raise ValueError(
            f"--family {options.family}: unknown; there is {', '.join(families)}"
        )
    chosen = [
        entry
        for entry in hub.entries().values()
        if options.family in (None, entry.family)
        and options.kind in (None, entry.kind)
        and (options.name or "") in entry.name
    ]
    if not chosen:
        raise ValueError("weights list: nothing matches; leave filters out to see all")
    rows = []
    for entry in chosen:
        state = "here" if fetching.is_fetched(entry, options.to) else ""
        if not entry.can_be_fetched:
            state = state or "bring your own"
        size = _size_of(entry, options.to)
        rows.append((entry.name, entry.kind, size, entry.licence, state, entry.title))
    columns = ("name", "kind", "size", "licence", "", "what")
    out.print_columns(columns, rows)


def _path(options: Options) -> None:
    """Prints where an entry lies, and nothing else, so that scripts can use it."""
    from weatherlib import hub
    from weatherlib.hub import fetching

    entry = hub.find(str(options.name))
    path = fetching.path_of(entry, options.to)
    if not fetching.is_fetched(entry, options.to):
        raise FileNotFoundError(_how_to_fetch(entry))
    print(path)


def _how_to_fetch(entry: Entry) -> str:
    if not entry.can_be_fetched:
        return f"{entry.name}: not here. {entry.note}"
    return (
        f"{entry.name}: not fetched yet; run: weatherlib weights fetch {entry.name} "
        "--yes"
    )


def _fetch(out: console.Console, options: Options) -> None:
    """Says what an entry is and downloads what is missing of it."""
    from weatherlib import hub
    from weatherlib.hub import fetching

    entry = hub.find(str(options.name))
    if not entry.can_be_fetched and not fetching.is_fetched(entry, options.to):
        raise ValueError(f"{entry.name}: cannot be downloaded. {entry.note}")
    out.heading(f"{entry.name}: {entry.title}")
    for owner, file in fetching.files_of(entry):
        out.facts(
            [
                ("file", file.name),
                ("from", file.url or "your own"),
                ("size", "unknown" if file.size is None else _bytes(file.size)),
                ("sha256", file.sha256 or "unknown, so unverified"),
                ("licence", owner.licence),
                ("to", str(hub.local_path(owner, file, options.to))),
            ]
        )
        out.print()
    if entry.note:
        out.print(f"  {entry.note}")
    missing = [
        hub.local_path(owner, file, options.to)
        for owner, file in fetching.files_of(entry)
        if not hub.local_path(owner, file, options.to).is_file()
    ]
    if missing and not options.yes:
        raise ValueError(
            f"weights fetch {entry.name}: nothing was downloaded; add --yes to fetch "
            f"the {len(missing)} file(s) above and accept their licence"
        )
    with out.downloads() as bar:

        def tell(file: File, done: int, total: int, seconds: float) -> None:
            bar(file.name, done, total, seconds)

        paths = hub.fetch(entry, options.to, progress=tell)
    for path in paths:
        record = hub.record_of(path)
        how = "not fetched by us" if record is None else _verdict(record)
        out.print(f"  {path}: {how}")


def _verdict(record: Record) -> str:
    hashed = f"sha256 {record.sha256}"
    if record.is_verified:
        return f"verified, {hashed}"
    against = f"; agrees with the {record.checked}" if record.checked else ""
    return f"unverified{against}; recorded {hashed}"


def _size_of(entry: Entry, folder: str | None) -> str:
    """Returns the size by the registry, or of what was fetched."""
    from weatherlib import hub

    if entry.size is not None:
        return _bytes(entry.size)
    paths = [hub.local_path(entry, file, folder) for file in entry.files]
    if all(path.is_file() for path in paths):
        return _bytes(sum(path.stat().st_size for path in paths))
    return "unknown"


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
