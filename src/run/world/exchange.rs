//! The exchange of a step: gradients go to the process that adds up their part (all-to-all), and the sums go to all
//! (all-gather). Every number is added once, in one order, whatever MPI would choose for an all-reduce.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::processes::World;
use super::sum::Addition;
use super::transport::Transport;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Readback};
use crate::tensor::Tensor;
use crate::train::exchange::Exchange;

/// Most segments that travel at a time. Each takes host memory three times.
const TRAVELLING: usize = 4;

/// The buffers of a segment: what this process sends, and what it gets.
#[derive(Debug, Default)]
struct Buffers {
    send: Vec<f32>,
    receive: Vec<f32>,
}

/// The exchange of gradients between the processes of a run.
pub struct GradientExchange {
    world: World,
    g: Gpu,
    addition: Addition,
    /// Segments whose copies from the GPU are under way.
    reads: VecDeque<(Tensor, Readback)>,
    spare: Vec<Buffers>,
}

impl fmt::Debug for GradientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GradientExchange({:?})", self.world)
    }
}

/// A segment that is on its way: a range of a tensor.
type Travelling = (Tensor, Receiver<Result<Buffers>>);

impl GradientExchange {
    /// The exchange of the processes of `world` for training on `g`.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(world: &World, g: &Gpu) -> Result<Self> {
        Ok(Self {
            world: world.clone(),
            g: g.clone(),
            addition: Addition::of(g)?,
            reads: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// Sends a segment off.
    fn send(&mut self, numbers: &[u8]) -> Result<Receiver<Result<Buffers>>> {
        let ranks = self.world.size();
        let each = (numbers.len() / 4).div_ceil(ranks);
        let mut buffers = self.spare.pop().unwrap_or_default();
        buffers.send.clear();
        buffers.send.resize(each * ranks, 0.0);
        bytemuck::cast_slice_mut::<f32, u8>(&mut buffers.send)[..numbers.len()].copy_from_slice(numbers);
        let addition = self.addition;
        self.world.submit(move |transport| summed(transport, buffers, each, addition))
    }

    /// Takes a segment in.
    fn receive(&mut self, (segment, done): &Travelling) -> Result<()> {
        let buffers = self.world.wait(done)??;
        segment.write(&self.g, &buffers.send[..segment.len()])?;
        self.spare.push(buffers);
        Ok(())
    }
}

impl World {
    /// The exchange of this process's steps on `g` with the others; `None` for a process alone.
    ///
    /// # Errors
    /// Those of the device.
    pub fn exchange(&self, g: &Gpu) -> Result<Option<Box<dyn Exchange>>> {
        if self.size() == 1 {
            return Ok(None);
        }
        Ok(Some(Box::new(GradientExchange::new(self, g)?)))
    }
}

/// One segment: my part of it from all, their sum, and the sums of all parts, which take the place of what was sent.
fn summed(transport: &mut dyn Transport, buffers: Buffers, each: usize, addition: Addition) -> Result<Buffers> {
    let Buffers { mut send, mut receive } = buffers;
    receive.resize(send.len(), 0.0);
    transport.all_to_all(bytemuck::cast_slice(&send), bytemuck::cast_slice_mut(&mut receive))?;
    addition.tree(&mut receive, each);
    transport.all_gather(bytemuck::cast_slice(&receive[..each]), bytemuck::cast_slice_mut(&mut send))?;
    Ok(Buffers { send, receive })
}

impl Exchange for GradientExchange {
    fn begin(&mut self, tensor: &Tensor) -> Result<()> {
        let read = self.g.read_often(tensor.memory())?;
        self.reads.push_back((tensor.clone(), read));
        Ok(())
    }

    fn complete(&mut self) -> Result<()> {
        let (mut travelling, mut since, mut bytes) = (VecDeque::<Travelling>::new(), None, 0);
        while let Some((segment, read)) = self.reads.pop_front() {
            let sent = read.wait_mapped(|numbers| self.send(numbers))??;
            if self.reads.is_empty() {
                since = Some(Instant::now()); // until here the GPU was computing
            }
            bytes += 2 * (segment.len() * 4) as u64;
            travelling.push_back((segment, sent));
            if travelling.len() >= TRAVELLING
                && let Some(first) = travelling.pop_front()
            {
                self.receive(&first)?;
            }
        }
        while let Some(next) = travelling.pop_front() {
            self.receive(&next)?;
        }
        if let Some(since) = since {
            // of the numbers, the share of this process stays where it is
            let ranks = self.world.size() as u64;
            self.world.note(bytes * (ranks - 1) / ranks, since);
        }
        Ok(())
    }

    fn total(&self, numbers: &[f32]) -> f32 {
        let mut numbers = numbers.to_vec();
        self.addition.tree(&mut numbers, 1);
        numbers.first().copied().unwrap_or(f32::NAN)
    }

    fn gather(&mut self, mine: &[Vec<u8>]) -> Result<Vec<Vec<Vec<u8>>>> {
        let since = Instant::now();
        let mut list = (mine.len() as u64).to_le_bytes().to_vec();
        mine.iter().for_each(|bytes| list.extend((bytes.len() as u64).to_le_bytes()));
        mine.iter().for_each(|bytes| list.extend_from_slice(bytes));
        let bytes = list.len() * (self.world.size() - 1);
        let all = self.world.gather(list)?;
        self.world.note(bytes as u64, since);
        all.iter().map(|list| unpacked(list)).collect()
    }

    fn wait(&mut self, read: Readback) -> Result<Vec<u8>> {
        read.wait()
    }
}

/// A list of byte strings from its one string: their number, their lengths, themselves.
fn unpacked(list: &[u8]) -> Result<Vec<Vec<u8>>> {
    let cut = |rest: &mut &[u8], len: usize| -> Result<Vec<u8>> {
        let broken = || Error::Ranks(format!("a message of another process ends {len} bytes too early"));
        let (head, tail) = rest.split_at_checked(len).ok_or_else(broken)?;
        *rest = tail;
        Ok(head.to_vec())
    };
    let mut rest = list;
    let number = |rest: &mut &[u8]| -> Result<usize> {
        Ok(cut(rest, 8)?.try_into().map(u64::from_le_bytes).unwrap_or_default() as usize)
    };
    let count = number(&mut rest)?;
    let lengths: Vec<usize> = (0..count.min(list.len())).map(|_| number(&mut rest)).collect::<Result<_>>()?;
    lengths.into_iter().map(|len| cut(&mut rest, len)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_an_error() {
        let list = [&2u64.to_le_bytes()[..], &1u64.to_le_bytes(), &3u64.to_le_bytes(), b"abcd"].concat();
        assert_eq!(unpacked(&list).unwrap(), [b"a".to_vec(), b"bcd".to_vec()]);
        for len in 0..list.len() {
            assert!(unpacked(&list[..len]).is_err(), "{len}");
        }
    }
}
