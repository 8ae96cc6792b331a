//! Receipts, as the options of the command line ask for them.

use std::path::Path;

use tensorseal::key::PrivateKey;
use tensorseal::receipt::{Acceptance, Checked, Purpose, Receipt, RecordOptions};
use tensorseal::source::{Model, Relative, SymlinkPolicy};
use tensorseal::{Error, Report, Verified};

use super::args::ReceiptArgs;
use super::sign::private_key;

/// A receipt that is to be written.
pub(super) struct Keeping<'a> {
    path: &'a Path,
    key: Option<PrivateKey>,
}

/// What a verification is told of receipts, and what becomes of its own. What would fail after hours of hashing fails now.
pub(super) fn wanted<'a>(
    args: &'a ReceiptArgs,
    model: &Path,
    purpose: Purpose,
    accept: Option<Acceptance>,
) -> Result<(Option<RecordOptions>, Option<Keeping<'a>>), Error> {
    let keeping = args.receipt.as_deref().map(|path| Keeping::prepared(path, args, model)).transpose()?;
    let options = RecordOptions { lifetime: args.receipt_expires, purpose, accept };
    Ok(((keeping.is_some() || options.accept.is_some()).then_some(options), keeping))
}

impl<'a> Keeping<'a> {
    fn prepared(path: &'a Path, args: &ReceiptArgs, model: &Path) -> Result<Self, Error> {
        Receipt::check_target(path)?;
        super::can_write("write receipt", path)?;
        // A model that cannot be looked at meets its own error later.
        if let Ok(model) = Model::open(model, SymlinkPolicy::Anywhere)
            && model.relative(path)? != Relative::Outside
        {
            return Err(Error::ReceiptInModel { path: path.to_owned() });
        }
        let key = args.receipt_key.as_deref().map(|key| private_key(key, &args.password)).transpose()?;
        Ok(Self { path, key })
    }

    /// Writes the receipt of what was checked, and gives the report.
    pub(super) fn keep(this: Option<Self>, checked: Checked) -> Result<Verified<Report>, Error> {
        if let Some(Self { path, key }) = this {
            checked.receipt.write(path, key.as_ref())?;
        }
        Ok(checked.report)
    }
}
