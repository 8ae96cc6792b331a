//! Makes the seeds anew: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`, from the repository's root.
//! Needs `openssl` for the forms of keys that only others write; their salts, the keys `p384` and `p521`, and all keys of certificates are random; all else is the same each time.

#[allow(dead_code)]
#[path = "../../tests/common/x509.rs"]
mod x509;

use std::error::Error;
use std::fs;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use sha2::{Digest as _, Sha256};
use tensorseal::device::cpu::Silent;
use tensorseal::key::PrivateKey;
use tensorseal::manifest::{Method, ShardNaming};
use tensorseal::outboard::OutboardOptions;
use tensorseal::sign::{Annotations, KeySigner, SingleFileName};
use tensorseal::tree::GroupSize;
use tensorseal::{Algorithm, Bundle, Device, DeviceKind, SignOptions, sign};

/// Signs the seeds and nothing else: everybody has it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg41ZxM/r0X9jLudNQ
ftxHHQHeroNcRwRllWwH9KQo8oChRANCAAQ8xLZT5mouZwbBGeUjWAPYC5wVLIm+
omPqmmoTLHRwwgJDfTBak5LLctwLPjIyE7HfSCJpbU1lYQxYjTOpmuRB
-----END PRIVATE KEY-----
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let seeds = Path::new("fuzz/seeds");
    for target in ["bundle", "statement", "shard_name", "key_pem", "certificate", "pkcs11_uri", "outboard", "receipt"] {
        let _ = fs::remove_dir_all(seeds.join(target));
        fs::create_dir_all(seeds.join(target))?;
    }
    signed(seeds)?;
    bundles(seeds)?;
    statements(seeds)?;
    names(seeds)?;
    uris(seeds)?;
    keys(seeds)?;
    trees(seeds)?;
    receipts(seeds)?;
    certificates(seeds)
}

fn key() -> Result<PrivateKey> {
    Ok(PrivateKey::from_pem(KEY.as_bytes(), &mut || Err(tensorseal::key::PasswordError::NotGiven))?)
}

/// Receipts with all that one can hold, and around one of them an envelope.
fn receipts(seeds: &Path) -> Result<()> {
    use tensorseal::receipt::{PAYLOAD_TYPE, Receipt};

    let write = |name: &str, text: &str| {
        assert_eq!(Receipt::unverified(text.as_bytes()).is_ok(), !name.starts_with("no-"), "{name}");
        fs::write(seeds.join("receipt").join(name), text)
    };
    let file = |name: &str, more: &str| {
        format!(
            r#"{{"name":"{name}","size":5,"file_system":0,"inode":7,"mtime":[1800000000,1],"ctime":[-1,999999999]{more}}}"#
        )
    };
    let system = |more: &str| {
        format!(
            r#"{{"device":"8:1","type":"ext4","source":"/dev/sda1","mount_point":"/m","mount_options":"ro","super_options":"ro"{more}}}"#
        )
    };
    let receipt = |hashed: bool, more: &str, systems: &str, files: &str| {
        format!(
            r#"{{"schema":"tensorseal/receipt/v1","tool":"tensorseal 0.1.0","verdict":"checked on disk","hashed":{hashed},"time":"2026-01-01T00:00:00Z","expires":"2026-01-02T00:00:00Z","model":{{"path":"m","resolved":"/m"}},"bundles":[{{"path":"m.sig","sha256":"00","identity":"key"}}],{more}"root":"sha256:00","checked":["sha256"],"not_checked":["blake3"],"device":"cpu","file_systems":[{systems}],"files":[{files}],"not_covered":[".git/x"]}}"#
        )
    };
    let changeable = system(r#","changeable":"the file system is xfs""#);
    let log = receipt(true, "", &changeable, &file("a", ""));
    write("log", &log)?;
    let policy = r#""policy":{"path":"policy.toml","sha256":"00","rules":[1,2]},"#;
    let verity = file("b\\u00e9\\n", r#","fs_verity":"sha256:00""#);
    write("policy", &receipt(true, policy, &changeable, &format!("{},{verity}", file("a", ""))))?;
    let accepted = r#""policy":{"sha256":"00","rules":[]},"accepted":{"path":"r","sha256":"00","key":"00","time":"2026-01-01T00:00:00Z","fs_verity":1,"dm_verity":0,"erofs":0,"file_identity":0},"#;
    write("accepted", &receipt(false, accepted, &changeable, &verity))?;
    let mapped = system(
        r#","dm_verity":{"version":1,"algorithm":"sha256","root":"00","salt":"-","data_blocks":2,"data_block_size":4096,"hash_block_size":4096}"#,
    );
    let disk = system(r#","erofs":{"boot":"b","disk_sequence":9}"#);
    let systems = receipt(true, "", &format!("{mapped},{disk}"), "");
    write("systems", &format!("\u{feff}{}\n", systems.replace(",\"", " ,\r\n\t\"")))?;
    write("no-double-key", &log.replacen('{', r#"{"hashed":false,"#, 1))?;
    write("no-null", &systems.replacen(r#""erofs":{"boot":"b","disk_sequence":9}"#, r#""erofs":null"#, 1))?;
    write("no-array", &log.replacen(r#"{"path":"m","resolved":"/m"}"#, r#"["m","/m"]"#, 1))?;
    write("no-such-day", &log.replacen("2026-01-02", "2026-02-30", 1))?;
    write("no-more", &log.replacen(r#""hashed""#, r#""more":1,"hashed""#, 1))?;
    write("no-other-schema", &log.replacen("receipt/v1", "receipt/v2", 1))?;
    let mut pae = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), log.len()).into_bytes();
    pae.extend_from_slice(log.as_bytes());
    let (payload, sig) = (STANDARD.encode(&log), STANDARD.encode(key()?.sign(&pae)?));
    let envelope = format!(
        r#"{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"keyid":"00","sig":"{sig}"}}]}}"#
    );
    Receipt::signed_by(envelope.as_bytes(), &[key()?.public_key()])?;
    write("no-payload-but-an-envelope", &envelope).map_err(Into::into)
}

/// Trees of files as we write them: in groups of some sizes, with and without groups that are given by chunks.
fn trees(seeds: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("model");
    fs::create_dir_all(&model)?;
    let header = br#"{"t":{"dtype":"U8","shape":[9000],"data_offsets":[0,9000]}}"#;
    let tensors = [&(header.len() as u64).to_le_bytes()[..], header, &[7; 9000]].concat();
    for (name, bytes) in [("a", vec![1; 3]), ("b", vec![2; 5000]), ("w.safetensors", tensors), ("empty", vec![])] {
        fs::write(model.join(name), bytes)?;
    }
    let device = Device::open(DeviceKind::Cpu)?;
    for (name, group, shard) in
        [("chunks", 0, 0), ("pairs", 1, 0), ("fours", 2, 0), ("wide", 6, 0), ("shards", 1, 4096)]
    {
        let group = GroupSize::from_chunk_log(group).ok_or("a size")?;
        let options = SignOptions {
            outboard: OutboardOptions::new(folder.path().join("trees")).with_group(group),
            method: NonZeroU64::new(shard).map_or(Method::Files, |size| Method::Shards { size }),
            ..SignOptions::default()
        };
        let hashed = tensorseal::hash(&model, None, &options, &device, &Silent)?;
        fs::write(seeds.join("outboard").join(name), hashed.outboard.ok_or("an outboard")?.to_bytes())?;
    }
    Ok(())
}

/// Bundles and statements as we write them.
fn signed(seeds: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("model");
    fs::create_dir_all(model.join("sub"))?;
    for (name, bytes) in [("a", 3), ("sub/b:1:c", 9), ("é \"\\\n", 0), ("w.safetensors", 2049)] {
        fs::write(model.join(name), vec![b'x'; bytes])?;
    }
    let device = Device::open(DeviceKind::Cpu)?;
    let files = SignOptions::default();
    let shards =
        |size| SignOptions { method: Method::Shards { size: NonZeroU64::new(size).unwrap() }, ..files.clone() };
    for (name, path, options) in [
        ("files", "model", files.clone()),
        ("plain", "model", SignOptions { annotations: Annotations::None, ..files.clone() }),
        ("blake3", "model", SignOptions { hash: Algorithm::Blake3, ..files.clone() }),
        ("blake2b", "model/w.safetensors", SignOptions { hash: Algorithm::Blake2b, ..files.clone() }),
        ("single", "model/a", SignOptions { single_file_name: SingleFileName::Basename, ..files.clone() }),
        ("shards", "model", shards(1000)),
        ("shards-compat", "model", SignOptions { shard_naming: ShardNaming::Compat, ..shards(700) }),
    ] {
        let (path, signature) = (folder.path().join(path), folder.path().join("sig"));
        let bundle = sign(&path, &signature, &KeySigner::new(key()?), &options, &device, &Silent)?.bundle;
        fs::write(seeds.join("statement").join(name), invariants::payload_of(&bundle))?;
        if ["files", "single", "shards"].contains(&name) {
            fs::write(seeds.join("bundle").join(name), bundle.to_json())?;
        }
    }
    Ok(())
}

/// Forms that others write, around small statements.
fn bundles(seeds: &Path) -> Result<()> {
    let write = |name: &str, text: String| {
        // So that a mistake here is seen: all but the broken ones are read.
        assert_eq!(Bundle::parse(text.as_bytes()).is_ok(), !name.starts_with("no-"), "{name}");
        fs::write(seeds.join("bundle").join(name), text)
    };
    let payload = statement(&[("a", 1)]);
    let media = tensorseal::bundle::MEDIA_TYPE;
    let around = |material: &str, payload: &str, signature: &str| {
        format!(
            r#"{{"mediaType":"{media}","verificationMaterial":{{{material}}},"dsseEnvelope":{{"payload":"{payload}","payloadType":"application/vnd.in-toto+json","signatures":[{signature}]}}}}"#
        )
    };
    let standard = STANDARD.encode(&payload);
    let sig = r#"{"sig":"MEUCIQDa+/8=","keyid":null}"#;
    let public = r#""publicKey":{"hint":"00ff"}"#;
    write(
        "old-key",
        around(r#""publicKey":{"rawBytes":"LS0t","keyDetails":"PKIX_ECDSA_P384_SHA_384"}"#, &standard, sig),
    )?;
    write(
        "chain",
        around(
            r#""x509CertificateChain":{"certificates":[{"rawBytes":"MAA="},{"rawBytes":"MAEA"}]},"tlogEntries":[]"#,
            &standard,
            sig,
        ),
    )?;
    write(
        "sigstore",
        around(
            r#""certificate":{"rawBytes":"MAA="},"tlogEntries":[{"logIndex":"1","inclusionProof":{"hashes":[]}}],"timestampVerificationData":{"rfc3161Timestamps":[{"signedTimestamp":"MAA="}]}"#,
            &standard,
            sig,
        ),
    )?;
    write("url-safe", around(public, &URL_SAFE.encode("{\"é\":\"ÿþ?>\"}"), r#"{"sig":"-_8="}"#))?;
    write("old-statement", around(public, &STANDARD.encode(old_statement()), sig))?;
    write("no-signature", around(public, &standard, ""))?;
    write("no-material", around(r#""tlogEntries":null"#, &standard, sig))?;
    write("no-two-materials", around(&format!(r#"{public},"certificate":{{"rawBytes":"MAA="}}"#), &standard, sig))?;
    write("no-canonical-base64", around(public, "AB==", sig))?;
    write("no-double-key", around(&format!(r#""tlogEntries":[],{public},"publi\u0063Key":null"#), &standard, sig))?;
    write(
        "no-depth",
        around(&format!(r#"{public},"tlogEntries":[{}{}]"#, "[".repeat(200), "]".repeat(200)), &standard, sig),
    )?;
    let spaced = around(public, &standard, sig).replace(',', " ,\r\n\t").replace("{\"", "{ \"");
    write("spaced", format!("\u{feff}{spaced}\n")).map_err(Into::into)
}

/// A statement of files, with digests that are the same byte 32 times.
fn statement(resources: &[(&str, u8)]) -> String {
    with(r#""method":"files","hash_type":"sha256","allow_symlinks":false"#, "sha256", resources)
}

fn with(serialization: &str, algorithm: &str, resources: &[(&str, u8)]) -> String {
    let mut root = Sha256::new();
    let mut list = Vec::new();
    for (name, byte) in resources {
        root.update([*byte; 32]);
        let digest = format!("{byte:02x}").repeat(32);
        list.push(format!(r#"{{"name":"{name}","algorithm":"{algorithm}","digest":"{digest}"}}"#));
    }
    let root: String = root.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"m","digest":{{"sha256":"{root}"}}}}],"predicateType":"https://model_signing/signature/v1.0","predicate":{{"serialization":{{{serialization}}},"resources":[{}]}}}}"#,
        list.join(",")
    )
}

fn old_statement() -> String {
    let subject = |name: &str, byte: &str| {
        let digest = byte.repeat(32);
        format!(
            r#"{{"name":"{name}","digest":{{"sha256":"{digest}"}},"annotations":{{"actual_hash_algorithm":"file-sha256"}}}}"#
        )
    };
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{},{}],"predicateType":"https://model_signing/Digests/v0.1","predicate":{{"unused":"Unused, just passed due to API requirements"}}}}"#,
        subject("b", "02"),
        subject("a/c", "01")
    )
}

fn statements(seeds: &Path) -> Result<()> {
    let write = |name: &str, text: String| {
        let read = invariants::bundle_around(text.as_bytes()).unverified_manifest();
        assert_eq!(read.is_ok(), !name.starts_with("no-"), "{name}: {:?}", read.err());
        fs::write(seeds.join("statement").join(name), text)
    };
    let shards = |size: &str, algorithm: &str, resources: &[(&str, u8)]| {
        let serialization = format!(
            r#""method":"shards","hash_type":"sha256","shard_size":{size},"allow_symlinks":true,"ignore_paths":[".git","a/b",".git"]"#
        );
        with(&serialization, algorithm, resources)
    };
    write("unsorted", statement(&[("b", 2), ("./a//c", 1)]))?;
    write("python-shards", shards("4.0", "sha256-sharded-4", &[("w:0:4", 1), ("w:4:8", 2), ("w:8:9", 3)]))?;
    write(
        "long-numbers",
        shards("10000000000", "sha256", &[("w:0:10000000000", 1), ("w:10000000000:10000000007", 2)]),
    )?;
    write("old", old_statement())?;
    write("no-resources", statement(&[]))?;
    write("no-tiling", shards("4", "sha256", &[("w:0:4", 1), ("w:8:9", 2)]))?;
    write("no-overlap", shards("4e0", "sha256", &[("w:0:4", 1), ("w:3:7", 2)]))?;
    write("one-shard", shards("4", "sha256", &[("w:0:3", 1)]))?;
    for (name, path) in [("no-shard-of-above", ".."), ("no-shard-of-a-folder", "a/."), ("no-shard-of-nothing", "a/")] {
        write(name, shards("4", "sha256", &[(&format!("{path}:0:3"), 1)]))?;
    }
    write("no-climbing", statement(&[("a/../../b", 1)]))?;
    write("no-double-name", statement(&[("a", 1), ("a/.//../a", 1), ("./a", 1)]))?;
    write("no-float-shard", shards("0.5", "sha256", &[("w:0:1", 1)]))?;
    let annotation = r#"","annotations":{"tensorseal/v1":{"blake3":"00","size":1}}"#;
    write("no-annotation", statement(&[("a", 1)]).replacen(r#""}]"#, &format!("{annotation}}}]"), 1))?;
    write("no-root", statement(&[("a", 1)]).replace("0101", "0102")).map_err(Into::into)
}

fn names(seeds: &Path) -> Result<()> {
    let names = [
        ".",
        "a",
        "./a//b/./c",
        "../a",
        "a/..",
        "/a",
        "a/",
        "w:0:4",
        "a:1:b:10:20",
        "w:01:4",
        "w:0:18446744073709551615",
        "w:0:18446744073709551616",
        ":0:1",
        "w:+0:4",
        "..:0:4",
        "a/.:0:4",
        ".:0:1",
        "é/ü\u{301}:8:9",
        "a\\b\n:0:0",
        "a\0b",
    ];
    for (i, name) in names.into_iter().enumerate() {
        fs::write(seeds.join("shard_name").join(format!("{i:02}")), name)?;
    }
    Ok(())
}

fn uris(seeds: &Path) -> Result<()> {
    let uris = [
        "pkcs11:",
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-key;type=private",
        "pkcs11:library-manufacturer=a;library-description=b%3b;library-version=3.1;slot-id=327",
        "PKCS11:slot-manufacturer=c;slot-description=d&e=f;id=%69%95%00a?module-path=/lib/x.so&module-name=p11?|",
        "pkcs11:object=k?module-path=/usr/lib/softhsm&module-name=softhsm2&pin-source=file:/etc/token%2520pin",
        "pkcs11:object=k?pin-source=file://localhost/pin",
        "pkcs11:object=k?pin-value=a%26b%3b",
        "pkcs11:object=k?pin-value=a&b=c",
        "pkcs11:object=a;object=b",
        "pkcs11:object=%F",
        "pkcs11:x-vendor=1",
        "pkcs11:slot-id=18446744073709551616",
    ];
    for (i, uri) in uris.into_iter().enumerate() {
        fs::write(seeds.join("pkcs11_uri").join(format!("{i:02}")), uri)?;
    }
    Ok(())
}

fn keys(seeds: &Path) -> Result<()> {
    let write = |name: &str, text: &[u8]| fs::write(seeds.join("key_pem").join(name), text);
    let openssl = |arguments: &str| -> Result<Vec<u8>> {
        let mut child = Command::new("openssl")
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        child.stdin.take().ok_or("no stdin")?.write_all(KEY.as_bytes())?;
        let output = child.wait_with_output()?;
        if output.status.success() { Ok(output.stdout) } else { Err(format!("openssl {arguments} failed").into()) }
    };
    write("private", KEY.as_bytes())?;
    write("public", key()?.public_key().to_pem().as_bytes())?;
    for (name, arguments) in [
        ("sec1", "ec"),
        ("sec1-explicit", "ec -param_enc explicit"),
        ("sec1-encrypted", "ec -aes128 -passout pass:password"),
        ("sec1-encrypted-3des", "ec -des3 -passout pass:password"),
        ("pbes2", "pkcs8 -topk8 -v2 aes-256-cbc -iter 1 -passout pass:password"),
        ("pbes2-sha1", "pkcs8 -topk8 -v2 des3 -v2prf hmacWithSHA1 -iter 1 -passout pass:password"),
        ("scrypt", "pkcs8 -topk8 -scrypt -scrypt_N 2 -scrypt_r 1 -scrypt_p 1 -passout pass:password"),
        ("public-compressed", "ec -pubout -conv_form compressed"),
        ("public-hybrid", "ec -pubout -conv_form hybrid"),
        ("public-explicit", "ec -pubout -param_enc explicit"),
        ("p384", "ecparam -name secp384r1 -genkey"),
        ("p521", "ecparam -name secp521r1 -genkey"),
    ] {
        write(name, &openssl(arguments)?)?;
    }
    // The other form of this target's input: a label and DER.
    for (name, label, arguments) in [
        ("der-public", 0, "ec -pubout -outform DER"),
        ("der-public-explicit", 0, "ec -pubout -param_enc explicit -outform DER"),
        ("der-private", 1, "pkcs8 -topk8 -nocrypt -outform DER"),
        ("der-sec1", 2, "ec -outform DER"),
        ("der-pbes2", 3, "pkcs8 -topk8 -v2 aes-256-cbc -iter 1 -passout pass:password -outform DER"),
        (
            "der-scrypt",
            3,
            "pkcs8 -topk8 -scrypt -scrypt_N 2 -scrypt_r 1 -scrypt_p 1 -passout pass:password -outform DER",
        ),
    ] {
        write(name, &[&[label], &openssl(arguments)?[..]].concat())?;
    }
    let both = [openssl("ecparam -name prime256v1")?, openssl("ec")?].concat();
    write("parameters-then-key", &both)?;
    Ok(())
}

/// A good chain, which the target itself holds on to, and certificates of other shapes.
fn certificates(seeds: &Path) -> Result<()> {
    use tensorseal::key::Curve;
    use tensorseal::x509::Certificate;
    use x509::{
        Authority, CODE_SIGNING, NAME_CONSTRAINTS, SEQUENCE, alt_names, basic_constraints, extended_key_usage,
        extension, tlv, validity,
    };

    let write = |name: &str, der: &[u8]| -> Result<()> {
        let read = Certificate::from_der(der).is_ok() || Certificate::all_from_pem(der).is_ok();
        assert_eq!(read, !name.starts_with("no-"), "{name}");
        Ok(fs::write(seeds.join("certificate").join(name), der)?)
    };
    let root = Authority::root_with("root", Curve::P384, |_| {});
    let intermediate = root.intermediate("intermediate");
    let (leaf, _) = intermediate.leaf("leaf");
    write("root", &root.certificate)?;
    write("intermediate", &intermediate.certificate)?;
    write("leaf", &leaf)?;
    write("chain", x509::pem(&[&leaf, &intermediate.certificate, &root.certificate]).as_bytes())?;
    // What the good chain's authorities signed would be accepted, and the target knows three such certificates.
    let stranger = Authority::root("intermediate");
    let other = |curve, change: fn(&mut x509::Template)| stranger.leaf_with("other", curve, change).0;
    write("p521", &other(Curve::P521, |t| t.validity = validity("20200101000000Z", "99991231235959Z")))?;
    write("purposes", &other(Curve::P256, |t| t.set(extended_key_usage(&[CODE_SIGNING, "2.5.29.37.0"]))))?;
    write("ca", &other(Curve::P256, |t| t.set(basic_constraints(true, Some(3)))))?;
    let names: [(u8, &[u8]); 5] = [
        (1, b"me@example.com"),
        (2, b"example.com"),
        (6, b"https://example.com/x"),
        (7, &[10, 0, 0, 1]),
        (8, &[42, 3, 4]),
    ];
    let named = |critical| move |t: &mut x509::Template| t.set(alt_names(critical, &names));
    write("names", &stranger.leaf_with("names", Curve::P256, named(false)).0)?;
    write("nameless", &stranger.leaf_with("", Curve::P256, named(true)).0)?;
    write("no-name", &stranger.leaf_with("", Curve::P256, named(false)).0)?;
    write(
        "constraints",
        &other(Curve::P256, |t| {
            let tree = |tag, content: &[u8]| tlv(SEQUENCE, &[&tlv(tag, &[content])]);
            let permitted =
                [tree(0x81, b"example.com"), tree(0x82, b".example.com"), tree(0x86, b"example.com")].concat();
            let excluded = [tree(0x87, &[10, 0, 0, 0, 255, 0, 0, 0]), tree(0xa4, &x509::name("evil"))].concat();
            let both = tlv(SEQUENCE, &[&tlv(0xa0, &[&permitted]), &tlv(0xa1, &[&excluded])]);
            t.set(extension(NAME_CONSTRAINTS, true, &both));
        }),
    )?;
    write("no-double-extension", &other(Curve::P256, |t| t.extensions.push(t.extensions[0].clone())))?;
    write("no-list-of-extensions", &other(Curve::P256, |t| t.extensions = vec![vec![]]))?;
    write(
        "version-1",
        &other(Curve::P256, |t| {
            t.version.clear();
            t.extensions.clear();
        }),
    )?;
    for (name, arguments) in
        [("rsa", "-sha256"), ("rsa-pss", "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32")]
    {
        let arguments = format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=rsa -outform DER -days 9000 {arguments}"
        );
        let output = Command::new("openssl").args(arguments.split(' ')).output()?;
        write(name, &output.stdout)?;
    }
    Ok(())
}
