//! The servers of `common::sigstore`, as their clients meet them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::common::server::{Asked, Reply, Server};
use crate::common::sigstore::certificate::Template;
use crate::common::sigstore::{PrivateSigstore, Proposal, Rekor, Request, Stamp, edit, sha256};
use crate::common::{Run, tensorseal_in, write};

pub(crate) const NAME: &str = "signer@example.com";
pub(crate) const ISSUER: &str = "https://issuer.example.com";

pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A token with the usual claims and `more` of them.
pub(crate) fn token(more: &Value) -> String {
    let mut claims = json!({
        "iss": ISSUER, "sub": "4711", "aud": "sigstore", "exp": now() + 300, "email": NAME, "email_verified": true,
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let part = |value: &str| URL_SAFE_NO_PAD.encode(value);
    format!("{}.{}.{}", part(r#"{"alg":"ES256","typ":"JWT"}"#), part(&claims.to_string()), part("a secret signature"))
}

/// A change to what a right instance does, made for each signature anew.
pub(crate) type Twist = fn(&mut Request);
/// What is answered in place of the right answer, if anything.
pub(crate) type Instead = fn(&Asked) -> Option<Reply>;

pub(crate) struct Instance {
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
}

impl Instance {
    pub(crate) fn right(rekor: Rekor) -> Self {
        Self::new(rekor, |_| {}, |_| None)
    }

    pub(crate) fn new(rekor: Rekor, twist: Twist, instead: Instead) -> Self {
        Self::certifying(rekor, NAME, ISSUER, twist, instead)
    }

    pub(crate) fn certifying(
        rekor: Rekor,
        name: &'static str,
        issuer: &'static str,
        twist: Twist,
        instead: Instead,
    ) -> Self {
        let answer = move |asked: &Asked| {
            instead(asked).unwrap_or_else(|| {
                let mut request = Request::new(rekor);
                request.time = now();
                twist(&mut request);
                answer(asked, name, issuer, request)
            })
        };
        let server = Server::start(answer);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("m/weights"), b"weights");
        let instance = Self { server, folder };
        let url = &instance.server.url;
        let one = |path: &str, version: u32| json!([{"url": format!("{url}{path}"), "majorApiVersion": version, "operator": "test", "validFor": {"start": "2020-01-01T00:00:00Z"}}]);
        let version = if rekor == Rekor::V1 { 1 } else { 2 };
        instance.configure(&json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": one("/fulcio", 1),
            "oidcUrls": one("/oidc", 1),
            "rekorTlogUrls": one("/rekor/", version),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": if rekor == Rekor::V1 { json!([]) } else { one("/tsa", 1) },
            "tsaConfig": {"selector": "ANY"},
        }));
        instance
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn configure(&self, signing_config: &Value) -> PathBuf {
        let path = self.path().join("trust.json");
        let config = json!({
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": PrivateSigstore::new("one").trusted_root(),
            "signingConfig": signing_config,
        });
        write(&path, config.to_string());
        path
    }

    /// Signs the model as whoever `token` says, or by what `args` say.
    pub(crate) fn sign(&self, token: Option<&str>, args: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut all = vec!["sign", "sigstore", "m", "--trust-config", "trust.json", "--service-timeout", "3"];
        if let Some(token) = token {
            write(self.path().join("token"), token);
            all.extend(["--identity-token-file", "token"]);
        }
        all.extend(args);
        tensorseal_in(self.path(), &all, environment)
    }

    pub(crate) fn verify(&self, args: &[&str]) -> Run {
        let all = ["verify", "sigstore", "m", "--signature", "model.sig", "--trust-config", "trust.json"];
        tensorseal_in(self.path(), &[&all, args].concat(), &[])
    }

    pub(crate) fn signature(&self) -> PathBuf {
        self.path().join("model.sig")
    }
}

fn answer(asked: &Asked, name: &str, issuer: &str, request: Request) -> Reply {
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    if asked.method == "GET" {
        return Reply::Send(404, b"not here".to_vec());
    }
    match &*asked.path {
        "/fulcio/api/v2/signingCert" => fulcio(&body, name, issuer, request),
        "/rekor/api/v2/log/entries" => rekor2(&body, request),
        "/rekor/api/v1/log/entries" => rekor1(&body, request),
        "/tsa" => stamp(&asked.body, &request),
        _ => Reply::Send(404, b"not here".to_vec()),
    }
}

fn sigstore() -> PrivateSigstore {
    PrivateSigstore::new("one")
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn unpem(text: &str) -> Vec<u8> {
    let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(lines).unwrap()
}

/// The certificate is for the key of the request, unless the twist has put something else there.
fn fulcio(body: &Value, name: &str, issuer: &str, mut request: Request) -> Reply {
    assert!(body["credentials"]["oidcIdentityToken"].as_str().unwrap().starts_with("ey"));
    let spki = unpem(body["publicKeyRequest"]["publicKey"]["content"].as_str().unwrap());
    if request.leaf.is_none() {
        request.leaf = edit(move |leaf: &mut Template| leaf.spki.clone_from(&spki));
    }
    let certificate = sigstore().certify(name, issuer, &request);
    let chain = [&certificate, &sigstore().intermediate, &sigstore().root].map(|der| pem("CERTIFICATE", der));
    Reply::ok(json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}).to_string())
}

/// The log of `request`, with `body` for an entry.
fn entry(body: Value, mut request: Request) -> Value {
    if request.body.is_none() {
        request.body = edit(move |of: &mut Value| *of = body.clone());
    }
    let key = crate::common::sigstore::Key::p256("leaf");
    let nothing = Proposal { pae: b"", payload: b"", signature: b"", certificate: b"", key: &key };
    sigstore().record(&nothing, &request)
}

fn rekor2(body: &Value, request: Request) -> Reply {
    let asked = &body["hashedRekordRequestV002"];
    let verifier = &asked["signature"]["verifier"];
    let logged = json!({
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": asked["digest"]},
            "signature": {
                "content": asked["signature"]["content"],
                "verifier": {"keyDetails": verifier["keyDetails"], "x509Certificate": verifier["x509Certificate"]},
            },
        }},
    });
    Reply::Send(201, entry(logged, request).to_string().into())
}

fn rekor1(body: &Value, request: Request) -> Reply {
    let proposed = &body["spec"]["proposedContent"];
    let envelope: Value = serde_json::from_str(proposed["envelope"].as_str().unwrap()).unwrap();
    // Rekor stores the certificate in a form of its own, whatever the form that it was given.
    let verifier = STANDARD.decode(proposed["verifiers"][0].as_str().unwrap()).unwrap();
    let verifier = crate::common::sigstore::log::pem(&unpem(std::str::from_utf8(&verifier).unwrap()));
    let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex(&sha256(bytes))});
    let logged = json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": hash(proposed["envelope"].as_str().unwrap().as_bytes()),
            "payloadHash": hash(&STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()),
            "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": STANDARD.encode(verifier)}],
        },
    });
    let entry = entry(logged, request);
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let proof = &entry["inclusionProof"];
    let hashes: Vec<String> = proof["hashes"].as_array().unwrap().iter().map(|hash| hex(&bytes(hash))).collect();
    let answer = json!({"24296fb24b8ad77a": {
        "body": entry["canonicalizedBody"],
        "integratedTime": number(&entry["integratedTime"]),
        "logID": hex(&bytes(&entry["logId"]["keyId"])),
        "logIndex": number(&entry["logIndex"]),
        "verification": {
            "inclusionProof": {
                "checkpoint": proof["checkpoint"]["envelope"],
                "hashes": hashes,
                "logIndex": number(&proof["logIndex"]),
                "rootHash": hex(&bytes(&proof["rootHash"])),
                "treeSize": number(&proof["treeSize"]),
            },
            "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
        },
    }});
    Reply::Send(201, answer.to_string().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest in the request is its OCTET STRING of 32 bytes, and the nonce the INTEGER behind it.
fn stamp(query: &[u8], request: &Request) -> Reply {
    let at = query.windows(2).position(|two| two == [4, 32]).unwrap() + 2;
    let (imprint, rest) = query[at..].split_at(32);
    assert_eq!(rest[0], 2, "no nonce");
    let sigstore = sigstore();
    let mut stamp = Stamp::new(request.time, b"", &sigstore.tsa);
    stamp.imprint = imprint.to_vec();
    stamp.nonce = rest[..2 + usize::from(rest[1])].to_vec();
    if let Some(edit) = &request.stamp {
        edit(&mut stamp);
    }
    Reply::ok(stamp.sign(&sigstore.tsa, request.tsa_key.as_ref().unwrap_or(&sigstore.tsa.key)))
}
