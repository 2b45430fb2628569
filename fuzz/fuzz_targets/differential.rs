//! See `mlic_fuzz::TARGETS`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (mlic_fuzz::target("differential").expect("a target of this name"))(bytes));
