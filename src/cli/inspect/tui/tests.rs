//! The browser without a terminal: keys in, a screen out.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{fs, path::PathBuf};

use centralcap::{
    capture::{About, Capture, SealedFile},
    entry::{Entry, Subscription, Timestamp},
    inspect::message::{Dissector, LINES},
    select::{Selection, glob},
    synth,
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{Browsing, state::Next};

/// A browser that has read a capture to its end.
struct Tried {
    browsing: Browsing,
    screen: Terminal<TestBackend>,
}

impl Tried {
    fn of(capture: &Capture, selection: Selection) -> Self {
        let dissector = Dissector::new(<_>::default(), <_>::default(), LINES);
        let mut browsing = Browsing::of(capture, selection, dissector);
        while browsing.browser.index.end.is_none() {
            browsing.read_on();
            std::thread::yield_now();
        }
        Self { browsing, screen: Terminal::new(TestBackend::new(110, 30)).unwrap() }
    }

    fn of_file(file: &Sealed) -> Self {
        Self::of(&Capture::open(&[&file.path]).unwrap(), Selection::default())
    }

    fn draw(&mut self) -> String {
        self.screen.draw(|frame| self.browsing.draw(frame)).unwrap();
        self.screen.backend().to_string()
    }

    /// Presses a key, and waits until what it has begun is done.
    fn press(&mut self, key: KeyCode) {
        assert_eq!(self.browsing.browser.update(key.into()), Next::GoOn);
        while self.browsing.search_on() {}
    }

    fn key(&mut self, key: KeyCode) -> String {
        self.press(key);
        self.draw()
    }

    /// Types text, and Enter.
    fn line(&mut self, text: &str) -> String {
        text.chars().for_each(|character| self.press(KeyCode::Char(character)));
        self.key(KeyCode::Enter)
    }

    /// The number of the frame that is chosen.
    fn chosen(&self) -> usize {
        let browser = &self.browsing.browser;
        usize::try_from(browser.index.number(browser.place(browser.chosen).unwrap())).unwrap()
    }

    /// What is read again of every frame, or what is wrong with it.
    fn frames(&mut self) -> Vec<Result<Entry, String>> {
        let rows = self.browsing.browser.index.rows.clone();
        let frames = rows.into_iter().map(|row| self.browsing.frame(row));
        frames.map(|frame| frame.map_err(|error| error.to_string())).collect()
    }
}

/// A capture that was written, and the frames in it.
struct Sealed {
    path: PathBuf,
    frames: Vec<Entry>,
    _folder: tempfile::TempDir,
}

fn sealed(entries: impl Iterator<Item = Entry>) -> Sealed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    let entries: Vec<_> = entries.collect();
    let about = About { started: synth::START, host: String::new(), options: [].into() };
    let mut file = SealedFile::create(&path, &about, &[]).unwrap();
    for entry in &entries {
        file.append(entry).unwrap();
    }
    file.finish().unwrap();
    let frames = entries.into_iter().filter(|entry| entry.frame().is_some()).collect();
    Sealed { path, frames, _folder: folder }
}

fn campus(messages: u64) -> impl Iterator<Item = Entry> {
    synth::Synth::new(&synth::Options { messages, ..<_>::default() }).unwrap()
}

#[test]
fn what_damage_leaves_is_shown_and_what_is_gone_later_is_told() {
    let file = sealed(campus(1500));
    let mut data = fs::read(&file.path).unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 0x10;
    fs::write(&file.path, &data).unwrap();
    let mut tried = Tried::of_file(&file);
    let found = tried.frames();
    assert!(!found.is_empty() && found.len() < file.frames.len(), "{}", found.len());
    assert!(found.iter().all(|entry| file.frames.contains(entry.as_ref().unwrap())));
    let screen = tried.draw();
    assert!(screen.contains("frames, 1 damaged place"), "{screen}");
    assert!(screen.contains("capture.mcap"), "it says where: {screen}");

    // Somebody cuts it after it was read.
    let mut tried = Tried::of_file(&file);
    fs::write(&file.path, &data[..100]).unwrap();
    let screen = tried.key(KeyCode::End);
    assert!(screen.contains("a frame that cannot be read"), "{screen}");
    tried.key(KeyCode::Home);
    let screen = tried.line("/nobody has this");
    let unread = format!("behind this one; {} frames could not be read", found.len() - 1);
    assert!(screen.contains(&unread), "{screen}");
}

#[test]
fn a_key_goes_where_it_says() {
    let file = sealed(campus(700));
    let mut tried = Tried::of_file(&file);
    let screen = tried.draw();
    assert!(screen.contains(" capture.mcap  700 frames "), "{screen}");
    // A page is what is on the screen but for one.
    let page = tried.browsing.browser.heights.0 - 1;
    let steps = [
        (KeyCode::Up, 1),
        (KeyCode::Down, 2),
        (KeyCode::Char('j'), 3),
        (KeyCode::Char('k'), 2),
        (KeyCode::PageDown, 2 + page),
        (KeyCode::Char(' '), 2 + 2 * page),
        (KeyCode::Char('b'), 2 + page),
        (KeyCode::End, 700),
        (KeyCode::Down, 700),
        (KeyCode::PageUp, 700 - page),
        (KeyCode::Home, 1),
        (KeyCode::Char('G'), 700),
        (KeyCode::Char('g'), 1),
    ];
    for (key, expected) in steps {
        let screen = tried.key(key);
        assert_eq!(tried.chosen(), expected, "{key}");
        assert!(screen.contains(&format!(" frame {expected} of ")), "{screen}");
    }
}

#[test]
fn a_filter_leaves_what_it_names_and_esc_all() {
    let file = sealed(campus(400));
    let mut tried = Tried::of_file(&file);
    let expected: Vec<_> = (1..)
        .zip(&file.frames)
        .filter(|(_, entry)| entry.subscription.topic == "location")
        .map(|(number, _)| number)
        .collect();
    let name = &file.frames[expected[0] - 1].subscription.name;
    let screen = tried.line(&format!("f{} loc", name.to_uppercase()));
    assert!(screen.contains(&format!("{} of 400 frames match", expected.len())), "{screen}");
    let mut found = vec![tried.chosen()];
    while found.len() < expected.len() {
        tried.press(KeyCode::Char('j'));
        found.push(tried.chosen());
    }
    assert_eq!(found, expected);
    let screen = tried.key(KeyCode::Esc);
    assert!(screen.contains("capture.mcap  400 frames"), "{screen}");
    assert_eq!(found.last(), Some(&tried.chosen()), "the same frame stays chosen");
    let screen = tried.line("fnobody");
    assert!(screen.contains("no frame is of") && screen.contains(" no frame "), "{screen}");
    tried.key(KeyCode::Esc);
    assert_eq!(found.last(), Some(&tried.chosen()), "where nothing was left, too");
}

#[test]
fn a_selection_keeps_the_numbers_of_the_whole_capture() {
    let file = sealed(campus(400));
    let name = &file.frames[0].subscription.name;
    let selection =
        Selection { subscriptions: vec![glob(name).unwrap()], skip: 1, ..<_>::default() };
    let mut tried = Tried::of(&Capture::open(&[&file.path]).unwrap(), selection);
    let is_taken = |entry: &Entry| entry.subscription.name == *name;
    let second = 2 + file.frames[1..].iter().position(is_taken).unwrap();
    assert_eq!(tried.chosen(), second);
    let expected: Vec<_> =
        file.frames[1..].iter().filter(|entry| is_taken(entry)).cloned().map(Ok).collect();
    assert!(tried.frames() == expected);
}

#[test]
fn times_and_numbers_lead_to_frames() {
    let file = sealed(campus(400));
    let mut tried = Tried::of_file(&file);
    let first_at =
        |at: Timestamp| 1 + file.frames.iter().position(|entry| entry.received >= at).unwrap();
    // The minute in the middle of it.
    let minute = file.frames[200].received.to_string()[..16].to_owned();
    let expected = first_at(format!("{minute}:00Z").parse().unwrap());
    let (date, time) = minute.split_once('T').unwrap();
    for text in [
        format!("t{time}"),
        format!("t{time}:00"),
        format!("t{date} {time}"),
        format!("t{minute}:00Z"),
    ] {
        tried.key(KeyCode::Home);
        tried.line(&text);
        assert_eq!(tried.chosen(), expected, "{text}");
    }
    tried.line("t+30s");
    let after = file.frames[0].received.after(std::time::Duration::from_secs(30));
    assert_eq!(tried.chosen(), first_at(after));
    let screen = tried.line("tnoon");
    assert!(screen.contains("expected a time, found"), "{screen}");
    let screen = tried.line("t+100h");
    assert!(screen.contains("no frame came at "), "{screen}");
    assert_eq!(tried.chosen(), 400);
    tried.line("#123");
    assert_eq!(tried.chosen(), 123);
    for number in ["0", "401", "one"] {
        let screen = tried.line(&format!("#{number}"));
        assert!(screen.contains("is not in the list") || number == "one", "{screen}");
        assert_eq!(tried.chosen(), 123);
    }
}

#[test]
fn what_is_looked_for_is_found_both_ways() {
    let file = sealed(campus(400));
    let mut tried = Tried::of_file(&file);
    // The end of some frame, and every frame that has that, too.
    let data = &file.frames[200].frame().unwrap().data;
    let needle: String = data[data.len() - 6..].iter().map(|byte| format!("{byte:02x}")).collect();
    let find: centralcap::select::Find = needle.parse().unwrap();
    let expected: Vec<_> = (1..)
        .zip(&file.frames)
        .filter(|(_, entry)| find.position(&entry.frame().unwrap().data).is_some())
        .map(|(number, _)| number)
        .filter(|number| *number > 1)
        .collect();
    assert!(expected.contains(&201));
    let screen = tried.line(&format!("/{needle}"));
    assert!(screen.contains("n goes to the next one"), "{screen}");
    let mut found = vec![tried.chosen()];
    while found.len() < expected.len() {
        tried.press(KeyCode::Char('n'));
        found.push(tried.chosen());
    }
    assert_eq!(found, expected);
    let screen = tried.key(KeyCode::Char('n'));
    assert!(screen.contains("is in none of the "), "{screen}");
    assert_eq!(tried.chosen(), expected[expected.len() - 1], "the last one stays chosen");
    for number in expected.iter().rev().skip(1) {
        tried.press(KeyCode::Char('N'));
        assert_eq!(tried.chosen(), *number);
    }
    let before = tried.chosen();
    let screen = tried.line("/nobody has this");
    let expected = format!("nobody has this is in none of the {} frames behind", 400 - before);
    assert!(screen.contains(&expected), "{screen}");
    assert_eq!(tried.chosen(), before);
}

#[test]
fn a_frame_is_shown_as_bytes_with_fields_and_decoded() {
    let file = sealed(campus(50));
    let mut tried = Tried::of_file(&file);
    let before = tried.draw();
    let data = &file.frames[0].frame().unwrap().data;
    let hex: Vec<_> = data[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(before.contains(&format!("000000  {}", hex.join(" "))), "{before}");
    assert!(before.contains("2 subject LEN"), "{before}");
    tried.key(KeyCode::Tab);
    let screen = tried.key(KeyCode::Down);
    assert!(screen != before && tried.chosen() == 1, "it scrolls: {screen}");
    let screen = tried.key(KeyCode::End);
    assert!(screen.contains(&format!("{:02x}", data[data.len() - 1])), "{screen}");
    assert!(!screen.contains("000000  "), "{screen}");
    assert!(tried.key(KeyCode::Char('d')).contains("\"received\": "));
    assert!(tried.key(KeyCode::Char('?')).contains("search on, or back"));
    assert!(!tried.key(KeyCode::Char('x')).contains("search on, or back"));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    tried.key(KeyCode::Char('/'));
    assert_eq!(tried.browsing.browser.update(control_c), Next::Quit);
    tried.press(KeyCode::Esc);
    assert_eq!(tried.browsing.browser.update(KeyCode::Char('q').into()), Next::Quit);
}

#[test]
fn all_bytes_of_a_frame_are_on_its_lines() {
    let file = sealed(campus(40));
    // So few fields that most bytes are of none.
    for limit in [0, 3, LINES] {
        let mut tried = Tried::of_file(&file);
        tried.browsing.dissector = Dissector::new(<_>::default(), <_>::default(), limit);
        for expected in &file.frames {
            tried.draw();
            let opened = tried.browsing.browser.opened().unwrap();
            let found = opened.found.as_ref().unwrap();
            let lines = (0..).map_while(|at| found.sheet.line(at, &found.dissection));
            let (mut bytes, mut fields) = (Vec::new(), 0);
            for (span, field) in lines {
                bytes.extend_from_slice(&found.dissection.data[span]);
                fields += usize::from(field.is_some());
            }
            assert_eq!(bytes, expected.frame().unwrap().data);
            assert_eq!(fields, found.dissection.wire.len());
            assert!(fields <= limit && (limit < LINES || fields > 3), "{}", expected.received);
            tried.press(KeyCode::Down);
        }
    }
}

#[test]
fn no_screen_is_too_small_and_none_too_large() {
    let file = sealed(campus(30));
    let mut tried = Tried::of_file(&file);
    let sizes = [(0, 0), (1, 1), (5, 40), (30, 1), (30, 8), (31, 9), (80, 24), (400, 100)];
    for (width, height) in sizes {
        tried.screen = Terminal::new(TestBackend::new(width, height)).unwrap();
        for key in ["End", "?", "?", "d", "/", "Esc", "Tab", "End", "Tab"] {
            tried.press(match key {
                "End" => KeyCode::End,
                "Esc" => KeyCode::Esc,
                "Tab" => KeyCode::Tab,
                key => KeyCode::Char(key.chars().next().unwrap()),
            });
            tried.screen.draw(|frame| tried.browsing.draw(frame)).unwrap();
        }
    }
}

#[test]
fn what_a_terminal_would_obey_is_shown() {
    let name = "a\x1b[2Jb\u{9b}c\u{202e}d\ne";
    let file = sealed(campus(5).map(|entry| {
        let subscription = Subscription { name: name.to_owned(), ..(*entry.subscription).clone() };
        Entry { subscription: subscription.into(), ..entry }
    }));
    let mut tried = Tried::of_file(&file);
    let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    let listed = tried.draw();
    assert!(listed.contains("a\\u{1b}[2Jb\\u{9b}c"), "{listed}");
    let decoded = tried.key(KeyCode::Char('d'));
    tried.key(KeyCode::Char('f'));
    let typed = tried.key(KeyCode::Char('\u{7}'));
    let filtered = tried.key(KeyCode::Enter);
    for screen in [listed, decoded, typed, filtered] {
        assert!(!screen.contains(obeyed), "{screen:?}");
    }
}
