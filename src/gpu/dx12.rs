//! DX12's shader compiler. wgpu uses Microsoft's DXC where it finds it, and else Windows' old compiler, FXC, without a
//! word. FXC needs about a hundred times as long for a pipeline, minutes for a training step, so its use is told.

use std::path::{Path, PathBuf};

/// The library of DXC.
const LIBRARY: &str = "dxcompiler.dll";

/// What to tell whoever opens a DX12 adapter that FXC compiles for.
pub(super) const WITHOUT_DXC: &str = "DX12 without Microsoft's compiler DXC: each kernel takes about a hundred times \
     as long to compile with the old one. Put dxcompiler.dll (version 1.8.2502 or later, from \
     https://github.com/microsoft/DirectXShaderCompiler/releases) beside the program, or use a Vulkan driver";

/// The compiler to use. `wanted` is what the variable `WGPU_DX12_COMPILER` asks for, `found` the library of DXC.
pub(super) fn compiler(wanted: Option<wgpu::Dx12Compiler>, found: Option<&Path>) -> wgpu::Dx12Compiler {
    match (wanted, found) {
        (Some(wanted), _) if !matches!(wanted, wgpu::Dx12Compiler::Auto) => wanted,
        (_, Some(path)) => wgpu::Dx12Compiler::DynamicDxc { dxc_path: path.to_string_lossy().into_owned() },
        (_, None) => wgpu::Dx12Compiler::Fxc,
    }
}

/// What to tell whoever opens an adapter of this backend, when `compiler` is in use for DX12. Nothing if someone asked
/// for FXC.
pub(super) fn warning(
    backend: wgpu::Backend, wanted: Option<&wgpu::Dx12Compiler>, compiler: &wgpu::Dx12Compiler,
) -> Option<&'static str> {
    let old = matches!(compiler, wgpu::Dx12Compiler::Fxc);
    let asked = matches!(wanted, Some(wgpu::Dx12Compiler::Fxc));
    (backend == wgpu::Backend::Dx12 && old && !asked).then_some(WITHOUT_DXC)
}

/// The library of DXC in the first of these folders that has it.
fn library_in(folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.into_iter().map(|folder| folder.join(LIBRARY)).find(|path| path.is_file())
}

/// The library of DXC beside the program, or in a folder of `PATH`. Only Windows has DX12.
pub(super) fn library() -> Option<PathBuf> {
    if !cfg!(windows) {
        return None;
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    library_in(beside.into_iter().chain(std::env::split_paths(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::Backend::{Dx12, Vulkan};
    use wgpu::Dx12Compiler::{Auto, DynamicDxc, Fxc, StaticDxc};

    #[test]
    fn dxc_is_used_where_it_is_found_and_fxc_is_told() {
        let at = Path::new("C:/rowscan/dxcompiler.dll");
        let path = |compiler| match compiler {
            DynamicDxc { dxc_path } => dxc_path,
            other => panic!("{other:?}"),
        };
        for wanted in [None, Some(Auto)] {
            assert_eq!(path(compiler(wanted.clone(), Some(at))), "C:/rowscan/dxcompiler.dll");
            let old = compiler(wanted.clone(), None);
            assert!(matches!(old, Fxc));
            assert_eq!(warning(Dx12, wanted.as_ref(), &old), Some(WITHOUT_DXC));
            assert_eq!(warning(Vulkan, wanted.as_ref(), &old), None);
            assert_eq!(warning(Dx12, wanted.as_ref(), &compiler(wanted.clone(), Some(at))), None);
        }
        assert!(matches!(compiler(Some(StaticDxc), None), StaticDxc));
        // who asks for the old one gets it, and need not be told
        assert!(matches!(compiler(Some(Fxc), Some(at)), Fxc));
        assert_eq!(warning(Dx12, Some(&Fxc), &Fxc), None);
    }

    #[test]
    fn the_library_is_found_in_the_first_folder_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b", "c"].map(|name| dir.path().join(name));
        folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        assert_eq!(library_in(folders.clone()), None);
        for folder in &folders[1..] {
            std::fs::write(folder.join(LIBRARY), "").unwrap();
        }
        assert_eq!(library_in(folders.clone()), Some(folders[1].join(LIBRARY)));
    }
}
