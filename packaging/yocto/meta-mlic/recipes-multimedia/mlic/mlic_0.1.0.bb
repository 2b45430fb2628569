# Not built: see README.md of this layer.
SUMMARY = "Learned image codec MLIC++ whose streams decode alike everywhere"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10 \
"

# Made by `cargo xtask jetson`.
SRC_URI = "file://mlic-rootfs-overlay_${PV}-1_arm64.tar.gz;subdir=${BP}"
# From styhead on, sources are not unpacked below WORKDIR itself; before, there is no UNPACKDIR. Not `UNPACKDIR ??=`: here that would be the last, which wins.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/${BP}"

COMPATIBLE_HOST = "aarch64.*-linux"
COMPATIBLE_HOST:libc-musl = "null"

inherit features_check
REQUIRED_DISTRO_FEATURES = "systemd"
INSANE_SKIP:${PN} += "already-stripped"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir} ${D}${datadir}/mlic ${D}${mandir}/man1
    install -m 0755 ${S}/usr/bin/mlic ${S}/usr/bin/mlic-conform ${D}${bindir}
    cp -R --no-preserve=ownership ${S}/usr/share/mlic/. ${D}${datadir}/mlic
    install -m 0644 ${S}/usr/share/man/man1/* ${D}${mandir}/man1
    # Where systemd_system_unitdir says: without usrmerge that is not usr/lib.
    install -D -m 0644 ${S}/usr/lib/systemd/system/mlic-selftest.service ${D}${systemd_system_unitdir}/mlic-selftest.service
    install -d ${D}${systemd_system_unitdir}/multi-user.target.wants
    ln -s ../mlic-selftest.service ${D}${systemd_system_unitdir}/multi-user.target.wants/mlic-selftest.service
}

FILES:${PN} += "${datadir}/mlic ${systemd_system_unitdir}"
