//! Selects suites and vectors by name, or by pattern with `*` and `?`.

use wildmatch::WildMatch;

use crate::error::ConformError;
use crate::store::{Store, Suite, listed};

/// Reads the suites whose names match one of the patterns, each once.
///
/// # Errors
/// [`ConformError::UnknownSuite`] for a pattern without a match, or what [`Store::suite`] says.
pub fn suites<'a>(store: &'a Store, patterns: &[String]) -> Result<Vec<Suite<'a>>, ConformError> {
    let known = store.suites();
    let mut names: Vec<&String> = Vec::new();
    for pattern in patterns {
        let matches = WildMatch::new(pattern);
        let found: Vec<&String> = known.iter().filter(|name| matches.matches(name)).collect();
        if found.is_empty() {
            return Err(ConformError::UnknownSuite { name: pattern.clone(), known: listed(&known) });
        }
        let new = found.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>();
        names.extend(new);
    }
    names.into_iter().map(|name| store.suite(name)).collect()
}

/// Keeps the vectors whose names match one of the patterns, as `VECTOR` or `SUITE/VECTOR`, and the suites that have any of them. Without patterns,
/// everything is kept.
///
/// # Errors
/// [`ConformError::UnknownVector`] for a pattern without a match in any of the suites.
pub fn vectors(suites: &mut Vec<Suite<'_>>, patterns: &[String]) -> Result<(), ConformError> {
    if patterns.is_empty() {
        return Ok(());
    }
    let matchers: Vec<WildMatch> = patterns.iter().map(|pattern| WildMatch::new(pattern)).collect();
    let is_match =
        |matcher: &WildMatch, suite: &str, vector: &str| matcher.matches(vector) || matcher.matches(&format!("{suite}/{vector}"));
    for (matcher, pattern) in matchers.iter().zip(patterns) {
        let in_suite = |suite: &Suite<'_>| {
            let (name, vectors) = (&suite.manifest.suite, &suite.manifest.vectors);
            vectors.iter().any(|vector| is_match(matcher, name, &vector.name))
        };
        if !suites.iter().any(in_suite) {
            return Err(ConformError::UnknownVector { name: pattern.clone() });
        }
    }
    for suite in suites.iter_mut() {
        let name = suite.manifest.suite.clone();
        suite.select(|vector| matchers.iter().any(|matcher| is_match(matcher, &name, &vector.name)));
    }
    suites.retain(|suite| !suite.manifest.vectors.is_empty());
    Ok(())
}
