"""Names of Python that occur in torch files, by what is done about them."""

from __future__ import annotations

from weatherlib.weights import errors

__all__ = [
    "BUILTINS",
    "COPYREG",
    "PLAIN_BUILTINS",
    "RECORDS",
    "RECORD_PACKAGES",
    "can_run_something",
    "shown",
]

BUILTINS = ("builtins", "__builtin__")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Builtins that are types of plain values, or as harmless.
PLAIN_BUILTINS = _words(
    "bool bytearray bytes complex dict float frozenset int list long object set slice "
    "str tuple unicode range NoneType type Ellipsis"
)
# Packages by which a file can run something, read or write files, or load more.
_DANGEROUS = _words(
    "os posix nt posixpath ntpath sys subprocess commands popen2 shutil socket ssl "
    "importlib imp runpy pkgutil zipimport pty ctypes _ctypes cffi pickle _pickle "
    "cPickle dill cloudpickle joblib marshal shelve copyreg copy_reg code codeop bdb "
    "pdb cProfile profile timeit trace inspect types functools operator itertools "
    "asyncio multiprocessing threading _thread concurrent signal atexit gc weakref "
    "webbrowser urllib urllib2 urllib3 requests http httplib ftplib smtplib telnetlib "
    "xmlrpc tempfile fileinput io _io glob linecache platform site sysconfig venv pip "
    "setuptools distutils builtins __builtin__ numba cython nturl2path pydoc doctest "
    "unittest pytest logging warnings traceback winreg _winapi msvcrt resource mmap "
    "select selectors sched queue test lib2to3 ensurepip idlelib turtle tkinter"
)
# Functions of packages that are harmless otherwise.
_DANGEROUS_NAMES = frozenset(
    {
        "numpy.f2py",
        "numpy.load",
        "numpy.loadtxt",
        "numpy.fromfile",
        "numpy.memmap",
        "numpy.save",
        "numpy.savetxt",
        "numpy.testing",
        "torch.classes",
        "torch.hub",
        "torch.jit",
        "torch.load",
        "torch.ops",
        "torch.package",
        "torch.save",
        "torch.serialization",
        "torch.utils",
        "torch._dynamo",
        "torch._inductor",
        "torch.distributed",
        "torch.multiprocessing",
        "torch.fx",
        "torch.storage._load_from_bytes",
        "torch._C",
    }
)
# What is stored by a call of its class, and is a plain record.
RECORDS = frozenset(
    {
        "argparse.Namespace",
        "collections.Counter",
        "collections.deque",
        "collections.defaultdict",
        "types.SimpleNamespace",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
        "fractions.Fraction",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "numpy.ndarray",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.PurePath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "torch.device",
        "torch.Generator",
        "torch.dtype",
        "uuid.UUID",
    }
)
RECORD_PACKAGES = (
    "omegaconf",
    "lightning",
    "lightning_fabric",
    "lightning_utilities",
    "pytorch_lightning",
)
COPYREG = ("copyreg", "copy_reg")


def can_run_something(name: str) -> bool:
    """Whether a full name belongs to what a file could run something by."""
    parts = name.split(".")
    starts = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    # Modules of compiled programs that a file brings along.
    own = parts[0].startswith("__torch__")
    return own or parts[0] in _DANGEROUS or not starts.isdisjoint(_DANGEROUS_NAMES)


def shown(name: str) -> str:
    """Returns a name of a file for one line of a message."""
    clean = errors.printable(name)
    return clean if len(clean) <= 80 else f"{clean[:77]}..."
