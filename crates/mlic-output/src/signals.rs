//! Signals that end a program.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Whether this program was started with a signal ignored, as `nohup` does, and a shell for programs in the background.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// From now on, a signal that ends the program still does so at once, but only after `clean` has run and unfinished files are removed. A file that would
/// become larger than the user's limit makes the write fail instead of ending the program.
///
/// # Errors
/// When the system refuses the signal handlers, or the thread that waits for signals.
pub fn end_on_signals(clean: impl FnOnce() + Send + 'static) -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)))?;
    let work = move || {
        let Some(signal) = signals.forever().next() else { return };
        clean();
        // The lock is held to the end, so that no further file is begun.
        let unfinished = super::unfinished();
        unfinished.iter().for_each(|path| drop(std::fs::remove_file(path)));
        let _ = emulate_default_handler(signal);
        // In case the program cannot end by the signal itself.
        std::process::exit(128 + signal);
    };
    std::thread::Builder::new().name("signals".into()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::{Destination, Output};

    const FOLDER: &str = "MLIC_OUTPUT_CHILD";

    /// Run as a process of its own by the test below, and then never ends by itself.
    #[test]
    fn child() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        end_on_signals(|| println!("cleaned")).unwrap();
        let output = Output::new(Destination::File(Path::new(&folder).join("whole")), false);
        let forever = output.write_with(|to| {
            to.write_all(b"half")?;
            println!("writing");
            loop {
                std::thread::park();
            }
        });
        forever.unwrap();
    }

    fn send(signal: &str, child: &Child) {
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn a_signal_leaves_nothing_half_written() {
        for (name, number) in [("INT", SIGINT), ("TERM", SIGTERM), ("HUP", SIGHUP)] {
            // Whoever runs this test may ignore signals, as `nohup` does; its children then ignore them too.
            if is_ignored(number) {
                eprintln!("not run: {name} is ignored here");
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["signals::tests::child", "--exact", "--nocapture"]).env(FOLDER, folder.path());
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            assert!(lines.any(|line| line.ends_with("writing")), "{name}");
            assert_eq!(folder.path().read_dir().unwrap().count(), 1, "the temporary file");
            send(name, &child);
            assert_eq!(child.wait().unwrap().signal(), Some(number));
            assert!(lines.any(|line| line == "cleaned"), "{name}");
            assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{name}");
        }
    }
}
