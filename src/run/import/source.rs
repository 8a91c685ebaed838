//! Where weights come from: a safetensors file, a PyTorch file, the index or the folder of a sharded model.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::models::{Kind, read_pytorch};
use crate::nn::Weights;
use crate::train::weights_file;

/// Files that a folder of weights may hold, the preferred first.
const NAMES: &[&str] =
    &["model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin"];

/// The tensors of one or several files.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub weights: Weights,
    pub metadata: HashMap<String, String>,
    /// The folder that they are in.
    pub folder: PathBuf,
    /// What was left out, a line each.
    pub said: Vec<String>,
    /// The tensors of integers, which are left out.
    pub integers: Vec<String>,
}

/// The index of a sharded model, as the transformers library writes it.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Source {
    /// Reads a file, an index, or what a folder holds.
    pub fn read(path: &Path, key: Option<&str>) -> Result<Self> {
        if path.is_dir() {
            let found = NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file());
            let expected = NAMES.join(", ");
            let file =
                found.ok_or_else(|| Error::file(path, format!("is a folder without weights; expected {expected}")))?;
            return Self::read(&file, key);
        }
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let index = (Kind::of(&bytes) == Kind::Json).then(|| serde_json::from_slice::<Index>(&bytes));
        let read = match index {
            Some(Ok(index)) => shards(path, &folder, index, key)?,
            Some(Err(_)) => return Err(Error::file(path, Kind::Json.explain(&bytes))),
            None => file(path, &bytes, key)?,
        };
        Ok(Self { folder, ..read })
    }
}

/// Reads one file.
fn file(path: &Path, bytes: &[u8], key: Option<&str>) -> Result<Source> {
    if matches!(Kind::of(bytes), Kind::Zip | Kind::Pickle) {
        let read = read_pytorch(bytes, key).map_err(|reason| Error::file(path, reason))?;
        let (said, integers) = (read.left_out, read.integers);
        return Ok(Source { weights: read.weights, said, integers, ..Source::default() });
    }
    let read = weights_file::content(path, bytes)?;
    if let Some(key) = key {
        return Err(Error::argument(
            "key",
            format!("{key:?}"),
            "none: a safetensors file has no dictionaries to choose",
        ));
    }
    let mut said = Vec::new();
    if !read.integers.is_empty() {
        let names: Vec<String> = read.integers.iter().take(5).map(|(name, kind)| format!("{name} ({kind})")).collect();
        said.push(format!("left out {} tensors of integers: {}", read.integers.len(), names.join(", ")));
    }
    let integers = read.integers.into_iter().map(|(name, _)| name).collect();
    Ok(Source { weights: read.weights, metadata: read.metadata, said, integers, ..Source::default() })
}

/// Whether a file is named as one of several: `model-00001-of-00004.safetensors`.
pub(super) fn is_shard(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.rsplit_once("-of-").and_then(|(front, last)| Some((front.rsplit_once('-')?.1, last)));
    numbers.is_some_and(|(this, last)| digits(this) && digits(last))
}

/// Reads the files that an index names. Each tensor comes from the file that the index names for it.
fn shards(path: &Path, folder: &Path, index: Index, key: Option<&str>) -> Result<Source> {
    let mut files = BTreeMap::<String, Vec<String>>::new();
    for (name, file) in index.weight_map {
        let plain = Path::new(&file).file_name().is_some_and(|name| name == file.as_str());
        if !plain || file.contains('\\') {
            let expected = "the name of a file in the index's folder";
            return Err(Error::file(path, format!("has tensor `{name}` in `{file}`; expected {expected}")));
        }
        files.entry(file).or_default().push(name);
    }
    if files.is_empty() {
        return Err(Error::file(path, "is an index that names no file"));
    }
    let (mut all, count) = (Source::default(), files.len());
    for (name, tensors) in files {
        let shard = folder.join(&name);
        if !shard.is_file() {
            let missing = format!("names `{name}`, one of {count} files, which is not in its folder: download it too");
            return Err(Error::file(path, missing));
        }
        let bytes = std::fs::read(&shard).map_err(Error::io(&shard, "read"))?;
        let mut read = file(&shard, &bytes, key)?;
        let mut lacking = Vec::new();
        for tensor in tensors {
            match read.weights.remove(&tensor) {
                Some(values) => drop(all.weights.insert(tensor, values)),
                None if read.integers.contains(&tensor) => {}
                None => lacking.push(tensor),
            }
        }
        if let Some(first) = lacking.first() {
            let reason = format!("lacks {} tensors that {} names, such as `{first}`", lacking.len(), path.display());
            return Err(Error::file(&shard, reason));
        }
        if let Some(more) = read.weights.keys().next() {
            let count = read.weights.len();
            let reason = format!("has {count} tensors that {} does not name, such as `{more}`", path.display());
            return Err(Error::file(&shard, reason));
        }
        all.metadata.extend(read.metadata);
        all.said.extend(read.said);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::runner;
    use crate::train::fuzz::{damage, damaged};
    use crate::train::weights_file::{Integers, to_bytes_with};
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

    /// The folder of a model in two files, what its index says, and its weights. Both files hold integers too.
    fn model() -> (tempfile::TempDir, BTreeMap<String, String>, Weights) {
        let dir = tempfile::tempdir().unwrap();
        let (mut map, mut all) = (BTreeMap::new(), Weights::new());
        for (k, file) in SHARDS.into_iter().enumerate() {
            let own: Weights = (0..3).map(|i| (format!("{k}.{i}"), (vec![2], vec![k as f32, i as f32]))).collect();
            let counts: Integers = (0..9).map(|i| (format!("{k}.count.{i}"), vec![i])).collect();
            std::fs::write(dir.path().join(file), to_bytes_with(&own, &counts, HashMap::new()).unwrap()).unwrap();
            map.extend(own.keys().chain(counts.keys()).map(|name| (name.clone(), file.to_owned())));
            all.extend(own);
        }
        (dir, map, all)
    }

    fn index(map: &BTreeMap<String, String>) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({ "metadata": { "total_size": 48 }, "weight_map": map })).unwrap()
    }

    /// Indices that somebody damaged or made up: what is read are tensors of the files beside the index, all of them.
    #[test]
    fn any_index_gives_the_model_or_a_reason() {
        let (dir, map, weights) = model();
        let path = dir.path().join(NAMES[0]);
        std::fs::write(dir.path().join("other.safetensors"), b"{}").unwrap();
        std::fs::write(&path, index(&map)).unwrap();
        assert_eq!(Source::read(dir.path(), None).unwrap().weights, weights);
        let files =
            ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "nul\0", "\u{fffd}", NAMES[0], "other.safetensors"];
        let file = prop_oneof![prop::sample::select(files.to_vec()), prop::sample::select(SHARDS.to_vec())];
        let name = prop_oneof![prop::sample::select(map.keys().cloned().collect::<Vec<_>>()), ".{0,3}"];
        let changes = prop::collection::vec((name, prop::option::of(file)), 0..4);
        let run = runner().run(&(changes, prop::option::of(damage())), |(changes, damage)| {
            let mut map = map.clone();
            for (name, file) in changes {
                match file {
                    Some(file) => drop(map.insert(name, file.to_owned())),
                    None => drop(map.remove(&name)),
                }
            }
            let bytes = damage.map_or_else(|| index(&map), |damage| damaged(&index(&map), damage));
            std::fs::write(&path, bytes).unwrap();
            let begun = Instant::now();
            let read = Source::read(dir.path(), None);
            prop_assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
            if let Ok(read) = read {
                let whole = |k: &str| weights.iter().filter(|(name, _)| name.starts_with(k)).count();
                let (one, two) = (whole("0"), whole("1"));
                prop_assert!(read.weights.iter().all(|(name, values)| weights.get(name) == Some(values)));
                prop_assert!([one, two, one + two].contains(&read.weights.len()), "{:?}", read.weights.keys());
            }
            Ok(())
        });
        run.unwrap();
    }
}
