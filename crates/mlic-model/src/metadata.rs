//! What a package says about itself (SPEC 2.1): read for people, so that whoever adds to it makes no package unreadable.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a package says about itself that no result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Metadata {
    /// Name of the model.
    pub name: String,
    /// How the package was made: checkpoint, calibration, program. What is no text in it, or no object of texts, is left out when it is read.
    pub provenance: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Of several members of one name the last counts.
        let mut members = Map::deserialize(from)?;
        let Some(Value::String(name)) = members.remove("name") else {
            return Err(D::Error::custom("there is no string `name`"));
        };
        let provenance = match members.remove("provenance") {
            Some(Value::Object(entries)) => entries.into_iter().filter_map(text).collect(),
            _ => BTreeMap::new(),
        };
        Ok(Self { name, provenance })
    }
}

fn text((key, value): (String, Value)) -> Option<(String, String)> {
    if let Value::String(text) = value { Some((key, text)) } else { None }
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

    /// The limits of SPEC 2.1, which `conformance/reference/tests/test_stream.py` has too: what else is there is read, whether it counts or not.
    #[test]
    fn what_else_is_there_has_limits() {
        let with = |more: &str| read(&format!(r#"{{"more":{more},"more":0,"name":"a"}}"#)).is_ok();
        let nested = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
        for more in ["1.7e308", "-1.7e308", "1e-999", "0e999", r#""\ud83d\ude00""#, &"9".repeat(308), &nested(126)] {
            assert!(with(more), "{more}");
        }
        let halves = [r#""\ud800""#, r#""\ude00\ud83d""#, r#""\ud800\u0041""#, r#"{"\udc00":0}"#, r#"["\ud800"]"#];
        let numbers = ["1e999", "-1e999", "[1e309]", "NaN", "Infinity", "-Infinity", &"9".repeat(400)];
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
