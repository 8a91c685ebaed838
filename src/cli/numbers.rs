//! Numbers on the command line: negative ones are values too, and an error says what is expected.

use std::any::TypeId;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

use clap::{Arg, Command};

/// `program`, whose options take numbers this way.
pub fn reading_numbers(program: Command) -> Command {
    program.mut_args(reading).mut_subcommands(|command| command.mut_args(reading))
}

fn reading(arg: Arg) -> Arg {
    if arg.get_long().is_none() || !arg.get_action().takes_values() {
        return arg;
    }
    let arg = arg.allow_negative_numbers(true);
    let kind = arg.get_value_parser().type_id();
    match () {
        () if kind == TypeId::of::<usize>() => arg.value_parser(whole::<usize>),
        () if kind == TypeId::of::<u64>() => arg.value_parser(whole::<u64>),
        () if kind == TypeId::of::<f64>() => arg.value_parser(number::<f64>),
        () if kind == TypeId::of::<f32>() => arg.value_parser(number::<f32>),
        () => arg,
    }
}

/// Reads a number of things.
pub fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow => "expected a smaller number".to_owned(),
        _ => "expected a whole number, 0 or more".to_owned(),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}
