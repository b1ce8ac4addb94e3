//! The report that `inspect --html` writes: what is in it, what can never be in it, and where it goes.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use centralcap::{
    capture::{About, Capture, SealedFile},
    entry::{
        Subscription,
        session_event::{Closed, Connected, Event, Failed, Gap, Rejected, TextFrame, gap::Cause},
    },
    inspect::{self, drift},
    schema::Resolver,
    select::Selection,
};
use html5gum::{Token, Tokenizer};
use sha2::{Digest, Sha256};

use self::support::{
    capture::{Entries, START, about, envelope, message, subscription},
    command::{Ran, centralcap},
};

mod support;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn connected() -> Event {
    let peer = "192.0.2.1:443".to_owned();
    Event::Connected(Connected { attempt: 1, status: 101, round_trip_ns: 23_000_000, peer })
}

fn closed(reason: &str) -> Event {
    let reason = reason.to_owned();
    Event::Closed(Closed { code: Some(1001), reason, clean: true, last_sequence: 0 })
}

fn gap(from: u64, to: u64) -> Event {
    let at = |after| START.after(seconds(after)).as_nanos();
    Event::Gap(Gap { from_ns: at(from), to_ns: at(to), cause: Cause::Server.into() })
}

/// A frame each second for ten minutes, but for the time from `from` to `to`, in which the server was away.
fn outage(entries: &mut Entries, of: &Arc<Subscription>, from: u64, to: u64) {
    entries.happened(seconds(0), of, 1, connected());
    for after in (1..from).chain(to..600) {
        if after == to {
            entries.happened(seconds(from), of, 1, closed("going away"));
            entries.happened(seconds(to), of, 2, connected());
            entries.happened(seconds(to), of, 2, gap(from, to));
        }
        let sequence = if after < from { after } else { after - to + 1 };
        let sequence = u32::try_from(sequence).unwrap();
        entries.numbered(seconds(after), of, sequence, envelope(&of.topic, "1000001", &b""[..]));
    }
}

fn page(paths: &[&Path]) -> String {
    let capture = Capture::open(paths).unwrap();
    let all = Selection::default;
    let drift = drift::drift(&capture, all(), &Resolver::default(), |_| {}).unwrap();
    inspect::report(&capture, all()).unwrap().html(Some(&drift))
}

fn written(entries: &Entries, folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("capture.mcap");
    entries.write(&path);
    path
}

/// An element of a page, with what is in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    /// All text in it.
    text: String,
    children: Vec<Element>,
}

/// Elements without an end tag.
const VOID: [&str; 2] = ["meta", "br"];

impl Element {
    /// Reads a page as a browser does, and finds nothing that a browser would have to forgive.
    fn parse(html: &str) -> Self {
        let mut open = vec![Self::default()];
        for token in Tokenizer::new(html) {
            let Ok(token) = token;
            match token {
                Token::StartTag(tag) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let attribute = |(name, value): (&html5gum::HtmlString, &_)| {
                        let value: &html5gum::Spanned<html5gum::HtmlString, ()> = value;
                        (text(name), text(&value.value))
                    };
                    let name = text(&tag.name);
                    let attributes = tag.attributes.iter().map(attribute).collect();
                    let element = Self { name, attributes, ..Self::default() };
                    let is_closed = tag.self_closing || VOID.contains(&element.name.as_str());
                    open.push(element);
                    if is_closed {
                        Self::close(&mut open);
                    }
                }
                Token::EndTag(tag) => {
                    assert_eq!(open.last().unwrap().name.as_bytes(), &**tag.name, "crossed tags");
                    Self::close(&mut open);
                }
                Token::String(text) => {
                    open.last_mut().unwrap().text += std::str::from_utf8(&text.value).unwrap();
                }
                Token::Doctype(doctype) => assert_eq!(&**doctype.name, b"html"),
                Token::Comment(_) | Token::Error(_) => panic!("{token:?}"),
            }
        }
        assert_eq!(open.len(), 1, "not closed: {}", open.last().unwrap().name);
        open.remove(0)
    }

    fn close(open: &mut Vec<Self>) {
        let element = open.pop().unwrap();
        let parent = open.last_mut().unwrap();
        parent.text += &element.text;
        parent.children.push(element);
    }

    /// This one and all in it.
    fn all(&self) -> Vec<&Self> {
        let below = self.children.iter().flat_map(Self::all);
        std::iter::once(self).chain(below).collect()
    }

    fn of(&self, name: &str) -> Vec<&Self> {
        self.all().into_iter().filter(|element| element.name == name).collect()
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    fn by_id(&self, id: &str) -> &Self {
        let found = self.all().into_iter().find(|element| element.attribute("id") == id);
        found.unwrap_or_else(|| panic!("nothing is called {id}"))
    }

    /// The texts of the rows of the tables in it, without the headers.
    fn rows(&self) -> Vec<Vec<&str>> {
        let rows = self.of("tbody").into_iter().flat_map(|body| body.of("tr"));
        rows.map(|row| row.children.iter().map(|cell| &*cell.text).collect()).collect()
    }
}

/// Whatever is in a capture, a page is made of these, and of nothing that a browser would load, run or obey.
fn assert_needs_nothing(html: &str) -> Element {
    const ELEMENTS: &str = "html head meta title style body header main section footer nav h1 h2 h3 p a b i \
                            br small span code time dl div dt dd table thead tbody tfoot tr th td details summary \
                            svg defs g use line path rect text";
    const ATTRIBUTES: &str = "lang charset http-equiv content name id class href scope datetime role \
                              aria-label aria-hidden x x1 x2 y y1 y2 width height viewbox \
                              preserveaspectratio d text-anchor";
    let elements: BTreeSet<_> = ELEMENTS.split_whitespace().collect();
    let attributes: BTreeSet<_> = ATTRIBUTES.split_whitespace().collect();
    let page = Element::parse(html);
    let mut ids = BTreeSet::new();
    for element in page.all().into_iter().skip(1) {
        assert!(elements.contains(&*element.name), "{element:?}");
        for (name, value) in &element.attributes {
            assert!(attributes.contains(&**name), "{name}={value} in {}", element.name);
        }
        if element.attributes.contains_key("id") {
            assert!(ids.insert(element.attribute("id")), "twice: {}", element.attribute("id"));
        }
    }
    for element in page.all().iter().filter(|element| element.attributes.contains_key("href")) {
        let place = element.attribute("href").strip_prefix('#').expect("a link leads nowhere else");
        assert!(ids.contains(place), "nothing is called {place}");
    }
    let [style] = page.of("style")[..] else { panic!("one style sheet") };
    assert!(!style.text.contains("url(") && !style.text.contains("@import"));
    let hash = BASE64_STANDARD.encode(Sha256::digest(&style.text));
    let metas = page.of("meta");
    let policy = metas.iter().find(|meta| !meta.attribute("http-equiv").is_empty()).unwrap();
    assert_eq!(policy.attribute("http-equiv"), "Content-Security-Policy");
    assert_eq!(
        policy.attribute("content"),
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
        )
    );
    page
}

#[test]
fn the_minute_of_an_outage_stands_where_it_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = Entries::new();
    outage(&mut entries, &subscription("north-audit", "audit"), 200, 260);
    outage(&mut entries, &subscription("north-presence", "presence"), 205, 258);
    let quiet = subscription("south-audit", "audit");
    entries.happened(seconds(0), &quiet, 1, connected());
    entries.happened(seconds(599), &quiet, 1, closed(""));
    let page = assert_needs_nothing(&page(&[&written(&entries, &folder)]));

    let (from, to) = ("2026-11-18T11:10:00.000Z", "2026-11-18T11:11:00.000Z");
    let (all_from, all_to) = ("2026-11-18T11:10:05.000Z", "2026-11-18T11:10:58.000Z");
    let verdict = page.of("p").into_iter().find(|p| p.attribute("class") == "verdict bad").unwrap();
    assert_eq!(
        verdict.text,
        format!(
            "Lost or unknown: 2 gaps. The worst outage: {from} to {to}, 1m, 2 of 3 subscriptions at \
             once from {all_from} to {all_to}, 53s."
        )
    );
    assert_eq!(
        page.by_id("outages").rows(),
        [[from, to, "1m", &*format!("2 of 3from {all_from} to {all_to}, 53s"), "-", "server × 2"]],
        "both are one outage"
    );
    let gaps = page.by_id("gaps").rows();
    let said = "closed with 1001 after 0 frames: going away";
    assert_eq!(gaps[0], [from, to, "1m", "server", "north-audit", "-", said]);
    assert_eq!(gaps[1][0], all_from);
    assert_eq!(
        page.by_id("gap-1").of("time")[0].attribute("datetime"),
        "2026-11-18T11:10:00.000000000Z"
    );

    // Over the whole drawing, and in the row of each, where a third of the time has gone.
    let marks = |of: &Element, place: &str| {
        let links = of.of("a").into_iter().filter(|link| link.attribute("href") == place);
        links
            .filter(|link| !link.of("rect").is_empty())
            .map(|link| link.of("rect")[0].attribute("x").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(marks(page.by_id("rates"), "#outage-1"), ["33.389%"]);
    assert_eq!(marks(page.by_id("subscriptions"), "#gap-1"), ["33.389%"]);
    assert_eq!(marks(page.by_id("subscriptions"), "#gap-2"), ["34.224%"]);
    let title = page.by_id("rates").of("a")[0].of("title")[0];
    assert_eq!(title.text, format!("{from} to {to}, 1m, 2 of 3 subscriptions"));
    // Also where nothing was written down it is seen when nothing came.
    let steps = page.by_id("rates").of("title").into_iter().map(|title| &*title.text);
    let silent: Vec<_> =
        steps.filter(|text| text.ends_with(" long: 0 frames, 0.00 a second")).collect();
    assert_eq!(silent.len(), 26, "{silent:?}");
    assert!(silent[0].starts_with("2026-11-18T11:10:06.000Z, 2s long"), "{silent:?}");
    let times: Vec<_> =
        page.by_id("rates").of("text").into_iter().map(|text| &*text.text).collect();
    assert!(times.contains(&"11:10") && times.contains(&"2026-11-18"), "{times:?}");
}

#[test]
fn nothing_that_is_said_in_a_capture_is_more_than_text() {
    let folder = tempfile::tempdir().unwrap();
    let evil = [
        "<script>alert(1)</script>",
        "\"><img src=https://example.com/x onerror=alert(1)>",
        "'></style></title><base href=//example.com><!--",
        "a\x1b[2Jb\0c\u{202e}d\re\u{85}f\ng&lt;&#x3c;",
    ];
    let mut entries = Entries::new();
    for (place, evil) in (1..).zip(evil) {
        let mut of = (*subscription(&format!("{place}{evil}"), evil)).clone();
        of.host = evil.to_owned();
        let of = Arc::new(of);
        entries.happened(seconds(0), &of, 1, connected());
        entries.numbered(seconds(1), &of, 1, message("audit", 1, 10));
        let text = TextFrame { data: evil.as_bytes().to_vec().into() };
        entries.happened(seconds(2), &of, 1, Event::TextFrame(text));
        entries.happened(seconds(3), &of, 1, closed(evil));
        let failed = Failed { attempt: 1, reason: evil.to_owned() };
        entries.happened(seconds(4), &of, 1, Event::Failed(failed));
        let body = evil.as_bytes().to_vec().into();
        entries.happened(
            seconds(5),
            &of,
            1,
            Event::Rejected(Rejected { attempt: 2, status: 400, body }),
        );
        entries.happened(seconds(9), &of, 2, connected());
        entries.happened(seconds(9), &of, 2, gap(3, 9));
    }
    let path = folder.path().join("<b>&\"'.mcap");
    let options = evil.map(|evil| (evil.to_owned(), evil.to_owned()));
    let host = evil[0].to_owned();
    let about = About { host, options: options.into_iter().collect(), ..about(seconds(0)) };
    let mut file = SealedFile::create(&path, &about, &[]).unwrap();
    entries.made.iter().for_each(|entry| file.append(entry).unwrap());
    file.finish().unwrap();

    let page = assert_needs_nothing(&page(&[&path]));
    assert_eq!(page.of("h1")[0].text, "<b>&\"'.mcap");
    let gaps = page.by_id("gaps").rows();
    let names: Vec<_> =
        gaps.iter().map(|row| row[4].strip_prefix(['1', '2', '3', '4']).unwrap()).collect();
    let shown = "a\\u{1b}[2Jb\\u{0}c\\u{202e}d\\re\\u{85}f\\ng&lt;&#x3c;";
    assert_eq!(names, [evil[0], evil[1], evil[2], shown]);
    assert!(gaps[0][6].contains(&format!("status 400, attempt 2: {}", evil[0])), "{:?}", gaps[0]);
    let events = page.by_id("connections").text.clone();
    for said in [evil[0], evil[1], evil[2], shown] {
        assert!(events.contains(&format!("B: {said}")), "{said} in {events}");
    }
    assert!(page.of("footer")[0].text.contains(evil[1]), "{:?}", page.of("footer"));
}

/// Long names, made of what takes most room, and more of everything than is shown.
#[test]
fn a_page_stays_small_and_says_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = Entries::new();
    for number in 0..400_u64 {
        let of = subscription(&format!("{number}{}", "&".repeat(2000)), &"<".repeat(100));
        entries.happened(seconds(0), &of, 1, connected());
        for flap in 0..20 {
            let from = 2000 * flap + number + 1;
            entries.numbered(seconds(from - 1), &of, 1, message("audit", 1, 10));
            entries.happened(seconds(from), &of, 1, closed(&"\"".repeat(5000)));
            entries.happened(seconds(from + 1), &of, 1, connected());
            entries.happened(seconds(from + 1), &of, 1, gap(from, from + 1));
        }
    }
    let html = page(&[&written(&entries, &folder)]);
    assert!(html.len() < 2 * 1024 * 1024, "{} bytes", html.len());
    let page = assert_needs_nothing(&html);
    assert_eq!(page.by_id("gaps").rows().len(), 300);
    assert!(page.by_id("gaps").text.contains("Shown are 300 of 8,000: the longest ones"));
    assert_eq!(page.by_id("subscriptions").rows().len(), 150);
    assert!(page.by_id("subscriptions").text.contains("Shown are 150 of 400"));
    assert!(page.by_id("connections").text.contains(" more"));
}

#[test]
fn what_is_damaged_and_what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let mut entries = Entries::new();
    for sequence in [1, 2, 5] {
        entries.numbered(seconds(sequence.into()), &of, sequence, message("audit", sequence, 10));
    }
    let path = written(&entries, &folder);
    let other = folder.path().join("other.mcap");
    fs::write(&other, "no capture at all").unwrap();
    let page = assert_needs_nothing(&page(&[&path, &other]));
    let verdict = page.of("p").into_iter().find(|p| p.attribute("class") == "verdict bad").unwrap();
    assert_eq!(
        verdict.text,
        "Lost or unknown: 1 damaged segment, 2 missing frames, 1 unknown time. The worst outage: \
         2026-11-18T11:06:42.000Z to 2026-11-18T11:06:45.000Z, 3s, 1 of 1 subscription."
    );
    let outages = &page.by_id("outages").text;
    let said = "By their numbers 2 frames are missing through damage (1 damaged file), or without a word: 2 of \
                changes. They came somewhere between two that are here";
    assert!(outages.contains(said), "{outages}");
    let rows = page.by_id("outages").rows();
    let expected = ["2026-11-18T11:06:42.000Z", "2026-11-18T11:06:45.000Z", "3s", "1 of 1", "-"];
    assert_eq!((&rows[0][..5], rows[0][5]), (&expected[..], "unknown"));
    assert!(!outages.contains("was covered"), "{outages}");
    let files = page.by_id("files").rows();
    assert_eq!((files[0][4], files[0][5]), ("-", ""));
    assert_eq!(files[1][4], "1");
    assert!(files[1][5].contains("expected a capture, found something else in "), "{files:?}");
    let connections = page.by_id("connections").rows();
    assert_eq!(connections[0][8], "2");
    let sizes = page.by_id("sizes").rows();
    assert_eq!(&sizes[0][..4], ["audit", "Audit.audit_message", "1", "3"], "{sizes:?}");
}

/// Field 99 of an audit message is not declared, and what is in it is anybody's text.
#[test]
fn what_the_schema_does_not_know_is_told_with_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = Entries::new();
    let of = subscription("changes", "audit");
    for sequence in 1..=3 {
        let mut payload = vec![0x9a, 0x06, 9];
        payload.extend_from_slice(b"<b>new</b");
        let data = envelope("audit", "1000001", payload);
        entries.numbered(seconds(sequence.into()), &of, sequence, data);
    }
    let page = assert_needs_nothing(&page(&[&written(&entries, &folder)]));
    let rows = page.by_id("drift").rows();
    assert_eq!(&rows[0][..3], ["Audit.audit_message", "3", "3"], "{rows:?}");
    assert_eq!(rows[0][3], "2026-11-18T11:06:41.000Zframe 1");
    assert!(rows[0][4].contains("99") && rows[0][5].contains("<b>new</b"), "{rows:?}");
}

#[test]
fn nobody_is_said_to_be_covered_where_something_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = Entries::new();
    let (of, other) = (subscription("changes", "audit"), subscription("never", "presence"));
    entries.happened(seconds(0), &of, 1, connected());
    for sequence in [1, 2, 3] {
        entries.numbered(seconds(sequence.into()), &of, sequence, message("audit", sequence, 10));
    }
    let told = |entries: &Entries, name: &str, cut: usize| {
        let path = folder.path().join(name);
        entries.write(&path);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        assert_needs_nothing(&page(&[&path])).by_id("outages").text.clone()
    };
    assert!(told(&entries, "whole.mcap", 0).contains("None: each subscription was covered"));
    // The index and the end of the file are gone.
    let cut = told(&entries, "cut.mcap", 40);
    assert!(
        cut.contains("There is 1 damaged file. No number tells") && !cut.contains("None"),
        "{cut}"
    );
    let body = b"Unsubscribed Topic".to_vec().into();
    let refused = Event::Rejected(Rejected { attempt: 1, status: 400, body });
    entries.happened(seconds(5), &other, 0, refused);
    let tried = told(&entries, "tried.mcap", 0);
    let said = "Never connected, so that nothing of it is here: never (1 refusal: status 400, attempt 1: \
                Unsubscribed Topic).";
    assert!(tried.contains(said) && !tried.contains("None"), "{tried}");
}

#[test]
fn a_capture_without_entries_has_a_page_too() {
    let folder = tempfile::tempdir().unwrap();
    let page = assert_needs_nothing(&page(&[&written(&Entries::new(), &folder)]));
    let verdicts = page.of("p").into_iter().filter(|p| p.attribute("class") == "verdict good");
    assert_eq!(verdicts.count(), 1);
    assert!(page.by_id("outages").text.contains("None"), "{:?}", page.by_id("outages"));
}

fn reported(capture: &Path, report: &Path, more: &[&str]) -> Ran {
    let (capture, report) = (capture.to_str().unwrap(), report.to_str().unwrap());
    centralcap(["inspect", "--html", report, capture].iter().chain(more))
}

#[test]
fn the_command_writes_a_new_file_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = Entries::new();
    outage(&mut entries, &subscription("north-audit", "audit"), 200, 260);
    let path = written(&entries, &folder);
    let report = folder.path().join("report.html");
    let ran = reported(&path, &report, &[]);
    assert_eq!((ran.code, &*ran.stdout), (3, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("a report of "), "{ran:?}");
    assert!(ran.stderr.ends_with("report.html\nwarning: 1 gap\n"), "{ran:?}");
    let html = fs::read_to_string(&report).unwrap();
    let gaps = assert_needs_nothing(&html);
    assert_eq!(gaps.by_id("gaps").rows().len(), 1);

    let before = fs::read(&path).unwrap();
    for taken in [&report, &path] {
        let ran = reported(&path, taken, &[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("expected a new file, found "), "{ran:?}");
    }
    assert_eq!(fs::read_to_string(&report).unwrap(), html);
    assert_eq!(fs::read(&path).unwrap(), before);
    // A selection is reported as such, and what cannot be read leaves nothing behind.
    let other = folder.path().join("other.html");
    let ran = reported(&path, &other, &["--to", "+1m"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    fs::write(folder.path().join("text.mcap"), "no capture at all").unwrap();
    let ran = reported(&folder.path().join("text.mcap"), &folder.path().join("none.html"), &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let ran = reported(&path, &folder.path().join("nowhere/report.html"), &[]);
    assert!(ran.code == 1 && ran.stderr.contains("hint: check the path"), "{ran:?}");
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["capture.mcap", "other.html", "report.html", "text.mcap"]);
}

#[test]
fn one_view_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&Entries::new(), &folder);
    for more in ["--gaps", "--json"] {
        let ran = reported(&path, &folder.path().join("report.html"), &[more]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("cannot be used with"), "{ran:?}");
    }
    let ran = reported(&path, Path::new("-"), &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("hint: name the report"), "{ran:?}");
}
