//! `mlic-conform`: runs, lists, compares, explains and makes conformance suites.

mod cli;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::FromArgMatches;
use clap_mangen::Man;
use cli::{
    BlessArgs, Cli, Command, CoverageArgs, DataArgs, DecodeArgs, DrawArgs, EncodeArgs, ExplainArgs, Format, ListArgs, ModelArgs,
    OutputArgs, ReportArgs, RunArgs, TraceArgs, VectorArgs,
};
use mlic::image::{OutputFormat, write_image};
use mlic::{BackendChoice, Codec, CodecOptions, PixelMode, backend};
use mlic_backend::digest::Digest;
use mlic_backend::integer::Kernels;
use mlic_conform::dump::{self, Shape};
use mlic_conform::explain::{Side, compare, decode};
use mlic_conform::observe::{Message, Refusal, decode_alone, observe};
use mlic_conform::operators::{self, Symbols};
use mlic_conform::report::document::Document;
use mlic_conform::report::matrix::Matrix;
use mlic_conform::report::{Report, SuiteReport, cores, junit, text};
use mlic_conform::run::InProcess;
use mlic_conform::store::{MAX_FILE_LEN, read_at_most};
use mlic_conform::suites::{self, Source};
use mlic_conform::verdict::Place;
use mlic_conform::{
    Baseline, ConformError, External, Level, Models, Options, Plan, Store, Suite, Verdict, bless, files, run_decoder, select,
};
use mlic_core::container;
use mlic_kernels::Map;
use mlic_model::Model;
use mlic_output::{Destination, Output, OutputError};
use wildmatch::WildMatch;

/// Longest report or baseline that is read, in bytes.
const MAX_TEXT_LEN: u64 = 1 << 26;

const DIFFERS: u8 = 1;
const USAGE: u8 = 2;
const CANNOT: u8 = 3;

fn main() -> ExitCode {
    // Where no handler can be set, a signal ends this program as it ends any other.
    let _ = mlic_output::end_on_signals(mlic_conform::external::clean);
    let matches = cli::definition().get_matches();
    let command = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    if let (true, Some(warning)) = (command.runs_networks(), mlic::cpu_warning()) {
        say(format_args!("warning: {warning}"));
    }
    let done = match command {
        Command::Run(args) => run_suites(&args),
        Command::List(args) => list(&args),
        Command::Report(args) => report(&args),
        Command::Explain(args) => explain_vector(&args),
        Command::Trace(args) => trace_vector(&args),
        Command::Encode(args) => encode_pictures(&args),
        Command::Coverage(args) => measure_coverage(&args),
        Command::Decode(args) => decode_stream(&args),
        Command::Bless(args) => bless_suites(&args),
        Command::Draw(args) => draw(&args),
        Command::Completions { shell } => completions(shell),
        Command::Man { folder, force } => man(&folder, force),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERS),
        Err(error) => {
            let exists = matches!(error, ConformError::Output { source: OutputError::Exists, .. });
            say(format_args!("error: {}{}", error.chain(), if exists { " (--force overwrites it)" } else { "" }));
            let usage = matches!(
                error,
                ConformError::UnknownSuite { .. }
                    | ConformError::UnknownVector { .. }
                    | ConformError::NoFolder { .. }
                    | ConformError::Usage { .. }
            );
            ExitCode::from(if usage { USAGE } else { CANNOT })
        }
    }
}

/// Prints a line to standard error. Failing to do so changes nothing.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "mlic-conform: {text}");
}

/// Prints text to standard output. A reader that has gone away is not an error.
fn print(text: &str) -> Result<(), ConformError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(ConformError::Output { destination: Destination::Stdout.to_string(), source: error.into() })
        }
        _ => Ok(()),
    }
}

impl OutputArgs {
    fn file(&self) -> Result<Option<Output>, ConformError> {
        let path = self.output.as_deref().filter(|path| path.as_os_str() != "-");
        path.map(|path| files::output(path, self.force)).transpose()
    }
}

/// Writes text to the file, or to standard output.
fn put(output: Option<&Output>, text: &str) -> Result<(), ConformError> {
    match output {
        Some(output) => files::write(output, text.as_bytes()),
        None => print(text),
    }
}

/// Reads and parses a file that a user gave.
fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T, ConformError> {
    let bytes = read_at_most(path, MAX_TEXT_LEN)?;
    parse(&bytes).map_err(|problem| ConformError::Input { path: path.to_owned(), problem })
}

/// Returns the error for something that cannot be written as text.
fn unwritable(error: impl ToString) -> ConformError {
    ConformError::Input { path: "report".into(), problem: error.to_string() }
}

fn store(data: &DataArgs) -> Result<Store, ConformError> {
    match data.suite_dir.clone() {
        None => Ok(Store::Embedded),
        Some(path) if path.is_dir() => Ok(Store::Folder(path)),
        Some(path) => Err(ConformError::NoFolder { path }),
    }
}

fn jobs(args: &ModelArgs) -> usize {
    if args.jobs == 0 { cores() } else { args.jobs }
}

fn run_suites(args: &RunArgs) -> Result<bool, ConformError> {
    let (store, models) = (store(&args.data)?, Models::open(&args.backend.model.model)?);
    // All errors in the arguments are found before anything runs.
    let mut suites = select::suites(&store, &args.suites)?;
    select::vectors(&mut suites, &args.vector)?;
    let baseline = args.baseline.as_deref().map(|path| read(path, Baseline::parse)).transpose()?.unwrap_or_default();
    baseline.check_names(&store)?;
    if let Some(external) = &args.external {
        external.command.find()?;
    }
    if let (Some(report), Some(baseline)) = (&args.output.output, &args.write_baseline)
        && files::is_same(report, baseline)
    {
        return Err(ConformError::Usage {
            problem: format!("{}: report and baseline would both be written to it", report.display()),
        });
    }
    let output = args.output.file()?;
    let write_baseline = args.write_baseline.as_deref().map(|path| files::output(path, args.output.force)).transpose()?;

    let level = Level::try_from(args.level).unwrap_or(Level::L4);
    let options = Options { level, jobs: jobs(&args.backend.model), timeout: Duration::from_secs(args.timeout) };
    let plan = Plan::new(baseline, args.fail_fast);
    let run = |suite: &Suite<'_>| {
        // Some suites take minutes on slow machines, and the report comes at the end.
        if std::io::stderr().is_terminal() {
            say(format_args!("{}: {} vectors", suite.manifest.suite, suite.manifest.vectors.len()));
        }
        run_suite(suite, &store, &models, args, &options, &plan)
    };
    let reports: Vec<SuiteReport> = suites.iter().map(run).collect();
    let mut not_run = store.suites();
    not_run.retain(|name| reports.iter().all(|report| report.suite != *name));
    let name = || args.backend.backend.resolved().to_string();
    let report = Report {
        backend: if args.external.is_some() { "external".to_owned() } else { name() },
        command: args.external.as_ref().map(|external| external.line.clone()),
        level,
        threads: args.backend.model.jobs,
        not_run,
        suites: reports,
    };
    put(output.as_ref(), &format_run(&report, args.output.format)?)?;
    if let Some(output) = write_baseline {
        let updated = plan.baseline.updated(&report.suites).and_then(|baseline| baseline.to_bytes());
        let bytes = updated.map_err(|problem| ConformError::Input { path: output.destination().to_string().into(), problem })?;
        files::write(&output, &bytes)?;
    }
    Ok(report.is_as_expected())
}

fn format_run(report: &Report, format: Format) -> Result<String, ConformError> {
    let document = Document::from(report);
    match format {
        Format::Text => Ok(text::to_text(&document)),
        Format::Json => document.to_json().map_err(unwritable),
        Format::Junit => junit::to_junit(&[document]).map_err(unwritable),
        Format::Markdown => Ok(Matrix::new(&[document]).to_markdown()),
    }
}

/// Runs a suite. One whose model or backend is not available is reported like one that fails.
fn run_suite(suite: &Suite<'_>, store: &Store, models: &Models, args: &RunArgs, options: &Options, plan: &Plan) -> SuiteReport {
    let tested = models.find(store, &suite.manifest.model).and_then(|model| match &args.external {
        Some(external) => Ok(run_decoder(suite, &External::new(external.command.clone(), &model)?, options, plan)),
        None => {
            let backend = backend(model, args.backend.backend, args.backend.model.jobs)?;
            Ok(run_decoder(suite, &InProcess(backend), options, plan))
        }
    });
    tested.unwrap_or_else(|error| {
        let lacks = error.is_not_available() || matches!(error, ConformError::NoModel { .. } | ConformError::Missing { .. });
        let verdict = if lacks { Verdict::NotSupported(error.chain()) } else { Verdict::NotRun(error.chain()) };
        mlic_conform::run::not_run(suite, options, plan, &verdict)
    })
}

fn list(args: &ListArgs) -> Result<bool, ConformError> {
    use std::fmt::Write;
    let store = store(&args.data)?;
    let mut out = String::new();
    let with_vectors = !args.suites.is_empty();
    let patterns = if with_vectors { args.suites.clone() } else { vec!["*".to_owned()] };
    for suite in select::suites(&store, &patterns)? {
        let (manifest, name) = (&suite.manifest, &suite.manifest.suite);
        let (id, count) = (&manifest.model.id, manifest.vectors.len());
        let _ = writeln!(out, "{name}: {count} vectors, model {id} ({}); {}", manifest.model.name, manifest.why);
        if !with_vectors {
            continue;
        }
        let width = manifest.vectors.iter().map(|vector| vector.name.len()).max().unwrap_or(0);
        for vector in &manifest.vectors {
            let _ = writeln!(out, "  {:width$}  {}", vector.name, vector.why);
        }
    }
    print(&out)?;
    Ok(true)
}

fn report(args: &ReportArgs) -> Result<bool, ConformError> {
    let documents = args.reports.iter().map(|path| read(path, Document::parse)).collect::<Result<Vec<_>, _>>()?;
    let output = args.output.file()?;
    let matrix = Matrix::new(&documents);
    if let Some(problem) = matrix.incomparable() {
        return Err(ConformError::Usage { problem });
    }
    let text = match args.output.format {
        Format::Text => matrix.to_text(),
        Format::Markdown => matrix.to_markdown(),
        Format::Json => serde_json::to_string_pretty(&matrix).map_err(unwritable)? + "\n",
        Format::Junit => junit::to_junit(&documents).map_err(unwritable)?,
    };
    put(output.as_ref(), &text)?;
    Ok(matrix.agree)
}

/// Returns the stream of a vector, given by name, and the model for it.
fn vector_of(args: &VectorArgs, models: &ModelArgs) -> Result<(Vec<u8>, Arc<Model>), ConformError> {
    let (store, models, name) = (store(&args.data)?, Models::open(&models.model)?, args.vector.as_str());
    let (suite, vector) = name.split_once('/').unwrap_or(("smoke", name));
    let suite = store.suite(suite)?;
    let unknown = || ConformError::UnknownVector { name: name.to_owned() };
    let vector = suite.manifest.vector(vector).ok_or_else(unknown)?;
    if vector.expect.is_of_a_package() {
        let problem = format!("{}: a model package that must be refused or taken, of which there is no decoding", vector.name);
        return Err(ConformError::Usage { problem });
    }
    Ok((suite.read(&vector.stream)?, models.find(&store, &suite.manifest.model)?))
}

fn explain_vector(args: &ExplainArgs) -> Result<bool, ConformError> {
    let (stream, model) = vector_of(&args.vector, &args.backend.model)?;
    let decode_on = |choice: BackendChoice| {
        Ok::<_, ConformError>(decode(&stream, backend(Arc::clone(&model), choice, args.backend.model.jobs)?))
    };
    let output = args.write_dump.as_deref().map(|path| files::output(path, args.force)).transpose()?;
    let got = decode_on(args.backend.backend)?;
    if let Some(output) = output {
        files::write(&output, &dump::write(&stream, &got.values))?;
        let error = got.error.as_ref().map_or_else(String::new, |error| format!(", which ended in: {error}"));
        print(&format!("{} tensors of the decoding on {}{error}\n", got.values.len(), got.name))?;
        return Ok(true);
    }
    let expected = match &args.dump {
        None => decode_on(args.against)?,
        Some(path) => read_dump(path, &stream, &model, &got)?,
    };
    let explanation = compare(&got, &expected, Shape::of(&stream, &model).ok());
    print(&explanation.to_string())?;
    if let (Some(_), None) = (&explanation.first, &args.dump) {
        print(&operator(&stream, &model, &expected, [args.backend.backend, args.against])?)?;
    }
    Ok(explanation.is_equal())
}

/// Returns the kernels of a backend; none if it does not run on this processor.
fn kernels_of(choice: BackendChoice) -> Option<Kernels> {
    match choice.resolved() {
        BackendChoice::Cuda => None,
        BackendChoice::Reference => Some(Kernels::Reference),
        _ => Some(Kernels::best()),
    }
}

/// Names the first operator in which two backends differ; empty if one of them does not run on this processor.
fn operator(stream: &[u8], model: &Model, expected: &Side, choices: [BackendChoice; 2]) -> Result<String, ConformError> {
    let [Some(got), Some(other)] = choices.map(kernels_of) else { return Ok(String::new()) };
    let header = container::parse(stream)?.header;
    let symbols = Symbols { header: &header, size: dump::size_of(&header)?, decoding: expected };
    let parting = operators::between(model, symbols, [got, other]).map_err(mlic::Error::from)?;
    Ok(parting
        .map_or_else(|| "no operator differs: it is the coder, a table or the walk\n".to_owned(), |parting| parting.to_string()))
}

/// Prints one line for each step: digest, height, width and channels, name.
fn trace_vector(args: &TraceArgs) -> Result<bool, ConformError> {
    let (stream, model) = vector_of(&args.vector, &args.model)?;
    let jobs = args.model.jobs;
    let decoding = decode(&stream, backend(Arc::clone(&model), args.backend, jobs)?);
    let header = container::parse(&stream)?.header;
    let kernels = kernels_of(args.backend).unwrap_or(Kernels::Reference);
    let pattern = args.values.as_deref().map(WildMatch::new);
    let (mut shown, mut failed) = (0, None);
    let mut step = |name: String, map: Map<i32>| {
        let Map { height, width, channels, ref data } = map;
        let mut text = format!("{}  {height}x{width}x{channels}  {name}\n", Digest::of_i32(data));
        if pattern.as_ref().is_some_and(|pattern| pattern.matches(&name)) {
            for (at, values) in data.chunks(channels.max(1)).enumerate() {
                let values: Vec<String> = values.iter().map(i32::to_string).collect();
                text += &format!("  row {}, column {}: {}\n", at / width.max(1), at % width.max(1), values.join(" "));
            }
            shown += 1;
        }
        failed = failed.take().or_else(|| print(&text).err());
    };
    let symbols = Symbols { header: &header, size: dump::size_of(&header)?, decoding: &decoding };
    mlic::on_threads(jobs, || operators::trace(&model, symbols, kernels, &mut step))?.map_err(mlic::Error::from)?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let (Some(pattern), 0) = (&args.values, shown) {
        return Err(ConformError::Usage { problem: format!("{pattern}: no step of this decoding has such a name") });
    }
    decoding.error.map_or(Ok(()), |error| print(&format!("ended in: {error}\n")))?;
    Ok(true)
}

/// Reads the numbers of a dump. A dump does not say how its decoding ended, so that is not compared.
fn read_dump(path: &Path, stream: &[u8], model: &Model, got: &Side) -> Result<Side, ConformError> {
    let shape = Shape::of(stream, model)?;
    let bytes = read_at_most(path, shape.max_dump_len())?;
    let values = dump::parse(&bytes, stream, &shape);
    let values = values.and_then(|values| if values.is_empty() { Err("no tensor is in it".into()) } else { Ok(values) });
    let values = values.map_err(|problem| ConformError::Input { path: path.to_owned(), problem })?;
    Ok(Side { name: path.display().to_string(), values, error: got.error.clone() })
}

/// Decodes a stream as an external decoder. The message states what cannot be decoded; files that cannot be read or written are errors.
fn decode_stream(args: &DecodeArgs) -> Result<bool, ConformError> {
    let stream = read_at_most(&args.stream, MAX_FILE_LEN)?;
    let package = read_at_most(&args.package, MAX_FILE_LEN)?;
    let message = match Model::from_bytes(package) {
        Ok(model) => decode_message(args, &stream, model)?,
        Err(error) => {
            let decoder = format!("mlic-conform {} {}", env!("CARGO_PKG_VERSION"), args.backend.resolved());
            Message::refused(decoder, Refusal::from(&mlic::Error::from(error)))
        }
    };
    print(&format!("{}\n", serde_json::to_string(&message).map_err(unwritable)?))?;
    Ok(true)
}

fn decode_message(args: &DecodeArgs, stream: &[u8], model: Model) -> Result<Message, ConformError> {
    let mut path = args.stream.clone().into_os_string();
    path.push(".ppm");
    let picture = if args.picture { Some(files::output(Path::new(&path), args.force)?) } else { None };
    let backend = backend(Arc::new(model), args.backend, args.jobs)?;
    let (mut message, latents) = observe(stream, &backend);
    let Ok(latents) = latents else { return Ok(message) };
    if backend.model().exact_synthesis().is_some() {
        match decode_alone(stream, &backend, &Place::Pixels) {
            Ok(pixels) => message.pixels = Some(pixels),
            Err(error) => message.error = Some(Refusal::from(&error)),
        }
    }
    if let Some(picture) = picture {
        let float = CodecOptions::default().with_pixels(PixelMode::Float);
        let image = Codec::from_backend(backend, float)?.synthesize(&latents)?;
        files::write(&picture, &write_image(&image, OutputFormat::Ppm)?)?;
        message.picture = Some(path.into());
    }
    Ok(message)
}

fn measure_coverage(args: &CoverageArgs) -> Result<bool, ConformError> {
    let store = store(&args.data)?;
    let suites = if args.suites.is_empty() { store.suites() } else { args.suites.clone() };
    let coverage = mlic_conform::coverage::measure(&store, &Models::default(), &suites, mlic_conform::report::cores())?;
    print(&if args.json { format!("{:#}\n", coverage.to_json()) } else { coverage.to_text() })?;
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
    let (store, models) = (Store::Folder(args.suite_dir.clone()), Models::open(&args.model.model)?);
    let known = if args.keep { bless::Known::Kept } else { bless::Known::Remade };
    let (recipes, overwrite) = (recipes(&args.suites)?, args.force || args.keep);
    recipes.iter().try_for_each(|recipe| bless::check(&args.suite_dir, recipe.suite, overwrite))?;
    for recipe in recipes {
        let model = match (recipe.package, models.first()) {
            (Some(path), _) => Arc::new(Model::from_bytes(bless::package(path, &store)?)?),
            (None, Some(given)) => given,
            (None, None) => mlic_conform::store::default_model()?,
        };
        let (id, start) = (model.id(), std::time::Instant::now());
        let files = bless(&recipe, model, &store, known, args.model.jobs)?;
        bless::write(&args.suite_dir, recipe.suite, &files, overwrite)?;
        let bytes: usize = files.values().map(Vec::len).sum();
        let seconds = start.elapsed().as_secs_f64();
        let count = recipe.vectors.len();
        print(&format!("{}: {count} vectors, model {id}, {bytes} bytes, {seconds:.1} s\n", recipe.suite))?;
    }
    Ok(true)
}

fn draw(args: &DrawArgs) -> Result<bool, ConformError> {
    let mut pictures = Vec::new();
    for recipe in recipes(std::slice::from_ref(&args.suite))? {
        for vector in &recipe.vectors {
            let Source::Picture(drawn) = vector.source else { continue };
            let png = write_image(&bless::image(drawn)?, OutputFormat::Png)?;
            pictures.push((args.folder.join(format!("{}.png", vector.name)), png));
        }
    }
    if pictures.is_empty() {
        return Err(ConformError::Usage {
            problem: format!("suite {} has no pictures to draw: its streams are made of symbols", args.suite),
        });
    }
    files::write_all(&pictures, args.force)?;
    Ok(true)
}

fn encode_pictures(args: &EncodeArgs) -> Result<bool, ConformError> {
    let all = mlic_conform::encode::encode(args.backend, args.jobs)?;
    for streams in &all {
        let verdict = if streams.is_pass() { "ok".to_owned() } else { format!("must be {}", streams.expected) };
        print(&format!(
            "{}, effort {}: {} bytes, {}: {verdict}\n",
            format!("{:?}", streams.scene).to_lowercase(),
            streams.effort,
            streams.len,
            streams.got
        ))?;
    }
    Ok(all.iter().all(|streams| streams.is_pass()))
}

fn completions(shell: clap_complete::Shell) -> Result<bool, ConformError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "mlic-conform", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(true)
}

fn man(folder: &Path, force: bool) -> Result<bool, ConformError> {
    let mut definition = cli::definition().disable_help_subcommand(true);
    definition.build();
    let mut pages = Vec::new();
    for command in std::iter::once(&definition).chain(definition.get_subcommands()) {
        let (page, mut text) = (Man::new(command.clone()), Vec::new());
        page.render(&mut text).map_err(unwritable)?;
        pages.push((folder.join(page.get_filename()), text));
    }
    files::write_all(&pages, force)?;
    Ok(true)
}
