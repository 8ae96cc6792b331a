use std::f64::consts::TAU;

use serde_json::json;

use super::*;

/// Numbers that are the same in each run of the tests: SplitMix64.
struct Noise(u64);

impl Noise {
    /// From 0 to 1, neither included.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// As Box and Muller have it.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    /// Times around `seconds`: their logarithms are normal with this deviation, and one of `odd` is up to three times as long.
    fn times(&mut self, count: usize, seconds: f64, deviation: f64, odd: f64) -> Times {
        let mut one = || {
            let usual = seconds * (deviation * self.normal()).exp();
            if self.uniform() < odd { usual * (1.0 + 2.0 * self.uniform()) } else { usual }
        };
        Times::new((0..count).map(|_| one()).collect()).unwrap()
    }
}

/// What came of comparisons of 40 lines each, of which one changed by `factor`.
struct Told {
    /// Comparisons in which that one was said to have moved.
    found: usize,
    /// Comparisons in which any other was.
    alarmed: usize,
}

fn told(comparisons: usize, repeats: usize, factor: f64, deviation: f64, odd: f64) -> Told {
    const LINES: usize = 40;
    let (mut noise, mut told) = (Noise(7), Told { found: 0, alarmed: 0 });
    for _ in 0..comparisons {
        let times = |factor: f64, noise: &mut Noise| -> Vec<Times> {
            let of = |line| noise.times(repeats, if line == 0 { 0.01 * factor } else { 0.01 }, deviation, odd);
            (0..LINES).map(of).collect()
        };
        let (before, after) = (times(1.0, &mut noise), times(factor, &mut noise));
        let pairs: Vec<_> = before.iter().zip(&after).map(Some).collect();
        let of: Vec<bool> = moved(&pairs).iter().flatten().map(|(_, of)| *of != Verdict::WithinNoise).collect();
        told.found += usize::from(of[0]);
        told.alarmed += usize::from(of[1..].contains(&true));
    }
    told
}

#[test]
fn equals_are_rarely_told_apart_whatever_their_noise() {
    // The floor is far out of reach of a small noise; beyond it, one comparison in a hundred: 2 of 200, and 5 would be rare.
    assert_eq!(told(200, 7, 1.0, 0.02, 0.0).alarmed, 0);
    for (repeats, deviation, odd) in [(5, 0.15, 0.0), (7, 0.15, 0.0), (20, 0.15, 0.0), (7, 0.03, 0.15), (11, 0.1, 0.1)]
    {
        let alarmed = told(200, repeats, 1.0, deviation, odd).alarmed;
        assert!(alarmed <= 5, "{repeats} repeats, noise {deviation}, {odd} odd: {alarmed} of 200");
    }
}

#[test]
fn a_tenth_is_found_in_noise_of_a_fiftieth_in_either_direction() {
    for factor in [1.1, 1.0 / 1.1] {
        // 9 repeats are what is measured if nothing else is asked for.
        let found = told(200, 9, factor, 0.02, 0.0).found;
        assert!(found >= 190, "{factor}: {found} of 200");
        let found = told(200, 11, factor, 0.02, 0.05).found;
        assert!(found >= 180, "{factor}, some odd: {found} of 200");
    }
    // Where the noise is as large as the change, it is not made up.
    assert!(told(100, 7, 1.1, 0.1, 0.0).found < 5);
    // And what is within the floor is not news, however sure it is.
    assert_eq!(told(20, 20, 1.04, 0.001, 0.0).found, 0);
}

fn line(what: &str, name: &str, bytes: u64, seconds: &[f64]) -> serde_json::Value {
    json!({"what": what, "name": name, "bytes": bytes, "strings": 1, "times": {"seconds": seconds}, "bytes_per_second": 0.0})
}

#[allow(clippy::needless_pass_by_value, reason = "a literal at each call")]
fn report(lines: Vec<serde_json::Value>) -> Report {
    let device = json!({"device": "cpu", "name": "A", "bounds": [], "lines": lines, "skipped": []});
    let machine = json!({"cpu": "A", "threads": 2, "memory": 1, "kernel": "Linux", "load": 0.0});
    serde_json::from_value(json!({
        "schema": super::super::report::SCHEMA, "tool": "t", "date": "d", "seconds": 1.0, "machine": machine,
        "settings": {"repeats": 7}, "devices": [device],
    }))
    .unwrap()
}

const STEADY: [f64; 7] = [1.00, 1.01, 0.99, 1.02, 1.00, 0.98, 1.01];

fn times(factor: f64) -> Vec<f64> {
    STEADY.iter().map(|second| second * factor).collect()
}

#[test]
fn lines_are_matched_by_what_they_are_and_judged_by_their_times() {
    let before = report(vec![
        line("size", "same", 9, &times(1.0)),
        line("size", "slower", 9, &times(1.0)),
        line("size", "faster", 9, &times(1.0)),
        line("size", "few", 9, &times(1.0)[..4]),
        line("size", "other size", 9, &times(1.0)),
        line("size", "gone", 9, &times(1.0)),
        line("load", "same", 9, &times(1.0)),
    ]);
    let after = report(vec![
        line("size", "new", 9, &times(1.0)),
        line("size", "faster", 9, &times(0.8)),
        line("size", "slower", 9, &times(1.25)),
        line("size", "same", 9, &times(1.001)),
        line("size", "few", 9, &times(2.0)),
        line("size", "other size", 10, &times(2.0)),
        line("verify", "same", 9, &times(1.0)),
    ]);
    let found = compare(&before, &after);
    let verdicts: Vec<_> = found.lines.iter().map(|line| (line.key.name.as_str(), line.verdict)).collect();
    use Verdict::*;
    let expected = [
        ("faster", Faster),
        ("slower", Slower),
        ("same", WithinNoise),
        ("few", CannotBeTold),
        ("other size", CannotBeTold),
    ];
    assert_eq!(verdicts, expected);
    assert!((found.lines[1].change + 0.2).abs() < 1e-9, "the rate fell by a fifth");
    assert!(found.lines[3].why.as_ref().unwrap().contains("too few repeats, 4 and 7"));
    assert!(found.lines[4].why.as_ref().unwrap().contains("not the same work"));
    assert!(found.lines[2].least.unwrap() >= FLOOR);
    let names = |keys: &[Key]| keys.iter().map(|key| format!("{} {}", key.what, key.name)).collect::<Vec<_>>();
    assert_eq!(names(&found.only_before), ["size gone", "load same"]);
    assert_eq!(names(&found.only_after), ["size new", "verify same"]);
    assert_eq!((found.count(Slower), found.count(CannotBeTold), found.apart.len()), (1, 2, 0));
}

#[test]
fn a_report_and_itself_differ_in_nothing() {
    let report = report(vec![line("size", "a", 9, &times(1.0)), line("sign", "b", 9, &times(1.0))]);
    let found = compare(&report, &report);
    assert!(found.lines.iter().all(|line| line.verdict == Verdict::WithinNoise && line.change == 0.0));
    assert!(found.apart.is_empty() && found.only_before.is_empty() && found.only_after.is_empty());
}

#[test]
fn whatever_else_differs_is_said() {
    let before = report(Vec::new());
    let mut after = before.clone();
    after.machine.cpu = "B".into();
    after.settings.most = Some(5);
    after.devices[0].driver = Some("570".into());
    after.tool = "u".into();
    let what: Vec<_> = compare(&before, &after).apart.into_iter().map(|of| (of.what, of.before, of.after)).collect();
    let of = |what: &str, before: &str, after: &str| (what.to_owned(), before.to_owned(), after.to_owned());
    assert_eq!(
        what,
        [
            of("processor", "A", "B"),
            of("program", "t", "u"),
            of("bytes of device memory at most (--size)", "none", "5"),
            of("driver of cpu", "not known", "570"),
        ]
    );
}

#[test]
fn probabilities_are_judged_together() {
    // By hand, at 0.01: 0.002 * 4 and 0.0024 * 3 pass, 0.006 * 2 does not, and then 0.008 is not asked.
    let all = [Some(0.008), None, Some(0.0024), Some(0.006), Some(0.002)];
    assert_eq!(beyond_chance(&all), [false, false, true, false, true]);
    assert_eq!(beyond_chance(&[]), [false; 0]);
}
