//! What is there: sizes, connections with what happened to them, files and what is wrong with them.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    Report, draw,
    page::{
        Column::{Number, Text, Wide},
        NAME, SENTENCE, Table, foremost, grouped, grouped_or_dash, left_out, many, moment, shown,
    },
};
use crate::inspect::{
    Event, PayloadProfile, State, SubscriptionProfile,
    text::{counts_in_words, happening_in_words, rate, sequence_in_words, size},
};

/// How much of long lists is shown.
const PAYLOADS: usize = 150;
const FILES: usize = 150;
const DRIFTS: usize = 150;

/// So many session events are shown of each subscription, though it may be more than [`EVENTS`](super::EVENTS)
/// altogether.
const EVENTS_OF_EACH: usize = 6;

impl Report<'_> {
    pub(super) fn sizes(&mut self) {
        let mut sums = BTreeMap::<(&str, &str, Option<&str>), (PayloadProfile, usize)>::new();
        for found in &self.profile.subscriptions {
            for payload in &found.payloads {
                let key = (&*found.topic, &*payload.label, payload.payload.as_deref());
                let sum = sums.entry(key).or_insert_with(|| {
                    (PayloadProfile { frames: 0, bytes: 0, ..payload.clone() }, 0)
                });
                sum.0.frames += payload.frames;
                sum.0.bytes += payload.bytes;
                sum.0.min_bytes = sum.0.min_bytes.min(payload.min_bytes);
                sum.0.max_bytes = sum.0.max_bytes.max(payload.max_bytes);
                sum.1 += 1;
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, (sum, _))| std::cmp::Reverse(sum.bytes));
        self.html.push_str("<section id=\"sizes\"><h2>Sizes by topic and payload type</h2>\n");
        let header = [
            (Text, "topic"),
            (Text, "payload type"),
            (Number, "subscriptions"),
            (Number, "frames"),
            (Number, "frames/s"),
            (Number, "bytes"),
            (Wide, "part of all bytes"),
            (Number, "smallest"),
            (Number, "mean"),
            (Number, "largest"),
        ];
        let seconds = self.profile.span.map_or(0.0, |span| span.length().as_secs_f64());
        let whole = self.profile.totals.bytes.max(1) as f64;
        let mut table = Table::begin(&mut self.html, "sizes", &header);
        for ((topic, label, payload), (sum, subscriptions)) in sums.iter().take(PAYLOADS) {
            let label = if topic == label { String::new() } else { shown(label, NAME) };
            let part = sum.bytes as f64 / whole;
            table.row(&[
                format!("{}<small>{label}</small>", shown(topic, NAME)),
                payload.map_or("<i>not known</i>".to_owned(), |payload| shown(payload, NAME)),
                grouped(*subscriptions as u64),
                grouped(sum.frames),
                if seconds > 0.0 { rate(sum.frames as f64 / seconds) } else { "-".to_owned() },
                size(sum.bytes),
                format!("{}{:.1} %", draw::bar(part), 100.0 * part),
                size(sum.min_bytes),
                size(sum.bytes / sum.frames.max(1)),
                size(sum.max_bytes),
            ]);
        }
        table.end();
        left_out(
            &mut self.html,
            sums.len().min(PAYLOADS),
            sums.len(),
            "those with the most bytes",
            "centralcap inspect",
        );
        self.html.push_str("</section>\n");
    }

    pub(super) fn connections(&mut self) {
        let profile = self.profile;
        self.html.push_str("<section id=\"connections\"><h2>Connections</h2>\n");
        let header = [
            (Text, "subscription"),
            (Text, "host"),
            (Number, "connected"),
            (Number, "refused"),
            (Number, "failed"),
            (Number, "closed"),
            (Number, "keys renewed"),
            (Number, "frames dropped"),
            (Number, "frames missing"),
            (Number, "clock set"),
            (Wide, "frames by their numbers"),
        ];
        let mut table = Table::begin(&mut self.html, "connections", &header);
        for &place in &self.shown_subscriptions {
            let found = &profile.subscriptions[place];
            let counts = &found.connections;
            let (_, numbers) = sequence_in_words(found.sequence);
            let missing = found.sequence.map_or(0, |sequence| sequence.missing);
            table.row_with(
                &format!(" id=\"connections-{}\"", place + 1),
                &[
                    shown(&found.name, NAME),
                    shown(&found.host, NAME),
                    grouped_or_dash(counts.connected),
                    grouped_or_dash(counts.rejected),
                    grouped_or_dash(counts.failed),
                    grouped_or_dash(counts.closed),
                    grouped_or_dash(counts.key_renewals),
                    grouped_or_dash(counts.dropped_frames),
                    grouped_or_dash(missing),
                    grouped_or_dash(counts.clock_steps),
                    numbers,
                ],
            );
        }
        table.end();
        self.subscriptions_left_out();
        let of_each = super::EVENTS / self.shown_subscriptions.len().max(1);
        let of_each = of_each.max(EVENTS_OF_EACH);
        self.html.push_str("<h3>What happened to each</h3>\n");
        for &place in &self.shown_subscriptions {
            events(&mut self.html, &profile.subscriptions[place], of_each);
        }
        self.html.push_str("</section>\n");
    }

    pub(super) fn files(&mut self) {
        let files = &self.profile.segments;
        self.html.push_str("<section id=\"files\"><h2>Files and damage</h2>\n");
        let damaged: u64 = files.iter().map(|file| file.damaged_places).sum();
        if damaged == 0 {
            self.html.push_str("<p>No damage was found.</p>\n");
        }
        let header = [
            (Text, "file"),
            (Text, "state"),
            (Number, "size"),
            (Number, "entries"),
            (Number, "damaged places"),
            (Wide, "the first thing that is wrong"),
        ];
        let shown_files = foremost(files, FILES, |file| file.damaged_places);
        let mut table = Table::begin(&mut self.html, "files", &header);
        for &place in &shown_files {
            let file = &files[place];
            let state = match (file.state, file.live) {
                (State::Sealed, _) => "sealed",
                (State::Hot, true) => "hot, being recorded",
                (State::Hot, false) => "hot, left behind",
            };
            let damage = file.damage.as_deref().unwrap_or_default();
            table.row_with(
                if file.damage.is_some() { " class=\"damaged\"" } else { "" },
                &[
                    shown(&file.path.display().to_string(), SENTENCE),
                    state.to_owned(),
                    size(file.bytes),
                    grouped(file.entries),
                    grouped_or_dash(file.damaged_places),
                    shown(damage, 2 * SENTENCE),
                ],
            );
        }
        table.end();
        left_out(
            &mut self.html,
            shown_files.len(),
            files.len(),
            "the damaged ones, and then the first ones",
            "centralcap inspect --verbose",
        );
        self.html.push_str("</section>\n");
    }

    pub(super) fn drift(&mut self) {
        let Some(drift) = self.drift else { return };
        let (drifted, all) = (grouped(drift.drifted), many(drift.frames, "frame"));
        let _ = writeln!(
            self.html,
            "<section id=\"drift\"><h2>Drift</h2>\n<p>Where frames and schema do not agree: with {drifted} of \
             {all} something is not as the schema says, and {} cannot be decoded.</p>",
            grouped(drift.undecodable)
        );
        if !drift.rows.is_empty() {
            let header = [
                (Text, "payload type"),
                (Number, "times"),
                (Number, "frames"),
                (Text, "first seen"),
                (Text, "what"),
                (Wide, "sample"),
            ];
            let mut table = Table::begin(&mut self.html, "drift", &header);
            for row in drift.rows.iter().take(DRIFTS) {
                let fits = row.fits_better.as_ref().map_or(String::new(), |fit| {
                    let frames = many(fit.frames, "frame");
                    let payload = shown(&fit.payload, NAME);
                    format!("<small>{payload} would fit better ({frames})</small>")
                });
                let first = moment(row.first_received);
                table.row(&[
                    shown(&row.payload, NAME),
                    grouped(row.times),
                    grouped(row.frames),
                    format!("{first}<small>frame {}</small>", grouped(row.first_message)),
                    shown(&row.words, SENTENCE) + &fits,
                    row.sample.as_deref().map_or(String::new(), |sample| shown(sample, SENTENCE)),
                ]);
            }
            table.end();
        }
        let (rows, others) = (drift.rows.len(), usize::from(drift.others > 0));
        left_out(
            &mut self.html,
            rows.min(DRIFTS),
            rows + others,
            "the most frequent ones",
            "centralcap inspect --drift",
        );
        self.html.push_str("</section>\n");
    }
}

/// The session events of a subscription, some from each end.
fn events(html: &mut String, found: &SubscriptionProfile, most: usize) {
    let history = &found.history;
    let events: Vec<&Event> = history.first.iter().chain(&history.last).collect();
    if events.is_empty() {
        return;
    }
    let _ = writeln!(
        html,
        "<details><summary><b>{}</b> {}</summary>",
        shown(&found.name, NAME),
        counts_in_words(&found.connections)
    );
    let header = [(Text, "at"), (Number, "connection"), (Text, "event"), (Wide, "")];
    let mut table = Table::begin(html, "events", &header);
    let cut = events.len() > most;
    let first = if cut { most / 2 } else { history.first.len() };
    let last = if cut { events.len() - (most - first) } else { first };
    let between = (last - first) as u64 + history.left_out;
    for (index, event) in events.iter().enumerate() {
        if index == last && between > 0 {
            let more = format!("<i>{} more</i>", grouped(between));
            table.row(&[String::new(), String::new(), String::new(), more]);
        }
        if index < first || index >= last {
            let (name, words) = happening_in_words(&event.what);
            table.row(&[
                moment(event.at),
                format!("#{}", event.connection),
                name.to_owned(),
                shown(&words, SENTENCE),
            ]);
        }
    }
    table.end();
    html.push_str("</details>\n");
}
