//! The shapes of text: what looks like an address or a name of some kind, and which words say nothing
//! about anybody.

use std::{collections::HashSet, net::IpAddr, ops::Range, sync::LazyLock};

/// Words of the trade and of the language, in small letters. Nobody is known by one of them.
static WORDS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("words.txt").split_ascii_whitespace().collect());

/// Whether it is one such word.
pub(super) fn is_common(word: &str) -> bool {
    WORDS.contains(&*word.to_ascii_lowercase())
}

/// How many digits may stand together, and in all.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    pub together: usize,
    pub altogether: usize,
}

/// Whether nothing is in it but common words, few digits, and at most two letters that stand alone: such
/// as `AP-515`, `1/1/24`, `10.13.0.1-build_84732` or `wpa2-psk`.
pub(super) fn is_of_words(text: &str, digits: Digits) -> bool {
    let (mut altogether, mut letters) = (0, 0);
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let length = |is_one: fn(&u8) -> bool| rest.bytes().take_while(is_one).count();
        let taken = match first {
            b'0'..=b'9' => {
                let taken = length(u8::is_ascii_digit);
                altogether += taken;
                if taken > digits.together || altogether > digits.altogether {
                    return false;
                }
                taken
            }
            _ if first.is_ascii_alphabetic() => {
                let taken = length(u8::is_ascii_alphabetic);
                letters += usize::from(taken == 1);
                if taken > 1 && !is_common(&rest[..taken]) || letters > 2 {
                    return false;
                }
                taken
            }
            _ if first.is_ascii() => 1,
            _ => return false,
        };
        rest = &rest[taken..];
    }
    true
}

/// Whether a letter is in it that belongs to no word.
pub(super) fn has_lone_letter(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphabetic()).any(|letters| letters.len() == 1)
}

/// Whether the first number in a word begins an address that no parser takes, or a telephone number, as it
/// goes on behind the word: `192.168.001.005`, `0:1b:2c:3:4:5`, `044/123/45/67`.
pub(super) fn begins_row(word: &str, behind: &str, digits: Digits) -> bool {
    let Some(first) = word.find(|c: char| c.is_ascii_digit()) else { return false };
    let near = word[first..].bytes().chain(behind.bytes()).take(LONGEST_ADDRESS);
    let (mut altogether, mut numbers, mut inside) = (0, 0, false);
    for byte in near.take_while(|byte| byte.is_ascii_hexdigit() || b"/.:".contains(byte)) {
        altogether += usize::from(byte.is_ascii_digit());
        numbers += usize::from(byte.is_ascii_hexdigit() && !inside);
        inside = byte.is_ascii_hexdigit();
    }
    numbers > 3 || altogether > digits.altogether
}

/// Whether a word is the hour of a time of day, as it goes on behind the word: `8:15`.
pub(super) fn begins_time_of_day(word: &str, behind: &str) -> bool {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let minute = behind.strip_prefix(':').and_then(|behind| behind.get(..2));
    word.len() <= 2 && is_number(word) && minute.is_some_and(is_number)
}

/// A character that a name or a number is made of.
pub(super) fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || !character.is_ascii()
}

/// What a name looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    Mac,
    Ip(IpAddr),
    /// An address, and what stands before and behind it: brackets, a port, the length of a prefix.
    Endpoint(&'a str, IpAddr, &'a str),
    /// At least 16 hex digits, perhaps with hyphens.
    Hex,
    Decimal,
    Email(&'a str, &'a str),
    /// `https://`, a host, a port, and the rest from the slash on; each but the host may be empty.
    Url {
        scheme: &'a str,
        host: &'a str,
        port: &'a str,
        rest: &'a str,
    },
    /// `host/NAME` and `DOMAIN\NAME`: what is before the name with what parts them, and the name.
    Login(&'a str, &'a str),
    Word,
}

/// What a whole text is.
pub(super) fn shape(text: &str) -> Shape<'_> {
    let bytes = text.as_bytes();
    if mac_at(text, 0) == Some(text.len()) {
        return Shape::Mac;
    }
    if let Ok(address) = text.parse() {
        return Shape::Ip(address);
    }
    if let Some(endpoint) = endpoint(text) {
        return endpoint;
    }
    if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        return Shape::Decimal;
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
    if digits >= 16 && bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-') {
        return Shape::Hex;
    }
    if let Some((before, name)) = text.split_once('\\')
        && !before.is_empty()
        && !name.contains('\\')
    {
        return Shape::Login(&text[..=before.len()], name);
    }
    let name = login(text);
    // One in another has no meaning, and may have no end.
    if let Some(name) = name.filter(|name| login(name).is_none()) {
        return Shape::Login(&text[..text.len() - name.len()], name);
    }
    if let Some((local, domain)) = text.rsplit_once('@')
        && !local.is_empty()
        && is_domain(domain)
        && !local.contains(|c: char| c.is_whitespace() || c == '/' || c == ':')
    {
        return Shape::Email(local, domain);
    }
    url(text).unwrap_or(Shape::Word)
}

/// The name in `host/NAME`.
fn login(text: &str) -> Option<&str> {
    let (before, name) = text.split_at_checked("host/".len())?;
    (before.eq_ignore_ascii_case("host/") && !name.is_empty()).then_some(name)
}

/// Whether it can be a port, or the length of a prefix: more digits are somebody's number.
pub(super) fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn endpoint(text: &str) -> Option<Shape<'_>> {
    if let Some((inside, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address = inside.parse().ok().filter(|_| has_port)?;
        return Some(Shape::Endpoint("[", address, &text[1 + inside.len()..]));
    }
    let (inside, behind) = text.rsplit_once([':', '/'])?;
    let address: IpAddr = inside.parse().ok().filter(|_| is_port(behind))?;
    // Behind the colon of a version 6 address is the rest of it.
    let is_one = address.is_ipv4() || text.as_bytes()[inside.len()] == b'/';
    is_one.then(|| Shape::Endpoint("", address, &text[inside.len()..]))
}

fn url(text: &str) -> Option<Shape<'_>> {
    if text.contains(char::is_whitespace) {
        return None;
    }
    let (scheme, rest) = match text.find("://") {
        // Anything else is a name that somebody gave.
        Some(end) if is_common(&text[..end]) => text.split_at(end + 3),
        _ => ("", text),
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match host.rfind(':') {
        Some(at) if is_port(&host[at + 1..]) => host.split_at(at),
        _ => (host, ""),
    };
    let is_host = is_domain(host)
        || !host.is_empty() && !scheme.is_empty()
        || !path.is_empty() && host.parse::<IpAddr>().is_ok();
    is_host.then_some(Shape::Url { scheme, host, port, rest: path })
}

/// At least two labels, the last of which is of letters.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte))
    };
    text.rsplit_once('.').is_some_and(|(before, last)| {
        last.len() >= 2
            && last.bytes().all(|byte| byte.is_ascii_alphabetic())
            && before.split('.').all(is_label)
    })
}

/// Where a MAC address ends that begins there: twelve or sixteen digits, all together or in groups of two,
/// four or six, as `aa:bb:cc:dd:ee:ff` or `aabb.ccdd.eeff`.
pub(super) fn mac_at(text: &str, at: usize) -> Option<usize> {
    let bytes = &text.as_bytes()[at..];
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let length = match (digits, bytes.get(digits)) {
        (12, _) => 12,
        (size @ (2 | 4 | 6), Some(&separator @ (b':' | b'-' | b'.' | b' '))) => {
            let count = groups(bytes, size, separator);
            if !matches!(size * count, 12 | 16) {
                return None;
            }
            count * (size + 1) - 1
        }
        _ => return None,
    };
    let ends = bytes.get(length).is_none_or(|next| !next.is_ascii_alphanumeric());
    ends.then_some(at + length)
}

/// How many groups of so many hex digits follow each other, as far as that matters.
fn groups(bytes: &[u8], size: usize, separator: u8) -> usize {
    let mut count = 0;
    let mut rest = bytes;
    while count < 9
        && let Some((group, behind)) = rest.split_at_checked(size)
    {
        if !group.iter().all(u8::is_ascii_hexdigit) {
            break;
        }
        count += 1;
        match behind.split_first() {
            Some((next, behind)) if *next == separator => rest = behind,
            _ => break,
        }
    }
    count
}

/// The six or eight octets of a MAC address as text.
pub(super) fn octets(mac: &str) -> Vec<u8> {
    let digits: Vec<_> = mac.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The same text with other hex digits in it, in the same case.
pub(super) fn with_digits(text: &str, octets: &[u8]) -> String {
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    let mut nibbles = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    let digit = |character: char| match character {
        _ if !character.is_ascii_hexdigit() => character,
        _ => {
            let digit = char::from_digit(nibbles.next().unwrap_or(0).into(), 16).unwrap_or('0');
            if upper { digit.to_ascii_uppercase() } else { digit }
        }
    };
    text.chars().map(digit).collect()
}

/// No address has more letters, nor a link that anybody would write down.
const LONGEST_ADDRESS: usize = 48;
const LONGEST_LINK: usize = 512;

/// An IP address that begins there, and where it ends.
pub(super) fn ip_at(text: &str, at: usize) -> Option<(Range<usize>, IpAddr)> {
    let bytes = &text.as_bytes()[at..];
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let length = bytes.iter().take(LONGEST_ADDRESS).take_while(|byte| is_part(byte)).count();
    let run = &text[at..at + length];
    // Behind it may be the end of a sentence, or a port.
    let ends = [run, run.trim_end_matches(['.', ':']), run.split(':').next().unwrap_or_default()];
    ends.into_iter().find_map(|text_of| {
        let end = at + text_of.len();
        let is_whole = text[end..].chars().next().is_none_or(|next| !is_of_word(next));
        let address = text_of.parse().ok().filter(|_| is_whole)?;
        Some((at..end, address))
    })
}

/// The same with the port or the length of a prefix that stands behind it.
pub(super) fn endpoint_at(text: &str, at: usize) -> Option<usize> {
    let (Range { end, .. }, address) = ip_at(text, at)?;
    let rest = &text.as_bytes()[end..];
    let digits = rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    let is_more = match rest.first() {
        Some(b'/') => (1..=3).contains(&digits),
        Some(b':') => (1..=5).contains(&digits) && address.is_ipv4(),
        _ => false,
    };
    let behind = text[end..].chars().nth(1 + digits);
    let is_whole = behind.is_none_or(|next| !is_of_word(next));
    Some(if is_more && is_whole { end + 1 + digits } else { end })
}

/// As much of a version as looks like an address: of `10.6.0.1-beta` and `8.10.0.6_84732`, what is before the
/// hyphen. None if it is no such version.
pub(super) fn version(text: &str, digits: Digits) -> Option<&str> {
    let (numbers, behind) = text.split_once(['-', '_'])?;
    let is_address = numbers.parse::<std::net::Ipv4Addr>().is_ok();
    let is_one = is_address && is_of_words(text, digits) && !behind.is_empty();
    (is_one && !has_address(behind)).then_some(numbers)
}

/// A URL, an e-mail address or a domain that begins there, and where it ends.
pub(super) fn link_at(text: &str, at: usize) -> Option<Range<usize>> {
    let ends = |c: char| c.is_whitespace() || "\"'`<>(){}[],;|".contains(c);
    // Looking at all of a long one at each of its dots would take for ever.
    let mut near = text[at..].char_indices().take(LONGEST_LINK);
    let length = near.find(|(_, c)| ends(*c)).map_or(text.len() - at, |(length, _)| length);
    let run = if length > 4 * LONGEST_LINK { "" } else { &text[at..at + length] };
    // `user=me@example.com`, but what is asked of a URL belongs to it.
    let run = if run.contains("://") { run } else { run.split('=').next().unwrap_or_default() };
    let run = run.trim_end_matches(['.', ':', '!', '?']);
    let is_link = |text| matches!(shape(text), Shape::Email(..) | Shape::Url { .. });
    // What stands before a colon is no part of it, unless it is a scheme: user:me@example.com.
    if is_link(run) {
        return Some(at..at + run.len());
    }
    let first = run.split([':', '/', '\\']).next().unwrap_or_default();
    (first.len() < run.len() && is_link(first)).then(|| at..at + first.len())
}

/// Whether there is an address of any kind in it.
pub(super) fn has_address(text: &str) -> bool {
    starts(text).any(|at| {
        mac_at(text, at).is_some() || ip_at(text, at).is_some() || link_at(text, at).is_some()
    }) || has_odd_address(text)
}

/// Whether there is an address that no parser takes: it is stuck to a word, has leading zeros or none, or
/// hyphens between its numbers.
pub(super) fn has_odd_address(text: &str) -> bool {
    let of_four = ['.', '-', '_'].iter().any(|separator| {
        text.split(|c: char| !c.is_ascii_digit() && c != *separator).any(|run| {
            run.split(*separator).filter(|number| number.parse::<u8>().is_ok()).count() >= 4
        })
    });
    let of_six = text
        .split(|c: char| !c.is_ascii_hexdigit() && c != ':')
        .any(|run| run.split(':').filter(|number| matches!(number.len(), 1 | 2)).count() >= 6);
    of_four || of_six
}

/// Where something may begin.
fn starts(text: &str) -> impl Iterator<Item = usize> {
    let mut inside = false;
    text.char_indices().filter_map(move |(at, character)| {
        let was_inside = std::mem::replace(&mut inside, is_of_word(character));
        (!was_inside && (inside || character == ':')).then_some(at)
    })
}

/// Seconds or milliseconds since the epoch, or a date with or without a time of day.
pub(super) fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        // From 2001 to 2065.
        return matches!(bytes.len(), 10 | 13) && (b'1'..=b'2').contains(&bytes[0]);
    }
    let is_date = bytes.get(..10).is_some_and(|date| {
        date.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => b"-/.".contains(byte),
            _ => byte.is_ascii_digit(),
        })
    });
    let of_day = bytes.get(10..).unwrap_or_default();
    is_date && of_day.len() < 26 && of_day.iter().all(|byte| b"0123456789:.+- TZ".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_and_few_digits_say_nothing() {
        let digits = Digits { together: 5, altogether: 10 };
        let is = |text| is_of_words(text, digits);
        for text in ["AP-515", "1/1/24", "wpa2-psk", "10.6.0.1-synthetic", "8.10.0.6_84732", "100E"]
        {
            assert!(is(text), "{text}");
        }
        for text in ["zrh-ap-17", "bob1", "CNF7K9X2LM", "A1B2C3D4", "1000001", "caf\u{e9}", "alice"]
        {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn words_are_small_sorted_and_there_once() {
        let words: Vec<_> = include_str!("words.txt").split_ascii_whitespace().collect();
        assert!(words.is_sorted_by(|a, b| a < b));
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        assert!(is_common("Monitoring") && !is_common("alice"));
    }

    #[test]
    fn names_have_shapes() {
        let is = |text: &'static str, expected| assert_eq!(shape(text), expected, "{text}");
        for text in [
            "02:00:5e:10:ab:FF",
            "02-00-5e-10-ab-ff",
            "0200.5e10.abff",
            "02005E10ABFF",
            "02005e-10abff",
            "0200-5e10-abff",
            "02 00 5e 10 ab ff",
        ] {
            is(text, Shape::Mac);
        }
        is("02:00:00:ff:fe:00:00:01", Shape::Mac);
        is("02:00:5e:10:ab", Shape::Word);
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        let v6: IpAddr = "2001:db8::7".parse().unwrap();
        is("192.0.2.7", Shape::Ip(v4));
        is("2001:db8::7", Shape::Ip(v6));
        is("192.0.2.7:443", Shape::Endpoint("", v4, ":443"));
        is("192.0.2.7/24", Shape::Endpoint("", v4, "/24"));
        is("[2001:db8::7]:443", Shape::Endpoint("[", v6, "]:443"));
        is("1000001", Shape::Decimal);
        is("0123456789abcdef0123456789abcdef", Shape::Hex);
        is("01234567-89ab-cdef-0123-456789abcdef", Shape::Hex);
        is("me@example.com", Shape::Email("me", "example.com"));
        is("EXAMPLE\\me", Shape::Login("EXAMPLE\\", "me"));
        is("host/pc.example.com", Shape::Login("host/", "pc.example.com"));
        is("example.com", Shape::Url { scheme: "", host: "example.com", port: "", rest: "" });
        is(
            "https://example.com:8443/a?b",
            Shape::Url { scheme: "https://", host: "example.com", port: ":8443", rest: "/a?b" },
        );
        is("192.0.2.7/p", Shape::Url { scheme: "", host: "192.0.2.7", port: "", rest: "/p" });
        is("north-ap-001", Shape::Word);
        is("AP 12", Shape::Word);
        is("", Shape::Word);
    }

    #[test]
    fn addresses_are_found_in_sentences() {
        for text in [
            "moved 02:00:5e:10:ab:ff away",
            "mac=0200.5e10.abff",
            "at 192.0.2.7.",
            "192.0.2.7:443 up",
            "from 2001:db8::7",
            "by me@example.com",
            "see https://example.com/a",
            "user:me@example.com",
            "(example.com)",
            "02005e10abff",
            "192.0.2.7-192.0.2.9",
            "192.0.2.7_eth0",
        ] {
            assert!(has_address(text), "{text}");
        }
        for text in ["port 1/1/24", "08:15:00", "version 10.6", "a-b-c-d-e-f", ""] {
            assert!(!has_address(text), "{text}");
        }
    }

    #[test]
    fn versions_are_told_from_addresses() {
        let digits = Digits { together: 5, altogether: 10 };
        for text in ["8.10.0.6_84732", "10.6.0.1-synthetic"] {
            assert!(version(text, digits).is_some(), "{text}");
        }
        for text in ["10.6.0.1", "10.6.0.1-", "192.0.2.7-192.0.2.9", "10.6.0.1-alice", "10.6-1"] {
            assert_eq!(version(text, digits), None, "{text}");
        }
    }

    #[test]
    fn times_are_told_from_other_numbers() {
        for text in ["1767600000", "1767600000000", "2026-01-05", "2026-01-05T08:00:00.5Z"] {
            assert!(is_time(text), "{text}");
        }
        for text in ["1000001", "9767600000", "2026-01-05 by me", "", "12345678901"] {
            assert!(!is_time(text), "{text}");
        }
    }

    #[test]
    fn digits_are_put_back_as_they_were_written() {
        assert_eq!(with_digits("02:AB:5e", &[1, 0xcd, 0xef]), "01:CD:EF");
        assert_eq!(with_digits("0200.5e10.abff", &octets("0a0b0c0d0e0f")), "0a0b.0c0d.0e0f");
    }
}
