"""An interpreter of pickle's opcodes that makes plain containers and nothing else.

Python's own loader imports whatever a stream names and calls it. Here a name becomes
what an `Objects` says it is, and nothing is ever imported, looked up or called but the
methods of that one object. Source of the opcodes: the module documentation of
`pickletools` in Python, protocols 0 to 5.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, final

from weatherlib.weights import errors

__all__ = ["Objects", "interpret"]

# Longest line of a text opcode, such as a number or a name.
_LONGEST_LINE = 2**16
# What a key may hold in all: hashing nested tuples recurses in C without a limit.
_LARGEST_KEY = 64


class Objects(Protocol):
    """Says what the stream may make; none of it may run anything of the stream's."""

    def find(self, module: str, name: str) -> Any:
        """Returns what stands for a name, or refuses it."""
        ...

    def persistent(self, key: Any) -> Any:
        """Returns what stands for something kept outside of the stream."""
        ...

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Returns what a call would have given, or refuses it."""
        ...

    def create(self, kind: Any, arguments: tuple[Any, ...]) -> Any:
        """Returns what stands for an instance of a class, or refuses it."""
        ...

    def build(self, instance: Any, state: Any) -> None:
        """Gives an instance its state."""
        ...

    def extend(self, instance: Any, values: list[Any]) -> None:
        """Appends to something that is no plain list."""
        ...

    def update(self, instance: Any, pairs: list[tuple[Any, Any]]) -> None:
        """Sets items of something that is no plain dict."""
        ...


def interpret(stream: bytes, objects: Objects) -> Any:
    """Returns what a stream of opcodes describes.

    Args:
      stream: From the first opcode to STOP.
      objects: Decides about names, calls and instances.

    Raises:
      WeightsFileError: The stream is damaged, or `objects` refuses something. The
        message does not hold the file yet.
    """
    try:
        return _Machine(stream, objects).run()
    except errors.WeightsFileError:
        raise
    # What damage raises depends on the byte that it hits. Nothing here runs anything
    # of the stream's, so whatever is raised comes from unsound values.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise errors.DamagedError(f"its description is damaged ({error})") from error


@final
class _Machine:
    """Runs one stream."""

    def __init__(self, stream: bytes, objects: Objects) -> None:
        self._stream = stream
        self._place = 0
        self._objects = objects
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self._take(1)[0]
            if code == _STOP:
                return self._stack.pop()
            action = _ACTIONS.get(code)
            if action is None:
                refuse(f"opcode {code:#04x} at byte {self._place - 1} is unknown")
            action(self)

    def _take(self, count: int) -> bytes:
        if count < 0 or self._place + count > len(self._stream):
            refuse("it ends in the middle")
        self._place += count
        return self._stream[self._place - count : self._place]

    def _line(self) -> bytes:
        end = self._stream.find(b"\n", self._place, self._place + _LONGEST_LINE)
        if end < 0:
            refuse("a line does not end")
        return self._take(end + 1 - self._place)[:-1]

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def since_mark(self) -> list[Any]:
        if not self._below:
            refuse("a mark is missing")
        values, self._stack = self._stack, self._below.pop()
        return values

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    # Values.

    def sized(self, layout: str) -> bytes:
        return self._take(self.number(layout))

    def long(self, layout: str) -> None:
        self.push(int.from_bytes(self.sized(layout), "little", signed=True))

    def int_line(self) -> None:
        line = self._line()
        self.push({b"00": False, b"01": True}.get(line, _integer(line)))

    def long_line(self) -> None:
        self.push(_integer(self._line().removesuffix(b"L")))

    def float_line(self) -> None:
        self.push(float(self._line()))

    def string_line(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            refuse("a text has no quotes")
        self.push(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def text(self, layout: str) -> None:
        self.push(self.sized(layout).decode("utf8", "surrogatepass"))

    def text_line(self) -> None:
        self.push(self._line().decode("raw_unicode_escape"))

    def old_text(self, layout: str) -> None:
        # Python 2 wrote its byte strings so; torch's keys among them are ASCII.
        self.push(self.sized(layout).decode("latin1"))

    # Containers.

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            refuse("the stack is too short")
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self.push(values)

    def dict_since_mark(self) -> None:
        pairs = _pairs(self.since_mark())
        self.push(dict(pairs))

    def append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)
        else:
            self._objects.extend(target, values)

    def set_items(self, values: list[Any]) -> None:
        pairs = _pairs(values)
        target = self._stack[-1]
        if type(target) is dict:
            target.update(pairs)
        else:
            self._objects.update(target, pairs)

    def add_items(self) -> None:
        values = self.since_mark()
        target = self._stack[-1]
        if type(target) is not set:
            refuse("items are added to what is no set")
        target.update(require_key(value) for value in values)

    def frozen_set(self) -> None:
        self.push(frozenset(require_key(value) for value in self.since_mark()))

    # Memory.

    def put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def get(self, place: int) -> None:
        if place not in self._memo:
            refuse(f"it remembers nothing under {place}")
        self.push(self._memo[place])

    def memoize(self) -> None:
        self.put(len(self._memo))

    # Names and what is made of them.

    def name_lines(self) -> None:
        module, name = self._line().decode("utf8"), self._line().decode("utf8")
        self.push(self._objects.find(module, name))

    def name_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            refuse("a name is no text")
        self.push(self._objects.find(module, name))

    def reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self.push(self._objects.call(function, _arguments(arguments)))

    def new(self) -> None:
        arguments, kind = self._stack.pop(), self._stack.pop()
        self.push(self._objects.create(kind, _arguments(arguments)))

    def new_with_keywords(self) -> None:
        keywords, arguments = self._stack.pop(), self._stack.pop()
        kind = self._stack.pop()
        self.push(self._objects.create(kind, (*_arguments(arguments), keywords)))

    def instance_by_lines(self) -> None:
        module, name = self._line().decode("utf8"), self._line().decode("utf8")
        arguments = tuple(self.since_mark())
        self.push(self._objects.create(self._objects.find(module, name), arguments))

    def instance_on_stack(self) -> None:
        kind, *arguments = self.since_mark()
        self.push(self._objects.create(kind, tuple(arguments)))

    def build(self) -> None:
        state = self._stack.pop()
        self._objects.build(self._stack[-1], state)

    def persistent(self) -> None:
        self.push(self._objects.persistent(self._stack.pop()))

    def persistent_line(self) -> None:
        self.push(self._objects.persistent(self._line().decode("latin1")))

    def protocol(self) -> None:
        found = self._take(1)[0]
        if found > 5:
            refuse(f"protocol {found} is unknown")

    def duplicate(self) -> None:
        self.push(self._stack[-1])

    def out_of_band(self) -> NoReturn:
        raise errors.UnsupportedError("it keeps buffers outside of the stream")

    def extension(self) -> NoReturn:
        raise errors.CarriesCodeError(
            "it refers to a registry of extensions (copyreg), which is never consulted"
        )


def refuse(reason: str) -> NoReturn:
    """Raises the error for a stream that contradicts itself."""
    raise errors.DamagedError(f"its description is damaged ({reason})")


def require_key(value: Any) -> Any:
    """Returns a value that is safe to hash.

    Raises:
      DamagedError: It is a container that changes, or nests too much.
    """
    waiting, seen = [value], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > _LARGEST_KEY or isinstance(item, list | dict | set | bytearray):
            refuse("a key is no plain value")
        if isinstance(item, tuple | frozenset):
            waiting.extend(item)
    return value


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    if len(values) % 2:
        refuse("a key has no value")
    return [(require_key(k), v) for k, v in zip(values[::2], values[1::2], strict=True)]


def _arguments(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        refuse("arguments are no tuple")
    return value


def _integer(line: bytes) -> int:
    # A number of ten thousand digits would take long and means nothing here.
    if len(line) > 400:
        refuse("a number is too long")
    return int(line or b"x")


_STOP = ord(".")
_ACTIONS: dict[int, Callable[[_Machine], object]] = {
    ord("("): _Machine.mark,
    ord("0"): _Machine.pop,
    ord("1"): lambda m: m.since_mark(),
    ord("2"): _Machine.duplicate,
    0x80: _Machine.protocol,
    0x95: lambda m: m.number("<Q"),
    # Values.
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): _Machine.int_line,
    ord("L"): _Machine.long_line,
    ord("F"): _Machine.float_line,
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("M"): lambda m: m.push(m.number("<H")),
    0x8A: lambda m: m.long("<B"),
    0x8B: lambda m: m.long("<i"),
    ord("G"): lambda m: m.push(m.number(">d")),
    ord("S"): _Machine.string_line,
    ord("T"): lambda m: m.old_text("<i"),
    ord("U"): lambda m: m.old_text("<B"),
    ord("V"): _Machine.text_line,
    ord("X"): lambda m: m.text("<I"),
    0x8C: lambda m: m.text("<B"),
    0x8D: lambda m: m.text("<Q"),
    ord("B"): lambda m: m.push(m.sized("<I")),
    ord("C"): lambda m: m.push(m.sized("<B")),
    0x8E: lambda m: m.push(m.sized("<Q")),
    0x96: lambda m: m.push(bytearray(m.sized("<Q"))),
    # Containers.
    ord("]"): lambda m: m.push([]),
    ord("a"): lambda m: m.append([m._stack.pop()]),
    ord("e"): lambda m: m.append(m.since_mark()),
    ord("l"): lambda m: m.push(m.since_mark()),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("}"): lambda m: m.push({}),
    ord("d"): _Machine.dict_since_mark,
    ord("s"): lambda m: m.set_items([m._stack.pop(), m._stack.pop()][::-1]),
    ord("u"): lambda m: m.set_items(m.since_mark()),
    0x8F: lambda m: m.push(set()),
    0x90: _Machine.add_items,
    0x91: _Machine.frozen_set,
    # Memory.
    ord("g"): lambda m: m.get(_integer(m._line())),
    ord("h"): lambda m: m.get(m.number("<B")),
    ord("j"): lambda m: m.get(m.number("<I")),
    ord("p"): lambda m: m.put(_integer(m._line())),
    ord("q"): lambda m: m.put(m.number("<B")),
    ord("r"): lambda m: m.put(m.number("<I")),
    0x94: _Machine.memoize,
    # Names and what is made of them.
    ord("c"): _Machine.name_lines,
    0x93: _Machine.name_on_stack,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
    0x81: _Machine.new,
    0x92: _Machine.new_with_keywords,
    ord("i"): _Machine.instance_by_lines,
    ord("o"): _Machine.instance_on_stack,
    ord("P"): _Machine.persistent_line,
    ord("Q"): _Machine.persistent,
    0x82: _Machine.extension,
    0x83: _Machine.extension,
    0x84: _Machine.extension,
    0x97: _Machine.out_of_band,
    0x98: _Machine.out_of_band,
}
