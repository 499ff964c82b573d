"""Ends this process by SIGKILL at a chosen moment.

KILL_AT in the environment is MOMENT:N, the N-th time that it comes:

    update        an update begins
    validation    a validation is done, its result not yet used
    before        a checkpoint in `last/` is written but not yet under its name
    after         it has just got its name
    record        a line of the records is half written

With FULL_AT=N no file can grow any more once the N-th record is written and no
checkpoint is half written, as on a disk that is full.
"""

import json
import os
import pathlib
import resource
import signal
import sys
import time

from weatherlib import training
from weatherlib.training import records, step

_UNFINISHED = "orbax-checkpoint-tmp"
# Seconds for a checkpoint to be finished.
_PATIENCE = 300


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def arm():
    """Prepares the fault that the environment asks for, if any."""
    if "FULL_AT" in os.environ:
        _fill(int(os.environ["FULL_AT"]))
    if "KILL_AT" not in os.environ:
        return
    moment, number = os.environ["KILL_AT"].split(":")
    left = [int(number)]

    def come():
        left[0] -= 1
        return left[0] == 0

    if moment == "update":
        _before(step.Update, "__call__", come)
    elif moment == "validation":
        _after(training.Validator, "__call__", come)
    elif moment in ("before", "after"):
        sys.addaudithook(_renames(moment, come))
    elif moment == "record":
        _tear(come)
    else:
        raise ValueError(f"KILL_AT: there is no moment {moment!r}")


def _before(cls, name, come):
    plain = getattr(cls, name)

    def changed(*arguments, **named):
        if come():
            _kill()
        return plain(*arguments, **named)

    setattr(cls, name, changed)


def _after(cls, name, come):
    plain = getattr(cls, name)

    def changed(*arguments, **named):
        found = plain(*arguments, **named)
        if come():
            _kill()
        return found

    setattr(cls, name, changed)


def _renames(moment, come):
    """Returns a hook that sees files being renamed, in whatever thread."""
    renamed = []

    def hook(event, arguments):
        if renamed:
            renamed.clear()  # Killing is an event as well.
            _kill()
        if event == "os.rename" and _UNFINISHED in str(arguments[0]):
            is_step = pathlib.Path(str(arguments[1])).parent.name == "last"
            if is_step and come():
                if moment == "before":
                    _kill()
                renamed.append(True)

    return hook


def _tear(come):
    plain = records.Recorder.record

    def changed(recorder, record):
        if come():
            with (recorder._folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(record)[:20])
            _kill()
        plain(recorder, record)

    records.Recorder.record = changed


def _fill(records_before):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    plain, left = records.Recorder.record, [records_before]

    def changed(recorder, record):
        plain(recorder, record)
        left[0] -= 1
        if left[0] == 0:
            deadline = time.monotonic() + _PATIENCE
            while any(recorder._folder.glob(f"*/*{_UNFINISHED}*")):
                if time.monotonic() > deadline:
                    raise TimeoutError("a checkpoint is never finished")
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    records.Recorder.record = changed
