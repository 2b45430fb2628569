//! What an encoder does with one picture: latents, their walk over the passes, and rounds of refinement (SPEC 5.8, 5.9).

use mlic_backend::integer::with_gain;
use mlic_backend::{EntropySession, FloatTransform, PassParameters, Planes, Stage, walk};
use mlic_core::container::{self, Header, Section, SymbolChecksum};
use mlic_core::fixed::{LATENT_FRAC_BITS, LATENT_MAX};
use mlic_core::rans::{Encoder, Payload};
use mlic_core::schedule::{LatentSize, Pass, passes};
use mlic_kernels::{Map, Picture};
use mlic_model::Model;
use mlic_model::model::Gain;
use mlic_model::real::Q16_STEP;

use crate::codec::{Codec, Encoded, PartBits, ProgressEvent, Report};
use crate::error::{Error, Place};
use crate::image::Image;
use crate::metrics::squared_error;
use crate::pixels;
use crate::sinks::{Coded, EncodeSink};
use crate::watched::Stopwatch;

/// Encodes a picture whose size and memory have been checked.
pub(crate) fn encode(
    codec: &Codec,
    image: &Image,
    quality: u8,
    size: LatentSize,
    watch: Stopwatch<'_>,
) -> Result<Encoded, Error> {
    let mut encoding = Encoding { codec, image, quality, size, watch, walks: 0 };
    let analyzed = encoding.analyze(image)?;
    let latents = encoding.latents(&analyzed)?;
    drop(analyzed);
    encoding.stream(latents)
}

/// Encodes a checked picture at the highest quality whose stream has at most `limit_bytes` bytes, by a binary search: streams grow with quality. The
/// picture is analysed once.
pub(crate) fn encode_within(
    codec: &Codec,
    image: &Image,
    limit_bytes: u64,
    size: LatentSize,
    watch: Stopwatch<'_>,
) -> Result<Encoded, Error> {
    let mut encoding = Encoding { codec, image, quality: 0, size, watch, walks: 0 };
    let analyzed = encoding.analyze(image)?;
    // Qualities below `low` fit; those from `high` on do not.
    let (mut low, mut high, mut found) = (0, 1 + u16::from(codec.model().quality_steps()), Err(0));
    while low < high {
        let middle = low.midpoint(high);
        (encoding.quality, encoding.walks) = (middle as u8, 0);
        let latents = encoding.latents(&analyzed)?;
        let encoded = encoding.stream(latents)?;
        let len_bytes = encoded.stream.len() as u64;
        if len_bytes <= limit_bytes {
            (low, found) = (middle + 1, Ok(encoded));
        } else {
            (high, found) = (middle, found.map_err(|_| len_bytes));
        }
    }
    found.map_err(|least_bytes| Error::StreamSize { least_bytes, limit_bytes })
}

/// A picture that is being encoded.
struct Encoding<'a> {
    codec: &'a Codec,
    image: &'a Image,
    /// Index into the steps of the model.
    quality: u8,
    size: LatentSize,
    watch: Stopwatch<'a>,
    /// Number of walks over the passes so far.
    walks: usize,
}

/// y or z, in integers or in float as the package has its analysis.
enum Analyzed {
    /// In latent fixed point (SPEC 5.8).
    Exact(Map<i32>),
    Float(Planes),
}

impl Analyzed {
    /// Multiplies by a gain.
    fn with_gain(&self, model: &Model, which: Gain, quality: u8) -> Result<Self, Error> {
        Ok(match self {
            Self::Exact(map) => Self::Exact(with_gain(model, which, map, quality)?),
            Self::Float(planes) => Self::Float(pixels::with_gain(planes, &model.gain(which, quality))?),
        })
    }

    /// Converts to latent fixed point.
    fn into_latent(self) -> Result<Map<i32>, Error> {
        match self {
            Self::Exact(map) => Ok(map),
            Self::Float(planes) => Ok(pixels::to_latent(&planes)?),
        }
    }
}

/// The latents of a picture at one quality.
struct Latents {
    /// y after its gain, in latent fixed point.
    y: Map<i32>,
    z_symbols: Vec<i32>,
}

/// Result of a walk over the passes: a stream without its container.
struct Candidate {
    bits: Vec<PartBits>,
    symbol_checksum: u32,
    payload: Payload,
}

impl<'a> Encoding<'a> {
    /// Computes y of a picture of this size before its gain, which is the same at every quality. In integers where the package has them, else in float.
    fn analyze(&mut self, image: &Image) -> Result<Analyzed, Error> {
        let (codec, [width, height]) = (self.codec, [image.width, image.height].map(|side| side as usize));
        if codec.model().has_exact_analysis() {
            let picture = Picture::new(height, width, &image.rgb).ok_or_else(|| pixels::sample_count(image))?;
            let y = self.watch.time(Stage::ExactAnalysis, || codec.backend().exact_analysis(&picture))?;
            return Ok(Analyzed::Exact(y));
        }
        let x = pixels::to_planes(&image.rgb, width, height, &self.size)?;
        let y = self.watch.transform(FloatTransform::Analysis, &x)?;
        pixels::check_planes(&y, Stage::Analysis, self.size.y, codec.model().config().latent)?;
        Ok(Analyzed::Float(y))
    }

    /// y after its gain, and the symbols of z.
    fn latents(&mut self, analyzed: &Analyzed) -> Result<Latents, Error> {
        let (codec, quality) = (self.codec, self.quality);
        let (backend, model) = (codec.backend(), codec.model());
        let y = analyzed.with_gain(model, Gain::Y, quality)?;
        let z = match &y {
            Analyzed::Exact(y) => {
                Analyzed::Exact(self.watch.time(Stage::ExactHyperAnalysis, || backend.exact_hyper_analysis(y))?)
            }
            Analyzed::Float(y) => {
                let z = self.watch.transform(FloatTransform::HyperAnalysis, y)?;
                pixels::check_planes(&z, Stage::HyperAnalysis, self.size.z, model.config().hyper)?;
                Analyzed::Float(z)
            }
        };
        let z = z.with_gain(model, Gain::Z, quality)?.into_latent()?;
        Ok(Latents { y: y.into_latent()?, z_symbols: model.z_symbols(&z.data)? })
    }

    /// Codes latents to a stream, with the codec's rounds of refinement.
    fn stream(&mut self, Latents { y, mut z_symbols }: Latents) -> Result<Encoded, Error> {
        let candidate = match self.codec.options().effort {
            0 => self.candidate(&y, &mut z_symbols, None)?.0,
            _ => self.refined(&y, &mut z_symbols)?,
        };
        self.finish(candidate)
    }

    /// Takes y through the passes; the returned session then has `y_hat`. `rounded` receives y as it was coded: symbol plus mean.
    fn candidate(
        &mut self,
        y: &Map<i32>,
        z_symbols: &mut [i32],
        mut rounded: Option<&mut Map<i32>>,
    ) -> Result<(Candidate, Box<dyn EntropySession + 'a>), Error> {
        self.watch.check(Stage::HyperSynthesis)?;
        let (codec, told) = (self.codec, self.watch.watch);
        let (backend, model) = (codec.backend(), codec.model());
        let slices = model.config().slices;
        let (first, count) = (2 * slices * self.walks, 2 * slices * (1 + usize::from(codec.options().effort)));
        let mut observe = |pass: Pass, parameters: &PassParameters, symbols: &[i32]| {
            if let Some(rounded) = &mut rounded {
                let coded = symbols.iter().zip(&parameters.means);
                let coded = coded.map(|(symbol, mean)| (symbol << LATENT_FRAC_BITS) + mean);
                rounded.fill_pass(pass, model.config().slice_channels(), coded);
            }
            told.tell(ProgressEvent::Pass { index: first + pass.index(), count })
        };
        let mut sink = EncodeSink {
            model,
            y,
            half: Vec::new(),
            dead_zone: codec.dead_zone()?,
            encoder: Encoder::new(),
            costs_q16: Vec::with_capacity(1 + 2 * slices),
            checksum: SymbolChecksum::new(),
            coded: Coded::of(model),
            watch: told,
            observer: &mut observe,
        };
        sink.z(z_symbols)?;
        let mut session = self.watch.time(Stage::HyperSynthesis, || backend.entropy(self.size, self.quality, z_symbols))?;
        self.watch.time(Stage::Passes, || walk(session.as_mut(), slices, &mut sink))?;
        let EncodeSink { encoder, costs_q16, checksum, .. } = sink;
        let payload = self.watch.time(Stage::Rans, || encoder.finish().map_err(|e| Error::payload(Place::Z, e)))?;
        let parts = std::iter::once(Place::Z).chain(passes(slices).map(Place::Pass));
        let bits = |q16: &u64| *q16 as f64 * Q16_STEP;
        let bits = parts.zip(&costs_q16).map(|(part, q16)| PartBits { part, bits: bits(q16) }).collect();
        self.walks += 1;
        Ok((Candidate { bits, symbol_checksum: checksum.finish(), payload }, session))
    }

    /// The best candidate: the first, or that of a round of refinement (SPEC 5.9).
    fn refined(&mut self, own: &Map<i32>, z_symbols: &mut [i32]) -> Result<Candidate, Error> {
        let mut y = own.copy()?;
        let mut rounded = Map::zeros(y.height, y.width, y.channels)?;
        let (mut best, mut least, mut decoded) = self.scored(&y, z_symbols, &mut rounded)?;
        for round in 0..self.codec.options().effort {
            self.watch.check(Stage::Analysis)?;
            let seen = self.analyze(&decoded)?.with_gain(self.codec.model(), Gain::Y, self.quality)?.into_latent()?;
            refine(&mut y, &rounded, own, &seen, round);
            let (candidate, score, picture) = self.scored(&y, z_symbols, &mut rounded)?;
            if score < least {
                (best, least) = (candidate, score);
            }
            decoded = picture;
        }
        Ok(best)
    }

    /// A candidate, its score and its picture. The picture is exact where the package has an integer synthesis, whatever pixels the options ask for.
    fn scored(&mut self, y: &Map<i32>, z_symbols: &mut [i32], rounded: &mut Map<i32>) -> Result<(Candidate, f64, Image), Error> {
        let (candidate, session) = self.candidate(y, z_symbols, Some(rounded))?;
        let y_hat = session.y_hat()?;
        drop(session);
        self.watch.check(Place::Picture)?;
        let (header, is_exact) = (self.header(&candidate), self.codec.has_exact_pictures());
        let decoded = self.codec.picture_of(&header, &y_hat, is_exact, &mut self.watch)?;
        let score = score(squared_error(self.image, &decoded), candidate.payload.bytes.len());
        Ok((candidate, score, decoded))
    }

    fn header(&self, candidate: &Candidate) -> Header {
        Header {
            model_id: self.codec.model().id(),
            width: self.image.width,
            height: self.image.height,
            quality: self.quality,
            gray: self.image.gray,
            lanes_log2: candidate.payload.lanes_log2,
            symbol_checksum: candidate.symbol_checksum,
        }
    }

    fn finish(&self, candidate: Candidate) -> Result<Encoded, Error> {
        let header = self.header(&candidate);
        let Candidate { bits: coded, payload, .. } = candidate;
        let sections: Vec<Section<'_>> =
            self.image.metadata.parts().map(|(kind, bytes)| Section { kind: kind.section(), bytes }).collect();
        let stream = container::write(&header, &payload.bytes, &sections)?;
        let header_len = container::header_len(&header, payload.bytes.len());
        let bits = |len: usize| 8.0 * len as f64;
        let in_symbols: f64 = coded.iter().map(|p| p.bits).sum();
        let mut parts = vec![PartBits { part: Place::Header, bits: bits(header_len) }];
        parts.extend(coded);
        parts.push(PartBits { part: Place::Coder, bits: bits(payload.bytes.len()) - in_symbols });
        parts.push(PartBits { part: Place::Metadata, bits: bits(stream.len() - header_len - payload.bytes.len()) });
        Ok(Encoded { stream, quality: self.quality, report: Report { bits: parts, stages: self.watch.stages.clone() } })
    }
}

/// Moves y toward `rounded`, its coded value, and by what `seen`, the analysis of the decoded picture, lacks of `own`, that of the original: three quarters
/// of the way in the first round, half of it in later ones (SPEC 5.9).
///
/// `rounded` takes the rounding out of that difference: without it each symbol would be pushed away from itself.
fn refine(y: &mut Map<i32>, rounded: &Map<i32>, own: &Map<i32>, seen: &Map<i32>, round: u8) {
    let (factor, shift) = if round == 0 { (3, 2) } else { (1, 1) };
    let targets = rounded.data.iter().zip(own.data.iter().zip(&seen.data));
    for (y, (rounded, (own, seen))) in y.data.iter_mut().zip(targets) {
        // Latents are below 2^27, and so are coded ones: three times the step may have more than 32 bits.
        let [now, rounded, missing] = [*y, *rounded, own - seen].map(i64::from);
        let step = (factor * (rounded - now + missing + (missing >> 3))) >> shift;
        *y = (now + step).clamp(-i64::from(LATENT_MAX), LATENT_MAX.into()) as i32;
    }
}

/// The score of a candidate; the best has the least. Near any quality, the squared error of a picture falls about as the length of its stream to the power
/// of -2/3, so the score tells which of two streams would show the picture better if they were equally long.
fn score(squared_error: u64, payload_len: usize) -> f64 {
    let (error, len) = (squared_error as f64, payload_len as f64);
    error * error * error * len * len
}
