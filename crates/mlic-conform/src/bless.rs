//! Blessing: makes the streams of suites from their recipes, takes the expectations from decoding them, and checks that the backends agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mlic::image::{Image, OutputFormat, write_image};
use mlic::{BackendChoice, Codec, CodecOptions, Latents, PixelMode, backend};
use mlic_backend::digest::Digest;
use mlic_backend::{Backend, Stage};
use mlic_core::container::{self, Header, Section, SectionKind};
use mlic_model::Model;

use crate::check::header_fields;
use crate::craft::{Crafted, Symbols, craft};
use crate::error::ConformError;
use crate::files;
use crate::manifest::{
    Blessed, Decodes, Expect, FORMAT, FileRef, Level, Manifest, ModelRef, PackageRefused, PassDigests, PictureRef, Refused,
    Vector,
};
use crate::negative::{Base, PackageCase, Sound, StreamCase};
use crate::observe::observe_pixels;
use crate::packages::Probe;
use crate::record::Recorder;
use crate::run::{Options, job, run};
use crate::scene::{draw, gray};
use crate::store::{MANIFEST, Store, Suite, sha256};
use crate::suites::{Drawn, Quality, Recipe, Source, VectorRecipe};

/// Differences allowed in float synthesis: the largest, and the mean.
const TOLERANCE: (u8, f64) = (2, 0.25);
const TOLERANCE_REASON: &str = "float synthesis: f32 or f16, sums in any order, so that a sample may round to a neighbour";

/// Files of a blessed suite, by path within the conformance data.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What happens to vectors that a suite already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// They are made again.
    Remade,
    /// They stay as they are, and only the others are made, so that a program without float transforms can add streams of chosen symbols to any suite.
    Kept,
}

/// Makes a suite and checks it with the fast and the reference backend.
///
/// # Errors
/// [`ConformError::Blessing`] when a backend does not agree with the expectations, or whatever keeps a vector from being made.
pub fn bless(recipe: &Recipe, model: Arc<Model>, store: &Store, known: Known, threads: usize) -> Result<Files, ConformError> {
    let fast = backend(Arc::clone(&model), BackendChoice::Auto, threads)?;
    let reference = backend(Arc::clone(&model), BackendChoice::Reference, threads)?;
    let mut maker = Maker {
        suite: recipe.suite,
        backend: Arc::clone(&fast),
        store: store.clone(),
        kept: if known == Known::Kept { Some(store.suite(recipe.suite)?) } else { None },
        streams: BTreeMap::new(),
        pictures: BTreeSet::new(),
        files: Files::new(),
    };
    if let Some(path) = recipe.package.filter(|path| Probe::of_path(path).is_some()) {
        maker.files.insert(path.to_owned(), package(path, store)?);
    }
    let vectors = recipe.vectors.iter().map(|vector| maker.vector(vector)).collect::<Result<Vec<_>, _>>()?;
    let name = |backend: &Arc<dyn Backend>| format!("{} ({})", backend.name(), backend.device(Stage::Passes));
    let mut backends: Vec<String> = maker.kept.iter().flat_map(|suite| suite.manifest.blessed.backends.clone()).collect();
    for name in [name(&reference), name(&fast)] {
        if !backends.contains(&name) {
            backends.push(name);
        }
    }
    let manifest = Manifest {
        format: FORMAT,
        suite: recipe.suite.to_owned(),
        why: recipe.why.to_owned(),
        model: ModelRef { id: model.id().to_string(), name: model.name().to_owned(), package: recipe.package.map(str::to_owned) },
        blessed: Blessed { version: env!("CARGO_PKG_VERSION").to_owned(), backends },
        vectors,
    };
    let path = format!("{}/{MANIFEST}", recipe.suite);
    let bytes = manifest.to_bytes().map_err(|problem| ConformError::Manifest { file: path.clone(), problem })?;
    maker.files.insert(path, bytes);
    let blessed = Store::Memory { files: maker.files, behind: Box::new(store.clone()) };
    [fast, reference].into_iter().try_for_each(|backend| agree(&blessed, recipe.suite, backend, threads))?;
    match blessed {
        Store::Memory { files, .. } => Ok(files),
        _ => Ok(Files::new()),
    }
}

/// Runs on one backend the suite that was just made, which must pass.
fn agree(store: &Store, suite: &str, backend: Arc<dyn Backend>, threads: usize) -> Result<(), ConformError> {
    let jobs = if threads == 0 { crate::report::cores() } else { threads };
    let exact = backend.model().exact_synthesis().is_some();
    let level = if cfg!(feature = "tract") || exact { Level::L4 } else { Level::L3 };
    let options = Options { level, jobs, timeout: Duration::from_secs(7200) };
    let name = backend.name().to_owned();
    let report = run(&store.suite(suite)?, backend, &options);
    if report.is_pass() {
        return Ok(());
    }
    let bad = report.vectors.iter().filter(|vector| !vector.verdict.is_pass());
    let count = bad.clone().count();
    let first = bad.take(5).map(|vector| format!("{}: {}", vector.name, vector.verdict)).collect::<Vec<_>>().join("; ");
    let problem = format!("{count} vectors; {first}");
    Err(ConformError::Blessing { suite: suite.to_owned(), backend: name, problem })
}

/// Checks, before the work is done, that an existing suite may be replaced.
///
/// # Errors
/// [`ConformError::Output`] for an existing suite without permission to overwrite it.
pub fn check(root: &Path, suite: &str, overwrite: bool) -> Result<(), ConformError> {
    let manifest = root.join(suite).join(MANIFEST);
    if manifest.exists() { files::output(&manifest, overwrite).map(drop) } else { Ok(()) }
}

/// Writes a suite's files, each completely and the manifest last. With `overwrite`, files with other contents are replaced, and streams, packages and
/// pictures that are no longer part of the suite are removed.
///
/// # Errors
/// [`ConformError::Output`], [`ConformError::Io`].
pub fn write(root: &Path, suite: &str, files: &Files, overwrite: bool) -> Result<(), ConformError> {
    let is_there = |path: &Path, bytes: &Vec<u8>| std::fs::read(path).is_ok_and(|there| there == *bytes);
    let changed = files.iter().map(|(name, bytes)| (root.join(name), bytes)).filter(|(path, bytes)| !is_there(path, bytes));
    let (last, mut all): (Vec<_>, Vec<_>) = changed.partition(|(path, _)| path.ends_with(MANIFEST));
    all.extend(last);
    files::write_all(&all, overwrite)?;
    if overwrite { remove_others(root, suite, files) } else { Ok(()) }
}

/// Removes streams, packages and pictures that are no longer part of a suite.
fn remove_others(root: &Path, suite: &str, files: &Files) -> Result<(), ConformError> {
    let folder = root.join(suite);
    let entries = std::fs::read_dir(&folder).map_err(ConformError::io(&folder))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.extension().is_some_and(|e| e == "mlic" || e == "png" || e == "mlicpkg");
        let kept = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| files.contains_key(&format!("{suite}/{n}")));
        if ours && !kept {
            std::fs::remove_file(&path).map_err(ConformError::io(&path))?;
        }
    }
    Ok(())
}

struct Maker<'a> {
    suite: &'static str,
    /// The existing suite, whose vectors stay.
    kept: Option<Suite<'a>>,
    backend: Arc<dyn Backend>,
    store: Store,
    streams: BTreeMap<String, Vec<u8>>,
    /// Names of the vectors with a picture.
    pictures: BTreeSet<String>,
    files: Files,
}

/// Returns a function that makes the error of a recipe.
fn cannot(vector: &str) -> impl Fn(&str) -> ConformError {
    move |problem| ConformError::Recipe { vector: vector.to_owned(), problem: problem.to_owned() }
}

impl Maker<'_> {
    fn vector(&mut self, recipe: &VectorRecipe) -> Result<Vector, ConformError> {
        if let Some(vector) = self.kept(recipe)? {
            return Ok(vector);
        }
        let stream = self.stream(recipe)?;
        let expect = match &recipe.source {
            Source::Damaged { damage, .. } => Expect::Refused(damage.refused()),
            Source::Written { case: StreamCase { code: Some(code), level, .. }, .. } => {
                Expect::Refused(Refused { code: (*code).to_owned(), level: *level })
            }
            Source::Package(PackageCase { code: Some(code), .. }) => {
                Expect::PackageRefused(PackageRefused { code: (*code).to_owned() })
            }
            Source::Package(_) => Expect::PackageTaken {},
            _ => Expect::Decodes(Box::new(self.decodes(recipe, &stream)?)),
        };
        let extension = if matches!(recipe.source, Source::Package(_)) { "mlicpkg" } else { "mlic" };
        let file = self.file(format!("{}.{extension}", recipe.name), stream.clone());
        self.streams.insert(recipe.name.clone(), stream);
        Ok(Vector { name: recipe.name.clone(), why: recipe.why.clone(), stream: file, expect })
    }

    /// Returns a vector of the existing suite as it is, if it is to stay, and adds its files.
    fn kept(&mut self, recipe: &VectorRecipe) -> Result<Option<Vector>, ConformError> {
        let Some(suite) = &self.kept else { return Ok(None) };
        let Some(vector) = suite.manifest.vector(&recipe.name).cloned() else { return Ok(None) };
        let job = job(suite, &vector)?;
        if let (Expect::Decodes(decodes), Some(picture)) = (&vector.expect, job.picture)
            && let Some(reference) = &decodes.picture
        {
            self.pictures.insert(recipe.name.clone());
            self.file(reference.image.file.clone(), picture);
        }
        self.file(vector.stream.file.clone(), job.stream.clone());
        self.streams.insert(recipe.name.clone(), job.stream);
        Ok(Some(vector))
    }

    fn file(&mut self, file: String, bytes: Vec<u8>) -> FileRef {
        let sha256 = sha256(&bytes);
        self.files.insert(format!("{}/{file}", self.suite), bytes);
        FileRef { file, sha256 }
    }

    fn quality(&self, percent: u8) -> u8 {
        mlic::Quality::new(f32::from(percent)).map_or(0, |quality| quality.index(self.backend.model().quality_steps()))
    }

    fn stream(&self, recipe: &VectorRecipe) -> Result<Vec<u8>, ConformError> {
        let missing = |of: &str| cannot(&recipe.name)(&format!("there is no vector {of} before it"));
        match &recipe.source {
            Source::Picture(drawn) => {
                let codec = Codec::from_backend(Arc::clone(&self.backend), CodecOptions::default())?;
                let quality = mlic::Quality::new(f32::from(drawn.percent));
                let quality = quality.map_err(|error| cannot(&recipe.name)(&error.to_string()))?;
                Ok(codec.encode(&image(*drawn)?, quality)?.stream)
            }
            Source::Symbols { size, quality, symbols, lanes_log2 } => {
                let (quality, seed) = match *quality {
                    Quality::Percent(percent) => (self.quality(percent), seed(*size)),
                    Quality::Step(step) => (step, seed(*size) ^ (u64::from(step) << 40)),
                };
                let (symbols, lanes_log2) = (*symbols, *lanes_log2);
                craft(self.backend.as_ref(), Crafted { width: size.0, height: size.1, quality, symbols, lanes_log2, seed })
            }
            Source::Cut { of, whole_slices } => {
                let whole = self.streams.get(of).ok_or_else(|| missing(of))?;
                self.cut(&recipe.name, whole, *whole_slices)
            }
            Source::Prefix { of, missing: bytes } => {
                let whole = self.streams.get(of).ok_or_else(|| missing(of))?;
                let prefix = whole.len().checked_sub(*bytes).and_then(|len| whole.get(..len));
                prefix.map(<[u8]>::to_vec).ok_or_else(|| cannot(&recipe.name)("there are no more bytes"))
            }
            Source::Sections { of } => with_sections(self.streams.get(of).ok_or_else(|| missing(of))?),
            Source::Gray { of } => {
                let parsed = container::parse(self.streams.get(of).ok_or_else(|| missing(of))?)?;
                Ok(container::write(&Header { gray: true, ..parsed.header }, parsed.payload, &parsed.sections)?)
            }
            Source::Written { of, case } => {
                let sound = self.streams.get(of).ok_or_else(|| missing(of))?;
                Ok(case.make(&Base::new(&self.backend, sound)?))
            }
            Source::Package(case) => case.make(&Sound::new(&self.store)?),
            Source::Damaged { of, damage } => {
                let whole = self.streams.get(of).ok_or_else(|| missing(of))?;
                Ok(damage.apply(whole, self.backend.model().quality_steps())?)
            }
        }
    }

    /// Returns the shortest prefix in which this many latent slices are whole.
    fn cut(&self, name: &str, stream: &[u8], whole_slices: usize) -> Result<Vec<u8>, ConformError> {
        let codec = Codec::from_backend(Arc::clone(&self.backend), CodecOptions::default())?;
        let prefix = |len: usize| stream.get(..len).unwrap_or(stream);
        // None, for no picture, orders below a picture without whole slices.
        let whole = |len: usize| match codec.decode_latents(prefix(len)) {
            Ok(Latents { truncation: Some(t), .. }) => Some(t.whole_slices),
            Ok(_) => Some(usize::MAX),
            Err(_) => None,
        };
        let (mut low, mut high) = (container::parse(stream)?.header_len, stream.len());
        while low < high {
            let middle = (low + high) / 2;
            if whole(middle) < Some(whole_slices) { low = middle + 1 } else { high = middle }
        }
        match whole(low) {
            Some(got) if got == whole_slices => Ok(prefix(low).to_vec()),
            _ => Err(cannot(name)(&format!("no prefix has {whole_slices} whole slices"))),
        }
    }

    fn decodes(&mut self, recipe: &VectorRecipe, stream: &[u8]) -> Result<Decodes, ConformError> {
        let recorder = Arc::new(Recorder::new(Arc::clone(&self.backend)));
        let options = CodecOptions::default().with_pixels(PixelMode::Float);
        let codec = Codec::from_backend(Arc::clone(&recorder) as Arc<dyn Backend>, options)?;
        let latents = codec.decode_latents(stream)?;
        let passes = recorder.recording().passes;
        let unfinished = || cannot(&recipe.name)("a pass has no symbols");
        let digests = passes.iter().map(|pass| {
            Ok(PassDigests {
                pass: pass.pass.to_string(),
                means: pass.means().into(),
                scale_indices: pass.scale_indices().into(),
                symbols: pass.symbols().ok_or_else(unfinished)?.into(),
            })
        });
        Ok(Decodes {
            header: header_fields(stream)?,
            whole_slices: latents.truncation.as_ref().map(|t| t.whole_slices),
            z: Digest::of_i32(&latents.z_symbols).into(),
            passes: digests.collect::<Result<_, ConformError>>()?,
            y_hat: Digest::of_i32(&latents.y_hat.data).into(),
            pixels: observe_pixels(&latents, &self.backend)?,
            picture: self.picture(recipe, &codec, &latents)?,
        })
    }

    /// Makes the picture of level 4; none for symbols that no picture has, because their synthesis is a difference of enormous numbers.
    fn picture(&mut self, recipe: &VectorRecipe, codec: &Codec, latents: &Latents) -> Result<Option<PictureRef>, ConformError> {
        use mlic_backend::contract::Fill;
        let means_nothing = match &recipe.source {
            Source::Symbols { symbols, quality, .. } => {
                *symbols != Symbols::Fill(Fill::Zero) || matches!(quality, Quality::Step(_))
            }
            Source::Cut { of, .. }
            | Source::Prefix { of, .. }
            | Source::Sections { of }
            | Source::Gray { of }
            | Source::Written { of, .. } => !self.pictures.contains(of),
            _ => false,
        };
        if means_nothing {
            return Ok(None);
        }
        self.pictures.insert(recipe.name.clone());
        let png = write_image(&codec.synthesize(latents)?, OutputFormat::Png)?;
        let image = self.file(format!("{}.png", recipe.name), png);
        let (max_difference, mean_difference) = TOLERANCE;
        Ok(Some(PictureRef { image, max_difference, mean_difference, reason: TOLERANCE_REASON.to_owned() }))
    }
}

/// Sixteen sections: ICC three times, EXIF and XMP once, empty ones, kinds that have no meaning.
fn with_sections(stream: &[u8]) -> Result<Vec<u8>, ConformError> {
    let parsed = container::parse(stream)?;
    let kinds = [1, 2, 1, 0, 255, 3, 4, 5, 6, 7, 8, 9, 10, 11, 127, 1];
    let contents: Vec<Vec<u8>> = (0..kinds.len()).map(|i| vec![i as u8; 37 * (i % 5)]).collect();
    let sections = kinds.iter().zip(&contents).map(|(kind, bytes)| Section { kind: SectionKind(*kind), bytes });
    Ok(container::write(&parsed.header, parsed.payload, &sections.collect::<Vec<_>>())?)
}

/// Returns the package of a recipe; one that a suite makes for itself is made anew.
///
/// # Errors
/// When it cannot be read or made.
pub fn package(path: &str, store: &Store) -> Result<Vec<u8>, ConformError> {
    match Probe::of_path(path) {
        Some(probe) => probe.package(store),
        None => Ok(store.read(path)?.into_owned()),
    }
}

/// Draws the picture that a recipe describes.
///
/// # Errors
/// [`ConformError::Image`] for sizes beyond the codec's limits.
pub fn image(drawn: Drawn) -> Result<Image, ConformError> {
    let (width, height) = drawn.size;
    let mut image = draw(drawn.scene, width, height, seed(drawn.size))?;
    if drawn.gray {
        image = gray(&image)?;
    }
    if drawn.sections {
        image.metadata.icc = Some((0..60).collect());
        image.metadata.exif = Some(b"MM\0*\0\0\0\x08\0\0\0\0\0\0".to_vec());
        image.metadata.xmp = Some(b"<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>".to_vec());
    }
    Ok(image)
}

fn seed((width, height): (u32, u32)) -> u64 {
    (u64::from(width) << 20) | u64::from(height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_takes_the_place_of_another_by_force_alone() {
        let root = tempfile::tempdir().unwrap();
        let files = |stream: &str, bytes: &str| {
            let [manifest, stream] = [MANIFEST, stream].map(|name| format!("s/{name}"));
            Files::from([(manifest, bytes.into()), (stream, bytes.into()), ("models/p.mlicpkg".into(), "package".into())])
        };
        let read = |name: &str| std::fs::read_to_string(root.path().join(name)).ok();
        check(root.path(), "s", false).unwrap();
        write(root.path(), "s", &files("a.mlic", "one"), false).unwrap();
        std::fs::write(root.path().join("s/notes.txt"), "mine").unwrap();
        assert!(check(root.path(), "s", false).is_err() && check(root.path(), "s", true).is_ok());
        // Files with the same contents need not be replaced.
        write(root.path(), "s", &files("a.mlic", "one"), false).unwrap();
        assert!(matches!(write(root.path(), "s", &files("b.mlic", "two"), false), Err(ConformError::Output { .. })));
        assert_eq!((read("s/manifest.json").as_deref(), read("s/b.mlic")), (Some("one"), None));
        write(root.path(), "s", &files("b.mlic", "two"), true).unwrap();
        let there = ["s/manifest.json", "s/a.mlic", "s/b.mlic", "s/notes.txt"].map(read);
        assert_eq!(there.each_ref().map(Option::as_deref), [Some("two"), None, Some("two"), Some("mine")]);
    }
}
