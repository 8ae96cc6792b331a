//! Name constraints (RFC 5280, section 4.2.1.10).

use x509_cert::ext::pkix::NameConstraints;

use super::{Certificate, PathError};

/// What a CA may vouch for.
#[derive(Clone)]
pub(super) struct Constraints;

impl Constraints {
    pub(super) fn read(_: NameConstraints) -> Result<Self, &'static str> {
        Ok(Self)
    }
}

/// Checks `below` against the constraints of `issuer`.
pub(super) fn check(issuer: &Certificate, _below: &Certificate) -> Result<(), PathError> {
    match issuer.extensions.constraints {
        None => Ok(()),
        Some(_) => Err(PathError::CriticalExtension {
            certificate: issuer.subject(),
            extension: "nameConstraints (2.5.29.30)".to_owned(),
        }),
    }
}
