//! What a package says about itself (SPEC 2.1). It is read for people, so that additions to it make no package unreadable.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// What a package says about itself; no result depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Metadata {
    /// Name of the model.
    pub name: String,
    /// How the package was made: checkpoint, calibration, program. Reading leaves out members that are no text, and anything that is no object.
    pub provenance: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Members)
    }
}

/// Visits the members of the outermost object. Of several members of one name the last counts.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Metadata, A::Error> {
        let (mut name, mut provenance) = (Kept::Nothing, Kept::Nothing);
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value()?;
            match key.as_str() {
                "name" => name = value,
                "provenance" => provenance = value,
                _ => {}
            }
        }
        let Kept::Text(name) = name else { return Err(A::Error::custom("there is no string `name`")) };
        let provenance = if let Kept::Texts(texts) = provenance { texts } else { BTreeMap::new() };
        Ok(Metadata { name, provenance })
    }
}

/// What is kept of a value. Everything is parsed, so that what SPEC refuses is found, but a tree of it would take a hundred times the memory of its text.
enum Kept {
    Text(String),
    /// The members of an object that are texts.
    Texts(BTreeMap<String, String>),
    Nothing,
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Keeper)
    }
}

struct Keeper;

impl<'de> Visitor<'de> for Keeper {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Kept, E> {
        Ok(Kept::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Kept, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((key, value)) = members.next_entry::<String, Kept>()? {
            if let Kept::Text(text) = value {
                texts.insert(key, text)
            } else {
                texts.remove(&key)
            };
        }
        Ok(Kept::Texts(texts))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Kept, A::Error> {
        while elements.next_element::<Kept>()?.is_some() {}
        Ok(Kept::Nothing)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Kept, E> {
        Ok(Kept::Nothing)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Kept, E> {
        Ok(Kept::Nothing)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Kept, E> {
        Ok(Kept::Nothing)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Kept, E> {
        Ok(Kept::Nothing)
    }

    fn visit_unit<E: Error>(self) -> Result<Kept, E> {
        Ok(Kept::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, Vec<(String, String)>), String> {
        let read: Result<Metadata, _> = serde_json::from_str(text);
        read.map(|m| (m.name, m.provenance.into_iter().collect())).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_reads() {
        let metadata = Metadata { name: "a".into(), provenance: [("b".into(), "c".into())].into() };
        assert_eq!(serde_json::from_slice::<Metadata>(&serde_json::to_vec(&metadata).unwrap()).unwrap(), metadata);
    }

    #[test]
    fn a_name_is_all_that_is_needed() {
        let just = |name: &str| Ok((name.to_owned(), vec![]));
        assert_eq!(read(r#"{"name":"a"}"#), just("a"));
        for provenance in ["null", "7", "-7", "1.5", "true", "\"text\"", "[1,[2]]", "{}", r#"{"a":1,"b":{"c":"d"}}"#] {
            assert_eq!(read(&format!(r#"{{"name":"a","provenance":{provenance},"more":[{provenance}]}}"#)), just("a"));
        }
        assert_eq!(read(r#"{"name":3,"name":"b"}"#), just("b"), "the last counts");
        let texts = read(r#"{"provenance":{"x":"y","z":null,"x":"w"},"name":"a"}"#);
        assert_eq!(texts, Ok(("a".into(), vec![("x".into(), "w".into())])));
    }

    /// The limits of SPEC 2.1, as in `conformance/reference/tests/test_stream.py`: they hold for all other members too, whether these count or not.
    #[test]
    fn what_else_is_there_has_limits() {
        let with = |more: &str| read(&format!(r#"{{"more":{more},"more":0,"name":"a"}}"#)).is_ok();
        let nested = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
        // The largest finite number and what rounds to it; half a unit beyond it is infinite.
        for more in [
            "1.7976931348623158e308",
            "-1.7976931348623158e308",
            "1e-999",
            "0e999",
            r#""\ud83d\ude00""#,
            &"9".repeat(308),
            &nested(126),
        ] {
            assert!(with(more), "{more}");
        }
        let halves = [r#""\ud800""#, r#""\ude00\ud83d""#, r#""\ud800\u0041""#, r#"{"\udc00":0}"#, r#"["\ud800"]"#];
        let numbers = [
            "1.7976931348623159e308",
            "179769313486231586e291",
            "1e999",
            "-1e999",
            "[1e309]",
            "NaN",
            "Infinity",
            "-Infinity",
            &"9".repeat(400),
        ];
        for more in halves.into_iter().chain(numbers).chain([nested(127).as_str()]) {
            assert!(!with(more), "{more}");
        }
        let objects = |count: usize| read(&format!("{}{{}}{}", r#"{"name":"a","":"#.repeat(count), "}".repeat(count))).is_ok();
        assert!(objects(126) && !objects(127));
    }

    #[test]
    fn without_a_string_name_it_is_refused() {
        for text in [r#"{}"#, r#"{"name":null}"#, r#"{"name":"a","name":4}"#, r#"["a"]"#, r#"{"name":"a"} x"#, r#"{"name":"a""#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
