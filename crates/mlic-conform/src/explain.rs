//! The first element in which a backend departs from the reference, with both values.

use std::fmt;
use std::sync::Arc;

use mlic::Codec;
use mlic_backend::Backend;
use mlic_core::schedule::Pass;

use crate::record::{PassRecord, Recorder, Recording};
use crate::verdict::Tensor;

/// A first differing element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its pass; none for z.
    pub pass: Option<Pass>,
    /// Its tensor.
    pub tensor: Tensor,
    /// Index in coding order: row, packed column, channel.
    pub index: usize,
    /// Row, column and channel, in the full map.
    pub position: [usize; 3],
    /// The backend's value.
    pub got: i32,
    /// The reference's value.
    pub expected: i32,
    /// Elements of the tensor that differ, and their number.
    pub differing: (usize, usize),
}

/// What both backends make of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The first difference; none if they decided the same as far as both came.
    pub first: Option<Element>,
    /// How the backend's decoding ended, if in an error.
    pub got_error: Option<String>,
    /// How the reference's decoding ended, if in an error.
    pub expected_error: Option<String>,
}

/// Decodes a stream on both backends and compares every number of the exact path.
#[must_use]
pub fn explain(stream: &[u8], backend: Arc<dyn Backend>, reference: Arc<dyn Backend>) -> Explanation {
    let config = backend.model().config();
    let (z_channels, channels) = (config.hyper, config.slice_channels());
    let width = mlic_core::container::parse(stream).map_or(1, |parsed| parsed.header.width as usize);
    let ((got, got_error), (expected, expected_error)) = (decode(stream, backend), decode(stream, reference));
    let shape = Shape { z_channels, channels, z_width: width.div_ceil(64) };
    Explanation { first: first(&got, &expected, shape), got_error, expected_error }
}

fn decode(stream: &[u8], backend: Arc<dyn Backend>) -> (Recording, Option<String>) {
    let recorder = Arc::new(Recorder::new(backend));
    let result = Codec::with_backend(Arc::clone(&recorder) as Arc<dyn Backend>).decode_latents(stream, &|_| ());
    (recorder.recording(), result.err().map(|error| crate::error::chain(&error)))
}

#[derive(Clone, Copy)]
struct Shape {
    z_channels: usize,
    channels: usize,
    z_width: usize,
}

fn first(got: &Recording, expected: &Recording, shape: Shape) -> Option<Element> {
    let z = got.z.as_deref().zip(expected.z.as_deref());
    let z = z.and_then(|(got, expected)| differing(None, Tensor::Symbols, got, expected, shape));
    z.or_else(|| got.passes.iter().zip(&expected.passes).find_map(|(got, expected)| in_pass(got, expected, shape)))
}

fn in_pass(got: &PassRecord, expected: &PassRecord, shape: Shape) -> Option<Element> {
    let pass = Some(got.pass);
    let wide = |indices: &[u8]| indices.iter().map(|i| i32::from(*i)).collect::<Vec<_>>();
    let (g, e) = (&got.parameters, &expected.parameters);
    differing(pass, Tensor::Means, &g.means, &e.means, shape)
        .or_else(|| differing(pass, Tensor::ScaleIndices, &wide(&g.scale_indices), &wide(&e.scale_indices), shape))
        .or_else(|| differing(pass, Tensor::Symbols, got.symbols.as_deref()?, expected.symbols.as_deref()?, shape))
}

fn differing(pass: Option<Pass>, tensor: Tensor, got: &[i32], expected: &[i32], shape: Shape) -> Option<Element> {
    let mut all = got.iter().zip(expected).enumerate().filter(|(_, (got, expected))| got != expected);
    let (index, (got_value, expected_value)) = all.next()?;
    let position = shape.position(pass, index);
    let differing = (1 + all.count(), got.len());
    Some(Element { pass, tensor, index, position, got: *got_value, expected: *expected_value, differing })
}

impl Shape {
    fn position(self, pass: Option<Pass>, index: usize) -> [usize; 3] {
        let (width, channels) = match pass {
            None => (self.z_width, self.z_channels),
            Some(_) => (2 * self.z_width, self.channels),
        };
        let (at, channel) = (index / channels.max(1), index % channels.max(1));
        let (row, col) = (at / width.max(1), at % width.max(1));
        [row, pass.map_or(col, |pass| 2 * col + pass.parity.first_col(row)), channel]
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.first {
            None => writeln!(f, "no number of the exact path differs from the reference")?,
            Some(e) => {
                let place = e.pass.map_or_else(|| "z".to_owned(), |pass| format!("pass {} ({pass})", pass.index()));
                let [row, col, channel] = e.position;
                writeln!(f, "first difference: {place}, {}, row {row}, column {col}, channel {channel}", e.tensor)?;
                writeln!(f, "  got {}, the reference has {}", e.got, e.expected)?;
                writeln!(f, "  {} of {} elements of this tensor differ", e.differing.0, e.differing.1)?;
            }
        }
        for (who, error) in [("the backend", &self.got_error), ("the reference", &self.expected_error)] {
            if let Some(error) = error {
                writeln!(f, "{who} ended in: {error}")?;
            }
        }
        Ok(())
    }
}
