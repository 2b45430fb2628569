#!/usr/bin/env bash
# build.sh FOLDER [OPTION...]: the emulated driver, FOLDER/libcuda.so.1. Options go to the compiler.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
folder=$1
shift
mkdir -p "$folder"
"${CXX:-g++}" -std=c++20 -O3 -march=native -Wall -Wextra -Wno-unknown-pragmas -Werror -fPIC -shared -fvisibility=hidden -Wl,-soname,libcuda.so.1 \
    "$@" "$here/driver.cpp" -o "$folder/libcuda.so.1"
