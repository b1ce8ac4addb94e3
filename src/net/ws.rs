//! RFC 6455 over bytes in memory.
//!
//! [`Socket`] is handed what was read and says what to write; it never touches a socket itself. That
//! is what lets a recorder bring every message it has received to safety before it reads again, and
//! before it answers: a pong that leaves proves that all before the ping was kept.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
};

use bytes::{Buf, Bytes, BytesMut};
use tungstenite::{
    Error as Fault,
    error::CapacityError,
    protocol::{
        CloseFrame, Message, Role, WebSocketConfig, WebSocketContext,
        frame::{Utf8Bytes, coding::CloseCode},
    },
};

/// The limit on a message's size unless the user sets another one.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

/// How much the WebSocket code takes out of what was received, again and again.
const COPIED_AT_ONCE: usize = 8 * 1024;

/// A burst must not keep its room for ever: so many messages may.
const ROOM_KEPT: usize = 64;

/// A WebSocket without a socket.
#[derive(Debug)]
pub struct Socket {
    context: WebSocketContext,
    /// What was received, as far as it is whole.
    arrived: VecDeque<Incoming>,
    /// Why nothing follows that.
    broken: Option<Broken>,
    /// What is to be written.
    outbound: BytesMut,
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A binary message: a frame of the feed.
    Binary(Bytes),
    /// A text message.
    Text(Bytes),
    /// The peer wants to close, or answers our wish to. The answer is in the output already.
    Close {
        /// The peer's code, if it sent one.
        code: Option<u16>,
        /// The peer's reason.
        reason: String,
    },
}

/// Why the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A message is larger than the limit.
    TooLarge {
        /// Its size, as far as it is known.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer breaks the protocol.
    Protocol(String),
}

impl Socket {
    /// The client's end; `read_ahead` came behind the answer to the upgrade.
    pub fn client(read_ahead: &[u8], limit: usize) -> Self {
        Self::new(Role::Client, read_ahead, limit)
    }

    /// The server's end.
    pub fn server(read_ahead: &[u8], limit: usize) -> Self {
        Self::new(Role::Server, read_ahead, limit)
    }

    fn new(role: Role, read_ahead: &[u8], limit: usize) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit))
            // Nothing is to wait in here, and what is only copied from memory needs no room for much at
            // once. There may be a thousand of these.
            .read_buffer_size(COPIED_AT_ONCE)
            .write_buffer_size(0);
        let mut socket = Self {
            context: WebSocketContext::new(role, Some(config)),
            arrived: VecDeque::new(),
            broken: None,
            outbound: BytesMut::new(),
        };
        socket.received(read_ahead);
        socket
    }

    /// Hands over bytes that were read. Follow up with [`next`](Self::next) until it has no more.
    pub fn received(&mut self, data: &[u8]) {
        let mut wire = Wire { inbound: data, outbound: &mut self.outbound };
        while self.broken.is_none() {
            let incoming = match self.context.read(&mut wire) {
                Ok(Message::Binary(data)) => Incoming::Binary(data),
                Ok(Message::Text(text)) => Incoming::Text(text.into()),
                Ok(Message::Close(frame)) => {
                    // Queues the answer, which is otherwise sent by the next read.
                    let _ = self.context.flush(&mut wire);
                    let (code, reason) = match frame {
                        Some(frame) => (Some(u16::from(frame.code)), frame.reason.to_string()),
                        None => (None, String::new()),
                    };
                    Incoming::Close { code, reason }
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Err(Fault::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(Fault::ConnectionClosed | Fault::AlreadyClosed) => return,
                Err(Fault::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                    self.broken = Some(Broken::TooLarge { size, limit: max_size });
                    return;
                }
                Err(error) => {
                    self.broken = Some(Broken::Protocol(error.to_string()));
                    return;
                }
            };
            self.arrived.push_back(incoming);
        }
    }

    /// The next whole message among what was received; None if more has to be read for it.
    #[allow(clippy::should_implement_trait, reason = "it may have more later, and it can fail")]
    pub fn next(&mut self) -> Result<Option<Incoming>, Broken> {
        if let Some(incoming) = self.arrived.pop_front() {
            return Ok(Some(incoming));
        }
        self.arrived.shrink_to(ROOM_KEPT);
        self.broken.clone().map_or(Ok(None), Err)
    }

    /// Queues a binary message.
    pub fn send_binary(&mut self, data: Bytes) {
        self.send(Message::Binary(data));
    }

    /// Queues a text message.
    pub fn send_text(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    /// Queues a ping.
    pub fn send_ping(&mut self, data: Bytes) {
        self.send(Message::Ping(data));
    }

    /// Queues a close. Nothing can be sent after it; read on until the peer has answered.
    pub fn send_close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from(reason) };
        let mut wire = Wire { inbound: &[], outbound: &mut self.outbound };
        let _ = self.context.close(&mut wire, Some(frame));
        let _ = self.context.flush(&mut wire);
    }

    fn send(&mut self, message: Message) {
        // Writing to memory cannot fail; all that is left is a socket that is closing already, whose
        // peer does not read any more.
        let mut wire = Wire { inbound: &[], outbound: &mut self.outbound };
        let _ = self.context.write(&mut wire, message);
        let _ = self.context.flush(&mut wire);
    }

    /// What has to be written to the peer. Call [`sent`](Self::sent) with how much of it was.
    pub fn output(&self) -> &[u8] {
        &self.outbound
    }

    /// So many bytes of the output have been written.
    pub fn sent(&mut self, count: usize) {
        self.outbound.advance(count);
    }
}

/// A stream that ends where what was received ends, and collects what is to be sent.
struct Wire<'w> {
    inbound: &'w [u8],
    outbound: &'w mut BytesMut,
}

impl Read for Wire<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self.inbound.read(target)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.outbound.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries what one end has to say to the other, `step` bytes at a time, and collects what
    /// arrives.
    fn carry(from: &mut Socket, to: &mut Socket, step: usize) -> Vec<Incoming> {
        let mut arrived = Vec::new();
        while !from.output().is_empty() {
            let count = step.min(from.output().len());
            to.received(&from.output()[..count]);
            from.sent(count);
            while let Some(message) = to.next().unwrap() {
                arrived.push(message);
            }
        }
        arrived
    }

    #[test]
    fn messages_arrive_whole_however_the_bytes_are_cut() {
        for step in [1, 2, 3, 7, 64, 100_000] {
            let mut server = Socket::server(&[], MESSAGE_LIMIT);
            let mut client = Socket::client(&[], MESSAGE_LIMIT);
            let large = Bytes::from(vec![7; 70_000]);
            server.send_binary(Bytes::from_static(b"one"));
            server.send_binary(Bytes::new());
            server.send_binary(large.clone());
            server.send_text("words");
            let expected = [
                Incoming::Binary(Bytes::from_static(b"one")),
                Incoming::Binary(Bytes::new()),
                Incoming::Binary(large),
                Incoming::Text(Bytes::from_static(b"words")),
            ];
            assert_eq!(carry(&mut server, &mut client, step), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn what_came_behind_the_upgrade_is_not_lost() {
        let mut server = Socket::server(&[], MESSAGE_LIMIT);
        server.send_binary(Bytes::from_static(b"early"));
        let mut client = Socket::client(server.output(), MESSAGE_LIMIT);
        assert_eq!(client.next(), Ok(Some(Incoming::Binary(Bytes::from_static(b"early")))));
        assert_eq!(client.next(), Ok(None));
    }

    #[test]
    fn a_ping_is_answered_in_the_output() {
        let mut server = Socket::server(&[], MESSAGE_LIMIT);
        let mut client = Socket::client(&[], MESSAGE_LIMIT);
        server.send_ping(Bytes::from_static(b"17"));
        assert_eq!(carry(&mut server, &mut client, 100), []);
        assert!(!client.output().is_empty());
    }

    #[test]
    fn closing_is_a_handshake() {
        let mut server = Socket::server(&[], MESSAGE_LIMIT);
        let mut client = Socket::client(&[], MESSAGE_LIMIT);
        server.send_close(1001, "going away");
        let close = Incoming::Close { code: Some(1001), reason: "going away".to_owned() };
        assert_eq!(carry(&mut server, &mut client, 100), [close]);
        let answer = carry(&mut client, &mut server, 100);
        assert!(matches!(answer[..], [Incoming::Close { code: Some(1001), .. }]), "{answer:?}");
    }

    #[test]
    fn a_message_over_the_limit_is_named_with_its_size() {
        let mut server = Socket::server(&[], MESSAGE_LIMIT);
        let mut client = Socket::client(&[], 1000);
        server.send_binary(Bytes::from(vec![0; 1001]));
        client.received(server.output());
        assert_eq!(client.next(), Err(Broken::TooLarge { size: 1001, limit: 1000 }));
    }

    #[test]
    fn a_broken_peer_is_named() {
        let mut client = Socket::client(&[], MESSAGE_LIMIT);
        client.received(&[0xff; 20]);
        assert!(matches!(client.next(), Err(Broken::Protocol(_))));
    }
}
