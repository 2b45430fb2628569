//! Work split into chunks under whatever executor tract runs with.

use tract_linalg::multithread::{Executor, current_tract_executor};

/// Calls `f(chunk index, chunk)` for every chunk of `len` elements, in parallel when the executor has threads.
pub(crate) fn for_chunks(out: &mut [f32], len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let chunks = out.chunks_mut(len.max(1)).enumerate();
    match current_tract_executor() {
        Executor::MultiThread(pool) => pool.scope(|s| {
            for (i, chunk) in chunks {
                let f = &f;
                s.spawn(move |_| f(i, chunk));
            }
        }),
        _ => chunks.for_each(|(i, chunk)| f(i, chunk)),
    }
}
