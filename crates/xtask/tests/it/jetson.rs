//! `cargo xtask jetson`: what can be tested without compiling for another architecture.

use serde_json::json;
use xtask::jetson::archive::Release;
use xtask::jetson::build::selection;
use xtask::jetson::check::{declared, differences, section};
use xtask::jetson::elf::{self, depends, parse};
use xtask::jetson::tree::PACKAGES;
use xtask::jetson::{Options, SHIPPED};

fn text(path: &str) -> String {
    std::fs::read_to_string(xtask::root().join(path)).unwrap()
}

#[test]
fn the_changelog_of_the_package_is_of_this_version() {
    let changelog = text("packaging/debian/changelog");
    let release = Release::parse(&changelog).unwrap();
    assert!(release.version.starts_with(env!("CARGO_PKG_VERSION")) && release.date.ends_with("+0000"), "{release:?}");
    assert!(Release::parse(&changelog.replacen(env!("CARGO_PKG_VERSION"), "0.0.0", 1)).unwrap_err().contains("0.0.0"));
    assert!(Release::parse("").is_err());
}

#[test]
fn documents_name_the_packages_as_they_are() {
    let version = Release::parse(&text("packaging/debian/changelog")).unwrap().version;
    let document = text("docs/JETSON.md");
    let list = text("packaging/files.txt");
    for (name, _) in PACKAGES {
        assert!(document.contains(&format!("`{name}_{version}_arm64.deb`")), "{name}");
        assert!(!section(&list, name).is_empty(), "{name}");
    }
    assert!(document.contains(&format!("`mlic-rootfs-overlay_{version}_arm64.tar.gz`")));
    let (upstream, revision) = version.rsplit_once('-').unwrap();
    let recipe = text(&format!("packaging/yocto/meta-mlic/recipes-multimedia/mlic/mlic_{upstream}.bb"));
    assert!(recipe.contains(&format!("ARCHIVE = \"mlic-rootfs-overlay_${{PV}}-{revision}_arm64.tar.gz\"")));
    assert!(recipe.contains("\"file://${ARCHIVE};subdir=${BP}\""));
    // The archive has everything that the recipe takes from it.
    let taken: Vec<&str> = recipe.split_whitespace().filter_map(|word| word.strip_prefix("${S}/")).collect();
    assert!(taken.len() > 10, "{taken:?}");
    for path in taken {
        let literal = path.split('*').next().unwrap_or_default().trim_end_matches("/.");
        assert!(literal.starts_with("usr/") && list.contains(&format!(" {literal}")), "{path}");
    }
    // The recipe installs every licence that a package has.
    let documents = list.lines().filter_map(|line| line.strip_prefix("-rw-r--r-- usr/share/doc/"));
    let licences: Vec<&str> =
        documents.filter(|path| path.ends_with("/copyright") || path.ends_with("/third-party.gz")).collect();
    assert_eq!(licences.len(), 4);
    for path in licences {
        assert!(recipe.contains(&format!(" ${{S}}/usr/share/doc/{path} ")), "{path}");
    }
    // The folder into which Yocto unpacks the archive, before styhead and since.
    let sources: Vec<&str> = recipe.lines().filter_map(|line| line.strip_prefix("S = ")).collect();
    assert_eq!(sources, [r#""${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/${BP}""#]);
}

#[test]
fn copyright_has_the_text_of_the_licence() {
    let words = |text: &str| text.split_whitespace().filter(|word| *word != ".").collect::<Vec<_>>().join(" ");
    let licence = text("LICENSE-MIT");
    let permission = licence.split_once("Permission").unwrap().1;
    assert!(words(&text("packaging/debian/copyright")).contains(&words(permission)));
}

/// Lines of `readelf`, cut to what counts.
const ELF: &str = "
  Machine:                           AArch64
  [ 1] .interp           PROGBITS        0000000000000238 000238 00001b 00   A  0   0  1
 0x0000000000000001 (NEEDED)             Shared library: [libm.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
Version needs section '.gnu.version_r' contains 2 entries:
 000000: Version: 1  File: libm.so.6  Cnt: 1
  0x0010:   Name: GLIBC_2.17  Flags: none  Version: 5
 0x0020: Version: 1  File: libc.so.6  Cnt: 2
  0x0030:   Name: GLIBC_2.9  Flags: none  Version: 4
  0x0040:   Name: GLIBC_2.30  Flags: WEAK  Version: 3
";

#[test]
fn programs_that_would_not_run_are_found() {
    let good = parse(ELF);
    assert_eq!((good.glibc(), good.findings()), ((2, 30), Vec::new()));
    assert_eq!(depends([&good, &parse(&ELF.replace("2.30", "2.18"))].into_iter()), "libc6 (>= 2.30)");
    let finds = |from: &str, to: &str, finding: &str| {
        let findings = parse(&ELF.replacen(from, to, 1)).findings();
        assert!(findings.iter().any(|f| f.contains(finding)), "{findings:?}");
    };
    finds("GLIBC_2.30", "GLIBC_2.32", "needs glibc 2.32");
    finds("GLIBC_2.30", "GLIBC_3.0", "needs glibc 3.0");
    finds("AArch64", "Advanced Micro Devices X86-64", "X86-64");
    finds("libm.so.6", "libstdc++.so.6", "libstdc++.so.6");
    finds("Name: GLIBC_2.17", "Name: GCC_3.0", "GCC_3.0");
    finds(".interp ", ".symtab ", "not stripped");
    assert!(!elf::parse("").findings().is_empty());
}

#[test]
fn a_library_is_held_to_its_header() {
    let elf = parse(
        " 0x000000000000000e (SONAME)             Library soname: [libmlic_c.so.1]
     6: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND abort@GLIBC_2.17 (2)
     7: 0000000001a08020    64 FUNC    LOCAL  DEFAULT   13 mlic_local
    73: 0000000001a081d4   108 FUNC    GLOBAL DEFAULT   13 mlic_abi
    74: 0000000001a08240     8 OBJECT  WEAK   DEFAULT   13 environ
",
    );
    assert_eq!(elf.soname.as_deref(), Some("libmlic_c.so.1"));
    assert!(elf.exports.iter().eq(["environ", "mlic_abi"]), "{:?}", elf.exports);
    let functions = declared(
        "/* mlic_no(). */ uint32_t mlic_a(void);\ntypedef int (*mlic_t)(int);\nchar *mlic_b(const mlic_t *t); /* (mlic_c */",
    );
    assert!(functions.iter().eq(["mlic_a", "mlic_b"]), "{functions:?}");
    assert!(declared(&text("crates/mlic-capi/include/mlic.h")).contains("mlic_find_metadata"));
}

#[test]
fn contents_are_held_to_the_list() {
    let list = "# a comment\n-rwxr-xr-x usr/bin/mlic\n-rw-r--r-- usr/share/*.gz\nlrwxrwxrwx usr/a -> ../b\n";
    let line = |mode: &str, path: &str| format!("{mode} root/root 12 2026-11-26 12:00 ./{path}\n");
    let good = line("drwxr-xr-x", "")
        + &line("drwxr-xr-x", "usr/")
        + &line("-rwxr-xr-x", "usr/bin/mlic")
        + &line("-rw-r--r--", "usr/share/x.gz")
        + &line("lrwxrwxrwx", "usr/a -> ../b");
    let of = |archive: &str| differences(list, archive, "root/root");
    assert_eq!(of(&good), [""; 0]);
    assert!(of(&(good.clone() + &line("-rw-r--r--", "lib/x")))[0].contains("not in packaging/files.txt"));
    assert!(of(&(good.clone() + &line("drwxr-xr-x", "lib/")))[0].contains("not in packaging/files.txt"));
    assert!(of(&(good.clone() + &line("drwxrwxrwx", "usr/share/")))[0].contains("not in packaging/files.txt"));
    assert!(of(&good.replace("usr/a -> ../b", "usr/a -> /b")).len() == 2);
    assert!(of(&good.replacen("-rwxr-xr-x root/root", "-rwxr-xr-x me/me", 1))[0].contains("owned by me/me"));
    assert!(of(&line("-rwxr-xr-x", "usr/bin/mlic")).iter().all(|finding| finding.contains("but not packed")));
    let of_two = format!("# names in []\n\n[one]\n{list}\n[two]\n-rw-r--r-- usr/two\n");
    assert_eq!((section(&of_two, "one"), section(&of_two, "three")), (list, ""));
    assert_eq!(differences(section(&of_two, "two"), &line("-rw-r--r--", "usr/two"), "root/root"), [""; 0]);
    assert_eq!(differences(&of_two, &(good + &line("-rw-r--r--", "usr/two")), "root/root"), [""; 0]);
}

#[test]
fn programs_are_built_with_their_default_features() {
    let package = |name: &str, features: &[&str]| json!({ "name": name, "features": { "default": features } });
    let metadata = json!({ "packages": [
        package("mlic-cli", &["builder", "cuda", "embedded-model", "mlic/default", "tract"]),
        package("mlic-conform", &["embedded-model", "tract"]),
    ]});
    let selected = selection(&metadata).unwrap().join(" ");
    for expected in ["--no-default-features", "mlic-cli/cuda", "mlic-cli/tract", "mlic-conform/tract"] {
        assert!(selected.contains(expected), "{selected}");
    }
    assert!(
        !selected.contains("embedded-model") && !selected.contains("builder") && !selected.contains("mlic/default"),
        "{selected}"
    );
    assert!(selection(&json!({ "packages": [] })).is_err());
}

#[test]
fn options_are_read() {
    let parse = |args: &[&str]| Options::parse(args.iter().map(|arg| (*arg).to_owned()));
    let default = parse(&[]).unwrap();
    assert!(!default.environment && default.profile == SHIPPED && default.output.ends_with("target/jetson"));
    assert_eq!(parse(&["--environment"]).unwrap(), Options { environment: true, ..default });
    assert!(parse(&["--profile"]).unwrap_err().contains("needs a value"));
    assert!(parse(&["--target"]).unwrap_err().contains("not an option"));
}
