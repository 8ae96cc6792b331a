//! Counters and ages of seals in the text format of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4).

use std::fmt::{self, Write};
use std::time::UNIX_EPOCH;

use super::Seal;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Unchanged,
    Broken,
    NoAnswer,
}

impl Outcome {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Unchanged, "unchanged"), (Self::Broken, "broken"), (Self::NoAnswer, "no_answer")];
}

/// What only grows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Bytes measured again.
    pub(super) bytes: u64,
    /// Calls, by how they ended: in the order of [`Outcome::ALL`].
    runs: [u64; 3],
    last: Option<Outcome>,
}

impl Counters {
    pub(super) fn ran(&mut self, outcome: Outcome) {
        let known = Outcome::ALL.iter().position(|(other, _)| *other == outcome);
        if let Some(runs) = known.and_then(|index| self.runs.get_mut(index)) {
            *runs += 1;
        }
        self.last = Some(outcome);
    }
}

/// A sample: more labels than the seal's name, and the number.
type Sample = (Vec<(&'static str, String)>, f64);

/// A family of metrics.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&Seal) -> Vec<Sample>,
}

const FAMILIES: [Family; 9] = [
    Family {
        name: "tensorseal_seal_reverified_bytes_total",
        kind: "counter",
        help: "Bytes of sealed device memory that were measured again.",
        samples: |seal| vec![(Vec::new(), seal.counters.bytes as f64)],
    },
    Family {
        name: "tensorseal_seal_runs_total",
        kind: "counter",
        help: "Attempts to measure sealed memory again.",
        samples: |seal| vec![(Vec::new(), seal.counters.runs.iter().sum::<u64>() as f64)],
    },
    Family {
        name: "tensorseal_seal_failures_total",
        kind: "counter",
        help: "Those that found the seal broken, or gave no answer.",
        samples: |seal| {
            let runs = Outcome::ALL.iter().zip(seal.counters.runs);
            let failed = runs.filter(|((outcome, _), _)| *outcome != Outcome::Unchanged);
            failed.map(|((_, reason), count)| (vec![("reason", (*reason).to_owned())], count as f64)).collect()
        },
    },
    Family {
        name: "tensorseal_seal_covered_bytes",
        kind: "gauge",
        help: "Bytes of device memory under seal.",
        samples: |seal| {
            let devices = seal.by_device().into_iter();
            devices.map(|(device, bytes)| (vec![("device", device.to_string())], bytes as f64)).collect()
        },
    },
    Family {
        name: "tensorseal_seal_regions",
        kind: "gauge",
        help: "Named regions under seal.",
        samples: |seal| vec![(Vec::new(), seal.regions.len() as f64)],
    },
    Family {
        name: "tensorseal_seal_oldest_confirmation_age_seconds",
        kind: "gauge",
        help: "How long ago the byte that waits longest was last found unchanged.",
        samples: |seal| vec![(Vec::new(), seal.oldest().as_secs_f64())],
    },
    Family {
        name: "tensorseal_seal_taken_timestamp_seconds",
        kind: "gauge",
        help: "When the memory was sealed, since 1970-01-01T00:00:00Z.",
        samples: |seal| {
            let since = seal.since.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
            vec![(Vec::new(), since)]
        },
    },
    Family {
        name: "tensorseal_seal_broken",
        kind: "gauge",
        help: "1 from the moment when memory was found not to be what was sealed, until it is sealed again.",
        samples: |seal| vec![(Vec::new(), if seal.broken.is_some() { 1.0 } else { 0.0 })],
    },
    Family {
        name: "tensorseal_seal_last_result",
        kind: "gauge",
        help: "1 for how the last attempt ended; 0 for all before the first.",
        samples: |seal| {
            let one = |(outcome, result): &(Outcome, &str)| {
                let is = seal.counters.last == Some(*outcome);
                (vec![("result", (*result).to_owned())], if is { 1.0 } else { 0.0 })
            };
            Outcome::ALL.iter().map(one).collect()
        },
    },
];

/// All metrics of all these seals, told apart by their names, as a page for Prometheus to scrape. Serve it as
/// `text/plain; version=0.0.4; charset=utf-8`.
#[must_use]
pub fn exposition<'a>(seals: impl IntoIterator<Item = &'a Seal>) -> String {
    let seals: Vec<&Seal> = seals.into_iter().collect();
    let mut page = String::new();
    for Family { name, kind, help, samples } in FAMILIES {
        // Writing to a `String` does not fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for seal in &seals {
            for (labels, value) in samples(seal) {
                let _ = write!(page, "{name}{{seal=\"{}\"", Escaped(&seal.options.name));
                for (label, text) in labels {
                    let _ = write!(page, ",{label}=\"{}\"", Escaped(&text));
                }
                let _ = writeln!(page, "}} {value}");
            }
        }
    }
    page
}

/// A label's value: a backslash, a quote and the end of a line have to be escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}
