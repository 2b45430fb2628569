use super::*;

/// A textured picture and a copy of it that is darker by k/8 and noisy: integers only, so that Python makes the same.
fn pair(width: u32, height: u32, k: i64) -> (Image, Image) {
    let (mut clean, mut noisy) = (Vec::new(), Vec::new());
    for (y, x) in (0..i64::from(height)).flat_map(|y| (0..i64::from(width)).map(move |x| (y, x))) {
        for c in 0..3 {
            let base = (x * 3 + y * 2 + 40 * c + x * y / 16) % 256;
            let noise = (x * 7919 + y * 104_729 + c * 1_299_709) % 1_000_003 * 31 % 97;
            clean.push(base as u8);
            noisy.push((base * (8 - k) / 8 + ((noise - 48) * k).div_euclid(4)).clamp(0, 255) as u8);
        }
    }
    (Image::from_rgb(width, height, clean).unwrap(), Image::from_rgb(width, height, noisy).unwrap())
}

/// pytorch_msssim 1.0.0, `ms_ssim(a.double(), b.double(), data_range=255)`, torch 2.15 on the same two arrays; PSNR by
/// numpy. Its float32 result, which CompressAI's tables hold, differs from these by up to 3e-7.
#[test]
fn psnr_and_ms_ssim_agree_with_pytorch() {
    for (width, height, k, expected_psnr, expected_ms_ssim) in [
        (161, 161, 1, 21.967674187, 0.984493162),
        (161, 161, 4, 10.258817953, 0.704344278),
        (192, 176, 1, 21.970230980, 0.985301086),
        (192, 176, 4, 10.261902119, 0.712074659),
        (203, 187, 1, 21.966086697, 0.985562409),
        (203, 187, 4, 10.257675318, 0.714209354),
    ] {
        let (a, b) = pair(width, height, k);
        let (psnr, ms_ssim) = (psnr(&a, &b).unwrap(), ms_ssim(&a, &b).unwrap().unwrap());
        assert!((psnr - expected_psnr).abs() < 1e-8, "{width}x{height}: PSNR {psnr}, expected {expected_psnr}");
        assert!((ms_ssim - expected_ms_ssim).abs() < 1e-7, "{width}x{height}: MS-SSIM {ms_ssim}, expected {expected_ms_ssim}");
    }
}

#[test]
fn a_picture_without_all_its_samples_has_no_figures() {
    let (whole, mut cut) = pair(170, 161, 1);
    cut.rgb.pop();
    let expected = Some(MetricsError::Samples { width: 170, height: 161, got: 3 * 170 * 161 - 1 });
    assert_eq!((psnr(&whole, &cut).err(), ms_ssim(&cut, &cut).err()), (expected.clone(), expected));
}

#[test]
fn equal_pictures_are_perfect_and_small_ones_have_no_ms_ssim() {
    let (a, _) = pair(170, 161, 1);
    assert_eq!(psnr(&a, &a), Ok(f64::INFINITY));
    assert!((ms_ssim(&a, &a).unwrap().unwrap() - 1.0).abs() < 1e-12);
    let (a, b) = pair(500, 160, 1);
    assert_eq!(ms_ssim(&a, &b), Ok(None));
    let (other, _) = pair(160, 500, 1);
    assert_eq!(psnr(&a, &other), Err(MetricsError::SizeMismatch { left: (500, 160), right: (160, 500) }));
}

/// Mean points on Kodak, from `anchors/kodak_rd.json`.
const VTM_9_1: [(f64, f64); 8] = [
    (0.04824, 26.1448),
    (0.1125, 28.493),
    (0.24582, 31.1999),
    (0.49055, 34.2615),
    (0.87481, 37.4198),
    (1.43085, 40.4244),
    (2.32461, 43.5058),
    (3.63261, 46.5918),
];
const MLICPP_PAPER: [(f64, f64); 6] =
    [(0.1075, 29.161), (0.1747, 30.7137), (0.2721, 32.3345), (0.4129, 34.1702), (0.5923, 35.8161), (0.8025, 37.3229)];
const HM_16_20: [(f64, f64); 8] = [
    (0.05144, 25.4111),
    (0.12087, 27.7464),
    (0.26666, 30.4466),
    (0.52953, 33.5049),
    (0.95037, 36.7825),
    (1.5596, 39.9949),
    (2.47606, 43.088),
    (3.84556, 46.1432),
];

fn points(table: &[(f64, f64)]) -> Vec<RatePoint> {
    table.iter().map(|&(bpp, psnr)| RatePoint { bpp, psnr }).collect()
}

/// bjontegaard 1.3.0, `bd_rate(.., method="pchip")`. The paper against VTM-9.1 is the -15.0 % that the anchors state.
#[test]
fn bd_rates_agree_with_the_bjontegaard_package() {
    let anchor = points(&VTM_9_1);
    for (test, expected) in [(points(&MLICPP_PAPER), -15.017243120046986), (points(&HM_16_20), 23.306370165840985)] {
        let got = bd_rate(&anchor, &test).unwrap();
        assert!((got - expected).abs() < 1e-9, "{got}, expected {expected}");
    }
    let mut backwards = points(&MLICPP_PAPER);
    backwards.reverse();
    assert_eq!(bd_rate(&anchor, &backwards), bd_rate(&anchor, &points(&MLICPP_PAPER)));
    assert_eq!(bd_rate(&anchor, &anchor), Ok(0.0));
}

/// A rate that is a constant factor of the anchor's has that factor as its delta, whatever the interpolation.
#[test]
fn a_constant_factor_is_the_delta() {
    let anchor = points(&VTM_9_1);
    let halved: Vec<_> = anchor.iter().map(|p| RatePoint { bpp: p.bpp / 2.0, ..*p }).collect();
    assert!((bd_rate(&anchor, &halved).unwrap() + 50.0).abs() < 1e-9);
}

#[test]
fn curves_without_a_delta_are_refused_by_name() {
    let anchor = points(&VTM_9_1);
    let few = bd_rate(&anchor, &anchor[..3]);
    assert_eq!(few, Err(MetricsError::TooFewPoints { curve: "the test", got: 3, least: 4 }));
    let far: Vec<_> = anchor.iter().map(|p| RatePoint { psnr: p.psnr + 30.0, ..*p }).collect();
    assert!(matches!(bd_rate(&anchor, &far), Err(MetricsError::NoOverlap { .. })));
    let mut twice = anchor.clone();
    twice.push(anchor[0]);
    assert!(matches!(bd_rate(&twice, &anchor), Err(MetricsError::RepeatedQuality { curve: "the anchor", .. })));
    let mut perfect = anchor.clone();
    perfect[7].psnr = f64::INFINITY;
    assert!(matches!(bd_rate(&anchor, &perfect), Err(MetricsError::BadPoint { curve: "the test", .. })));
}
