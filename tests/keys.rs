//! Keys and the input file while a recording runs: how often the server is asked, what becomes of a
//! renewed key, and what an edited file changes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use centralcap::{
    accounts,
    capture::Capture,
    entry::{Entry, Timestamp, What, session_event::Event},
    protocol::Key,
};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use support::{
    feed::{Feed, Reply, Request, Say},
    wait,
};

/// A recording of an input file that runs, into a folder.
struct Running {
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl Running {
    /// Its input file, in a folder of its own.
    fn prepare(input: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("input.json"), input).unwrap();
        Self { child: None, folder }
    }

    fn start(feed: &Feed, input: &str) -> Self {
        Self::prepare(input).go(feed)
    }

    fn go(self, feed: &Feed) -> Self {
        self.go_with(feed, &[])
    }

    fn go_with(self, feed: &Feed, more: &[&str]) -> Self {
        let file = self.path("input.json");
        let keys = ["--input", file.to_str().unwrap()];
        self.record(feed, &[&keys, more].concat(), Stdio::null())
    }

    fn record(mut self, feed: &Feed, arguments: &[&str], stdin: Stdio) -> Self {
        let child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
            .args(["record", "-v", "--hostname", &feed.url()])
            .args(arguments)
            .arg("-o")
            .arg(self.path("recordings"))
            .env("RUST_LOG", "trace")
            .stdin(stdin)
            .stdout(fs::File::create(self.path("stdout")).unwrap())
            .stderr(fs::File::create(self.path("stderr")).unwrap())
            .spawn();
        self.child = Some(child.unwrap());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the capture says so far.
    fn story(&self, name: &str) -> Vec<String> {
        let Ok(capture) = Capture::open(&[self.path("recordings")]) else { return Vec::new() };
        story(&capture.entries().map_while(Result::ok).collect::<Vec<_>>(), name)
    }

    /// Ends the recording properly, and reads it.
    fn stop(&mut self) -> Vec<Entry> {
        let child = self.child.as_mut().unwrap();
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(matches!(status.code(), Some(0 | 3)), "{status}: {}", self.words());
        let capture = Capture::open(&[self.path("recordings")]).unwrap();
        capture.entries().map(Result::unwrap).collect()
    }

    /// All that was said so far.
    fn words(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    /// Waits until it holds.
    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        wait::wait_for(what, || self.words(), holds);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An input file with one subscription for each name and key.
fn input<'a>(subscriptions: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let entries = subscriptions.into_iter().map(|(name, key)| {
        format!("    \"{name}\": {{\"wsskey\": \"{key}\", \"topic\": \"monitoring\"}}")
    });
    format!("{{\n  \"customers\": {{\n{}\n  }}\n}}\n", entries.collect::<Vec<_>>().join(",\n"))
}

/// A key that says when it was made, which is seven days before it dies.
fn key_that_dies_in(minutes: u64) -> String {
    let now = Timestamp::now().as_nanos() / 1_000_000_000;
    let created = now + 60 * minutes - 7 * 24 * 60 * 60;
    let claims = format!(r#"{{"customer_id":"synthetic-customer","creation_date":{created}}}"#);
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let parts = [r#"{"alg":"HS256","type":"jwt"}"#, &claims, "synthetic signature"];
    parts.map(part).join(".")
}

fn binary(data: &'static [u8]) -> Say {
    Say::Binary(Bytes::from_static(data))
}

/// The ledger of a subscription and its frames, a word for each.
fn story(entries: &[Entry], name: &str) -> Vec<String> {
    let own = entries.iter().filter(|entry| entry.subscription.name == name);
    let word = |entry: &Entry| match &entry.what {
        What::Frame(frame) => String::from_utf8_lossy(&frame.data).into_owned(),
        What::Event(event) => match event.event.as_ref().unwrap() {
            Event::Connected(_) => format!("connected {}", event.connection),
            Event::Closed(closed) if closed.clean => format!("closed {}", event.connection),
            Event::Closed(closed) => format!("broken {}: {}", event.connection, closed.reason),
            Event::KeyRenewed(renewed) if renewed.written_back => "new key".to_owned(),
            Event::KeyRenewed(_) => "new key, not stored".to_owned(),
            Event::Rejected(rejected) => format!("status {}", rejected.status),
            Event::Gap(gap) => format!("gap {:?}", gap.cause()),
            other => format!("{other:?}"),
        },
    };
    own.map(word).collect()
}

fn duration(requests: &[Request]) -> Duration {
    let at = |request: Option<&Request>| request.unwrap().at;
    at(requests.iter().max_by_key(|request| request.at))
        - at(requests.iter().min_by_key(|request| request.at))
}

#[test]
fn a_hundred_connections_that_are_dropped_at_once_come_back_twenty_a_second() {
    const MANY: usize = 100;

    let (count, together) = (AtomicUsize::new(0), Arc::new(Barrier::new(MANY)));
    let feed = Feed::answering(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        number if number < MANY => Reply::Feed(vec![Say::Meet(Arc::clone(&together)), Say::Drop]),
        _ => Reply::Feed(vec![Say::Stay]),
    });
    let names: Vec<_> = (0..MANY).map(|number| format!("feed-{number}")).collect();
    let running = Running::start(
        &feed,
        &input(names.iter().map(|name| (name.as_str(), "synthetic-key-for-tests"))),
    );
    running.wait_for("second connections", || feed.requests().len() == 2 * MANY);
    let (first, second) = (&feed.requests()[..MANY], &feed.requests()[MANY..]);
    // A hundred at twenty a second take four seconds from the first to the last, the last twenty
    // being there at once.
    for wave in [first, second] {
        assert!(duration(wave) >= Duration::from_secs(4), "{:?}", duration(wave));
    }
}

#[test]
fn twenty_subscriptions_with_one_key_ask_for_a_new_one_once() {
    let (old, new) = ("synthetic-old-key", "synthetic-new-key");
    let feed = renewing(old, new);
    let names: Vec<_> = (0..20).map(|number| format!("feed-{number}")).collect();
    let running = Running::start(&feed, &input(names.iter().map(|name| (name.as_str(), old))));
    let connected = || running.words().matches(": connected to ").count();
    running.wait_for("connections of all", || connected() == 20);
    let asked = feed.requests().iter().filter(|request| request.is_renewal()).count();
    assert_eq!(asked, 1, "{}", running.words());
    let expected = input(names.iter().map(|name| (name.as_str(), new)));
    assert_eq!(fs::read_to_string(running.path("input.json")).unwrap(), expected);
}

#[test]
fn a_customer_whose_key_is_refused_for_good_is_asked_about_once() {
    let feed = Feed::answering(|request| match request.topic() {
        "" => Reply::Answer("403 Forbidden", String::new()),
        _ if request.key() == "synthetic-good-key" => Reply::Feed(vec![Say::Stay]),
        _ => Reply::Answer("401 Unauthorized", String::new()),
    });
    let subscriptions =
        [("a", "synthetic-bad-key"), ("b", "synthetic-bad-key"), ("c", "synthetic-good-key")];
    let running = Running::start(&feed, &input(subscriptions));
    running.wait_for("two that have to wait", || {
        running.words().matches("could not be renewed: expected status 200").count() == 2
    });
    let renewals = feed.requests().into_iter().filter(Request::is_renewal);
    assert_eq!(renewals.count(), 1, "{}", running.words());
}

/// A feed that refuses the old key and gives the new one for it.
fn renewing(old: &'static str, new: &'static str) -> Feed {
    Feed::answering(move |request| {
        if request.is_renewal() {
            return Reply::Answer("200 OK", format!(r#"{{"token":"{new}"}}"#));
        }
        if request.key() == old {
            return Reply::Answer("401 Unauthorized", String::new());
        }
        Reply::Feed(vec![Say::Stay])
    })
}

#[test]
fn whoever_waits_before_the_server_is_asked_again_says_so() {
    let (old, new) = ("synthetic-old-key", "synthetic-new-key");
    let is_refused = AtomicBool::new(false);
    let feed = Feed::answering(move |request| {
        if request.is_renewal() {
            return Reply::Answer("200 OK", format!(r#"{{"token":"{new}"}}"#));
        }
        if request.key() == old || is_refused.swap(true, Ordering::Relaxed) {
            return Reply::Answer("401 Unauthorized", String::new());
        }
        Reply::Feed(vec![Say::Drop])
    });
    let running = Running::start(&feed, &input([("east", old)]));
    running.wait_for("the second refusal", || running.words().matches("status 401").count() == 2);
    running.wait_for("word of the wait", || {
        running.words().contains("east: asking for another key in ")
    });
}

#[test]
fn a_key_that_cannot_be_written_back_is_used_and_that_is_said() {
    let feed = renewing("synthetic-old-key", "synthetic-new-key");
    let running = Running::prepare(&input([("east", "synthetic-old-key")]));
    // The new file's name is taken by what nobody deletes for us: this stops root, too.
    let obstacle = running.path(".input.json.centralcap-new");
    fs::create_dir(&obstacle).unwrap();
    fs::write(obstacle.join("file"), "").unwrap();
    let running = running.go(&feed);
    running.wait_for("connection", || running.words().contains("east: connected"));
    let words = running.words();
    assert!(words.contains("east: the renewed key is in use until the recording ends"), "{words}");
    assert!(words.contains("cannot create "), "{words}");
    let expected = input([("east", "synthetic-old-key")]);
    assert_eq!(fs::read_to_string(running.path("input.json")).unwrap(), expected);
}

#[test]
fn before_a_key_dies_the_next_connection_stands_before_the_old_one_is_closed() {
    let (old, new) = (key_that_dies_in(30), key_that_dies_in(7 * 24 * 60));
    let feed = {
        let (old, new) = (old.clone(), new.clone());
        let both_stand = Arc::new(Barrier::new(2));
        Feed::answering(move |request| {
            let meet = || Say::Meet(Arc::clone(&both_stand));
            if request.is_renewal() {
                Reply::Answer("200 OK", format!(r#"{{"token":"{new}"}}"#))
            } else if request.key() == old {
                let last = binary(b"sent when the next one stands");
                Reply::Feed(vec![binary(b"sent before"), meet(), last, Say::Stay])
            } else {
                Reply::Feed(vec![meet(), binary(b"sent on the next one"), Say::Stay])
            }
        })
    };
    let mut running = Running::start(&feed, &input([("east", &*old)]));
    let last = "sent on the next one";
    running.wait_for("frame on the next one", || running.story("east").iter().any(|s| s == last));
    let expected = [
        "connected 1",
        "sent before",
        "sent when the next one stands",
        "new key",
        "closed 1",
        "connected 2",
        "sent on the next one",
        "closed 2",
    ];
    assert_eq!(story(&running.stop(), "east"), expected, "{}", running.words());
    assert_eq!(fs::read_to_string(running.path("input.json")).unwrap(), input([("east", &*new)]));
}

#[test]
fn a_server_that_allows_one_connection_may_end_the_old_one_for_the_new() {
    let (old, new) = (key_that_dies_in(30), key_that_dies_in(7 * 24 * 60));
    let feed = {
        let (old, asked) = (old.clone(), Arc::new(Barrier::new(2)));
        Feed::answering(move |request| {
            if request.is_renewal() {
                Reply::Answer("200 OK", format!(r#"{{"token":"{new}"}}"#))
            } else if request.key() == old {
                Reply::Feed(vec![Say::Meet(Arc::clone(&asked)), Say::Drop])
            } else {
                asked.wait();
                Reply::Feed(vec![binary(b"on the next one"), Say::Stay])
            }
        })
    };
    let mut running = Running::start(&feed, &input([("east", &*old)]));
    let frame = "on the next one";
    running.wait_for("frame on the next one", || running.story("east").iter().any(|s| s == frame));
    let mut found = story(&running.stop(), "east");
    // Which came first, the end or the answer to the upgrade, is up to the two connections.
    found.retain(|word| word != "gap Network");
    assert!(found[2].starts_with("broken 1: the connection with the new key stands"), "{found:?}");
    assert_eq!(found[..2], ["connected 1", "new key"]);
    assert_eq!(found[3..], ["connected 2", frame, "closed 2"]);
    assert!(!running.words().contains("trying again"), "{}", running.words());
}

#[test]
fn a_connection_goes_on_while_there_is_none_with_the_new_key() {
    let (old, new) = (key_that_dies_in(30), key_that_dies_in(7 * 24 * 60));
    let feed = {
        let (old, refused) = (old.clone(), Arc::new(Barrier::new(2)));
        Feed::answering(move |request| {
            if request.is_renewal() {
                Reply::Answer("200 OK", format!(r#"{{"token":"{new}"}}"#))
            } else if request.key() == old {
                let meet = Say::Meet(Arc::clone(&refused));
                Reply::Feed(vec![binary(b"before"), meet, binary(b"after"), Say::Stay])
            } else {
                refused.wait();
                Reply::Answer("503 Service Unavailable", String::new())
            }
        })
    };
    let mut running = Running::start(&feed, &input([("east", &*old)]));
    running.wait_for("refusal", || running.words().contains("east: refused with status 503"));
    let mut found = story(&running.stop(), "east");
    // Which comes first is up to the two connections.
    found.sort();
    assert_eq!(found, ["after", "before", "closed 1", "connected 1", "status 503"]);
}

#[test]
fn all_subscriptions_of_a_key_move_to_the_next_one_and_one_of_them_asks() {
    let (old, new) = (key_that_dies_in(30), key_that_dies_in(7 * 24 * 60));
    let feed = {
        let (old, new) = (old.clone(), new.clone());
        // The new key comes when all are there with the old one.
        let all_and_the_question = Arc::new(Barrier::new(4 + 1));
        Feed::answering(move |request| {
            if request.is_renewal() {
                all_and_the_question.wait();
                return Reply::Answer("200 OK", format!(r#"{{"token":"{new}"}}"#));
            }
            let meet = Say::Meet(Arc::clone(&all_and_the_question));
            let first = (request.key() == old).then_some(meet);
            Reply::Feed(first.into_iter().chain([Say::Stay]).collect())
        })
    };
    let names = ["a", "b", "c", "d"];
    let mut running = Running::start(&feed, &input(names.map(|name| (name, &*old))));
    running.wait_for("second connections", || {
        running.words().matches(": connected to ").count() == 2 * names.len()
    });
    assert_eq!(feed.requests().iter().filter(|request| request.is_renewal()).count(), 1);
    let entries = running.stop();
    for name in names {
        let expected = ["connected 1", "new key", "closed 1", "connected 2", "closed 2"];
        assert_eq!(story(&entries, name), expected, "{}", running.words());
    }
    let expected = input(names.map(|name| (name, &*new)));
    assert_eq!(fs::read_to_string(running.path("input.json")).unwrap(), expected);
}

#[test]
fn what_changes_in_the_input_file_takes_effect_and_a_broken_file_changes_nothing() {
    let feed = Feed::answering(|_| Reply::Feed(vec![Say::Stay]));
    let (first, second, third) = ("synthetic-first-key", "synthetic-second-key", "synthetic-third");
    let mut running = Running::start(&feed, &input([("a", first)]));
    let edit = |content: &str| {
        fs::write(running.path("edited"), content).unwrap();
        fs::rename(running.path("edited"), running.path("input.json")).unwrap();
    };
    let connections =
        |name: &str| running.words().matches(&format!("{name}: connected to")).count();
    running.wait_for("connection of a", || connections("a") == 1);

    edit(&input([("a", first), ("b", second)]));
    running.wait_for("connection of b", || connections("b") == 1);
    assert!(running.words().contains("b: added to the input file"));

    edit("{\"customers\": {");
    running.wait_for("word about it", || running.words().contains("goes on as before"));
    edit(&input([("a", first)]).replace("monitoring", "no such topic"));

    edit(&input([("a", third), ("b", second)]));
    running.wait_for("new key of a", || connections("a") == 2);
    assert!(running.words().contains("a: its file has another key"));
    assert!(feed.requests().iter().any(|request| request.key() == third));

    edit(&input([("a", third)]));
    running.wait_for("end of b", || running.words().contains("b: not in the input file any more"));
    edit(&input([("b", second), ("a", third)]));
    running.wait_for("return of b", || connections("b") == 2);
    edit(&input([("b", second), ("a", third)]).replacen("monitoring", "audit", 1));
    running.wait_for("other topic of b", || connections("b") == 3);
    let topics: Vec<_> = feed.requests().iter().map(|request| request.topic().to_owned()).collect();
    assert_eq!(topics, ["monitoring", "monitoring", "monitoring", "monitoring", "audit"]);

    let entries = running.stop();
    let words = running.words();
    assert_eq!(words.matches("goes on as before").count(), 1, "{words}");
    let expected = ["connected 1", "new key", "closed 1", "connected 2", "closed 2"];
    assert_eq!(story(&entries, "a"), expected, "{words}");
    let expected = [
        "connected 1",
        "closed 1",
        "connected 2",
        "gap Shutdown",
        "closed 2",
        "connected 3",
        "gap Shutdown",
        "closed 3",
    ];
    assert_eq!(story(&entries, "b"), expected, "{words}");
}

#[test]
fn another_key_in_the_key_file_takes_effect() {
    let feed = Feed::answering(|_| Reply::Feed(vec![Say::Stay]));
    let running = Running::prepare("");
    let (file, new) = (running.path("key"), running.path("new"));
    fs::write(&file, "synthetic-first-key\n").unwrap();
    let arguments = ["--topic", "audit", "--name", "a", "--key-file", file.to_str().unwrap()];
    let mut running = running.record(&feed, &arguments, Stdio::null());
    let connections = || running.words().matches("a: connected to").count();
    running.wait_for("connection", || connections() == 1);

    let put = |key: &str| {
        fs::write(&new, key).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    put("two\nlines");
    running.wait_for("word about it", || running.words().contains("goes on as before"));
    put("synthetic-second-key\n");
    running.wait_for("connection with the new key", || connections() == 2);
    assert!(running.words().contains("a: its file has another key"), "{}", running.words());
    let keys: Vec<_> = feed.requests().iter().map(|request| request.key().to_owned()).collect();
    assert_eq!(keys, ["synthetic-first-key", "synthetic-second-key"]);
    let expected = ["connected 1", "new key", "closed 1", "connected 2", "closed 2"];
    assert_eq!(story(&running.stop(), "a"), expected, "{}", running.words());
}

#[test]
fn keys_from_a_pipe_are_read_once() {
    let feed = Feed::answering(|_| Reply::Feed(vec![Say::Stay]));
    let (from, mut to) = io::pipe().unwrap();
    to.write_all(input([("a", "synthetic-key")]).as_bytes()).unwrap();
    drop(to);
    // Time enough to look at a file again.
    let arguments = ["--input", "/dev/stdin", "--stop-after-duration", "2500ms"];
    let mut running = Running::prepare("").record(&feed, &arguments, from.into());
    let child = running.child.as_mut().unwrap();
    assert!(child.wait().unwrap().success(), "{}", running.words());
    assert!(running.words().contains("a: connected to"), "{}", running.words());
    for wrong in ["goes on as before", "cannot"] {
        assert!(!running.words().contains(wrong), "{}", running.words());
    }
}

/// The ways in which a key could be spelled: for each its name and a text.
fn spellings(key: &str) -> Vec<(String, String)> {
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let escaped = |upper: bool| -> String {
        let byte = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => char::from(byte).to_string(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        };
        key.bytes().map(byte).collect()
    };
    let mut all = vec![
        ("as it is".to_owned(), key.to_owned()),
        ("in a URL".to_owned(), escaped(true)),
        ("in a URL, lower case".to_owned(), escaped(false)),
        ("in upper case hex".to_owned(), hex.to_ascii_uppercase()),
        ("in hex".to_owned(), hex),
    ];
    for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
        all.push(("in base64".to_owned(), engine.encode(key)));
    }
    all
}

/// Fails if a key is in there, also as a part of something in base64.
#[track_caller]
fn assert_hides(keys: &[&str], place: &str, found: &[u8]) {
    for key in keys {
        let mut needles = spellings(key);
        for before in 1..3 {
            let with_more = [&vec![b' '; before][..], key.as_bytes()].concat();
            let encoded = BASE64_STANDARD_NO_PAD.encode(with_more);
            // Its first and last characters depend on the neighbours, too.
            needles.push(("within base64".to_owned(), encoded[4..encoded.len() - 4].to_owned()));
        }
        for (how, needle) in needles {
            let shown = found.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!shown, "{place} has the key {key} {how}");
        }
    }
}

/// What every file of a folder holds, but for the input file.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.file_name().unwrap() != "input.json" {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all
}

/// What the system tells about a process, but for its memory.
#[cfg(target_os = "linux")]
fn entries_in_proc(child: &Child) -> Vec<(PathBuf, Vec<u8>)> {
    let names = ["cmdline", "comm", "environ", "limits", "maps", "mountinfo", "stat", "status"];
    let folder = Path::new("/proc").join(child.id().to_string());
    let path = |name| folder.join(name);
    names.map(|name| (path(name), fs::read(path(name)).unwrap())).into()
}

#[cfg(target_os = "linux")]
#[test]
fn no_key_is_shown_anywhere_even_by_a_server_that_repeats_it() {
    const KEYS: [&str; 3] =
        ["synthetic+canary/one=", "synthetic+canary/two=", "synthetic+canary/three="];
    const OLD: &str = KEYS[0];
    const NEW: &str = KEYS[1];
    const LOST: &str = KEYS[2];

    let feed = Feed::answering(|request| {
        let key = request.key();
        let mut echo = format!("your key {key}");
        for (how, text) in spellings(key) {
            echo.push_str(&format!(", {how} {text}"));
        }
        // Over the end of what is kept of a body, too.
        let long = format!("{}{key}{}", "x".repeat(1010), "y".repeat(2000));
        match (request.is_renewal(), key, request.topic()) {
            (true, OLD, _) => Reply::Answer("200 OK", format!(r#"{{"token":"{NEW}"}}"#)),
            (true, ..) => Reply::Answer("403 Forbidden", echo),
            (_, _, "audit") => Reply::Answer("400 Bad Request", echo),
            (_, _, "security") => Reply::Answer("503 Service Unavailable", long),
            (_, _, "presence") => Reply::Garbage(echo.leak().as_bytes()),
            (_, _, "apprf") => Reply::Answer("200 OK", echo),
            (_, NEW, _) => {
                let reason = format!("bye {key}").leak();
                Reply::Feed(vec![
                    binary(b"\x12\x01a"),
                    Say::Text(echo.leak()),
                    Say::Close(1008, reason),
                ])
            }
            _ => Reply::Answer("401 Unauthorized", echo),
        }
    });
    let entry =
        |(topic, key)| format!(r#"    "{topic}": {{"wsskey": "{key}", "topic": "{topic}"}}"#);
    let topics = [
        ("apprf", OLD),
        ("audit", OLD),
        ("location", LOST),
        ("monitoring", OLD),
        ("presence", OLD),
        ("security", OLD),
    ];
    let content = format!("{{\"customers\": {{\n{}\n}}}}\n", topics.map(entry).join(",\n"));
    let mut running = Running::prepare(&content).go_with(&feed, &["--decode"]);
    let said = |word: &str| running.words().contains(word);
    for word in [
        "apprf: refused with status 200",
        "audit: refused with status 400",
        "location: the key could not be renewed",
        "monitoring: a text message",
        "monitoring: closed with 1008 bye <key>",
        "presence: expected an answer in HTTP",
        "security: refused with status 503",
    ] {
        running.wait_for(word, || said(word));
    }
    let written = fs::read_to_string(running.path("input.json")).unwrap();
    assert_eq!(written, content.replace(OLD, NEW));
    fs::write(running.path("input.json"), written.replacen("\"wsskey\": ", "\"wsskey\" ", 1))
        .unwrap();
    running.wait_for("word about it", || said("goes on as before"));

    let child = running.child.as_ref().unwrap();
    for (path, found) in files(running.folder.path()).into_iter().chain(entries_in_proc(child)) {
        assert_hides(&KEYS, &path.display().to_string(), &found);
    }
    // Sealed, it is compressed.
    for entry in running.stop() {
        if let What::Event(event) = &entry.what {
            assert_hides(&KEYS, "the ledger", &event.encode_to_vec());
        }
    }
    for (path, found) in files(running.folder.path()) {
        assert_hides(&KEYS, &path.display().to_string(), &found);
    }
}

/// Where the process that is to be killed finds its file.
const REWRITTEN: &str = "CENTRALCAP_TEST_REWRITTEN";

/// Not a test by itself: what the next one starts and kills.
#[test]
fn rewriting_for_ever() {
    let Some(path) = std::env::var_os(REWRITTEN) else { return };
    let [old, new] = ["synthetic-old-key", "synthetic-new-key"].map(|key| Key::new(key).unwrap());
    loop {
        for (old, new) in [(&old, &new), (&new, &old)] {
            assert!(accounts::replace_key(Path::new(&path), old, new).unwrap());
            println!("rewritten");
        }
    }
}

/// KILLS says how often.
#[test]
fn a_kill_at_any_moment_leaves_the_old_file_or_the_new_one() {
    let kills = std::env::var("KILLS").map_or(20, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.json");
    // Long enough to be written in more than one piece, if anything does that.
    let names: Vec<_> = (0..200).map(|number| format!("feed-{number}")).collect();
    let content = |key| input(names.iter().map(|name| (name.as_str(), key)));
    let (old, new) = (content("synthetic-old-key"), content("synthetic-new-key"));
    fs::write(&path, &old).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut found_new = 0;
    for _ in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rewriting_for_ever", "--nocapture"])
            .env(REWRITTEN, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It may be in the middle of the second time, or of a later one.
        let mut said = child.stdout.take().unwrap();
        let mut words = String::new();
        while !words.contains("rewritten") {
            let mut some = [0; 64];
            let count = said.read(&mut some).unwrap();
            assert!(count > 0, "it ended by itself: {words}");
            words.push_str(&String::from_utf8_lossy(&some[..count]));
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = fs::read_to_string(&path).unwrap();
        assert!(found == old || found == new, "{} bytes", found.len());
        found_new += u32::from(found == new);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert!(fs::read_dir(folder.path()).unwrap().count() <= 2);
    }
    println!("{kills} kills, {found_new} with the new file");
    accounts::remove_left_over(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
