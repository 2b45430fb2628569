//! A package that is damaged, cut, too long, newer or at odds with itself is refused, by a named error.

use mlic_model::graph::{Conv2d, Dtype, Graph, Node, NodeId, Op};
use mlic_model::model::verified_by_a_test;
use mlic_model::package::{MAX_CONFIG_LEN, MAX_METADATA_LEN, SectionKind, hex, normative_hash, parse, write};
use mlic_model::{Model, ModelError};

fn package() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/models/tiny.mlicpkg")).unwrap()
}

#[track_caller]
fn refused(bytes: Vec<u8>) -> ModelError {
    Model::from_bytes(bytes).expect_err("the package must be refused")
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Makes checksums and hash right again after a change of contents.
fn reseal(bytes: &mut [u8], original: &[u8]) {
    let parsed = parse(original).unwrap();
    let hash = normative_hash(parsed.sections().map(|(kind, range)| (kind, &bytes[range])));
    for (i, (_, range)) in parsed.sections().enumerate() {
        let sum = crc32fast::hash(&bytes[range]);
        put(bytes, 64 + 24 * i + 4, sum);
    }
    bytes[24..56].copy_from_slice(&hash);
    let directory = crc32fast::hash(&bytes[64..64 + 24 * parsed.sections().count()]);
    put(bytes, 56, directory);
    reseal_header(bytes);
}

fn reseal_header(bytes: &mut [u8]) {
    let header = crc32fast::hash(&bytes[..60]);
    put(bytes, 60, header);
}

/// The refusal of the package after a change of a section's contents, with everything around them made right again.
fn with(kind: SectionKind, change: impl FnOnce(&mut [u8])) -> ModelError {
    let original = package();
    let mut bytes = original.clone();
    let range = parse(&original).unwrap().range(kind);
    change(&mut bytes[range]);
    reseal(&mut bytes, &original);
    refused(bytes)
}

fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn the_package_is_sound() {
    assert_eq!(Model::from_bytes(package()).unwrap().name(), "tiny");
}

/// The hash of a package that a test has verified is not made again; yet no other package is taken for it, and no changed byte of any section escapes.
#[test]
fn damage_of_a_known_package_is_found() {
    let original = package();
    let hash = Model::from_bytes(original.clone()).unwrap().hash();
    let known = |bytes: &[u8]| verified_by_a_test(bytes.to_vec().leak(), &hash);
    assert_eq!(known(&original).unwrap().hash(), hash);
    let other = verified_by_a_test(original.clone().leak(), &[7; 32]);
    assert!(matches!(other, Err(ModelError::IdMismatch { declared, .. }) if declared == hex(&hash)));
    for (kind, range) in parse(&original).unwrap().sections().filter(|(_, range)| !range.is_empty()) {
        for at in [range.start, range.end - 1] {
            let mut bytes = original.clone();
            bytes[at] ^= 0x10;
            assert!(matches!(known(&bytes), Err(ModelError::Checksum { part, .. }) if part == kind.name()), "{}", kind.name());
        }
    }
}

#[test]
fn the_first_damage_in_the_file_is_named() {
    let mut bytes = package();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    // The place of the fourth section, and both checksums over it.
    put(&mut bytes, 64 + 3 * 24 + 8, 0);
    let directory = crc32fast::hash(&bytes[64..64 + 24 * parse(&package()).unwrap().sections().count()]);
    put(&mut bytes, 56, directory);
    reseal_header(&mut bytes);
    assert!(matches!(refused(bytes.clone()), ModelError::Section { kind: 4, .. }));
    let second = parse(&package()).unwrap().range(SectionKind::Parameters).start;
    bytes[second] ^= 1;
    assert!(matches!(refused(bytes), ModelError::Checksum { part: "parameters", .. }));
}

#[test]
fn another_file_is_not_a_package() {
    assert!(matches!(refused(b"\x89PNG\r\n\x1a\n and so on".to_vec()), ModelError::NotAPackage { .. }));
    assert!(matches!(refused(Vec::new()), ModelError::NotAPackage { .. }));
}

#[test]
fn a_newer_package_names_both_versions() {
    let mut bytes = package();
    put(&mut bytes, 8, 2);
    reseal_header(&mut bytes);
    assert!(matches!(refused(bytes), ModelError::UnsupportedVersion { got: 2, supported: 1 }));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = package();
    for len in (0..bytes.len()).step_by(997).chain([63, 64, bytes.len() - 1]) {
        let error = refused(bytes[..len].to_vec());
        assert!(matches!(error, ModelError::Truncated { .. } | ModelError::NotAPackage { .. }), "{len}: {error}");
    }
}

#[test]
fn a_longer_file_is_refused() {
    let mut bytes = package();
    bytes.push(0);
    assert!(matches!(refused(bytes), ModelError::Oversized { .. }));
}

#[test]
fn a_flipped_bit_is_refused_wherever_it_is() {
    let bytes = package();
    for at in (0..bytes.len()).step_by(331).chain(0..260) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        refused(damaged);
    }
}

#[test]
fn contents_that_are_not_those_of_the_id_are_refused() {
    let original = package();
    let mut bytes = original.clone();
    let range = parse(&original).unwrap().range(SectionKind::Weights);
    bytes[range.start] ^= 1;
    let hash = original[24..56].to_vec();
    reseal(&mut bytes, &original);
    bytes[24..56].copy_from_slice(&hash);
    reseal_header(&mut bytes);
    assert!(matches!(refused(bytes), ModelError::IdMismatch { .. }));
}

#[test]
fn a_configuration_at_odds_with_the_rest_is_refused() {
    let error = with(SectionKind::Config, |c| replace(c, "\"latent\":64", "\"latent\":62"));
    assert!(matches!(error, ModelError::Config { .. } | ModelError::Truncated { .. }), "{error}");
    let error = with(SectionKind::Config, |c| replace(c, "\"hyper\":16", "\"hyper\":17"));
    assert!(matches!(error, ModelError::Truncated { .. }), "{error}");
    let error = with(SectionKind::Config, |c| replace(c, "\"hyper\":16", "\"hypes\":16"));
    assert!(matches!(error, ModelError::Json { .. }), "{error}");
    let error = with(SectionKind::Config, |c| replace(c, "\"window\":5", "\"window\":4"));
    assert!(matches!(error, ModelError::Config { field: "window", .. }), "{error}");
}

#[test]
fn parameters_out_of_range_are_refused() {
    let error = with(SectionKind::Parameters, |p| p[..4].copy_from_slice(&40_000_i32.to_le_bytes()));
    assert!(matches!(error, ModelError::Parameter { what: "layer", index: 0, .. }), "{error}");
    // The first layer's first multiplier follows its largest activation, shift and GELU requantization.
    let error = with(SectionKind::Parameters, |p| p[4 + 1 + 5..][..4].copy_from_slice(&(-1_i32).to_le_bytes()));
    assert!(matches!(error, ModelError::Parameter { what: "requantization", .. }), "{error}");
    let error = with(SectionKind::Parameters, |p| p[4] = 63);
    assert!(matches!(error, ModelError::Parameter { what: "requantization", index: 0, .. }), "{error}");
    let error = with(SectionKind::Weights, |w| w[7] = 0x80);
    assert!(matches!(error, ModelError::Parameter { what: "weight", index: 7, .. }), "{error}");
}

#[test]
fn the_smallest_integer_is_out_of_range() {
    // The section ends with the medians of the 16 channels of z, before them its tables.
    let error = with(SectionKind::Parameters, |p| p.last_chunk_mut::<4>().unwrap().copy_from_slice(&i32::MIN.to_le_bytes()));
    assert!(matches!(error, ModelError::Parameter { what: "median", index: 15, .. }), "{error}");
    let gains = Model::from_bytes(package()).unwrap().parameters().gains.inverse_gain.clone();
    let gains: Vec<u8> = gains.iter().flat_map(|gain| gain.to_le_bytes()).collect();
    let error = with(SectionKind::Parameters, |p| {
        let at = p.windows(gains.len()).position(|w| w == gains).unwrap() + 4 * 3;
        p[at..at + 4].copy_from_slice(&i32::MIN.to_le_bytes());
    });
    assert!(matches!(error, ModelError::Parameter { what: "inverse gain", index: 3, .. }), "{error}");
}

#[test]
fn a_sum_that_could_overflow_is_refused() {
    // The largest multiplier for every output of the first layer: with its accumulators that exceeds 63 bits, or the bias does.
    let error = with(SectionKind::Parameters, |p| {
        let bias = 4 + 1 + 5 + 4 * 12;
        p[bias..bias + 8].copy_from_slice(&i64::MAX.to_le_bytes());
    });
    assert!(matches!(error, ModelError::Overflow { operation: "64-bit weighted sum", .. }), "{error}");
}

/// The package with another section, sealed.
fn with_section(kind: SectionKind, contents: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let original = package();
    let parsed = parse(&original).unwrap();
    let mut sections: Vec<_> = parsed.sections().map(|(kind, range)| (kind, original[range].to_vec())).collect();
    let section = &mut sections[kind as usize - 1].1;
    *section = contents(std::mem::take(section));
    write(&sections)
}

#[test]
fn an_empty_synthesis_needs_the_integer_one() {
    let whole = Model::from_bytes(package()).unwrap();
    let model = Model::from_bytes(with_section(SectionKind::Synthesis, |_| Vec::new())).unwrap();
    assert!(whole.has_float_synthesis() && !model.has_float_synthesis());
    assert_eq!(model.exact_synthesis(), whole.exact_synthesis());
    assert_ne!(model.id(), whole.id(), "the id covers the section, empty or not");
    let graph = model.transform(SectionKind::Synthesis).unwrap();
    assert_eq!((graph.input_channels() as usize, graph.output_channels()), (model.config().latent, 3));

    let original = package();
    let parsed = parse(&original).unwrap();
    let section = |(kind, range): (SectionKind, std::ops::Range<usize>)| match kind {
        SectionKind::Synthesis => (kind, Vec::new()),
        _ => (kind, original[range].to_vec()),
    };
    let mut sections: Vec<_> = parsed.sections().map(section).collect();
    assert_eq!(sections.pop().unwrap().0, SectionKind::ExactSynthesis);
    let error = refused(write(&sections));
    assert!(matches!(error, ModelError::Section { kind: 4, .. }), "{error}");
}

#[test]
fn other_sections_are_not_empty() {
    for kind in SectionKind::ALL.into_iter().filter(|kind| *kind != SectionKind::Synthesis) {
        refused(with_section(kind, |_| Vec::new()));
    }
}

/// White space takes no room when it is parsed, a list of lists takes many times its text: only the length of the text is looked at.
#[test]
fn json_beyond_its_limit_is_refused_unparsed() {
    let padded = |len: u64| move |json: Vec<u8>| [json, vec![b' '; len as usize]].concat();
    for (kind, limit) in [(SectionKind::Config, MAX_CONFIG_LEN), (SectionKind::Metadata, MAX_METADATA_LEN)] {
        let error = refused(with_section(kind, padded(limit)));
        assert!(matches!(error, ModelError::Oversized { need, .. } if need == limit), "{error}");
        Model::from_bytes(with_section(kind, padded(limit / 2))).unwrap();
    }
}

#[test]
fn a_transform_of_another_scale_is_refused() {
    let model = Model::from_bytes(package()).unwrap();
    for kind in [SectionKind::Analysis, SectionKind::HyperAnalysis, SectionKind::Synthesis] {
        let graph = model.transform(kind).unwrap();
        let output = graph.output();
        let mut nodes = graph.into_nodes();
        // Twice the size at the end.
        let channels = Graph::new(nodes.clone(), output).unwrap().output_channels();
        let weight = vec![0.0; (channels * channels * 4) as usize];
        let bias = vec![0.0; 4 * channels as usize];
        let conv = Conv2d { input: channels, output: 4 * channels, kernel: 1, stride: 1, groups: 1, weight, bias };
        nodes.push(Node { op: Op::Conv2d(conv), inputs: vec![output] });
        let last = NodeId(nodes.len() as u32);
        nodes.push(Node { op: Op::PixelShuffle { factor: 2 }, inputs: vec![NodeId(last.0 - 1)] });
        let bytes = Graph::new(nodes, last).unwrap().write(Dtype::F16);
        let error = refused(with_section(kind, |_| bytes));
        assert!(matches!(error, ModelError::Config { field: "transform", .. }), "{error}");
    }
}
