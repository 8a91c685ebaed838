//! What all commands share: the device, printing, and how a command ends.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::run::world::World;

/// An end of a command other than success: wrong usage, a failure, or a negative verdict of a check.
pub(super) enum Stop {
    Usage(Error),
    Failure(Error),
    Negative,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failure(error)
    }
}

/// Turns errors of arguments into wrong usage, exit code 2. Errors of files, disks and devices are failures, exit code
/// 1.
pub(super) fn usage<T>(result: Result<T>) -> std::result::Result<T, Stop> {
    result.map_err(|e| match e {
        Error::Argument { .. } => Stop::Usage(e),
        other => Stop::Failure(other),
    })
}

/// The options that library errors name, by their fields. Each has a flag: that of [`EXCEPTIONS`], or else the field
/// with hyphens, so that `batch_size` is `--batch-size`.
///
/// Fields of a model (`image_size`, `heads` …) are not in here: their errors come as often from a checkpoint's
/// config.json, which holds them under these names.
const FIELDS: &[&str] = &[
    "aa",
    "accum_iter",
    "batch_size",
    "blr",
    "budget",
    "checkpoint_blocks",
    "clip_grad",
    "color_jitter",
    "color_table",
    "cutmix",
    "decoder",
    "diffusion_depth",
    "diffusion_repeats",
    "diffusion_width",
    "epochs",
    "eps",
    "hflip",
    "key_momentum",
    "layer_decay",
    "log_every",
    "lr",
    "mask_ratio",
    "mask_tokens",
    "max_images",
    "method",
    "min_lr",
    "mixup",
    "mixup_prob",
    "mixup_switch_prob",
    "model_ema",
    "num_classes",
    "queue",
    "recipe",
    "reduce_zero_label",
    "repeats",
    "reprob",
    "smoothing",
    "temperature",
    "threads",
    "three_augment",
    "warmup_epochs",
    "weight_decay",
];

/// Fields whose flag has another name: `model_ema` holds the momentum that `--model-ema-decay` sets.
const EXCEPTIONS: &[(&str, &str)] = &[("model_ema", "--model-ema-decay")];

/// The flag that sets a field, if the command line has one.
fn flag(field: &str) -> Option<String> {
    let other = EXCEPTIONS.iter().find(|(name, _)| *name == field).map(|(_, flag)| (*flag).to_owned());
    other.or_else(|| FIELDS.contains(&field).then(|| format!("--{}", field.replace('_', "-"))))
}

/// `text` with a flag in place of each field in backticks.
pub(super) fn with_flags(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let mut told = String::new();
    for (i, part) in parts.iter().enumerate() {
        // every second part stands between two backticks, but for one that nothing closes
        match flag(part).filter(|_| i % 2 == 1 && i + 1 < parts.len()) {
            Some(flag) => told.push_str(&flag),
            None if i % 2 == 1 && i + 1 < parts.len() => told.push_str(&format!("`{part}`")),
            None if i % 2 == 1 => told.push_str(&format!("`{part}")),
            None => told.push_str(part),
        }
    }
    told
}

/// An error in the words of the command line: the library names fields, people type flags. What was passed is quoted as
/// it is.
pub(super) fn told(error: &Error) -> String {
    match error {
        Error::Argument { what, got, expected } => {
            let what = flag(what).unwrap_or_else(|| what.to_string());
            format!("{what}: got {got}, expected {}", with_flags(expected))
        }
        other => with_flags(&other.to_string()),
    }
}

/// Whether this is one of several processes of which another one speaks.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Leaves speaking to another process: nothing is printed to stdout from now on.
pub(super) fn fall_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// A text that moves no cursor and changes no color of a terminal.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Prints a line. A closed pipe (`| head`) is no error; a full disk is.
pub(super) fn say(line: impl std::fmt::Display) -> Result<()> {
    if SILENT.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("standard output", "written")),
    }
}

/// Prints a line, where that is possible: what a run has to say is in its folder too, so a full disk behind stdout is
/// no failure of the run.
pub(super) fn tell(line: impl std::fmt::Display) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A path as it is typed in a shell.
pub(super) fn quoted(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| format!("{text:?}"), |quoted| quoted.into_owned())
}

/// Whether stderr is a terminal that draws: that moves its cursor and has colors. `NO_COLOR` (no-color.org), and a
/// `TERM` that is `dumb` or, outside of Windows, unset, say that it does not.
pub(super) fn draws() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let capable = set("TERM").map_or(cfg!(windows), |term| term != "dumb");
    std::io::stderr().is_terminal() && capable && set("NO_COLOR").is_none()
}

/// Prints a line to stderr, where that is possible.
pub(super) fn warn(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(super) type Outcome = std::result::Result<(), Stop>;

/// The choice of adapter, given to every command.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub options: Options,
    /// The processes that share the command, where it can be shared.
    pub world: World,
}

impl Device {
    pub fn open(&self) -> Result<Gpu> {
        let mut options = self.options.clone();
        if self.world.size() > 1 && options.adapter == AdapterChoice::Auto {
            options.adapter = AdapterChoice::Turn(self.world.on_this_host().rank);
        }
        let g = Gpu::open_blocking(&options)?;
        tracing::info!("{}", g.caps());
        Ok(g)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_field_has_its_flag() {
        let program = crate::cli::Cli::command();
        let flags: Vec<String> = program
            .get_subcommands()
            .flat_map(|command| command.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))))
            .collect();
        for field in FIELDS {
            let flag = flag(field).unwrap();
            assert!(flags.contains(&flag), "{field}: no command has {flag}");
        }
        assert!(EXCEPTIONS.iter().all(|(field, _)| FIELDS.contains(field)));
    }

    #[test]
    fn fields_become_flags_and_words_of_the_user_stay() {
        let error = Error::argument("queue", "`lr`", "a multiple of `batch_size` 64");
        assert_eq!(told(&error), "--queue: got `lr`, expected a multiple of --batch-size 64");
        assert_eq!(told(&Error::argument("model_ema", 2, "less")), "--model-ema-decay: got 2, expected less");
        assert_eq!(told(&Error::argument("image_size", 0, "more")), "image_size: got 0, expected more");
        for (text, expected) in [
            ("lower `blr`, raise `warmup_epochs`", "lower --blr, raise --warmup-epochs"),
            ("tensor `head` of `epochs`", "tensor `head` of --epochs"),
            ("one ` alone, lr", "one ` alone, lr"),
            ("`lr` and `blr", "--lr and `blr"),
        ] {
            assert_eq!(with_flags(text), expected);
        }
        let few = crate::data::DataError::TooFew { name: "set".into(), images: 40, batch_size: 64, accum_iter: 4 };
        assert!(told(&few.into()).ends_with("use --batch-size 10 or less"));
    }
}
