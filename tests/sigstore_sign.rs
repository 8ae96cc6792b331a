//! Signing with a Sigstore that a test runs, which does its part or fails in it: what is written verifies, and what would
//! not verify is not written.
#![cfg(all(feature = "sigstore-sign", feature = "cli"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, unreachable_pub)]

#[path = "common/mod.rs"]
mod common;

#[path = "sigstore_sign/credentials.rs"]
mod credentials;
#[path = "sigstore_sign/instance.rs"]
mod instance;
#[path = "sigstore_sign/login.rs"]
mod login;
#[path = "sigstore_sign/servers.rs"]
mod servers;
#[path = "sigstore_sign/update.rs"]
mod update;
