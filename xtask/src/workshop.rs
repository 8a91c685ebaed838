//! Commands in the root of the repository, and the installation of packages that the machine lacks.

use std::path::{Path, PathBuf};
use std::process::Command;

pub type Result<T = ()> = std::result::Result<T, String>;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A command in the root of the repository.
pub fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir()); // without one the Vulkan loader prints an error
    }
    command
}

pub fn run(mut command: Command) -> Result {
    let name = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(e) => Err(format!("{name} did not start: {e}")),
    }
}

pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The path of the program that cargo built.
pub fn rowscan() -> PathBuf {
    target().join("release").join(format!("rowscan{}", std::env::consts::EXE_SUFFIX))
}

/// What chooses among long lists: ROWSCAN_TEST_SEED, or the number of the day.
pub fn seed() -> u64 {
    let today = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() / 86_400);
    std::env::var("ROWSCAN_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(today)
}

/// Builds the program. If it finds no adapter, installs a software driver for Vulkan.
pub fn set_up() -> Result {
    println!("building (the first time takes some minutes)");
    run(command(cargo(), &["build", "--release", "--quiet", "--package", "rowscan"]))?;
    let found = || {
        let mut probe = command(rowscan(), &["info", "--adapter-only"]);
        probe.stderr(std::process::Stdio::null()); // the failure is repaired below, or reported there
        run(probe)
    };
    if found().is_ok() {
        return Ok(());
    }
    println!(
        "no GPU adapter on this machine: installing the software Vulkan driver `mesa-vulkan-drivers` with apt-get"
    );
    apt_install(&["mesa-vulkan-drivers", "libvulkan1"])
        .map_err(|e| format!("{e}: install a Vulkan driver (lavapipe will do) and run this again"))?;
    found().map_err(|e| format!("still no adapter after installing the driver: {e}"))
}

/// Installs Debian packages, with sudo unless the user is root.
pub fn apt_install(packages: &[&str]) -> Result {
    if !cfg!(target_os = "linux") || Command::new("apt-get").arg("--version").output().is_err() {
        return Err(format!("there is no apt-get here to install {}", packages.join(", ")));
    }
    let root_user = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    let apt = |args: &[&str]| {
        let args = [&["-o", "DPkg::Lock::Timeout=300"], args].concat();
        let mut apt =
            if root_user { command("apt-get", &args) } else { command("sudo", &[&["apt-get"], &args[..]].concat()) };
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(apt)
    };
    // another installation may be under way; the lists have a lock that nothing waits for
    let mut updated = apt(&["update", "-qq"]);
    for _ in 0..10 {
        if updated.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(3));
        updated = apt(&["update", "-qq"]);
    }
    updated?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

/// Whether a program can be started.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Python 3, whose pip fetches compilers.
///
/// # Errors
/// If there is none.
pub fn python() -> Result<&'static str> {
    let found = ["python3", "python"].into_iter().find(|name| has(name));
    found.ok_or_else(|| "compilers are fetched with Python's pip: install Python 3".into())
}

/// The target folder of cargo.
pub fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}
