//! Any bytes as a receipt: as what is signed, and as the envelope around it.
#![no_main]

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use invariants::counting;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tensorseal::key::{Curve, PrivateKey, PublicKey};
use tensorseal::receipt::{PAYLOAD_TYPE, Receipt};

// One for the program: `tests/seeds.rs` has its own.
#[cfg(not(test))]
#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// A key that is made for this run and thrown away, and its public half.
fn key() -> &'static (PrivateKey, [PublicKey; 1]) {
    static KEY: OnceLock<(PrivateKey, [PublicKey; 1])> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = PrivateKey::generate(Curve::P256).expect("a key");
        let public = [key.public_key()];
        (key, public)
    })
}

fuzz_target!(|data: &[u8]| {
    let (key, public) = key();
    // Nobody has signed this.
    let (read, most) = counting::most(|| Receipt::signed_by(data, public).map(drop));
    assert!(most <= 16 * data.len() as u64 + 16_384, "{most} bytes for an envelope of {}", data.len());
    said(&read.expect_err("a signature of a key that nobody has"));

    let (read, most) = counting::most(|| Receipt::unverified(data));
    // An empty text takes three bytes of the input, and 24 of memory in a list that grows by doubling.
    assert!(most <= 40 * data.len() as u64 + 16_384, "{most} bytes for {}", data.len());
    let receipt = match read {
        Ok(receipt) => receipt,
        Err(fault) => return said(&fault),
    };
    let written = receipt.to_json();
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let value = |text: &[u8]| -> Value { serde_json::from_slice(text).expect("what was read is JSON") };
    assert_eq!(value(text), value(&written), "nothing is lost, nothing added");
    let again = Receipt::unverified(&written).expect("what was written is read");
    assert_eq!(again.to_json(), written);

    // The same, signed: by the encoding of DSSE, put together here once more.
    let mut pae = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), data.len()).into_bytes();
    pae.extend_from_slice(data);
    let signature = STANDARD.encode(key.sign(&pae).expect("a signature"));
    let envelope = |payload: &[u8]| {
        json!({
            "payload": STANDARD.encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": "", "sig": signature}],
        })
        .to_string()
    };
    let opened = Receipt::signed_by(envelope(data).as_bytes(), public).expect("a signed receipt");
    assert_eq!(opened.to_json(), written);
    if written != data {
        Receipt::signed_by(envelope(&written).as_bytes(), public).expect_err("it was signed in other words");
    }
});

fn said(fault: &dyn std::error::Error) {
    let said = fault.to_string();
    assert!(!said.contains('\n') && said.len() < 10_000, "{said}");
}
