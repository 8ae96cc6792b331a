//! `inspect`: what a bundle says, or what of a model would be signed and which tensors it holds. Nothing is verified.

mod fold;
mod model;

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::json;
use tensorseal::bundle::{Bundle, LogEntry, VerificationMaterial};
use tensorseal::time::UnixTime;
use tensorseal::verify::qualified_name;
use tensorseal::x509::{Certificate, CertificateFault};
use tensorseal::{Error, Manifest, VerifyError};

use super::args::InspectArgs;
use super::exit::Exit;
use super::{Asked, failed, json, printed, say, tell};

/// What stands before a reason.
const FAILED: &str = "Inspection failed:";

pub(super) fn run(args: &InspectArgs) -> Exit {
    if !looks_like_a_bundle(&args.model.model) {
        return model::run(args);
    }
    match bundle(args) {
        Ok(text) => printed(&text),
        Err(error) => {
            let signature = Some(args.model.model.as_path());
            failed(&Asked { command: "inspect", model: None, signature, json: args.json }, FAILED, &error)
        }
    }
}

/// By its first bytes. Weights do not look so; `config.json` does not.
fn looks_like_a_bundle(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = path.is_file() && File::open(path).is_ok_and(|file| file.take(4096).read_to_end(&mut head).is_ok());
    read && Bundle::looks_like_one(&head)
}

fn bundle(args: &InspectArgs) -> Result<String, Error> {
    let bundle = Bundle::read(&args.model.model, args.max_bundle_size.get())?;
    let manifest = bundle.unverified_manifest().map_err(VerifyError::Format)?;
    let evidence = bundle.evidence();
    let (entries, timestamps) = (evidence.log_entries.len(), evidence.timestamps.len());
    let hint = match bundle.material() {
        VerificationMaterial::PublicKey { hint, .. } => hint.as_deref(),
        _ => None,
    };
    if args.json {
        let signature = Some(args.model.model.as_path());
        let asked = Asked { command: "inspect", model: None, signature, json: true };
        let mut report = json::head(&asked, Exit::Yes);
        json::insert(
            &mut report,
            json!({
                "verdict": "none",
                "verified": false,
                "method": bundle.material().method(),
                "key_hint": hint,
                "certificates": certificates(&bundle).map(|(number, read)| certificate_json(number, read)).collect::<Vec<_>>(),
                "claimed": claimed(&bundle).map(|(identity, issuer)| json!({"identity": identity, "issuer": issuer})),
                "log_entries": entries,
                "log": evidence.log_entries.iter().map(|entry| Logged::read(entry).json()).collect::<Vec<_>>(),
                "timestamps": timestamps,
                "predicate_type": manifest.version().predicate_type(),
                "model_name": manifest.model(),
                "root": manifest.root().to_string(),
                "serialization": json::serialization(manifest.serialization()),
                "resources": manifest.resources().iter().map(resource).collect::<Vec<_>>(),
            }),
        );
        return Ok(json::text(&report));
    }
    Ok(bundle_text(&bundle, &manifest, hint))
}

/// Whom a Sigstore certificate names, and whose word that is.
#[cfg(feature = "sigstore-verify")]
fn claimed(bundle: &Bundle) -> Option<(String, String)> {
    tensorseal::verify::unverified_subject(bundle)
}

#[cfg(not(feature = "sigstore-verify"))]
fn claimed(_: &Bundle) -> Option<(String, String)> {
    None
}

/// What a log entry says of itself; `None` where it says nothing that can be shown.
struct Logged {
    kind: Option<String>,
    index: Option<u64>,
    integrated: Option<UnixTime>,
}

impl Logged {
    fn read(entry: &LogEntry) -> Self {
        let entry: serde_json::Value = serde_json::from_str(entry.as_json()).unwrap_or_default();
        // 64-bit numbers are strings in the JSON of protobuf, and may be numbers.
        let number =
            |field: &str| entry[field].as_str().and_then(|text| text.parse().ok()).or_else(|| entry[field].as_u64());
        let of_kind = |field: &str| entry["kindVersion"][field].as_str();
        Self {
            kind: of_kind("kind").map(|kind| format!("{kind} {}", of_kind("version").unwrap_or_default())),
            index: number("logIndex"),
            integrated: number("integratedTime").filter(|&at| at > 0).and_then(|at| at.try_into().ok()).map(UnixTime),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({"kind": self.kind, "index": self.index, "integrated": self.integrated.map(|at| at.to_string())})
    }

    fn text(&self) -> String {
        let index = self.index.map_or_else(|| "of no number".to_owned(), |index| index.to_string());
        let at = self.integrated.map_or_else(String::new, |at| format!(", integrated {at}"));
        format!("{index} ({}){at}", self.kind.as_deref().unwrap_or("of no kind"))
    }
}

fn resource(resource: &tensorseal::manifest::Resource) -> serde_json::Value {
    let blake3 = resource.blake3.map(|digest| digest.to_hex());
    json!({"name": resource.name.as_str(), "digest": resource.digest.to_string(), "blake3": blake3, "size": resource.size, "tensors": resource.tensors.map(|digest| digest.to_hex())})
}

/// The certificates of a bundle, read or not, numbered from 1: that of the signer.
fn certificates(bundle: &Bundle) -> impl Iterator<Item = (usize, Result<Certificate, CertificateFault>)> {
    let all = match bundle.material() {
        VerificationMaterial::CertificateChain(chain) => chain.iter().collect(),
        VerificationMaterial::Certificate(one) => vec![one],
        _ => vec![],
    };
    all.into_iter().enumerate().map(|(i, der)| (i + 1, Certificate::from_der(der)))
}

fn certificate_json(number: usize, read: Result<Certificate, CertificateFault>) -> serde_json::Value {
    match read {
        Ok(of) => json!({
            "number": number,
            "subject": of.subject(),
            "issuer": of.issuer(),
            "names": of.names().iter().map(qualified_name).collect::<Vec<_>>(),
            "not_before": of.not_before().to_string(),
            "not_after": of.not_after().to_string(),
            "fingerprint": of.fingerprint(),
        }),
        Err(fault) => json!({"number": number, "error": fault.to_string()}),
    }
}

/// What people want to know of a certificate: label and value.
fn certificate_lines(number: usize, read: Result<Certificate, CertificateFault>) -> Vec<(String, String)> {
    let line = |label: &str, value| (label.to_owned(), value);
    let of = match read {
        Ok(of) => of,
        Err(fault) => return vec![line(&format!("certificate {number}"), format!("cannot be read: {fault}"))],
    };
    let mut lines = vec![
        line(&format!("certificate {number}"), of.subject()),
        line("  issued by", of.issuer()),
        line("  valid", format!("{} to {}", of.not_before(), of.not_after())),
        line("  sha256", of.fingerprint()),
    ];
    lines.extend(of.names().iter().map(|name| line("  name", qualified_name(name))));
    lines
}

fn bundle_text(bundle: &Bundle, manifest: &Manifest, hint: Option<&str>) -> String {
    let serialization = manifest.serialization();
    let mut text = String::from("NOT VERIFIED: this is what the bundle says of itself.\n\n");
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<16}{}", say::name(&value));
    };
    line("method", bundle.material().method().to_owned());
    if let VerificationMaterial::PublicKey { .. } = bundle.material() {
        line("key hint", hint.unwrap_or("none").to_owned());
    }
    for (number, read) in certificates(bundle) {
        certificate_lines(number, read).into_iter().for_each(|(label, value)| line(&label, value));
    }
    let evidence = bundle.evidence();
    let (entries, timestamps) = (evidence.log_entries.len(), evidence.timestamps.len());
    if let Some((identity, issuer)) = claimed(bundle) {
        line("identity", identity);
        line("issuer", issuer);
    }
    line("log entries", entries.to_string());
    for entry in &evidence.log_entries {
        line("log entry", Logged::read(entry).text());
    }
    line("timestamps", timestamps.to_string());
    line("statement", manifest.version().predicate_type().to_owned());
    line("model name", manifest.model().to_owned());
    line("root", manifest.root().to_string());
    let shards =
        serialization.method.shard_size().map_or_else(|| "files".to_owned(), |size| format!("shards of {size} bytes"));
    line("serialization", format!("{shards}, {}", serialization.hash));
    line("symlinks", if serialization.allow_symlinks { "followed" } else { "refused" }.to_owned());
    line(
        "ignored",
        serialization.ignore_paths.as_ref().map_or_else(|| "not recorded".to_owned(), |paths| paths.join(", ")),
    );
    let annotated = manifest.resources().iter().filter(|resource| resource.blake3.is_some()).count();
    line("resources", format!("{} ({annotated} with a BLAKE3 digest beside the OMS one)", manifest.resources().len()));
    text.push('\n');
    for resource in manifest.resources() {
        let size = resource.size.map_or_else(String::new, |size| format!("  {}", tell::bytes(size)));
        let _ = writeln!(text, "{}  {}{size}", resource.digest.to_hex(), say::name(resource.name.as_str()));
    }
    text
}
