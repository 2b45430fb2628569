#!/usr/bin/env bash
# Times two programs `mlic` in turns on one picture: whatever else the machine does slows both of them, and the ratio is what counts.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: benches/turns.sh [-n RUNS] [-q QUALITY] BEFORE AFTER PICTURE [OPTION...]
  BEFORE, AFTER  two programs `mlic`; the same one twice shows how large the noise is
  PICTURE        is encoded, and then decoded to PPM: both programs decode the stream of BEFORE
  OPTION...      for both programs and commands: -j 1, --model PACKAGE
  -n RUNS        turns, after one that does not count [default: 15]
  -q QUALITY     for encode [default: that of the program]
Prints in milliseconds the median and the least time of each program, the median of the ratios BEFORE / AFTER of the turns, the least and the
largest ratio, and whether streams and pictures are the same. Times are of whole processes, from file to file. $MLIC_CPU holds both programs to
an instruction set.
USAGE
}

runs=15 quality=
while getopts n:q:h option; do
    case "$option" in
        n) runs="$OPTARG" ;;
        q) quality="$OPTARG" ;;
        h) usage; exit ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 3 ] && [[ "$runs" =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }

exec python3 - "$runs" "$quality" "$@" <<'PYTHON'
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

runs, quality, *paths = sys.argv[1:6]
runs, quality = int(runs), ["-q", quality] if quality else []
*programs, picture = (Path(path).resolve() for path in paths)
options = sys.argv[6:]


def milliseconds(command):
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"turns.sh: {' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
    return 1000 * (time.perf_counter() - start)


def compare(name, commands):
    times = ([], [])
    for turn in range(runs + 1):
        # The program that goes first changes from turn to turn.
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            times[which].append(milliseconds(commands[which]))
    before, after = (of[1:] for of in times)
    ratios = [one / other for one, other in zip(before, after)]
    median = statistics.median
    print(
        f"{name}: before {median(before):.1f} (least {min(before):.1f}), after {median(after):.1f} (least {min(after):.1f}), "
        f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


with tempfile.TemporaryDirectory() as folder:
    streams, pictures = ([Path(folder, f"{which}.{kind}") for which in ("before", "after")] for kind in ("mlic", "ppm"))
    said = " ".join([*quality, *options]) or "default options"
    print(f"{picture.name}, {said}, MLIC_CPU={os.environ.get('MLIC_CPU', 'best')}, medians of {runs} turns in milliseconds")
    commands = [[program, *options] for program in programs]
    compare("encode", [[*commands[i], "encode", "--force", picture, *quality, "-o", streams[i]] for i in (0, 1)])
    compare("decode", [[*commands[i], "decode", "--force", streams[0], "-o", pictures[i]] for i in (0, 1)])
    for what, (before, after) in (("streams", streams), ("pictures", pictures)):
        print(f"{what}: {'the same' if before.read_bytes() == after.read_bytes() else 'NOT the same'}")
PYTHON
