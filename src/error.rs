//! Every way in which the library fails, and every sentence a user can see about it.
//!
//! [`Error`] is opaque: ask it with the predicates. A message says what was expected, what was
//! found and where; [`Error::hint`] says what to do. Each condition has one sentence, here. Keys
//! never become part of an error.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::entry::Timestamp;

/// What the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug)]
pub struct Error(Box<Kind>);

#[derive(Debug)]
pub(crate) enum Kind {
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    Output(io::Error),
    Usage { expected: String, found: String, hint: &'static str },
    InputFile { path: PathBuf, expected: String, found: String },
    KeyFile { path: PathBuf },
    FaultFile(BadRule),
    PolicyFile { origin: String, line: usize, field: String, expected: String, found: String },
    RedactKey { path: PathBuf, expected: &'static str, found: String },
    Survived { found: String },
    Line(BadLine),
    NoKey { subscription: String },
    OutputExists { path: PathBuf },
    SealedInstead { path: PathBuf, entries: u64 },
    InUse { path: PathBuf },
    Busy { path: PathBuf },
    NoCapture { path: PathBuf },
    Pipe { expected: &'static str, found: String },
    NotACapture { path: PathBuf, found: String },
    Compression { path: PathBuf, found: &'static str },
    NotLines { origin: String, found: &'static str, hint: &'static str },
    Damaged(Damaged),
    Lost(Lost),
    Record { path: PathBuf, source: mcap::McapError },
    NotSealed { path: PathBuf },
    NotProven { path: PathBuf },
    Gone { path: PathBuf },
    GoneForGood { path: PathBuf },
    Touched { path: PathBuf },
    TooLittleRoom { folder: PathBuf, expected: u64, found: u64 },
    NothingWritten { frames: u64, reason: String },
    Hook { command: String, segment: PathBuf, found: String },
    Descriptors { origin: String, reason: String },
    UnknownMessage { name: String, origin: String },
    Undecodable(Undecodable),
    Unjudged(Unjudged),
    Listen { address: String, source: io::Error },
    Certificates { path: Option<PathBuf>, reason: String },
    Identity { path: PathBuf, expected: &'static str, found: String },
    Internal { reason: String },
    NotNow { expected: String, found: String, hint: &'static str },
    NoClient { client: u64, here: String },
    NotInTime { expected: String, found: String },
}

impl Kind {
    /// Nothing behind it can be read, until somebody finds a way.
    pub(crate) fn damaged(path: &Path, offset: u64, reason: String) -> Self {
        Self::Damaged(Damaged { path: path.to_owned(), offset, until: None, reason })
    }
}

/// A place at which a capture is damaged.
#[derive(Debug)]
pub(crate) struct Damaged {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    /// Where reading goes on, if there is anything to go on with.
    pub(crate) until: Option<u64>,
    pub(crate) reason: String,
}

/// What a damage has cost a subscription.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) subscription: String,
    pub(crate) topic: String,
    /// In words: which frames.
    pub(crate) frames: String,
}

/// A rule for faults that is none.
#[derive(Debug)]
pub(crate) struct BadRule {
    pub(crate) origin: String,
    /// None if its text has none that anybody has written.
    pub(crate) line: Option<usize>,
    pub(crate) field: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    pub(crate) language: Language,
}

/// What a rule is written in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    Toml,
    Json,
}

/// A line of which no frame can be made.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub(crate) origin: String,
    pub(crate) line: usize,
    /// Empty if it is the line as such.
    pub(crate) field: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    /// Empty if there is nothing special to do.
    pub(crate) hint: &'static str,
}

/// A frame that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// The subscription's name.
    pub subscription: String,
    /// The frame's sequence number on its connection.
    pub sequence: u32,
    /// When the frame was received.
    pub received: Timestamp,
    /// Offset into the frame's bytes.
    pub byte: usize,
    /// The field path that leads there, and what is wrong.
    pub reason: String,
}

/// A frame on which the user's condition failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged {
    /// The subscription's name.
    pub subscription: String,
    /// The frame's sequence number on its connection.
    pub sequence: u32,
    /// When the frame was received.
    pub received: Timestamp,
    /// Why the condition failed.
    pub reason: String,
}

impl Error {
    /// The arguments are wrong; nothing was tried.
    pub fn is_usage(&self) -> bool {
        matches!(*self.0, Kind::Usage { .. })
    }

    /// It cannot be done in the state in which the replay is.
    pub fn is_not_now(&self) -> bool {
        matches!(*self.0, Kind::NotNow { .. })
    }

    /// There is no client of that number.
    pub fn is_no_client(&self) -> bool {
        matches!(*self.0, Kind::NoClient { .. })
    }

    /// What was waited for has not come about in time.
    pub fn is_not_in_time(&self) -> bool {
        matches!(*self.0, Kind::NotInTime { .. })
    }

    /// A rule for faults is wrong.
    pub fn is_fault_file(&self) -> bool {
        matches!(*self.0, Kind::FaultFile(_))
    }

    pub(crate) fn into_kind(self) -> Kind {
        *self.0
    }

    /// A value that was replaced is still in what was written.
    pub fn is_survivor(&self) -> bool {
        matches!(*self.0, Kind::Survived { .. })
    }

    /// A capture is cut or damaged. What is whole can still be read.
    pub fn is_damage(&self) -> bool {
        matches!(*self.0, Kind::Damaged(_) | Kind::Lost(_))
    }

    /// Which frames a damage has cost that was told before.
    pub fn is_cost_of_damage(&self) -> bool {
        matches!(*self.0, Kind::Lost(_))
    }

    /// A frame could not be decoded; the ones after it may well be.
    pub fn is_undecodable(&self) -> bool {
        matches!(*self.0, Kind::Undecodable(_))
    }

    /// The user's condition failed on a frame; it may well hold for others.
    pub fn is_unjudged(&self) -> bool {
        matches!(*self.0, Kind::Unjudged(_))
    }

    /// The file is no capture of ours.
    pub fn is_not_a_capture(&self) -> bool {
        matches!(*self.0, Kind::NotACapture { .. })
    }

    /// The system refused to read, write or find a file.
    pub fn is_io(&self) -> bool {
        matches!(*self.0, Kind::Io { .. })
    }

    /// There is no such file.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(&*self.0, Kind::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The disk, or what the user may have of it, is full.
    pub fn is_full(&self) -> bool {
        let is_full = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        matches!(&*self.0, Kind::Io { source, .. } if is_full(source))
    }

    /// A file of that name is there already, finished or not.
    pub fn is_taken(&self) -> bool {
        matches!(*self.0, Kind::OutputExists { .. } | Kind::InUse { .. })
    }

    /// A running recorder has it.
    pub fn is_in_use(&self) -> bool {
        matches!(*self.0, Kind::InUse { .. })
    }

    /// Something was lost or is wrong, and work went on without it.
    pub fn is_loss(&self) -> bool {
        self.is_damage() || self.is_undecodable() || self.is_unjudged()
    }

    /// The reader of our output has gone away, which is not an error for a command.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(&*self.0, Kind::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What the user can do about it, if there is something.
    pub fn hint(&self) -> Option<&str> {
        Some(match &*self.0 {
            Kind::Usage { hint, .. }
            | Kind::NotNow { hint, .. }
            | Kind::NotLines { hint, .. }
            | Kind::Line(BadLine { hint, .. })
                if !hint.is_empty() =>
            {
                hint
            }
            Kind::InputFile { .. } => {
                r#"the file looks like {"customers": {"NAME": {"wsskey": "...", "topic": "monitoring"}}}"#
            }
            Kind::FaultFile(BadRule { language: Language::Toml, .. }) => {
                r#"a rule is three lines like [[rule]], when = { nth = 3 }, do = "drop"; docs/faults.md has all of it"#
            }
            Kind::FaultFile(BadRule { language: Language::Json, .. }) => {
                r#"rules look like {"rule": [{"when": {"nth": 3}, "do": "drop"}]}; docs/faults.md has all of it"#
            }
            Kind::PolicyFile { .. } => "docs/redaction.md says what a policy can hold",
            Kind::RedactKey { .. } => {
                "chmod 600 keeps a key from others; a new one comes of \
                 (umask 077; head -c 32 /dev/urandom | base64 > NEW.key)"
            }
            Kind::Survived { .. } => {
                "there is no output; what a policy keeps in one field is replaced in others: keep its \
                 whole class, or do not keep it"
            }
            Kind::Line(_) => {
                r#"a line looks as decode writes it, or just {"topic": "audit", "data": {...}}"#
            }
            Kind::NoKey { .. } => "set CENTRALCAP_KEY, or name a file with --key-file",
            Kind::OutputExists { .. } => {
                "choose another name, or move the file away; nothing was overwritten"
            }
            Kind::SealedInstead { .. } => {
                "choose another name, or a folder, which gets a new file for each run"
            }
            Kind::InUse { .. } => "choose another output, or stop the recording that writes it",
            Kind::NoCapture { .. } => "a capture is a .mcap file, or a folder that holds some",
            Kind::Pipe { .. } => "what is read more than once is no pipe: write it to a file first",
            Kind::NotACapture { .. } => {
                "captures are MCAP files, made by record or synth, or by encode of lines"
            }
            Kind::Compression { .. } => {
                "MCAP's own tool makes a copy that can be read: mcap compress OLD.mcap -o NEW.mcap --compression zstd"
            }
            Kind::Damaged(Damaged { until: None, .. }) => {
                "what comes before is whole; nothing behind it could be read"
            }
            Kind::Damaged(_) => "what comes before and behind is whole",
            Kind::Lost(_) => "the damage has cost them that was told before",
            Kind::Undecodable(_) => {
                "a newer schema may know it: --proto DIR, or another --payload TOPIC=MESSAGE"
            }
            Kind::Unjudged(_) => {
                "a ? behind a path leaves out what it does not fit: .data.aps[]?.serial"
            }
            Kind::UnknownMessage { .. } => {
                "a full name is meant, such as Monitoring.MonitoringInformation"
            }
            Kind::Gone { .. } => "all of it is written there again; another file is set aside",
            Kind::Touched { .. } => "what is proven of it is sealed, and all of it is set aside",
            Kind::NotProven { .. } => "centralcap inspect says more; it is yours to delete",
            Kind::TooLittleRoom { .. } => "no segment is deleted for that",
            Kind::NotSealed { .. } => {
                "the next recording into that folder seals it; all commands read it"
            }
            Kind::Certificates { .. } => "--ca FILE takes a PEM file with the roots to trust",
            Kind::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => "choose another port; port 0 takes a free one",
                io::ErrorKind::AddrNotAvailable => "choose an address that this machine has",
                io::ErrorKind::PermissionDenied => "choose a port of 1024 or more",
                _ => return None,
            },
            Kind::Identity { .. } => {
                "--cert takes a PEM chain, the server's own certificate first, and --key its private key"
            }
            Kind::Io { source, .. } | Kind::Output(source) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room on that disk, or choose a place on another one"
                }
                io::ErrorKind::FileTooLarge => "raise the limit on the size of files: ulimit -f",
                io::ErrorKind::ReadOnlyFilesystem => "choose a place that can be written to",
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    "check the path; each folder on the way has to exist"
                }
                io::ErrorKind::PermissionDenied => "check who owns it and which permissions it has",
                io::ErrorKind::IsADirectory => "name a file, not the folder that it is in",
                io::ErrorKind::InvalidData => "what is read there is text in UTF-8",
                _ => return None,
            },
            Kind::KeyFile { .. } => {
                "the key stands there as Central shows it: one line of visible ASCII"
            }
            Kind::Descriptors { .. } => {
                "--proto DIR takes a folder with all .proto files that are needed"
            }
            _ => return None,
        })
    }

    /// The system refuses to `doing` what is there.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Kind::Io { doing, path: path.to_owned(), source: as_told(source) }.into()
    }

    /// The same where the system's own words are not at hand any more.
    pub(crate) fn io_on(doing: &'static str, path: Option<&Path>) -> Self {
        let source = io::Error::other("the disk did not take it");
        Self::io(doing, path.unwrap_or(Path::new("the segment")))(source)
    }

    /// A wrong argument: what it should be, what it is, and what to do.
    pub fn usage(
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Kind::Usage { expected: expected.into(), found: found.into(), hint }.into()
    }

    /// There is no key for a subscription.
    pub fn no_key(subscription: &str) -> Self {
        Kind::NoKey { subscription: subscription.to_owned() }.into()
    }

    /// Writing the output failed.
    pub fn output(source: io::Error) -> Self {
        Kind::Output(source).into()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<Undecodable> for Error {
    fn from(frame: Undecodable) -> Self {
        Kind::Undecodable(frame).into()
    }
}

impl From<Unjudged> for Error {
    fn from(frame: Unjudged) -> Self {
        Kind::Unjudged(frame).into()
    }
}

impl fmt::Display for Error {
    #[allow(clippy::too_many_lines, reason = "it is a table: a sentence for each condition")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Io { doing, path, source } => {
                write!(f, "cannot {doing} {}: {source}", path.display())
            }
            Kind::Output(source) => write!(f, "cannot write the output: {source}"),
            Kind::Usage { expected, found, .. }
            | Kind::NotNow { expected, found, .. }
            | Kind::NotInTime { expected, found } => {
                write!(f, "expected {expected}, found {found}")
            }
            Kind::KeyFile { path } => {
                let path = path.display();
                write!(f, "expected one line with a key in {path}, found something else")
            }
            Kind::InputFile { path, expected, found } => {
                write!(f, "expected {expected} in {}, found {found}", path.display())
            }
            Kind::FaultFile(BadRule { origin, line, field, expected, found, .. }) => {
                let at = if field.is_empty() { String::new() } else { format!(" as {field}") };
                let line = line.map(|line| format!("line {line} of ")).unwrap_or_default();
                write!(f, "expected {expected}{at} in {line}{origin}, found {found}")
            }
            Kind::PolicyFile { origin, line, field, expected, found }
            | Kind::Line(BadLine { origin, line, field, expected, found, .. }) => {
                let at = if field.is_empty() { String::new() } else { format!(" as {field}") };
                write!(f, "expected {expected}{at} in line {line} of {origin}, found {found}")
            }
            Kind::Survived { found } => {
                write!(f, "expected no value that was replaced, found {found}")
            }
            Kind::NoKey { subscription } => {
                write!(f, "expected a key for subscription {subscription:?}, found none")
            }
            Kind::OutputExists { path } => {
                write!(f, "expected a new file, found {} already there", path.display())
            }
            Kind::SealedInstead { path, entries } => {
                let path = path.display();
                write!(
                    f,
                    "expected a new file, found {entries} entries of an earlier run, now sealed as {path}"
                )
            }
            Kind::InUse { path } => {
                write!(
                    f,
                    "expected {} to be free, found it in use by a running recording",
                    path.display()
                )
            }
            Kind::Busy { path } => {
                let path = path.display();
                write!(f, "expected {path} to be free for a moment, found somebody at work on it")
            }
            Kind::NoCapture { path } => {
                write!(f, "expected a capture, found none in {}", path.display())
            }
            Kind::Pipe { expected, found } => write!(f, "expected {expected}, found {found}"),
            Kind::NotACapture { path, found } => {
                write!(f, "expected a capture, found {found} in {}", path.display())
            }
            Kind::Compression { path, found } => write!(
                f,
                "expected chunks that are compressed by zstd or not at all in {}, found {found}, which is not supported",
                path.display()
            ),
            Kind::NotLines { origin, found, .. } => {
                write!(f, "expected lines of JSON in {origin}, found {found}")
            }
            Kind::Damaged(damaged) => write!(f, "{damaged}"),
            Kind::Lost(lost) => write!(f, "{lost}"),
            Kind::NotSealed { path } => {
                write!(f, "cannot seal {}: it is kept as it is", path.display())
            }
            Kind::TooLittleRoom { folder, expected, found } => write!(
                f,
                "expected {expected} bytes free on the disk of {}, found {found}, and all that is sealed there is \
                 less than what is missing",
                folder.display()
            ),
            Kind::Gone { path } => {
                write!(f, "somebody has deleted or moved {} while it was recorded", path.display())
            }
            Kind::GoneForGood { path } => write!(
                f,
                "somebody has deleted or moved {} while it was recorded, and it cannot be written anew: what was in \
                 it is lost",
                path.display()
            ),
            Kind::Touched { path } => write!(
                f,
                "somebody has cut off {}, or written to it, while it was recorded",
                path.display()
            ),
            Kind::NotProven { path } => {
                write!(f, "not deleting {}: it is damaged at its end", path.display())
            }
            Kind::NothingWritten { frames, reason } => {
                write!(
                    f,
                    "nothing could be written at the end, and {frames} frames were lost: {reason}"
                )
            }
            Kind::Hook { command, segment, found } => {
                let segment = segment.display();
                write!(
                    f,
                    "expected the command {command:?} to succeed with {segment}, found {found}"
                )
            }
            Kind::Record { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Kind::Descriptors { origin, reason } => {
                write!(f, "expected protobuf descriptors in {origin}, found a fault: {reason}")
            }
            Kind::UnknownMessage { name, origin } => {
                write!(f, "expected the message {name} in {origin}, found no message of that name")
            }
            Kind::Undecodable(frame) => write!(
                f,
                "cannot decode frame {} of subscription {:?}, received {}, at byte {}: {}",
                frame.sequence, frame.subscription, frame.received, frame.byte, frame.reason
            ),
            Kind::Unjudged(frame) => write!(
                f,
                "cannot judge frame {} of subscription {:?}, received {}: {}",
                frame.sequence, frame.subscription, frame.received, frame.reason
            ),
            Kind::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Kind::Certificates { path: Some(path), reason } => {
                write!(f, "expected PEM certificates in {}, found {reason}", path.display())
            }
            Kind::Certificates { path: None, reason } => {
                write!(f, "expected usable certificates, found {reason}")
            }
            Kind::Identity { path, expected, found }
            | Kind::RedactKey { path, expected, found } => {
                write!(f, "expected {expected} in {}, found {found}", path.display())
            }
            Kind::NoClient { client, here } => {
                write!(f, "expected a client that is connected ({here}), found {client}")
            }
            Kind::Internal { reason } => write!(f, "a fault of centralcap itself: {reason}"),
        }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, until, reason } = self;
        write!(f, "damaged capture {} at byte {offset}: {reason}", path.display())?;
        until.map_or(Ok(()), |until| {
            let lost = counted(until - offset, "byte");
            write!(f, "; {lost} left out, up to byte {until}")
        })
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost of {} ({}): {}", self.subscription, self.topic, self.frames)
    }
}

// Without a source: the sentence holds what the system said, and saying it twice helps nobody.
impl std::error::Error for Error {}

/// What the system says. Behind it, `tempfile` names a file that it has made up and nobody knows.
fn as_told(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    match error.to_string().split_once(" at path \"") {
        Some((told, _)) => io::Error::new(error.kind(), told.to_owned()),
        None => error,
    }
}

/// What is wrong with a server's TLS, and what can be done. rustls has names for that, which are for those who
/// know it.
pub(crate) fn tls(fault: &rustls::Error) -> String {
    use rustls::{CertificateError as Certificate, InvalidMessage};

    let told = match fault {
        rustls::Error::InvalidCertificate(fault) => match fault {
            // The latter where somebody of the same name is trusted, as the authority of an earlier replay is.
            Certificate::UnknownIssuer | Certificate::BadSignature => {
                "nobody who is trusted has signed the server's certificate (--ca FILE trusts who has)"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "the server's certificate has expired (it needs a new one, or the clock here is wrong)"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet (it may be that the clock here is wrong)"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the server's certificate is for another name (--hostname takes one of those that are in it)"
            }
            // webpki's own, which rustls does not have.
            Certificate::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "the server shows the certificate of an authority as its own (give it one that is none, as by \
                 openssl's -addext basicConstraints=critical,CA:FALSE)"
            }
            _ => return fault_of(fault),
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what the server answers is no TLS (it may be another port, or a ws:// server)"
        }
        _ => return fault.to_string(),
    };
    told.to_owned()
}

fn fault_of(certificate: &rustls::CertificateError) -> String {
    format!("the server's certificate is not valid: {certificate}")
}

/// `1 frame`, `2 frames`: for sentences.
pub fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
