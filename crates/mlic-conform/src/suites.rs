//! Recipes of the suites, which blessing turns into streams and manifests.

use mlic_backend::contract::Fill;

use crate::craft::Symbols;
use crate::damage::{DAMAGES, Damage, Suits};
use crate::negative::{PackageCase, STREAMS, StreamCase, packages};
use crate::packages::Probe;
use crate::scene::Scene;

/// The recipe of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Name.
    pub suite: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// Path of its model package within the conformance data; none for the model that is part of the program.
    pub package: Option<&'static str>,
    /// Its vectors.
    pub vectors: Vec<VectorRecipe>,
}

/// The recipe of a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorRecipe {
    /// Name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// How its stream or package is made.
    pub source: Source,
}

/// How the stream or the package of a vector is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// An encoded picture.
    Picture(Drawn),
    /// A stream of chosen symbols.
    Symbols {
        /// Width and height of the picture, in pixels.
        size: (u32, u32),
        /// Quality.
        quality: Quality,
        /// How the symbols are chosen.
        symbols: Symbols,
        /// Binary logarithm of the lane count.
        lanes_log2: u8,
    },
    /// The shortest prefix of another vector in which this many latent slices are whole.
    Cut {
        /// Name of the other vector.
        of: String,
        /// Number of whole latent slices.
        whole_slices: usize,
    },
    /// Another vector without its last bytes.
    Prefix {
        /// Name of the other vector.
        of: String,
        /// How many bytes are missing.
        missing: usize,
    },
    /// Another vector with as many sections as there may be.
    Sections {
        /// Name of the other vector.
        of: String,
    },
    /// Another vector as a gray picture.
    Gray {
        /// Name of the other vector.
        of: String,
    },
    /// A case written by hand, made from the stream of another vector.
    Written {
        /// Name of the other vector.
        of: String,
        /// The case.
        case: &'static StreamCase,
    },
    /// A package that a decoder must refuse, or accept.
    Package(&'static PackageCase),
    /// Another vector, damaged.
    Damaged {
        /// Name of the other vector.
        of: String,
        /// The damage.
        damage: &'static Damage,
    },
}

/// The quality of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Percentage of the model's range, 0 to 100.
    Percent(u8),
    /// Quality as the stream carries it.
    Step(u8),
}

/// A generated picture to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// What it shows.
    pub scene: Scene,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Quality, 0 to 100.
    pub percent: u8,
    /// Whether it is gray.
    pub gray: bool,
    /// Whether it has ICC, EXIF and XMP sections.
    pub sections: bool,
}

/// Returns the recipes of all suites.
#[must_use]
pub fn all() -> Vec<Recipe> {
    vec![smoke(), core(), edge_cases(), edge_cases_scales(), edge_cases_fixed(), edge_cases_ties(), negative()]
}

/// Returns the recipe of the suite of this name.
#[must_use]
pub fn find(name: &str) -> Option<Recipe> {
    all().into_iter().find(|recipe| recipe.suite == name)
}

fn picture(scene: Scene, size: (u32, u32), percent: u8, why: &str) -> VectorRecipe {
    let name = format!("{}-{}x{}-q{percent}", format!("{scene:?}").to_lowercase(), size.0, size.1);
    let source = Source::Picture(Drawn { scene, size, percent, gray: false, sections: false });
    VectorRecipe { name, why: why.to_owned(), source }
}

/// Appends a suffix to the name of a vector and changes its picture.
fn with(mut vector: VectorRecipe, suffix: &str, change: impl FnOnce(&mut Drawn)) -> VectorRecipe {
    vector.name = format!("{}-{suffix}", vector.name);
    if let Source::Picture(drawn) = &mut vector.source {
        change(drawn);
    }
    vector
}

fn symbols(name: &str, symbols: Symbols, size: (u32, u32), percent: u8, lanes_log2: u8, why: &str) -> VectorRecipe {
    let name = format!("symbols-{name}-{}x{}-q{percent}-l{lanes_log2}", size.0, size.1);
    VectorRecipe {
        name,
        why: why.to_owned(),
        source: Source::Symbols { size, quality: Quality::Percent(percent), symbols, lanes_log2 },
    }
}

fn cut(of: &str, whole_slices: usize, why: &str) -> VectorRecipe {
    let name = format!("cut-{whole_slices}-of-{of}");
    VectorRecipe { name, why: why.to_owned(), source: Source::Cut { of: of.to_owned(), whole_slices } }
}

/// Returns one vector for each damage, made from whichever of the three given vectors suits it.
fn all_damaged<'a>(plain: &'a str, long_z: &'a str, with_sections: &'a str) -> impl Iterator<Item = VectorRecipe> + 'a {
    DAMAGES.iter().map(move |damage| {
        let of = match damage.suits {
            Suits::Plain => plain,
            Suits::LongZ => long_z,
            Suits::Sections => with_sections,
        };
        let source = Source::Damaged { of: of.to_owned(), damage };
        VectorRecipe { name: damage.name.to_owned(), why: damage.why.to_owned(), source }
    })
}

const fn fill(fill: Fill) -> Symbols {
    Symbols::Fill(fill)
}

/// The tiny model with random weights: seconds on any processor.
fn smoke() -> Recipe {
    use Scene::{Checker, Flat, Glyphs, Gradient, Noise, Saturated};
    let mut vectors = vec![
        picture(Flat, (1, 1), 0, "the smallest picture at the lowest quality"),
        picture(Noise, (2, 3), 100, "a few pixels at the highest quality"),
        picture(Gradient, (16, 16), 50, "one position of y before padding"),
        picture(Checker, (17, 31), 12, "odd sides within one z position"),
        picture(Noise, (63, 64), 88, "a column of padding; many large symbols"),
        picture(Glyphs, (64, 64), 50, "no padding at all"),
        picture(Glyphs, (65, 63), 0, "one pixel over, one under, lowest quality"),
        picture(Saturated, (64, 65), 100, "samples at both ends, one row over"),
        picture(Saturated, (33, 1), 7, "a single row"),
        picture(Gradient, (1, 200), 93, "a single column, four z positions"),
        picture(Noise, (128, 64), 33, "two z positions side by side"),
        with(picture(Glyphs, (129, 97), 66, "gray picture"), "gray", |drawn| drawn.gray = true),
        picture(Gradient, (200, 150), 100, "the largest of the suite, highest quality"),
        picture(Checker, (199, 149), 0, "largest odd sides, lowest quality"),
        with(picture(Flat, (20, 12), 50, "ICC, EXIF and XMP sections"), "sections", |drawn| drawn.sections = true),
    ];
    vectors.extend(crafted_for_all());
    vectors.extend([
        cut("noise-128x64-q33", 0, "cut after z: a picture of the hyper-latent alone"),
        cut("noise-128x64-q33", 1, "cut after the first latent slice"),
    ]);
    vectors.extend(all_damaged("glyphs-64x64-q50", "symbols-lengths-130x129-q50-l0", "flat-20x12-q50-sections"));
    let why = "a tiny model with random weights: every operator and every error, in seconds";
    Recipe { suite: "smoke", why, package: Some("models/tiny.mlicpkg"), vectors }
}

/// Streams of chosen symbols: saturation, escapes, and every kind of lane count.
fn crafted_for_all() -> [VectorRecipe; 8] {
    [
        symbols("zero", fill(Fill::Zero), (64, 64), 25, 0, "nothing but zeros"),
        symbols("small", fill(Fill::Small), (70, 40), 75, 3, "8 lanes"),
        symbols("small", fill(Fill::Small), (100, 130), 40, 6, "64 lanes, the most there may be"),
        symbols("lengths", fill(Fill::Lengths), (130, 129), 50, 0, "escapes of every length"),
        symbols("edges", Symbols::TableEdges, (128, 128), 60, 1, "first and last symbol of each table and their neighbours"),
        symbols("extreme", fill(Fill::Extreme), (65, 64), 0, 2, "largest symbols of both signs: saturation everywhere"),
        symbols("largest", fill(Fill::Largest), (64, 64), 100, 0, "largest symbol only"),
        symbols("smallest", fill(Fill::Smallest), (64, 128), 50, 4, "smallest symbol only"),
    ]
}

/// The edge model.
fn core() -> Recipe {
    use Scene::{Checker, Flat, Glyphs, Gradient, Noise, Saturated};
    let mut vectors = vec![
        picture(Flat, (1, 1), 0, "the smallest picture at the lowest quality"),
        picture(Noise, (3, 2), 100, "a few pixels at the highest quality"),
        picture(Flat, (16, 16), 25, "one position of y before padding"),
        picture(Saturated, (31, 17), 100, "samples at both ends"),
        picture(Gradient, (64, 64), 50, "no padding at all"),
        picture(Glyphs, (65, 63), 75, "one pixel over, one under"),
        picture(Glyphs, (128, 128), 100, "text at the highest quality"),
        picture(Noise, (96, 80), 60, "noise: the largest scales"),
        picture(Noise, (64, 64), 0, "noise at the lowest quality"),
        picture(Checker, (127, 129), 37, "a pattern beyond any context, between two levels of gains"),
        picture(Saturated, (160, 96), 12, "saturated patches, low quality"),
        picture(Gradient, (1, 300), 50, "a single column"),
        picture(Gradient, (257, 5), 90, "a strip"),
        with(picture(Glyphs, (150, 70), 50, "gray picture"), "gray", |drawn| drawn.gray = true),
        with(picture(Flat, (40, 24), 50, "ICC, EXIF and XMP sections"), "sections", |drawn| drawn.sections = true),
        picture(Glyphs, (320, 200), 25, "a page of text"),
        picture(Gradient, (500, 300), 100, "the largest of the suite, highest quality"),
        picture(Checker, (300, 220), 0, "a large pattern at the lowest quality"),
        picture(Saturated, (192, 128), 81, "saturated patches, high quality, between two levels of gains"),
    ];
    vectors.extend(crafted_for_all());
    let long = "glyphs-128x128-q100";
    vectors.extend((0..6).step_by(2).map(|whole| cut(long, whole, "cut in a later latent slice: what is whole is shown")));
    vectors.push(cut(long, 5, "cut in the last latent slice"));
    // Eight levels of activation scales and of gains over 201 qualities: both sides of each boundary between two levels.
    let boundaries = [1, 14, 15, 42, 43, 71, 72, 99, 100, 128, 129, 157, 158, 185, 186, 199];
    vectors.extend(boundaries.into_iter().map(|quality| {
        step("level", fill(Fill::Small), (1, 1), quality, 0, "beside a boundary between two levels of activation scales")
    }));
    vectors.extend([
        step("size", fill(Fill::Small), (1, 500), 31, 0, "a single column, eight z positions"),
        step("size", fill(Fill::Small), (500, 1), 93, 0, "a single row, eight z positions"),
        step("size", Symbols::Cheapest, (600, 400), 148, 2, "larger than any picture of the suite"),
    ]);
    vectors.extend(all_damaged("gradient-64x64-q50", "symbols-lengths-130x129-q50-l0", "flat-40x24-q50-sections"));
    Recipe { suite: "core", why: "the edge model that is part of the program, at all qualities", package: None, vectors }
}

/// A stream of chosen symbols, at a quality as the stream carries it.
fn step(name: &str, symbols: Symbols, size: (u32, u32), quality: u8, lanes_log2: u8, why: &str) -> VectorRecipe {
    let name = format!("{name}-{}x{}-s{quality}-l{lanes_log2}", size.0, size.1);
    let source = Source::Symbols { size, quality: Quality::Step(quality), symbols, lanes_log2 };
    VectorRecipe { name, why: why.to_owned(), source }
}

fn prefix(of: &str, missing: usize, why: &str) -> VectorRecipe {
    let name = format!("prefix-{missing}-of-{of}");
    VectorRecipe { name, why: why.to_owned(), source: Source::Prefix { of: of.to_owned(), missing } }
}

/// Everything that depends on data: saturation, rounding, function tables, sizes, every quality.
fn edge_cases() -> Recipe {
    let mut vectors: Vec<VectorRecipe> = (0..=200)
        .map(|quality| {
            let symbols = if quality % 2 == 0 { fill(Fill::Lengths) } else { Symbols::Walk };
            step("quality", symbols, (1, 1), quality, 0, "every quality")
        })
        .collect();
    let sizes = [(1, 500), (500, 1), (65, 63), (63, 65), (64, 65), (129, 128), (600, 400), (16, 4096), (2048, 30)];
    vectors.extend(
        sizes
            .into_iter()
            .zip([0, 33, 66, 99, 133, 167, 200, 10, 50])
            .map(|(size, quality)| step("size", fill(Fill::Small), size, quality, 0, "a shape of its own")),
    );
    vectors.extend([0, 40, 80, 120, 160, 200].into_iter().flat_map(|quality| {
        [
            step("walk", Symbols::Walk, (512, 384), quality, 0, "every edge and every escape of every table"),
            step(
                "lengths",
                fill(Fill::Lengths),
                (384, 320),
                quality,
                3,
                "every magnitude: saturation and every table of functions",
            ),
            step("extreme", fill(Fill::Extreme), (128, 128), quality, 5, "the largest symbols of both signs"),
            step("largest", fill(Fill::Largest), (64, 64), quality, 1, "the largest symbol alone"),
            step("smallest", fill(Fill::Smallest), (64, 64), quality, 2, "the smallest symbol alone"),
            step("zero", fill(Fill::Zero), (64, 128), quality, 0, "nothing but zeros"),
        ]
    }));
    let (plain, lanes) = ("extreme-128x128-s40-l5", "lengths-64x64-s77-l6");
    vectors.extend([
        step("lengths", fill(Fill::Lengths), (64, 64), 77, 6, "64 lanes"),
        step("walk", Symbols::Walk, (192, 64), 101, 4, "16 lanes"),
        VectorRecipe {
            name: format!("sections-of-{plain}"),
            why: "sixteen sections: unknown kinds, empty ones, one kind several times".to_owned(),
            source: Source::Sections { of: plain.to_owned() },
        },
        prefix(&format!("sections-of-{plain}"), 1, "cut within the last section: the payload is whole"),
        prefix(&format!("sections-of-{plain}"), 100, "cut within a section in the middle: the payload is whole"),
        prefix(plain, 1, "half a word is missing"),
        prefix(plain, 2, "a word is missing"),
        prefix(lanes, 3, "a word and a half are missing"),
        cut(plain, 0, "cut within the first latent slice"),
        cut(plain, 1, "cut within the second latent slice"),
        cut(plain, 2, "cut within the last latent slice"),
        cut(lanes, 1, "cut in a payload of 64 lanes"),
        VectorRecipe {
            name: "gray-of-size-65x63-s66-l0".to_owned(),
            why: "exact pixels of a gray picture with odd sides".to_owned(),
            source: Source::Gray { of: "size-65x63-s66-l0".to_owned() },
        },
    ]);
    let why = "a package that saturates everywhere: every quality, every table of functions, every rounding, odd shapes";
    Recipe { suite: "edge-cases", why, package: Some(Probe::Cases.path()), vectors }
}

/// Scales that are constants: at, below and above every threshold, so that every table of y is used.
fn edge_cases_scales() -> Recipe {
    let mut vectors: Vec<VectorRecipe> = [0, 127, 255]
        .into_iter()
        .flat_map(|quality| {
            [
                step("walk", Symbols::Walk, (256, 192), quality, 0, "every edge and every escape of the tables of this level"),
                step("edges", Symbols::TableEdges, (64, 64), quality, 2, "first and last symbols, and their neighbours"),
                step("extreme", fill(Fill::Extreme), (64, 64), quality, 0, "the largest symbols of both signs"),
            ]
        })
        .collect();
    vectors.extend([63, 64, 191, 192].map(|quality| {
        step("level", fill(Fill::Small), (64, 64), quality, 0, "beside a boundary between two levels of activation scales")
    }));
    vectors.extend([
        step("many", Symbols::Cheapest, (1024, 512), 0, 0, "131072 symbols of y: more than 2^17 intervals in one lane"),
        step("many", Symbols::Cheapest, (1024, 512), 255, 1, "more than 2^17 intervals in two lanes"),
    ]);
    let why = "scales at, below and above every threshold; every table of y, of 2 to 65535 bins";
    Recipe { suite: "edge-cases-scales", why, package: Some(Probe::Scales.path()), vectors }
}

/// A fixed-rate package with a window of 7, shapeless function tables and nearly everything skipped.
fn edge_cases_fixed() -> Recipe {
    let vectors = vec![
        step("zero", fill(Fill::Zero), (1, 1), 0, 0, "two symbols of z and nothing else"),
        step("zero", fill(Fill::Zero), (1, 1), 0, 6, "64 lanes for two symbols: most take nothing"),
        step("walk", Symbols::Walk, (320, 576), 0, 0, "every edge and every escape of the tables of z"),
        step("lengths", fill(Fill::Lengths), (256, 256), 0, 1, "every magnitude"),
        step("extreme", fill(Fill::Extreme), (65, 200), 0, 2, "the largest symbols of both signs"),
        step("small", fill(Fill::Small), (448, 64), 0, 3, "a window larger than the picture is high"),
    ];
    let why = "a fixed-rate package with the widest window, shapeless function tables and nearly everything skipped";
    Recipe { suite: "edge-cases-fixed", why, package: Some(Probe::Fixed.path()), vectors }
}

/// A package that shows faults of one unit: ties, ends of tables, limits that are hidden elsewhere.
fn edge_cases_ties() -> Recipe {
    let vectors = (0..4)
        .flat_map(|quality| {
            [
                step("zero", fill(Fill::Zero), (64, 64), quality, 0, "the smallest map, which the ties of the attentions need"),
                step("small", fill(Fill::Small), (64, 64), quality, 1, "the smallest map, small symbols"),
                step("lengths", fill(Fill::Lengths), (128, 64), quality, 2, "every magnitude"),
                step("extreme", fill(Fill::Extreme), (64, 64), quality, 0, "the largest symbols of both signs"),
                step("walk", Symbols::Walk, (65, 129), quality, 3, "every edge and every escape of every table"),
            ]
        })
        .collect();
    let why = "a package that shows faults of one unit: ties, ends of tables, limits and roundings that are hidden elsewhere";
    Recipe { suite: "edge-cases-ties", why, package: Some(Probe::Ties.path()), vectors }
}

/// Streams and packages that must be refused, and some that must be accepted.
fn negative() -> Recipe {
    let mut vectors = vec![
        step("sound", fill(Fill::Lengths), (64, 64), 60, 1, "what the streams of this suite are made of; decodes"),
        step("sound", Symbols::Walk, (1, 1), 35, 0, "what those are made of of which the seal alone is cut off; decodes"),
    ];
    vectors.extend(STREAMS.iter().map(|case| VectorRecipe {
        name: case.name.to_owned(),
        why: case.why.to_owned(),
        source: Source::Written { of: case.of.to_owned(), case },
    }));
    vectors.extend(packages().map(|case| VectorRecipe {
        name: format!("package-{}", case.name),
        why: case.why.to_owned(),
        source: Source::Package(case),
    }));
    let why =
        "streams and model packages that must be refused, each with the error that it must give, and some that must be taken";
    Recipe { suite: "negative", why, package: Some(Probe::Cases.path()), vectors }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_sources_come_first() {
        for recipe in all() {
            let mut seen = BTreeSet::new();
            for vector in &recipe.vectors {
                if let Source::Cut { of, .. }
                | Source::Prefix { of, .. }
                | Source::Sections { of }
                | Source::Gray { of }
                | Source::Written { of, .. }
                | Source::Damaged { of, .. } = &vector.source
                {
                    assert!(seen.contains(of), "{} needs {of}", vector.name);
                }
                assert!(seen.insert(vector.name.clone()), "two of {}", vector.name);
            }
        }
    }
}
