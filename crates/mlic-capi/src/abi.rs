//! What C sees: `include/mlic.h`, function for function and member for member.
//!
//! SAFETY of everything here: the header says what a caller must guarantee. Pointers are null, where that is allowed, or point to as many values as the
//! header says; strings are terminated; no other thread writes to any of this during the call; no codec is destroyed while it is in use; bytes that are
//! freed came from here. What can be checked (null, sizes that do not fit each other, numbers beyond their range) is `MLIC_USAGE`. There is no safe
//! interface to C.
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

/// Asserts that a caller's threads may share a codec, and that any of them may destroy it.
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
    // SAFETY: the caller has `struct_size` bytes: those that this library knows are copied, the others become zero.
    unsafe {
        ptr::copy_nonoverlapping((&raw const default).cast::<u8>(), options.cast(), known);
        ptr::write_bytes(options.cast::<u8>().add(known), 0, struct_size - known);
    }
}

impl MlicOptions {
    /// Size of the options when `MLIC_ABI` got its present value. No program has shorter ones.
    const FIRST_SIZE: usize = offset_of!(Self, reserved) + size_of::<u32>();
    /// A size that no program's options exceed. If `struct_size` is larger, it was never set.
    const MAX_SIZE: usize = 1024;

    /// Reads a caller's options, which may be shorter or longer than these. Members beyond their end have their defaults.
    ///
    /// # Safety
    /// `options` points to as many bytes as its first member says, unless that is more than [`Self::MAX_SIZE`].
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
    /// `options` points to `size` bytes.
    unsafe fn over_defaults(options: *const Self, size: usize) -> Result<Self, Failure> {
        let (mut own, known) = (Self::default(), size.min(size_of::<Self>()));
        // SAFETY: both have `known` bytes, and any bytes make valid members: numbers, and pointers that nobody has followed yet.
        unsafe { ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut own).cast(), known) };
        // SAFETY: the caller has `size` bytes.
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
        // SAFETY: null, or points to a pointer of the caller's.
        let to = unsafe { out(codec, "codec") }?;
        *to = ptr::null_mut();
        // SAFETY: the caller's options, of the size that their first member says.
        let options = if options.is_null() { MlicOptions::default() } else { unsafe { MlicOptions::of(options) }? };
        // SAFETY: not null, and so a string of the caller's.
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
            // SAFETY: the codec came from `mlic_codec_create`, and no call is using it.
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
    // SAFETY: null, or a codec that exists.
    unsafe { codec.as_ref() }.map_or(ptr::null(), |handle| handle.model_id.as_ptr())
}

/// `mlic_codec_quality_steps`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_codec_quality_steps(codec: *const Handle) -> u32 {
    // SAFETY: null, or a codec that exists.
    unsafe { codec.as_ref() }.map_or(0, Handle::quality_steps)
}

/// `mlic_bytes_free`.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlic_bytes_free(bytes: *mut MlicBytes) {
    // SAFETY: null, or points to bytes of the caller's.
    let Some(bytes) = (unsafe { bytes.as_mut() }) else { return };
    if !bytes.data.is_null() {
        // SAFETY: `encode` made these bytes from a boxed slice of this length.
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
    // SAFETY: the caller guarantees what the header says.
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
    // SAFETY: the caller guarantees what the header says.
    unsafe { encode(codec, picture, Goal::Within(limit_bytes), watch, stream) }
}

/// Encodes a picture, for `mlic_encode` and `mlic_encode_within`.
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
        // SAFETY: null, or points to a value of the caller's.
        let to = unsafe { out(stream, "stream") }?;
        *to = MlicBytes::EMPTY;
        // SAFETY: likewise.
        let (handle, picture) = unsafe { (given(codec, "codec")?, given(picture, "picture")?) };
        let MlicPicture { width, height, channels, stride_bytes, samples, .. } = *picture;
        let shape = Shape::new([width, height, channels], stride_bytes, samples.is_null())?;
        // SAFETY: the caller has `shape.rows` rows, `stride_bytes` apart; they end within what can be addressed.
        let rows = (0..shape.rows).map(|row| unsafe { slice::from_raw_parts(samples.add(row * stride_bytes), shape.row_len) });
        let mut metadata = Metadata::default();
        // SAFETY: each is null, or points to as many bytes as its length says.
        unsafe {
            metadata.icc = copy(picture.icc, picture.icc_len, "icc")?;
            metadata.exif = copy(picture.exif, picture.exif_len, "exif")?;
            metadata.xmp = copy(picture.xmp, picture.xmp_len, "xmp")?;
        }
        let image = calls::picture([width, height, channels], rows, metadata)?;
        // SAFETY: null, or points to a value of the caller's.
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
        // SAFETY: `header` is null or points to a value of the caller's, `stream` is null or points to `stream_len` bytes.
        let (to, stream) = unsafe { (out(header, "header")?, bytes(stream, stream_len, "stream")?) };
        let header = calls::header(stream)?;
        let mut model_id = [0; 16];
        let digits = header.model_id.to_string();
        // The last byte stays zero and ends the string.
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
        // SAFETY: null, or points to a value of the caller's.
        let outcome = unsafe { outcome.as_mut() }.unwrap_or(&mut unseen);
        *outcome = MlicOutcome::default();
        // SAFETY: likewise, and `stream` is null or points to `stream_len` bytes.
        let (handle, stream, canvas) =
            unsafe { (given(codec, "codec")?, bytes(stream, stream_len, "stream")?, given(canvas, "canvas")?) };
        let MlicCanvas { width, height, channels, stride_bytes, samples } = *canvas;
        let shape = Shape::new([width, height, channels], stride_bytes, samples.is_null())?;
        calls::check_canvas([width, height, channels], &calls::header(stream)?)?;
        outcome.slice_count = u32::try_from(handle.slice_count()).unwrap_or(u32::MAX);
        // SAFETY: null, or points to a value of the caller's.
        let watch = Watch(unsafe { watch.as_ref() });
        let (image, truncation) = handle.decode(stream, &|stage, pass, count| watch.step(stage, pass, count))?;
        let decoded = calls::samples(image, channels);
        for (row, from) in decoded.chunks_exact(shape.row_len).enumerate().take(shape.rows) {
            // SAFETY: the caller has `shape.rows` rows of `shape.row_len` bytes, `stride_bytes` apart; they are written, not read.
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
        // SAFETY: each is null or points to a value of the caller's, `stream` is null or points to `stream_len` bytes.
        let (to, to_len, stream) = unsafe { (out(data, "data")?, out(len, "len")?, bytes(stream, stream_len, "stream")?) };
        (*to, *to_len) = (ptr::null(), 0);
        if let Some(found) = calls::metadata(stream, kind)? {
            (*to, *to_len) = (found.as_ptr(), found.len());
        }
        Ok(())
    })
}

/// Turns the result of a call into a status, and a panic too, although there should be none.
fn status(call: impl FnOnce() -> Result<(), Failure>) -> i32 {
    let panicked = |_| Err(Failure::of(ErrorKind::Other, "the library panicked: a defect of it"));
    // A call writes to the caller's memory only, which holds no state of the library.
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(panicked);
    result.map_or_else(remember, |()| OK)
}

fn missing(name: &str) -> Failure {
    Failure::usage(format!("{name} is null"))
}

/// # Safety
/// `pointer` is null, or points to a value that nobody writes.
unsafe fn given<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as above.
    unsafe { pointer.as_ref() }.ok_or_else(|| missing(name))
}

/// # Safety
/// `pointer` is null, or points to a value that is the caller's alone.
unsafe fn out<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: as above.
    unsafe { pointer.as_mut() }.ok_or_else(|| missing(name))
}

/// # Safety
/// `pointer` is null, or points to `len` bytes that nobody writes.
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
/// `pointer` is null, or points to `len` bytes that nobody writes.
unsafe fn copy(pointer: *const u8, len: usize, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    // No bytes mean no metadata, not empty metadata.
    if len == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    calls::copy(len, [unsafe { bytes(pointer, len, name) }?]).map(Some)
}

/// The rows of samples in a caller's memory.
struct Shape {
    rows: usize,
    row_len: usize,
}

impl Shape {
    /// Checks that rows of `[width, height, channels]` samples, `stride_bytes` apart, end within what can be addressed.
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

/// The caller's watch. The header lets any thread call it.
struct Watch<'a>(Option<&'a MlicWatch>);

// SAFETY: the function and its `user` are the caller's, whom the header tells that threads of the codec call it, one at a time.
unsafe impl Sync for Watch<'_> {}

impl Watch<'_> {
    fn step(&self, stage: &CStr, pass: u32, pass_count: u32) -> ControlFlow<()> {
        let Some(MlicWatch { step: Some(step), user }) = self.0 else { return ControlFlow::Continue(()) };
        // SAFETY: the caller's function, with the caller's `user`.
        let ends = unsafe { step(*user, stage.as_ptr(), pass, pass_count) } != 0;
        if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options of a program that was built before there was an `effort`, and of one that knows more members than this library.
    #[test]
    fn options_may_be_shorter_or_longer() {
        let set = MlicOptions { threads: 7, effort: 9, ..MlicOptions::default() };
        // SAFETY: `set` has this many bytes, and more.
        let shorter = unsafe { MlicOptions::over_defaults(&raw const set, offset_of!(MlicOptions, effort)) }.unwrap();
        assert_eq!((shorter.threads, shorter.effort, shorter.max_pixels), (7, 0, set.max_pixels));

        #[repr(C)]
        struct Newer(MlicOptions, [u64; 2]);
        let mut newer = Newer(MlicOptions { struct_size: size_of::<Newer>(), ..set }, [0; 2]);
        // SAFETY: `newer` has the size that it says, or says one that is more than `MAX_SIZE`.
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
            // SAFETY: `room` has more than `size` bytes.
            unsafe { mlic_options_init(room.as_mut_ptr().cast(), size) };
            let bytes = room.map(u64::to_ne_bytes);
            let set = if size < size_of::<usize>() { 0 } else { size };
            assert!(bytes.as_flattened()[set..].iter().all(|byte| *byte == 0x5a), "{size}");
            if set > 0 {
                assert_eq!(bytes.as_flattened()[..size_of::<usize>()], size.to_ne_bytes());
            }
            if set >= MlicOptions::FIRST_SIZE {
                // SAFETY: `room` has more than `size` bytes, and `size` is what its first member says.
                let read = unsafe { MlicOptions::of(room.as_ptr().cast()) }.unwrap();
                assert_eq!((read.max_pixels, read.threads), (MlicOptions::default().max_pixels, 0));
            }
        }
    }
}
