//! The one place that chooses the instruction set. `MLIC_CPU` forces it down, never up.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::arch::Matrix;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use std::arch::is_aarch64_feature_detected;

/// Instruction sets that the fast operators are compiled for; of each architecture, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What the target guarantees; no further instructions.
    Scalar,
    /// 64-bit ARM with NEON.
    Neon,
    /// 64-bit ARM with NEON and its dot product instructions.
    Dotprod,
    /// The same, and its products of matrices of bytes.
    I8mm,
    /// x86-64 with AVX2.
    Avx2,
    /// The same, and its dot product instructions: processors without AVX-512.
    AvxVnni,
    /// x86-64 with AVX-512 and its dot product instructions.
    Avx512Vnni,
    /// The same, and the matrix unit of x86-64 under Linux for the layers that are faster with it.
    Amx,
}

impl Isa {
    /// All instruction sets; of each architecture, weakest first.
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

    /// Whether this processor has it.
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

    /// The best instruction set of this processor, or the weaker one that `MLIC_CPU` names; an unknown name means scalar ([`warning`]).
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::choose(limit().as_deref()))
    }

    /// The best available instruction set that is not above the one named; an unknown name means scalar.
    #[must_use]
    pub fn choose(limit: Option<&str>) -> Self {
        let ceiling = limit.map_or(Self::Amx, |name| Self::named(name).unwrap_or(Self::Scalar));
        Self::ALL.into_iter().rev().find(|isa| *isa <= ceiling && isa.is_available()).unwrap_or(Self::Scalar)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }
}

fn limit() -> Option<String> {
    std::env::var("MLIC_CPU").ok().filter(|name| !name.is_empty())
}

/// What programs say to a `MLIC_CPU` that names no instruction set.
#[must_use]
pub fn warning() -> Option<String> {
    limit().and_then(|name| warning_of(&name))
}

fn warning_of(name: &str) -> Option<String> {
    let known = Isa::ALL.map(Isa::name).join(", ");
    Isa::named(name).is_none().then(|| format!("MLIC_CPU={name} is not one of {known}; using scalar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outside_forces_down_only() {
        assert_eq!(Isa::choose(Some("scalar")), Isa::Scalar);
        assert_eq!(Isa::choose(Some("nonsense")), Isa::Scalar);
        assert!(Isa::choose(Some("avx2")) <= Isa::Avx2);
        assert!(Isa::choose(Some("avx512vnni")).is_available());
        assert_eq!(Isa::choose(None), Isa::choose(Some("amx")));
    }

    #[test]
    fn a_name_that_is_none_is_told() {
        assert!(Isa::ALL.iter().all(|isa| warning_of(isa.name()).is_none()));
        let warning = warning_of("nonsense").unwrap();
        assert!(warning.starts_with("MLIC_CPU=nonsense is not one of scalar, neon, "), "{warning}");
        assert!(warning.ends_with(", amx; using scalar"), "{warning}");
    }
}
