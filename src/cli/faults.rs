//! The options of `replay` that spoil a feed, and the log of what was spoilt.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use centralcap::{
    error::Error,
    fault::{Applied, Faults, SCENARIOS, ValidationFails},
    files,
};

use super::select;

/// What goes wrong, on purpose.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Spoil the feed by the rules of this file (docs/faults.md), or repeat the run whose fault log it is.
    #[arg(long, value_name = "FILE", help_heading = "Faults", conflicts_with = "scenario")]
    faults: Option<PathBuf>,

    /// Spoil it by ready-made rules.
    #[arg(long, value_name = "NAME", help_heading = "Faults")]
    scenario: Option<String>,

    /// Answer every validation of a key with this status instead of a key, and with this body.
    #[arg(
        long,
        value_name = "STATUS[:BODY]",
        help_heading = "Faults",
        value_parser = str::parse::<ValidationFails>
    )]
    validate_fails: Option<ValidationFails>,

    /// Refuse and cut off clients as the recording's ledger says that the recorder was: with the same status
    /// and code, at the same moment.
    #[arg(long, help_heading = "Faults")]
    pub(super) reproduce_session: bool,

    /// What the faults are drawn from [default: 1, or that of the log].
    #[arg(long, value_name = "N", help_heading = "Faults", value_parser = select::number::<u64>)]
    seed: Option<u64>,

    /// Write each fault that is applied to this file, as a line of JSON. An earlier file of that name is
    /// written over.
    #[arg(long, value_name = "FILE", help_heading = "Faults")]
    fault_log: Option<PathBuf>,

    /// Print which ready-made rules there are, and what they do.
    #[arg(long, help_heading = "Faults", exclusive = true)]
    pub(super) list_scenarios: bool,
}

impl Args {
    /// The file of rules, or the log of the run that is repeated. Nobody may write over it: where it turns out
    /// otherwise, it is the only one of its kind.
    pub(super) const fn file(&self) -> Option<&PathBuf> {
        self.faults.as_ref()
    }

    /// The file that is to be the log.
    pub(super) const fn log_file(&self) -> Option<&PathBuf> {
        self.fault_log.as_ref()
    }

    /// More rules may come later, from a recording or by control, if they are `to_come`.
    pub(super) fn faults(&self, to_come: bool) -> Result<Option<Faults>, Error> {
        let faults = match (&self.faults, &self.scenario) {
            (Some(path), _) => {
                Some(Faults::parse(&files::text(path)?, &path.display().to_string(), self.seed)?)
            }
            (None, Some(name)) => Some(Faults::scenario(name, self.seed)?),
            (None, None) => None,
        };
        let more = self.validate_fails.as_ref().map(|fails| (fails.rule(), "--validate-fails"));
        let faults = match (faults, more) {
            (Some(faults), Some((rules, origin))) => faults.and_rules(&rules, origin)?,
            (None, Some((rules, origin))) => Faults::parse(&rules, origin, self.seed)?,
            (Some(faults), None) => faults,
            // Whoever always wants a log need not know whether there is something to log.
            (None, None) if to_come || self.reproduce_session || self.fault_log.is_some() => {
                Faults::none(self.seed)
            }
            (None, None) if self.seed.is_some() => {
                let hint = "--list-scenarios prints what --scenario takes";
                return Err(Error::usage("--faults or --scenario", "--seed alone", hint));
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(faults))
    }

    /// The log, if one is wanted.
    pub(super) fn log(&self, faults: Option<&Faults>) -> anyhow::Result<Option<Log>> {
        let log = self.fault_log.as_ref().zip(faults);
        log.map(|(path, faults)| Log::create(path, faults)).transpose()
    }
}

pub(super) fn list_scenarios() -> Result<(), Error> {
    let widest = SCENARIOS.iter().map(|scenario| scenario.name.len()).max().unwrap_or_default();
    let mut stdout = io::stdout().lock();
    for scenario in SCENARIOS {
        let (name, description) = (scenario.name, scenario.description());
        writeln!(stdout, "{name:widest$}  {description}").map_err(Error::output)?;
    }
    Ok(())
}

/// The file with all faults that were applied.
pub(super) struct Log {
    /// Or why it cannot be written any more.
    file: Mutex<io::Result<File>>,
    path: PathBuf,
}

impl Log {
    fn create(path: &Path, faults: &Faults) -> anyhow::Result<Self> {
        let file = File::create(path).and_then(|mut file| {
            writeln!(file, "{}", faults.log_head())?;
            Ok(file)
        });
        let file = file.map_err(Error::io("write", path))?;
        Ok(Self { file: Mutex::new(Ok(file)), path: path.to_owned() })
    }

    /// The line is in the file when this returns, unless the file has failed.
    pub(super) fn write(&self, applied: &Applied) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(open) = &mut *file
            && let Err(error) = open.write_all(format!("{applied}\n").as_bytes())
        {
            *file = Err(error);
        }
    }

    /// Whether all lines are in it.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match &*file {
            Ok(_) => Ok(()),
            Err(error) => Err(anyhow::anyhow!("cannot write {}: {error}", self.path.display())),
        }
    }
}
