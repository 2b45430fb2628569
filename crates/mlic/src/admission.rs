//! Checks of a stream before anything is decoded: whether it is sound, for this model, and within the limits.

use mlic_core::container::{self, ContainerError, Stream};
use mlic_core::memory::{self, OutOfMemory};
use mlic_core::rans::RansError;
use mlic_core::schedule::LatentSize;

use crate::codec::{Codec, Truncation};
use crate::error::{Error, Place};
use crate::metadata::{Metadata, MetadataKind, MetadataPolicy};
use crate::watched::Goal;

/// A stream that may be decoded.
pub(crate) struct Admitted<'s> {
    pub(crate) parsed: Stream<'s>,
    pub(crate) size: LatentSize,
    /// Whether the payload is incomplete. A file that is cut within its sections still has the whole payload, so every symbol must be there.
    pub(crate) is_cut: bool,
    /// Bytes present and bytes of the whole stream, if it was cut; after the payload this counts only for [`MetadataPolicy::Keep`].
    truncated: Option<[u64; 2]>,
}

impl<'s> Admitted<'s> {
    /// Reads the container and checks it against the model and the limits of a codec, in the order of SPEC 6.1 and 5.1.
    ///
    /// # Errors
    /// [`Error::Container`], [`Error::Tail`], [`Error::WrongModel`], [`Error::Quality`], and those of the limits.
    pub(crate) fn new(codec: &Codec, stream: &'s [u8], goal: Goal) -> Result<Self, Error> {
        let parsed = container::parse(stream)?;
        let header = &parsed.header;
        codec.check_model(header.model_id)?;
        codec.check_quality(header.quality)?;
        let truncated = match (parsed.damage, parsed.tail_damage()) {
            (None, _) => None,
            (_, Some(_)) if codec.options().metadata != MetadataPolicy::Keep => None,
            (Some(ContainerError::Truncated { have, need, .. }), _) => Some([have as u64, need as u64]),
            (_, Some(source)) => return Err(Error::Tail { source }),
            (Some(damage), None) => return Err(damage.into()),
        };
        let size = codec.check_size(header.width, header.height, goal)?;
        let is_cut = parsed.payload.len() < parsed.payload_len;
        Ok(Self { parsed, size, is_cut, truncated })
    }

    /// The error for a failure of the entropy coder before the first pass: without all of z there is no picture.
    pub(crate) fn refused_in_z(&self, source: RansError) -> Error {
        match source {
            RansError::Exhausted { .. } if self.is_cut => {
                Error::NoPicture { have: self.parsed.payload.len() as u64, need: self.parsed.payload_len as u64 }
            }
            other => Error::payload(Place::Z, other),
        }
    }

    /// How far the stream goes, if it was cut.
    pub(crate) fn truncation(&self, whole_slices: usize, slice_count: usize) -> Option<Truncation> {
        let is_payload_whole = !self.is_cut;
        self.truncated.map(|[have_bytes, need_bytes]| Truncation {
            whole_slices,
            slice_count,
            is_payload_whole,
            have_bytes,
            need_bytes,
        })
    }
}

/// The metadata in a stream's sections that a policy keeps, and a note if damaged metadata was left out.
///
/// # Errors
/// [`OutOfMemory`].
pub(crate) fn metadata_of(parsed: &Stream<'_>, policy: MetadataPolicy) -> Result<(Metadata, Option<String>), OutOfMemory> {
    let mut metadata = Metadata::default();
    if policy == MetadataPolicy::Strip {
        return Ok((metadata, None));
    }
    for section in &parsed.sections {
        if let Some(kind) = MetadataKind::ALL.iter().find(|kind| kind.section() == section.kind) {
            metadata.set(*kind, Some(memory::copy(section.bytes)?));
        }
    }
    Ok((metadata, parsed.tail_damage().map(|damage| format!("damaged metadata left out: {damage}"))))
}
