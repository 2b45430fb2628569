//! A progress bar on standard error, where that is a terminal, for what takes longer than a second.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlic::ProgressEvent;

use crate::args::Global;

/// Nothing is shown before this much time has passed.
const DELAY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

/// Progress of one command. Dropping it clears the line.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// A thread that shows the bar when the delay is over, and ends when the sender is dropped.
    shower: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Progress of work whose steps are counted.
    pub(crate) fn new(global: &Global) -> Self {
        Self::with_template(global, "{spinner} {msg} {wide_bar} {pos}/{len} {elapsed}")
    }

    /// Progress of work whose steps are not counted, only named.
    #[cfg(feature = "builder")]
    pub(crate) fn uncounted(global: &Global) -> Self {
        Self::with_template(global, "{spinner} {wide_msg} {elapsed}")
    }

    fn with_template(global: &Global, template: &str) -> Self {
        let bar = ProgressBar::hidden();
        if global.quiet || !std::io::stderr().is_terminal() {
            return Self { bar, shower: None };
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let (done, waiting) = channel();
        let shown = bar.clone();
        // If no thread can be started, nothing is shown.
        let thread = std::thread::Builder::new().spawn(move || show_late(&shown, &waiting));
        Self { bar, shower: thread.ok().map(|thread| (done, thread)) }
    }

    /// Shows an event of the codec, and lets the codec go on.
    pub(crate) fn event(&self, event: ProgressEvent) -> ControlFlow<()> {
        match event {
            ProgressEvent::Stage(stage) => self.bar.set_message(stage.to_string()),
            ProgressEvent::Pass { index, count } => self.step(index + 1, count),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Shows that `done` of `count` steps are done.
    pub(crate) fn step(&self, done: usize, count: usize) {
        self.bar.set_length(count as u64);
        self.bar.set_position(done as u64);
    }

    /// Prints something while the bar is out of the way.
    pub(crate) fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    /// Shows what is being done.
    pub(crate) fn message(&self, text: String) {
        self.bar.set_message(text);
    }
}

fn show_late(bar: &ProgressBar, done: &Receiver<()>) {
    if done.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.shower.take() {
            drop(done);
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
