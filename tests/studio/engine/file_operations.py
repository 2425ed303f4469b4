"""Something happens at the k-th operation that changes files: the process is killed, or the disk is full.

Operations are those that Python makes, by whatever module, and the writing of safetensors, which happens outside Python.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from studio.engine import checkpoint, overlay, publish

Act = Callable[[str, Callable[[], Any], tuple[Any, ...]], Any]
"""Given the name of an operation, what does it and its arguments: do it, or something else in its place."""

OF_OS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")
SAVERS = (checkpoint, overlay, publish)
IN_NEED_OF_ROOM = ("open", "mkdir", "rename", "replace", "fsync", "save_file")


@contextlib.contextmanager
def intercepted(act: Act) -> Iterator[None]:
    """Have each operation within the block done by `act`."""

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: act(name, lambda: real(*args, **options), args)

    def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        def real() -> Any:
            return plain_open(file, mode, *args, **options)

        return act("open", real, (file,)) if set(mode) & set("wxa+") else real()

    plain_open = open
    with contextlib.ExitStack() as stack:
        for name in OF_OS:
            stack.enter_context(mock.patch.object(os, name, wrapped(name, getattr(os, name))))
        for module in SAVERS:
            stack.enter_context(mock.patch.object(module, "save_file", wrapped("save_file", module.save_file)))
        for module in (builtins, io):
            stack.enter_context(mock.patch.object(module, "open", opened))
        yield


def operations(work: Callable[[], object]) -> list[str]:
    """The names of the operations that `work` makes, in their order."""
    made: list[str] = []

    def note(name: str, real: Callable[[], Any], _: tuple[Any, ...]) -> Any:
        made.append(name)
        return real()

    with intercepted(note):
        work()
    return made


def at_operation(number: int, instead: Act) -> Act:
    """Operation `number`, counted from 1, is done by `instead`; all others are as ever."""
    left = number

    def act(name: str, real: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        nonlocal left
        left -= 1
        return instead(name, real, args) if left == 0 else real()

    return act


def full(name: str, real: Callable[[], Any], args: tuple[Any, ...]) -> Any:
    """There is no room. A folder that exists needs none."""
    if name == "mkdir" and Path(args[0]).exists():
        return real()
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- death ---------------------------------------------------------------------------------------------------------


def die() -> None:
    """Now, without another instruction."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(_name: str, _real: Callable[[], Any], _args: tuple[Any, ...]) -> Any:
    """Die before the operation."""
    die()


def after(_name: str, real: Callable[[], Any], _args: tuple[Any, ...]) -> Any:
    """Die when it is just done, or was refused."""
    try:
        real()
    finally:
        die()


def torn(name: str, real: Callable[[], Any], args: tuple[Any, ...]) -> Any:
    """Die with half of the file on the disk: in the middle of writing it, or, where it waits to be flushed, by a power cut."""
    if name == "save_file":
        real()
    path = Path(f"/proc/self/fd/{args[0]}").resolve() if name == "fsync" else Path(args[1])
    if path.is_file():
        os.truncate(path, path.stat().st_size // 2)
    die()


MOMENTS = {"save_file": (before, after, torn), "fsync": (before, after, torn)}
BEFORE_OR_AFTER = (before, after)


def killed(work: Callable[[], object], act: Act) -> bool:
    """Do `work` in a forked process; whether it was killed over it."""
    child = os.fork()
    if child == 0:
        try:
            with intercepted(act):
                work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
