//! `sign sigstore`.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tensorseal::Error;
use tensorseal::method::{IdentityTokenFrom, SigstoreSigning, sigstore_signer};
use tensorseal::sign::sigstore::{Credentials, Receipt, SigstoreSignError, SigstoreSigner};
use tensorseal::sign::{SignError, Signer};

use super::login::Person;
use crate::cli::args::SignSigstoreArgs;
use crate::cli::exit::Exit;
use crate::cli::{json as report, say, secret, tell};

pub(in crate::cli) fn sigstore(args: &SignSigstoreArgs) -> Exit {
    let made: OnceCell<Rc<SigstoreSigner>> = OnceCell::new();
    let signer = || {
        let signer = Rc::new(signer(args)?);
        // The closure is called once.
        let _ = made.set(Rc::clone(&signer));
        Ok(Box::new(signer) as Box<dyn Signer>)
    };
    super::run_and_tell(&args.common, signer, |out| {
        let receipt = made.get().and_then(|signer| signer.receipt());
        match (receipt, out) {
            (Some(receipt), Some(out)) => report::insert(out, fields(receipt)),
            (Some(receipt), None) => tell::receipt(receipt),
            (None, _) => {}
        }
    })
}

fn signer(args: &SignSigstoreArgs) -> Result<SigstoreSigner, Error> {
    let unreadable = |error: secret::Unreadable| {
        Error::Sign(SignError::from(Box::new(SigstoreSignError::Secret { why: error.to_string() })))
    };
    let token = secret::given(&args.token.source(), "the identity token").map_err(unreadable)?;
    // A file may be renewed while the model is hashed, so its path is kept, not its text. A pipe is read once.
    let token = match (token, &args.token.identity_token_file) {
        (Some(_), Some(path)) if path.is_file() => Some(IdentityTokenFrom::File(path.clone())),
        (Some(text), _) => Some(IdentityTokenFrom::Text(text.into())),
        (None, _) => args.use_ambient_credentials.then_some(IdentityTokenFrom::Ambient),
    };
    let credentials = match &token {
        Some(token) => token.credentials()?,
        None => Credentials::Login { prompt: Box::new(Person), out_of_band: args.oauth_force_oob },
    };
    let secret = secret::given(&args.secret.source(), "the client secret").map_err(unreadable)?;
    let with = SigstoreSigning {
        client_id: Some(args.client_id.clone()),
        client_secret: secret.map(Into::into),
        identity: args.expect_identity.clone(),
        staging: args.use_staging,
        trust_config: args.trust_config.clone(),
        timeout: Some(Duration::from_secs(args.service_timeout.get())),
    };
    let signer = sigstore_signer(credentials, &with)?;
    if token.is_none() {
        say::detail("login", "when the model has been hashed");
    }
    if let Some(by) = signer.must_be_done_by() {
        say::detail("token", format_args!("expires at {by}: the model must be hashed by then"));
    }
    Ok(signer)
}

/// What the report of a signature has beside what every method's has.
fn fields(receipt: &Receipt) -> Value {
    json!({
        "method": "sigstore",
        "identity": report::identity(&receipt.identity),
        "certificate": {"not_before": receipt.not_before.to_string(), "not_after": receipt.not_after.to_string()},
    })
}
