//! A policy file as TOML has it. Every table is closed: a key that is not known is an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

/// A list, its elements each with their place.
pub(super) type List = Spanned<Vec<Spanned<String>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WirePolicy {
    pub(super) version: Spanned<i64>,
    #[serde(default)]
    pub(super) signers: BTreeMap<Spanned<String>, WireSigner>,
    pub(super) deny: Option<Spanned<WireDeny>>,
    pub(super) receipts: Option<Spanned<WireReceipts>>,
    #[serde(default)]
    pub(super) rule: Vec<Spanned<WireRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireSigner {
    pub(super) key: Option<Spanned<String>>,
    pub(super) certificate: Option<Spanned<WireCertificate>>,
    pub(super) sigstore: Option<Spanned<WireSigstore>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireCertificate {
    pub(super) roots: List,
    pub(super) identity: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) any_identity: bool,
    #[serde(default)]
    pub(super) allow_eku: bool,
    pub(super) at: Option<Spanned<String>>,
    pub(super) tsa: Option<List>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
// A build that cannot verify these reads them only to say so.
#[cfg_attr(not(feature = "sigstore-verify"), allow(dead_code))]
pub(super) struct WireSigstore {
    pub(super) identity: Option<Spanned<String>>,
    pub(super) identity_regex: Option<Spanned<String>>,
    pub(super) issuer: Option<Spanned<String>>,
    pub(super) issuer_regex: Option<Spanned<String>>,
    pub(super) trust: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireDeny {
    pub(super) keys: Option<List>,
    pub(super) certificates: Option<List>,
    pub(super) identities: Option<List>,
    pub(super) roots: Option<List>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireReceipts {
    pub(super) keys: List,
    pub(super) max_age: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireRule {
    pub(super) path: Spanned<String>,
    pub(super) any_of: Option<List>,
    pub(super) all_of: Option<List>,
    pub(super) roots: Option<List>,
    pub(super) signed_after: Option<Spanned<Datetime>>,
    pub(super) require: Option<Spanned<WireRequire>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WireRequire {
    #[serde(default)]
    pub(super) strict: bool,
    pub(super) digests: Option<Spanned<String>>,
    pub(super) device: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) timestamp: bool,
}
