//! The commands: arguments to options, a flow of the library, its result to words.

use std::{
    io::{self, IsTerminal, Write},
    panic,
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use bytesize::ByteSize;
use centralcap::{
    error::{Error, counted},
    plain, schema,
};
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use self::log::{Format, Level, Line};

mod accounts;
mod decode;
mod demo;
mod diff;
mod edit;
mod encode;
mod faults;
mod follow;
mod inspect;
mod log;
mod losses;
mod outputs;
mod record;
mod replay;
mod select;
mod signal;
mod status;
mod stderr;
mod synth;
mod systemd;

/// Among a command's own options those of all commands would stand wherever clap has counted them to.
const EVERYWHERE: &str = "For all commands";

/// Record, decode, replay and inspect the HPE Aruba Networking Central streaming feeds.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Say only what went wrong.
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    quiet: bool,

    /// Say more.
    #[arg(short, long, global = true, conflicts_with = "quiet", help_heading = EVERYWHERE)]
    verbose: bool,

    /// Colour the words on stderr and the drawings on stdout.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = EVERYWHERE
    )]
    color: When,

    /// Words on stderr as text for people, or each as a line of JSON for programs.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = EVERYWHERE
    )]
    log_format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    Record(Box<record::Args>),
    Decode(decode::Args),
    Replay(Box<replay::Args>),
    Inspect(inspect::Args),
    Edit(edit::Args),
    Encode(encode::Args),
    Diff(diff::Args),
    Synth(synth::Args),
    Demo(demo::Args),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// How a command ended, if not with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// All of it was done.
    Done,
    /// It was done, but something was lost or is wrong.
    Lossy,
    /// It was not what was demanded; why has been said.
    Failed,
}

/// Every exit code there is.
mod exit {
    pub(super) const DONE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const LOSSY: u8 = 3;
    /// What a shell makes of the death by SIGINT.
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Writes a line to stderr.
fn to_stderr(line: impl std::fmt::Display) {
    stderr::write(format!("{line}\n"));
}

/// How to talk to the user. stdout carries data, stderr words: each on one line, and whatever of them comes
/// from a capture or a peer is shown to a terminal and not obeyed by it.
#[derive(Clone, Copy, Debug)]
struct Words {
    quiet: bool,
    verbose: bool,
    color: bool,
    /// stderr is a terminal, where a line may be written over.
    live: bool,
    format: Format,
}

impl Words {
    /// Something worth knowing, unless the user wants quiet.
    fn say(self, text: impl std::fmt::Display) {
        self.tell(&text, || Line::message(Level::Info, &text));
    }

    /// The same where a program gets more than words.
    fn tell(self, text: impl std::fmt::Display, line: impl FnOnce() -> Line) {
        match self.format {
            _ if self.quiet => {}
            Format::Text => to_stderr(shown(&text)),
            Format::Json => to_stderr(line()),
        }
    }

    /// Something for those who asked for more.
    fn detail(self, text: impl std::fmt::Display) {
        match self.format {
            _ if !self.verbose => {}
            Format::Text => to_stderr(shown(&text)),
            Format::Json => to_stderr(Line::message(Level::Debug, text)),
        }
    }

    /// Something that is wrong but does not end the command.
    fn warn(self, text: impl std::fmt::Display) {
        match self.format {
            Format::Text => {
                to_stderr(format_args!("{} {}", self.bold("warning:", 33), shown(&text)));
            }
            Format::Json => to_stderr(Line::message(Level::Warn, text)),
        }
    }

    /// An error with its hint. It ends the command, or one of many things in it.
    fn error(self, error: &anyhow::Error) {
        let own = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
        let hint = own.and_then(Error::hint);
        if self.format == Format::Json {
            let line = Line::message(Level::Error, format_args!("{error:#}"));
            to_stderr(line.with_maybe("hint", hint));
            return;
        }
        let error = format_args!("{error:#}");
        to_stderr(format_args!("{} {}", self.bold("error:", 31), shown(&error)));
        if let Some(hint) = hint {
            to_stderr(format_args!("{} {hint}", self.bold("hint:", 36)));
        }
    }

    /// Whether somebody wants to read that.
    fn wants(self, level: Level) -> bool {
        match level {
            Level::Debug => self.verbose,
            Level::Info => !self.quiet,
            Level::Warn | Level::Error => true,
        }
    }

    fn bold(self, text: &str, color: u8) -> String {
        if self.color { format!("\x1b[1;{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Words on one line, with whatever a terminal would obey as an escape.
fn shown(text: &dyn std::fmt::Display) -> String {
    let text =
        plain::unobeyed(&text.to_string(), |character| character.escape_default().to_string());
    text.replace('\n', "\\n")
}

/// Prints a page that is made for stdout.
fn print(page: &str) -> Result<(), Error> {
    io::stdout().lock().write_all(page.as_bytes()).map_err(Error::output)
}

/// What came of making a capture of frames alone.
fn made(frames: u64, bytes: u64, size: u64, output: &Path) -> String {
    format!(
        "{}, {} in {} on disk: {}",
        counted(frames, "frame"),
        ByteSize::b(bytes).display().iec(),
        ByteSize::b(size).display().iec(),
        output.display()
    )
}

/// To be asked before a new capture is written: it needs a name, and none of it is left if a signal ends us.
fn begin_capture(output: &Path) -> anyhow::Result<()> {
    if output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(no_file(&format!("the folder {}", output.display())).into());
    }
    begin_captures(output)
}

/// The same where the output may be a folder of captures.
fn begin_captures(output: &Path) -> anyhow::Result<()> {
    if output == Path::new("-") {
        return Err(no_file("-").into());
    }
    signal::leave_nothing_of(output).context("cannot wait for signals")
}

fn no_file(found: &str) -> Error {
    Error::usage("a file", found, "name the new capture with -o FILE.mcap")
}

/// What options take a quantity of: a number, a duration, a moment, a size.
const QUANTITIES: [&str; 4] = ["N", "D", "TIME", "SIZE"];

/// A negative quantity is a wrong value and gets its words; clap would take -1h for an option that there is not.
fn take_negative(option: Arg) -> Arg {
    let names = option.get_value_names().unwrap_or_default();
    let is_quantity = names.iter().any(|name| QUANTITIES.contains(&name.as_str()));
    if is_quantity { option.allow_hyphen_values(true) } else { option }
}

fn parsed() -> clap::error::Result<Cli> {
    let mut command = Cli::command().mut_subcommands(|command| command.mut_args(take_negative));
    let found: ArgMatches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&found).map_err(|error| error.format(&mut command))
}

/// What a capture brings along as its schema may be such that loading it panics. That is told as what it is, and is
/// no fault of this program.
fn keep_quiet_about_schemas() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !schema::is_loading() {
            told(panic);
        }
    }));
}

pub(crate) fn run() -> ExitCode {
    keep_quiet_about_schemas();
    let cli = match parsed() {
        Ok(cli) => cli,
        Err(error) => {
            usage(&error);
            return if error.use_stderr() { exit::USAGE } else { exit::DONE }.into();
        }
    };
    let format = cli.log_format;
    let live = io::stderr().is_terminal() && format == Format::Text;
    let color = match cli.color {
        When::Auto => live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        When::Always => true,
        When::Never => false,
    };
    let words = Words { quiet: cli.quiet, verbose: cli.verbose, color, live, format };
    // Where it fails, a limit still ends us, as it ends most programs.
    signal::survive_file_size_limit().ok();
    let outcome = match cli.command {
        Command::Record(args) => record::run(*args, words),
        Command::Decode(args) => decode::run(args, words),
        Command::Replay(args) => replay::run(*args, words),
        Command::Inspect(args) => inspect::run(args, words),
        Command::Edit(args) => edit::run(args, words),
        Command::Encode(args) => encode::run(args, words),
        Command::Diff(args) => diff::run(args, words),
        Command::Synth(args) => synth::run(args, words),
        Command::Demo(args) => demo::run(args, words),
    };
    let code = match outcome.and_then(|outcome| Ok(io::stdout().flush().map(|()| outcome)?)) {
        Ok(Outcome::Done) => exit::DONE,
        Ok(Outcome::Lossy) => exit::LOSSY,
        Ok(Outcome::Failed) => exit::FAILED,
        Err(error) if is_closed_pipe(&error) => exit::DONE,
        Err(error) => {
            words.error(&error);
            let own = error.downcast_ref::<Error>();
            if own.is_some_and(Error::is_usage) { exit::USAGE } else { exit::FAILED }
        }
    };
    stderr::finish();
    code.into()
}

/// Says what is wrong with the arguments. Also --help and --version, which go to stdout and are no error.
fn usage(error: &clap::Error) {
    let own = std::error::Error::source(error).and_then(|own| own.downcast_ref::<Error>());
    let hint = own.and_then(Error::hint);
    if !error.use_stderr() || Format::asked_for(std::env::args_os()) == Format::Text {
        let _ = error.print();
        if let Some(hint) = hint {
            to_stderr(format_args!("hint: {hint}"));
        }
        return;
    }
    // The first paragraph says what is wrong; of the others some are tips, and the rest is for people.
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|lines| {
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    });
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let tip = paragraphs.find_map(|text| Some(text.strip_prefix("tip: ")?.to_owned()));
    let line = Line::message(Level::Error, message);
    to_stderr(line.with_maybe("hint", hint.map(str::to_owned).or(tip)));
}

/// Whoever read our output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<Error>().is_some_and(Error::is_closed_pipe)
            || cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
