"""The three ways in which a call ends without a yes.

`VerifyError` says that the answer is no. `NoAnswerError` and `UsageError` say that there is none: treat them as a no.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .report import Report


@dataclass(frozen=True)
class Difference:
    """One way in which a file, or a shard of one, is not what was signed.

    `kind` is `changed`, `resized` (another length, so not read), `missing`, `unsigned`, `miscopied` (memory is not what was
    read), `miswritten` (a file is not what was in memory) or `not-measured`. More may be added: any is a no. Digests are `algorithm:hex`, sizes are bytes. `ranges` are
    the places in the file that differ, as (first byte, first byte that is no longer in it), where an outboard said so.
    """

    name: str
    kind: str
    expected: str | None = None
    found: str | None = None
    expected_size: int | None = None
    found_size: int | None = None
    ranges: tuple[tuple[int, int], ...] = ()


class TensorsealError(Exception):
    """Whatever this package raises. Its text is for people; `kind` is stable, one of those in docs/json.md."""

    kind: str
    #: The report as `tensorseal --json` prints it, where a call of the native part failed; else empty.
    fields: dict[str, Any]

    _KIND = "other"

    def __init__(self, message: str, *, kind: str | None = None, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = self._KIND if kind is None else kind
        self.fields = dict(fields or {})

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is made: processes that load in parallel hand exceptions to one another.
        return type(self), self.args, self.__dict__

    @classmethod
    def _of_report(cls, fields: dict[str, Any]) -> TensorsealError:
        """Of a report of the native part."""
        error = fields["error"]
        return cls(error["message"], kind=error["kind"], fields=fields)


class VerifyError(TensorsealError):
    """The answer is no: this is not what was signed, or not by whom it should have been.

    `differences` lists each file that differs, where that is the reason. `report` is what was checked on the way, where
    it came to that.
    """

    differences: list[Difference]
    report: Report | None

    _KIND = "refused"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        differences: Iterable[Difference] = (),
        report: Report | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, kind=kind, fields=fields)
        self.differences = list(differences)
        self.report = report

    @classmethod
    def _of_report(cls, fields: dict[str, Any]) -> VerifyError:
        from .report import Report

        error = fields["error"]
        return cls(
            error["message"],
            kind=error["kind"],
            differences=_differences(fields),
            # Without a root there was no model to compare: the signature was refused.
            report=Report.of(fields) if "root" in fields else None,
            fields=fields,
        )


class NoAnswerError(TensorsealError):
    """There is no answer: something is missing, unreadable, changing, or cannot be done here. Treat it as a no."""


class UsageError(TensorsealError, ValueError):
    """What was asked for makes no sense, whatever the files are."""

    _KIND = "usage"


def _differences(fields: dict[str, Any]) -> list[Difference]:
    places = {
        of["file"]: tuple((place["start"], place["end"]) for place in of["places"]) for of in fields.get("located", ())
    }
    return [
        Difference(
            name=of["name"],
            kind=of["kind"],
            expected=of.get("expected"),
            found=of.get("found"),
            expected_size=of.get("expected_size"),
            found_size=of.get("found_size"),
            ranges=places.get(of["name"]) or tuple((start, end) for start, end in of.get("ranges", ())),
        )
        for of in fields.get("differences", ())
    ]
