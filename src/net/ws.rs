//! RFC 6455 over bytes in memory.
//!
//! [`Socket`] is handed what was read and says what to write; it never touches a socket itself. That
//! is what lets a recorder bring every message it has received to safety before it reads again, and
//! before it answers: a pong that leaves proves that all before the ping was kept.

use std::io::{self, Cursor, Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tungstenite::{
    Error as Fault,
    error::CapacityError,
    protocol::{
        CloseFrame, Message, Role, WebSocketConfig, WebSocketContext,
        frame::{
            Frame, FrameHeader, Utf8Bytes,
            coding::{CloseCode, Control, Data, OpCode},
        },
    },
};

/// The limit on a message's size unless the user sets another one.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

/// How much the WebSocket code takes at once of a frame that is handed to it.
const COPIED_AT_ONCE: usize = 2 * 1024;

/// A WebSocket without a socket.
///
/// A feed consists of messages of one frame each. These are cut out of what was received, and nothing is
/// copied or allocated for each; the WebSocket code gets all other frames, one at a time.
#[derive(Debug)]
pub struct Socket {
    role: Role,
    context: WebSocketContext,
    /// What was received and not been taken yet.
    inbound: BytesMut,
    /// The largest message that is taken.
    limit: usize,
    /// A message has begun that more frames belong to.
    in_pieces: bool,
    /// The peer has closed: what follows means nothing.
    closed: bool,
    /// Why nothing follows.
    broken: Option<Broken>,
    /// What is to be written.
    outbound: BytesMut,
    /// No ping is answered.
    mute: bool,
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
    /// A text is not UTF-8, or the reason of a close.
    NotUtf8(String),
    /// The peer breaks the protocol in another way.
    Protocol(String),
}

impl Broken {
    /// What the peer is told, RFC 6455, section 7.4.1.
    pub(super) const fn close(&self) -> (u16, &'static str) {
        match self {
            Self::TooLarge { .. } => (1009, "message too big"),
            Self::NotUtf8(_) => (1007, "not UTF-8"),
            Self::Protocol(_) => (1002, "protocol error"),
        }
    }
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
            .read_buffer_size(COPIED_AT_ONCE)
            // Nothing is to wait in here.
            .write_buffer_size(0);
        Self {
            role,
            context: WebSocketContext::new(role, Some(config)),
            inbound: BytesMut::from(read_ahead),
            limit,
            in_pieces: false,
            closed: false,
            broken: None,
            outbound: BytesMut::new(),
            mute: false,
        }
    }

    /// So many bytes are about to be handed over.
    pub fn expect(&mut self, count: usize) {
        self.inbound.reserve(count);
    }

    /// Hands over bytes that were read. Follow up with [`next`](Self::next) until it has no more.
    pub fn received(&mut self, data: &[u8]) {
        self.inbound.extend_from_slice(data);
    }

    /// The next whole message among what was received; None if more has to be read for it.
    #[allow(clippy::should_implement_trait, reason = "it may have more later, and it can fail")]
    pub fn next(&mut self) -> Result<Option<Incoming>, Broken> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let next = self.next_message();
        self.broken = next.as_ref().err().cloned();
        next
    }

    fn next_message(&mut self) -> Result<Option<Incoming>, Broken> {
        while !self.closed {
            let mut cursor = Cursor::new(&*self.inbound);
            let header = FrameHeader::parse(&mut cursor);
            let start = cursor.position() as usize;
            let Some((header, length)) = header.map_err(fault)? else { break };
            let size = usize::try_from(length).unwrap_or(usize::MAX);
            if size > self.limit {
                return Err(Broken::TooLarge { size, limit: self.limit });
            }
            let end = start + size;
            if self.inbound.len() < end {
                break;
            }
            let mut frame = self.inbound.split_to(end);
            if self.is_all_of_a_message(&header) {
                frame.advance(start);
                return Ok(Some(Incoming::Binary(frame.freeze())));
            }
            match header.opcode {
                OpCode::Data(_) => self.in_pieces = !header.is_final,
                OpCode::Control(Control::Close) => self.closed = true,
                OpCode::Control(_) => {}
            }
            if let Some(incoming) = self.digest(&frame)? {
                return Ok(Some(incoming));
            }
        }
        if self.inbound.is_empty() || self.closed {
            // There may be a thousand of these, and what was received last may have been large.
            self.inbound = BytesMut::new();
        }
        Ok(None)
    }

    /// Whether a frame needs nobody's judgement: as long as nothing is out of order, what a server
    /// sends is like that.
    fn is_all_of_a_message(&self, header: &FrameHeader) -> bool {
        *header == plain() && self.role == Role::Client && !self.in_pieces
    }

    /// Has the WebSocket code look at one frame.
    fn digest(&mut self, frame: &[u8]) -> Result<Option<Incoming>, Broken> {
        let mut wire = Wire { inbound: frame, outbound: &mut self.outbound, mute: self.mute };
        let mut incoming = None;
        loop {
            incoming = Some(match self.context.read(&mut wire) {
                Ok(Message::Binary(data)) => Incoming::Binary(data),
                Ok(Message::Text(text)) => Incoming::Text(text.into()),
                Ok(Message::Close(_)) => {
                    // Queues the answer, which is otherwise sent by the next read.
                    let _ = self.context.flush(&mut wire);
                    let (code, reason) = said_in_close(frame).unzip();
                    Incoming::Close { code, reason: reason.unwrap_or_default() }
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Err(Fault::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Fault::ConnectionClosed | Fault::AlreadyClosed) => break,
                Err(Fault::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                    return Err(Broken::TooLarge { size, limit: max_size });
                }
                Err(error) => return Err(fault(error)),
            });
        }
        Ok(incoming)
    }

    /// Queues a binary message.
    pub fn send_binary(&mut self, data: Bytes) {
        // A server masks nothing, so a message is its bytes behind a header. The WebSocket code would copy it
        // twice, and knows no more to do with it.
        if self.role == Role::Server && self.context.can_write() {
            let written = plain().format(data.len() as u64, &mut (&mut self.outbound).writer());
            debug_assert!(written.is_ok(), "memory takes everything");
            self.outbound.extend_from_slice(&data);
        } else {
            self.send(Message::Binary(data));
        }
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
        self.close(Some(frame));
    }

    /// Queues the close that says why the connection cannot go on, if it cannot.
    pub fn send_broken(&mut self) {
        if let Some((code, reason)) = self.broken.as_ref().map(Broken::close) {
            self.send_close(code, reason);
        }
    }

    /// Queues a close without a code.
    pub fn send_bare_close(&mut self) {
        self.close(None);
    }

    fn close(&mut self, frame: Option<CloseFrame>) {
        let mut wire = Wire { inbound: &[], outbound: &mut self.outbound, mute: self.mute };
        let _ = self.context.close(&mut wire, frame);
        let _ = self.context.flush(&mut wire);
    }

    /// Queues a message in so many WebSocket frames of about the same size, as text or as binary. Text is
    /// sent as it is, whether it is any or not.
    pub fn send_in_frames(&mut self, data: &Bytes, frames: usize, text: bool) {
        let frames = frames.max(1);
        let size = data.len().div_ceil(frames);
        for number in 0..frames {
            let part =
                data.slice((number * size).min(data.len())..((number + 1) * size).min(data.len()));
            let kind = match number {
                0 if text => Data::Text,
                0 => Data::Binary,
                _ => Data::Continue,
            };
            let frame = Frame::message(part, OpCode::Data(kind), number + 1 == frames);
            self.send(Message::Frame(frame));
        }
    }

    /// From here on no ping is answered, against RFC 6455.
    pub fn mute_pongs(&mut self) {
        self.mute = true;
    }

    fn send(&mut self, message: Message) {
        // Writing to memory cannot fail; all that is left is a socket that is closing already, whose
        // peer does not read any more.
        let mut wire = Wire { inbound: &[], outbound: &mut self.outbound, mute: self.mute };
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

/// What stands before a binary message of one frame that is not masked.
fn plain() -> FrameHeader {
    FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() }
}

/// The code and the reason of a close, if it has any. Where the code is one that nobody may send (RFC 6455, section
/// 7.4), the WebSocket code reads its own answer instead.
fn said_in_close(frame: &[u8]) -> Option<(u16, String)> {
    let mut cursor = Cursor::new(frame);
    let (header, _) = FrameHeader::parse(&mut cursor).ok()??;
    let mut said = frame.get(cursor.position() as usize..)?.to_vec();
    if let Some(mask) = header.mask {
        said.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    let (code, reason) = said.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
}

fn fault(error: Fault) -> Broken {
    match error {
        Fault::Utf8(reason) => Broken::NotUtf8(reason),
        error => Broken::Protocol(error.to_string()),
    }
}

/// A stream that ends where what was received ends, and collects what is to be sent.
struct Wire<'w> {
    inbound: &'w [u8],
    outbound: &'w mut BytesMut,
    /// Pongs are swallowed.
    mute: bool,
}

/// The first byte of a whole pong.
const PONG: u8 = 0x8a;

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
        // Nothing waits in the context, so what is written is one frame.
        if self.mute && data.first() == Some(&PONG) {
            return Ok(data.len());
        }
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
    use proptest::{collection, prelude::*};

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
    fn a_close_says_what_the_peer_has_said_also_where_nobody_may_say_that() {
        for code in [0, 999, 1000, 1006, 1015, 4999, 65535] {
            for masked in [false, true] {
                let [mut server, mut client] =
                    [Socket::server, Socket::client].map(|end| end(&[], MESSAGE_LIMIT));
                let (from, to) =
                    if masked { (&mut client, &mut server) } else { (&mut server, &mut client) };
                from.send_close(code, "so be it");
                let said = Incoming::Close { code: Some(code), reason: "so be it".to_owned() };
                assert_eq!(carry(from, to, 100), [said], "masked: {masked}");
                assert!(!to.output().is_empty(), "it is answered");
            }
        }
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
    fn a_muted_end_answers_no_ping_and_says_everything_else() {
        let mut server = Socket::server(&[], MESSAGE_LIMIT);
        let mut client = Socket::client(&[], MESSAGE_LIMIT);
        server.mute_pongs();
        client.send_ping(Bytes::from_static(b"17"));
        assert_eq!(carry(&mut client, &mut server, 100), []);
        assert_eq!(server.output(), b"");
        server.send_text("words");
        let words = Incoming::Text(Bytes::from_static(b"words"));
        assert_eq!(carry(&mut server, &mut client, 1), [words]);
        server.send_bare_close();
        let close = Incoming::Close { code: None, reason: String::new() };
        assert_eq!(carry(&mut server, &mut client, 100), [close]);
    }

    #[test]
    fn a_message_in_many_frames_is_one_message() {
        let data = Bytes::from_static(b"in several frames");
        for frames in [1, 2, 3, 17, 40] {
            let mut server = Socket::server(&[], MESSAGE_LIMIT);
            let mut client = Socket::client(&[], MESSAGE_LIMIT);
            server.send_in_frames(&data, frames, false);
            // Two bytes of header for each: no frame is missing.
            assert_eq!(server.output().len(), data.len() + 2 * frames);
            assert_eq!(carry(&mut server, &mut client, 5), [Incoming::Binary(data.clone())]);
            server.send_in_frames(&data, frames, true);
            assert_eq!(carry(&mut server, &mut client, 5), [Incoming::Text(data.clone())]);
        }
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
        assert_eq!(told(&mut client, &mut server), Some(1009));
    }

    /// The code of the close that a peer gets from whoever cannot go on.
    fn told(broken: &mut Socket, peer: &mut Socket) -> Option<u16> {
        broken.send_broken();
        match &carry(broken, peer, 100)[..] {
            [Incoming::Close { code, .. }] => *code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_text_that_is_none_is_told_as_such() {
        for text in [&b"\xff"[..], b"half a \xe2\x82", b"\xed\xa0\x80"] {
            let mut server = Socket::server(&[], MESSAGE_LIMIT);
            let mut client = Socket::client(&[], MESSAGE_LIMIT);
            server.send_in_frames(&Bytes::from_static(text), 1, true);
            client.received(server.output());
            server.sent(server.output().len());
            assert!(matches!(client.next(), Err(Broken::NotUtf8(_))), "{text:?}");
            assert_eq!(told(&mut client, &mut server), Some(1007));
        }
    }

    #[test]
    fn a_broken_peer_is_named() {
        let mut client = Socket::client(&[], MESSAGE_LIMIT);
        client.received(&[0xff; 20]);
        assert!(matches!(client.next(), Err(Broken::Protocol(_))));
    }

    /// What the WebSocket code makes of the same bytes when it has all of them at once.
    fn read_plainly(role: Role, data: &[u8]) -> (Vec<Incoming>, Option<Broken>, Vec<u8>) {
        let mut socket = Socket::new(role, &[], LIMIT);
        let mut messages = Vec::new();
        let mut wire = Wire { inbound: data, outbound: &mut socket.outbound, mute: false };
        let broken = loop {
            match socket.context.read(&mut wire) {
                Ok(Message::Binary(data)) => messages.push(Incoming::Binary(data)),
                Ok(Message::Text(text)) => messages.push(Incoming::Text(text.into())),
                Ok(Message::Close(frame)) => {
                    let _ = socket.context.flush(&mut wire);
                    let code = frame.as_ref().map(|frame| frame.code.into());
                    let reason = frame.map_or(String::new(), |frame| frame.reason.to_string());
                    messages.push(Incoming::Close { code, reason });
                    // What follows means nothing.
                    break None;
                }
                Ok(_) => {}
                Err(Fault::Io(_) | Fault::ConnectionClosed | Fault::AlreadyClosed) => break None,
                Err(Fault::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                    break Some(Broken::TooLarge { size, limit: max_size });
                }
                Err(error) => break Some(fault(error)),
            }
        };
        (messages, broken, socket.outbound.to_vec())
    }

    /// The WebSocket code puts its answer in the place of a close that nobody may send.
    fn with_answer(incoming: Incoming) -> Incoming {
        match incoming {
            Incoming::Close { code: Some(code), .. } if !CloseCode::from(code).is_allowed() => {
                Incoming::Close { code: Some(1002), reason: "Protocol violation".to_owned() }
            }
            incoming => incoming,
        }
    }

    const LIMIT: usize = 200;

    /// A frame as a peer may send it, in or out of order.
    fn any_frame(masked: bool) -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![
            6 => Just(OpCode::Data(Data::Binary)),
            2 => Just(OpCode::Data(Data::Continue)),
            1 => Just(OpCode::Data(Data::Text)),
            1 => Just(OpCode::Control(Control::Ping)),
            1 => Just(OpCode::Control(Control::Pong)),
        ];
        let opcode = prop_oneof![20 => opcode, 1 => Just(OpCode::Control(Control::Close))];
        let payload = prop_oneof![
            8 => collection::vec(b'a'..=b'z', 0..120),
            1 => collection::vec(any::<u8>(), 0..LIMIT + 20),
            1 => Just(vec![0x03, 0xe8, b'b', b'y', b'e']),
        ];
        let odd = prop_oneof![40 => Just(false), 1 => Just(true)];
        let is_final = prop_oneof![4 => Just(true), 1 => Just(false)];
        (opcode, is_final, payload, odd.clone(), odd).prop_map(
            move |(opcode, is_final, payload, rsv1, unlike)| {
                let mask = (masked != unlike).then_some([1, 2, 3, 4]);
                let header = FrameHeader { is_final, rsv1, opcode, mask, ..FrameHeader::default() };
                let mut frame = Vec::new();
                Frame::from_payload(header, payload.into()).format(&mut frame).unwrap();
                frame
            },
        )
    }

    fn any_frames() -> impl Strategy<Value = (Role, Vec<u8>)> {
        any::<bool>().prop_flat_map(|serves| {
            let role = if serves { Role::Server } else { Role::Client };
            collection::vec(any_frame(serves), 0..12)
                .prop_map(move |frames| (role, frames.concat()))
        })
    }

    proptest! {
        #[test]
        fn frames_are_judged_as_the_websocket_code_judges_them(
            (role, data) in any_frames(), step in 1_usize..400
        ) {
            let mut socket = Socket::new(role, &[], LIMIT);
            let mut messages = Vec::new();
            let mut broken = None;
            for piece in data.chunks(step) {
                socket.received(piece);
                broken = loop {
                    match socket.next() {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => break None,
                        Err(broken) => break Some(broken),
                    }
                };
            }
            let (expected, fault, answers) = read_plainly(role, &data);
            let messages: Vec<_> = messages.into_iter().map(with_answer).collect();
            prop_assert_eq!(messages, expected);
            prop_assert_eq!(broken, fault);
            if role == Role::Server {
                // A client's are masked at random.
                prop_assert_eq!(socket.output(), &*answers);
            }
            prop_assert_eq!(socket.output().len(), answers.len());
        }
    }
}
