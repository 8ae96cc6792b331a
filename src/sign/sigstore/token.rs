//! Identity tokens: JSON Web Tokens (RFC 7519) of an OpenID Connect issuer, as Fulcio takes them.
//!
//! Their signature is Fulcio's to check; what is read here only spares the user a wait for a refusal.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{quoted, tame};
use crate::time::UnixTime;

/// The longest token that is accepted, in bytes. Those of large clusters with many groups have a tenth of it.
const LONGEST: usize = 64 << 10;

/// How far two clocks may be apart, in seconds.
const SKEW: i64 = 60;

/// Why a token cannot be used. No message shows any of it but what it is for and until when.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a token.
    #[error("it is no identity token (a JWT of three parts): {why}")]
    Malformed {
        /// What is wrong, without the text itself.
        why: String,
    },
    /// For somebody else.
    #[error(
        "it is for {}, not for {}: get one whose audience (aud) is {}, or name another with --client-id",
        quoted(&audience.join(", ")), quoted(client), quoted(client)
    )]
    Audience {
        /// For whom it is.
        audience: Vec<String>,
        /// For whom it must be.
        client: String,
    },
    /// Too late.
    #[error("it expired at {at}, and it is {now}; get a fresh one")]
    Expired {
        /// When.
        at: UnixTime,
        /// Now.
        now: UnixTime,
    },
    /// Too early.
    #[error("it is valid from {at}, and it is {now}; check this machine's clock")]
    NotYet {
        /// When.
        at: UnixTime,
        /// Now.
        now: UnixTime,
    },
    /// An e-mail address that the issuer does not vouch for.
    #[error("its issuer has not verified the e-mail address {}; Fulcio would not certify it", quoted(email))]
    Unverified {
        /// The address.
        email: String,
    },
}

/// A token, which whoever has it can sign with until it expires. It is wiped from memory and never shown.
#[derive(Clone)]
pub struct IdentityToken {
    jwt: Zeroizing<String>,
    claims: Claims,
}

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityToken").field("issuer", &self.claims.iss).finish_non_exhaustive()
    }
}

/// What a token says (RFC 7519, OpenID Connect Core, and what CI systems add).
#[derive(Clone, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<bool>,
    #[serde(default)]
    federated_claims: Option<Federated>,
    // GitHub, GitLab, Buildkite, CircleCI and Kubernetes, in this order.
    #[serde(default)]
    job_workflow_ref: Option<String>,
    #[serde(default)]
    ci_config_ref_uri: Option<String>,
    #[serde(default)]
    organization_slug: Option<String>,
    #[serde(default)]
    pipeline_slug: Option<String>,
    #[serde(default, rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(untagged)]
enum Audience {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Deserialize)]
struct Federated {
    #[serde(default)]
    connector_id: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Kubernetes {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    serviceaccount: Option<ServiceAccount>,
}

#[derive(Clone, Deserialize)]
struct ServiceAccount {
    #[serde(default)]
    name: String,
}

impl IdentityToken {
    /// Reads a token; space around it is left out.
    ///
    /// # Errors
    /// [`TokenError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let malformed = |why: &str| TokenError::Malformed { why: why.to_owned() };
        let jwt = text.trim();
        if jwt.len() > LONGEST {
            return Err(malformed("it is too long"));
        }
        let parts: Vec<&str> = jwt.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(malformed(&format!("it has {} parts", parts.len())));
        };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("it is not base64url"));
        if bytes(header)?.is_empty() || bytes(signature)?.is_empty() {
            return Err(malformed("a part of it is empty"));
        }
        let claims = Zeroizing::new(bytes(claims)?);
        // What serde says quotes keys and types, and no value but one of a wrong type.
        let claims: Claims = serde_json::from_slice(&claims)
            .map_err(|error| malformed(&format!("its claims: {}", tame(&error.to_string()))))?;
        Ok(Self { jwt: Zeroizing::new(jwt.to_owned()), claims })
    }

    /// Checks that it can be used now, for `client`.
    ///
    /// # Errors
    /// [`TokenError`], but for [`TokenError::Malformed`].
    pub fn check(&self, client: &str, now: UnixTime) -> Result<(), TokenError> {
        let audience = match &self.claims.aud {
            Audience::None => Vec::new(),
            Audience::One(one) => vec![one.clone()],
            Audience::Several(several) => several.clone(),
        };
        if !audience.iter().any(|of| of == client) {
            return Err(TokenError::Audience { audience, client: client.to_owned() });
        }
        if self.claims.exp <= now.0 {
            return Err(TokenError::Expired { at: self.expires(), now });
        }
        if let Some(from) = self.claims.nbf
            && from > now.0.saturating_add(SKEW)
        {
            return Err(TokenError::NotYet { at: UnixTime(from), now });
        }
        if let (Some(email), Some(false)) = (&self.claims.email, self.claims.email_verified) {
            return Err(TokenError::Unverified { email: email.clone() });
        }
        Ok(())
    }

    /// Who issued it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// When it expires.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        UnixTime(self.claims.exp)
    }

    /// The text itself: a secret.
    pub(super) fn reveal(&self) -> &str {
        &self.jwt
    }

    /// The nonce that it was asked for with.
    pub(super) fn nonce(&self) -> Option<&str> {
        self.claims.nonce.as_deref()
    }

    /// The issuers that Fulcio may name for it: its own, or the one behind an issuer that federates (Dex).
    pub(super) fn issuers(&self) -> Vec<&str> {
        let connector = self.claims.federated_claims.as_ref().and_then(|claims| claims.connector_id.as_deref());
        [Some(self.claims.iss.as_str()), connector].into_iter().flatten().collect()
    }

    /// The identities that Fulcio may certify for it, by kind of issuer (Fulcio's docs/oidc.md and its identity templates).
    pub(super) fn identities(&self) -> Vec<String> {
        let claims = &self.claims;
        let mut all: Vec<String> = claims.email.iter().cloned().collect();
        all.push(claims.sub.clone());
        all.extend(claims.job_workflow_ref.iter().map(|workflow| format!("https://github.com/{workflow}")));
        all.extend(claims.ci_config_ref_uri.iter().map(|config| format!("https://{config}")));
        if let (Some(organization), Some(pipeline)) = (&claims.organization_slug, &claims.pipeline_slug) {
            all.push(format!("https://buildkite.com/{organization}/{pipeline}"));
        }
        if let Some(Kubernetes { namespace, serviceaccount: Some(account) }) = &claims.kubernetes {
            all.push(format!("https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{}", account.name));
        }
        all
    }

    /// Whether Fulcio may certify `identity` for it. A `username` issuer gets the domain behind the subject.
    pub(super) fn may_be(&self, identity: &str) -> bool {
        self.identities().iter().any(|of| of == identity)
            || identity.strip_prefix(&self.claims.sub).is_some_and(|domain| domain.starts_with('!'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"ES256"}"#), part(claims), part("signature"))
    }

    const MAIL: &str = r#"{"iss":"https://oauth2.example/auth","sub":"CgA","aud":"sigstore","exp":2000,"email":"a@example.com",
        "email_verified":true,"federated_claims":{"connector_id":"https://login.example"}}"#;

    #[test]
    fn a_token_is_for_one_client_until_it_expires() {
        let token = IdentityToken::parse(&format!(" {}\n", jwt(MAIL))).unwrap();
        assert_eq!(token.check("sigstore", UnixTime(1999)), Ok(()));
        assert!(matches!(token.check("sigstore", UnixTime(2000)), Err(TokenError::Expired { .. })));
        assert!(matches!(token.check("other", UnixTime(0)), Err(TokenError::Audience { .. })));
        assert!(matches!(token.check("sigstor", UnixTime(0)), Err(TokenError::Audience { .. })));
        let with = |more: &str| {
            let text = MAIL.replace(r#""exp":2000"#, &format!(r#""exp":2000,{more}"#));
            IdentityToken::parse(&jwt(&text)).unwrap().check("sigstore", UnixTime(1000))
        };
        assert_eq!(with(r#""nbf":1060"#), Ok(()), "clocks differ");
        assert!(matches!(with(r#""nbf":1061"#), Err(TokenError::NotYet { .. })));
        let several = MAIL.replace(r#""aud":"sigstore""#, r#""aud":["a","sigstore"]"#);
        assert_eq!(IdentityToken::parse(&jwt(&several)).unwrap().check("sigstore", UnixTime(0)), Ok(()));
        let none = MAIL.replace(r#""aud":"sigstore","#, "");
        let error = IdentityToken::parse(&jwt(&none)).unwrap().check("sigstore", UnixTime(0));
        assert_eq!(error, Err(TokenError::Audience { audience: vec![], client: "sigstore".to_owned() }));
        let unverified = MAIL.replace(r#""email_verified":true"#, r#""email_verified":false"#);
        let error = IdentityToken::parse(&jwt(&unverified)).unwrap().check("sigstore", UnixTime(0));
        assert!(matches!(error, Err(TokenError::Unverified { .. })));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        let (good, secret) = (jwt(MAIL), "hunter2");
        for text in [
            String::new(),
            secret.to_owned(),
            format!("{secret}.{secret}"),
            format!("{good}.{secret}"),
            good.replace('.', ".."),
            good.replacen('.', "=.", 1),
            jwt(secret),
            jwt("[]"),
            jwt(r#"{"iss":"a","sub":"b"}"#),
            jwt(r#"{"iss":"a","sub":"b","exp":1.5}"#),
            jwt(r#"{"iss":"a","iss":"b","sub":"b","exp":1}"#),
            "a".repeat(LONGEST + 1),
        ] {
            let error = IdentityToken::parse(&text).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(matches!(error, TokenError::Malformed { .. }) && !told.contains(secret), "{told}");
        }
        let token = IdentityToken::parse(&good).unwrap();
        let told = format!("{token:?}");
        assert!(!told.contains(token.reveal()) && !told.contains("a@example.com"), "{told}");
    }

    #[test]
    fn who_may_be_certified_follows_from_the_token() {
        let token = IdentityToken::parse(&jwt(MAIL)).unwrap();
        assert!(token.may_be("a@example.com") && token.may_be("CgA") && token.may_be("CgA!example.com"));
        for other in
            ["b@example.com", "a@example.co", "A@example.com", "", "CgA2", "CgB!example.com", "a@example.com!x"]
        {
            assert!(!token.may_be(other), "{other}");
        }
        assert_eq!(token.issuers(), ["https://oauth2.example/auth", "https://login.example"]);
        for (claim, identity) in [
            (
                r#""job_workflow_ref":"o/r/.github/workflows/w.yml@refs/heads/main""#,
                "https://github.com/o/r/.github/workflows/w.yml@refs/heads/main",
            ),
            (
                r#""ci_config_ref_uri":"gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main""#,
                "https://gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main",
            ),
            (r#""organization_slug":"o","pipeline_slug":"p""#, "https://buildkite.com/o/p"),
            (
                r#""kubernetes.io":{"namespace":"n","serviceaccount":{"name":"s"}}"#,
                "https://kubernetes.io/namespaces/n/serviceaccounts/s",
            ),
        ] {
            let text = format!(r#"{{"iss":"i","sub":"s","exp":1,{claim}}}"#);
            assert!(IdentityToken::parse(&jwt(&text)).unwrap().may_be(identity), "{identity}");
        }
    }
}
