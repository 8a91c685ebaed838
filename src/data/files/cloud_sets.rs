//! Sets of clouds: a folder by class, ModelNet40 and ShapeNet-55.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clouds::read_cloud;
use crate::data::files::layout::{Found, Layout, Place};
use crate::data::files::listing::{Listing, arrange};
use crate::data::files::numbering::{Numbering, by_numbering};
use crate::data::files::walk;
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;

/// Clouds and meshes.
pub(crate) const LAYOUT: Layout = Layout {
    name: "point clouds",
    help: "modelnet40_normal_resampled, ShapeNet55-34, or a folder of .off, .ply, .obj, .stl, .npy, .xyz or .pts per \
           class, as images lie",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    if !place.is_folder() {
        return Ok(None);
    }
    if let Some(set) = modelnet(place.path, split)? {
        return Ok(Some(Box::new(set)));
    }
    if let Some(set) = shapenet(place.path, split)? {
        return Ok(Some(Box::new(set)));
    }
    let below = place.below()?;
    if below.clouds.is_empty() || !below.images.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(Clouds::of_folder(place.path, &below, split)?)))
}

/// Files of one split, and their classes.
struct Clouds {
    paths: Vec<PathBuf>,
    numbering: Numbering,
    /// Points of a cloud that are kept, by farthest point sampling.
    most: usize,
    /// What the other split is made of.
    other: Option<(PathBuf, Arc<walk::Files>)>,
}

impl Clouds {
    fn of_folder(root: &Path, below: &Arc<walk::Files>, split: Split) -> Result<Self, DataError> {
        let names: Vec<&str> = below.clouds.iter().map(|(name, _)| name.as_str()).collect();
        let Listing { order, numbering } = arrange(root, &names, split)?;
        let paths = order.into_iter().map(|i| below.clouds[i].1.clone()).collect();
        Ok(Self { paths, numbering, most: usize::MAX, other: Some((root.to_owned(), below.clone())) })
    }
}

impl Source for Clouds {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        let (root, below) = self.other.as_ref()?;
        let test = Self::of_folder(root, below, Split::Test);
        Some(test.map(|set| Box::new(set) as Box<dyn Source>))
    }

    by_numbering!();

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        read_cloud(&self.paths[index], index, self.most).map(Sample::Points)
    }
}

/// The lines of a list, without those that are empty.
fn list(path: &Path) -> Result<Vec<String>, DataError> {
    let text = fs::read_to_string(path).map_err(DataError::io("read", path))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Test => "test",
    }
}

/// Points of a cloud of ModelNet40 that Point-MAE and Mamba3D train on, of 10,000: `N_POINTS`.
const MODELNET: usize = 8192;

/// `modelnet40_normal_resampled`: lists of ids such as `flower_pot_0012`, whose class is all but the last part, and
/// `<class>/<id>.txt` with x, y, z and a normal on each line. The same for `modelnet10`.
fn modelnet(root: &Path, split: Split) -> Result<Option<Clouds>, DataError> {
    for set in ["modelnet40", "modelnet10"] {
        let names = root.join(format!("{set}_shape_names.txt"));
        if !names.is_file() {
            continue;
        }
        let classes = list(&names)?;
        let ids = root.join(format!("{set}_{}.txt", split_name(split)));
        let (mut paths, mut labels) = (Vec::new(), Vec::new());
        for id in list(&ids)? {
            let class = id.rsplit_once('_').map_or("", |(class, _)| class);
            let label = classes.iter().position(|name| name == class);
            let unknown = || DataError::format(&ids, format!("names {id}, whose class is not in {}", names.display()));
            labels.push(label.ok_or_else(unknown)? as u32);
            paths.push(root.join(class).join(format!("{id}.txt")));
        }
        let numbering = Numbering { labels, classes, unlabeled: None };
        return Ok(Some(Clouds { paths, numbering, most: MODELNET, other: None }));
    }
    Ok(None)
}

/// `ShapeNet55-34`: lists of names `<taxonomy>-<model>.npy`, the taxonomy being the class, and
/// `shapenet_pc` with these.
fn shapenet(root: &Path, split: Split) -> Result<Option<Clouds>, DataError> {
    let (lists, clouds) = (root.join("ShapeNet-55"), root.join("shapenet_pc"));
    if !lists.is_dir() || !clouds.is_dir() {
        return Ok(None);
    }
    let names = list(&lists.join(format!("{}.txt", split_name(split))))?;
    let class = |name: &String| name.split('-').next().unwrap_or_default().to_owned();
    let mut all: BTreeMap<String, u32> = names.iter().map(|name| (class(name), 0)).collect();
    for (label, place) in (0u32..).zip(all.values_mut()) {
        *place = label;
    }
    let labels = names.iter().map(|name| all[&class(name)]).collect();
    let numbering = Numbering { labels, classes: all.into_keys().collect(), unlabeled: None };
    let paths = names.iter().map(|name| clouds.join(name)).collect();
    Ok(Some(Clouds { paths, numbering, most: usize::MAX, other: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::put;

    const SQUARE: &[u8] = b"OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n";

    #[test]
    fn a_folder_by_class_is_read_as_images_are() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("chair/train/1.off", SQUARE),
            ("chair/train/2.xyz", b"1 2 3\n4 5 6\n"),
            ("chair/test/3.off", SQUARE),
            ("table/train/4.off", b"OFF\nbroken"),
            ("table/test/5.off", SQUARE),
        ] {
            // ModelNet's own folders have the splits inside of the classes; here they are around them
            let (class, rest) = name.split_once('/').unwrap();
            let (split, file) = rest.split_once('/').unwrap();
            put(&dir.path().join(split).join(class).join(file), bytes);
        }
        let set = Dataset::open(dir.path().to_str().unwrap(), Split::Train).unwrap();
        assert_eq!((set.len(), set.classes()), (3, &["chair".to_owned(), "table".into()][..]));
        assert_eq!(set.cloud(0).unwrap().positions.len(), 8192);
        assert_eq!(set.cloud(0).unwrap(), set.cloud(0).unwrap());
        assert_eq!(set.cloud(1).unwrap().positions, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert!(set.cloud(2).unwrap_err().to_string().contains("4.off"));
        assert_eq!(set.good_cloud(2).unwrap().0, 0);
        assert_eq!(set.test_split().unwrap().len(), 2);
        assert!(set.image(0).unwrap_err().to_string().contains("a point cloud, expected an image"));
    }

    #[test]
    fn modelnet_and_shapenet_are_read_by_their_lists() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        put(&at("m/modelnet40_shape_names.txt"), b"airplane\nflower_pot\n");
        put(&at("m/modelnet40_train.txt"), b"flower_pot_0001\n\nairplane_0002\n");
        put(&at("m/modelnet40_test.txt"), b"vase_0001\n");
        put(&at("m/flower_pot/flower_pot_0001.txt"), b"1,2,3,0,0,1\n");
        let open = |name: &str, split| Dataset::open(at(name).to_str().unwrap(), split);
        let set = open("m", Split::Train).unwrap();
        assert_eq!((set.len(), set.label(0), set.label(1)), (2, Some(1), Some(0)));
        assert_eq!(set.cloud(0).unwrap().positions, [[1.0, 2.0, 3.0]]);
        let many: String = (0..8200).map(|i| format!("{},{},0,0,0,1\n", i % 90, i / 90)).collect();
        put(&at("m/airplane/airplane_0002.txt"), many.as_bytes());
        let far = set.cloud(1).unwrap();
        assert_eq!((far.positions.len(), set.cloud(1).unwrap() == far), (8192, true));
        let e = open("m", Split::Test).unwrap_err().to_string();
        assert!(e.contains("vase_0001") && e.contains("modelnet40_test.txt"), "{e}");

        put(&at("s/ShapeNet-55/train.txt"), b"03-b.npy\n02-a.npy\n03-c.npy\n");
        put(&at("s/shapenet_pc/02-a.npy"), b"torn");
        let set = open("s", Split::Train).unwrap();
        assert_eq!((set.len(), set.classes()), (3, &["02".to_owned(), "03".into()][..]));
        assert_eq!((0..3).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(1), Some(0), Some(1)]);
        assert!(set.cloud(1).unwrap_err().to_string().contains("NUMPY"));
        assert!(open("s", Split::Test).unwrap_err().to_string().contains("test.txt"));
    }
}
