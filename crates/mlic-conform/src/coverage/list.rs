//! What the suites must reach: the cases of SPEC's operations, one by one, with the clause that each comes from.
//!
//! What cannot be reached stays in the list, with the reason.

use mlic_model::Layout;
use mlic_model::layout::Epilogue;

use super::ops::class;
use crate::packages::Probe;

/// A case to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Name of the case in the log.
    pub name: String,
    /// The clause of SPEC that the case comes from.
    pub clause: &'static str,
    /// Why the suites do not reach the case, if it is left out.
    pub excluded: Option<&'static str>,
}

/// Cases that no stream and no package brings about, or that the suites leave to other tests, and why.
pub const EXCLUDED: &[(&str, &str)] = &[
    ("norm1 saturates above", "8 standard deviations take more than 64 channels, a latent slice has at most 64"),
    ("norm1 saturates below", "8 standard deviations take more than 64 channels, a latent slice has at most 64"),
    ("escape of 0 bits below", "a number below the table is even, so at least 2"),
    ("linear logit rounds a negative tie", "a difference from the largest is not negative"),
    ("exp rounds a negative tie", "table entries are not negative"),
    ("softmax weight rounds a negative tie", "exponentials are not negative"),
    ("squares rounds a negative tie", "gamma and beta are not negative"),
    ("error rans-lane-count", "the container refuses such a header first, as `limit` (6.1)"),
    ("error size", "the container refuses such a header first, as `limit` or `zero` (6.1)"),
    ("package error io", "concerns the file system"),
];

/// Obligations of 4.9 that follow from the ranges of clause 2, so that no package breaks them.
pub const IMPLIED: &[(&str, &str)] = &[
    ("requant after GELU", "2^30 * 2^31 + 2^61 < 2^63"),
    ("requant of a quantizer", "2^27 * 2^31 + 2^61 < 2^63"),
    ("logits of a linear attention", "2^16 * 2^31 + 2^61 < 2^63"),
    ("output of a linear attention", "2^15 * 2^13 * 2^31 + 2^61 < 2^63"),
    ("sum of a linear attention", "2^15 * 2^21 * 32767 * 2^12 + 2^36 < 2^63"),
    ("quotient of a norm", "2 * 128 * 32767 * 2^20 + 2^32 < 2^63"),
    ("weighted value of a window attention", "32767 * (32768 + 49) < 2^31"),
    ("requant of a window attention", "2^31 * 2^31 + 2^61 < 2^63"),
    ("channels of depthwise and identity terms", "equal by 2.4"),
    ("requant of the quantizer of the exact synthesis", "2^27 * 2^31 + 2^61 < 2^63"),
    ("sum of an inverse normalization", "65535 * 2^30 + 2^61 + 2^61 < 2^63"),
    ("requant of an inverse normalization", "46340 * 32767 * 2^31 + 2^61 < 2^63"),
];

struct List(Vec<Item>);

impl List {
    fn add(&mut self, clause: &'static str, name: impl Into<String>) {
        let name = name.into();
        let excluded = EXCLUDED.iter().find(|(excluded, _)| *excluded == name).map(|(_, reason)| *reason);
        self.0.push(Item { name, clause, excluded });
    }

    fn each(&mut self, clause: &'static str, names: &[&str]) {
        names.iter().for_each(|name| self.add(clause, *name));
    }

    fn entries(&mut self, clause: &'static str, table: &str, entries: impl IntoIterator<Item = usize>) {
        entries.into_iter().for_each(|entry| self.add(clause, format!("{table} {entry}")));
    }

    fn clamp(&mut self, clause: &'static str, place: &str) {
        ["above", "below"].iter().for_each(|side| self.add(clause, format!("{place} saturates {side}")));
    }

    fn ties(&mut self, clause: &'static str, place: &str) {
        ["positive", "negative"].iter().for_each(|sign| self.add(clause, format!("{place} rounds a {sign} tie")));
    }
}

/// Returns the list.
#[must_use]
pub fn items() -> Vec<Item> {
    let mut list = List(Vec::new());
    networks(&mut list);
    synthesis(&mut list);
    functions(&mut list);
    symbols(&mut list);
    streams(&mut list);
    list.0
}

/// Layers, attentions, norms: every kind of them and both sides of every limit.
fn networks(list: &mut List) {
    let mut layers = Layout::new(&Probe::Cases.config()).layers;
    layers.sort_by_key(class);
    layers.dedup_by_key(|spec| class(spec));
    for spec in &layers {
        let class = class(spec);
        list.add("4.2", format!("layer {class}"));
        match spec.epilogue {
            Epilogue::Linear | Epilogue::Pixel => list.clamp("4.2", &format!("{class} output")),
            Epilogue::Gelu => {
                list.clamp("4.2", &format!("{class} pre-activation"));
                list.clamp("4.2", &format!("{class} output"));
            }
            Epilogue::Latent => ["scale", "mean"].iter().for_each(|what| list.clamp("4.2", &format!("{class} {what}"))),
            Epilogue::HalfTanh => list.clamp("4.2", &format!("{class} pre-activation")),
        }
    }
    list.ties("4.2", "layer");
    list.add("3.1", "layer does not shift");
    ["quantize z", "quantize y"].iter().for_each(|place| {
        list.clamp("4.1", place);
        list.ties("4.1", place);
    });
    ["global_inter_context.attention output", "global_intra_context.attention output"].iter().for_each(|place| {
        list.clamp("4.5", place);
        list.ties("4.5", place);
    });
    let places = ["linear logit", "exp", "softmax weight", "linear attention quotient", "linear attention sum"];
    places.iter().for_each(|place| list.ties("4.5", place));
    ["norm1", "norm2"].iter().for_each(|place| list.clamp("4.6", place));
    list.ties("4.6", "norm2");
    list.each("4.6", &["norm of the mean", "norm above the mean", "norm below the mean"]);
    list.each("3.4", &["root of a square", "root of no square"]);
    ["window logit", "window output"].iter().for_each(|place| {
        list.clamp("4.7", place);
        list.ties("4.7", place);
    });
    list.each(
        "4.7",
        &[
            "window of 3",
            "window of 5",
            "window of 7",
            "window position above the map",
            "window position below the map",
            "window position left of the map",
            "window position right of the map",
            "window position on an anchor",
            "window position on a non-anchor",
            "window position outside where an anchor would be",
            "window position outside where a non-anchor would be",
        ],
    );
    ["z", "z after its gain"].iter().for_each(|place| list.clamp("4.8", place));
    list.ties("4.8", "z after its gain");
    list.each("4.8", &["limit of z after its gain is seen"]);
    list.each("4.2", &["limit of pre-activation is seen", "limit of exact gelu pre-activation is seen"]);
    list.each("5.7", &["limit of y after its gain is seen"]);
    list.each("4.8", &["gain of a fixed rate", "gain of a level", "gain between two levels", "gain of the last level"]);
    ["mean and symbol", "latent and residual"].iter().for_each(|place| list.clamp("5.3", place));
}

/// The exact synthesis: forms of layers, and both sides of every limit.
fn synthesis(list: &mut List) {
    for probe in Probe::ALL {
        list.add("5.7", format!("pixels of {}", probe.name()));
    }
    list.each("5.7", &["gray pixels", "colour pixels", "pixels of a truncated stream"]);
    for gain in ["of a fixed rate", "of a level", "between two levels", "of the last level"] {
        list.add("5.7", format!("pixels with a gain {gain}"));
    }
    ["y after its gain", "exact quantizer"].iter().for_each(|place| {
        list.clamp("5.7", place);
        list.ties("5.7", place);
    });
    for bytes in [1, 2] {
        [1, 3, 5].iter().for_each(|size| list.add("2.9", format!("exact kernel {size} with weights of {bytes} bytes")));
    }
    [127, -127, 32_767, -32_767].iter().for_each(|weight| list.add("2.9", format!("exact weight of {weight}")));
    for epilogue in ["lin", "gelu", "pixel"] {
        ["", " with shuffle"].iter().for_each(|shuffle| list.add("2.9", format!("exact epilogue {epilogue}{shuffle}")));
    }
    (1..=4).for_each(|terms| list.add("2.9", format!("exact layer of {terms} terms")));
    list.each("2.9", &["exact layer with an identity term", "exact layer of identity terms alone"]);
    list.add("3.1", "exact layer does not shift");
    list.ties("4.2", "exact layer");
    ["exact linear output", "exact gelu pre-activation", "exact gelu output"].iter().for_each(|place| list.clamp("4.2", place));
    ["exact gelu", "requant after exact gelu"].iter().for_each(|place| list.ties("4.3", place));
    list.each("4.3", &["exact gelu within its table", "exact gelu beyond its table"]);
    list.each("4.2", &["sample below 0", "sample 0", "sample within its range", "sample 255", "sample above 255"]);
    list.clamp("4.11", "normalized");
    ["squares", "normalized"].iter().for_each(|place| list.ties("4.11", place));
    list.each("4.11", &["squares of 0", "squares within their range", "squares above 2^31 - 1"]);
    list.each("3.4", &["exact root of a square", "exact root of no square"]);
}

/// Every entry of every table of functions.
fn functions(list: &mut List) {
    for table in ["gelu", "gelu of less than zero,", "tanh", "tanh of less than zero,"] {
        let clause = if table.starts_with("gelu") { "4.3" } else { "4.4" };
        list.entries(clause, table, 0..=512);
        list.add(clause, format!("{table} at the end of its table"));
    }
    list.ties("4.3", "gelu");
    list.ties("4.3", "requant after gelu");
    list.ties("4.4", "tanh");
    list.entries("4.5", "exp coarse", 0..256);
    list.entries("4.5", "exp fine", 0..64);
    list.each("4.5", &["exp at the end of its table", "exp one beyond its table", "exp beyond its table"]);
    list.add("3.5", "exp2 product rounds a positive tie");
    list.entries("3.5", "exp2 coarse", 0..256);
    list.entries("3.5", "exp2 fine", 0..256);
    (-12..=12).for_each(|whole| list.add("3.5", format!("exp2 of {whole}")));
    for table in ["scale one below threshold", "scale at threshold", "scale one above threshold"] {
        list.entries("4.10", table, 0..63);
    }
    list.entries("4.10", "scale index", 0..64);
}

/// Tables of symbols, escapes, what is skipped.
fn symbols(list: &mut List) {
    for what in ["lowest symbol", "highest symbol", "other symbol", "escape above", "escape below"] {
        list.entries("6.3", &format!("{what} of y table"), 0..64);
        list.add("6.3", format!("{what} of a z table"));
    }
    for side in ["above", "below"] {
        (0..=16).for_each(|bits| list.add("6.3", format!("escape of {bits} bits {side}")));
    }
    list.each("6.3", &["symbol 32767", "symbol -32767", "symbol 0", "bin of one slot", "bin of 65535 slots"]);
    list.each("2.7", &["table of 2 bins", "table of more than 256 bins", "table of 65535 bins"]);
    list.each("5.4", &["skipped symbol", "pass without a coded symbol", "pass with every symbol coded"]);
    for slice in ["the first slice", "a later slice"] {
        ["anchors", "non-anchors"].iter().for_each(|half| list.add("5.1", format!("{half} of {slice}")));
    }
    for probe in Probe::ALL {
        let config = probe.config();
        let name = probe.name();
        (0..config.hyper).for_each(|channel| list.add("2.7", format!("z channel {channel} of {name}")));
        (0..config.scale_levels).for_each(|level| list.add("2.2", format!("activation scales {level} of {name}")));
    }
}

/// Headers, lanes, truncations, errors.
fn streams(list: &mut List) {
    list.entries("6.1", "quality", (0..=200).chain([255]));
    list.each("2.2", &["first quality of a level", "last quality of a level"]);
    (0..=6).for_each(|lanes| list.add("6.3", format!("2^{lanes} lanes")));
    list.each(
        "6.3",
        &[
            "fewer intervals than lanes",
            "more than 2^17 intervals",
            "seal begins at the first lane",
            "seal begins at another lane",
        ],
    );
    list.each("6.1", &["gray", "colour", "width 1", "height 1", "sides of 64", "a side of 65", "a side of 63"]);
    list.each("6.2", &["0 sections", "3 sections", "16 sections", "section of unknown kind", "section without contents"]);
    list.each(
        "5.5",
        &[
            "truncated, no slice whole",
            "truncated, some slices whole",
            "truncated, all slices whole",
            "truncated after the payload",
        ],
    );
    for code in [
        "not-a-stream",
        "unsupported-version",
        "truncated",
        "non-canonical-varint",
        "varint-too-long",
        "header-checksum",
        "reserved-bits",
        "limit",
        "zero",
    ] {
        list.add("6.1", format!("error {code}"));
    }
    for code in ["payload-checksum", "section-checksum", "trailing-bytes", "size"] {
        list.add("6.2", format!("error {code}"));
    }
    list.each("5.1", &["error wrong-model", "error quality", "error desync"]);
    list.add("5.5", "error no-picture");
    for code in ["lane-count", "exhausted", "bad-state", "bad-escape", "symbol-range", "not-sealed", "unread"] {
        list.add("6.3", format!("error rans-{code}"));
    }
    list.add("2.1", "package taken");
    for code in ["not-a-package", "unsupported-version", "truncated", "oversized", "checksum", "id-mismatch", "section", "io"] {
        list.add("2.1", format!("package error {code}"));
    }
    list.each("2.2", &["package error json", "package error config"]);
    list.add("2.5", "package error parameter");
    list.add("4.9", "package error overflow");
    list.add("5.6", "package error graph");
}
