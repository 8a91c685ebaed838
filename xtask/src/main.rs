//! `cargo xtask demo` and `cargo xtask test`: all the set-up of a fresh machine, then the demonstration or the tests.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Result<T = ()> = std::result::Result<T, String>;

const USAGE: &str = "usage: cargo xtask demo | test [FILTER]
  demo   builds, pretrains `micro` on generated images for about two minutes on two CPU cores, draws what it learned
  test   builds and runs every test; a missing GPU adapter is a failure
Both install a software Vulkan driver first if the machine has no adapter at all.";

/// Epochs and images of the demonstration.
const DEMO: [&str; 2] = ["5", "synthetic:512"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["demo"] => demo(),
        ["test", filter @ ..] => test(filter),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A command in the root of the repository.
fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir()); // the Vulkan loader complains without one
    }
    command
}

fn run(mut command: Command) -> Result {
    let name = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(e) => Err(format!("{name} did not start: {e}")),
    }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Where cargo put the program.
fn rowscan() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target).join("release").join(format!("rowscan{}", std::env::consts::EXE_SUFFIX))
}

/// Builds the program, and makes sure that it finds an adapter.
fn set_up() -> Result {
    println!("building (the first time takes some minutes)");
    run(command(cargo(), &["build", "--release", "--quiet", "--package", "rowscan"]))?;
    let found = || {
        let mut probe = command(rowscan(), &["info", "--adapter-only"]);
        probe.stderr(std::process::Stdio::null()); // what it complains about is put right below, or reported
        run(probe)
    };
    if found().is_ok() {
        return Ok(());
    }
    println!(
        "no GPU adapter on this machine: installing the software Vulkan driver `mesa-vulkan-drivers` with apt-get"
    );
    if !cfg!(target_os = "linux") || Command::new("apt-get").arg("--version").output().is_err() {
        return Err("there is no apt-get here: install a Vulkan driver (lavapipe will do) and run this again".into());
    }
    let root_user = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    let apt = |args: &[&str]| {
        let mut apt =
            if root_user { command("apt-get", args) } else { command("sudo", &[&["apt-get"], args].concat()) };
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(apt)
    };
    apt(&["update", "-qq"])?;
    apt(&["install", "-y", "-qq", "--no-install-recommends", "mesa-vulkan-drivers", "libvulkan1"])?;
    found().map_err(|e| format!("still no adapter after installing the driver: {e}"))
}

fn demo() -> Result {
    set_up()?;
    let out = root().join("out").join("demo");
    if out.exists() {
        std::fs::remove_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    }
    let dir = out.to_string_lossy().into_owned();
    let [epochs, data] = DEMO;
    let args = ["pretrain", "--data", data, "--model", "micro", "--image-size", "64", "--epochs", epochs];
    let recipe = ["--batch-size", "16", "--blr", "2.4e-2", "--warmup-epochs", "0.5", "--log-every", "2", "--keep", "1"];
    let args = [&args[..], &recipe, &["--output-dir", &dir]].concat();
    println!("rowscan {}", args.join(" "));
    run(command(rowscan(), &args))?;
    println!("original | masked | reconstruction:  {}", out.join(format!("grid-{epochs:0>4}.png")).display());
    println!("loss curve:                          {}", out.join("loss.svg").display());
    Ok(())
}

fn test(filter: &[&str]) -> Result {
    set_up()?;
    let args = [&["test", "--release", "--workspace"], filter].concat();
    let mut tests = command(cargo(), &args);
    tests.env("REQUIRE_GPU", "1");
    run(tests)
}
