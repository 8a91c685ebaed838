//! Which columns hold images and classes: what the metadata of Hugging Face say, or else what they are called.
use super::schema::{Footer, Leaf, Physical};

/// Names of a column of images, the preferred one first.
const IMAGES: [&str; 8] = ["image", "img", "jpg", "jpeg", "png", "picture", "photo", "image_bytes"];
/// Names of a column of classes, the preferred one first.
const LABELS: [&str; 9] =
    ["label", "labels", "fine_label", "cls", "class", "class_id", "class_index", "target", "category"];

/// The columns of a file that are read.
#[derive(Debug, PartialEq)]
pub(super) struct Columns {
    /// Position of the column of images among the leaves.
    pub image: usize,
    /// Name and position of the column of classes.
    pub label: Option<String>,
    pub label_leaf: Option<usize>,
    /// Class names.
    pub names: Option<Vec<String>>,
    /// Why there are no classes.
    pub unlabeled: String,
}

impl Columns {
    pub fn of(footer: &Footer) -> Result<Self, String> {
        let features = footer.huggingface.as_deref().map(serde_json::from_str::<serde_json::Value>);
        let features = features.transpose().map_err(|e| format!("its metadata of Hugging Face are no JSON: {e}"))?;
        let features = features.as_ref().and_then(|value| value.get("info")?.get("features")?.as_object());
        let of_type = |kind: &str| -> Vec<&str> {
            let is = |value: &serde_json::Value| value.get("_type").and_then(|v| v.as_str()) == Some(kind);
            features.into_iter().flatten().filter(|(_, value)| is(value)).map(|(name, _)| name.as_str()).collect()
        };
        let image = image(&footer.leaves, &of_type("Image"))?;
        let known = of_type("ClassLabel");
        let by_name = LABELS.iter().find(|name| known.contains(name)).or(known.first()).copied();
        let by_name =
            by_name.or_else(|| LABELS.into_iter().find(|name| footer.leaves.iter().any(|leaf| leaf.path[0] == **name)));
        let all = || footer.leaves.iter().map(|leaf| leaf.path.join(".")).collect::<Vec<_>>().join(", ");
        let Some(label) = by_name else {
            let unlabeled = format!("no column is called {}: it has {}", LABELS.join(", "), all());
            return Ok(Self { image, label: None, label_leaf: None, names: None, unlabeled });
        };
        let Some(at) = footer.leaves.iter().position(|leaf| leaf.path == [label]) else {
            return Err(format!("column {label} is no plain column of classes; it has {}", all()));
        };
        let leaf = &footer.leaves[at];
        if leaf.repeated || matches!(leaf.physical, Physical::Other(_)) {
            return Err(format!("column {label} holds {:?}, expected whole numbers or text", leaf.physical));
        }
        let names = features.and_then(|features| features.get(label)?.get("names")?.as_array());
        let names = names.map(|names| names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect());
        Ok(Self { image, label: Some(label.to_owned()), label_leaf: Some(at), names, unlabeled: String::new() })
    }
}

/// The leaf that holds encoded images: the bytes of a struct {bytes, path}, or a column of bytes.
fn image(leaves: &[Leaf], known: &[&str]) -> Result<usize, String> {
    let bytes = |leaf: &Leaf| leaf.physical == Physical::Bytes && !leaf.repeated;
    let candidates: Vec<usize> = (0..leaves.len())
        .filter(|&i| match &leaves[i].path[..] {
            [_, inner] => inner == "bytes" && bytes(&leaves[i]),
            [name] => bytes(&leaves[i]) && (!leaves[i].is_text || known.contains(&name.as_str())),
            _ => false,
        })
        .collect();
    let named = |name: &str| candidates.iter().copied().find(|&i| leaves[i].path[0] == name);
    let preferred = IMAGES.iter().filter(|name| known.is_empty() || known.contains(name)).find_map(|name| named(name));
    let found = preferred.or_else(|| known.iter().find_map(|name| named(name)));
    match (found, &candidates[..]) {
        (Some(i), _) => Ok(i),
        (None, [only]) => Ok(*only),
        (None, _) => {
            let all: Vec<String> = leaves.iter().map(|leaf| leaf.path.join(".")).collect();
            Err(format!(
                "has the columns {}, expected a column `image` of bytes, or of a struct of bytes and path",
                all.join(", ")
            ))
        }
    }
}
