//! The second image of a size is recorded and the third replayed: all give the numbers of the first, whatever runs in between.

use crate::common::package;
use mlic_backend::contract::{Fill, Random, is_required, z_count};
use mlic_backend::{Backend, BackendError, PassParameters, exact_samples};
use mlic_core::schedule::{LatentSize, passes};
use mlic_cuda::{CudaBackend, Options};
use mlic_kernels::Map;

/// Everything that decoding crafted symbols yields.
fn decode(backend: &CudaBackend, size: LatentSize, quality: u8, seed: u64) -> (Vec<PassParameters>, Map<i32>, Map<u8>) {
    let (model, mut random) = (backend.model(), Random(seed));
    let z = Fill::Lengths.symbols(&mut random, z_count(model, &size));
    let mut session = backend.entropy(size, quality, &z).unwrap();
    let step = |pass| {
        let parameters = session.parameters(pass).unwrap();
        assert_eq!(session.parameters(pass).unwrap(), parameters, "asked again");
        let short = session.commit(pass, &[]);
        assert!(matches!(short, Err(BackendError::Shape { .. })));
        let mut without_means = PassParameters::default();
        session.parameters_into(pass, false, &mut without_means).unwrap();
        assert_eq!(without_means.scale_indices, parameters.scale_indices);
        session.commit(pass, &Fill::Small.symbols(&mut random, parameters.means.len())).unwrap();
        parameters
    };
    let parameters = passes(model.config().slices).map(step).collect();
    let y_hat = session.y_hat().unwrap();
    let samples = exact_samples(backend, session, quality).unwrap();
    assert!(samples == backend.exact_synthesis(quality, &y_hat).unwrap(), "pixels of a session are those of its y_hat");
    (parameters, y_hat, samples)
}

#[test]
fn recorded_images_are_as_the_first() {
    let backend = match CudaBackend::new(package("edge-cases"), Options::default()) {
        Ok(backend) => backend,
        Err(error) if is_required("cuda") => panic!("{error}"),
        Err(error) => return eprintln!("not run: {error}"),
    };
    let [small, large] = [(64, 64), (128, 64)].map(|(width, height)| LatentSize::of_image(width, height).unwrap());
    let jobs = [(small, 0, 1), (large, 0, 2), (small, 200, 3)];
    let first: Vec<_> = jobs.iter().map(|(size, quality, seed)| decode(&backend, *size, *quality, *seed)).collect();
    for round in 0..3 {
        for ((size, quality, seed), expected) in jobs.iter().zip(&first) {
            // Another picture at the same size and level, abandoned at once.
            drop(backend.entropy(*size, *quality, &vec![1; z_count(backend.model(), size)]).unwrap());
            assert_eq!(&decode(&backend, *size, *quality, *seed), expected, "round {round}, seed {seed}");
        }
    }
    // Sessions of one size side by side have memory of their own.
    std::thread::scope(|scope| {
        let run = |&(size, quality, seed): &_| decode(&backend, size, quality, seed);
        let threads: Vec<_> = jobs.iter().chain(&jobs).map(|job| scope.spawn(move || run(job))).collect();
        for (thread, expected) in threads.into_iter().zip(first.iter().chain(&first)) {
            assert_eq!(&thread.join().unwrap(), expected);
        }
    });
}
