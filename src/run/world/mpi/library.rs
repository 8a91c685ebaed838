//! Finding the MPI library of the launcher that started this process.

use std::ffi::OsString;
use std::path::PathBuf;

use libloading::Library;

use crate::error::{Error, Result};

/// Names a library to load in place of those that are looked for.
pub const NAMED: &str = "ROWSCAN_MPI";

/// A launcher, by the environment that it gives its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Its name, for messages.
    pub by: &'static str,
    /// Processes that it says it has started.
    pub ranks: usize,
    /// Names of the libraries that belong to it, likely ones first.
    libraries: Vec<&'static str>,
}

#[cfg(target_os = "macos")]
const OPEN_MPI: &[&str] = &["libmpi.40.dylib", "/opt/homebrew/lib/libmpi.dylib", "libmpi.dylib"];
#[cfg(not(target_os = "macos"))]
const OPEN_MPI: &[&str] = &["libmpi.so.40", "libmpi.so.80", "libmpi.so"];
#[cfg(target_os = "macos")]
const MPICH: &[&str] = &["libmpich.dylib", "/opt/homebrew/lib/libmpich.dylib", "libmpi.12.dylib", "libmpi_abi.dylib"];
#[cfg(windows)]
const MPICH: &[&str] = &["msmpi.dll", "impi.dll"];
#[cfg(not(any(target_os = "macos", windows)))]
const MPICH: &[&str] = &["libmpich.so.12", "libmpi.so.12", "libmpi_abi.so.1", "libmpi_abi.so.0"];

impl Launched {
    /// The launcher that started this process, as the environment tells; `None` if none did. `var` reads a variable.
    pub fn of(var: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| var(name).and_then(|text| text.trim().parse::<usize>().ok());
        let both = |first: &[&'static str], then: &[&'static str]| [first, then].concat();
        if let Some(ranks) = number("OMPI_COMM_WORLD_SIZE") {
            return Some(Self { by: "Open MPI", ranks, libraries: both(OPEN_MPI, &[]) });
        }
        if let Some(ranks) = number("PMI_SIZE") {
            return Some(Self { by: "a launcher of MPICH's kind", ranks, libraries: both(MPICH, OPEN_MPI) });
        }
        // `srun --mpi=pmix` tells no size; a batch script by itself has no PMIX_RANK
        number("PMIX_RANK")?;
        let ranks = number("SLURM_STEP_NUM_TASKS").or_else(|| number("SLURM_NTASKS"))?;
        Some(Self { by: "srun", ranks, libraries: both(OPEN_MPI, MPICH) })
    }
}

/// Opens the first library that there is, and says under which name.
///
/// # Errors
/// The names that were tried, if there is none.
pub fn open(launched: &Launched, named: Option<OsString>) -> Result<(Library, PathBuf)> {
    let named = named.filter(|name| !name.is_empty()).map(PathBuf::from);
    let names: Vec<PathBuf> = match &named {
        Some(name) => vec![name.clone()],
        None => launched.libraries.iter().map(PathBuf::from).collect(),
    };
    let mut why = None;
    for name in &names {
        match load(name) {
            Ok(library) => return Ok((library, name.clone())),
            Err(e) => why = why.or(Some(e.to_string())),
        }
    }
    let tried: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
    let advice = match named {
        Some(_) => format!("correct {NAMED}"),
        None => format!("install the MPI that started this process, or name its library with {NAMED}=/path/libmpi.so"),
    };
    Err(Error::Ranks(format!(
        "{} started {} processes, but no MPI library was found (tried {}; {}): {advice}",
        launched.by,
        launched.ranks,
        tried.join(", "),
        why.unwrap_or_default(),
    )))
}

/// Open MPI's plug-ins look for the library's symbols among those of the whole process.
#[cfg(unix)]
fn load(name: &std::path::Path) -> std::result::Result<Library, libloading::Error> {
    use libloading::os::unix;
    // SAFETY: MPI libraries do nothing harmful when they are loaded
    unsafe { unix::Library::open(Some(name), unix::RTLD_NOW | unix::RTLD_GLOBAL) }.map(Library::from)
}

#[cfg(not(unix))]
fn load(name: &std::path::Path) -> std::result::Result<Library, libloading::Error> {
    // SAFETY: MPI libraries do nothing harmful when they are loaded
    unsafe { Library::new(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(environment: &[(&str, &str)]) -> Option<(&'static str, usize)> {
        let var = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Launched::of(var).map(|launched| (launched.by, launched.ranks))
    }

    #[test]
    fn launchers_are_known_by_their_environment() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "1")]), Some(("Open MPI", 4)));
        assert_eq!(of(&[("PMI_SIZE", "2"), ("PMI_RANK", "1")]), Some(("a launcher of MPICH's kind", 2)));
        assert_eq!(of(&[("PMIX_RANK", "1"), ("SLURM_NTASKS", "8")]), Some(("srun", 8)));
        assert_eq!(of(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]), None, "a batch script outside of srun");
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let launched = Launched::of(|name| (name == "PMI_SIZE").then(|| "2".into())).unwrap();
        let error = open(&launched, Some("/nowhere/libmpi.so".into())).err().unwrap().to_string();
        assert!(error.contains("tried /nowhere/libmpi.so") && error.contains("correct ROWSCAN_MPI"), "{error}");
    }
}
