//! Qualities as users give them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The quality at which a picture is encoded: a percentage, 0 to 100; 50 by default. What it means in bits depends on the model.
///
/// A stream and its model use an index of 0 to [`Model::quality_steps`](crate::Model::quality_steps) instead; a percentage stands for the nearest index.
///
/// ```
/// use mlic::Quality;
///
/// let quality: Quality = "12.5".parse()?;
/// assert_eq!((quality.index(200), quality.to_string().as_str()), (25, "12.5"));
/// assert_eq!(Quality::of_index(25, 200), Some(quality));
/// assert!(Quality::new(100.5).is_err() && Quality::new(f32::NAN).is_err());
/// # Ok::<(), mlic::QualityError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Quality(f32);

/// The error for a number or text that is not a [`Quality`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a quality is a number from 0 to 100, not {got}")]
#[non_exhaustive]
pub struct QualityError {
    /// What was given.
    pub got: String,
}

impl Quality {
    /// The lowest quality.
    pub const LOWEST: Self = Self(0.0);
    /// The highest quality.
    pub const HIGHEST: Self = Self(100.0);

    /// Creates a quality from a percentage.
    ///
    /// # Errors
    /// [`QualityError`] unless `percent` is 0 to 100.
    pub fn new(percent: f32) -> Result<Self, QualityError> {
        if (0.0..=100.0).contains(&percent) { Ok(Self(percent.abs())) } else { Err(QualityError { got: percent.to_string() }) }
    }

    /// The quality as a percentage.
    #[must_use]
    pub const fn percent(self) -> f32 {
        self.0
    }

    /// The nearest quality index of a model with this many steps; a model of fixed rate has only index 0.
    #[must_use]
    pub fn index(self, steps: u8) -> u8 {
        (self.0 / 100.0 * f32::from(steps)).round() as u8
    }

    /// The quality that `index` stands for in a model with this many steps; `None` beyond them. A model of fixed rate has only the highest.
    #[must_use]
    pub fn of_index(index: u8, steps: u8) -> Option<Self> {
        match steps {
            _ if index > steps => None,
            0 => Some(Self::HIGHEST),
            _ => Some(Self(100.0 * f32::from(index) / f32::from(steps))),
        }
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self(50.0)
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Quality {
    type Err = QualityError;

    fn from_str(text: &str) -> Result<Self, QualityError> {
        let percent = text.trim().parse().ok().and_then(|percent| Self::new(percent).ok());
        percent.ok_or_else(|| QualityError { got: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_of_every_model_returns() {
        for steps in 0..=u8::MAX {
            for index in 0..=steps {
                assert_eq!(Quality::of_index(index, steps).unwrap().index(steps), index, "{index} of {steps}");
            }
            assert!(steps == u8::MAX || Quality::of_index(steps + 1, steps).is_none());
        }
    }

    #[test]
    fn only_a_percent_is_a_quality() {
        for text in ["", "x", "-1", "100.1", "nan", "inf", "5 0"] {
            assert_eq!(text.parse::<Quality>(), Err(QualityError { got: text.into() }));
        }
        assert_eq!(" 100 ".parse(), Ok(Quality::HIGHEST));
        assert_eq!(Quality::new(-0.0).unwrap().to_string(), "0");
        assert_eq!((Quality::default().index(200), Quality::HIGHEST.index(255), Quality::LOWEST.index(9)), (100, 255, 0));
    }
}
