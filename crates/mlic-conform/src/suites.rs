//! What the suites consist of. Blessing turns these recipes into streams and manifests.

use mlic_backend::contract::Fill;

use crate::craft::Symbols;
use crate::damage::Damage;
use crate::scene::Scene;

/// A suite to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Name.
    pub suite: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// Package within the conformance data; none for the model that is part of the program.
    pub package: Option<&'static str>,
    /// Its vectors.
    pub vectors: Vec<VectorRecipe>,
}

/// A vector to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorRecipe {
    /// Name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// Where its stream comes from.
    pub source: Source,
}

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// An encoded picture.
    Picture(Drawn),
    /// Chosen symbols.
    Symbols {
        /// Width and height.
        size: (u32, u32),
        /// Quality, 0 to 100.
        percent: u8,
        /// Which symbols.
        symbols: Symbols,
        /// Binary logarithm of the lane count.
        lanes_log2: u8,
    },
    /// Another vector, cut so that this many latent slices are whole.
    Cut {
        /// Its name.
        of: String,
        /// Whole slices.
        whole_slices: usize,
    },
    /// Another vector, damaged.
    Damaged {
        /// Its name.
        of: String,
        /// How.
        damage: Damage,
    },
}

/// A picture to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// What it shows.
    pub scene: Scene,
    /// Width and height.
    pub size: (u32, u32),
    /// Quality, 0 to 100.
    pub percent: u8,
    /// Without colour.
    pub gray: bool,
    /// With ICC, EXIF and XMP sections.
    pub sections: bool,
}

/// All suites.
#[must_use]
pub fn all() -> Vec<Recipe> {
    vec![smoke(), core()]
}

/// A suite by its name.
#[must_use]
pub fn find(name: &str) -> Option<Recipe> {
    all().into_iter().find(|recipe| recipe.suite == name)
}

fn picture(scene: Scene, size: (u32, u32), percent: u8, why: &str) -> VectorRecipe {
    let name = format!("{}-{}x{}-q{percent}", format!("{scene:?}").to_lowercase(), size.0, size.1);
    let source = Source::Picture(Drawn { scene, size, percent, gray: false, sections: false });
    VectorRecipe { name, why: why.to_owned(), source }
}

/// Changes the picture of a vector.
fn with(mut vector: VectorRecipe, suffix: &str, change: impl FnOnce(&mut Drawn)) -> VectorRecipe {
    vector.name = format!("{}-{suffix}", vector.name);
    if let Source::Picture(drawn) = &mut vector.source {
        change(drawn);
    }
    vector
}

fn symbols(name: &str, symbols: Symbols, size: (u32, u32), percent: u8, lanes_log2: u8, why: &str) -> VectorRecipe {
    let name = format!("symbols-{name}-{}x{}-q{percent}-l{lanes_log2}", size.0, size.1);
    VectorRecipe { name, why: why.to_owned(), source: Source::Symbols { size, percent, symbols, lanes_log2 } }
}

fn cut(of: &str, whole_slices: usize, why: &str) -> VectorRecipe {
    let name = format!("cut-{whole_slices}-of-{of}");
    VectorRecipe { name, why: why.to_owned(), source: Source::Cut { of: of.to_owned(), whole_slices } }
}

fn damaged(of: &str, damage: Damage) -> VectorRecipe {
    let (name, _, _, why) = damage.describe();
    let source = Source::Damaged { of: of.to_owned(), damage };
    VectorRecipe { name: format!("bad-{}", name.trim_start_matches("bad-")), why: why.to_owned(), source }
}

/// Every damage, each of the vector that suits it.
fn all_damaged<'a>(plain: &'a str, long_z: &'a str, with_sections: &'a str) -> impl Iterator<Item = VectorRecipe> + 'a {
    Damage::ALL.into_iter().map(move |damage| match damage {
        Damage::SectionBit => damaged(with_sections, damage),
        Damage::CutInZ => damaged(long_z, damage),
        _ => damaged(plain, damage),
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

/// Chosen symbols: what saturates, what escapes, and every kind of lane count.
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
    vectors.extend(all_damaged("gradient-64x64-q50", "symbols-lengths-130x129-q50-l0", "flat-40x24-q50-sections"));
    Recipe { suite: "core", why: "the edge model that is part of the program, at all qualities", package: None, vectors }
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
                if let Source::Cut { of, .. } | Source::Damaged { of, .. } = &vector.source {
                    assert!(seen.contains(of), "{} needs {of}", vector.name);
                }
                assert!(seen.insert(vector.name.clone()), "two of {}", vector.name);
            }
        }
    }
}
