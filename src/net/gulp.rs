//! A TCP stream that is read in large pieces, for readers that ask for little.
//!
//! rustls takes 4 KiB at a time, and each of them would be a call to the kernel. [`Gulps`] takes as much as
//! there is, up to a bound, and hands it on bit by bit. What it holds meanwhile is neither in the kernel
//! nor kept yet, so whoever has a promise to keep reads one gulp at a time: after
//! [`allow_one`](Gulps::allow_one) the socket is read once and then not before that is called again.
//!
//! Only who holds something needs room for it: empty rooms are shared by all streams of a thread. Where
//! there are many streams, each takes less at once: when a slow disk holds them all up, all hold something.
//!
//! A reader that will not look before some time has passed can [`leave_alone`](Gulps::leave_alone) the
//! socket: it is not woken by each segment that comes meanwhile.

use std::{
    cell::Cell,
    io::{self, Read},
    mem, net,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most that is read at once.
const SIZE: usize = 256 * 1024;

/// What all streams together may hold, as long as each may have [`LEAST`].
const TOGETHER: usize = 4 * 1024 * 1024;

/// About what TLS can hand on at once.
const LEAST: usize = 16 * 1024;

/// How many streams there are.
static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// How much is read at once where there are so many streams.
fn share(streams: usize) -> usize {
    (TOGETHER / streams.max(1)).clamp(LEAST, SIZE)
}

thread_local! {
    /// A room that nobody needs right now.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// How often the socket may still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    Always,
    Once,
    Never,
}

/// A socket, and whether the runtime watches it.
#[derive(Debug)]
enum Line {
    Watched(TcpStream),
    /// Nothing that comes wakes anybody.
    Alone(net::TcpStream),
    /// The runtime could not take it or give it back.
    Cut,
}

impl Line {
    /// Reads what there is. Only where that is nothing does somebody have to watch.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Self::Alone(stream) = self {
            match stream.read(target.initialize_unfilled()) {
                Ok(count) => {
                    target.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The next look will do better.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(self.watched()?).poll_read(context, target)
    }

    fn watched(&mut self) -> io::Result<&mut TcpStream> {
        *self = match mem::replace(self, Self::Cut) {
            Self::Alone(stream) => Self::Watched(TcpStream::from_std(stream)?),
            other => other,
        };
        match self {
            Self::Watched(stream) => Ok(stream),
            Self::Alone(_) | Self::Cut => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn leave_alone(&mut self) -> io::Result<()> {
        *self = match mem::replace(self, Self::Cut) {
            Self::Watched(stream) => Self::Alone(stream.into_std()?),
            other => other,
        };
        Ok(())
    }
}

/// A TCP stream that is read in large pieces.
#[derive(Debug)]
pub(super) struct Gulps {
    line: Line,
    /// What was read, of which `at..end` was not handed on. There is some if there is a room.
    room: Option<Box<[u8]>>,
    at: usize,
    end: usize,
    /// The last read has filled the room.
    full: bool,
    allowed: Allowed,
}

impl Gulps {
    pub(super) fn new(stream: TcpStream) -> Self {
        STREAMS.fetch_add(1, Ordering::Relaxed);
        let line = Line::Watched(stream);
        Self { line, room: None, at: 0, end: 0, full: false, allowed: Allowed::Always }
    }

    /// The last read has brought as much as one can: there may be more.
    pub(super) const fn was_full(&self) -> bool {
        self.full
    }

    /// How much is held.
    pub(super) const fn held(&self) -> usize {
        self.end - self.at
    }

    /// From now on the socket is read once, and then not before this is called again. False: it may be
    /// read already.
    pub(super) fn allow_one(&mut self) -> bool {
        let anew = self.allowed != Allowed::Once;
        self.allowed = Allowed::Once;
        anew
    }

    /// What comes before the next read or write is tried wakes nobody.
    pub(super) fn leave_alone(&mut self) -> io::Result<()> {
        self.line.leave_alone()
    }
}

impl Drop for Gulps {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncBufRead for Gulps {
    /// Is also pending, and wakes nobody, where the socket may not be read.
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.room.is_none() {
            if this.allowed == Allowed::Never {
                return Poll::Pending;
            }
            let spare = SPARE.take().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
            let size = share(STREAMS.load(Ordering::Relaxed));
            let mut read = ReadBuf::new(&mut this.room.insert(spare)[..size]);
            let polled = this.line.poll_read(context, &mut read);
            (this.at, this.end) = (0, read.filled().len());
            this.full = this.end == size;
            if this.end == 0 {
                SPARE.set(this.room.take());
            }
            ready!(polled)?;
            if this.allowed == Allowed::Once {
                this.allowed = Allowed::Never;
            }
        }
        let filled = this.room.as_deref().unwrap_or_default();
        Poll::Ready(Ok(&filled[this.at..this.end]))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        let this = self.get_mut();
        this.at += count;
        if this.at >= this.end
            && let Some(room) = this.room.take()
        {
            (this.at, this.end) = (0, 0);
            SPARE.set(Some(room));
        }
    }
}

impl AsyncRead for Gulps {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = ready!(self.as_mut().poll_fill_buf(context))?;
        let count = filled.len().min(target.remaining());
        target.put_slice(&filled[..count]);
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gulps {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.line.watched()?).poll_write(context, data)
    }

    /// TCP keeps nothing back that could be flushed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.line.watched()?).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Gulps, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Gulps::new(stream), listener.accept().await.unwrap().0)
    }

    #[test]
    fn the_more_streams_the_less_each_takes() {
        for (streams, expected) in
            [(0, SIZE), (16, SIZE), (32, SIZE / 2), (256, LEAST), (1000, LEAST)]
        {
            assert_eq!(share(streams), expected, "{streams} streams");
        }
    }

    #[tokio::test]
    async fn who_is_left_alone_is_read_and_written_all_the_same() {
        let (mut gulps, mut peer) = pair().await;
        let mut found = [0; 5];
        for answer in [b"once.", b"again", b"ever."] {
            gulps.leave_alone().unwrap();
            gulps.leave_alone().unwrap();
            // Here already,
            peer.write_all(b"early").await.unwrap();
            gulps.read_exact(&mut found).await.unwrap();
            assert_eq!(&found, b"early");
            // not yet there,
            gulps.leave_alone().unwrap();
            let later = async {
                tokio::task::yield_now().await;
                peer.write_all(b"later").await.unwrap();
            };
            let (read, ()) = tokio::join!(gulps.read_exact(&mut found), later);
            read.unwrap();
            assert_eq!(&found, b"later");
            // and the other way round.
            gulps.leave_alone().unwrap();
            gulps.write_all(answer).await.unwrap();
            gulps.flush().await.unwrap();
            peer.read_exact(&mut found).await.unwrap();
            assert_eq!(&found, answer);
        }
        gulps.leave_alone().unwrap();
        drop(peer);
        assert_eq!(gulps.read(&mut found).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn all_arrives_in_whatever_pieces_it_is_asked_for() {
        let (mut gulps, mut peer) = pair().await;
        let sent: Vec<u8> = (0..3 * SIZE).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move { peer.write_all(&sent).await.unwrap() });
        let mut found = Vec::new();
        let mut piece = [0; 1000];
        loop {
            match gulps.read(&mut piece).await.unwrap() {
                0 => break,
                count => found.extend_from_slice(&piece[..count]),
            }
        }
        sending.await.unwrap();
        assert!(found == expected, "{} bytes of {}", found.len(), expected.len());
        assert_eq!(gulps.room, None);
    }

    #[tokio::test]
    async fn the_socket_is_read_no_more_often_than_allowed() {
        let (mut gulps, mut peer) = pair().await;
        peer.write_all(b"one").await.unwrap();
        assert!(gulps.allow_one());
        assert!(!gulps.allow_one());
        let (mut first, mut second) = ([0; 2], [0; 9]);
        gulps.read_exact(&mut first).await.unwrap();
        peer.write_all(b"two").await.unwrap();
        gulps.line.watched().unwrap().readable().await.unwrap();
        // What is held may be had; what is in the kernel stays there.
        assert_eq!(gulps.read(&mut second).await.unwrap(), 1);
        poll_fn(|context| {
            assert!(Pin::new(&mut gulps).poll_fill_buf(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(gulps.allow_one());
        assert_eq!(gulps.read(&mut second).await.unwrap(), 3);
        assert_eq!((&first, &second[..3]), (b"on", &b"two"[..]));
    }
}
