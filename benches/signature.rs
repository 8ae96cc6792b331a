//! Signatures on P-256 over statements, with the encoding that is signed.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tensorseal::bench::inside;
use tensorseal::bundle::Bundle;
use tensorseal::envelope::pae;
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::verify::KeyVerifier;

fn p256(c: &mut Criterion) {
    let (key, verifier) = (made::key(), KeyVerifier::new(made::key().public_key()));
    let another = KeyVerifier::new(PrivateKey::generate(Curve::P256).unwrap().public_key());
    let mut group = c.benchmark_group("signature/P-256");
    for files in [10, 1000] {
        let manifest = made::manifest(files);
        let encoding = pae(&inside::statement_of(&manifest));
        let bundle = Bundle::parse(&made::bundle(&inside::statement_of(&manifest))).unwrap();
        assert_eq!(bundle.verify(&verifier).unwrap().into_inner(), manifest);
        assert!(bundle.verify(&another).is_err());
        let signature = key.sign(&encoding).unwrap();
        key.public_key().verify(&encoding, &signature).unwrap();
        assert!(key.public_key().verify(&encoding[1..], &signature).is_err());
        group.bench_function(BenchmarkId::new("signed", files), |b| b.iter(|| key.sign(black_box(&encoding))));
        group.bench_function(BenchmarkId::new("checked", files), |b| {
            b.iter(|| key.public_key().verify(black_box(&encoding), &signature));
        });
        // The signature, and only then the statement.
        group.bench_function(BenchmarkId::new("bundle checked and read", files), |b| {
            b.iter(|| black_box(&bundle).verify(&verifier));
        });
    }
    group.finish();
}

criterion_group!(benches, p256);
criterion_main!(benches);
