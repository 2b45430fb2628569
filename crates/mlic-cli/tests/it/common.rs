//! Runs the program in a directory of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small model package.
pub(crate) const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/models/tiny.mlicpkg");

/// A directory for the files that the program reads and writes.
pub(crate) struct Place(tempfile::TempDir);

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Place {
    /// A directory with the colour picture `in.ppm` and the gray picture `gray.pgm`.
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.put("in.ppm", &ppm(48, 40));
        place.put("gray.pgm", &pgm(40, 33));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names of all files, sorted; a failure must not add to them.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.0.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mlic"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, b"")
    }

    /// Runs the program with bytes on standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Ended {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // A program that fails early does not read its input.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ended { code: output.status.code().unwrap(), stdout: output.stdout, stderr: String::from_utf8(output.stderr).unwrap() }
    }

    /// Runs the program, which must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        ended
    }

    /// Runs the program, which must end with `code` and one line of error with each of `texts` in it, and add or remove no file.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32, texts: &[&str]) {
        let before = self.names();
        let ended = self.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
        ended.has_error(texts);
        assert_eq!(self.names(), before, "{arguments:?}");
    }

    /// The stream of `in.ppm`, which is also written to `in.mlic`.
    pub(crate) fn stream(&self) -> Vec<u8> {
        self.ok(&["encode", "in.ppm"]);
        self.get("in.mlic")
    }
}

impl Ended {
    pub(crate) fn has_error(&self, texts: &[&str]) {
        let errors: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("mlic: error: ")).collect();
        let [error] = errors[..] else { panic!("not one error: {}", self.stderr) };
        for text in texts {
            assert!(error.contains(text), "`{text}` is not in `{error}`");
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// A picture with structure and noise.
pub(crate) fn ppm(width: u32, height: u32) -> Vec<u8> {
    let mut out = format!("P6\n{width} {height}\n255\n").into_bytes();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let noise = (x * 7919 + y * 104_729) % 1009 % 23;
        out.extend([(x * 4 % 200 + noise) as u8, (y * 5 % 200 + noise) as u8, (120 + noise) as u8]);
    }
    out
}

/// A gray picture.
pub(crate) fn pgm(width: u32, height: u32) -> Vec<u8> {
    let mut out = format!("P5\n{width} {height}\n255\n").into_bytes();
    out.extend((0..width * height).map(|i| (i * 31 % 211) as u8));
    out
}

/// Width, height and colour type of a PNG file.
pub(crate) fn png_size(file: &[u8]) -> (u32, u32, u8) {
    assert_eq!(file[..8], *b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    (number(16), number(20), file[25])
}

/// A PNG file of one pixel, with a chunk before it if asked for: enough to test what is refused and what is kept.
pub(crate) fn png_with(color: u8, depth: u8, pixel: &[u8], chunk: Option<(&[u8; 4], &[u8])>) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut put = |kind: &[u8; 4], body: &[u8]| {
        let checked = [kind.as_slice(), body].concat();
        out.extend((body.len() as u32).to_be_bytes());
        out.extend(&checked);
        out.extend(crc32(&checked).to_be_bytes());
    };
    put(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, depth, color, 0, 0, 0]);
    chunk.iter().for_each(|(kind, body)| put(kind, body));
    // zlib with one stored block: filter type 0 and the pixel.
    let row = [&[0], pixel].concat();
    let (mut low, mut high) = (1u32, 0u32);
    row.iter().for_each(|&b| (low, high) = ((low + u32::from(b)) % 65521, (high + low + u32::from(b)) % 65521));
    let len = row.len() as u16;
    let adler = (high << 16 | low).to_be_bytes();
    put(b"IDAT", &[&[0x78, 0x01, 0x01][..], &len.to_le_bytes(), &(!len).to_le_bytes(), &row, &adler].concat());
    put(b"IEND", b"");
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |c: u32| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 };
    !bytes.iter().fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| step(c)))
}

/// Whether the path is that of a file.
pub(crate) fn is_file(path: &Path) -> bool {
    path.is_file()
}
