//! MPI, loaded at run time: one program runs with every library, and without any. It moves bytes only; numbers are
//! added here, in an order of our own.

mod abi;
mod library;

use std::ffi::{c_int, c_void};

use libloading::Library;

use super::transport::Transport;
use crate::error::{Error, Result};
use abi::{Abi, Calls, Handles};
pub use library::{Launched, NAMED};

/// The processes that an MPI launcher started. Owned by the thread that initialized MPI.
pub struct Mpi<H> {
    calls: Calls<H>,
    handles: Handles<H>,
    rank: usize,
    size: usize,
    host: String,
}

/// Most bytes to one process in a call: counts are of 32 bits with a sign.
const MOST: usize = 1 << 30;

/// Joins the processes that `launched` tells of.
///
/// # Errors
/// No library, one of another launcher, or one that does not initialize.
pub fn join(launched: &Launched) -> Result<Box<dyn Transport>> {
    let (library, name) = library::open(launched, std::env::var_os(NAMED))?;
    let about = abi::version(&library).unwrap_or_else(|| name.display().to_string());
    // the library stays open until the process ends: MPI cannot be initialized again, and has threads of its own
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: the type of the handles is that of the library's interface
    let joined: Box<dyn Transport> = unsafe {
        match Abi::of(library, &name)? {
            Abi::Mpich(handles) => Box::new(Mpi::start(Calls::of(library)?, handles)?),
            Abi::OpenMpi(handles) | Abi::Standard(handles) => Box::new(Mpi::start(Calls::of(library)?, handles)?),
        }
    };
    tracing::info!("rank {} of {}: {about}, {}", joined.rank(), joined.size(), name.display());
    if joined.size() != launched.ranks {
        return Err(Error::Ranks(format!(
            "{} started {} processes, but {} ({about}) knows of {}: start with the mpirun that belongs to it, or name \
             the launcher's library with {NAMED}",
            launched.by,
            launched.ranks,
            name.display(),
            joined.size(),
        )));
    }
    Ok(joined)
}

/// The error of a call that MPI reports.
fn checked(call: &str, code: c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Error::Ranks(format!("{call} failed with code {code}"))) }
}

fn count(bytes: usize) -> Result<c_int> {
    match c_int::try_from(bytes) {
        Ok(count) if bytes <= MOST => Ok(count),
        _ => Err(Error::Internal(format!("{bytes} bytes to one process at a time"))),
    }
}

impl<H: Copy> Mpi<H> {
    /// # Safety
    /// `calls` and `handles` must be of the same library.
    unsafe fn start(calls: Calls<H>, handles: Handles<H>) -> Result<Self> {
        let (mut provided, mut rank, mut size, mut len) = (0, 0, 0, 0);
        let mut host = vec![0u8; 4096]; // MPI_MAX_PROCESSOR_NAME is 1024 at most
        // SAFETY: all pointers are to live variables; no arguments is allowed since MPI-2
        unsafe {
            let nothing = std::ptr::null_mut();
            checked("MPI_Init_thread", (calls.init)(nothing, nothing.cast(), handles.funneled, &mut provided))?;
            checked("MPI_Comm_rank", (calls.rank)(handles.world, &mut rank))?;
            checked("MPI_Comm_size", (calls.size)(handles.world, &mut size))?;
            checked("MPI_Get_processor_name", (calls.host)(host.as_mut_ptr().cast(), &mut len))?;
        }
        host.truncate(usize::try_from(len).unwrap_or_default());
        let host = String::from_utf8_lossy(&host).into_owned();
        let [rank, size] = [rank, size].map(|n: c_int| usize::try_from(n).unwrap_or_default());
        Ok(Self { calls, handles, rank, size, host })
    }
}

impl<H: Copy + Address> Transport for Mpi<H> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> String {
        self.host.clone()
    }

    fn all_to_all(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let (each, byte) = (count(send.len() / self.size)?, self.handles.byte);
        if send.len() != receive.len() || !send.len().is_multiple_of(self.size) {
            return Err(Error::Internal(format!("{} bytes to {} processes", send.len(), self.size)));
        }
        let to = receive.as_mut_ptr().cast::<c_void>();
        // SAFETY: both buffers have `each` bytes for every process
        let code =
            unsafe { (self.calls.all_to_all)(send.as_ptr().cast(), each, byte, to, each, byte, self.handles.world) };
        checked("MPI_Alltoall", code)
    }

    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let (each, byte) = (count(send.len())?, self.handles.byte);
        if send.len() * self.size != receive.len() {
            return Err(Error::Internal(format!("{} bytes from each of {}", send.len(), self.size)));
        }
        let to = receive.as_mut_ptr().cast::<c_void>();
        // SAFETY: `receive` has `each` bytes for every process
        let code =
            unsafe { (self.calls.all_gather)(send.as_ptr().cast(), each, byte, to, each, byte, self.handles.world) };
        checked("MPI_Allgather", code)
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()> {
        bytes.chunks_mut(MOST).try_for_each(|part| {
            let len = count(part.len())?;
            // SAFETY: `part` has `len` bytes
            let code = unsafe {
                (self.calls.broadcast)(part.as_mut_ptr().cast(), len, self.handles.byte, 0, self.handles.world)
            };
            checked("MPI_Bcast", code)
        })
    }

    fn finish(&mut self) -> Result<()> {
        // SAFETY: nothing of MPI is called afterwards: the thread that owns it ends
        checked("MPI_Finalize", unsafe { (self.calls.finalize)() })
    }

    fn abort(&self) -> Box<dyn Fn(i32) + Send + Sync> {
        let (abort, world) = (self.calls.abort, self.handles.world.address());
        // SAFETY: the handle is the library's own. Another thread may be inside of MPI, which the standard does not
        // allow at this thread level; whoever aborts has no better way, and ends by itself if this one does not work
        Box::new(move |code| unsafe {
            abort(H::at(world), code);
        })
    }
}

/// A handle as a number that another thread may have.
pub trait Address: 'static {
    /// The number.
    fn address(self) -> usize;
    /// The handle.
    fn at(address: usize) -> Self;
}

impl Address for c_int {
    fn address(self) -> usize {
        self as usize
    }

    fn at(address: usize) -> Self {
        address as Self
    }
}

impl Address for *mut c_void {
    fn address(self) -> usize {
        self.expose_provenance()
    }

    fn at(address: usize) -> Self {
        std::ptr::with_exposed_provenance_mut(address)
    }
}
