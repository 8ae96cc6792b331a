//! Which servers to sign with, by an instance's signing configuration (protobuf-specs `SigningConfig`, v0.2).

use sigstore_sign::reqwest::Url;
use sigstore_trust_root::{ServiceConfiguration, ServiceEndpoint, ServiceSelector, SigningConfig};

use crate::error::{quoted, tame};
use crate::net::{NetError, address};
use crate::time::UnixTime;

/// Why a signing configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The trust configuration has none.
    #[error(
        "{from} holds no signing configuration, so nothing says which servers to sign with; give a client trust configuration with a signingConfig"
    )]
    Missing {
        /// What was looked at.
        from: String,
    },
    /// Not a signing configuration of version 0.2.
    #[error("the signing configuration cannot be used: {}", tame(why))]
    Malformed {
        /// What is wrong.
        why: String,
    },
    /// No server of a kind.
    #[error(
        "the signing configuration names no {service} that is valid now and speaks a version that we do ({versions}); get a newer configuration"
    )]
    NoService {
        /// Of which kind.
        service: &'static str,
        /// The versions that we speak.
        versions: &'static str,
    },
    /// It demands more servers than one.
    #[error("the signing configuration demands {demand} of {service}, and one is what we use; have it ask for ANY")]
    Selector {
        /// Of which kind.
        service: &'static str,
        /// What it demands.
        demand: String,
    },
    /// A log that gives no time, and nobody else does.
    #[error(
        "the signing configuration has the log {} (Rekor v2), which gives no time, and no timestamp authority that is valid now; name one under tsaUrls",
        quoted(log)
    )]
    NoTime {
        /// The log.
        log: String,
    },
    /// An address that cannot be used.
    #[error("the signing configuration's {service}: {source}")]
    Address {
        /// Of which kind.
        service: &'static str,
        /// What is wrong with it.
        source: NetError,
    },
}

/// A transparency log's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RekorVersion {
    /// A database with a time of its own.
    V1,
    /// Tiles, without a time.
    V2,
}

/// The servers to sign with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Services {
    /// The certificate authority (Fulcio).
    pub fulcio: Url,
    /// The transparency log (Rekor).
    pub rekor: Url,
    /// What it speaks.
    pub rekor_version: RekorVersion,
    /// The timestamp authority, if there is one.
    pub tsa: Option<Url>,
    /// The OpenID Connect issuer to log in at, if there is one.
    pub oidc: Option<String>,
}

impl Services {
    /// Chooses as protobuf-specs has it: of the servers that are valid at `now`, the highest version that we speak, and of
    /// those the newest. A log that gives no time needs a timestamp authority.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn choose(signing_config: &str, now: UnixTime) -> Result<Self, ConfigError> {
        let config = SigningConfig::from_json(signing_config)
            .map_err(|error| ConfigError::Malformed { why: error.to_string() })?;
        let fulcio = eligible(&config.ca_urls, &[1], now);
        let logs = eligible(&config.rekor_tlog_urls, &[1, 2], now);
        let authorities = eligible(&config.tsa_urls, &[1], now);
        let [fulcio, ..] = fulcio[..] else {
            return Err(ConfigError::NoService { service: "Fulcio", versions: "v1" });
        };
        let [log, ..] = logs[..] else {
            return Err(ConfigError::NoService { service: "Rekor log", versions: "v1 and v2" });
        };
        demand("Rekor logs", &config.rekor_tlog_config, &logs)?;
        if !authorities.is_empty() {
            demand("timestamp authorities", &config.tsa_config, &authorities)?;
        }
        let rekor_version = if log.major_api_version == 2 { RekorVersion::V2 } else { RekorVersion::V1 };
        if rekor_version == RekorVersion::V2 && authorities.is_empty() {
            return Err(ConfigError::NoTime { log: log.url.clone() });
        }
        let url = |service, url: &str| address(url).map_err(|source| ConfigError::Address { service, source });
        Ok(Self {
            fulcio: url("Fulcio", &fulcio.url)?,
            rekor: url("Rekor log", &log.url)?,
            rekor_version,
            tsa: authorities.first().map(|tsa| url("timestamp authority", &tsa.url)).transpose()?,
            oidc: eligible(&config.oidc_urls, &[1], now).first().map(|oidc| oidc.url.clone()),
        })
    }
}

/// The servers that can be used now, the best first.
fn eligible<'a>(all: &'a [ServiceEndpoint], versions: &[u32], now: UnixTime) -> Vec<&'a ServiceEndpoint> {
    let valid = |of: &ServiceEndpoint| {
        of.valid_for.start.as_second() <= now.0 && of.valid_for.end.is_none_or(|end| now.0 <= end.as_second())
    };
    let mut some: Vec<_> = all.iter().filter(|of| versions.contains(&of.major_api_version) && valid(of)).collect();
    // Stable: among equals the order of the file counts.
    some.sort_by_key(|of| std::cmp::Reverse((of.major_api_version, of.valid_for.start)));
    some
}

/// Whether one server does what the configuration demands.
fn demand(
    service: &'static str,
    config: &ServiceConfiguration,
    eligible: &[&ServiceEndpoint],
) -> Result<(), ConfigError> {
    let one = eligible.iter().all(|of| of.operator.is_some() && of.operator == eligible[0].operator);
    match config.selector {
        ServiceSelector::Any => Ok(()),
        ServiceSelector::Exact if config.count == Some(1) => Ok(()),
        // All operators: one server of each.
        ServiceSelector::All if one || eligible.len() == 1 => Ok(()),
        selector => {
            let count = config.count.map_or_else(String::new, |count| format!(" {count}"));
            Err(ConfigError::Selector { service, demand: format!("{selector:?}{count}") })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixTime = UnixTime(1_790_000_000);

    fn server(url: &str, version: u32, start: &str) -> Value {
        json!({"url": url, "majorApiVersion": version, "validFor": {"start": start}, "operator": "o"})
    }

    fn config() -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [server("https://f.example", 1, "2022-01-01T00:00:00Z")],
            "oidcUrls": [server("https://o.example/auth", 1, "2022-01-01T00:00:00Z")],
            "rekorTlogUrls": [
                server("https://r1.example", 1, "2026-01-01T00:00:00Z"),
                server("https://old.example", 2, "2024-01-01T00:00:00Z"),
                server("https://r2.example", 2, "2025-01-01T00:00:00Z"),
                server("https://future.example", 2, "2099-01-01T00:00:00Z"),
                server("https://r3.example", 3, "2025-01-01T00:00:00Z"),
            ],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [server("https://t.example", 1, "2022-01-01T00:00:00Z")],
            "tsaConfig": {"selector": "EXACT", "count": 1},
        })
    }

    fn choose(config: &Value) -> Result<Services, ConfigError> {
        Services::choose(&config.to_string(), NOW)
    }

    #[test]
    fn the_newest_server_of_the_highest_version_that_is_valid_is_chosen() {
        let services = choose(&config()).unwrap();
        assert_eq!(services.rekor.as_str(), "https://r2.example/");
        assert_eq!(services.rekor_version, RekorVersion::V2);
        assert_eq!(services.tsa.unwrap().as_str(), "https://t.example/");
        assert_eq!(services.oidc.unwrap(), "https://o.example/auth");
        let mut ended = config();
        for log in [1, 2] {
            ended["rekorTlogUrls"][log]["validFor"]["end"] = json!("2026-01-01T00:00:00Z");
        }
        let services = choose(&ended).unwrap();
        assert_eq!((services.rekor.as_str(), services.rekor_version), ("https://r1.example/", RekorVersion::V1));
    }

    #[test]
    fn the_public_instances_can_be_signed_with() {
        for text in [
            sigstore_trust_root::SIGSTORE_PRODUCTION_SIGNING_CONFIG,
            sigstore_trust_root::SIGSTORE_STAGING_SIGNING_CONFIG,
        ] {
            let services = Services::choose(text, NOW).unwrap();
            assert!(services.tsa.is_some() && services.oidc.is_some(), "{services:?}");
        }
    }

    #[test]
    fn a_log_of_version_1_needs_no_timestamp_authority_and_one_of_version_2_does() {
        let mut none = config();
        none["tsaUrls"] = json!([]);
        assert!(matches!(choose(&none), Err(ConfigError::NoTime { log }) if log == "https://r2.example"));
        none["rekorTlogUrls"] = json!([config()["rekorTlogUrls"][0]]);
        assert_eq!(choose(&none).unwrap().tsa, None);
    }

    #[test]
    fn what_cannot_be_done_is_not_done_by_half() {
        let with = |path: &str, value: Value| {
            let mut config = config();
            *config.pointer_mut(path).unwrap() = value;
            choose(&config).unwrap_err()
        };
        assert!(matches!(with("/caUrls", json!([])), ConfigError::NoService { service: "Fulcio", .. }));
        assert!(matches!(with("/rekorTlogUrls", json!([])), ConfigError::NoService { .. }));
        assert!(matches!(with("/mediaType", json!("x")), ConfigError::Malformed { .. }));
        assert!(matches!(with("/caUrls/0/url", json!("http://f.example")), ConfigError::Address { .. }));
        assert!(matches!(with("/tsaConfig/count", json!(2)), ConfigError::Selector { .. }));
        for selector in ["EXACT", "SERVICE_SELECTOR_UNDEFINED"] {
            let error = with("/rekorTlogConfig/selector", json!(selector));
            assert!(matches!(error, ConfigError::Selector { .. }), "{error}");
        }
        let mut two = config();
        two["rekorTlogConfig"] = json!({"selector": "ALL"});
        assert!(choose(&two).is_ok(), "one operator");
        two["rekorTlogUrls"][1]["operator"] = json!("p");
        assert!(matches!(choose(&two), Err(ConfigError::Selector { .. })), "two operators");
    }
}
