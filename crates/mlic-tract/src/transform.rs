//! A transform that runs at any size.

use crate::recipe::Recipe;
use mlic_model::graph::Graph;
use std::sync::{Arc, Mutex, PoisonError};
use tract_core::internal::*;
use tract_linalg::multithread::{Executor, multithread_tract_scope};

/// Plans kept: an image, its last strip, and one more.
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
    /// The input has other channels than the graph.
    #[error("transform takes {expected} channels, got {got}")]
    Channels {
        /// Of the input.
        got: usize,
        /// Of the graph.
        expected: usize,
    },
    /// The input is empty or not channels x height x width long.
    #[error("input of {got} values for {channels}x{height}x{width}")]
    Length {
        /// Of the input.
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
        /// How many.
        threads: usize,
        /// The reason.
        message: String,
    },
}

/// tract's own error, with its chain of reasons, as ours.
fn engine<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> TractError {
    move |e| TractError::Engine { what, message: format!("{e:#}") }
}

#[derive(Debug)]
enum Source {
    Graph(Recipe),
    #[cfg(feature = "onnx")]
    Onnx(Box<tract_onnx::prelude::InferenceModel>),
}

/// (height, width) of the input, and the plan for it.
type SizedPlan = ((usize, usize), Arc<TypedRunnableModel>);

/// A float transform; shared between threads, each call runs on its own.
#[derive(Debug)]
pub struct Transform {
    source: Source,
    /// The latest used last.
    plans: Mutex<Vec<SizedPlan>>,
    /// (thread count, executor) of the last call with several threads.
    executor: Mutex<Option<(usize, Executor)>>,
}

impl Transform {
    /// A transform from a graph; takes its weights.
    ///
    /// # Errors
    /// When tract cannot hold the graph's tensors.
    pub fn new(graph: Graph) -> Result<Self, TractError> {
        let recipe = Recipe::new(graph).map_err(engine("read graph"))?;
        Ok(Self::from_source(Source::Graph(recipe)))
    }

    /// A transform that runs an ONNX file as it is, with tract's own operators: the slow second way, for comparison.
    ///
    /// # Errors
    /// When the file cannot be read as ONNX.
    #[cfg(feature = "onnx")]
    pub fn from_onnx(path: impl AsRef<std::path::Path>) -> Result<Self, TractError> {
        use tract_onnx::prelude::Framework;
        let model = tract_onnx::onnx().with_ignore_output_shapes(true).model_for_path(path).map_err(engine("read ONNX"))?;
        Ok(Self::from_source(Source::Onnx(Box::new(model))))
    }

    fn from_source(source: Source) -> Self {
        Self { source, plans: Mutex::default(), executor: Mutex::default() }
    }

    /// Run on `input` [channels, height, width], row-major; returns the output in the same order.
    ///
    /// `threads` of 0 or 1 runs on the calling thread. The result does not depend on it.
    ///
    /// # Errors
    /// When the input does not fit the graph, the size makes operands of a sum differ, or threads cannot start.
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

    /// Runs a transform that is a graph and gives the values of all its nodes, the input first: what calibration looks at.
    ///
    /// # Errors
    /// As [`Self::run`]; [`TractError::Engine`] for a transform that is no graph.
    pub fn run_all(
        &self,
        input: &[f32],
        channels: usize,
        height: usize,
        width: usize,
        threads: usize,
    ) -> Result<Vec<Vec<f32>>, TractError> {
        self.check(input.len(), channels, height, width)?;
        let not_a_graph = || TractError::Engine { what: "run all nodes", message: "not a graph".into() };
        let recipe = self.source.recipe().ok_or_else(not_a_graph)?;
        let plan = recipe.model_of(channels, height, width, recipe.nodes()).and_then(|m| m.into_runnable());
        let plan = plan.map_err(engine("plan"))?;
        let executor = self.executor(threads)?;
        let x = Tensor::from_shape(&[1, channels, height, width], input).map_err(engine("input"))?;
        let all = multithread_tract_scope(executor, || plan.run(tvec!(x.into_tvalue()))).map_err(engine("run"))?;
        let values = |out: &TValue| {
            let view = out.try_as_plain_ram().map_err(engine("output"))?;
            Ok(view.as_slice::<f32>().map_err(engine("output"))?.to_vec())
        };
        all.iter().map(values).collect()
    }

    fn check(&self, got: usize, channels: usize, height: usize, width: usize) -> Result<(), TractError> {
        if let Source::Graph(r) = &self.source
            && r.input_channels != channels
        {
            return Err(TractError::Channels { got: channels, expected: r.input_channels });
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
            let plan = self.source.model(channels, height, width).and_then(|m| m.into_runnable()).map_err(engine("plan"))?;
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

impl Source {
    const fn recipe(&self) -> Option<&Recipe> {
        match self {
            Self::Graph(recipe) => Some(recipe),
            #[cfg(feature = "onnx")]
            Self::Onnx(_) => None,
        }
    }

    fn model(&self, channels: usize, height: usize, width: usize) -> TractResult<TypedModel> {
        match self {
            Self::Graph(recipe) => recipe.model(channels, height, width),
            #[cfg(feature = "onnx")]
            Self::Onnx(model) => {
                use tract_onnx::prelude::*;
                let fact = InferenceFact::dt_shape(f32::datum_type(), [1, channels, height, width]);
                (**model).clone().with_input_fact(0, fact)?.into_optimized()
            }
        }
    }
}
