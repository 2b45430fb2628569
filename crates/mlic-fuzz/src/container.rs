//! Container: what parses is what would be written, and damage is reported as what it is.

use mlic_core::container::{ContainerError, Header, MAX_HEADER_LEN, ModelId, Section, SectionKind, Stream, parse, write};

use crate::seal;
use crate::source::Source;

pub(crate) fn target(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), seal::stream(bytes)].into_iter().flatten() {
        if let Ok(stream) = parse(&bytes) {
            parsed(&bytes, &stream);
        }
    }
    written(&mut Source::new(bytes));
}

/// Checks a parsed stream.
fn parsed(bytes: &[u8], stream: &Stream<'_>) {
    assert!(stream.header_len <= MAX_HEADER_LEN);
    assert!(stream.payload.len() <= stream.payload_len);
    if stream.tail_damage().is_some() {
        rescued(stream);
    }
    match stream.damage {
        None => {
            assert_eq!(write(&stream.header, stream.payload, &stream.sections).unwrap(), bytes, "writing gives the same bytes");
            cut(bytes, stream);
        }
        Some(ContainerError::Truncated { have, need, .. }) => assert!(have == bytes.len() && need > have),
        Some(damage) => assert_eq!(stream.payload.len(), stream.payload_len, "{damage} is found in whole payloads only"),
    }
}

/// Checks that the undamaged parts of a stream with damage after its payload make a stream without damage.
fn rescued(stream: &Stream<'_>) {
    assert_eq!(stream.payload.len(), stream.payload_len);
    let whole = write(&stream.header, stream.payload, &stream.sections).unwrap();
    let again = parse(&whole).unwrap();
    assert_eq!((again.damage, again.payload, &again.sections), (None, stream.payload, &stream.sections));
}

/// Checks that every prefix of a whole stream is truncated and nothing else. A few prefixes stand for all.
fn cut(bytes: &[u8], stream: &Stream<'_>) {
    let (header, end) = (stream.header_len, stream.header_len + stream.payload_len);
    for len in [0, 1, header - 1, header, header.midpoint(end), end - 1, end, bytes.len() - 1] {
        let Some(prefix) = bytes.get(..len).filter(|prefix| prefix.len() < bytes.len()) else { continue };
        let truncated = |error| matches!(error, ContainerError::Truncated { .. });
        match parse(prefix) {
            Ok(part) => assert!(part.header == stream.header && part.damage.is_some_and(truncated)),
            Err(error) => assert!(len < header && truncated(error), "a prefix of {len} bytes: {error}"),
        }
    }
}

/// Checks that what is written parses to what was given.
fn written(source: &mut Source<'_>) {
    let header = Header {
        model_id: ModelId(std::array::from_fn(|_| source.byte())),
        width: source.u32() >> source.below(32),
        height: source.u32() >> source.below(32),
        quality: source.byte(),
        gray: source.below(2) == 1,
        lanes_log2: source.byte() % 8,
        symbol_checksum: source.u32(),
    };
    let (payload, rest) = source.rest().split_at(source.rest().len() / 2);
    let sections: Vec<Section<'_>> =
        rest.chunks(64).map(|bytes| Section { kind: SectionKind(bytes.len() as u8), bytes }).collect();
    let Ok(bytes) = write(&header, payload, &sections) else { return };
    let stream = parse(&bytes).unwrap();
    assert_eq!((stream.header, stream.payload, &stream.sections, stream.damage), (header, payload, &sections, None));
}
