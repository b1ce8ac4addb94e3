//! One connection, from the first read to the goodbye.

use std::{
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::{sleep, timeout, timeout_at};

use super::{Subscriber, pauses::Pauses};
use crate::{
    entry::{
        Entry, Timestamp, What,
        session_event::{DroppedFrames, Event, TextFrame},
    },
    net::{
        client::Connection,
        ws::{Broken, Incoming},
    },
    record::{
        Clock, Notice, Reading,
        dial::{KeyCare, Standing, Takeover},
        keeper::Receipt,
    },
    session::{Ended, Remedy, Silence},
};

/// How soon it is seen that the clock was set, where nothing comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the server has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A write that takes longer has no reader.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);

/// What came on one connection.
struct Heard {
    /// How many frames.
    frames: u64,
    /// The last ones of them, which were more than the user asked for.
    left_out: u64,
    /// How many text messages.
    texts: u64,
    /// When the last of it came.
    last: Reading,
    /// How long nothing has come.
    silence: Silence,
    /// For the last of it. Nothing is read before it is there.
    receipt: Receipt,
    clock: Arc<dyn Clock>,
}

impl Heard {
    /// What to do about the silence. While the disk holds up reading, there is none that anybody could hear.
    fn remedy(&self) -> Remedy {
        if self.receipt.is_awaited() {
            return Remedy::Wait(LOOK_EVERY);
        }
        self.silence.remedy(self.clock.look().steady)
    }

    /// Returns when all of it is safe. False: it could not be written.
    async fn is_safe(&mut self) -> bool {
        let was_awaited = self.receipt.is_awaited();
        let left_out = self.receipt.safe().await;
        if was_awaited {
            self.silence.not_listened_until(self.clock.look().steady);
        }
        self.left_out += left_out.unwrap_or(0);
        left_out.is_some()
    }

    /// The end of a connection that is found broken now: what was sent since it was last heard may be lost.
    fn broken(&self, reason: String, now: Reading) -> Ended {
        Ended { reason, heard_until: Some(now.time_of(self.last)), ..Ended::default() }
    }
}

/// What follows a connection, when it ended, and how.
type End = (Then, Timestamp, Ended);

/// What follows a connection.
pub(super) enum Then {
    /// The next one, some time.
    Again,
    /// The next one, which stands already.
    Takeover(Box<Standing>),
    /// Nothing: the user stops, or nothing can be written any more.
    Stop,
}

impl Subscriber {
    /// Receives until the connection ends, is ended, or is taken over, and says when that was.
    pub(super) async fn receive(&mut self, mut connection: Connection) -> End {
        let last = self.look_at_clocks();
        let silence = Silence::since(last.steady);
        let (receipt, clock) = (Receipt::default(), Arc::clone(&self.dialer.clock));
        let (frames, left_out, texts) = (0, 0, 0);
        let mut heard = Heard { frames, left_out, texts, last, silence, receipt, clock };
        let mut pauses = Pauses::default();
        let mut stop = self.stop.clone();
        let mut care = self.care();
        let (mut then, at, mut ended) = loop {
            let next_look = match heard.remedy() {
                Remedy::Wait(time) => time.min(LOOK_EVERY),
                Remedy::Ask | Remedy::GiveUp => Duration::ZERO,
            };
            let read = async {
                pauses.over().await;
                if heard.is_safe().await { Some(connection.read().await) } else { None }
            };
            let read = tokio::select! {
                // What has come counts before how long nothing came: we may have been stopped
                // meanwhile. Reading comes behind what is rare, so that it keeps nothing off.
                biased;
                () = stop.asked() => {
                    let (at, ended) = self.goodbye(&mut connection, &mut heard).await;
                    break (Then::Stop, at, ended);
                }
                takeover = care.next() => match takeover {
                    Takeover::Stands(standing) => {
                        // What the server has sent on the old one still comes in; meanwhile the new
                        // one's frames wait, so that each is where it belongs.
                        let (at, ended) = self.goodbye(&mut connection, &mut heard).await;
                        break (Then::Takeover(standing), at, ended);
                    }
                    Takeover::NotConnected(error) => {
                        let (event, wait) = self.session.not_taken_over(error);
                        // If that cannot be written, neither can the next batch, which ends this.
                        self.note(&[event]).await;
                        care.look_in(wait);
                        continue;
                    }
                    Takeover::NoNewKey => {
                        if let Some(expires) = self.key_expires() {
                            let now = self.now();
                            care.look_in(self.session.renew_again_in(now, expires));
                        }
                        continue;
                    }
                },
                read = read => match read {
                    Some(read) => read,
                    None => break self.stopped_writing(),
                },
                () = sleep(next_look) => match self.look(&mut connection, &mut heard).await {
                    Ok(()) => continue,
                    Err(end) => break end,
                },
            };
            let before = heard.frames;
            match self.take(&mut connection, read, &mut heard, WRITE_DEADLINE).await {
                Ok(()) => {
                    pauses.read(Instant::now(), heard.frames - before, connection.is_behind());
                    if pauses.until.is_some()
                        && let Err(error) = connection.leave_alone()
                    {
                        break self.broken(error.to_string(), &heard);
                    }
                }
                Err(end) => break end,
            }
        };
        // That was the end. Bringing the last of it to safety may take its time.
        if !heard.is_safe().await {
            (then, _, ended) = self.stopped_writing();
        }
        ended.frames = heard.frames - heard.left_out;
        // The peer may be long gone; the capture has what it sent.
        let _ = timeout(GOODBYE, connection.shutdown()).await;
        if matches!(then, Then::Again)
            && !self.once
            && let Some(standing) = care.last_chance(GOODBYE).await
        {
            then = Then::Takeover(standing);
        }
        (then, at, ended)
    }

    /// Looks at the clock, and after a connection on which nothing has come for a while. The error is the end of
    /// it.
    async fn look(&mut self, connection: &mut Connection, heard: &mut Heard) -> Result<(), End> {
        self.now();
        if !heard.receipt.is_awaited() {
            // Where nothing can be written any more, `stop` says so.
            self.keep(Vec::new()).await;
        }
        match heard.remedy() {
            Remedy::Wait(_) => Ok(()),
            Remedy::Ask => {
                connection.socket.send_ping(Bytes::new());
                let answered = answer(connection, WRITE_DEADLINE).await;
                answered.map_err(|reason| self.broken(reason, heard))?;
                heard.silence.asked(self.steady());
                Ok(())
            }
            Remedy::GiveUp => {
                let silent = heard.silence.length(self.steady());
                let reason = format!("nothing was heard for {} s", silent.as_secs());
                Err(self.broken(reason, heard))
            }
        }
    }

    /// Looks after the key of the connection that was just made.
    fn care(&mut self) -> KeyCare {
        let mut care = KeyCare::new(&self.dialer, &self.used);
        if let Some(expires) = self.key_expires() {
            let now = self.now();
            care.look_in(self.session.renew_in(now, expires));
        }
        care
    }

    fn key_expires(&self) -> Option<Timestamp> {
        self.protocol.key_facts(&self.used).expires
    }

    /// The end of a connection that is found broken now.
    fn broken(&mut self, reason: String, heard: &Heard) -> End {
        let now = self.look_at_clocks();
        (Then::Again, now.wall, heard.broken(reason, now))
    }

    /// The time by a clock that nobody sets.
    fn steady(&self) -> Duration {
        self.dialer.clock.look().steady
    }

    /// Keeps all that a read has brought, and answers, for which there is so much time. The error is the end of the
    /// connection, and when that was. Dropping the future may lose what was read.
    async fn take(
        &mut self,
        connection: &mut Connection,
        read: std::io::Result<bool>,
        heard: &mut Heard,
        time: Duration,
    ) -> Result<(), End> {
        let now = self.look_at_clocks();
        let received = now.wall;
        if matches!(read, Ok(true)) {
            (heard.last, heard.silence) = (now, Silence::since(now.steady));
        }
        let (batch, end) = self.batch(connection, received, heard);
        let batch = self.with_first(batch);
        let Some(receipt) = self.keeper.hand_in(batch).await else {
            return Err(self.stopped_writing());
        };
        heard.receipt = receipt;
        if end.is_none() && matches!(read, Ok(true)) && connection.socket.output().is_empty() {
            // Nobody waits for an answer: it is soon enough to be sure of it before the next read.
            return Ok(());
        }
        if !heard.is_safe().await {
            return Err(self.stopped_writing());
        }
        let answered = answer(connection, time).await;
        if let Some(ended) = end {
            return Err((Then::Again, received, ended));
        }
        let ended = match read {
            Ok(true) => match answered {
                Ok(()) => return Ok(()),
                Err(reason) => return Err(self.broken(reason, heard)),
            },
            Ok(false) => {
                let reason = "the stream ended without a close frame".to_owned();
                Ended { reason, ..Ended::default() }
            }
            // TLS without its own goodbye; the end came behind all that was sent all the same.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let reason = "the stream ended without a close frame and without TLS close_notify";
                Ended { reason: reason.to_owned(), ..Ended::default() }
            }
            Err(error) => heard.broken(error.to_string(), now),
        };
        Err((Then::Again, received, ended))
    }

    /// The messages that are there, as entries; and how the connection ended, if it did.
    fn batch(
        &mut self,
        connection: &mut Connection,
        received: Timestamp,
        heard: &mut Heard,
    ) -> (Vec<Entry>, Option<Ended>) {
        let mut batch = Vec::new();
        loop {
            let what = match connection.socket.next() {
                Ok(None) => return (batch, None),
                Ok(Some(Incoming::Binary(data))) => {
                    heard.frames += 1;
                    let sequence = u32::try_from(heard.frames).unwrap_or(u32::MAX);
                    What::Frame(self.types.frame(&self.subscription.topic, sequence, data))
                }
                Ok(Some(Incoming::Text(data))) => {
                    let data = self.used.hide_in(data);
                    heard.texts += 1;
                    // Each is in the ledger, and thousands are worth no thousand words.
                    if heard.texts.is_power_of_two() {
                        let (subscription, texts) = (&*self.subscription, heard.texts);
                        let size = data.len();
                        (self.notify)(Notice::TextFrames { subscription, texts, size });
                    }
                    What::Event(self.session.event(Event::TextFrame(TextFrame { data })))
                }
                Ok(Some(Incoming::Close { code, reason })) => {
                    let reason = self.used.hide_in(Bytes::from(reason));
                    let reason = String::from_utf8_lossy(&reason).into_owned();
                    let ended = Ended { code, reason, clean: true, ..Ended::default() };
                    return (batch, Some(ended));
                }
                Err(Broken::TooLarge { size, limit }) => {
                    heard.frames += 1;
                    let reason = format!("a message of {size} bytes is over the limit of {limit}");
                    let bytes = size as u64;
                    let dropped = DroppedFrames { count: 1, bytes, reason: reason.clone() };
                    let event = self.session.event(Event::DroppedFrames(dropped));
                    (self.notify)(Notice::Event {
                        subscription: &self.subscription,
                        event: &event,
                    });
                    batch.push(self.entry(received, What::Event(event)));
                    connection.socket.send_broken();
                    return (batch, Some(Ended { reason, ..Ended::default() }));
                }
                Err(Broken::NotUtf8(reason) | Broken::Protocol(reason)) => {
                    connection.socket.send_broken();
                    return (batch, Some(Ended { reason, ..Ended::default() }));
                }
            };
            batch.push(self.entry(received, what));
        }
    }

    /// Says goodbye and keeps what still comes until the server has said it too, and says when that was.
    async fn goodbye(
        &mut self,
        connection: &mut Connection,
        heard: &mut Heard,
    ) -> (Timestamp, Ended) {
        if !heard.is_safe().await {
            let (_, at, ended) = self.stopped_writing();
            return (at, ended);
        }
        // Not all servers answer a Close frame. Whoever lives answers the ping.
        connection.socket.send_ping(Bytes::new());
        connection.socket.send_close(NORMAL, "");
        let asked = self.steady();
        let deadline = tokio::time::Instant::now() + GOODBYE;
        if let Ok(Err(error)) = timeout_at(deadline, connection.write()).await {
            return (self.now(), Ended { reason: error.to_string(), ..Ended::default() });
        }
        loop {
            if !heard.is_safe().await {
                let (_, at, ended) = self.stopped_writing();
                return (at, ended);
            }
            // What is there by then is read, however long the one before took to be kept.
            let is_last = tokio::time::Instant::now() >= deadline;
            // Only the server is hurried: what was read is kept, whatever time that takes.
            let Ok(read) = timeout_at(deadline, connection.read()).await else { break };
            if let Err((_, at, ended)) = self.take(connection, read, heard, GOODBYE).await {
                // Also one that breaks now was there to hear us.
                return (at, Ended { heard_until: None, ..ended });
            }
            if is_last {
                break;
            }
        }
        let now = self.look_at_clocks();
        let ended = heard.broken(format!("no goodbye within {} s", GOODBYE.as_secs()), now);
        let heard_until = ended.heard_until.filter(|_| heard.last.steady < asked);
        (now.wall, Ended { heard_until, ..ended })
    }

    fn stopped_writing(&mut self) -> End {
        let reason = "nothing can be written any more".to_owned();
        (Then::Stop, self.now(), Ended { reason, ..Ended::default() })
    }
}

/// A close code of RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;

/// Lets out what the socket wants to say, within that time. The error is why that cannot be.
async fn answer(connection: &mut Connection, time: Duration) -> Result<(), String> {
    match timeout(time, connection.write()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the server does not read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::{SinkExt, StreamExt};
    use tokio::{
        net::TcpListener,
        sync::{mpsc, watch},
        task::JoinHandle,
    };
    use tokio_tungstenite::{WebSocketStream, tungstenite};

    use super::{super::Stop, *};
    use crate::{
        entry::{
            SessionEvent, Subscription,
            session_event::{Gap, gap::Cause},
        },
        net::{
            client::{Accepted, Connector, Endpoint},
            trust::{Trust, client_config},
            ws::MESSAGE_LIMIT,
        },
        protocol::{Key, PROTOCOLS},
        record::{
            Board, KeySource, Notify,
            clock::Watch,
            dial::Dialer,
            earlier::Earlier,
            keeper::{ByHand, Keeper},
            keys::Keys,
            turnstile::Turnstile,
        },
        schema::FrameTypes,
        session::{DEAD_AFTER, Session},
    };

    /// A clock that goes on when it is told to.
    struct MadeUp(Mutex<Reading>);

    impl MadeUp {
        fn pass(&self, time: Duration) {
            let mut now = self.0.lock().unwrap();
            *now = Reading { wall: now.wall.after(time), steady: now.steady + time };
        }
    }

    impl Clock for MadeUp {
        fn look(&self) -> Reading {
            *self.0.lock().unwrap()
        }
    }

    type Server = WebSocketStream<tokio::net::TcpStream>;

    /// A subscriber that receives on its own, with the server before it and the keeper behind it in our hands.
    struct Between {
        server: Server,
        kept: ByHand,
        keeper: Keeper,
        subscription: Arc<Subscription>,
        /// Rings at each event.
        events: mpsc::UnboundedReceiver<()>,
        clock: Arc<MadeUp>,
        stop: watch::Sender<bool>,
        _stop_own: watch::Sender<bool>,
        receiving: JoinHandle<End>,
    }

    impl Between {
        /// The queue before the keeper has so much room.
        async fn start(room: usize) -> Self {
            Self::start_after(room, None).await
        }

        /// There were recordings before.
        async fn start_after(room: usize, earlier: Option<Earlier>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (protocol, port) = (PROTOCOLS[0], listener.local_addr().unwrap().port());
            let endpoint =
                Endpoint { secure: false, host: "127.0.0.1".to_owned(), port, path: None };
            let host = endpoint.authority();
            let subscription = Arc::new(Subscription {
                name: "campus".to_owned(),
                protocol: protocol.name().to_owned(),
                topic: "audit".to_owned(),
                host,
            });
            let (ring, events) = mpsc::unbounded_channel();
            let notify: Notify = Arc::new(move |notice: Notice<'_>| {
                if let Notice::Event { .. } | Notice::TextFrames { .. } = notice {
                    let _ = ring.send(());
                }
            });
            let wall = Timestamp::from_nanos(1_795_000_000_000_000_000);
            let clock = Arc::new(MadeUp(Mutex::new(Reading { wall, steady: Duration::ZERO })));
            let keys = Arc::new(Keys::new(protocol, KeySource::Memory));
            let used = Key::new("synthetic-key").unwrap();
            let tls = client_config(Trust::Anybody).unwrap();
            let dialer = Arc::new(Dialer {
                subscription: Arc::clone(&subscription),
                username: None,
                connector: Connector::new(endpoint, protocol, tls, MESSAGE_LIMIT),
                turnstile: Arc::new(Turnstile::default()),
                slot: keys.add(used.clone()),
                keys,
                notify: Arc::clone(&notify),
                clock: Arc::<MadeUp>::clone(&clock),
            });
            let accept = async {
                let (stream, _) = listener.accept().await.unwrap();
                tokio_tungstenite::accept_async(stream).await.unwrap()
            };
            let (accepted, server) = tokio::join!(dialer.connect(&used), accept);
            let Ok(Accepted { connection, .. }) = accepted else { panic!("not connected") };
            let (keeper, kept) = Keeper::by_hand(room);
            let (stop, all) = watch::channel(false);
            let (stop_own, own) = watch::channel(false);
            let board = Arc::new(Board::new(".".into(), Arc::default()));
            let mut subscriber = Subscriber {
                index: board.add("campus"),
                subscription: Arc::clone(&subscription),
                protocol,
                session: Session::new(protocol, 1),
                types: FrameTypes::of(protocol),
                dialer,
                used,
                keeper: keeper.clone(),
                board,
                notify,
                stop: Stop { all, own },
                once: true,
                watch: Watch::new(Arc::<MadeUp>::clone(&clock)),
                first: Vec::new(),
                earlier,
            };
            subscriber.session.accepted(wall, Duration::ZERO, String::new());
            let receiving = tokio::spawn(async move { subscriber.receive(connection).await });
            Self {
                server,
                kept,
                keeper,
                subscription,
                events,
                clock,
                stop,
                _stop_own: stop_own,
                receiving,
            }
        }
    }

    #[tokio::test]
    async fn what_was_read_is_kept_however_long_that_takes() {
        let mut between = Between::start(1).await;
        let what = What::Event(SessionEvent::default());
        let subscription = Arc::clone(&between.subscription);
        let other = Entry { subscription, received: Timestamp::default(), what };
        between.keeper.hand_in(vec![other]).await.unwrap();
        // There is no more room in the queue when the server's last words come.
        between.stop.send_replace(true);
        let asked = between.server.next().await.unwrap().unwrap();
        assert!(asked.is_ping(), "{asked:?}");
        between.server.send(tungstenite::Message::text("last words")).await.unwrap();
        between.events.recv().await.unwrap();

        tokio::time::pause();
        let ended = timeout(10 * GOODBYE, &mut between.receiving).await;
        assert!(ended.is_err(), "it ended, and the last words are nowhere");
        assert_eq!(between.kept.next().await.0.len(), 1);
        let (entries, safe) = between.kept.next().await;
        let text = |entry: &Entry| {
            matches!(&entry.what, What::Event(event)
            if matches!(&event.event, Some(Event::TextFrame(text)) if text.data == "last words"))
        };
        assert!(text(&entries[0]), "{entries:?}");
        safe.send(0).unwrap();
        let (then, _, ended) = between.receiving.await.unwrap();
        assert!(matches!(then, Then::Stop));
        assert_eq!((&*ended.reason, ended.heard_until), ("no goodbye within 2 s", None));
    }

    #[tokio::test]
    async fn a_slow_disk_makes_no_connection_silent() {
        let mut between = Between::start(8).await;
        let frame = |data| tungstenite::Message::binary(vec![data; 8]);
        between.server.send(frame(1)).await.unwrap();
        let (_, safe) = between.kept.next().await;
        between.server.send(frame(2)).await.unwrap();

        tokio::time::pause();
        for _ in 0..4 {
            between.clock.pass(DEAD_AFTER);
            sleep(2 * LOOK_EVERY).await;
        }
        safe.send(0).unwrap();
        tokio::select! {
            (entries, _) = between.kept.next() => {
                assert_eq!(entries[0].frame().unwrap().data, [2; 8][..]);
            }
            ended = &mut between.receiving => panic!("it ended: {:?}", ended.unwrap().2),
        }
    }

    #[tokio::test]
    async fn what_breaks_was_heard_when_its_last_frame_was_received() {
        let mut between = Between::start(8).await;
        between.server.send(tungstenite::Message::binary(vec![1; 8])).await.unwrap();
        let (entries, safe) = between.kept.next().await;
        safe.send(0).unwrap();

        // No two clocks are looked at in one moment: we may have been stopped between them.
        let Reading { wall, steady } = between.clock.look();
        let second = Duration::from_secs(1);
        let late = Reading { wall: wall.after(second), steady: steady + second + second / 2 };
        *between.clock.0.lock().unwrap() = late;
        let server = between.server.into_inner();
        server.set_zero_linger().unwrap();
        drop(server);

        let (_, at, ended) = between.receiving.await.unwrap();
        assert_eq!((at, ended.heard_until), (late.wall, Some(entries[0].received)));
    }

    #[tokio::test]
    async fn a_gap_before_the_connection_is_told_when_it_is_known() {
        let (known, earlier) = Earlier::by_hand();
        let mut between = Between::start_after(8, Some(earlier)).await;
        let began = between.clock.look().wall;
        let frame = |data| tungstenite::Message::binary(vec![data; 8]);
        between.server.send(frame(1)).await.unwrap();
        let (entries, safe) = between.kept.next().await;
        assert!(entries.len() == 1 && entries[0].frame().is_some(), "{entries:?}");
        safe.send(0).unwrap();

        let until = began.before(Duration::from_secs(60));
        let covered = [("campus".to_owned(), (until, Cause::Killed))];
        known.send_replace(Some(Arc::new(covered.into())));
        between.clock.pass(Duration::from_secs(1));
        between.server.send(frame(2)).await.unwrap();
        let (entries, _) = between.kept.next().await;
        let (from_ns, to_ns) = (until.as_nanos(), began.as_nanos());
        let gap = Gap { from_ns, to_ns, cause: Cause::Killed.into() };
        let event = SessionEvent { connection: 1, event: Some(Event::Gap(gap)) };
        assert_eq!(entries[0].what, What::Event(event));
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_when_it_was_found() {
        let mut between = Between::start(8).await;
        let came = between.clock.look().wall;
        let close = tungstenite::Message::Close(None);
        between.server.feed(tungstenite::Message::binary(vec![1; 8])).await.unwrap();
        between.server.send(close).await.unwrap();
        let (_, safe) = between.kept.next().await;
        // The disk takes its time.
        between.clock.pass(Duration::from_secs(90));
        safe.send(0).unwrap();
        let (_, at, ended) = between.receiving.await.unwrap();
        assert_eq!((at, ended.clean, ended.frames), (came, true, 1));
    }
}
