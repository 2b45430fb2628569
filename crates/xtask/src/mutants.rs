//! Does the suite `core` catch a decoder that is nearly right? Ten deliberate defects in the arithmetic, one at a time, in a copy
//! of the sources: the program is built with each, and must then fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

/// A defect: one text of one source file for another.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Name.
    pub name: &'static str,
    /// What it breaks, with the clause of SPEC.
    pub what: &'static str,
    /// Backends that run the changed code.
    pub backends: &'static [&'static str],
    /// Source file.
    pub file: &'static str,
    /// Text that occurs in it exactly once.
    pub from: &'static str,
    /// Text in its place.
    pub to: &'static str,
}

const BOTH: &[&str] = &["integer", "reference"];
/// The fast kernels have this in vector code of their own, which `mlic-kernels/tests/agree.rs` holds to the reference.
const REFERENCE: &[&str] = &["reference"];

/// The defects.
pub const MUTANTS: [Mutant; 10] = [
    Mutant {
        name: "rounding",
        what: "ties round toward minus infinity (3.1)",
        backends: REFERENCE,
        file: "crates/mlic-core/src/fixed.rs",
        from: "(v + (1 << (shift - 1))) >> shift",
        to: "(v + (1 << (shift - 1)) - 1) >> shift",
    },
    Mutant {
        name: "clamp",
        what: "saturation reaches one further below zero (3.2)",
        backends: BOTH,
        file: "crates/mlic-core/src/fixed.rs",
        from: "    } else if v < -max {\n        -max\n",
        to: "    } else if v < -max {\n        -max - 1\n",
    },
    Mutant {
        name: "parity",
        what: "anchors are taken from the other columns of a row (5.2)",
        backends: BOTH,
        file: "crates/mlic-core/src/checkerboard.rs",
        from: "Self::Anchor => 1 - row % 2,\n            Self::NonAnchor => row % 2,",
        to: "Self::Anchor => row % 2,\n            Self::NonAnchor => 1 - row % 2,",
    },
    Mutant {
        name: "table",
        what: "interpolation takes the entry before, at the entries themselves (4.3)",
        backends: REFERENCE,
        file: "crates/mlic-kernels/src/function.rs",
        from: "((magnitude >> 8) as usize, i64::from(magnitude & 0xff))",
        to: "((magnitude.saturating_sub(1) >> 8) as usize, i64::from(magnitude & 0xff))",
    },
    Mutant {
        name: "sign",
        what: "the residual has the other sign (4.4)",
        backends: REFERENCE,
        file: "crates/mlic-kernels/src/function.rs",
        from: "if x < 0 { -value } else { value }",
        to: "if x > 0 { -value } else { value }",
    },
    Mutant {
        name: "halo",
        what: "kernels reach one position too far up and left (4.2)",
        backends: REFERENCE,
        file: "crates/mlic-kernels/src/reference/layer.rs",
        from: "p as isize + offset as isize - (size / 2) as isize;",
        to: "p as isize + offset as isize - size.div_ceil(2) as isize + isize::from(size == 1);",
    },
    Mutant {
        name: "lanes",
        what: "lanes take turns backwards (6.3)",
        backends: BOTH,
        file: "crates/mlic-core/src/rans.rs",
        from: "(state >> PROB_BITS) + inside;\n        self.lane = (self.lane + 1) & self.lane_mask;",
        to: "(state >> PROB_BITS) + inside;\n        self.lane = (self.lane + self.lane_mask) & self.lane_mask;",
    },
    Mutant {
        name: "gain",
        what: "between two levels the gain of the lower one is taken (4.8)",
        backends: BOTH,
        file: "crates/mlic-model/src/model.rs",
        from: "divide(i64::from(*a) * (steps - t) + i64::from(*b) * t, steps) as i32",
        to: "divide(i64::from(*a) * (steps - t) + i64::from(*a) * t, steps) as i32",
    },
    Mutant {
        name: "residual-order",
        what: "a latent slice becomes context before its residual is added (5.3)",
        backends: BOTH,
        file: "crates/mlic-backend/src/entropy.rs",
        from: "self.slices.push(self.ops.quantize(id, &full)?);",
        to: "self.slices.push(current);",
    },
    Mutant {
        name: "threshold",
        what: "a scale equal to a threshold counts as above it (4.10)",
        backends: BOTH,
        file: "crates/mlic-kernels/src/function.rs",
        from: "partition_point(|t| *t < scale)",
        to: "partition_point(|t| *t <= scale)",
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

/// Builds and runs every mutant, or those that are named; says what was not caught.
///
/// # Errors
/// When something could not be tried: then nothing is said about it.
pub fn run(names: &[String]) -> Result<Vec<String>, String> {
    let known = |name: &&String| MUTANTS.iter().all(|mutant| mutant.name != name.as_str());
    if let Some(unknown) = names.iter().find(known) {
        return Err(format!("there is no mutant {unknown}"));
    }
    let copy = Copy::make()?;
    copy.build()?;
    for backend in BOTH {
        if !copy.passes(backend)? {
            return Err(format!("core does not pass on {backend} without a defect"));
        }
    }
    let mut missed = Vec::new();
    for mutant in MUTANTS.iter().filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name)) {
        let start = Instant::now();
        for backend in copy.survivors(mutant)? {
            missed.push(format!("{}: {} is not caught on {backend}", mutant.name, mutant.what));
        }
        eprintln!("{}: {} ({} s)", mutant.name, mutant.what, start.elapsed().as_secs());
    }
    Ok(missed)
}

fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// What is the same already keeps its time, so that nothing is built again.
fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    let parent = to.parent().unwrap_or(to);
    let copied = std::fs::create_dir_all(parent).and_then(|()| std::fs::read(from)).and_then(|bytes| {
        let same = std::fs::read(to).is_ok_and(|there| there == bytes);
        if same { Ok(()) } else { std::fs::write(to, bytes) }
    });
    copied.map_err(|e| format!("{}: {e}", from.display()))
}

impl Copy {
    /// The tracked files as they are now, beside a target folder that later runs find again.
    fn make() -> Result<Self, String> {
        let root = crate::root();
        let base = root.join("target/mutants");
        let copy = Self { tree: base.join("tree"), target: base.join("build"), small: base.join("small") };
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().map_err(|e| e.to_string())?;
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        for name in names.split('\0').filter(|name| root.join(name).is_file()) {
            copy_file(&root.join(name), &copy.tree.join(name))?;
        }
        copy.make_small()?;
        Ok(copy)
    }

    /// The vectors of `core` that the reference backend decodes quickly.
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
        let output = Command::new("cargo")
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

    /// Whether `core` passes up to `y_hat`.
    fn passes(&self, backend: &str) -> Result<bool, String> {
        let mut command = Command::new(self.target.join("release/mlic-conform"));
        command.args(["run", "core", "--level", "3", "--backend", backend]).stdout(Stdio::null()).stderr(Stdio::null());
        if backend == "reference" {
            command.arg("--suite-dir").arg(&self.small);
        }
        match command.status().map_err(|e| e.to_string())?.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            other => Err(format!("mlic-conform on {backend}: exit code {other:?}")),
        }
    }

    /// Backends on which a mutant is not caught. The copy is right again afterwards.
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
            let tried = mutant.backends.iter().map(|backend| Ok((*backend, self.passes(backend)?)));
            tried.collect::<Result<Vec<_>, String>>()
        });
        write(&path, &right)?;
        Ok(found?.into_iter().filter(|(_, passes)| *passes).map(|(backend, _)| backend).collect())
    }
}
