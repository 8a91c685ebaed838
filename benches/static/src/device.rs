//! The devices whose compilers are asked. Mesa's null hardware stands in for each: it compiles, and runs nothing.

use crate::driver::Compiled;
use crate::listing::Listing;

/// Who made the instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Amd,
    Nvidia,
    Apple,
    /// NVIDIA's own compiler
    Cuda,
}

impl Family {
    /// The assembly, if the driver hands it out.
    pub fn listing(self, compiled: &Compiled) -> Option<Listing> {
        match self {
            Self::Amd => Some(Listing::of_aco(compiled.text("Assembly"))),
            Self::Nvidia => Some(Listing::of_nak(compiled.text("NAK assembly"))),
            Self::Apple => None,
            Self::Cuda => Some(Listing::of_sass(compiled.text("SASS"))),
        }
    }

    /// The driver's names for registers, spills, bytes of local memory, subgroups at once (Apple: invocations) and
    /// instructions. Several names are added up.
    pub fn figures(self) -> [&'static [&'static str]; 5] {
        match self {
            Self::Amd => [
                &["VGPRs"],
                &["Spilled VGPRs", "Spilled SGPRs"],
                &["Scratch size"],
                &["Subgroups per SIMD"],
                &["Instructions"],
            ],
            Self::Nvidia => {
                [&["Number of GPRs"], &["Spills to memory"], &["SLM size"], &["Max warps/SM"], &["Instruction count"]]
            }
            Self::Apple => [&["GPRs"], &["Spills"], &["Scratch"], &["Threads"], &["Instructions"]],
            Self::Cuda => [&["Registers"], &["Spilled bytes"], &["Stack"], &["Warps"], &["Instructions"]],
        }
    }
}

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// AMD Radeon RX 7900, RADV
    Rdna3,
    /// AMD Radeon RX 9070, RADV
    Rdna4,
    /// NVIDIA RTX 20, NVK
    Turing,
    /// NVIDIA RTX 30, NVK
    Ampere,
    /// Apple M1, Honeykrisp
    M1,
    /// NVIDIA H100 and H200, by NVIDIA's compiler
    Hopper,
}

impl Device {
    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rdna3 => "rdna3",
            Self::Rdna4 => "rdna4",
            Self::Turing => "turing",
            Self::Ampere => "ampere",
            Self::M1 => "m1",
            Self::Hopper => "hopper",
        }
    }

    /// Who made its instruction set.
    pub fn family(self) -> Family {
        match self {
            Self::Rdna3 | Self::Rdna4 => Family::Amd,
            Self::Turing | Self::Ampere => Family::Nvidia,
            Self::M1 => Family::Apple,
            Self::Hopper => Family::Cuda,
        }
    }
}
