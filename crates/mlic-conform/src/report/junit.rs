//! Reports as JUnit XML, for continuous integration.
//!
//! `fail` becomes `failure`; `error`, `timeout`, `not run` and `not supported` become `error`, so that nothing but a pass is
//! green. A verdict that a baseline expects becomes `skipped`; an unexpected pass is a `failure`. With several runs, each vector for which two of them
//! computed something different is one more `failure`.

use xml::EmitterConfig;
use xml::writer::{EventWriter, Result, XmlEvent};

use crate::report::document::{Document, SuiteDocument, VectorDocument};
use crate::report::matrix::{Matrix, SuiteMatrix};
use crate::verdict::Kind;

type Xml = EventWriter<Vec<u8>>;

/// How a test ended, in JUnit's terms.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Green,
    Skipped,
    Failure,
    Error,
}

/// Writes an element and its contents.
fn element(xml: &mut Xml, name: &str, attributes: &[(&str, &str)], inner: impl FnOnce(&mut Xml) -> Result<()>) -> Result<()> {
    let attributes: Vec<(&str, String)> = attributes.iter().map(|(key, value)| (*key, plain(value))).collect();
    let start = XmlEvent::start_element(name);
    xml.write(attributes.iter().fold(start, |start, (key, value)| start.attr(*key, value)))?;
    inner(xml)?;
    xml.write(XmlEvent::end_element())
}

/// Returns reports as one JUnit file. With several reports, names of suites include the platform, and the differences between runs form suites of their own.
///
/// # Errors
/// None: the writer's interface has errors, but writing to memory does not fail.
pub fn to_junit(documents: &[Document]) -> Result<String> {
    let mut xml = EmitterConfig::new().perform_indent(true).indent_string(" ").create_writer(Vec::new());
    let several = documents.len() > 1;
    element(&mut xml, "testsuites", &[("name", "mlic-conform")], |xml| {
        for document in documents {
            for suite in &document.suites {
                let platform = if several { format!(" on {}, {}", document.platform(), document.backend) } else { String::new() };
                write_suite(xml, document, suite, &format!("{}{platform}", suite.suite))?;
            }
        }
        Matrix::new(documents).suites.iter().try_for_each(|suite| write_differing(xml, suite))
    })?;
    let mut text = String::from_utf8_lossy(&xml.into_inner()).into_owned();
    text.push('\n');
    Ok(text)
}

/// Writes a failure for each vector of a suite for which two runs computed something different.
fn write_differing(xml: &mut Xml, suite: &SuiteMatrix) -> Result<()> {
    let rows: Vec<_> = suite.rows.iter().filter(|row| row.differ).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (name, count) = (format!("{}, runs side by side", suite.suite), rows.len().to_string());
    element(xml, "testsuite", &[("name", &name), ("tests", &count), ("failures", &count)], |xml| {
        rows.iter().try_for_each(|row| {
            element(xml, "testcase", &[("classname", &name), ("name", &row.vector)], |xml| {
                write_mark(xml, "failure", "differ", &format!("the runs computed different digests\n{}", row.each()))
            })
        })
    })
}

fn mark(vector: &VectorDocument) -> Mark {
    match (vector.is_as_expected(), vector.verdict) {
        (true, Kind::Pass) => Mark::Green,
        (true, _) => Mark::Skipped,
        (false, Kind::Pass | Kind::Fail) => Mark::Failure,
        (false, _) => Mark::Error,
    }
}

fn write_suite(xml: &mut Xml, document: &Document, suite: &SuiteDocument, name: &str) -> Result<()> {
    // A suite in which nothing ran must not look green.
    let none = usize::from(suite.vectors.is_empty());
    let count = |wanted: Mark| suite.vectors.iter().filter(|vector| mark(vector) == wanted).count();
    let seconds: f64 = suite.vectors.iter().map(|vector| vector.seconds).sum();
    let attributes = [
        ("name", name),
        ("tests", &(suite.vectors.len() + none).to_string()),
        ("failures", &count(Mark::Failure).to_string()),
        ("errors", &(count(Mark::Error) + none).to_string()),
        ("skipped", &count(Mark::Skipped).to_string()),
        ("time", &format!("{seconds:.3}")),
    ];
    element(xml, "testsuite", &attributes, |xml| {
        write_properties(xml, document, suite)?;
        suite.vectors.iter().try_for_each(|vector| write_vector(xml, name, vector))?;
        if none == 0 {
            return Ok(());
        }
        element(xml, "testcase", &[("classname", name), ("name", "any vector")], |xml| {
            write_mark(xml, "error", "not run", "no vector was run")
        })
    })
}

fn write_properties(xml: &mut Xml, document: &Document, suite: &SuiteDocument) -> Result<()> {
    let mut properties = vec![
        ("version".to_owned(), document.program.version.clone()),
        ("platform".to_owned(), document.platform()),
        ("backend".to_owned(), document.backend.clone()),
        ("threads".to_owned(), document.threads.to_string()),
        ("level".to_owned(), document.level.to_string()),
        ("model".to_owned(), suite.model.id.clone()),
        ("manifest_sha256".to_owned(), suite.manifest_sha256.clone()),
    ];
    properties.extend(document.command.iter().map(|command| ("command".to_owned(), command.clone())));
    properties.extend(suite.devices.iter().map(|(stage, device)| (format!("device {stage}"), device.clone())));
    element(xml, "properties", &[], |xml| {
        let mut write =
            |(name, value): &(String, String)| element(xml, "property", &[("name", name), ("value", value)], |_| Ok(()));
        properties.iter().try_for_each(&mut write)
    })
}

fn write_vector(xml: &mut Xml, suite: &str, vector: &VectorDocument) -> Result<()> {
    let attributes = [("classname", suite), ("name", &vector.name), ("time", &format!("{:.3}", vector.seconds))];
    let kind = if vector.verdict == Kind::Pass { "unexpected pass" } else { vector.verdict.name() };
    element(xml, "testcase", &attributes, |xml| match mark(vector) {
        Mark::Green => Ok(()),
        Mark::Skipped => write_mark(xml, "skipped", kind, &vector.outcome()),
        Mark::Failure => write_mark(xml, "failure", kind, &vector.outcome()),
        Mark::Error => write_mark(xml, "error", kind, &vector.outcome()),
    })
}

fn write_mark(xml: &mut Xml, name: &str, kind: &str, text: &str) -> Result<()> {
    let message = text.lines().next().unwrap_or_default();
    element(xml, name, &[("type", kind), ("message", message)], |xml| xml.write(XmlEvent::characters(&plain(text))))
}

/// Replaces the characters that XML 1.0 cannot represent.
fn plain(text: &str) -> String {
    let allowed = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(&c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(plain("a\u{1b}[31m\0é\u{ffff}<&\n"), "a\u{fffd}[31m\u{fffd}é\u{fffd}<&\n");
    }
}
