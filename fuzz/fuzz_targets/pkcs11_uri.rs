//! Any text as the URI of a key in a token: what is read is written, and read the same; what is shown has no PIN in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorseal::sign::pkcs11::{Pkcs11Uri, UriPin};

fuzz_target!(|text: &str| {
    let uri: Pkcs11Uri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => {
            assert!(error.to_string().len() < 1000, "{error}");
            return;
        }
    };
    let written = uri.to_uri();
    assert_eq!(written.parse().as_ref(), Ok(&uri), "{text:?} is written as {:?}", *written);
    assert!(written.is_ascii() && written.bytes().all(|byte| byte.is_ascii_graphic()), "{:?}", *written);
    let mut open = uri.clone();
    if matches!(open.pin, Some(UriPin::Value(_))) {
        open.pin = None;
    }
    assert_eq!(open.to_string(), uri.to_string(), "a PIN makes no difference to what is shown");
    assert_eq!(uri.to_string().parse(), Ok(open), "{text:?} is shown as {uri}");
    if let Some(path) = &uri.module_path {
        assert!(path.is_absolute(), "{path:?}");
    }
});
