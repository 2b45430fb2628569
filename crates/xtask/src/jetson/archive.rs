//! The Debian package and the archive to lay over a root file system: the same bytes whenever and wherever they are made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{PROGRAMS, Programs};
use super::tools::Tools;
use super::{elf, tree};
use crate::cross::{io, output};

/// The programs that dpkg starts.
const SCRIPTS: [&str; 2] = ["postinst", "postrm"];

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// The Debian package.
    pub deb: PathBuf,
    /// The archive with the same files.
    pub overlay: PathBuf,
}

/// Version and time of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Debian's version, `0.1.0-1`.
    pub version: String,
    /// The date as the changelog writes it.
    pub date: String,
}

impl Release {
    /// The first entry of a Debian changelog.
    ///
    /// # Errors
    /// When it has none, or is of another version of the workspace.
    pub fn parse(changelog: &str) -> Result<Self, String> {
        let version = changelog.split_once('(').and_then(|(_, rest)| rest.split(')').next());
        let date = changelog.lines().find_map(|line| line.strip_prefix(" -- ")?.split_once("  "));
        let (Some(version), Some((_, date))) = (version, date) else { return Err("the changelog has no entry".into()) };
        if version.rsplit_once('-').is_none_or(|(upstream, _)| upstream != env!("CARGO_PKG_VERSION")) {
            return Err(format!("the changelog is of {version}, the programs are of {}", env!("CARGO_PKG_VERSION")));
        }
        Ok(Self { version: version.to_owned(), date: date.to_owned() })
    }

    /// Seconds since 1970, for every file.
    fn epoch(&self) -> Result<String, String> {
        match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) if !epoch.is_empty() => Ok(epoch),
            _ => output(Command::new("date").args(["--utc", "+%s", "--date", &self.date])).map(|text| text.trim().to_owned()),
        }
    }
}

fn text(path: &str) -> Result<String, String> {
    let path = crate::root().join("packaging/debian").join(path);
    fs::read_to_string(&path).map_err(io(&path))
}

/// Packs the programs; what lay in the folder under the same names is replaced.
///
/// # Errors
/// What could not be read or written.
pub fn make(tools: &Tools, programs: &Programs, folder: &Path) -> Result<Packages, String> {
    let release = Release::parse(&text("changelog")?)?;
    let (root, version, epoch) = (folder.join("root"), &release.version, release.epoch()?);
    if root.exists() {
        fs::remove_dir_all(&root).map_err(io(&root))?;
    }
    fs::create_dir_all(&root).map_err(io(&root))?;
    tree::stage(tools, programs, &root)?;
    let overlay = overlay(&root, &folder.join(format!("mlic-rootfs-overlay_{version}_arm64.tar")), &epoch)?;
    let deb = deb(programs, &root, &folder.join(format!("mlic_{version}_arm64.deb")), version, &epoch)?;
    Ok(Packages { deb, overlay })
}

fn overlay(root: &Path, archive: &Path, epoch: &str) -> Result<PathBuf, String> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{epoch}")).arg("--file").arg(archive).arg("--directory").arg(root).arg("usr");
    output(&mut tar)?;
    output(Command::new("gzip").args(["--no-name", "--force"]).arg(archive))?;
    Ok(archive.with_extension("tar.gz"))
}

fn deb(programs: &Programs, root: &Path, package: &Path, version: &str, epoch: &str) -> Result<PathBuf, String> {
    let control = root.join("DEBIAN");
    fs::create_dir(&control).map_err(io(&control))?;
    let put = |name: &str, text: &str, mode: u32| {
        let path = control.join(name);
        fs::write(&path, text).map_err(io(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(io(&path))
    };
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).map_err(io(&control))?;
    let elves = PROGRAMS.iter().map(|(name, _)| elf::read(&programs.folder.join(name))).collect::<Result<Vec<_>, _>>()?;
    let files = files(&root.join("usr"))?;
    let filled = text("control")?
        .replace("@VERSION@", version)
        .replace("@DEPENDS@", &elf::depends(elves.iter()))
        .replace("@INSTALLED_SIZE@", &kibibytes(&files)?.to_string());
    put("control", &filled, 0o644)?;
    for script in SCRIPTS {
        put(script, &text(script)?, 0o755)?;
    }
    let names = files.iter().filter(|path| !path.is_symlink()).filter_map(|path| path.strip_prefix(root).ok());
    put("md5sums", &output(Command::new("md5sum").args(names).current_dir(root))?, 0o644)?;
    // Most of it is the model, which hardly gets smaller; the bytes of xz depend on whether it has one thread or several.
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--build", "--root-owner-group", "-Zxz", "-z1"]).env("SOURCE_DATE_EPOCH", epoch).env("DPKG_DEB_THREADS_MAX", "1");
    output(dpkg.arg(root).arg(package))?;
    Ok(package.to_owned())
}

/// Files and links below a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.is_dir() && !path.is_symlink() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Space that files take, as Debian counts it.
fn kibibytes(files: &[PathBuf]) -> Result<u64, String> {
    files.iter().map(|path| Ok(fs::symlink_metadata(path).map_err(io(path))?.len().div_ceil(1024))).sum()
}
