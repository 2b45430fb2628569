//! The first element in which two decodings of a stream differ, with both values.

use std::fmt;
use std::sync::Arc;

use mlic::{Codec, CodecOptions};
use mlic_backend::Backend;

use crate::dump::{Shape, Values, values};
use crate::observe::exact_pixels;
use crate::record::Recorder;
use crate::verdict::Place;

/// The first element that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Tensor of the element.
    pub place: Place,
    /// Index in coding order: row, column (packed in a pass), channel.
    pub index: usize,
    /// Row, column and channel, in the full map.
    pub position: [usize; 3],
    /// Value in the first decoding.
    pub got: i32,
    /// Value in the second decoding, the reference.
    pub expected: i32,
    /// How many elements of the tensor differ, and how many there are.
    pub differing: (usize, usize),
}

/// One decoding of a stream, number by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Name of the backend, or path of the dump.
    pub name: String,
    /// The tensors that were determined, in walk order.
    pub values: Vec<Values>,
    /// The error that ended the decoding, if there was one and it is known.
    pub error: Option<String>,
}

/// Two decodings of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Names of the two decodings, of which the second is the reference.
    pub names: [String; 2],
    /// The first element that differs; none if the two decodings agree as far as both got.
    pub first: Option<Element>,
    /// Instead of `first`, if the first differing tensor has another number of elements in the second decoding: the tensor, and both numbers.
    pub lengths: Option<(Place, [usize; 2])>,
    /// Number of tensors that both decodings have.
    pub compared: usize,
    /// The error that ended the first decoding, if any.
    pub got_error: Option<String>,
    /// The error that ended the second decoding, if any.
    pub expected_error: Option<String>,
}

/// Decodes a stream on two backends and compares every number of the exact path.
#[must_use]
pub fn explain(stream: &[u8], backend: Arc<dyn Backend>, reference: Arc<dyn Backend>) -> Explanation {
    let shape = Shape::of(stream, backend.model()).ok();
    compare(&decode(stream, backend), &decode(stream, reference), shape)
}

/// Decodes a stream on a backend.
#[must_use]
pub fn decode(stream: &[u8], backend: Arc<dyn Backend>) -> Side {
    let recorder = Arc::new(Recorder::new(Arc::clone(&backend)));
    let codec = Codec::from_backend(Arc::clone(&recorder) as Arc<dyn Backend>, CodecOptions::default());
    let result = codec.and_then(|codec| codec.decode_latents(stream));
    let mut recording = recorder.recording();
    let pixels = result.and_then(|latents| exact_pixels(&latents, &backend));
    let error = pixels.as_ref().err().map(|error| mlic::error::chain(error));
    recording.pixels = pixels.ok().flatten();
    Side { name: recorder.name().to_owned(), values: values(&recording), error }
}

/// Compares the tensors that both decodings have. A stream without a shape decodes to nothing.
#[must_use]
pub fn compare(got: &Side, expected: &Side, shape: Option<Shape>) -> Explanation {
    let other = |values: &Values| expected.values.iter().find(|other| other.place == values.place);
    let pairs: Vec<(&Values, &Values)> = got.values.iter().filter_map(|values| Some((values, other(values)?))).collect();
    let parted = pairs.iter().find(|(got, expected)| got.values != expected.values);
    let lengths = parted.map(|(got, expected)| (got.place.clone(), [got.values.len(), expected.values.len()]));
    let lengths = lengths.filter(|(_, [got, expected])| got != expected);
    let first = parted.zip(shape).and_then(|((got, expected), shape)| differing(got, expected, &shape));
    Explanation {
        names: [got.name.clone(), expected.name.clone()],
        first: first.filter(|_| lengths.is_none()),
        lengths,
        compared: pairs.len(),
        got_error: got.error.clone(),
        expected_error: expected.error.clone(),
    }
}

fn differing(got: &Values, expected: &Values, shape: &Shape) -> Option<Element> {
    let pairs = got.values.iter().zip(&expected.values).enumerate();
    let mut all = pairs.filter(|(_, (got, expected))| got != expected);
    let (index, (got_value, expected_value)) = all.next()?;
    Some(Element {
        place: got.place.clone(),
        index,
        position: shape.position(&got.place, index),
        got: *got_value,
        expected: *expected_value,
        differing: (1 + all.count(), got.values.len()),
    })
}

impl Explanation {
    /// Whether the decodings agree in all that both determined, and ended alike.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        let ended_alike = self.got_error == self.expected_error;
        self.first.is_none() && self.lengths.is_none() && ended_alike && (self.compared > 0 || self.got_error.is_some())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [got, expected] = &self.names;
        match (&self.first, &self.lengths) {
            (None, Some((place, lengths))) => {
                writeln!(f, "first difference: {place}, {} elements of {got}, {} of {expected}", lengths[0], lengths[1])?;
            }
            (None, None) => {
                writeln!(f, "no number differs in the {} tensors that {got} and {expected} both have", self.compared)?
            }
            (Some(e), _) => {
                let [row, col, channel] = e.position;
                writeln!(f, "first difference: {}, row {row}, column {col}, channel {channel}", e.place)?;
                writeln!(f, "  {got} has {}, {expected} has {}", e.got, e.expected)?;
                writeln!(f, "  {} of {} elements of this tensor differ", e.differing.0, e.differing.1)?;
            }
        }
        for (who, error) in [(got, &self.got_error), (expected, &self.expected_error)] {
            if let Some(error) = error {
                writeln!(f, "{who} ended in: {error}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_that_is_shorter_differs() {
        let side = |name: &str, values: &[i32]| {
            let values = vec![Values { place: Place::Z, values: values.to_vec() }];
            Side { name: name.to_owned(), values, error: None }
        };
        let (whole, cut) = (side("a", &[1, 2, 3]), side("b", &[1, 2]));
        assert!(compare(&whole, &whole, None).is_equal());
        for (got, expected) in [(&whole, &cut), (&cut, &whole)] {
            let found = compare(got, expected, None);
            assert!(!found.is_equal() && found.first.is_none());
            assert_eq!(found.lengths, Some((Place::Z, [got.values[0].values.len(), expected.values[0].values.len()])));
        }
        let text = compare(&cut, &whole, None).to_string();
        assert_eq!(text, "first difference: z, symbols, 2 elements of b, 3 of a\n");
    }
}
