#!/usr/bin/env bash
# Fuzzes every target for a while, two at a time, and fails on any finding: fuzz/run.sh [SECONDS [TARGET ...]]
# Stable Rust will do: RUSTC_BOOTSTRAP lets it take the flags that a sanitizer needs.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
version=0.13.1
triple=$(rustc -vV | sed -n 's/^host: //p')
# Limits of one input: memory of the process, one allocation, seconds. They are the budgets that fuzz/README.md states.
limits=(-rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=20 -max_len=65536)

if ! cargo fuzz --version 2>/dev/null | grep -qx "cargo-fuzz $version"; then
  cargo install cargo-fuzz --version "$version" --locked --debug
fi
cargo run --release --locked --quiet -p mlic-fuzz -- fuzz/corpus conformance
RUSTC_BOOTSTRAP=1 cargo fuzz build --target "$triple"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  list=$(cargo fuzz list)
  [ -n "$list" ] || { echo "cargo fuzz lists no targets" >&2; exit 1; }
  mapfile -t targets <<<"$list"
fi
mkdir -p fuzz/logs
fuzz_one() {
  local target=$1 log=fuzz/logs/$1.log
  if RUSTC_BOOTSTRAP=1 cargo fuzz run --target "$triple" "$target" -- "${limits[@]}" \
    -max_total_time="$seconds" -print_final_stats=1 >"$log" 2>&1 && grep -q '^Done ' "$log"; then
    echo "$target: $(grep '^Done ' "$log")"
  else
    echo "$target: a finding, or it did not run" >&2
    grep -v '^#' "$log" | tail -n 60 >&2
    return 1
  fi
}
failed=0
for ((i = 0; i < ${#targets[@]}; i += 2)); do
  pids=()
  for target in "${targets[@]:i:2}"; do fuzz_one "$target" & pids+=($!); done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
done
exit "$failed"
