"""Published weights, statistics and sample files: what they are, and how to get them.

Nothing is read or downloaded by importing this; `fetch` alone uses the network. A file
that you have by other means needs none of this: everything takes a path.
"""

from weatherlib.hub.cache import Record, cache_folder, local_path, record_of
from weatherlib.hub.fetching import fetch, is_fetched, path_of
from weatherlib.hub.registry import Entry, File, entries, find
from weatherlib.hub.transfer import download

__all__ = [
    "Entry",
    "File",
    "Record",
    "cache_folder",
    "download",
    "entries",
    "fetch",
    "find",
    "is_fetched",
    "local_path",
    "path_of",
    "record_of",
]
