//! `cargo xtask`: sets up a fresh machine, then runs the demonstration, the tests or the browser page.

mod accepted;
mod compilers;
mod cuda;
mod dist;
mod mesa;
mod mpi;
mod web;
mod workshop;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use workshop::{Result, cargo, command, root, rowscan, run, set_up, target};

const USAGE: &str = "usage: cargo xtask demo | test [FILTER] | try NAME | web [--release DIR] | web-build [--tests]
                   web-test [FILTER]
                   web-firefox | manifest [--accept] | bench-cpu [ARGS] | static [DEVICE|--sample] [--accept]
                   wgsl-check [--sample] | mpi-test | dist [PLATFORM]
  demo       builds, pretrains `micro` on generated images for about two minutes on two CPU cores,
             draws what it learned
  test       builds and runs every test; a missing GPU adapter is a failure
  try        runs the tests in tests/ whose path contains NAME, and no others:
             ops::activation, ops::matmul, backbones, models, cli::resume
  manifest   runs the tests of the operators and compares what they launch with src/ops/kernels.md, which lists each
             kernel with its tests, bench and static rows; --accept writes that file; `test` compares too
  web        builds the browser page and serves it on 127.0.0.1; --release DIR writes it to a folder for any static host
  web-build  builds it only, into target/page, and the package for npm, into target/npm; --tests builds what `web-test`
             runs, too
  web-test   builds it and tests it in Chromium with software WebGPU; a missing adapter is a failure
  web-firefox  opens the page in Debian's Firefox, with and without WebGPU; CI leaves it out
  bench-cpu  runs `rowscan bench ARGS` on the CPU by Debian's newest Mesa, unpacked beside the system's
  static     compiles every kernel with Mesa's compilers of AMD's, NVIDIA's and Apple's GPUs (rdna3, rdna4, turing,
             ampere, m1) and with NVIDIA's own (hopper), without a GPU, and compares with benches/static/budget.toml;
             --accept writes that file; --only NAME takes kernels of that name alone; --sample takes three devices of
             Mesa's, from day to day others, and few of the kernels that are as accepted
  wgsl-check compiles every kernel with the shader compilers of Chrome (Tint) and of DX12 (DXC), without either, and
             writes benches/static/accepted.txt; --sample takes few of the kernels that are as that file says
  mpi-test   trains with several processes by Open MPI and MPICH, on one host and on two, compares the bits with those
             of one process, and kills, stops and cuts off parts of jobs
  dist       makes target/dist/rowscan-VERSION-PLATFORM.tar.gz, of the program without symbols, completions and
             licenses, and its checksum; what is packed for this machine is started in an empty root, as root only can
Each first installs what the machine lacks with apt-get, and says so: a software Vulkan driver, the wasm32 target,
Chromium, MPI.";

/// Epochs and data set of the demonstration.
const DEMO: [&str; 2] = ["5", "synthetic:512"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["demo"] => demo(),
        ["test", filter @ ..] => test(filter),
        ["try", name] => tests(&["--package", "rowscan", "--test", "tests", name]),
        ["manifest"] => manifest(false),
        ["manifest", "--accept"] => manifest(true),
        ["web"] => web::serve(),
        ["web", "--release", folder] => web::release(folder),
        ["web-build"] => web::build(),
        ["web-build", "--tests"] => web::build_with_tests(),
        ["web-test", filter @ ..] => web::test(filter),
        ["web-firefox"] => web::firefox(),
        ["bench-cpu", args @ ..] => bench_cpu(args),
        ["static", args @ ..] => compilers::compare(args),
        ["wgsl-check"] => accepted::check(false),
        ["wgsl-check", "--sample"] => accepted::check(true),
        ["mpi-test"] => mpi::test(),
        ["dist"] => dist::dist(None),
        ["dist", platform] => dist::dist(Some(platform)),
        #[cfg(feature = "bindgen")]
        ["bindgen", wasm, out] => web::bindgen(wasm, out),
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

fn demo() -> Result {
    set_up()?;
    let out = root().join("out").join("demo");
    if out.exists() {
        std::fs::remove_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    }
    let dir = out.to_string_lossy().into_owned();
    let [epochs, data] = DEMO;
    let args = ["pretrain", "--data", data, "--model", "micro", "--image-size", "64", "--epochs", epochs];
    let recipe = ["--log-every", "2", "--keep", "1", "--output-dir", &dir];
    let args = [&args[..], &recipe].concat();
    println!("rowscan {}", args.join(" "));
    run(command(rowscan(), &args))?;
    println!("original | masked | reconstruction:  {}", out.join(format!("grid-{epochs:0>4}.png")).display());
    println!("loss curve:                          {}", out.join("loss.svg").display());
    Ok(())
}

/// All tests, and then the manifest against what they launched; with a filter only the tests that it selects.
fn test(filter: &[&str]) -> Result {
    set_up()?;
    if !filter.is_empty() {
        return tests(&[&["--workspace"], filter].concat());
    }
    let launched = launched()?;
    run(recorded(&["--workspace"], &launched))?;
    run(recorded(OF_THE_MANIFEST, &launched))
}

/// The test that compares the manifest with what the other tests launched.
const OF_THE_MANIFEST: &[&str] = &["--test", "tests", "tests_launch_what_the_manifest_says", "--", "--ignored"];

/// The tests of the operators with all of their cases, and then the manifest against what they launched, or anew.
fn manifest(accept: bool) -> Result {
    set_up()?;
    let launched = launched()?;
    let all = |which| {
        let mut tests = recorded(which, &launched);
        tests.env("ROWSCAN_TEST_SHARE", "1");
        tests
    };
    run(all(&["--test", "tests", "ops::"]))?;
    let mut compare = all(OF_THE_MANIFEST);
    compare.env("ROWSCAN_ACCEPT", if accept { "1" } else { "0" });
    run(compare)
}

/// The file in which tests write down what they launch, emptied.
fn launched() -> Result<PathBuf> {
    let path = target().join("launched.txt");
    let made = std::fs::create_dir_all(target()).and_then(|()| std::fs::write(&path, ""));
    made.map(|()| path.clone()).map_err(|e| format!("{}: {e}", path.display()))
}

/// A command that runs tests, which write down what they launch.
fn recorded(which: &[&str], launched: &Path) -> Command {
    let mut tests = test_command(which);
    tests.env("ROWSCAN_LAUNCHED", launched);
    // one more test than cores: each waits for its device and for processes now and then. And a single thread has no
    // test's name.
    if let (Ok(cores), None) = (std::thread::available_parallelism(), std::env::var_os("RUST_TEST_THREADS")) {
        tests.env("RUST_TEST_THREADS", (cores.get() + 1).to_string());
    }
    tests
}

/// Runs `rowscan bench` on the newest llvmpipe, which a Debian 12 does not have, after it has printed the driver.
fn bench_cpu(args: &[&str]) -> Result {
    let mesa = mesa::Mesa::unpacked()?;
    run(command(cargo(), &["build", "--release", "--quiet", "--package", "rowscan"]))?;
    for args in [&["info", "--adapter-only"], &[&["bench"], args].concat()[..]] {
        let mut on_the_cpu = mesa.command(&rowscan(), "lvp_icd.json", None)?;
        on_the_cpu.args(args);
        run(on_the_cpu)?;
    }
    Ok(())
}

fn tests(which: &[&str]) -> Result {
    run(test_command(which))
}

fn test_command(which: &[&str]) -> Command {
    let mut tests = command(cargo(), &[&["test", "--release"], which].concat());
    tests.env("REQUIRE_GPU", "1");
    tests
}
