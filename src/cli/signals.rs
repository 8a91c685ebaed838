//! Signals that end a run early: Ctrl-C, SIGTERM, SIGHUP when a terminal is closed, and SIGUSR1, which batch systems
//! send some minutes before the time is up.

use std::sync::Arc;
#[cfg(unix)]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::terminal::warn;
use crate::error::{Error, Result};

/// A flag that the first of these signals sets. The second one ends the program.
///
/// A signal that was ignored when the program started stays ignored: `nohup` ignores SIGHUP, and a shell script ignores
/// SIGINT for what it starts with `&`.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: leave now, the last checkpoint is whole
        }
        warn("\nfinishing this step and saving; once more to leave at once");
    };
    let ignored = ignored();
    ctrlc::set_handler(handler).map_err(|e| match e {
        ctrlc::Error::System(source) => Error::io("the handler of Ctrl-C", "set")(source),
        other => Error::Internal(format!("the handler of Ctrl-C: {other}")),
    })?;
    ignore(&ignored);
    on_user_signal(&stop);
    Ok(stop)
}

/// The flag that SIGUSR1 sets.
#[cfg(unix)]
static ON_USER_SIGNAL: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Sets the flag at SIGUSR1, however often it comes. Without a handler it would end the program.
#[cfg(unix)]
fn on_user_signal(stop: &Arc<AtomicBool>) {
    extern "C" fn handler(_: libc::c_int) {
        if let Some(stop) = ON_USER_SIGNAL.get() {
            stop.store(true, Ordering::Relaxed);
        }
    }
    if ON_USER_SIGNAL.set(stop.clone()).is_ok() {
        let handler: extern "C" fn(libc::c_int) = handler;
        // SAFETY: the handler reads one atomic and writes another, which a signal handler may do
        unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
    }
}

/// Windows has no such signal.
#[cfg(not(unix))]
fn on_user_signal(_: &Arc<AtomicBool>) {}

/// Which of the signals that the handler takes over are ignored now.
#[cfg(unix)]
fn ignored() -> Vec<libc::c_int> {
    let is_ignored = |signal: &libc::c_int| {
        let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action the call only writes the present one to `now`, which is large enough for it.
        let found = unsafe { libc::sigaction(*signal, std::ptr::null(), now.as_mut_ptr()) == 0 };
        // SAFETY: all bytes of `now` are written, by `zeroed` at least, and every bit pattern is a `sigaction`.
        found && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
    };
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().filter(is_ignored).collect()
}

#[cfg(unix)]
fn ignore(signals: &[libc::c_int]) {
    for &signal in signals {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Windows has no ignored signals.
#[cfg(not(unix))]
fn ignored() {}

#[cfg(not(unix))]
fn ignore((): &()) {}
