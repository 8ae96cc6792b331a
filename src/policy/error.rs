//! What is wrong with a policy file, and why a policy refuses a model.

use std::fmt;
use std::path::PathBuf;

use super::pattern::PatternFault;
use crate::digest::Digest;
use crate::error::{quoted, tame};
use crate::key::KeyError;
use crate::time::UnixTime;

/// A line and a column of a file, both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A policy that cannot be used. Nothing is verified with it then.
#[derive(Debug, thiserror::Error)]
#[error("policy{}{}: {fault}", file(.path.as_ref()), place(.at.as_ref()))]
#[non_exhaustive]
pub struct PolicyError {
    /// Its file; `None` for a text that came from elsewhere.
    pub path: Option<PathBuf>,
    /// Where in it.
    pub at: Option<Position>,
    /// What is wrong.
    pub fault: PolicyFault,
}

fn file(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" {path:?}")).unwrap_or_default()
}

fn place(at: Option<&Position>) -> String {
    at.map(|at| format!(", {at}")).unwrap_or_default()
}

/// What is wrong with a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFault {
    /// Not TOML, a key that no policy has, a value of another type, or a key that is missing.
    #[error("{}", tame(.0))]
    Toml(String),
    /// Longer than any policy that people wrote.
    #[error("it has more than {limit} bytes, which is more than any policy needs")]
    Long {
        /// Bytes allowed.
        limit: u64,
    },
    /// A generation of policies that this version does not know.
    #[error("version {0} of policies is not known to this version of tensorseal; it knows version 1")]
    Version(i64),
    /// A list or text with nothing in it.
    #[error("{what} is empty; {remedy}")]
    Empty {
        /// Which.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A signer of no kind, or of several.
    #[error("the signer {} must have exactly one of key, certificate and sigstore, and has {count}", quoted(.name))]
    Kinds {
        /// The signer.
        name: String,
        /// How many it has.
        count: usize,
    },
    /// None, or both, of two keys of which one is needed.
    #[error("{what} must have exactly one of {first} and {second}")]
    OneOf {
        /// Which table.
        what: String,
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A rule names a signer that is not there.
    #[error("there is no signer {}; there are {}", quoted(.name), several(.known))]
    UnknownSigner {
        /// As the rule names it.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// Something twice in one list.
    #[error("{} stands twice in one list", quoted(.0))]
    Twice(String),
    /// Two signers of one `all_of` hold the same key, so that no two signers could satisfy it.
    #[error("{} and {} are the same key, so that one signer would do for both", quoted(.first), quoted(.second))]
    SameKey {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A rule's path that no resolved path is.
    #[error("the path {} matches no resolved path: {fault}", quoted(.path))]
    Path {
        /// The path.
        path: String,
        /// Why.
        fault: PatternFault,
    },
    /// A rule's path that leads through a link.
    #[error(
        "{link:?} is or lies behind a symlink, and leads to {target:?}. Models are matched by the path that they lead to, so this rule would never apply: write that path"
    )]
    Link {
        /// The path that leads elsewhere.
        link: PathBuf,
        /// Where.
        target: PathBuf,
    },
    /// Not a digest as it is written here.
    #[error("{} is no {what}: write sha256: and 64 hexadecimal digits", quoted(.found))]
    Digest {
        /// What it should be.
        what: &'static str,
        /// What it is.
        found: String,
    },
    /// A point in time that is none, or that depends on where one is.
    #[error("{} is no moment: write date, time and offset, such as 2026-01-01T00:00:00Z", quoted(.0))]
    Time(String),
    /// A span of time that is none.
    #[error("{} is no span of time: write a number and s, m, h or d, such as 24h, up to 366d", quoted(.0))]
    Span(String),
    /// A value that is not among those known.
    #[error("{what} {} is not known; known are {known}", quoted(.found))]
    Unknown {
        /// Of what.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it could be.
        known: &'static str,
    },
    /// Checks that cannot both be made.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A file that the policy names cannot be read.
    #[error("cannot read {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key that cannot be used.
    #[error("key {path}: {source}")]
    Key {
        /// Its file, or `in the policy`.
        path: String,
        /// Why.
        source: KeyError,
    },
    /// A pattern of identities that cannot be used, certificates or a trust root that cannot be read, ..
    #[error("{0}")]
    Signer(String),
    /// A kind of signer that this build cannot verify.
    #[error(
        "this build of tensorseal cannot {what}: it was made without the feature {feature}. Build it with `--features {feature}`"
    )]
    NotCompiled {
        /// What it cannot do.
        what: &'static str,
        /// The Cargo feature that it takes.
        feature: &'static str,
    },
}

/// Names one after the other, but no screen full of them.
pub(super) fn several(names: &[String]) -> String {
    const SHOWN: usize = 8;
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Which rule of a policy, as messages and reports name it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleName {
    /// Its place among the rules, from 1.
    pub number: usize,
    /// The line on which it begins.
    pub line: usize,
    /// Its path, as written.
    pub path: String,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} (line {}, {})", self.number, self.line, quoted(&self.path))
    }
}

/// Something that a policy denies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// A public key, by its fingerprint.
    Key(String),
    /// A certificate of the signature, by its fingerprint.
    Certificate(String),
    /// A name of a certificate, or a Sigstore identity.
    Identity(String),
    /// A model, by its root digest.
    Root(Digest),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(fingerprint) => write!(f, "the key {fingerprint}"),
            Self::Certificate(fingerprint) => write!(f, "the certificate {fingerprint}"),
            Self::Identity(identity) => write!(f, "the identity {}", quoted(identity)),
            Self::Root(root) => write!(f, "the signed root {root}"),
        }
    }
}

/// Why a policy refuses a model. The signatures may be good: they are not those that the policy asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No rule is about this model.
    #[error("the policy has no rule for {model:?}, and refuses what it has no rule for; there are rules for {}", several(.rules))]
    NoRule {
        /// The model's resolved path.
        model: PathBuf,
        /// The paths of all rules.
        rules: Vec<String>,
    },
    /// A path that cannot be compared with rules, which are text.
    #[error("the path {model:?} is not UTF-8, so that no rule can be about it; move the model")]
    PathNotUtf8 {
        /// The model's resolved path.
        model: PathBuf,
    },
    /// No signature, or more of them than any rule needs.
    #[error("{count} signatures were given; a policy needs at least one and at most {limit}")]
    Count {
        /// How many.
        count: usize,
        /// How many at most.
        limit: usize,
    },
    /// Less is to be checked than a rule asks for.
    #[error("{rule} asks for {asked}, and {given}; {remedy}")]
    Laxer {
        /// The rule.
        rule: RuleName,
        /// What it asks for.
        asked: String,
        /// What the caller asked for.
        given: String,
        /// What to do.
        remedy: String,
    },
    /// Two rules ask for what cannot both be.
    #[error(
        "{first} and {second} both apply, and no device is both {first_device} and {second_device}; change the policy"
    )]
    Contradiction {
        /// One.
        first: RuleName,
        /// Its device.
        first_device: String,
        /// The other.
        second: RuleName,
        /// Its device.
        second_device: String,
    },
    /// A signature that is of no signer that the rules name.
    #[error("{}: {signature:?} is signed by {found}, and {}", several_rules(.rules), all_tried(.tried))]
    NotAccepted {
        /// The signature's file.
        signature: PathBuf,
        /// The rules that apply.
        rules: Vec<RuleName>,
        /// Who signed by the signature's own word.
        found: String,
        /// Each signer that the rules accept, and why it is not theirs.
        tried: Vec<(String, String)>,
    },
    /// A rule asks for signers whose signature is not there.
    #[error("{rule} asks for {}, and the given signatures are {}{}", asked_for(*.all, .asked), found.join(", "), still_missing(.missing))]
    Missing {
        /// The rule.
        rule: RuleName,
        /// Whether it asks for each of them, or any.
        all: bool,
        /// For whom it asks.
        asked: Vec<String>,
        /// Each signature, and whose it is.
        found: Vec<String>,
        /// Those of `asked` whose signature is missing; none if two of them are one signer's.
        missing: Vec<String>,
    },
    /// A signature whose time is not known, or not late enough.
    #[error("{rule}: {}", untimely(.signature, .signer, *.after, *.found))]
    Untimely {
        /// The rule.
        rule: RuleName,
        /// The signature's file.
        signature: PathBuf,
        /// Whose it is.
        signer: String,
        /// After which moment it had to be made, if the rule says so.
        after: Option<UnixTime>,
        /// When it was made, if somebody trusted says so.
        found: Option<UnixTime>,
    },
    /// Another model than those that a rule pins.
    #[error(
        "{rule} accepts {} by its root digest, and the signed root is {found}: this is another model, or another version of it",
        if *.pinned == 1 { "one model".to_owned() } else { format!("{pinned} models") }
    )]
    Root {
        /// The rule.
        rule: RuleName,
        /// The signed root.
        found: Digest,
        /// How many the rule pins.
        pinned: usize,
    },
    /// Something that the policy denies, whatever its rules say.
    #[error("{signature:?}: {denied} is denied by the policy")]
    Denied {
        /// The signature's file.
        signature: PathBuf,
        /// What is denied.
        denied: Denied,
    },
    /// Signatures of different models.
    #[error(
        "{first:?} and {second:?} do not sign the same: {how}. Every signature must be over the same files with the same settings"
    )]
    Statements {
        /// One signature's file.
        first: PathBuf,
        /// Another's.
        second: PathBuf,
        /// What is different.
        how: String,
    },
}

fn several_rules(rules: &[RuleName]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

fn all_tried(tried: &[(String, String)]) -> String {
    const SHOWN: usize = 8;
    let each: Vec<String> = tried.iter().take(SHOWN).map(|(signer, why)| format!("{signer}: {why}")).collect();
    let more = if tried.len() > SHOWN { format!("; and {} more", tried.len() - SHOWN) } else { String::new() };
    format!("is not a signature of {}{more}", each.join("; nor of "))
}

fn asked_for(all: bool, signers: &[String]) -> String {
    match signers {
        [one] => format!("a signature of {one}"),
        _ if all => format!("a signature of each of {}", signers.join(", ")),
        _ => format!("a signature of one of {}", signers.join(", ")),
    }
}

fn still_missing(missing: &[String]) -> String {
    if missing.is_empty() {
        ": too few, since one signer counts once, however many signatures and names they have".to_owned()
    } else {
        format!(": missing is that of {}; pass it with another --signature", missing.join(", "))
    }
}

fn untimely(signature: &std::path::Path, signer: &str, after: Option<UnixTime>, found: Option<UnixTime>) -> String {
    let when = after.map(|after| format!(" after {after}")).unwrap_or_default();
    match found {
        Some(found) => format!("{signature:?} of {signer} had to be made{when}, and was made at {found}"),
        None => format!(
            "{signature:?} of {signer} had to be made{when} by a trusted clock, and has no trusted time: no timestamp or log entry that was verified"
        ),
    }
}
