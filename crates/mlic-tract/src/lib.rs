//! Float transforms (`g_a`, `h_a`, `g_s`) on tract, for x86 and ARM.
//!
//! A [`Transform`] holds a graph's weights and makes a plan per input size; the last few plans are kept. For one machine the
//! result does not depend on the thread count. Between machines it is close, not exact: within the tolerance of conformance level 4 (SPEC 5.6).
//!
//! ```
//! use mlic_model::graph::{Conv2d, Graph, Node, NodeId, Op};
//! use mlic_tract::Transform;
//!
//! let conv = Conv2d { input: 1, output: 1, kernel: 1, stride: 1, groups: 1, weight: vec![2.0], bias: vec![0.5] };
//! let nodes = vec![
//!     Node { op: Op::Input { channels: 1 }, inputs: vec![] },
//!     Node { op: Op::Conv2d(conv), inputs: vec![NodeId(0)] },
//! ];
//! let transform = Transform::new(Graph::new(nodes, NodeId(1))?)?;
//! assert_eq!(transform.run(&[1.0, 2.0], 1, 1, 2, 1)?, [2.5, 4.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod ops;
mod pool;
mod recipe;
mod transform;

pub use backend::{PlaneTransform, TractTransforms, backend};
pub use transform::{TractError, Transform};
