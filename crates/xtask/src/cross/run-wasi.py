"""Runs a WASI program with the `wasmtime` package: run-wasi.py PROGRAM.wasm ARGUMENT..."""

import os
import sys

import wasmtime

engine = wasmtime.Engine()
linker = wasmtime.Linker(engine)
linker.define_wasi()
store = wasmtime.Store(engine)
wasi = wasmtime.WasiConfig()
wasi.argv = sys.argv[1:]
wasi.inherit_stdin()
wasi.inherit_stdout()
wasi.inherit_stderr()
wasi.env = [(name, value) for name, value in os.environ.items() if name.startswith(("MLIC_", "RUST_", "CARGO_"))]
wasi.preopen_dir(os.getcwd(), ".")
store.set_wasi(wasi)
instance = linker.instantiate(store, wasmtime.Module.from_file(engine, sys.argv[1]))
try:
    instance.exports(store)["_start"](store)
except wasmtime.ExitTrap as trap:
    sys.exit(trap.code)
