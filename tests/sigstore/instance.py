"""Brings up a private Sigstore on loopback: what `up` starts. `up --help` says how it is used."""

import argparse
import base64
import contextlib
import ctypes
import datetime
import fcntl
import hashlib
import http.server
import json
import os
import pathlib
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import parse_qsl, urlsplit

import issuer
import repository

HERE = pathlib.Path(__file__).resolve().parent
PASSWORD = "only for tests"
# The timestamp authority and Rekor v1 serve their metrics there, whatever one asks.
METRICS_PORT = 2112


class Failed(Exception):
    """The instance could not be brought up; the text is for a person."""


def openssl(*arguments, **options):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **options)


def free_ports(count):
    """Ports that nobody has now. All are held until all are chosen, so that no two are the same."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def bring_up_loopback():
    """Sets `lo` up, as `ip link set lo up` does: a new network namespace has it down."""
    get_flags, set_flags, is_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh22x", b"lo", flags | is_up))


def die_with_parent():
    """Runs in each child: the kernel kills it when this process ends, however that comes about."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


# ---- keys and certificates -------------------------------------------------------------------------------------------


class Keys:
    """Every key and certificate of one instance, made anew by openssl in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.fulcio = self.authority("fulcio", "codeSigning")
        self.tsa = self.timestamp_authority()
        for name in ("ct", "rekor-v1"):
            curve = "ec_paramgen_curve:P-256"
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", folder / f"{name}.key")
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / "rekor-v2.key")

    def path(self, name):
        return self.folder / name

    def public(self, name):
        """The public half of the key `name`: a SubjectPublicKeyInfo, DER."""
        command = ["openssl", "pkey", "-in", self.path(f"{name}.key"), "-pubout", "-outform", "DER"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def private(self, name):
        """The key `name`: DER."""
        command = ["openssl", "pkey", "-in", self.path(f"{name}.key"), "-outform", "DER"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def der(self, name):
        command = ["openssl", "x509", "-in", self.path(f"{name}.pem"), "-outform", "DER"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def self_signed(self, name, common_name):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-noenc",
            "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.pem"), "-days", "30", "-sha384",
            "-subj", f"/O=tensorseal tests/CN={common_name}",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issued(self, name, common_name, by, *extensions):
        request, conf = self.path(f"{name}.csr"), self.path(f"{name}.ext")
        conf.write_text("\n".join((*extensions, "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")) + "\n")
        openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
            "-keyout", self.path(f"{name}.key"), "-out", request, "-subj", f"/O=tensorseal tests/CN={common_name}",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", request, "-CA", self.path(f"{by}.pem"), "-CAkey", self.path(f"{by}.key"),
            "-CAcreateserial", "-days", "30", "-sha384", "-extfile", conf, "-out", self.path(f"{name}.pem"),
        )  # fmt: skip

    def chain(self, *names):
        """One PEM file with the certificates `names`, the issued one first."""
        file = self.path(names[0] + "-chain.pem")
        file.write_text("".join(self.path(f"{name}.pem").read_text() for name in names))
        return file

    def authority(self, name, purpose):
        """A root and an intermediate below it whose key is encrypted, as Fulcio's fileca wants it."""
        self.self_signed(f"{name}-root", f"{name} root")
        self.issued(
            name, f"{name} intermediate", f"{name}-root",
            "basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign",
            f"extendedKeyUsage={purpose}",
        )  # fmt: skip
        openssl(
            "pkcs8", "-topk8", "-in", self.path(f"{name}.key"), "-out", self.path(f"{name}-encrypted.key"),
            "-v2", "aes-256-cbc", "-passout", f"pass:{PASSWORD}",
        )  # fmt: skip
        return self.chain(name, f"{name}-root")

    def timestamp_authority(self):
        self.self_signed("tsa-root", "timestamp root")
        self.issued(
            "tsa", "timestamp signer", "tsa-root",
            "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=critical,timeStamping",
        )  # fmt: skip
        return self.chain("tsa", "tsa-root")


# ---- what a client has to know ---------------------------------------------------------------------------------------


def encoded(raw):
    return base64.b64encode(raw).decode()


def moment(when):
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def since(start):
    return {"start": moment(start)}


def log(url, key, details, log_id, start):
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": encoded(key), "keyDetails": details, "validFor": since(start)},
        "logId": {"keyId": encoded(log_id)},
    }


def authority(url, name, certificates, start):
    return {
        "subject": {"organization": "tensorseal tests", "commonName": name},
        "uri": url,
        "certChain": {"certificates": [{"rawBytes": encoded(one)} for one in certificates]},
        "validFor": since(start),
    }


def note_key_id(origin, ed25519_spki):
    """The number of an Ed25519 key in a signed note (C2SP signed-note), uncut: what Rekor v2 calls its log."""
    return hashlib.sha256(origin.encode() + b"\n\x01" + ed25519_spki[-32:]).digest()


def trusted_root(keys, urls, start):
    p256 = "PKIX_ECDSA_P256_SHA_256"
    ct, v1, v2 = keys.public("ct"), keys.public("rekor-v1"), keys.public("rekor-v2")
    v2_log = log(urls["REKOR_V2"], v2, "PKIX_ED25519", note_key_id(urlsplit(urls["REKOR_V2"]).netloc, v2), start)
    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log(urls["REKOR_V1"], v1, p256, hashlib.sha256(v1).digest(), start), v2_log],
        "certificateAuthorities": [
            authority(urls["FULCIO"], "fulcio", [keys.der("fulcio"), keys.der("fulcio-root")], start)
        ],
        "ctlogs": [log(urls["CT"], ct, p256, hashlib.sha256(ct).digest(), start)],
        "timestampAuthorities": [authority(urls["TSA"], "timestamp", [keys.der("tsa"), keys.der("tsa-root")], start)],
    }


def signing_config(urls, start, *, rekor, issuer="ISSUER"):
    """Where to sign: with Rekor v2 and the timestamp authority, or with Rekor v1, which tells the time itself."""

    def service(url, version):
        return {"url": url, "majorApiVersion": version, "validFor": since(start), "operator": "tensorseal tests"}

    config = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service(urls["FULCIO"], 1)],
        "oidcUrls": [service(urls[issuer], 1)],
        "rekorTlogUrls": [service(urls[f"REKOR_V{rekor}"], rekor)],
        "rekorTlogConfig": {"selector": "ANY"},
    }
    if rekor == 2:
        config |= {"tsaUrls": [service(urls["TSA"] + "/api/v1/timestamp", 1)], "tsaConfig": {"selector": "ANY"}}
    return config


# ---- the servers -----------------------------------------------------------------------------------------------------


class Instance:
    """All servers of one private Sigstore, its files in the folder `work`."""

    def __init__(self, work, binaries):
        self.work = work
        self.binaries = binaries
        self.children = {}
        self.threads = []
        self.variables = {}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        keys = Keys(self.work / "keys")
        (self.work / "logs").mkdir()
        ports = dict(zip(("web", "trillian", "ct", "fulcio", "fulcio-grpc", "fulcio-metrics", "v1", "v2", "v2-grpc",
                          "v2-metrics", "tsa"), free_ports(11)))  # fmt: skip
        address = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        urls = {
            "ISSUER": address["web"],
            "SECOND_ISSUER": address["web"] + "/second",
            "FULCIO": address["fulcio"],
            "CT": address["ct"] + "/ct",
            "REKOR_V1": address["v1"],
            "REKOR_V2": address["v2"],
            "TSA": address["tsa"],
            "TUF": address["web"] + "/tuf",
        }
        self.issuers = {
            "": issuer.Issuer(address["web"], "", "sigstore"),
            "/second": issuer.Issuer(address["web"], "/second", "tensorseal", "a secret"),
        }
        self.serve_web(ports["web"])
        self.start_tsa(keys, ports)
        self.start_logs(keys, ports)
        self.start_fulcio(keys, ports, urls)
        for name, url in (
            ("fulcio", urls["FULCIO"] + "/healthz"),
            ("rekor-v1", urls["REKOR_V1"] + "/api/v1/log"),
            ("rekor-v2", urls["REKOR_V2"] + "/healthz"),
            ("tsa", urls["TSA"] + "/ping"),
        ):
            self.wait_for(name, url)
        self.write_trust(keys, urls)

    def start_logs(self, keys, ports):
        tree = self.work / "tree"
        self.run("trillian", "--address", f"127.0.0.1:{ports['trillian']}", "--tree_file", tree, "--logtostderr")
        self.wait("trillian", tree.exists)
        key = "".join(f"\\x{byte:02x}" for byte in keys.private("ct"))
        config = self.work / "ct.cfg"
        config.write_text(
            f"""config {{
  log_id: {tree.read_text().strip()}
  prefix: "ct"
  roots_pem_file: "{keys.path("fulcio-root.pem")}"
  private_key: {{ [type.googleapis.com/keyspb.PrivateKey] {{ der: "{key}" }} }}
  ext_key_usages: "CodeSigning"
  max_merge_delay_sec: 86400
}}
"""
        )
        self.run(
            "ct-server", "--http_endpoint", f"127.0.0.1:{ports['ct']}", "--log_config", config, "--logtostderr",
            "--log_rpc_server", f"127.0.0.1:{ports['trillian']}",
        )  # fmt: skip
        # Without searchIndex: it is what wants Redis or MySQL.
        reading = "getLogInfo,getPublicKey,getLogProof,getLogEntryByIndex,getLogEntryByUUID,searchLogQuery"
        self.run(
            "rekor-v1", "serve", "--rekor_server.address", "127.0.0.1", "--port", ports["v1"],
            "--rekor_server.hostname", "rekor.test", "--rekor_server.signer", keys.path("rekor-v1.key"),
            "--trillian_log_server.port", ports["trillian"], "--enable_retrieve_api=false",
            "--enabled_api_endpoints", f"createLogEntry,{reading}",
        )  # fmt: skip
        self.run(
            "rekor-v2", "serve", "--http-address", "127.0.0.1", "--http-port", ports["v2"],
            "--grpc-address", "127.0.0.1", "--grpc-port", ports["v2-grpc"], "--http-metrics-port", ports["v2-metrics"],
            # Clients take a log's origin to be its address less the scheme.
            "--hostname", f"127.0.0.1:{ports['v2']}", "--storage-dir", self.work / "rekor-v2",
            "--signer-filepath", keys.path("rekor-v2.key"), "--checkpoint-interval", "200ms",
            "--batch-max-age", "50ms",
        )  # fmt: skip
        self.wait_for("ct-server", f"http://127.0.0.1:{ports['ct']}/ct/ct/v1/get-sth")

    def start_fulcio(self, keys, ports, urls):
        config = self.work / "fulcio.json"
        issuers = {
            one.url: {"IssuerURL": one.url, "ClientID": one.client_id, "Type": "email"} for one in self.issuers.values()
        }
        config.write_text(json.dumps({"OIDCIssuers": issuers}))
        self.run(
            "fulcio", "serve", "--host", "127.0.0.1", "--port", ports["fulcio"], "--grpc-host", "127.0.0.1",
            "--grpc-port", ports["fulcio-grpc"], "--metrics-port", ports["fulcio-metrics"],
            "--legacy-unix-domain-socket", self.work / "fulcio.sock", "--config-path", config,
            "--ca", "fileca", "--fileca-cert", keys.fulcio, "--fileca-key", keys.path("fulcio-encrypted.key"),
            "--fileca-key-passwd", PASSWORD, "--fileca-watch=false", "--ct-log-url", urls["CT"],
        )  # fmt: skip

    def start_tsa(self, keys, ports):
        self.run(
            "tsa", "serve", "--host", "127.0.0.1", "--port", ports["tsa"], "--timestamp-signer", "file",
            "--file-signer-key-path", keys.path("tsa.key"), "--file-signer-passwd", "",
            "--certificate-chain-path", keys.tsa, "--disable-ntp-monitoring",
        )  # fmt: skip
        # Where the port is taken Rekor v1 goes on without metrics, but the timestamp authority ends: so it comes first.
        self.wait_for("tsa", f"http://127.0.0.1:{METRICS_PORT}/metrics")

    def run(self, name, *arguments):
        log_file = (self.work / "logs" / f"{name}.log").open("wb")
        self.children[name] = subprocess.Popen(
            [self.binaries / name, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=log_file, stderr=subprocess.STDOUT, cwd=self.work,
            preexec_fn=die_with_parent,
            # The servers read settings from these, too: nothing of the caller's may reach them.
            env={"PATH": os.environ["PATH"], "HOME": str(self.work), "TMPDIR": str(self.work)},
        )  # fmt: skip

    def wait(self, name, done, seconds=30):
        """Waits until `done()`, or fails with the end of the server's log."""
        deadline = time.monotonic() + seconds
        while not done():
            ended = self.children[name].poll() is not None
            if ended or time.monotonic() > deadline:
                text = (self.work / "logs" / f"{name}.log").read_text(errors="replace")
                raise Failed(f"{name} {'ended' if ended else f'does not answer after {seconds} s'}:\n{text[-3000:]}")
            time.sleep(0.05)

    def wait_for(self, name, url):
        def answers():
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
                return response.status == 200
            return False

        self.wait(name, answers)

    def serve_web(self, port):
        """Starts the thread that serves the issuers and the TUF repositories."""
        issuers, files = self.issuers, self.work / "web"
        files.mkdir()

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(files))

            def log_message(self, *_):
                pass

            def respond(self, method, body=b""):
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                for prefix in sorted(issuers, reverse=True):
                    if parts.path.startswith(prefix + "/"):
                        rest = parts.path.removeprefix(prefix)
                        answer = issuer.answer(issuers[prefix], method, rest, query, self.headers, body)
                        if answer:
                            return self.send(*answer)
                if method == "GET":
                    return super().do_GET()
                return self.send(404, {}, "not here\n")

            def send(self, status, headers, text):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self):
                self.respond("GET")

            def do_POST(self):
                self.respond("POST", self.rfile.read(int(self.headers.get("Content-Length", 0))))

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.threads.append(server)

    def write_trust(self, keys, urls):
        """Writes what clients trust and where they sign, publishes it by TUF, and gathers the variables for tests."""
        start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
        root = trusted_root(keys, urls, start)
        # What another instance at the same addresses would have: as good as this one, but not the one that signed.
        foreign = trusted_root(Keys(self.work / "foreign-keys"), urls, start)
        configs = {
            "": signing_config(urls, start, rekor=2),
            "_v1": signing_config(urls, start, rekor=1),
            "_second": signing_config(urls, start, rekor=2, issuer="SECOND_ISSUER"),
        }
        files = {
            "trusted_root.json": root,
            "foreign_trusted_root.json": foreign,
        }
        for suffix, config in configs.items():
            files[f"signing_config{suffix}.json"] = config
            files[f"trust_config{suffix}.json"] = {
                "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
                "trustedRoot": root,
                "signingConfig": config,
            }
        for name, content in files.items():
            (self.work / name).write_text(json.dumps(content, indent=2) + "\n")

        web = self.work / "web"
        targets = {
            "trusted_root.json": (self.work / "trusted_root.json").read_bytes(),
            "signing_config.v0.2.json": (self.work / "signing_config.json").read_bytes(),
        }
        signer = repository.write(web / "tuf", targets)
        repository.write(web / "tuf-rotated", targets, after=signer)
        repository.write(web / "tuf-foreign", targets)
        repository.write(web / "tuf-expired", targets, days=-1, after=signer)

        paths = {
            "WORK": self.work,
            "TRUST_CONFIG": self.work / "trust_config.json",
            "TRUST_CONFIG_V1": self.work / "trust_config_v1.json",
            "TRUSTED_ROOT": self.work / "trusted_root.json",
            "FOREIGN_TRUSTED_ROOT": self.work / "foreign_trusted_root.json",
            "SIGNING_CONFIG": self.work / "signing_config.json",
            "TUF_ROOT": web / "tuf" / "1.root.json",
        }
        self.variables = {f"TENSORSEAL_SIGSTORE_{name}": str(value) for name, value in (paths | urls).items()}
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.variables.items()]
        (self.work / "env").write_text("".join(lines))

    def stop(self):
        """Ends every server. All that they hold is in the work folder or in memory: nothing needs a farewell."""
        for child in self.children.values():
            child.kill()
        for child in self.children.values():
            child.wait()
        for server in self.threads:
            server.shutdown()
            server.server_close()


def main():
    parser = argparse.ArgumentParser(
        prog="tests/sigstore/up",
        description="Brings up a private Sigstore on loopback: an OIDC issuer, Fulcio, a CT log, Rekor v1 and v2, "
        "a timestamp authority and a TUF repository. Without --run it stays up until it is interrupted, or until "
        "`tests/sigstore/down WORK`.",
    )
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--namespace", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=pathlib.Path, help="folder for its files, made anew (default: a temporary one)")
    parser.add_argument(
        "--run", nargs=argparse.REMAINDER, metavar="COMMAND", help="run COMMAND with the variables set, then stop"
    )
    arguments = parser.parse_args()
    if arguments.namespace:
        bring_up_loopback()
    # An ended shell or a `kill` unwinds as an interrupt does, so that the folder goes.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit(128 + ending))

    with contextlib.ExitStack() as stack:
        work = arguments.work
        if work is None:
            work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tensorseal-sigstore-")))
        else:
            work.mkdir(mode=0o700)
            work = work.resolve()
        (work / "pid").write_text(f"{os.getpid()}\n")
        start = time.monotonic()
        instance = stack.enter_context(Instance(work, arguments.binaries))
        print(f"up after {time.monotonic() - start:.1f} s: . {work}/env", file=sys.stderr, flush=True)
        if arguments.run:
            return subprocess.run(arguments.run, env=os.environ | instance.variables).returncode
        while True:
            signal.pause()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Failed as failure:
        sys.exit(f"tests/sigstore/up: {failure}")
