//! Any bytes as the payload of a bundle. Nothing outside the crate writes a statement but `sign`, so what is read here
//! is not written again: `tests/properties/trees.rs` goes the other way round.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bundle = invariants::bundle_around(data);
    assert_eq!(invariants::payload_of(&bundle), data);
    if let Ok(manifest) = bundle.unverified_manifest() {
        invariants::check(&manifest, data);
        assert_eq!(bundle.unverified_manifest().ok().as_ref(), Some(&manifest), "the same every time");
    }
});
