"""`sign`, `verify` and `digest`: against the command line, and against Python's model_signing."""

import hashlib
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorseal
from conftest import require
from tensorseal import Key, KeySigner


def refused(kind: str, *arguments, **options) -> tensorseal.VerifyError:
    """The answer is no, and for this reason."""
    with pytest.raises(tensorseal.VerifyError) as caught:
        tensorseal.verify(*arguments, **options)
    assert caught.value.kind == kind, str(caught.value)
    assert caught.value.fields["verdict"] == "no" and caught.value.fields["exit_code"] == 1
    return caught.value


# ---- one verdict, whoever asks ---------------------------------------------------------------------------------------


def test_what_python_signs_the_program_and_model_signing_verify(model, keys, cli):
    signed = tensorseal.sign(model, signer=KeySigner(keys[0]))
    assert signed.bundle == str(model / "model.sig")
    assert signed.files == 4 and signed.algorithms == ["sha256", "blake3"] and signed.notes == []
    assert cli("verify", "key", model, "--public-key", keys[1], "--signature", signed.bundle).returncode == 0
    assert cli("digest", model, "--ignore-paths", signed.bundle).stdout.strip() == signed.root

    require("model_signing")
    command = [sys.executable, "-m", "model_signing", "verify", "key", model, "--public_key", keys[1]]
    theirs = subprocess.run(
        [*map(str, command), "--signature", signed.bundle], capture_output=True, text=True, check=False
    )
    assert theirs.returncode == 0 and "Verification succeeded" in theirs.stdout + theirs.stderr, theirs.stderr


def test_what_the_program_signs_python_verifies_with_the_same_report(signed_model, keys, cli):
    report = tensorseal.verify(signed_model, policy=Key(keys[1]))
    arguments = ("--public-key", keys[1], "--signature", signed_model / "model.sig", "--json")
    theirs = json.loads(cli("verify", "key", signed_model, *arguments).stdout)
    ours = report.to_dict()
    assert ours.pop("seconds") > 0 and theirs.pop("seconds") > 0
    assert ours == theirs

    pem = keys[1].read_bytes()
    assert report.identity.name == hashlib.sha256(pem).hexdigest()
    assert str(report.identity) == f"key {report.identity.name} (P-256)"
    assert report.checked == {"sha256": "cpu"} and report.not_checked == ["blake3"]
    assert report.files == report.resources == 5
    assert report.bytes == sum(file.stat().st_size for file in signed_model.iterdir() if file.name != "model.sig")
    # A copy is not the report.
    report.to_dict().clear()
    assert report.to_dict()


def test_a_refusal_has_the_report_of_the_program(signed_model, keys, cli):
    (signed_model / "config.json").write_text("{}")
    no = refused("differs", signed_model, policy=Key(keys[1]))
    arguments = ("--public-key", keys[1], "--signature", signed_model / "model.sig", "--json")
    theirs = json.loads(cli("verify", "key", signed_model, *arguments).stdout)
    assert no.fields.pop("seconds") > 0 and theirs.pop("seconds") > 0
    assert no.fields == theirs


def test_what_python_model_signing_signs_python_verifies(model, keys):
    require("model_signing")
    bundle = model / "model.sig"
    command = [sys.executable, "-m", "model_signing", "sign", "key", model, "--private_key", keys[0]]
    subprocess.run([*map(str, command), "--signature", str(bundle)], check=True, capture_output=True)
    report = tensorseal.verify(model, policy=Key(keys[1]))
    assert report.files == 4 and report.not_checked == []
    # Nobody signed a BLAKE3 digest.
    assert "has no signed blake3 digest" in str(refused("no-such-digest", model, policy=Key(keys[1]), digests="blake3"))
    assert tensorseal.verify(model, policy=Key(keys[1]), digests="fastest").checked == {"sha256": "cpu"}


def test_a_digest_is_that_of_the_bytes(model):
    found = tensorseal.digest(model)
    for name, digest in found.files.items():
        assert digest == "sha256:" + hashlib.sha256((model / name).read_bytes()).hexdigest()
    assert sorted(found.files) == sorted(file.name for file in model.iterdir())
    require("blake3")
    from blake3 import blake3

    name = "config.json"
    assert tensorseal.digest(model, hash="blake3").files[name] == "blake3:" + blake3((model / name).read_bytes()).hexdigest()
    assert tensorseal.digest(model, hash="blake2b").files[name] == (
        "blake2b:" + hashlib.blake2b((model / name).read_bytes()).hexdigest()
    )
    text = (model / name).read_bytes()
    halves = tensorseal.digest(model / name, shards=16).files
    assert halves == {
        f".:{at}:{min(at + 16, len(text))}": "sha256:" + hashlib.sha256(text[at : at + 16]).hexdigest()
        for at in range(0, len(text), 16)
    }
    assert name not in tensorseal.digest(model, ignore=model / name).files
    (model / ".gitignore").write_text("x")
    assert ".gitignore" not in tensorseal.digest(model).files
    assert ".gitignore" in tensorseal.digest(model, git="keep").files


# ---- where a bundle is -----------------------------------------------------------------------------------------------


def test_a_bundle_lies_in_the_folder_or_beside_the_file(model, keys, monkeypatch):
    file = model / "config.json"
    signed = tensorseal.sign(file, signer=KeySigner(keys[0]))
    assert signed.bundle == f"{file}.sig" and Path(signed.bundle).is_file()
    assert tensorseal.verify(file, policy=Key(keys[1])).files == 1
    monkeypatch.chdir(model)
    assert tensorseal.verify("config.json", policy=Key(keys[1])).model == "config.json"
    assert tensorseal.sign(".", signer=KeySigner(keys[0])).bundle == "./model.sig"


@pytest.mark.parametrize("name", ["ünï-模型-\N{GRINNING FACE}", "it's \"new\"\n", "-", " "])
def test_paths_are_strings_bytes_or_path_like_in_any_script(model, keys, name, tmp_path):
    folder = tmp_path / name / "model"
    shutil.copytree(model, folder)
    (folder / name).write_bytes(b"7")
    for path in (str(folder), folder, os.fsencode(folder)):
        tensorseal.sign(path, signer=KeySigner(os.fsencode(keys[0])))
        report = tensorseal.verify(path, policy=Key(os.fsencode(keys[1])), bundle=os.fsencode(folder / "model.sig"))
        assert report.files == 5 and report.model == str(folder)
    (folder / name).write_bytes(b"8")
    assert [of.name for of in refused("differs", folder, policy=Key(keys[1])).differences] == [name]


def test_a_path_that_is_not_text_is_the_same_path(model, keys, tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    shutil.copytree(os.fsencode(model), folder + b"/model")
    tensorseal.sign(folder + b"/model", signer=KeySigner(keys[0]))
    assert tensorseal.verify(os.fsdecode(folder) + "/model", policy=Key(keys[1])).files == 4


# ---- every no ----------------------------------------------------------------------------------------------------------


def test_each_file_that_differs_is_a_difference_with_its_kind(signed_model, keys):
    digest = "sha256:" + hashlib.sha256((signed_model / "config.json").read_bytes()).hexdigest()
    text = (signed_model / "config.json").read_bytes()
    changed = bytes([text[0] ^ 1]) + text[1:]
    (signed_model / "config.json").write_bytes(changed)
    shards = sorted(signed_model.glob("model-*.safetensors"))
    shards[0].unlink()
    with shards[1].open("ab") as file:
        file.write(b"\0")
    (signed_model / "extra.bin").write_bytes(b"1")
    no = refused("differs", signed_model, policy=Key(keys[1]))
    by_name = {of.name: of for of in no.differences}
    assert {name: of.kind for name, of in by_name.items()} == {
        "config.json": "changed",
        shards[0].name: "missing",
        shards[1].name: "resized",
        "extra.bin": "unsigned",
    }
    assert by_name["config.json"] == tensorseal.Difference(
        name="config.json",
        kind="changed",
        expected=digest,
        found="sha256:" + hashlib.sha256(changed).hexdigest(),
        expected_size=len(text),
        found_size=len(text),
    )
    resized = by_name[shards[1].name]
    assert resized.found_size == resized.expected_size + 1 == shards[1].stat().st_size
    assert no.report is not None and no.report.checked == {"sha256": "cpu"}
    assert no.report.identity.name == hashlib.sha256(keys[1].read_bytes()).hexdigest()


def test_an_outboard_says_which_bytes_differ(model, keys, tmp_path):
    trees = tmp_path / "model.trees"
    (model / "weights.bin").write_bytes(bytes(300_000))
    tensorseal.sign(model, signer=KeySigner(keys[0]), outboard=trees)
    assert tensorseal.verify(model, policy=Key(keys[1]), outboard=trees).checked == {"sha256": "cpu", "blake3": "cpu"}
    with (model / "weights.bin").open("r+b") as file:
        file.seek(200_000)
        file.write(b"\1")
    (difference,) = refused("differs", model, policy=Key(keys[1]), outboard=trees).differences
    group = 65536
    assert difference.ranges == ((200_000 // group * group, 200_000 // group * group + group),)


def test_a_signature_of_somebody_else_is_refused(signed_model, keys, cli, tmp_path):
    assert cli("keygen", "--out", tmp_path / "other.pem").returncode == 0
    no = refused("signature", signed_model, policy=Key(tmp_path / "other.pub"))
    assert no.differences == [] and no.report is None
    sigstore = tensorseal.Sigstore(identity="a@example.com", issuer="https://accounts.google.com")
    assert "was signed with the key method" in str(refused("signature", signed_model, policy=sigstore))


def test_what_is_no_bundle_is_refused(signed_model, keys):
    bundle = signed_model / "model.sig"
    good = bundle.read_bytes()
    for bad in (b"", b"{}", b"[" * 100_000, good[:-2], good + b"{}", b"\xff\xfe"):
        bundle.write_bytes(bad)
        refused("format", signed_model, policy=Key(keys[1]))
    bundle.write_bytes(good)
    assert refused("bundle-too-large", signed_model, policy=Key(keys[1]), max_bundle=len(good) - 1).differences == []
    tensorseal.verify(signed_model, policy=Key(keys[1]), max_bundle=len(good))


def test_strict_refuses_what_nothing_was_signed_of(signed_model, keys):
    (signed_model / ".gitignore").write_text("secret\n")
    report = tensorseal.verify(signed_model, policy=Key(keys[1]))
    assert report.ignored == [".gitignore"]
    no = refused("uncovered", signed_model, policy=Key(keys[1]), strict=True)
    assert no.fields["uncovered"] == [".gitignore"] and no.report is not None
    allowed = signed_model / ".gitignore"
    tensorseal.verify(signed_model, policy=Key(keys[1]), strict=True, allow_ignored=allowed)
    tensorseal.verify(signed_model, policy=Key(keys[1]), strict=True, allow_ignored=[allowed])


def test_unsigned_files_are_refused_or_listed(signed_model, keys):
    (signed_model / "extra.py").write_text("pass\n")
    assert [of.kind for of in refused("differs", signed_model, policy=Key(keys[1])).differences] == ["unsigned"]
    assert tensorseal.verify(signed_model, policy=Key(keys[1]), ignore_unsigned=True).unsigned == ["extra.py"]
    assert tensorseal.verify(signed_model, policy=Key(keys[1]), ignore=signed_model / "extra.py").ignored == ["extra.py"]


def test_a_link_is_followed_only_where_it_may_be(signed_model, keys, tmp_path):
    (tmp_path / "blob").write_bytes((signed_model / "config.json").read_bytes())
    (signed_model / "config.json").unlink()
    (signed_model / "config.json").symlink_to(tmp_path / "blob")
    for symlinks in ("refuse", "inside"):
        refused("model", signed_model, policy=Key(keys[1]), symlinks=symlinks)
    assert tensorseal.verify(signed_model, policy=Key(keys[1]), symlinks="anywhere").files == 5


def test_digests_that_disagree_are_the_signers_fault(model, keys):
    require("cryptography")
    import base64

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    bundle = Path(tensorseal.sign(model, signer=KeySigner(keys[0])).bundle)
    outer = json.loads(bundle.read_text())
    envelope = outer["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    resource = statement["predicate"]["resources"][0]
    resource["annotations"]["tensorseal/v1"]["blake3"] = "00" * 32
    payload = json.dumps(statement).encode()
    kind = envelope["payloadType"].encode()
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    key = serialization.load_pem_private_key(keys[0].read_bytes(), None)
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = base64.b64encode(key.sign(encoded, ec.ECDSA(hashes.SHA256()))).decode()
    bundle.write_text(json.dumps(outer))

    # As any other verifier sees it, the model is as signed.
    tensorseal.verify(model, policy=Key(keys[1]))
    refused("signer-inconsistent", model, policy=Key(keys[1]), digests="all")
    refused("differs", model, policy=Key(keys[1]), digests="blake3")


# ---- every way to no answer --------------------------------------------------------------------------------------------


def unanswered(kind: str, call) -> tensorseal.NoAnswerError:
    with pytest.raises(tensorseal.NoAnswerError) as caught:
        call()
    assert caught.value.kind == kind, str(caught.value)
    assert not isinstance(caught.value, tensorseal.VerifyError | ValueError)
    return caught.value


def test_what_cannot_be_known_is_no_answer(signed_model, keys, cli, tmp_path):
    sign, verify, who, signer = tensorseal.sign, tensorseal.verify, Key(keys[1]), KeySigner(keys[0])
    empty = tmp_path / "empty"
    empty.mkdir()
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\0\xff garbage")
    unanswered("io", lambda: verify(tmp_path / "nowhere", policy=who))
    unanswered("io", lambda: Key(tmp_path / "nowhere"))
    unanswered("key", lambda: Key(garbage))
    unanswered("key", lambda: Key(keys[0]))
    unanswered("key", lambda: sign(empty, signer=KeySigner(keys[1]), bundle=tmp_path / "s"))
    unanswered("certificate", lambda: tensorseal.Certificate(garbage))
    unanswered("trust-root", lambda: tensorseal.Sigstore(identity="a", issuer="https://b", trust_config=garbage))
    unanswered("policy", lambda: tensorseal.Policy(garbage))
    unanswered("policy", lambda: verify(signed_model, policy=tmp_path / "nowhere"))
    unanswered("empty-model", lambda: sign(empty, signer=signer))
    unanswered("not-a-signature", lambda: sign(signed_model, signer=signer, bundle=signed_model / "config.json"))
    unanswered("io", lambda: sign(signed_model, signer=signer, bundle=tmp_path / "no folder" / "model.sig"))
    unanswered("model", lambda: tensorseal.digest(tmp_path / "nowhere"))
    unanswered("device", lambda: tensorseal.digest(signed_model, device="wgpu:no such adapter", hash="blake3"))
    (signed_model / "link").symlink_to(garbage)
    unanswered("model", lambda: sign(signed_model, signer=signer))


def test_a_signature_is_written_whole_or_not_at_all(model, keys):
    bundle = Path(tensorseal.sign(model, signer=KeySigner(keys[0])).bundle)
    before = bundle.read_bytes()
    (model / "link").symlink_to("nowhere")
    with pytest.raises(tensorseal.NoAnswerError):
        tensorseal.sign(model, signer=KeySigner(keys[0]))
    assert bundle.read_bytes() == before
    assert sorted(path.name for path in model.glob("*.sig*")) == ["model.sig"]


# ---- options ------------------------------------------------------------------------------------------------------------


def test_what_is_signed_follows_the_options(model, keys, cli, tmp_path):
    signer, who = KeySigner(keys[0]), Key(keys[1])
    arguments = ("--public-key", keys[1], "--signature", model / "model.sig")
    signed = tensorseal.sign(model, signer=signer, tensors=True)
    assert signed.tensor_manifest == str(model / "tensorseal.tensors")
    report = tensorseal.verify(model, policy=who)
    assert [of["tensors"] for of in report.to_dict()["tensor_manifests"]] == [5]
    assert cli("verify", "key", model, *arguments).returncode == 0
    (model / "tensorseal.tensors").unlink()

    beside = tmp_path / "detached.tensors"
    assert tensorseal.sign(model, signer=signer, tensors=beside).tensor_manifest == str(beside)
    assert tensorseal.verify(model, policy=who, tensors=beside).notes == []
    assert len(tensorseal.verify(model, policy=who).notes) == 1, "a note says that it was not given"

    signed = tensorseal.sign(model, signer=signer, hash="blake3", annotations=False)
    assert signed.algorithms == ["blake3"] and "cannot verify" in signed.notes[0]
    signed = tensorseal.sign(model, signer=signer, shards=1000)
    assert signed.resources > signed.files and signed.to_dict()["serialization"]["shard_size"] == 1000
    assert tensorseal.verify(model, policy=who).to_dict()["serialization"]["method"] == "shards"
    tensorseal.sign(model, signer=signer, ignore=[model / "config.json"])
    assert tensorseal.verify(model, policy=who).ignored == ["config.json"]
    tensorseal.sign(model, signer=signer, annotations=False)
    refused("no-such-digest", model, policy=who, digests="blake3")


# ---- what is said, and how ------------------------------------------------------------------------------------------------


def test_beginnings_ends_and_notes_are_logged(model, keys, caplog):
    caplog.set_level(logging.INFO, "tensorseal")
    (model / "old.pt").write_bytes(b"\x80\x02}q\x00.")
    tensorseal.sign(model, signer=KeySigner(keys[0]))
    report = tensorseal.verify(model, policy=Key(keys[1]))
    (note,) = report.notes
    assert "pickled" in note
    said = [(record.name, record.levelname) for record in caplog.records]
    assert said == [("tensorseal", level) for level in ("INFO", "WARNING", "INFO", "INFO", "WARNING", "INFO")]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [note, note]
    caplog.clear()
    (model / "config.json").unlink()
    refused("differs", model, policy=Key(keys[1]))
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert "1 missing" in caplog.records[-1].getMessage()


def test_exceptions_and_policies_go_to_other_processes(signed_model, keys):
    (signed_model / "config.json").unlink()
    no = refused("differs", signed_model, policy=Key(keys[1]))
    again = pickle.loads(pickle.dumps(no))
    assert type(again) is tensorseal.VerifyError and str(again) == str(no)
    assert again.kind == "differs" and again.differences == no.differences and again.report == no.report
    policy = pickle.loads(pickle.dumps(Key(keys[1])))
    assert policy == Key(keys[1])
    refused("differs", signed_model, policy=policy)
    signer = pickle.loads(pickle.dumps(KeySigner(keys[0], password=None)))
    tensorseal.sign(signed_model, signer=signer)
    tensorseal.verify(signed_model, policy=policy)


def test_the_classes_of_errors():
    assert issubclass(tensorseal.VerifyError, tensorseal.TensorsealError)
    assert issubclass(tensorseal.NoAnswerError, tensorseal.TensorsealError)
    assert issubclass(tensorseal.UsageError, tensorseal.TensorsealError)
    assert issubclass(tensorseal.UsageError, ValueError)
    assert not issubclass(tensorseal.NoAnswerError, tensorseal.VerifyError)
    no = tensorseal.VerifyError("said elsewhere")
    assert no.kind == "refused" and no.differences == [] and no.report is None and no.fields == {}
    assert tensorseal.NoAnswerError("x", kind="io").kind == "io" and tensorseal.UsageError("x").kind == "usage"
