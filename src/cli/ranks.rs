//! Starting several processes with an MPI launcher, for `--gpus`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::run::world::Launched;

/// How many GPUs of this machine are to train together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpus {
    /// All of the best kind.
    All,
    /// So many.
    Count(usize),
}

impl FromStr for Gpus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(count @ 1..=1024)) => Ok(Self::Count(count)),
            _ => Err(Error::argument("--gpus", format!("`{text}`"), "a number from 1 on, or `all`")),
        }
    }
}

/// A command that starts ranks of this program.
#[derive(Debug)]
pub struct Ranks {
    /// The launcher with its arguments, then this program with its own.
    pub command: Command,
}

/// The first of these programs in the folders of `PATH`.
fn find(names: &[&str], path: &std::ffi::OsStr) -> Option<PathBuf> {
    let in_folders = |name: &&str| {
        let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        std::env::split_paths(path).map(|folder| folder.join(&name)).find(|file| file.is_file())
    };
    names.iter().find_map(in_folders)
}

impl Ranks {
    /// `count` processes of `program` with `arguments`. `None` if this process is already one of several, or there is
    /// nothing to start.
    ///
    /// # Errors
    /// No launcher in `PATH`.
    pub fn of(count: usize, program: &Path, arguments: &[std::ffi::OsString]) -> Result<Option<Self>> {
        if count < 2 || Launched::of(|name| std::env::var(name).ok()).is_some() {
            return Ok(None);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let names = ["mpirun.openmpi", "mpirun.mpich", "mpirun", "mpiexec"];
        let launcher = find(&names, &path).ok_or_else(|| {
            let advice = "an MPI launcher in PATH (mpirun or mpiexec): on Debian and Ubuntu, install openmpi-bin; \
                          elsewhere Open MPI, MPICH, or `pip install mpich`";
            Error::argument("--gpus", count, advice)
        })?;
        let mut command = Command::new(&launcher);
        command.args(["-n", &count.to_string()]);
        if is_open_mpi(&launcher) {
            // else each process would have one core, and decode with it
            command.args(["--bind-to", "none", "--oversubscribe"]);
            if is_root() {
                command.arg("--allow-run-as-root"); // as in a container
            }
        }
        command.arg(program).args(arguments);
        Ok(Some(Self { command }))
    }
}

fn is_open_mpi(launcher: &Path) -> bool {
    let about = Command::new(launcher).arg("--version").output();
    about.is_ok_and(|about| {
        let text = String::from_utf8_lossy(&about.stdout).into_owned();
        text.contains("Open MPI") || text.contains("OpenRTE") || text.contains("PRRTE")
    })
}

#[cfg(unix)]
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_a_number_or_all() {
        assert_eq!("all".parse::<Gpus>().unwrap(), Gpus::All);
        assert_eq!("4".parse::<Gpus>().unwrap(), Gpus::Count(4));
        for bad in ["0", "-1", "two", "1.5", ""] {
            assert!(bad.parse::<Gpus>().unwrap_err().to_string().contains("--gpus"), "{bad}");
        }
    }
}
