"""What this package has to say goes through Python's `logging`, under the name `tensorseal`."""

from __future__ import annotations

from collections.abc import Iterable


def warn(texts: Iterable[str]) -> None:
    """Something to be known that changes no verdict. `logging` is imported only if there is something to say."""
    for text in texts:
        import logging

        logging.getLogger("tensorseal").warning("%s", text)


def info(text: str, *arguments: object) -> None:
    """The story, for who follows it: beginnings and ends."""
    import logging

    logging.getLogger("tensorseal").info(text, *arguments)
