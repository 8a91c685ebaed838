//! Locking without a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that survives a panicking holder: the data behind it are caches and lists, valid after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
