//! The options of `replay` that say whose keys are valid, and until when.

use std::{path::PathBuf, time::Duration};

use centralcap::{
    accounts::{self, Account},
    error::Error,
    replay::{AtExpiry, Expiry},
};

use super::select;

/// Whose keys are valid, and until when.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Take only the keys of this file, in the vendor's input format. Without it any key will do.
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    accounts: Option<PathBuf>,

    /// Let each key die D after the server is ready, or after the renewal that gave it. From then on the feed
    /// answers it with 401, and validation with a new one.
    #[arg(
        long,
        value_name = "D",
        help_heading = "Keys",
        requires = "accounts",
        value_parser = select::duration
    )]
    key_expires_after: Option<Duration>,

    /// The key of this account is dead from the start (may be given more than once).
    #[arg(long, value_name = "NAME", help_heading = "Keys", requires = "accounts")]
    expire: Vec<String>,

    /// What becomes of who is connected by a key that dies: keep, close (with 1008), or close:CODE.
    #[arg(
        long,
        value_name = "WHAT",
        help_heading = "Keys",
        requires = "accounts",
        default_value = "keep",
        value_parser = str::parse::<AtExpiry>
    )]
    at_expiry: AtExpiry,
}

impl Args {
    pub(super) const fn file(&self) -> Option<&PathBuf> {
        self.accounts.as_ref()
    }

    pub(super) fn accounts(&self) -> Result<Option<Vec<Account>>, Error> {
        self.accounts.as_deref().map(accounts::read).transpose()
    }

    pub(super) fn expiry(&self) -> Expiry {
        Expiry {
            after: self.key_expires_after,
            accounts: self.expire.clone(),
            connections: self.at_expiry,
        }
    }
}
