//! A bar on standard error for what takes longer than a second, where that is a terminal.

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
    /// Shows the bar when the delay is over, ends when `done` is dropped.
    shower: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Of work whose steps are counted.
    pub(crate) fn new(global: &Global) -> Self {
        Self::with_template(global, "{spinner} {msg} {wide_bar} {pos}/{len} {elapsed}")
    }

    /// Of work of which only what was done last is known.
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
        // Nothing is shown where no thread is to be had.
        let thread = std::thread::Builder::new().spawn(move || show_late(&shown, &waiting));
        Self { bar, shower: thread.ok().map(|thread| (done, thread)) }
    }

    /// Takes an event of the codec, which goes on.
    pub(crate) fn event(&self, event: ProgressEvent) -> ControlFlow<()> {
        match event {
            ProgressEvent::Stage(stage) => self.bar.set_message(stage.to_string()),
            ProgressEvent::Pass { index, count } => self.step(index + 1, count),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// `done` of `count` steps are done.
    pub(crate) fn step(&self, done: usize, count: usize) {
        self.bar.set_length(count as u64);
        self.bar.set_position(done as u64);
    }

    /// Prints something while the line is out of the way.
    pub(crate) fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    /// What is being done.
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
