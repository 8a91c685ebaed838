//! NVIDIA's own compiler. Its driver takes SPIR-V and hands out nothing, so naga's HLSL goes through Slang to CUDA C++,
//! through nvcc to a cubin, and nvdisasm prints the assembly. Nothing here needs a GPU or a driver.
//!
//! The back end, which allocates registers, is that of the driver; the front end is not. So a count is what the kernel
//! can have, not what it will have. Buffers are not checked for their size here. Cooperative matrices are no part of
//! HLSL, so they take a way around it (`cooperative.rs`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cooperative;
use crate::driver::{Compiled, Result};
use crate::hlsl::hlsl;

/// The architecture: that of H100 and H200.
const ARCHITECTURE: &str = "sm_90";

/// Lanes of a warp.
pub const LANES: u32 = 32;
/// Bytes of workgroup memory that NVIDIA's Vulkan driver allows.
pub const WORKGROUP_MEMORY: u32 = 48 << 10;

/// The programs.
pub struct Toolkit {
    slangc: PathBuf,
    cuda: PathBuf,
    scratch: tempfile::TempDir,
    /// Version of the assembler.
    pub version: String,
}

impl Toolkit {
    /// The programs in a folder into which the wheels of PyPI were unpacked: slangtorch, nvidia-cuda-nvcc and what that
    /// needs.
    ///
    /// # Errors
    /// If one of them is missing or does not start.
    pub fn open(folder: &Path) -> Result<Self> {
        let cuda = folder.join("nvidia/cu13");
        let said = text(Command::new(cuda.join("bin/ptxas")).arg("--version"))?;
        let version = said.lines().find_map(|line| line.split_once(", V")).map(|(_, version)| version.trim());
        let scratch = tempfile::tempdir().map_err(|e| format!("a temporary folder: {e}"))?;
        Ok(Self {
            slangc: folder.join("slangtorch/bin/slangc"),
            version: format!("ptxas {}", version.unwrap_or("of an unknown version")),
            cuda,
            scratch,
        })
    }

    /// Compiles the entry point of a WGSL source.
    ///
    /// # Errors
    /// If a program on the way refuses it.
    pub fn compile(&self, entry: &str, source: &str) -> Result<Compiled> {
        let at = |kind: &str| self.scratch.path().join(format!("kernel.{kind}"));
        let write = |kind: &str, text: &str| std::fs::write(at(kind), text).map_err(|e| format!("{kind}: {e}"));
        let matrices = cooperative::are_in(source);
        let replaced = if matrices { cooperative::replaced(source)? } else { source.to_owned() };
        let (text_of_hlsl, name) = hlsl(entry, &replaced)?;
        let threads = threads(&text_of_hlsl)?;
        write("hlsl", &for_slang(&text_of_hlsl))?;
        let mut slang = Command::new(&self.slangc);
        slang.arg(at("hlsl")).args(["-lang", "hlsl", "-entry", &name, "-stage", "compute", "-target", "cuda"]);
        text(slang.args(["-line-directive-mode", "none", "-O3", "-o"]).arg(at("cu")))?;
        let written = std::fs::read_to_string(at("cu")).map_err(|e| format!("Slang wrote nothing: {e}"))?;
        let translated = if matrices { cooperative::restored(&written)? } else { written };
        let translated = for_nvcc(&translated, &name, threads)?;
        write("cu", &translated)?;
        let mut nvcc = Command::new(self.cuda.join("bin/nvcc"));
        nvcc.args(["-cubin", &format!("-arch={ARCHITECTURE}"), "-O3", "-DSLANG_CUDA_ENABLE_HALF=1", "-Xptxas", "-v"]);
        nvcc.arg("-use_fast_math"); // quotients, roots and exponentials to Vulkan's precision, not to CUDA's
        let said = text(nvcc.arg("-I").arg(self.cuda.join("include")).arg(at("cu")).arg("-o").arg(at("cubin")))?;
        let listing = text(Command::new(self.cuda.join("bin/nvdisasm")).arg("-c").arg(at("cubin")))?;
        if matrices && !listing.contains("HMMA") {
            return Err("no instruction of the tensor cores came out of its cooperative matrices".into());
        }
        let number = |what: &str| number_before(&said, what);
        let (registers, shared) = (number(" registers"), number(" bytes smem"));
        let figures = [
            ("Registers", registers),
            ("Spilled bytes", number(" bytes spill stores")),
            ("Stack", number(" bytes stack frame")),
            ("Warps", warps(threads.into(), registers, shared)),
            ("Instructions", listing.lines().filter(|line| line.contains("*/") && line.contains(';')).count() as u64),
        ];
        let figures = figures.map(|(name, value)| (name.to_owned(), value as f64)).to_vec();
        let texts = vec![("cu".into(), translated), ("SASS".into(), listing)];
        Ok(Compiled { subgroup: LANES, figures, texts })
    }
}

/// What a program prints on both outputs.
fn text(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = || said.lines().find(|line| line.contains("error")).unwrap_or(&said).to_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{name}: {}", line())) }
}

/// The invocations of a workgroup, of `[numthreads(64, 1, 1)]`.
fn threads(hlsl: &str) -> Result<u32> {
    let sizes = hlsl.split("[numthreads(").nth(1).and_then(|rest| rest.split(')').next());
    let sizes = sizes.map(|sizes| sizes.split(',').map(|size| size.trim().parse::<u32>().unwrap_or(0)).product());
    sizes.filter(|count| *count > 0).ok_or_else(|| "no numthreads in the HLSL".into())
}

/// The number in front of `what`, 0 if it is not there.
fn number_before(text: &str, what: &str) -> u64 {
    let before = text.split(what).next().filter(|before| before.len() < text.len()).unwrap_or_default();
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Warps of `threads` invocations a workgroup that a multiprocessor holds at once, as the programming guide says of
/// compute capability 9.0: 64 warps, 32 workgroups, 65,536 registers in lots of 256, 228 KB of workgroup memory, of
/// which each workgroup takes 1 KB more than it uses.
fn warps(threads: u64, registers: u64, shared: u64) -> u64 {
    let each = threads.div_ceil(LANES.into()).max(1);
    let by_registers = 65_536 / (registers.max(1) * u64::from(LANES)).next_multiple_of(256) / each;
    let by_memory = (228 << 10) / (shared + 1024);
    each * (64 / each).min(32).min(by_registers).min(by_memory)
}

/// Loads and stores of several words, aligned, as they are in WGSL. Slang would make single words of them.
fn for_slang(hlsl: &str) -> String {
    let mut text = hlsl.to_owned();
    for count in ["2", "4"] {
        text = text.replace(&format!(".Load{count}("), &format!(".LoadAligned<uint{count}>("));
        text = text.replace(&format!(".Store{count}("), &format!(".StoreAligned<uint{count}>("));
    }
    text
}

/// What stands in Slang's CUDA C++, and what a driver would make of the same shader: vectors are loaded at once, and
/// through the read-only path from buffers that are not written, all lanes of a warp are there, and a workgroup is a
/// line.
const REWRITTEN: [(&str, &str); 3] = [
    (
        "T data;\n        memcpy(&data, ((const char*)this->data) + index, sizeof(T));\n        return data;",
        "return *(const T*)((const char*)this->data + index);",
    ),
    ("memcpy((char*)data + index, &value, sizeof(T));", "*(T*)((char*)data + index) = value;"),
    ("(threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x", "threadIdx.x"),
];

/// The same without the lanes that Slang counts at every branch in case some are not there.
fn every_lane(cuda: &str) -> String {
    let mut parts = cuda.split("__ballot_sync(");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("0xffffffffu");
        text.push_str(part.find(';').map_or("", |end| &part[end..]));
    }
    text
}

/// Loads of buffers that are only read.
const READ_ONLY: &str = "
template<typename T> __device__ __forceinline__ T read_only(const T* at) { return *at; }
__device__ __forceinline__ uint4 read_only(const uint4* at) { return __ldg(at); }
__device__ __forceinline__ uint2 read_only(const uint2* at) { return __ldg(at); }
__device__ __forceinline__ unsigned read_only(const unsigned* at) { return __ldg(at); }
";

/// Slang's CUDA C++ as a driver would have it: [`REWRITTEN`], uniforms in constant memory, functions inlined, and the
/// size of the workgroup known.
fn for_nvcc(cuda: &str, entry: &str, threads: u32) -> Result<String> {
    let missing = |what: &str| format!("no `{what}` in what Slang wrote: another version?");
    let mut text = cuda.to_owned();
    for (from, to) in REWRITTEN {
        if !text.contains(from) {
            return Err(missing(from));
        }
        text = text.replace(from, to);
    }
    text = every_lane(&text);

    // what is only read
    let start = text.find("struct ByteAddressBuffer").ok_or_else(|| missing("struct ByteAddressBuffer"))?;
    let end = start + text[start..].find("\n};").ok_or_else(|| missing("};"))?;
    let reads = text[start..end].replace("return data[index >> 2];", "return __ldg(data + (index >> 2));");
    let reads = reads.replace(
        "return *(const T*)((const char*)this->data + index);",
        "return read_only((const T*)((const char*)this->data + index));",
    );
    text.replace_range(start..end, &format!("{READ_ONLY}{reads}"));

    // uniforms: a pointer to global memory becomes the values
    let group = text.lines().find_map(|line| line.trim().strip_prefix("SLANG_ParameterGroup_")?.split_once("* "));
    if let Some((kind, name)) = group.map(|(kind, name)| (kind.to_owned(), name.trim_end_matches(';').to_owned())) {
        let group = format!("SLANG_ParameterGroup_{kind}");
        text = text.replace(&format!("{group}* {name};"), &format!("{group} {name};"));
        text = text.replace(&format!("globalParams_0->{name}->"), &format!("globalParams_0->{name}."));
        text = text.replace(&format!("__ldg(&(&globalParams_0->{name}."), &format!("((&globalParams_0->{name}."));
    }

    let kernel = format!("__global__ void {entry}(");
    if !text.contains(&kernel) {
        return Err(missing(&kernel));
    }
    let bounded = format!("__global__ void __launch_bounds__({threads}) {entry}(");
    let inlined = |line: &str| {
        let is_function = line.starts_with("__device__ ") && line.contains("_0(");
        let is_inlined = ["__shared__", "inline", "__forceinline__"].iter().any(|word| line.contains(word));
        format!("{}{line}\n", if is_function && !is_inlined { "__forceinline__ " } else { "" })
    };
    Ok(text.replace(&kernel, &bounded).lines().map(inlined).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_compilers_print() {
        let said = "ptxas info : 16 bytes stack frame, 8 bytes spill stores\nUsed 168 registers, 4096 bytes smem";
        let found = [" registers", " bytes smem", " bytes stack frame", " bytes spill stores", " barriers"];
        assert_eq!(found.map(|what| number_before(said, what)), [168, 4096, 16, 8, 0]);
        assert_eq!(threads("[numthreads(8, 4, 2)]\nvoid main()"), Ok(64));
        assert!(threads("void main()").is_err());
    }

    #[test]
    fn warps_at_once() {
        assert_eq!(warps(64, 32, 0), 64); // 32 workgroups
        assert_eq!(warps(128, 168, 0), 12); // 65,536 registers / (168 · 32), in workgroups of 4 warps
        assert_eq!(warps(256, 40, 48 << 10), 32); // 4 workgroups have the memory
    }
}
