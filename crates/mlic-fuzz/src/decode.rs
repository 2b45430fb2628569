//! Whole decode: any bytes are refused by a named error or give latents, the same from the fast kernels as from the definition.

use std::sync::{Arc, LazyLock};

use mlic::{BackendChoice, Codec, DecodeLimits, Error, Latents, Model};
use mlic_core::container::{ContainerError, ModelId};

use crate::{seal, seeds};

/// Pixels of the largest picture that is decoded here; the limit itself is a property of the decoder.
const MAX_PIXELS: u64 = 1 << 15;
/// Memory that decoding may take here.
const MAX_MEMORY_BYTES: u64 = 256 << 20;

static CODECS: LazyLock<[Codec; 2]> = LazyLock::new(|| {
    let model = Arc::new(Model::from_static(seeds::TINY_PACKAGE).unwrap());
    [BackendChoice::Integer, BackendChoice::Reference].map(|choice| {
        let mut limits = DecodeLimits::default();
        limits.max_pixels = MAX_PIXELS;
        limits.max_memory_bytes = MAX_MEMORY_BYTES;
        Codec::with_backend(mlic::backend(Arc::clone(&model), choice, 1).unwrap()).decode_limits(limits)
    })
});

/// The model that decodes.
pub(crate) fn model_id() -> ModelId {
    CODECS[0].model().id()
}

pub(crate) fn target(bytes: &[u8]) {
    let result = decode(bytes);
    if let Err(Error::Desync { got, .. }) = &result {
        // Only the checksum of the symbols is wrong: with the right one the decoder goes on to the seal.
        let fixed = seal::with_symbol_checksum(bytes, *got).expect("the stream was decoded");
        match decode(&fixed) {
            Ok(_) | Err(Error::Payload { .. }) => {}
            Err(error) => panic!("a stream whose symbols decode fails elsewhere: {error}"),
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Latents, Error> {
    let [fast, reference] = CODECS.each_ref().map(|codec| codec.decode_latents(bytes, &|_| ()));
    match (&fast, &reference) {
        (Ok(fast), Ok(reference)) => {
            assert!(fast.y_hat == reference.y_hat && fast.z_symbols == reference.z_symbols, "latents differ");
            assert_eq!(fast.truncation, reference.truncation);
        }
        (Err(fast), Err(reference)) => {
            assert_eq!(fast.to_string(), reference.to_string());
            assert!(!fast.code().is_empty());
            agrees_with_the_container(bytes, fast);
        }
        _ => panic!("one decodes and the other refuses: {:?} {:?}", fast.err(), reference.err()),
    }
    fast
}

/// A header that does not parse is refused with the container's own code.
fn agrees_with_the_container(bytes: &[u8], error: &Error) {
    if let Err(refused) = mlic_core::container::parse(bytes) {
        assert_eq!(error.code(), ContainerError::code(&refused));
    }
}
