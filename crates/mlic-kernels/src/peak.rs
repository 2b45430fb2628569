//! The peak that kernels are measured against: the product instructions of an instruction set, on registers only.

use crate::arch::{Job, Matrix, Simd, Tiles, run};
use crate::cpu::Isa;

/// The kind of numbers to multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// Signed 16-bit numbers, in pairs; a matrix unit takes three byte products for each product.
    Words,
    /// Signed 16-bit numbers by bytes: like [`Self::Words`] on vectors; a matrix unit takes two byte products for each product.
    Pairs,
    /// Bytes, in quads, or in pairs of 16-bit numbers where quads are not faster.
    Quads,
}

struct Peak {
    products: Products,
    rounds: usize,
}

impl Job for Peak {
    type Output = (u64, i32);

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) -> (u64, i32) {
        let quads = self.products == Products::Quads && S::PREFERS_QUADS;
        let factor = s.splat(std::hint::black_box(0x0102_0304));
        let mut sums = [[factor; V]; P];
        for _ in 0..self.rounds {
            for row in &mut sums {
                for sum in row {
                    // The sum itself is a factor of each product, which can then be neither shared nor moved out of the loop.
                    *sum = if quads { s.dot_quads(*sum, *sum, factor) } else { s.dot_pairs(*sum, *sum, factor) };
                }
            }
        }
        let mut total = s.splat(0);
        for sum in sums.as_flattened() {
            total = s.add(total, *sum);
        }
        let mut lanes = [0; crate::arch::MAX_LANES];
        s.store(total, &mut lanes);
        let per_round = P * V * S::LANES * if quads { 4 } else { 2 };
        ((per_round * self.rounds) as u64, lanes[0])
    }
}

/// Does `rounds` rounds of independent multiply-adds, as many at once as the kernels keep in registers. Returns the number of multiply-adds,
/// and a number that depends on all of them (0 on a matrix unit).
#[must_use]
pub fn multiply_adds(isa: Isa, products: Products, rounds: usize) -> (u64, i32) {
    if let Some(matrix) = (isa == Isa::Amx).then(Matrix::detect).flatten() {
        matrix.tiles().spin(rounds);
        let per_product = match products {
            Products::Quads => 1,
            Products::Pairs => 2,
            Products::Words => 3,
        };
        return ((Tiles::ROUND * rounds / per_product) as u64, 0);
    }
    run(isa, Peak { products, rounds })
}
