//! What a data set holds: images, and images or points with more than a class label.

use super::masks::ObjectMask;

/// An image as rows of (r, g, b) bytes, sRGB, top row first: PIL's `Image.convert("RGB")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels per row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
    /// height × width × 3 bytes.
    pub pixels: Vec<u8>,
}

/// The class of every pixel of an image: the target of semantic segmentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentationMap {
    /// Pixels per row; the image's.
    pub width: u32,
    /// Number of rows; the image's.
    pub height: u32,
    /// height × width positions in the set's class names, or [`SegmentationMap::IGNORED`].
    pub classes: Vec<u16>,
}

impl SegmentationMap {
    /// A pixel without a class, which a loss and a score leave out: `ignore_index` in PyTorch, 255 in most PNG files.
    pub const IGNORED: u16 = u16::MAX;
}

/// One object in an image: the target of detection. Corners in pixels from the top left, as torchvision's `XYXY`
/// format.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectBox {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Right edge, not below `left`.
    pub right: f64,
    /// Lower edge, not below `top`.
    pub bottom: f64,
    /// Position in the set's class names.
    pub class: u32,
    /// Whether it is a group of objects that were not told apart: nothing is learned of it, and a detector is neither
    /// rewarded nor punished for what it finds there.
    pub crowd: bool,
    /// Its pixels, where they are known.
    pub mask: Option<ObjectMask>,
}

impl ObjectBox {
    /// Left, top, right, bottom.
    pub fn corners(&self) -> [f64; 4] {
        [self.left, self.top, self.right, self.bottom]
    }
}

/// Points on the surface of an object. Its class, if it has one, is the sample's label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointCloud {
    /// (x, y, z) of each point.
    pub positions: Vec<[f32; 3]>,
    /// For part segmentation, the part that each point belongs to; empty for other tasks.
    pub parts: Vec<u16>,
}

/// One sample of a data set, decoded. A class of the whole sample is not in here: it is the set's label, which can be
/// read without decoding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Sample {
    /// An image, for classification and for pretraining.
    Image(Rgb8),
    /// An image and the class of each of its pixels, for semantic segmentation.
    Segmented(Rgb8, SegmentationMap),
    /// An image and the objects in it, for detection; an image may hold none.
    Detected(Rgb8, Vec<ObjectBox>),
    /// A point cloud.
    Points(PointCloud),
}

impl Sample {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "an image",
            Self::Segmented(..) => "an image with a segmentation map",
            Self::Detected(..) => "an image with boxes",
            Self::Points(_) => "a point cloud",
        }
    }

    /// The image alone, without its map or boxes; none in a point cloud.
    pub fn into_image(self) -> Option<Rgb8> {
        match self {
            Self::Image(image) | Self::Segmented(image, _) | Self::Detected(image, _) => Some(image),
            Self::Points(_) => None,
        }
    }

    /// Says what makes the sample unusable, if anything does: lengths that contradict each other, coordinates that are
    /// not numbers, classes that the set with `classes` names does not have.
    pub(super) fn fault(&self, classes: usize) -> Option<String> {
        let unknown = |class: u32| class as usize >= classes;
        match self {
            Self::Image(image) => image.fault(),
            Self::Segmented(image, map) => image.fault().or_else(|| {
                let (width, height, count) = (map.width, map.height, map.classes.len());
                if (width, height) != (image.width, image.height) {
                    let size = format!("{} × {}", image.width, image.height);
                    return Some(format!("a segmentation map of {width} × {height} pixels, its image has {size}"));
                }
                if count != width as usize * height as usize {
                    return Some(format!("a segmentation map of {count} values for {width} × {height} pixels"));
                }
                let classed = map.classes.iter().filter(|class| **class != SegmentationMap::IGNORED);
                let wrong = classed.copied().find(|class| unknown(u32::from(*class)));
                wrong.map(|class| format!("a pixel of class {class}, the set has {classes} classes"))
            }),
            Self::Detected(image, boxes) => image.fault().or_else(|| {
                boxes.iter().enumerate().find_map(|(i, b)| {
                    let sides = b.corners();
                    if sides.iter().any(|v| !v.is_finite()) || b.right < b.left || b.bottom < b.top {
                        return Some(format!("box {i} is {sides:?}, expected left ≤ right and top ≤ bottom"));
                    }
                    if let Some(ObjectMask::Runs(runs)) = &b.mask
                        && (runs.width(), runs.height()) != (image.width, image.height)
                    {
                        let (own, size) = ((runs.width(), runs.height()), (image.width, image.height));
                        let [own, size] = [own, size].map(|(width, height)| format!("{width} × {height}"));
                        return Some(format!("the mask of object {i} has {own} pixels, its image has {size}"));
                    }
                    unknown(b.class).then(|| format!("box {i} has class {}, the set has {classes} classes", b.class))
                })
            }),
            Self::Points(cloud) => {
                let (points, parts) = (cloud.positions.len(), cloud.parts.len());
                if points == 0 {
                    return Some("a point cloud without points".into());
                }
                if parts != 0 && parts != points {
                    return Some(format!("{points} points, but {parts} parts"));
                }
                let wrong = cloud.positions.iter().position(|p| p.iter().any(|v| !v.is_finite()));
                wrong.map(|i| format!("point {i} is {:?}", cloud.positions[i]))
            }
        }
    }

    /// Replaces class k by `numbers[k]` in maps and boxes. Says so if a class has no number.
    pub(super) fn renumber(&mut self, numbers: &[u32]) -> Result<(), String> {
        let number = |class: u32| {
            let found = numbers.get(class as usize).copied();
            found.ok_or_else(|| format!("class {class}, the set has {} classes", numbers.len()))
        };
        match self {
            Self::Image(_) | Self::Points(_) => {}
            Self::Segmented(_, map) => {
                for class in map.classes.iter_mut().filter(|class| **class != SegmentationMap::IGNORED) {
                    let wanted = number(u32::from(*class))?;
                    *class = u16::try_from(wanted).map_err(|_| format!("class {wanted}, a map holds up to 65534"))?;
                }
            }
            Self::Detected(_, boxes) => {
                for object in boxes {
                    object.class = number(object.class)?;
                }
            }
        }
        Ok(())
    }
}

impl Rgb8 {
    /// Says so if there are no pixels, or not as many as width and height promise.
    pub(super) fn fault(&self) -> Option<String> {
        let (width, height, bytes) = (self.width, self.height, self.pixels.len());
        let fits = bytes > 0 && bytes == width as usize * height as usize * 3;
        (!fits).then(|| format!("{bytes} bytes for {width} × {height} pixels"))
    }
}

impl From<Rgb8> for Sample {
    fn from(image: Rgb8) -> Self {
        Self::Image(image)
    }
}
