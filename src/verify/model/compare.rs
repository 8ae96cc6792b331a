//! Whether a resource has the digests that it was signed with.

use crate::digest::Algorithm;
use crate::error::VerifyError;
use crate::manifest::{Difference, Resource};
use crate::measure::Measured;

/// `None` if every algorithm agrees. A digest of ours that the signer left out is not compared.
pub(super) fn compare(
    signed: &Resource,
    found: &Measured,
    algorithms: &[Algorithm],
) -> Result<Option<Difference>, VerifyError> {
    let (mut agrees, mut differs) = (None, None);
    for &algorithm in algorithms {
        let Some(expected) = signed.digest_by(algorithm) else { continue };
        let Some(found) = found.digests.get(algorithm) else { continue };
        if expected == found {
            agrees = Some(algorithm);
        } else {
            differs = Some((expected, found));
        }
    }
    match (agrees, differs) {
        (Some(agrees), Some((expected, _))) => Err(VerifyError::SignerInconsistent {
            name: signed.name.to_string(),
            agrees,
            disagrees: expected.algorithm(),
        }),
        (None, Some((expected, digest))) => Ok(Some(Difference::Changed {
            expected,
            found: digest,
            expected_size: signed.size,
            found_size: found.size,
        })),
        (Some(_), None) => Ok(None),
        // Nothing was compared: never a yes.
        (None, None) => {
            let algorithm = algorithms.first().copied().unwrap_or(Algorithm::Sha256);
            Err(VerifyError::NoSuchDigest { name: signed.name.to_string(), algorithm })
        }
    }
}
