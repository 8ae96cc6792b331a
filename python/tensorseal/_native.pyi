"""The native part. Private: the package's modules give it a face."""

from collections.abc import Callable, Sequence
from typing import Any, final

__version__: str

# ---- who.rs, verbs.rs: the verbs -----------------------------------------------------------------------------------

@final
class Who:
    """Whom a caller trusts; read once."""

    @staticmethod
    def key(public_key: str) -> Who: ...
    @staticmethod
    def certificate(
        chain: Sequence[str],
        *,
        identities: Sequence[str],
        system_roots: bool,
        any_purpose: bool,
        timestamp_chain: Sequence[str],
        judge_at_not_before: bool,
    ) -> Who: ...
    @staticmethod
    def sigstore(
        *,
        identity: str | None,
        issuer: str | None,
        identity_regexp: str | None,
        issuer_regexp: str | None,
        staging: bool,
        trust_config: str | None,
    ) -> Who: ...
    @staticmethod
    def policy(path: str) -> Who: ...
    @property
    def warnings(self) -> list[str]: ...
    @property
    def is_policy(self) -> bool: ...

@final
class Signer:
    """Who signs; opened for each signature."""

    @staticmethod
    def key(
        private_key: str, *, password: str | None, timestamp_url: str | None, timestamp_chain: Sequence[str]
    ) -> Signer: ...
    @staticmethod
    def certificate(
        private_key: str,
        certificate: str,
        *,
        chain: Sequence[str],
        password: str | None,
        any_purpose: bool,
        timestamp_url: str | None,
        timestamp_chain: Sequence[str],
    ) -> Signer: ...
    @staticmethod
    def pkcs11(
        uri: str,
        *,
        modules: Sequence[str],
        pin: str | None,
        certificate: str | None,
        chain: Sequence[str],
        any_purpose: bool,
        timestamp_url: str | None,
        timestamp_chain: Sequence[str],
    ) -> Signer: ...
    @staticmethod
    def sigstore(
        *,
        token: str | None,
        token_file: str | None,
        client_id: str | None,
        client_secret: str | None,
        identity: str | None,
        staging: bool,
        trust_config: str | None,
        timeout: float | None,
    ) -> Signer: ...

def verify(
    model: str,
    bundles: Sequence[str],
    who: Who,
    *,
    digests: str,
    strict: bool,
    ignore_unsigned: bool,
    ignore: Sequence[str],
    allow_ignored: Sequence[str],
    symlinks: str,
    git: str,
    tensors: str | None,
    outboard: str | None,
    max_bundle: int | None,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> dict[str, Any]: ...
def sign(
    model: str,
    bundle: str,
    signer: Signer,
    *,
    hash: str,
    shards: int | None,
    shards_compat: bool,
    annotations: bool,
    tensors: bool,
    tensors_out: str | None,
    outboard: str | None,
    ignore: Sequence[str],
    symlinks: str,
    git: str,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> dict[str, Any]: ...
def digest(
    model: str,
    *,
    hash: str,
    shards: int | None,
    ignore: Sequence[str],
    symlinks: str,
    git: str,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> dict[str, Any]: ...
