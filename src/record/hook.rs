//! Path of a sealed segment -> the user's command, one at a time, in the order in which they were sealed.
//!
//! The commands run beside the sealing, which never waits for them. One that hangs holds up the ones
//! behind it, but not for ever: when its time is over it is ended with all that it has started, the
//! user is told, and the next one runs. At the end of the recording all that are left share that time.
//!
//! In a folder, a small file beside each segment says that it has not had its turn. Whoever is killed, or has no
//! time left, leaves that to the next recording.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Notice, Notify,
    export::exec::{kill, shell},
    names::is_name,
};
use crate::error::{Error, Kind, Result};

/// How long a command may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long the end of the recording may take before it is said what it waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is before and behind a segment's name in that of its small file, which is no capture's.
const PREFIX: &str = ".centralcap-on-sealed-";
const SUFFIX: &str = ".wanted";

/// The segments for which the command is still to be run, or is running, those that will be sealed among them.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    segments: Arc<Mutex<HashMap<PathBuf, Option<Token>>>>,
    has_tokens: bool,
}

impl Wanted {
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.lock().contains_key(path)
    }

    fn insert(&self, path: &Path) {
        let mut segments = self.lock();
        let is_locked = segments.len() < LOCKED_MOST;
        let token = || {
            let token = self.has_tokens.then(|| Token::take(path)).flatten()?;
            Some(Token { lock: token.lock.filter(|_| is_locked), ..token })
        };
        segments.entry(path.to_owned()).or_insert_with(token);
    }

    fn remove(&self, path: &Path) {
        if let Some(Some(token)) = self.lock().remove(path) {
            token.discard();
        }
    }

    /// The next recording is to run it.
    fn leave(&self, path: &Path) {
        self.lock().remove(path);
    }

    /// A map of names is as good after a panic as before.
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Option<Token>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many of the small files are open, at the most: a command may hang while segments come and come.
const LOCKED_MOST: usize = 100;

/// The file that says that a segment is wanted. It is locked as long as its owner lives; where it is not, another
/// recording that starts meanwhile runs its command for the segment, too.
struct Token {
    path: PathBuf,
    lock: Option<File>,
}

impl Token {
    /// None where it cannot be made, or is somebody else's: then a kill may cost the segment its turn.
    fn take(segment: &Path) -> Option<Self> {
        let name = segment.file_name()?.to_str()?;
        let path = segment.with_file_name(format!("{PREFIX}{name}{SUFFIX}"));
        let lock = OpenOptions::new().create(true).append(true).open(&path).ok()?;
        lock.try_lock().ok()?;
        Some(Self { path, lock: Some(lock) })
    }

    fn discard(self) {
        // If it stays, the command is run once more by the next recording.
        fs::remove_file(self.path).ok();
    }
}

/// The segments in a folder that have not had their turn, though whoever was to see to that lives no more; in the
/// order of their names.
pub(super) fn left_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let names = listing.flatten().filter_map(|item| item.file_name().into_string().ok());
    let segment = |name: &str| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX).map(str::to_owned);
    let segments = names.filter_map(|name| segment(&name)).filter(|name| is_name(name));
    let mut left: Vec<_> = segments
        .map(|name| folder.join(name))
        .filter(|segment| {
            let Some(token) = Token::take(segment) else { return false };
            if !segment.exists() {
                // It was deleted since. One that is sealed only now is wanted by then.
                token.discard();
                return false;
            }
            true
        })
        .collect();
    left.sort();
    left
}

/// The thread that runs them.
pub(super) struct Hooks {
    paths: mpsc::Sender<PathBuf>,
    wanted: Wanted,
    end: Arc<OnceLock<Instant>>,
    limit: Duration,
    notify: Notify,
    thread: JoinHandle<()>,
}

impl Hooks {
    /// What is wanted is written down beside the segments, or not.
    pub(super) fn start(
        command: String,
        limit: Duration,
        has_tokens: bool,
        notify: Notify,
    ) -> Self {
        let (paths, receiver) = mpsc::channel::<PathBuf>();
        let end = Arc::new(OnceLock::new());
        let hook = Hook { command, limit, end: Arc::clone(&end) };
        let wanted = Wanted { has_tokens, ..Wanted::default() };
        let (still_wanted, tell) = (wanted.clone(), Arc::clone(&notify));
        let thread = thread::spawn(move || {
            for path in receiver {
                if hook.is_over(Instant::now()) {
                    let error = hook.failed(&path, "no time left".to_owned());
                    tell(Notice::Trouble { error: &error });
                    still_wanted.leave(&path);
                    continue;
                }
                if let Err(error) = hook.run(&path) {
                    tell(Notice::Trouble { error: &error });
                }
                still_wanted.remove(&path);
            }
        });
        Self { paths, wanted, end, limit, notify, thread }
    }

    /// Runs the command for a segment, when it is its turn.
    pub(super) fn run(&self, path: &Path) {
        self.wanted.insert(path);
        // Where the thread is gone, there is nobody left to tell.
        let _ = self.paths.send(path.to_owned());
    }

    /// It will be run for a segment, as soon as that is sealed. Nobody is to take it for one that it has had.
    pub(super) fn expect(&self, path: &Path) {
        self.wanted.insert(path);
    }

    /// Nothing was in it: there will be no such segment.
    pub(super) fn expect_no_more(&self, path: &Path) {
        self.wanted.remove(path);
    }

    /// Those that it is still to be run for.
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }

    /// Waits for those that are left.
    pub(super) fn finish(self) {
        let began = Instant::now();
        let _ = self.end.set(began + self.limit);
        drop(self.paths);
        while !self.thread.is_finished() && began.elapsed() < PATIENCE {
            thread::sleep(LOOK_EVERY);
        }
        if !self.thread.is_finished() {
            let segments = self.wanted.lock().len();
            (self.notify)(Notice::HookAwaited { segments, time: self.limit });
        }
        let _ = self.thread.join();
    }
}

struct Hook {
    command: String,
    limit: Duration,
    /// When there is no time left for any.
    end: Arc<OnceLock<Instant>>,
}

impl Hook {
    /// Runs it with the path as its argument, and waits for it. What it prints is words: stdout is data.
    fn run(&self, path: &Path) -> Result<()> {
        let began = Instant::now();
        let spawned = with_argument(&self.command, path)
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .env_remove("CENTRALCAP_KEY")
            .spawn();
        let mut child = spawned.map_err(|error| self.failed(path, error.to_string()))?;
        match self.wait(&mut child, began) {
            Ok(None) => {
                kill(&mut child);
                let _ = child.wait();
                let seconds = began.elapsed().as_secs();
                Err(self.failed(path, format!("it running after {seconds} s, and ended it")))
            }
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(self.failed(path, status.to_string())),
            Err(error) => Err(self.failed(path, error.to_string())),
        }
    }

    /// None: its time is over.
    fn wait(
        &self,
        child: &mut Child,
        began: Instant,
    ) -> std::io::Result<Option<std::process::ExitStatus>> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if self.is_over(began) {
                return Ok(None);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn is_over(&self, began: Instant) -> bool {
        let over = |end: &Instant| Instant::now() >= *end;
        began.elapsed() >= self.limit || self.end.get().is_some_and(over)
    }

    fn failed(&self, segment: &Path, found: String) -> Error {
        let (command, segment) = (self.command.clone(), segment.to_owned());
        Kind::Hook { command, segment, found }.into()
    }
}

#[cfg(unix)]
fn with_argument(command: &str, path: &Path) -> std::process::Command {
    let mut command = shell(&format!("{command} \"$1\""));
    command.arg("sh").arg(path);
    command
}

#[cfg(not(unix))]
fn with_argument(command: &str, path: &Path) -> std::process::Command {
    let mut command = shell(command);
    command.arg(path);
    command
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use super::*;

    /// Runs a command with the paths `a`, `b` and `c`, and returns what it wrote to its log and what the
    /// user was told.
    fn run(limit: Duration, command: &str) -> (String, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let told = Arc::new(Mutex::new(Vec::new()));
        let words = Arc::clone(&told);
        let notify = move |notice: Notice<'_>| {
            if let Notice::Trouble { error } = notice {
                words.lock().unwrap().push(error.to_string());
            }
        };
        let command =
            format!("run() {{ {}; }}; run", command.replace("LOG", log.to_str().unwrap()));
        let hooks = Hooks::start(command, limit, false, Arc::new(notify));
        for path in ["a", "b", "c"] {
            hooks.run(Path::new(path));
        }
        hooks.finish();
        let told = std::mem::take(&mut *told.lock().unwrap());
        (fs::read_to_string(log).unwrap_or_default(), told)
    }

    const AMPLE: Duration = Duration::from_secs(60);

    #[test]
    fn each_segment_has_its_turn() {
        let (log, told) = run(AMPLE, "echo $1 >>LOG; sleep 0.05; echo $1 >>LOG");
        assert_eq!((&*log, &*told), ("a\na\nb\nb\nc\nc\n", &[] as &[String]));
    }

    #[test]
    fn one_that_fails_is_told_and_the_next_one_runs() {
        let (log, told) = run(AMPLE, "echo $1 >>LOG; test $1 != b");
        assert_eq!(log, "a\nb\nc\n");
        assert!(told.len() == 1 && told[0].contains("with b, found exit status: 1"), "{told:?}");
    }

    #[test]
    fn what_had_no_turn_is_left_to_whoever_comes_next() {
        let folder = tempfile::tempdir().unwrap();
        let segment = |n| folder.path().join(format!("20260101T00000{n}.000Z.mcap"));
        let [quick, slow, third, gone] = [1, 2, 3, 4].map(segment);
        // Nobody else's file is handed to a command.
        let stranger = folder.path().join(format!("{PREFIX}.{SUFFIX}"));
        fs::write(stranger, "").unwrap();
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let run = |limit, command: &str| {
            let hooks = Hooks::start(command.to_owned(), limit, true, Arc::new(|_: Notice<'_>| {}));
            for path in [&quick, &slow, &third] {
                fs::write(path, "").unwrap();
                hooks.expect(path);
                hooks.run(path);
            }
            hooks.expect(&gone);
            // Its owner lives.
            assert!(left_in(folder.path()).is_empty());
            hooks.finish();
        };
        // They share the time, which the second one uses up.
        let command = "go() { case $1 in *1.000Z.mcap) sleep 1;; *) sleep 1000;; esac; }; go";
        run(Duration::from_secs(2), command);
        assert_eq!(left_in(folder.path()), [&*third]);
        assert_eq!(left_in(folder.path()), [&*third]);
        run(AMPLE, "true");
        assert!(left_in(folder.path()).is_empty());
        assert_eq!(count(), 3 + 1);
    }

    #[test]
    fn whoever_waits_for_it_at_the_end_is_told_why() {
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        let command = format!("run() {{ until test -e {go:?}; do sleep 0.01; done; }}; run");
        let notify = move |notice: Notice<'_>| match notice {
            Notice::HookAwaited { segments: 2, time: AMPLE } => fs::write(&go, "").unwrap(),
            other => panic!("{other:?}"),
        };
        let hooks = Hooks::start(command, AMPLE, false, Arc::new(notify));
        hooks.run(Path::new("a"));
        hooks.run(Path::new("b"));
        let began = Instant::now();
        hooks.finish();
        assert!(began.elapsed() < AMPLE, "nobody was told");
    }

    #[test]
    fn one_that_hangs_is_ended_with_what_it_started() {
        // The recording ends at once: all three share the time.
        let began = Instant::now();
        let (log, told) =
            run(Duration::from_millis(500), "echo $1 >>LOG; test $1 = a || sleep 1000 | cat");
        assert!(began.elapsed() < AMPLE);
        assert_eq!(log, "a\nb\n");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("with b, found it running after 0 s"), "{told:?}");
        assert!(told[1].contains("with c, found no time left"), "{told:?}");
    }
}
