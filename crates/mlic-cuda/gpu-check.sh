#!/usr/bin/env bash
# gpu-check.sh prepare        builds what the check needs into target/gpu-check: no compiler and no network are needed there
# gpu-check.sh run [LOG]      on a machine with a GPU, from the root of the repository: every check, in minutes; the log ends with PASS or FAIL
#
# MLIC_GPU_SUITES, MLIC_GPU_SIZES, MLIC_GPU_PACKAGE and MLIC_SKIP_RATES make it small enough for the emulated driver.
# The log names device and driver and has the digests of the conformance runs: it is for benches/record/.
set -uo pipefail
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
folder=$root/target/gpu-check

prepare() {
    set -e
    cd "$root"
    rm -rf "$folder"
    mkdir -p "$folder"
    cargo build --release --locked -p mlic-conform --no-default-features --features cuda
    cargo build --release --locked -p mlic-cuda --example gpu_bench
    cp target/release/mlic-conform target/release/examples/gpu_bench "$folder"
    cargo test --release --locked -p mlic-cuda --lib --tests --no-run --message-format=json |
        sed -n 's/.*"name":"\([a-z_-]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' |
        while read -r name file; do cp "$file" "$folder/test-$name"; done
    strip "$folder"/*
    du -sh "$folder"
}

failed=()
# step NAME SECONDS COMMAND...
step() {
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    printf '\n== %s\n' "$name"
    if timeout "$seconds" "$@" 2>&1; then
        printf -- '-- %s: ok, %d s\n' "$name" $((SECONDS - start))
    else
        printf -- '-- %s: FAILED with status %d, %d s\n' "$name" $? $((SECONDS - start))
        failed+=("$name")
    fi
}

# Tests that need no sources beside them.
tests() {
    local status=0
    for test in "$folder"/test-*; do
        "$test" --test-threads 4 --skip the_images_are_of_these_sources --skip images_are_unpacked --skip is_refused --skip are_refused --skip has_its_kernels --skip full_device || status=1
    done
    return $status
}

check() {
    export MLIC_REQUIRE=cuda MLIC_CONFORMANCE=$root/conformance
    local sizes=${MLIC_GPU_SIZES:-768x512 1920x1080 3840x2160} package=${MLIC_GPU_PACKAGE:-$root/models/edge/edge.mlicpkg}
    local suites=${MLIC_GPU_SUITES:-smoke core edge-cases edge-cases-scales edge-cases-fixed negative}
    date -u +%Y-%m-%dT%H:%M:%SZ
    command -v nvidia-smi > /dev/null && step "device" 60 nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm --format=csv
    step "tests, MLIC_REQUIRE=cuda" 600 "$here/gpu-check.sh" tests
    step "contract on the edge model" 300 env MLIC_PACKAGE="$package" "$folder/test-contract" given_package
    # shellcheck disable=SC2086
    step "conformance to exact pixels, with digests" 300 "$folder/mlic-conform" run $suites --level 4 --backend cuda --model "$package" --format json
    # shellcheck disable=SC2086
    step "times" 300 "$folder/gpu_bench" "$package" $sizes
    local sanitizer
    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    if [ -x "$sanitizer" ]; then
        for tool in memcheck racecheck; do
            step "compute-sanitizer $tool" 300 "$sanitizer" --tool "$tool" --error-exitcode 9 "$folder/test-contract" edge_cases_fixed edge_cases_scales
            step "compute-sanitizer $tool, exact pixels" 300 "$sanitizer" --tool "$tool" --error-exitcode 9 "$folder/test-mlic_cuda" strips_give
        done
    else
        printf '\nnot run: no compute-sanitizer here\n'
    fi
    if [ ${#failed[@]} -eq 0 ]; then
        printf '\nPASS\n'
    else
        printf '\nFAIL: %s\n' "${failed[*]}"
        return 1
    fi
}

case ${1:-} in
prepare) prepare ;;
tests) tests ;;
run)
    log=${2:-$root/target/gpu-check.log}
    check > >(tee "$log") 2>&1
    ;;
*)
    sed -n 's/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
