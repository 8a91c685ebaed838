//! The processes of a run as one of them sees them, and the thread that talks to the others.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::Place;
use crate::error::{Error, Result};

use super::mpi;
use super::mpi::Launched;
use super::transport::{Alone, Transport};

type Job = Box<dyn FnOnce(&mut dyn Transport) + Send>;

/// The processes of a run, as one of them sees them. Clones share the connection.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    place: Place,
    /// Machine of each process, by rank.
    hosts: Vec<String>,
    /// To the thread that owns the transport; `None` for a process alone.
    jobs: Option<Mutex<Sender<Job>>>,
    abort: Box<dyn Fn(i32) + Send + Sync>,
    limit: Duration,
    /// What the processes are doing, for the message of a time-out.
    doing: Mutex<String>,
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World(rank {} of {})", self.rank(), self.size())
    }
}

/// What processes have exchanged so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Exchanged {
    /// Bytes that this process has sent.
    pub bytes: u64,
    /// Seconds that it has waited for the others and for the transport.
    pub seconds: f64,
}

/// Time that a process waits for the others: half an hour. Rank 0 may be writing a checkpoint, or another one
/// compiling.
pub const PATIENCE: Duration = Duration::from_secs(1800);

impl World {
    /// This process alone.
    pub fn alone() -> Self {
        Self(Arc::new(Inner {
            place: Place::ALL,
            hosts: vec![Alone.host()],
            jobs: None,
            abort: Alone.abort(),
            limit: PATIENCE,
            doing: Mutex::default(),
            bytes: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }))
    }

    /// The processes that an MPI launcher started, or this one alone if none did. A process waits for the others for at
    /// most `limit`.
    ///
    /// # Errors
    /// No MPI library, the library of another launcher, or processes that do not answer.
    pub fn from_environment(limit: Duration) -> Result<Self> {
        match Launched::of(|name| std::env::var(name).ok()) {
            Some(launched) if launched.ranks > 1 => Self::start(limit, move || mpi::join(&launched)),
            _ => Ok(Self::alone()),
        }
    }

    /// The processes that `join` reaches. It is called in the thread that will make all calls.
    ///
    /// # Errors
    /// Those of `join`; processes that do not answer within `limit`.
    pub fn start(limit: Duration, join: impl FnOnce() -> Result<Box<dyn Transport>> + Send + 'static) -> Result<Self> {
        type Joined = (Place, Vec<String>, Box<dyn Fn(i32) + Send + Sync>);
        let ((jobs, work), (tell, joined)) = (channel::<Job>(), channel::<Result<Joined>>());
        let thread = move || {
            let begun = || -> Result<_> {
                let mut transport = join()?;
                let host = transport.host();
                let place = Place { rank: transport.rank(), ranks: transport.size() };
                let hosts = gather(&mut *transport, host.as_bytes())?;
                let hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
                let abort = transport.abort();
                Ok((transport, (place, hosts, abort)))
            };
            match begun() {
                Ok((mut transport, joined)) => {
                    let _ = tell.send(Ok(joined));
                    work.into_iter().for_each(|job| job(&mut *transport));
                }
                Err(e) => drop(tell.send(Err(e))),
            }
        };
        let spawned = std::thread::Builder::new().name("exchange".into()).spawn(thread);
        spawned.map_err(Error::io("the thread of the exchange", "started"))?;
        let (place, hosts, abort) = match joined.recv_timeout(limit) {
            Ok(joined) => joined?,
            Err(_) => {
                return Err(Error::Ranks(format!("the other processes did not answer within {} s", limit.as_secs())));
            }
        };
        Ok(Self(Arc::new(Inner {
            place,
            hosts,
            jobs: Some(Mutex::new(jobs)),
            abort,
            limit,
            doing: Mutex::new("the start".into()),
            bytes: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        })))
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.0.place.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.0.place.ranks
    }

    /// Rank and number of processes.
    pub fn place(&self) -> Place {
        self.0.place
    }

    /// Whether this process writes files and speaks.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// A process and its machine, for messages: `rank 3 (node7)`.
    pub fn name(&self, rank: usize) -> String {
        format!("rank {rank} ({})", self.0.hosts.get(rank).map_or("?", String::as_str))
    }

    /// The place of this process among those on its machine.
    pub fn on_this_host(&self) -> Place {
        let own = self.0.hosts.get(self.rank());
        let same = |ranks: &[String]| ranks.iter().filter(|host| Some(*host) == own).count();
        Place { rank: same(&self.0.hosts[..self.rank()]), ranks: same(&self.0.hosts) }
    }

    /// Decoding threads of this process where `wanted` are: 0 takes one per core, and shares the cores of a machine
    /// among its processes.
    pub fn threads(&self, wanted: usize) -> usize {
        let here = self.on_this_host().ranks;
        if wanted > 0 || here < 2 {
            return wanted;
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (cores / here).max(1)
    }

    /// What has been exchanged so far.
    pub fn exchanged(&self) -> Exchanged {
        let seconds = self.0.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9;
        Exchanged { bytes: self.0.bytes.load(Ordering::Relaxed), seconds }
    }

    pub(crate) fn note(&self, bytes: u64, since: Instant) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.nanoseconds.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// Says what the processes do next, for the message of a time-out: `step 1234`.
    pub fn doing(&self, what: impl Into<String>) {
        *self.0.doing.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// Hands a job to the thread that owns the transport.
    pub(crate) fn submit<T: Send + 'static>(
        &self, job: impl FnOnce(&mut dyn Transport) -> T + Send + 'static,
    ) -> Result<Receiver<T>> {
        let (tell, done) = channel();
        let job: Job = Box::new(move |transport| drop(tell.send(job(transport))));
        let Some(jobs) = &self.0.jobs else {
            job(&mut Alone);
            return Ok(done);
        };
        let sent = jobs.lock().unwrap_or_else(PoisonError::into_inner).send(job);
        sent.map_err(|_| Error::Ranks(format!("{}: the thread of the exchange ended", self.name(self.rank()))))?;
        Ok(done)
    }

    /// Waits for a job.
    ///
    /// # Errors
    /// Processes that do not answer in time.
    pub(crate) fn wait<T>(&self, done: &Receiver<T>) -> Result<T> {
        done.recv_timeout(self.0.limit).map_err(|e| {
            let doing = self.0.doing.lock().unwrap_or_else(PoisonError::into_inner);
            let what = match e {
                RecvTimeoutError::Timeout => format!("no answer for {} s", self.0.limit.as_secs()),
                RecvTimeoutError::Disconnected => "the connection ended".into(),
            };
            Error::Ranks(format!(
                "{}: {what} from the other processes in the exchange of {doing}",
                self.name(self.rank())
            ))
        })
    }

    fn call<T: Send + 'static>(&self, job: impl FnOnce(&mut dyn Transport) -> Result<T> + Send + 'static) -> Result<T> {
        self.wait(&self.submit(job)?)?
    }

    /// The bytes of all processes, by rank. They may be of any lengths.
    ///
    /// # Errors
    /// Processes that do not answer in time.
    pub fn gather(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        if self.size() == 1 {
            return Ok(vec![mine]);
        }
        self.call(move |transport| gather(transport, &mine))
    }

    /// Whether `mine` is true in any process.
    ///
    /// # Errors
    /// Processes that do not answer in time.
    pub fn any(&self, mine: bool) -> Result<bool> {
        if self.size() == 1 {
            return Ok(mine);
        }
        self.call(move |transport| {
            let mut all = vec![0; transport.size()];
            transport.all_gather(&[u8::from(mine)], &mut all)?;
            Ok(all.contains(&1))
        })
    }

    /// The sum of a number over all processes.
    ///
    /// # Errors
    /// Processes that do not answer in time.
    pub fn total(&self, mine: usize) -> Result<usize> {
        let all = self.gather((mine as u64).to_le_bytes().to_vec())?;
        let number = |bytes: &Vec<u8>| bytes.as_slice().try_into().map(u64::from_le_bytes).unwrap_or_default() as usize;
        Ok(all.iter().map(number).sum())
    }

    /// What rank 0 finds, which alone looks for it.
    ///
    /// # Errors
    /// That of rank 0, in all processes.
    pub fn from_first<T: Serialize + DeserializeOwned>(&self, find: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.size() == 1 {
            return find();
        }
        let found = self.leads().then(find);
        let broken = |e: serde_json::Error| Error::Internal(format!("what rank 0 found: {e}"));
        let mine = match &found {
            Some(Ok(found)) => serde_json::to_vec(&Ok::<_, String>(found)).map_err(broken)?,
            Some(Err(e)) => serde_json::to_vec(&Err::<(), _>(e.to_string())).map_err(broken)?,
            None => Vec::new(),
        };
        let all = self.gather(mine)?;
        if let Some(found) = found {
            return found;
        }
        let told: Result<T, String> = serde_json::from_slice(&all[0]).map_err(broken)?;
        told.map_err(|e| Error::Ranks(format!("{}: {e}", self.name(0))))
    }

    /// Leaves the other processes in an orderly way; they do the same.
    ///
    /// # Errors
    /// Processes that do not answer in time.
    pub fn finish(&self) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        self.doing("the end");
        self.call(|transport| transport.finish())
    }

    /// Ends all processes with this exit code. It returns if that took more than a few seconds: then this process has
    /// to end by itself, after which the launcher ends the others.
    pub fn abort(&self, code: i32) {
        if self.size() == 1 {
            return;
        }
        let world = self.clone();
        let (tell, done) = channel();
        let ending = std::thread::Builder::new().spawn(move || {
            (world.0.abort)(code);
            let _ = tell.send(());
        });
        if ending.is_ok() {
            let _ = done.recv_timeout(Duration::from_secs(5));
        }
    }
}

/// The bytes of all processes: their lengths first, then all as long as the longest.
fn gather(transport: &mut dyn Transport, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
    let ranks = transport.size();
    let mut lengths = vec![0; 8 * ranks];
    transport.all_gather(&(mine.len() as u64).to_le_bytes(), &mut lengths)?;
    let length = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default() as usize;
    let lengths: Vec<usize> = lengths.chunks_exact(8).map(length).collect();
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let mut found: Vec<Vec<u8>> = lengths.iter().map(|len| Vec::with_capacity(*len)).collect();
    for start in (0..longest).step_by(PART) {
        let len = PART.min(longest - start);
        let mut part = vec![0; len];
        let own = &mine[start.min(mine.len())..(start + len).min(mine.len())];
        part[..own.len()].copy_from_slice(own);
        let mut all = vec![0; len * ranks];
        transport.all_gather(&part, &mut all)?;
        for ((found, all), len) in found.iter_mut().zip(all.chunks_exact(len)).zip(&lengths) {
            found.extend_from_slice(&all[..all.len().min(len - found.len())]);
        }
    }
    Ok(found)
}

/// Bytes of a process in one call of [`gather`].
const PART: usize = 64 << 20;
