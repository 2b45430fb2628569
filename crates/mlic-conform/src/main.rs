//! `mlic-conform`: runs, lists, explains and makes conformance suites.
//!
//! Exit codes: 0 every vector passed, 1 some did not or a suite could not be used, 2 wrong usage.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use mlic::{BackendChoice, backend};
use mlic_conform::report::{Report, SuiteReport};
use mlic_conform::suites::{self, Source};
use mlic_conform::{ConformError, Level, Models, Options, Store, Suite, Verdict, bless, explain, run};
use mlic_model::Model;

#[derive(Debug, Parser)]
#[command(name = "mlic-conform", version, about = "Does this decoder read MLIC++ streams as the specification says?")]
#[command(
    after_help = "Exit codes:\n  0  every vector passed\n  1  some did not, or a suite could not be used\n  2  wrong usage"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run suites
    Run(RunArgs),
    /// List suites and their vectors
    List(DataArgs),
    /// Compare a vector's decoding with the reference, number by number
    Explain(ExplainArgs),
    /// Say which cases of SPEC the suites reach
    Coverage(CoverageArgs),
    /// Make suites anew: streams, expectations, pictures
    Bless(BlessArgs),
    /// Write the pictures of a suite as PNG
    Draw(DrawArgs),
}

#[derive(Debug, Args)]
struct DataArgs {
    /// Folder of suites instead of those that are part of the program
    #[arg(long, value_name = "DIR")]
    suite_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Suites [default: smoke]
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How far to compare: 0 container, 1 symbols, 2 means and scale indices, 3 y_hat, 4 pixels
    #[arg(long, value_name = "0..4", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=4))]
    level: u8,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seconds for each vector
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

#[derive(Debug, Args)]
struct BackendArgs {
    /// What is tested
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend_names())]
    backend: BackendChoice,
    /// Model package to use where its id is wanted; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    model: Vec<PathBuf>,
    /// Threads, and vectors at once; 0 for one per core
    #[arg(short = 'j', long = "jobs", value_name = "N", default_value_t = 0)]
    jobs: usize,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// Vector
    #[arg(value_name = "VECTOR")]
    vector: String,
    /// Its suite
    #[arg(long, default_value = "smoke")]
    suite: String,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

#[derive(Debug, Args)]
struct CoverageArgs {
    /// Suites [default: all]
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Args)]
struct BlessArgs {
    /// Suites [default: all]
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    /// Make only the vectors that a suite lacks; the others stay as they are
    #[arg(long)]
    keep: bool,
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "conformance")]
    suite_dir: PathBuf,
    /// Model package to use instead of the one that is part of the program
    #[arg(long, value_name = "PACKAGE")]
    model: Vec<PathBuf>,
    /// Threads; 0 for one per core
    #[arg(short = 'j', long = "jobs", value_name = "N", default_value_t = 0)]
    jobs: usize,
}

#[derive(Debug, Args)]
struct DrawArgs {
    /// Suite
    #[arg(value_name = "SUITE")]
    suite: String,
    /// Folder to write to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Names of backends, as the help and completions list them.
fn backend_names() -> impl TypedValueParser<Value = BackendChoice> {
    PossibleValuesParser::new(BackendChoice::ALL.map(BackendChoice::name)).try_map(|name| name.parse())
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run_suites(&args),
        Command::List(args) => list(&args),
        Command::Explain(args) => explain_vector(&args),
        Command::Coverage(args) => measure_coverage(&args),
        Command::Bless(args) => bless_suites(&args),
        Command::Draw(args) => draw(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("mlic-conform: {}", error.chain());
            let usage = matches!(error, ConformError::UnknownSuite { .. } | ConformError::UnknownVector { .. });
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Text to standard output; a reader that has gone away is not our concern.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn store(data: &DataArgs) -> Store {
    data.suite_dir.clone().map_or(Store::Embedded, Store::Folder)
}

fn run_suites(args: &RunArgs) -> Result<bool, ConformError> {
    let (store, models) = (store(&args.data), Models::open(&args.backend.model)?);
    let level = Level::try_from(args.level).unwrap_or(Level::L4);
    let jobs = if args.backend.jobs == 0 { mlic_conform::report::cores() } else { args.backend.jobs };
    let options = Options { level, jobs, timeout: Duration::from_secs(args.timeout) };
    let names = if args.suites.is_empty() { vec!["smoke".to_owned()] } else { args.suites.clone() };
    // All manifests are read before anything runs.
    let suites = names.iter().map(|name| store.suite(name)).collect::<Result<Vec<_>, _>>()?;
    let reports = suites.iter().map(|suite| run_suite(suite, &store, &models, args, &options)).collect();
    let report =
        Report { backend: args.backend.backend.resolved().to_string(), level, threads: args.backend.jobs, suites: reports };
    match args.format {
        Format::Text => print(&report.to_text()),
        Format::Json => print(&format!("{:#}\n", report.to_json())),
    }
    Ok(report.is_pass())
}

/// A suite whose model or backend is not to be had is reported like one that fails.
fn run_suite(suite: &Suite<'_>, store: &Store, models: &Models, args: &RunArgs, options: &Options) -> SuiteReport {
    let model = models.find(store, &suite.manifest.model);
    match model.and_then(|model| Ok(backend(model, args.backend.backend, args.backend.jobs)?)) {
        Ok(backend) => run(suite, backend, options),
        Err(error @ (ConformError::NoModel { .. } | ConformError::Missing { .. })) => {
            mlic_conform::run::not_run(suite, options.level, &Verdict::NotSupported(error.chain()))
        }
        Err(error) => mlic_conform::run::not_run(suite, options.level, &Verdict::NotRun(error.chain())),
    }
}

fn list(args: &DataArgs) -> Result<bool, ConformError> {
    use std::fmt::Write;
    let store = store(args);
    let mut out = String::new();
    for name in store.suites() {
        let manifest = store.suite(&name)?.manifest;
        let (id, count) = (&manifest.model.id, manifest.vectors.len());
        let _ = writeln!(out, "{name}: {count} vectors, model {id} ({}); {}", manifest.model.name, manifest.why);
        let width = manifest.vectors.iter().map(|vector| vector.name.len()).max().unwrap_or(0);
        for vector in &manifest.vectors {
            let _ = writeln!(out, "  {:width$}  {}", vector.name, vector.why);
        }
    }
    print(&out);
    Ok(true)
}

fn explain_vector(args: &ExplainArgs) -> Result<bool, ConformError> {
    let (store, models) = (store(&args.data), Models::open(&args.backend.model)?);
    let suite = store.suite(&args.suite)?;
    let unknown = || ConformError::UnknownVector { name: args.vector.clone() };
    let vector = suite.manifest.vector(&args.vector).ok_or_else(unknown)?;
    let stream = suite.read(&vector.stream)?;
    let model = models.find(&store, &suite.manifest.model)?;
    let tested = backend(Arc::clone(&model), args.backend.backend, args.backend.jobs)?;
    let reference = backend(model, BackendChoice::Reference, args.backend.jobs)?;
    let explanation = explain::explain(&stream, tested, reference);
    print(&explanation.to_string());
    Ok(explanation.first.is_none() && explanation.got_error == explanation.expected_error)
}

fn measure_coverage(args: &CoverageArgs) -> Result<bool, ConformError> {
    let store = store(&args.data);
    let suites = if args.suites.is_empty() { store.suites() } else { args.suites.clone() };
    let coverage = mlic_conform::coverage::measure(&store, &Models::default(), &suites, mlic_conform::report::cores())?;
    match args.format {
        Format::Text => print(&coverage.to_text()),
        Format::Json => print(&format!("{:#}\n", coverage.to_json())),
    }
    Ok(coverage.is_complete())
}

fn recipes(names: &[String]) -> Result<Vec<suites::Recipe>, ConformError> {
    if names.is_empty() {
        return Ok(suites::all());
    }
    let known = || suites::all().iter().map(|recipe| recipe.suite).collect::<Vec<_>>().join(", ");
    let find =
        |name: &String| suites::find(name).ok_or_else(|| ConformError::UnknownSuite { name: name.clone(), known: known() });
    names.iter().map(find).collect()
}

fn bless_suites(args: &BlessArgs) -> Result<bool, ConformError> {
    let (store, models) = (Store::Folder(args.suite_dir.clone()), Models::open(&args.model)?);
    for recipe in recipes(&args.suites)? {
        let model = match (recipe.package, models.first()) {
            (Some(path), _) => Arc::new(Model::from_bytes(bless::package(path, &store)?)?),
            (None, Some(given)) => given,
            (None, None) => mlic_conform::store::embedded_model()?,
        };
        let (id, start) = (model.id(), std::time::Instant::now());
        let files = bless(&recipe, model, &store, args.keep, args.jobs)?;
        bless::write(&args.suite_dir, recipe.suite, &files)?;
        let bytes: usize = files.values().map(Vec::len).sum();
        let seconds = start.elapsed().as_secs_f64();
        let count = recipe.vectors.len();
        print(&format!("{}: {count} vectors, model {id}, {bytes} bytes, {seconds:.1} s\n", recipe.suite));
    }
    Ok(true)
}

fn draw(args: &DrawArgs) -> Result<bool, ConformError> {
    use mlic::image::{OutputFormat, write_image};
    let io = |path: &PathBuf| {
        let path = path.clone();
        move |source| ConformError::Io { path, source }
    };
    std::fs::create_dir_all(&args.folder).map_err(io(&args.folder))?;
    for recipe in recipes(std::slice::from_ref(&args.suite))? {
        for vector in &recipe.vectors {
            let Source::Picture(drawn) = vector.source else { continue };
            let path = args.folder.join(format!("{}.png", vector.name));
            let png = write_image(&bless::image(drawn)?, OutputFormat::Png)?;
            std::fs::write(&path, png).map_err(io(&path))?;
        }
    }
    Ok(true)
}
