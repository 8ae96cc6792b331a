//! PINs in files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::Pkcs11Error;

/// No PIN is longer; a file that is was given by mistake.
const LONGEST: u64 = 4 << 10;

/// The first line of a file, without its end: editors and `echo` put one behind every PIN.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Pkcs11Error> {
    let cannot = |why: String| Pkcs11Error::PinUnreadable(format!("pin-source {path:?}: {why}"));
    // Room for all at once: a buffer that grows leaves copies of the PIN behind. A pipe is welcome.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(|error| cannot(error.to_string()))?;
    if text.len() as u64 > LONGEST {
        return Err(cannot("it is too long to be a PIN".to_owned()));
    }
    let text = std::str::from_utf8(&text).map_err(|_| cannot("it is not UTF-8".to_owned()))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}
