//! Debian packages, fetched and unpacked into the cache by apt, with lists and settings of its own. Any user can do this.
//!
//! apt checks the archive's signature and every package's checksum. Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{io, output};

/// Debian's suite with recent compilers and emulators, and all architectures at the same version.
pub const TESTING: &str = "testing";
/// Keys that sign the archive; from the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A folder of unpacked packages.
pub struct Packages {
    folder: PathBuf,
    suite: &'static str,
    architectures: Vec<&'static str>,
    updated: bool,
}

impl Packages {
    /// Packages of a suite below `folder`, of this machine's architecture and the `foreign` ones, by Debian's names.
    #[must_use]
    pub fn new(folder: PathBuf, suite: &'static str, foreign: Vec<&'static str>) -> Self {
        Self { folder, suite, architectures: foreign, updated: false }
    }

    /// The folder of a set of packages. If it is not there yet, those that `choose` names are fetched and unpacked.
    ///
    /// # Errors
    /// What could not be fetched or unpacked.
    pub fn unpacked(
        &mut self,
        set: &str,
        choose: impl FnOnce(&mut Self) -> Result<Vec<String>, String>,
    ) -> Result<PathBuf, String> {
        let place = self.folder.join(set);
        if place.is_dir() {
            return Ok(place);
        }
        self.update()?;
        let names = choose(self)?;
        println!("cross: fetching {}", names.join(" "));
        // Unpacked beside its place and moved there whole: a folder that exists is complete.
        let unfinished = self.folder.join(format!("{set}.unfinished"));
        let _ = fs::remove_dir_all(&unfinished);
        let downloads = unfinished.join("downloads");
        fs::create_dir_all(&downloads).map_err(io(&downloads))?;
        output(self.apt("apt-get").arg("download").args(&names).current_dir(&downloads))?;
        for entry in fs::read_dir(&downloads).map_err(io(&downloads))? {
            let package = entry.map_err(io(&downloads))?.path();
            output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unfinished))?;
        }
        fs::remove_dir_all(&downloads).map_err(io(&downloads))?;
        fs::rename(&unfinished, &place).map_err(io(&place))?;
        Ok(place)
    }

    /// The newest `libgcc-N-dev`.
    ///
    /// # Errors
    /// When there is none.
    pub fn newest_libgcc(&self) -> Result<String, String> {
        let names = output(self.apt("apt-cache").args(["pkgnames", "libgcc-"]))?;
        let version = |name: &str| name.strip_prefix("libgcc-")?.strip_suffix("-dev")?.parse::<u32>().ok();
        let newest = names.lines().filter_map(version).max().ok_or("no package libgcc-N-dev")?;
        Ok(format!("libgcc-{newest}-dev"))
    }

    /// Packages and all that they depend on, without recommendations.
    ///
    /// # Errors
    /// When apt cannot provide them.
    pub fn closure(&self, names: &[&str]) -> Result<Vec<String>, String> {
        let simulated = output(self.apt("apt-get").args(["--simulate", "install"]).args(names))?;
        let installed = simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        Ok(installed.map(str::to_owned).collect())
    }

    /// Fetches the lists of packages, once.
    fn update(&mut self) -> Result<(), String> {
        if self.updated {
            return Ok(());
        }
        if !Path::new(KEYRING).is_file() {
            return Err(format!("{KEYRING} is missing: apt-get install debian-archive-keyring"));
        }
        let lists = self.folder.join("apt/lists/partial");
        let archives = self.folder.join("apt/archives/partial");
        for folder in [lists, archives] {
            fs::create_dir_all(&folder).map_err(io(&folder))?;
        }
        let write = |name: &str, text: String| {
            let path = self.folder.join("apt").join(name);
            fs::write(&path, text).map_err(io(&path))
        };
        let own = output(Command::new("dpkg").arg("--print-architecture"))?;
        write("status", String::new())?;
        let mirror = mirror(self.suite);
        write("sources.list", format!("deb [signed-by={KEYRING}] {mirror} {} main\n", self.suite))?;
        write("apt.conf", configuration(&self.folder.join("apt"), own.trim(), &self.architectures))?;
        println!("cross: reading the package lists of {mirror}, {}", self.suite);
        output(self.apt("apt-get").arg("update"))?;
        self.updated = true;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt/apt.conf")).env("LC_ALL", "C");
        command
    }
}

/// Settings that keep apt within a folder. A mirror that lags behind is accepted, one that does not answer is not.
fn configuration(folder: &Path, own: &str, foreign: &[&str]) -> String {
    let foreign: String = foreign.iter().map(|name| format!(" \"{name}\";")).collect();
    let folder = folder.display();
    format!(
        r#"Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
APT::Architecture "{own}";
APT::Architectures {{ "{own}";{foreign} }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
"#
    )
}

/// The mirror that variables name for a suite: `MLIC_CROSS_MIRROR_SUITE`, or `MLIC_CROSS_MIRROR` for all.
#[must_use]
pub fn named_mirror(suite: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let own = format!("MLIC_CROSS_MIRROR_{}", suite.to_uppercase());
    [&own, "MLIC_CROSS_MIRROR"].into_iter().filter_map(variable).find(|mirror| !mirror.is_empty())
}

/// The mirror of a suite: the one that variables name, else that of apt on a Debian machine, else Debian's own.
fn mirror(suite: &str) -> String {
    let named = named_mirror(suite, |name| std::env::var(name).ok());
    let targets = || output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"])).ok();
    let configured = || targets()?.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian")).map(str::to_owned);
    named.or_else(configured).unwrap_or_else(|| "http://deb.debian.org/debian".into())
}
