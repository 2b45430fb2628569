//! Whole decode: any bytes are refused by a named error or give latents and pixels, in the time that their size allows.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mlic::{BackendChoice, Codec, CodecOptions, Error, Latents, Limits, Model};
use mlic_core::container::ContainerError;

use crate::{seal, seeds};

/// Pixels of the largest picture that is decoded here; the limit itself is a property of the decoder.
const MAX_PIXELS: u64 = 64 * 64;
/// Time that decoding may take here: a hundred times what it needs.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Memory that decoding may take here.
const MAX_MEMORY_BYTES: u64 = 256 << 20;

static TINY: LazyLock<Codec> =
    LazyLock::new(|| codec(Arc::new(Model::from_static(seeds::TINY_PACKAGE).unwrap()), BackendChoice::Integer));

/// A codec with the limits of this target.
pub(crate) fn codec(model: Arc<Model>, choice: BackendChoice) -> Codec {
    let limits = Limits::default().with_max_pixels(MAX_PIXELS).with_max_memory_bytes(MAX_MEMORY_BYTES).with_max_time(MAX_TIME);
    Codec::new(model, CodecOptions::default().with_backend(choice).with_threads(1).with_limits(limits)).unwrap()
}

pub(crate) fn target(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), seal::with_model(bytes, TINY.model().id())].into_iter().flatten() {
        run(&bytes, both);
    }
}

/// Decodes at once and in parts, and checks that both give the same.
fn both(bytes: &[u8]) -> Result<Latents, Error> {
    let latents = TINY.decode_latents(bytes);
    match (TINY.decode(bytes), &latents) {
        (Ok(decoded), Ok(latents)) => {
            let (picture, header) = (TINY.synthesize(latents)?, &latents.header);
            assert_eq!((picture.width, picture.height, picture.gray), (header.width, header.height, header.gray));
            assert!(picture.rgb == decoded.image.rgb && picture.gray == decoded.image.gray, "pictures differ");
            assert_eq!(decoded.truncation, latents.truncation);
        }
        (Err(whole), Err(part)) => assert_eq!(whole.to_string(), part.to_string()),
        (whole, part) => panic!("one decodes and the other refuses: {:?} {:?}", whole.err(), part.as_ref().err()),
    }
    latents
}

/// Decodes. If only the symbol checksum is wrong, decodes again with the right one, so that the seal is reached.
pub(crate) fn run(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<Latents, Error>) {
    let Err(error) = decode(bytes) else { return };
    assert!(!error.code().is_empty());
    assert!(!matches!(error, Error::Time { .. }), "the size of a picture bounds its time: {error}");
    if let Err(refused) = mlic_core::container::parse(bytes) {
        assert_eq!(error.code(), ContainerError::code(&refused), "a bad header is refused with the container's code");
    }
    if let Error::Desync { got, .. } = error {
        let fixed = seal::with_symbol_checksum(bytes, got).expect("the stream was decoded");
        match decode(&fixed) {
            Ok(_) | Err(Error::Payload { .. }) => {}
            Err(error) => panic!("a stream whose symbols decode fails elsewhere: {error}"),
        }
    }
}
