//! The command. Everything it does is in the library; [`cli`] puts it into words.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run()
}
