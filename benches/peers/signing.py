"""Signatures: models signed and verified, by us and by others, and each accepted by the other side."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import install
from cases import MIB, OURS, Disagreement, Group, Here, Missing, Row, says
from files import MEMORY, PEER, Cases, digest_case, in_parallel, our_digest, python_peer
from measure import spawn


class Signed:
    """Signing and verifying one model, beside `model_signing`. Each signature is accepted by the other side; both verify the same."""

    def __init__(self, cases: Cases, path: Path) -> None:
        self.cases, self.here, self.model = cases, cases.here, path
        self.python: str | None = None
        try:
            self.python = python_peer(cases, "model_signing")
        except Missing as why:
            self.here.skip("model_signing", f"signing {path.name}", why)

    def at(self, name: str) -> Path:
        return self.here.work / f"{self.cases.group}-{name}.sig"

    def our_sign(self, signature: Path, *more: object) -> list[object]:
        return [self.here.binary, "sign", "key", self.model, "--private-key", self.here.private, "--signature", signature, *more]

    def our_verify(self, signature: Path, *more: object) -> list[object]:
        return [self.here.binary, "verify", "key", self.model, "--signature", signature, "--public-key", self.here.public, *more]

    def python_sign(self, algorithm: str, signature: Path) -> list[object]:
        if algorithm != "sha256":
            return [self.python, PEER, "sign", algorithm, self.model, self.here.private, signature]
        # model-signing 1.1.1 knows its flags with underscores only.
        key = ["--private_key", self.here.private, "--signature", signature]
        return [self.python, "-m", "model_signing", "sign", "key", self.model, *key]

    def python_verify(self, algorithm: str, signature: Path) -> list[object]:
        if algorithm != "sha256":
            return [self.python, PEER, "verify", self.model, self.here.public, signature]
        key = ["--public_key", self.here.public, "--signature", signature]
        return [self.python, "-m", "model_signing", "verify", "key", self.model, *key]

    def run(self, argv: list[object]) -> str:
        return spawn([str(word) for word in argv], self.here.work)[1]

    def accepted(self, verify: list[object]) -> Callable[[str], None]:
        """A check: this command accepts the signature."""

        def check(stdout: str) -> None:
            says("Signing succeeded")(stdout)
            says("Verification succeeded")(self.run(verify))

        return check

    def accepted_once(self, signature: Path, verify: list[object]) -> Callable[[str], None]:
        """A check of a signature of ours: the other program accepts it in round 0. It takes seconds to say so: in later rounds the
        signed statement is the same, and we accept the signature."""
        statement: list[bytes] = []
        first, again = self.accepted(verify), self.accepted(self.our_verify(signature))

        def check(stdout: str) -> None:
            (again if statement else first)(stdout)
            signed = base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"])
            if statement and statement[0] != signed:
                raise Disagreement(f"{signature.name}: another statement than in round 0")
            statement[:] = [signed]

        return check

    def rows(self, algorithm: str, what: str, *, within: float | None = None, amount: int = 0, more: bool = True) -> list[Row]:
        """A row for signing and one for verifying."""
        cases, reads = self.cases, (self.model,)
        hashed = ["--hash", algorithm] if algorithm != "sha256" else []
        words = " ".join(hashed)
        ours, one = self.at(f"ours-{algorithm}"), self.at(f"one-{algorithm}")
        verify = self.python_verify(algorithm, ours) if self.python else self.our_verify(ours)
        sign = cases.add(
            f"sign-{algorithm}", f"sign key {words}".strip(), OURS, self.our_sign(ours, *hashed),
            self.accepted_once(ours, verify), reads=reads, output=ours,
        )  # fmt: skip
        also: tuple[str, ...] = ()
        if more:
            also = (cases.add(
                f"sign-one-{algorithm}", f"sign key {words} --no-annotations".replace("  ", " "), OURS,
                self.our_sign(one, *hashed, "--no-annotations"), self.accepted(self.our_verify(one)), reads=reads, output=one,
            ),)  # fmt: skip
        signing: tuple[str, ...] = ()
        # Both sides verify what Python has signed.
        given, by = self.at(f"given-{algorithm}"), self.our_sign
        if self.python:
            theirs = self.at(f"python-{algorithm}")
            label = "model_signing sign" if algorithm == "sha256" else f"model_signing.signing, {algorithm}"
            signing = (cases.add(
                f"sign-python-{algorithm}", label, "model_signing", self.python_sign(algorithm, theirs),
                self.accepted(self.our_verify(theirs)), reads=reads, output=theirs,
            ),)  # fmt: skip
            self.run(self.python_sign(algorithm, given))
        else:
            self.run(by(given, *hashed))
        accepted = says("Verification succeeded")
        checked = cases.add(f"verify-{algorithm}", f"verify key ({algorithm})", OURS, self.our_verify(given), accepted, reads=reads)
        verifying: tuple[str, ...] = ()
        if self.python:
            label = "model_signing verify" if algorithm == "sha256" else f"model_signing.verifying, {algorithm}"
            argv = self.python_verify(algorithm, given)
            verifying = (cases.add(f"verify-python-{algorithm}", label, "model_signing", argv, accepted, reads=reads),)
        own: tuple[str, ...] = ()
        if more and algorithm == "sha256":
            # Our bundles have BLAKE3 digests beside the SHA-256 ones: what those are for.
            twice = self.at("twice")
            self.run(self.our_sign(twice))
            argv = self.our_verify(twice, "--digest", "blake3")
            own = (cases.add("verify-own", "verify key --digest blake3, a bundle of ours", OURS, argv, accepted, reads=reads),)
        group, name = cases.group, {"sha256": "SHA-256", "blake3": "BLAKE3"}[algorithm]
        limits: dict[str, Any] = {"within": within, "amount": amount, "memory": MEMORY}
        return [
            Row(f"{group}-sign-{algorithm}", f"Sign {what}, {name}", sign, signing, also=also, **limits),
            Row(f"{group}-verify-{algorithm}", f"Verify {what}, {name}", checked, verifying, also=own, **limits),
        ]


def mixed(here: Here) -> Group:
    count = 300 if here.quick else 50_000
    folder, cases = data.mixed_files(here.work, count), Cases(here, "mixed-50k")
    amount = data.bytes_in(folder)
    ours = our_digest(cases, "blake3", folder)
    beside = digest_case(cases, "blake3", folder, "b3sum", threads=here.threads) + in_parallel(cases, folder)
    rows = [Row("mixed-50k-digest-blake3", "BLAKE3 of 50,000 mixed files", ours, beside, amount=amount, memory=None)]
    rows += Signed(cases, folder).rows("sha256", "50,000 mixed files", more=False)
    for row in rows:
        row.memory = None
    about = (
        "50,000 files in 100 folders, in the page cache: as many of 20 to 200 B as of 2 to 20 kB. Signatures are P-256. Each side's signature "
        "is accepted by the other, and both verify the same one, which `model_signing` has made. Lists of 50,000 names and digests, and the "
        "statement over them, take memory on all sides."
    )
    return Group("mixed-50k", "50,000 mixed files", about, cases.made, rows, seconds=90, rounds=(3, 7))


def ten(here: Here) -> Group:
    folder, cases = data.ten_files(here.work), Cases(here, "ten")
    signed = Signed(cases, folder)
    rows = signed.rows("sha256", "a model of ten files", within=0.006, more=False) + signed.rows("blake3", "a model of ten files", more=False)
    ours = our_digest(cases, "blake3", folder)
    beside = digest_case(cases, "blake3", folder, "b3sum", threads=here.threads)
    rows.append(Row("ten-digest-blake3", "BLAKE3 of ten files", ours, beside))
    for row in rows:
        row.memory = None
    about = (
        "Ten files of 1 to 10 kB, in the page cache: what it takes to start. What is timed is the whole process, with the start of Python and its "
        "imports where the program is one of Python."
    )
    return Group("ten", "A model of ten files", about, cases.made, rows, seconds=25, rounds=(7, 15))


def model(here: Here) -> Group:
    folder, cases = data.model(here.work, here.size(1536 * MIB)), Cases(here, "model-1g5")
    amount, signed = data.bytes_in(folder), Signed(cases, folder)
    rows = signed.rows("sha256", "a model of 1.5 GiB", amount=amount) + signed.rows("blake3", "a model of 1.5 GiB", amount=amount)
    rows[0].unlike = openssl_sign(cases, folder / "model.safetensors")
    rows[1].unlike = openssl_verify(cases, folder / "model.safetensors")
    about = (
        "A folder with one safetensors file of 1.5 GiB, in the page cache, and a P-256 key. Each side's signature is accepted by the other, and "
        "both verify the same one, which `model_signing` has made. `sign key` takes SHA-256 and BLAKE3 in one pass, so that whoever has the bundle "
        "may check either; with `--no-annotations` only what OMS asks for. `model_signing` has BLAKE3 in its library alone. `openssl dgst -sign` "
        "signs the bytes of one file: no names, no list of files, and no statement that another implementation of OMS reads."
    )
    return Group("model-1g5", "Sign and verify a model of 1.5 GiB", about, cases.made, rows, seconds=75, rounds=(4, 9))


def openssl_sign(cases: Cases, file: Path) -> tuple[str, ...]:
    here, signature = cases.here, cases.here.work / "openssl.sig"

    def make() -> str:
        program = install.openssl()

        def check(stdout: str) -> None:
            argv = [program, "dgst", "-sha256", "-verify", str(here.public), "-signature", str(signature), str(file)]
            says("Verified OK")(spawn(argv, here.work)[1])

        argv = [program, "dgst", "-sha256", "-sign", here.private, "-out", signature, file]
        return cases.add("sign-openssl", "openssl dgst -sha256 -sign", "openssl", argv, check, reads=(file,), output=signature)

    return cases.peer("signing one file", "openssl", make)


def openssl_verify(cases: Cases, file: Path) -> tuple[str, ...]:
    here, signature = cases.here, cases.here.work / "openssl-given.sig"

    def make() -> str:
        program = install.openssl()
        spawn([program, "dgst", "-sha256", "-sign", str(here.private), "-out", str(signature), str(file)], here.work)
        argv = [program, "dgst", "-sha256", "-verify", here.public, "-signature", signature, file]
        return cases.add("verify-openssl", "openssl dgst -sha256 -verify", "openssl", argv, says("Verified OK"), reads=(file,))

    return cases.peer("verifying one file", "openssl", make)


MAKERS: dict[str, Callable[[Here], list[Group]]] = {
    "mixed-50k": lambda here: [mixed(here)],
    "ten": lambda here: [ten(here)],
    "model-1g5": lambda here: [model(here)],
}
