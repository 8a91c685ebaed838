//! Processes that are threads of one: for tests, and to measure an exchange without MPI.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::transport::Transport;
use crate::error::{Error, Result};

/// What the threads share.
#[derive(Debug, Default)]
struct Hub {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Exchanges that are complete.
    round: u64,
    deposits: Vec<Option<Vec<u8>>>,
    /// What all threads brought to the latest complete exchange.
    brought: Arc<Vec<Vec<u8>>>,
    aborted: bool,
}

/// One of several threads that work as processes do.
#[derive(Debug)]
pub struct Threads {
    hub: Arc<Hub>,
    rank: usize,
    size: usize,
}

fn lock(hub: &Hub) -> MutexGuard<'_, State> {
    hub.state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    /// A group of `size` threads, in order of their ranks.
    pub fn group(size: usize) -> Vec<Self> {
        let hub = Arc::new(Hub::default());
        lock(&hub).deposits = vec![None; size];
        (0..size).map(|rank| Self { hub: hub.clone(), rank, size }).collect()
    }

    /// What all threads bring, by rank.
    fn all(&self, bytes: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>> {
        let mut state = lock(&self.hub);
        let round = state.round;
        state.deposits[self.rank] = Some(bytes);
        if state.deposits.iter().all(Option::is_some) {
            let brought = state.deposits.iter_mut().map(|deposit| deposit.take().unwrap_or_default()).collect();
            state.brought = Arc::new(brought);
            state.round += 1;
            self.hub.changed.notify_all();
        }
        // no thread can bring to the next exchange, and replace `brought`, before it has left this one
        while state.round == round && !state.aborted {
            state = self.hub.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.round == round {
            true => Err(Error::Ranks(format!("rank {}: another thread gave up", self.rank))),
            false => Ok(state.brought.clone()),
        }
    }
}

/// Copies equal parts to `receive`, one after the other.
fn place<'a>(receive: &mut [u8], parts: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let mut at = 0;
    for part in parts {
        let Some(to) = receive.get_mut(at..at + part.len()) else {
            return Err(Error::Internal("the threads of a group brought different lengths".into()));
        };
        to.copy_from_slice(part);
        at += part.len();
    }
    Ok(())
}

impl Transport for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> String {
        "thread".into()
    }

    fn all_to_all(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let (all, each) = (self.all(send.to_vec())?, send.len() / self.size);
        place(receive, all.iter().map(|bytes| &bytes[self.rank * each..(self.rank + 1) * each]))
    }

    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let all = self.all(send.to_vec())?;
        place(receive, all.iter().map(Vec::as_slice))
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()> {
        let all = self.all(if self.rank == 0 { bytes.to_vec() } else { Vec::new() })?;
        place(bytes, all.iter().take(1).map(Vec::as_slice))
    }

    fn finish(&mut self) -> Result<()> {
        self.all(Vec::new()).map(drop)
    }

    fn abort(&self) -> Box<dyn Fn(i32) + Send + Sync> {
        let hub = self.hub.clone();
        Box::new(move |_| {
            lock(&hub).aborted = true;
            hub.changed.notify_all();
        })
    }
}
