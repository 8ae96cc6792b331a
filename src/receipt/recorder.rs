//! Looks on while a model is verified, and writes down what it sees.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::accept::Accepted;
use super::error::{ReceiptError, ReceiptFault};
use super::facts::{Facts, Observer, System};
use super::wire::{AcceptedFact, BundleFact, FileFact, ModelFact, Moment, Payload, PolicyFact, SCHEMA};
use super::{Purpose, Receipt, RecordOptions, Unhashed};
use crate::device::cpu::Stamp;
use crate::digest::hex;
use crate::error::Error;
use crate::policy::{Applied, Policy};
use crate::report::Report;
use crate::time::UnixTime;
use crate::verify::{Listing, Witness};

/// Sees a verification from its beginning to its end.
pub(crate) struct Recorder<'a> {
    options: &'a RecordOptions,
    begun: UnixTime,
    observer: Observer<'a>,
    bundles: Vec<BundleFact>,
    policy: Option<PolicyFact>,
    accepted: Option<Accepted>,
    files: Vec<(String, Facts)>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(options: &'a RecordOptions, system: &'a dyn System) -> Self {
        Self {
            options,
            begun: system.now(),
            observer: Observer::new(system),
            bundles: Vec::new(),
            policy: None,
            accepted: None,
            files: Vec::new(),
        }
    }

    /// The receipt of a verification that ended in a yes.
    pub(crate) fn receipt(mut self, report: &Report) -> Receipt {
        let lossy = |path: &Path| path.to_string_lossy().into_owned();
        let resolved = match &report.policy {
            Some(applied) => lossy(&applied.resolved),
            None => fs::canonicalize(&report.model).map_or_else(|_| lossy(&report.model), |path| lossy(&path)),
        };
        match &report.policy {
            Some(applied) => {
                for (bundle, of) in self.bundles.iter_mut().zip(&applied.signatures) {
                    bundle.identity = of.identity.to_string();
                }
            }
            None => self.bundles.iter_mut().for_each(|bundle| bundle.identity = report.identity.to_string()),
        }
        let names = |list: &[crate::Algorithm]| list.iter().map(|algorithm| algorithm.name().to_owned()).collect();
        let ignored = report.ignored.iter().map(|file| file.name.clone());
        let not_covered = ignored.chain(report.empty.iter().cloned()).chain(report.unsigned.iter().cloned()).collect();
        let lifetime = self.options.lifetime.get();
        Receipt(Payload {
            schema: SCHEMA.to_owned(),
            tool: concat!("tensorseal ", env!("CARGO_PKG_VERSION")).to_owned(),
            verdict: verdict(self.options.purpose, report.unhashed.as_deref()),
            hashed: report.unhashed.is_none(),
            time: Moment(self.begun),
            expires: Moment(UnixTime(self.begun.0.saturating_add_unsigned(lifetime))),
            model: ModelFact { path: lossy(&report.model), resolved },
            bundles: self.bundles,
            policy: self.policy,
            root: report.root.to_string(),
            checked: names(&report.checked),
            not_checked: names(&report.not_checked),
            device: report.device.to_string(),
            accepted: report.unhashed.as_deref().map(|of| AcceptedFact {
                path: lossy(&of.receipt),
                sha256: of.receipt_sha256.clone(),
                key: of.key.clone(),
                time: Moment(of.hashed_at),
                fs_verity: of.fs_verity,
                dm_verity: of.dm_verity,
                erofs: of.erofs,
                file_identity: of.file_identity,
            }),
            file_systems: self.observer.file_systems,
            files: self.files.iter().map(|(name, facts)| FileFact::new(name, facts)).collect(),
            not_covered,
        })
    }
}

/// The verdict in words. It never says more than that a disk was looked at.
pub(super) fn verdict(purpose: Purpose, unhashed: Option<&Unhashed>) -> String {
    let when = match purpose {
        Purpose::Verdict => "",
        Purpose::Exec => " before exec",
    };
    match unhashed {
        None => format!("checked on disk{when}: when they were read, the files had the signed digests"),
        Some(of) => format!(
            "not hashed: the signatures were checked{when}, and a receipt of {} says that the files had the signed digests then; \
             shown to be those files: {}",
            of.hashed_at,
            of.basis()
        ),
    }
}

impl Witness for Recorder<'_> {
    fn bundle(&mut self, path: &Path, bytes: &[u8]) {
        let (path, sha256) = (path.to_string_lossy().into_owned(), hex(&Sha256::digest(bytes)));
        self.bundles.push(BundleFact { path, sha256, identity: String::new() });
    }

    fn decided(&mut self, by: Option<(&Policy, &Applied)>) -> Result<(), Error> {
        self.policy = by.map(|(policy, applied)| PolicyFact {
            path: applied.policy.as_ref().map(|path| path.to_string_lossy().into_owned()),
            sha256: policy.sha256().to_owned(),
            rules: applied.rules.iter().map(|of| of.rule.number).collect(),
        });
        let Some(acceptance) = &self.options.accept else { return Ok(()) };
        let (Some((policy, _)), Some(fact)) = (by, &self.policy) else {
            return Err(ReceiptError { path: acceptance.path.clone(), fault: ReceiptFault::NoneAccepted }.into());
        };
        self.accepted = Some(Accepted::read(acceptance, policy, fact, self.begun)?);
        Ok(())
    }

    fn skips(&self) -> bool {
        self.options.accept.is_some()
    }

    fn listed(&mut self, listing: &Listing<'_>) -> Result<Option<Unhashed>, Error> {
        for file in listing.files {
            let path = file.path();
            let facts = self.observer.look(&path).map_err(Error::io("look at", path))?;
            self.files.push((listing.name_of(file).to_owned(), facts));
        }
        let Some(accepted) = &self.accepted else { return Ok(None) };
        let systems = &self.observer.file_systems;
        Ok(Some(accepted.covers(&self.bundles, listing.root, listing.algorithms, &self.files, systems)?))
    }

    fn hashed(&mut self, listing: &Listing<'_>, stamps: &[(Arc<str>, Stamp)]) -> Result<(), Error> {
        // What was looked at beforehand has to be what was hashed: otherwise the receipt would be about another file.
        let stamps: BTreeMap<&str, Stamp> = stamps.iter().map(|(name, stamp)| (&**name, *stamp)).collect();
        for (file, (name, facts)) in listing.files.iter().zip(&self.files) {
            if stamps.get(name.as_str()) != Some(&facts.stamp) {
                let how = "it was another file, or in another state, when it was looked at just before".to_owned();
                return Err(Error::FileChanged { path: file.path(), how });
            }
        }
        Ok(())
    }
}
