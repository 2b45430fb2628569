//! What became of a call.

use std::cell::RefCell;
use std::ffi::{CString, c_char};

use mlic::error::chain;
use mlic::{Error, ErrorKind};

/// `mlic_status` of what is no [`ErrorKind`], whose numbers are the others.
pub(crate) const OK: i32 = 0;
/// An argument that cannot be meant.
pub(crate) const USAGE: i32 = 2;

/// A status that is not [`OK`], and what to say of it.
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

/// Remembers what a call of this thread failed with.
pub(crate) fn remember(failure: Failure) -> i32 {
    // Texts may quote what they were given.
    let text: Vec<u8> = failure.message.into_bytes().into_iter().filter(|byte| *byte != 0).collect();
    // A thread that is ending has no such memory any more.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
    failure.status
}

/// What this thread's last failure said; valid until the next.
pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
