"""Published files, fetched from a server of our own on this machine."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse

import pytest

from weatherlib import hub
from weatherlib.cli import main
from weatherlib.hub import cache, fetching, registry, transfer

CONTENT = bytes(range(256)) * 1200
NAME = "GenCast 1p0deg <2019, a: b.npz"


class _Server:
    """Serves files with ranges, as storage services do.

    Attributes:
      files: Content by path.
      headers: Sent along with every file.
      break_after: Bytes after which answers break off, counted down; None for never.
      requests: Path, Range and If-Range of every request.
    """

    def __init__(self):
        self.files, self.headers, self.requests = {}, {}, []
        self.break_after, self.ranges, self.redirect = None, True, {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}/"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, handler):
        path = urllib.parse.unquote(handler.path)
        wanted, version = handler.headers.get("Range"), handler.headers.get("If-Range")
        self.requests.append((path, wanted, version))
        if path in self.redirect:
            target, headers = self.redirect[path]
            handler.send_response(302)
            for name, value in {**headers, "Location": target}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if path not in self.files:
            handler.send_error(404)
            return
        content = self.files[path]
        etag = f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"'
        start = 0
        if wanted and self.ranges and version == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            last = len(content) - 1
            handler.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
        for name, value in {"ETag": etag, **self.headers}.items():
            handler.send_header(name, value)
        body = content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.break_after is not None:
            body, self.break_after = body[: self.break_after], None
            handler.close_connection = True
        handler.wfile.write(body)

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server():
    with contextlib.closing(_Server()) as found:
        found.files["/params/" + NAME] = CONTENT
        yield found


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def table(server, monkeypatch):
    """Puts a table of two entries in place of the published one."""
    text = f"""
toy:
  base: {server.base}
  licence: CC BY 4.0
  entries:
    toy-model:
      kind: weights
      title: A toy
      needs: [toy-stats]
      files: ["params/{NAME}"]
    toy-stats:
      kind: statistics
      title: Its statistics
      folder: stats
      files: [stats/mean_by_level.nc]
    own:
      kind: weights
      title: Not to be downloaded
      licence: unknown
      note: Bring your own file.
      files: [{{name: own.pt}}]
"""
    server.files["/stats/mean_by_level.nc"] = b"means"
    found = registry.parse(text)
    monkeypatch.setattr(registry, "entries", lambda: found)
    monkeypatch.setattr(hub, "entries", lambda: found)
    return found


def _file(server, **settings):
    url = server.base + urllib.parse.quote("params/" + NAME)
    return registry.File(url=url, name=NAME, **settings)


def test_a_name_with_spaces_and_signs_is_quoted_and_kept(server, tmp_path):
    record = transfer.download(_file(server), tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.requests == [("/params/" + NAME, None, None)]
    assert record.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert record.size == len(CONTENT) and not record.checked
    assert cache.record_of(tmp_path / NAME) == record
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{NAME}.json", NAME]


def test_a_download_that_breaks_off_goes_on_by_itself(server, tmp_path):
    server.break_after = 100_000
    seen = []
    transfer.download(
        _file(server), tmp_path / "x", progress=lambda *told: seen.append(told[:2])
    )
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [wanted for _, wanted, _ in server.requests] == [None, "bytes=100000-"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_second_command_goes_on_where_the_first_was_stopped(server, tmp_path):
    def stop(done, total, seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.download(_file(server), tmp_path / "x", progress=stop)
    have = (tmp_path / "x.partial").stat().st_size
    assert have > 0 and not (tmp_path / "x").exists()
    transfer.download(_file(server), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    if have < len(CONTENT):
        assert server.requests[1][1] == f"bytes={have}-"
    assert not (tmp_path / "x.partial").exists()


def _begin(server, tmp_path, count=1000):
    """Leaves the beginning of a download behind."""
    transfer.download(_file(server), tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "x.partial")
    with (tmp_path / "x.partial").open("r+b") as stream:
        stream.truncate(count)
    etag = json.loads((tmp_path / ".x.json").read_text())["etag"]
    state = {"url": _file(server).url, "etag": etag, "headers": {}}
    (tmp_path / ".x.partial.json").write_text(json.dumps(state))
    server.requests.clear()


def test_a_file_that_changed_on_the_server_is_downloaded_anew(server, tmp_path):
    _begin(server, tmp_path)
    server.files["/params/" + NAME] = CONTENT[::-1]
    transfer.download(_file(server), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT[::-1]
    assert server.requests[0][1] == "bytes=1000-"


def test_a_server_without_ranges_sends_the_whole(server, tmp_path):
    _begin(server, tmp_path)
    server.ranges = False
    transfer.download(_file(server), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    _begin(server, tmp_path, len(CONTENT))
    transfer.download(_file(server), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT and len(server.requests) == 1


def test_a_known_hash_verifies(server, tmp_path):
    good = hashlib.sha256(CONTENT).hexdigest()
    record = transfer.download(_file(server, sha256=good), tmp_path / "x")
    assert record.is_verified


def test_a_wrong_hash_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(OSError, match="the registry says 0000"):
        transfer.download(_file(server, sha256="0" * 64), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_refused_before_the_download(server, tmp_path):
    with pytest.raises(OSError, match="the registry knows 5;"):
        transfer.download(_file(server, size=5), tmp_path / "x")
    assert not (tmp_path / "x.partial").exists()


def _b64(algorithm):
    return base64.b64encode(hashlib.new(algorithm, CONTENT).digest()).decode()


@pytest.mark.parametrize(
    ("headers", "checked"),
    [
        ({"x-goog-hash": "crc32c=AAAAAA==,md5=" + _b64("md5")}, "md5 of the server"),
        ({"Content-MD5": _b64("md5")}, "md5 of the server"),
        ({"ETag": f'"{hashlib.sha256(CONTENT).hexdigest()}"'}, "sha256 of the server"),
        ({"ETag": '"0123456789abcdef0123456789abcdef"'}, ""),
    ],
)
def test_the_hash_of_the_server_is_checked_and_recorded(
    headers, checked, server, tmp_path
):
    server.headers = headers
    record = transfer.download(_file(server), tmp_path / "x")
    assert record.checked == checked and not record.is_verified


def test_crc32c_is_computed(server, tmp_path):
    assert CONTENT[:9] != b"123456789"
    server.files["/params/" + NAME] = b"123456789"
    # The check value of CRC-32C.
    stated = base64.b64encode(bytes.fromhex("e3069283")).decode()
    server.headers = {"x-goog-hash": f"crc32c={stated}"}
    record = transfer.download(_file(server), tmp_path / "x")
    assert record.checked == "crc32c of the server"
    server.headers = {"x-goog-hash": "crc32c=AAAAAA=="}
    with pytest.raises(OSError, match="server says 00000000"):
        transfer.download(_file(server), tmp_path / "y")


def test_the_hash_that_comes_with_a_redirection_is_checked(server, tmp_path):
    wrong = {"X-Linked-Etag": f'"{"1" * 64}"'}
    server.redirect["/elsewhere"] = (_file(server).url, wrong)
    file = registry.File(url=server.base + "elsewhere", name="x")
    with pytest.raises(OSError, match="server says 1111"):
        transfer.download(file, tmp_path / "x")
    right = {"X-Linked-Etag": f'"{hashlib.sha256(CONTENT).hexdigest()}"'}
    server.redirect["/elsewhere"] = (_file(server).url, right)
    assert transfer.download(file, tmp_path / "x").checked == "sha256 of the server"


def test_amazon_etags_are_md5():
    tag = '"0123456789abcdef0123456789abcdef"'
    found = transfer.server_hashes("https://b.s3.amazonaws.com/x", {"etag": tag})
    assert found == {"md5": tag.strip('"')}
    assert transfer.server_hashes("https://example.org/x", {"etag": tag}) == {}


def test_a_server_that_refuses_or_is_gone_is_reported(server, tmp_path):
    file = registry.File(url=server.base + "nothing", name="x")
    with pytest.raises(OSError, match=r"HTTP 404 .*no such file"):
        transfer.download(file, tmp_path / "x")
    base = server.base
    server.close()
    with pytest.raises(OSError, match="cannot be reached"):
        transfer.download(registry.File(url=base + "x", name="x"), tmp_path / "x")
    server.close = lambda: None


def test_a_disk_that_is_too_small_is_noticed_first(server, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})
    )
    with pytest.raises(OSError, match="10 are free; choose another folder"):
        transfer.download(_file(server), tmp_path / "x")


def test_fetch_wants_yes_and_uses_no_network_without(server, table, capsys):
    assert main.main(["weights", "fetch", "toy-model"]) == 2
    captured = capsys.readouterr()
    assert "nothing was downloaded; add --yes" in captured.err
    for part in (NAME, "CC BY 4.0", "unknown", "cache/toy/stats/mean_by_level.nc"):
        assert part in captured.out
    assert server.requests == []


def test_fetch_brings_the_statistics_beside_the_weights(
    server, table, cache_folder, capsys
):
    assert main.main(["weights", "fetch", "toy-model", "--yes"]) == 0
    assert (cache_folder / "toy" / NAME).read_bytes() == CONTENT
    assert (cache_folder / "toy" / "stats" / "mean_by_level.nc").is_file()
    assert "unverified; recorded sha256" in capsys.readouterr().out
    server.requests.clear()
    # The second time all is there.
    assert main.main(["weights", "fetch", "toy-model", "--yes"]) == 0
    assert server.requests == []
    capsys.readouterr()
    assert main.main(["weights", "path", "toy-model"]) == 0
    assert capsys.readouterr().out == f"{cache_folder / 'toy' / NAME}\n"
    assert main.main(["weights", "list"]) == 0
    assert "here" in capsys.readouterr().out


def test_a_fetched_file_that_changed_is_noticed(table, cache_folder, capsys):
    assert main.main(["weights", "fetch", "toy-stats", "--yes"]) == 0
    (cache_folder / "toy" / "stats" / "mean_by_level.nc").write_bytes(b"other")
    assert main.main(["weights", "fetch", "toy-stats", "--yes"]) == 2
    assert "was changed or damaged" in capsys.readouterr().err


def test_files_go_to_another_folder(table, tmp_path, cache_folder, capsys):
    to = ["--to", str(tmp_path / "mine")]
    assert main.main(["weights", "fetch", "toy-model", "--yes", *to]) == 0
    assert (tmp_path / "mine" / "stats" / "mean_by_level.nc").is_file()
    assert not cache_folder.exists()
    assert main.main(["weights", "path", "toy-model"]) == 2
    assert "weights fetch toy-model --yes" in capsys.readouterr().err
    assert main.main(["weights", "path", "toy-model", *to]) == 0


def test_a_model_is_named_as_the_registry_does(table, cache_folder):
    from weatherlib.cli import models

    with pytest.raises(FileNotFoundError, match="weights fetch toy-model --yes"):
        models.find_checkpoint("toy-model")
    fetching.fetch(table["toy-model"])
    assert models.find_checkpoint("toy-model") == cache_folder / "toy" / NAME
    with pytest.raises(ValueError, match=r"1 file.* of statistics"):
        models.find_checkpoint("toy-stats")


def test_what_cannot_be_downloaded_says_how_to_get_it(table, capsys):
    for action in ("fetch", "path"):
        assert main.main(["weights", action, "own", "--yes"]) == 2
        assert "Bring your own file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Bring your own file"):
        fetching.fetch(table["own"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch"], "needs a NAME"),
        (["fetch", "toy-modle"], "did you mean toy-model"),
        (["path", "model"], "did you mean toy-model"),
        (["path", "nope"], "called 'nope'; weatherlib weights list shows all"),
        (["list", "--family", "none"], "unknown; there is toy"),
        (["list", "zzz"], "nothing matches"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message, table, capsys):
    assert main.main(["weights", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_published_table_is_complete_and_quoted():
    found = registry.entries()
    families = {entry.family for entry in found.values()}
    assert {"graphcast", "gencast", "weathernext2", "climax", "prediff"} <= families
    assert found["gencast-mini"].files[0].url == (
        "https://storage.googleapis.com/dm_graphcast/gencast/params/"
        "GenCast%201p0deg%20Mini%20%3C2019.npz"
    )
    for entry in found.values():
        assert entry.licence and entry.title
        assert entry.can_be_fetched or "Bring your own file" in entry.note
        for file in entry.files:
            assert not set(file.url) & set(" <>")
    places = [cache.local_path(e, file) for e in found.values() for file in e.files]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"},
        {"url": "file:///etc/passwd"},
        {"name": ".."},
    ],
)
def test_a_file_of_the_table_is_checked(change):
    with pytest.raises(ValueError):
        registry.File(**{"name": "x", "url": "https://example.org/x", **change})


def test_a_table_with_an_unknown_need_is_refused():
    text = "f: {entries: {a: {kind: weights, title: t, needs: [b], files: [x]}}}"
    with pytest.raises(ValueError):
        registry.parse(text)


def test_the_cache_folder_is_the_platforms_unless_set(monkeypatch):
    monkeypatch.delenv(cache.CACHE_VARIABLE)
    assert "weatherlib" in str(cache.cache_folder())
    monkeypatch.setenv(cache.CACHE_VARIABLE, "~/elsewhere")
    assert cache.cache_folder().is_absolute()
