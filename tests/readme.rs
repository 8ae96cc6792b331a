//! The README's shell lines, run as they stand.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../src/format/tests/build.rs"]
mod build;
mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The ```` ```sh ```` blocks of a Markdown text, each with the line on which it begins.
fn shell_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((number + 1, language == "sh", String::new())),
            (Some(_), Some(_)) => {
                let (begin, is_shell, block) = open.take().unwrap();
                if is_shell {
                    blocks.push((begin, block));
                }
            }
            (Some((_, _, block)), None) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// A folder as the README takes it for granted: a model, and a Hugging Face cache under the home folder.
fn set_up(home: &Path) {
    let model = home.join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), "{\"model_type\": \"llama\"}\n").unwrap();
    let weights =
        build::json(&[("w", "U8", "3145728", 0, 3 << 20)]).replacen('{', r#"{"__metadata__":{"format":"pt"},"#, 1);
    fs::write(model.join("model.safetensors"), build::safetensors(&weights, 3 << 20)).unwrap();
    let repository = home.join(".cache/huggingface/hub/models--org--name");
    let snapshot = repository.join("snapshots/0123abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::write(repository.join("blobs/5eed"), "weights").unwrap();
    symlink("../../blobs/5eed", snapshot.join("model.safetensors")).unwrap();
}

#[test]
fn every_shell_block_runs_in_the_order_of_the_page() {
    let home = tempfile::tempdir().unwrap();
    set_up(home.path());
    let binary = Path::new(env!("CARGO_BIN_EXE_tensorseal"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let blocks = shell_blocks(README);
    assert!(blocks.len() >= 6, "the README has lost its shell blocks");
    for (line, block) in blocks {
        let run = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &block])
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "README.md, line {line}: {}\n{block}\n{said}", run.status);
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("SECURITY.md")];
    pages.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(page.parent().unwrap().join(target).exists(), "{}: {link}", page.display());
        }
    }
}

/// Every name of a field in `value`, at any depth.
fn fields(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                fields(value, found);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

/// Reports with a certificate, a policy and, where the vectors are, a Sigstore identity.
fn reports_of_other_methods(home: &Path) -> Vec<(&'static str, Vec<u8>)> {
    use common::pki::{Key, wanted};
    let root = wanted("root", Key::P256).ca().by(home, None);
    wanted("signer", Key::P256).signer(&["email:a@example.com"]).by(home, Some(&root));
    fs::create_dir(home.join("n")).unwrap();
    fs::write(home.join("n/a"), "A").unwrap();
    let here = home.canonicalize().unwrap();
    let policy = format!(
        "version = 1\n[signers.s]\ncertificate = {{ roots = [\"root.pem\"], any_identity = true }}\n[[rule]]\npath = \"{}/n\"\nany_of = [\"s\"]\n",
        here.display()
    );
    fs::write(home.join("policy.toml"), policy).unwrap();
    let mut lines = vec![
        "sign certificate n --private-key signer.key --signing-certificate signer.pem --signature n.sig --json",
        "verify certificate n --signature n.sig --certificate-chain root.pem --json",
        "verify n --signature n.sig --policy policy.toml --json",
        "inspect n.sig --json",
    ];
    if cfg!(feature = "sigstore-verify") {
        lines.push("trust show --json");
    }
    if let (Some(vectors), true) = (common::vectors(), cfg!(feature = "sigstore-verify")) {
        common::copy(&vectors.join("historical/v1.1.0-sigstore"), &home.join("s"));
        fs::remove_file(home.join("s/ignore-me")).unwrap_or_default();
        lines.push("verify sigstore s --signature s/model.sig --identity stefanb@us.ibm.com --identity-provider https://sigstore.verify.ibm.com/oauth2 --json");
        lines.push("inspect s/model.sig --json");
    }
    let run = |line: &'static str| {
        let run = common::seal(home, line);
        assert_eq!(run.code, Some(0), "{line}: {run:?}");
        (line, run.stdout.into_bytes())
    };
    lines.into_iter().map(run).collect()
}

#[test]
fn every_field_of_a_report_is_documented() {
    let page = include_str!("../docs/json.md");
    let home = tempfile::tempdir().unwrap();
    set_up(home.path());
    fs::create_dir(home.path().join("model/.git")).unwrap();
    fs::write(home.path().join("model/.git/HEAD"), "ref").unwrap();
    symlink("config.json", home.path().join("model/link.json")).unwrap();
    let report = |line: &str, exit: i32| {
        let run = Command::new(env!("CARGO_BIN_EXE_tensorseal"))
            .args(line.split(' '))
            .current_dir(home.path())
            .output()
            .unwrap();
        assert_eq!(run.status.code(), Some(exit), "{line}: {}", String::from_utf8_lossy(&run.stderr));
        run.stdout
    };
    report("keygen --out key.pem", 0);
    let verify = "verify key model --public-key key.pub --signature model.sig --json";
    let mut reports = Vec::new();
    for line in [
        "sign key model --private-key key.pem --signature model.sig --allow-symlinks --json",
        verify,
        "digest model --allow-symlinks --json",
        "inspect model --allow-symlinks --json",
        "inspect model.sig --json",
        "devices --json",
        "selftest --device cpu --case vectors/0 --bench --bench-size 1MiB --repeats 1 --json",
    ] {
        reports.push((line, report(line, 0)));
    }
    fs::write(home.path().join("model/config.json"), "{}").unwrap();
    fs::write(home.path().join("model/new"), "new").unwrap();
    fs::remove_file(home.path().join("model/model.safetensors")).unwrap();
    reports.push((verify, report(verify, 1)));
    let nothing = "digest nothing --json";
    reports.push((nothing, report(nothing, 3)));

    reports.extend(reports_of_other_methods(home.path()));
    for (line, text) in reports {
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["schema"], "tensorseal/report/v1", "{line}");
        let mut found = std::collections::BTreeSet::new();
        fields(&value, &mut found);
        for field in found {
            let in_prose = [format!("`{field}`"), format!("{{{field},"), format!(" {field},"), format!(" {field}}}")];
            assert!(
                in_prose.iter().any(|name| page.contains(name)),
                "docs/json.md does not name {field:?}, of `{line}`"
            );
        }
    }
}
