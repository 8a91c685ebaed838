//! The one error of the library: what, where, got, expected, and what to do next.
//!
//! Messages name options as the library does, by the field: `batch_size`. In prose such a name stands in backticks, so
//! that the command line can print its flag instead (src/cli/terminal.rs).

mod data;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use data::DataError;

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, one variant per thing a caller may want to act on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A caller passed a tensor, an argument or a configuration of the wrong shape or value.
    #[error("{what}: got {got}, expected {expected}")]
    Argument {
        /// The operator and its argument, or the field of the configuration.
        what: Cow<'static, str>,
        /// What was passed.
        got: String,
        /// What would have been right.
        expected: String,
    },
    /// No adapter that can run compute shaders was found.
    #[error("no GPU adapter: {0}")]
    NoAdapter(String),
    /// The adapter lacks something that is needed.
    #[error("adapter limit: {what} needs {needed}, the adapter allows {allowed}")]
    Limit {
        /// The resource.
        what: Cow<'static, str>,
        /// How much is needed.
        needed: u64,
        /// How much there is.
        allowed: u64,
    },
    /// The plan of a program does not fit into the memory of the adapter.
    #[error("not enough GPU memory: {0}")]
    OutOfMemory(String),
    /// The device was lost (driver reset, unplugged, suspended).
    #[error("GPU device lost: {0}")]
    DeviceLost(String),
    /// The driver refused a shader or a launch: a bug of this library or of the driver.
    #[error("GPU validation: {0}")]
    Validation(String),
    /// A kernel computed something else than its oracle: a bug of this library or of the driver.
    #[error("{0}")]
    Mismatch(String),
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: cannot be {done}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was to be done with it: "read", "written".
        done: &'static str,
        /// Why it was not.
        source: Arc<std::io::Error>,
    },
    /// A data set cannot be found, read or decoded.
    #[error("{0}")]
    Data(#[source] DataError),
    /// The loss stopped being a number.
    #[error("training diverged: {0}")]
    Diverged(String),
    /// The processes of a run cannot work together, or one of them does not answer.
    #[error("{0}")]
    Ranks(String),
    /// What callers cannot cause: a bug of this library.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

impl From<DataError> for Error {
    /// A setting of a data set is an argument like any other.
    fn from(error: DataError) -> Self {
        match error {
            DataError::Setting { name, got, expected } => Self::Argument { what: name.into(), got, expected },
            other => Self::Data(other),
        }
    }
}

impl Error {
    /// An [`Error::Argument`] from anything that prints.
    pub fn argument(
        what: impl Into<Cow<'static, str>>, got: impl std::fmt::Display, expected: impl std::fmt::Display,
    ) -> Self {
        Self::Argument { what: what.into(), got: got.to_string(), expected: expected.to_string() }
    }

    /// For `map_err`: an [`Error::Io`] that says what was to be done with which file.
    pub fn io(path: impl AsRef<Path>, done: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { path: path.as_ref().to_owned(), done, source: Arc::new(source) }
    }

    /// An [`Error::File`] from a path and a reason.
    pub fn file(path: impl AsRef<Path>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.as_ref().display().to_string(), reason: reason.to_string() }
    }

    /// An [`Error::Argument`] for a name that is not among the known ones: it says which are near.
    pub fn unknown<'a>(
        what: impl Into<Cow<'static, str>>, got: &str, known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let mut near: Vec<_> = known.iter().map(|name| (distance(got, name), *name)).collect();
        near.sort();
        let limit = got.chars().count() / 3 + 1;
        let close: Vec<_> = near.iter().filter(|(d, _)| *d <= limit).take(5).map(|(_, name)| *name).collect();
        let expected = match (close.is_empty(), known.len() > 12) {
            (false, _) => format!("a known name; near it: {}", close.join(", ")),
            (true, false) => format!("one of {}", known.join(", ")),
            (true, true) => {
                let first: Vec<_> = near.iter().take(5).map(|(_, name)| *name).collect();
                format!("one of {} names, such as {}", known.len(), first.join(", "))
            }
        };
        Self::argument(what, format!("`{got}`"), expected)
    }
}

/// Letters to insert, delete or replace to get from `a` to `b`, or to a beginning of it: `map_tny` is near
/// `map_tiny_patch16_224`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    // what b has behind its best beginning counts a little, so that the whole name comes first
    let rest = |end: usize| (b.len() - end).div_ceil(8);
    (0..=b.len()).map(|end| row[end] + rest(end)).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_say_which_are_near() {
        let known = ["map", "mae", "ar", "local-mae", "contrastive", "diffusion"];
        let says = |got: &str| Error::unknown("method", got, known).to_string();
        assert_eq!(says("difusion"), "method: got `difusion`, expected a known name; near it: diffusion");
        assert!(says("mea").contains("near it: mae, map"), "{}", says("mea"));
        assert!(
            says("zzzzzz").ends_with("one of map, mae, ar, local-mae, contrastive, diffusion"),
            "{}",
            says("zzzzzz")
        );
        let many: Vec<String> = (0..20).map(|i| format!("model_{i}_patch16_224")).collect();
        let says = |got: &str| Error::unknown("model", got, many.iter().map(String::as_str)).to_string();
        assert!(says("modl_7_patch16_224").contains("near it: model_7_patch16_224"), "{}", says("modl_7_patch16_224"));
        assert!(says("modl_7").contains("near it: model_7_patch16_224"), "{}", says("modl_7"));
        assert!(says("qqqqqqqqqqqqqqqqq").contains("one of 20 names"), "{}", says("qqqqqqqqqqqqqqqqq"));
    }
}
