use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::bundle::Bundle;
use crate::device::Device;
use crate::device::cpu::{Cpu, Memory, Settings, Silent};
use crate::key::{Curve, PrivateKey};
use crate::layout::{Extent, Layout};
use crate::selftest::write;
use crate::sign::{KeySigner, SignOptions, sign};
use crate::verify::KeyVerifier;

/// A clock that stands still unless it is moved, or moves by itself with each look.
#[derive(Debug, Default)]
struct Hand {
    now: Mutex<Duration>,
    step: Mutex<Duration>,
}

impl Hand {
    fn pass(&self, seconds: f64) {
        *self.now.lock().unwrap() += Duration::from_secs_f64(seconds);
    }
}

impl Clock for Hand {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + *self.now.lock().unwrap()
    }

    fn ticks(&self) -> Duration {
        let mut now = self.now.lock().unwrap();
        *now += *self.step.lock().unwrap();
        *now
    }
}

const GROUP: u64 = 4096;

/// Two devices, with memory that is sealed.
struct Rig {
    cpus: [Cpu; 2],
    memories: [Memory; 2],
    clock: Arc<Hand>,
}

/// Name, device, place, length: odd ones, one of less than a group and one of a byte.
const REGIONS: [(&str, usize, u64, u64); 4] =
    [("a", 0, 3, 10 * GROUP), ("b", 1, 0, 5 * GROUP + 77), ("c", 0, 50_001, 900), ("d", 1, 30_000, 1)];

const TOTAL: u64 = 15 * GROUP + 77 + 900 + 1;

impl Rig {
    fn new() -> Self {
        let cpus = [(); 2].map(|()| Cpu::open(Settings::default()).unwrap());
        let bytes: Vec<u8> = (0..60_000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
        let memories = [0, 1].map(|index: usize| {
            let mut memory = cpus[index].alloc(60_000).unwrap();
            write(&cpus[index], &bytes, &mut memory, 0).unwrap();
            memory
        });
        Self { cpus, memories, clock: Arc::default() }
    }

    fn devices(&self) -> Vec<OnDevice<'_, Cpu>> {
        self.cpus.iter().map(OnDevice::idle).collect()
    }

    fn regions(&self) -> Vec<Region<'_, Memory>> {
        REGIONS.iter().map(|&(name, device, at, len)| self.region(name, device, at, len)).collect()
    }

    fn region<'a>(&'a self, name: &'a str, device: usize, at: u64, len: u64) -> Region<'a, Memory> {
        let layout = Layout::new(vec![Extent::Range { buffer: &self.memories[device], at, len }]).unwrap();
        Region { name, device, layout }
    }

    fn options(&self) -> SealOptions {
        SealOptions { name: "m".to_owned(), group: GroupSize::at_most(GROUP), clock: Arc::clone(&self.clock) as _ }
    }

    fn seal(&self) -> Seal {
        Seal::take(&self.devices(), &self.regions(), self.options()).unwrap()
    }

    fn again(&self, seal: &mut Seal, budget: Budget) -> Result<Unchanged, Error> {
        seal.reverify(&self.devices(), &self.regions(), budget)
    }

    fn flip(&mut self, device: usize, at: u64) {
        let byte = self.cpus[device].download(&self.memories[device], at..at + 1).unwrap()[0] ^ 0x10;
        write(&self.cpus[device], &[byte], &mut self.memories[device], at).unwrap();
    }
}

fn findings(result: Result<Unchanged, Error>) -> Vec<Finding> {
    let error = result.unwrap_err();
    match error.refusal() {
        Some(VerifyError::Seal(broken)) => broken.findings.clone(),
        _ => panic!("{error}"),
    }
}

#[test]
fn what_has_not_changed_is_unchanged_and_never_called_signed() {
    let rig = Rig::new();
    let mut seal = rig.seal();
    rig.clock.pass(90.0);
    let unchanged = rig.again(&mut seal, Budget::All).unwrap();
    assert_eq!((unchanged.bytes, unchanged.total, unchanged.oldest), (TOTAL, TOTAL, Duration::ZERO));
    assert_eq!((unchanged.since, unchanged.at), (seal.since(), seal.since() + Duration::from_secs(90)));
    let said = unchanged.to_string();
    assert!(said.contains("unchanged since 2027-01-15T08:00:00Z"), "{said}");
    assert!(said.contains("compared with nothing") && !said.contains("signed"), "{said}");
}

#[test]
fn each_flipped_bit_is_found_and_the_seal_stays_broken() {
    let mut rig = Rig::new();
    for (name, device, at, len) in REGIONS {
        for place in [0, len / 2, len - 1] {
            let mut seal = rig.seal();
            rig.flip(device, at + place);
            let [Finding::Changed { name: found, at: ranges }] = &findings(rig.again(&mut seal, Budget::All))[..]
            else {
                panic!("{name} {place}")
            };
            assert_eq!(found, name);
            let [range] = &ranges[..] else { panic!("{ranges:?}") };
            assert!(
                range.contains(&place) && range.end - range.start <= GROUP && range.end <= len,
                "{range:?} {place}"
            );
            // The bit is as it was; the seal is not.
            rig.flip(device, at + place);
            assert_eq!(findings(rig.again(&mut seal, Budget::All)).len(), 1);
            assert_eq!(seal.broken().unwrap().findings[0].name(), name);
            seal.reseal(&rig.devices(), &rig.regions()).unwrap();
            assert!(seal.broken().is_none());
            rig.again(&mut seal, Budget::All).unwrap();
        }
    }
}

#[test]
fn neighbours_that_changed_are_one_range_and_all_regions_are_named() {
    let mut rig = Rig::new();
    let mut seal = rig.seal();
    for at in [3 + 1, 3 + GROUP, 3 + 9 * GROUP] {
        rig.flip(0, at);
    }
    rig.flip(1, 30_000);
    let found = findings(rig.again(&mut seal, Budget::All));
    let a = Finding::Changed { name: "a".to_owned(), at: vec![0..2 * GROUP, 9 * GROUP..10 * GROUP] };
    assert_eq!(found, [a, Finding::Changed { name: "d".to_owned(), at: vec![0..1] }]);
    let error = rig.again(&mut seal, Budget::All).unwrap_err().to_string();
    for words in ["seal \"m\" of 2027-", "\"a\" has changed in bytes 0..8192, 36864..40960", "seal that"] {
        assert!(error.contains(words), "{error}");
    }
}

/// What is found if the memory that is shown is changed so.
fn shown<'r>(rig: &'r Rig, change: impl FnOnce(&mut Vec<Region<'r, Memory>>)) -> Vec<Finding> {
    let mut seal = rig.seal();
    let mut regions = rig.regions();
    change(&mut regions);
    let found = findings(seal.reverify(&rig.devices(), &regions, Budget::Bytes(1)));
    // What was shown wrongly once is not forgotten.
    assert_eq!(findings(rig.again(&mut seal, Budget::All)), found);
    found
}

#[test]
fn another_set_of_memory_is_a_failure_that_names_it() {
    let rig = Rig::new();
    let b = || "b".to_owned();
    assert_eq!(shown(&rig, |regions| drop(regions.remove(1))), [Finding::Vanished { name: b() }]);
    assert_eq!(shown(&rig, |regions| regions.clear()).len(), 4);
    let added = shown(&rig, |regions| regions.push(Region { name: "b2", ..rig.regions().remove(1) }));
    assert_eq!(added, [Finding::Added { name: "b2".to_owned() }]);
    let renamed = shown(&rig, |regions| regions[1].name = "x");
    assert_eq!(renamed, [Finding::Vanished { name: b() }, Finding::Added { name: "x".to_owned() }]);
    let other = |at, len, device, what| {
        let moved = shown(&rig, |regions| regions[1] = rig.region("b", device, at, len));
        assert_eq!(moved, [Finding::Moved { name: b(), what }]);
    };
    other(1, 5 * GROUP + 77, 1, "place");
    other(0, 5 * GROUP + 76, 1, "length");
    // Both devices are called `cpu`: it is their memory that tells.
    other(0, 5 * GROUP + 77, 0, "place");
}

#[test]
fn a_budget_below_one_buffer_covers_everything_once_a_round() {
    let rig = Rig::new();
    for budget in [1, GROUP, GROUP + 1, 3 * GROUP, 7000, TOTAL - 1, TOTAL, u64::MAX] {
        let mut seal = rig.seal();
        for _ in 0..3 {
            rig.clock.pass(10.0);
            let (mut bytes, mut calls) = (0, 0);
            while seal.oldest() >= Duration::from_secs(10) {
                let unchanged = rig.again(&mut seal, Budget::Bytes(budget)).unwrap();
                assert!(unchanged.bytes > 0 && unchanged.bytes <= budget.max(GROUP), "{budget}: {unchanged:?}");
                bytes += unchanged.bytes;
                calls += 1;
            }
            // The last call of a round may go on with the next one.
            assert!(bytes >= TOTAL && bytes - TOTAL < budget.max(GROUP), "{budget}: {bytes}");
            assert!(calls <= TOTAL.div_ceil(GROUP) + 4, "{budget}: {calls}");
            while seal.cursor != (0, 0) {
                rig.again(&mut seal, Budget::Bytes(1)).unwrap();
            }
        }
    }
}

/// Half a GiB that nobody has written to, so that it takes no memory.
#[test]
fn groups_longer_than_a_step_are_all_measured() {
    let cpu = Cpu::open(Settings::default()).unwrap();
    let group = GroupSize::at_most(512 << 20);
    let memory = cpu.alloc(group.bytes() + 1).unwrap();
    let devices = [OnDevice::idle(&cpu)];
    let regions = [Region { name: "w", device: 0, layout: Layout::whole(&memory).unwrap() }];
    let options = SealOptions { group, ..SealOptions::default() };
    let mut seal = Seal::take(&devices, &regions, options).unwrap();
    for budget in [Budget::All, Budget::Bytes(u64::MAX)] {
        let unchanged = seal.reverify(&devices, &regions, budget).unwrap();
        assert_eq!(unchanged.bytes, unchanged.total, "{budget:?}");
    }
}

#[test]
fn a_change_is_found_when_its_turn_comes() {
    let mut rig = Rig::new();
    let mut seal = rig.seal();
    rig.flip(1, 2 * GROUP);
    // Ten groups of `a`, two of `b`.
    for _ in 0..12 {
        rig.again(&mut seal, Budget::Bytes(GROUP)).unwrap();
    }
    let found = findings(rig.again(&mut seal, Budget::Bytes(GROUP)));
    assert_eq!(found, [Finding::Changed { name: "b".to_owned(), at: vec![2 * GROUP..3 * GROUP] }]);
}

#[test]
fn a_rate_is_kept_on_average() {
    let rig = Rig::new();
    let mut seal = rig.seal();
    let rate = Budget::BytesPerSecond(GROUP / 2);
    let mut bytes = 0;
    for call in 1..=40_u64 {
        rig.clock.pass(4.0);
        bytes += rig.again(&mut seal, rate).unwrap().bytes;
        // Two groups every four seconds, and never a group more than that.
        assert!(bytes <= call * 2 * GROUP, "{call}: {bytes}");
        assert!(bytes + GROUP + 1000 > call * 2 * GROUP, "{call}: {bytes}");
    }
    // After a long pause: everything once, and no more in stock.
    rig.clock.pass(1e6);
    assert_eq!(rig.again(&mut seal, rate).unwrap().bytes, TOTAL);
    rig.clock.pass(2.0);
    assert!(rig.again(&mut seal, rate).unwrap().bytes <= GROUP);
    // Called too often it still does something, and saves it up.
    let before = rig.again(&mut seal, rate).unwrap().bytes;
    assert!(before > 0 && seal.account.next(rate, GROUP) == 0);
}

#[test]
fn a_share_of_time_is_kept() {
    let rig = Rig::new();
    let mut seal = rig.seal();
    // Looking at the clock takes a second, and each step looks twice.
    *rig.clock.step.lock().unwrap() = Duration::from_secs(1);
    rig.clock.pass(99.0);
    let unchanged = rig.again(&mut seal, Budget::Share(0.01)).unwrap();
    assert_eq!(unchanged.bytes, TOTAL, "the first step is 16 MiB");
    // One second in a hundred, of which a step takes one: TOTAL bytes fit into it.
    rig.clock.pass(49.0);
    let unchanged = rig.again(&mut seal, Budget::Share(0.01)).unwrap();
    assert!(unchanged.bytes > TOTAL / 3 && unchanged.bytes < TOTAL * 2 / 3, "{unchanged:?}");
    for share in [0.0, -1.0, 1.01, f64::NAN, f64::INFINITY] {
        assert!(matches!(rig.again(&mut seal, Budget::Share(share)), Err(Error::Seal(SealError::NoBudget))), "{share}");
    }
    for budget in [Budget::Bytes(0), Budget::BytesPerSecond(0)] {
        assert!(matches!(rig.again(&mut seal, budget), Err(Error::Seal(SealError::NoBudget))));
    }
    rig.again(&mut seal, Budget::All).unwrap();
}

#[test]
fn an_amount_of_time_is_for_one_call() {
    let rig = Rig::new();
    let mut seal = rig.seal();
    // Looking at the clock takes a second, and each step looks twice: it is done in one.
    *rig.clock.step.lock().unwrap() = Duration::from_secs(1);
    let time = |seconds| Budget::Time(Duration::from_secs_f64(seconds));
    assert_eq!(rig.again(&mut seal, time(1.0)).unwrap().bytes, TOTAL, "the first step is 16 MiB");
    let unchanged = rig.again(&mut seal, time(0.5)).unwrap();
    assert!(unchanged.bytes > TOTAL / 3 && unchanged.bytes < TOTAL * 2 / 3, "{unchanged:?}");
    // Nothing is saved up, and nothing owed.
    rig.clock.pass(1e6);
    assert!(rig.again(&mut seal, time(0.01)).unwrap().bytes <= 2 * GROUP);
    assert_eq!(rig.again(&mut seal, time(1e6)).unwrap().bytes, TOTAL);
    assert!(matches!(rig.again(&mut seal, time(0.0)), Err(Error::Seal(SealError::NoBudget))));
}

#[test]
fn ages_are_of_each_range() {
    let rig = Rig::new();
    let mut seal = rig.seal();
    rig.clock.pass(10.0);
    rig.again(&mut seal, Budget::Bytes(12 * GROUP)).unwrap();
    rig.clock.pass(5.0);
    let found: Vec<_> = seal.coverage().into_iter().map(|c| (c.name, c.range, c.age.as_secs())).collect();
    let expected = [
        ("a", 0..10 * GROUP, 5),
        ("b", 0..2 * GROUP, 5),
        ("b", 2 * GROUP..5 * GROUP + 77, 15),
        ("c", 0..900, 15),
        ("d", 0..1, 15),
    ];
    assert_eq!(found, expected.map(|(name, range, age)| (name.to_owned(), range, age)));
    assert_eq!(seal.oldest(), Duration::from_secs(15));
    let rest = rig.again(&mut seal, Budget::Bytes(4 * GROUP)).unwrap();
    assert_eq!(rest.oldest, Duration::from_secs(5), "nothing is older than the call before");
}

#[test]
fn what_says_nothing_is_not_sealed() {
    let rig = Rig::new();
    let take = |regions: &[Region<'_, Memory>]| match Seal::take(&rig.devices(), regions, rig.options()).unwrap_err() {
        Error::Seal(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(take(&[]), SealError::Nothing);
    let named = |name: &str| name.to_owned();
    assert_eq!(take(&[rig.region("x", 0, 0, 1), rig.region("y", 0, 5, 0)]), SealError::Empty { name: named("y") });
    assert_eq!(take(&[rig.region("x", 0, 0, 1), rig.region("x", 0, 5, 1)]), SealError::Twice { name: named("x") });
    let layout = Layout::new(vec![Extent::Host(b"bytes")]).unwrap();
    assert_eq!(take(&[Region { name: "h", device: 0, layout }]), SealError::OnHost { name: named("h") });
    let lost = Region { device: 2, ..rig.region("x", 0, 0, 1) };
    assert_eq!(take(&[lost]), SealError::NoDevice { name: named("x"), index: 2, devices: 2 });
    // The same in a later call is no answer, and breaks nothing.
    let mut seal = rig.seal();
    let mut twice = rig.regions();
    twice.push(rig.region("a", 0, 0, 1));
    let error = seal.reverify(&rig.devices(), &twice, Budget::All).unwrap_err();
    assert!(matches!(error, Error::Seal(SealError::Twice { .. })), "{error}");
    rig.again(&mut seal, Budget::All).unwrap();
}

/// Files of one byte, one chunk, one group and more, signed, and a seal over them in memory.
#[test]
fn signed_files_are_sealed_only_as_they_were_signed() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m");
    std::fs::create_dir(&model).unwrap();
    let bytes: Vec<u8> = (0..60_000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
    for (name, _, at, len) in REGIONS {
        std::fs::write(model.join(name), &bytes[at as usize..(at + len) as usize]).unwrap();
    }
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let trusted = KeyVerifier::new(key.public_key());
    let (device, signature) = (Device::Cpu(Cpu::open(Settings::default()).unwrap()), folder.path().join("m.sig"));
    let made = sign(&model, &signature, &KeySigner::new(key), &SignOptions::default(), &device, &Silent).unwrap();
    made.write(&signature).unwrap();
    let signed = Bundle::read(&signature, 1 << 20).unwrap().verify(&trusted).unwrap();

    let mut rig = Rig::new();
    let take = |rig: &Rig| Seal::take_signed(&rig.devices(), &rig.regions(), &signed, rig.options());
    let mut seal = take(&rig).unwrap();
    let said = rig.again(&mut seal, Budget::All).unwrap().to_string();
    assert!(said.contains("unchanged since") && said.contains("they were verified: those of model sha256:"), "{said}");
    assert!(said.contains("signed by key") && !said.contains("as signed"), "{said}");
    seal.reseal(&rig.devices(), &rig.regions()).unwrap();
    assert_eq!(*seal.admission(), Admission::Measured, "what was verified once is not what is there now");
    for (name, device, at, len) in REGIONS {
        rig.flip(device, at + len - 1);
        let error = take(&rig).unwrap_err();
        let Some(VerifyError::Resident(mismatch)) = error.refusal() else { panic!("{error}") };
        let Mismatch::Differs { differences, .. } = &**mismatch else { panic!("{mismatch}") };
        assert_eq!((differences.0.len(), differences.0[0].0.as_str()), (1, name));
        rig.flip(device, at + len - 1);
    }
    let stranger = [rig.region("stranger", 0, 0, 10)];
    let error = Seal::take_signed(&rig.devices(), &stranger, &signed, rig.options()).unwrap_err();
    assert!(matches!(error.refusal(), Some(VerifyError::Resident(_))), "{error}");
}

/// What a scraper makes of a page: metrics with their labels in order, and the type of each family.
fn parse(page: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    let mut helped = None;
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(!text.is_empty() && !types.contains_key(name), "{line}");
            helped = Some(name);
        } else if let Some(of_type) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of_type.split_once(' ').unwrap();
            assert_eq!(helped, Some(name), "TYPE follows HELP");
            assert!(kind == "counter" && name.ends_with("_total") || kind == "gauge" && !name.ends_with("_total"));
            types.insert(name.to_owned(), kind.to_owned());
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            assert!(helped == Some(name) && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            let (mut key, mut chars) = (name.to_owned(), rest.chars());
            loop {
                let label: String = chars.by_ref().take_while(|&c| c != '=').collect();
                assert!(label.chars().all(|c| c.is_ascii_lowercase()) && chars.next() == Some('"'), "{line}");
                let mut value = String::new();
                loop {
                    match chars.next().unwrap() {
                        '"' => break,
                        '\\' => value.push(match chars.next().unwrap() {
                            'n' => '\n',
                            c @ ('\\' | '"') => c,
                            c => panic!("\\{c} in {line}"),
                        }),
                        c => value.push(c),
                    }
                }
                key += &format!(" {label}={value}");
                match chars.next().unwrap() {
                    ',' => {}
                    c => break assert_eq!(c, '}', "{line}"),
                }
            }
            let number = chars.as_str().strip_prefix(' ').unwrap().parse().unwrap();
            assert!(samples.insert(key, number).is_none(), "{line}");
        }
    }
    (samples, types)
}

#[test]
fn metrics_are_what_happened() {
    let mut rig = Rig::new();
    let evil = "a\\b\"c\nd} 1";
    let mut seal =
        Seal::take(&rig.devices(), &rig.regions(), SealOptions { name: evil.to_owned(), ..rig.options() }).unwrap();
    let other = rig.seal();
    rig.clock.pass(2.5);
    let look = |seal: &Seal| parse(&exposition([seal, &other]));
    let (samples, types) = look(&seal);
    assert_eq!(types.len(), 9);
    let get = |samples: &BTreeMap<String, f64>, name: &str, more: &str| {
        samples[&format!("tensorseal_seal_{name} seal={evil}{more}")]
    };
    assert_eq!(get(&samples, "runs_total", ""), 0.0);
    assert_eq!(get(&samples, "covered_bytes", " device=cpu"), TOTAL as f64);
    assert_eq!(get(&samples, "oldest_confirmation_age_seconds", ""), 2.5);
    assert_eq!(get(&samples, "taken_timestamp_seconds", ""), 1_800_000_000.0);
    assert_eq!(get(&samples, "regions", ""), 4.0);

    rig.again(&mut seal, Budget::All).unwrap();
    rig.again(&mut seal, Budget::Bytes(0)).unwrap_err();
    let (samples, _) = look(&seal);
    assert_eq!(get(&samples, "reverified_bytes_total", ""), TOTAL as f64);
    assert_eq!(get(&samples, "oldest_confirmation_age_seconds", ""), 0.0);
    assert_eq!(get(&samples, "last_result", " result=no_answer"), 1.0);
    assert_eq!(get(&samples, "last_result", " result=unchanged"), 0.0);
    rig.flip(0, 3);
    rig.again(&mut seal, Budget::All).unwrap_err();
    rig.again(&mut seal, Budget::All).unwrap_err();
    let (samples, _) = look(&seal);
    assert_eq!(get(&samples, "runs_total", ""), 4.0);
    assert_eq!(get(&samples, "failures_total", " reason=broken"), 2.0);
    assert_eq!(get(&samples, "failures_total", " reason=no_answer"), 1.0);
    assert_eq!(get(&samples, "last_result", " result=broken"), 1.0);
    assert_eq!(get(&samples, "broken", ""), 1.0);
    assert_eq!(samples["tensorseal_seal_broken seal=m"], 0.0, "the other one is whole");
    assert!(exposition([]).lines().all(|line| line.starts_with('#')));
}
