//! Streams and packages whose checksums are right, so that the code behind the checksums is reached.

use std::sync::{Arc, LazyLock};

use mlic::{BackendChoice, Codec, Error, Latents, Model};
use mlic_model::{ModelError, package};

use crate::source::Source;
use crate::{decode, differential, seal, seeds};

pub(crate) fn target(bytes: &[u8]) {
    match bytes.split_first() {
        Some((kind, rest)) if kind % 2 == 0 => stream(rest),
        Some((_, rest)) => edited_package(rest),
        None => {}
    }
}

/// Codecs for the small package, on the fast kernels and on the definition.
static SMALL: LazyLock<[Codec; 2]> = LazyLock::new(|| {
    let model = Arc::new(Model::from_bytes(seeds::small_package()).unwrap());
    [BackendChoice::Integer, BackendChoice::Reference].map(|choice| decode::codec(Arc::clone(&model), choice))
});

/// Decodes a stream that is resealed for the small package.
fn stream(bytes: &[u8]) {
    if let Some(bytes) = seal::with_model(bytes, SMALL[0].model().id()) {
        decode::run(&bytes, both);
    }
}

/// Decodes a stream with both kinds of kernels, and checks that they give the same.
fn both(bytes: &[u8]) -> Result<Latents, Error> {
    let [fast, reference] = SMALL.each_ref().map(|codec| codec.decode_latents(bytes));
    match (&fast, &reference) {
        (Ok(fast), Ok(reference)) => {
            assert!(fast.y_hat == reference.y_hat && fast.z_symbols == reference.z_symbols, "latents differ");
            assert_eq!(fast.truncation, reference.truncation);
        }
        (Err(fast), Err(reference)) => assert_eq!(fast.to_string(), reference.to_string()),
        _ => panic!("one decodes and the other refuses: {:?} {:?}", fast.err(), reference.err()),
    }
    fast
}

/// Edits a sound package in a few places, reseals it, and checks what must hold if it is accepted.
fn edited_package(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    if let Ok(model) = edited(&mut source) {
        crate::package::accepted(&model);
        differential::compare(&model, &mut source);
    }
}

fn edited(source: &mut Source<'_>) -> Result<Model, ModelError> {
    let mut sections = seal::package_sections(&seeds::small_package());
    while !source.is_empty() {
        let section = source.below(sections.len());
        edit(source, &mut sections[section].1);
    }
    Model::from_bytes(package::write(&sections))
}

/// Makes one change to a section.
fn edit(source: &mut Source<'_>, section: &mut Vec<u8>) {
    let at = source.u32() as usize % (section.len() + 1);
    match source.below(4) {
        0 => section.truncate(at),
        1 => {
            section.splice(at..at, [source.byte(); 1]);
        }
        2 => {
            section.drain(at..section.len().min(at + 1));
        }
        _ => {
            let width = source.one_of(&[1, 2, 4, 8]);
            for place in section.iter_mut().skip(at).take(width) {
                *place = source.byte();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_edits_are_accepted_and_some_are_refused() {
        let seeds = seeds::seeds("structured", &[]);
        let edits = seeds.iter().filter(|(name, _)| name.starts_with("edits-"));
        let accepted = edits.clone().filter(|(_, bytes)| edited(&mut Source::new(&bytes[1..])).is_ok()).count();
        println!("{accepted} of {} accepted", edits.clone().count());
        assert!((5..edits.count()).contains(&accepted), "{accepted}");
    }
}
