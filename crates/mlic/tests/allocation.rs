//! An allocator that refuses: every allocation whose size comes from the picture, the stream or the package is refused once, and each time
//! the answer is an error that says so. A refusal that is not handled ends the process, and with it this test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use mlic::image::{Image, OutputFormat, ReadOptions, read_image, write_image};
use mlic::{BackendChoice, Codec, CodecOptions, Error, ErrorKind, Model, Planes};
use mlic_backend::BackendError;
use mlic_backend::FloatTransform;
use mlic_backend::cpu::{CpuBackend, FloatTransforms};
use mlic_backend::integer::Kernels;
use mlic_core::memory;

/// Counts allocations of at least [`LARGE`] bytes, and refuses one of them.
struct Refusing;

/// More bytes than any allocation beside tensors takes, whatever the picture is: jobs of the thread pool, names, one part of a digest.
const PICTURE: usize = 6 << 10;
/// More bytes than any allocation beside weights takes, whatever the package is: a configuration, the look-up of one table of symbols.
const PACKAGE: usize = 512 << 10;

static LARGE: AtomicUsize = AtomicUsize::new(usize::MAX);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Index of the allocation that is refused, among those that [`COUNT`] counts.
static REFUSED: AtomicUsize = AtomicUsize::new(usize::MAX);

fn is_refused(size: usize) -> bool {
    size >= LARGE.load(Relaxed) && COUNT.fetch_add(1, Relaxed) == REFUSED.load(Relaxed)
}

// SAFETY: every call is passed on to the system's allocator as it came, or answered by null, which says that there is no memory.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system allocator's.
        if is_refused(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        if is_refused(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; what is refused stays where it is.
        if is_refused(size) { std::ptr::null_mut() } else { unsafe { System.realloc(old, layout, size) } }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs `work` with allocation `index` of those of at least `large` bytes refused, if there are so many; also returns how many there were.
fn refuse<T>(large: usize, index: usize, work: impl FnOnce() -> T) -> (T, usize) {
    COUNT.store(0, Relaxed);
    REFUSED.store(index, Relaxed);
    LARGE.store(large, Relaxed);
    let out = work();
    LARGE.store(usize::MAX, Relaxed);
    (out, COUNT.load(Relaxed))
}

/// Refuses every allocation of at least `large` bytes in turn; each refusal must be an error that says so.
fn refuse_each<T>(what: &str, large: usize, work: impl Fn() -> Result<T, Error>) {
    let (result, count) = refuse(large, usize::MAX, &work);
    assert!(result.is_ok(), "{what}: {:?}", result.err());
    assert!(count >= 5, "{what}: {count} allocations show nothing");
    for index in 0..count {
        // With threads the number of allocations may vary.
        let (Err(error), _) = refuse(large, index, &work) else { continue };
        assert_eq!(error.kind(), ErrorKind::Budget, "{what}, allocation {index}: {error}");
        let refused = error.out_of_memory().unwrap_or_else(|| panic!("{what}, allocation {index}: {error}"));
        assert!(refused.bytes >= large, "{what}, allocation {index}: {error}");
    }
    println!("{what}: {count} allocations of at least {large} bytes");
}

/// Stands in for a network: values that depend on the position, in memory that is allocated as the codec allocates its own.
struct Pattern(Arc<Model>);

impl FloatTransforms for Pattern {
    fn name(&self) -> &'static str {
        "pattern"
    }

    fn run(&self, transform: FloatTransform, input: &Planes, _: usize) -> Result<Planes, BackendError> {
        let config = self.0.config();
        let (channels, [up, down]) = match transform {
            FloatTransform::Analysis => (config.latent, [1, 16]),
            FloatTransform::HyperAnalysis => (config.hyper, [1, 4]),
            FloatTransform::Synthesis => (3, [16, 1]),
        };
        let (height, width) = (input.height * up / down, input.width * up / down);
        let len = channels * height * width;
        let data = memory::collect(len, (0..len).map(|i| (i * 37 % 101) as f32 / 9.0 - 5.0))?;
        Ok(Planes { channels, height, width, data })
    }
}

fn codec(model: &Arc<Model>, kernels: Kernels) -> Codec {
    let float: Box<dyn FloatTransforms> = Box::new(Pattern(Arc::clone(model)));
    let backend = CpuBackend::new(Arc::clone(model), kernels, 1, Some(float)).unwrap();
    Codec::from_backend(Arc::new(backend), CodecOptions::default()).unwrap()
}

/// One test, because there is one allocator.
#[test]
fn every_refusal_is_an_error() {
    let conformance = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let model = Arc::new(Model::open(conformance.join("models/edge-cases-scales.mlicpkg")).unwrap());
    let codec = codec(&model, Kernels::best());
    assert!(codec.is_exact(), "down to samples");
    let (width, height) = (512, 256);
    let rgb = (0..3 * width * height).map(|i| (i % 251) as u8).collect();
    let mut image = Image::from_rgb(width, height, rgb).unwrap();
    let file = write_image(&image, OutputFormat::Ppm).unwrap();
    image.metadata.set(mlic::metadata::MetadataKind::Icc, Some(vec![7; 2 * PICTURE]));
    let gray = vec![0; width as usize * height as usize];
    let refused = [
        refuse(PICTURE, 0, || Image::from_gray(width, height, &gray)).0,
        refuse(PICTURE, 0, || read_image(&file, &ReadOptions::default())).0,
    ];
    for refused in refused.map(|result| Error::from(result.unwrap_err())) {
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Budget, "out-of-memory"), "{refused}");
    }
    refuse_each("encoding", PICTURE, || codec.encode(&image, mlic::Quality::new(1.5).unwrap()));
    let codec = codec.with_options(CodecOptions::default().with_effort(1)).unwrap();
    refuse_each("refining", PICTURE, || codec.encode(&image, mlic::Quality::new(1.5).unwrap()));
    let stream = codec.encode(&image, mlic::Quality::new(1.5).unwrap()).unwrap().stream;
    refuse_each("decoding", PICTURE, || codec.decode(&stream));
    let edge = conformance.join("../models/edge/edge.mlicpkg");
    refuse_each("loading", PACKAGE, || mlic::backend(Arc::new(Model::open(&edge)?), BackendChoice::Integer, 1));
    let refused = refuse(PACKAGE, 0, || Model::open(&edge)).0.unwrap_err();
    assert!(refused.out_of_memory().is_some(), "{refused}");
}
