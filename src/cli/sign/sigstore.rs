//! `sign sigstore`.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tensorseal::Error;
use tensorseal::sign::sigstore::{
    Client, Credentials, IdentityToken, Receipt, Sigstore, SigstoreOptions, SigstoreSignError, SigstoreSigner,
};
use tensorseal::sign::{SignError, Signer};
use tensorseal::trust::Instance;

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
    let cannot = |error: SigstoreSignError| Error::Sign(SignError::from(Box::new(error)));
    let unreadable = |error: secret::Unreadable| cannot(SigstoreSignError::Secret { why: error.to_string() });
    let token = secret::given(&args.token.source(), "the identity token").map_err(unreadable)?;
    // A file may be renewed while the model is hashed, so its path is kept, not its text. A pipe is read once.
    let credentials = match (token, &args.token.identity_token_file) {
        (Some(_), Some(path)) if path.is_file() => Credentials::File(path.clone()),
        (Some(text), _) => Credentials::Token(Box::new(
            IdentityToken::parse(&text).map_err(|error| cannot(SigstoreSignError::Token(error)))?,
        )),
        (None, _) if args.use_ambient_credentials => Credentials::Ambient,
        (None, _) => Credentials::Login { prompt: Box::new(Person), out_of_band: args.oauth_force_oob },
    };
    let mut client = Client { id: args.client_id.clone(), ..Client::default() };
    if let Some(secret) = secret::given(&args.secret.source(), "the client secret").map_err(unreadable)? {
        client.secret = secret;
    }
    let login = matches!(credentials, Credentials::Login { .. });
    let mut options = SigstoreOptions::new(credentials);
    options.client = client;
    options.identity = args.expect_identity.clone();
    options.timeout = Duration::from_secs(args.service_timeout.get());
    options.check().map_err(cannot)?;
    let sigstore = match &args.trust_config {
        Some(path) => Sigstore::read(path),
        None if args.use_staging => Sigstore::fetch(Instance::Staging),
        None => Sigstore::fetch(Instance::PublicGood),
    };
    let signer = SigstoreSigner::new(sigstore.map_err(cannot)?, options).map_err(cannot)?;
    if login {
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
