//! What happens while recording, as lines for programs: an event for each notice, and for each event of
//! the ledger one of the same name. Times are RFC 3339, and lengths of time are seconds.

use std::time::Duration;

use centralcap::{
    entry::{Timestamp, session_event::Event},
    error::Error,
    record::Notice,
};

use super::{
    log::{
        Level::{Debug, Info, Warn},
        Line,
    },
    record::one_line,
};

/// The line for a notice, if it is worth one.
pub(super) fn line(notice: &Notice<'_>) -> Option<Line> {
    Some(match notice {
        Notice::Event { subscription, event } => {
            let line = of_event(event.event.as_ref()?)?;
            line.of(subscription).with("connection", event.connection)
        }
        Notice::Waiting { subscription, time, hopeless } => Line::new(Info, "waiting")
            .of(subscription)
            .with("seconds", time.as_secs_f64())
            .with("hopeless", *hopeless),
        Notice::KeyNotRenewed { subscription, reason } => {
            Line::new(Warn, "key_not_renewed").of(subscription).with("reason", *reason)
        }
        Notice::Added { subscription } => Line::new(Info, "added").of(subscription),
        Notice::Removed { subscription } => Line::new(Info, "removed").of(subscription),
        Notice::KeyGiven { subscription } => Line::new(Info, "key_given").of(subscription),
        Notice::InputFileBroken { error } => because(Line::new(Warn, "input_file_broken"), error),
        Notice::Sealed { sealed } => Line::new(Debug, "sealed")
            .with_maybe("path", sealed.path.as_ref().map(|path| path.display().to_string()))
            .with("entries", sealed.entries)
            .with("bytes", sealed.sealed_size),
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
        Event::TextFrame(text) => Line::new(Warn, "text_frame").with("bytes", text.data.len()),
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
        Event::Continued(_) | Event::SegmentDeleted(_) => return None,
    })
}

fn because(line: Line, error: &Error) -> Line {
    line.with("reason", error.to_string()).with_maybe("hint", error.hint())
}

fn time(nanos: u64) -> String {
    Timestamp::from_nanos(nanos).to_string()
}
