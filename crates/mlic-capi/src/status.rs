//! What became of a call.

use std::cell::RefCell;
use std::ffi::{CString, c_char};

use mlic::error::chain;
use mlic::{Error, ErrorKind};

/// `mlic_status`: the exit codes of the program `mlic`, as far as they are these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Any other failure.
    Other = 1,
    /// An argument that cannot be meant.
    Usage = 2,
    /// A picture that cannot be coded.
    Picture = 3,
    /// Not a stream, or of a version that is not supported.
    NotAStream = 4,
    /// A damaged stream.
    Damaged = 5,
    /// A truncated stream.
    Truncated = 6,
    /// A stream for another model.
    WrongModel = 7,
    /// A model package that is refused.
    Model = 8,
    /// A backend that is not available.
    Backend = 10,
    /// More than is allowed, or than there is.
    Budget = 11,
    /// Ended by whoever watched the call.
    Cancelled = 12,
}

/// A status that is not [`Status::Ok`], and what to say of it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { status: Status::Usage, message: message.into() }
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let status = match error.kind() {
            ErrorKind::Image => Status::Picture,
            ErrorKind::NotAStream => Status::NotAStream,
            ErrorKind::Damaged => Status::Damaged,
            ErrorKind::Truncated => Status::Truncated,
            ErrorKind::WrongModel => Status::WrongModel,
            ErrorKind::Model => Status::Model,
            ErrorKind::Backend => Status::Backend,
            ErrorKind::Budget => Status::Budget,
            ErrorKind::Cancelled => Status::Cancelled,
            _ => Status::Other,
        };
        Self { status, message: chain(&error) }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Remembers what a call of this thread failed with.
pub(crate) fn remember(failure: Failure) -> Status {
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
