use std::convert::Infallible;
use std::ops::Range;

use super::*;
use crate::bench::report::What;
use crate::bench::{DeviceOptions, Event, on_device};
use crate::device::Device;
use crate::device::cpu::{Cpu, Memory, Settings, Ticket};
use crate::tree::GroupSize;

/// What a device may get wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// The counter's upper half.
    Counter,
    /// Reads whole words only.
    Words,
    /// Rows without the gaps between them.
    Rows,
    /// The last bit of the last result.
    Bit,
    /// One result too few.
    Fewer,
    /// Groups of another size.
    Group,
    /// A string of exactly one chunk is hashed with another's flags.
    Chunk,
    /// Reading back gives zeros.
    Zeros,
    /// Copies that begin at odd places are rounded down.
    Copy,
    /// From so many strings on in one submit, the rest is not hashed.
    Many,
    /// More than 16 MiB are hashed as 16 MiB.
    Long,
    /// Every call fails.
    Failing,
}

struct Liar(Cpu, Lie);

impl Liar {
    fn lie<'a>(&self, index: usize, job: &Job<'a, Memory>) -> Job<'a, Memory> {
        let extents = job.layout.extents().iter().map(|extent| match *extent {
            Extent::Range { buffer, at, len } if self.1 == Lie::Words => Extent::Range { buffer, at: at & !3, len },
            Extent::Range { buffer, at, len } if self.1 == Lie::Long => {
                Extent::Range { buffer, at, len: len.min(16 << 20) }
            }
            Extent::Rows { buffer, at, row, rows, .. } if self.1 == Lie::Rows => {
                Extent::Rows { buffer, at, row, stride: row, rows }
            }
            other => other,
        });
        let mut extents: Vec<_> = extents.collect();
        if (self.1 == Lie::Chunk && job.layout.len() == 1024) || (self.1 == Lie::Many && index >= 1000) {
            extents.push(Extent::Host(b"x"));
        }
        let want = match (job.want, self.1) {
            (Want::Groups { first_chunk, group }, Lie::Counter) => {
                Want::Groups { first_chunk: first_chunk & 0xFFFF_FFFF, group }
            }
            (Want::Groups { first_chunk, group }, Lie::Group) if group.chunk_log() == 12 => {
                Want::Groups { first_chunk, group: GroupSize::at_most(2 << 20) }
            }
            (want, _) => want,
        };
        Job { layout: Layout::new(extents).unwrap(), want }
    }
}

impl Backend for Liar {
    type Staging = Vec<u8>;
    type Buffer = Memory;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda(3)
    }

    fn staging(&self) -> Result<Vec<u8>, DeviceError> {
        self.0.staging()
    }

    fn alloc(&self, len: u64) -> Result<Memory, DeviceError> {
        self.0.alloc(len)
    }

    fn upload(&self, block: Vec<u8>, len: usize, to: &mut Memory, at: u64) -> Result<(), DeviceError> {
        self.0.upload(block, len, to, if self.1 == Lie::Copy { at & !3 } else { at })
    }

    fn submit(&self, jobs: &[Job<'_, Memory>], after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        if self.1 == Lie::Failing {
            return Err(DeviceError::NoResult { device: self.kind() });
        }
        let jobs: Vec<_> = jobs.iter().enumerate().map(|(index, job)| self.lie(index, job)).collect();
        self.0.submit(&jobs, after)
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        let mut hashed = self.0.wait(ticket)?;
        match (self.1, hashed.last_mut()) {
            (Lie::Fewer, _) => drop(hashed.pop()),
            (Lie::Bit, Some(Hashed::Root(digest))) => {
                let mut bytes = digest.as_bytes().to_vec();
                bytes[31] ^= 1;
                *digest = Digest::new(Algorithm::Blake3, &bytes).unwrap();
            }
            _ => {}
        }
        Ok(hashed)
    }

    fn download(&self, from: &Memory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        let bytes = self.0.download(from, range)?;
        Ok(if self.1 == Lie::Zeros { vec![0; bytes.len()] } else { bytes })
    }
}

fn liar(lie: Lie) -> Liar {
    Liar(Cpu::open(Settings::default()).unwrap(), lie)
}

fn of(kind: Kind) -> Options {
    Options { kinds: vec![kind], ..Options::default() }
}

#[test]
fn a_sound_device_passes_all_kinds_and_all_are_counted() {
    let mut told = Vec::new();
    let report = run(&liar(Lie::None), &Options::default(), &mut |count| told.push(*count)).unwrap();
    assert_eq!(told, report.counts);
    for (count, kind) in report.counts.iter().zip(Kind::ALL) {
        assert_eq!((count.kind, count.cases), (kind, kind.cases()));
        assert!(count.strings > 0 && count.bytes > 0, "{kind}");
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!("all".parse::<Kind>().is_err());
}

#[test]
fn every_lie_is_found_by_the_kind_that_looks_for_it_and_can_be_found_again() {
    for (lie, kind) in [
        (Lie::Counter, Kind::Counters),
        (Lie::Words, Kind::Alignment),
        (Lie::Rows, Kind::Layouts),
        (Lie::Bit, Kind::Vectors),
        (Lie::Bit, Kind::Threads),
        (Lie::Fewer, Kind::Flight),
        (Lie::Group, Kind::Groups),
        (Lie::Chunk, Kind::Vectors),
        (Lie::Chunk, Kind::Alignment),
        (Lie::Zeros, Kind::Copies),
        (Lie::Copy, Kind::Copies),
        (Lie::Copy, Kind::Flight),
        (Lie::Many, Kind::Many),
        (Lie::Long, Kind::Large),
        (Lie::Words, Kind::Splits),
    ] {
        let failure = run(&liar(lie), &of(kind), &mut |_| {}).unwrap_err();
        let Failure::Wrong { which, ref device, .. } = failure else { panic!("{lie:?}: {failure}") };
        assert_eq!((which.kind, which.seed, device), (kind, 1, &DeviceKind::Cuda(3)));
        let text = failure.to_string();
        assert!(text.contains(&format!("case {kind}/{} of seed 1", which.index)) && text.len() < 1200, "{text}");
        let again = Options { only: Some(which.index), ..of(kind) };
        assert_eq!(run(&liar(lie), &again, &mut |_| {}), Err(failure));
    }
    let failure = run(&liar(Lie::Failing), &of(Kind::Vectors), &mut |_| {}).unwrap_err();
    assert!(matches!(failure, Failure::Device { error: DeviceError::NoResult { .. }, .. }));
}

#[test]
fn nothing_at_all_is_no_pass() {
    let nothing = [
        Options { kinds: Vec::new(), ..Options::default() },
        // A number that has no next one.
        Options { only: Some(usize::MAX), ..of(Kind::Vectors) },
    ];
    for options in nothing {
        assert_eq!(run(&liar(Lie::None), &options, &mut |_| {}), Err(Failure::Nothing));
    }
    // 4 cases a round: the product would be 0.
    let rounds = NonZeroUsize::new(1 << (usize::BITS - 2)).unwrap();
    let failure = run(&liar(Lie::Bit), &Options { rounds, ..of(Kind::Vectors) }, &mut |_| {}).unwrap_err();
    assert!(matches!(failure, Failure::Wrong { .. }), "{failure}");
}

#[test]
fn cases_follow_from_their_numbers_and_nothing_else() {
    for kind in Kind::ALL {
        assert_eq!(kind.case(5, 2), kind.case(5, 2));
        if kind != Kind::Vectors {
            assert_ne!(kind.case(5, 2), kind.case(6, 2), "{kind}");
            assert_ne!(kind.case(5, 2), kind.case(5, 3), "{kind}");
        }
    }
}

#[test]
fn a_speed_without_the_right_digest_is_none() {
    let listed = Device::list().into_iter().find(|listed| listed.kind == DeviceKind::Cpu).unwrap();
    let patience = Duration::ZERO;
    let options =
        DeviceOptions { most: Some(3 << 20), repeats: NonZeroUsize::MIN, patience, ..DeviceOptions::default() };
    let mut told = 0;
    let count = &mut |event: Event<'_>| told += usize::from(matches!(event, Event::Line(_)));
    let device = on_device(&liar(Lie::None), &listed, &options, count).unwrap();
    assert_eq!(told, device.lines.len());
    for what in [What::Upload, What::Size, What::Alignment, What::Rows, What::Small] {
        let line = device.lines.iter().find(|line| line.what == what).unwrap();
        assert!(line.bytes > 0 && line.bytes_per_second > 0.0, "{what:?}");
    }
    for lie in [Lie::Bit, Lie::Words, Lie::Rows, Lie::Fewer] {
        let failure = on_device(&liar(lie), &listed, &options, &mut |_| {}).unwrap_err();
        assert!(matches!(failure, crate::bench::Failure::Wrong { .. }), "{lie:?}");
    }
}
