"""What `run` runs while the private Sigstore is up: signs, verifies, and shows each refusal with its words.

The transcript has each command, what it printed and its exit status. What sigstore-python says of the same bundle with
the same trust root stands beside our answer: where it accepts what we refuse, the transcript says so.
"""

import argparse
import base64
import copy
import datetime
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import urllib.request

WORK = pathlib.Path(os.environ["TENSORSEAL_SIGSTORE_WORK"])
ISSUER = os.environ["TENSORSEAL_SIGSTORE_ISSUER"]
SECOND_ISSUER = os.environ["TENSORSEAL_SIGSTORE_SECOND_ISSUER"]
TUF = os.environ["TENSORSEAL_SIGSTORE_TUF"]
TENSORSEAL = os.environ["TENSORSEAL_BIN"]
PYTHON = pathlib.Path(os.environ["TENSORSEAL_PYTHON"])
HERE = pathlib.Path(__file__).resolve().parent
EMAIL = "a@example.com"
NO, NO_ANSWER = 1, 3

OFFLINE = ["unshare", "-rn"]
if subprocess.run([*OFFLINE, "true"], capture_output=True).returncode != 0:
    OFFLINE = []


# ---- the transcript --------------------------------------------------------------------------------------------------


class Transcript:
    """Runs commands, compares their answers with what is expected, and writes both down."""

    def __init__(self, file):
        self.file = file
        self.passed = self.failed = self.skipped = 0

    def write(self, text=""):
        for sink in (sys.stdout, self.file):
            if sink:
                print(text, file=sink, flush=True)

    def heading(self, text):
        self.write(f"\n## {text}")

    def shorten(self, text):
        """The same text with the names of this run's folder and programs left out."""
        for long, short in ((str(PYTHON.parent) + "/", ""), (TENSORSEAL, "tensorseal"), (str(WORK), "WORK")):
            text = text.replace(long, short)
        return re.sub(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN", text)

    def check(self, name, command, *, status=0, words=(), beside=None, env=None, absent=None, person=None):
        """Runs `command`: it has to end with `status` and to print each of the regular expressions `words`.

        `absent` is a file that it must not leave. `person` reads what it prints and may answer on its standard input.
        """
        # No settings, caches or credentials of whoever runs this: neither read nor written.
        own = {"HOME": str(WORK / "home"), "XDG_CACHE_HOME": str(WORK / "home" / "cache"), "GITHUB_ACTIONS": ""}
        with subprocess.Popen(
            list(map(str, command)), env=os.environ | own | (env or {}), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            printed = person(process) if person else ""
            printed += process.communicate(timeout=120)[0]
        # Messages are wrapped nowhere, but their parts may stand on several lines.
        flat = " ".join(printed.split())
        faults = [f"exit status {status} was expected"] * (process.returncode != status)
        if absent and absent.exists():
            faults.append(f"{absent.name} was written")
        faults += [f"no {word!r} in it" for word in words if not re.search(word, flat)]
        self.write(f"\n### {name}\n")
        shown = " ".join([f"{key}=.." for key in env or {}] + list(map(str, command)))
        self.write("    $ " + self.shorten(shown))
        for line in self.shorten(printed).splitlines():
            self.write("    " + line.rstrip())
        self.write(f"    exit status {process.returncode}")
        if beside:
            self.write(f"    (sigstore-python: {self.shorten(beside)})")
        self.note(faults)

    def note(self, faults):
        for fault in faults:
            self.write(f"    UNEXPECTED: {fault}")
        if faults:
            self.failed += 1
        else:
            self.passed += 1

    def skip(self, name, why):
        if os.environ.get("TENSORSEAL_REQUIRE_PEERS"):
            self.write(f"\n### {name}\n")
            self.note([f"cannot be checked: {why}"])
        else:
            self.write(f"\n### {name}: skipped, {why}")
            self.skipped += 1


# ---- the commands ----------------------------------------------------------------------------------------------------


def token(name, *options):
    """A file with a new token of the issuer."""
    file = WORK / f"{name}.token"
    done = subprocess.run([HERE / "token", *options], check=True, capture_output=True, text=True)
    file.write_text(done.stdout)
    file.chmod(0o600)
    return file


def sign(model, signature, config, *how):
    return [TENSORSEAL, "sign", "sigstore", model, "--signature", signature, "--trust-config", WORK / config, *how]


def with_token(file):
    return ["--identity-token-file", file]


def verify(model, signature, root="trusted_root.json", *, identity=EMAIL, issuer=ISSUER, offline=True):
    command = [TENSORSEAL, "verify", "sigstore", model, "--signature", signature, "--identity", identity,
               "--identity-provider", issuer]  # fmt: skip
    return (OFFLINE if offline else []) + command + (["--trust-config", WORK / root] if root else [])


def python_sign(model, signature, config, token_text):
    return [PYTHON.parent / "model_signing", "sign", "sigstore", model, "--signature", signature,
            "--trust_config", WORK / config, "--identity_token", token_text]  # fmt: skip


def python_verify(model, signature, config):
    return [PYTHON.parent / "model_signing", "verify", "sigstore", model, "--signature", signature,
            "--trust_config", WORK / config, "--identity", EMAIL, "--identity_provider", ISSUER]  # fmt: skip


def python_says(bundle, root, identity, issuer):
    """The answer of sigstore-python, in its own words."""
    import sigstore.models
    from sigstore.verify import Verifier, policy

    try:
        trusted = sigstore.models.TrustedRoot.from_file(str(root))
        read = sigstore.models.Bundle.from_json(bundle.read_text())
        Verifier(trusted_root=trusted).verify_dsse(read, policy.Identity(identity=identity, issuer=issuer))
    except Exception as error:  # Whatever it raises is its answer.
        return f"refuses: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "ACCEPTS"


# ---- what is changed -------------------------------------------------------------------------------------------------


def flip(text, at=-5):
    """Base64 text with one bit of its bytes changed."""
    raw = bytearray(base64.b64decode(text))
    raw[at] ^= 1
    return base64.b64encode(raw).decode()


def entry(bundle):
    return bundle["verificationMaterial"]["tlogEntries"][0]


def timestamps(bundle):
    return bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]


def alter_entry(bundle, _):
    """The logged body names another digest; it is JSON as before."""
    body = base64.b64decode(entry(bundle)["canonicalizedBody"]).decode()
    at = re.search(r'"(?:digest|value)":"(.)', body).start(1)
    body = body[:at] + ("A" if body[at] != "A" else "B") + body[at + 1 :]
    entry(bundle)["canonicalizedBody"] = base64.b64encode(body.encode()).decode()


def other_entry(bundle, other):
    """The entry, proof and all, of another signature."""
    bundle["verificationMaterial"]["tlogEntries"] = copy.deepcopy(other["verificationMaterial"]["tlogEntries"])


def checkpoint_root(bundle, _):
    """The checkpoint states another root hash."""
    checkpoint = entry(bundle)["inclusionProof"]["checkpoint"]
    lines = checkpoint["envelope"].split("\n")
    lines[2] = flip(lines[2])
    checkpoint["envelope"] = "\n".join(lines)


def checkpoint_signature(bundle, _):
    checkpoint = entry(bundle)["inclusionProof"]["checkpoint"]
    text, signature = checkpoint["envelope"].rstrip("\n").rsplit(" ", 1)
    checkpoint["envelope"] = f"{text} {flip(signature)}\n"


def drop_checkpoint(bundle, _):
    del entry(bundle)["inclusionProof"]["checkpoint"]


def drop_proof(bundle, _):
    del entry(bundle)["inclusionProof"]


def alter_proof(bundle, _):
    hashes = entry(bundle)["inclusionProof"]["hashes"]
    hashes[0] = flip(hashes[0])


def drop_entry(bundle, _):
    bundle["verificationMaterial"]["tlogEntries"] = []


def drop_timestamps(bundle, _):
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": []}


def claim_time(bundle, _):
    """No timestamp, but a log time that nobody signed."""
    drop_timestamps(bundle, None)
    entry(bundle)["integratedTime"] = str(int(datetime.datetime.now().timestamp()))


def alter_timestamp(bundle, _):
    timestamps(bundle)[0]["signedTimestamp"] = flip(timestamps(bundle)[0]["signedTimestamp"])


def other_timestamp(bundle, other):
    timestamps(bundle)[0] = copy.deepcopy(timestamps(other)[0])


def drop_promise(bundle, _):
    del entry(bundle)["inclusionPromise"]


def alter_promise(bundle, _):
    promise = entry(bundle)["inclusionPromise"]
    promise["signedEntryTimestamp"] = flip(promise["signedEntryTimestamp"])


def alter_time(bundle, _):
    entry(bundle)["integratedTime"] = str(int(entry(bundle)["integratedTime"]) + 1)


def alter_signature(bundle, _):
    signatures = bundle["dsseEnvelope"]["signatures"]
    signatures[0]["sig"] = flip(signatures[0]["sig"])


def alter_certificate(bundle, _):
    certificate = bundle["verificationMaterial"]["certificate"]
    certificate["rawBytes"] = flip(certificate["rawBytes"])


def other_certificate(bundle, other):
    """The certificate of the same signer, but for another key."""
    bundle["verificationMaterial"]["certificate"] = copy.deepcopy(other["verificationMaterial"]["certificate"])


def late_timestamp(bundle, _):
    """A timestamp by the trusted authority's own key, an hour after the certificate has expired."""
    folder = WORK / "late"
    folder.mkdir()
    keys = WORK / "keys"
    (folder / "serial").write_text("01\n")
    (folder / "openssl.cnf").write_text(
        f"[late]\nserial={folder}/serial\nsigner_cert={keys}/tsa.pem\ncerts={keys}/tsa-root.pem\n"
        f"signer_key={keys}/tsa.key\ndefault_policy=1.3.6.1.4.1.57264.2\nsigner_digest=sha256\ndigests=sha256\n"
        "ess_cert_id_alg=sha256\n"
    )
    (folder / "data").write_bytes(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    query = ["openssl", "ts", "-query", "-data", folder / "data", "-sha256", "-cert", "-out", folder / "query"]
    subprocess.run(query, check=True, capture_output=True)
    reply = ["faketime", "+1 hour", "openssl", "ts", "-reply", "-config", folder / "openssl.cnf", "-section", "late",
             "-queryfile", folder / "query", "-out", folder / "reply"]  # fmt: skip
    subprocess.run(reply, check=True, capture_output=True)
    timestamps(bundle)[0] = {"signedTimestamp": base64.b64encode((folder / "reply").read_bytes()).decode()}


# ---- what is expected ------------------------------------------------------------------------------------------------

# Which Rekor's bundles, what is done to one, the exit status and what has to be said.
BOTH, V1, V2 = ("v1", "v2"), ("v1",), ("v2",)
MUTATIONS = [
    ("tampered entry", V1, alter_entry, NO, [r"promise \(SET\) is not good"]),
    ("tampered entry", V2, alter_entry, NO, ["inclusion proof is not good: .*root hash mismatch"]),
    ("another signature's entry", BOTH, other_entry, NO, ["log entry is not about this signature"]),
    ("tampered checkpoint: root hash", BOTH, checkpoint_root, NO, ["checkpoint root hash|root hash mismatch"]),
    ("tampered checkpoint: signature", BOTH, checkpoint_signature, NO, ["checkpoint is not good: .*signature"]),
    ("missing checkpoint", BOTH, drop_checkpoint, NO, ["checkpoint is not good: there is none"]),
    ("missing proof", BOTH, drop_proof, NO, ["inclusion proof is not good: there is none"]),
    ("tampered proof", BOTH, alter_proof, NO, ["inclusion proof is not good: .*root hash mismatch"]),
    ("missing entry", BOTH, drop_entry, NO, ["no transparency log entry"]),
    ("tampered signature", V1, alter_signature, NO, ["invalid signature"]),
    ("tampered signature", V2, alter_signature, NO, ["timestamp is of another signature"]),
    ("tampered certificate", BOTH, alter_certificate, NO, ["from no trusted authority: .*InvalidSignature"]),
    ("another signature's certificate", BOTH, other_certificate, NO, ["invalid signature"]),
    ("certificate expired, no timestamp", V2, drop_timestamps, NO, ["nobody trusted says when it was signed"]),
    ("certificate expired, a time nobody signed", V2, claim_time, NO, ["nobody trusted says when it was signed"]),
    ("certificate expired before the timestamp", V2, late_timestamp, NO, ["was good from .* signature is of"]),
    ("tampered timestamp", V2, alter_timestamp, NO, ["timestamp is not good: .*signature"]),
    ("another signature's timestamp", V2, other_timestamp, NO, ["timestamp is of another signature"]),
    ("missing promise, so no time", V1, drop_promise, NO, ["nobody trusted says when it was signed"]),
    ("tampered promise", V1, alter_promise, NO, [r"promise \(SET\) is not good"]),
    ("tampered log time", V1, alter_time, NO, [r"promise \(SET\) is not good"]),
]

# Parts of the trust root taken from another instance, and what has to be said.
FOREIGN = [
    ("wrong trust root: another instance's", None, NO, ["by the unknown transparency log"]),
    ("foreign certificate authority", "certificateAuthorities", NO, ["certificate is from no trusted authority"]),
    ("foreign CT log", "ctlogs", NO, ["by the unknown certificate transparency log"]),
    ("foreign transparency log", "tlogs", NO, ["by the unknown transparency log"]),
    ("foreign timestamp authority", "timestampAuthorities", NO, ["timestamp is not good: .*trusted TSA"]),
]


def make_model():
    model = WORK / "model"
    model.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode().ljust(64)
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(16)))
    (model / "config.json").write_text('{"architectures": ["Tiny"]}\n')
    return model


def shows_that_it_works(say, model):
    say.heading("Python signs, Python verifies: the instance is one that others understand")
    for version, config in (("v1", "trust_config_v1.json"), ("v2", "trust_config.json")):
        for number in (1, 2):
            signature = WORK / f"python-{version}-{number}.sig"
            text = token("python").read_text().strip()
            say.check(f"Python signs, Rekor {version}, {number}", python_sign(model, signature, config, text))
        say.check(f"Python verifies that, Rekor {version}", python_verify(model, signature, config))

    say.heading("tensorseal signs, everybody verifies")
    for version, config in (("v1", "trust_config_v1.json"), ("v2", "trust_config.json")):
        for number in (1, 2):
            signature = WORK / f"ours-{version}-{number}.sig"
            command = sign(model, signature, config, *with_token(token("ours")))
            say.check(f"tensorseal signs, Rekor {version}, {number}", command)
        who = [re.escape(EMAIL), re.escape(ISSUER)]
        say.check(f"tensorseal verifies, Rekor {version}, no network", verify(model, signature), words=who)
        say.check(f"the same with the whole trust config, Rekor {version}", verify(model, signature, config), words=who)
        say.check(f"Python verifies ours, Rekor {version}", python_verify(model, signature, config))
        python_signature = WORK / f"python-{version}-2.sig"
        say.check(f"tensorseal verifies Python's, Rekor {version}", verify(model, python_signature), words=who)
        if shutil.which("faketime"):
            # Long after every certificate has expired, that of the authority too: what counts is when it was signed.
            later = ["faketime", "+2 years", *verify(model, signature)]
            say.check(f"tensorseal verifies two years later, Rekor {version}", later, words=who)
        else:
            say.skip(f"tensorseal verifies two years later, Rekor {version}", "faketime is not installed")


def pastes_the_code(process):
    """The person who logs in out of band: visits the address that is shown, and pastes the code that is found there."""
    printed = ""
    for line in process.stdout:
        printed += line
        if address := re.search(r"http://\S+/auth\?\S+", line):
            with urllib.request.urlopen(address[0], timeout=30) as page:
                process.stdin.write(page.read().decode())
            process.stdin.flush()
            break
    return printed


def shows_ways_to_sign(say, model):
    say.heading("Other ways to say who signs")
    browser = {"BROWSER": f"{PYTHON} {HERE}/browser.py"}
    secret = {"CLIENT_SECRET": "a secret"}
    job = {"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": f"{ISSUER}/github?version=1",
           "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of the job"}  # fmt: skip
    client = ["--client-id", "tensorseal", "--client-secret-env", "CLIENT_SECRET"]
    logged_in, ambient = "browser@example.com", "ambient@example.com"
    for name, config, how, env, person, identity, issuer in (
        ("a browser", "", [], browser, None, logged_in, ISSUER),
        ("a code that is copied", "", ["--oauth-force-oob"], {}, pastes_the_code, logged_in, ISSUER),
        ("another client with a secret", "_second", client, browser | secret, None, logged_in, SECOND_ISSUER),
        ("a job on GitHub", "", ["--use-ambient-credentials"], job, None, ambient, ISSUER),
    ):
        signature = WORK / "other-way.sig"
        signature.unlink(missing_ok=True)
        command = sign(model, signature, f"trust_config{config}.json", *how)
        say.check(f"signs by way of {name}", command, env=env, person=person)
        command = verify(model, signature, identity=identity, issuer=issuer)
        say.check(f"and that verifies: {name}", command, words=[re.escape(identity), re.escape(issuer)])

    say.heading("Refusals: signing")
    config = json.loads((WORK / "trust_config.json").read_text())
    foreign = json.loads((WORK / "foreign_trusted_root.json").read_text())
    (WORK / "trust_config_foreign.json").write_text(json.dumps(config | {"trustedRoot": foreign}))
    # Nobody listens on this port of loopback: it is reserved.
    silent = [service | {"url": "http://127.0.0.1:1"} for service in config["signingConfig"]["rekorTlogUrls"]]
    config["signingConfig"]["rekorTlogUrls"] = silent
    (WORK / "trust_config_silent.json").write_text(json.dumps(config))
    with urllib.request.urlopen(f"{ISSUER}/mint?email={EMAIL}&iss=http://127.0.0.1:1") as page:
        (WORK / "unknown.token").write_bytes(page.read())
    good, expired = with_token(token("again")), with_token(token("expired", "--lifetime=-60"))
    audience, unknown = with_token(token("audience", "--audience=x")), with_token(WORK / "unknown.token")
    wrong = browser | {"CLIENT_SECRET": "wrong"}
    unfit = ["does not verify", "unknown transparency log"]
    for name, config, how, env, words in (
        ("an expired token", "", expired, {}, ["it expired at"]),
        ("a token for somebody else", "", audience, {}, ["aud", "--client-id"]),
        ("a token of an issuer that Fulcio does not know", "", unknown, {}, ["Fulcio.*400.*issuer"]),
        ("servers of another instance than the trust root's", "_foreign", good, {}, unfit),
        ("a log that does not answer", "_silent", good, {}, ["Rekor.*127.0.0.1:1/.*refused"]),
        ("a wrong client secret", "_second", client, wrong, ["invalid_client"]),
    ):
        signature = WORK / "refused.sig"
        command = sign(model, signature, f"trust_config{config}.json", *how)
        say.check(f"refused: {name}", command, status=NO_ANSWER, words=words, env=env, absent=signature)


def shows_updates(say, model):
    say.heading("The trust root by TUF")
    shutil.copytree(WORK / "web" / "tuf", WORK / "web" / "tuf-tampered")
    for target in (WORK / "web" / "tuf-tampered" / "targets").iterdir():
        target.write_bytes(target.read_bytes().replace(b"fulcio", b"evilca"))

    def update(suffix, out):
        root = os.environ["TENSORSEAL_SIGSTORE_TUF_ROOT"]
        return [TENSORSEAL, "trust", "update", "--url", TUF + suffix, "--root", root, "--out", out]

    for name, suffix, out in (
        ("fetched", "", "fetched.json"),
        ("fetched again", "", "fetched.json"),
        ("fetched past a new root", "-rotated", "rotated.json"),
    ):
        say.check(name, update(suffix, WORK / out))
        say.check("and that verifies", verify(model, WORK / "ours-v2-2.sig", out), words=[re.escape(EMAIL)])
    # What was fetched last is remembered beside it: the former root, right as it was, is trusted no more.
    command = update("", WORK / "rotated.json")
    say.check("refused: back to the former root", command, status=NO_ANSWER, words=["cannot be trusted"])
    for name, suffix, words in (
        ("somebody else's repository", "-foreign", ["cannot be trusted: signature threshold not met"]),
        ("an expired repository", "-expired", ["timestamp.*(has|is) expired|expired at"]),
        ("a repository with an altered trust root", "-tampered", ["cannot be trusted: integrity check failed"]),
        ("no repository", "-none", ["timestamp.json not found"]),
    ):
        out = WORK / "refused.json"
        say.check(f"refused: {name}", update(suffix, out), status=NO_ANSWER, words=words, absent=out)


def shows_refusals(say, model):
    say.heading("Refusals: who signed")
    for version in BOTH:
        signature = WORK / f"ours-{version}-2.sig"
        for name, more, words in (
            ("wrong identity", {"identity": "b@example.com"}, ["wrong identity", "b@example.com"]),
            ("wrong issuer", {"issuer": SECOND_ISSUER}, ["wrong identity provider", "/second"]),
            ("an issuer whose name goes on", {"issuer": ISSUER + "0"}, ["wrong identity provider"]),
        ):
            refused(say, name, version, model, signature, "trusted_root.json", NO, words, **more)
    # The same address, vouched for by somebody else: a real certificate of the same authority.
    other = WORK / "second-issuer.sig"
    text = token("second", "--second").read_text().strip()
    command = python_sign(model, other, "trust_config.json", text) + ["--client_id", "tensorseal"]
    say.check("the same address signs by the second issuer", command)
    refused(say, "signed by way of another issuer", "v2", model, other, "trusted_root.json", NO,
            ["wrong identity provider", "/second"])  # fmt: skip

    say.heading("Refusals: the model")
    altered = WORK / "altered"
    shutil.copytree(model, altered)
    weights = altered / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    command = verify(altered, WORK / "ours-v2-2.sig")
    say.check("altered weights", command, status=NO, words=["model.safetensors"])

    say.heading("Refusals: what the bundle says")
    for name, versions, change, status, words in MUTATIONS:
        for version in versions:
            if change is late_timestamp and not shutil.which("faketime"):
                say.skip(name, "faketime is not installed")
                continue
            # The log entry that is put in is the later one, the certificate the earlier one: the time then fits.
            numbers = (2, 1) if change is other_certificate else (1, 2)
            bundle, other = (json.loads((WORK / f"ours-{version}-{number}.sig").read_text()) for number in numbers)
            change(bundle, other)
            mutant = WORK / "mutant.sig"
            mutant.write_text(json.dumps(bundle))
            refused(say, name, version, model, mutant, "trusted_root.json", status, words)

    say.heading("Refusals: who is trusted")
    names = ("trusted_root", "foreign_trusted_root")
    good, foreign = (json.loads((WORK / f"{name}.json").read_text()) for name in names)
    for name, part, status, words in FOREIGN:
        root = foreign if part is None else good | {part: foreign[part]}
        (WORK / "mixed_root.json").write_text(json.dumps(root))
        for version in BOTH:
            # Rekor v1 tells the time itself: its bundles have no timestamp.
            if part != "timestampAuthorities" or version == "v2":
                refused(say, name, version, model, WORK / f"ours-{version}-2.sig", "mixed_root.json", status, words)
    command = verify(model, WORK / "ours-v2-2.sig", None)
    words = ["unknown transparency log", "public-good root", "trust update"]
    say.check("wrong trust root: the public instance's, which is the default", command, status=NO, words=words)


def refused(say, name, version, model, signature, root, status, words, *, identity=EMAIL, issuer=ISSUER):
    beside = python_says(signature, WORK / root, identity, issuer)
    command = verify(model, signature, root, identity=identity, issuer=issuer)
    say.check(f"{name}, Rekor {version}", command, status=status, words=words, beside=beside)


def main():
    parser = argparse.ArgumentParser(prog="tests/sigstore/run")
    parser.add_argument("--transcript", type=pathlib.Path, help="also write the transcript there")
    arguments = parser.parse_args()
    file = arguments.transcript.open("w") if arguments.transcript else None
    say = Transcript(file)
    say.write("# A private Sigstore, end to end")
    if not OFFLINE:
        say.skip("verification with no network", "unshare -rn does not work here")
    model = make_model()
    shows_that_it_works(say, model)
    shows_ways_to_sign(say, model)
    shows_refusals(say, model)
    shows_updates(say, model)
    say.write()
    skipped = f", {say.skipped} skipped" if say.skipped else ""
    say.write(f"{say.passed} passed, {say.failed} failed{skipped}")
    return 1 if say.failed else 0


if __name__ == "__main__":
    sys.exit(main())
