"""What a verdict rests on, and what it leaves open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Identity:
    """Who signed: `method` is `key`, `certificate` or `sigstore`; `fields` are those of docs/json.md for it."""

    method: str
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """The one name of it: a key's fingerprint, a certificate's subject, or the Sigstore identity."""
        of = {"key": "fingerprint", "certificate": "subject", "sigstore": "identity"}[self.method]
        return str(self.fields[of])

    def __str__(self) -> str:
        if self.method == "sigstore":
            return f"{self.name!r} (issuer {self.fields['issuer']!r})"
        if self.method == "certificate":
            return f"{self.name!r} ({self.fields['fingerprint']}), under {self.fields['root']!r}"
        return f"key {self.name} ({self.fields['curve']})"


@dataclass(frozen=True)
class Report:
    """What was verified of a model, and what was not. Made by `verify`; one in a `VerifyError` led to a no.

    Digests are `algorithm:hex`; `bytes` were read from `files`, in `elapsed` seconds.
    """

    model: str
    identity: Identity
    #: The signed root digest.
    root: str
    resources: int
    files: int
    bytes: int
    elapsed: float
    #: Algorithm -> device that it was computed on: what every resource that has such a digest was compared by.
    checked: dict[str, str]
    #: Algorithms of signed digests that were not looked at.
    not_checked: list[str]
    #: Files under ignored paths: nothing is known of these.
    ignored: list[str]
    #: Files that are not signed, where that is tolerated.
    unsigned: list[str]
    #: Empty files, which shards do not cover.
    not_covered: list[str]
    #: Whatever else should be known, for people.
    notes: list[str]
    _fields: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Report:
        """Of a report as `tensorseal verify --json` prints it."""
        return cls(
            model=fields.get("model", ""),
            identity=Identity(fields["method"], fields["identity"]),
            root=fields["root"],
            resources=fields["resources"],
            files=fields["files"],
            bytes=fields["bytes"],
            elapsed=fields["seconds"],
            checked={of["algorithm"]: of["device"] for of in fields["checked"]},
            not_checked=fields["not_checked"],
            ignored=[of["name"] for of in fields["ignored"]],
            unsigned=fields["unsigned"],
            not_covered=fields["not_covered"],
            notes=fields["notes"],
            _fields=fields,
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole report, as `tensorseal verify --json` prints it (docs/json.md)."""
        return dict(self._fields)


@dataclass(frozen=True)
class Signed:
    """What was signed, and where the signature is. Digests are `algorithm:hex`; sizes are bytes, times seconds."""

    model: str
    bundle: str
    root: str
    resources: int
    files: int
    bytes: int
    elapsed: float
    #: Algorithms of the signed digests.
    algorithms: list[str]
    #: Path of the tensor manifest that was signed with it, if one was.
    tensor_manifest: str | None
    #: Whatever should be known, for people; also who cannot verify this signature.
    notes: list[str]
    _fields: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Signed:
        """Of a report as `tensorseal sign --json` prints it."""
        tensors = fields.get("tensor_manifest")
        # What the program tells people, and not machines.
        warnings = fields.pop("warnings", [])
        return cls(
            model=fields["model"],
            bundle=fields["signature"],
            root=fields["root"],
            resources=fields["resources"],
            files=fields["files"],
            bytes=fields["bytes"],
            elapsed=fields["seconds"],
            algorithms=fields["algorithms"],
            tensor_manifest=None if tensors is None else tensors["path"],
            notes=[*fields["notes"], *warnings, *fields["cannot_be_verified_by"]],
            _fields=fields,
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole report, as `tensorseal sign --json` prints it."""
        return dict(self._fields)


@dataclass(frozen=True)
class ModelDigest:
    """Digests of a model's files on disk, of no signature. Digests are `algorithm:hex`; sizes are bytes, times seconds."""

    model: str
    #: SHA-256 over the digests of all resources, as signatures have it.
    root: str
    #: Name in the model -> digest; with `shards`, `name:first:end` -> digest.
    files: dict[str, str]
    bytes: int
    elapsed: float
    notes: list[str]
    _fields: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> ModelDigest:
        """Of a report as `tensorseal digest --json` prints it."""
        return cls(
            model=fields["model"],
            root=fields["root"],
            files={of["name"]: of["digest"] for of in fields["digests"]},
            bytes=fields["bytes"],
            elapsed=fields["seconds"],
            notes=fields["notes"],
            _fields=fields,
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole report, as `tensorseal digest --json` prints it."""
        return dict(self._fields)
