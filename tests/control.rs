//! Control of a running server, from a test: what its clients get, and when.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{net::SocketAddr, num::NonZeroU64, path::Path, time::Duration};

use bytes::Bytes;
use centralcap::{
    accounts::Account,
    capture::Capture,
    fault::Faults,
    net::ws::Incoming,
    pace::{Limit, Speed},
    protocol::Key,
    replay::{
        AtExpiry, Builder, Command, Control, Ending, Farewell, Given, LateJoin, Options,
        ReplayServer, Server, State, Timeline, Until,
    },
    select::Moment,
};
use support::{
    capture::{Entries, message, subscription},
    client::Client,
};
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

/// What is waited for comes far sooner.
const PATIENCE: Duration = Duration::from_secs(20);

/// No frame leaves within this that should not.
const A_WHILE: Duration = Duration::from_millis(60);

/// How precise a replay is that is controlled.
const PRECISION: Duration = Duration::from_millis(20);

/// Frames 10 ms apart, in turn of audit (`a`), monitoring (`a`) and monitoring (`b`); each says its number.
struct Fixture {
    folder: tempfile::TempDir,
    frames: Vec<(String, Bytes)>,
}

impl Fixture {
    fn of(count: u32) -> Self {
        Self::every(Duration::from_millis(10), count)
    }

    fn every(apart: Duration, count: u32) -> Self {
        let owners = [("a", "audit"), ("a", "monitoring"), ("b", "monitoring")]
            .map(|(name, topic)| subscription(name, topic));
        let (mut entries, mut frames) = (Entries::new(), Vec::new());
        for number in 0..count {
            let owner = &owners[number as usize % owners.len()];
            let data = message(&owner.topic, number, 50);
            frames.push((owner.topic.clone(), data.clone()));
            entries.frame(apart * number, owner, data);
        }
        let folder = tempfile::tempdir().unwrap();
        entries.write(&folder.path().join("feed.mcap"));
        Self { folder, frames }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("feed.mcap")
    }

    fn feed(&self) -> Builder {
        ReplayServer::builder(Capture::open(&[self.path()]).unwrap()).plain()
    }

    /// The frames of a topic, from the one of this number on.
    fn from(&self, topic: &str, number: usize) -> Vec<Bytes> {
        let all = self.frames.iter().skip(number).filter(|(of, _)| of == topic);
        all.map(|(_, data)| data.clone()).collect()
    }
}

async fn client(feed: &ReplayServer, topic: &str) -> Client {
    client_at(feed.address(), topic).await
}

async fn client_at(address: SocketAddr, topic: &str) -> Client {
    Client::subscribe(address, None, ("synthetic-key", topic)).await.unwrap()
}

fn frames(count: u64) -> Until {
    Until::Frames { count, topic: None, subscription: None, client: None }
}

async fn nothing_comes(client: &mut Client) {
    if let Ok(message) = timeout(A_WHILE, client.next()).await {
        panic!("in a pause came {message:?}");
    }
}

fn speed(text: &str) -> Speed {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_pause_holds_who_is_there_and_who_comes() {
    let fixture = Fixture::of(60);
    for timeline in [Timeline::Client, Timeline::Shared] {
        let feed = fixture.feed().timeline(timeline).once().start().unwrap();
        let control = feed.control();
        control.pause().unwrap();
        let mut first = client(&feed, "audit").await;
        nothing_comes(&mut first).await;
        control.resume().unwrap();
        let begun = first.messages(2).await;
        control.pause().unwrap();
        let mut second = client(&feed, "monitoring").await;
        // Two frames were read, and more may be on their way.
        let before = control.state().clients[0].frames as usize;
        let on_their_way = first.messages(before - 2).await;
        nothing_comes(&mut first).await;
        nothing_comes(&mut second).await;
        let state = control.state();
        assert!(state.paused && state.clients.iter().all(|client| client.paused), "{state:?}");
        control.resume().unwrap();
        let (rest, code) = first.rest().await;
        assert_eq!(code, Some(1000));
        assert!([begun, on_their_way, rest].concat() == fixture.from("audit", 0));
        let (got, _) = second.rest().await;
        let all = fixture.from("monitoring", 0);
        match timeline {
            Timeline::Client => assert!(got == all),
            // It joined in the middle: the clock stood there.
            Timeline::Shared => {
                assert!(got.len() < all.len() && got == all[all.len() - got.len()..]);
                assert!(got.len() >= all.len() - 2 * (before + 1), "{} of {before}", got.len());
            }
        }
        let report = feed.report().await.unwrap();
        let given: Vec<_> = report.control.iter().map(|given| given.command).collect();
        assert_eq!(given, ["pause", "resume", "pause", "resume"]);
        assert!(report.control.is_sorted_by_key(|given| given.after));
        assert_eq!(report.clients.len(), 2);
    }
}

#[tokio::test]
async fn steps_let_so_many_frames_go() {
    let fixture = Fixture::of(60);
    let feed = fixture.feed().once().start().unwrap();
    let control = feed.control();
    assert!(control.step(1).unwrap_err().is_not_now());
    control.pause().unwrap();
    assert!(control.step(1).unwrap_err().is_not_now(), "there is nobody");
    let mut audit = client(&feed, "audit").await;
    let mut monitoring = client(&feed, "monitoring").await;
    // Whether it has begun or not.
    control.step(3).unwrap();
    assert!(audit.messages(3).await == fixture.from("audit", 0)[..3]);
    assert!(monitoring.messages(3).await == fixture.from("monitoring", 0)[..3]);
    control.give(Command::Step(2), Some(2)).unwrap();
    assert!(monitoring.messages(2).await == fixture.from("monitoring", 0)[3..5]);
    nothing_comes(&mut audit).await;
    nothing_comes(&mut monitoring).await;
    assert!(control.give(Command::Step(2), Some(3)).unwrap_err().is_no_client());
    control.resume().unwrap();
    assert!(audit.rest().await.0 == fixture.from("audit", 0)[3..]);
    assert!(monitoring.rest().await.0 == fixture.from("monitoring", 0)[5..]);
}

#[tokio::test]
async fn no_client_gets_more_in_a_second_than_it_may_behind_a_pause() {
    let fixture = Fixture::of(600);
    for timeline in [Timeline::Client, Timeline::Shared] {
        // All frames are due within 6 ms, and are held back.
        let feed = fixture.feed().timeline(timeline).speed(speed("1000")).with(|options| {
            options.limit = Some(Limit::new("100".parse().unwrap(), NonZeroU64::MIN));
        });
        let feed = feed.start().unwrap();
        let control = feed.control();
        let mut client = client(&feed, "audit").await;
        client.messages(50).await;
        control.pause().unwrap();
        // It may have got what has not been counted yet.
        let written = control.state().clients[0].frames as usize;
        client.messages(written.saturating_sub(50)).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        control.resume().unwrap();
        let resumed = Instant::now();
        client.messages(20).await;
        let took = resumed.elapsed();
        // The frame that was under way at the pause may have been written behind it.
        assert!(took + PRECISION >= Duration::from_millis(18 * 10), "{took:?}");
        let report = feed.stop().await.unwrap();
        let worst = report.lateness.unwrap().max;
        assert!(worst < Duration::from_millis(300), "{worst:?} late, for a pause of 400 ms");
    }
}

#[tokio::test]
async fn a_seek_goes_to_any_moment() {
    let fixture = Fixture::of(300);
    for timeline in [Timeline::Client, Timeline::Shared] {
        let feed = fixture.feed().timeline(timeline).start().unwrap();
        let control = feed.control();
        control.pause().unwrap();
        let mut client = client(&feed, "audit").await;
        let start = control.state().start.unwrap();
        // To the frames 150, 30 and, beyond the end, none.
        control.seek("+1s500ms".parse().unwrap()).unwrap();
        control.resume().unwrap();
        assert!(client.messages(4).await == fixture.from("audit", 150)[..4]);
        control.pause().unwrap();
        let moment = start.after(Duration::from_millis(291)).to_string();
        control.seek(moment.parse().unwrap()).unwrap();
        control.resume().unwrap();
        // More of the first part may have been on its way.
        let mut next = client.messages(1).await.remove(0);
        for expected in fixture.from("audit", 150).split_off(4) {
            if next != expected {
                break;
            }
            next = client.messages(1).await.remove(0);
        }
        assert!(next == fixture.from("audit", 30)[0]);
        control.set_speed(speed("1000")).unwrap();
        let rest = fixture.from("audit", 31);
        assert!(client.messages(rest.len()).await == rest);
        let state = control.wait(Until::End, PATIENCE).await.unwrap();
        assert!(state.clients[0].done);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(control.state().clients[0].played, Duration::from_millis(2_970));
        // The end is no end: it can be played again.
        control.seek("+2s970ms".parse().unwrap()).unwrap();
        assert!(!control.state().clients[0].done);
        assert!(client.messages(1).await == fixture.from("audit", 297));
        control.wait(Until::End, PATIENCE).await.unwrap();
        control.seek("+1h".parse().unwrap()).unwrap();
        control.wait(Until::End, PATIENCE).await.unwrap();
        nothing_comes(&mut client).await;
        let early = start.before(Duration::from_secs(1)).to_string();
        assert!(control.seek(early.parse().unwrap()).unwrap_err().is_usage());
    }
}

#[tokio::test]
async fn a_seek_to_the_start_of_the_capture_goes_to_the_first_frame() {
    let fixture = Fixture::of(30);
    for timeline in [Timeline::Client, Timeline::Shared] {
        let feed = fixture.feed().timeline(timeline).with(|options| options.selection.skip = 10);
        let feed = feed.start().unwrap();
        let control = feed.control();
        let mut client = client(&feed, "audit").await;
        let all = fixture.from("audit", 10);
        assert!(client.messages(all.len()).await == all);
        control.wait(Until::End, PATIENCE).await.unwrap();
        let start = control.state().start.unwrap().before(Duration::from_millis(100));
        control.seek(start.to_string().parse().unwrap()).unwrap();
        assert!(client.messages(all.len()).await == all);
        let early = start.before(Duration::from_nanos(1)).to_string();
        let error = control.seek(early.parse().unwrap()).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(&start.to_string()), "{error}");
    }
}

#[tokio::test]
async fn steps_that_are_left_do_not_survive_a_seek() {
    let fixture = Fixture::of(60);
    let feed = fixture.feed().start().unwrap();
    let control = feed.control();
    control.pause().unwrap();
    let mut client = client(&feed, "audit").await;
    // More than there are.
    control.step(100).unwrap();
    let all = fixture.from("audit", 0);
    assert!(client.messages(all.len()).await == all);
    control.seek("+300ms".parse().unwrap()).unwrap();
    nothing_comes(&mut client).await;
    control.step(2).unwrap();
    assert!(client.messages(2).await == fixture.from("audit", 30)[..2]);
    nothing_comes(&mut client).await;
}

#[tokio::test]
async fn who_comes_begins_where_the_last_seek_went() {
    let fixture = Fixture::of(300);
    let feed = fixture.feed().speed(Speed::MAX).start().unwrap();
    let control = feed.control();
    control.seek("+2s".parse().unwrap()).unwrap();
    let mut first = client(&feed, "audit").await;
    let expected = fixture.from("audit", 200);
    assert!(first.messages(expected.len()).await == expected);
    control.give(Command::Seek("+2s900ms".parse().unwrap()), Some(1)).unwrap();
    let again = fixture.from("audit", 290);
    assert!(first.messages(again.len()).await == again);
    // That was for one client.
    let mut second = client(&feed, "audit").await;
    assert!(second.messages(expected.len()).await == expected);
    control.reset().unwrap();
    let mut third = client(&feed, "audit").await;
    let all = fixture.from("audit", 0);
    for client in [&mut first, &mut second, &mut third] {
        assert!(client.messages(all.len()).await == all);
        nothing_comes(client).await;
    }
}

#[tokio::test]
async fn who_joins_after_a_seek_is_in_step() {
    let fixture = Fixture::of(300);
    let feed = fixture.feed().timeline(Timeline::Shared).rounds("forever".parse().unwrap());
    let late_join = LateJoin::Live;
    let feed = feed.with(|options| options.late_join = late_join).start().unwrap();
    let control = feed.control();
    let mut first = client(&feed, "audit").await;
    first.messages(1).await;
    control.seek("+2s900ms".parse().unwrap()).unwrap();
    control.set_speed(speed("500")).unwrap();
    // Through several rounds, which take 6 ms each.
    first.messages(2000).await;
    control.pause().unwrap();
    let mut late = client(&feed, "audit").await;
    nothing_comes(&mut late).await;
    let played = control.state().played.unwrap();
    control.set_speed(speed("1")).unwrap();
    control.resume().unwrap();
    // The next frame of the clock: rounds of 2.99 s, after 90 ms of the first one.
    let into = (played.as_nanos() - 2_990_000_000) % 2_990_000_000;
    let next = (into / 10_000_000) as usize + 1;
    let expected = [fixture.from("audit", next.min(299)), fixture.from("audit", 0)].concat();
    let joined = late.messages(3).await;
    // Give or take one: the pause was given before the clock was read.
    assert!(
        joined == expected[..3] || joined == expected[1..4],
        "{played:?}, {next}: {joined:?}, not {:?}",
        &expected[..4]
    );
}

#[tokio::test]
async fn a_seek_takes_the_state_along() {
    let mut entries = Entries::new();
    let owner = subscription("a", "location");
    let mut frames = Vec::new();
    for number in 0..200_u32 {
        let client = [0x0a, 6, 2, 0, 0, 0, 0, (number % 7) as u8];
        let location = [&[0x0d][..], &number.to_le_bytes(), &[0x7a, 8], &client].concat();
        let data = support::capture::envelope("location", "c", location);
        frames.push(data.clone());
        entries.frame(Duration::from_millis(10) * number, &owner, data);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.mcap");
    entries.write(&path);
    let feed = ReplayServer::builder(Capture::open(&[path]).unwrap()).plain();
    let feed = feed.timeline(Timeline::Shared).with(|options| options.late_join = LateJoin::State);
    let feed = feed.start().unwrap();
    let control = feed.control();
    let mut first = client(&feed, "location").await;
    first.messages(1).await;
    control.pause().unwrap();
    control.seek("+1s500ms".parse().unwrap()).unwrap();
    // The clock stands at frame 150, which nobody has got yet.
    let mut late = client(&feed, "location").await;
    assert!(late.messages(7).await == frames[143..150]);
    nothing_comes(&mut late).await;
    control.resume().unwrap();
    assert!(late.messages(50).await == frames[150..]);
}

#[tokio::test]
async fn one_clock_for_all_takes_no_orders_for_one() {
    let fixture = Fixture::of(30);
    let feed = fixture.feed().timeline(Timeline::Shared);
    let feed = feed.with(|options| options.loop_delay = Duration::from_secs(1)).start().unwrap();
    let control = feed.control();
    let _client = client(&feed, "audit").await;
    control.wait(Until::Clients(1), PATIENCE).await.unwrap();
    assert!(control.give(Command::Pause, Some(1)).unwrap_err().is_not_now());
    control.pause().unwrap();
    assert!(control.step(1).unwrap_err().is_not_now());
    assert!(control.set_speed(speed("2")).unwrap_err().is_not_now());
    assert!(control.set_speed(Speed::MAX).unwrap_err().is_usage());
    assert_eq!(control.state().commands, 1);
}

#[tokio::test]
async fn faults_are_injected_into_what_runs_and_what_comes() {
    let fixture = Fixture::of(30);
    let feed = fixture.feed().speed(Speed::MAX).start().unwrap();
    let control = feed.control();
    let all = fixture.from("audit", 0);
    let mut first = client(&feed, "audit").await;
    assert!(first.messages(all.len()).await == all);
    let rules = |text: &str| Faults::parse(text, "rules", None).unwrap();
    control.inject(rules("[[rule]]\nwhen = { nth = 2 }\ndo = \"drop\"")).unwrap();
    control.seek("+0s".parse().unwrap()).unwrap();
    let without_the_second = [&all[..1], &all[2..]].concat();
    assert!(first.messages(all.len() - 1).await == without_the_second);
    let mut second = client(&feed, "audit").await;
    assert!(second.messages(all.len() - 1).await == without_the_second);
    let refuse = rules("[[rule]]\ndo = { refuse = { status = 503 } }");
    control.inject(refuse).unwrap();
    let refused = Client::subscribe(feed.address(), None, ("synthetic-key", "audit")).await;
    assert_eq!(refused.err().unwrap().status, 503);
    // Those of the beginning, which were none.
    control.reset().unwrap();
    let mut third = client(&feed, "audit").await;
    for client in [&mut first, &mut second, &mut third] {
        assert!(client.messages(all.len()).await == all);
    }
    let report = feed.stop().await.unwrap();
    let given: Vec<_> = report.control.iter().map(|given| given.with.as_deref()).collect();
    assert_eq!(given, [Some("drop"), Some("+0s"), Some("refuse"), None]);
}

#[tokio::test]
async fn what_is_injected_behind_a_reset_is_told_from_what_was_before_and_does_the_same() {
    let fixture = Fixture::of(300);
    let first = "[[rule]]\nwhen = { nth = 1 }\ndo = \"drop\"";
    let faults = |text: &str| Faults::parse(text, "rules", None).unwrap();
    let feed = fixture.feed().faults(faults(first)).speed(Speed::MAX).start().unwrap();
    let control = feed.control();
    let all = fixture.from("audit", 0);
    let mut client = client(&feed, "audit").await;
    let mut got = Vec::new();
    for _ in 0..2 {
        assert!(client.messages(all.len() - 1).await == all[1..]);
        control.inject(faults("[[rule]]\nwhen = { nth = 2 }\ndo = \"flip-bits\"")).unwrap();
        control.seek("+0s".parse().unwrap()).unwrap();
        got.push(client.messages(all.len()).await);
        control.reset().unwrap();
    }
    assert!(got[0] == got[1] && got[0][1] != all[1]);
    let report = feed.stop().await.unwrap();
    let rules = report.rules.iter().map(|rule| (rule.rule, rule.fault, rule.applied));
    let rules: Vec<_> = rules.filter(|(_, fault, _)| *fault == "flip-bits").collect();
    assert_eq!(rules, [(2, "flip-bits", 1), (3, "flip-bits", 1)]);
}

#[tokio::test]
async fn a_moment_that_is_injected_waits_for_no_frame() {
    let rules = |at: &str| {
        let text =
            format!("[[rule]]\nwhen = {{ at = \"{at}\" }}\ndo = {{ close = {{ code = 4001 }} }}");
        Faults::parse(&text, "rules", None).unwrap()
    };
    // The next frame of audit comes after 30 s.
    let fixture = Fixture::every(Duration::from_secs(10), 6);
    let feed = fixture.feed().start().unwrap();
    let mut waiting = client(&feed, "audit").await;
    waiting.messages(1).await;
    tokio::time::sleep(A_WHILE).await;
    // One that is over, one that is to come, and one before that.
    for at in ["20ms", "10s", "300ms"] {
        feed.control().inject(rules(at)).unwrap();
    }
    let began = Instant::now();
    let (rest, code) = timeout(Duration::from_secs(5), waiting.rest()).await.unwrap();
    assert_eq!((rest.len(), code), (0, Some(4001)));
    assert!(began.elapsed() > Duration::from_millis(100), "a moment that is over is over");

    let feed = fixture.feed().speed(Speed::MAX).start().unwrap();
    let mut done = client(&feed, "audit").await;
    done.messages(2).await;
    feed.control().wait(Until::End, PATIENCE).await.unwrap();
    feed.control().inject(rules("1h")).unwrap();
    let (rest, code) = timeout(Duration::from_secs(5), done.rest()).await.unwrap();
    assert_eq!((rest.len(), code), (0, Some(4001)));
}

#[tokio::test]
async fn clients_are_dropped_as_it_is_said() {
    let fixture = Fixture::of(300);
    let feed = fixture.feed().start().unwrap();
    let control = feed.control();
    let mut closed = client(&feed, "audit").await;
    let mut reset = client(&feed, "audit").await;
    let close = Farewell::try_from((Some(4001), Some("enough".to_owned()))).unwrap();
    control.give(Command::Drop(close), Some(1)).unwrap();
    let said = loop {
        match closed.next().await.unwrap() {
            Incoming::Close { code, reason } => break (code, reason),
            Incoming::Binary(_) => {}
            Incoming::Text(text) => panic!("{text:?}"),
        }
    };
    assert_eq!(said, (Some(4001), "enough".to_owned()));
    control.drop_clients(Farewell::Reset).unwrap();
    let lost = loop {
        match reset.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end without a reset"),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(lost, std::io::ErrorKind::ConnectionReset);
    let report = feed.stop().await.unwrap();
    let mut endings: Vec<_> = report.clients.iter().map(|client| client.ending.clone()).collect();
    endings.sort_by_key(Ending::to_string);
    assert_eq!(endings, [Ending::Dropped("close"), Ending::Dropped("reset")]);
    assert!(Farewell::try_from((None, Some("no code".to_owned()))).unwrap_err().is_usage());
    assert!(Farewell::try_from((Some(1000), Some("x".repeat(124)))).unwrap_err().is_usage());
}

#[tokio::test]
async fn a_key_dies_when_it_is_said() {
    let fixture = Fixture::of(30);
    let account = |name: &str, key: &str| Account {
        name: name.to_owned(),
        username: None,
        key: Key::new(key).unwrap(),
        topic: "audit".to_owned(),
    };
    let accounts = vec![account("north", "synthetic-key"), account("south", "other-key")];
    let feed = fixture.feed().accounts(accounts).speed(Speed::MAX);
    let connections = AtExpiry::Close { code: 1008 };
    let feed = feed.with(|options| options.expiry.connections = connections).start().unwrap();
    let control = feed.control();
    let mut north = client(&feed, "audit").await;
    north.messages(10).await;
    assert!(control.expire("nobody").unwrap_err().is_usage());
    control.expire("north").unwrap();
    assert_eq!(north.rest().await, (Vec::new(), Some(1008)));
    let subscribed = async |key| Client::subscribe(feed.address(), None, (key, "audit")).await;
    assert_eq!(subscribed("synthetic-key").await.err().unwrap().status, 401);
    assert!(subscribed("other-key").await.is_ok());
    let report = feed.stop().await.unwrap();
    assert_eq!(report.control[0].with.as_deref(), Some("north"));
    let without = fixture.feed().start().unwrap();
    assert!(without.control().expire("north").unwrap_err().is_not_now());
}

#[tokio::test]
async fn a_moment_that_is_leapt_over_ends_nothing() {
    let fixture = Fixture::of(300);
    let rules = "[[rule]]\nwhen = { at = \"1s\" }\ndo = { close = { code = 4000 } }";
    let faults = Faults::parse(rules, "rules", None).unwrap();
    let feed = fixture.feed().faults(faults).speed(Speed::MAX).start().unwrap();
    let control = feed.control();
    control.pause().unwrap();
    control.seek("+1s500ms".parse().unwrap()).unwrap();
    let mut client = client(&feed, "audit").await;
    nothing_comes(&mut client).await;
    control.resume().unwrap();
    let rest = fixture.from("audit", 150);
    assert!(client.messages(rest.len()).await == rest);
    nothing_comes(&mut client).await;
    // It lies ahead again.
    control.seek("+900ms".parse().unwrap()).unwrap();
    let until_then = fixture.from("audit", 90)[..4].to_vec();
    assert!(client.rest().await == (until_then, Some(4000)));
}

#[tokio::test]
async fn a_moment_that_is_over_ends_nobody_who_comes_later() {
    let fixture = Fixture::every(Duration::from_millis(100), 300);
    let rules = "
        [[rule]]
        when = { at = \"300ms\" }
        do = { close = { code = 4000 } }
        [[rule]]
        when = { at = \"20s\" }
        do = { close = { code = 4001 } }";
    let faults = Faults::parse(rules, "rules", None).unwrap();
    let feed = fixture.feed().faults(faults).timeline(Timeline::Shared).start().unwrap();
    let control = feed.control();
    let mut first = client(&feed, "audit").await;
    assert_eq!(first.rest().await.1, Some(4000));
    let mut second = client(&feed, "audit").await;
    control.wait(Until::Clients(1), PATIENCE).await.unwrap();
    control.set_speed(speed("100")).unwrap();
    assert_eq!(second.rest().await.1, Some(4001));
    let mut third = client(&feed, "audit").await;
    let state = control.wait(Until::End, PATIENCE).await.unwrap();
    assert!(state.clients.len() == 1 && state.clients[0].done, "{state:?}");
    // It lies ahead again.
    control.seek("+0s".parse().unwrap()).unwrap();
    assert_eq!(third.rest().await.1, Some(4000));
}

#[tokio::test]
async fn what_is_waited_for_comes_about_or_does_not() {
    let fixture = Fixture::of(60);
    let feed = fixture.feed().once().wait_clients(2).start().unwrap();
    let control = feed.control();
    let brief = Duration::from_millis(30);
    let not_in_time = async |until: Until| {
        let error = control.wait(until, brief).await.unwrap_err();
        assert!(error.is_not_in_time(), "{error}");
        error.to_string()
    };
    let told = not_in_time(Until::Clients(1)).await;
    assert_eq!(told, "expected 1 client, found 0 after 30ms");
    let mut audit = client(&feed, "audit").await;
    let state = control.wait(Until::Clients(1), PATIENCE).await.unwrap();
    assert_eq!((state.clients.len(), state.came), (1, 1));
    assert_eq!(not_in_time(frames(1)).await, "expected 1 frame, found 0 after 30ms");
    not_in_time(Until::End).await;
    let waiting = waiting(control, frames(50));
    let of_b = |count| Until::Frames {
        count,
        topic: Some("monitoring".to_owned()),
        subscription: Some("b".to_owned()),
        client: Some(2),
    };
    let of_client = self::waiting(control, of_b(20));
    let end = self::waiting(control, Until::End);
    let mut monitoring = client(&feed, "monitoring").await;
    audit.rest().await;
    monitoring.rest().await;
    for waited in [waiting, of_client, end] {
        waited.await.unwrap().unwrap();
    }
    let control = control.clone();
    feed.report().await.unwrap();
    let state = control.state();
    assert!(state.ended && state.clients.is_empty());
    assert_eq!(state.delivered["monitoring"]["b"], 20);
    let error = control.wait(frames(61), PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "expected 61 frames, found 60 when the replay ended");
    let unknown = Until::Frames {
        count: 1,
        topic: Some("nonsense".to_owned()),
        subscription: None,
        client: None,
    };
    assert!(control.wait(unknown, PATIENCE).await.unwrap_err().is_usage());
}

fn waiting(control: &Control, until: Until) -> JoinHandle<Result<State, centralcap::error::Error>> {
    let control = control.clone();
    tokio::spawn(async move { control.wait(until, PATIENCE).await })
}

#[tokio::test]
async fn a_reset_is_a_beginning() {
    let fixture = Fixture::of(30);
    for timeline in [Timeline::Client, Timeline::Shared] {
        let feed = fixture.feed().timeline(timeline).speed(speed("100")).start().unwrap();
        let control = feed.control();
        let all = fixture.from("audit", 0);
        let mut client = client(&feed, "audit").await;
        assert!(client.messages(all.len()).await == all);
        control.wait(Until::End, PATIENCE).await.unwrap();
        control.set_speed(speed("0.001")).unwrap();
        control.pause().unwrap();
        control.reset().unwrap();
        let state = control.state();
        assert!(!state.paused && state.speed == speed("100") && state.came == 1, "{state:?}");
        assert!(client.messages(all.len()).await == all);
        let state = control.wait(Until::End, PATIENCE).await.unwrap();
        assert_eq!(state.delivered["audit"]["a"], 10);
        nothing_comes(&mut client).await;
    }
}

#[tokio::test]
async fn behind_a_reset_connections_have_the_numbers_in_which_they_came() {
    let fixture = Fixture::of(30);
    let rules = r#"
        [[rule]]
        when = { connection = 1, nth = 2 }
        do = { stall = { for = "500ms" } }
        [[rule]]
        when = { connection = 2, nth = 1 }
        do = "drop"
    "#;
    let faults = Faults::parse(rules, "rules", None).unwrap();
    let feed = fixture.feed().speed(Speed::MAX).faults(faults).start().unwrap();
    let control = feed.control();
    let all = fixture.from("audit", 0);
    let mut first = client(&feed, "audit").await;
    assert!(first.messages(1).await == all[..1]);
    // The first one hears of the reset when it is not stalled any more, which is later.
    let mut second = client(&feed, "audit").await;
    assert!(second.messages(all.len() - 1).await == all[1..]);
    control.reset().unwrap();
    assert!(second.messages(all.len() - 1).await == all[1..]);
    // What was on its way to the first one comes before.
    while first.messages(1).await != all[..1] {}
    assert!(first.messages(all.len() - 1).await == all[1..]);
}

#[tokio::test]
async fn dropping_the_server_ends_it() {
    let fixture = Fixture::of(30);
    let feed = fixture.feed().start().unwrap();
    let address = feed.address();
    let control = feed.control().clone();
    let mut client = client(&feed, "audit").await;
    let began = Instant::now();
    drop(feed);
    // Without waiting for an answer, which nobody would give.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    while let Ok(Some(_)) = client.try_next().await {}
    assert!(TcpStream::connect(address).await.is_err());
    assert!(control.state().ended);
    assert!(control.pause().unwrap_err().is_not_now());
}

#[tokio::test]
async fn a_server_that_never_ran_has_ended_when_it_is_dropped() {
    let fixture = Fixture::of(3);
    let capture = Capture::open(&[fixture.path()]).unwrap();
    let server = Server::start(Options { control: true, ..Options::new(capture) }).await.unwrap();
    let control = server.control().unwrap();
    control.pause().unwrap();
    drop(server);
    assert!(control.state().ended && control.resume().is_err());
    let error = control.wait(Until::Clients(1), PATIENCE).await.unwrap_err();
    assert!(error.to_string().ends_with("found 0 when the replay ended"), "{error}");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let fixture = Fixture::of(3);
    let rounds = "forever".parse().unwrap();
    assert!(fixture.feed().once().rounds(rounds).start().err().unwrap().is_usage());
    assert!(Capture::open(&[Path::new("no-such.mcap")]).is_err());
}

/// Pauses, leaps and other speeds, at moments of their own, in a recording of ten units of time.
struct Script {
    unit: Duration,
    steps: [(u32, Command); 10],
}

impl Script {
    fn of(unit: Duration) -> Self {
        let seek = |tenths: u32| Command::Seek(Moment::AfterStart(unit * tenths / 10));
        let rate = |text: &str| Command::Speed(speed(text));
        // After so many tenths of a unit.
        let steps = [
            // 2 units are played.
            (20, Command::Pause),
            (25, Command::Resume),
            // 3 are played.
            (35, rate("2")),
            // 5 are played; on from 1.
            (45, seek(10)),
            // 2 are played.
            (50, rate("0.5")),
            // 2.5 are played; on from 7.
            (60, Command::Pause),
            (61, seek(70)),
            (62, rate("4")),
            (65, Command::Resume),
            // 9 are played, and one is left.
            (70, rate("1")),
        ];
        Self { unit, steps }
    }

    /// When the last of ten units is over if these commands were given.
    fn end(&self, given: &[Given]) -> Duration {
        let (mut place, mut rate, mut paused, mut now) = (0.0, 1.0, true, Duration::ZERO);
        for Given { after, command, with, .. } in given {
            if !paused {
                place += after.saturating_sub(now).as_secs_f64() * rate;
            }
            now = *after;
            match (*command, with) {
                ("pause", _) => paused = true,
                ("resume", _) => paused = false,
                ("speed", Some(with)) => rate = with.parse().unwrap(),
                ("seek", Some(with)) => {
                    let Moment::AfterStart(to) = with.parse().unwrap() else { panic!("{with}") };
                    place = to.as_secs_f64();
                }
                other => panic!("{other:?}"),
            }
        }
        now + Duration::from_secs_f64(((self.unit * 10).as_secs_f64() - place) / rate)
    }

    async fn run(self, timeline: Timeline) {
        // Sixty in a unit.
        let fixture = Fixture::every(self.unit / 60, 601);
        let feed = fixture.feed().once().wait_clients(2).timeline(timeline).start().unwrap();
        let control = feed.control().clone();
        control.pause().unwrap();
        let receiving = ["audit", "monitoring"].map(|topic| {
            let address = feed.address();
            tokio::spawn(async move { receive(&mut client_at(address, topic).await).await })
        });
        control.wait(Until::Clients(2), PATIENCE).await.unwrap();
        let began = Instant::now();
        control.resume().unwrap();
        for (tenths, command) in &self.steps {
            sleep_until(began + self.unit * *tenths / 10).await;
            control.give(command.clone(), None).unwrap();
        }
        let mut arrived = Vec::new();
        for (received, topic) in receiving.into_iter().zip(["audit", "monitoring"]) {
            let received = received.await.unwrap();
            arrived.push(received.last().unwrap().0);
            fixture.check(topic, received.iter().map(|(_, data)| data));
        }
        let report = feed.report().await.unwrap();
        assert_eq!(report.control.len(), 12);
        let ends = self.end(&report.control);
        // By how much a frame of a topic was off that is due at the end.
        let off = report.clients.iter().map(|client| {
            let due = client.subscriptions.iter().map(|sent| sent.last.unwrap().due).max().unwrap();
            let due = client.connected.after(due).since(report.started);
            // Frame 600 is one of audit, 599 one of monitoring.
            let last =
                if client.topic == "audit" { ends } else { ends.saturating_sub(self.unit / 60) };
            due.abs_diff(last)
        });
        let off = off.max().unwrap();
        let arrived = arrived.into_iter().max().unwrap() - began;
        #[allow(clippy::print_stdout, reason = "for whoever asks for the figures")]
        {
            let late = report.lateness.unwrap();
            println!("{timeline:?}: off by {off:?}; in all {arrived:?}, {late:?}");
        }
        assert!(off < PRECISION, "{off:?}");
        let says = ends.saturating_sub(report.control[1].after);
        assert!(arrived + PRECISION > says, "{arrived:?}, not {says:?}");
        // A short one shares the machine with all other tests.
        if is_long() {
            assert!(arrived < says + PRECISION, "{arrived:?}, not {says:?}");
        }
    }
}

/// Ten minutes of it.
fn is_long() -> bool {
    std::env::var_os("CENTRALCAP_LONG_TESTS").is_some()
}

/// What a client gets up to its close, and when.
async fn receive(client: &mut Client) -> Vec<(Instant, Bytes)> {
    let (mut received, mut closed) = (Vec::new(), None);
    while let Some(incoming) = client.try_next_within(PATIENCE * 60).await.unwrap() {
        match incoming {
            Incoming::Binary(message) => received.push((Instant::now(), message)),
            Incoming::Close { code, .. } => closed = code,
            Incoming::Text(text) => panic!("{text:?}"),
        }
    }
    assert_eq!(closed, Some(1000));
    received
}

impl Fixture {
    /// Whether these are the frames of a topic: in order and each once, from 0 to about 5 units, from 1 to
    /// about 2.5, and from 7 to 10.
    fn check<'f>(&self, topic: &str, found: impl Iterator<Item = &'f Bytes>) {
        let number = |data| self.frames.iter().position(|(_, one)| one == data).unwrap();
        let found: Vec<_> = found.map(number).collect();
        let back = (1..found.len()).find(|&at| found[at] <= found[at - 1]).unwrap();
        let forth = found.iter().rposition(|&number| number < 420).unwrap() + 1;
        let parts = [&found[..back], &found[back..forth], &found[forth..]];
        for (part, (from, to)) in parts.into_iter().zip([(0, 300), (60, 150), (420, 600)]) {
            let last = *part.last().unwrap();
            let all = (from..=last).filter(|&number| self.frames[number].0 == topic);
            assert!(part.iter().copied().eq(all), "{topic}, from {from}: {part:?}");
            // A command is given a little late if the machine is busy.
            let off = last.abs_diff(to);
            assert!(off <= if to == 600 { 2 } else { 30 }, "{topic}, up to {to}: {last}");
        }
    }
}

/// With CENTRALCAP_LONG_TESTS in the environment: ten minutes of it.
#[tokio::test]
async fn it_ends_where_arithmetic_says() {
    let unit = Duration::from_millis(if is_long() { 75_000 } else { 420 });
    tokio::join!(Script::of(unit).run(Timeline::Client), Script::of(unit).run(Timeline::Shared));
}
