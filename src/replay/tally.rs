//! What was written to a client, and when.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    lateness::Delays,
    report::{Moments, Sent},
};
use crate::{entry::Subscription, fault::Applied};

/// Counts what is written to a client. Grows with its subscriptions, and with what is queued.
pub(super) struct Tally {
    /// Whether frames are due at times of their own.
    timed: bool,
    connected: Instant,
    subscriptions: Vec<Counts>,
    /// The one that was looked for last.
    latest: Option<(Arc<Subscription>, usize)>,
    /// What is on its way.
    queued: Vec<Queued>,
    /// How often each fault was applied.
    faults: BTreeMap<&'static str, u64>,
}

struct Counts {
    sent: Sent,
    delays: Delays,
}

struct Queued {
    /// Index of the subscription.
    of: usize,
    bytes: u64,
    due: Instant,
    state: bool,
}

impl Tally {
    pub(super) fn new(timed: bool) -> Self {
        Self {
            timed,
            connected: Instant::now(),
            subscriptions: Vec::new(),
            latest: None,
            queued: Vec::new(),
            faults: BTreeMap::new(),
        }
    }

    pub(super) const fn is_timed(&self) -> bool {
        self.timed
    }

    /// A fault was applied, unless it could not be carried out.
    pub(super) fn spoilt(&mut self, applied: &Applied) {
        if !applied.is_left_out() {
            *self.faults.entry(applied.fault).or_default() += 1;
        }
    }

    /// How often each fault was applied.
    pub(super) fn faults(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.faults)
    }

    /// A frame was queued.
    pub(super) fn queued(
        &mut self,
        of: &Arc<Subscription>,
        bytes: usize,
        due: Instant,
        state: bool,
    ) {
        let of = self.index(of);
        self.queued.push(Queued { of, bytes: bytes as u64, due, state });
    }

    /// Frames that are due from here on are due at times of their own, or not.
    pub(super) const fn set_timed(&mut self, timed: bool) {
        self.timed = timed;
    }

    /// Whose frames are queued, in their order.
    pub(super) fn on_the_way(&self) -> impl Iterator<Item = &str> {
        self.queued.iter().map(|queued| self.subscriptions[queued.of].sent.name.as_str())
    }

    /// All that was queued has been written.
    pub(super) fn written(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let now = Instant::now();
        let after = |moment: Instant| moment.saturating_duration_since(self.connected);
        for Queued { of, bytes, due, state } in self.queued.drain(..) {
            let Counts { sent, delays } = &mut self.subscriptions[of];
            sent.frames += 1;
            sent.bytes += bytes;
            if state {
                sent.state += 1;
                continue;
            }
            // Whoever is as fast as it can be is never late.
            let due = if self.timed { due } else { now };
            let moments = Moments { due: after(due), left: after(now) };
            sent.first.get_or_insert(moments);
            sent.last = Some(moments);
            if self.timed {
                delays.add(now.saturating_duration_since(due));
            }
        }
    }

    fn index(&mut self, of: &Arc<Subscription>) -> usize {
        if let Some((latest, index)) = &self.latest
            && Arc::ptr_eq(latest, of)
        {
            return *index;
        }
        let known = self.subscriptions.iter().position(|counts| counts.sent.name == of.name);
        let index = known.unwrap_or_else(|| {
            let sent = Sent::nothing(&of.name);
            self.subscriptions.push(Counts { sent, delays: Delays::default() });
            self.subscriptions.len() - 1
        });
        self.latest = Some((Arc::clone(of), index));
        index
    }

    /// How long the client has been there, what it got of each of these subscriptions, and how late.
    pub(super) fn finish<'s>(
        mut self,
        names: impl Iterator<Item = &'s String>,
    ) -> (Duration, Vec<Sent>, Delays) {
        let mut all = Delays::default();
        let sent = names.map(|name| {
            let at = self.subscriptions.iter().position(|counts| counts.sent.name == *name);
            at.map_or_else(
                || Sent::nothing(name),
                |at| {
                    let Counts { sent, delays } = self.subscriptions.swap_remove(at);
                    all.add_all(&delays);
                    Sent { lateness: delays.lateness(), ..sent }
                },
            )
        });
        let sent = sent.collect();
        (self.connected.elapsed(), sent, all)
    }
}
