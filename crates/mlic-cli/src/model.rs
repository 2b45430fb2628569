//! `mlic model`: what a package holds, and whether it is sound. Building one is in `build`, what its integers cost in `cost`.

use std::path::PathBuf;

use clap::Subcommand;
use mlic::Model;
use mlic_model::ModelError;
use mlic_model::package::{SectionKind, hex};
use serde_json::{Value, json};

use crate::args::Global;
#[cfg(feature = "builder")]
use crate::build::BuildArgs;
use crate::console;
#[cfg(feature = "builder")]
use crate::cost::CostArgs;
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
    let given = |package: &Option<PathBuf>| files::model(package.as_deref().or(global.model.as_deref()), global);
    match command {
        ModelCommand::Info { package, json } => info::print(describe(&given(package)?)?, *json),
        ModelCommand::Verify { package } => {
            let model = given(package)?;
            // Loading does not verify all of the model of this program.
            model.verify().map_err(|error| refused(&model, &error))?;
            console::stdout(&format!("ok: {} {}, g_s {}\n", console::escaped(model.name()), model.id(), synthesis_form(&model)))
        }
        #[cfg(feature = "builder")]
        ModelCommand::Build(args) => crate::build::build(args, global),
        #[cfg(feature = "builder")]
        ModelCommand::Cost(args) => crate::cost::run(args, global),
    }
}

fn refused(model: &Model, error: &dyn std::error::Error) -> Failure {
    Failure::from_error(Exit::Model, "cannot use", model.name(), error)
}

/// What float pixels are made with.
fn synthesis_form(model: &Model) -> &'static str {
    if model.has_float_synthesis() { "float" } else { "of the integer synthesis" }
}

/// Size and form of each transform; for the integer synthesis, also the number of layers with weights and of those with weights of one byte.
fn transforms(model: &Model) -> Result<serde_json::Map<String, Value>, ModelError> {
    let mut all = serde_json::Map::new();
    let mut insert = |kind: SectionKind, transform: Value| drop(all.insert(kind.name().into(), transform));
    let transform = |parameters: u64, form: &str| json!({ "parameters": parameters, "form": form });
    let float = |kind| Ok::<_, ModelError>(transform(model.transform(kind)?.parameter_count(), "float"));
    let analysis = [SectionKind::Analysis, SectionKind::HyperAnalysis];
    match model.exact_analysis()? {
        Some(exact) => analysis.into_iter().zip([&*exact.g_a, &*exact.h_a]).for_each(|(kind, own)| {
            insert(kind, transform(own.parameter_count(), "integer"));
        }),
        None => analysis.into_iter().try_for_each(|kind| float(kind).map(|own| insert(kind, own)))?,
    }
    if let Some(own) = model.exact_synthesis() {
        let mut exact = transform(own.parameter_count(), "integer");
        exact["layers"] = own.weighted_layers().count().into();
        exact["layers_of_bytes"] = own.weighted_layers().filter(|layer| layer.is_of_bytes()).count().into();
        insert(SectionKind::ExactSynthesis, exact);
    }
    insert(
        SectionKind::Synthesis,
        match model.exact_synthesis() {
            Some(own) if !model.has_float_synthesis() => transform(own.parameter_count(), synthesis_form(model)),
            _ => float(SectionKind::Synthesis)?,
        },
    );
    Ok(all)
}

/// Describes a model.
pub(crate) fn describe(model: &Model) -> Result<Value, Failure> {
    let config = serde_json::to_value(model.config()).map_err(|error| refused(model, &error))?;
    let transforms = transforms(model).map_err(|error| refused(model, &error))?;
    let layout = model.layout();
    let weights: usize = layout.layers.iter().map(mlic_model::layout::LayerSpec::weights_len).sum();
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

/// Runs `mlic --version`.
pub(crate) fn print_version(global: &Global) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let model = files::model_in_use(global)?;
    let model = model.map_or("no model".into(), |model| format!("model {} {}", console::escaped(model.name()), model.id()));
    console::stdout(&format!("mlic {version} ({model})\n"))
}
