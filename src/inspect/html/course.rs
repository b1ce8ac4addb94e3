//! What happened when: outages, frames over time, each subscription's coverage, and its gaps.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    Report, draw, frames,
    outages::{self, Hole, Outage},
    page::{
        Column::{Number, Text, Wide},
        NAME, SENTENCE, Table, grouped, grouped_or_dash, left_out, many, moment, shown,
    },
};
use crate::inspect::{
    Axis, SubscriptionProfile,
    text::{counts_in_words, happening_in_words, lost, percent, rate, short, size, words_of_gap},
};

/// So many subscriptions are named in a sentence.
const LISTED: usize = 20;

impl Report<'_> {
    pub(super) fn outages(&mut self) {
        self.html.push_str("<section id=\"outages\"><h2>Outages</h2>\n");
        if self.outages.is_empty() {
            self.html.push_str(if self.profile.losses().is_none() {
                "<p>None: each subscription was covered from the first to the last thing that is known \
                 of it.</p>\n"
            } else {
                "<p>No gap is known.</p>\n"
            });
        } else {
            self.table_of_outages();
        }
        self.never_connected();
        self.missing();
        self.html.push_str("</section>\n");
    }

    /// They have no gap: nobody knows when they would have been covered.
    fn never_connected(&mut self) {
        let only_tried = |found: &&SubscriptionProfile| found.connections.only_tried();
        let names = |found: &SubscriptionProfile| {
            let counts = counts_in_words(&found.connections);
            let events = found.history.first.iter().chain(&found.history.last).rev();
            let mut said = events.map(|event| happening_in_words(&event.what).1);
            let said = said.next().map_or(String::new(), |said| shown(&said, SENTENCE));
            format!("<b>{}</b> ({counts}: {said})", shown(&found.name, NAME))
        };
        let tried = self.profile.subscriptions.iter().filter(only_tried);
        let words = listed(tried.map(names));
        if !words.is_empty() {
            let _ = writeln!(
                self.html,
                "<p class=\"missing\">Never connected, so that nothing of it is here: {words}.</p>"
            );
        }
    }

    /// Who was connected is not who has all frames.
    fn missing(&mut self) {
        let profile = self.profile;
        let damaged = profile.segments.iter().filter(|file| file.damage.is_some()).count() as u64;
        let unexplained =
            |found: &SubscriptionProfile| found.sequence.map_or(0, |numbers| numbers.unexplained);
        let all: u64 = profile.subscriptions.iter().map(unexplained).sum();
        let is_checked = profile.subscriptions.iter().all(|found| found.sequence.is_some());
        if damaged == 0 && all == 0 {
            return;
        }
        let mut losers: Vec<_> =
            profile.subscriptions.iter().filter(|found| unexplained(found) > 0).collect();
        losers.sort_by_key(|found| std::cmp::Reverse(unexplained(found)));
        let words = listed(losers.into_iter().map(|found| {
            format!("{} of <b>{}</b>", grouped(unexplained(found)), shown(&found.name, NAME))
        }));
        let files = many(damaged, "damaged file");
        let missing = many(all, "frame");
        let be = if all == 1 { "is" } else { "are" };
        let told = match (damaged, all) {
            (0, _) => format!("By their numbers {missing} {be} missing without a word: {words}."),
            (_, 0) if is_checked => format!(
                "There {} <a href=\"#files\">{files}</a>. No number tells that a frame is missing, but what \
                 came last may be.",
                if damaged == 1 { "is" } else { "are" }
            ),
            (_, 0) => format!(
                "There {} <a href=\"#files\">{files}</a>. How many frames are missing cannot be told where not \
                 all frames are selected.",
                if damaged == 1 { "is" } else { "are" }
            ),
            _ => format!(
                "By their numbers {missing} {be} missing through damage (<a href=\"#files\">{files}</a>), or \
                 without a word: {words}."
            ),
        };
        let when = if all > 0 {
            " They came somewhere between two that are here: that time counts as unknown."
        } else {
            ""
        };
        let _ = writeln!(self.html, "<p class=\"missing\">{told}{when}</p>");
    }

    fn table_of_outages(&mut self) {
        self.html.push_str(
            "<p>When at least one subscription was not covered. Gaps that begin or lie together are one \
             outage; one that goes on much longer is an outage of its own, so outages may overlap. How many \
             subscriptions were down is told for the time in which most of an outage's own were, also \
             counting those that were down for another reason.</p>\n",
        );
        let all = grouped(self.profile.subscriptions.len() as u64);
        let worst = self.worst();
        let header = [
            (Text, "from"),
            (Text, "to"),
            (Number, "long"),
            (Text, "subscriptions down at once"),
            (Number, "frames lost"),
            (Wide, "cause"),
        ];
        let mut table = Table::begin(&mut self.html, "outages", &header);
        for &place in &self.shown_outages {
            let outage = &self.outages[place];
            let span = outage.span;
            let down = outages::down_throughout(&self.holes, outage.peak.span);
            table.row_with(
                &format!(
                    " id=\"outage-{}\"{}",
                    place + 1,
                    if worst == Some(place) { " class=\"worst\"" } else { "" }
                ),
                &[
                    moment(span.first),
                    moment(span.last),
                    format!("<b>{}</b>", short(span.length())),
                    format!("{down} of {all}{}", at_once(outage, down)),
                    grouped_or_dash(outage.frames),
                    causes(outage),
                ],
            );
        }
        table.end();
        left_out(
            &mut self.html,
            self.shown_outages.len(),
            self.outages.len(),
            "those in which most time was lost, of all subscriptions together",
            "centralcap inspect --gaps",
        );
    }

    pub(super) fn rates(&mut self) {
        let profile = self.profile;
        let (Some(scale), Some(axis)) = (self.scale, &profile.timeline) else { return };
        let mut topics = self.topics();
        if topics.len() > draw::COLOURS {
            let others = topics.split_off(draw::COLOURS - 1);
            let mut sums = vec![0; axis.buckets];
            for (_, counts) in &others {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            topics.push((format!("{} others", others.len()), sums));
        }
        let _ = write!(
            self.html,
            "<section id=\"rates\"><h2>Frames over time</h2>\n<p>Frames a second, all subscriptions \
             together; one step is {}, point at it for its time. Below it is how many subscriptions were \
             down; point there for an outage's times, and click for its row.</p>\n<p class=\"legend\">",
            short(axis.bucket_seconds)
        );
        for (colour, (topic, counts)) in topics.iter().enumerate() {
            let sum = grouped(counts.iter().sum());
            let topic = shown(topic, NAME);
            let _ = write!(
                self.html,
                "<span><svg class=\"key\" aria-hidden=\"true\"><rect class=\"t{colour}\" width=\"100%\" \
                 height=\"100%\"/></svg>{topic} <small>{sum}</small></span> "
            );
        }
        self.html.push_str("</p>\n");
        self.html.push_str(&draw::rates(scale, axis, &topics));
        if !self.outages.is_empty() {
            let all = self.profile.subscriptions.len();
            let title = |outage: &Outage<'_>| {
                format!("{} of {}", self.down(outage), many(all as u64, "subscription"))
            };
            let shown = self.shown_outages.iter().map(|&place| (place + 1, &self.outages[place]));
            let mut shown: Vec<_> =
                shown.map(|(number, outage)| (number, outage.span, title(outage))).collect();
            // The shorter ones lie on the longer ones, so that each can be pointed at.
            shown.sort_by_key(|(_, span, _)| std::cmp::Reverse(span.length()));
            self.html.push_str(&draw::down(scale, &self.holes, all, &shown));
        }
        self.html.push_str(&scale.axis());
        self.html.push_str("</section>\n");
    }

    /// The counts of each topic, the most frequent one first.
    pub(super) fn topics(&self) -> Vec<(String, Vec<u64>)> {
        let buckets = self.profile.timeline.as_ref().map_or(0, |axis| axis.buckets);
        let mut topics = BTreeMap::<&str, Vec<u64>>::new();
        for found in &self.profile.subscriptions {
            let counts = topics.entry(&found.topic).or_insert_with(|| vec![0; buckets]);
            counts.iter_mut().zip(&found.timeline).for_each(|(sum, count)| *sum += count);
        }
        let mut topics: Vec<_> =
            topics.into_iter().map(|(topic, counts)| (topic.to_owned(), counts)).collect();
        topics.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().sum::<u64>()));
        topics
    }

    pub(super) fn subscriptions(&mut self) {
        let profile = self.profile;
        let Some(scale) = self.scale else { return };
        let _ = write!(
            self.html,
            "<section id=\"subscriptions\"><h2>Subscriptions</h2>\n<p>The area is frames over time, each row \
             by its own peak; the strip below it is coverage. Point at a gap for its times; click on it for \
             its row.</p>\n<p class=\"legend\"><span><i class=\"covered\"></i>covered</span> <span><i \
             class=\"gap\"></i>a gap</span> <span><i class=\"unknown\"></i>not known</span></p>\n"
        );
        let axis_cell = scale.axis();
        let header = [
            (Text, "subscription"),
            (Number, "covered"),
            (Number, "gaps"),
            (Wide, &*axis_cell),
            (Number, "frames"),
            (Number, "bytes"),
            (Number, "peak/s"),
        ];
        let mut of_each = BTreeMap::<usize, Vec<(usize, &Hole<'_>)>>::new();
        for &place in &self.shown_holes {
            let hole = &self.holes[place];
            of_each.entry(hole.subscription).or_default().push((place + 1, hole));
        }
        let mut table = Table::begin(&mut self.html, "subscriptions", &header);
        for &place in &self.shown_subscriptions {
            let found = &profile.subscriptions[place];
            let holes = of_each.get(&place).map_or(&[][..], Vec::as_slice);
            let coverage = found.coverage.as_ref();
            let axis = profile.timeline.as_ref();
            let drawing = draw::subscription(scale, axis, &found.timeline, coverage, holes);
            let gaps = coverage.map_or(0, |coverage| coverage.gaps.len() as u64);
            table.row(&[
                format!(
                    "<a href=\"#connections-{}\">{}</a><small>{}</small>",
                    place + 1,
                    shown(&found.name, NAME),
                    shown(&found.topic, NAME)
                ),
                coverage.map_or("-".to_owned(), percent),
                grouped_or_dash(gaps),
                drawing,
                grouped(frames(found)),
                size(found.payloads.iter().map(|payload| payload.bytes).sum()),
                peak(found, axis),
            ]);
        }
        table.end_with(&["", "", "", &axis_cell, "", "", ""]);
        self.subscriptions_left_out();
        self.html.push_str("</section>\n");
    }

    pub(super) fn subscriptions_left_out(&mut self) {
        left_out(
            &mut self.html,
            self.shown_subscriptions.len(),
            self.profile.subscriptions.len(),
            "those that were not covered for longest, and those with the most frames",
            "centralcap inspect",
        );
    }

    pub(super) fn gaps(&mut self) {
        self.html.push_str("<section id=\"gaps\"><h2>Gaps</h2>\n");
        if self.holes.is_empty() {
            self.html.push_str("<p>There is none.</p></section>\n");
            return;
        }
        let header = [
            (Text, "from"),
            (Text, "to"),
            (Number, "long"),
            (Text, "cause"),
            (Text, "subscription"),
            (Text, "lost"),
            (Wide, "what was said"),
        ];
        let mut table = Table::begin(&mut self.html, "gaps", &header);
        for &place in &self.shown_holes {
            let hole = &self.holes[place];
            let said = hole.gap.map(words_of_gap).unwrap_or_default();
            let said: Vec<_> = said.iter().map(|words| shown(words, SENTENCE)).collect();
            let found = &self.profile.subscriptions[hole.subscription];
            table.row_with(
                &format!(" id=\"gap-{}\"", place + 1),
                &[
                    moment(hole.span.first),
                    moment(hole.span.last),
                    format!("<b>{}</b>", short(hole.span.length())),
                    format!("<span class=\"cause\">{}</span>", shown(hole.cause, NAME)),
                    shown(&found.name, NAME),
                    hole.gap.map_or("-".to_owned(), |gap| lost(gap.frames, gap.bytes)),
                    said.join("<br>"),
                ],
            );
        }
        table.end();
        left_out(
            &mut self.html,
            self.shown_holes.len(),
            self.holes.len(),
            "the longest ones",
            "centralcap inspect --gaps",
        );
        if self.profile.subscriptions.iter().any(|found| found.connections.clock_steps > 0) {
            self.html.push_str(
                "<p class=\"note\">The recorder's clock was set meanwhile: times of outages and gaps are \
                 by the clock as it was set at last.</p>\n",
            );
        }
        self.html.push_str("</section>\n");
    }
}

/// The most frames in a second, as far as the buckets tell.
fn peak(found: &SubscriptionProfile, axis: Option<&Axis>) -> String {
    let most = found.timeline.iter().copied().max().unwrap_or(0);
    match axis {
        Some(axis) if most > 0 => rate(most as f64 / axis.bucket_seconds.as_secs_f64()),
        _ => "-".to_owned(),
    }
}

/// The first ones of many, and how many more there are.
fn listed(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<_> = words.collect();
    let more = words.len().saturating_sub(LISTED) as u64;
    words.truncate(LISTED);
    let words = words.join(", ");
    if more > 0 { format!("{words} and {} more", grouped(more)) } else { words }
}

/// The causes of an outage, the most frequent ones first.
fn causes(outage: &Outage<'_>) -> String {
    let mut causes: Vec<_> = outage.causes.iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words = |(cause, count): &(&&str, &usize)| {
        let times = if outage.holes > 1 { format!(" × {count}") } else { String::new() };
        format!("<span class=\"cause\">{}{times}</span>", shown(cause, NAME))
    };
    causes.iter().take(4).map(words).collect::<Vec<_>>().join(", ")
}

/// When so many were down, where that is not all of the outage, and who they were.
fn at_once(outage: &Outage<'_>, down: usize) -> String {
    let (peak, mut words) = (outage.peak, String::new());
    if peak.span != outage.span {
        let (first, last) = (moment(peak.span.first), moment(peak.span.last));
        let long = short(peak.span.length());
        let _ = write!(words, "<small>from {first} to {last}, {long}</small>");
    }
    if down > peak.count {
        let others = grouped((down - peak.count) as u64);
        let _ = write!(words, "<small>{others} of them in another outage</small>");
    }
    if outage.subscriptions > peak.count {
        let all = grouped(outage.subscriptions as u64);
        let _ = write!(words, "<small>{all} altogether</small>");
    }
    words
}
