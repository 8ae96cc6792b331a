//! Whether signatures satisfy the rules for a model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::carried::Carried;
use super::error::{Denied, Refusal, RuleName};
use super::{AcceptedSignature, Applied, AppliedRule, Deny, Requirements, Rule, Signers};
use crate::bundle::{Bundle, VerificationMaterial};
use crate::digest::Digest;
use crate::error::{VerifyError, quoted};
use crate::manifest::Manifest;
use crate::time::UnixTime;
use crate::verify::{Identity, SignatureError, Verified};

/// A signature of some accepted signer.
pub(crate) struct Signature {
    /// Its file.
    pub(crate) path: PathBuf,
    /// What it signs.
    pub(crate) signed: Verified<Manifest>,
    /// Each signer whose it is, and as whom.
    signers: Vec<(usize, Identity)>,
    /// What the bundle carries of the signer, in names that can be denied.
    carried: Carried,
}

impl Deny {
    /// What of a signature is denied.
    fn finds(&self, signature: &Signature) -> Option<Denied> {
        let key = |fingerprint: &String| self.keys.contains(fingerprint).then(|| Denied::Key(fingerprint.clone()));
        let certificate = |fingerprint: &String| {
            self.certificates.contains(fingerprint).then(|| Denied::Certificate(fingerprint.clone()))
        };
        let identity = |name: &str| {
            self.identities.iter().find(|denied| is_name(denied, name)).map(|denied| Denied::Identity(denied.clone()))
        };
        let root = signature.signed.root();
        if self.roots.contains(&root) {
            return Some(Denied::Root(root));
        }
        let carried = &signature.carried;
        let found = carried.key.as_ref().and_then(key).or_else(|| carried.certificates.iter().find_map(certificate));
        found.or_else(|| {
            signature.signers.iter().find_map(|(_, signer)| match signer {
                Identity::Key { fingerprint, .. } => key(fingerprint),
                Identity::Certificate(of) => certificate(&of.fingerprint)
                    .or_else(|| certificate(&of.root_fingerprint))
                    .or_else(|| identity(&of.subject))
                    .or_else(|| of.names.iter().find_map(|name| identity(name))),
                Identity::Sigstore(of) => identity(&of.identity),
            })
        })
    }
}

impl Requirements<'_> {
    fn names(&self) -> Vec<RuleName> {
        self.rules().cloned().collect()
    }

    /// Verifies a bundle as some signer's that the rules accept.
    pub(crate) fn accept(&self, path: &Path, bundle: &Bundle) -> Result<Signature, VerifyError> {
        let candidates: BTreeSet<usize> =
            self.rules.iter().flat_map(|rule| rule.signers.list().iter().copied()).collect();
        let (mut signers, mut signed, mut tried) = (Vec::new(), None, Vec::new());
        for i in candidates {
            let signer = &self.policy.signers[i];
            match bundle.verify(&*signer.verifier) {
                Ok(verified) => {
                    signers.push((i, verified.identity().clone()));
                    signed = Some(verified);
                }
                Err(VerifyError::Signature(why)) => tried.push((signer.to_string(), why)),
                // The signature is good, and what was signed is not.
                Err(other) => return Err(other),
            }
        }
        match signed {
            Some(signed) => Ok(Signature { path: path.to_owned(), signed, signers, carried: Carried::of(bundle) }),
            None => {
                // Signers of the bundle's own method first: the others say nothing but that.
                tried.sort_by_key(|(_, why)| matches!(why, SignatureError::OtherMethod { .. }));
                let tried = tried.into_iter().map(|(signer, why)| (signer, reason(&why))).collect();
                let (signature, found) = (path.to_owned(), claimed(bundle.material()));
                Err(Refusal::NotAccepted { signature, rules: self.names(), found, tried }.into())
            }
        }
    }

    /// Whether the signatures, which are all of some accepted signer, satisfy every rule.
    pub(crate) fn decide(&self, signatures: &[Signature]) -> Result<Applied, Refusal> {
        for signature in signatures {
            if let Some(denied) = self.policy.deny.finds(signature) {
                return Err(Refusal::Denied { signature: signature.path.clone(), denied });
            }
        }
        for pair in signatures.windows(2) {
            if let Some(how) = differs(&pair[0].signed, &pair[1].signed) {
                let (first, second) = (pair[0].path.clone(), pair[1].path.clone());
                return Err(Refusal::Statements { first, second, how });
            }
        }
        let rules = self.rules.iter().map(|rule| {
            let signers = self.satisfied(rule, signatures)?;
            Ok(AppliedRule { rule: rule.name.clone(), signers: signers.into_iter().map(|i| self.name(i)).collect() })
        });
        let accepted = |signature: &Signature| AcceptedSignature {
            signature: signature.path.clone(),
            signers: signature.signers.iter().map(|(i, _)| self.name(*i)).collect(),
            identity: signature.signed.identity().clone(),
        };
        Ok(Applied {
            policy: self.policy.path.clone(),
            resolved: self.model.clone(),
            rules: rules.collect::<Result<_, _>>()?,
            signatures: signatures.iter().map(accepted).collect(),
        })
    }

    fn name(&self, signer: usize) -> String {
        self.policy.signers[signer].name.clone()
    }

    /// The signers by whom the rule is satisfied.
    fn satisfied(&self, rule: &Rule, signatures: &[Signature]) -> Result<Vec<usize>, Refusal> {
        if let (Some(roots), Some(found)) = (&rule.roots, signatures.first().map(|first| first.signed.root()))
            && !roots.contains(&found)
        {
            return Err(Refusal::Root { rule: rule.name.clone(), found, pinned: roots.len() });
        }
        if let Some(signers) = count(rule, signatures, &|identity| timely(rule, identity.signed_at())) {
            return Ok(signers);
        }
        let refusal = match count(rule, signatures, &|_| true) {
            Some(_) => self.untimely(rule, signatures),
            None => None,
        };
        Err(refusal.unwrap_or_else(|| self.missing(rule, signatures)))
    }

    fn untimely(&self, rule: &Rule, signatures: &[Signature]) -> Option<Refusal> {
        let all = signatures.iter().flat_map(|of| of.signers.iter().map(move |(i, identity)| (of, *i, identity)));
        let mut wanted = all.filter(|(_, i, _)| rule.signers.list().contains(i));
        let (of, i, identity) = wanted.find(|(_, _, identity)| !timely(rule, identity.signed_at()))?;
        Some(Refusal::Untimely {
            rule: rule.name.clone(),
            signature: of.path.clone(),
            signer: self.policy.signers[i].to_string(),
            after: rule.signed_after,
            found: identity.signed_at(),
        })
    }

    fn missing(&self, rule: &Rule, signatures: &[Signature]) -> Refusal {
        let is_there = |i: &usize| signatures.iter().any(|of| of.signers.iter().any(|(signer, _)| signer == i));
        let named = |i: usize| self.policy.signers[i].to_string();
        let found = |of: &Signature| {
            let names: Vec<String> = of.signers.iter().map(|(i, _)| quoted(&self.policy.signers[*i].name)).collect();
            format!("{:?} by {} ({})", of.path, of.signed.identity(), names.join(", "))
        };
        let asked = rule.signers.list();
        Refusal::Missing {
            rule: rule.name.clone(),
            all: matches!(rule.signers, Signers::All(_)),
            asked: asked.iter().map(|&i| named(i)).collect(),
            found: signatures.iter().map(found).collect(),
            missing: asked.iter().filter(|i| !is_there(i)).map(|&i| named(i)).collect(),
        }
    }
}

fn timely(rule: &Rule, signed_at: Option<UnixTime>) -> bool {
    match rule.signed_after {
        Some(after) => signed_at.is_some_and(|at| at > after),
        None => !rule.require.timestamp || signed_at.is_some(),
    }
}

/// The signers of the rule that signatures are there for, if these are enough. One signer counts once, however many
/// signatures they made and however many of the policy's names are theirs.
fn count(rule: &Rule, signatures: &[Signature], counts: &dyn Fn(&Identity) -> bool) -> Option<Vec<usize>> {
    let people = people(signatures);
    let of = |signer: usize| -> BTreeSet<usize> {
        let is_theirs = |(_, signature): &(usize, &Signature)| {
            signature.signers.iter().any(|(i, identity)| *i == signer && counts(identity))
        };
        signatures.iter().enumerate().filter(is_theirs).map(|(at, _)| people[at]).collect()
    };
    match &rule.signers {
        Signers::Any(list) => {
            let there: Vec<usize> = list.iter().copied().filter(|&signer| !of(signer).is_empty()).collect();
            (!there.is_empty()).then_some(there)
        }
        Signers::All(list) => {
            let candidates: Vec<BTreeSet<usize>> = list.iter().map(|&signer| of(signer)).collect();
            matched(&candidates).then(|| list.clone())
        }
    }
}

/// For each signature a number that is the same where the signer is, or might be, the same.
fn people(signatures: &[Signature]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..signatures.len()).collect();
    for i in 0..signatures.len() {
        for j in 0..i {
            if group[i] != group[j] && same_person(&signatures[i], &signatures[j]) {
                let (from, to) = (group[i], group[j]);
                group.iter_mut().filter(|number| **number == from).for_each(|number| *number = to);
            }
        }
    }
    group
}

fn same_person(one: &Signature, other: &Signature) -> bool {
    let key = |of: &Signature, identity: &Identity| match identity {
        Identity::Key { fingerprint, .. } => Some(fingerprint.clone()),
        Identity::Certificate(_) => of.carried.key.clone(),
        // Made for one signature.
        Identity::Sigstore(_) => None,
    };
    let pairs = one.signers.iter().flat_map(|(_, a)| other.signers.iter().map(move |(_, b)| (a, b)));
    pairs.into_iter().any(|(a, b)| {
        let same_key = key(one, a).is_some_and(|first| key(other, b) == Some(first));
        let same_subject = matches!((a, b), (Identity::Certificate(a), Identity::Certificate(b))
            if !a.subject.is_empty() && a.subject == b.subject);
        same_key || same_subject || !names(a).is_disjoint(&names(b))
    })
}

/// What a signer is called, whichever method says so: `email:A@example.com` in a certificate is `a@example.com` at Sigstore.
fn names(identity: &Identity) -> BTreeSet<String> {
    match identity {
        Identity::Key { .. } => BTreeSet::new(),
        Identity::Certificate(of) => {
            of.names.iter().map(|name| name.split_once(':').map_or(&**name, |(_, bare)| bare).to_lowercase()).collect()
        }
        Identity::Sigstore(of) => BTreeSet::from([of.identity.to_lowercase()]),
    }
}

/// Whether a name that a policy denies is this one. Letters' case does not make another signer, nor does the kind of name
/// before the colon where only one of the two has it.
fn is_name(denied: &str, name: &str) -> bool {
    const KINDS: [&str; 4] = ["email:", "dns:", "uri:", "ip:"];
    let (denied, name) = (denied.to_lowercase(), name.to_lowercase());
    let bare = name.split_once(':').map_or(&*name, |(_, bare)| bare);
    denied == name || denied == bare || KINDS.iter().any(|kind| denied.strip_prefix(kind) == Some(&*name))
}

/// Whether each signer can be given a person of their own (augmenting paths; there are few).
fn matched(candidates: &[BTreeSet<usize>]) -> bool {
    fn place(
        signer: usize,
        all: &[BTreeSet<usize>],
        seen: &mut BTreeSet<usize>,
        taken: &mut Vec<(usize, usize)>,
    ) -> bool {
        for &person in &all[signer] {
            if !seen.insert(person) {
                continue;
            }
            let holder = taken.iter().position(|(who, _)| *who == person);
            let free = match holder {
                None => true,
                Some(at) => place(taken[at].1, all, seen, taken),
            };
            if free {
                taken.retain(|(who, _)| *who != person);
                taken.push((person, signer));
                return true;
            }
        }
        false
    }
    let mut taken = Vec::new();
    (0..candidates.len()).all(|signer| place(signer, candidates, &mut BTreeSet::new(), &mut taken))
}

/// What two statements differ in, if the model's bytes could satisfy one and not the other.
fn differs(one: &Manifest, other: &Manifest) -> Option<String> {
    let (a, b) = (one.serialization(), other.serialization());
    if a.method != b.method {
        return Some("one is over files, the other over shards, or over shards of another size".to_owned());
    }
    if a.hash != b.hash {
        return Some(format!("one has {} digests, the other {}", a.hash, b.hash));
    }
    let only_in = |one: &Manifest, other: &Manifest| {
        one.resources()
            .iter()
            .find(|resource| other.get(resource.name.as_str()).is_none())
            .map(|of| of.name.to_string())
    };
    if let Some(name) = only_in(one, other).or_else(|| only_in(other, one)) {
        return Some(format!("{} is in one of them only", quoted(&name)));
    }
    let mut pairs = one.resources().iter().zip(other.resources());
    if let Some((resource, _)) = pairs.find(|(a, b)| a.digest != b.digest || both_differ(a.blake3, b.blake3)) {
        return Some(format!("the digests of {} are different", quoted(resource.name.as_str())));
    }
    // The same resources in another order.
    (one.root() != other.root()).then(|| format!("the roots are {} and {}", one.root(), other.root()))
}

fn both_differ(one: Option<Digest>, other: Option<Digest>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// Why a signature is not a signer's, in a few words.
fn reason(why: &SignatureError) -> String {
    match why {
        SignatureError::OtherMethod { expected, found } => {
            format!("it is of the {found} method, not of the {expected} method")
        }
        SignatureError::OtherKey { named, .. } => format!("it names another key, {}", quoted(named)),
        SignatureError::Invalid => "it was not made with that key over this statement".to_owned(),
        other => other.to_string(),
    }
}

/// Who signed, as the bundle has it: nothing of it is verified.
fn claimed(material: &VerificationMaterial) -> String {
    match material {
        VerificationMaterial::PublicKey { hint: Some(hint), .. } => format!("key {} (as it says itself)", quoted(hint)),
        VerificationMaterial::PublicKey { hint: None, .. } => "some key".to_owned(),
        VerificationMaterial::CertificateChain(_) => "the holder of some certificate".to_owned(),
        VerificationMaterial::Certificate(_) => "some Sigstore identity".to_owned(),
    }
}

impl From<Refusal> for VerifyError {
    fn from(why: Refusal) -> Self {
        Self::Policy(why)
    }
}

#[cfg(test)]
mod tests;
