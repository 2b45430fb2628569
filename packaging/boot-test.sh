#!/bin/sh
# usage: packaging/boot-test.sh [PACKAGES [WORK]]
#
# Boots the packages for Jetson on an emulated machine: QEMU's `virt` with a Cortex-A76, Debian 11 with its kernel and systemd 247, and the C
# library of JetPack 5. Nothing of NVIDIA is in it. Three boots, the first with a clock that says 1970:
#   1. the overlay was laid over the root file system; the power is cut while the self-test runs
#   2. the self-test runs again and passes; no unit has failed
#   3. it does not run again; the package is installed over the overlay, updated while the self-test runs, tested, and purged
#
# PACKAGES is the directory that `cargo xtask jetson` fills [target/jetson]. WORK is for the images [target/boot-test]; Debian is fetched into
# WORK/root, and used again while that exists. WORK/console.log is what the machine said.
#
# Run it as root on Debian, after `apt-get install arch-test binfmt-support e2fsprogs mmdebstrap qemu-system-arm qemu-user-static`. It takes a quarter to half an hour, for
# every instruction is emulated; it is therefore not part of CI.
set -eu

repository=$(cd "$(dirname "$0")/.." && pwd)
packages=$(realpath "${1:-$repository/target/jetson}")
work=${2:-$repository/target/boot-test}
mkdir -p "$work"
cd "$work"
rm -rf console.log disk laid repacked
say() { echo "boot-test: $*"; }

# The initial file system needs what finds the disk, and copying all modules into it under emulation takes many minutes.
if [ ! -d root ]; then
    rm -rf --one-file-system unfinished # one that was interrupted may have devices mounted in it
    mmdebstrap --quiet --variant=apt --architectures=arm64 --include=systemd-sysv,dbus,udev,linux-image-arm64,initramfs-tools \
        --setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh \
        --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
        --essential-hook='echo MODULES=list > "$1/etc/initramfs-tools/conf.d/boot-test"' \
        --essential-hook='printf "virtio_pci\nvirtio_blk\next4\n" > "$1/etc/initramfs-tools/modules"' \
        bullseye unfinished "deb http://deb.debian.org/debian bullseye main"
    mv unfinished root
fi

say "laying the overlay over the root file system"
cp --archive root laid
tar --extract --keep-directory-symlink --file "$(ls "$packages"/mlic-rootfs-overlay_*_arm64.tar.gz)" --directory laid
[ -L laid/lib ] || { say "FAILED: lib is no link any more"; exit 1; }

# Two versions of the package: as it was made, and with a higher number.
cp "$packages"/mlic_*_arm64.deb laid/srv/old.deb
dpkg-deb --raw-extract laid/srv/old.deb repacked
sed -i 's/^Version: .*/&+1/' repacked/DEBIAN/control
dpkg-deb --root-owner-group -Zgzip -z1 --build repacked laid/srv/new.deb >/dev/null
rm -rf repacked

# What runs in the machine at every boot. `boot-test: ok` as its last line is what this script looks for.
cat >laid/usr/local/sbin/boot-test <<'EOF'
#!/bin/sh
trap 'systemctl poweroff' EXIT
unit=mlic-selftest.service passed=/var/lib/mlic/selftest.passed stage=/var/lib/boot-test
fail() { echo "boot-test: FAILED: $*"; journalctl --boot --unit $unit --no-pager; exit; }
show() { systemctl show --property "$1" --value $unit; }
state() { show ActiveState; }
passes() {
    while case $(state) in *activating) ;; *) false ;; esac; do sleep 2; done # or `deactivating`, while it writes what is for people
    [ "$(state)" = inactive ] && [ -e $passed ] || fail "the self-test did not pass"
    for report in selftest.json selftest.txt selftest-cuda.json selftest-cuda.txt; do
        [ -s /var/lib/mlic/$report ] || fail "no $report"
    done
    grep --quiet ' vectors pass,.*: pass$' /var/lib/mlic/selftest.txt || fail "selftest.txt does not say so"
    journalctl --boot --unit $unit --no-pager | grep --quiet ' vectors pass,.*: pass$' || fail "the journal does not say so"
}
starts() {
    systemctl start --no-block $unit
    for second in 1 2 3 4 5 6 7 8 9 10; do [ "$(state)" = activating ] && return; sleep 1; done
    fail "the self-test does not start"
}

echo x >>$stage
sync
boot=$(wc -l <$stage)
# Until systemd has looked at the unit's condition, the test is neither running nor left out.
while [ "$(show ConditionTimestampMonotonic)" = 0 ]; do sleep 1; done
echo "boot-test: boot $boot, $(cut -d. -f1 /proc/uptime) s after the kernel, $(date --utc), test $(state)"
case $boot in
1)
    [ "$(state)" = activating ] || fail "the self-test does not run"
    sleep 5
    echo "boot-test: cut the power"
    sleep 600
    ;;
2)
    passes
    [ -z "$(systemctl --failed --no-legend)" ] || fail "$(systemctl --failed --no-legend)"
    ;;
3)
    [ "$(show ConditionResult)" = no ] || fail "the self-test ran again"
    dpkg --install /srv/old.deb || fail "not installed over the overlay"
    [ -z "$(ls /var/lib/mlic)" ] || fail "reports of the overlay are still there"
    starts
    dpkg --install /srv/new.deb || fail "not updated"
    [ "$(state)" = inactive ] && [ ! -e $passed ] || fail "the update did not end the self-test"
    dpkg --verify mlic || fail "files of the update are not as they were packed"
    starts
    passes
    dpkg --purge mlic || fail "not purged"
    left=$(find / -xdev -path '*mlic*' ! -path '*libmlic*' ! -path '*/mlic.[hp]*')
    [ -z "$left" ] || fail "left: $left"
    ;;
esac
echo "boot-test: ok"
EOF
chmod 755 laid/usr/local/sbin/boot-test
cat >laid/etc/systemd/system/boot-test.service <<'EOF'
[Unit]
After=multi-user.target
[Service]
ExecStart=/usr/local/sbin/boot-test
StandardOutput=tty
TTYPath=/dev/ttyAMA0
EOF
mkdir -p laid/etc/systemd/system/multi-user.target.wants
ln -s ../boot-test.service laid/etc/systemd/system/multi-user.target.wants
# A login there would take the console away.
ln -s /dev/null laid/etc/systemd/system/serial-getty@ttyAMA0.service
echo '/dev/vda / ext4 defaults 0 1' >laid/etc/fstab
# Without an identity, as on a first boot.
: >laid/etc/machine-id
mke2fs -q -t ext4 -d laid disk 3G

# One boot: LAST-LINE OPTIONS...; the machine goes when it says that, or by itself.
boot() {
    last=$1 before=$(grep -c "boot-test: $1" console.log || true)
    shift
    timeout 3600 qemu-system-aarch64 -M virt -cpu cortex-a76 -smp 2 -m 2G -nographic -nic none -no-reboot "$@" \
        -kernel laid/boot/vmlinuz-* -initrd laid/boot/initrd.img-* -append 'root=/dev/vda rw quiet console=ttyAMA0' \
        -drive if=virtio,format=raw,file=disk </dev/null >>console.log 2>&1 &
    machine=$!
    while kill -0 $machine 2>/dev/null; do
        sleep 2
        if [ "$last" = 'cut the power' ] && grep -q "boot-test: $last" console.log; then
            pkill -KILL -P $machine
            break
        fi
    done
    wait $machine 2>/dev/null || true
    grep -a -o 'boot-test: boot.*' console.log | tail -n 1
    [ "$(grep -c "boot-test: $last" console.log)" -gt "$before" ] || { grep -a -A20 FAILED console.log; say "FAILED: see $work/console.log"; exit 1; }
}

touch console.log
boot 'cut the power' -rtc base=1970-01-01T00:00:00
boot ok
boot ok
say "all of it holds"
