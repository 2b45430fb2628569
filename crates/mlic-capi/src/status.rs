//! Statuses of calls, and the message of each thread's last failure.

use std::cell::RefCell;
use std::ffi::{CString, c_char};

use mlic::error::chain;
use mlic::{Error, ErrorKind};

/// `MLIC_OK`. The statuses besides this and [`USAGE`] are the numbers of [`ErrorKind`].
pub(crate) const OK: i32 = 0;
/// `MLIC_USAGE`: an invalid argument.
pub(crate) const USAGE: i32 = 2;

/// A status other than [`OK`], and its message.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: i32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status: kind as i32, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { status: USAGE, message: message.into() }
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        Self::of(error.kind(), chain(&error))
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps the message of a failure as this thread's last error, and returns the status.
pub(crate) fn remember(failure: Failure) -> i32 {
    // Messages may quote input, zero bytes included.
    let text: Vec<u8> = failure.message.into_bytes().into_iter().filter(|byte| *byte != 0).collect();
    // A thread that is ending has no thread-local memory any more.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
    failure.status
}

/// The message of this thread's last failure, valid until the next one.
pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
