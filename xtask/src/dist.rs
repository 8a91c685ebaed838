//! `cargo xtask dist`: an archive that people install from: the program without symbols, completions for shells,
//! licenses, and a checksum. What was packed is started: on this machine's platform where there is nothing but it,
//! elsewhere in an emulator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workshop::{Result, apt_install, cargo, command, has, root, run, target};

/// A platform that archives are made for.
struct Platform {
    target: &'static str,
    /// The linker, and the Debian packages with it and C's libraries; none on the platform of this machine.
    linker: Option<(&'static str, &'static [&'static str])>,
    program: &'static str,
    /// The command that starts programs of it here, and the Debian packages that have it.
    emulator: Option<(&'static [&'static str], &'static [&'static str])>,
}

const PLATFORMS: &[Platform] = &[
    Platform { target: "x86_64-unknown-linux-gnu", linker: None, program: "rowscan", emulator: None },
    Platform {
        target: "aarch64-unknown-linux-gnu",
        linker: Some(("aarch64-linux-gnu-gcc", &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"])),
        program: "rowscan",
        emulator: Some((&["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"], &["qemu-user"])),
    },
    Platform {
        target: "x86_64-pc-windows-gnu",
        linker: Some(("x86_64-w64-mingw32-gcc", &["gcc-mingw-w64-x86-64"])),
        program: "rowscan.exe",
        emulator: None, // Debian 12's Wine lacks bcryptprimitives.dll, which Rust's standard library needs
    },
];

/// Shells, and the files in which they look for completions.
const SHELLS: [(&str, &str); 4] =
    [("bash", "rowscan.bash"), ("zsh", "_rowscan"), ("fish", "rowscan.fish"), ("powershell", "_rowscan.ps1")];

fn io(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |e| format!("{}: {e}", path.display())
}

/// Makes the archive for a platform; for this machine's without a name.
pub fn dist(wanted: Option<&str>) -> Result {
    let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let wanted = wanted.unwrap_or(&here);
    let known = || PLATFORMS.iter().map(|platform| platform.target).collect::<Vec<_>>().join(", ");
    let platform = PLATFORMS.iter().find(|platform| platform.target == wanted);
    let platform = platform.ok_or_else(|| format!("no platform {wanted}: expected one of {}", known()))?;
    let own = wanted == here;
    let program = build(platform, own)?;
    // completions are the same everywhere, and only this machine's program is sure to tell them
    let asked = if own { program.clone() } else { build(&PLATFORMS[0], true)? };
    let name = format!("rowscan-{}-{wanted}", env!("CARGO_PKG_VERSION"));
    let folder = target().join("dist").join(&name);
    fill(&folder, &program, &asked)?;
    let archive = pack(&folder, &name)?;
    println!("{} ({:.1} MB)", archive.display(), fs::metadata(&archive).map_or(0.0, |file| file.len() as f64 / 1e6));
    match platform.emulator {
        _ if own => start_bare(&archive, &name),
        Some(emulator) => start_emulated(&folder.join(platform.program), emulator),
        None => {
            println!("built, not started: this machine is no {wanted}");
            Ok(())
        }
    }
}

/// Builds the program without symbols. For this machine's platform it shares everything with `cargo build --release`
/// but the last link.
fn build(platform: &Platform, own: bool) -> Result<PathBuf> {
    let base = ["rustc", "--release", "--quiet", "--locked", "--package", "rowscan", "--bin", "rowscan"];
    let (mut build, folder) = match own {
        true => (command(cargo(), &base), target().join("release")),
        false => {
            expect_library(platform.target)?;
            let (linker, packages) = platform.linker.ok_or("no linker is known for it")?;
            if !has(linker) {
                println!("installing {} with apt-get", packages.join(", "));
                apt_install(packages)?;
            }
            let mut build = command(cargo(), &[&base[..], &["--target", platform.target]].concat());
            let name = platform.target.to_uppercase().replace('-', "_");
            build.env(format!("CARGO_TARGET_{name}_LINKER"), linker);
            (build, target().join(platform.target).join("release"))
        }
    };
    println!("building for {}", platform.target);
    build.args(["--", "-C", "strip=symbols"]);
    run(build)?;
    Ok(folder.join(platform.program))
}

/// The standard library for another platform: rustup adds it where it can.
fn expect_library(target: &str) -> Result {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().map_err(|e| format!("rustc: {e}"))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let is_there = || sysroot.join("lib/rustlib").join(target).join("lib").exists();
    if is_there() || run(command("rustup", &["target", "add", target])).is_ok() && is_there() {
        return Ok(());
    }
    Err(format!("there is no standard library of Rust for {target} here, and rustup cannot add it"))
}

/// The folder that is packed.
fn fill(folder: &Path, program: &Path, asked: &Path) -> Result {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(io(folder))?;
    }
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).map_err(io(&completions))?;
    let readme = Path::new("README.md");
    let files = ["LICENSE-APACHE", "LICENSE-MIT"].map(|name| root().join(name));
    for from in files.iter().map(PathBuf::as_path).chain([root().join(readme).as_path(), program]) {
        let to = folder.join(from.file_name().unwrap_or_default());
        fs::copy(from, &to).map_err(io(from))?;
    }
    for (shell, name) in SHELLS {
        let said = Command::new(asked).args(["completions", shell]).output().map_err(io(asked))?;
        if !said.status.success() || said.stdout.is_empty() {
            return Err(format!(
                "rowscan completions {shell} ended with {} and {} bytes",
                said.status,
                said.stdout.len()
            ));
        }
        fs::write(completions.join(name), said.stdout).map_err(io(&completions))?;
    }
    Ok(())
}

/// Packs a folder, so that the same files are the same bytes, and writes the checksum beside it.
fn pack(folder: &Path, name: &str) -> Result<PathBuf> {
    let above = folder.parent().unwrap_or(folder);
    let archive = above.join(format!("{name}.tar.gz"));
    let file = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=go=rX,u+rw"];
    let mut tar = command("tar", &same);
    tar.args(["--use-compress-program", "gzip -9n", "-cf"]).arg(&archive).arg("-C").arg(above).arg(name);
    run(tar)?;
    let sum =
        Command::new("sha256sum").arg(&file).current_dir(above).output().map_err(|e| format!("sha256sum: {e}"))?;
    if !sum.status.success() {
        return Err(format!("sha256sum {file} ended with {}", sum.status));
    }
    fs::write(above.join(format!("{file}.sha256")), sum.stdout).map_err(io(&archive))?;
    Ok(archive)
}

/// What the program does without a GPU: arguments, exit status, words that it prints.
const WITHOUT_GPU: [(&[&str], i32, &str); 3] = [
    (&["--version"], 0, concat!("rowscan ", env!("CARGO_PKG_VERSION"))),
    (&["info", "--models"], 0, "map_tiny_patch16_224"),
    (&["pretrain", "--model", "tiny", "--dry-run"], 0, "parameters"),
];

/// Starts a program with these arguments and compares what comes out with what is expected.
fn expect(mut program: Command, (arguments, code, words): (&[&str], i32, &str)) -> Result {
    let said = program.args(arguments).output().map_err(|e| format!("{program:?}: {e}"))?;
    let text = [&said.stdout, &said.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    if said.status.code() != Some(code) || !text.contains(words) {
        return Err(format!("{program:?} ended with {}, expected {code}, `{words}`: {text}", said.status));
    }
    Ok(())
}

/// Starts the program of another platform, in an emulator of it.
fn start_emulated(program: &Path, (emulator, packages): (&[&str], &[&str])) -> Result {
    if !has(emulator[0]) {
        println!("installing {} with apt-get", packages.join(", "));
        apt_install(packages)?;
    }
    for expected in WITHOUT_GPU {
        let mut command = Command::new(emulator[0]);
        command.args(&emulator[1..]).arg(program);
        expect(command, expected)?;
    }
    println!("started in {}", emulator[0]);
    Ok(())
}

/// Unpacks the archive into an empty root with the libraries of C alone, and starts the program there.
fn start_bare(archive: &Path, name: &str) -> Result {
    let above = archive.parent().unwrap_or(archive);
    let file = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet", &format!("{file}.sha256")]).current_dir(above);
    run(check)?;
    let bare = above.join("bare");
    if bare.exists() {
        fs::remove_dir_all(&bare).map_err(io(&bare))?;
    }
    fs::create_dir_all(bare.join("tmp")).map_err(io(&bare))?;
    let mut unpack = command("tar", &["-xf"]);
    unpack.arg(archive).arg("-C").arg(&bare);
    run(unpack)?;
    let program = bare.join(name).join("rowscan");
    for library in libraries(&program)? {
        let to = bare.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(to.parent().unwrap_or(&bare)).map_err(io(&to))?;
        fs::copy(&library, &to).map_err(io(&library))?;
    }
    let inside = format!("/{name}/rowscan");
    // no Vulkan there: what needs no GPU works, and what does says so
    for expected in WITHOUT_GPU.into_iter().chain([(&["info", "--adapter-only"][..], 1, "no GPU adapter")]) {
        let mut chroot = Command::new("chroot");
        chroot.arg(&bare).arg(&inside).env_clear();
        chroot.env("HOME", "/tmp").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); // where chroot itself is
        expect(chroot, expected)?;
    }
    println!("started in {}: it needs nothing but the libraries of C", bare.display());
    fs::remove_dir_all(&bare).map_err(io(&bare))
}

/// The libraries that a program is linked with, and the loader that loads them.
///
/// # Errors
/// One that is none of C's: the program would not start on a machine without it.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output().map_err(|e| format!("ldd: {e}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths: Vec<PathBuf> =
        listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    let of_c = ["libc.so", "libm.so", "libgcc_s.so", "ld-linux", "libdl.so", "libpthread.so", "librt.so"];
    let foreign = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        !of_c.iter().any(|known| name.starts_with(known))
    };
    match paths.iter().find(foreign) {
        Some(path) => Err(format!("the program needs {}, which a bare machine has not", path.display())),
        None if paths.is_empty() => Err(format!("ldd {} lists nothing", program.display())),
        None => Ok(paths),
    }
}
