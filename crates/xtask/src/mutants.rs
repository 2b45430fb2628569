//! Tests whether the suites catch a decoder that is nearly right. Deliberate defects of the arithmetic are put into a copy of the sources, one at
//! a time; the program is built with each, and must then fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::cross::{io, output};
use crate::jetson::archive::files;

/// A defect: one text of a source file replaced by another.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Name.
    pub name: &'static str,
    /// What it breaks, with the clause of SPEC.
    pub what: &'static str,
    /// Backends that run the changed code.
    pub backends: &'static [&'static str],
    /// The suites that must fail.
    pub data: Data,
    /// Source file.
    pub file: &'static str,
    /// Text that occurs in the file exactly once.
    pub from: &'static str,
    /// Text that replaces it.
    pub to: &'static str,
}

/// The suites on which a mutant is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// `core`: streams of pictures, compared up to `y_hat`.
    Core,
    /// The `edge-cases` suites: packages generated to break decoders, compared up to exact pixels.
    EdgeCases,
}

const BOTH: &[&str] = &["integer", "reference"];
/// For code that the fast kernels do not run: they have vector code of their own, which `mlic-kernels/tests/it/agree.rs` compares with the reference.
const REFERENCE: &[&str] = &["reference"];

/// For code that the definition does not run: it has code of its own.
const INTEGER: &[&str] = &["integer"];

/// The defects.
pub const MUTANTS: [Mutant; 20] = [
    Mutant {
        name: "rounding",
        what: "ties round toward minus infinity (3.1)",
        backends: REFERENCE,
        data: Data::Core,
        file: "crates/mlic-core/src/fixed.rs",
        from: "(v + half_of(shift)) >> shift",
        to: "(v + half_of(shift) - 1) >> shift",
    },
    Mutant {
        name: "clamp",
        what: "saturation reaches one further below zero (3.2)",
        backends: BOTH,
        data: Data::Core,
        file: "crates/mlic-core/src/fixed.rs",
        from: "    } else if v < -max {\n        -max\n",
        to: "    } else if v < -max {\n        -max - 1\n",
    },
    Mutant {
        name: "parity",
        what: "anchors are taken from the other columns of a row (5.2)",
        backends: BOTH,
        data: Data::Core,
        file: "crates/mlic-core/src/checkerboard.rs",
        from: "Self::Anchor => 1 - row % 2,\n            Self::NonAnchor => row % 2,",
        to: "Self::Anchor => row % 2,\n            Self::NonAnchor => 1 - row % 2,",
    },
    Mutant {
        name: "table",
        what: "interpolation takes the entry before, at the entries themselves (4.3)",
        backends: REFERENCE,
        data: Data::Core,
        file: "crates/mlic-kernels/src/function.rs",
        from: "((magnitude >> 8) as usize, i64::from(magnitude & 0xff))",
        to: "((magnitude.saturating_sub(1) >> 8) as usize, i64::from(magnitude & 0xff))",
    },
    Mutant {
        name: "sign",
        what: "the residual has the other sign (4.4)",
        backends: REFERENCE,
        data: Data::Core,
        file: "crates/mlic-kernels/src/function.rs",
        from: "if x < 0 { -value } else { value }",
        to: "if x > 0 { -value } else { value }",
    },
    Mutant {
        name: "halo",
        what: "kernels reach one position too far up and left (4.2)",
        backends: REFERENCE,
        data: Data::Core,
        file: "crates/mlic-kernels/src/reference/layer.rs",
        from: "p as isize + offset as isize - (size / 2) as isize;",
        to: "p as isize + offset as isize - size.div_ceil(2) as isize + isize::from(size == 1);",
    },
    Mutant {
        name: "lanes",
        what: "lanes take turns backwards (6.3)",
        backends: BOTH,
        data: Data::Core,
        file: "crates/mlic-core/src/rans.rs",
        from: "= state;\n        self.lane = (self.lane + 1) & self.lane_mask;",
        to: "= state;\n        self.lane = (self.lane + self.lane_mask) & self.lane_mask;",
    },
    Mutant {
        name: "gain",
        what: "between two levels the gain of the lower one is taken (4.8)",
        backends: BOTH,
        data: Data::Core,
        file: "crates/mlic-model/src/model.rs",
        from: "divide(i64::from(*a) * (steps - t) + i64::from(*b) * t, steps) as i32",
        to: "divide(i64::from(*a) * (steps - t) + i64::from(*a) * t, steps) as i32",
    },
    Mutant {
        name: "residual-order",
        what: "a latent slice becomes context before its residual is added (5.3)",
        backends: BOTH,
        data: Data::Core,
        file: "crates/mlic-backend/src/entropy.rs",
        from: "self.slices.push(self.ops.quantize(id, &full)?);",
        to: "self.slices.push(current);",
    },
    Mutant {
        name: "threshold",
        what: "a scale equal to a threshold counts as above it (4.10)",
        backends: BOTH,
        data: Data::Core,
        file: "crates/mlic-kernels/src/function.rs",
        from: "partition_point(|t| *t < scale)",
        to: "partition_point(|t| *t <= scale)",
    },
    Mutant {
        name: "squares",
        what: "sums of squares are rounded down (4.11)",
        backends: REFERENCE,
        data: Data::EdgeCases,
        file: "crates/mlic-kernels/src/reference/gdn.rs",
        from: "round_shift(sum + gdn.beta[c], gdn.shift).min(MAX_NORM)",
        to: "((sum + gdn.beta[c]) >> gdn.shift).min(MAX_NORM)",
    },
    Mutant {
        name: "squares-limit",
        what: "sums of squares have another limit (4.11)",
        backends: REFERENCE,
        data: Data::EdgeCases,
        file: "crates/mlic-kernels/src/reference/gdn.rs",
        from: "gdn.shift).min(MAX_NORM)",
        to: "gdn.shift).min(2 * MAX_NORM)",
    },
    Mutant {
        name: "root",
        what: "square roots from the table are not corrected (3.4, 4.11)",
        backends: INTEGER,
        data: Data::EdgeCases,
        file: "crates/mlic-kernels/src/fast/root.rs",
        from: "let root = s.sub(root, s.less(s.add(root, root), rest));",
        to: "",
    },
    Mutant {
        name: "winograd",
        what: "tiles of 2x2 outputs take their last column with the wrong sign (4.2)",
        backends: INTEGER,
        data: Data::EdgeCases,
        file: "crates/mlic-kernels/src/fast/winograd.rs",
        from: "s.sub(s.sub(b, c), d)",
        to: "s.add(s.sub(b, c), d)",
    },
    Mutant {
        name: "sample",
        what: "samples below 0 wrap around (4.2)",
        backends: REFERENCE,
        data: Data::EdgeCases,
        file: "crates/mlic-kernels/src/reference/layer.rs",
        from: "saturate(v.max(0), view.max)",
        to: "saturate(v, view.max)",
    },
    Mutant {
        name: "sample-fast",
        what: "the same in the fast kernels (4.2)",
        backends: INTEGER,
        data: Data::EdgeCases,
        file: "crates/mlic-kernels/src/fast/epilogue.rs",
        from: "Self([0, max])",
        to: "Self([-max, max])",
    },
    Mutant {
        name: "shuffle",
        what: "rows and columns of a pixel shuffle change places (4.2)",
        backends: INTEGER,
        data: Data::EdgeCases,
        file: "crates/mlic-model/src/nodes.rs",
        from: "(0..4).flat_map(|phase|",
        to: "[0, 2, 1, 3].into_iter().flat_map(|phase|",
    },
    Mutant {
        name: "shuffle-identity",
        what: "an identity term under a pixel shuffle reads channels in another order (4.2)",
        backends: INTEGER,
        data: Data::EdgeCases,
        file: "crates/mlic-kernels/src/fast/nodes.rs",
        from: "if own.shuffles() { layer.with_shuffled_inputs() } else { layer }",
        to: "layer",
    },
    Mutant {
        name: "strip",
        what: "a strip is computed without the rows below it that its last rows read (4.2)",
        backends: INTEGER,
        data: Data::EdgeCases,
        file: "crates/mlic-model/src/nodes.rs",
        from: "(end * self.stride + self.halo + 1)",
        to: "(end * self.stride + 1)",
    },
    Mutant {
        name: "latent-limit",
        what: "y after its gain wraps around (5.7)",
        backends: BOTH,
        data: Data::EdgeCases,
        file: "crates/mlic-model/src/model.rs",
        from: "saturate(round_shift(i64::from(*y) * i64::from(*gain), 16), LATENT_MAX)",
        to: "(round_shift(i64::from(*y) * i64::from(*gain), 16) as i32)",
    },
];

/// Pictures of more pixels than this are left out for the reference backend, which is slow.
const REFERENCE_PIXELS: u64 = 64 * 64;

struct Copy {
    tree: PathBuf,
    target: PathBuf,
    /// Folder of suites with the small vectors of `core`.
    small: PathBuf,
}

/// Builds and runs every mutant, or only the named ones. Returns a line for each backend on which a mutant was not caught.
///
/// # Errors
/// When something could not be tried; there is no result then.
pub fn run(names: &[String]) -> Result<Vec<String>, String> {
    let known = |name: &&String| MUTANTS.iter().all(|mutant| mutant.name != name.as_str());
    if let Some(unknown) = names.iter().find(known) {
        return Err(format!("there is no mutant {unknown}"));
    }
    let copy = Copy::make()?;
    copy.build()?;
    let chosen: Vec<&Mutant> =
        MUTANTS.iter().filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name)).collect();
    for data in [Data::Core, Data::EdgeCases].into_iter().filter(|data| chosen.iter().any(|mutant| mutant.data == *data)) {
        for backend in BOTH {
            if !copy.passes(backend, data)? {
                return Err(format!("{data:?} does not pass on {backend} without a defect"));
            }
        }
    }
    let mut missed = Vec::new();
    for mutant in chosen {
        let start = Instant::now();
        for backend in copy.survivors(mutant)? {
            missed.push(format!("{}: {} is not caught on {backend}", mutant.name, mutant.what));
        }
        eprintln!("{}: {} ({} s)", mutant.name, mutant.what, start.elapsed().as_secs());
    }
    Ok(missed)
}

fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(io(path))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(io(path))
}

/// Copies a file, unless the copy is the same already: it then keeps its time, so that nothing is built again.
fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    let parent = to.parent().unwrap_or(to);
    let copied = std::fs::create_dir_all(parent).and_then(|()| std::fs::read(from)).and_then(|bytes| {
        let same = std::fs::read(to).is_ok_and(|there| there == bytes);
        if same { Ok(()) } else { std::fs::write(to, bytes) }
    });
    copied.map_err(io(from))
}

/// Copies these files of one folder to another and removes all other files there, so that a source that was moved is in one place.
///
/// # Errors
/// A file that cannot be copied or removed.
pub fn copy_tree<'a>(from: &Path, names: impl Iterator<Item = &'a str>, to: &Path) -> Result<(), String> {
    let names: BTreeSet<PathBuf> = names.map(PathBuf::from).collect();
    fs::create_dir_all(to).map_err(io(to))?;
    for other in files(to)?.iter().filter(|path| path.strip_prefix(to).is_ok_and(|name| !names.contains(name))) {
        fs::remove_file(other).map_err(io(other))?;
        // Remove folders that are empty now, too.
        let _ = other.ancestors().skip(1).take_while(|folder| *folder != to).try_for_each(fs::remove_dir);
    }
    names.iter().try_for_each(|name| copy_file(&from.join(name), &to.join(name)))
}

impl Copy {
    /// Copies the tracked files as they are now, beside a target folder that later runs reuse.
    fn make() -> Result<Self, String> {
        let root = crate::root();
        let base = root.join("target/mutants");
        let copy = Self { tree: base.join("tree"), target: base.join("build"), small: base.join("small") };
        let listed = output(Command::new("git").args(["ls-files", "-z"]).current_dir(&root))?;
        copy_tree(&root, listed.split('\0').filter(|name| root.join(name).is_file()), &copy.tree)?;
        copy.make_small()?;
        Ok(copy)
    }

    /// Makes a suite of those vectors of `core` that the reference backend decodes quickly.
    fn make_small(&self) -> Result<(), String> {
        let from = self.tree.join("conformance/core");
        let mut manifest: Value = serde_json::from_str(&text(&from.join("manifest.json"))?).map_err(|e| e.to_string())?;
        let side = |vector: &Value, name: &str| vector["expect"]["decodes"]["header"][name].as_u64().unwrap_or(u64::MAX);
        let small = |vector: &Value| side(vector, "width").saturating_mul(side(vector, "height")) <= REFERENCE_PIXELS;
        let mut vectors: Vec<Value> =
            manifest["vectors"].as_array().into_iter().flatten().filter(|v| small(v)).cloned().collect();
        for vector in &mut vectors {
            if let Some(decodes) = vector["expect"]["decodes"].as_object_mut() {
                decodes.remove("picture");
            }
            let file = vector["stream"]["file"].as_str().unwrap_or_default();
            copy_file(&from.join(file), &self.small.join("core").join(file))?;
        }
        manifest["vectors"] = vectors.into();
        write(&self.small.join("core/manifest.json"), &manifest.to_string())
    }

    fn build(&self) -> Result<(), String> {
        let output = crate::cargo()
            .args(["build", "--quiet", "--release", "--locked", "-p", "mlic-conform", "--no-default-features"])
            .args(["--features", "embedded-model"])
            .env("CARGO_TARGET_DIR", &self.target)
            // One line changes from mutant to mutant.
            .env("CARGO_INCREMENTAL", "1")
            .current_dir(&self.tree)
            .output()
            .map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Whether the suites pass on a backend, up to the level to which they are exact.
    fn passes(&self, backend: &str, data: Data) -> Result<bool, String> {
        let mut command = Command::new(self.target.join("release/mlic-conform"));
        match data {
            Data::Core => command.args(["run", "core", "--level", "3"]),
            Data::EdgeCases => command.args(["run", "edge-cases*", "--level", "4"]),
        };
        command.args(["--backend", backend]).stdout(Stdio::null()).stderr(Stdio::null());
        if backend == "reference" && data == Data::Core {
            command.arg("--suite-dir").arg(&self.small);
        }
        match command.status().map_err(|e| e.to_string())?.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            other => Err(format!("mlic-conform on {backend}: exit code {other:?}")),
        }
    }

    /// Backends on which a mutant is not caught. Afterwards the copy is without the defect again.
    fn survivors(&self, mutant: &Mutant) -> Result<Vec<&'static str>, String> {
        let path = self.tree.join(mutant.file);
        let right = text(&path)?;
        if right.matches(mutant.from).count() != 1 {
            return Err(format!(
                "{}: {} does not hold the text once; the list of mutants must follow it",
                mutant.name, mutant.file
            ));
        }
        write(&path, &right.replacen(mutant.from, mutant.to, 1))?;
        let found = self.build().and_then(|()| {
            let tried = mutant.backends.iter().map(|backend| Ok((*backend, self.passes(backend, mutant.data)?)));
            tried.collect::<Result<Vec<_>, String>>()
        });
        write(&path, &right)?;
        Ok(found?.into_iter().filter(|(_, passes)| *passes).map(|(backend, _)| backend).collect())
    }
}
