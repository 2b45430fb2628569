//! Runs another program with limits on time and output, and holds the folder in which it finds its files.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::error::ConformError;

/// Length limit of the part of the program's standard error that is repeated, in bytes.
const MAX_STDERR_LEN: usize = 2048;

/// Limits of a program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    /// Length limit of standard output, in bytes.
    pub(super) stdout_len: usize,
}

/// Why a program gave no usable output.
#[derive(Debug, Error)]
#[cfg_attr(not(any(unix, windows)), allow(dead_code, reason = "without processes only starting one can fail"))]
pub(super) enum Ended {
    /// It ran out of time and was killed.
    #[error("no result in time")]
    Timeout,
    /// It printed too much and was killed.
    #[error("more than {limit} bytes of output")]
    Output { limit: usize },
    /// Its exit status says that it failed.
    #[error("the program ended with {status}{}", says(stderr))]
    Status { status: String, stderr: String },
    /// It could not be run.
    #[error("{program}: {problem}")]
    Start { program: String, problem: String },
}

fn says(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// Makes text of another program fit to be shown: one line, no control characters.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(any(unix, windows))]
pub(super) use here::{Folder, clean, output};
#[cfg(not(any(unix, windows)))]
pub(super) use nowhere::{Folder, clean, output};

/// Platforms with processes.
#[cfg(any(unix, windows))]
mod here {
    use std::collections::BTreeSet;
    use std::io::Read;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::Instant;

    use super::*;

    /// Longest wait between two checks of a running program.
    const POLL: Duration = Duration::from_millis(5);
    /// How long to wait for output left in the pipes of a program that has ended: a process that left its group may hold them open for ever.
    const GRACE: Duration = Duration::from_secs(1);

    /// What would be left behind if a signal ended this program. Groups of processes are started, and folders made, under the lock of [`HELD`].
    struct Held {
        /// Process groups, by the id of their first process, which has not been waited for.
        groups: BTreeSet<u32>,
        folders: BTreeSet<PathBuf>,
    }

    static HELD: Mutex<Held> = Mutex::new(Held { groups: BTreeSet::new(), folders: BTreeSet::new() });

    fn held() -> MutexGuard<'static, Held> {
        HELD.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills a process group: a program with everything it started.
    #[cfg(unix)]
    fn kill_group(id: u32) {
        if let Some(pid) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }

    /// Ends the running programs and removes their folders: for when a signal ends this program. Nothing can be started or made afterwards.
    pub(in super::super) fn clean() {
        let held = held();
        #[cfg(unix)]
        held.groups.iter().for_each(|group| kill_group(*group));
        for folder in &held.folders {
            // A process that has just been killed may still be writing.
            for _ in 0..20 {
                if std::fs::remove_dir_all(folder).is_ok() || !folder.exists() {
                    break;
                }
                std::thread::sleep(POLL);
            }
        }
        std::mem::forget(held);
    }

    /// A temporary folder, removed on drop.
    pub(in super::super) struct Folder(tempfile::TempDir);

    impl Drop for Folder {
        fn drop(&mut self) {
            let mut held = held();
            if held.folders.remove(self.0.path()) {
                let _ = std::fs::remove_dir_all(self.0.path());
            }
        }
    }

    impl Folder {
        pub(in super::super) fn new() -> Result<Self, ConformError> {
            let mut held = held();
            let made = tempfile::Builder::new().prefix("mlic-conform-").tempdir();
            let folder = made.map_err(ConformError::io(std::env::temp_dir()))?;
            held.folders.insert(folder.path().to_owned());
            Ok(Self(folder))
        }

        pub(in super::super) fn within(&self, name: &str) -> Result<Self, ConformError> {
            let _held = held();
            let made = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(self.0.path());
            made.map(Self).map_err(ConformError::io(self.0.path()))
        }

        pub(in super::super) fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        pub(in super::super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ConformError> {
            let path = self.path(name);
            std::fs::write(&path, bytes).map_err(ConformError::io(&path))
        }
    }

    /// A running program, killed on drop unless it has ended by itself, however the function that holds it ends.
    struct Running {
        child: Child,
        ended: bool,
    }

    impl Running {
        fn start(command: &mut Command) -> std::io::Result<Self> {
            let mut held = held();
            let child = command.spawn()?;
            held.groups.insert(child.id());
            Ok(Self { child, ended: false })
        }

        /// Kills the program with everything it started, and waits for it. Its id may belong to another process from then on.
        fn end(&mut self) -> std::io::Result<ExitStatus> {
            #[cfg(unix)]
            kill_group(self.child.id());
            let _ = self.child.kill();
            held().groups.remove(&self.child.id());
            self.ended = true;
            self.child.wait()
        }

        /// Whether the program has ended. It keeps its id until it is waited for, so that its group can still be killed.
        #[cfg(unix)]
        fn has_ended(&mut self) -> std::io::Result<bool> {
            use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            Ok(waitid(WaitId::Pid(Pid::from_child(&self.child)), options)?.is_some())
        }

        #[cfg(not(unix))]
        fn has_ended(&mut self) -> std::io::Result<bool> {
            Ok(self.child.try_wait()?.is_some())
        }

        /// Waits for the program to end, and kills what it has left behind. None when time is over, or when there is more output than is allowed.
        fn wait(&mut self, start: Instant, timeout: Duration, output: &Pipe) -> std::io::Result<Option<ExitStatus>> {
            loop {
                if self.has_ended()? {
                    return self.end().map(Some);
                }
                let left = timeout.saturating_sub(start.elapsed());
                if left.is_zero() || output.is_over() {
                    return Ok(None);
                }
                output.wait(POLL.min(left));
            }
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            if !self.ended {
                let _ = self.end();
            }
        }
    }

    /// Output of a program, read on a thread.
    struct Pipe {
        bytes: Arc<Mutex<Vec<u8>>>,
        limit: usize,
        /// Disconnected when the pipe is closed.
        open: Receiver<()>,
    }

    impl Pipe {
        /// Keeps up to one byte more than the limit, and then stops reading or, with `drain`, reads on and discards.
        fn new(pipe: Option<impl Read + Send + 'static>, limit: usize, drain: bool) -> std::io::Result<Self> {
            let (bytes, (send, open)) = (Arc::new(Mutex::new(Vec::new())), channel());
            let kept = Arc::clone(&bytes);
            let work = move || {
                let (Some(mut pipe), mut part, _open) = (pipe, [0; 4096], send) else { return };
                while let Ok(len @ 1..) = pipe.read(&mut part) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = (limit + 1).saturating_sub(kept.len()).min(len);
                    kept.extend_from_slice(part.get(..room).unwrap_or_default());
                    if kept.len() > limit && !drain {
                        return;
                    }
                }
            };
            std::thread::Builder::new().spawn(work).map(|_| Self { bytes, limit, open })
        }

        /// Waits until the pipe is closed, for at most this long.
        fn wait(&self, at_most: Duration) {
            if self.open.recv_timeout(at_most) == Err(RecvTimeoutError::Disconnected) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        /// Whether there is more output than the limit.
        fn is_over(&self) -> bool {
            self.bytes.lock().unwrap_or_else(PoisonError::into_inner).len() > self.limit
        }

        /// Returns what has been read when the pipe is closed, or after [`GRACE`].
        fn finish(self) -> Vec<u8> {
            let _ = self.open.recv_timeout(GRACE);
            std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    /// Runs a program and returns its standard output if it succeeds.
    pub(in super::super) fn output(program: &str, arguments: &[OsString], limits: Limits) -> Result<Vec<u8>, Ended> {
        let start = Instant::now();
        let failed = |error: std::io::Error| Ended::Start { program: program.to_owned(), problem: error.to_string() };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut running = Running::start(&mut command).map_err(failed)?;
        let stdout = Pipe::new(running.child.stdout.take(), limits.stdout_len, false).map_err(failed)?;
        let stderr = Pipe::new(running.child.stderr.take(), MAX_STDERR_LEN, true).map_err(failed)?;
        let status = running.wait(start, limits.timeout, &stdout).map_err(failed)?;
        let Some(status) = status.filter(|_| !stdout.is_over()) else {
            return Err(if stdout.is_over() { Ended::Output { limit: limits.stdout_len } } else { Ended::Timeout });
        };
        let bytes = if status.success() { stdout.finish() } else { Vec::new() };
        if bytes.len() > limits.stdout_len {
            return Err(Ended::Output { limit: limits.stdout_len });
        }
        if status.success() {
            return Ok(bytes);
        }
        let mut stderr = stderr.finish();
        stderr.truncate(MAX_STDERR_LEN);
        Err(Ended::Status { status: status.to_string(), stderr: printable(&stderr) })
    }
}

/// Platforms without processes.
#[cfg(not(any(unix, windows)))]
mod nowhere {
    use super::*;

    /// A folder that is never made.
    pub(in super::super) enum Folder {}

    impl Folder {
        pub(in super::super) fn new() -> Result<Self, ConformError> {
            Err(ConformError::NoProcesses)
        }

        pub(in super::super) fn within(&self, _: &str) -> Result<Self, ConformError> {
            match *self {}
        }

        pub(in super::super) fn path(&self, _: &str) -> PathBuf {
            match *self {}
        }

        pub(in super::super) fn write(&self, _: &str, _: &[u8]) -> Result<(), ConformError> {
            match *self {}
        }
    }

    pub(in super::super) const fn clean() {}

    pub(in super::super) fn output(program: &str, _: &[OsString], limits: Limits) -> Result<Vec<u8>, Ended> {
        let _ = (MAX_STDERR_LEN, limits.timeout, limits.stdout_len);
        Err(Ended::Start { program: program.to_owned(), problem: "this platform has no processes".to_owned() })
    }
}
