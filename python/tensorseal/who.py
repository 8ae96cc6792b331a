"""Who may have signed, for every `policy=`; and who signs, for every `signer=`.

Keys, certificates and policies of whoever may have signed are read when the object is made, and not again: what is
trusted cannot change under a running check. A copy in another process (they can be pickled) reads them there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from . import _log
from ._native import Signer as _NativeSigner
from ._native import Who as _NativeWho
from .errors import UsageError

#: A path, as all of Python takes one.
Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def path_of(path: Path) -> str:
    """A path as a string; bytes as the file system has them.

    Raises `UsageError` for what is no path, and for one that no file can have.
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise UsageError(f"a path is wanted, and this is of type {type(path).__name__}") from None
    if not text:
        raise UsageError("a path is wanted, and this is empty")
    if "\0" in text:
        raise UsageError("a path is wanted, and this holds a NUL")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise UsageError(f"a path is wanted, and the file system has none like {text!r}") from None
    return text


def paths_of(paths: Path | Iterable[Path]) -> list[str]:
    """Several paths; one alone is a list of one."""
    if isinstance(paths, str | bytes | os.PathLike):
        return [path_of(paths)]
    try:
        return [path_of(path) for path in paths]
    except TypeError:
        raise UsageError(f"paths are wanted, and this is of type {type(paths).__name__}") from None


def text_of(what: str, text: object) -> str | None:
    """An optional string. The message does not show it: it may be a password."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise UsageError(f"{what} is a string, and this is of type {type(text).__name__}")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"{what} is a string that holds half a character, which UTF-8 cannot have")
    return text


def flag_of(what: str, flag: object) -> bool:
    """A yes or a no, and nothing that merely counts as one: `"no"` would count as a yes."""
    if not isinstance(flag, bool):
        raise UsageError(f"{what} is True or False, and this is of type {type(flag).__name__}")
    return flag


class _Pickled:
    """By what it was made of, and never by what is in memory of it."""

    def __reduce__(self) -> tuple[Any, ...]:
        given = {of.name: getattr(self, of.name) for of in fields(self) if of.init}  # type: ignore[arg-type]
        return _make, (type(self), given)


def _make(of: type, given: dict[str, Any]) -> Any:
    return of(**given)


class Trusted(_Pickled):
    """Who may have signed: a `Key`, a `Certificate`, a `Sigstore` or a `Policy`."""

    _native: _NativeWho

    def _read(self, native: _NativeWho) -> None:
        object.__setattr__(self, "_native", native)
        _log.warn(native.warnings)


@dataclass(frozen=True)
class Key(Trusted):
    """The holder of a private key. `public_key` is the path of the public half, in PEM (EC P-256, P-384, P-521)."""

    public_key: Path

    def __post_init__(self) -> None:
        self._read(_NativeWho.key(path_of(self.public_key)))


def _names(names: str | Iterable[str]) -> list[str]:
    given = [names] if isinstance(names, str) else names
    try:
        found = [text_of("an identity", name) for name in given]
    except TypeError:
        raise UsageError(f"identities are strings, and this is of type {type(names).__name__}") from None
    if None in found:
        # Left out, it would not narrow down who is accepted.
        raise UsageError("identities are strings, and one of them is None")
    return [name for name in found if name is not None]


@dataclass(frozen=True)
class Certificate(Trusted):
    """The holder of a certificate under a root that is trusted.

    `chain` is a path, or several, of files of roots in PEM; others in them only help to find a way. `identities` are names
    of which the certificate must have one, such as `release@example.com` or `uri:https://..`; with none, any certificate
    under a root will do. `system_roots` trusts this machine's authorities, too, and wants names. `any_purpose` accepts
    certificates that are not for signing code. `timestamp_chain`: files of roots that are trusted for timestamps.
    """

    chain: Path | Iterable[Path] = ()
    identities: str | Iterable[str] = ()
    system_roots: bool = False
    any_purpose: bool = False
    timestamp_chain: Path | Iterable[Path] = ()
    judge_at_not_before: bool = False

    def __post_init__(self) -> None:
        # What can be read once only is kept as a list.
        names = _names(self.identities)
        object.__setattr__(self, "chain", tuple(paths_of(self.chain)))
        object.__setattr__(self, "identities", tuple(names))
        object.__setattr__(self, "timestamp_chain", tuple(paths_of(self.timestamp_chain)))
        self._read(
            _NativeWho.certificate(
                list(paths_of(self.chain)),
                identities=names,
                system_roots=flag_of("system_roots", self.system_roots),
                any_purpose=flag_of("any_purpose", self.any_purpose),
                timestamp_chain=list(paths_of(self.timestamp_chain)),
                judge_at_not_before=flag_of("judge_at_not_before", self.judge_at_not_before),
            )
        )


@dataclass(frozen=True, kw_only=True)
class Sigstore(Trusted):
    """Whoever was logged in under a name, as an OpenID Connect issuer vouched. No network is used.

    One of `identity` and `identity_regexp`, and one of `issuer` and `issuer_regexp`; an expression must match the whole.
    `staging` trusts Sigstore's staging instance, `trust_config` the instance that the file describes, in place of the
    public one.
    """

    identity: str | None = None
    issuer: str | None = None
    identity_regexp: str | None = None
    issuer_regexp: str | None = None
    staging: bool = False
    trust_config: Path | None = None

    def __post_init__(self) -> None:
        for what, one, other in (
            ("identity", self.identity, self.identity_regexp),
            ("issuer", self.issuer, self.issuer_regexp),
        ):
            if (one is None) == (other is None):
                raise UsageError(f"give {what} or {what}_regexp, one of the two")
        if flag_of("staging", self.staging) and self.trust_config is not None:
            raise UsageError("give staging or trust_config, not both")
        self._read(
            _NativeWho.sigstore(
                identity=text_of("identity", self.identity),
                issuer=text_of("issuer", self.issuer),
                identity_regexp=text_of("identity_regexp", self.identity_regexp),
                issuer_regexp=text_of("issuer_regexp", self.issuer_regexp),
                staging=self.staging,
                trust_config=None if self.trust_config is None else path_of(self.trust_config),
            )
        )


@dataclass(frozen=True)
class Policy(Trusted):
    """Whoever a policy file accepts for the model at hand (docs/policy.md). It may ask for several signatures."""

    path: Path

    def __post_init__(self) -> None:
        self._read(_NativeWho.policy(path_of(self.path)))


def trusted(policy: Trusted | Path) -> _NativeWho:
    """What the native part takes, of whatever `policy=` was given: a path is that of a policy file."""
    if isinstance(policy, Trusted):
        return policy._native
    if isinstance(policy, str | bytes | os.PathLike):
        return Policy(policy)._native
    raise UsageError(
        f"policy= takes a Key, a Certificate, a Sigstore, a Policy or the path of a policy file, not a {type(policy).__name__}"
    )


def _stamp(url: str | None, chain: Path | Iterable[Path]) -> tuple[str, ...]:
    """The roots of a timestamp: without one, whoever names roots would believe that there is one."""
    roots = tuple(paths_of(chain))
    if roots and url is None:
        raise UsageError("timestamp_chain is about a timestamp: give timestamp_url, too")
    return roots


class Signing(_Pickled):
    """Who signs: a `KeySigner`, a `CertificateSigner`, a `Pkcs11Signer` or a `SigstoreSigner`.

    A key is opened when something is signed with it, before any of that is hashed.
    """

    _native: _NativeSigner

    def _holds(self, native: _NativeSigner) -> None:
        object.__setattr__(self, "_native", native)


@dataclass(frozen=True)
class KeySigner(Signing):
    """The holder of a private key, in a PEM file; `password` opens it if it is encrypted. `timestamp_url` has the
    signature stamped by that RFC 3161 authority, which must lie under a root in `timestamp_chain` if there are any."""

    private_key: Path
    password: str | None = field(default=None, repr=False)
    timestamp_url: str | None = None
    timestamp_chain: Path | Iterable[Path] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "timestamp_chain", _stamp(self.timestamp_url, self.timestamp_chain))
        self._holds(
            _NativeSigner.key(
                path_of(self.private_key),
                password=text_of("password", self.password),
                timestamp_url=text_of("timestamp_url", self.timestamp_url),
                timestamp_chain=list(paths_of(self.timestamp_chain)),
            )
        )


@dataclass(frozen=True)
class CertificateSigner(Signing):
    """The holder of a certificate and its private key. `chain`: files of certificates between it and the root."""

    private_key: Path
    certificate: Path
    chain: Path | Iterable[Path] = ()
    password: str | None = field(default=None, repr=False)
    any_purpose: bool = False
    timestamp_url: str | None = None
    timestamp_chain: Path | Iterable[Path] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "chain", tuple(paths_of(self.chain)))
        object.__setattr__(self, "timestamp_chain", _stamp(self.timestamp_url, self.timestamp_chain))
        self._holds(
            _NativeSigner.certificate(
                path_of(self.private_key),
                path_of(self.certificate),
                chain=list(paths_of(self.chain)),
                password=text_of("password", self.password),
                any_purpose=flag_of("any_purpose", self.any_purpose),
                timestamp_url=text_of("timestamp_url", self.timestamp_url),
                timestamp_chain=list(paths_of(self.timestamp_chain)),
            )
        )


@dataclass(frozen=True)
class Pkcs11Signer(Signing):
    """A private key in a token or HSM, named by an RFC 7512 URI (docs/pkcs11.md). `modules`: the PKCS#11 module, or folders
    to look for the URI's `module-name` in. With `certificate`, that goes along."""

    uri: str = field(repr=False)
    pin: str | None = field(default=None, repr=False)
    modules: Path | Iterable[Path] = ()
    certificate: Path | None = None
    chain: Path | Iterable[Path] = ()
    any_purpose: bool = False
    timestamp_url: str | None = None
    timestamp_chain: Path | Iterable[Path] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", tuple(paths_of(self.modules)))
        object.__setattr__(self, "chain", tuple(paths_of(self.chain)))
        object.__setattr__(self, "timestamp_chain", _stamp(self.timestamp_url, self.timestamp_chain))
        uri = text_of("uri", self.uri)
        if uri is None:
            raise UsageError("uri is a string")
        if self.certificate is None and (self.chain or self.any_purpose):
            raise UsageError("chain and any_purpose are about a certificate: give certificate, too")
        self._holds(
            _NativeSigner.pkcs11(
                uri,
                modules=list(paths_of(self.modules)),
                pin=text_of("pin", self.pin),
                certificate=None if self.certificate is None else path_of(self.certificate),
                chain=list(paths_of(self.chain)),
                any_purpose=flag_of("any_purpose", self.any_purpose),
                timestamp_url=text_of("timestamp_url", self.timestamp_url),
                timestamp_chain=list(paths_of(self.timestamp_chain)),
            )
        )


@dataclass(frozen=True, kw_only=True)
class SigstoreSigner(Signing):
    """Whoever an identity token says: `token` itself, `token_file`, which is read again after hashing, or, with neither,
    that of the CI system or cloud that this machine belongs to. Logging in with a browser is for the program alone."""

    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    expect_identity: str | None = None
    staging: bool = False
    trust_config: Path | None = None
    #: Seconds that a server may take to answer.
    timeout: float | None = None

    def __post_init__(self) -> None:
        if flag_of("staging", self.staging) and self.trust_config is not None:
            raise UsageError("give staging or trust_config, not both")
        self._holds(
            _NativeSigner.sigstore(
                token=text_of("token", self.token),
                token_file=None if self.token_file is None else path_of(self.token_file),
                client_id=text_of("client_id", self.client_id),
                client_secret=text_of("client_secret", self.client_secret),
                identity=text_of("expect_identity", self.expect_identity),
                staging=self.staging,
                trust_config=None if self.trust_config is None else path_of(self.trust_config),
                timeout=None if self.timeout is None else float(self.timeout),
            )
        )


def signing(signer: Signing) -> _NativeSigner:
    """What the native part takes, of whatever `signer=` was given."""
    if isinstance(signer, Signing):
        return signer._native
    raise UsageError(
        "signer= takes a KeySigner, a CertificateSigner, a Pkcs11Signer or a SigstoreSigner, "
        f"not a {type(signer).__name__}"
    )
