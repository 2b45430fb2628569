//! The Debian packages and the archive to lay over a root file system: the same bytes whenever and wherever they are made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::Built;
use super::tools::Tools;
use super::{elf, tree};
use crate::cross::{io, output};

/// The files that were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// The Debian packages, in the order of [`tree::PACKAGES`].
    pub debs: Vec<PathBuf>,
    /// The archive with the files of all of them.
    pub overlay: PathBuf,
}

impl Packages {
    /// All files that were made.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.debs.iter().chain([&self.overlay])
    }
}

/// Version and time of the packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Debian's version, `0.1.0-1`.
    pub version: String,
    /// The date as the changelog writes it.
    pub date: String,
}

impl Release {
    /// Reads the first entry of a Debian changelog.
    ///
    /// # Errors
    /// When there is none, or when it is of another version than the workspace.
    pub fn parse(changelog: &str) -> Result<Self, String> {
        let version = changelog.split_once('(').and_then(|(_, rest)| rest.split(')').next());
        let date = changelog.lines().find_map(|line| line.strip_prefix(" -- ")?.split_once("  "));
        let (Some(version), Some((_, date))) = (version, date) else { return Err("the changelog has no entry".into()) };
        if version.rsplit_once('-').is_none_or(|(upstream, _)| upstream != env!("CARGO_PKG_VERSION")) {
            return Err(format!("the changelog is of {version}, the programs are of {}", env!("CARGO_PKG_VERSION")));
        }
        Ok(Self { version: version.to_owned(), date: date.to_owned() })
    }

    /// The release of the packages that are made: the first entry of `packaging/debian/changelog`.
    ///
    /// # Errors
    /// When the changelog cannot be read or is not of this version.
    pub fn current() -> Result<Self, String> {
        Self::parse(&text("packaging/debian/changelog")?)
    }

    /// Fills the version of the packages and that of the workspace into a text.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        text.replace("@VERSION@", &self.version).replace("@UPSTREAM@", env!("CARGO_PKG_VERSION"))
    }

    /// The time of every file, in seconds since 1970.
    fn epoch(&self) -> Result<String, String> {
        match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) if !epoch.is_empty() => Ok(epoch),
            _ => output(Command::new("date").args(["--utc", "+%s", "--date", &self.date])).map(|text| text.trim().to_owned()),
        }
    }
}

/// Reads a text file of the repository.
pub(super) fn text(path: &str) -> Result<String, String> {
    let path = crate::root().join(path);
    fs::read_to_string(&path).map_err(io(&path))
}

/// Packs what was compiled, and replaces packages of the same names in the folder.
///
/// # Errors
/// What could not be read or written.
pub fn make(tools: &Tools, built: &Built, folder: &Path) -> Result<Packages, String> {
    let (release, roots) = (Release::current()?, folder.join("root"));
    let (version, epoch) = (&release.version, release.epoch()?);
    if roots.exists() {
        fs::remove_dir_all(&roots).map_err(io(&roots))?;
    }
    let mut debs = Vec::new();
    for (name, stage) in tree::PACKAGES {
        let root = roots.join(name);
        fs::create_dir_all(&root).map_err(io(&root))?;
        stage(tools, built, &root)?;
        debs.push(deb(name, &release, &root, &folder.join(format!("{name}_{version}_arm64.deb")), &epoch)?);
    }
    let overlay = overlay(&roots, &folder.join(format!("mlic-rootfs-overlay_{version}_arm64.tar")), &epoch)?;
    Ok(Packages { debs, overlay })
}

fn overlay(roots: &Path, archive: &Path, epoch: &str) -> Result<PathBuf, String> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{epoch}")).arg("--file").arg(archive);
    for (name, _) in tree::PACKAGES {
        tar.arg("--directory").arg(roots.join(name)).arg("usr");
    }
    output(&mut tar)?;
    output(Command::new("gzip").args(["--no-name", "--force"]).arg(archive))?;
    Ok(archive.with_extension("tar.gz"))
}

/// Packs a folder with the files that `packaging/debian/NAME` has for dpkg. Those that begin as a script does are made executable.
fn deb(name: &str, release: &Release, root: &Path, package: &Path, epoch: &str) -> Result<PathBuf, String> {
    let control = root.join("DEBIAN");
    fs::create_dir(&control).map_err(io(&control))?;
    let put = |name: &str, text: &str, mode: u32| {
        let path = control.join(name);
        fs::write(&path, text).map_err(io(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(io(&path))
    };
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).map_err(io(&control))?;
    let installed = files(&root.join("usr"))?;
    let elves = installed.iter().filter(|path| elf::is_one(path)).map(|path| elf::read(path)).collect::<Result<Vec<_>, _>>()?;
    for path in files(&crate::root().join("packaging/debian").join(name))? {
        let text = fs::read_to_string(&path).map_err(io(&path))?;
        let filled = release.fill(&text).replace("@DEPENDS@", &elf::depends(elves.iter()));
        let filled = filled.replace("@INSTALLED_SIZE@", &kibibytes(&installed)?.to_string());
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        put(&path.file_name().unwrap_or_default().to_string_lossy(), &filled, mode)?;
    }
    let names = installed.iter().filter(|path| !path.is_symlink()).filter_map(|path| path.strip_prefix(root).ok());
    put("md5sums", &output(Command::new("md5sum").args(names).current_dir(root))?, 0o644)?;
    // The model, which hardly compresses, is most of what is packed. The bytes that xz writes depend on whether it has one thread or several.
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--build", "--root-owner-group", "-Zxz", "-z1"]).env("SOURCE_DATE_EPOCH", epoch).env("DPKG_DEB_THREADS_MAX", "1");
    output(dpkg.arg(root).arg(package))?;
    Ok(package.to_owned())
}

/// Files and links below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.is_dir() && !path.is_symlink() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Space that files take, in KiB, as Debian counts it.
fn kibibytes(files: &[PathBuf]) -> Result<u64, String> {
    files.iter().map(|path| Ok(fs::symlink_metadata(path).map_err(io(path))?.len().div_ceil(1024))).sum()
}
