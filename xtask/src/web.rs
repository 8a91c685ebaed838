//! Builds, serves and tests the browser page.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workshop::{Result, apt_install, cargo, command, has, root, rowscan, run, set_up, target};

const TARGET: &str = "wasm32-unknown-unknown";
/// The port at which `web` serves the page.
const PORT: &str = "8737";
/// Largest size of the compressed module, in bytes.
const BUDGET: u64 = 3 << 20;
/// WebAssembly features that wasm-opt may use: those that rustc enables by default.
const WASM_FEATURES: &[&str] = &[
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// The folder of the built page.
fn site() -> PathBuf {
    target().join("page")
}

/// The folder of the built package for npm.
fn npm() -> PathBuf {
    target().join("npm")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |e| format!("{}: {e}", path.display())
}

/// A cargo command for the wasm32 target, and its target folder. The standard library for wasm32 comes from rustup. If
/// rustup cannot add it, Debian's compiler builds it from Debian's source.
fn browser_cargo(args: &[&str]) -> Result<(Command, PathBuf)> {
    let args = [args, &["--locked", "--quiet", "--package", "rowscan-web", "--target", TARGET]].concat();
    if has_target() {
        return Ok((command(cargo(), &args), target()));
    }
    println!("rustup cannot add {TARGET} here: taking the compiler and standard library of Debian");
    if !Path::new("/usr/bin/rustc").exists() || !Path::new("/usr/bin/cargo").exists() || !debian_source().exists() {
        println!("installing rustc-web, cargo-web and rust-web-src with apt-get");
        apt_install(&["rustc-web", "cargo-web", "rust-web-src"])?;
    }
    let version = Command::new("/usr/bin/rustc").arg("-vV").output().map_err(|e| format!("/usr/bin/rustc: {e}"))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next());
    let llvm = llvm.ok_or("/usr/bin/rustc does not tell its LLVM version")?;
    let linker = format!("wasm-ld-{llvm}");
    if !has(&linker) {
        println!("installing lld-{llvm} with apt-get");
        apt_install(&[&format!("lld-{llvm}")])?;
    }
    let apart = target().join("web-debian"); // builds of two compilers cannot share a folder
    let mut build = command("/usr/bin/cargo", &args);
    build.args(["-Z", "build-std=std,panic_abort,test"]).arg("--target-dir").arg(&apart);
    build.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    build.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO"] {
        build.env_remove(name);
    }
    Ok((build, apart))
}

/// Compiles the module of the page.
fn compile() -> Result<PathBuf> {
    let (build, target) = browser_cargo(&["build", "--profile", "web"])?;
    run(build)?;
    Ok(target.join(TARGET).join("web").join("rowscan_web.wasm"))
}

/// Compiles the module with the operators' tests.
fn compile_suite() -> Result<PathBuf> {
    let args = ["test", "--no-run", "--profile", "suite", "--test", "suite", "--message-format", "json"];
    let (mut build, _) = browser_cargo(&args)?;
    let built = build.stderr(std::process::Stdio::inherit()).output().map_err(|e| format!("{build:?}: {e}"))?;
    let text = String::from_utf8_lossy(&built.stdout);
    let executable = text.lines().find_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    match (built.status.success(), executable) {
        (true, Some(path)) => Ok(path.replace("\\\\", "\\").into()),
        _ => Err(format!("{build:?} ended with {}", built.status)),
    }
}

/// A file of the standard library's source, as Debian installs it.
fn debian_source() -> PathBuf {
    let sysroot = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock")
}

/// Whether the compiler has a standard library for wasm32. Adds one with rustup if not.
fn has_target() -> bool {
    let libdir =
        Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).current_dir(root()).output();
    let present = || {
        let at = libdir.as_ref().ok()?;
        let folder = fs::read_dir(String::from_utf8_lossy(&at.stdout).trim()).ok()?;
        Some(folder.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd")))
    };
    present() == Some(true) || {
        println!("rustup target add {TARGET}");
        run(command("rustup", &["target", "add", TARGET])).is_ok()
    }
}

/// Writes JavaScript bindings for a module, with the library of `wasm-bindgen`, which only the feature `bindgen`
/// builds.
#[cfg(feature = "bindgen")]
pub fn bindgen(wasm: &str, out: &str) -> Result {
    let mut tool = wasm_bindgen_cli_support::Bindgen::new();
    tool.input_path(wasm).omit_default_module_path(false).typescript(true);
    tool.remove_name_section(true).remove_producers_section(true);
    tool.web(true).and_then(|tool| tool.generate(out)).map_err(|e| format!("{e:#}"))
}

/// Runs `bindgen` in a build of this program with that feature.
fn bind(wasm: &Path, out: &Path) -> Result {
    let tools = text(&target().join("bindgen"));
    let tool =
        ["run", "--release", "--quiet", "--locked", "--package", "xtask", "--features", "bindgen", "--target-dir"];
    run(command(cargo(), &[&tool[..], &[&tools, "--", "bindgen", &text(wasm), &text(out)]].concat()))
}

/// Makes of the operators' tests the folder `target/web-suite`. The tests block on the GPU, so the page has to call
/// their main function as a promise that can be suspended; the bindings' own call is replaced.
fn suite_site(wasm: &Path) -> Result<PathBuf> {
    let site = target().join("web-suite");
    fresh(&site)?;
    copy(&root().join("web/suite"), &site)?;
    let renamed = site.join("suite.wasm"); // the bindings are named after it
    copy(wasm, &renamed)?;
    bind(&renamed, &site)?;
    let glue = site.join("suite.js");
    let (start, later) =
        ("wasm.__wbindgen_start();", "globalThis.suiteMain = WebAssembly.promising(wasm.__wbindgen_start);");
    let script = fs::read_to_string(&glue).map_err(io(&glue))?;
    if !script.contains(start) {
        return Err(format!("{}: no call of the module's main function", glue.display()));
    }
    fs::write(&glue, script.replace(start, later)).map_err(io(&glue))?;
    Ok(site)
}

/// Installs the node packages of web/package-lock.json, unless they are there.
fn packages() -> Result {
    if !has("node") || !has("npm") {
        return Err("the page is built with Node.js 20 or later and npm: install them and run this again".into());
    }
    let (lock, installed) = ("web/package-lock.json", "web/node_modules/.package-lock.json");
    let time = |path: &str| fs::metadata(root().join(path)).and_then(|m| m.modified()).ok();
    if time(installed) >= time(lock) {
        return Ok(());
    }
    run(command("npm", &["ci", "--prefix", "web", "--silent"]))
}

fn copy(from: &Path, to: &Path) -> Result {
    if from.is_dir() {
        fs::create_dir_all(to).map_err(io(to))?;
        for entry in fs::read_dir(from).map_err(io(from))? {
            let entry = entry.map_err(io(from))?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(io(from))
}

/// An empty folder.
fn fresh(folder: &Path) -> Result {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(io(folder))?;
    }
    fs::create_dir_all(folder).map_err(io(folder))
}

/// Options of TypeScript's compiler, which checks the package's comments against the bindings and writes its types.
const TYPES: &[&str] = &[
    "--allowJs",
    "--checkJs",
    "--strict",
    "--declaration",
    "--emitDeclarationOnly",
    "--target",
    "esnext",
    "--module",
    "nodenext",
    "--lib",
    "esnext,dom,dom.iterable,dom.asynciterable",
];

/// Makes a module smaller by Binaryen, which takes half a minute. What it made of the same bytes last time is kept.
fn shrink(module: &Path) -> Result {
    let folder = target().join("shrunk");
    let [before, after] = ["before.wasm", "after.wasm"].map(|name| folder.join(name));
    let bytes = fs::read(module).map_err(io(module))?;
    if fs::read(&before).ok().as_ref() != Some(&bytes) || !after.exists() {
        fresh(&folder)?;
        let (from, to) = (text(module), text(&after));
        let shrink = ["web/node_modules/binaryen/bin/wasm-opt", "-O3", &from, "-o", &to];
        run(command("node", &[&shrink[..], WASM_FEATURES].concat()))?;
        fs::write(&before, bytes).map_err(io(&before))?;
    }
    fs::copy(&after, module).map(drop).map_err(io(module))
}

/// Builds the package into `target/npm`: scripts, types, module.
fn package() -> Result {
    let wasm = compile()?;
    let package = npm();
    fresh(&package)?;
    copy(&root().join("web/npm"), &package)?;
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&root().join(license), &package.join(license))?;
    }
    let manifest = package.join("package.json");
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    if !fs::read_to_string(&manifest).map_err(io(&manifest))?.contains(&version) {
        return Err(format!("web/npm/package.json: expected {version}, the version of the workspace"));
    }
    let bindings = package.join("bindings");
    bind(&wasm, &bindings)?;
    let module = bindings.join("rowscan_web_bg.wasm");
    let (compiler, index) = (root().join("web/node_modules/typescript/bin/tsc"), package.join("index.mjs"));
    let types = command("node", &[&[text(&compiler).as_str(), &text(&index)], TYPES].concat());
    std::thread::scope(|s| {
        let types = s.spawn(|| run(types));
        shrink(&module)?;
        types.join().map_err(|_| "the compiler of types panicked")?
    })?;
    // compressed for hosts that do not compress; the ending keeps others from doing it again
    let packed = bindings.join("rowscan_web_bg.wasm.gzip");
    let pack = "const { gzipSync } = require('zlib'), { readFileSync, writeFileSync } = require('fs');
        writeFileSync(process.argv[2], gzipSync(readFileSync(process.argv[1]), { level: 9 }))";
    run(command("node", &["-e", pack, &text(&module), &text(&packed)]))?;
    let compressed = fs::metadata(&packed).map_err(io(&packed))?.len();
    let whole = fs::metadata(&module).map_err(io(&module))?.len();
    println!("the module: {} kB, {} kB compressed", whole / 1000, compressed / 1000);
    if compressed > BUDGET {
        return Err(format!("the module is {compressed} bytes compressed, the page allows {BUDGET}"));
    }
    Ok(())
}

/// Builds the package and the page, into `target/npm` and `target/page`.
pub fn build() -> Result {
    packages()?;
    println!("compiling the page (the first time takes some minutes)");
    package()?;
    let site = site();
    fresh(&site)?;
    copy(&root().join("web/app"), &site)?;
    copy(&root().join("web/assets"), &site.join("assets"))?;
    // of the package what the page loads: scripts, and the module, which it unpacks
    for folder in ["", "bindings"] {
        let (from, to) = (npm().join(folder), site.join("rowscan").join(folder));
        fs::create_dir_all(&to).map_err(io(&to))?;
        for file in fs::read_dir(&from).map_err(io(&from))?.flatten() {
            if file.path().extension().is_some_and(|end| ["mjs", "js", "gzip"].iter().any(|runs| end == *runs)) {
                copy(&file.path(), &to.join(file.file_name()))?;
            }
        }
    }
    Ok(())
}

/// Builds the page and writes it to `folder`, for any static host.
pub fn release(folder: &str) -> Result {
    build()?;
    let folder = std::path::absolute(folder).map_err(io(Path::new(folder)))?;
    run(command("node", &["web/release.mjs", &text(&site()), &text(&folder)]))
}

/// Builds the page and serves it until interrupted.
pub fn serve() -> Result {
    build()?;
    run(command("node", &["web/serve.mjs", &text(&site()), PORT]))
}

/// The path of a Chromium. Installs one if there is none.
fn chromium() -> Result<String> {
    if let Ok(named) = std::env::var("CHROMIUM") {
        return Ok(named);
    }
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let at = |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    let found = || names.iter().find_map(at).map(|path| text(&path));
    if let Some(path) = found() {
        return Ok(path);
    }
    println!("no Chromium on this machine: installing `chromium` with apt-get");
    apt_install(&["chromium"]).map_err(|e| format!("{e}: install Chromium or set CHROMIUM to one"))?;
    found().ok_or_else(|| "still no Chromium after installing it".into())
}

/// Builds the page and what tests it in Chromium.
pub fn build_with_tests() -> Result {
    built_with_tests().map(drop)
}

/// Builds the page and the module of the operators' tests, whose path it returns.
fn built_with_tests() -> Result<PathBuf> {
    chromium()?;
    browser_cargo(&[])?; // installs what is missing, before two builds look for it
    println!("compiling the tests of the operators for the browser");
    // the page is linked on one core for a minute, which leaves the other to the tests
    std::thread::scope(|s| {
        let suite = s.spawn(compile_suite);
        build()?;
        suite.join().map_err(|_| "the build of the browser's tests panicked")?
    })
}

/// Builds the page and tests it in Chromium. One test compares its reconstruction with that of this machine's adapter.
pub fn test(filter: &[&str]) -> Result {
    set_up()?;
    let suite = suite_site(&built_with_tests()?)?;
    let chromium = chromium()?;
    let out = target().join("web-test");
    fs::create_dir_all(&out).map_err(io(&out))?;
    let native = |name: &str| text(&out.join(name));
    let (sample, model) = (root().join("web/assets/samples/0.png"), root().join("web/assets/map_micro_patch4"));
    let reconstruct = ["--portable", "reconstruct", "--checkpoint", &text(&model), &text(&sample), "--seed", "5"];
    let files = ["--tensors", &native("native.safetensors"), "--output", &native("native.png")];
    run(command(rowscan(), &[&reconstruct[..], &files].concat()))?;
    let mut tests: Vec<_> = fs::read_dir(root().join("web/tests")).map_err(io(root()))?.flatten().collect();
    tests.retain(|file| file.file_name().to_string_lossy().ends_with(".test.mjs"));
    let mut tests: Vec<_> = tests.iter().map(|file| text(&file.path())).collect();
    tests.sort();
    // a page keeps one core and a half busy
    let mut node = command("node", &["--test", "--test-concurrency=2", "--test-reporter=spec"]);
    for name in filter {
        node.arg(format!("--test-name-pattern={name}"));
    }
    node.args(tests)
        .env("CHROMIUM_PATH", chromium)
        .env("ROWSCAN", rowscan())
        .env("SITE", site())
        .env("PACKAGE", npm())
        .env("SUITE", suite)
        .env("NATIVE", out);
    run(node)
}

/// Opens the page in Debian's Firefox, without WebGPU and with it.
pub fn firefox() -> Result {
    build()?;
    if !has("firefox-esr") {
        println!("no Firefox on this machine: installing `firefox-esr` with apt-get");
        apt_install(&["firefox-esr"])?;
    }
    run(command("node", &["web/firefox.mjs", &text(&site())]))
}
