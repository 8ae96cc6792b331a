"""The TUF repositories of the private Sigstore: one that clients should believe, and others that they should not."""

import datetime

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

ROLES = ("root", "targets", "snapshot", "timestamp")


def write(folder, targets, *, days=30, after=None):
    """Makes a repository in `folder` that hands out the files `targets` (name to bytes), and returns its root's signer.

    Its metadata expires in `days`, which may lie in the past. With `after`, the signer of another repository's root,
    this one's root is version 2 of that one's, so that clients of that one follow it here.
    """
    expires = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=days)
    signers = {role: CryptoSigner.generate_ed25519() for role in ROLES}
    (folder / "targets").mkdir(parents=True)

    # The root itself never expires here: what has expired is what the test is about.
    lasting = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=365)
    root = Root(expires=lasting, consistent_snapshot=True, version=2 if after else 1)
    for role in ROLES:
        root.add_key(signers[role].public_key, role)

    files = {}
    for name, content in targets.items():
        files[name] = TargetFile.from_data(name, content, ["sha256"])
        digest = files[name].hashes["sha256"]
        (folder / "targets" / f"{digest}.{name}").write_bytes(content)
    signed = {
        "root": root,
        "targets": Targets(expires=expires, targets=files),
        "snapshot": Snapshot(expires=expires, meta={"targets.json": MetaFile(1)}),
        "timestamp": Timestamp(expires=expires, snapshot_meta=MetaFile(1)),
    }
    for role, content in signed.items():
        metadata = Metadata(content)
        metadata.sign(signers[role])
        if role == "root" and after:
            metadata.sign(after, append=True)
        name = f"{role}.json" if role == "timestamp" else f"{content.version}.{role}.json"
        metadata.to_file(str(folder / name))
    return signers["root"]
