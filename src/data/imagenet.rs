//! ImageNet-1k: its classes, and the mean and deviation that images are normalized with (`timm.data.constants`).
use std::sync::LazyLock;

/// ImageNet's channel means in [0, 1].
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel deviations in [0, 1].
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// One class: its id in WordNet, which is the name of its folder, and a readable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synset {
    /// `n` and eight digits.
    pub wnid: &'static str,
    /// Unique among the thousand.
    pub name: &'static str,
}

static SYNSETS: LazyLock<Vec<Synset>> = LazyLock::new(|| {
    let lines = include_str!("imagenet1k.txt").lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(wnid, name)| Synset { wnid, name }).collect()
});

/// The thousand classes; a label is a position in them.
pub fn synsets() -> &'static [Synset] {
    &SYNSETS
}

/// The label of the class with the WordNet id or the name `text`.
pub fn label(text: &str) -> Option<usize> {
    SYNSETS.iter().position(|s| s.wnid == text || s.name == text)
}

/// The WordNet id in a file name: at its start as in the training archives of ImageNet, `n01440764_10026.JPEG`, or at
/// its end as in the validation set of the ImageNet that Hugging Face gives out,
/// `ILSVRC2012_val_00000001_n01440764.JPEG`.
pub fn wnid_of_file(name: &str) -> Option<&str> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let (first, last) = (stem.split_once('_')?.0, stem.rsplit_once('_')?.1);
    [first, last].into_iter().find(|part| {
        let digits = part.strip_prefix('n').unwrap_or_default();
        digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_classes_in_the_order_of_their_ids() {
        let all = synsets();
        assert_eq!(all.len(), 1000);
        assert!(all.windows(2).all(|pair| pair[0].wnid < pair[1].wnid));
        for (i, s) in all.iter().enumerate() {
            assert!(wnid_of_file(&format!("{}_1.JPEG", s.wnid)) == Some(s.wnid) && !s.name.is_empty(), "{s:?}");
            assert_eq!((label(s.wnid), label(s.name)), (Some(i), Some(i)), "{s:?}");
        }
        for (i, wnid, name) in [(0, "n01440764", "tench"), (207, "n02099601", "golden retriever")] {
            assert_eq!(all[i], Synset { wnid, name });
        }
        assert_eq!(all[999].wnid, "n15075141");
        assert_eq!((label("n00000000"), label("cat")), (None, None));
        for file in ["n0144076_1.jpg", "x01440764_1.jpg", "n01440764.jpg", "n0144076a_1.jpg", "ILSVRC2012_val_1.JPEG"] {
            assert_eq!(wnid_of_file(file), None, "{file}");
        }
        for file in ["ILSVRC2012_val_00000001_n01440764.JPEG", "n01440764_x_1.jpg", "a_n01440764.b", "n01440764_"] {
            assert_eq!(wnid_of_file(file), Some("n01440764"), "{file}");
        }
    }
}
