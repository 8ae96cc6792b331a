//! The comparison that is left where no file is hashed: that of names.

use std::collections::BTreeSet;

use super::{Check, Listed, Prepared};
use crate::error::{Error, VerifyError};
use crate::manifest::{Difference, Differences, ResourceName};
use crate::measure::Measurement;
use crate::receipt::Unhashed;
use crate::report::Report;
use crate::verify::UnsignedFiles;

impl Check<'_> {
    /// Where no file was hashed: no digest was checked, and the report says why there is a yes all the same.
    pub(super) fn conclude_unhashed(
        &self,
        prepared: Prepared<'_>,
        found: &Measurement,
        why: &Unhashed,
    ) -> Result<Report, Error> {
        let Prepared { notes, model, listed, .. } = prepared;
        let mut report = self.report(listed, found, Vec::new(), notes);
        report.unhashed = Some(Box::new(why.clone()));
        self.strict(&model, &report)?;
        Ok(report)
    }

    /// Refuses a model in which a signed file is missing, or that has one which is not signed.
    pub(super) fn compare_names(&self, prepared: &Prepared<'_>, found: &BTreeSet<String>) -> Result<(), Error> {
        let signed = &prepared.signed_paths;
        let missing = signed.keys().filter(|name| !found.contains(**name)).map(|name| (*name, Difference::Missing));
        let tolerated = self.options.unsigned == UnsignedFiles::Tolerate;
        let beside = prepared.listed.unsigned.iter().map(String::as_str).filter(|_| !tolerated);
        let others = found.iter().map(String::as_str).filter(|name| !signed.contains_key(name));
        let unsigned = beside.chain(others).map(|name| (name, Difference::Unsigned));
        let named = |(name, difference)| (ResourceName::of_file(name, None), difference);
        let mut differences: Vec<_> = missing.chain(unsigned).map(named).collect();
        differences.sort_by(|(a, _), (b, _)| a.cmp(b));
        if differences.is_empty() {
            return Ok(());
        }
        let listed = Listed::default();
        let report = self.report(listed, &Measurement::default(), Vec::new(), prepared.notes.clone());
        Err(VerifyError::Differs {
            differences: Differences(differences),
            located: Vec::new(),
            report: Box::new(report),
        }
        .into())
    }
}
