//! A codec that is called from the threads of a rayon pool.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use mlic::{BackendChoice, Codec, CodecOptions, Quality};
use rayon::prelude::*;

use crate::common::{file, tiny_integer};

#[test]
fn work_has_the_threads_that_it_was_given() {
    for threads in [1, 3] {
        assert_eq!(mlic::on_threads(threads, rayon::current_num_threads).unwrap(), threads);
    }
}

/// A thread that waited for the codec by beginning with the next picture would hold many pictures at once.
#[test]
fn a_thread_holds_one_picture() {
    let options = CodecOptions::default().with_backend(BackendChoice::Integer).with_threads(2);
    let codec = Codec::new(tiny_integer(), options).unwrap();
    let stream = std::fs::read(file("conformance/smoke/noise-128x64-q33.mlic")).unwrap();
    let alone = codec.decode(&stream).unwrap().image;
    let callers = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let pictures: Vec<_> = callers.install(|| {
        let one = |_| {
            most.fetch_max(held.fetch_add(1, Relaxed) + 1, Relaxed);
            let threads = Mutex::new(HashSet::new());
            let progress = |_| {
                assert_eq!(rayon::current_thread_index(), None);
                threads.lock().unwrap().insert(std::thread::current().id());
                ControlFlow::Continue(())
            };
            let image = codec.watched(&progress).decode(&stream).unwrap().image;
            codec.watched(&progress).encode(&image, Quality::LOWEST).unwrap();
            assert_eq!(threads.into_inner().unwrap().len(), 2, "one thread of no pool for each call");
            held.fetch_sub(1, Relaxed);
            image
        };
        (0..8).into_par_iter().map(one).collect()
    });
    assert!(pictures.iter().all(|picture| *picture == alone));
    assert!((1..=2).contains(&most.load(Relaxed)), "{most:?} pictures at once on two threads");
}
