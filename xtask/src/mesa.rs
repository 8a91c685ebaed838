//! A current Mesa beside the system's, unpacked under `target/mesa`: the compilers of AMD's, NVIDIA's and Apple's GPUs
//! with null hardware that needs no GPU, and the newest llvmpipe.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workshop::{self, Result, run, target};

/// What is unpacked, with all that it depends on, libc included: programs run on it through its own loader.
const PACKAGES: [&str; 5] = ["mesa-vulkan-drivers", "mesa-drm-shim", "libvulkan1", "libc6", "libstdc++6"];

/// Debian's releases that have it.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked Mesa.
pub struct Mesa {
    root: PathBuf,
    libraries: PathBuf,
}

impl Mesa {
    /// The Mesa under `target/mesa`. Unpacks it if it is not there.
    ///
    /// # Errors
    /// If this is not a Debian system, or the packages cannot be had.
    pub fn unpacked() -> Result<Self> {
        let (folder, root) = (target().join("mesa"), target().join("mesa").join("root"));
        let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
        if !root.exists() {
            println!("unpacking Debian's newest Mesa under {} (300 MB); the system is left as it is", folder.display());
            unpack(&folder, &root)
                .map_err(|e| format!("no newer Mesa: {e}; this needs Debian 12 or later and its packages"))?;
        }
        Ok(Self { root, libraries })
    }

    /// A command that runs a program on a driver of this Mesa. `manifest` is the driver's; `shim` names the null
    /// hardware, with its settings.
    pub fn command(&self, program: &Path, manifest: &str, shim: Option<(&str, &[(&str, &str)])>) -> Result<Command> {
        let mut loaders = entries(&self.libraries)?;
        loaders.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")));
        let mut command = workshop::command(loaders.first().ok_or("the unpacked Mesa has no loader")?, &[]);
        command.arg("--library-path").arg(&self.libraries);
        if let Some((name, settings)) = shim {
            command.arg("--preload").arg(self.libraries.join(format!("lib{name}_noop_drm_shim.so")));
            command.envs(settings.iter().copied());
        }
        command.arg(program).env("VK_DRIVER_FILES", self.root.join("usr/share/vulkan/icd.d").join(manifest));
        command.env("VK_LOADER_LAYERS_DISABLE", "*").env("MESA_SHADER_CACHE_DISABLE", "1");
        Ok(command)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(read.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

/// Downloads the packages and what they need through an apt-get whose lists and state are under `folder`, and unpacks
/// them to `root`.
fn unpack(folder: &Path, root: &Path) -> Result {
    let apt = folder.join("apt");
    let create = |path: PathBuf| std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()));
    let write = |path: PathBuf, text: &str| std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()));
    for part in ["lists/partial", "cache/archives/partial", "parts"] {
        create(apt.join(part))?;
    }
    let mirror = mirror();
    let source = |suite: &str| format!("deb [signed-by={KEYS}] {mirror} {suite} main\n");
    write(apt.join("sources.list"), &SUITES.map(source).concat())?;
    write(apt.join("status"), "")?;
    let at = |what: &str, path: &str| format!("{what}={}", apt.join(path).display());
    let options = [
        at("Dir::State", ""),
        at("Dir::State::status", "status"),
        at("Dir::State::lists", "lists"),
        at("Dir::Cache", "cache"),
        at("Dir::Etc::sourcelist", "sources.list"),
        at("Dir::Etc::sourceparts", "parts"),
        at("Dir::Etc::preferencesparts", "parts"),
        "APT::Sandbox::User=root".into(),
        "APT::Install-Recommends=false".into(),
    ];
    let get = |args: &[&str]| {
        let mut get = Command::new("apt-get");
        options.iter().for_each(|option| {
            get.args(["-o", option]);
        });
        get.args(["-y", "-qq"]).args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
        run(get)
    };
    get(&["update"])?;
    get(&[&["--download-only", "-t", SUITES[1], "install"], &PACKAGES[..]].concat())?;
    let partial = folder.join("partial");
    create(partial.clone())?;
    for package in
        entries(&apt.join("cache/archives"))?.iter().filter(|path| path.extension().is_some_and(|e| e == "deb"))
    {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(package).arg(&partial);
        run(unpack)?;
    }
    point_here(&partial, root)?;
    std::fs::rename(&partial, root).map_err(|e| format!("{}: {e}", root.display()))?;
    std::fs::remove_dir_all(&apt).map_err(|e| format!("{}: {e}", apt.display()))
}

/// The mirror that this system uses, or Debian's.
fn mirror() -> String {
    let text = std::fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix("URIs:")?.split_whitespace().next());
    named.unwrap_or("http://deb.debian.org/debian").to_owned()
}

/// Rewrites the drivers' manifests, which name libraries of the system, to those that will be at `root`.
fn point_here(partial: &Path, root: &Path) -> Result {
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    for path in entries(&partial.join("usr/share/vulkan/icd.d"))? {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let line = |line: &str| match line.split_once("\"library_path\":") {
            Some((head, value)) => {
                let name = value.trim().trim_matches([',', '"']).rsplit('/').next().unwrap_or_default().to_owned();
                let comma = if value.trim_end().ends_with(',') { "," } else { "" };
                format!("{head}\"library_path\": \"{}\"{comma}\n", libraries.join(name).display())
            }
            None => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
