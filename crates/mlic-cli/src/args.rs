//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Command, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use mlic::budget::{DEFAULT_MAX_MEMORY_BYTES, DEFAULT_MAX_PIXELS};
use mlic::image::{OutputFormat, ReadOptions};
use mlic::metadata::MetadataPolicy;
use mlic::{BackendChoice, CodecOptions, MAX_THREADS, PixelMode, Quality, Rounding};
use serde::Serialize;

use crate::exit;
use crate::model::ModelCommand;

/// Encode, decode, inspect and measure MLIC++ streams.
///
/// A stream decodes to the same picture on every machine, with the model that wrote it (and exact pixels, which are the default).
#[derive(Debug, Parser)]
#[command(name = "mlic", disable_version_flag = true)]
pub(crate) struct Arguments {
    /// Print the version, and the name and id of the model
    #[arg(short = 'V', long)]
    pub(crate) version: bool,
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Task>,
}

/// The definition of the command line, with the exit codes in the help of every command.
pub(crate) fn definition() -> Command {
    fn with_exit_codes(command: Command) -> Command {
        let short = "Exit codes are in --help.";
        command.after_help(short).after_long_help(exit::table()).mut_subcommands(with_exit_codes)
    }
    with_exit_codes(Arguments::command())
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Global {
    /// Threads, at most 256; 0 for one per core
    #[arg(short = 'j', long = "threads", value_name = "N", default_value_t = 0, value_parser = thread_count(), global = true)]
    pub(crate) threads: usize,
    /// Model package to use instead of the one that comes with the program
    #[arg(long, value_name = "PACKAGE", global = true)]
    pub(crate) model: Option<PathBuf>,
    /// Say what was done and how long it took
    #[arg(short = 'v', long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print errors only
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
}

/// Options of commands that write files.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WriteArgs {
    /// Overwrite the output file if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

impl Global {
    /// The number of threads; for 0, one per core.
    pub(crate) fn thread_count(&self) -> usize {
        if self.threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { self.threads }
    }
}

/// Choice of the backend, and limits on its work.
#[derive(Debug, Args)]
#[command(next_help_heading = "Backend and limits")]
pub(crate) struct CodecArgs {
    /// What runs the networks
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend_names())]
    pub(crate) backend: BackendChoice,
    #[command(flatten)]
    pub(crate) pixels: MaxPixels,
    /// Refuse pictures that might need more memory than this, besides program, model and stream: MiB, or a number with K, M, G or T (powers of 1024)
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT_MAX_MEMORY_BYTES), value_parser = mebibytes)]
    pub(crate) max_memory: Size,
    /// Stop after this many seconds for a picture (looked at before each pass and before the picture is made)
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) max_seconds: Option<Duration>,
}

/// Limit on the pixels of pictures and streams.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct MaxPixels {
    /// Refuse pictures and streams of more pixels
    #[arg(long = "max-pixels", value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    pub(crate) limit: u64,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gibibytes = self.0 >> 30;
        if gibibytes << 30 == self.0 { write!(f, "{gibibytes}G") } else { write!(f, "{}M", self.0 >> 20) }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Encode PNG, JPEG, WebP, PPM, PGM, PBM or PAM pictures
    Encode(EncodeArgs),
    /// Decode streams to PNG, PPM or PGM
    Decode(DecodeArgs),
    /// Print the header of a stream, or what a model package holds
    Info(InfoArgs),
    /// Measure rate, quality and time over pictures
    Eval(EvalArgs),
    /// Build, inspect and check model packages
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
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
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// Pictures, and directories of pictures; `-` for standard input
    #[arg(value_name = "IN", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Stream, or a directory for streams named like IN; `-` for standard output [default: IN with the extension .mlic; - if IN is -]
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    /// Quality, 0 to 100, rounded to the steps of the model, 0.5 in the embedded one [default: 50]
    #[arg(short, long, value_name = "Q", allow_negative_numbers = true)]
    pub(crate) quality: Option<Quality>,
    /// Find the highest quality whose stream fits, with about eight encodings: bytes, or a number with K, M, G or T (powers of 1024: 40k is 40960)
    #[arg(long, value_name = "SIZE", conflicts_with = "quality", value_parser = bytes, allow_negative_numbers = true)]
    pub(crate) target_size: Option<Size>,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// What to do with ICC profile, EXIF and XMP
    ///
    /// Text, comments, IPTC and pixel density are never kept; a note names what was dropped.
    #[arg(long, value_enum, default_value_t = MetadataArg::Keep)]
    pub(crate) metadata: MetadataArg,
    #[command(flatten)]
    pub(crate) codec: CodecArgs,
}

/// How a picture is encoded.
#[derive(Debug, Args)]
pub(crate) struct EncoderArgs {
    /// Rounds of refinement, 0 to 9
    ///
    /// In each round the encoder decodes its stream, finds what was lost and codes it again; the best of all rounds is written. A round takes about as long as
    /// one more encoding and decoding, and the first brings most of the gain. At the same -q the stream is larger and the picture better; at equal PSNR, with a
    /// lower -q, the stream is 3.7 % smaller.
    #[arg(short = 'e', long = "effort", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub(crate) effort: u8,
    /// How latents are rounded to symbols
    #[arg(long, value_enum, default_value_t = RoundingArg::RateDistortion)]
    pub(crate) rounding: RoundingArg,
}

impl EncoderArgs {
    pub(crate) fn options(&self) -> CodecOptions {
        let rounding = match self.rounding {
            RoundingArg::RateDistortion => Rounding::RateDistortion,
            RoundingArg::Nearest => Rounding::Nearest,
        };
        CodecOptions::default().with_effort(self.effort).with_rounding(rounding)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RoundingArg {
    /// To the next symbol toward zero where the bits saved are worth more than the error
    RateDistortion,
    /// To the nearest, as the published code does: larger and better at the same -q, a little larger at equal PSNR
    Nearest,
}

/// Permission to change a picture so that a stream can carry it.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Flatten alpha onto this colour, as RRGGBB
    #[arg(long, value_name = "RRGGBB", value_parser = color)]
    background: Option<[u8; 3]>,
    /// Round 16-bit samples to 8 bits
    #[arg(long)]
    reduce_depth: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// Streams, and directories of streams (.mlic); `-` for standard input
    #[arg(value_name = "IN", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Picture, or a directory for pictures named like IN; `-` for standard output [default: IN with the extension of the format; - if IN is -]
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    /// Format of the picture where OUT's extension does not say [default: png]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) pixels: PixelArgs,
    /// What to do with ICC profile, EXIF and XMP
    ///
    /// Damaged metadata normally makes decoding fail, since other parts may be damaged too. `fit` decodes and keeps what is intact; `strip` ignores
    /// everything after the payload, and notes name a profile or an orientation that is lost. What the format of the picture cannot carry is left out with a
    /// note in any case.
    #[arg(long, value_enum, default_value_t = MetadataArg::Keep)]
    pub(crate) metadata: MetadataArg,
    #[command(flatten)]
    pub(crate) codec: CodecArgs,
}

/// How pictures are made from latents.
#[derive(Debug, Args)]
pub(crate) struct PixelArgs {
    /// How the picture is made
    #[arg(long, value_enum, default_value_t = PixelsArg::Auto)]
    pixels: PixelsArg,
}

impl PixelArgs {
    pub(crate) fn mode(&self) -> PixelMode {
        match self.pixels {
            PixelsArg::Auto => PixelMode::Auto,
            PixelsArg::Exact => PixelMode::Exact,
            PixelsArg::Float => PixelMode::Float,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PixelsArg {
    /// Exact if the model can, else float
    Auto,
    /// Integer arithmetic: every sample is the same on every machine
    Exact,
    /// Float arithmetic: close to that
    Float,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Streams and model packages, `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Pictures, and directories of pictures
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Qualities, 0 to 100, separated by commas
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', default_value = "0,20,40,60,80,100")]
    pub(crate) qualities: Vec<Quality>,
    /// Rate-distortion points to compare with: JSON, {"codecs": {NAME: {"bpp": [..], "psnr_rgb": [..]}}}
    #[arg(long, value_name = "FILE")]
    pub(crate) anchor: Option<PathBuf>,
    /// Codec of the anchor file [default: each of them]
    #[arg(long, value_name = "NAME", requires = "anchor")]
    pub(crate) anchor_codec: Option<String>,
    /// Print JSON, with everything that was measured
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) pixels: PixelArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MetadataArg {
    /// All of it, or fail
    Keep,
    /// Leave out, with a note, what does not fit or cannot be read
    Fit,
    /// Leave out all of it; notes name a profile or an orientation that is lost
    Strip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// PNG, with metadata
    Png,
    /// PPM, or PGM for gray pictures; no metadata
    #[value(alias = "pgm", alias = "pnm")]
    Ppm,
}

impl From<MetadataArg> for MetadataPolicy {
    fn from(metadata: MetadataArg) -> Self {
        match metadata {
            MetadataArg::Keep => Self::Keep,
            MetadataArg::Fit => Self::Fit,
            MetadataArg::Strip => Self::Strip,
        }
    }
}

impl From<Format> for OutputFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Png => Self::Png,
            Format::Ppm => Self::Ppm,
        }
    }
}

impl ReadArgs {
    pub(crate) fn options(&self, metadata: MetadataPolicy) -> ReadOptions {
        let options = ReadOptions::default().with_reduce_depth(self.reduce_depth).with_metadata(metadata);
        match self.background {
            Some(background) => options.with_background(background),
            None => options,
        }
    }
}

/// Names of backends, as the help and completions list them.
fn backend_names() -> impl TypedValueParser<Value = BackendChoice> {
    let value = |choice: &BackendChoice| {
        let value = PossibleValue::new(choice.name());
        match choice {
            BackendChoice::Auto => value.help("This processor, with float transforms where they are built in"),
            BackendChoice::Cuda => value.help("An NVIDIA GPU"),
            BackendChoice::Tract => value.help("This processor: integers, and float transforms on tract"),
            BackendChoice::Integer => value.help("This processor: integers alone"),
            BackendChoice::Reference => value.help("The definition of the integers, slow"),
            _ => value,
        }
    };
    PossibleValuesParser::new(BackendChoice::ALL.iter().map(value)).try_map(|name| name.parse())
}

fn thread_count() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16).range(..=i64::from(MAX_THREADS)).map(usize::from)
}

/// Parses a number of MiB, or of the unit that follows it.
fn mebibytes(text: &str) -> Result<Size, String> {
    size(text, 20).ok_or_else(|| "a number of MiB is needed, or one with K, M, G or T after it, as in 512M".into())
}

/// Parses a number of bytes, or of the unit that follows it.
fn bytes(text: &str) -> Result<Size, String> {
    size(text, 0).ok_or_else(|| "a number of bytes is needed, or one with K, M, G or T after it, as in 40k".into())
}

/// Parses a number in units of 2^`shift` bytes, or of the unit that follows it: K, M, G or T, alone or as in `KiB` and `KB`, all powers of 1024.
fn size(text: &str, shift: u32) -> Option<Size> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "" => Some(shift),
        "K" | "KB" | "KIB" => Some(10),
        "M" | "MB" | "MIB" => Some(20),
        "G" | "GB" | "GIB" => Some(30),
        "T" | "TB" | "TIB" => Some(40),
        _ => None,
    };
    let number = number.parse::<u64>().ok().zip(shift);
    number.map(|(number, shift): (u64, u32)| Size(number.saturating_mul(1 << shift)))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim().parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "a number of seconds is needed, from 0".into())
}

fn color(text: &str) -> Result<[u8; 3], String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let value = if digits.len() == 6 { u32::from_str_radix(digits, 16).ok() } else { None };
    let [_, r, g, b] = value.ok_or("six hexadecimal digits are needed")?.to_be_bytes();
    Ok([r, g, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!((mebibytes("512"), bytes("512")), (Ok(Size(512 << 20)), Ok(Size(512))));
        for (text, bytes) in [("512M", 512 << 20), ("64k", 64 << 10), ("2 GiB", 2 << 30), ("1T", 1 << 40)] {
            assert_eq!(size(text, 0), Some(Size(bytes)), "{text}");
        }
        assert_eq!(size("99999999999999999999T", 0), None);
        assert_eq!(size("99999999999T", 0), Some(Size(u64::MAX)));
        for text in ["", "M", "-1", "1.5G", "512X"] {
            assert_eq!(size(text, 20), None, "{text}");
        }
    }
}
