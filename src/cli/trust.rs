//! `trust`.

use super::args::{TrustShowArgs, TrustUpdateArgs};
use super::exit::Exit;
use super::{Asked, failed};

#[cfg(feature = "sigstore-verify")]
pub(super) fn show(args: &TrustShowArgs) -> Exit {
    shown::show(args)
}

#[cfg(not(feature = "sigstore-verify"))]
pub(super) fn show(args: &TrustShowArgs) -> Exit {
    let error = tensorseal::Error::NoFeature { what: "show trust roots", feature: "sigstore-verify" };
    let asked = Asked { command: "trust show", model: None, signature: None, json: args.json };
    failed(&asked, "Trust roots cannot be shown:", &error)
}

#[cfg(not(feature = "sigstore-sign"))]
pub(super) fn update(args: &TrustUpdateArgs) -> Exit {
    let error = tensorseal::Error::NoFeature { what: "fetch trust roots", feature: "sigstore-sign" };
    let asked = Asked { command: "trust update", model: None, signature: None, json: args.json };
    failed(&asked, "The trust root was not updated:", &error)
}

#[cfg(feature = "sigstore-sign")]
pub(super) fn update(args: &TrustUpdateArgs) -> Exit {
    use super::{json, printed, say};
    use tensorseal::Error;
    use tensorseal::trust::{Instance, Repository, TrustRoot, UpdateError};

    let asked = Asked { command: "trust update", model: None, signature: None, json: args.json };
    let instance = if args.staging { Instance::Staging } else { Instance::PublicGood };
    let updated = || {
        let repository = match (&args.root, &args.out, &args.url) {
            (Some(root), Some(out), Some(url)) => {
                super::can_write("write trust root", out)?;
                Repository::private(url, root, out)?
            }
            (_, _, Some(url)) => Repository::of(instance).at(url),
            _ => Repository::of(instance),
        };
        let update = repository.fetch()?;
        let path = match &args.out {
            Some(out) => update.write(out).map(|()| out.clone())?,
            None => update.keep(instance)?,
        };
        let root = TrustRoot::parse(update.trusted_root.as_bytes());
        Ok::<_, Error>((update, path, root.map_err(UpdateError::from)?))
    };
    match updated() {
        Ok((update, path, root)) if args.json => {
            let mut report = json::head(&asked, Exit::Yes);
            json::insert(
                &mut report,
                serde_json::json!({
                    "url": update.url,
                    "file": path.to_string_lossy(),
                    "fetched": update.at.to_string(),
                    "signing_config": update.signing_config.is_some(),
                    "contents": shown::contents(&root),
                }),
            );
            printed(&json::text(&report))
        }
        Ok((update, path, root)) => {
            let exit = printed(&say::success("The trust root is up to date"));
            say::detail("from", say::name(&update.url));
            say::detail("kept in", say::path(&path));
            shown::tell(&root);
            exit
        }
        Err(error) => failed(&asked, "The trust root was not updated:", &error),
    }
}

#[cfg(feature = "sigstore-verify")]
mod shown {
    use serde_json::{Value, json};
    use tensorseal::Error;
    use tensorseal::time::UnixTime;
    use tensorseal::trust::{Instance, TrustRoot, TrustSource, Trusted};

    use super::super::args::TrustShowArgs;
    use super::super::exit::Exit;
    use super::super::{Asked, failed, json as report, printed, say};

    pub(super) fn show(args: &TrustShowArgs) -> Exit {
        let asked = Asked { command: "trust show", model: None, signature: None, json: args.json };
        let roots = match &args.file {
            Some(path) => TrustRoot::read(path).map(|root| vec![root]),
            None => [Instance::PublicGood, Instance::Staging].into_iter().map(TrustRoot::of).collect(),
        };
        match roots {
            Ok(roots) if args.json => {
                let mut out = report::head(&asked, Exit::Yes);
                out.insert("trust_roots".into(), roots.iter().map(root).collect());
                printed(&report::text(&out))
            }
            Ok(roots) => {
                let text: String = roots.iter().map(lines).collect();
                printed(&text)
            }
            Err(error) => failed(&asked, "Trust roots cannot be shown:", &Error::from(error)),
        }
    }

    fn root(root: &TrustRoot) -> Value {
        let (kind, at) = match root.source() {
            TrustSource::Embedded { of, .. } => ("embedded", Some(of)),
            TrustSource::Cache { fetched, .. } => ("cache", Some(fetched)),
            _ => ("file", None),
        };
        json!({
            "source": root.source().to_string(),
            "kind": kind,
            "at": at.map(ToString::to_string),
            "signing_config": root.signing_config().is_some(),
            "contents": contents(root),
        })
    }

    pub(super) fn contents(root: &TrustRoot) -> Value {
        let one = |of: Trusted| {
            let (from, until) = (of.from.map(|at| at.to_string()), of.until.map(|at| at.to_string()));
            json!({"role": of.role.name(), "name": of.name, "from": from, "until": until})
        };
        root.contents().into_iter().map(one).collect()
    }

    #[cfg(feature = "sigstore-sign")]
    pub(super) fn tell(root: &TrustRoot) {
        root.contents().iter().for_each(|of| say::detail("trusted", line(of)));
    }

    fn lines(root: &TrustRoot) -> String {
        let age = match root.source() {
            TrustSource::Embedded { of: at, .. } | TrustSource::Cache { fetched: at, .. } => {
                format!(", {} days old", (UnixTime::now().0 - at.0).max(0) / 86_400)
            }
            _ => String::new(),
        };
        let mut text = say::tame(&format!("{}{age}", root.source())) + "\n";
        for of in root.contents() {
            text += &format!("  {}\n", line(&of));
        }
        text
    }

    /// `signature-log https://rekor.sigstore.dev, from 2021-01-12, until now`.
    fn line(of: &Trusted) -> String {
        let day = |at: UnixTime| at.to_string().split('T').next().unwrap_or_default().to_owned();
        let from = of.from.map_or_else(String::new, |at| format!(", from {}", day(at)));
        let until = of.until.map_or_else(String::new, |at| format!(", until {}", day(at)));
        format!("{:<21} {}{from}{until}", of.role.name(), say::name(&of.name))
    }
}
