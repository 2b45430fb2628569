//! Expected verdicts other than pass: what is known to be wrong, and why.
//!
//! A baseline does not make a decoder conforming. It makes changes visible in both directions: unexpected failures, and unexpected passes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ConformError;
use crate::report::SuiteReport;
use crate::store::Store;
use crate::verdict::Kind;

/// Version of the baseline format that this program reads and writes.
pub const FORMAT: u32 = 1;

/// A baseline: expected verdicts, by vector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    expected: BTreeMap<String, Expected>,
}

/// A verdict other than pass, and why it is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The verdict.
    pub verdict: Kind,
    /// Why it is expected.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    expected: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    vector: String,
    verdict: Kind,
    reason: String,
}

/// Whether a baseline may expect this verdict: one that a run finds, and no pass.
const fn can_be_expected(verdict: Kind) -> bool {
    matches!(verdict, Kind::Fail | Kind::Error | Kind::Timeout | Kind::NotSupported)
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// What is wrong with the baseline.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if file.format != FORMAT {
            return Err(format!("format {}, this program reads {FORMAT}", file.format));
        }
        let mut expected = BTreeMap::new();
        for Entry { vector, verdict, reason } in file.expected {
            if !can_be_expected(verdict) {
                return Err(format!("{vector}: the verdict {verdict:?} cannot be expected", verdict = verdict.name()));
            }
            if reason.trim().is_empty() {
                return Err(format!("{vector}: no reason"));
            }
            if expected.insert(vector.clone(), Expected { verdict, reason }).is_some() {
                return Err(format!("{vector} is there twice"));
            }
        }
        Ok(Self { expected })
    }

    /// Returns the baseline as JSON.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let entry = |(vector, Expected { verdict, reason }): (&String, &Expected)| Entry {
            vector: vector.clone(),
            verdict: *verdict,
            reason: reason.clone(),
        };
        let file = File { format: FORMAT, expected: self.expected.iter().map(entry).collect() };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Returns what is expected of a vector instead of a pass.
    #[must_use]
    pub fn expected(&self, suite: &str, vector: &str) -> Option<&Expected> {
        self.expected.get(&format!("{suite}/{vector}"))
    }

    /// Checks that every name is that of a vector of the data, selected or not.
    ///
    /// # Errors
    /// [`ConformError::UnknownVector`] for the first name that is not, or [`ConformError::Manifest`].
    pub fn check_names(&self, store: &Store) -> Result<(), ConformError> {
        let mut known = std::collections::BTreeSet::new();
        for suite in store.suites() {
            let manifest = store.suite(&suite)?.manifest;
            known.extend(manifest.vectors.iter().map(|vector| format!("{suite}/{}", vector.name)));
        }
        let unknown = self.expected.keys().find(|name| !known.contains(*name));
        unknown.map_or(Ok(()), |name| Err(ConformError::UnknownVector { name: format!("{name} (in the baseline)") }))
    }

    /// Returns the baseline under which these runs are as expected. Entries for vectors that the runs did not look at stay, and so do reasons whose
    /// verdict still holds.
    ///
    /// # Errors
    /// The first vector whose verdict cannot be expected, because it was not run.
    pub fn updated(&self, suites: &[SuiteReport]) -> Result<Self, String> {
        let mut expected = self.expected.clone();
        for (suite, vector) in suites.iter().flat_map(|suite| suite.vectors.iter().map(move |vector| (suite, vector))) {
            let (name, verdict) = (format!("{}/{}", suite.suite, vector.name), vector.verdict.kind());
            if vector.verdict.is_pass() {
                expected.remove(&name);
            } else if !can_be_expected(verdict) {
                return Err(format!("{name}: the verdict {:?} cannot be expected", verdict.name()));
            } else if expected.get(&name).is_none_or(|known| known.verdict != verdict) {
                expected.insert(name, Expected { verdict, reason: vector.verdict.to_string() });
            }
        }
        Ok(Self { expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entry: &str) -> Result<Baseline, String> {
        Baseline::parse(format!(r#"{{"format": 1, "expected": [{entry}]}}"#).as_bytes())
    }

    #[test]
    fn a_baseline_is_read_and_written() {
        let text = r#"{"vector": "smoke/a", "verdict": "not supported", "reason": "no float"}"#;
        let baseline = parse(text).unwrap();
        let expected = baseline.expected("smoke", "a").unwrap();
        assert_eq!((expected.verdict, expected.reason.as_str()), (Kind::NotSupported, "no float"));
        assert_eq!(baseline.expected("smoke", "b"), None);
        assert_eq!(Baseline::parse(&baseline.to_bytes().unwrap()), Ok(baseline));
    }

    #[test]
    fn what_is_not_a_baseline_is_refused() {
        let entry = |verdict: &str, reason: &str| format!(r#"{{"vector": "s/a", "verdict": "{verdict}", "reason": "{reason}"}}"#);
        assert!(parse(&entry("fail", "known")).is_ok());
        for (verdict, reason) in [("fail", " "), ("pass", "fine"), ("not run", "later"), ("failure", "known")] {
            assert!(parse(&entry(verdict, reason)).is_err(), "{verdict} {reason}");
        }
        assert!(parse(&format!("{0}, {0}", entry("fail", "known"))).unwrap_err().contains("twice"));
        assert!(parse(r#"{"vector": "s/a", "verdict": "fail", "reason": "r", "until": "2030"}"#).is_err());
        assert!(Baseline::parse(br#"{"format": 2, "expected": []}"#).unwrap_err().contains("format 2"));
        assert!(Baseline::parse(b"").is_err());
    }
}
