"""What the tests of engines share: the fakes in `fakes/`, and how they are held to what was recorded."""

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FAKES = Path(__file__).with_name("fakes")


@contextmanager
def faked(engine: str, ours: str) -> Iterator[None]:
    """The fake of an engine can be imported, and is gone afterwards; so are our modules that have seen it."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == engine or name.startswith(ours)]:
            del sys.modules[name]

    forget()
    sys.path.insert(0, str(FAKES))
    try:
        yield
    finally:
        sys.path.remove(str(FAKES))
        forget()


def found(target: str) -> Any:
    """`package.module:Class.name`."""
    module, path = target.split(":")
    value = importlib.import_module(module)
    for name in path.split("."):
        value = getattr(value, name)
    return value


def signature(target: str) -> str:
    """Names, kinds and defaults, without types."""
    given = inspect.signature(found(target))
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in given.parameters.values()]
    return str(given.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def differing(recorded: Mapping[str, str]) -> dict[str, str]:
    """Which signatures are not the recorded ones."""
    found = {target: signature(target) for target in recorded}
    return {target: text for target, text in found.items() if text != recorded[target]}
