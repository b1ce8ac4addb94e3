//! A profile as a page for a browser, to attach to a ticket.
//!
//! One file that needs nothing else: no script, nothing from elsewhere, and a policy that forbids a browser
//! both. What comes from a capture is only ever text in it (see [`page`]). First what is wrong and when, then
//! what there is. The page stays below 2 MiB: long lists are cut to what matters most, and say so.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

pub use self::file::ReportFile;
use self::{
    draw::Scale,
    outages::{Hole, Outage, Peak},
    page::{NAME, clock, foremost, grouped, many, moment, shown},
};
use super::{
    Profile, SegmentProfile, Span, SubscriptionProfile,
    drift::Drift,
    text::{rate, short, size},
};

mod course;
mod draw;
mod file;
mod lists;
mod outages;
mod page;

/// The frames over time are counted in so many buckets at most.
pub(super) const BUCKETS: usize = 480;

/// How much of long lists is shown.
const OUTAGES: usize = 100;
const SUBSCRIPTIONS: usize = 150;
const GAPS: usize = 300;
const EVENTS: usize = 1200;
const OPTIONS: usize = 40;

const STYLE: &str = include_str!("html/style.css");

impl Profile {
    /// A page about this profile, with what [`report`](super::report) finds out, and about where frames and
    /// schema do not agree, if somebody has looked.
    pub fn html(&self, drift: Option<&Drift>) -> String {
        Report::of(self, drift).page()
    }
}

/// What is told of a profile, and the page that tells it.
struct Report<'p> {
    profile: &'p Profile,
    drift: Option<&'p Drift>,
    scale: Option<Scale>,
    holes: Vec<Hole<'p>>,
    outages: Vec<Outage<'p>>,
    /// When most subscriptions were down at once, whichever outages that is of.
    most_at_once: Option<Peak>,
    /// The places of those that are shown.
    shown_holes: Vec<usize>,
    shown_outages: Vec<usize>,
    shown_subscriptions: Vec<usize>,
    html: String,
}

impl<'p> Report<'p> {
    fn of(profile: &'p Profile, drift: Option<&'p Drift>) -> Self {
        let holes = outages::holes(profile);
        let outages = outages::outages(&holes);
        let weight = |found: &SubscriptionProfile| {
            let coverage = found.coverage.as_ref();
            let uncovered =
                coverage.map(|coverage| coverage.gap_seconds + coverage.unknown_seconds);
            (uncovered, frames(found))
        };
        let mut report = Self {
            profile,
            drift,
            scale: Scale::of(profile),
            shown_holes: foremost(&holes, GAPS, |hole| hole.span.length()),
            shown_outages: foremost(&outages, OUTAGES, |outage| outage.altogether),
            most_at_once: outages::peak(&holes),
            shown_subscriptions: foremost(&profile.subscriptions, SUBSCRIPTIONS, weight),
            holes,
            outages,
            html: String::new(),
        };
        // What the first line of the page leads to is there.
        if let Some((place, _)) = report.worst_at_once()
            && let Err(between) = report.shown_outages.binary_search(&place)
        {
            report.shown_outages.insert(between, place);
        }
        report
    }

    fn page(mut self) -> String {
        let title = self.title();
        let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        let _ = write!(
            self.html,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
             'sha256-{style}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        );
        self.head(&title);
        self.facts();
        if let Some(scale) = self.scale {
            self.html.push_str(&scale.grid());
        }
        self.outages();
        self.rates();
        self.subscriptions();
        self.gaps();
        self.sizes();
        self.connections();
        self.files();
        self.drift();
        self.foot();
        self.html
    }

    fn title(&self) -> String {
        let name = |file: &SegmentProfile| match file.path.file_name() {
            Some(name) => shown(&name.to_string_lossy(), NAME),
            None => shown(&file.path.display().to_string(), NAME),
        };
        match &self.profile.segments[..] {
            [] => "no file".to_owned(),
            [only] => name(only),
            [first, .., last] => {
                format!("{} to {} ({} files)", name(first), name(last), self.profile.segments.len())
            }
        }
    }

    fn head(&mut self, title: &str) {
        let (class, words) = match self.profile.losses() {
            Some(losses) => ("bad", format!("Lost or unknown: {losses}.")),
            None => ("good", "Nothing is missing, as far as can be seen.".to_owned()),
        };
        let worst = self.worst_in_words();
        let has_frames = self.scale.is_some() && self.profile.timeline.is_some();
        let sections = [
            ("outages", "Outages", true),
            ("rates", "Frames over time", has_frames),
            ("subscriptions", "Subscriptions", self.scale.is_some()),
            ("gaps", "Gaps", true),
            ("sizes", "Sizes", true),
            ("connections", "Connections", true),
            ("files", "Files and damage", true),
            ("drift", "Drift", self.drift.is_some()),
        ];
        let nav: String = sections
            .into_iter()
            .filter(|(.., is_there)| *is_there)
            .map(|(id, name, _)| format!("<a href=\"#{id}\">{name}</a> "))
            .collect();
        let _ = write!(
            self.html,
            "<header><p class=\"kind\">centralcap report</p><h1>{title}</h1>\
             <p class=\"verdict {class}\">{words}{worst}</p>\
             <nav>{nav}</nav>\
             <p class=\"utc\">All times are UTC.</p></header>\n<main>\n"
        );
    }

    /// The place of the outage in which most time was lost, of all subscriptions together.
    fn worst(&self) -> Option<usize> {
        (0..self.outages.len()).rev().max_by_key(|&place| self.outages[place].altogether)
    }

    /// When most subscriptions were down at once, and the shortest outage that was then.
    fn worst_at_once(&self) -> Option<(usize, Peak)> {
        let peak = self.most_at_once?;
        let is_then = |&place: &usize| {
            let span = self.outages[place].span;
            span.first <= peak.span.first && peak.span.last <= span.last
        };
        let places = (0..self.outages.len()).filter(is_then);
        let place = places.min_by_key(|&place| self.outages[place].span.length())?;
        Some((place, peak))
    }

    /// The outage in which most time was lost, and when most subscriptions were down if that was another time.
    fn worst_in_words(&self) -> String {
        let Some(place) = self.worst() else { return String::new() };
        let all = many(self.profile.subscriptions.len() as u64, "subscription");
        let outage = &self.outages[place];
        let down = self.down(outage);
        let times = |span: Span| {
            format!("{} to {}</a>, {}", moment(span.first), moment(span.last), short(span.length()))
        };
        let mut words = format!(
            " The worst outage: <a href=\"#outage-{}\">{}, ",
            place + 1,
            times(outage.span)
        );
        let peak = outage.peak.span;
        if peak == outage.span {
            let _ = write!(words, "{down} of {all}.");
        } else {
            let (first, last) = (moment(peak.first), moment(peak.last));
            let long = short(peak.length());
            let _ = write!(words, "{down} of {all} at once from {first} to {last}, {long}.");
        }
        if let Some((place, peak)) = self.worst_at_once().filter(|(_, peak)| peak.count > down) {
            let _ = write!(
                words,
                " Most at once: <a href=\"#outage-{}\">{}, {} of {all}.",
                place + 1,
                times(peak.span),
                peak.count
            );
        }
        words
    }

    /// So many subscriptions were down all through the peak of an outage, also those whose gaps are of another.
    fn down(&self, outage: &Outage<'_>) -> usize {
        outages::down_throughout(&self.holes, outage.peak.span)
    }

    fn facts(&mut self) {
        let profile = self.profile;
        let totals = &profile.totals;
        self.html.push_str("<dl class=\"facts\">\n");
        if let Some(span) = profile.span {
            let long = short(span.length());
            self.fact("from", &moment(span.first), "the first entry");
            self.fact("to", &moment(span.last), &format!("the last entry, {long} later"));
            let seconds = span.length().as_secs_f64();
            let per_second = if seconds > 0.0 {
                format!("{} a second", rate(totals.frames as f64 / seconds))
            } else {
                String::new()
            };
            self.fact("frames", &grouped(totals.frames), &per_second);
        } else {
            self.fact("entries", "none", "");
        }
        let events = many(totals.events, "session event");
        self.fact("bytes of frames", &size(totals.bytes), &events);
        let topics: Vec<_> = self.topics().into_iter().map(|(topic, _)| topic).collect();
        self.fact(
            "subscriptions",
            &grouped(profile.subscriptions.len() as u64),
            &many(topics.len() as u64, "topic"),
        );
        let compression = totals.compression.map_or(String::new(), |compression| {
            format!(", {compression:.2} bytes of frames for each")
        });
        let files = many(profile.segments.len() as u64, "file");
        self.fact("stored", &size(totals.stored_bytes), &(files + &compression));
        if let Some(about) = &profile.about {
            let version = shown(&about.version, NAME);
            let started = about.started.parse().map(clock);
            let started = started.unwrap_or_else(|_| shown(&about.started, NAME));
            let by = format!("centralcap {version}");
            let host = shown(&about.host, NAME);
            let on = if host.is_empty() { String::new() } else { format!(" on {host}") };
            self.fact("recorded by", &by, &format!("started {started}{on}"));
        }
        self.html.push_str("</dl>\n");
    }

    fn fact(&mut self, name: &str, value: &str, more: &str) {
        let _ =
            writeln!(self.html, "<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>");
    }

    fn foot(&mut self) {
        self.html.push_str("</main>\n<footer>");
        let options = self.profile.about.iter().flat_map(|about| &about.options);
        let options = options.take(OPTIONS).map(|(name, value)| {
            format!("<code>{}={}</code>", shown(name, NAME), shown(value, NAME))
        });
        let options: Vec<_> = options.collect();
        if !options.is_empty() {
            let _ = write!(self.html, "<p>Recorded with {}.</p>", options.join(" "));
        }
        let _ = write!(
            self.html,
            "<p>Made by centralcap {} from what is in the capture; nothing in here is loaded from elsewhere. \
             So that it opens at once it shows the {OUTAGES} worst outages, the {GAPS} longest gaps, \
             {SUBSCRIPTIONS} subscriptions and about {EVENTS} session events at most, and says where more \
             was left out. Frames over time are counted in {BUCKETS} steps at most.</p></footer>\n\
             </body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        );
    }
}

fn frames(found: &SubscriptionProfile) -> u64 {
    found.payloads.iter().map(|payload| payload.frames).sum()
}
