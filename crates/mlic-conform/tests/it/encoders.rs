//! The backends of all instruction sets, the definition and any number of threads write the streams that are recorded.

use mlic::BackendChoice;
use mlic_conform::encode::encode;

#[test]
fn streams_are_those_of_every_other_machine() {
    for (backend, threads) in [(BackendChoice::Integer, 1), (BackendChoice::Integer, 3), (BackendChoice::Reference, 1)] {
        for streams in encode(backend, threads).unwrap() {
            assert!(streams.len > 500, "{streams:?}");
            assert!(streams.is_pass(), "{backend}, {threads} threads: {streams:?}");
        }
    }
}
