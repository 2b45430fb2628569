//! A call ends where its callback says so, and the codec works as before.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;

use mlic::{BackendChoice, Codec, CodecOptions, Error, ErrorKind, ProgressEvent, Quality, Stage, Watched};

use crate::common::{picture, tiny_integer};

fn codec() -> Codec {
    Codec::new(tiny_integer(), CodecOptions::default().with_backend(BackendChoice::Integer).with_threads(1)).unwrap()
}

fn is_cancelled<T>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) => {
            assert!(matches!(error, Error::Cancelled), "{error}");
            assert_eq!((error.kind(), error.code()), (ErrorKind::Cancelled, "cancelled"));
            true
        }
    }
}

/// Ends a call at each of its events in turn; returns how many there are.
fn at_each_event<T: PartialEq>(codec: &Codec, call: impl Fn(Watched<'_>) -> Result<T, Error>) -> usize {
    let whole = call(codec.watched(&|_| ControlFlow::Continue(()))).unwrap();
    for end in 0.. {
        let told = AtomicUsize::new(0);
        let progress = |_| if told.fetch_add(1, Relaxed) == end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let result = call(codec.watched(&progress));
        let told = told.load(Relaxed);
        if told <= end {
            assert!(result.unwrap() == whole, "the same after {end} calls that were ended");
            return told;
        }
        assert_eq!(told, end + 1, "nothing is begun after the end");
        assert!(is_cancelled(result), "event {end}");
    }
    unreachable!()
}

#[test]
fn every_event_may_be_the_last() {
    let codec = codec();
    let passes = 2 * codec.model().config().slices;
    let (image, quality) = (picture(40, 30), Quality::default());
    let stream = codec.encode(&image, quality).unwrap().stream;
    let latents = codec.decode_latents(&stream).unwrap();
    let encode = |call: Watched<'_>| Ok(call.encode(&image, quality)?.stream);
    // g_a, h_a, h_s, all passes, rans.
    assert_eq!(at_each_event(&codec, encode), 5 + passes);
    // Each of the three walks has h_s, all passes, rans and the picture; g_a comes between two walks.
    let refining = codec.with_options(CodecOptions::default().with_effort(2)).unwrap();
    assert_eq!((refining.options().backend, refining.options().threads), (BackendChoice::Integer, 1));
    assert_eq!(at_each_event(&refining, encode), 2 + 3 * (4 + passes) + 2);
    // Symbols of z, h_s, all passes; the picture.
    assert_eq!(at_each_event(&codec, |call| Ok(call.decode(&stream)?.image)), 4 + passes);
    assert_eq!(at_each_event(&codec, |call| Ok(call.decode_latents(&stream)?.y_hat)), 3 + passes);
    assert_eq!(at_each_event(&codec, |call| call.synthesize(&latents)), 1);
}

#[test]
fn another_thread_may_end_a_call() {
    let (codec, image) = (codec(), picture(40, 30));
    let stream = codec.encode(&image, Quality::default()).unwrap().stream;
    let flag = AtomicBool::new(false);
    let (begun, waiting) = mpsc::sync_channel(0);
    let (set, may_go_on) = mpsc::sync_channel(0);
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let progress = |event| {
        if event == ProgressEvent::Stage(Stage::Passes) {
            begun.send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
        }
        if flag.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    std::thread::scope(|scope| {
        let call = scope.spawn(|| is_cancelled(codec.watched(&progress).decode(&stream)));
        waiting.recv().unwrap();
        flag.store(true, Relaxed);
        set.send(()).unwrap();
        assert!(call.join().unwrap());
    });
    assert!(codec.decode(&stream).is_ok());
}
