//! Certificates and their paths: what others made, what OpenSSL and webpki say of it, and what a forger would try.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod forged;
mod openssl;
mod peers;
mod vectors;
