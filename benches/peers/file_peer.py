#!/usr/bin/env python3
"""What peers do that are libraries of Python, not programs: `file_peer.py digest sha256 FILE`, `hf-xet FILE..`, `sign blake3 ..`.

The digests print their seconds as JSON: imports are not timed. Signing and verifying are timed as whole processes, as those of the
program `model_signing` are, which has no option for BLAKE3.
"""

import hashlib
import json
import os
import resource
import sys
import time
from pathlib import Path


def cpu() -> float:
    # Not os.times: its ticks are 10 ms.
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(work):
    begun, before = time.perf_counter(), cpu()
    answer = work()
    return answer, {"seconds": time.perf_counter() - begun, "cpu": cpu() - before}


def of_all(digests: dict[str, str]) -> str:
    """The digest itself if there is one, else one over lines as `sha256sum` prints them, sorted by path."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def model_signing_digest(algorithm: str, path: str) -> None:
    from model_signing import hashing

    config = hashing.Config().use_file_serialization(hashing_algorithm=algorithm)
    manifest, result = timed(lambda: config.hash(path))
    digests = {item.identifier: item.digest.digest_hex for item in manifest.resource_descriptors()}
    print(json.dumps({**result, "digest": of_all(digests)}))


def hf_xet(path: str) -> None:
    import hf_xet

    folder = Path(path)
    files = [path] if folder.is_file() else sorted(str(file) for file in folder.rglob("*") if file.is_file())
    answers, result = timed(lambda: hf_xet.hash_files(files))
    # What else would say that it has read all of them?
    sizes = [answer.file_size for answer in answers]
    if sizes != [os.path.getsize(file) for file in files]:
        raise SystemExit("hf_xet has hashed other files")
    print(json.dumps({**result, "digest": of_all(dict(zip(files, (answer.hash for answer in answers), strict=True)))}))


def sign(algorithm: str, model: str, key: str, signature: str) -> None:
    from model_signing import hashing, signing

    config = hashing.Config().use_file_serialization(hashing_algorithm=algorithm)
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(config).sign(model, signature)
    print("Signing succeeded")


def verify(model: str, key: str, signature: str) -> None:
    from model_signing import verifying

    verifying.Config().use_elliptic_key_verifier(public_key=key).verify(model, signature)
    print("Verification succeeded")


WORK = {"digest": model_signing_digest, "hf-xet": hf_xet, "sign": sign, "verify": verify}

if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])
