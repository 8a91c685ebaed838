//! Signals that end a run early: Ctrl-C, SIGTERM, and SIGHUP when a terminal is closed.

use std::sync::Arc;
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
    Ok(stop)
}

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
