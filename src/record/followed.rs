//! The file with the keys while it is recorded from: looked at again and again, so that what its owner
//! changes takes effect without a restart.
//!
//! A file that cannot be used changes nothing. That is told once, as somebody may be in the middle of
//! editing it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{Notice, Notify, keys::Keys};
use crate::{
    accounts::{Account, Stamp},
    error::Result,
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The subscriptions that the file stands for.
pub(super) type Read = Box<dyn Fn(&Path) -> Result<Vec<Account>> + Send>;

/// The file, and what is known of it.
pub(super) struct Followed {
    path: PathBuf,
    read: Read,
    seen: Option<Stamp>,
    broken: bool,
}

impl Followed {
    /// A file that was not looked at yet.
    pub(super) fn new(path: PathBuf, read: Read) -> Self {
        Self { path, read, seen: None, broken: false }
    }

    /// What the file holds, if it has changed; or why it cannot be used, if it could be before.
    fn look(&mut self) -> Option<Result<Vec<Account>>> {
        let stamp = Stamp::of(&self.path);
        if stamp.as_ref().is_ok_and(|stamp| Some(*stamp) == self.seen) {
            return None;
        }
        // The stamp is older than the content: a change in between is seen the next time.
        self.seen = stamp.as_ref().ok().copied();
        let was_broken = self.broken;
        let found = stamp.and_then(|_| (self.read)(&self.path));
        self.broken = found.is_err();
        if was_broken && self.broken { None } else { Some(found) }
    }

    /// Hands out what the file holds whenever it has changed, for ever.
    pub(super) async fn follow(
        mut self,
        keys: Arc<Keys>,
        changed: watch::Sender<Vec<Account>>,
        notify: Notify,
    ) {
        // A thread of its own, as a file on a network can take its time. A look each second on threads
        // that others use now and then, too, would keep all of those from ending.
        let (ask, asked) = mpsc::channel::<oneshot::Sender<_>>();
        thread::spawn(move || {
            for answer in asked {
                let _ = answer.send(self.look());
            }
        });
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // While a key is written back, the file is ahead of what is in use.
            let _unwritten = keys.not_while_writing().await;
            let (answer, found) = oneshot::channel();
            let _ = ask.send(answer);
            match found.await {
                Ok(Some(Ok(accounts))) => {
                    changed.send_replace(accounts);
                }
                Ok(Some(Err(error))) => notify(Notice::KeysFileBroken { error: &error }),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{accounts, protocol::classic::Classic};

    fn entry(topic: &str) -> String {
        format!(r#"{{"customers": {{"a": {{"wsskey": "synthetic", "topic": "{topic}"}}}}}}"#)
    }

    fn topic(found: Option<Result<Vec<Account>>>) -> String {
        found.unwrap().unwrap().remove(0).topic
    }

    #[test]
    fn a_file_says_what_changed_and_once_that_it_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        // By another file each time, as times may be coarse.
        let write = |content: &str| {
            let new = folder.path().join("new");
            fs::write(&new, content).unwrap();
            fs::rename(new, &path).unwrap();
        };
        write(&entry("audit"));
        let read: Read = Box::new(|path| {
            let accounts = accounts::read(path)?;
            accounts[0].check_topic(&Classic)?;
            Ok(accounts)
        });
        let mut file = Followed::new(path.clone(), read);
        assert_eq!(topic(file.look()), "audit");
        assert!(file.look().is_none());
        write(&entry("presence"));
        assert_eq!(topic(file.look()), "presence");

        write("{\"customers\": {");
        assert!(file.look().unwrap().is_err());
        assert!(file.look().is_none());
        write(&entry("no such topic"));
        assert!(file.look().is_none(), "it is still broken");
        fs::remove_file(&path).unwrap();
        assert!(file.look().is_none() && file.look().is_none());
        write(&entry("audit"));
        assert_eq!(topic(file.look()), "audit");
        fs::remove_file(&path).unwrap();
        assert!(file.look().unwrap().unwrap_err().is_io());
    }
}
