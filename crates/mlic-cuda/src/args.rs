//! Arguments of the kernels, as `kernels/*.h` declare them. Addresses are of device memory, or of host memory that the device sees.
//!
//! unsafe, because only the author can vouch that these types are what the kernels declare; their sizes are asserted on both sides.
#![allow(unsafe_code, reason = "plain data that C++ declares too")]

use cudarc::driver::DeviceRepr;
use mlic_core::checkerboard::Parity;
use mlic_model::parameters::Requant;

/// Most inputs of a layer: the means of the hyper parameters and 64 latent slices.
pub(crate) const MAX_TERMS: usize = 65;

/// A change of scale.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct RequantArg {
    multiplier: i32,
    shift: i32,
}

impl From<Requant> for RequantArg {
    fn from(requant: Requant) -> Self {
        Self { multiplier: requant.multiplier, shift: requant.shift as i32 }
    }
}

/// The `HALF_*` constant of `fixed.h` for a parity.
pub(crate) const fn half(parity: Option<Parity>) -> i32 {
    match parity {
        None => 0,
        Some(Parity::Anchor) => 1,
        Some(Parity::NonAnchor) => 2,
    }
}

/// One term of a layer at one level, in device memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Term {
    pub(crate) weights: u64,
    pub(crate) multipliers: u64,
    pub(crate) first: i32,
    pub(crate) channels: i32,
    pub(crate) identity: i32,
    pub(crate) reserved: i32,
}

// SAFETY: integers alone.
unsafe impl bytemuck::Zeroable for Term {}
// SAFETY: integers alone, without padding: the size below is their sum.
unsafe impl bytemuck::Pod for Term {}

/// A step of a dense layer, which is one or more groups of its k axis; in device memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) term: i32,
    pub(crate) channel: i32,
    pub(crate) tap: i16,
    pub(crate) count: i16,
    pub(crate) flags: i32,
}

impl Step {
    /// The step reads channels that the one before did not.
    pub(crate) const NEW_PATCH: i32 = 1;
    /// The step is the last of its term.
    pub(crate) const END_OF_TERM: i32 = 2;
    /// Activations of its term do not fit into a byte.
    pub(crate) const WIDE_TERM: i32 = 4;
}

// SAFETY: integers alone.
unsafe impl bytemuck::Zeroable for Step {}
// SAFETY: integers alone, without padding: the size below is their sum.
unsafe impl bytemuck::Pod for Step {}

/// A linear layer.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LayerArgs {
    pub(crate) terms: u64,
    pub(crate) bias: u64,
    pub(crate) table: u64,
    pub(crate) out: u64,
    pub(crate) out2: u64,
    pub(crate) factors: u64,
    pub(crate) multipliers: u64,
    pub(crate) weights: u64,
    pub(crate) steps: u64,
    pub(crate) term_count: i32,
    pub(crate) outputs: i32,
    pub(crate) side: i32,
    pub(crate) in_height: i32,
    pub(crate) in_width: i32,
    pub(crate) out_width: i32,
    pub(crate) first: i32,
    pub(crate) end: i32,
    pub(crate) half: i32,
    pub(crate) shuffle: i32,
    pub(crate) stride: i32,
    pub(crate) shift: i32,
    pub(crate) max: i32,
    pub(crate) epilogue: i32,
    pub(crate) output: RequantArg,
    pub(crate) columns: i32,
    pub(crate) warps_m: i32,
    pub(crate) warps_n: i32,
    pub(crate) warps_k: i32,
    pub(crate) step_count: i32,
    pub(crate) groups: i32,
    pub(crate) pitch: i32,
    pub(crate) patch: i32,
    pub(crate) patches: i32,
    pub(crate) side_inverse: i32,
    pub(crate) reserved: i32,
    pub(crate) strides: [i32; MAX_TERMS],
    pub(crate) inputs: [u64; MAX_TERMS],
}

/// Quantization of latent values to activations, after gains if there are any.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct QuantizeArgs {
    pub(crate) input: u64,
    pub(crate) out: u64,
    pub(crate) gains: u64,
    pub(crate) count: i64,
    pub(crate) requant: RequantArg,
    pub(crate) max: i32,
    pub(crate) channels: i32,
}

/// Conversion of samples to activations.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SamplesArgs {
    pub(crate) input: u64,
    pub(crate) out: u64,
    pub(crate) count: i64,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) out_width: i32,
    pub(crate) first: i32,
}

/// Rearrangement of positions: pack, unpack, merge and shuffle.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct MoveArgs {
    pub(crate) input: u64,
    pub(crate) input2: u64,
    pub(crate) out: u64,
    pub(crate) count: i64,
    pub(crate) width: i32,
    pub(crate) channels: i32,
    pub(crate) half: i32,
    pub(crate) reserved: i32,
}

/// `a + b * 2^b_shift`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AddArgs {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) out: u64,
    pub(crate) count: i64,
    pub(crate) b_shift: i32,
    pub(crate) reserved: i32,
}

/// Conversion of scales and means to what the coder reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ParametersArgs {
    pub(crate) scale: u64,
    pub(crate) mean: u64,
    pub(crate) thresholds: u64,
    pub(crate) means: u64,
    pub(crate) indices: u64,
    pub(crate) count: i64,
}

/// Squares, each as two halves of 15 bits.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SquaresArgs {
    pub(crate) input: u64,
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) count: i64,
}

/// A copy of the channels of a map to a place among those of a larger one.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PlaceArgs {
    pub(crate) input: u64,
    pub(crate) out: u64,
    pub(crate) count: i64,
    pub(crate) channels: i32,
    pub(crate) of: i32,
    pub(crate) first: i32,
    pub(crate) reserved: i32,
}

/// A fill of 64-bit words with one value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FillArgs {
    pub(crate) out: u64,
    pub(crate) value: u64,
    pub(crate) count: i64,
}

/// A layer normalization.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NormArgs {
    pub(crate) input: u64,
    pub(crate) out: u64,
    pub(crate) epsilon: i64,
    pub(crate) positions: i32,
    pub(crate) channels: i32,
}

/// A global linear attention.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LinearArgs {
    pub(crate) qkv: [u64; 3],
    pub(crate) out: u64,
    pub(crate) largest: u64,
    pub(crate) sums: u64,
    pub(crate) context: u64,
    pub(crate) exp: [u64; 2],
    pub(crate) query: RequantArg,
    pub(crate) key: RequantArg,
    pub(crate) output: RequantArg,
    pub(crate) positions: i32,
    pub(crate) channels: i32,
    pub(crate) head_channels: i32,
    pub(crate) max: i32,
    pub(crate) chunk: i32,
    pub(crate) reserved: i32,
}

/// A window attention.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WindowArgs {
    pub(crate) qkv: [u64; 3],
    pub(crate) out: u64,
    pub(crate) bias: u64,
    pub(crate) exp: [u64; 2],
    pub(crate) requant: RequantArg,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) channels: i32,
    pub(crate) heads: i32,
    pub(crate) window: i32,
    pub(crate) max: i32,
    pub(crate) together: i32,
    pub(crate) reserved: i32,
}

/// Declares that these types have the layout of their namesakes in C++, and asserts their sizes, as `exact.cu` does too.
macro_rules! same_in_cpp {
    ($($name:ident: $size:literal),*) => {
        $(
            // SAFETY: `repr(C)` of integers alone, without padding; the size is asserted on both sides.
            unsafe impl DeviceRepr for $name {}
            const _: () = assert!(size_of::<$name>() == $size);
        )*
        const _: () = assert!(size_of::<Term>() == 32 && size_of::<Step>() == 16);
    };
}
same_in_cpp!(
    LayerArgs: 960, QuantizeArgs: 48, MoveArgs: 48, AddArgs: 40, ParametersArgs: 48, FillArgs: 24, NormArgs: 32, LinearArgs: 120,
    WindowArgs: 96, SquaresArgs: 32, PlaceArgs: 40, SamplesArgs: 40
);
