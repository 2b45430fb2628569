//! The one place that chooses the instruction set. `MLIC_CPU` forces it down, never up.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::arch::Matrix;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use std::arch::is_aarch64_feature_detected;

/// Instruction sets that the fast operators are compiled for; within each architecture, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What the target guarantees; no further instructions.
    Scalar,
    /// 64-bit ARM with NEON.
    Neon,
    /// 64-bit ARM with NEON and its dot product instructions.
    Dotprod,
    /// 64-bit ARM with NEON, dot products and byte matrix products.
    I8mm,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX2 and its dot product instructions (AVX-VNNI), for processors without AVX-512.
    AvxVnni,
    /// x86-64 with AVX-512 and its dot product instructions.
    Avx512Vnni,
    /// [`Self::Avx512Vnni`] and the matrix unit of x86-64 (AMX) under Linux, for the layers that are faster with it.
    Amx,
}

impl Isa {
    /// All instruction sets; within each architecture, weakest first.
    pub const ALL: [Self; 8] =
        [Self::Scalar, Self::Neon, Self::Dotprod, Self::I8mm, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni, Self::Amx];

    /// Name in `MLIC_CPU` and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Dotprod => "dotprod",
            Self::I8mm => "i8mm",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512Vnni => "avx512vnni",
            Self::Amx => "amx",
        }
    }

    /// Whether this processor has the instructions.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512cd")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512Vnni.is_available() && Matrix::detect().is_some(),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon => is_aarch64_feature_detected!("neon"),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Dotprod => is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod"),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::I8mm => Self::Dotprod.is_available() && is_aarch64_feature_detected!("i8mm"),
            _ => false,
        }
    }

    /// Whether the instruction set belongs to the architecture that this crate is compiled for.
    const fn is_of_this_architecture(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon | Self::Dotprod | Self::I8mm => cfg!(target_arch = "aarch64"),
            Self::Avx2 | Self::AvxVnni | Self::Avx512Vnni | Self::Amx => cfg!(target_arch = "x86_64"),
        }
    }

    /// The best instruction set of this processor, or the weaker one that `MLIC_CPU` names; a name that is unknown or belongs to another architecture
    /// means scalar ([`warning`]).
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::choose(limit().as_deref()))
    }

    /// The best available instruction set that is not above the named one; a name that is not one of this architecture means scalar.
    #[must_use]
    pub fn choose(limit: Option<&str>) -> Self {
        let ceiling = limit.map_or(Self::Amx, |name| Self::named(name).unwrap_or(Self::Scalar));
        Self::ALL.into_iter().rev().find(|isa| *isa <= ceiling && isa.is_available()).unwrap_or(Self::Scalar)
    }

    fn here() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_of_this_architecture())
    }

    fn named(name: &str) -> Option<Self> {
        Self::here().find(|isa| isa.name() == name)
    }
}

fn limit() -> Option<String> {
    std::env::var("MLIC_CPU").ok().filter(|name| !name.is_empty())
}

/// The warning for programs to print if `MLIC_CPU` names no instruction set of this architecture.
#[must_use]
pub fn warning() -> Option<String> {
    limit().and_then(|name| warning_of(&name))
}

fn warning_of(name: &str) -> Option<String> {
    let known = || Isa::here().map(Isa::name).collect::<Vec<_>>().join(", ");
    Isa::named(name).is_none().then(|| format!("MLIC_CPU={name} is not one of {}; using scalar", known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outside_forces_down_only() {
        assert_eq!(Isa::choose(Some("scalar")), Isa::Scalar);
        assert_eq!(Isa::choose(Some("nonsense")), Isa::Scalar);
        for isa in Isa::here() {
            let chosen = Isa::choose(Some(isa.name()));
            assert!(chosen <= isa && chosen.is_available(), "{isa:?}");
        }
        assert_eq!(Isa::choose(None), Isa::here().last().map(|isa| Isa::choose(Some(isa.name()))).unwrap());
    }

    #[test]
    fn a_name_that_is_none_here_is_told() {
        let is_x86 = cfg!(target_arch = "x86_64");
        assert!(Isa::here().all(|isa| warning_of(isa.name()).is_none()));
        assert_eq!(Isa::here().any(|isa| isa == Isa::Amx), is_x86);
        for name in ["nonsense", if is_x86 { "i8mm" } else { "avx2" }] {
            let warning = warning_of(name).unwrap();
            assert!(warning.starts_with(&format!("MLIC_CPU={name} is not one of scalar")), "{warning}");
            assert!(warning.ends_with("; using scalar") && !warning.contains(&format!(", {name}")), "{warning}");
            assert_eq!(Isa::choose(Some(name)), Isa::Scalar);
        }
    }
}
