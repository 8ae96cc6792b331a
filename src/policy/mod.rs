//! Policies: who may have signed which model, and what has to be checked of it.
//!
//! A [`Policy`] is read from a TOML file, which `docs/policy.md` describes. [`Policy::for_model`] finds the rules for a
//! model, by the path that the given one leads to; no rule is a refusal. [`verify_with_policy`] then verifies one or more
//! signatures of the model as those rules ask.
//!
//! ```
//! use std::path::Path;
//! use tensorseal::device::cpu::Silent;
//! use tensorseal::policy::{Policy, verify_with_policy};
//! use tensorseal::{Device, DeviceKind, VerifyOptions};
//!
//! fn check(model: &Path, signature: &Path) -> Result<(), tensorseal::Error> {
//!     let policy = Policy::read(Path::new("/etc/tensorseal/policy.toml"))?;
//!     let device = Device::open(DeviceKind::Cpu)?;
//!     let report = verify_with_policy(model, &[signature], &policy, &VerifyOptions::default(), &device, &Silent)?;
//!     println!("accepted by {}", report.identity());
//!     Ok(())
//! }
//! ```

mod carried;
mod decide;
mod error;
mod pattern;
mod read;
mod receipts;
mod signer;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use error::{Denied, PolicyError, PolicyFault, Position, Refusal, RuleName};
pub use pattern::PatternFault;

pub use crate::verify::verify_with_policy;

use crate::device::DeviceKind;
use crate::digest::Digest;
use crate::error::{Error, VerifyError};
use crate::source::SourceError;
use crate::time::UnixTime;
use crate::verify::{DigestChoice, UncoveredFiles, UnsignedFiles, VerifyOptions};
pub(crate) use decide::Signature;
use pattern::Pattern;
use read::Reader;
pub(crate) use receipts::Receipts;
use signer::Signer;

/// Who may have signed which model. Two policies are equal if they were written alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    path: Option<PathBuf>,
    /// Hexadecimal SHA-256 of its text.
    sha256: String,
    signers: Vec<Signer>,
    deny: Deny,
    receipts: Option<Receipts>,
    rules: Vec<Rule>,
    warnings: Vec<PolicyWarning>,
}

/// What no rule can allow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Deny {
    keys: Vec<String>,
    certificates: Vec<String>,
    identities: Vec<String>,
    roots: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    name: RuleName,
    pattern: Pattern,
    signers: Signers,
    roots: Option<Vec<Digest>>,
    signed_after: Option<UnixTime>,
    require: Require,
}

/// Places in the policy's list of signers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Signers {
    Any(Vec<usize>),
    All(Vec<usize>),
}

impl Signers {
    fn list(&self) -> &[usize] {
        match self {
            Self::Any(list) | Self::All(list) => list,
        }
    }
}

/// The least that has to be checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Require {
    strict: bool,
    digests: Option<RequiredDigests>,
    device: Option<RequiredDevice>,
    timestamp: bool,
}

/// Which digests a rule wants checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequiredDigests {
    /// The one of OMS.
    Oms,
    /// The BLAKE3 digest beside it.
    Blake3,
    /// Every signed one.
    All,
}

/// Where a rule wants BLAKE3 computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequiredDevice {
    /// On the processor, and nowhere else.
    Cpu,
    /// On any CUDA device.
    Cuda,
    /// On any device through WebGPU.
    Wgpu,
}

impl RequiredDevice {
    const fn is(self, kind: &DeviceKind) -> bool {
        matches!(
            (self, kind),
            (Self::Cpu, DeviceKind::Cpu) | (Self::Cuda, DeviceKind::Cuda(_)) | (Self::Wgpu, DeviceKind::Wgpu(_))
        )
    }
}

impl fmt::Display for RequiredDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        })
    }
}

/// Something about a policy that its author should know and that makes it no less usable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyWarning {
    /// Anybody on this machine may write to a file that decides whom to trust.
    Writable(PathBuf),
    /// No rule names this signer.
    UnusedSigner {
        /// The signer.
        name: String,
        /// The line on which it is defined.
        line: usize,
    },
}

impl fmt::Display for PolicyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writable(path) => {
                write!(
                    f,
                    "{path:?} or its folder can be written to by every user of this machine, who so decides whom you trust; take that right away"
                )
            }
            Self::UnusedSigner { name, line } => {
                write!(f, "no rule of the policy names the signer {} (line {line})", crate::error::quoted(name))
            }
        }
    }
}

/// How a policy was satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The policy's file, if it was read from one.
    pub policy: Option<PathBuf>,
    /// The path that the model's path leads to, which the rules are about: open this one.
    pub resolved: PathBuf,
    /// Each rule for that path, in the order of the policy.
    pub rules: Vec<AppliedRule>,
    /// Each given signature, in the order given.
    pub signatures: Vec<AcceptedSignature>,
}

/// A rule that was satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppliedRule {
    /// Which.
    pub rule: RuleName,
    /// The signers that satisfied it: all of an `all_of`; of an `any_of` those whose signature is there and counts.
    pub signers: Vec<String>,
}

/// A signature that is some accepted signer's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptedSignature {
    /// Its file.
    pub signature: PathBuf,
    /// The names of the signers whose it is.
    pub signers: Vec<String>,
    /// Who that is.
    pub identity: crate::verify::Identity,
}

impl Policy {
    /// Reads a policy, and every file that it names.
    ///
    /// # Errors
    /// [`Error::Policy`] if the file cannot be read or is no policy.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let cannot =
            |source| PolicyError { path: None, at: None, fault: PolicyFault::File { path: path.to_owned(), source } };
        let bytes = read::read_file(path, &mut warnings).map_err(cannot)?;
        let no_text = |_| cannot(std::io::Error::other("it is not UTF-8"));
        let text = String::from_utf8(bytes).map_err(no_text)?;
        let base = crate::output::folder_of(path);
        Ok(Reader::new(&text, Some(path), base, warnings).policy()?)
    }

    /// Reads a policy from its text. Relative paths of files in it are relative to `base`.
    ///
    /// # Errors
    /// [`PolicyError`] if it is no policy, or if a file that it names cannot be read.
    pub fn parse(text: &str, base: &Path) -> Result<Self, PolicyError> {
        const LONGEST: usize = 1 << 20;
        if text.len() > LONGEST {
            return Err(PolicyError { path: None, at: None, fault: PolicyFault::Long { limit: LONGEST as u64 } });
        }
        Reader::new(text, None, base, Vec::new()).policy()
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Hexadecimal SHA-256 of its text, as `sha256sum` prints it of the file. It does not cover the files that the policy
    /// names.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whose receipts spare the hashing, if any do.
    pub(crate) const fn receipts(&self) -> Option<&Receipts> {
        self.receipts.as_ref()
    }

    /// Whether the policy denies the key with this fingerprint.
    pub(crate) fn denies_key(&self, fingerprint: &str) -> bool {
        self.deny.keys.iter().any(|denied| denied == fingerprint)
    }

    /// What its author should know.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyWarning] {
        &self.warnings
    }

    /// What the policy asks of this model. Its path is resolved first: rules are about where it leads.
    ///
    /// # Errors
    /// [`Refusal::NoRule`] if no rule is about it, [`Refusal::PathNotUtf8`], [`Refusal::Contradiction`] if no check could
    /// satisfy all rules for it, and [`Error::Source`] if the path leads nowhere.
    pub fn for_model(&self, model: &Path) -> Result<Requirements<'_>, Error> {
        let model = fs::canonicalize(model).map_err(|error| SourceError::io("look at the model", model, error))?;
        let Some(text) = model.to_str() else { return Err(Refusal::PathNotUtf8 { model }.into()) };
        let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.pattern.matches(text)).collect();
        if rules.is_empty() {
            let rules = self.rules.iter().map(|rule| rule.pattern.as_str().to_owned()).collect();
            return Err(Refusal::NoRule { model, rules }.into());
        }
        let requirements = Requirements { policy: self, model, rules };
        requirements.consistent()?;
        Ok(requirements)
    }
}

/// What a policy asks of one model.
#[derive(Debug, Clone)]
pub struct Requirements<'a> {
    policy: &'a Policy,
    model: PathBuf,
    rules: Vec<&'a Rule>,
}

impl Requirements<'_> {
    /// The path that the model's path leads to.
    #[must_use]
    pub fn resolved(&self) -> &Path {
        &self.model
    }

    /// The rules, in the order of the policy.
    pub fn rules(&self) -> impl Iterator<Item = &RuleName> {
        self.rules.iter().map(|rule| &rule.name)
    }

    /// Whether files outside of the signature are refused.
    #[must_use]
    pub fn strict(&self) -> bool {
        self.rules.iter().any(|rule| rule.require.strict)
    }

    /// Whether it counts when the model was signed.
    #[must_use]
    pub fn signed_after(&self) -> bool {
        self.rules.iter().any(|rule| rule.signed_after.is_some())
    }

    /// Which digests have to be checked, if the rules say so.
    #[must_use]
    pub fn digests(&self) -> Option<RequiredDigests> {
        let all = self.rules.iter().filter_map(|rule| rule.require.digests);
        all.reduce(|one, other| if one == other { one } else { RequiredDigests::All })
    }

    /// Where BLAKE3 has to be computed, if the rules say so.
    #[must_use]
    pub fn device(&self) -> Option<RequiredDevice> {
        self.rules.iter().find_map(|rule| rule.require.device)
    }

    fn consistent(&self) -> Result<(), Refusal> {
        let mut devices = self.rules.iter().filter_map(|rule| rule.require.device.map(|device| (&rule.name, device)));
        let Some((first, first_device)) = devices.next() else { return Ok(()) };
        match devices.find(|(_, device)| *device != first_device) {
            None => Ok(()),
            Some((second, second_device)) => Err(Refusal::Contradiction {
                first: first.clone(),
                first_device: first_device.to_string(),
                second: second.clone(),
                second_device: second_device.to_string(),
            }),
        }
    }

    /// The caller's options with what the rules ask for on top.
    ///
    /// [`DigestChoice::Oms`], the default, counts as no wish where the rules ask for other digests, and so does
    /// [`DigestChoice::Fastest`].
    ///
    /// # Errors
    /// [`Refusal::Laxer`] if the caller asks for less in so many words, or has another device.
    pub fn tighten(&self, options: &VerifyOptions, device: &DeviceKind) -> Result<VerifyOptions, Refusal> {
        let laxer = |rule: &Rule, asked: &str, given: &str, remedy: &str| Refusal::Laxer {
            rule: rule.name.clone(),
            asked: asked.to_owned(),
            given: given.to_owned(),
            remedy: remedy.to_owned(),
        };
        for rule in &self.rules {
            if let Some(wanted) = rule.require.device.filter(|wanted| !wanted.is(device)) {
                let given = format!("the device is {device}");
                return Err(laxer(
                    rule,
                    &format!("the device {wanted}"),
                    &given,
                    &format!("verify with --device {wanted}"),
                ));
            }
        }
        let mut tight = options.clone();
        if let Some(rule) = self.rules.iter().find(|rule| rule.require.strict) {
            if options.unsigned == UnsignedFiles::Tolerate {
                let remedy = "verify without --ignore-unsigned-files";
                return Err(laxer(rule, "a strict check", "unsigned files were to be tolerated", remedy));
            }
            if matches!(&options.uncovered, UncoveredFiles::Refuse { except } if !except.is_empty()) {
                let remedy = "verify without --allow-ignored";
                return Err(laxer(rule, "a strict check", "some files were to stay unsigned", remedy));
            }
            tight.uncovered = UncoveredFiles::Refuse { except: Vec::new() };
        }
        tight.digests = match (self.digests(), options.digests) {
            (None, asked) => asked,
            (Some(RequiredDigests::Oms), DigestChoice::Oms | DigestChoice::Fastest) => DigestChoice::Oms,
            (Some(RequiredDigests::Blake3), DigestChoice::Oms | DigestChoice::Fastest | DigestChoice::Blake3) => {
                DigestChoice::Blake3
            }
            (Some(_), _) => DigestChoice::All,
        };
        Ok(tight)
    }
}

impl From<Refusal> for Error {
    fn from(why: Refusal) -> Self {
        VerifyError::Policy(why).into()
    }
}
