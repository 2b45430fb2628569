//! `mlic model`: what a package is, whether it is sound; building one and what its integers cost are in [`crate::build`].

use std::path::PathBuf;

use clap::Subcommand;
use mlic::Model;
use mlic_model::package::{SectionKind, hex};
use serde_json::{Value, json};

use crate::args::Global;
#[cfg(feature = "builder")]
use crate::build::{BuildArgs, CostArgs};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::{files, info};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Build a package from an exported checkpoint (see models/README.md)
    #[cfg(feature = "builder")]
    Build(BuildArgs),
    /// Print what a package holds
    Info {
        /// Package [default: the model in use]
        #[arg(value_name = "PACKAGE")]
        package: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check every checksum, table and proof of a package
    Verify {
        /// Package [default: the model in use]
        #[arg(value_name = "PACKAGE")]
        package: Option<PathBuf>,
    },
    /// Measure what integer entropy networks cost against float ones
    #[cfg(feature = "builder")]
    Cost(CostArgs),
}

pub(crate) fn run(command: &ModelCommand, global: &Global) -> Result<(), Failure> {
    let given = |package: &Option<PathBuf>| files::model(package.as_deref().or(global.model.as_deref()));
    match command {
        ModelCommand::Info { package, json } => info::print(&describe(&given(package)?)?, *json),
        ModelCommand::Verify { package } => {
            let model = given(package)?;
            console::stdout(&format!("ok: {} {}\n", model.name(), model.id()))
        }
        #[cfg(feature = "builder")]
        ModelCommand::Build(args) => crate::build::build(args, global),
        #[cfg(feature = "builder")]
        ModelCommand::Cost(args) => crate::build::cost(args, global),
    }
}

/// What a model says about itself.
pub(crate) fn describe(model: &Model) -> Result<Value, Failure> {
    let refuse = |error: &dyn std::error::Error| Failure::new(Exit::Model, "cannot describe", model.name(), error);
    let config = serde_json::to_value(model.config()).map_err(|error| refuse(&error))?;
    let mut transforms = serde_json::Map::new();
    let mut insert = |kind: SectionKind, parameters: u64, form: &str| {
        transforms.insert(kind.name().into(), json!({ "parameters": parameters, "form": form }));
    };
    let analysis = [SectionKind::Analysis, SectionKind::HyperAnalysis];
    let float = match model.exact_analysis().map_err(|error| refuse(&error))? {
        Some(exact) => {
            analysis.into_iter().zip(&exact).for_each(|(kind, own)| insert(kind, own.parameter_count(), "integer"));
            &[][..]
        }
        None => &analysis,
    };
    for kind in float.iter().chain(&[SectionKind::Synthesis]) {
        let graph = model.transform(*kind).map_err(|error| refuse(&error))?;
        insert(*kind, graph.parameter_count(), "float");
    }
    let layout = model.layout();
    let weights: usize = layout.layers.iter().map(mlic_model::layout::LayerSpec::macs_per_position).sum();
    let narrow = model.parameters().layers.iter().filter(|l| l.max <= 127).count();
    let sections: serde_json::Map<String, Value> = model.section_lens().map(|(k, len)| (k.name().into(), len.into())).collect();
    Ok(json!({
        "kind": "model",
        "name": model.name(),
        "id": model.id().to_string(),
        "sha256": hex(&model.hash()),
        "quality_steps": model.quality_steps(),
        "config": config,
        "entropy": { "weights": weights, "layers": layout.layers.len(), "int8_outputs": narrow },
        "transforms": transforms,
        "section_bytes": sections,
        "provenance": model.metadata().provenance,
    }))
}

/// `mlic --version`.
pub(crate) fn print_version(global: &Global) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let model = files::model(global.model.as_deref())?;
    console::stdout(&format!("mlic {version} (model {} {})\n", model.name(), model.id()))
}
