//! `log.jsonl`: a JSON object for each logged step and each test.
use super::atomic::write_atomic;
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A logged step. A number that is not finite is written as `null` and read back as NaN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Optimizer step, counted from 0.
    pub step: u64,
    /// Epochs, with the fraction of the current one.
    pub epoch: f64,
    /// Training loss.
    #[serde(deserialize_with = "number_or_null")]
    pub loss: f64,
    /// Learning rate.
    #[serde(deserialize_with = "number_or_null")]
    pub lr: f64,
    /// Images per second since the line before.
    #[serde(deserialize_with = "number_or_null")]
    pub images_per_second: f64,
    /// Share of the last seconds in which the run waited for decoded samples; absent in logs before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_wait: Option<f64>,
    /// The loss scale after this step; only in precisions that scale the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Steps skipped so far because their gradients overflowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// Share of the last seconds that went into the exchange with the other processes; only where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_share: Option<f64>,
    /// Bytes that this process has sent to the others since the run began or resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_bytes: Option<u64>,
}

/// A test on images that are not trained on. Accuracies are in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestLine {
    /// Number of the last optimizer step before the test.
    pub step: u64,
    /// Complete epochs.
    pub epoch: f64,
    /// Mean cross-entropy.
    #[serde(deserialize_with = "number_or_null")]
    pub test_loss: f64,
    /// Share of images whose class has the highest score.
    pub top1: f64,
    /// Share of images whose class is among the five highest.
    pub top5: f64,
    /// [`TestLine::top1`] of the moving average of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_top1: Option<f64>,
    /// [`TestLine::top5`] of the moving average of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_top5: Option<f64>,
}

/// A test of segmentation on images that are not trained on. Scores are in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelLine {
    /// Number of the last optimizer step before the test.
    pub step: u64,
    /// Complete epochs.
    pub epoch: f64,
    /// Mean cross-entropy of the labeled pixels.
    #[serde(deserialize_with = "number_or_null")]
    pub test_loss: f64,
    /// Mean intersection over union of the classes.
    pub miou: f64,
    /// Mean accuracy of the classes.
    pub macc: f64,
    /// Share of the pixels that were recognized.
    pub aacc: f64,
    /// [`PixelLine::miou`] of the moving average of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_miou: Option<f64>,
}

/// A probe of the features of a model that is being pretrained. Accuracies are in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeLine {
    /// Number of the last optimizer step before the probe.
    pub step: u64,
    /// Complete epochs.
    pub epoch: f64,
    /// Share of the images whose class a linear classifier puts first.
    pub probe_top1: f64,
    /// Share of the images whose class it has among its first five.
    pub probe_top5: f64,
    /// Share of the images whose class their nearest neighbors vote for.
    pub knn_top1: f64,
}

/// A test of detection on images that are not trained on. Scores are in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectLine {
    /// Number of the last optimizer step before the test.
    pub step: u64,
    /// Complete epochs.
    pub epoch: f64,
    /// COCO's average precision of boxes.
    pub ap: f64,
    /// The same at an overlap of one half.
    pub ap50: f64,
    /// The same at an overlap of three quarters.
    pub ap75: f64,
    /// Average precision of masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_ap: Option<f64>,
    /// The same at an overlap of one half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_ap50: Option<f64>,
    /// [`ObjectLine::ap`] of the moving average of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_ap: Option<f64>,
}

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A logged step.
    Step(LogLine),
    /// A test.
    Test(TestLine),
    /// A test of segmentation.
    Pixels(PixelLine),
    /// A probe of features.
    Probe(ProbeLine),
    /// A test of detection.
    Objects(ObjectLine),
}

impl Line {
    fn step(&self) -> u64 {
        match self {
            Self::Step(line) => line.step,
            Self::Test(line) => line.step,
            Self::Pixels(line) => line.step,
            Self::Probe(line) => line.step,
            Self::Objects(line) => line.step,
        }
    }
}

fn number_or_null<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}

/// A log that only grows.
#[derive(Debug)]
pub struct TrainLog {
    path: PathBuf,
    file: File,
}

impl TrainLog {
    /// Opens or creates the log at `path` for a run that continues at step `from_step`, 0 for a new run.
    ///
    /// Lines of that step and later are removed, as the run is about to repeat those steps; so is a last line that a
    /// crash cut off. Any other line that cannot be read is an error.
    pub fn open(path: &Path, from_step: u64) -> Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => {
                let mut kept = Vec::with_capacity(bytes.len());
                for (text, line) in lines(path, &bytes)? {
                    if line.step() < from_step {
                        kept.extend_from_slice(text);
                        kept.push(b'\n');
                    }
                }
                if kept != bytes {
                    write_atomic(path, &kept)?;
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(path, "read")(e)),
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path, "opened"))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a line, which other programs see at once.
    pub fn append(&mut self, line: Line) -> Result<()> {
        let mut text = serde_json::to_vec(&line).map_err(|e| Error::file(&self.path, e.to_string()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(Error::io(&self.path, "appended to"))
    }

    /// Puts everything appended on the disk. Call it before a checkpoint is written.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path, "written"))
    }
}

/// Reads the steps of a log, without a last line that a crash cut off.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>> {
    let step = |line| if let Line::Step(line) = line { Some(line) } else { None };
    Ok(read_lines(path)?.into_iter().filter_map(step).collect())
}

/// Reads the probes of a log.
pub fn read_probes(path: &Path) -> Result<Vec<ProbeLine>> {
    let probe = |line| if let Line::Probe(line) = line { Some(line) } else { None };
    Ok(read_lines(path)?.into_iter().filter_map(probe).collect())
}

/// Reads the tests of a log.
pub fn read_tests(path: &Path) -> Result<Vec<TestLine>> {
    let test = |line| if let Line::Test(line) = line { Some(line) } else { None };
    Ok(read_lines(path)?.into_iter().filter_map(test).collect())
}

/// Reads all lines of a log, in order.
pub fn read_lines(path: &Path) -> Result<Vec<Line>> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    Ok(lines(path, &bytes)?.into_iter().map(|(_, line)| line).collect())
}

/// The lines of a log with their text. A last line that was cut off is left out.
fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(&'a [u8], Line)>> {
    let all: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    let last = all.iter().rposition(|line| !line.is_empty()).unwrap_or_default();
    let mut out = Vec::with_capacity(all.len());
    for (i, text) in all.into_iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        match serde_json::from_slice(text) {
            Ok(line) => out.push((text, line)),
            Err(_) if i == last => tracing::warn!("{}: the last line is torn and was dropped", path.display()),
            Err(e) => return Err(Error::file(path, format!("line {} is not a log line: {e}", i + 1))),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> LogLine {
        LogLine {
            step,
            epoch: step as f64 / 4.0,
            loss: 0.5,
            lr: 1e-3,
            images_per_second: 100.0,
            data_wait: (step % 2 == 1).then_some(0.125),
            loss_scale: (step % 2 == 1).then_some(65536.0),
            skipped: (step % 2 == 1).then_some(step),
            exchange_share: (step % 2 == 1).then_some(0.25),
            exchange_bytes: (step % 2 == 1).then_some(step * 1000),
        }
    }

    fn steps(path: &Path) -> Vec<u64> {
        read_log(path).unwrap().iter().map(|l| l.step).collect()
    }

    #[test]
    fn resuming_drops_what_will_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = TrainLog::open(&path, 0).unwrap();
        (0..5).for_each(|s| log.append(Line::Step(line(s * 10))).unwrap());
        log.sync().unwrap();
        drop(log);
        assert_eq!(read_log(&path).unwrap()[3], line(30));
        let mut log = TrainLog::open(&path, 30).unwrap();
        log.append(Line::Step(line(30))).unwrap();
        assert_eq!(steps(&path), [0, 10, 20, 30]);
        TrainLog::open(&path, 0).unwrap();
        assert!(steps(&path).is_empty());
    }

    #[test]
    fn tests_stand_between_steps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let test = TestLine {
            step: 3,
            epoch: 1.0,
            test_loss: f64::INFINITY,
            top1: 25.0,
            top5: 75.0,
            ema_top1: Some(12.5),
            ema_top5: None,
        };
        let mut log = TrainLog::open(&path, 0).unwrap();
        for line in [Line::Step(line(3)), Line::Test(test), Line::Step(line(4))] {
            log.append(line).unwrap();
        }
        assert_eq!(steps(&path), [3, 4]);
        let read = read_tests(&path).unwrap();
        assert!(read.len() == 1 && read[0].test_loss.is_nan());
        assert_eq!((read[0].top1, read[0].ema_top1, read[0].ema_top5), (25.0, Some(12.5), None));
        TrainLog::open(&path, 4).unwrap();
        assert_eq!((steps(&path), read_tests(&path).unwrap().len()), (vec![3], 1));
        TrainLog::open(&path, 3).unwrap();
        assert!(read_tests(&path).unwrap().is_empty());
    }

    #[test]
    fn a_torn_last_line_goes_but_a_foreign_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let whole = serde_json::to_string(&line(1)).unwrap();
        for tail in [&whole[..20], "\0\0\0\0", "{\"step\": 9"] {
            std::fs::write(&path, format!("{whole}\n{tail}")).unwrap();
            TrainLog::open(&path, 2).unwrap().append(Line::Step(line(2))).unwrap();
            assert_eq!(steps(&path), [1, 2]);
        }
        // Only the newline was cut off: the line itself has to stay.
        std::fs::write(&path, &whole).unwrap();
        TrainLog::open(&path, 2).unwrap().append(Line::Step(line(2))).unwrap();
        assert_eq!(steps(&path), [1, 2]);
        std::fs::write(&path, format!("dear diary\n{whole}\n")).unwrap();
        let error = TrainLog::open(&path, 2).unwrap_err().to_string();
        assert!(error.contains("log.jsonl: line 1 is not a log line"), "{error}");
    }

    #[test]
    fn a_loss_that_is_not_a_number_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        TrainLog::open(&path, 0).unwrap().append(Line::Step(LogLine { loss: f64::NAN, ..line(3) })).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"loss\":null"));
        assert!(read_log(&path).unwrap()[0].loss.is_nan());
    }
}
