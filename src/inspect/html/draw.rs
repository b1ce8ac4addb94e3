//! Drawings over time, as SVG: places along it are percentages, so that a drawing is as wide as its page and
//! its letters stay as they are. Heights are pixels.
//!
//! A drawing has at most so many steps as its axis has buckets, however much there is to draw.

use std::{fmt::Write, time::Duration};

use super::{
    outages::{Hole, levels},
    page::{clock, grouped, many},
};
use crate::{
    entry::Timestamp,
    inspect::{
        Axis, Coverage, Profile, Span,
        coverage::Cell,
        text::{rate, short},
    },
};

/// So many stretches the coverage is drawn in.
const CELLS: usize = 480;

/// What can be told apart by its colour: one for each topic, the last one for all others.
pub(super) const COLOURS: usize = 7;

/// A drawing's height has so many steps.
const STEPS: u64 = 200;

/// Nothing is drawn narrower, in percent: about two pixels and a half.
const NARROWEST: f64 = 0.25;

/// So many times are written below a drawing at most, or one more, and so many where there is less room.
const TICKS: u64 = 8;
const TICKS_WHERE_NARROW: usize = 4;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// How far apart times may be that are written below a drawing, in seconds.
const DISTANCES: [u64; 28] = [
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    DAY,
    2 * DAY,
    5 * DAY,
    10 * DAY,
    20 * DAY,
    50 * DAY,
    100 * DAY,
    365 * DAY,
    1000 * DAY,
    3650 * DAY,
    36_500 * DAY,
];

/// What is drawn, from the left edge to the right one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    span: Span,
}

impl Scale {
    /// From the first thing that is known of anybody to the last; None if nothing is.
    pub(super) fn of(profile: &Profile) -> Option<Self> {
        let covered = profile.subscriptions.iter().filter_map(|found| found.coverage.as_ref());
        let spans = covered.map(|coverage| coverage.span).chain(profile.span);
        let span = spans.reduce(Span::hull)?;
        // A moment has no width to draw it in.
        let last = span.last.max(span.first.after(Duration::from_secs(1)));
        Some(Self { span: Span { last, ..span } })
    }

    fn percent(self, at: Timestamp) -> f64 {
        let (from, to) = (self.span.first.as_nanos(), self.span.last.as_nanos());
        let after = at.as_nanos() as f64 - from as f64;
        100.0 * after / (to - from) as f64
    }

    /// Where a span begins and how wide it is, all of it inside.
    fn place(self, span: Span) -> (f64, f64) {
        let first = self.percent(span.first).clamp(0.0, 100.0 - NARROWEST);
        let last = self.percent(span.last).clamp(0.0, 100.0);
        (first, (last - first).max(NARROWEST))
    }

    /// The times to write below it.
    fn ticks(self) -> Vec<Timestamp> {
        let (from, to) = (self.span.first.as_nanos(), self.span.last.as_nanos());
        let fits = |distance: &u64| (to - from) / (distance * SECOND) < TICKS;
        let distance = DISTANCES.into_iter().find(fits).unwrap_or(36_500 * DAY) * SECOND;
        let first = from.div_ceil(distance);
        (first..)
            .map_while(|number| number.checked_mul(distance))
            .take_while(|at| *at <= to)
            .map(Timestamp::from_nanos)
            .collect()
    }

    /// Lines where the times are, for all drawings to use.
    pub(super) fn grid(self) -> String {
        let mut svg = "<svg class=\"defs\" aria-hidden=\"true\"><defs><g id=\"grid\">".to_owned();
        for at in self.ticks() {
            let x = self.percent(at);
            let _ = write!(svg, "<line x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"100%\"/>");
        }
        svg.push_str("</g></defs></svg>\n");
        svg
    }

    /// The times below a drawing, or above it.
    pub(super) fn axis(self) -> String {
        let mut svg = "<svg class=\"axis\" role=\"img\" aria-label=\"times in UTC\">".to_owned();
        let ticks = self.ticks();
        let whole_days = ticks.iter().all(|at| at.as_nanos().is_multiple_of(DAY * SECOND));
        let whole_minutes = ticks.iter().all(|at| at.as_nanos().is_multiple_of(60 * SECOND));
        // Where there is less room, the others are not shown: the style sheet knows.
        let step = ticks.len().div_ceil(TICKS_WHERE_NARROW).max(1);
        let mut days = [String::new(), String::new()];
        for (index, at) in ticks.into_iter().enumerate() {
            let text = clock(at);
            let (date, time) = text.split_once('T').unwrap_or((&text, ""));
            let is_minor = !index.is_multiple_of(step);
            let minor = if is_minor { " minor" } else { "" };
            let time = if whole_minutes { time.get(..5) } else { time.get(..8) };
            let x = self.percent(at);
            let anchor = match x {
                x if x < 4.0 => "start",
                x if x > 96.0 => "end",
                _ => "middle",
            };
            let upper = if whole_days { date } else { time.unwrap_or_default() };
            let _ = write!(
                svg,
                "<text class=\"time{minor}\" x=\"{x:.2}%\" y=\"12\" text-anchor=\"{anchor}\">{upper}</text>"
            );
            // A day is also written where the one before it may not be shown.
            if date != days[usize::from(is_minor)] && !whole_days {
                let _ = write!(
                    svg,
                    "<text class=\"day{minor}\" x=\"{x:.2}%\" y=\"27\" text-anchor=\"{anchor}\">{date}</text>"
                );
                let written = if is_minor { 1..2 } else { 0..2 };
                days[written].fill(date.to_owned());
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Frames over time, all together: an area for each topic on top of the others. `topics` have a count for each
/// bucket of the axis, and are drawn from the bottom up.
pub(super) fn rates(scale: Scale, axis: &Axis, topics: &[(String, Vec<u64>)]) -> String {
    let mut layers = Vec::<Vec<u64>>::new();
    for (_, counts) in topics {
        let below = layers.last();
        let sum = |(index, count): (usize, &u64)| count + below.map_or(0, |below| below[index]);
        layers.push(counts.iter().enumerate().map(sum).collect());
    }
    let all = layers.last().cloned().unwrap_or_default();
    let width = axis.bucket_seconds.as_secs_f64();
    let highest = all.iter().copied().max().unwrap_or(0);
    // The top of the drawing is a number that is easy to read.
    let top = round_up(highest as f64 / width);
    let top_count = whole(top * width).max(1);

    let mut svg = "<svg class=\"rates\" role=\"img\" aria-label=\"frames over time\">".to_owned();
    svg.push_str("<use href=\"#grid\" class=\"grid\"/>");
    let (x, wide) =
        (scale.percent(axis.start), scale.percent(axis.end()) - scale.percent(axis.start));
    let buckets = axis.buckets;
    let _ = write!(
        svg,
        "<svg x=\"{x:.3}%\" width=\"{wide:.3}%\" height=\"100%\" viewBox=\"0 0 {buckets} {STEPS}\" \
         preserveAspectRatio=\"none\">"
    );
    for (colour, counts) in layers.iter().enumerate().rev() {
        let _ = write!(svg, "<path class=\"t{colour}\" d=\"{}\"/>", area(counts, top_count));
    }
    for (bucket, count) in all.iter().enumerate() {
        let from =
            axis.start.after(axis.bucket_seconds * u32::try_from(bucket).unwrap_or(u32::MAX));
        let (at, long) = (clock(from), short(axis.bucket_seconds));
        let per_second = rate(*count as f64 / width);
        let _ = write!(
            svg,
            "<rect class=\"hover\" x=\"{bucket}\" width=\"1\" height=\"{STEPS}\"><title>{at}, {long} long: \
             {}, {per_second} a second</title></rect>",
            many(*count, "frame")
        );
    }
    svg.push_str("</svg>");
    for (part, y) in [(1.0, 13), (0.5, 104)] {
        let _ = write!(svg, "<text class=\"y\" x=\"6\" y=\"{y}\">{}</text>", number(top * part));
    }
    svg.push_str("<line class=\"half\" x1=\"0\" x2=\"100%\" y1=\"50%\" y2=\"50%\"/></svg>\n");
    svg
}

/// How many of `all` subscriptions were down over time, for whatever reason: the whole height is all of them.
/// `outages` have a number that leads to where they are told, and what is to be said of them; later ones lie
/// on top of the others.
pub(super) fn down(
    scale: Scale,
    holes: &[Hole<'_>],
    all: usize,
    outages: &[(usize, Span, String)],
) -> String {
    let mut svg = "<svg class=\"down\" role=\"img\" aria-label=\"subscriptions down over time\">\
                   <use href=\"#grid\" class=\"grid\"/>"
        .to_owned();
    let _ = write!(svg, "<svg viewBox=\"0 0 {CELLS} {STEPS}\" preserveAspectRatio=\"none\">");
    let gaps: Vec<_> = holes.iter().filter(|hole| hole.gap.is_some()).copied().collect();
    for (class, holes) in [("unknown", holes), ("gap", &gaps[..])] {
        let counts = most_in_cells(scale, holes);
        let _ = write!(svg, "<path class=\"{class}\" d=\"{}\"/>", area(&counts, all as u64));
    }
    svg.push_str("</svg>");
    for (number, span, title) in outages {
        let (x, wide) = scale.place(*span);
        let _ = write!(
            svg,
            "<a href=\"#outage-{number}\"><rect class=\"hover\" x=\"{x:.3}%\" width=\"{wide:.3}%\" \
             height=\"100%\"><title>{}, {title}</title></rect></a>",
            from_to(*span)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The most holes that are there at once in each of the stretches that are drawn.
fn most_in_cells(scale: Scale, holes: &[Hole<'_>]) -> Vec<u64> {
    let mut cells = vec![0; CELLS];
    let cell = |at: Timestamp| {
        let place = scale.percent(at).clamp(0.0, 100.0) / 100.0 * CELLS as f64;
        (whole(place.floor()) as usize).min(CELLS - 1)
    };
    for pair in levels(holes).windows(2) {
        let count = pair[0].1 as u64;
        let reached = &mut cells[cell(pair[0].0)..=cell(pair[1].0)];
        for most in reached {
            *most = count.max(*most);
        }
    }
    // What takes no time is seen, too.
    for hole in holes.iter().filter(|hole| hole.span.first == hole.span.last) {
        let most = &mut cells[cell(hole.span.first)];
        *most = 1.max(*most);
    }
    cells
}

/// One subscription: its frames over time, and below them when it was covered. `holes` have a number that
/// leads to where they are told, and are those of this subscription.
pub(super) fn subscription(
    scale: Scale,
    axis: Option<&Axis>,
    counts: &[u64],
    coverage: Option<&Coverage>,
    holes: &[(usize, &Hole<'_>)],
) -> String {
    let mut svg = "<svg class=\"row\" role=\"img\" aria-label=\"frames and coverage over time\">\
                   <use href=\"#grid\" class=\"grid\"/>"
        .to_owned();
    // Behind all else: a colour is the same in them.
    for (number, hole) in holes {
        let (x, wide) = scale.place(hole.span);
        let class = if hole.gap.is_some() { "band" } else { "band dim" };
        let _ = write!(
            svg,
            "<a href=\"#gap-{number}\"><rect class=\"{class}\" x=\"{x:.3}%\" width=\"{wide:.3}%\" \
             height=\"100%\"><title>{}: {}</title></rect></a>",
            from_to(hole.span),
            super::page::shown(hole.cause, super::page::NAME)
        );
    }
    if let Some(axis) = axis {
        let (x, end) = (scale.percent(axis.start), scale.percent(axis.end()));
        let peak = counts.iter().copied().max().unwrap_or(0).max(1);
        let _ = write!(
            svg,
            "<svg x=\"{x:.3}%\" width=\"{:.3}%\" height=\"22\" viewBox=\"0 0 {} {STEPS}\" \
             preserveAspectRatio=\"none\"><path class=\"rate\" d=\"{}\"/></svg>",
            end - x,
            axis.buckets,
            area(counts, peak)
        );
    }
    if let Some(coverage) = coverage {
        let width = scale.span.length().div_f64(CELLS as f64);
        let cells = coverage.cells(scale.span.first, width.max(Duration::from_nanos(1)), CELLS);
        let _ = write!(
            svg,
            "<svg y=\"25\" height=\"8\" viewBox=\"0 0 {CELLS} 1\" preserveAspectRatio=\"none\">"
        );
        for (cell, class) in
            [(Cell::Covered, "covered"), (Cell::Unknown, "unknown"), (Cell::Gap, "gap")]
        {
            let _ = write!(svg, "<path class=\"{class}\" d=\"{}\"/>", stretches(&cells, cell));
        }
        svg.push_str("</svg>");
    }
    svg.push_str("</svg>");
    svg
}

/// A part of a whole as a bar.
pub(super) fn bar(part: f64) -> String {
    format!("<svg class=\"bar\" aria-hidden=\"true\"><rect width=\"{:.1}%\"/></svg>", 100.0 * part)
}

/// When, and how long.
fn from_to(span: Span) -> String {
    format!("{} to {}, {}", clock(span.first), clock(span.last), short(span.length()))
}

/// The area below counts, each as wide as 1. Anything at all is seen.
fn area(counts: &[u64], top: u64) -> String {
    let height = |count: u64| {
        (u128::from(count) * u128::from(STEPS)).div_ceil(u128::from(top.max(1))) as u64
    };
    let mut path = format!("M0 {STEPS}");
    let mut at = 0;
    for same in counts.chunk_by(|a, b| height(*a) == height(*b)) {
        at += same.len();
        let _ = write!(path, "V{}H{at}", STEPS.saturating_sub(height(same[0])));
    }
    let _ = write!(path, "V{STEPS}Z");
    path
}

/// Where the cells are of that kind, in a drawing of height 1.
fn stretches(cells: &[Cell], kind: Cell) -> String {
    let mut path = String::new();
    let mut at = 0;
    for same in cells.chunk_by(|a, b| a == b) {
        if same[0] == kind {
            let _ = write!(path, "M{at} 0h{}v1h-{}z", same.len(), same.len());
        }
        at += same.len();
    }
    path
}

/// The next number that is 1, 2 or 5 and zeros.
fn round_up(number: f64) -> f64 {
    if number <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(number.log10().floor());
    let fits =
        [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|round| *round >= number);
    fits.unwrap_or(10.0 * power)
}

#[allow(clippy::cast_sign_loss, reason = "it counts something")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

fn number(number: f64) -> String {
    if number >= 10.0 { grouped(whole(number)) } else { format!("{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(first: &str, last: &str) -> Scale {
        Scale { span: Span { first: first.parse().unwrap(), last: last.parse().unwrap() } }
    }

    fn times(scale: Scale) -> Vec<String> {
        scale.ticks().into_iter().map(clock).collect()
    }

    #[test]
    fn the_times_below_a_drawing_are_round_and_few() {
        let minutes = scale("2026-11-18T11:06:40Z", "2026-11-18T11:08:42Z");
        let expected = ["11:07:00", "11:07:30", "11:08:00", "11:08:30"];
        let expected = expected.map(|time| format!("2026-11-18T{time}.000Z"));
        assert_eq!(times(minutes), expected);
        let days = scale("2026-11-18T11:06:40Z", "2026-11-21T03:00:00Z");
        assert_eq!(times(days)[0], "2026-11-18T12:00:00.000Z");
        assert!(times(days).len() <= 9, "{:?}", times(days));
        let ever = scale("1970-01-01T00:00:00Z", "2554-01-01T00:00:00Z");
        assert!((1..=9).contains(&times(ever).len()), "{:?}", times(ever));
        assert!(ever.axis().contains(">1970-01-01</text>"), "{}", ever.axis());
    }

    #[test]
    fn a_day_is_written_where_it_begins() {
        let night = scale("2026-11-18T23:00:00Z", "2026-11-19T01:00:00Z").axis();
        let days = night.matches("class=\"day\"").count();
        assert_eq!(days, 2, "{night}");
        assert!(night.contains(">23:30<") && night.contains(">2026-11-19<"), "{night}");
    }

    #[test]
    fn the_narrowest_gap_is_seen_and_stays_inside() {
        let day = scale("2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z");
        let at = |time: &str| time.parse().unwrap();
        let end = Span { first: at("2026-11-19T00:00:00Z"), last: at("2026-11-19T00:00:00Z") };
        assert_eq!(day.place(end), (100.0 - NARROWEST, NARROWEST));
        let noon = Span { first: at("2026-11-18T12:00:00Z"), last: at("2026-11-18T18:00:00Z") };
        assert_eq!(day.place(noon), (50.0, 25.0));
    }

    #[test]
    fn anything_at_all_has_a_height() {
        assert_eq!(area(&[0, 1, 1_000_000, 1_000_000], 1_000_000), "M0 200V200H1V199H2V0H4V200Z");
        assert_eq!(area(&[], 0), "M0 200V200Z");
    }

    #[test]
    fn the_top_of_a_drawing_is_a_round_number() {
        let tops = [0.0, 0.03, 1.0, 1.1, 4.9, 5.1, 640.0].map(round_up);
        assert_eq!(tops.map(number), ["1", "0.05", "1", "2", "5", "10", "1,000"]);
    }
}
