//! How bytes get from one process to the others: three collective calls, and an end for all.

use crate::error::Result;

/// The processes of a job as one of them sees them. Every process makes the same calls in the same order, from one
/// thread; a call returns when this process has what it asked for.
pub trait Transport {
    /// Number of this process, from 0: `MPI_Comm_rank`.
    fn rank(&self) -> usize;
    /// Number of processes: `MPI_Comm_size`.
    fn size(&self) -> usize;
    /// Name of the machine that this process runs on.
    fn host(&self) -> String;
    /// Part k of `send`, which has as many equal parts as there are processes, goes to process k. Part k of `receive`
    /// comes from process k: `MPI_Alltoall`.
    fn all_to_all(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()>;
    /// `send` goes to all processes. Part k of `receive` comes from process k: `MPI_Allgather`.
    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()>;
    /// `bytes` of process 0 replace those of all others: `MPI_Bcast`.
    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()>;
    /// Leaves the job in an orderly way, as all others do: `MPI_Finalize`.
    fn finish(&mut self) -> Result<()>;
    /// What ends all processes at once, from any thread, with this exit code: `MPI_Abort`. It may return before they
    /// have ended.
    fn abort(&self) -> Box<dyn Fn(i32) + Send + Sync>;
}

/// The only process: everything stays where it is.
#[derive(Debug)]
pub struct Alone;

impl Transport for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn host(&self) -> String {
        "localhost".into()
    }

    fn all_to_all(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        receive.copy_from_slice(send);
        Ok(())
    }

    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        receive.copy_from_slice(send);
        Ok(())
    }

    fn broadcast(&mut self, _bytes: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&self) -> Box<dyn Fn(i32) + Send + Sync> {
        Box::new(|_| {})
    }
}
