//! `rowscan completions`: what a shell completes after `rowscan`.

use clap_complete::{Shell, generate};

use super::terminal::{Outcome, say};
use crate::error::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell; its own documentation says where it looks for completions.
    shell: Shell,
}

/// Prints the completions of the program that `command` describes.
pub fn run(args: &Args, mut command: clap::Command) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "rowscan", &mut script);
    let script = String::from_utf8(script).map_err(|e| Error::Internal(format!("completions: {e}")))?;
    Ok(say(script.trim_end())?)
}
