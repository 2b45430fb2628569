//! Work that can run concurrently.

/// Runs two pieces of work: concurrently on a thread of a rayon pool, elsewhere one after the other, so that no caller gets threads unasked.
pub(crate) fn beside<A: Send, B: Send>(first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B + Send) -> (A, B) {
    if rayon::current_thread_index().is_some() { rayon::join(first, second) } else { (first(), second()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(target_family = "wasm"))]
    fn only_a_pool_has_a_second_thread() {
        let here = || std::thread::current().id();
        let caller = here();
        assert_eq!(beside(here, here), (caller, caller));
        // Neither ends before the other has begun.
        let both = std::sync::Barrier::new(2);
        let meet = || (both.wait(), here()).1;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let (a, b) = pool.install(|| beside(meet, meet));
        assert!(a != b && a != caller && b != caller);
    }
}
