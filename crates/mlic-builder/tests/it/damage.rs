//! Exports whose files are damaged: an error or another model, never a panic.

use std::fs;

use mlic_backend::contract::Random;
use mlic_builder::build::RealGains;
use mlic_builder::float::FloatModel;
use mlic_builder::{BuildError, Export, bottleneck};

use crate::common::tiny;

/// How often each file is damaged.
const TIMES: usize = 100;

/// Reads an export as a build does.
fn read(folder: &std::path::Path) -> Result<(), BuildError> {
    let export = Export::open(folder)?;
    FloatModel::load(&export)?;
    RealGains::load(&export)?;
    bottleneck::z_tables(&export).map(drop)
}

/// Where a file has names rather than numbers: most of what is around is printable. Damage among the weights alone only makes another model.
fn among_names(bytes: &[u8]) -> Vec<usize> {
    let is_printable = |at: &usize| {
        let around = &bytes[at.saturating_sub(16)..(at + 16).min(bytes.len())];
        2 * around.iter().filter(|byte| byte.is_ascii_graphic()).count() > around.len()
    };
    (0..bytes.len()).filter(is_printable).collect()
}

/// Changes up to four bytes, or removes or doubles a few.
fn damage(bytes: &mut Vec<u8>, places: &[usize], random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = places[random.below(places.len() as u32) as usize].min(bytes.len() - 1);
        let end = (at + 1 + random.below(12) as usize).min(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            _ => bytes[at..end].fill(0xff),
        }
    }
}

#[test]
fn damaged_exports_are_errors_or_other_models() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["config.json", "entropy.safetensors", "g_a.onnx", "h_a.onnx", "g_s.onnx"];
    let copy = |name: &str| assert!(fs::copy(tiny().join(name), folder.path().join(name)).is_ok());
    names.into_iter().for_each(copy);
    read(folder.path()).unwrap();
    for name in names {
        let (sound, mut random) = (fs::read(tiny().join(name)).unwrap(), Random(7));
        let places = among_names(&sound);
        let mut refused = 0;
        for _ in 0..TIMES {
            let mut bytes = sound.clone();
            damage(&mut bytes, &places, &mut random);
            fs::write(folder.path().join(name), bytes).unwrap();
            refused += usize::from(read(folder.path()).is_err());
        }
        // Nearly every byte of a text and of names matters; some changes leave a model of other numbers.
        assert!(refused > TIMES / 2, "{name}: {refused} of {TIMES} refused");
        copy(name);
    }
    read(folder.path()).unwrap();
}
