//! Reports of several machines in one table: the verdict on each vector, and whether all machines computed the same.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::observe::Computed;
use crate::report::document::{Document, ModelDocument, SuiteDocument, VectorDocument};
use crate::verdict::Kind;

/// Runs side by side. Column `i` of every row is run `i`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matrix {
    /// The runs; tables number them from 1.
    pub runs: Vec<Run>,
    /// The suites, one for each combination of name, model and manifest.
    pub suites: Vec<SuiteMatrix>,
    /// Whether there are runs, every run was as expected, and all that was computed is equal.
    pub agree: bool,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Architecture, system, instruction set, endianness, pointer width.
    pub platform: String,
    /// What was tested.
    pub backend: String,
    /// Program and version.
    pub program: String,
    /// What ran each stage.
    pub devices: BTreeMap<String, String>,
    /// Threads, in words.
    pub threads: String,
    /// The level up to which results were compared, as `L3`.
    pub level: String,
    /// Number of vectors that passed.
    pub passed: usize,
    /// Number of vectors.
    pub vectors: usize,
    /// Total time of the vectors.
    pub seconds: f64,
    /// `pass`, or another conclusion of the report.
    pub conclusion: String,
}

/// A suite, over all runs of the same data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuiteMatrix {
    /// Its name.
    pub suite: String,
    /// Its model.
    pub model: ModelDocument,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// The vectors.
    pub rows: Vec<Row>,
}

/// A vector over all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub vector: String,
    /// One cell for each run; none where the run does not have the vector.
    pub cells: Vec<Option<Cell>>,
    /// What all runs that computed something have in common; none when they differ, or when none did.
    pub common: Option<String>,
    /// Whether two runs computed something different.
    pub differ: bool,
}

/// A vector of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Its verdict.
    pub verdict: Kind,
    /// The level of the first difference, as `L2`.
    pub level: Option<String>,
    /// What the decoder computed.
    pub computed: Option<Computed>,
    /// How long the vector took.
    pub seconds: f64,
}

type Key = (String, ModelDocument, String);

fn key(suite: &SuiteDocument) -> Key {
    (suite.suite.clone(), suite.model.clone(), suite.manifest_sha256.clone())
}

impl Matrix {
    /// Puts reports side by side. Suites with different data, or for different models, count as different suites.
    #[must_use]
    pub fn new(documents: &[Document]) -> Self {
        // Vectors in the order in which they first appear in the reports.
        let mut suites: Vec<(Key, Vec<String>)> = Vec::new();
        for suite in documents.iter().flat_map(|document| &document.suites) {
            let key = key(suite);
            if !suites.iter().any(|(known, _)| *known == key) {
                suites.push((key.clone(), Vec::new()));
            }
            let names = suites.iter_mut().filter(|(known, _)| *known == key).map(|(_, names)| names);
            for names in names {
                let new = suite.vectors.iter().filter(|vector| !names.contains(&vector.name)).map(|vector| vector.name.clone());
                let new: Vec<String> = new.collect();
                names.extend(new);
            }
        }
        let suites: Vec<SuiteMatrix> = suites.into_iter().map(|(key, names)| SuiteMatrix::new(key, &names, documents)).collect();
        let equal = !suites.iter().flat_map(|suite| &suite.rows).any(|row| row.differ);
        let agree = equal && !documents.is_empty() && documents.iter().all(|document| document.as_expected);
        Self { runs: documents.iter().map(Run::new).collect(), suites, agree }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.suites.iter().flat_map(|suite| &suite.rows)
    }

    fn differing(&self) -> usize {
        self.rows().filter(|row| row.differ).count()
    }

    /// Returns why several runs cannot be compared, if so: a run has no vector of the same data in common with another, or there is no vector for which two
    /// runs computed something, though every run was as expected.
    #[must_use]
    pub fn incomparable(&self) -> Option<String> {
        let in_common = |run: usize| self.rows().any(|row| row.cells.get(run).is_some_and(Option::is_some) && row.count() > 1);
        let alone = (0..self.runs.len()).find(|run| !in_common(*run)).filter(|_| self.runs.len() > 1);
        if let Some(run) = alone {
            let reason = "suites of other models or manifests are not compared";
            return Some(format!("run {} has no vector in common with another: {reason}", run + 1));
        }
        let compared = self.rows().any(|row| row.computed().count() > 1);
        (self.agree && self.runs.len() > 1 && !compared)
            .then(|| "there is no vector of which two runs computed a digest".to_owned())
    }

    /// Returns a summary, such as `66 vectors in 10 runs: all digests are equal wherever they were computed; every run passed`.
    #[must_use]
    pub fn summary(&self) -> String {
        let rows = self.rows().count();
        let result = match self.differing() {
            0 => "all digests are equal wherever they were computed".to_owned(),
            count => format!("{count} vectors with DIFFERENT digests"),
        };
        let bad = self.runs.iter().filter(|run| run.conclusion != "pass").count();
        let runs = if bad == 0 { "every run passed".to_owned() } else { format!("{bad} runs did NOT pass") };
        format!("{rows} vectors in {} runs: {result}; {runs}", self.runs.len())
    }

    /// Returns a table for people at a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (number, run) in self.runs.iter().enumerate() {
            let (platform, backend) = (&run.platform, &run.backend);
            let _ = writeln!(out, "[{}] {platform}; {backend}, {}, level {}", number + 1, run.threads, run.level);
            let _ = writeln!(out, "    {} of {} vectors pass, {:.1} s: {}", run.passed, run.vectors, run.seconds, run.conclusion);
        }
        for suite in &self.suites {
            let _ = writeln!(out, "\nsuite {}, model {} ({})", suite.suite, suite.model.id, suite.model.name);
            let name = suite.rows.iter().map(|row| row.vector.len()).max().unwrap_or(0).max(6);
            let digest = suite.rows.iter().map(|row| row.digest().len()).max().unwrap_or(0).max(6);
            let head: String = (1..=self.runs.len()).map(|number| format!("  {:<13}", format!("[{number}]"))).collect();
            let _ = writeln!(out, "  {:name$}  {:digest$}{}", "vector", "digest", head.trim_end());
            for row in &suite.rows {
                let cells: String = row.cells.iter().map(|cell| format!("  {:<13}", row.cell(cell.as_ref()))).collect();
                let _ = writeln!(out, "  {:name$}  {:digest$}{}", row.vector, row.digest(), cells.trim_end_matches(' '));
            }
        }
        let _ = writeln!(out, "\n{}", self.summary());
        out
    }

    /// Returns Markdown tables.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}.\n", self.summary());
        let _ = writeln!(out, "| | platform | backend | passes | exact g_s | g_s | threads | level | pass | seconds | |");
        let _ = writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|");
        for (number, run) in self.runs.iter().enumerate() {
            let device = |stage: &str| cell_text(run.devices.get(stage).map_or("", String::as_str));
            let (passes, exact, synthesis) = (device("passes"), device("exact g_s"), device("g_s"));
            let (platform, backend) = (cell_text(&run.platform), cell_text(&run.backend));
            let threads = run.threads.trim_start_matches("threads: ");
            let _ = write!(out, "| {} | {platform} | {backend} | {passes} | {exact} | {synthesis} | {threads} ", number + 1);
            let _ =
                writeln!(out, "| {} | {} of {} | {:.1} | {} |", run.level, run.passed, run.vectors, run.seconds, run.conclusion);
        }
        for suite in &self.suites {
            let (model, manifest) = (&suite.model, suite.manifest_sha256.get(..16).unwrap_or_default());
            let _ = writeln!(out, "\n### {}\n", cell_text(&suite.suite));
            let _ = writeln!(out, "Model `{}` ({}), manifest `{manifest}`.\n", cell_text(&model.id), cell_text(&model.name));
            let numbers: String = (1..=self.runs.len()).map(|number| format!(" {number} |")).collect();
            let _ = writeln!(out, "| vector | walk, y_hat, pixels |{numbers}");
            let _ = writeln!(out, "|---|---|{}", "---|".repeat(self.runs.len()));
            for row in &suite.rows {
                let cells: String = row.cells.iter().map(|cell| format!(" {} |", cell_text(&row.cell(cell.as_ref())))).collect();
                let _ = writeln!(out, "| {} | {} |{cells}", cell_text(&row.vector), cell_text(&row.digest()));
            }
        }
        out
    }
}

/// Escapes text so that it stays within a cell of a Markdown table.
fn cell_text(text: &str) -> String {
    let escape = |c: char| match c {
        '|' | '*' | '`' | '<' | '\\' | '[' => format!("\\{c}"),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

impl Run {
    fn new(document: &Document) -> Self {
        let vectors = || document.suites.iter().flat_map(|suite| &suite.vectors);
        let devices = document.suites.iter().flat_map(|suite| suite.devices.clone()).collect::<BTreeMap<_, _>>();
        let external = devices.get("decoder").filter(|_| document.command.is_some());
        Self {
            platform: document.platform(),
            backend: external.unwrap_or(&document.backend).clone(),
            program: format!("{} {}", document.program.name, document.program.version),
            devices,
            threads: document.threads(),
            level: document.level.to_string(),
            passed: vectors().filter(|vector| vector.verdict == Kind::Pass).count(),
            vectors: vectors().count(),
            seconds: vectors().map(|vector| vector.seconds).sum(),
            conclusion: document.conclusion().to_owned(),
        }
    }
}

impl SuiteMatrix {
    fn new(of: Key, names: &[String], documents: &[Document]) -> Self {
        let in_run = |document: &Document, name: &str| {
            let vectors = document.suites.iter().filter(|suite| key(suite) == of).flat_map(|suite| &suite.vectors);
            vectors.into_iter().find(|vector| vector.name == name).map(Cell::new)
        };
        let cells = |name: &str| documents.iter().map(|document| in_run(document, name)).collect();
        let rows = names.iter().map(|name| Row::new(name.clone(), cells(name))).collect();
        let (suite, model, manifest_sha256) = of;
        Self { suite, model, manifest_sha256, rows }
    }
}

impl Cell {
    fn new(vector: &VectorDocument) -> Self {
        Self {
            verdict: vector.verdict,
            level: vector.first_divergence.as_ref().map(|found| found.level.to_string()),
            computed: vector.computed.clone(),
            seconds: vector.seconds,
        }
    }
}

/// Whether two runs agree in what must be the same everywhere: outcome, whole slices and digests, as far as both computed them.
fn agree(a: &Computed, b: &Computed) -> bool {
    fn same<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
        a.is_none() || b.is_none() || a == b
    }
    let whole_slices = same(&a.whole_slices, &b.whole_slices);
    a.outcome == b.outcome && whole_slices && same(&a.walk, &b.walk) && same(&a.y_hat, &b.y_hat) && same(&a.pixels, &b.pixels)
}

/// Returns the first digits of the digests that a decoder computed, or the code of its refusal.
fn digits(computed: &Computed) -> String {
    let first = |digest: &Option<crate::manifest::HexDigest>| {
        digest.map_or_else(|| "-".to_owned(), |digest| format!("{:.8}", digest.to_string()))
    };
    match computed.outcome.as_str() {
        "decoded" => {
            let pixels = computed.pixels.as_ref().map_or_else(String::new, |_| format!(" {}", first(&computed.pixels)));
            format!("{} {}{pixels}", first(&computed.walk), first(&computed.y_hat))
        }
        code => code.to_owned(),
    }
}

fn computed(cells: &[Option<Cell>]) -> impl Iterator<Item = &Computed> {
    cells.iter().flatten().filter_map(|cell| cell.computed.as_ref())
}

impl Row {
    /// Number of runs that have the vector.
    fn count(&self) -> usize {
        self.cells.iter().flatten().count()
    }

    fn computed(&self) -> impl Iterator<Item = &Computed> {
        computed(&self.cells)
    }

    /// Returns one line for each run that computed something.
    pub(crate) fn each(&self) -> String {
        let lines = self.cells.iter().zip(1..).filter_map(|(cell, run)| Some((run, cell.as_ref()?.computed.as_ref()?)));
        lines.map(|(run, computed)| format!("[{run}] {}\n", digits(computed))).collect()
    }

    fn new(vector: String, cells: Vec<Option<Cell>>) -> Self {
        let computed: Vec<&Computed> = computed(&cells).collect();
        let differ = computed.iter().enumerate().any(|(i, a)| computed.iter().skip(i + 1).any(|b| !agree(a, b)));
        // The run that computed most speaks for all that agree.
        let known = |c: &&Computed| [&c.walk, &c.y_hat, &c.pixels].into_iter().flatten().count();
        let common = computed.iter().copied().max_by_key(known).filter(|_| !differ).map(digits);
        Self { vector, cells, common, differ }
    }

    fn digest(&self) -> String {
        match (&self.common, self.differ) {
            (Some(common), _) => common.clone(),
            (None, true) => "DIFFER".to_owned(),
            (None, false) => "-".to_owned(),
        }
    }

    fn cell(&self, cell: Option<&Cell>) -> String {
        let Some(cell) = cell else { return "-".to_owned() };
        let verdict = match &cell.level {
            Some(level) => format!("{} {level}", cell.verdict),
            None => cell.verdict.to_string(),
        };
        match cell.computed.as_ref().filter(|_| self.differ) {
            Some(computed) => format!("{verdict} {}", digits(computed)),
            None => verdict,
        }
    }
}
