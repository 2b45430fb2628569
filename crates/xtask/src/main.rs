//! `cargo xtask arrows | exact | floats | cross | jetson | mutants`.

use std::process::ExitCode;

use xtask::{cross, jetson};

fn main() -> ExitCode {
    let findings = match std::env::args().nth(1).as_deref() {
        Some("arrows") => xtask::arrows::actual().and_then(|a| Ok(xtask::arrows::differences(&a, &xtask::arrows::declared()?))),
        Some("exact") => {
            println!("{}", xtask::floats::with_overflow_checks().map(|name| format!("-p {name}")).collect::<Vec<_>>().join(" "));
            Ok(Vec::new())
        }
        Some("floats") => xtask::floats::scan().map_err(|e| e.to_string()),
        Some("cross") => cross::Options::parse(std::env::args().skip(2)).and_then(|options| cross::cross(&options)),
        Some("jetson") => jetson::Options::parse(std::env::args().skip(2)).and_then(|options| jetson::jetson(&options)),
        Some("mutants") => xtask::mutants::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => Err(format!(
            "usage: cargo xtask arrows | exact | floats | mutants [NAME...] | cross | jetson\n{}\n{}",
            cross::USAGE,
            jetson::USAGE
        )),
    };
    match findings {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            findings.iter().for_each(|f| println!("{f}"));
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}
