//! A report for people.

use std::fmt::Write;

use crate::report::document::{Document, SuiteDocument};
use crate::verdict::Kind;

/// Returns the whole report; its last line says whether the run passed.
#[must_use]
pub fn to_text(document: &Document) -> String {
    let mut out = String::new();
    let program = &document.program;
    let _ = writeln!(out, "{} {}, {}", program.name, program.version, document.platform());
    if let Some(command) = &document.command {
        let _ = writeln!(out, "external decoder: {command}");
    }
    let _ = writeln!(out, "backend {}, {}, level {}", document.backend, document.threads(), document.level);
    document.suites.iter().for_each(|suite| suite_text(suite, &mut out));
    let left_out = document.left_out().map_or_else(String::new, |left_out| format!("{left_out}\n\n"));
    let _ = writeln!(out, "\n{left_out}{}", document.conclusion());
    out
}

fn suite_text(suite: &SuiteDocument, out: &mut String) {
    let _ = writeln!(out, "\nsuite {}, model {} ({})", suite.suite, suite.model.id, suite.model.name);
    for (stage, device) in &suite.devices {
        let _ = writeln!(out, "  {stage}: {device}");
    }
    let width = suite.vectors.iter().map(|vector| vector.name.len()).max().unwrap_or(0);
    for vector in &suite.vectors {
        let _ = writeln!(out, "  {:width$}  {:7.3} s  {}", vector.name, vector.seconds, vector.outcome());
        if vector.verdict != Kind::Pass {
            let _ = writeln!(out, "  {:width$}             ({})", "", vector.why);
        }
    }
    let _ = writeln!(out, "  {}", suite.summary());
}
