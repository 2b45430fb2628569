//! The files of each package as they lie in a root file system: all below `usr/`, so that nothing is ever written to `lib/`, which
//! is a link in the root file systems of NVIDIA.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::archive::{Release, text};
use super::build::{Built, LIBRARY, PROGRAMS};
use super::image::Image;
use super::tools::Tools;
use super::{elf, notices};
use crate::cross::{io, output};

/// The unit that tests the programs on the device.
pub const UNIT: &str = "usr/lib/systemd/system/mlic-selftest.service";
/// File name of the unit.
#[must_use]
pub fn unit_name() -> &'static str {
    UNIT.rsplit('/').next().unwrap_or(UNIT)
}

/// The suite that is installed with the programs.
const SUITE: &str = "smoke";
/// Shells, each with the folder where it looks for completions, and what its file names have before and after the program's name.
const SHELLS: [(&str, &str, &str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions", "", ""),
    ("fish", "usr/share/fish/vendor_completions.d", "", ".fish"),
    ("zsh", "usr/share/zsh/vendor-completions", "_", ""),
];

/// Where Debian and Ubuntu have libraries for this processor.
pub const LIBRARIES: &str = "usr/lib/aarch64-linux-gnu";

/// A package: its name, and the function that puts its files below an empty folder.
pub type Package = (&'static str, fn(&Tools, &Built, &Path) -> Result<(), String>);
/// All packages, which have no file in common.
pub const PACKAGES: [Package; 3] = [("mlic", programs), ("libmlic-c1", library), ("libmlic-c-dev", development)];

/// Puts the programs and what they need below an empty folder.
fn programs(tools: &Tools, built: &Built, root: &Path) -> Result<(), String> {
    let tree = Tree { root };
    for (program, _) in PROGRAMS {
        tree.copy(&built.folder.join(program), &format!("usr/bin/{program}"), 0o755)?;
    }
    tree.copy(&source("models/edge/edge.mlicpkg"), "usr/share/mlic/edge.mlicpkg", 0o644)?;
    tree.suite()?;
    tree.copy(&source("packaging/jetson/mlic-selftest.service"), UNIT, 0o644)?;
    tree.enable_unit()?;
    tree.texts(&Image { root: tools.userland.clone(), runner: tools.runner.clone() })?;
    tree.documents("mlic", &notices::text(built, &built.programs)?)
}

/// Puts the library, under a name with its version, and the link that the loader looks for below an empty folder.
fn library(_: &Tools, built: &Built, root: &Path) -> Result<(), String> {
    let (tree, library) = (Tree { root }, built.folder.join(LIBRARY.0));
    let soname = soname(&library)?;
    let file = format!("{soname}.{}", env!("CARGO_PKG_VERSION"));
    tree.copy(&library, &format!("{LIBRARIES}/{file}"), 0o644)?;
    tree.link(&format!("{LIBRARIES}/{soname}"), &file)?;
    tree.documents("libmlic-c1", &notices::text(built, &built.library)?)
}

/// Puts what programs are compiled with below an empty folder.
fn development(_: &Tools, built: &Built, root: &Path) -> Result<(), String> {
    let tree = Tree { root };
    tree.copy(&source("crates/mlic-capi/include/mlic.h"), "usr/include/mlic.h", 0o644)?;
    tree.link(&format!("{LIBRARIES}/{}", LIBRARY.0), &soname(&built.folder.join(LIBRARY.0))?)?;
    let description = Release::current()?.fill(&text("packaging/mlic.pc")?);
    tree.put(&format!("{LIBRARIES}/pkgconfig/mlic.pc"), description.as_bytes(), 0o644)?;
    // `libmlic-c1` is installed whenever this package is.
    tree.link("usr/share/doc/libmlic-c-dev", "libmlic-c1")
}

fn soname(library: &Path) -> Result<String, String> {
    elf::read(library)?.soname.ok_or_else(|| format!("{}: has no soname", library.display()))
}

fn source(path: &str) -> PathBuf {
    crate::root().join(path)
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    /// Writes a file with its mode, and makes the folders on the way to it.
    fn put(&self, path: &str, contents: &[u8], mode: u32) -> Result<PathBuf, String> {
        let place = self.root.join(path);
        make_folders(self.root, &place)?;
        fs::write(&place, contents).map_err(io(&place))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).map_err(io(&place))?;
        Ok(place)
    }

    fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<(), String> {
        self.put(path, &read(from)?, mode).map(drop)
    }

    fn link(&self, path: &str, target: &str) -> Result<(), String> {
        let place = self.root.join(path);
        make_folders(self.root, &place)?;
        symlink(target, &place).map_err(io(&place))
    }

    /// Writes a compressed file, `PATH.gz`, which contains neither its name nor its time.
    fn packed(&self, path: &str, contents: &[u8]) -> Result<(), String> {
        let place = self.put(path, contents, 0o644)?;
        output(Command::new("gzip").args(["-9", "--no-name"]).arg(place)).map(drop)
    }

    /// Writes the documents that Debian wants every package to have, and the licences of third parties.
    fn documents(&self, package: &str, third_party: &str) -> Result<(), String> {
        let place = |name: &str| format!("usr/share/doc/{package}/{name}");
        self.copy(&source("packaging/debian/copyright"), &place("copyright"), 0o644)?;
        self.copy(&source("packaging/debian/lintian-overrides"), &format!("usr/share/lintian/overrides/{package}"), 0o644)?;
        self.packed(&place("changelog.Debian"), &read(&source("packaging/debian/changelog"))?)?;
        self.packed(&place("changelog"), &read(&source("CHANGELOG.md"))?)?;
        self.packed(&place("third-party"), third_party.as_bytes())
    }

    /// Copies the smoke suite and the model that it names.
    fn suite(&self) -> Result<(), String> {
        let data = crate::root().join("conformance");
        let folder = data.join(SUITE);
        for entry in fs::read_dir(&folder).map_err(io(&folder))? {
            let path = entry.map_err(io(&folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.copy(&path, &format!("usr/share/mlic/conformance/{SUITE}/{name}"), 0o644)?;
        }
        let manifest: Value = serde_json::from_slice(&read(&folder.join("manifest.json"))?).map_err(|e| e.to_string())?;
        let package = manifest["model"]["package"].as_str().ok_or_else(|| format!("{SUITE} names no package"))?;
        self.copy(&data.join(package), &format!("usr/share/mlic/conformance/{package}"), 0o644)
    }

    /// Enables the unit by a link below `usr/`, which needs neither `systemctl` nor a file in `etc/`.
    fn enable_unit(&self) -> Result<(), String> {
        let name = unit_name();
        let link = Path::new(UNIT).with_file_name("multi-user.target.wants").join(name);
        self.link(&link.display().to_string(), &format!("../{name}"))
    }

    /// Writes manual pages and completions, which the programs print themselves.
    fn texts(&self, image: &Image) -> Result<(), String> {
        let pages = self.root.join("pages");
        for (program, _) in PROGRAMS {
            let path = self.root.join("usr/bin").join(program);
            output(image.run(&path).arg("man").arg(&pages))?;
            for (shell, folder, before, after) in SHELLS {
                let script = output(image.run(&path).args(["completions", shell]))?;
                self.put(&format!("{folder}/{before}{program}{after}"), script.as_bytes(), 0o644)?;
            }
        }
        for entry in fs::read_dir(&pages).map_err(io(&pages))? {
            let page = entry.map_err(io(&pages))?.path();
            let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.packed(&format!("usr/share/man/man1/{name}"), &read(&page)?)?;
        }
        fs::remove_dir_all(&pages).map_err(io(&pages))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(io(path))
}

/// Makes the folders of a path below a root, readable by all whatever the user's umask.
fn make_folders(root: &Path, path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(io(folder))?;
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(root)) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(io(folder))?;
    }
    Ok(())
}
