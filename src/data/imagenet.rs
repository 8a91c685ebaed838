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

/// Names of classes by the lists of torchvision and Hugging Face that are in no other way like ours.
const ALIASES: [(&str, usize); 3] = [("crane bird", 134), ("maillot", 638), ("maillot tank suit", 639)];

/// The label of the class with the WordNet id or the name `text`. All words of a synset are a name too, as in the
/// ImageNet of Hugging Face: "tench, Tinca tinca"; `_` may stand for a space.
pub fn label(text: &str) -> Option<usize> {
    let text = text.replace('_', " ");
    let named = |name: &str| SYNSETS.iter().position(|s| s.wnid == name || s.name == name);
    let alias = || ALIASES.iter().find(|(name, _)| *name == text).map(|(_, label)| *label);
    named(&text).or_else(alias).or_else(|| text.split(", ").find_map(named))
}

/// The label of each of these classes where they may be of ImageNet; `None` for one of another set. Of two names of one
/// class neither is ImageNet's. A list of all thousand in their order is known by its order: it may call two "crane".
pub fn labels(names: &[String]) -> Vec<Option<usize>> {
    const ENOUGH: usize = 990;
    let found: Vec<Option<usize>> = names.iter().map(|name| label(name)).collect();
    let here = |(i, label): (usize, &Option<usize>)| label.is_none_or(|label| label == i);
    let in_order = found.iter().enumerate().all(here) && found.iter().flatten().count() >= ENOUGH;
    if names.len() == SYNSETS.len() && in_order {
        return (0..names.len()).map(Some).collect();
    }
    let alone = |label: &Option<usize>| found.iter().filter(|other| *other == label).count() == 1;
    found.iter().map(|label| label.filter(|_| alone(label))).collect()
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
    fn a_list_in_order_is_known_by_that() {
        // words of a synset follow its first; two pairs of classes have one name, as in the list of Hugging Face
        let long = |s: &Synset| match s.name.split_once(" (") {
            Some((alike, _)) => alike.to_owned(),
            None => format!("{}, Latin word", s.name),
        };
        let mut names: Vec<String> = synsets().iter().map(long).collect();
        assert_eq!((&names[134][..], &names[517][..]), ("crane", "crane"));
        assert!(labels(&names).into_iter().eq((0..1000).map(Some)));
        names.reverse();
        assert_eq!(
            (labels(&names)[999], labels(&names)[482]),
            (Some(0), None),
            "in another order, cranes are not told"
        );
        let two = ["missile, red", "missile, blue", "tench"].map(String::from);
        assert_eq!(labels(&two), [None, None, Some(0)]);
    }

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
        for (i, name) in [(0, "tench, Tinca tinca"), (2, "great_white_shark"), (639, "maillot, tank suit")] {
            assert_eq!(label(name), Some(i), "{name}");
        }
        for file in ["n0144076_1.jpg", "x01440764_1.jpg", "n01440764.jpg", "n0144076a_1.jpg", "ILSVRC2012_val_1.JPEG"] {
            assert_eq!(wnid_of_file(file), None, "{file}");
        }
        for file in ["ILSVRC2012_val_00000001_n01440764.JPEG", "n01440764_x_1.jpg", "a_n01440764.b", "n01440764_"] {
            assert_eq!(wnid_of_file(file), Some("n01440764"), "{file}");
        }
    }
}
