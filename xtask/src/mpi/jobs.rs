//! Jobs that a launcher of MPI starts: their output, their end, their processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::workshop::{Result, command, rowscan, run, target};

/// Longest time for a job, after which it counts as hanging.
pub const LIMIT: Duration = Duration::from_secs(100);

/// An MPI launcher, with the arguments that it needs.
pub struct Launcher {
    pub name: &'static str,
    pub command: Vec<String>,
    pub environment: &'static [(&'static str, &'static str)],
}

impl Launcher {
    pub fn open_mpi() -> Self {
        let command = ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"];
        Self { name: "Open MPI", command: command.map(String::from).to_vec(), environment: &[] }
    }

    pub fn mpich() -> Self {
        Self { name: "MPICH", command: vec!["mpirun.mpich".into()], environment: &[] }
    }

    /// A command that starts `ranks` processes of the program with these arguments.
    pub fn start(&self, ranks: usize, args: &[&str]) -> Command {
        let mut job = command(&self.command[0], &[]);
        job.args(&self.command[1..]).args(["-n", &ranks.to_string()]).arg(rowscan()).args(args);
        job.envs(self.environment.iter().copied());
        job
    }
}

/// Folders of the runs, emptied at the start.
pub struct Folders(pub PathBuf);

impl Folders {
    pub fn new() -> Result<Self> {
        let path = target().join("mpi-test");
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    pub fn of(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

/// Runs a job to its end and returns whether it succeeded, with all that it printed. A job that hangs is ended.
pub fn finished(job: Command) -> Result<(bool, String)> {
    finish(started(job)?)
}

/// A job that has begun, and the file of what it prints.
pub struct Job {
    pub child: Child,
    log: PathBuf,
    since: Instant,
}

pub fn started(mut job: Command) -> Result<Job> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let log = target().join("mpi-test").join(format!("output-{number}.txt"));
    let failed = |e: std::io::Error| format!("{job:?}: {e}");
    let out = std::fs::File::create(&log).map_err(failed)?;
    let errors = out.try_clone().map_err(failed)?;
    let spawned = job.stdin(Stdio::null()).stdout(out).stderr(errors).spawn();
    let child = spawned.map_err(|e| format!("{job:?} did not start: {e}"))?;
    Ok(Job { child, log, since: Instant::now() })
}

impl Job {
    pub fn text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

pub fn finish(mut job: Job) -> Result<(bool, String)> {
    loop {
        if let Some(status) = job.child.try_wait().map_err(|e| format!("waiting for a job: {e}"))? {
            return Ok((status.success(), job.text()));
        }
        if job.since.elapsed() > LIMIT {
            let _ = job.child.kill();
            let _ = job.child.wait();
            return Err(format!("a job hangs:\n{}", job.text()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn expect_success(what: &str, job: Command) -> Result<String> {
    match finished(job)? {
        (true, text) => Ok(text),
        (false, text) => Err(format!("{what} failed:\n{text}")),
    }
}

pub fn expect_failure(what: &str, (success, text): (bool, String), hints: &[&str]) -> Result {
    if let Some(missing) = hints.iter().find(|hint| !text.contains(**hint)) {
        return Err(format!("{what}: expected `{missing}` in\n{text}"));
    }
    if success { Err(format!("{what}: expected a failure\n{text}")) } else { Ok(()) }
}

/// Compares every file of weights in two checkpoints byte by byte.
pub fn expect_same(what: &str, one: &str, other: &str, checkpoint: &str) -> Result {
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("{what}: {}: {e}", path.display()));
    let folder = Path::new(one).join(checkpoint);
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut compared = 0;
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let name = path.file_name().unwrap_or_default();
            if read(&path)? != read(&Path::new(other).join(checkpoint).join(name))? {
                return Err(format!("{what}: {} differs from one process's", name.to_string_lossy()));
            }
            compared += 1;
        }
    }
    if compared < 2 { Err(format!("{what}: {compared} files in {}", folder.display())) } else { Ok(()) }
}

/// Processes of this program that a job started, by their command line. One that is ending has none any more.
#[cfg(target_os = "linux")]
pub fn processes(dir: &str) -> Vec<String> {
    let program = rowscan();
    let of_the_job = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let line = std::fs::read(path.join("cmdline")).ok()?;
        let is_one =
            std::fs::read_link(path.join("exe")).ok()? == program && String::from_utf8_lossy(&line).contains(dir);
        is_one.then(|| entry.file_name().to_string_lossy().into_owned())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| of_the_job(entry.ok()?)).collect()
}

#[cfg(not(target_os = "linux"))]
pub fn processes(_: &str) -> Vec<String> {
    Vec::new()
}

/// Waits until a run has taken some steps.
pub fn under_way(job: &mut Job, dir: &str) -> Result {
    let log = Path::new(dir).join("log.jsonl");
    loop {
        if std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() >= 3) {
            return Ok(());
        }
        if job.since.elapsed() > LIMIT || job.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            let _ = job.child.kill();
            return Err(format!("a run does not begin:\n{}", job.text()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn signal(name: &str, process: &str) -> Result {
    run(command("kill", &[name, process]))
}

/// Whether a killed process still holds its files: one of its threads waits for the disk, beside others' traffic for
/// many seconds. What is left of it when all have ended is a zombie, until somebody asks how it ended.
pub fn is_ending(process: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let states = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // the state follows the name in parentheses
    states.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).any(|state| !matches!(state, 'Z' | 'X'))
}

/// Waits until no process of a job is left.
pub fn without_processes(dir: &str, limit: Duration) -> Result {
    let since = Instant::now();
    while !processes(dir).is_empty() {
        if since.elapsed() > limit {
            return Err(format!("{} processes stay behind", processes(dir).len()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
