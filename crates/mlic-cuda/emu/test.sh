#!/usr/bin/env bash
# test.sh [plain|shuffled|address|undefined|all]...: the tests of this crate on the emulated driver. Nothing here runs on a GPU.
#
#   plain      everything, mma and dp4a kernels                   (default)
#   shuffled   threads in another order at every turn: a missing barrier changes a result
#   address    memory errors of the dp4a kernels (AddressSanitizer)
#   undefined  undefined behaviour of the kernels (UBSan): it stops the test
#   all        the three others on everything, not only on what takes seconds
set -euo pipefail
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../../..")
export MLIC_REQUIRE=cuda,emulated CARGO_INCREMENTAL=0
target=${CARGO_TARGET_DIR:-$root/target}/emulator
# Cheap, and with every kernel in it.
some=(edge_cases_fixed edge_cases_scales strips_give)
if [ -n "${MLIC_EMULATE_ALL:-}" ]; then some=(); fi

# The test programs of this crate, compiled with what else they are compiled for anyway: all of the workspace, where CI has that already.
compiled() {
    cargo test --release --locked --manifest-path "$root/Cargo.toml" ${MLIC_EMULATE_SCOPE:--p mlic-cuda} --lib --tests --no-run \
        --message-format=json-render-diagnostics | sed -n '/crates\/mlic-cuda#/{/"test":true/s/.*"executable":"\([^"]*\)".*/\1/p}'
}

programs=
run() { # FOLDER [FILTER...]
    local folder=$1 program
    shift
    programs=${programs:-$(compiled)}
    [ -n "$programs" ] || { echo "cargo names no test programs of mlic-cuda" >&2; exit 1; }
    # They alone get the driver: cargo and the compiler do not.
    while read -r program; do
        (cd "$root/crates/mlic-cuda" && env "LD_LIBRARY_PATH=$target/$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "${extra[@]}" "$program" "$@")
    done <<<"$programs"
}

for mode in "${@:-plain}"; do
    extra=()
    echo "== emulated: $mode"
    case $mode in
    plain)
        "$here/build.sh" "$target/plain"
        run plain
        # Of many multiprocessors, layers have smaller blocks, whose warps share out the k axis.
        extra=(MLIC_EMULATOR_PROCESSORS=132)
        run plain "${some[@]}"
        # The largest blocks need more shared memory than an Orin has.
        extra=(MLIC_EMULATOR_CAPABILITY=90)
        run plain strips_give
        ;;
    shuffled)
        "$here/build.sh" "$target/plain"
        extra=(MLIC_EMULATOR_SEED=1)
        run plain "${some[@]}"
        ;;
    address)
        "$here/build.sh" "$target/address" -g -fsanitize=address
        # Fibers are slow under it: dp4a kernels, whose warps do not wait for each other. They copy and store as the others do.
        extra=(MLIC_EMULATOR_CAPABILITY=72 "LD_PRELOAD=$("${CXX:-g++}" -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0)
        run address "${some[@]}"
        ;;
    undefined)
        "$here/build.sh" "$target/undefined" -g -fsanitize=undefined -fno-sanitize-recover=all
        run undefined "${some[@]}"
        ;;
    all)
        MLIC_EMULATE_ALL=1 "$0" shuffled address undefined
        ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
done
