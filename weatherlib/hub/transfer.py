"""Downloads that resume, and that are checked before they get their name.

Pooch knows caches and hashes but starts a broken download anew, which hurts at a
gigabyte; the standard library can ask for the rest of a file, so it does the transfer.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from weatherlib.hub import cache
from weatherlib.hub.registry import File

__all__ = ["Progress", "download", "server_hashes", "sha256_of"]

Progress = Callable[[int, int, float], None]

_BLOCK = 2**20
_TIMEOUT = 60.0
_ATTEMPTS = 3
# Where a hash of 32 digits as ETag is the MD5 of the file.
_MD5_ETAGS = (".amazonaws.com", "storage.googleapis.com")


def download(
    file: File,
    path: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> cache.Record:
    """Downloads a file, going on where an earlier download broke off.

    Bytes go to NAME.partial, which gets its name when its hash has been checked:
    against the registry where that has one, else against what the server says.

    Args:
      file: What to download.
      path: Where to.
      progress: Is told the bytes there are, of all (0 for unknown), and the seconds.

    Returns:
      The record that was written beside the file.

    Raises:
      ValueError: The file has no address.
      OSError: The server cannot be reached or refuses; the disk is too small or full;
        or the hash is another, in which case what was downloaded is deleted.
    """
    if not file.url:
        raise ValueError(f"{file.name}: has no address to download from")
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    for attempt in range(_ATTEMPTS):
        before = _size(partial)
        try:
            headers = _transfer(file, partial, progress)
            break
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            # Broken on the way: what came is kept, and asked for no more.
            if attempt + 1 == _ATTEMPTS or _size(partial) == before:
                raise OSError(
                    f"{file.url}: the download broke off after {_size(partial):,} "
                    f"bytes ({error or type(error).__name__}); the same command goes "
                    "on from there"
                ) from error
    record = _checked(file, partial, headers)
    partial.replace(path)
    _state_path(partial).unlink(missing_ok=True)
    record.save(path)
    return record


def sha256_of(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def server_hashes(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the hashes that a server states, in hexadecimal digits by algorithm.

    `x-goog-hash` of Google's storage, `x-linked-etag` of model hubs that keep large
    files apart, `content-md5`, and an ETag where it is known to be a hash.

    Args:
      url: Where the file is.
      headers: Those of the response, names in lower case.
    """
    found: dict[str, str] = {}
    for part in headers.get("x-goog-hash", "").split(","):
        name, _, value = part.strip().partition("=")
        if name in ("md5", "crc32c") and value:
            found[name] = base64.b64decode(value).hex()
    if "content-md5" in headers:
        found["md5"] = base64.b64decode(headers["content-md5"]).hex()
    host = urllib.parse.urlsplit(url).hostname or ""
    for name in ("x-linked-etag", "etag"):
        tag = headers.get(name, "").removeprefix("W/").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            found["sha256"] = tag
        elif re.fullmatch(r"[0-9a-f]{32}", tag) and host.endswith(_MD5_ETAGS):
            found.setdefault("md5", tag)
    return found


def _transfer(
    file: File, partial: pathlib.Path, progress: Progress | None
) -> dict[str, str]:
    """Downloads what is missing; returns the headers, names in lower case.

    Raises:
      OSError: The server refuses or the disk is too small.
    """
    state = _read_state(partial)
    request, have = _request(file, state, _size(partial))
    seen: dict[str, str] = {}
    opener = urllib.request.build_opener(_Redirects(seen))
    try:
        response = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have == _length(error.headers, have):
            return {**state.get("headers", {})}
        raise OSError(_refusal(file, error)) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise TimeoutError("no answer in time") from error
        raise OSError(f"{file.url}: cannot be reached ({error.reason})") from error
    with response:
        headers = {**{k.lower(): v for k, v in response.headers.items()}, **seen}
        start = f"bytes {have}-"
        if response.status != 206:
            have = 0
        elif not headers.get("content-range", "").startswith(start):
            raise OSError(f"{file.url}: the server sent another part than {start}")
        rest = int(headers.get("content-length", 0))
        total = have + rest if rest else 0
        if file.size is not None and total and total != file.size:
            raise OSError(
                f"{file.url}: has {total:,} bytes, the registry knows {file.size:,}; "
                "it is another file"
            )
        _require_space(partial, rest)
        _write_state(partial, file.url, headers)
        with partial.open("ab" if have else "wb") as stream:
            _copy(response, stream, have, total, progress)
    found = _size(partial)
    if total and found < total:
        raise http.client.IncompleteRead(b"", total - found)
    return headers


def _request(
    file: File, state: Mapping[str, Any], have: int
) -> tuple[urllib.request.Request, int]:
    """Returns the request for the rest of a file, and how much is left out of it."""
    request = urllib.request.Request(file.url)  # noqa: S310 (http(s), see File)
    request.add_header("User-Agent", "weatherlib")
    tag = state.get("etag") or state.get("last-modified")
    if not have or state.get("url") != file.url or not tag:
        return request, 0
    request.add_header("Range", f"bytes={have}-")
    # Another version of the file comes as a whole.
    request.add_header("If-Range", tag)
    return request, have


def _copy(
    response: Any,
    stream: BinaryIO,
    have: int,
    total: int,
    progress: Progress | None,
) -> None:
    """Copies a response to a file, telling how far it is."""
    began = time.perf_counter()
    while block := response.read(_BLOCK):
        stream.write(block)
        have += len(block)
        if progress is not None:
            progress(have, total, time.perf_counter() - began)


def _checked(
    file: File, partial: pathlib.Path, headers: Mapping[str, str]
) -> cache.Record:
    """Returns the record of a complete download.

    Raises:
      OSError: Its hash is another. It is deleted: going on from it would be of no use.
    """
    found = sha256_of(partial)
    stated = server_hashes(file.url, headers)
    if file.sha256 is not None:
        _require(file, partial, "sha256", found, file.sha256, "the registry")
        checked = "sha256 of the registry"
    else:
        checked = ""
        for name, compute in (
            ("sha256", sha256_of),
            ("md5", _md5_of),
            ("crc32c", _crc32c_of),
        ):
            if name in stated:
                _require(file, partial, name, compute(partial), stated[name], "server")
                checked = f"{name} of the server"
                break
    return cache.Record(
        url=file.url,
        size=_size(partial),
        sha256=found,
        checked=checked,
        etag=headers.get("etag", ""),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _require(
    file: File, partial: pathlib.Path, name: str, found: str, wanted: str, who: str
) -> None:
    if found == wanted:
        return
    partial.unlink()
    _state_path(partial).unlink(missing_ok=True)
    raise OSError(
        f"{file.url}: {name} is {found}, {who} says {wanted}; the download was damaged "
        "or is another file, and was deleted"
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections and keeps what their headers say about the file."""

    def __init__(self, seen: dict[str, str]) -> None:
        self._seen = seen

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Returns the request that follows, to an http or https address only."""
        for name in ("x-linked-etag", "x-linked-size"):
            if headers.get(name):
                self._seen[name] = headers[name]
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refusal(file: File, error: urllib.error.HTTPError) -> str:
    reasons = {
        401: "the server wants you to log in",
        403: "the server does not allow it",
        404: "there is no such file (any more)",
        416: "what was downloaded is longer than the file; delete the .partial file",
    }
    reason = reasons.get(error.code, error.reason)
    return f"{file.url}: cannot be downloaded, HTTP {error.code} ({reason})"


def _length(headers: Any, default: int) -> int:
    """Returns the length of a file by a refusal to send what lies beyond its end."""
    found = re.search(r"/(\d+)$", headers.get("Content-Range", "") if headers else "")
    return int(found[1]) if found else default


def _require_space(partial: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise OSError(
            f"{partial.parent}: {needed:,} bytes are needed, {free:,} are free; choose "
            f"another folder with --to, or another cache with {cache.CACHE_VARIABLE}"
        )


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state_path(partial: pathlib.Path) -> pathlib.Path:
    return partial.with_name(f".{partial.name}.json")


def _read_state(partial: pathlib.Path) -> dict[str, Any]:
    """Returns what is known of the version of which a part was downloaded."""
    try:
        return json.loads(_state_path(partial).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}


def _write_state(partial: pathlib.Path, url: str, headers: Mapping[str, str]) -> None:
    kept = ("etag", "last-modified", "x-goog-hash", "x-linked-etag", "content-md5")
    known = {name: headers[name] for name in kept if name in headers}
    tag = known.get("etag", "")
    state = {
        "url": url,
        # A weak tag does not promise the same bytes.
        "etag": "" if tag.startswith("W/") else tag,
        "last-modified": known.get("last-modified", ""),
        "headers": known,
    }
    _state_path(partial).write_text(json.dumps(state), encoding="utf8")


def _md5_of(path: pathlib.Path) -> str:
    with path.open("rb") as stream:
        # Not for security: it is what the server states.
        md5 = hashlib.new("md5", usedforsecurity=False)
        while block := stream.read(_BLOCK):
            md5.update(block)
    return md5.hexdigest()


def _crc32c_of(path: pathlib.Path) -> str:
    """Returns the CRC-32C (Castagnoli) of a file, by table."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for byte in block:
                crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return f"{crc ^ 0xFFFFFFFF:08x}"
