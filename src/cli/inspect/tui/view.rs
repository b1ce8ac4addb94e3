//! The browser on a screen of any size: the list of frames, and below it the chosen one, its bytes beside its
//! fields.
//!
//! Whatever is shown goes through [`line`]: what a terminal would obey is an escape there.

use centralcap::{entry::Timestamp, error::counted, inspect::message::Standing};
use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
};

use super::{
    sheet::BYTES,
    state::{Browser, Focus, Found, Mode, Question},
};
use crate::cli::shown;

/// On less nothing is shown.
const LEAST: (u16, u16) = (30, 8);

const PLAIN: Style = Style::new();
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
const CHOSEN_ELSEWHERE: Style =
    Style::new().add_modifier(Modifier::BOLD.union(Modifier::UNDERLINED));
const UNKNOWN: Style = Style::new().fg(Color::Yellow);
const BROKEN: Style = Style::new().fg(Color::Red);

/// All keys there are.
const HELP: [(&str, &str); 16] = [
    ("↑ ↓ k j", "one frame, or one line of the frame, up or down"),
    ("PgUp PgDn b space", "a screen up or down; Ctrl-U Ctrl-D half of one"),
    ("Home End g G", "the first one, the last one"),
    ("Tab Enter", "to the frame below, and back to the list"),
    ("d", "the decoded frame, or its bytes"),
    ("f", "only frames of whose subscription, topic and type each word is a part"),
    ("Esc", "back to the list; there, all frames again"),
    ("/", "search frames for a text, a MAC or an IP address"),
    ("n N", "search on, or back"),
    ("t", "go to a time: 11:07, 11:07:30, 2026-11-18 11:07, +10m"),
    ("# :", "go to the frame of a number"),
    ("?", "this help"),
    ("q Ctrl-C", "quit"),
    ("", ""),
    ("", "A frame: offset, bytes, and the field that begins there; yellow is what the"),
    ("", "schema does not know, red what is broken. Times are UTC."),
];

pub(super) fn draw(frame: &mut Frame<'_>, browser: &mut Browser, title: &str) {
    let area = frame.area();
    let screen = frame.buffer_mut();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        line(screen, area, 0, "too small to show anything", PLAIN);
        return;
    }
    let parts = [
        Constraint::Length(1),
        Constraint::Fill(2),
        Constraint::Length(1),
        Constraint::Fill(3),
        Constraint::Length(1),
    ];
    let [head, list, middle, rest, foot] = Layout::vertical(parts).areas(area);
    browser.heights = (list.height.into(), rest.height.into());
    bar(screen, head, &head_words(browser, title), "? help  q quit");
    rows(screen, list, browser);
    let other = if browser.decoded { "d bytes" } else { "d decoded" };
    bar(screen, middle, &frame_words(browser), other);
    match browser.opened().map(|opened| &opened.found) {
        Some(Ok(found)) if browser.decoded => decoded(screen, rest, found, browser.scroll),
        Some(Ok(found)) => bytes(screen, rest, found, browser.scroll),
        Some(Err(error)) => line(screen, rest, 0, &error.to_string(), BROKEN),
        None => {}
    }
    match &browser.mode {
        Mode::Asking(question, text) => {
            let question = match question {
                Question::Filter => "filter (words of subscription, topic, type)",
                Question::Search => "search (text, MAC or IP address)",
                Question::Time => "go to time (11:07, 2026-11-18 11:07, +10m)",
                Question::Number => "go to frame number",
            };
            line(screen, foot, 0, &format!("{question}: {text}▏"), PLAIN);
        }
        Mode::Browse => line(screen, foot, 0, &browser.words(), FAINT),
        Mode::Help => help(screen, area),
    }
}

fn head_words(browser: &Browser, title: &str) -> String {
    let index = &browser.index;
    let all = counted(index.rows.len() as u64, "frame");
    let mut words = match browser.filter_text() {
        Some(text) => format!(" {title}  {} of {all} match {text:?}", browser.len()),
        None => format!(" {title}  {all}"),
    };
    if index.end.is_none() {
        words.push_str(", reading on");
    }
    if index.damages > 0 {
        words.push_str(&format!(", {}", counted(index.damages, "damaged place")));
    }
    words
}

fn rows(screen: &mut Buffer, area: Rect, browser: &mut Browser) {
    let height = usize::from(area.height);
    browser.top = browser.top.clamp((browser.chosen + 1).saturating_sub(height), browser.chosen);
    let last = browser.place(browser.len().saturating_sub(1)).unwrap_or(0);
    let digits = browser.index.number(last).to_string().len().max(3);
    let columns = [
        Constraint::Length(digits as u16 + 1),
        Constraint::Length(23),
        Constraint::Length(8),
        Constraint::Length(22),
        Constraint::Length(18),
        Constraint::Fill(1),
    ];
    let columns: [Rect; 6] = Layout::horizontal(columns).spacing(2).areas(area);
    for y in 0..height {
        let shown = browser.top + y;
        let Some((at, row)) = browser.row(shown) else { break };
        let channel = browser.index.channel(row);
        let cells = [
            format!(" {:>digits$}", browser.index.number(at)),
            clock(row.received),
            format!("{:>8}", row.bytes),
            channel.subscription.name.clone(),
            channel.kind.label.clone(),
            channel.kind.payload.clone().unwrap_or_else(|| "unknown".to_owned()),
        ];
        for (column, cell) in columns.into_iter().zip(cells) {
            line(screen, column, y, &cell, PLAIN);
        }
        if shown == browser.chosen {
            let style = if browser.focus == Focus::List { CHOSEN } else { CHOSEN_ELSEWHERE };
            screen.set_style(Rect { y: area.y + y as u16, height: 1, ..area }, style);
        }
    }
}

fn frame_words(browser: &Browser) -> String {
    match browser.opened().map(|opened| &opened.found) {
        Some(Ok(Found { dissection: found, .. })) => {
            let sent = found.time.map_or(String::new(), |time| format!(", sent {}", clock(time)));
            let payload = found.payload.as_deref().unwrap_or("type unknown");
            let size = counted(found.bytes as u64, "byte");
            let (number, name, sequence) = (found.message, &found.subscription, found.sequence);
            format!(" frame {number} of {name}: {payload}, sequence {sequence}, {size}{sent}")
        }
        Some(Err(_)) => " a frame that cannot be read".to_owned(),
        None if browser.index.end.is_some() || browser.filter_text().is_some() => {
            " no frame".to_owned()
        }
        None => " reading".to_owned(),
    }
}

/// Bytes on the left, and on the right which field begins there.
fn bytes(screen: &mut Buffer, area: Rect, found: &Found, scroll: usize) {
    const HEX: usize = BYTES * 3;

    let Found { dissection, sheet, .. } = found;
    for y in 0..usize::from(area.height) {
        let Some((span, field)) = sheet.line(scroll + y, dissection) else { break };
        let hex: String =
            dissection.data[span.clone()].iter().map(|byte| format!("{byte:02x} ")).collect();
        let left = format!(" {:06x}  {hex:HEX$} ", span.start);
        line(screen, area, y, &left, FAINT);
        let Some(field) = field else { continue };
        let style = match field.standing {
            Standing::Known => PLAIN,
            Standing::Unknown => UNKNOWN,
            Standing::Broken => BROKEN,
        };
        let x = (left.len() as u16).min(area.width);
        let right = Rect { x: area.x + x, width: area.width - x, ..area };
        line(screen, right, y, &field.text(), style);
    }
}

fn decoded(screen: &mut Buffer, area: Rect, found: &Found, scroll: usize) {
    let lines = found.decoded.iter().skip(scroll).take(area.height.into());
    for (y, text) in lines.enumerate() {
        line(screen, area, y, &format!(" {text}"), PLAIN);
    }
}

fn help(screen: &mut Buffer, area: Rect) {
    let (width, height) = (area.width.min(92), area.height.min(HELP.len() as u16 + 2));
    let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
    let area = Rect { x: area.x + x, y: area.y + y, width, height };
    let keys = HELP.map(|(keys, words)| format!("  {keys:18} {words}"));
    for y in 0..usize::from(height) {
        let text = y.checked_sub(1).and_then(|at| keys.get(at)).map_or("", String::as_str);
        line(screen, area, y, &format!("{text:92}"), BAR);
    }
}

/// A line across the screen in reverse, with words at both ends.
fn bar(screen: &mut Buffer, area: Rect, left: &str, right: &str) {
    let columns = [Constraint::Fill(1), Constraint::Length(right.len() as u16 + 1)];
    let [begin, end] = Layout::horizontal(columns).spacing(1).areas(area);
    line(screen, begin, 0, left, PLAIN);
    line(screen, end, 0, right, PLAIN);
    screen.set_style(area, BAR);
}

/// Text on a line of an area, cut where that ends.
fn line(screen: &mut Buffer, area: Rect, y: usize, text: &str, style: Style) {
    if y < area.height.into() {
        screen.set_stringn(area.x, area.y + y as u16, shown(&text), area.width.into(), style);
    }
}

/// A time to the millisecond.
fn clock(at: Timestamp) -> String {
    let mut text = at.to_string().replacen('T', " ", 1);
    text.truncate("2026-01-01 00:00:00.000".len());
    text
}
