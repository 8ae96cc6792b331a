//! What a page must be, whatever the report.

use std::collections::HashSet;

use serde_json::Value;

use super::super::Report;
use super::page;
use super::tree::{Element, read};

/// Reports that no machine made. `tests/page/run` opens their pages in a browser.
const REPORTS: [(&str, &str); 7] = [
    ("cpu", include_str!("../../../tests/page/reports/cpu.json")),
    ("two-devices", include_str!("../../../tests/page/reports/two-devices.json")),
    ("four-devices", include_str!("../../../tests/page/reports/four-devices.json")),
    ("one-point", include_str!("../../../tests/page/reports/one-point.json")),
    ("only-skipped", include_str!("../../../tests/page/reports/only-skipped.json")),
    ("nothing", include_str!("../../../tests/page/reports/nothing.json")),
    ("hostile", include_str!("../../../tests/page/reports/hostile.json")),
];

fn report(text: &str) -> Report {
    serde_json::from_str(text).unwrap()
}

fn reports() -> impl Iterator<Item = (&'static str, Report)> {
    REPORTS.into_iter().map(|(name, text)| (name, report(text)))
}

fn with_peers() -> Value {
    serde_json::from_str(REPORTS[0].1).unwrap()
}

/// Does something with each value in it.
fn each(value: &mut Value, change: &mut dyn FnMut(&str, &mut Value), name: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, change, name)),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| each(field, change, name)),
        leaf => change(name, leaf),
    }
}

#[test]
fn every_page_is_well_formed_and_loads_nothing() {
    for (name, report) in reports() {
        let text = page(&report);
        let page = read(&text).unwrap_or_else(|error| panic_with(name, &error));
        let elements = page.all();
        let known = [
            "",
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "main",
            "section",
            "h1",
            "h2",
            "h3",
            "h4",
            "p",
            "bdi",
            "b",
            "small",
            "span",
            "data",
            "ul",
            "ol",
            "li",
            "div",
            "dl",
            "dt",
            "dd",
            "figure",
            "figcaption",
            "details",
            "summary",
            "table",
            "caption",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "svg",
            "desc",
            "text",
            "line",
            "rect",
            "circle",
            "path",
        ];
        let attributes = [
            "lang",
            "charset",
            "http-equiv",
            "content",
            "name",
            "class",
            "id",
            "role",
            "tabindex",
            "aria-label",
            "aria-labelledby",
            "aria-hidden",
            "scope",
            "data-of",
            "value",
            "width",
            "height",
            "overflow",
            "x",
            "y",
            "x1",
            "x2",
            "y1",
            "y2",
            "dx",
            "cx",
            "cy",
            "r",
            "d",
            "text-anchor",
        ];
        let mut ids = HashSet::new();
        for element in &elements {
            assert!(known.contains(&element.tag.as_str()), "{name}: {}", element.tag);
            for (attribute, _) in &element.attributes {
                assert!(attributes.contains(&attribute.as_str()), "{name}: {attribute} of {}", element.tag);
            }
            if let Some(id) = element.attribute("id") {
                assert!(ids.insert(id), "{name}: {id} twice");
            }
        }
        for labelled in elements.iter().filter_map(|element| element.attribute("aria-labelledby")) {
            assert!(labelled.split(' ').all(|id| ids.contains(id)), "{name}: {labelled}");
        }
        let drawings = elements.iter().filter(|element| element.attribute("role") == Some("img"));
        assert!(drawings.clone().all(|drawing| drawing.attribute("aria-labelledby").is_some()), "{name}");
        // The one style is the page's own, and its hash is the one that the policy lets through.
        let styles = page.tagged("style");
        assert_eq!(styles.len(), 1, "{name}");
        assert!(["url(", "@import", "http", "expression"].iter().all(|word| !styles[0].text.contains(word)), "{name}");
        let policy = page.tagged("meta").iter().find_map(|meta| {
            (meta.attribute("http-equiv")? == "Content-Security-Policy").then(|| meta.attribute("content"))
        });
        assert!(
            policy.flatten().is_some_and(
                |policy| policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("inline")
            ),
            "{name}"
        );
    }
}

/// Lints forbid `panic!`, and a closure has to end somehow.
fn panic_with(name: &str, error: &str) -> ! {
    assert_eq!(error, "", "{name}");
    unreachable!()
}

#[test]
fn places_in_drawings_are_numbers_within_them() {
    let mut wild: Vec<(String, Report)> = reports().map(|(name, report)| (name.to_owned(), report)).collect();
    for (of, extreme) in [
        ("bytes_per_second", 1e300),
        ("bytes_per_second", 1e-300),
        ("bytes_per_second", 0.0),
        ("ratio", 1e300),
        ("ratio", 0.0),
        ("seconds", 1e300),
        ("seconds", 0.0),
        ("share", 1e9),
        ("share", -1.0),
    ] {
        let mut value = with_peers();
        let mut nth = 0;
        each(
            &mut value,
            &mut |name, leaf| {
                if name == of && leaf.is_number() {
                    nth += 1;
                    if nth % 3 == 0 {
                        *leaf = extreme.into();
                    }
                }
            },
            "",
        );
        wild.push((format!("{of} {extreme}"), serde_json::from_value(value).unwrap()));
    }
    for bytes in [0, 1, u64::MAX] {
        let mut value = with_peers();
        let mut nth = 0;
        each(
            &mut value,
            &mut |name, leaf| {
                if name == "bytes" {
                    nth += 1;
                    if nth % 2 == 0 {
                        *leaf = bytes.into();
                    }
                }
            },
            "",
        );
        wild.push((format!("{bytes} bytes"), serde_json::from_value(value).unwrap()));
    }
    for (name, report) in wild {
        let page = read(&page(&report)).unwrap_or_else(|error| panic_with(&name, &error));
        let mut places = 0;
        for shape in page.all() {
            for (attribute, value) in &shape.attributes {
                if !["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "dx"]
                    .contains(&attribute.as_str())
                {
                    continue;
                }
                let (number, most) =
                    value.strip_suffix('%').map_or((value.as_str(), 400.0), |percent| (percent, 100.0));
                let number: f64 = number.parse().unwrap();
                // The names of the axis stand to the left of it, and what belongs to a mark lies around it.
                let least = if shape.attribute("class").is_some_and(|class| ["tick", "leader"].contains(&class))
                    || attribute == "dx"
                {
                    -60.0
                } else {
                    0.0
                };
                assert!((least..=most).contains(&number), "{name}: {attribute}=\"{value}\" of {}", shape.tag);
                places += 1;
            }
        }
        assert!(places > 20 || ["nothing", "only-skipped"].contains(&name.as_str()), "{name}: {places} places");
    }
}

/// The exact numbers of a row of a table, and what is shown for them.
fn numbers(row: &Element) -> Vec<(f64, String)> {
    row.tagged("data")
        .iter()
        .map(|data| (data.attribute("value").unwrap().parse().unwrap(), data.text.clone()))
        .collect()
}

/// What is shown is the exact number, to three digits: read back as a person reads it.
fn shown_is_exact(exact: f64, shown: &str) -> bool {
    let (number, unit) = shown.split_once('\u{a0}').unwrap_or((shown, ""));
    let Ok(number) = number.replace(',', "").parse::<f64>() else { return number == "under 0.01" || number == "–" };
    let unit = match unit {
        "%" => &[0.01][..],
        "KiB" => &[1024.0],
        "MiB" => &[1_048_576.0],
        "GiB" => &[1_073_741_824.0],
        "TiB" => &[1_099_511_627_776.0],
        "ns" => &[1e-9],
        "µs" => &[1e-6],
        "ms" => &[1e-3],
        // A column of rates has its unit in its heading.
        _ => &[1.0, 1e9],
    };
    unit.iter().any(|unit| {
        (number * unit - exact).abs() <= 0.006 * exact.abs().max(1e-12)
            || (*unit == 0.01 && (number * unit - exact).abs() <= 0.0051)
    })
}

#[test]
fn tables_have_the_numbers_of_the_report() {
    for (name, report) in reports() {
        let page = read(&page(&report)).unwrap();
        let rows: Vec<Vec<(f64, String)>> = page.tagged("tr").into_iter().map(numbers).collect();
        let has = |wanted: &[f64]| {
            rows.iter().any(|row| wanted.iter().all(|number| row.iter().any(|(exact, _)| exact == number)))
        };
        for device in &report.devices {
            for line in &device.lines {
                let times = &line.times;
                let mut wanted = vec![
                    line.bytes as f64,
                    line.bytes_per_second,
                    times.median(),
                    times.fastest(),
                    times.slowest(),
                    times.seconds().len() as f64,
                ];
                wanted.extend(line.share);
                assert!(has(&wanted), "{name}: {line:?}");
                assert!(line.stages.iter().all(|stage| has(&[stage.seconds])), "{name}: {line:?}");
            }
            assert!(device.bounds.iter().all(|bound| has(&[bound.bytes_per_second])), "{name}");
        }
        for line in report.peers.iter().flat_map(|peers| &peers.lines) {
            assert!(
                has(&[line.ratio, line.ours.median(), line.theirs.median(), line.bytes as f64]),
                "{name}: {line:?}"
            );
        }
        for (exact, shown) in rows.iter().flatten() {
            assert!(shown_is_exact(*exact, shown), "{name}: {shown} for {exact}");
        }
    }
    assert!(
        !shown_is_exact(1.5e9, "1.51") && !shown_is_exact(0.5, "52\u{a0}%") && !shown_is_exact(1024.0, "2\u{a0}KiB")
    );
}

#[test]
fn reasons_and_versions_are_on_the_page() {
    for (name, report) in reports().filter(|(name, _)| *name != "hostile") {
        let text = read(&page(&report)).unwrap().text;
        let skipped =
            report.devices.iter().flat_map(|device| &device.skipped).flat_map(|skipped| [&skipped.name, &skipped.why]);
        let absent =
            report.peers.iter().flat_map(|peers| &peers.absent).flat_map(|absent| [&absent.program, &absent.why]);
        let over = report.passed_over.iter().flat_map(|over| [&over.device, &over.name, &over.why]);
        let versions = report.peers.iter().flat_map(|peers| &peers.lines).map(|line| &line.version);
        let machine = [&report.tool, &report.machine.cpu, &report.machine.kernel];
        for wanted in skipped.chain(absent).chain(over).chain(versions).chain(machine) {
            assert!(text.contains(wanted.as_str()), "{name}: {wanted}");
        }
    }
}

/// Whatever a name is, the page has the same elements as with a harmless one.
#[test]
fn hostile_names_change_no_markup() {
    let shape = |report: &Report| {
        let page = read(&page(report)).unwrap();
        let outside = |element: &&Element| !["bdi"].contains(&element.tag.as_str());
        page.all().into_iter().filter(outside).map(|element| element.tag.clone()).collect::<Vec<_>>()
    };
    let named = |name: &str| {
        let mut value = with_peers();
        let kept = ["schema", "kind", "what", "bound", "cache"];
        each(
            &mut value,
            &mut |field, leaf| {
                if leaf.is_string() && !kept.contains(&field) {
                    *leaf = name.into();
                }
            },
            "",
        );
        serde_json::from_value::<Report>(value).unwrap()
    };
    let harmless = shape(&named("a-name"));
    for hostile in [
        "</style>a",
        "\"a a=\"",
        "<b>aa",
        "</p></a",
        "&lt;aa",
        "--><aa",
        "]]>aaa",
        "\u{0}aaaaa",
        "\u{202e}aaaaa",
        "\u{1b}[31ma",
        "<a\nb=c",
        "\u{200b}aaaaa",
    ] {
        let report = named(hostile);
        let found = shape(&report);
        let count = |tags: &[String], tag: &str| tags.iter().filter(|known| *known == tag).count();
        // Labels of plots are left out where there is no room for them.
        for tag in harmless.iter().filter(|tag| !["text", "line", "svg"].contains(&tag.as_str())) {
            assert_eq!(count(&found, tag), count(&harmless, tag), "{hostile:?}: {tag}");
        }
    }
}

#[test]
fn ratios_say_who_was_faster() {
    let text = read(&page(&report(REPORTS[0].1))).unwrap().text;
    for line in report(REPORTS[0].1).peers.unwrap().lines {
        let word = if line.ours.median() < line.theirs.median() { "faster" } else { "slower" };
        let (less, more) = (line.ours.median().min(line.theirs.median()), line.ours.median().max(line.theirs.median()));
        let said = format!("{}× {word}", super::number::significant(more / less));
        assert!(text.contains(&said), "{}: {said}", line.task);
    }
}
