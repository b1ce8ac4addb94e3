//! What happens while recording, in words for people and as lines for programs: of the latter, an event for
//! each notice, and for each event of the ledger one of the same name. Times are RFC 3339, and lengths of time
//! are seconds.

use std::time::Duration;

use bytesize::ByteSize;
use centralcap::{
    entry::{
        Timestamp,
        session_event::{ClockStepped, Event},
    },
    error::{Error, counted},
    record::Notice,
};

use crate::cli::{
    Words,
    log::{
        Format,
        Level::{Debug, Info, Warn},
        Line,
    },
    shown,
};

/// What to say of who is refused for good.
const HOPELESS: &str = "this does not pass by itself: check the key, the topic and the host";

/// The line about a notice, if there is one that somebody wants.
pub(super) fn said(notice: &Notice<'_>, words: Words) -> Option<String> {
    match words.format {
        Format::Text => in_words(notice, words).filter(|_| !words.quiet).map(|line| shown(&line)),
        Format::Json => {
            let line = line(notice).filter(|line| words.wants(line.level))?;
            Some(line.to_string())
        }
    }
}

/// What to say about a notice, if anything.
fn in_words(notice: &Notice<'_>, words: Words) -> Option<String> {
    let verbose = words.verbose;
    match notice {
        Notice::Event { subscription, event } => {
            let text = event_in_words(event.event.as_ref()?, verbose)?;
            Some(format!("{}: {}", subscription.name, text.trim_end()))
        }
        Notice::TextFrames { subscription, texts: 1, size } => Some(format!(
            "{}: a text message of {size} bytes came: kept, but no frame",
            subscription.name
        )),
        Notice::TextFrames { subscription, texts, .. } => Some(format!(
            "{}: {texts} text messages have come by now: kept, but no frames",
            subscription.name
        )),
        Notice::Waiting { subscription, time, hopeless: false } => {
            Some(format!("{}: trying again in {:.1} s", subscription.name, time.as_secs_f64()))
        }
        Notice::AskingLater { subscription, time } => Some(format!(
            "{}: asking for another key in {:.0} s: the server was asked a moment ago",
            subscription.name,
            time.as_secs_f64()
        )),
        Notice::KeyNotRenewed { subscription, reason } => {
            Some(format!("{}: the key could not be renewed: {reason}", subscription.name))
        }
        Notice::Added { subscription } => {
            Some(format!("{}: added to the input file", subscription.name))
        }
        Notice::Removed { subscription } => Some(format!(
            "{}: not in the input file any more, or with another topic or user name",
            subscription.name
        )),
        Notice::KeyGiven { subscription } => {
            Some(format!("{}: its file has another key", subscription.name))
        }
        Notice::KeysFileBroken { error } => Some(format!(
            "the file with the keys has changed, but cannot be used; all goes on as before: {error}"
        )),
        Notice::Sealed { sealed } if verbose || sealed.is_left_over => {
            let of = if sealed.is_left_over { " of an earlier run" } else { "" };
            let path = sealed.path.as_ref()?;
            Some(format!("sealed {}{of}: {} entries", path.display(), sealed.entries))
        }
        Notice::LeftForNext { path } => {
            Some(format!("{} of an earlier run is for the next one to seal", path.display()))
        }
        Notice::Removing { path, size } => {
            Some(format!("deleting {} ({})", path.display(), ByteSize::b(*size).display().iec()))
        }
        Notice::SealingBehind { segments } => Some(format!(
            "{segments} segments wait to be sealed: compressing is slower than the feed"
        )),
        Notice::Trouble { error } => {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            Some(format!("{error}{hint}"))
        }
        Notice::WritingAgain { lost } => {
            Some(format!("writing again; {lost} frames were lost meanwhile"))
        }
        Notice::HookAwaited { segments, time } => Some(format!(
            "waiting up to {} min for --on-sealed, which has {} left",
            time.as_secs() / 60,
            counted(*segments as u64, "segment")
        )),
        Notice::ExportTrouble { exporter, reason } => {
            Some(format!("{exporter}: {}; trying again and again", one_line(reason)))
        }
        Notice::ExportDropping { exporter, reason } => Some(format!(
            "{exporter}: frames are not exported from now on, only recorded: {}",
            one_line(reason)
        )),
        Notice::ExportAgain { exporter, dropped } => Some(format!(
            "{exporter}: exporting again; {dropped} frames were not exported meanwhile"
        )),
        Notice::KeyNotWritten { subscription, error } => Some(format!(
            "{}: the renewed key is in use until the recording ends, as it could not be written back: \
             {error}{}",
            subscription.name,
            error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default()
        )),
        Notice::Waiting { subscription, time, hopeless: true } => Some(format!(
            "{}: {HOPELESS}; trying again in {:.0} s, but the recording ends if all subscriptions are refused \
             like this",
            subscription.name,
            time.as_secs_f64()
        )),
        Notice::AllRefused { subscription } => Some(format!(
            "{}: {HOPELESS}; the recording ends, as all subscriptions are refused like this",
            subscription.name
        )),
        _ => None,
    }
}

fn event_in_words(event: &Event, verbose: bool) -> Option<String> {
    Some(match event {
        Event::Connected(connected) if verbose => {
            let millis = connected.round_trip_ns / 1_000_000;
            format!("connected to {} in {millis} ms", connected.peer)
        }
        Event::Connected(_) => "connected".to_owned(),
        Event::Rejected(rejected) => {
            let body = String::from_utf8_lossy(&rejected.body);
            format!("refused with status {}: {}", rejected.status, one_line(&body))
        }
        Event::Failed(failed) => one_line(&failed.reason),
        Event::Closed(closed) => match closed.code {
            Some(code) => format!("closed with {code} {}", one_line(&closed.reason)),
            None => format!("closed: {}", one_line(&closed.reason)),
        },
        Event::KeyRenewed(_) => "the key was renewed".to_owned(),
        Event::DroppedFrames(dropped) => format!("a frame was lost: {}", dropped.reason),
        Event::ClockStepped(step) => step_in_words(step),
        Event::Gap(_)
        | Event::TextFrame(_)
        | Event::Continued(_)
        | Event::ExportDropped(_)
        | Event::SegmentDeleted(_) => return None,
    })
}

fn step_in_words(step: &ClockStepped) -> String {
    let to = Timestamp::from_nanos(step.to_ns);
    let seconds = Duration::from_nanos(step.from_ns.abs_diff(step.to_ns)).as_secs_f64();
    let way = if step.to_ns > step.from_ns { "forward" } else { "back" };
    format!("the clock was set {way} by {seconds:.1} s, to {to}")
}

/// A server's words on one line of ours, with nothing in them that a terminal obeys.
fn one_line(text: &str) -> String {
    const MOST: usize = 200;
    let line: String = text.trim().chars().take(MOST).collect();
    line.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// The line for a notice, if it is worth one.
fn line(notice: &Notice<'_>) -> Option<Line> {
    Some(match notice {
        Notice::Event { subscription, event } => {
            let line = of_event(event.event.as_ref()?)?;
            line.of(subscription).with("connection", event.connection)
        }
        Notice::TextFrames { subscription, texts, size } => Line::new(Warn, "text_frame")
            .of(subscription)
            .with("bytes", *size)
            .with("count", *texts),
        Notice::Waiting { subscription, time, hopeless } => Line::new(Info, "waiting")
            .of(subscription)
            .with("seconds", time.as_secs_f64())
            .with("hopeless", *hopeless),
        Notice::AllRefused { subscription } => Line::new(Warn, "all_refused").of(subscription),
        Notice::AskingLater { subscription, time } => {
            Line::new(Info, "asking_later").of(subscription).with("seconds", time.as_secs_f64())
        }
        Notice::KeyNotRenewed { subscription, reason } => {
            Line::new(Warn, "key_not_renewed").of(subscription).with("reason", *reason)
        }
        Notice::Added { subscription } => Line::new(Info, "added").of(subscription),
        Notice::Removed { subscription } => Line::new(Info, "removed").of(subscription),
        Notice::KeyGiven { subscription } => Line::new(Info, "key_given").of(subscription),
        Notice::KeysFileBroken { error } => because(Line::new(Warn, "keys_file_broken"), error),
        Notice::Sealed { sealed } => {
            Line::new(if sealed.is_left_over { Info } else { Debug }, "sealed")
                .with_maybe("path", sealed.path.as_ref().map(|path| path.display().to_string()))
                .with("entries", sealed.entries)
                .with("bytes", sealed.sealed_size)
                .with("left_over", sealed.is_left_over)
        }
        Notice::LeftForNext { path } => {
            Line::new(Info, "left_for_next").with("path", path.display().to_string())
        }
        Notice::Removing { path, size } => {
            let line = Line::new(Info, "removing").with("path", path.display().to_string());
            line.with("bytes", *size)
        }
        Notice::SealingBehind { segments } => {
            Line::new(Warn, "sealing_behind").with("segments", *segments)
        }
        Notice::Trouble { error } => because(Line::new(Warn, "trouble"), error),
        Notice::WritingAgain { lost } => Line::new(Warn, "writing_again").with("lost", *lost),
        Notice::KeyNotWritten { subscription, error } => {
            because(Line::new(Warn, "key_not_written").of(subscription), error)
        }
        Notice::ExportTrouble { exporter, reason } => Line::new(Warn, "export_trouble")
            .with("exporter", *exporter)
            .with("reason", one_line(reason)),
        Notice::ExportDropping { exporter, reason } => Line::new(Warn, "export_dropping")
            .with("exporter", *exporter)
            .with("reason", one_line(reason)),
        Notice::ExportAgain { exporter, dropped } => {
            Line::new(Info, "export_again").with("exporter", *exporter).with("dropped", *dropped)
        }
        Notice::Started => Line::new(Info, "started"),
        Notice::Stopping => Line::new(Info, "stopping"),
        Notice::HookAwaited { segments, time } => Line::new(Info, "hook_awaited")
            .with("segments", *segments)
            .with("seconds", time.as_secs_f64()),
        _ => return None,
    })
}

fn of_event(event: &Event) -> Option<Line> {
    Some(match event {
        Event::Connected(connected) => {
            let round_trip = Duration::from_nanos(connected.round_trip_ns);
            Line::new(Info, "connected")
                .with("attempt", connected.attempt)
                .with("peer", &*connected.peer)
                .with("round_trip", round_trip.as_secs_f64())
        }
        Event::Rejected(rejected) => Line::new(Warn, "rejected")
            .with("attempt", rejected.attempt)
            .with("status", rejected.status)
            .with("body", one_line(&String::from_utf8_lossy(&rejected.body))),
        Event::Failed(failed) => Line::new(Warn, "failed")
            .with("attempt", failed.attempt)
            .with("reason", one_line(&failed.reason)),
        Event::Closed(closed) => Line::new(if closed.clean { Info } else { Warn }, "closed")
            .with_maybe("code", closed.code)
            .with("reason", one_line(&closed.reason))
            .with("clean", closed.clean)
            .with("frames", closed.last_sequence),
        Event::KeyRenewed(renewed) => {
            Line::new(Info, "key_renewed").with("written_back", renewed.written_back)
        }
        Event::Gap(gap) => {
            let length = Duration::from_nanos(gap.to_ns.saturating_sub(gap.from_ns));
            Line::new(Warn, "gap")
                .with("from", time(gap.from_ns))
                .with("to", time(gap.to_ns))
                .with("seconds", length.as_secs_f64())
                .with("cause", gap.cause().as_str_name().to_lowercase())
        }
        Event::DroppedFrames(dropped) => Line::new(Warn, "dropped_frames")
            .with("count", dropped.count)
            .with("bytes", dropped.bytes)
            .with("reason", &*dropped.reason),
        Event::ClockStepped(step) => Line::new(Warn, "clock_stepped")
            .with("from", time(step.from_ns))
            .with("to", time(step.to_ns)),
        Event::ExportDropped(dropped) => Line::new(Warn, "export_dropped")
            .with("exporter", &*dropped.exporter)
            .with("count", dropped.frames)
            .with("bytes", dropped.bytes)
            .with("reason", one_line(&dropped.reason)),
        Event::Continued(_) | Event::SegmentDeleted(_) | Event::TextFrame(_) => return None,
    })
}

fn because(line: Line, error: &Error) -> Line {
    line.with("reason", error.to_string()).with_maybe("hint", error.hint())
}

fn time(nanos: u64) -> String {
    Timestamp::from_nanos(nanos).to_string()
}
