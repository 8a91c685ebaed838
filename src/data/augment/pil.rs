//! Compares every operation with PIL, byte for byte.
use crate::data::augment::*;

const SIDE: usize = 23;
const FILL: [u8; 3] = [124, 116, 104];

/// What PIL makes of the image, as printed by tests/fixtures/augment.py: operation, argument, two pixels in the middle,
/// and a digest of all bytes.
#[rustfmt::skip]
const PIL: &[(&str, f64, [u8; 6], u32)] = &[
    ("tone::invert", 0.0, [59, 58, 98, 184, 169, 113], 0x6ac9269a),
    ("tone::solarize", 0.0, [59, 58, 98, 184, 169, 113], 0x6ac9269a),
    ("tone::solarize", 26.0, [59, 58, 98, 184, 169, 113], 0x1ce78ee4),
    ("tone::solarize", 128.0, [59, 58, 98, 71, 86, 113], 0x9f939435),
    ("tone::solarize", 256.0, [196, 197, 157, 71, 86, 142], 0x0d596ca5),
    ("tone::solarize_add", 99.0, [196, 197, 157, 170, 185, 142], 0xda7eef20),
    ("tone::solarize_add", 110.0, [196, 197, 157, 181, 196, 142], 0xac6fdd43),
    ("tone::solarize_add", 3.0, [196, 197, 157, 74, 89, 142], 0xbcd0d640),
    ("tone::posterize", 1.0, [128, 128, 128, 0, 0, 128], 0xa7cc70f7),
    ("tone::posterize", 4.0, [192, 192, 144, 64, 80, 128], 0x07c84927),
    ("tone::posterize", 8.0, [196, 197, 157, 71, 86, 142], 0x0d596ca5),
    ("tone::brightness", 0.1, [19, 19, 15, 7, 8, 14], 0xed79ef29),
    ("tone::brightness", 0.73, [143, 143, 114, 51, 62, 103], 0x002a6236),
    ("tone::brightness", 1.0, [196, 197, 157, 71, 86, 142], 0x0d596ca5),
    ("tone::brightness", 1.81, [255, 255, 255, 128, 155, 255], 0x5817c213),
    ("tone::contrast", 0.1, [125, 125, 121, 113, 114, 120], 0xda9a4b03),
    ("tone::contrast", 0.73, [174, 175, 146, 83, 94, 135], 0xbf25c0ef),
    ("tone::contrast", 1.0, [196, 197, 157, 71, 86, 142], 0x0d596ca5),
    ("tone::contrast", 1.81, [255, 255, 188, 32, 60, 161], 0x392b7cd9),
    ("tone::grayscale", 0.0, [192, 192, 192, 88, 88, 88], 0xe3e2334b),
    ("tone::auto_contrast", 0.0, [225, 226, 175, 65, 84, 156], 0x092b91ec),
    ("tone::equalize", 0.0, [232, 237, 196, 66, 88, 177], 0x2175fffb),
    ("enhance::color", 0.1, [192, 192, 188, 86, 87, 93], 0xa6e041c9),
    ("enhance::color", 0.73, [194, 195, 166, 75, 86, 127], 0x68b26409),
    ("enhance::color", 1.0, [196, 197, 157, 71, 86, 142], 0x0d596ca5),
    ("enhance::color", 1.81, [199, 201, 128, 57, 84, 185], 0xd79f4a21),
    ("enhance::sharpness", 0.1, [150, 159, 141, 105, 112, 134], 0x5e5dba38),
    ("enhance::sharpness", 0.73, [182, 185, 152, 81, 93, 139], 0xe3ed9bf2),
    ("enhance::sharpness", 1.0, [196, 197, 157, 71, 86, 142], 0x0d596ca5),
    ("enhance::sharpness", 1.81, [237, 231, 170, 40, 62, 148], 0x4760fb45),
    ("blur::gaussian_blur", 0.1, [196, 197, 157, 71, 86, 142], 0x09a18ac7),
    ("blur::gaussian_blur", 0.7, [154, 139, 138, 104, 121, 143], 0x51d223ff),
    ("blur::gaussian_blur", 1.37, [129, 123, 123, 129, 121, 129], 0xa7fee3e5),
    ("blur::gaussian_blur", 2.0, [129, 119, 119, 128, 117, 122], 0x7bc9ef73),
    ("blur::gaussian_blur", 5.5, [122, 117, 115, 122, 117, 115], 0xe4fc23fc),
    ("affine::shear_x", 0.27, [189, 170, 129, 93, 103, 134], 0x5272b319),
    ("affine::shear_x", -0.3, [203, 81, 96, 125, 105, 32], 0x6ceec2d9),
    ("affine::shear_y", 0.27, [35, 67, 34, 124, 138, 32], 0x2184053e),
    ("affine::shear_y", -0.3, [121, 59, 127, 191, 121, 55], 0x55f977b5),
    ("affine::translate_x", 0.405, [66, 93, 148, 126, 79, 26], 0x9ee3a738),
    ("affine::translate_x", -0.123, [187, 53, 64, 56, 151, 73], 0xaf06474d),
    ("affine::translate_y", 0.405, [160, 141, 240, 138, 120, 90], 0xf4ff0743),
    ("affine::translate_y", -0.123, [150, 151, 97, 222, 39, 50], 0x03a92c59),
    ("affine::rotate", 27.0, [196, 197, 157, 74, 134, 132], 0x56c0dcab),
    ("affine::rotate", -8.5, [196, 197, 157, 64, 97, 151], 0xe6533c33),
    ("affine::rotate", 30.0, [196, 197, 157, 75, 141, 133], 0xfae397b3),
];

/// The test image, by the same formula as in augment.py.
fn image() -> Vec<u8> {
    let value = |x: usize, y: usize, c: usize| {
        let noise = (7919 * x + 104_729 * y + 1_299_709 * c) % 41;
        20 + (3 * x * x + 17 * y * (c + 1) + 5 * x * y * c + noise) % 200
    };
    let at = |i: usize| value(i / 3 % SIDE, i / 3 / SIDE, i % 3) as u8;
    (0..SIDE * SIDE * 3).map(at).collect()
}

/// The image after `change`.
fn changed(change: impl FnOnce(&mut Canvas)) -> Vec<u8> {
    let (mut pixels, mut spare) = (image(), vec![7; 5]);
    change(&mut Canvas { side: SIDE, pixels: &mut pixels, spare: &mut spare });
    pixels
}

fn operation(name: &str, v: f64, c: &mut Canvas) {
    match name {
        "tone::invert" => tone::invert(c),
        "tone::solarize" => tone::solarize(c, v as u32),
        "tone::solarize_add" => tone::solarize_add(c, v as u8),
        "tone::posterize" => tone::posterize(c, v as u32),
        "tone::brightness" => tone::brightness(c, v as f32),
        "tone::contrast" => tone::contrast(c, v as f32),
        "tone::grayscale" => tone::grayscale(c),
        "tone::auto_contrast" => tone::auto_contrast(c),
        "tone::equalize" => tone::equalize(c),
        "enhance::color" => enhance::color(c, v as f32),
        "enhance::sharpness" => enhance::sharpness(c, v as f32),
        "blur::gaussian_blur" => blur::gaussian_blur(c, v as f32),
        "affine::shear_x" => affine::shear_x(c, v, FILL),
        "affine::shear_y" => affine::shear_y(c, v, FILL),
        "affine::translate_x" => affine::translate_x(c, v, FILL),
        "affine::translate_y" => affine::translate_y(c, v, FILL),
        "affine::rotate" => affine::rotate(c, v, FILL),
        other => panic!("no operation {other}"),
    }
}

/// The FNV-1a hash, as in augment.py.
fn digest(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |h, &v| (h ^ u32::from(v)).wrapping_mul(0x0100_0193))
}

#[test]
fn operations_are_those_of_pil() {
    let mut wrong = Vec::new();
    for &(name, argument, middle, expected) in PIL {
        let got = changed(|c| operation(name, argument, c));
        let pixels = &got[(SIDE * 11 + 11) * 3..][..6];
        if pixels != middle || digest(&got) != expected {
            wrong.push(format!("{name}({argument}): {pixels:?}, PIL has {middle:?} in the middle"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_color_stays_as_it_is_where_it_should() {
    for name in ["tone::auto_contrast", "tone::equalize", "enhance::sharpness", "blur::gaussian_blur"] {
        let (mut pixels, mut spare) = (vec![77; SIDE * SIDE * 3], Vec::new());
        operation(name, 1.5, &mut Canvas { side: SIDE, pixels: &mut pixels, spare: &mut spare });
        assert!(pixels.iter().all(|&v| v == 77), "{name}");
    }
}

#[test]
fn no_bits_are_black_and_one_pixel_is_an_image() {
    assert!(changed(|c| tone::posterize(c, 0)).iter().all(|&v| v == 0));
    for &(name, argument, ..) in PIL {
        operation(name, argument, &mut Canvas { side: 1, pixels: &mut [1, 2, 3], spare: &mut Vec::new() });
    }
}
