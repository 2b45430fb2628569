//! Calls of a codec whose callback is told of each step and may end them.

use std::fmt;
use std::time::Instant;

use mlic_backend::cpu::apart;
use mlic_backend::{Backend, EntropySession, FloatTransform, Planes, Stage, exact_samples, walk};
use mlic_core::container::{Header, Stream, SymbolChecksum};
use mlic_core::memory;
use mlic_core::rans::Decoder;
use mlic_kernels::Map;
use mlic_model::model::Gain;

use crate::admission::{Admitted, metadata_of};
use crate::budget::{self, Deadline};
use crate::codec::{Codec, Decoded, Encoded, Latents, Progress, ProgressEvent, Report, StageTime, Truncation};
use crate::encoder;
use crate::error::{Error, Place};
use crate::image::Image;
use crate::pixels;
use crate::quality::Quality;
use crate::sinks::{Coded, DecodeSink, code_z};

/// The calls of a [`Codec`] with a callback that is told of each step and may end the call: [`Codec::watched`].
#[derive(Clone, Copy)]
pub struct Watched<'a> {
    codec: &'a Codec,
    progress: &'a Progress<'a>,
}

impl fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(self.codec).finish()
    }
}

/// What may end a call before its next step: its callback, and its deadline.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    progress: &'a Progress<'a>,
    deadline: Deadline,
}

impl Watch<'_> {
    /// Tells the callback of an event.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) fn tell(&self, event: ProgressEvent) -> Result<(), Error> {
        if (self.progress)(event).is_break() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Checks that there is time left to begin what comes next.
    ///
    /// # Errors
    /// [`Error::Time`].
    pub(crate) fn check(&self, before: impl Into<Place>) -> Result<(), Error> {
        self.deadline.check(before)
    }
}

/// Measures the time of each stage, summed over all its runs.
pub(crate) struct Stopwatch<'a> {
    backend: &'a dyn Backend,
    pub(crate) watch: Watch<'a>,
    pub(crate) stages: Vec<StageTime>,
}

impl Stopwatch<'_> {
    /// [`Watch::check`].
    pub(crate) fn check(&self, before: impl Into<Place>) -> Result<(), Error> {
        self.watch.check(before)
    }

    /// Runs a stage and adds its time.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or the error of the stage.
    pub(crate) fn time<T, E: Into<Error>>(&mut self, stage: Stage, run: impl FnOnce() -> Result<T, E>) -> Result<T, Error> {
        self.watch.tell(ProgressEvent::Stage(stage))?;
        let start = Instant::now();
        let out = run();
        let seconds = start.elapsed().as_secs_f64();
        match self.stages.iter_mut().find(|time| time.stage == stage) {
            Some(time) => time.seconds += seconds,
            None => self.stages.push(StageTime { stage, seconds, device: self.backend.device(stage) }),
        }
        out.map_err(Into::into)
    }

    /// Runs a float transform.
    ///
    /// # Errors
    /// As [`Self::time`].
    pub(crate) fn transform(&mut self, transform: FloatTransform, input: &Planes) -> Result<Planes, Error> {
        let backend = self.backend;
        self.time(transform.stage(), || backend.transform(transform, input))
    }
}

impl<'a> Watched<'a> {
    pub(crate) const fn new(codec: &'a Codec, progress: &'a Progress<'a>) -> Self {
        Self { codec, progress }
    }

    /// Runs a call, whose time starts now, on a thread that starts no other jobs while it waits for the codec's threads.
    fn call<T: Send>(&self, call: impl FnOnce(Stopwatch<'a>) -> Result<T, Error> + Send) -> Result<T, Error> {
        let watch = Watch { progress: self.progress, deadline: self.codec.options().limits.deadline() };
        apart(|| call(Stopwatch { backend: self.codec.backend(), watch, stages: Vec::new() }))
    }

    /// [`Codec::encode`], watched.
    ///
    /// # Errors
    /// Those of [`Codec::encode`], and [`Error::Cancelled`].
    pub fn encode(&self, image: &Image, quality: Quality) -> Result<Encoded, Error> {
        self.call(|watch| {
            let size = self.codec.check_picture(image)?;
            let quality = quality.index(self.codec.model().quality_steps());
            encoder::encode(self.codec, image, quality, size, watch)
        })
    }

    /// [`Codec::encode_within`], watched. Passes are counted anew at each quality.
    ///
    /// # Errors
    /// Those of [`Codec::encode_within`], and [`Error::Cancelled`].
    pub fn encode_within(&self, image: &Image, limit_bytes: u64) -> Result<Encoded, Error> {
        self.call(|watch| {
            let size = self.codec.check_picture(image)?;
            encoder::encode_within(self.codec, image, limit_bytes, size, watch)
        })
    }

    /// [`Codec::decode`], watched.
    ///
    /// # Errors
    /// Those of [`Codec::decode`], and [`Error::Cancelled`].
    pub fn decode(&self, stream: &[u8]) -> Result<Decoded, Error> {
        self.call(|mut watch| {
            let walked = self.codec.walk_stream(stream, Goal::Picture, &mut watch)?;
            let Walked { header, session, truncation, parsed, .. } = walked;
            watch.check(Place::Picture)?;
            let mut image = self.codec.picture(&header, session, &mut watch)?;
            let (metadata, note) = metadata_of(&parsed, self.codec.options().metadata)?;
            image.metadata = metadata;
            image.notes.extend(note);
            let report = Report { bits: Vec::new(), stages: watch.stages };
            Ok(Decoded { image, truncation, report })
        })
    }

    /// [`Codec::decode_latents`], watched.
    ///
    /// # Errors
    /// Those of [`Codec::decode_latents`], and [`Error::Cancelled`].
    pub fn decode_latents(&self, stream: &[u8]) -> Result<Latents, Error> {
        self.call(|mut watch| self.codec.walk_stream(stream, Goal::Latents, &mut watch)?.latents())
    }

    /// [`Codec::synthesize`], watched.
    ///
    /// # Errors
    /// Those of [`Codec::synthesize`], and [`Error::Cancelled`].
    pub fn synthesize(&self, latents: &Latents) -> Result<Image, Error> {
        let (codec, header, y_hat) = (self.codec, &latents.header, &latents.y_hat);
        let (limits, is_exact) = (&codec.options().limits, codec.is_exact());
        codec.check_model(header.model_id)?;
        codec.check_quality(header.quality)?;
        let size = limits.size(header.width, header.height)?;
        limits.check_memory(budget::of_synthesis(codec.backend(), size, is_exact)?)?;
        let stage = if is_exact { Stage::ExactSynthesis } else { Stage::Synthesis };
        pixels::check_latents(y_hat, stage, size.y, codec.model().config().latent)?;
        self.call(|mut watch| codec.picture_of(header, y_hat, is_exact, &mut watch))
    }
}

impl Codec {
    /// Decodes a stream to the end of its passes.
    fn walk_stream<'a>(&'a self, stream: &'a [u8], goal: Goal, watch: &mut Stopwatch<'_>) -> Result<Walked<'a>, Error> {
        let model = self.model();
        let admitted = Admitted::new(self, stream, goal)?;
        let (header, size) = (admitted.parsed.header, admitted.size);
        let in_z = |source| admitted.refused_in_z(source);
        let mut decoder = Decoder::new(admitted.parsed.payload, header.lanes_log2).map_err(in_z)?;
        let mut z_symbols = memory::zeros(size.z[0] * size.z[1] * model.config().hyper)?;
        watch.time(Stage::Rans, || code_z(model, &mut decoder, &mut z_symbols).map_err(in_z))?;
        let mut checksum = SymbolChecksum::new();
        checksum.update(&z_symbols);
        watch.check(Stage::HyperSynthesis)?;
        let mut session = watch.time(Stage::HyperSynthesis, || self.backend().entropy(size, header.quality, &z_symbols))?;
        let slice_count = model.config().slices;
        let mut sink = DecodeSink {
            model,
            decoder,
            checksum,
            coded: Coded::of(model),
            cut: admitted.is_cut,
            whole_passes: 0,
            exhausted: false,
            watch: watch.watch,
        };
        watch.time(Stage::Passes, || walk(session.as_mut(), slice_count, &mut sink))?;
        let whole_slices = sink.finish(header.symbol_checksum)?;
        let truncation = admitted.truncation(whole_slices, slice_count);
        Ok(Walked { header, z_symbols, session, truncation, parsed: admitted.parsed })
    }

    /// The picture of `y_hat`, in integers or in float.
    pub(crate) fn picture_of(
        &self,
        header: &Header,
        y_hat: &Map<i32>,
        is_exact: bool,
        watch: &mut Stopwatch<'_>,
    ) -> Result<Image, Error> {
        if is_exact {
            let samples = || self.backend().exact_synthesis(header.quality, y_hat);
            return exact_image(header, watch.time(Stage::ExactSynthesis, samples)?);
        }
        self.float_image(header, y_hat, watch)
    }

    /// The picture of a session whose passes are done; its memory is free when the synthesis runs. For exact pixels, `y_hat` need not leave the device.
    fn picture(&self, header: &Header, session: Box<dyn EntropySession + '_>, watch: &mut Stopwatch<'_>) -> Result<Image, Error> {
        if self.is_exact() {
            let samples = || exact_samples(self.backend(), session, header.quality);
            return exact_image(header, watch.time(Stage::ExactSynthesis, samples)?);
        }
        let y_hat = session.y_hat()?;
        drop(session);
        self.float_image(header, &y_hat, watch)
    }

    fn float_image(&self, header: &Header, y_hat: &Map<i32>, watch: &mut Stopwatch<'_>) -> Result<Image, Error> {
        let y_hat = pixels::from_latent(y_hat, &self.model().gain(Gain::InverseY, header.quality))?;
        let x_hat = watch.transform(FloatTransform::Synthesis, &y_hat)?;
        let image = pixels::image_of(&x_hat, header.width, header.height)?;
        Ok(pixels::with_gray(image, header.gray))
    }
}

fn exact_image(header: &Header, samples: Map<u8>) -> Result<Image, Error> {
    let image = pixels::image_of_samples(samples, header.width, header.height)?;
    Ok(pixels::with_gray(image, header.gray))
}

/// A stream whose passes are done.
struct Walked<'a> {
    header: Header,
    z_symbols: Vec<i32>,
    session: Box<dyn EntropySession + 'a>,
    truncation: Option<Truncation>,
    parsed: Stream<'a>,
}

impl Walked<'_> {
    fn latents(self) -> Result<Latents, Error> {
        let Self { header, z_symbols, session, truncation, .. } = self;
        Ok(Latents { header, z_symbols, y_hat: session.y_hat()?, truncation })
    }
}

/// How far a stream is decoded.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// To `y_hat`.
    Latents,
    /// To samples.
    Picture,
}
