//! What options are in the library's types. Each function takes the keys that it understands; what is left over is refused.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use tensorseal::device::cpu::{Cpu, Io, Settings};
use tensorseal::manifest::Method;
use tensorseal::method::{
    CertificateTrust, IdentityTokenFrom, SignMethod, SigningCertificateFiles, SigstoreSigning, SigstoreTrust,
    Timestamping, TokenKey, VerifyMethod,
};
use tensorseal::sign::{SignOptions, Tensors};
use tensorseal::source::SymlinkPolicy;
use tensorseal::verify::{DigestChoice, GitFiles, RequiredName, UncoveredFiles, UnsignedFiles};
use tensorseal::{Algorithm, Device, DeviceKind, Error, VerifyOptions};

use crate::call::Fault;
use crate::options::Taken;

/// Who may have signed.
pub(crate) enum Trust {
    Method(VerifyMethod),
    Policy(PathBuf),
}

fn unknown<T>(key: &str, value: &str, known: &str) -> Result<T, Fault> {
    Err(Fault::Usage(format!("the option {key} is {value:?}; known are {known}")))
}

/// At most one value, of a key that other methods take several times.
fn one<'o>(taken: &Taken<'o>, key: &'static str) -> Result<Option<&'o str>, Fault> {
    match taken.texts(key)[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Fault::Usage(format!("by this method the option {key} takes one value"))),
    }
}

/// Two ways to say one thing.
fn either<'o>(taken: &Taken<'o>, name: &'static str, regexp: &'static str) -> Result<[Option<&'o str>; 2], Fault> {
    match [one(taken, name)?, one(taken, regexp)?] {
        [None, None] => Err(Fault::Usage(format!("the option {name} or {regexp} is needed, and neither is set"))),
        [Some(_), Some(_)] => {
            Err(Fault::Usage(format!("the options {name} and {regexp} say the same: set one of them")))
        }
        one => Ok(one),
    }
}

pub(crate) fn trust(taken: &Taken<'_>) -> Result<Trust, Fault> {
    let method = taken.needed(taken.text("method"), "method")?;
    Ok(Trust::Method(match method {
        "key" => VerifyMethod::Key { public_key: taken.needed(taken.path("public-key"), "public-key")? },
        "certificate" => {
            let name = |text: &str| text.parse().map_err(|why| Fault::Usage(format!("the option identity: {why}")));
            let names: Vec<RequiredName> = taken.texts("identity").into_iter().map(name).collect::<Result<_, _>>()?;
            let (chain, system_roots) = (taken.paths("certificate-chain"), taken.switch("system-roots"));
            if chain.is_empty() && !system_roots {
                return taken.needed(None, "certificate-chain");
            }
            VerifyMethod::Certificate(CertificateTrust {
                chain,
                system_roots,
                names,
                any_purpose: taken.switch("allow-eku"),
                timestamp_chain: taken.paths("tsa-certificate-chain"),
                judge_at_not_before: taken.switch("judge-at-not-before"),
            })
        }
        "sigstore" => {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let [identity, identity_regexp] = either(taken, "identity", "identity-regexp")?.map(owned);
            let [issuer, issuer_regexp] = either(taken, "identity-provider", "identity-provider-regexp")?.map(owned);
            let (staging, trust_config) = instance(taken)?;
            VerifyMethod::Sigstore(SigstoreTrust {
                identity,
                identity_regexp,
                issuer,
                issuer_regexp,
                staging,
                trust_config,
            })
        }
        "policy" => return taken.needed(taken.path("policy"), "policy").map(Trust::Policy),
        other => return unknown("method", other, "key, certificate, sigstore and policy"),
    }))
}

/// Which Sigstore.
fn instance(taken: &Taken<'_>) -> Result<(bool, Option<PathBuf>), Fault> {
    let (staging, trust_config) = (taken.switch("use-staging"), taken.path("trust-config"));
    if staging && trust_config.is_some() {
        return Err(Fault::usage("the options use-staging and trust-config name two instances: set one of them"));
    }
    Ok((staging, trust_config))
}

pub(crate) fn signer(taken: &Taken<'_>) -> Result<(SignMethod, Timestamping), Fault> {
    let method = taken.needed(taken.text("method"), "method")?;
    let private_key = || taken.needed(taken.path("private-key"), "private-key");
    let certificate = || {
        Ok::<_, Fault>(SigningCertificateFiles {
            certificate: taken.needed(taken.path("signing-certificate"), "signing-certificate")?,
            chain: taken.paths("certificate-chain"),
            any_purpose: taken.switch("allow-eku"),
        })
    };
    let token = || {
        let uri = taken.needed(taken.secret("pkcs11-uri"), "pkcs11-uri")?;
        Ok::<_, Fault>(TokenKey { uri, modules: taken.paths("module-path") })
    };
    let method = match method {
        "key" => SignMethod::Key { private_key: private_key()? },
        "certificate" => SignMethod::Certificate { private_key: private_key()?, certificate: certificate()? },
        "pkcs11-key" => SignMethod::Pkcs11Key { key: token()? },
        "pkcs11-certificate" => SignMethod::Pkcs11Certificate { key: token()?, certificate: certificate()? },
        "sigstore" => {
            let (staging, trust_config) = instance(taken)?;
            let token = match (taken.secret("identity-token"), taken.switch("use-ambient-credentials")) {
                (Some(text), false) => IdentityTokenFrom::Text(text),
                (None, true) => IdentityTokenFrom::Ambient,
                (Some(_), true) => {
                    let why =
                        "the options identity-token and use-ambient-credentials are two identities: set one of them";
                    return Err(Fault::usage(why));
                }
                (None, false) => {
                    let why = "the option identity-token or use-ambient-credentials is needed, and neither is set";
                    return Err(Fault::usage(why));
                }
            };
            let sigstore = SigstoreSigning { staging, trust_config, ..SigstoreSigning::default() };
            // A Sigstore has its timestamps from its own authority.
            return Ok((SignMethod::Sigstore { token, sigstore }, Timestamping::default()));
        }
        other => {
            return unknown("method", other, "key, certificate, pkcs11-key, pkcs11-certificate and sigstore");
        }
    };
    let timestamp =
        Timestamping { url: taken.text("tsa-url").map(str::to_owned), chain: taken.paths("tsa-certificate-chain") };
    if timestamp.url.is_none() && !timestamp.chain.is_empty() {
        return Err(Fault::usage("the option tsa-certificate-chain is about a timestamp: set tsa-url, too"));
    }
    Ok((method, timestamp))
}

/// What counts as the model.
fn symlinks(taken: &Taken<'_>) -> SymlinkPolicy {
    if taken.switch("allow-symlinks") { SymlinkPolicy::Inside } else { SymlinkPolicy::Refuse }
}

fn nonzero(taken: &Taken<'_>, key: &'static str) -> Result<Option<NonZeroU64>, Fault> {
    let none = || Fault::Usage(format!("the option {key} is 0, which leaves nothing"));
    taken.number(key).map(|number| NonZeroU64::new(number).ok_or_else(none)).transpose()
}

pub(crate) fn verify_options(taken: &Taken<'_>, default: DigestChoice) -> Result<VerifyOptions, Fault> {
    let digests = match taken.text("digest") {
        None => default,
        Some("oms") => DigestChoice::Oms,
        Some("blake3") => DigestChoice::Blake3,
        Some("all") => DigestChoice::All,
        Some("fastest") if default == DigestChoice::Fastest => DigestChoice::Fastest,
        Some(other) => return unknown("digest", other, "oms, blake3, all, and for load fastest"),
    };
    let except = taken.paths("allow-ignored");
    let uncovered = match (taken.switch("strict"), except.is_empty()) {
        (true, _) => UncoveredFiles::Refuse { except },
        (false, true) => UncoveredFiles::List,
        (false, false) => {
            return Err(Fault::usage("the option allow-ignored is an exception to strict: set that, too"));
        }
    };
    let unsigned = if taken.switch("ignore-unsigned-files") { UnsignedFiles::Tolerate } else { UnsignedFiles::Refuse };
    let options = VerifyOptions::default();
    Ok(VerifyOptions {
        symlinks: symlinks(taken),
        ignore_paths: taken.paths("ignore-paths"),
        git_files: if taken.switch("no-ignore-git-paths") { GitFiles::Keep } else { GitFiles::AsSigned },
        unsigned,
        uncovered,
        digests,
        max_bundle: nonzero(taken, "max-bundle-size")?.unwrap_or(options.max_bundle),
        ..options
    })
}

pub(crate) fn sign_options(taken: &Taken<'_>) -> Result<SignOptions, Fault> {
    let hash = taken.text("hash").unwrap_or("sha256");
    let Some(hash) = Algorithm::from_name(hash) else { return unknown("hash", hash, "sha256, blake2b and blake3") };
    Ok(SignOptions {
        hash,
        symlinks: symlinks(taken),
        ignore_paths: taken.paths("ignore-paths"),
        git_files: if taken.switch("no-ignore-git-paths") { GitFiles::Keep } else { GitFiles::Ignore },
        ..SignOptions::default()
    })
}

/// The same, with what only a signature can have.
pub(crate) fn signature_options(taken: &Taken<'_>) -> Result<SignOptions, Fault> {
    let method = nonzero(taken, "shards")?.map_or(Method::Files, |size| Method::Shards { size });
    let tensors = if taken.switch("tensors") { Tensors::InModel } else { Tensors::AsFound };
    Ok(SignOptions { method, tensors, ..sign_options(taken)? })
}

/// Threads, where they are the CPU's.
pub(crate) fn threads(taken: &Taken<'_>) -> Result<Option<NonZeroUsize>, Fault> {
    let too_many = |_| Fault::usage("the option threads is more than any machine has");
    nonzero(taken, "threads")?.map(NonZeroUsize::try_from).transpose().map_err(too_many)
}

/// The device that was asked for, as it is named.
pub(crate) fn device_kind(taken: &Taken<'_>) -> Result<DeviceKind, Fault> {
    let name = taken.text("device").unwrap_or("cpu");
    Ok(name.parse().map_err(Error::UnknownDevice)?)
}

/// The device.
pub(crate) fn device(kind: DeviceKind, threads: Option<NonZeroUsize>) -> Result<Device, Fault> {
    if kind == DeviceKind::Cpu {
        return Ok(Device::Cpu(Cpu::open(Settings { threads, io: Io::Auto })?));
    }
    if threads.is_some() {
        return Err(Fault::Usage(format!("the option threads is for the CPU; {kind} does not heed it")));
    }
    Ok(Device::open(kind)?)
}
