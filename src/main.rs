//! The `rowscan` program.

fn main() -> std::process::ExitCode {
    rowscan::cli::main()
}
