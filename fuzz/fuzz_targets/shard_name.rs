//! Any text as a resource's name, and what it is a shard of.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorseal::manifest::ResourceName;

fuzz_target!(|text: &str| {
    let Ok(name) = ResourceName::parse(text) else {
        // Whatever could be meant in one way only must be readable.
        assert!(!invariants::is_plain(text), "{text:?} is refused");
        return;
    };
    let read = name.as_str();
    assert!(invariants::is_plain(read), "{text:?} is read as {read:?}");
    assert_eq!(ResourceName::parse(read).ok().as_ref(), Some(&name), "a second reading changes nothing");
    let parts = |text: &str| text.split('/').filter(|p| !["", "."].contains(p)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(parts(text), parts(read), "only empty components and `.` are dropped");
    if let Some((path, range)) = name.shard() {
        assert_eq!(format!("{path}:{}:{}", range.start, range.end), read, "one spelling for each shard");
        assert!(invariants::is_plain(path), "{read:?} is a shard of {path:?}");
    } else if let [end, start, path] = read.rsplitn(3, ':').collect::<Vec<_>>()[..] {
        let number = |text: &str| text.parse::<u64>().is_ok_and(|number| number.to_string() == text);
        assert!(
            !invariants::is_plain(path) || !number(start) || !number(end),
            "{read:?} is a shard, and not seen as one"
        );
    }
});
