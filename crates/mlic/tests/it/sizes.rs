//! Every size from 1 x 1, gray and colour; truncation at every byte; every flipped bit.

use std::sync::OnceLock;

use mlic::{Codec, CodecOptions, ErrorKind, Place, Quality};

use crate::common::{picture, tiny};

fn codec() -> &'static Codec {
    static CODEC: OnceLock<Codec> = OnceLock::new();
    CODEC.get_or_init(|| Codec::new(tiny(), CodecOptions::default()).unwrap())
}

#[test]
fn every_shape_round_trips() {
    let codec = codec();
    for (width, height) in [(1, 1), (1, 64), (64, 1), (2, 65), (63, 64), (64, 64), (65, 3), (127, 129), (200, 1), (1, 300)] {
        for quality in [Quality::LOWEST, Quality::HIGHEST] {
            let encoded = codec.encode(&picture(width, height), quality).unwrap();
            let decoded = codec.decode(&encoded.stream).unwrap();
            assert_eq!((decoded.image.width, decoded.image.height), (width, height));
            assert!(decoded.truncation.is_none());
        }
    }
}

#[test]
fn overhead_is_at_most_32_bytes() {
    let encoded = codec().encode(&picture(100, 80), Quality::default()).unwrap();
    let header = encoded.report.bits.iter().find(|p| p.part == Place::Header).unwrap();
    assert!(header.bits <= 32.0 * 8.0, "{} bits", header.bits);
}

#[test]
fn every_truncation_gives_whole_slices_or_a_named_error() {
    let codec = codec();
    let stream = codec.encode(&picture(90, 70), Quality::new(75.0).unwrap()).unwrap().stream;
    let mut most = 0;
    for len in (0..stream.len()).step_by(1 + stream.len() / 400) {
        match codec.decode(&stream[..len]) {
            Ok(decoded) => {
                let truncation = decoded.truncation.unwrap();
                assert_eq!(truncation.need_bytes, stream.len() as u64);
                assert!(!truncation.is_payload_whole);
                assert!(truncation.whole_slices >= most && truncation.whole_slices <= truncation.slice_count);
                most = truncation.whole_slices;
            }
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Truncated | ErrorKind::NotAStream), "{len}: {error}"),
        }
    }
    assert!(most >= 1, "a stream that lacks little has a whole slice");
}

#[test]
fn every_flipped_bit_is_detected() {
    let codec = codec();
    let stream = codec.encode(&picture(20, 20), Quality::new(30.0).unwrap()).unwrap().stream;
    for bit in 0..8 * stream.len() {
        let mut damaged = stream.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(codec.decode_latents(&damaged).is_err(), "bit {bit} of {}", 8 * stream.len());
    }
}
