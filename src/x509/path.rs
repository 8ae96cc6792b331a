//! From a leaf to a trusted root (RFC 5280, section 6), within bounds.

use std::collections::HashSet;

use x509_cert::certificate::Version;

use super::error::PathError;
use super::signature::SignatureFault;
use super::{Certificate, constraints, extensions, signature};
use crate::time::UnixTime;

/// Certificates in a path, leaf and root included.
pub const MAX_PATH: usize = 10;

/// Untrusted certificates that are looked at.
pub const MAX_OTHERS: usize = 64;

/// Signatures of certificates that are checked before the search is given up: certificates of one name, each of which
/// could have issued the others, would otherwise make for more paths than can be tried.
pub const MAX_CHECKS: usize = 64;

/// What is asked of extendedKeyUsage (RFC 5280, section 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EkuRule {
    /// Where it is present it must list codeSigning; in a CA certificate anyExtendedKeyUsage will do.
    #[default]
    CodeSigningIfPresent,
    /// It may list what it likes. The leaf must still be for signing, by its keyUsage or by codeSigning.
    Any,
}

/// For which moment, and how, paths are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathOptions {
    /// The moment for which every certificate of the path, root included, must be valid.
    pub at: UnixTime,
    /// What is asked of extendedKeyUsage.
    pub eku: EkuRule,
}

impl PathOptions {
    /// The rules as they are unless somebody asks for others.
    #[must_use]
    pub const fn at(at: UnixTime) -> Self {
        Self { at, eku: EkuRule::CodeSigningIfPresent }
    }
}

/// A path that was found good, and what is unusual about its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path<'a> {
    /// Who signs.
    pub leaf: &'a Certificate,
    /// The CAs between, from the leaf's issuer upwards.
    pub intermediates: Vec<&'a Certificate>,
    /// The trusted root; the leaf itself if that is self-signed and was given as a root.
    pub root: &'a Certificate,
    /// The leaf says that it is a CA: it may sign models, and somebody made it to sign certificates.
    pub leaf_is_ca: bool,
    /// The leaf has its issuer's name, but another key: it looks self-signed and is not.
    pub leaf_looks_self_signed: bool,
    /// Some extendedKeyUsage of the path does not allow signing, which [`EkuRule::Any`] let pass.
    pub eku_waived: bool,
}

impl<'a> Path<'a> {
    /// All certificates, from the leaf to the root, each once.
    pub fn certificates(&self) -> impl Iterator<Item = &'a Certificate> {
        let root = (self.root != self.leaf).then_some(self.root);
        std::iter::once(self.leaf).chain(self.intermediates.clone()).chain(root)
    }
}

/// Finds a path from `leaf` over `others`, which nobody vouches for, to one of the `roots`, each a self-signed
/// certificate that the caller trusts. What is among the roots and not self-signed serves as one of the others.
///
/// # Errors
/// Why there is no good path: of all that were tried, the failure that came last on the way up.
pub fn validate<'a>(
    leaf: &'a Certificate,
    others: &'a [Certificate],
    roots: &'a [Certificate],
    options: &PathOptions,
) -> Result<Path<'a>, PathError> {
    if roots.is_empty() {
        return Err(PathError::NoRoots);
    }
    if others.len() > MAX_OTHERS {
        return Err(PathError::TooMany { found: others.len(), limit: MAX_OTHERS });
    }
    check_leaf(leaf, options)?;
    let mut search = Search { others, roots, options, checks: 0, exhausted: false, failure: None };
    let mut path = vec![leaf];
    let root = if leaf.is_self_issued() && roots.contains(leaf) && search.is_anchor(leaf, 1) {
        Some(leaf)
    } else {
        search.climb(&mut path)
    };
    let Some(root) = root else { return Err(search.into_error(leaf)) };
    let waived = |certificate: &&Certificate| purpose(certificate, *certificate == leaf).is_err();
    Ok(Path {
        leaf,
        root,
        leaf_is_ca: leaf.is_ca(),
        leaf_looks_self_signed: leaf.is_self_issued() && root != leaf,
        eku_waived: path.iter().copied().chain([root]).any(|certificate| waived(&certificate)),
        intermediates: path.into_iter().skip(1).collect(),
    })
}

/// What can be said of the leaf alone, whatever its issuer.
///
/// # Errors
/// Why no path from it could be good at that time.
pub fn check_leaf(leaf: &Certificate, options: &PathOptions) -> Result<(), PathError> {
    let certificate = || leaf.subject();
    understood(leaf)?;
    leaf.public_key().map_err(|fault| PathError::LeafKey { certificate: certificate(), fault })?;
    let digital_signature = leaf.extensions.key_usage.is_some_and(|usage| usage.digital_signature);
    let code_signing = leaf.extensions.purposes.as_ref().is_some_and(extensions::Purposes::has_code_signing);
    if !digital_signature && !code_signing {
        return Err(PathError::LeafUsage { certificate: certificate() });
    }
    if options.eku == EkuRule::CodeSigningIfPresent {
        purpose(leaf, true)?;
    }
    valid_at(leaf, options.at)
}

/// Version 3, and no critical extension that is not processed.
fn understood(certificate: &Certificate) -> Result<(), PathError> {
    if certificate.version != Version::V3 {
        let version = certificate.version as u8 + 1;
        return Err(PathError::Version { certificate: certificate.subject(), version });
    }
    match &certificate.extensions.unprocessed {
        None => Ok(()),
        Some(oid) => Err(PathError::CriticalExtension {
            certificate: certificate.subject(),
            extension: extensions::extension_name(oid),
        }),
    }
}

/// The first and the last second count (RFC 5280, section 4.1.2.5).
fn valid_at(certificate: &Certificate, at: UnixTime) -> Result<(), PathError> {
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let certificate = || certificate.subject();
    if at < not_before {
        return Err(PathError::NotYetValid { certificate: certificate(), not_before, at });
    }
    if at > not_after {
        return Err(PathError::Expired { certificate: certificate(), not_after, at });
    }
    Ok(())
}

fn purpose(certificate: &Certificate, is_leaf: bool) -> Result<(), PathError> {
    match &certificate.extensions.purposes {
        Some(purposes) if !purposes.has_code_signing() && (is_leaf || !purposes.has_any()) => {
            let (certificate, found) = (certificate.subject(), purposes.told());
            Err(if is_leaf {
                PathError::LeafPurpose { certificate, found }
            } else {
                PathError::CaPurpose { certificate, found }
            })
        }
        _ => Ok(()),
    }
}

/// Whether `issuer`, which did sign the last of `path`, was allowed to (RFC 5280, section 6.1.4 (k) to (o)).
fn may_issue(issuer: &Certificate, path: &[&Certificate], options: &PathOptions) -> Result<(), PathError> {
    let certificate = || issuer.subject();
    understood(issuer)?;
    let Some(basic) = issuer.extensions.basic_constraints.filter(|basic| basic.ca) else {
        return Err(PathError::NotACa { certificate: certificate() });
    };
    if issuer.extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
        return Err(PathError::NoKeyCertSign { certificate: certificate() });
    }
    let found = path.iter().skip(1).filter(|below| !below.is_self_issued()).count();
    match basic.path_len {
        Some(limit) if found > usize::from(limit) => {
            return Err(PathError::PathLength { certificate: certificate(), limit, found });
        }
        _ => {}
    }
    // A CA's new certificate for itself is bound by what it issues, not by its own name (section 6.1.4 (b)).
    for (at, below) in path.iter().enumerate() {
        if at == 0 || !below.is_self_issued() {
            constraints::check(issuer, below)?;
        }
    }
    if options.eku == EkuRule::CodeSigningIfPresent {
        purpose(issuer, false)?;
    }
    valid_at(issuer, options.at)
}

/// How far a failed way led: certificates in the path, and whether it failed after the issuer's signature was found good.
type Progress = (usize, bool);

struct Search<'a, 'o> {
    others: &'a [Certificate],
    roots: &'a [Certificate],
    options: &'o PathOptions,
    checks: usize,
    exhausted: bool,
    failure: Option<(Progress, PathError)>,
}

impl<'a> Search<'a, '_> {
    /// Extends `path` until it reaches a root, which is returned and is not part of `path`.
    fn climb(&mut self, path: &mut Vec<&'a Certificate>) -> Option<&'a Certificate> {
        let last = *path.last()?;
        let candidates = self.candidates(last, path);
        if candidates.is_empty() {
            self.failed((path.len(), false), self.dead_end(path));
        }
        for (issuer, is_root) in candidates {
            if path.len() >= MAX_PATH {
                let certificate = path.first()?.subject();
                self.failed((path.len(), false), PathError::TooLong { certificate, limit: MAX_PATH });
                return None;
            }
            if self.exhausted || !self.signed_by(last, issuer, path.len()) {
                continue;
            }
            if let Err(why) = may_issue(issuer, path, self.options) {
                self.failed((path.len(), true), why);
                continue;
            }
            if is_root {
                if self.is_anchor(issuer, path.len() + 1) {
                    return Some(issuer);
                }
                continue;
            }
            path.push(issuer);
            if let Some(root) = self.climb(path) {
                return Some(root);
            }
            path.pop();
        }
        None
    }

    /// Everything with the issuer's name that is not on the path yet: roots first, then those with the key identifier
    /// that the certificate names, which is a hint and no more (RFC 5280, section 4.2.1.1).
    fn candidates(&self, last: &Certificate, path: &[&Certificate]) -> Vec<(&'a Certificate, bool)> {
        let mut seen: HashSet<&[u8]> = path.iter().map(|certificate| certificate.der()).collect();
        let roots = self.roots.iter().map(|root| (root, root.is_self_issued()));
        let mut candidates: Vec<_> = roots
            .chain(self.others.iter().map(|other| (other, false)))
            .filter(|(candidate, _)| candidate.subject.der == last.issuer.der && seen.insert(candidate.der()))
            .collect();
        let hinted =
            |candidate: &Certificate| match (&last.extensions.authority_key_id, &candidate.extensions.subject_key_id) {
                (Some(wanted), Some(found)) => wanted == found,
                _ => false,
            };
        candidates.sort_by_key(|(candidate, is_root)| (!is_root, !hinted(candidate)));
        candidates
    }

    /// Why nothing follows the last of `path`.
    fn dead_end(&self, path: &[&Certificate]) -> PathError {
        let Some(last) = path.last() else { return PathError::NoRoots };
        let certificate = last.subject();
        if last.is_self_issued() {
            PathError::UntrustedRoot { certificate, fingerprint: last.fingerprint() }
        } else if let Some(given) = path.iter().rev().find(|certificate| self.roots.contains(certificate)) {
            PathError::NotARoot { certificate: given.subject(), issuer: last.issuer() }
        } else {
            PathError::NoIssuer { certificate, issuer: last.issuer() }
        }
    }

    fn signed_by(&mut self, certificate: &Certificate, issuer: &Certificate, depth: usize) -> bool {
        match self.check(certificate, issuer) {
            Some(Ok(())) => true,
            Some(Err(fault)) => {
                let (certificate, issuer) = (certificate.subject(), issuer.subject());
                self.failed((depth, false), PathError::Signature { certificate, issuer, fault });
                false
            }
            None => false,
        }
    }

    /// The signature of a root over itself. Trust does not come from it (RFC 5280, section 6.1), so that a hash which is
    /// no longer safe does not matter; but a certificate that another CA signed is no root.
    fn is_anchor(&mut self, root: &Certificate, depth: usize) -> bool {
        match self.check(root, root) {
            Some(Ok(())) => true,
            Some(Err(fault)) if fault.is_weak() => true,
            Some(Err(fault)) => {
                let (certificate, issuer) = (root.subject(), root.issuer());
                self.failed((depth, false), PathError::Signature { certificate, issuer, fault });
                false
            }
            None => false,
        }
    }

    fn check(&mut self, certificate: &Certificate, issuer: &Certificate) -> Option<Result<(), SignatureFault>> {
        if self.checks == MAX_CHECKS {
            self.exhausted = true;
            return None;
        }
        self.checks += 1;
        Some(signature::check(certificate, issuer))
    }

    fn failed(&mut self, progress: Progress, why: PathError) {
        if self.failure.as_ref().is_none_or(|(best, _)| progress > *best) {
            self.failure = Some((progress, why));
        }
    }

    fn into_error(self, leaf: &Certificate) -> PathError {
        match self.failure {
            _ if self.exhausted => PathError::TooMuchWork { limit: MAX_CHECKS },
            Some((_, why)) => why,
            None => self.dead_end(&[leaf]),
        }
    }
}
