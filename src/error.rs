//! The one error of the library: what, where, got, expected, and what to do next.

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, one variant per thing a caller may want to act on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor, argument or configuration has the wrong shape or value.
    #[error("{what}: got {got}, expected {expected}")]
    Argument {
        /// The operator and argument, or the configuration key.
        what: String,
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
        what: String,
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
    /// A shader failed to compile or a launch was invalid: a bug of this library or of a driver.
    #[error("GPU validation: {0}")]
    Validation(String),
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Data, masks, schedules or records: what the data side says.
    #[error("{0}")]
    Data(String),
    /// The loss stopped being a number.
    #[error("training diverged: {0}")]
    Diverged(String),
}

impl Error {
    /// An [`Error::Argument`] from anything that prints.
    pub fn argument(what: impl Into<String>, got: impl std::fmt::Display, expected: impl std::fmt::Display) -> Self {
        Self::Argument { what: what.into(), got: got.to_string(), expected: expected.to_string() }
    }

    /// An [`Error::File`] from a path and a reason.
    pub fn file(path: impl AsRef<std::path::Path>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.as_ref().display().to_string(), reason: reason.to_string() }
    }
}
