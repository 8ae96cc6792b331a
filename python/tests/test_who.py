"""Who may have signed, and who signs: each method, and what is wrong with what one is given."""

import datetime
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorseal
from conftest import require
from tensorseal import Certificate, CertificateSigner, Key, KeySigner, Pkcs11Signer, Policy, Sigstore, SigstoreSigner


def usage(call, says: str = "") -> tensorseal.UsageError:
    with pytest.raises(tensorseal.UsageError) as caught:
        call()
    assert says in str(caught.value)
    return caught.value


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path: Path, cli) -> tuple[Path, Path]:
    """An encrypted key; its password is `sesam`, and there is an ü in it."""
    os.environ["TENSORSEAL_TEST_PASSWORD"] = "sesam-ü"
    made = cli("keygen", "--out", tmp_path / "locked.pem", "--password-env", "TENSORSEAL_TEST_PASSWORD")
    assert made.returncode == 0, made.stderr
    return tmp_path / "locked.pem", tmp_path / "locked.pub"


def test_a_password_opens_a_key_and_is_shown_nowhere(model, locked, caplog):
    signer = KeySigner(locked[0], password="sesam-ü")
    assert "sesam" not in repr(signer) and "sesam" not in repr(signer._native)
    tensorseal.sign(model, signer=signer)
    tensorseal.verify(model, policy=Key(locked[1]))
    for password, kind in ((None, "key"), ("wrong", "key"), ("", "key")):
        with pytest.raises(tensorseal.NoAnswerError) as caught:
            tensorseal.sign(model, signer=KeySigner(locked[0], password=password))
        assert caught.value.kind == kind and "wrong" not in str(caught.value).replace("wrong password", "")
    assert "sesam" not in caplog.text


def test_what_should_be_known_of_a_key_is_a_note(model, keys, caplog):
    signed = tensorseal.sign(model, signer=KeySigner(keys[0], password="needless"))
    assert "is not encrypted; the password was not used" in signed.notes[0]
    assert signed.notes[0] in caplog.text and "needless" not in caplog.text


def test_a_key_is_read_once(signed_model, keys, tmp_path):
    copy = Path(shutil.copy(keys[1], tmp_path / "key.pub"))
    who = Key(copy)
    copy.write_text("not a key any more")
    tensorseal.verify(signed_model, policy=who)


# ---- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certified(tmp_path_factory) -> dict[str, Path]:
    """A root, and a certificate of `release@example.com` under it."""
    require("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.datetime.now(datetime.timezone.utc)

    def name(of: str) -> "x509.Name":
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, of)])

    def builder(of: str, by: str, key) -> "x509.CertificateBuilder":
        return (
            x509.CertificateBuilder()
            .subject_name(name(of))
            .issuer_name(name(by))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )

    def usage_of(**wanted: bool) -> "x509.KeyUsage":
        names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
        all_of = dict.fromkeys([*names.split(), "encipher_only", "decipher_only"], False)
        return x509.KeyUsage(**(all_of | wanted))

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = (
        builder("Root", "Root", root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage_of(key_cert_sign=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        builder("Release", "Root", key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage_of(digital_signature=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("release@example.com")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = {"root": root.public_bytes(pem), "certificate": leaf.public_bytes(pem)}
    files["key"] = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths = {}
    for of, text in files.items():
        paths[of] = folder / f"{of}.pem"
        paths[of].write_bytes(text)
        paths[of].chmod(0o600)
    return paths


def test_a_certificate_signs_and_its_root_verifies(model, certified, cli):
    signer = CertificateSigner(certified["key"], certified["certificate"])
    tensorseal.sign(model, signer=signer)
    report = tensorseal.verify(model, policy=Certificate(certified["root"], identities="email:release@example.com"))
    assert report.identity.method == "certificate" and report.identity.name == "CN=Release"
    assert "email:release@example.com" in report.identity.fields["names"] and report.notes == []
    assert tensorseal.verify(model, policy=Certificate([certified["root"]])).notes != [], "anybody under that root"
    for who in (
        Certificate(certified["root"], identities=["other@example.com"]),
        Certificate(certified["certificate"]),
    ):
        with pytest.raises(tensorseal.VerifyError) as caught:
            tensorseal.verify(model, policy=who)
        assert caught.value.kind == "signature"
    arguments = ("--certificate-chain", certified["root"], "--signature", model / "model.sig")
    assert cli("verify", "certificate", model, *arguments).returncode == 0


def test_a_certificate_of_another_key_signs_nothing(model, certified, keys):
    with pytest.raises(tensorseal.NoAnswerError) as caught:
        tensorseal.sign(model, signer=CertificateSigner(keys[0], certified["certificate"]))
    assert caught.value.kind == "sign" and not (model / "model.sig").exists()


def test_nobody_in_particular_is_nobody(certified):
    usage(lambda: Certificate(), "no root is trusted")
    usage(lambda: Certificate(system_roots=True), "name whose certificate will do")
    usage(lambda: Certificate(certified["root"], identities=""))
    usage(lambda: Certificate(certified["root"], identities=[None]), "one of them is None")
    usage(lambda: Certificate(certified["root"], identities=5))
    usage(lambda: Certificate(certified["root"], identities=[b"release@example.com"]))
    usage(lambda: Certificate(certified["root"], any_purpose="no"), "True or False")


# ---- Sigstore --------------------------------------------------------------------------------------------------------


def test_sigstore_wants_a_name_and_who_vouches_for_it():
    for given in ({}, {"identity": "a"}, {"issuer": "b"}, {"identity": "a", "identity_regexp": "a", "issuer": "b"}):
        usage(lambda given=given: Sigstore(**given), "one of the two")
    usage(lambda: Sigstore(identity="a", issuer="b", staging=True, trust_config="c"), "not both")
    usage(lambda: Sigstore(identity_regexp="(", issuer="b"))
    usage(lambda: Sigstore(identity=5, issuer="b"), "identity is a string")


def test_a_real_sigstore_signature_verifies_offline(tmp_path, monkeypatch):
    vectors = os.environ.get("TENSORSEAL_VECTORS")
    if vectors is None:
        pytest.skip("no vectors: TENSORSEAL_VECTORS is not set")
    folder = Path(shutil.copytree(Path(vectors) / "historical" / "v1.1.0-sigstore", tmp_path / "m"))
    (folder / "ignore-me").unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    who, issuer = "stefanb@us.ibm.com", "https://sigstore.verify.ibm.com/oauth2"
    report = tensorseal.verify(folder, policy=Sigstore(identity=who, issuer=issuer))
    assert report.identity.method == "sigstore" and report.identity.name == who
    assert str(report.identity) == f"{who!r} (issuer {issuer!r})"
    tensorseal.verify(folder, policy=Sigstore(identity_regexp=".*@us[.]ibm[.]com", issuer_regexp="https://.*"))
    for other in (
        Sigstore(identity="b" + who, issuer=issuer),
        Sigstore(identity=who, issuer="https://accounts.google.com"),
        Sigstore(identity_regexp="@us[.]ibm[.]com", issuer=issuer),
        Sigstore(identity=who, issuer=issuer, staging=True),
    ):
        with pytest.raises(tensorseal.VerifyError) as caught:
            tensorseal.verify(folder, policy=other)
        assert caught.value.kind == "signature"


def test_who_signs_with_sigstore_is_said_once():
    usage(lambda: SigstoreSigner(token="a", token_file="b"), "not both")
    usage(lambda: SigstoreSigner(token="a", timeout=0))
    usage(lambda: SigstoreSigner(token="a", timeout=float("nan")))
    signer = SigstoreSigner(token="eyJhbGciOi", client_secret="hush")
    assert "eyJ" not in repr(signer) and "hush" not in repr(signer)


def test_a_token_that_is_none_signs_nothing(model):
    with pytest.raises(tensorseal.NoAnswerError) as caught:
        tensorseal.sign(model, signer=SigstoreSigner(token="not.a.token", trust_config=model / "config.json"))
    assert caught.value.kind in ("sign", "feature") and "not.a.token" not in str(caught.value)


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_a_key_in_a_token_signs(model, tmp_path, monkeypatch):
    module = Path("/usr/lib/softhsm/libsofthsm2.so")
    if not module.exists() or not shutil.which("softhsm2-util") or not shutil.which("pkcs11-tool"):
        message = "softhsm2 and pkcs11-tool are not installed"
        pytest.fail(message) if os.environ.get("TENSORSEAL_REQUIRE_PEERS") == "1" else pytest.skip(message)
    (tmp_path / "tokens").mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    login = ["--token-label", "py", "--login", "--pin", "1234"]
    tool = ["pkcs11-tool", "--module", str(module)]
    for command in (
        ["softhsm2-util", "--init-token", "--free", "--label", "py", "--pin", "1234", "--so-pin", "5678"],
        [*tool, *login, "--keypairgen", "--key-type", "EC:secp256r1", "--label", "k", "--id", "01"],
        [*tool, *login, "--read-object", "--type", "pubkey", "--id", "01", "--output-file", str(tmp_path / "k.der")],
        ["openssl", "pkey", "-pubin", "-inform", "DER", "-in", str(tmp_path / "k.der"), "-out", str(tmp_path / "k.pub")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    signer = Pkcs11Signer("pkcs11:token=py;object=k", pin="1234", modules=module)
    assert "1234" not in repr(signer)
    tensorseal.sign(model, signer=signer)
    tensorseal.verify(model, policy=Key(tmp_path / "k.pub"))
    with pytest.raises(tensorseal.NoAnswerError) as caught:
        tensorseal.sign(model, signer=Pkcs11Signer("pkcs11:token=py;object=k", pin="0000", modules=module))
    assert caught.value.kind == "sign" and "0000" not in str(caught.value)


def test_a_uri_that_is_none_is_told_without_its_pin(model):
    for uri in ("pkcs11:token=a;object=b?pin-value=4711;", "file:4711", "pkcs11:token=a?pin-value=4711"):
        no = usage(lambda uri=uri: tensorseal.sign(model, signer=Pkcs11Signer(uri, modules="/nowhere")))
        assert "4711" not in str(no)
    both = Pkcs11Signer("pkcs11:object=b?pin-value=4711", pin="4711", modules="/nowhere")
    usage(lambda: tensorseal.sign(model, signer=both))


# ---- policies --------------------------------------------------------------------------------------------------------


@pytest.fixture
def policy(signed_model, keys, tmp_path) -> Path:
    """A policy that accepts that key for that model."""
    text = f"""\
version = 1

[signers.release]
key = "{keys[1]}"

[[rule]]
path = "{signed_model.resolve()}"
any_of = ["release"]
"""
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


def test_a_policy_decides(signed_model, keys, policy, cli, tmp_path):
    report = tensorseal.verify(signed_model, policy=Policy(policy))
    assert report.to_dict()["policy"]["rules"][0]["signers"] == ["release"]
    # A path is that of a policy.
    for given in (policy, str(policy), os.fsencode(policy)):
        tensorseal.verify(signed_model, policy=given, bundle=[signed_model / "model.sig"])
    assert cli("keygen", "--out", tmp_path / "other.pem").returncode == 0
    tensorseal.sign(signed_model, signer=KeySigner(tmp_path / "other.pem"))
    with pytest.raises(tensorseal.VerifyError) as caught:
        tensorseal.verify(signed_model, policy=policy)
    assert caught.value.kind in ("policy", "signature")


def test_a_policy_that_says_nothing_of_a_model_refuses_it(signed_model, policy, tmp_path):
    other = Path(shutil.copytree(signed_model, tmp_path / "another"))
    with pytest.raises(tensorseal.VerifyError) as caught:
        tensorseal.verify(other, policy=policy)
    assert caught.value.kind == "policy"


def test_one_signature_for_a_key_several_for_a_policy(signed_model, keys, policy):
    bundle = signed_model / "model.sig"
    usage(lambda: tensorseal.verify(signed_model, policy=Key(keys[1]), bundle=[bundle, bundle]), "a policy takes several")
    usage(lambda: tensorseal.verify(signed_model, policy=Key(keys[1]), bundle=[]), "0 were given")
    with pytest.raises(tensorseal.VerifyError) as caught:
        tensorseal.verify(signed_model, policy=policy, bundle=[])
    assert caught.value.kind == "policy"


# ---- hostile arguments -----------------------------------------------------------------------------------------------


class _Odd:
    """A path that is no path."""

    def __fspath__(self) -> int:
        return 5


@pytest.mark.parametrize("path", ["", b"", "a\0b", b"a\0", "a\ud800", 5, None, _Odd(), object(), ["a"], True], ids=repr)
def test_what_is_no_path_is_a_usage_error(path, keys, signed_model):
    usage(lambda: tensorseal.verify(path, policy=Key(keys[1])))
    usage(lambda: tensorseal.digest(path))
    usage(lambda: tensorseal.sign(path, signer=KeySigner(keys[0])))
    usage(lambda: Key(path))
    usage(lambda: tensorseal.verify(signed_model, policy=Key(keys[1]), ignore=[path]))
    usage(lambda: KeySigner(path))


@pytest.mark.parametrize(
    "options",
    [
        {"digests": "md5"},
        {"digests": None},
        {"strict": "no"},
        {"ignore_unsigned": "no"},
        {"ignore_unsigned": 1},
        {"ignore_unsigned": None},
        {"ignore": 5},
        {"ignore": None},
        {"symlinks": True},
        {"symlinks": "follow"},
        {"git": "x"},
        {"max_bundle": 0},
        {"max_bundle": -1},
        {"max_bundle": 1 << 64},
        {"max_bundle": 1.5},
        {"max_bundle": True},
        {"device": "gpu"},
        {"device": "cuda:-1"},
        {"device": "auto"},
        {"device": 0},
        {"device": "\ud800"},
        {"progress": 5},
        {"policy": None},
        {"policy": 5},
        {"policy": ["policy.toml"]},
        {"bundle": 5},
        {"bundle": [None]},
        {"bundle": []},
        {"allow_ignored": "config.json"},
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_a_usage_error(options, signed_model, keys):
    usage(lambda: tensorseal.verify(signed_model, **({"policy": Key(keys[1])} | options)))


@pytest.mark.parametrize(
    "options",
    [
        {"hash": "md5"},
        {"hash": 5},
        {"shards": 0},
        {"shards": -1},
        {"shards": 1 << 64},
        {"shards": 1e6},
        {"shards": "64MiB"},
        {"shards_compat": True},
        {"tensors": 5},
        {"tensors": True, "shards": 1000},
        {"tensors": True, "annotations": False},
        {"annotations": None},
        {"signer": None},
        {"signer": "key.pem"},
        {"ignore": "."},
    ],
    ids=repr,
)
def test_what_cannot_be_signed_for_is_a_usage_error(options, model, keys, monkeypatch):
    monkeypatch.chdir(model)
    with pytest.raises(tensorseal.UsageError):
        tensorseal.sign(model, **({"signer": KeySigner(keys[0])} | options))
    assert not (model / "model.sig").exists()


def test_an_option_that_would_do_nothing_is_refused(keys):
    roots = {"timestamp_chain": "roots.pem"}
    usage(lambda: KeySigner(keys[0], **roots), "timestamp_url")
    usage(lambda: CertificateSigner(keys[0], "cert.pem", **roots), "timestamp_url")
    usage(lambda: Pkcs11Signer("pkcs11:object=k", **roots), "timestamp_url")
    for options in ({"chain": "chain.pem"}, {"any_purpose": True}):
        usage(lambda options=options: Pkcs11Signer("pkcs11:object=k", **options), "give certificate")
    assert KeySigner(keys[0], timestamp_url="http://a", **roots).timestamp_chain == ("roots.pem",)


def test_secrets_that_are_no_text_are_not_shown(keys):
    for password in (b"hush", 5, "hush\ud800"):
        assert "hush" not in str(usage(lambda password=password: KeySigner(keys[0], password=password)))
