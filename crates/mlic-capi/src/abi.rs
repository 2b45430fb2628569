//! What C sees: `include/mlic.h`, function for function and member for member.
//!
//! SAFETY of everything here: the header says what a caller owes (pointers that are null where that is allowed, or to as many values as it says, strings that
//! end; nothing that another thread writes during the call; a codec that is not destroyed while it is used; bytes that came from here). What can be looked at (null,
//! sizes that do not fit each other, numbers beyond their range) is `MLIC_USAGE`. A safe interface to C there is none.
#![allow(unsafe_code, reason = "the callers are C")]

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use mlic::metadata::Metadata;
use mlic::{ErrorKind, Limits};

use crate::calls::{self, Goal, Handle, Options};
use crate::status::{Failure, OK, last_error, remember};

/// Threads of a caller may share a codec, and any of them may end it.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Handle>();
};

/// `MLIC_ABI`.
pub const ABI: u32 = 1;

/// `mlic_options`.
#[derive(Debug)]
#[repr(C)]
pub struct MlicOptions {
    struct_size: usize,
    model_path: *const c_char,
    backend: *const c_char,
    max_pixels: u64,
    max_memory_bytes: u64,
    max_milliseconds: u64,
    threads: u32,
    effort: u32,
    rounding: u32,
    reserved: u32,
}

/// `mlic_watch`.
#[derive(Debug)]
#[repr(C)]
pub struct MlicWatch {
    step: Option<unsafe extern "C" fn(*mut c_void, *const c_char, u32, u32) -> i32>,
    user: *mut c_void,
}

/// `mlic_picture`.
#[derive(Debug)]
#[repr(C)]
pub struct MlicPicture {
    width: u32,
    height: u32,
    channels: u32,
    stride_bytes: usize,
    samples: *const u8,
    icc: *const u8,
    icc_len: usize,
    exif: *const u8,
    exif_len: usize,
    xmp: *const u8,
    xmp_len: usize,
}

/// `mlic_bytes`.
#[derive(Debug)]
#[repr(C)]
pub struct MlicBytes {
    data: *mut u8,
    len: usize,
}

/// `mlic_header`.
#[derive(Debug)]
#[repr(C)]
pub struct MlicHeader {
    width: u32,
    height: u32,
    channels: u32,
    quality_index: u32,
    model_id: [c_char; 16],
}

/// `mlic_canvas`.
#[derive(Debug)]
#[repr(C)]
pub struct MlicCanvas {
    width: u32,
    height: u32,
    channels: u32,
    stride_bytes: usize,
    samples: *mut u8,
}

/// `mlic_outcome`.
#[derive(Debug, Default)]
#[repr(C)]
pub struct MlicOutcome {
    has_picture: i32,
    whole_slices: u32,
    slice_count: u32,
}

/// `mlic_abi`.
#[unsafe(no_mangle)]
pub extern "C" fn mlic_abi() -> u32 {
    ABI
}

/// `mlic_version`.
#[unsafe(no_mangle)]
pub extern "C" fn mlic_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// `mlic_last_error`.
#[unsafe(no_mangle)]
pub extern "C" fn mlic_last_error() -> *const c_char {
    last_error()
}

/// `mlic_options_init`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_options_init(options: *mut MlicOptions, struct_size: usize) {
    if options.is_null() || struct_size < size_of::<usize>() {
        return;
    }
    let default = MlicOptions { struct_size, ..MlicOptions::default() };
    let known = struct_size.min(size_of::<MlicOptions>());
    // SAFETY: the caller's, of so many bytes: those that this library knows, and others that it leaves zero.
    unsafe {
        ptr::copy_nonoverlapping((&raw const default).cast::<u8>(), options.cast(), known);
        ptr::write_bytes(options.cast::<u8>().add(known), 0, struct_size - known);
    }
}

impl MlicOptions {
    /// How long they were when `MLIC_ABI` became what it is: nobody's are shorter.
    const FIRST_SIZE: usize = offset_of!(Self, reserved) + size_of::<u32>();
    /// What nobody's are longer than. A size beyond it was never set.
    const MAX_SIZE: usize = 1024;

    /// What a caller has set in options that may be shorter or longer than these; defaults where they end.
    ///
    /// # Safety
    /// To as many bytes as the first member says, unless it is more than [`Self::MAX_SIZE`].
    unsafe fn of(options: *const Self) -> Result<Self, Failure> {
        // SAFETY: as above.
        let size = unsafe { options.cast::<usize>().read() };
        if !(Self::FIRST_SIZE..=Self::MAX_SIZE).contains(&size) {
            let (least, most) = (Self::FIRST_SIZE, Self::MAX_SIZE);
            return Err(Failure::usage(format!("options of {size} bytes, not {least} to {most}: mlic_options_init sets them")));
        }
        // SAFETY: as above.
        unsafe { Self::over_defaults(options, size) }
    }

    /// # Safety
    /// To so many bytes.
    unsafe fn over_defaults(options: *const Self, size: usize) -> Result<Self, Failure> {
        let (mut own, known) = (Self::default(), size.min(size_of::<Self>()));
        // SAFETY: so many bytes are in both, and any of them make members: numbers, and pointers that nobody has followed yet.
        unsafe { ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut own).cast(), known) };
        // SAFETY: the caller's, up to so many.
        let unknown = unsafe { slice::from_raw_parts(options.cast::<u8>().add(known), size - known) };
        if unknown.iter().any(|byte| *byte != 0) {
            return Err(Failure::usage(format!("options of {size} bytes, of which this library knows {known}: others are set")));
        }
        Ok(own)
    }
}

impl Default for MlicOptions {
    fn default() -> Self {
        let Limits { max_pixels, max_memory_bytes, .. } = Limits::default();
        let struct_size = size_of::<Self>();
        Self {
            struct_size,
            model_path: ptr::null(),
            backend: ptr::null(),
            max_pixels,
            max_memory_bytes,
            max_milliseconds: 0,
            threads: 0,
            effort: 0,
            rounding: 0,
            reserved: 0,
        }
    }
}

/// `mlic_codec_create`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_codec_create(options: *const MlicOptions, codec: *mut *mut Handle) -> i32 {
    status(|| {
        // SAFETY: null, or the caller's.
        let to = unsafe { out(codec, "codec") }?;
        *to = ptr::null_mut();
        // SAFETY: the caller's, of the size that its first member says.
        let options = if options.is_null() { MlicOptions::default() } else { unsafe { MlicOptions::of(options) }? };
        // SAFETY: null, or a string of the caller's.
        let text = |text: *const c_char| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) });
        let MlicOptions { max_pixels, max_memory_bytes, max_milliseconds, threads, effort, rounding, reserved, .. } = options;
        if reserved != 0 {
            return Err(Failure::usage(format!("reserved {reserved}: it must be 0")));
        }
        let (model_path, backend) = (text(options.model_path), text(options.backend));
        let options = Options { model_path, backend, max_pixels, max_memory_bytes, max_milliseconds, threads, effort, rounding };
        *to = Box::into_raw(Box::new(Handle::new(&options)?));
        Ok(())
    })
}

/// `mlic_codec_destroy`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_codec_destroy(codec: *mut Handle) {
    if !codec.is_null() {
        status(|| {
            // SAFETY: of `mlic_codec_create`, and in nobody's use.
            drop(unsafe { Box::from_raw(codec) });
            Ok(())
        });
    }
}

/// `mlic_codec_model_id`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_codec_model_id(codec: *const Handle) -> *const c_char {
    // SAFETY: null, or a codec that is there.
    unsafe { codec.as_ref() }.map_or(ptr::null(), |handle| handle.model_id.as_ptr())
}

/// `mlic_codec_quality_steps`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_codec_quality_steps(codec: *const Handle) -> u32 {
    // SAFETY: null, or a codec that is there.
    unsafe { codec.as_ref() }.map_or(0, Handle::quality_steps)
}

/// `mlic_bytes_free`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_bytes_free(bytes: *mut MlicBytes) {
    // SAFETY: null, or the caller's.
    let Some(bytes) = (unsafe { bytes.as_mut() }) else { return };
    if !bytes.data.is_null() {
        // SAFETY: `mlic_encode` made them of a boxed slice of this length.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(bytes.data, bytes.len)) });
    }
    *bytes = MlicBytes::EMPTY;
}

impl MlicBytes {
    const EMPTY: Self = Self { data: ptr::null_mut(), len: 0 };
}

/// `mlic_encode`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_encode(
    codec: *const Handle,
    picture: *const MlicPicture,
    quality: f32,
    watch: *const MlicWatch,
    stream: *mut MlicBytes,
) -> i32 {
    // SAFETY: the caller's.
    unsafe { encode(codec, picture, Goal::Quality(quality), watch, stream) }
}

/// `mlic_encode_within`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_encode_within(
    codec: *const Handle,
    picture: *const MlicPicture,
    limit_bytes: u64,
    watch: *const MlicWatch,
    stream: *mut MlicBytes,
) -> i32 {
    // SAFETY: the caller's.
    unsafe { encode(codec, picture, Goal::Within(limit_bytes), watch, stream) }
}

/// Both.
///
/// # Safety
/// See the header.
unsafe fn encode(
    codec: *const Handle,
    picture: *const MlicPicture,
    goal: Goal,
    watch: *const MlicWatch,
    stream: *mut MlicBytes,
) -> i32 {
    status(|| {
        // SAFETY: null, or the caller's.
        let to = unsafe { out(stream, "stream") }?;
        *to = MlicBytes::EMPTY;
        // SAFETY: likewise.
        let (handle, picture) = unsafe { (given(codec, "codec")?, given(picture, "picture")?) };
        let MlicPicture { width, height, channels, stride_bytes, samples, .. } = *picture;
        let shape = Shape::new([width, height, channels], stride_bytes, samples.is_null())?;
        // SAFETY: the caller has so many rows, so far from each other; they end within memory that there is.
        let rows = (0..shape.rows).map(|row| unsafe { slice::from_raw_parts(samples.add(row * stride_bytes), shape.row_len) });
        let mut metadata = Metadata::default();
        // SAFETY: null, or so many bytes.
        unsafe {
            metadata.icc = copy(picture.icc, picture.icc_len, "icc")?;
            metadata.exif = copy(picture.exif, picture.exif_len, "exif")?;
            metadata.xmp = copy(picture.xmp, picture.xmp_len, "xmp")?;
        }
        let image = calls::picture([width, height, channels], rows, metadata)?;
        // SAFETY: null, or the caller's.
        let watch = Watch(unsafe { watch.as_ref() });
        let bytes =
            Box::into_raw(handle.encode(&image, goal, &|stage, pass, count| watch.step(stage, pass, count))?.into_boxed_slice());
        *to = MlicBytes { data: bytes.cast(), len: bytes.len() };
        Ok(())
    })
}

/// `mlic_read_header`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_read_header(stream: *const u8, stream_len: usize, header: *mut MlicHeader) -> i32 {
    status(|| {
        // SAFETY: null, or the caller's, and so many bytes of it.
        let (to, stream) = unsafe { (out(header, "header")?, bytes(stream, stream_len, "stream")?) };
        let header = calls::header(stream)?;
        let mut model_id = [0; 16];
        let digits = header.model_id.to_string();
        // A byte at the end stays zero.
        model_id[..15].iter_mut().zip(digits.bytes()).for_each(|(to, digit)| *to = digit as c_char);
        let channels = if header.gray { 1 } else { 3 };
        *to = MlicHeader { width: header.width, height: header.height, channels, quality_index: header.quality.into(), model_id };
        Ok(())
    })
}

/// `mlic_decode`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_decode(
    codec: *const Handle,
    stream: *const u8,
    stream_len: usize,
    watch: *const MlicWatch,
    canvas: *const MlicCanvas,
    outcome: *mut MlicOutcome,
) -> i32 {
    status(|| {
        let mut unseen = MlicOutcome::default();
        // SAFETY: null, or the caller's.
        let outcome = unsafe { outcome.as_mut() }.unwrap_or(&mut unseen);
        *outcome = MlicOutcome::default();
        // SAFETY: likewise, and so many bytes of the stream.
        let (handle, stream, canvas) =
            unsafe { (given(codec, "codec")?, bytes(stream, stream_len, "stream")?, given(canvas, "canvas")?) };
        let MlicCanvas { width, height, channels, stride_bytes, samples } = *canvas;
        let shape = Shape::new([width, height, channels], stride_bytes, samples.is_null())?;
        calls::check_canvas([width, height, channels], &calls::header(stream)?)?;
        outcome.slice_count = u32::try_from(handle.slice_count()).unwrap_or(u32::MAX);
        // SAFETY: null, or the caller's.
        let watch = Watch(unsafe { watch.as_ref() });
        let (image, truncation) = handle.decode(stream, &|stage, pass, count| watch.step(stage, pass, count))?;
        let decoded = calls::samples(image, channels);
        for (row, from) in decoded.chunks_exact(shape.row_len).enumerate().take(shape.rows) {
            // SAFETY: the caller has so many rows, so far from each other, each of so many bytes; they are written, not read.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), samples.add(row * stride_bytes), shape.row_len) };
        }
        let whole_slices = truncation.as_ref().map_or(outcome.slice_count, |t| u32::try_from(t.whole_slices).unwrap_or(u32::MAX));
        (outcome.has_picture, outcome.whole_slices) = (1, whole_slices);
        truncation.map_or(Ok(()), |truncation| Err(calls::truncated(&truncation)))
    })
}

/// `mlic_find_metadata`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_find_metadata(
    stream: *const u8,
    stream_len: usize,
    kind: u32,
    data: *mut *const u8,
    len: *mut usize,
) -> i32 {
    status(|| {
        // SAFETY: null, or the caller's, and so many bytes of the stream.
        let (to, to_len, stream) = unsafe { (out(data, "data")?, out(len, "len")?, bytes(stream, stream_len, "stream")?) };
        (*to, *to_len) = (ptr::null(), 0);
        if let Some(found) = calls::metadata(stream, kind)? {
            (*to, *to_len) = (found.as_ptr(), found.len());
        }
        Ok(())
    })
}

/// Makes a status of a call, and of a panic, which there should be none of.
fn status(call: impl FnOnce() -> Result<(), Failure>) -> i32 {
    let panicked = |_| Err(Failure::of(ErrorKind::Other, "the library panicked: a defect of it"));
    // What a call was writing to is the caller's, and has no state of ours.
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(panicked);
    result.map_or_else(remember, |()| OK)
}

fn missing(name: &str) -> Failure {
    Failure::usage(format!("{name} is null"))
}

/// # Safety
/// Null, or to a value that nobody writes.
unsafe fn given<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as above.
    unsafe { pointer.as_ref() }.ok_or_else(|| missing(name))
}

/// # Safety
/// Null, or to a value that is the caller's alone.
unsafe fn out<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: as above.
    unsafe { pointer.as_mut() }.ok_or_else(|| missing(name))
}

/// # Safety
/// Null, or to so many bytes that nobody writes.
unsafe fn bytes<'a>(pointer: *const u8, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    match len {
        _ if isize::try_from(len).is_err() => Err(Failure::usage(format!("{name} of {len} bytes"))),
        0 => Ok(&[]),
        _ if pointer.is_null() => Err(missing(name)),
        // SAFETY: as above.
        _ => Ok(unsafe { slice::from_raw_parts(pointer, len) }),
    }
}

/// # Safety
/// Null, or to so many bytes that nobody writes.
unsafe fn copy(pointer: *const u8, len: usize, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    // Not an empty part: there is none.
    if len == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    calls::copy(len, [unsafe { bytes(pointer, len, name) }?]).map(Some)
}

/// Samples in memory of C.
struct Shape {
    rows: usize,
    row_len: usize,
}

impl Shape {
    /// Rows of `[width, height, channels]` samples that end within what can be addressed.
    fn new([width, height, channels]: [u32; 3], stride_bytes: usize, is_null: bool) -> Result<Self, Failure> {
        if !matches!(channels, 1 | 3) {
            return Err(Failure::usage(format!("{channels} channels: 3 or 1")));
        }
        if is_null {
            return Err(missing("samples"));
        }
        let too_large =
            || Failure::usage(format!("{height} rows, {stride_bytes} bytes from one to the next, are more than memory has"));
        let (Ok(rows), Ok(width)) = (usize::try_from(height), usize::try_from(width)) else { return Err(too_large()) };
        let row_len = width.checked_mul(channels as usize).ok_or_else(too_large)?;
        if stride_bytes < row_len {
            return Err(Failure::usage(format!("rows of {row_len} bytes, but {stride_bytes} from one to the next")));
        }
        let end = rows.checked_mul(stride_bytes).filter(|end| isize::try_from(*end).is_ok());
        end.map(|_| Self { rows, row_len }).ok_or_else(too_large)
    }
}

/// The caller's watch, which the header lets be called from any thread.
struct Watch<'a>(Option<&'a MlicWatch>);

// SAFETY: the function and its user are the caller's, who has read that threads of the codec call it, one at a time.
unsafe impl Sync for Watch<'_> {}

impl Watch<'_> {
    fn step(&self, stage: &CStr, pass: u32, pass_count: u32) -> ControlFlow<()> {
        let Some(MlicWatch { step: Some(step), user }) = self.0 else { return ControlFlow::Continue(()) };
        // SAFETY: the caller's function, with the caller's user.
        let ends = unsafe { step(*user, stage.as_ptr(), pass, pass_count) } != 0;
        if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options as a program has them that was built when there was no `effort`, and as one has them that knows more than this library.
    #[test]
    fn options_may_be_shorter_or_longer() {
        let set = MlicOptions { threads: 7, effort: 9, ..MlicOptions::default() };
        // SAFETY: of so many bytes, and more.
        let shorter = unsafe { MlicOptions::over_defaults(&raw const set, offset_of!(MlicOptions, effort)) }.unwrap();
        assert_eq!((shorter.threads, shorter.effort, shorter.max_pixels), (7, 0, set.max_pixels));

        #[repr(C)]
        struct Newer(MlicOptions, [u64; 2]);
        let mut newer = Newer(MlicOptions { struct_size: size_of::<Newer>(), ..set }, [0; 2]);
        // SAFETY: of the size that it says.
        let of = |newer: &Newer| unsafe { MlicOptions::of((&raw const *newer).cast()) };
        assert_eq!(of(&newer).map(|known| (known.threads, known.effort)).unwrap(), (7, 9));
        newer.1[1] = 1 << 63;
        assert!(of(&newer).unwrap_err().message.contains("others are set"));
        for size in [0, MlicOptions::FIRST_SIZE - 1, MlicOptions::MAX_SIZE + 1, usize::MAX] {
            newer.0.struct_size = size;
            assert!(of(&newer).unwrap_err().message.contains("mlic_options_init"), "{size}");
        }
    }

    #[test]
    fn no_more_is_set_than_there_is() {
        for size in 0..=size_of::<MlicOptions>() + 16 {
            let mut room = [0x5a5a_5a5a_5a5a_5a5a_u64; 16];
            // SAFETY: room for more than so many bytes.
            unsafe { mlic_options_init(room.as_mut_ptr().cast(), size) };
            let bytes = room.map(u64::to_ne_bytes);
            let set = if size < size_of::<usize>() { 0 } else { size };
            assert!(bytes.as_flattened()[set..].iter().all(|byte| *byte == 0x5a), "{size}");
            if set > 0 {
                assert_eq!(bytes.as_flattened()[..size_of::<usize>()], size.to_ne_bytes());
            }
            if set >= MlicOptions::FIRST_SIZE {
                // SAFETY: of so many bytes.
                let read = unsafe { MlicOptions::of(room.as_ptr().cast()) }.unwrap();
                assert_eq!((read.max_pixels, read.threads), (MlicOptions::default().max_pixels, 0));
            }
        }
    }
}
