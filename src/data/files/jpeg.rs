//! Where a JPEG ends. Phones and editors put more behind it (a movie, a second picture), and a file that was cut must
//! not be taken for a whole one: a decoder fills what is missing with gray.

use std::ops::Range;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

/// Whether `bytes` begin like a JPEG.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, SOI])
}

/// Number of bytes up to and with the end marker of the first image of `bytes`; none if that image is cut.
///
/// A cut inside a segment of an application is found by what stands there: a thumbnail ends inside its segment, but
/// where a second image follows the cut, the walk goes on inside that one and both have the same end.
pub(crate) fn jpeg_end(bytes: &[u8]) -> Option<usize> {
    let mut inside = Vec::new();
    let end = walk(bytes, |segment| inside.extend(images_in(bytes, segment)))?;
    let follows = |&at: &usize| walk(&bytes[at..], |_| {}).is_some_and(|length| at + length == end);
    (inside.len() <= MOST_INSIDE && !inside.iter().any(follows)).then_some(end)
}

/// Beginnings of images that may stand inside segments. Cameras write one or two thumbnails; a hostile file with
/// thousands of beginnings would take hours.
const MOST_INSIDE: usize = 64;

/// Where in `segment` the bytes are those with which an image begins. The first byte behind the segment counts too: it
/// may be the third of a beginning that a cut let in.
fn images_in(bytes: &[u8], segment: Range<usize>) -> impl Iterator<Item = usize> {
    let all = bytes[segment.start..bytes.len().min(segment.end + 1)].windows(3).enumerate();
    all.filter(|(_, three)| *three == [0xff, SOI, 0xff]).map(move |(at, _)| segment.start + at)
}

/// The end of the first image, as the lengths of its segments lead there. `may_hold` gets each segment that may hold
/// another image.
///
/// The segments are walked as ITU-T T.81 lays them out, because any two bytes may stand inside them: the thumbnail in
/// an EXIF segment has an end marker of its own. The entropy-coded data behind a start of scan ends at the first marker
/// that is no restart (ff d0 to ff d7); in it, ff 00 stands for the byte ff.
fn walk(bytes: &[u8], mut may_hold: impl FnMut(Range<usize>)) -> Option<usize> {
    let (mut at, mut scans) = (2, 0);
    loop {
        // A segment whose length leads to anything but a marker was cut, and something else follows.
        if bytes.get(at)? != &0xff {
            return None;
        }
        // Bytes of ff may fill the room before a marker.
        while bytes.get(at)? == &0xff {
            at += 1;
        }
        let marker = bytes[at];
        at += 1;
        match marker {
            // Tables alone are no image: the walk has come to bytes inside a segment of a second one.
            EOI => return (scans > 0).then_some(at),
            // A second image begins before this one has ended; what is below c0 is reserved or entropy-coded data.
            SOI | 0x00 | 0x02..=0xbf => return None,
            0x01 | 0xd0..=0xd7 => continue,
            // Behind the first scan come only tables (DHT, DQT, DAC, DNL, DRI, APPn, COM) and more scans.
            SOS | 0xc4 | 0xcc | 0xdb..=0xdd | 0xe0..=0xef | 0xfe => {}
            _ if scans > 0 => return None,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        if length < 2 || at + length > bytes.len() {
            return None;
        }
        let thumbnail = match marker {
            0xe0 => bytes[at + 2..].starts_with(b"JFXX"),
            0xe1..=0xef | 0xfe => true,
            _ => false,
        };
        // Tables and headers hold no image, and neither do the two bytes of a length.
        let refused = if thumbnail { at..at + 2 } else { at..at + length };
        if images_in(bytes, refused).next().is_some() {
            return None;
        }
        if thumbnail {
            may_hold(at..at + length);
        }
        at += length;
        if marker == SOS {
            scans += 1;
            at = scan_end(bytes, at)?;
        }
    }
}

/// Position of the marker that ends the entropy-coded data from `at` on.
fn scan_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        match bytes.get(at + 1)? {
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// A progressive JPEG of 16 × 12 pixels with restart markers and an EXIF thumbnail, made by Pillow:
    /// tests/fixtures/data_sets.py.
    const PROGRESSIVE: &[u8] = include_bytes!("../../../tests/fixtures/data/progressive.jpg");

    fn baseline(width: u32, height: u32, seed: u32) -> Vec<u8> {
        let noise = |x: u32, y: u32| image::Rgb([x * y + seed, (x * 37) ^ seed, y * 91 + x].map(|v| v as u8));
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::from_fn(width, height, noise).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    fn images() -> [Vec<u8>; 3] {
        [baseline(40, 33, 7), baseline(1, 1, 0), PROGRESSIVE.to_vec()]
    }

    #[test]
    fn what_follows_does_not_count() {
        let movie = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42 \xff\xda \xff\xd8 \xff\xd9".to_vec();
        for whole in images() {
            assert_eq!(jpeg_end(&whole), Some(whole.len()));
            for tail in
                [&b"\xff\xda"[..], b"\xff\xd8\xff", b"\xff\xd9\xff\xda", &movie, &whole, &PROGRESSIVE[..99], &[0]]
            {
                assert_eq!(jpeg_end(&[&whole, tail].concat()), Some(whole.len()), "{tail:?}");
            }
        }
    }

    #[test]
    fn every_cut_is_found_whatever_follows() {
        for whole in images() {
            for cut in 2..whole.len() {
                for tail in [&b""[..], &[0; 5000], b"\0\0\0\x18ftypmp42", &whole, PROGRESSIVE] {
                    let bytes = [&whole[..cut], tail].concat();
                    assert_eq!(jpeg_end(&bytes), None, "cut at {cut} of {}", whole.len());
                }
            }
        }
    }

    /// A second image may lie so that the length of a cut segment leads to one of its markers, or to one of its
    /// thumbnail's.
    #[test]
    fn no_second_image_stands_in_for_one_that_is_cut_inside_a_segment() {
        let second = baseline(40, 33, 7);
        let thumbnail = [&b"\xff\xd8\xff\xe1\x00\x80"[..], &[7; 0x7e], &second[2..]].concat();
        let with_thumbnail = [&b"\xff\xd8\xff\xe1"[..], &(thumbnail.len() as u16 + 2).to_be_bytes(), &thumbnail];
        let with_thumbnail = [&with_thumbnail.concat()[..], &second[2..]].concat();
        for follows in [&second[..], PROGRESSIVE, &thumbnail, &with_thumbnail] {
            assert_eq!(jpeg_end(follows), Some(follows.len()));
            for length in 2..follows.len().min(3000) {
                for kept in [0, 1, 40] {
                    let segment = (2 + kept + length) as u16;
                    for marker in [0xe1, 0xed, 0xfe] {
                        let first = [&[0xff, SOI, 0xff, marker][..], &segment.to_be_bytes(), &vec![9; kept]].concat();
                        assert_eq!(jpeg_end(&[&first, follows].concat()), None, "{length} bytes, {kept} kept");
                    }
                }
            }
        }
    }

    #[test]
    fn a_thumbnail_may_be_cut_and_beginnings_are_counted() {
        let image = baseline(40, 33, 7);
        let with = |payload: &[u8]| {
            let length = (payload.len() as u16 + 2).to_be_bytes();
            [&image[..2], &[0xff, 0xe2], &length, payload, &image[2..]].concat()
        };
        let small = baseline(8, 8, 0);
        let passes = |length: &usize| {
            let bytes = with(&small[..*length]);
            jpeg_end(&bytes) == Some(bytes.len())
        };
        // One that is cut in its head, where a segment of the image goes on, cannot be told from that image.
        let refused: Vec<usize> = (0..small.len()).filter(|length| !passes(length)).collect();
        let scan = small.windows(2).position(|two| two == [0xff, SOS]).unwrap();
        assert!(refused.len() < 40 && refused.iter().all(|&length| length < scan + 14), "{refused:?}");
        let bytes = with(&b"\xff\xd8\xff ".repeat(MOST_INSIDE + 1));
        assert_eq!(jpeg_end(&bytes), None);
    }

    #[test]
    fn thumbnails_and_fill_bytes_are_no_ends() {
        let thumbnail = b"\xff\xe1\x00\x0c\xff\xd8\xff\xda..\xff\xd9\xff\xda";
        let scan = b"\xff\xda\x00\x04..\x12\xff\x00\xff\xd0\x34\xff\xff\xd7\x56";
        let image = [&b"\xff\xd8"[..], thumbnail, scan, b"\xff\xc4\x00\x02", scan, b"\xff\xff\xff\xd9"].concat();
        assert_eq!(jpeg_end(&[&image, &b"more \xff\xd9"[..]].concat()), Some(image.len()));
        assert_eq!(jpeg_end(&[&b"\xff\xd8"[..], thumbnail, scan].concat()), None);
        assert_eq!(jpeg_end(&[&b"\xff\xd8"[..], thumbnail, scan, b"\xff\xc0\x00\x02\xff\xd9"].concat()), None);
        assert_eq!(jpeg_end(b"\xff\xd8\xff\xe0\x00\x01\xff\xd9"), None, "a length below 2");
        assert_eq!(jpeg_end(b"\xff\xd8\xff\xe0\x00\x02\xff\xd9"), None, "no scan");
    }

    /// An image with segments of applications in it: of random bytes, or of a thumbnail.
    fn with_segments() -> impl Strategy<Value = Vec<u8>> {
        // by chance, the beginning of an image might go on in the image that is around it
        let byte = any::<u8>().prop_map(|byte| if byte == SOI { 0 } else { byte });
        let bytes = prop::collection::vec(prop_oneof![byte, Just(0xff), Just(0xe1)], 0..60);
        let payload = prop_oneof![bytes, (0usize..2).prop_map(|which| images()[which].clone())];
        let marker = prop::sample::select(vec![0xe1, 0xe2, 0xed, 0xfe]);
        (0usize..3, prop::collection::vec((marker, payload), 0..3)).prop_map(|(which, segments)| {
            let image = &images()[which];
            let mut bytes = image[..2].to_vec();
            for (marker, payload) in segments {
                bytes.extend([0xff, marker]);
                bytes.extend((payload.len() as u16 + 2).to_be_bytes());
                bytes.extend(payload);
            }
            bytes.extend(&image[2..]);
            bytes
        })
    }

    proptest! {
        #[test]
        fn a_cut_image_is_found_before_any_other(
            first in with_segments(), at in any::<prop::sample::Index>(), second in with_segments(),
        ) {
            prop_assert_eq!(jpeg_end(&first), Some(first.len()));
            let cut = 2 + at.index(first.len() - 2);
            prop_assert_eq!(jpeg_end(&[&first[..cut], &second].concat()), None, "cut at {}", cut);
        }

        #[test]
        fn random_tails_change_nothing(tail in proptest::collection::vec(any::<u8>(), 0..4096), which in 0usize..3) {
            let whole = &images()[which];
            prop_assert_eq!(jpeg_end(&[whole.as_slice(), &tail].concat()), Some(whole.len()));
        }

        #[test]
        fn any_bytes_have_an_end_inside_them_or_none(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(0xff), Just(0xd9), Just(0xda), Just(0)], 0..600,
        )) {
            let bytes = [&b"\xff\xd8"[..], &bytes].concat();
            if let Some(end) = jpeg_end(&bytes) {
                prop_assert!(end <= bytes.len() && bytes[..end].ends_with(&[0xff, EOI]));
            }
        }
    }
}
