//! Streams and packages whose checksums are right, so that what is behind them is reached.

use mlic_model::Model;
use mlic_model::package::{self, SectionKind};

use crate::source::Source;
use crate::{decode, differential, seal, seeds};

pub(crate) fn target(bytes: &[u8]) {
    match bytes.split_first() {
        Some((kind, rest)) if kind % 2 == 0 => stream(rest),
        Some((_, rest)) => edited_package(rest),
        None => {}
    }
}

/// A stream, resealed, for the model of the conformance suites.
fn stream(bytes: &[u8]) {
    if let Some(bytes) = seal::with_model(bytes, decode::model_id()) {
        decode::target(&bytes);
    }
}

/// A sound package with a few edits, resealed.
fn edited_package(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut sections = seal::package_sections(&seeds::small_package());
    while !source.is_empty() {
        let section = source.below(SectionKind::ALL.len());
        edit(&mut source, &mut sections[section].1);
    }
    if let Ok(model) = Model::from_bytes(package::write(&sections)) {
        crate::package::accepted(&model);
        differential::compare(&model, &mut source);
    }
}

/// One change of a section.
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
