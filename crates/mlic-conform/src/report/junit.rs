//! Reports as JUnit XML, for the machines that run tests.
//!
//! `fail` becomes `failure`, `error`, `timeout`, `not run` and `not supported` become `error`, so that nothing but a pass is
//! green. A verdict that a baseline expects becomes `skipped`; an unexpected pass is a `failure`.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::report::document::{Document, SuiteDocument, VectorDocument};
use crate::verdict::Kind;

type Xml = Writer<Vec<u8>>;

/// How a test ended, in JUnit's terms.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Green,
    Skipped,
    Failure,
    Error,
}

/// Reports as one JUnit file. The suites of several are told apart by their platform.
///
/// # Errors
/// None in memory, but the writer's interface has one.
pub fn to_junit(documents: &[Document]) -> io::Result<String> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 1);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let several = documents.len() > 1;
    xml.create_element("testsuites").with_attribute(("name", "mlic-conform")).write_inner_content(|xml| {
        for document in documents {
            for suite in &document.suites {
                let platform = if several { format!(" on {}, {}", document.platform(), document.backend) } else { String::new() };
                write_suite(xml, document, suite, &format!("{}{platform}", suite.suite))?;
            }
        }
        Ok(())
    })?;
    let mut text = String::from_utf8(xml.into_inner()).map_err(io::Error::other)?;
    text.push('\n');
    Ok(text)
}

fn mark(vector: &VectorDocument) -> Mark {
    match (vector.is_as_expected(), vector.verdict) {
        (true, Kind::Pass) => Mark::Green,
        (true, _) => Mark::Skipped,
        (false, Kind::Pass | Kind::Fail) => Mark::Failure,
        (false, _) => Mark::Error,
    }
}

fn write_suite(xml: &mut Xml, document: &Document, suite: &SuiteDocument, name: &str) -> io::Result<()> {
    // A suite of which nothing ran must not look green.
    let none = usize::from(suite.vectors.is_empty());
    let count = |wanted: Mark| suite.vectors.iter().filter(|vector| mark(vector) == wanted).count();
    let seconds: f64 = suite.vectors.iter().map(|vector| vector.seconds).sum();
    let attributes = [
        ("name", plain(name)),
        ("tests", (suite.vectors.len() + none).to_string()),
        ("failures", count(Mark::Failure).to_string()),
        ("errors", (count(Mark::Error) + none).to_string()),
        ("skipped", count(Mark::Skipped).to_string()),
        ("time", format!("{seconds:.3}")),
    ];
    let attributes = attributes.iter().map(|(key, value)| (*key, value.as_str()));
    xml.create_element("testsuite").with_attributes(attributes).write_inner_content(|xml| {
        write_properties(xml, document, suite)?;
        suite.vectors.iter().try_for_each(|vector| write_vector(xml, name, vector))?;
        if none > 0 {
            let case = xml.create_element("testcase").with_attributes([("classname", name), ("name", "any vector")]);
            case.write_inner_content(|xml| write_mark(xml, "error", "not run", "no vector was run"))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_properties(xml: &mut Xml, document: &Document, suite: &SuiteDocument) -> io::Result<()> {
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
    xml.create_element("properties").write_inner_content(|xml| {
        for (name, value) in &properties {
            let attributes = [("name", plain(name)), ("value", plain(value))];
            let attributes = attributes.iter().map(|(key, value)| (*key, value.as_str()));
            xml.create_element("property").with_attributes(attributes).write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_vector(xml: &mut Xml, suite: &str, vector: &VectorDocument) -> io::Result<()> {
    let attributes = [("classname", plain(suite)), ("name", plain(&vector.name)), ("time", format!("{:.3}", vector.seconds))];
    let case = xml.create_element("testcase").with_attributes(attributes.iter().map(|(key, value)| (*key, value.as_str())));
    let element = match mark(vector) {
        Mark::Green => return case.write_empty().map(|_| ()),
        Mark::Skipped => "skipped",
        Mark::Failure => "failure",
        Mark::Error => "error",
    };
    let kind = if vector.verdict == Kind::Pass { "unexpected pass" } else { vector.verdict.name() };
    case.write_inner_content(|xml| write_mark(xml, element, kind, &vector.outcome()))?;
    Ok(())
}

fn write_mark(xml: &mut Xml, element: &str, kind: &str, text: &str) -> io::Result<()> {
    let text = plain(text);
    let message = text.lines().next().unwrap_or_default();
    let element = xml.create_element(element).with_attributes([("type", kind), ("message", message)]);
    element.write_text_content(BytesText::new(&text))?;
    Ok(())
}

/// Without the characters that XML 1.0 has no way to write.
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
