#!/usr/bin/env bash
# gpu-check.sh prepare [--target aarch64-unknown-linux-gnu]
#                             builds what the check needs into target/gpu-check, for this machine or for a Jetson (glibc 2.31 or later; with
#                             the tools that `cargo xtask jetson` fetches): no compiler and no network are needed there
# gpu-check.sh run [LOG]      on a machine with a GPU, from the root of the repository: every check, in minutes; the log ends with PASS or FAIL
# gpu-check.sh quick [LOG]    the same without layers and blocks one by one, each step with a limit: about a minute on an H100
#
# A machine without the sources needs this script, target/gpu-check, models/edge/edge.mlicpkg and conformance/ in the same places.
# MLIC_GPU_FOLDER is where `prepare` has put its files, if not target/gpu-check. MLIC_GPU_SUITES, MLIC_GPU_SIZES and MLIC_GPU_PACKAGE make the
# check small enough for the emulated driver. MLIC_AUTHORS names a folder with `checkout` and `packages` for benches/authors_gpu.py.
# MLIC_GPU_LIMIT_FACTOR makes all limits of time, which are those of an H100, longer: a whole number, if not set 30 on a Jetson, else 1.
# MLIC_GPU_8K=1 or 0: whether the published shape takes 7680x4320 too; unset, where the device has 24 GiB or more.
# The log names device and driver, a Jetson's power mode and clocks, and has the digests of the conformance runs: it is for benches/record/.
set -uo pipefail
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
folder=${MLIC_GPU_FOLDER:-$root/target/gpu-check}
sizes=${MLIC_GPU_SIZES:-768x512 1920x1080 3840x2160}
package=${MLIC_GPU_PACKAGE:-$root/models/edge/edge.mlicpkg}
suites=${MLIC_GPU_SUITES:-smoke core edge-cases edge-cases-scales edge-cases-fixed edge-cases-ties negative}
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [ -e /etc/nv_tegra_release ] || [ -e /dev/nvmap ]; then factor=30; else factor=1; fi
factor=${MLIC_GPU_LIMIT_FACTOR:-$factor}

# prepare [TARGET]
prepare() {
    set -e
    cd "$root"
    local target=${1:-} build=(cargo build) made=target/release options=()
    case $target in
    '') ;;
    aarch64-unknown-linux-gnu)
        local environment
        environment=$(cargo xtask jetson --environment)
        eval "$(grep '^export ' <<< "$environment")"
        build=(cargo zigbuild)
        made=target/$target/release
        # The C library of JetPack 5.
        options=(--target "$target.2.31" --config profile.release.strip=true)
        ;;
    *)
        printf '%s: not a target that this builds for\n' "$target" >&2
        exit 2
        ;;
    esac
    build+=(--release --locked "${options[@]}")
    rm -rf "$folder"
    mkdir -p "$folder"
    "${build[@]}" -p mlic-conform --no-default-features --features cuda
    "${build[@]}" -p mlic-cuda --example gpu_bench
    "${build[@]}" -p mlic --no-default-features --features cuda --example gpu_pictures --example gpu_full
    cp "$made"/mlic-conform "$made"/examples/gpu_{bench,pictures,full} "$folder"
    "${build[@]}" -p mlic-cuda --tests --message-format=json |
        sed -n 's/.*"name":"\([a-z_-]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' |
        while read -r name file; do cp "$file" "$folder/test-$name"; done
    [ -n "$target" ] || strip "$folder"/*
    du -sh "$folder"
}

failed=()
# step NAME SECONDS COMMAND...
step() {
    local name=$1 seconds=$(($2 * factor)) start=$SECONDS
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
        "$test" --test-threads 4 --skip the_images_are_of_these_sources --skip images_are_unpacked --skip is_refused --skip are_refused --skip has_its_kernels --skip full_device --skip gives_way || status=1
    done
    return $status
}

# inform COMMAND...: where there is such a command, what it says of the device; the check does not depend on it.
inform() {
    command -v "$1" > /dev/null || return 0
    printf '\n== %s\n' "$*"
    timeout 20 "$@" 2>&1 || printf -- '-- no answer: status %d\n' $?
}

# The device's memory in MiB: of a GPU that has its own, else that of the machine; 0 where nothing says it.
memory() {
    local own
    own=$(timeout 20 nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2> /dev/null | head -n 1)
    case $own in
    '' | *[!0-9]*) awk '/^MemTotal:/ { all = int($2 / 1024) } END { print all + 0 }' /proc/meminfo ;;
    *) printf '%s\n' "$own" ;;
    esac
}

begin() {
    export MLIC_REQUIRE=cuda MLIC_CONFORMANCE=$root/conformance
    date -u +%Y-%m-%dT%H:%M:%SZ
    uname -srm
    printf 'limits of time are those of an H100 times %s\n' "$factor"
    inform nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm --format=csv
    inform nvpmodel -q
    inform jetson_clocks --show
    [ ! -r /etc/nv_tegra_release ] || inform cat /etc/nv_tegra_release
    full_sizes=$sizes
    if [ "${MLIC_GPU_8K:-$(($(memory) >= 24 * 1024))}" = 1 ]; then full_sizes+=' 7680x4320'; fi
}

# sanitize TOOL SECONDS TEST FILTER...: alone on the GPU, or the tool loses track of launches.
sanitize() {
    local tool=$1 seconds=$2 test=$3
    shift 3
    if [ -x "$sanitizer" ]; then
        step "compute-sanitizer $tool, $*" "$seconds" "$sanitizer" --tool "$tool" --error-exitcode 9 "$folder/$test" --test-threads 1 "$@"
    else
        printf '\nnot run: no compute-sanitizer here\n'
    fi
}

end() {
    if [ ${#failed[@]} -eq 0 ]; then
        printf '\nPASS\n'
    else
        printf '\nFAIL: %s\n' "${failed[*]}"
        return 1
    fi
}

check() {
    begin
    step "tests, MLIC_REQUIRE=cuda" 600 "$here/gpu-check.sh" tests
    step "contract on the edge model" 300 env MLIC_PACKAGE="$package" "$folder/test-it" given_package
    # shellcheck disable=SC2086
    step "conformance to exact pixels, with digests" 300 "$folder/mlic-conform" run $suites --level 4 --backend cuda --model "$package" --format json
    # shellcheck disable=SC2086
    step "whole pictures" 300 "$folder/gpu_pictures" "$package" $sizes
    # shellcheck disable=SC2086
    step "stages, kernels, layers" 300 "$folder/gpu_bench" "$package" --kernels --rates $sizes
    # shellcheck disable=SC2086
    step "the published shape" 300 "$folder/gpu_full" "$root/conformance" $full_sizes
    local tool
    for tool in memcheck racecheck; do
        sanitize $tool 300 test-it edge_cases_fixed edge_cases_scales
        sanitize $tool 300 test-mlic_cuda strips_give
    done
    end
}

quick() {
    begin
    # shellcheck disable=SC2086
    step "whole pictures" 15 "$folder/gpu_pictures" "$package" $sizes
    step "tests, MLIC_REQUIRE=cuda" 20 "$here/gpu-check.sh" tests
    # shellcheck disable=SC2086
    step "conformance to exact pixels" 15 "$folder/mlic-conform" run $suites --level 4 --backend cuda --model "$package"
    # shellcheck disable=SC2086
    step "stages and kernels" 10 "$folder/gpu_bench" "$package" --kernels $sizes
    # shellcheck disable=SC2086
    step "the published shape" 12 "$folder/gpu_full" "$root/conformance" $full_sizes
    sanitize memcheck 15 test-mlic_cuda strips_give_the_samples_of
    sanitize racecheck 15 test-mlic_cuda strips_give_the_samples_of
    # shellcheck disable=SC2086
    [ -z "${MLIC_AUTHORS:-}" ] || step "the authors' networks" 30 python3 "$root/benches/authors_gpu.py" "$MLIC_AUTHORS/checkout" "$MLIC_AUTHORS/packages" --sizes $sizes
    end
}

case ${1:-} in
prepare)
    case ${2:-} in
    '') prepare ;;
    --target) prepare "${3:?--target needs a value}" ;;
    --target=*) prepare "${2#--target=}" ;;
    *) "$here/gpu-check.sh" ;;
    esac
    ;;
tests) tests ;;
run | quick)
    log=${2:-$root/target/gpu-check.log}
    if [ "$1" = run ]; then check; else quick; fi > >(tee "$log") 2>&1
    ;;
*)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
