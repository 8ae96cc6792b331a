//! JSON without a second reading: no key twice in an object, nothing after the value.
//!
//! `serde_json` keeps the last of two equal keys of a map, other readers the first (OMS.md, e.9). Signed or not, such a
//! text means two things, so it is refused before it is read for good.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{FormatError, quoted};

/// Reads `text` as exactly one `T`, after the check for double keys. `what` names the text in errors.
pub(crate) fn read<'a, T: Deserialize<'a>>(what: &'static str, text: &'a [u8]) -> Result<T, FormatError> {
    // A byte order mark is no part of JSON, and changes nothing: some editors leave it (RFC 8259, section 8.1).
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let fault = |source| FormatError::Json { what, source };
    let mut reader = serde_json::Deserializer::from_slice(text);
    NoDoubleKeys.deserialize(&mut reader).map_err(fault)?;
    reader.end().map_err(fault)?;
    serde_json::from_slice(text).map_err(fault)
}

/// No object of a bundle has more than a dozen keys; remembering millions would cost gigabytes.
const MOST_KEYS: usize = 10_000;

/// Visits a whole value and keeps nothing.
#[derive(Clone, Copy)]
struct NoDoubleKeys;

impl<'de> DeserializeSeed<'de> for NoDoubleKeys {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NoDoubleKeys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Nearly all objects have a handful of keys; only a large one is worth a table.
        let (mut few, mut many): (Vec<Cow<'de, str>>, HashSet<Cow<'de, str>>) = (Vec::new(), HashSet::new());
        while let Some(key) = map.next_key::<Key<'de>>()? {
            if few.contains(&key.0) || many.contains(&key.0) {
                return Err(de::Error::custom(format_args!("the key {:?} stands twice in one object", key.0)));
            }
            if many.len() == MOST_KEYS {
                return Err(de::Error::custom(format_args!("an object has more than {MOST_KEYS} keys")));
            }
            if few.len() < 16 {
                few.push(key.0);
            } else {
                many.insert(key.0);
            }
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A JSON object, and not the array of values that serde takes for a struct as well: other readers do not.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// For a field that is an object.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// For a list of objects.
pub(crate) fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let all = Vec::deserialize(deserializer)?;
    Ok(all.into_iter().map(|Object(value)| value).collect())
}

/// For an object that may be absent, but not null. To be used with `default`.
pub(crate) fn some_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    object(deserializer).map(Some)
}

/// For a field that may be absent, but not null. To be used with `default`.
pub(crate) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A map of texts to texts, in which no key stands twice. Unlike [`read`], this looks no further than the map itself.
#[derive(Debug, Default)]
pub(crate) struct Texts(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    match texts.entry(key) {
                        Entry::Vacant(place) => place.insert(value),
                        Entry::Occupied(of) => {
                            let key = quoted(of.key());
                            return Err(de::Error::custom(format_args!("the key {key} stands twice in one object")));
                        }
                    };
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// The first items of an array, and how many there are: what nobody will look at takes no memory.
#[derive(Debug)]
pub(crate) struct Few<T> {
    pub(crate) kept: Vec<T>,
    pub(crate) count: usize,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<T>, A::Error> {
                /// More than any certificate chain has.
                const KEPT: usize = 32;
                let mut kept = Vec::new();
                while kept.len() < KEPT {
                    let Some(item) = seq.next_element()? else { return Ok(Few { count: kept.len(), kept }) };
                    kept.push(item);
                }
                let mut count = KEPT;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Few { kept, count })
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_key_may_stand_once_at_any_depth_however_it_is_written() {
        for good in [r#"{"a":1,"b":{"a":2}}"#, r#"[{"a":1},{"a":2}]"#, " {} \n", "\u{feff}{}", "3"] {
            assert!(read::<Value>("test", good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [r#"{"a":1,"a":1}"#, r#"[1,{"b":{"a":1,"c":2,"a":3}}]"#, r#"{"a":1,"\u0061":2}"#] {
            let error = read::<Value>("test", bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("\"a\" stands twice"), "{error}");
        }
        let many: Vec<String> = (0..40).chain([30]).map(|i| format!("\"k{i}\":0")).collect();
        let error = read::<Value>("test", format!("{{{}}}", many.join(",")).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("\"k30\" stands twice"), "{error}");
    }

    #[test]
    fn an_array_is_no_object_and_null_is_no_absence() {
        #[derive(Debug, serde::Deserialize)]
        struct Pair {
            a: u8,
            #[serde(default, deserialize_with = "not_null")]
            b: Option<u8>,
        }
        let pair: Object<Pair> = read("test", br#"{"a":1,"b":2}"#).unwrap();
        assert_eq!((pair.0.a, pair.0.b), (1, Some(2)));
        assert_eq!(read::<Object<Pair>>("test", br#"{"a":1}"#).unwrap().0.b, None);
        for bad in ["[1,2]", "[1]", r#"{"a":1,"b":null}"#, "null", "1"] {
            assert!(read::<Object<Pair>>("test", bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read::<Pair>("test", b"[1,2]").is_ok(), "what this guards against");
    }

    #[test]
    fn long_arrays_are_counted_and_not_kept() {
        for count in [0, 1, 31, 32, 33, 100_000] {
            let text = format!("[{}]", vec!["7"; count].join(","));
            let few: Few<u8> = read("test", text.as_bytes()).unwrap();
            assert_eq!((few.count, few.kept.len()), (count, count.min(32)));
        }
        assert!(read::<Few<u8>>("test", b"[1,\"x\"]").is_err());
        assert!(read::<Few<u8>>("test", b"{}").is_err());
    }

    #[test]
    fn nothing_may_follow_and_nesting_is_bounded() {
        for bad in ["{}{}", "{} x", "{}\n{}\n", "", "{", "\u{feff}\u{feff}{}"] {
            assert!(read::<Value>("test", bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read::<Value>("test", b"\"\xff\"").is_err(), "not UTF-8");
        assert!(read::<Value>("test", "[".repeat(100_000).as_bytes()).is_err(), "too deep, and no overflow");
    }
}
