//! Conversion between the qualities of users, 0 to 100, and those of streams, an index into the steps of a model.

use mlic::Quality;

/// The quality that an index of a model stands for; `None` if the model has one quality only, or no such index.
pub(crate) fn percent(index: u8, steps: u8) -> Option<f32> {
    Quality::of_index(index, steps).filter(|_| steps > 0).map(Quality::percent)
}

/// A quality as text for people; `steps` is `None` if the model is not at hand.
pub(crate) fn describe(index: u8, steps: Option<u8>) -> String {
    match (steps, steps.and_then(|steps| percent(index, steps))) {
        (Some(0), _) if index == 0 => "the only one of this model".into(),
        (Some(steps), Some(percent)) => format!("{percent} (index {index} of {steps})"),
        (Some(steps), None) => format!("index {index}, above the model's {steps}"),
        (None, _) => format!("index {index} of a model that is not at hand"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_the_user_comes_first() {
        assert_eq!(describe(100, Some(200)), "50 (index 100 of 200)");
        assert_eq!(describe(1, Some(200)), "0.5 (index 1 of 200)");
        assert_eq!(describe(0, Some(0)), "the only one of this model");
        assert_eq!(describe(7, None), "index 7 of a model that is not at hand");
        assert_eq!(percent(201, 200), None);
        assert_eq!(describe(201, Some(200)), "index 201, above the model's 200");
        assert_eq!(describe(1, Some(0)), "index 1, above the model's 0");
    }
}
