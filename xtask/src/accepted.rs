//! `cargo xtask wgsl-check`: do the shader compilers of Chrome and of DX12 accept every kernel?

use std::path::{Path, PathBuf};

use crate::workshop::{Result, cargo, command, has, python, root, run, seed, target};

/// npm's package of Dawn, Chrome's implementation of WebGPU with the compiler Tint.
const DAWN: &str = "webgpu@0.6.2";
/// PyPI's package whose source archive holds DXC's library for Linux, macOS and Windows.
const DXC: &str = "compushady==0.17.5";

/// Fails if one of the two compilers refuses a kernel. Fetches them under `target/` if they are not there. If all is
/// compiled and accepted, `benches/static/accepted.txt` says so; a sampled run leaves out most of what it names.
pub fn check(sampled: bool) -> Result {
    let (dawn, dxc) = (dawn()?, dxc()?);
    run(command(cargo(), &["build", "--release", "--quiet", "--package", "rowscan-static"]))?;
    let folder = target().join("wgsl-check");
    let accept = target().join("release").join(format!("accept{}", std::env::consts::EXE_SUFFIX));
    let (library, versions, seed) = (text(&dxc), format!("{DAWN}, {DXC}"), seed().to_string());
    let mut args = vec!["--dxc", &library, "--versions", &versions];
    if sampled {
        println!("by ROWSCAN_TEST_SEED={seed}");
        args.extend(["--sample", &seed]);
    }
    let by_dxc = run(command(accept, &[&[text(&folder).as_str()], &args[..]].concat()));
    let by_tint = run(command("node", &["benches/static/tint.mjs", &text(&dawn), &text(&folder)]));
    match (by_dxc, by_tint) {
        (Ok(()), Ok(())) if sampled => Ok(()),
        (Ok(()), Ok(())) => {
            let kept = root().join("benches/static/accepted.txt");
            let copied = std::fs::copy(folder.join("accepted.txt"), &kept);
            copied.map(|_| ()).map_err(|e| format!("{}: {e}", kept.display()))
        }
        _ => Err("a kernel was refused: see the lines above".into()),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn dawn() -> Result<PathBuf> {
    let folder = target().join("dawn");
    let package = folder.join("node_modules").join("webgpu");
    if !package.exists() {
        if !has("node") || !has("npm") {
            return Err("Chrome's shader compiler runs in Node.js 20 or later, fetched by npm: install them".into());
        }
        println!("fetching Dawn, Chrome's WebGPU, under {} (130 MB)", folder.display());
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        run(command("npm", &["install", "--silent", "--no-save", "--prefix", &text(&folder), DAWN]))?;
    }
    Ok(package)
}

fn dxc() -> Result<PathBuf> {
    let name = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "libdxcompiler_x86_64.so.3.7",
        ("linux", "aarch64") => "libdxcompiler_aarch64.so.3.7",
        ("macos", _) => "libdxcompiler.3.7.dylib",
        ("windows", "x86_64") => "dxcompiler.dll",
        (system, machine) => return Err(format!("no DXC for {system} on {machine} is known here")),
    };
    let folder = target().join("dxc");
    let library = folder.join(name);
    if !library.exists() {
        println!("fetching DXC, DX12's shader compiler, under {} (70 MB)", folder.display());
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"];
        run(command(python()?, &[&download[..], &[&text(&folder), DXC]].concat()))?;
        let archive = folder.join(format!("{}.tar.gz", DXC.replace("==", "-")));
        let inside = format!("{}/compushady/backends/{name}", DXC.replace("==", "-"));
        run(command("tar", &["-xzf", &text(&archive), "-C", &text(&folder), "--strip-components=3", &inside]))?;
        std::fs::remove_file(&archive).map_err(|e| format!("{}: {e}", archive.display()))?;
    }
    Ok(library)
}
