//! Two Kodak images against the recorded figures of the embedded model. Encoder and decoder are in integers, so that the figures are the same on every
//! machine and for any number of threads. Runs where `MLIC_KODAK` names the folder of images.

use std::path::PathBuf;
use std::process::Command;

use mlic_backend::contract::is_required;
use serde_json::Value;

const IMAGES: [&str; 2] = ["kodim05.png", "kodim23.png"];

/// In dB. The samples are the same, so that figures differ by another compiler's rounding at most.
const PSNR_TOLERANCE: f64 = 1e-9;

fn evaluate(folder: &str, threads: &str) -> Value {
    let images = IMAGES.map(|name| PathBuf::from(folder).join(name));
    let arguments = ["eval", "--json", "-q", "0,50,100", "-j", threads];
    let output = Command::new(env!("CARGO_BIN_EXE_mlic")).args(arguments).args(images).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// (bytes, PSNR) of every image and quality, in order.
fn points(report: &Value) -> Vec<(u64, f64)> {
    let images = report["images"].as_array().unwrap();
    let points = images.iter().flat_map(|image| image["points"].as_array().unwrap());
    points.map(|p| (p["bytes"].as_u64().unwrap(), p["psnr_rgb"].as_f64().unwrap())).collect()
}

#[test]
fn recorded_figures_hold() {
    let Ok(folder) = std::env::var("MLIC_KODAK") else {
        assert!(!is_required("kodak"), "the Kodak images are required, and MLIC_KODAK does not name their folder");
        eprintln!("not run: MLIC_KODAK does not name the folder of the Kodak images");
        return;
    };
    let recorded = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/edge/kodak-recorded.json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(recorded).unwrap()).unwrap();
    let expected = points(&recorded);
    assert_eq!(expected.len(), 3 * IMAGES.len());
    for threads in ["1", "2"] {
        let got = points(&evaluate(&folder, threads));
        assert_eq!(expected.len(), got.len());
        for ((bytes, psnr), (got_bytes, got_psnr)) in expected.iter().zip(&got) {
            assert_eq!(got_bytes, bytes, "{threads} threads: streams are the same on every machine");
            assert!((got_psnr - psnr).abs() < PSNR_TOLERANCE, "{threads} threads: {got_psnr} dB, recorded {psnr}");
        }
    }
}
