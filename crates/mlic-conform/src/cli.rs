//! The command line.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use mlic::{BackendChoice, MAX_THREADS};

const EXIT_CODES: &str = "Exit codes:
  0  every vector passed, or was as the baseline expects; nothing differs
  1  a vector did not pass or was not as expected, or a difference was found
  2  wrong usage: an unknown suite, vector, backend or option; reports that have nothing in common
  3  could not be done: data, baseline, report or dump damaged, a file not readable or writable or in the way,
     no such program";

/// A year, in seconds.
const MAX_TIMEOUT_S: u64 = 365 * 24 * 3600;

#[derive(Debug, Parser)]
#[command(name = "mlic-conform", version, about = "Does this decoder read MLIC++ streams as the specification says?")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run suites
    Run(RunArgs),
    /// List the suites, or the vectors of the suites named
    List(ListArgs),
    /// Compare reports of several machines side by side
    Report(ReportArgs),
    /// Compare two decodings of a vector, number by number
    Explain(ExplainArgs),
    /// Show the result of every step of decoding a vector, for authors of decoders
    Trace(TraceArgs),
    /// Act as an external decoder: decode one stream and print one JSON object
    Decode(DecodeArgs),
    /// Encode generated pictures and compare the streams with recorded digests
    Encode(EncodeArgs),
    /// List which cases of the specification the suites cover
    Coverage(CoverageArgs),
    /// Generate suites: streams, expectations, pictures (for maintainers)
    Bless(BlessArgs),
    /// Write the pictures of a suite as PNG
    Draw(DrawArgs),
    /// Print completions for a shell
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Write the manual pages, one for each command
    Man {
        /// Directory to write to
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Overwrite pages that exist
        #[arg(long)]
        force: bool,
    },
}

/// The definition of the command line, with the exit codes in the help of every command.
pub(crate) fn definition() -> clap::Command {
    Cli::command().after_help(EXIT_CODES).mut_subcommands(|command| command.after_help(EXIT_CODES))
}

impl Command {
    /// Whether the command runs networks, and so depends on the processor.
    pub(crate) const fn runs_networks(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Explain(_)
                | Self::Trace(_)
                | Self::Decode(_)
                | Self::Encode(_)
                | Self::Coverage(_)
                | Self::Bless(_)
        )
    }
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Directory of suites to use instead of those inside the program
    #[arg(long, value_name = "DIR")]
    pub(crate) suite_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VectorArgs {
    /// Vector, as SUITE/VECTOR, or VECTOR alone for the suite smoke
    #[arg(value_name = "VECTOR")]
    pub(crate) vector: String,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Suites whose vectors to list, by name or pattern (* and ?)
    #[arg(value_name = "SUITE")]
    pub(crate) suites: Vec<String>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Suites, by name or pattern (* and ?)
    #[arg(value_name = "SUITE", default_value = "smoke")]
    pub(crate) suites: Vec<String>,
    /// Run only these vectors, by name or pattern (* and ?), as VECTOR or SUITE/VECTOR; may be repeated
    #[arg(long, value_name = "VECTOR")]
    pub(crate) vector: Vec<String>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// Test another program, called as COMMAND --package PACKAGE --stream STREAM
    #[arg(long, value_name = "COMMAND", conflicts_with = "backend", value_parser = external)]
    pub(crate) external: Option<External>,
    /// How far to compare: 0 container, 1 symbols, 2 means and scale indices, 3 y_hat, 4 pixels
    #[arg(long, value_name = "LEVEL", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=4))]
    pub(crate) level: u8,
    /// Time limit for each vector, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT_S))]
    pub(crate) timeout: u64,
    /// Start no more vectors after the first that is not as expected
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// File of verdicts expected instead of a pass; an unexpected pass counts like an unexpected failure
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Write a baseline that matches this run; does not change the exit code
    #[arg(long, value_name = "FILE", conflicts_with = "fail_fast", value_parser = file_path())]
    pub(crate) write_baseline: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Format of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// File to write the report to, completely or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackendArgs {
    /// Backend to test
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend_names())]
    pub(crate) backend: BackendChoice,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Model package to use where its id is needed; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    pub(crate) model: Vec<PathBuf>,
    /// Threads, and vectors run at once, at most 256; 0 for one per core
    #[arg(short = 'j', long = "jobs", value_name = "N", default_value_t = 0, value_parser = thread_count())]
    pub(crate) jobs: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Reports written by `run --format json`
    #[arg(value_name = "REPORT", required = true)]
    pub(crate) reports: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) vector: VectorArgs,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// Backend to compare with
    #[arg(long, value_name = "NAME", default_value = "reference", value_parser = backend_names())]
    pub(crate) against: BackendChoice,
    /// Compare with the numbers in a file instead, written by --write-dump or by another decoder
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    pub(crate) dump: Option<PathBuf>,
    /// Write the numbers of the backend to a file and compare nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["against", "dump"], value_parser = file_path())]
    pub(crate) write_dump: Option<PathBuf>,
    /// Overwrite the dump if it exists
    #[arg(long, requires = "write_dump")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) vector: VectorArgs,
    /// Backend that computes the steps, on this processor
    #[arg(long, value_name = "NAME", default_value = "reference", value_parser = processor_backends())]
    pub(crate) backend: BackendChoice,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Print every value of these steps, by name or pattern (* and ?)
    #[arg(long, value_name = "STEP")]
    pub(crate) values: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// Model package
    #[arg(long, value_name = "FILE")]
    pub(crate) package: PathBuf,
    /// Stream
    #[arg(long, value_name = "FILE")]
    pub(crate) stream: PathBuf,
    /// Backend
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend_names())]
    pub(crate) backend: BackendChoice,
    /// Threads, at most 256; 0 for one per core
    #[arg(short = 'j', long = "jobs", value_name = "N", default_value_t = 0, value_parser = thread_count())]
    pub(crate) jobs: usize,
    /// Write the picture too, as STREAM.ppm next to the stream
    #[arg(long)]
    pub(crate) picture: bool,
    /// Overwrite the picture if it exists
    #[arg(long, requires = "picture")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// Backend
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend_names())]
    pub(crate) backend: BackendChoice,
    /// Threads, at most 256; 0 for one per core
    #[arg(short = 'j', long = "jobs", value_name = "N", default_value_t = 0, value_parser = thread_count())]
    pub(crate) jobs: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BlessArgs {
    /// Suites [default: all]
    #[arg(value_name = "SUITE")]
    pub(crate) suites: Vec<String>,
    /// Generate only the vectors that a suite lacks; the others stay as they are, and --force is not needed
    #[arg(long)]
    pub(crate) keep: bool,
    /// Regenerate suites that exist; streams, packages and pictures that are no longer part of them are removed
    #[arg(long, conflicts_with = "keep")]
    pub(crate) force: bool,
    /// Directory to write to
    #[arg(long, value_name = "DIR", default_value = "conformance")]
    pub(crate) suite_dir: PathBuf,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CoverageArgs {
    /// Suites [default: all]
    #[arg(value_name = "SUITE")]
    pub(crate) suites: Vec<String>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DrawArgs {
    /// Suite
    #[arg(value_name = "SUITE")]
    pub(crate) suite: String,
    /// Directory to write to
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Overwrite pictures that exist
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For reading
    Text,
    /// For programs, and for `report`
    Json,
    /// JUnit XML, for continuous integration
    Junit,
    /// Tables
    Markdown,
}

/// An external decoder's command line, as written and as split into words.
#[derive(Debug, Clone)]
pub(crate) struct External {
    pub(crate) line: String,
    pub(crate) command: mlic_conform::external::Command,
}

fn external(line: &str) -> Result<External, String> {
    let command = mlic_conform::external::Command::parse(line).ok_or("not a program and its arguments")?;
    Ok(External { line: line.to_owned(), command })
}

/// Accepts the path of a file, but not `-`, which elsewhere means standard output.
fn file_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| if path.as_os_str() == "-" { Err("it is written to a file only") } else { Ok(path) })
}

/// Accepts the name of any backend, and lists the names in help and completions.
fn backend_names() -> impl TypedValueParser<Value = BackendChoice> {
    named(BackendChoice::ALL.iter().copied())
}

/// Accepts the names of the backends whose steps are operators of this processor.
fn processor_backends() -> impl TypedValueParser<Value = BackendChoice> {
    named([BackendChoice::Integer, BackendChoice::Reference])
}

fn named(choices: impl IntoIterator<Item = BackendChoice>) -> impl TypedValueParser<Value = BackendChoice> {
    PossibleValuesParser::new(choices.into_iter().map(BackendChoice::name)).try_map(|name| name.parse())
}

fn thread_count() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16).range(..=i64::from(MAX_THREADS)).map(usize::from)
}
