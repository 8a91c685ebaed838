//! The three binary interfaces that MPI libraries have: what a communicator, a data type and a thread level are in
//! each. The functions have the same names in all of them.

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;

use libloading::Library;

use crate::error::{Error, Result};

/// The handles of a library: of type `H`, by value.
#[derive(Debug, Clone, Copy)]
pub struct Handles<H> {
    /// `MPI_COMM_WORLD`.
    pub world: H,
    /// `MPI_BYTE`.
    pub byte: H,
    /// `MPI_THREAD_FUNNELED`: several threads, of which one calls MPI.
    pub funneled: c_int,
}

/// A binary interface.
#[derive(Debug, Clone, Copy)]
pub enum Abi {
    /// MPICH's, which Intel MPI, MVAPICH, Cray MPICH and Microsoft MPI share: handles are numbers.
    Mpich(Handles<c_int>),
    /// Open MPI's: handles are addresses of the library's own structures.
    OpenMpi(Handles<*mut c_void>),
    /// That of the standard from MPI 5.0 on: handles are pointers with given values.
    Standard(Handles<*mut c_void>),
}

/// The functions that are called, for handles of type `H`.
#[derive(Clone, Copy)]
pub struct Calls<H> {
    pub init: unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, *mut c_int) -> c_int,
    pub rank: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    pub size: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    pub host: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int,
    pub all_to_all: unsafe extern "C" fn(*const c_void, c_int, H, *mut c_void, c_int, H, H) -> c_int,
    pub all_gather: unsafe extern "C" fn(*const c_void, c_int, H, *mut c_void, c_int, H, H) -> c_int,
    pub broadcast: unsafe extern "C" fn(*mut c_void, c_int, H, c_int, H) -> c_int,
    pub abort: unsafe extern "C" fn(H, c_int) -> c_int,
    pub finalize: unsafe extern "C" fn() -> c_int,
}

/// The address of a symbol as a function or a pointer of type `T`.
///
/// # Safety
/// `T` must be the type of the symbol, and must not be used once the library is closed.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T> {
    // SAFETY: the caller vouches for the type
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found.map(|symbol| *symbol).map_err(|e| Error::Ranks(format!("the MPI library has no {name}: {e}")))
}

impl<H: Copy> Calls<H> {
    /// Looks the functions up.
    ///
    /// # Safety
    /// `H` must be the type of the library's handles, and the library must stay open.
    pub unsafe fn of(library: &Library) -> Result<Self> {
        // SAFETY: these are the signatures of the MPI standard, with handles of type H
        unsafe {
            Ok(Self {
                init: symbol(library, "MPI_Init_thread")?,
                rank: symbol(library, "MPI_Comm_rank")?,
                size: symbol(library, "MPI_Comm_size")?,
                host: symbol(library, "MPI_Get_processor_name")?,
                all_to_all: symbol(library, "MPI_Alltoall")?,
                all_gather: symbol(library, "MPI_Allgather")?,
                broadcast: symbol(library, "MPI_Bcast")?,
                abort: symbol(library, "MPI_Abort")?,
                finalize: symbol(library, "MPI_Finalize")?,
            })
        }
    }
}

/// What a library says of itself, such as "Open MPI v4.1.4": its first line, up to a comma.
pub fn version(library: &Library) -> Option<String> {
    type Version = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;
    let (mut text, mut len) = (vec![0u8; 16 << 10], 0);
    // SAFETY: every ABI writes at most 8192 bytes (MPI_MAX_LIBRARY_VERSION_STRING), and allows the call at any time
    let failed =
        unsafe { symbol::<Version>(library, "MPI_Get_library_version").ok()?(text.as_mut_ptr().cast(), &mut len) };
    let text = text.get(..usize::try_from(len).ok()?).filter(|_| failed == 0)?;
    let text = String::from_utf8_lossy(text);
    let line = text.lines().next().unwrap_or_default().trim_end_matches('\0');
    Some(line.split(',').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
}

impl Abi {
    /// The interface of a library that was opened under `name`.
    ///
    /// # Errors
    /// A library that has none of the three.
    pub fn of(library: &Library, name: &Path) -> Result<Self> {
        let open = |name: &str| {
            // SAFETY: Open MPI declares these two as structures, whose addresses are the handles; nothing is read
            unsafe { Some(library.get::<*mut c_void>(name.as_bytes()).ok()?.try_as_raw_ptr()) }
        };
        if let (Some(Some(world)), Some(Some(byte))) = (open("ompi_mpi_comm_world"), open("ompi_mpi_byte")) {
            return Ok(Self::OpenMpi(Handles { world, byte, funneled: 1 }));
        }
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        if file.contains("mpi_abi") {
            let handle = |value: usize| std::ptr::without_provenance_mut(value);
            return Ok(Self::Standard(Handles { world: handle(0x101), byte: handle(0x247), funneled: 1024 }));
        }
        let version = version(library).unwrap_or_default();
        let family = ["MPICH", "Intel", "MVAPICH", "CRAY", "Cray", "Microsoft"];
        if family.iter().any(|name| version.contains(name)) || file.contains("msmpi") {
            return Ok(Self::Mpich(Handles { world: 0x4400_0000, byte: 0x4c00_010d, funneled: 1 }));
        }
        let known = "Open MPI, MPICH and its relatives, or a libmpi_abi.so of MPI 5";
        Err(Error::Ranks(format!("{}: a library of unknown interface (`{version}`), expected {known}", name.display())))
    }
}
