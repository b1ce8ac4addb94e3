//! What keeps all clocks from starting until enough clients are ready.

use tokio::{sync::watch, time::Instant};

/// Keeps all clocks from starting until enough clients are ready.
pub(super) struct Hold {
    wanted: usize,
    house: watch::Sender<House>,
}

#[derive(Clone, Copy)]
struct House {
    /// Clients that have ever been.
    came: usize,
    /// Clients that are here,
    here: usize,
    /// and of these, those that could start at once.
    ready: usize,
    /// When the hold ended.
    lifted: Option<Instant>,
}

impl Hold {
    pub(super) fn until(wanted: usize) -> Self {
        // There is nothing to hold for one client: its clock starts when it is ready.
        let lifted = (wanted <= 1).then(Instant::now);
        Self { wanted, house: watch::Sender::new(House { came: 0, here: 0, ready: 0, lifted }) }
    }

    pub(super) fn take_seat(&self) -> Seat<'_> {
        self.house.send_modify(|house| {
            house.came += 1;
            house.here += 1;
        });
        Seat { hold: self, ready: false }
    }

    /// All that came, and as many as were waited for, have left.
    pub(super) fn is_over(&self) -> bool {
        let house = self.house.borrow();
        house.here == 0 && house.came > 0 && house.lifted.is_some()
    }
}

/// A client's place. Dropping it frees it.
pub(super) struct Seat<'a> {
    hold: &'a Hold,
    ready: bool,
}

impl Seat<'_> {
    /// Waits until the hold has ended; says when it did.
    pub(super) async fn lifted(&mut self) -> Instant {
        let Hold { wanted, house } = self.hold;
        house.send_modify(|house| {
            house.ready += usize::from(!self.ready);
            self.ready = true;
            if house.lifted.is_none() && house.ready >= *wanted {
                house.lifted = Some(Instant::now());
            }
        });
        let mut house = house.subscribe();
        // Its other end is ours as well: it does not go away.
        let house = house.wait_for(|house| house.lifted.is_some()).await;
        house.ok().and_then(|house| house.lifted).unwrap_or_else(Instant::now)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.hold.house.send_modify(|house| {
            house.here -= 1;
            house.ready -= usize::from(self.ready);
        });
    }
}
