# What was tried of it: see README.md of this layer.
SUMMARY = "Learned image codec MLIC++ whose streams decode alike everywhere"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10 \
"

# Made by `cargo xtask jetson`.
ARCHIVE = "mlic-rootfs-overlay_${PV}-1_arm64.tar.gz"
SRC_URI = "file://${ARCHIVE};subdir=${BP}"
# Whoever has the layer but not the archive can still build everything else: a file that is not found would end the parsing of all recipes.
python () {
    archive = d.getVar('ARCHIVE')
    if not bb.utils.which(d.getVar('FILESPATH'), archive):
        raise bb.parse.SkipRecipe(archive + " is not in the directory 'files' beside the recipe; `cargo xtask jetson` makes it")
}
# From styhead on, sources are not unpacked below WORKDIR itself; before, there is no UNPACKDIR. Not `UNPACKDIR ??=`: here that would be the last, which wins.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/${BP}"

COMPATIBLE_HOST = "aarch64.*-linux"
COMPATIBLE_HOST:libc-musl = "null"

inherit features_check
REQUIRED_DISTRO_FEATURES = "systemd"
INSANE_SKIP:${PN} += "already-stripped"
INSANE_SKIP:libmlic-c += "already-stripped"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir} ${D}${datadir}/mlic ${D}${mandir}/man1
    install -m 0755 ${S}/usr/bin/mlic ${S}/usr/bin/mlic-conform ${D}${bindir}
    cp -R --no-preserve=ownership ${S}/usr/share/mlic/. ${D}${datadir}/mlic
    install -m 0644 ${S}/usr/share/man/man1/* ${D}${mandir}/man1
    # Licences of what the programs and the library are linked with.
    install -d ${D}${docdir}/mlic ${D}${docdir}/libmlic-c
    install -m 0644 ${S}/usr/share/doc/mlic/copyright ${S}/usr/share/doc/mlic/third-party.gz ${D}${docdir}/mlic
    install -m 0644 ${S}/usr/share/doc/libmlic-c1/copyright ${S}/usr/share/doc/libmlic-c1/third-party.gz ${D}${docdir}/libmlic-c
    # Where libdir says: there is no folder for the processor.
    install -d ${D}${libdir}/pkgconfig ${D}${includedir}
    cp --no-dereference ${S}/usr/lib/aarch64-linux-gnu/libmlic_c.so* ${D}${libdir}
    install -m 0644 ${S}/usr/include/mlic.h ${D}${includedir}
    sed 's,^libdir=.*,libdir=${libdir},' ${S}/usr/lib/aarch64-linux-gnu/pkgconfig/mlic.pc > ${D}${libdir}/pkgconfig/mlic.pc
    # Where systemd_system_unitdir says: without usrmerge that is not usr/lib.
    install -D -m 0644 ${S}/usr/lib/systemd/system/mlic-selftest.service ${D}${systemd_system_unitdir}/mlic-selftest.service
    install -d ${D}${systemd_system_unitdir}/multi-user.target.wants
    ln -s ../mlic-selftest.service ${D}${systemd_system_unitdir}/multi-user.target.wants/mlic-selftest.service
}

# Header, link and mlic.pc are in mlic-dev without being named.
PACKAGES =+ "libmlic-c"
FILES:libmlic-c = "${libdir}/libmlic_c.so.* ${docdir}/libmlic-c"
RDEPENDS:${PN}-dev = "libmlic-c (= ${EXTENDPKGV})"
FILES:${PN} += "${datadir}/mlic ${docdir}/mlic ${systemd_system_unitdir}"
# It is filled before ${PN}, and would take all of ${docdir}.
FILES:${PN}-doc = "${mandir}"
