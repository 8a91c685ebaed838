//! The pictures of a run side by side: originals, what is visible of them, and what was made of them epoch by epoch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::ImageFormat;
use image::imageops::{FilterType, crop_imm, resize};

use crate::error::{Error, Result};
use crate::run::record::grid::LINE;
use crate::run::record::markup::picture_address;

/// Epochs that are shown at most: the first, the last, and some between that lie evenly on a logarithmic scale.
const EPOCHS: usize = 8;

/// Width of a picture in the page, in its own pixels, at most.
const WIDE: u32 = 128;

/// A column of pictures, and what is written above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub caption: String,
    /// A PNG as a `data:` address.
    pub address: String,
    /// Width in pixels.
    pub width: u32,
}

/// The columns that were cut out of a run's grids.
#[derive(Debug, Default)]
pub struct Strip {
    cut: BTreeMap<PathBuf, Vec<Column>>,
}

impl Strip {
    /// The columns of the grids in `dir`, whose rows have `columns` pictures each, so that each third is an original,
    /// what is visible, and what was made of it. Of several views the first is shown. Nothing without grids.
    ///
    /// # Errors
    /// A grid that is no picture.
    pub fn of(&mut self, dir: &Path, columns: usize) -> Result<Vec<Column>> {
        let grids = if columns >= 3 { grids(dir)? } else { Vec::new() };
        let shown: Vec<&(u64, PathBuf)> =
            chosen(&grids.iter().map(|grid| grid.0).collect::<Vec<_>>()).into_iter().map(|at| &grids[at]).collect();
        self.cut.retain(|path, _| shown.iter().any(|grid| grid.1 == *path));
        let mut strip = Vec::new();
        for (epoch, path) in shown {
            if !self.cut.contains_key(path) {
                self.cut.insert(path.clone(), cut(path, columns as u32)?);
            }
            let Some([original, visible, made]) = self.cut.get(path).map(Vec::as_slice) else { continue };
            if strip.is_empty() {
                strip.extend([original.clone(), visible.clone()]);
            }
            strip.push(Column { caption: format!("epoch {epoch}"), ..made.clone() });
        }
        Ok(strip)
    }
}

/// The grids in a folder by epoch.
fn grids(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        let path = entry.map_err(Error::io(dir, "read"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let epoch = name.strip_prefix("grid-").and_then(|rest| rest.strip_suffix(".png")?.parse().ok());
        if let Some(epoch) = epoch {
            found.push((epoch, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Which of some epochs, in order, are shown: at most [`EPOCHS`], because what a model makes changes most at first.
fn chosen(epochs: &[u64]) -> Vec<usize> {
    let (Some(first), Some(last)) = (epochs.first(), epochs.last()) else { return Vec::new() };
    if epochs.len() <= EPOCHS {
        return (0..epochs.len()).collect();
    }
    let (low, high) = ((*first as f64).max(1.0).ln(), (*last as f64).max(1.0).ln());
    let mut shown: Vec<usize> = (0..EPOCHS)
        .map(|i| (low + (high - low) * i as f64 / (EPOCHS - 1) as f64).exp())
        .map(|wanted| {
            let away = |epoch: u64| (epoch as f64 - wanted).abs();
            (0..epochs.len()).min_by(|a, b| away(epochs[*a]).total_cmp(&away(epochs[*b]))).unwrap_or_default()
        })
        .collect();
    shown.dedup();
    shown
}

/// The first three columns of a grid.
fn cut(path: &Path, columns: u32) -> Result<Vec<Column>> {
    let grid = image::open(path).map_err(|e| Error::file(path, e.to_string()))?.into_rgb8();
    let (wide, high) = grid.dimensions();
    let line = LINE as u32;
    let width = ((wide + line) / columns).saturating_sub(line).max(1);
    let captions = ["original", "visible", ""];
    captions
        .into_iter()
        .zip(0..)
        .map(|(caption, i)| {
            let column = crop_imm(&grid, i * (width + line), 0, width, high).to_image();
            let (column, width) = match width > WIDE {
                true => (resize(&column, WIDE, (high * WIDE / width).max(1), FilterType::Triangle), WIDE),
                false => (column, width),
            };
            Ok(Column { caption: caption.into(), address: picture_address(&column, ImageFormat::Png)?, width })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::{Panel, PictureGrid};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn columns_are_cut_where_the_pictures_are() {
        let dir = tempfile::tempdir().unwrap();
        for epoch in [1u8, 2, 30] {
            let mut grid = PictureGrid::new(5, 4, 6).unwrap();
            let shades: Vec<Vec<u8>> = (0..6).map(|column| vec![column * 40 + epoch; 60]).collect();
            let panels: Vec<Panel<'_>> = shades.iter().map(|shade| Panel::Rgb8(shade)).collect();
            grid.push_row(&panels).unwrap();
            grid.push_row(&panels).unwrap();
            grid.save(&dir.path().join(format!("grid-{epoch:04}.png"))).unwrap();
        }
        let strip = Strip::default().of(dir.path(), 6).unwrap();
        let captions: Vec<&str> = strip.iter().map(|column| column.caption.as_str()).collect();
        assert_eq!(captions, ["original", "visible", "epoch 1", "epoch 2", "epoch 30"]);
        let shade = |column: &Column| {
            let png = STANDARD.decode(column.address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
            let picture = image::load_from_memory(&png).unwrap().into_rgb8();
            assert_eq!((picture.dimensions(), column.width), ((5, 10), 5));
            (picture.get_pixel(0, 0).0[0], picture.get_pixel(4, 9).0[0])
        };
        assert_eq!(strip.iter().map(shade).map(|s| s.0).collect::<Vec<_>>(), [1, 41, 81, 82, 110]);
        assert!(strip.iter().map(shade).all(|(first, last)| first == last));
        assert!(Strip::default().of(dir.path(), 0).unwrap().is_empty());
    }

    #[test]
    fn few_epochs_of_many_are_shown_and_both_ends() {
        let all: Vec<u64> = (1..=800).collect();
        let shown: Vec<u64> = chosen(&all).into_iter().map(|at| all[at]).collect();
        assert_eq!(shown, [1, 3, 7, 18, 46, 118, 308, 800]);
        assert_eq!(chosen(&all[..3]), [0, 1, 2]);
        assert_eq!(chosen(&[7, 8, 9, 10, 11, 12, 13, 14, 15]).len(), 8);
        assert!(chosen(&[]).is_empty());
    }
}
