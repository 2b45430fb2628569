//! What a decoder must refuse: streams and model packages, written by hand, each with the error that SPEC gives it. Packages of the same shapes that
//! must be accepted stand beside them, since a decoder that accepts none of a shape refuses all of them for another reason.

mod exact;
mod packages;
mod shapes;
mod streams;
mod texts;
mod transforms;

pub use packages::{PACKAGES, PackageCase, Sound, TAKEN};
pub use streams::{Base, STREAMS, StreamCase};

/// Returns every package that must be refused, then those that must be accepted.
pub fn packages() -> impl Iterator<Item = &'static PackageCase> {
    let more = [exact::ANALYSES, shapes::SHAPES, texts::TEXTS, transforms::TRANSFORMS];
    let all = || PACKAGES.iter().chain(exact::EXACT).chain(more.into_iter().flatten());
    all().filter(|case| case.code.is_some()).chain(TAKEN).chain(all().filter(|case| case.code.is_none()))
}

/// Returns the package of a vector of this suite, by the vector's name.
pub fn package(vector: &str) -> Option<&'static PackageCase> {
    let name = vector.strip_prefix("package-")?;
    packages().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_packages_are_wrong_in_what_a_decoder_need_not_read() {
        assert_eq!(packages().filter(|case| case.may_be_taken()).count(), 61);
        assert!(packages().all(|case| case.code.is_some() || !case.may_be_taken()));
        assert!(package("package-metadata").is_some_and(PackageCase::may_be_taken));
        assert!(package("package-bit-weights").is_some_and(|case| !case.may_be_taken()));
        assert!(package("metadata").is_none() && package("package-").is_none());
    }
}
