//! Sets the soname of the shared library: `libmlic_c.so.ABI`, with the number that `include/mlic.h` gives.

use std::{env, fs, io};

const HEADER: &str = "include/mlic.h";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={HEADER}");
    let header = fs::read_to_string(HEADER)?;
    let abi = header.lines().find_map(|line| line.strip_prefix("#define MLIC_ABI ")?.strip_suffix('u'));
    let abi = abi.ok_or_else(|| io::Error::other(format!("{HEADER} does not define MLIC_ABI")))?;
    // On other systems versions are not part of the name, or are written differently.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libmlic_c.so.{abi}");
    }
    Ok(())
}
