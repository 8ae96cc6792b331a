//! A table of forgeries: how each is made, and the words in which it has to be refused.

use serde_json::Value;

use super::common::sigstore::{PrivateSigstore, Rekor, Request};
use super::{Case, ISSUER, ME, World};

/// One forgery with the words that name its fault.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) words: &'static str,
    pub(crate) case: Case,
}

/// Which kind of bundle a forgery starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A log of version 1 with its promise.
    V1,
    /// The same with a timestamp in place of the promise.
    Stamped,
    /// A log of version 2, with a timestamp.
    V2,
}

pub(crate) const ALL: [Kind; 3] = [Kind::V1, Kind::Stamped, Kind::V2];
pub(crate) const LOGS: [Kind; 2] = [Kind::V1, Kind::V2];
pub(crate) const STAMPS: [Kind; 2] = [Kind::Stamped, Kind::V2];

impl Kind {
    pub(crate) fn request(self) -> Request {
        match self {
            Self::V1 => Request::new(Rekor::V1),
            Self::Stamped => Request { promise: false, timestamp: true, ..Request::new(Rekor::V1) },
            Self::V2 => Request::new(Rekor::V2),
        }
    }
}

/// The words of what is accepted though it could be refused. Nobody but the authority itself can sign the two timestamps
/// so, and the crate and Python take them, too; the other spelling is a field like any that we do not know.
pub(crate) const TAKEN: &str = "Verification succeeded";

pub(crate) struct Table<'a> {
    pub(crate) world: &'a World,
    /// What is being forged.
    pub(crate) section: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl Table<'_> {
    /// Signed by our instance with something wrong.
    pub(crate) fn signed(&mut self, kinds: &[Kind], name: &str, words: &'static str, change: impl Fn(&mut Request)) {
        for &kind in kinds {
            let mut request = kind.request();
            change(&mut request);
            self.row(kind, name, words, self.world.case(&self.world.sign(&request)));
        }
    }

    /// Signed by an instance of which the forger has exchanged a part, for which nobody has been told.
    pub(crate) fn by(&mut self, kinds: &[Kind], name: &str, words: &'static str, sigstore: &PrivateSigstore) {
        for &kind in kinds {
            let bundle = sigstore.sign(self.world.statement.as_bytes(), ME, ISSUER, &kind.request());
            self.row(kind, name, words, self.world.case(&bundle));
        }
    }

    /// A right bundle changed afterwards.
    pub(crate) fn changed(&mut self, kinds: &[Kind], name: &str, words: &'static str, change: impl Fn(&mut Value)) {
        for &kind in kinds {
            let mut bundle = self.world.sign(&kind.request());
            change(&mut bundle);
            self.row(kind, name, words, self.world.case(&bundle));
        }
    }

    /// The text of a right bundle changed afterwards.
    pub(crate) fn text(&mut self, kinds: &[Kind], name: &str, words: &'static str, from: &str, to: &str) {
        for &kind in kinds {
            let mut case = self.world.case(&self.world.sign(&kind.request()));
            assert!(case.bundle.contains(from), "{name}: {from}");
            case.bundle = case.bundle.replacen(from, to, 1);
            self.row(kind, name, words, case);
        }
    }

    /// A right bundle for whoever trusts something else.
    pub(crate) fn trusted(&mut self, kinds: &[Kind], name: &str, words: &'static str, change: impl Fn(&mut Value)) {
        for &kind in kinds {
            let mut root = self.world.sigstore.trusted_root();
            change(&mut root);
            let case = Case { root: root.to_string(), ..self.world.case(&self.world.sign(&kind.request())) };
            self.row(kind, name, words, case);
        }
    }

    /// A right bundle for whoever expects somebody else.
    pub(crate) fn expected(&mut self, name: &str, words: &'static str, identity: &str, issuer: &str) {
        let right = self.world.case(&self.world.sign(&Kind::V1.request()));
        let case = Case { identity: identity.to_owned(), issuer: issuer.to_owned(), ..right };
        self.row(Kind::V1, name, words, case);
    }

    pub(crate) fn row(&mut self, kind: Kind, name: &str, words: &'static str, case: Case) {
        // Words for each log where they differ.
        let words = match (words.split_once(" // "), kind) {
            (Some((_, words)), Kind::V2) | (Some((words, _)), _) => words,
            (None, _) => words,
        };
        self.rows.push(Row { name: format!("{}: {kind:?}: {name}", self.section), words, case });
    }
}
