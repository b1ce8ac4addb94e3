//! A recording seen from outside: `/metrics` for Prometheus, and `/healthz` for whoever restarts it.
//!
//! The text is made of what the [`Board`] knows at the moment of asking, in Prometheus' text format
//! 0.0.4. There is a table for what each subscription counts, one for what all share and one for what each
//! export does; names, help and numbers are in its rows. Nothing here is counted for the sake of a page.

use std::{fmt::Write, sync::Arc, time::Duration};

use hyper::StatusCode;

use super::{Board, ExportStatus, State, Status, Works};
use crate::{
    error::Result,
    net::pages::{Page, Pages},
};

/// The content type of the format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The writing thread has something to do twice a second. What takes so long hangs.
const STALLED: Duration = Duration::from_secs(60);

/// Answers for the board until it is dropped. A subscription may be down for `bound`.
pub async fn serve(pages: Pages, board: Arc<Board>, bound: Duration) -> Result<()> {
    let page = move |path: &str| match path {
        "/metrics" => {
            let text = render(&board.read(), &board.works(), &board.exports());
            Some(Page { status: StatusCode::OK, kind: FORMAT, text })
        }
        "/healthz" => Some(health(&complaints(&board, bound))),
        _ => None,
    };
    pages.serve(page).await.map(|never| match never {})
}

fn health(complaints: &[String]) -> Page {
    if complaints.is_empty() {
        return Page::plain(StatusCode::OK, "ok\n");
    }
    let lines: String = complaints.iter().map(|line| format!("{line}\n")).collect();
    Page::plain(StatusCode::SERVICE_UNAVAILABLE, lines)
}

/// What is not as it should be. Does not ask the disk: it has to answer when that hangs.
fn complaints(board: &Board, bound: Duration) -> Vec<String> {
    let mut all = subscriptions_down(&board.read(), bound);
    if let Some(time) = board.outage().filter(|&time| time > bound) {
        all.push(format!("nothing could be written for {} s", time.as_secs()));
    }
    let stalled = board.stalled();
    if stalled > STALLED {
        all.push(format!("the writing has hung for {} s", stalled.as_secs()));
    }
    all
}

fn subscriptions_down(all: &[Status], bound: Duration) -> Vec<String> {
    let long = all.iter().filter_map(|one| Some((one, one.down.filter(|&time| time > bound)?)));
    let line = |(status, time): (&Status, Duration)| {
        format!("{}: down for {} s", status.name.escape_debug(), time.as_secs())
    };
    long.map(line).collect()
}

/// What a row is, to Prometheus.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
}

/// A metric: its name without what all begin with, its help, and where its number comes from. None:
/// it is not known now.
struct Row<T: 'static>(&'static str, Kind, &'static str, fn(&T) -> Option<f64>);

/// What is said of each subscription. Prometheus keeps all numbers as `f64`, and so does this.
const OF_EACH: &[Row<Status>] = &[
    Row("frames_total", Kind::Counter, "Frames that are kept.", |s| whole(s.frames)),
    Row("frame_bytes_total", Kind::Counter, "Bytes of the frames that are kept.", |s| {
        whole(s.bytes)
    }),
    Row(
        "dropped_frames_total",
        Kind::Counter,
        "Frames that were received and could not be kept.",
        |s| whole(s.dropped),
    ),
    Row("reconnects_total", Kind::Counter, "Connections after the first one.", |s| {
        whole(s.connections.saturating_sub(1))
    }),
    Row("gaps_total", Kind::Counter, "Times without coverage that are over.", |s| whole(s.gaps)),
    Row("gap_seconds_total", Kind::Counter, "How long they were altogether.", |s| {
        Some(s.gap_time.as_secs_f64())
    }),
    Row(
        "down_seconds",
        Kind::Gauge,
        "How long there has been no connection; 0 if there is one, or none is wanted.",
        |s| Some(s.down.unwrap_or_default().as_secs_f64()),
    ),
    Row(
        "lag_seconds",
        Kind::Gauge,
        "From when the last frame was sent, by the sender's clock, to when it was received.",
        |s| {
            let (received, sent) = s.last_frame?;
            let nanos = i128::from(received.as_nanos()) - i128::from(sent?.as_nanos());
            Some(nanos as f64 / NANOS)
        },
    ),
    Row("last_frame_timestamp_seconds", Kind::Gauge, "When the last frame was received.", |s| {
        Some(s.last_frame?.0.as_nanos() as f64 / NANOS)
    }),
];

/// What is said once.
const OF_ALL: &[Row<Works>] = &[
    Row("queue_length", Kind::Gauge, "What waits for the writing thread.", |w| {
        whole(w.queue as u64)
    }),
    Row("seal_backlog_segments", Kind::Gauge, "Segments that wait to be sealed.", |w| {
        whole(w.seal_backlog as u64)
    }),
    Row("disk_free_bytes", Kind::Gauge, "Room that is left where the capture is.", |w| {
        whole(w.disk_free?)
    }),
    Row("outage_seconds", Kind::Gauge, "How long nothing could be written; 0 if it can.", |w| {
        Some(w.outage.unwrap_or_default().as_secs_f64())
    }),
    Row("writer_stalled_seconds", Kind::Gauge, "How long the writing thread has been busy.", |w| {
        Some(w.stalled.as_secs_f64())
    }),
];

/// What is said of each export.
const OF_EXPORTS: &[Row<ExportStatus>] = &[
    Row("exported_frames_total", Kind::Counter, "Frames that were exported.", |e| {
        whole(e.exported)
    }),
    Row(
        "export_dropped_frames_total",
        Kind::Counter,
        "Frames that are kept and were not exported.",
        |e| whole(e.dropped),
    ),
    Row(
        "export_undecodable_frames_total",
        Kind::Counter,
        "Frames that are kept and do not decode.",
        |e| whole(e.undecodable),
    ),
    Row("export_queue_bytes", Kind::Gauge, "What waits to be exported.", |e| whole(e.queued_bytes)),
];

const NANOS: f64 = 1e9;

const STATES: [(State, &str); 4] = [
    (State::Connecting, "connecting"),
    (State::Connected, "connected"),
    (State::Waiting, "waiting"),
    (State::Stopped, "stopped"),
];

#[allow(clippy::unnecessary_wraps, reason = "it is what a row gives")]
fn whole(number: u64) -> Option<f64> {
    Some(number as f64)
}

/// The page: what each subscription, all together and each export count at one moment.
pub fn render(subscriptions: &[Status], works: &Works, exports: &[ExportStatus]) -> String {
    let mut page = Text::default();
    page.head("build_info", Kind::Gauge, "Always 1; the label says which version this is.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.head("state", Kind::Gauge, "1 for the state that a subscription is in, 0 for others.");
    for status in subscriptions {
        for (state, name) in STATES {
            let labels = [("subscription", &*status.name), ("state", name)];
            page.sample("state", &labels, f64::from(u8::from(status.state == state)));
        }
    }
    for Row(name, kind, help, number) in OF_EACH {
        page.head(name, *kind, help);
        for status in subscriptions {
            if let Some(number) = number(status) {
                page.sample(name, &[("subscription", &status.name)], number);
            }
        }
    }
    for Row(name, kind, help, number) in OF_ALL {
        page.head(name, *kind, help);
        if let Some(number) = number(works) {
            page.sample(name, &[], number);
        }
    }
    for Row(name, kind, help, number) in OF_EXPORTS.iter().filter(|_| !exports.is_empty()) {
        page.head(name, *kind, help);
        for status in exports {
            if let Some(number) = number(status) {
                page.sample(name, &[("export", &status.name)], number);
            }
        }
    }
    page.0
}

/// The format's lines.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.line(format_args!("# HELP centralcap_record_{name} {help}"));
        self.line(format_args!("# TYPE centralcap_record_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], number: f64) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("centralcap_record_{name}{labels} {number}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Text takes whatever is written to it.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A label's value: the format has these three escapes and no others.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::entry::Timestamp;

    fn status(name: &str) -> Status {
        Status { name: name.to_owned(), ..Status::default() }
    }

    #[test]
    fn the_page_says_what_the_board_says() {
        let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
        let north = Status {
            state: State::Connected,
            frames: 3,
            bytes: 1_000_000_000_000_000,
            connections: 5,
            dropped: 2,
            gaps: 4,
            gap_time: Duration::from_millis(90_500),
            last_frame: Some((at(1_500_000), Some(at(1_499_750)))),
            ..status("north")
        };
        let south = Status { down: Some(Duration::from_secs(7)), ..status("south") };
        let works = Works {
            queue: 6,
            seal_backlog: 1,
            disk_free: Some(12_345),
            outage: None,
            stalled: Duration::from_millis(250),
        };
        let file = ExportStatus {
            name: "ndjson:lines".to_owned(),
            exported: 2,
            dropped: 1,
            undecodable: 0,
            queued: 1,
            queued_bytes: 700,
        };
        insta::assert_snapshot!(render(&[north, south], &works, &[file]));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let page = render(&[status("a")], &Works::default(), &[]);
        for name in ["disk_free_bytes", "lag_seconds", "last_frame_timestamp_seconds"] {
            let mut lines = page.lines().filter(|line| line.contains(name)).peekable();
            assert!(lines.peek().is_some(), "{name} in:\n{page}");
            assert!(lines.all(|line| line.starts_with('#')), "{name} in:\n{page}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_label() {
        let page = render(&[status("a\"} 1\nb\\")], &Works::default(), &[]);
        let expected = r#"centralcap_record_frames_total{subscription="a\"} 1\nb\\"} 0"#;
        assert!(page.lines().any(|line| line == expected), "{page}");
    }

    #[test]
    fn who_is_down_for_too_long_is_named() {
        let down = |name, seconds| Status {
            down: Some(Duration::from_secs(seconds)),
            state: State::Waiting,
            ..status(name)
        };
        let all = [status("up"), down("new", 10), down("old\n", 11)];
        let bound = Duration::from_secs(10);
        assert_eq!(subscriptions_down(&all, bound), ["old\\n: down for 11 s"]);
        assert_eq!(health(&[]), Page::plain(StatusCode::OK, "ok\n"));
        let lines = "a: down for 11 s\n";
        let complaints = [lines.trim_end().to_owned()];
        assert_eq!(health(&complaints), Page::plain(StatusCode::SERVICE_UNAVAILABLE, lines));
    }

    #[test]
    fn a_writing_thread_that_has_hung_for_a_minute_is_told() {
        let after = |seconds| {
            let board = Board::new(PathBuf::new(), Arc::default());
            board.begun_earlier(Duration::from_secs(seconds))
        };
        let told = |board: &Board| complaints(board, Duration::MAX);
        assert_eq!(told(&after(59)), [""; 0]);
        let hung = after(61);
        assert_eq!(told(&hung), ["the writing has hung for 61 s"]);
        // It does something again; or it has ended, as it should.
        hung.beat();
        assert_eq!(told(&hung), [""; 0]);
        let ended = after(61);
        ended.beat_no_more();
        assert_eq!(told(&ended), [""; 0]);
    }
}
