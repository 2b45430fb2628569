//! A transform that runs at any size.

use crate::recipe::Recipe;
use mlic_model::graph::Graph;
use std::sync::{Arc, Mutex, PoisonError};
use tract_core::internal::*;
use tract_linalg::multithread::{Executor, multithread_tract_scope};

/// Number of plans that are kept: for an image, its last strip, and one more.
const PLAN_COUNT: usize = 3;

/// Why a transform could not be made or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TractError {
    /// tract refused the graph.
    #[error("transform: {what}: {message}")]
    Engine {
        /// The step.
        what: &'static str,
        /// tract's chain of reasons.
        message: String,
    },
    /// The input has a different number of channels than the graph.
    #[error("transform takes {expected} channels, got {got}")]
    Channels {
        /// Channels of the input.
        got: usize,
        /// Channels of the graph.
        expected: usize,
    },
    /// The input is empty or not channels x height x width long.
    #[error("input of {got} values for {channels}x{height}x{width}")]
    Length {
        /// Number of values in the input.
        got: usize,
        /// Claimed channels.
        channels: usize,
        /// Claimed rows.
        height: usize,
        /// Claimed columns.
        width: usize,
    },
    /// The threads could not be started.
    #[error("{threads} threads: {message}")]
    Threads {
        /// Number of threads.
        threads: usize,
        /// The reason.
        message: String,
    },
}

/// Turns an error of tract, with its chain of reasons, into ours.
fn engine<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> TractError {
    move |e| TractError::Engine { what, message: format!("{e:#}") }
}

/// (height, width) of the input, and the plan for it.
type SizedPlan = ((usize, usize), Arc<TypedRunnableModel>);

/// A float transform. Threads may share it; each call runs on its own.
#[derive(Debug)]
pub struct Transform {
    recipe: Recipe,
    /// In order of their last use, the latest last.
    plans: Mutex<Vec<SizedPlan>>,
    /// (thread count, executor) of the last call with several threads.
    executor: Mutex<Option<(usize, Executor)>>,
}

impl Transform {
    /// Makes a transform from a graph, whose weights it takes.
    ///
    /// # Errors
    /// When tract cannot hold the graph's tensors.
    pub fn new(graph: Graph) -> Result<Self, TractError> {
        let recipe = Recipe::new(graph).map_err(engine("read graph"))?;
        Ok(Self { recipe, plans: Mutex::default(), executor: Mutex::default() })
    }

    /// Runs on `input` [channels, height, width], row-major, and returns the output in the same order.
    ///
    /// With 0 or 1 `threads`, it runs on the calling thread. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// When the input does not fit the graph, operands of a sum differ in shape at this size, or threads cannot start.
    pub fn run(
        &self,
        input: &[f32],
        channels: usize,
        height: usize,
        width: usize,
        threads: usize,
    ) -> Result<Vec<f32>, TractError> {
        self.check(input.len(), channels, height, width)?;
        let plan = self.plan(channels, height, width)?;
        let executor = self.executor(threads)?;
        let x = Tensor::from_shape(&[1, channels, height, width], input).map_err(engine("input"))?;
        let out = multithread_tract_scope(executor, || plan.run(tvec!(x.into_tvalue()))).map_err(engine("run"))?;
        let out = out.into_iter().next().ok_or(TractError::Engine { what: "run", message: "no output".into() })?;
        let view = out.try_as_plain_ram().map_err(engine("output"))?;
        Ok(view.as_slice::<f32>().map_err(engine("output"))?.to_vec())
    }

    /// Runs on `input` like [`Self::run`], but returns the values of all nodes, the input first, for calibration.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_all(
        &self,
        input: &[f32],
        channels: usize,
        height: usize,
        width: usize,
        threads: usize,
    ) -> Result<Vec<Vec<f32>>, TractError> {
        self.check(input.len(), channels, height, width)?;
        let plan = self.recipe.model_of(channels, height, width, self.recipe.nodes()).and_then(|m| m.into_runnable());
        let plan = plan.map_err(engine("plan"))?;
        let executor = self.executor(threads)?;
        let x = Tensor::from_shape(&[1, channels, height, width], input).map_err(engine("input"))?;
        let all = multithread_tract_scope(executor, || plan.run(tvec!(x.into_tvalue()))).map_err(engine("run"))?;
        // Each tensor is freed once it is copied.
        let values = |out: TValue| {
            let view = out.try_as_plain_ram().map_err(engine("output"))?;
            Ok(view.as_slice::<f32>().map_err(engine("output"))?.to_vec())
        };
        all.into_iter().map(values).collect()
    }

    fn check(&self, got: usize, channels: usize, height: usize, width: usize) -> Result<(), TractError> {
        let expected = self.recipe.input_channels;
        if channels != expected {
            return Err(TractError::Channels { got: channels, expected });
        }
        let len = channels.checked_mul(height).and_then(|n| n.checked_mul(width));
        if len != Some(got) || got == 0 {
            return Err(TractError::Length { got, channels, height, width });
        }
        Ok(())
    }

    fn plan(&self, channels: usize, height: usize, width: usize) -> Result<Arc<TypedRunnableModel>, TractError> {
        let key = (height, width);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(i) = plans.iter().position(|(k, _)| *k == key) {
            let kept = plans.remove(i);
            plans.push(kept);
        } else {
            let plan = self.recipe.model(channels, height, width).and_then(|m| m.into_runnable()).map_err(engine("plan"))?;
            if plans.len() >= PLAN_COUNT {
                plans.remove(0);
            }
            plans.push((key, plan));
        }
        let latest = plans.last().map(|(_, plan)| Arc::clone(plan));
        latest.ok_or(TractError::Engine { what: "plan", message: "lost".into() })
    }

    fn executor(&self, threads: usize) -> Result<Executor, TractError> {
        if threads <= 1 {
            return Ok(Executor::SingleThread);
        }
        let mut kept = self.executor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((n, executor)) = &*kept
            && *n == threads
        {
            return Ok(executor.clone());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("mlic-{i}")).build();
        let pool = pool.map_err(|e| TractError::Threads { threads, message: e.to_string() })?;
        let executor = Executor::MultiThread(Arc::new(pool));
        *kept = Some((threads, executor.clone()));
        Ok(executor)
    }
}
