//! The files that `--output` asks for: all predictions as JSON and CSV, and a picture of the first ones.

use std::path::{Path, PathBuf};

use super::format::{Format, NamedClass, NamedImage};
use crate::error::Result;
use crate::run::output_dir::OutputDir;
use crate::run::record::{CaptionBar, CaptionedGrid, LineFile};

const JSON: &str = "predictions.json";
const CSV: &str = "predictions.csv";
const PICTURE: &str = "predictions.svg";

/// Images in the picture, at most: each is stored in it.
const PICTURED: usize = 64;
/// Classes below a picture, at most.
const BARS: usize = 3;

/// A folder whose files get their names when all of them are whole.
pub struct Folder {
    dir: PathBuf,
    texts: Vec<(Format, LineFile)>,
    grid: CaptionedGrid,
    _lock: OutputDir,
}

impl Folder {
    /// The folder `dir`, made if it is not there, for images of `side` × `side` pixels.
    pub fn open(dir: &Path, side: usize) -> Result<Self> {
        let lock = OutputDir::open(dir)?;
        let text = |(format, name): (Format, &str)| -> Result<(Format, LineFile)> {
            let mut file = LineFile::begin(&dir.join(name))?;
            format.head().map_or(Ok(()), |line| file.line(line))?;
            Ok((format, file))
        };
        let texts = [(Format::Json, JSON), (Format::Csv, CSV)].into_iter().map(text).collect::<Result<_>>()?;
        Ok(Self { dir: dir.to_owned(), texts, grid: CaptionedGrid::new(side), _lock: lock })
    }

    /// Adds an image with the pixels that the model sees; `last` says that none follows.
    pub fn add(&mut self, image: &NamedImage, pixels: &[u8], last: bool) -> Result<()> {
        for (format, file) in &mut self.texts {
            format.lines(image, last)?.iter().try_for_each(|line| file.line(line))?;
        }
        if image.predictions.is_empty() || self.grid.count() == PICTURED {
            return Ok(());
        }
        let bar = |class: &NamedClass| CaptionBar { name: class.name.clone(), share: f64::from(class.probability) };
        let bars: Vec<CaptionBar> = image.predictions.iter().take(BARS).map(bar).collect();
        self.grid.push(pixels, image.file.rsplit('/').next().unwrap_or_default(), &bars)
    }

    /// Gives the files their names. Returns what was written, in words; `predicted` is the number of images.
    pub fn finish(self, predicted: usize) -> Result<String> {
        let mut picture = LineFile::begin(&self.dir.join(PICTURE))?;
        picture.line(&self.grid.to_svg())?;
        let mut whole = vec![picture];
        for (format, mut file) in self.texts {
            format.foot().map_or(Ok(()), |line| file.line(line))?;
            whole.push(file);
        }
        whole.into_iter().try_for_each(LineFile::finish)?;
        let shown = match self.grid.count() {
            all if all == predicted => String::new(),
            first => format!(", which shows the first {first} of {predicted} images"),
        };
        Ok(format!("wrote {JSON}, {CSV} and {PICTURE} to {}{shown}", self.dir.display()))
    }
}
