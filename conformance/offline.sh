#!/bin/sh
# A decoder where no program can be called, on a board or a simulator:
#
#   mlic-conform run SUITE --external 'sh conformance/offline.sh DIR'
#
# The first run fails everywhere, and leaves in DIR each stream as PACKAGE-STREAM.mlic beside its package, PACKAGE.mlicpkg (names are digests). Decode them there,
# put the message of each (conformance/README.md) into DIR as PACKAGE-STREAM.json, and run again.
set -eu
[ $# -eq 5 ] && [ "$2" = --package ] && [ "$4" = --stream ] || { echo "called as $0 DIR --package PACKAGE --stream STREAM" >&2; exit 2; }
digest() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -c -16
}
package=$(digest "$3")
at=$1/$package-$(digest "$5")
# Several run at once, for one package.
keep() {
    [ -e "$2" ] || { cp "$1" "$2.$$" && mv "$2.$$" "$2"; }
}
mkdir -p "$1"
keep "$3" "$1/$package.mlicpkg"
keep "$5" "$at.mlic"
exec cat "$at.json"
