//! Keys and values: what exists, what may be said of it, and that nothing is passed over in silence.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use tensorseal::method::Secret;
use zeroize::Zeroizing;

use crate::call::Fault;
use crate::lent::Callback;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Path,
    Text,
    Number,
    Switch,
}

/// How many values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    One,
    Many,
}

/// Every key.
const KEYS: [(&str, Kind, Values); 38] = [
    ("allow-eku", Kind::Switch, Values::One),
    ("allow-ignored", Kind::Path, Values::Many),
    ("allow-symlinks", Kind::Switch, Values::One),
    ("certificate-chain", Kind::Path, Values::Many),
    ("device", Kind::Text, Values::One),
    ("digest", Kind::Text, Values::One),
    ("hash", Kind::Text, Values::One),
    ("identity", Kind::Text, Values::Many),
    ("identity-provider", Kind::Text, Values::One),
    ("identity-provider-regexp", Kind::Text, Values::One),
    ("identity-regexp", Kind::Text, Values::One),
    ("identity-token", Kind::Text, Values::One),
    ("ignore-paths", Kind::Path, Values::Many),
    ("ignore-unsigned-files", Kind::Switch, Values::One),
    ("judge-at-not-before", Kind::Switch, Values::One),
    ("keep", Kind::Number, Values::One),
    ("max-bundle-size", Kind::Number, Values::One),
    ("method", Kind::Text, Values::One),
    ("module-path", Kind::Path, Values::Many),
    ("no-ignore-git-paths", Kind::Switch, Values::One),
    ("only", Kind::Text, Values::Many),
    ("password", Kind::Text, Values::One),
    ("pkcs11-uri", Kind::Text, Values::One),
    ("policy", Kind::Path, Values::One),
    ("private-key", Kind::Path, Values::One),
    ("public-key", Kind::Path, Values::One),
    ("shards", Kind::Number, Values::One),
    ("signature", Kind::Path, Values::Many),
    ("signing-certificate", Kind::Path, Values::One),
    ("strict", Kind::Switch, Values::One),
    ("system-roots", Kind::Switch, Values::One),
    ("tensors", Kind::Switch, Values::One),
    ("threads", Kind::Number, Values::One),
    ("trust-config", Kind::Path, Values::One),
    ("tsa-certificate-chain", Kind::Path, Values::Many),
    ("tsa-url", Kind::Text, Values::One),
    ("use-ambient-credentials", Kind::Switch, Values::One),
    ("use-staging", Kind::Switch, Values::One),
];

/// What a verb is asked for.
#[derive(Default)]
pub(crate) struct Options {
    /// Wiped when they are dropped: a password is among them.
    values: BTreeMap<&'static str, Vec<Zeroizing<Vec<u8>>>>,
    pub(crate) progress: Option<Callback>,
}

impl Options {
    pub(crate) fn set(&mut self, key: &CStr, value: &CStr) -> Result<(), Fault> {
        let known = KEYS.iter().find(|(name, ..)| name.as_bytes() == key.to_bytes());
        let Some(&(key, kind, values)) = known else {
            let why = format!("there is no option {:?}; tensorseal.h lists them", key.to_string_lossy());
            return Err(Fault::Usage(why));
        };
        let bytes = value.to_bytes();
        let wanted = match kind {
            Kind::Path if bytes.is_empty() => Some("a path"),
            Kind::Text if bytes.is_empty() || value.to_str().is_err() => Some("text in UTF-8"),
            Kind::Switch if bytes != b"true" && bytes != b"false" => Some("true or false"),
            Kind::Number if number(bytes).is_none() => Some("a decimal number"),
            _ => None,
        };
        if let Some(wanted) = wanted {
            // The value is not shown: it may be a password.
            return Err(Fault::Usage(format!("the option {key} takes {wanted}, which its value is not")));
        }
        let of = self.values.entry(key).or_default();
        if values == Values::One && !of.is_empty() {
            return Err(Fault::Usage(format!("the option {key} is set already and takes one value")));
        }
        of.push(Zeroizing::new(bytes.to_vec()));
        Ok(())
    }
}

/// Digits, and nothing else: `parse` alone would take `+1`.
fn number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The same, while a verb takes from it what it understands.
pub(crate) struct Taken<'o> {
    options: &'o Options,
    keys: RefCell<BTreeSet<&'static str>>,
}

impl<'o> Taken<'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        Self { options, keys: RefCell::default() }
    }

    fn all(&self, key: &'static str) -> &'o [Zeroizing<Vec<u8>>] {
        debug_assert!(KEYS.iter().any(|(name, ..)| *name == key), "{key}");
        self.keys.borrow_mut().insert(key);
        self.options.values.get(key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn paths(&self, key: &'static str) -> Vec<PathBuf> {
        self.all(key).iter().map(|value| PathBuf::from(OsStr::from_bytes(value))).collect()
    }

    pub(crate) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.paths(key).pop()
    }

    pub(crate) fn texts(&self, key: &'static str) -> Vec<&'o str> {
        // They were UTF-8 when they were set.
        self.all(key).iter().filter_map(|value| std::str::from_utf8(value).ok()).collect()
    }

    pub(crate) fn text(&self, key: &'static str) -> Option<&'o str> {
        self.texts(key).pop()
    }

    pub(crate) fn secret(&self, key: &'static str) -> Option<Secret> {
        self.text(key).map(|text| Secret::from(text.to_owned()))
    }

    pub(crate) fn switch(&self, key: &'static str) -> bool {
        self.all(key).last().is_some_and(|value| value.as_slice() == b"true")
    }

    pub(crate) fn number(&self, key: &'static str) -> Option<u64> {
        self.all(key).last().and_then(|value| number(value))
    }

    /// A value that has to be there.
    pub(crate) fn needed<T>(&self, value: Option<T>, key: &str) -> Result<T, Fault> {
        value.ok_or_else(|| Fault::Usage(format!("the option {key} is needed and not set")))
    }

    /// Nothing may be left: a setting that is not heeded would be one that its user counts on.
    pub(crate) fn nothing_left(&self, verb: &str) -> Result<(), Fault> {
        let taken = self.keys.borrow();
        match self.options.values.keys().find(|key| !taken.contains(**key)) {
            None => Ok(()),
            Some(key) => {
                let method = self.options.values.get("method").and_then(|values| values.last());
                let method = method.map(|method| format!(" by the method {}", String::from_utf8_lossy(method)));
                let method = method.unwrap_or_default();
                Err(Fault::Usage(format!("{verb}{method} does not take the option {key}; unset, it would do nothing")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the comment of the header that lists them: at the beginning of a line, behind five or seven blanks.
    #[test]
    fn the_header_lists_every_option_and_no_other() {
        let header = include_str!("../include/tensorseal.h");
        let list = header.split_once("What a verb is asked for").unwrap().1.split_once("*/").unwrap().0;
        let mut listed = BTreeSet::new();
        for line in list.lines().map(|line| line.strip_prefix(" *").unwrap_or(line)) {
            let words = line.trim_start();
            if ![5, 7].contains(&(line.len() - words.len())) {
                continue;
            }
            let keys = words.split("  ").next().unwrap().replace(" *", "");
            listed.extend(keys.split(", or ").map(str::to_owned));
        }
        // Each method has a heading at five blanks.
        listed.retain(|key| !key.starts_with("method "));
        let keys: BTreeSet<String> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
        assert_eq!(listed, keys);
        assert!(KEYS.is_sorted_by_key(|(key, ..)| key));
    }

    #[test]
    fn what_no_verb_takes_is_not_passed_over() {
        let mut options = Options::default();
        options.set(c"threads", c"3").unwrap();
        options.set(c"keep", c"5").unwrap();
        let taken = Taken::new(&options);
        assert_eq!((taken.number("threads"), taken.switch("strict")), (Some(3), false));
        assert!(matches!(taken.nothing_left("digest"), Err(Fault::Usage(why)) if why.contains("keep")));
        assert_eq!(taken.number("keep"), Some(5));
        assert!(taken.nothing_left("digest").is_ok());
    }
}
