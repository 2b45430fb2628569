//! Compresses the compiled kernels, which makes them a fourth as large in the program.

use std::path::PathBuf;
use std::{env, fs, io};

/// Effort of the compression: the highest of zlib.
const LEVEL: u8 = 9;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=images");
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{name} is not set")));
    let (images, out) = (folder("CARGO_MANIFEST_DIR")?.join("images"), folder("OUT_DIR")?);
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(&fs::read(entry.path())?, LEVEL);
        fs::write(out.join(entry.file_name()), packed)?;
    }
    Ok(())
}
