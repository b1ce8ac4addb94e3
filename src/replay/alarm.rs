//! Wakes whoever waits for a time, at that time.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use tokio::sync::mpsc;

use crate::threads::locked;

/// Tokio's timers count in milliseconds and ring one or two of them late, which for a frame is much. This one is late
/// by what the system needs to wake a thread.
pub(super) struct Alarm(Arc<Clock>);

#[derive(Default)]
struct Clock {
    awaited: Mutex<Awaited>,
    /// Something is awaited earlier than all before, or nothing will be any more.
    changed: Condvar,
}

#[derive(Default)]
struct Awaited {
    /// By their times, each with a number of its own.
    sleepers: BTreeMap<Key, Waker>,
    next: u64,
    over: bool,
}

type Key = (Instant, u64);

impl Alarm {
    /// Starts the thread that it needs, and the task that wakes the others.
    pub(super) fn start() -> io::Result<Self> {
        let clock = Arc::new(Clock::default());
        let ringing = Arc::clone(&clock);
        let (to, mut from) = mpsc::unbounded_channel::<Vec<Waker>>();
        thread::Builder::new().name("replay-alarm".to_owned()).spawn(move || ringing.ring(&to))?;
        // Whom a foreign thread wakes, Tokio tells its workers of one by one. Many are often due at once.
        tokio::spawn(async move {
            while let Some(due) = from.recv().await {
                due.into_iter().for_each(Waker::wake);
            }
        });
        Ok(Self(clock))
    }

    /// Waits for a time.
    pub(super) fn at(&self, time: Instant) -> impl Future<Output = ()> + use<'_> {
        Sleep { clock: &self.0, time, key: None }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.awaited().over = true;
        self.0.changed.notify_one();
    }
}

impl Clock {
    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        locked(&self.awaited)
    }

    /// The thread: passes on who is due, until it is over.
    fn ring(&self, to: &mpsc::UnboundedSender<Vec<Waker>>) {
        let mut awaited = self.awaited();
        while !awaited.over {
            let now = Instant::now();
            let mut due = Vec::new();
            while let Some(first) = awaited.sleepers.first_entry()
                && first.key().0 <= now
            {
                due.push(first.remove());
            }
            if !due.is_empty() {
                drop(awaited);
                if to.send(due).is_err() {
                    // The runtime is gone, and everybody with it.
                    return;
                }
                awaited = self.awaited();
                continue;
            }
            awaited = match awaited.sleepers.first_key_value() {
                Some((&(time, _), _)) => {
                    let waited = self.changed.wait_timeout(awaited, time - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(awaited).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

struct Sleep<'a> {
    clock: &'a Clock,
    time: Instant,
    /// Under which it is awaited.
    key: Option<Key>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { clock, time, key } = &mut *self;
        if *time <= Instant::now() {
            return Poll::Ready(());
        }
        let mut awaited = clock.awaited();
        let key = *key.get_or_insert_with(|| {
            awaited.next += 1;
            (*time, awaited.next)
        });
        awaited.sleepers.insert(key, context.waker().clone());
        if awaited.sleepers.first_key_value().is_some_and(|(&first, _)| first == key) {
            clock.changed.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.awaited().sleepers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_at_the_time_and_in_any_order() {
        let alarm = Alarm::start().unwrap();
        let started = Instant::now();
        let after = |millis| {
            let (alarm, time) = (&alarm, started + Duration::from_millis(millis));
            async move {
                alarm.at(time).await;
                assert!(time <= Instant::now(), "too early");
                millis
            }
        };
        // Whoever is awaited first asks last, and one is past from the beginning.
        let (c, b, a, past) = tokio::join!(after(60), after(40), after(20), after(0));
        assert_eq!([past, a, b, c], [0, 20, 40, 60]);
        assert!(alarm.0.awaited().sleepers.is_empty());
    }

    #[tokio::test]
    async fn who_waits_no_longer_is_forgotten() {
        let alarm = Alarm::start().unwrap();
        let late = alarm.at(Instant::now() + Duration::from_secs(3600));
        assert!(tokio::time::timeout(Duration::from_millis(1), late).await.is_err());
        assert!(alarm.0.awaited().sleepers.is_empty());
    }

    #[tokio::test]
    async fn its_thread_ends_with_it() {
        let alarm = Alarm::start().unwrap();
        let clock = Arc::downgrade(&alarm.0);
        drop(alarm);
        let dropped = Instant::now();
        while clock.strong_count() > 0 {
            assert!(dropped.elapsed() < Duration::from_secs(60), "it goes on");
            thread::yield_now();
        }
    }
}
