//! Faults as a pure machine: what is done instead of sending frames, and that a seed decides it.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    codec::{notes::Notes, plan::Plan, text::Text, wire},
    entry::Entry,
    error::Error,
    fault::{
        Act, Applied, Cut, Door, End, FAULTS, Faults, Form, Message, Place, PlannedEnd, Refusal,
        Request, SCENARIOS, Spoiler, Step, ValidationFails,
    },
    protocol,
    schema::Resolver,
    synth,
};
use proptest::prelude::*;
use support::capture::{Entries, envelope, message, subscription};

fn faults(rules: &str) -> Faults {
    Faults::parse(rules, "faults.toml", Some(7)).unwrap()
}

/// The rules for everything, with one fault.
fn always(fault: &str) -> Faults {
    faults(&format!("[[rule]]\ndo = {fault}"))
}

fn doubtless(error: Error) {
    panic!("{error}");
}

/// A connection to the topic `audit`, the first one.
fn spoiler(faults: &Faults) -> Spoiler {
    Door::new(faults.clone()).entered("audit", [&"a".to_owned()])
}

/// 20 frames of the topic `audit`, a second apart: each says its number, from 0.
fn twenty() -> Vec<Entry> {
    let mut entries = Entries::new();
    for number in 0..20 {
        let data = message("audit", number, 30);
        entries.frame(Duration::from_secs(1) * number, &subscription("a", "audit"), data);
    }
    entries.made
}

/// What is done instead of sending these frames, and when in seconds.
fn run(spoiler: &mut Spoiler, entries: &[Entry]) -> Vec<(u64, Step)> {
    let mut steps = Vec::new();
    for (second, entry) in (0..).zip(entries) {
        let due = Duration::from_secs(second);
        let taken = spoiler.frame(entry, due, doubtless);
        steps.extend(taken.into_iter().map(|step| (second, step)));
    }
    steps.extend(spoiler.rest().into_iter().map(|step| (u64::MAX, step)));
    steps
}

fn acts(rules: &str) -> Vec<Act> {
    acts_of(run(&mut spoiler(&faults(rules)), &twenty()).into_iter().map(|(_, step)| step))
}

fn acts_of(steps: impl IntoIterator<Item = Step>) -> Vec<Act> {
    steps.into_iter().map(|step| step.act).collect()
}

/// The numbers of the frames that a rule drops.
fn dropped(when: &str) -> Vec<u64> {
    let rules = faults(&format!("[[rule]]\nwhen = {{ {when} }}\ndo = \"drop\""));
    let steps = run(&mut spoiler(&rules), &twenty());
    let dropped = steps.into_iter().filter(|(_, step)| step.act == Act::Nothing);
    dropped.map(|(second, _)| second).collect()
}

/// The numbers that the messages say, in the order in which they are sent.
fn numbers(acts: &[Act]) -> Vec<u32> {
    let messages = acts.iter().filter_map(|act| match act {
        Act::Message(message) => Some(&message.data),
        _ => None,
    });
    let number = |data: &Bytes| {
        let payload = protocol::by_name("classic").envelope(data).payload;
        str::from_utf8(payload).unwrap().split(':').next().unwrap().parse().unwrap()
    };
    messages.map(number).collect()
}

#[test]
fn without_a_rule_that_fits_every_frame_is_sent_as_it_is() {
    let acts = acts("[[rule]]\nwhen = { topic = \"presence\" }\ndo = \"drop\"");
    let sent = twenty().into_iter().map(|entry| {
        let data = entry.frame().unwrap().data.clone();
        Act::Message(Message { data, form: Form::WHOLE })
    });
    assert_eq!(acts, sent.collect::<Vec<_>>());
}

#[test]
fn each_condition_takes_what_it_says() {
    assert_eq!(dropped("nth = 3"), [2]);
    assert_eq!(dropped("nth = [3, 5]"), [2, 4]);
    assert_eq!(dropped("every = 6"), [5, 11, 17]);
    assert_eq!(dropped("from = \"3s\", to = \"5s\""), [3, 4]);
    assert_eq!(dropped("from = \"18s\""), [18, 19]);
    assert_eq!(dropped("topic = [\"audit\", \"presence\"], nth = 1"), [0]);
    assert_eq!(dropped("topic = \"presence\"").len(), 0);
    assert_eq!(dropped("subscription = \"a*\"").len(), 20);
    assert_eq!(dropped("subscription = [\"b\", \"c*\"]").len(), 0);
    assert_eq!(dropped("connection = [1, 9]").len(), 20);
    assert_eq!(dropped("connection = 2").len(), 0);
    assert_eq!(dropped("probability = 0.0").len(), 0);
    assert_eq!(dropped("probability = 1").len(), 20);
    // All of it has to hold, and only those are counted for which the rest does.
    assert_eq!(dropped("from = \"10s\", every = 4"), [13, 17]);
    assert_eq!(dropped("from = \"10s\", every = 4, nth = [2, 8]"), [17]);
}

#[test]
fn a_probability_is_one() {
    let rules = faults("[[rule]]\nwhen = { probability = 0.3 }\ndo = \"drop\"");
    let mut spoiler = spoiler(&rules);
    let entry = &twenty()[0];
    let steps = (0..10_000).flat_map(|_| spoiler.frame(entry, Duration::ZERO, doubtless));
    let dropped = steps.filter(|step| step.act == Act::Nothing).count();
    // Ten times the standard deviation of a fair coin of that kind.
    assert!((2550..3450).contains(&dropped), "{dropped}");
}

#[test]
fn a_condition_sees_the_decoded_payload() {
    let mut entries = Entries::new();
    let owner = subscription("a", "audit");
    // Audit.audit_message: field 1 is the customer.
    for customer in ["one", "two", "one"] {
        let payload = [&[0x0a, 3][..], customer.as_bytes()].concat();
        entries.frame(Duration::ZERO, &owner, envelope("audit", customer, payload));
    }
    let rules = "[[rule]]\nwhen = { where = '.data.customer_id == \"two\"' }\ndo = \"drop\"";
    let steps = run(&mut spoiler(&faults(rules)), &entries.made);
    let nothing = steps.iter().map(|(_, step)| step.act == Act::Nothing);
    assert_eq!(nothing.collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_condition_that_fails_is_told_once_and_applies_to_nothing() {
    let rules = "[[rule]]\nwhen = { where = '.data.customer_id + 1' }\ndo = \"drop\"";
    let mut spoiler = spoiler(&faults(rules));
    let mut doubts = Vec::new();
    for entry in twenty() {
        // No protobuf at all, which is not decoded.
        let frame = centralcap::entry::What::Frame(centralcap::entry::Frame {
            data: Bytes::from_static(b"\xff"),
            ..entry.frame().unwrap().clone()
        });
        let entry = Entry { what: frame, ..entry };
        let steps = spoiler.frame(&entry, Duration::ZERO, |error| doubts.push(error));
        assert!(matches!(steps[..], [Step { act: Act::Message(_), .. }]), "{steps:?}");
    }
    assert_eq!(doubts.len(), 1);
    assert!(doubts[0].is_unjudged() && doubts[0].is_loss());
}

#[test]
fn frames_are_repeated_and_held_back() {
    let twice = acts("[[rule]]\nwhen = { nth = 2 }\ndo = { duplicate = { times = 2 } }");
    assert_eq!(numbers(&twice)[..6], [0, 1, 1, 1, 2, 3]);

    let late = acts("[[rule]]\nwhen = { nth = 2 }\ndo = { reorder = { within = 1 } }");
    assert_eq!(numbers(&late)[..4], [0, 2, 1, 3]);
    let all = acts("[[rule]]\ndo = { reorder = { within = 5 } }");
    let mut order = numbers(&all);
    assert_eq!(order.len(), 20);
    assert!(!order.is_sorted(), "{order:?}");
    for (place, number) in order.iter().enumerate() {
        // At most five go before it that would come behind it.
        assert!(order[..place].iter().filter(|before| *before > number).count() <= 5, "{order:?}");
    }
    order.sort_unstable();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
}

#[test]
fn delays_and_stalls_are_as_long_as_asked() {
    let entries = twenty();
    let rules = always("{ delay = { by = \"2s\", jitter = \"1s\" } }");
    let later: Vec<_> =
        run(&mut spoiler(&rules), &entries).into_iter().map(|(_, step)| step.later).collect();
    assert!(later.iter().all(|later| (2..=3).contains(&later.as_secs())), "{later:?}");
    assert!(later.iter().collect::<BTreeSet<_>>().len() > 15, "{later:?}");

    let stall = acts("[[rule]]\nwhen = { nth = 2 }\ndo = { stall = { for = \"250ms\" } }");
    assert_eq!(stall[1], Act::Stall(Duration::from_millis(250)));
    assert_eq!(stall.len(), 21);
}

#[test]
fn a_message_is_spoilt_as_it_says() {
    let first = |fault: &str| {
        let rules = always(fault);
        let (_, step) = run(&mut spoiler(&rules), &twenty()[..1]).remove(0);
        let Act::Message(message) = step.act else { panic!("{:?}", step.act) };
        (message.data, message.form, step.applied)
    };
    let whole = twenty()[0].frame().unwrap().data.clone();

    let (data, form, _) = first("{ truncate = { keep = 5 } }");
    assert_eq!((data, form), (whole.slice(..5), Form::WHOLE));
    let (data, ..) = first("\"truncate\"");
    assert!(data.len() < whole.len() && whole.starts_with(&data));

    let (data, _, applied) = first("{ truncate = { keep = 1000 } }");
    assert_eq!(
        (data, applied[0].detail["left_out"].as_str()),
        (whole.clone(), Some("it is no longer than that"))
    );

    let (data, _, applied) = first("{ flip-bits = { count = 3 } }");
    let bits = whole.iter().zip(&data).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
    assert_eq!((data.len(), bits), (whole.len(), 3));
    for bit in applied[0].detail["bits"].as_array().unwrap() {
        let bit = bit.as_u64().unwrap() as usize;
        assert_eq!((whole[bit / 8] ^ data[bit / 8]) >> (bit % 8) & 1, 1);
    }

    let (data, ..) = first("{ oversize = { size = \"1MiB\" } }");
    assert_eq!(data.len(), 1 << 20);
    assert!(data.starts_with(&whole) && wire::fields(&data).all(|field| field.is_ok()));
    let (data, _, applied) = first("{ oversize = { size = 3 } }");
    assert_eq!(
        (data, applied[0].detail["left_out"].as_str()),
        (whole.clone(), Some("it is as large already"))
    );

    let (data, form, _) = first("{ fragment = { into = 4 } }");
    assert_eq!((data, form), (whole.clone(), Form { fragments: 4, ..Form::WHOLE }));
    let (data, form, _) = first("{ slow = { bytes = 2, every = \"1s\" } }");
    let slowly = Some((2, Duration::from_secs(1)));
    assert_eq!((data, form), (whole.clone(), Form { slowly, ..Form::WHOLE }));

    let text = Form { text: true, ..Form::WHOLE };
    let (data, form, _) = first("{ text = { words = \"maintenance\" } }");
    assert_eq!((&data[..], form), (&b"maintenance"[..], text));
    let (data, form, _) = first("{ text = { content = \"bytes\" } }");
    assert_eq!((data, form), (whole.clone(), text));
    let (data, ..) = first("\"text\"");
    assert!(data.is_ascii() && data.len() == whole.len().div_ceil(3) * 4);
}

#[test]
fn a_connection_ends_as_it_says_and_nothing_follows() {
    let end = |fault: &str| {
        let acts = acts(&format!("[[rule]]\nwhen = {{ nth = 3 }}\ndo = {fault}"));
        assert_eq!(numbers(&acts[..2]), [0, 1]);
        let [_, _, Act::End(end)] = &acts[..] else { panic!("{acts:?}") };
        end.clone()
    };
    let third = Message { data: twenty()[2].frame().unwrap().data.clone(), form: Form::WHOLE };
    let cut = |part| Cut { message: third.clone(), part };

    let reason = "going away".to_owned();
    let close = end("{ close = { code = 1001, reason = \"going away\" } }");
    assert_eq!(close, End::Close { code: Some(1001), reason });
    assert_eq!(end("\"close\""), End::Close { code: None, reason: String::new() });
    assert_eq!(end("\"reset\""), End::Reset { cut: cut(0.0) });
    assert_eq!(end("{ reset = { part = 0.5 } }"), End::Reset { cut: cut(0.5) });
    let length = Some(Duration::from_secs(60));
    assert_eq!(end("{ half-open = { for = \"1m\" } }"), End::HalfOpen { cut: cut(0.0), length });
    assert_eq!(end("\"break-tls\""), End::BreakTls);
    assert_eq!(acts("[[rule]]\nwhen = { nth = 3 }\ndo = \"no-pong\"")[2], Act::MutePongs);
    let flood = acts("[[rule]]\nwhen = { nth = 3 }\ndo = { ping-flood = { count = 9 } }");
    assert_eq!(flood[2], Act::Pings(9));
}

#[test]
fn a_connection_ends_at_a_moment_behind_the_frames_of_that_moment() {
    let seconds = Duration::from_secs;
    let ends = |when: &str, played: u64| {
        let rules = format!("[[rule]]\nwhen = {{ {when} }}\ndo = {{ close = {{ code = 1012 }} }}");
        let mut spoiler = spoiler(&faults(&rules));
        let at = spoiler.ends_before(seconds(played))?;
        spoiler.end().inspect(|moment| assert_eq!(moment.at, at))
    };
    assert_eq!(ends("at = \"3s\"", 3), None);
    let PlannedEnd { at, end, applied } = ends("at = \"3s\"", 4).unwrap();
    assert_eq!(at, seconds(3));
    assert_eq!(end, End::Close { code: Some(1012), reason: String::new() });
    let line = r#"{"event":"moment","topic":"audit","connection":1,"ns":3000000000,"rule":1,"fault":"close","code":1012}"#;
    assert_eq!(applied.to_string(), line);
    for (when, meets) in [
        ("topic = \"audit\"", true),
        ("topic = \"presence\"", false),
        ("subscription = \"?\"", true),
        ("subscription = \"b*\"", false),
        ("connection = 1", true),
        ("connection = 2", false),
        ("probability = 1", true),
        ("probability = 0", false),
    ] {
        let found = ends(&format!("at = \"3s\", {when}"), u64::MAX);
        assert_eq!(found.is_some(), meets, "{when}");
    }

    // The earliest; and then there is nothing left to end, nor to send.
    let mut spoiler = spoiler(&faults(
        "[[rule]]\nwhen = { at = \"7s\" }\ndo = \"break-tls\"\n\
         [[rule]]\nwhen = { at = \"5s\" }\ndo = { half-open = { for = \"1m\" } }\n\
         [[rule]]\nwhen = { at = \"5s\" }\ndo = \"reset\"",
    ));
    let frames = twenty();
    assert_eq!(run(&mut spoiler, &frames[..6]).len(), 6);
    let length = Some(seconds(60));
    assert_eq!(spoiler.ends_before(seconds(6)), Some(seconds(5)));
    // It is not over before it is said so.
    assert!(!spoiler.is_over());
    let end = spoiler.end().unwrap().end;
    assert!(matches!(&end, End::HalfOpen { length: found, .. } if *found == length), "{end:?}");
    assert!(spoiler.is_over());
    assert_eq!(spoiler.ends_before(Duration::MAX), None);
    assert_eq!(run(&mut spoiler, &frames[6..]), []);
    // Nor is there an end behind one that a frame has brought about.
    let mut spoiler = self::spoiler(&faults(
        "[[rule]]\ndo = \"reset\"\n[[rule]]\nwhen = { at = \"5s\" }\ndo = \"close\"",
    ));
    run(&mut spoiler, &frames[..1]);
    assert_eq!(spoiler.ends_before(Duration::MAX), None);
}

#[test]
fn only_an_end_has_a_moment_and_then_there_is_no_frame_to_count() {
    for (rule, expected) in [
        (
            "do = \"drop\"\nwhen = { at = \"3s\" }",
            "expected topic, subscription, connection, from, to, where, nth, every, probability as \
             rule 1.when.at in line 3 of faults.toml, found \"at\"",
        ),
        (
            "do = \"close\"\nwhen = { at = \"3s\", nth = 1 }",
            "expected topic, subscription, connection, at, probability as rule 1.when.nth in line 3",
        ),
        (
            "do = { reset = { part = 0.5 } }\nwhen = { at = \"3s\" }",
            "expected no moment beside a part, which takes a frame as rule 1.when.at in line 3 of \
             faults.toml, found \"3s\"",
        ),
        (
            "do = { half-open = { for = \"1s\", part = 1 } }\nwhen = { at = \"3s\" }",
            "expected no moment beside a part",
        ),
    ] {
        let error = Faults::parse(&format!("[[rule]]\n{rule}"), "faults.toml", None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    // No part is one that can be sent at any time.
    faults("[[rule]]\ndo = { reset = { part = 0 } }\nwhen = { at = \"3s\" }");
}

#[test]
fn several_rules_are_applied_in_their_order() {
    let rules = "
        [[rule]]
        when = { nth = 2 }
        do = { text = { words = \"three words, spoilt\" } }
        [[rule]]
        when = { nth = 2 }
        do = { truncate = { keep = 11 } }
        [[rule]]
        when = { nth = 2 }
        do = { duplicate = { times = 1 } }
        [[rule]]
        when = { nth = [2, 3] }
        do = \"drop\"
        [[rule]]
        when = { nth = [2, 4] }
        do = { close = { code = 1011 } }";
    let steps = run(&mut spoiler(&faults(rules)), &twenty());
    let rules: Vec<Vec<_>> =
        steps.iter().map(|(_, step)| step.applied.iter().map(|a| a.rule).collect()).collect();
    // What is dropped cannot be spoilt any more; whether it is does not change who counts what.
    assert_eq!(rules, [vec![], vec![1, 2, 3, 4], vec![4], vec![5]]);
    assert!(matches!(&steps[3].1.act, Act::End(End::Close { code: Some(1011), .. })));
}

/// Frames of all topics as a campus has them.
fn campus() -> Vec<Entry> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("campus.mcap");
    let options = synth::Options { messages: 150, ..synth::Options::default() };
    synth::write(&options, &path).unwrap();
    let entries = Capture::open(&[path]).unwrap().entries().map(Result::unwrap);
    entries.filter(|entry| entry.frame().is_some()).collect()
}

/// What the schema does not know in a frame with these bytes; None if it is none.
fn drift(resolver: &Resolver, entry: &Entry, data: &[u8]) -> Option<Vec<String>> {
    let protocol = protocol::by_name("classic");
    let kind = &entry.frame().unwrap().kind;
    let envelope = resolver.envelope(protocol, &entry.subscription.topic, kind).unwrap();
    let plan = Plan::new(&envelope, centralcap::codec::plan::Style::default());
    let (mut text, mut notes) = (Text::default(), Notes::default());
    centralcap::codec::json::write(&plan, data, &mut text, &mut notes).ok()?;
    Some(notes.list().iter().map(|note| format!("{note:?}")).collect())
}

#[test]
fn what_drifts_from_the_schema_can_still_be_decoded() {
    let (entries, resolver) = (campus(), Resolver::default());
    for (fault, noted) in [
        ("unknown-field", "what: Field"),
        ("unknown-enum", "what: EnumNumber"),
        ("drop-required", "what: MissingRequired"),
    ] {
        let rules = always(&format!("\"{fault}\""));
        let (mut done, mut spoiler) = (0, spoiler(&rules));
        for entry in &entries {
            let data = entry.frame().unwrap().data.clone();
            let steps = spoiler.frame(entry, Duration::ZERO, doubtless);
            let [Step { act: Act::Message(spoilt), applied, .. }] = &steps[..] else {
                panic!("{steps:?}");
            };
            let [applied] = &applied[..] else { panic!("{applied:?}") };
            if applied.detail.contains_key("left_out") {
                assert_eq!(spoilt.data, data, "{applied}");
                continue;
            }
            let before = drift(&resolver, entry, &data).unwrap();
            let after =
                drift(&resolver, entry, &spoilt.data).expect("what is spoilt is well-formed");
            let count = |notes: &[String]| notes.iter().filter(|note| note.contains(noted)).count();
            assert!(count(&after) > count(&before), "{applied}: {before:?} {after:?}");
            done += 1;
        }
        assert!(done > entries.len() / 4, "{fault} was done to {done} frames");
    }
}

#[test]
fn a_payload_is_replaced_by_one_of_another_type_and_the_envelope_stays() {
    let (entries, protocol) = (campus(), protocol::by_name("classic"));
    let mut spoiler = spoiler(&always("\"replace\""));
    let mut seen = BTreeSet::new();
    for entry in &entries {
        let data = entry.frame().unwrap().data.clone();
        let steps = spoiler.frame(entry, Duration::ZERO, doubtless);
        let [Step { act: Act::Message(spoilt), applied, .. }] = &steps[..] else { panic!() };
        let label = applied[0].detail["with"].as_str().unwrap();
        assert_ne!(label, entry.frame().unwrap().kind.label);
        seen.insert(label.to_owned());
        let (before, after) = (protocol.envelope(&data), protocol.envelope(&spoilt.data));
        assert_eq!((before.subject, before.time), (after.subject, after.time));
        let payloads = protocol.topics().iter().flat_map(|topic| topic.payloads);
        let with = payloads.into_iter().find(|payload| payload.label == label).unwrap();
        let pool = centralcap::schema::bundled();
        let message = centralcap::schema::message(pool, with.message).unwrap();
        assert!(centralcap::codec::reflect::decode(&message, after.payload).is_ok());
    }
    // That all frames draw the same would be no chance.
    assert!(seen.len() > 3, "{seen:?}");
}

/// Everything that happens to a few clients that come one after the other, as a log.
fn log(faults: &Faults, entries: &[Entry]) -> Vec<String> {
    let mut door = Door::new(faults.clone());
    let mut log: Vec<String> = Vec::new();
    for _ in 0..4 {
        for topic in ["audit", "monitoring", "presence"] {
            log.extend(door.connected().map(|applied| applied.to_string()));
            let asked = door.asked(Request::Feed, topic);
            log.extend(asked.map(|(_, applied)| applied.to_string()));
            let mut spoiler = door.entered(topic, [&"synthetic".to_owned()]);
            let own = entries.iter().filter(|entry| entry.subscription.topic == topic);
            for entry in own {
                let steps = spoiler.frame(entry, Duration::ZERO, doubtless);
                log.extend(steps.iter().flat_map(|step| &step.applied).map(Applied::to_string));
            }
        }
    }
    log
}

#[test]
fn every_scenario_can_be_read_says_what_it_does_and_does_something() {
    let entries = campus();
    let mut names = BTreeSet::new();
    for scenario in SCENARIOS {
        assert!(names.insert(scenario.name), "{} is there twice", scenario.name);
        let said = scenario.description();
        assert!(said.len() > 20 && !said.contains('"') && said.len() < 120, "{said}");
        assert!(scenario.rules.contains(&format!("description = \"{said}\"\n")));
        let faults = Faults::scenario(scenario.name, Some(3)).unwrap();
        let log = log(&faults, &entries);
        assert!(!log.is_empty(), "{} does nothing", scenario.name);
    }
    assert!(names.len() >= 12);
    let error = Faults::scenario("sunshine", None).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("flaky-network"), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_one_another() {
    let entries = campus();
    for scenario in ["flaky-network", "malformed", "schema-drift", "reordered", "wrong-type"] {
        let log_of = |seed| log(&Faults::scenario(scenario, Some(seed)).unwrap(), &entries);
        assert_eq!(log_of(1), log_of(1), "{scenario}");
        assert_ne!(log_of(1), log_of(2), "{scenario}");
        // Another client of the same topic has another fate.
        let log = log_of(1);
        let of = |connection: u64| -> Vec<String> {
            let own = format!("\"topic\":\"monitoring\",\"connection\":{connection},");
            let lines = log.iter().filter(|line| line.contains(&own));
            lines.map(|line| line.replace(&own, "")).collect()
        };
        assert_ne!(of(1), of(2), "{scenario}");
    }
}

#[test]
fn a_log_repeats_its_run() {
    let entries = campus();
    let faults = Faults::scenario("flaky-network", Some(99)).unwrap();
    let lines = log(&faults, &entries);
    let file = format!("{}\n{}\n", faults.log_head(), lines.join("\n"));
    let again = Faults::parse(&file, "faults.jsonl", None).unwrap();
    assert_eq!(log(&again, &entries), lines);
    assert_eq!(again.log_head(), faults.log_head());
    let other = Faults::parse(&file, "faults.jsonl", Some(98)).unwrap();
    assert_ne!(log(&other, &entries), lines);
    let error = Faults::parse("{\"event\":\"ready\"}", "ready.json", None).unwrap_err();
    assert!(
        error.to_string().contains("the head of a fault log in line 1 of ready.json"),
        "{error}"
    );
}

#[test]
fn requests_are_refused_by_topic_and_number() {
    let rules = faults(
        "
        [[rule]]
        when = { topic = \"audit\", nth = [1, 2] }
        do = { refuse = { status = 503, body = \"maintenance\", headers = { Retry-After = \"1\" } } }
        [[rule]]
        when = { nth = 2 }
        do = { raw-answer = { text = \"nonsense\" } }
        [[rule]]
        when = { request = \"validate\" }
        do = { refuse = { status = 500 } }
        [[rule]]
        when = { every = 2 }
        do = \"refuse-tls\"",
    );
    let mut door = Door::new(rules);
    let mut ask = |request, topic| {
        let (refusal, applied) = door.asked(request, topic)?;
        let number = match applied.place {
            Place::Request { number, .. } => number,
            other => panic!("{other:?}"),
        };
        let said = match refusal {
            Refusal::Answer { status, body, headers } => format!("{status} {body} {headers:?}"),
            Refusal::Raw(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        };
        Some((number, said))
    };
    let maintenance = "503 maintenance [(\"Retry-After\", \"1\")]".to_owned();
    assert_eq!(ask(Request::Feed, "audit"), Some((1, maintenance.clone())));
    assert_eq!(ask(Request::Feed, "presence"), None);
    assert_eq!(ask(Request::Feed, "audit"), Some((2, maintenance)));
    assert_eq!(ask(Request::Feed, "audit"), None);
    assert_eq!(ask(Request::Feed, "presence"), Some((2, "nonsense".to_owned())));
    assert_eq!(ask(Request::Validate, ""), Some((1, "500  []".to_owned())));
    let broken: Vec<_> = (0..4).map(|_| door.connected().is_some()).collect();
    assert_eq!(broken, [false, true, false, true]);
}

#[test]
fn a_connection_that_two_rules_break_counts_for_both() {
    let rule = "[[rule]]\nwhen = { nth = 1 }\ndo = \"refuse-tls\"\n";
    let mut door = Door::new(faults(&rule.repeat(2)));
    let broken: Vec<_> = (0..3).map(|_| door.connected().is_some()).collect();
    assert_eq!(broken, [true, false, false]);
}

#[test]
fn what_was_held_back_does_not_follow_to_another_place() {
    let mut spoiler =
        spoiler(&faults("[[rule]]\nwhen = { nth = 1 }\ndo = { reorder = { within = 1 } }"));
    let entries = twenty();
    assert!(numbers(&acts_of(spoiler.frame(&entries[0], Duration::ZERO, doubtless))).is_empty());
    spoiler.leap(Duration::from_secs(9));
    assert_eq!(spoiler.frame(&entries[9], Duration::from_secs(9), doubtless).len(), 1);
    assert!(spoiler.rest().is_empty());
}

#[test]
fn a_frame_that_is_held_back_until_the_connection_is_over_is_in_the_log() {
    let rules = "
        [[rule]]
        when = { nth = [1, 2] }
        do = { duplicate = { times = 1 } }
        [[rule]]
        when = { nth = [1, 2] }
        do = { reorder = { within = 1000 } }
        [[rule]]
        when = { nth = 2 }
        do = { close = { code = 1011 } }";
    let mut spoiler = spoiler(&faults(rules));
    let steps = run(&mut spoiler, &twenty());
    let struck = steps
        .iter()
        .flat_map(|(second, step)| step.applied.iter().map(move |applied| (*second, applied.rule)));
    // What would have been done to it when it leaves is not done, and what ends the connection holds nothing.
    assert_eq!(struck.collect::<Vec<_>>(), [(0, 2), (1, 1), (1, 2), (1, 3)]);
    assert!(numbers(&acts_of(steps.into_iter().map(|(_, step)| step))).is_empty());
}

#[test]
fn rules_that_are_added_stand_behind_the_others_and_in_the_log() {
    let fails: ValidationFails = "503:maintenance".parse().unwrap();
    let both = faults("[[rule]]\ndo = \"drop\"").and_rules(&fails.rule(), "more").unwrap();
    let logged = Faults::parse(&both.log_head(), "log", None).unwrap();
    let own = Faults::parse(&fails.rule(), "more", None).unwrap();
    for (faults, rule) in [(both, 2), (logged, 2), (own, 1)] {
        let (refusal, applied) = Door::new(faults).asked(Request::Validate, "").unwrap();
        let body = "maintenance".to_owned();
        assert_eq!(refusal, Refusal::Answer { status: 503, body, headers: Vec::new() });
        assert_eq!(applied.rule, rule);
    }
    // Each text is a file by itself: as one, this would be none.
    let drop = "description = \"nothing arrives\"\nrule = [{ do = \"drop\" }]";
    let all = faults(drop).and_rules(drop, "more").unwrap().and_rules(&fails.rule(), "more");
    let all = all.unwrap();
    let again = Faults::parse(&all.log_head(), "log", None).unwrap();
    assert_eq!(again.log_head(), all.log_head());
    for faults in [all, again] {
        let names = ["drop", "drop", "refuse"];
        assert_eq!(faults.to_string(), names.join(", "));
        let (_, applied) = Door::new(faults).asked(Request::Validate, "").unwrap();
        assert_eq!(applied.rule, 3);
    }
    let error = faults(drop).and_rules("[[rule]]\n\ndo = \"dorp\"", "more").unwrap_err();
    assert!(error.to_string().contains("as rule 1.do in line 3 of more"), "{error}");
    // Neither the seed nor the other rules are lost.
    let seeds = [7, 8].map(|seed| {
        let faults = Faults::parse("[[rule]]\ndo = \"flip-bits\"", "rules", Some(seed)).unwrap();
        let more = faults.clone().and_rules(&fails.rule(), "more").unwrap();
        assert_eq!(log(&faults, &twenty()), log(&more, &twenty()));
        log(&more, &twenty())
    });
    assert_ne!(seeds[0], seeds[1]);
}

#[test]
fn what_is_wrong_with_a_file_is_named_with_its_line() {
    for (rules, sentence) in [
        ("", "expected a list of rules, [[rule]] as rule in line 1 of faults.toml, found nothing"),
        ("[[rule]\n", "expected TOML as rules in line 1 of faults.toml, found "),
        ("\n[[rule]]\n", "expected a fault as rule 1.do in line 2 of faults.toml, found nothing"),
        (
            "description = \"\"\nrule = 2",
            "expected [[rule]] as rule in line 2 of faults.toml, found 2",
        ),
        (
            "\n[[rules]]\ndo = \"drop\"",
            "expected description, rule as rules in line 2 of faults.toml, found \"rules\"",
        ),
        (
            "[[rule]]\ndo = \"drop\"\n\n[[rule]]\ndo = \"dorp\"",
            "duplicate, reorder, delay, stall, truncate, flip-bits, replace, unknown-field, \
             unknown-enum, drop-required, oversize, fragment, text, slow, no-pong, ping-flood, close, \
             reset, half-open, break-tls, refuse, raw-answer, refuse-tls) as rule 2.do in line 5 of \
             faults.toml, found \"dorp\"",
        ),
        (
            "[[rule]]\ndo = \"drop\"\nwhen = { nht = 3 }",
            "expected topic, subscription, connection, from, to, where, nth, every, probability as \
             rule 1.when.nht in line 3 of faults.toml, found \"nht\"",
        ),
        (
            "[[rule]]\ndo.refuse.status = 503\nwhen.where = \".data\"",
            "expected request, topic, nth, every, probability as rule 1.when.where in line 3",
        ),
        (
            "[[rule]]\ndo = \"refuse-tls\"\n[rule.when]\ntopic = \"audit\"",
            "expected nth, every, probability as rule 1.when.topic in line 4 of faults.toml",
        ),
        (
            "[[rule]]\ndo = { close = { code = 65536 } }",
            "expected a whole number from 0 to 65535 as rule 1.do.close.code in line 2 of \
             faults.toml, found 65536",
        ),
        (
            "[[rule]]\ndo = { close = { reason = \"why\" } }",
            "expected a code, as there is a reason as rule 1.do.close.code in line 2",
        ),
        (
            "[[rule]]\n[rule.do.close]\ncode = 1000\nresaon = \"why\"",
            "expected code, reason as rule 1.do.close.resaon in line 4 of faults.toml, found \"resaon\"",
        ),
        (
            "[[rule]]\ndo = \"delay\"",
            "expected a duration, like \"250ms\" or \"1m30s\" as rule 1.do.delay.by in line 2 of \
             faults.toml, found nothing",
        ),
        (
            "[[rule]]\ndo = { drop = { hard = true } }",
            "expected nothing as rule 1.do.drop.hard in line 2 of faults.toml, found \"hard\"",
        ),
        (
            "[[rule]]\ndo = { delay = { by = 3 } }",
            "as rule 1.do.delay.by in line 2 of faults.toml, found 3",
        ),
        (
            "[[rule]]\ndo = \"drop\"\nwhen = { topic = \"weather\" }",
            "expected a topic (apprf, audit, location, monitoring, presence, security) as rule \
             1.when.topic in line 3 of faults.toml, found \"weather\"",
        ),
        (
            "[[rule]]\ndo = \"drop\"\nwhen.nth = [\n  1,\n  0,\n]",
            "expected a whole number from 1 as rule 1.when.nth in line 5 of faults.toml, found 0",
        ),
        (
            "[[rule]]\ndo = \"drop\"\nwhen.nth = []",
            "expected one or more as rule 1.when.nth in line 3",
        ),
        (
            "[[rule]]\ndo = \"drop\"\nwhen.probability = 1.5",
            "expected a number from 0 to 1 as rule 1",
        ),
        (
            "[[rule]]\ndo = \"drop\"\nwhen.where = \".a ==\"",
            "expected a jq expression as rule 1.when.where",
        ),
        ("[[rule]]\ndo = \"drop\"\nwhen.subscription = \"[\"", "expected a pattern of names, like"),
        (
            "[[rule]]\ndo = { oversize = { size = \"1TB\" } }",
            "expected a size from 1 B to 256.0 MiB as",
        ),
        ("[[rule]]\ndo = { replace = { with = \"x\" } }", "location.geofence, monitoring"),
        (
            "[[rule]]\ndo = { refuse = { status = 101 } }",
            "expected a whole number from 200 to 599 as",
        ),
        (
            "[[rule]]\ndo = [\"drop\"]",
            "expected one fault, \"drop\" or { close = { code = 1001 } } as",
        ),
    ] {
        let error = Faults::parse(rules, "faults.toml", None).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(sentence), "{rules}\n{said}");
        assert!(error.hint().is_some_and(|hint| hint.contains("docs/faults.md")));
    }
}

#[test]
fn a_validation_has_no_topic_that_a_rule_could_name() {
    let rules =
        "[[rule]]\ndo.refuse.status = 503\nwhen = { topic = \"audit\", request = \"validate\" }";
    let said = Faults::parse(rules, "faults.toml", None).unwrap_err().to_string();
    let expected = "expected request, nth, every, probability as rule 1.when.topic in line 3 of \
                    faults.toml, found \"topic\"";
    assert_eq!(said, expected);
}

#[test]
fn a_refusal_has_headers_that_are_not_the_answers_own() {
    for (name, expected) in [
        ("a b", "an HTTP header"),
        ("Connection", "another header than connection, content-length, transfer-encoding"),
        ("content-length", "another header than "),
        ("Transfer-Encoding", "another header than "),
    ] {
        let headers = format!("{{ {name:?} = \"close\" }}");
        let rules =
            format!("[[rule]]\ndo = {{ refuse = {{ status = 500, headers = {headers} }} }}");
        let said = Faults::parse(&rules, "faults.toml", None).unwrap_err().to_string();
        let field = format!(" as rule 1.do.refuse.headers.{name} in line 2 of faults.toml");
        assert!(said.contains(expected) && said.contains(&field), "{said}");
    }
}

#[test]
fn what_is_wrong_with_rules_in_json_is_told_with_an_example_in_json() {
    for (rules, sentence) in [
        ("{", "expected JSON as rules in the request"),
        ("{\"rules\": []}", "expected description, rule as rules in the request"),
        ("{\"rule\": [{\"do\": \"dorp\"}]}", "as rule 1.do in the request, found \"dorp\""),
    ] {
        let error = Faults::parse_json(rules, "the request", None).unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("{\"rule\": [{") && hint.contains("docs/faults.md"), "{hint}");
    }
}

#[test]
fn every_fault_is_in_the_documentation() {
    let document = std::fs::read_to_string("docs/faults.md").unwrap();
    for row in FAULTS {
        let line = format!("| `{}` | {} |\n", row.name, row.says);
        assert!(document.contains(&line), "{line}");
    }
    for scenario in SCENARIOS {
        let line = format!("| `{}` | {} |\n", scenario.name, scenario.description());
        assert!(document.contains(&line), "{line}");
    }
}

/// A fault that can befall a frame, with everything left to chance.
fn any_fault() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"drop\"".to_owned()),
        Just("\"duplicate\"".to_owned()),
        (1..9_u32).prop_map(|within| format!("{{ reorder = {{ within = {within} }} }}")),
        Just("{ delay = { by = \"1ms\", jitter = \"1h\" } }".to_owned()),
        Just("\"truncate\"".to_owned()),
        (1..99_u32).prop_map(|count| format!("{{ flip-bits = {{ count = {count} }} }}")),
        Just("\"replace\"".to_owned()),
        Just("\"unknown-field\"".to_owned()),
        Just("\"unknown-enum\"".to_owned()),
        Just("\"drop-required\"".to_owned()),
        (1..5000_u32).prop_map(|size| format!("{{ oversize = {{ size = {size} }} }}")),
        Just("\"fragment\"".to_owned()),
        Just("\"text\"".to_owned()),
        Just("\"close\"".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bytes and the rules: no panic, the same again, and what is not ended is all there.
    #[test]
    fn any_bytes_can_be_spoilt(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        rules in prop::collection::vec((any_fault(), 0.0..1.0_f64), 1..5),
        seed: u64,
    ) {
        let rules: String = rules
            .iter()
            .map(|(fault, p)| format!("[[rule]]\nwhen.probability = {p}\ndo = {fault}\n"))
            .collect();
        let faults = Faults::parse(&rules, "faults.toml", Some(seed)).unwrap();
        let mut entries = Entries::new();
        for data in frames {
            entries.frame(Duration::ZERO, &subscription("a", "audit"), data.into());
        }
        let steps = run(&mut spoiler(&faults), &entries.made);
        prop_assert_eq!(&steps, &run(&mut spoiler(&faults), &entries.made));
        let ended = steps.iter().any(|(_, step)| matches!(step.act, Act::End(_)));
        let applied = |name: &str| {
            let all = steps.iter().flat_map(|(_, step)| &step.applied);
            all.filter(|applied| applied.fault == name).count()
        };
        if !ended {
            let messages =
                steps.iter().filter(|(_, step)| matches!(step.act, Act::Message(_))).count();
            let nothing = steps.iter().filter(|(_, step)| step.act == Act::Nothing).count();
            prop_assert_eq!(nothing, applied("drop"));
            prop_assert!(messages + nothing >= entries.made.len());
        }
    }

    /// What one rule does to a frame does not depend on the rules beside it.
    #[test]
    fn rules_do_not_disturb_each_other(seed: u64, every in 1..5_u64) {
        let drop = "[[rule]]\nwhen = { probability = 0.4 }\ndo = \"drop\"\n";
        let flip = format!("[[rule]]\nwhen = {{ every = {every} }}\ndo = \"flip-bits\"\n");
        let alone = Faults::parse(drop, "a", Some(seed)).unwrap();
        let both = Faults::parse(&format!("{drop}{flip}"), "a", Some(seed)).unwrap();
        let dropped = |faults: &Faults| -> Vec<u64> {
            let steps = run(&mut spoiler(faults), &twenty());
            let dropped = steps.into_iter().filter(|(_, step)| step.act == Act::Nothing);
            dropped.map(|(second, _)| second).collect()
        };
        prop_assert_eq!(dropped(&alone), dropped(&both));
    }
}

#[test]
fn what_is_wrong_in_json_is_told_by_rule_and_field_and_not_by_a_line_that_nobody_wrote() {
    let of_the_second = |rule: &str| format!("{{\n\"rule\": [{{\"do\": \"drop\"}},\n{rule}]\n}}");
    for (text, expected) in [
        (
            of_the_second(r#"{"do": "drop", "when": {"nth": 0}}"#),
            "a whole number from 1 as rule 2.when.nth in the request, found 0",
        ),
        (
            of_the_second(r#"{"do": {"close": {"cod": 1}}}"#),
            "code, reason as rule 2.do.close.cod in the request, found \"cod\"",
        ),
        (of_the_second(r#"{"when": {}}"#), "a fault as rule 2.do in the request, found nothing"),
        (
            "{\n\"rule\"".to_owned(),
            "JSON as rules in the request, found EOF while parsing an object at line 2 column 6",
        ),
    ] {
        let error = Faults::parse_json(&text, "the request", None).unwrap_err();
        assert!(
            error.is_fault_file() && error.hint().is_some_and(|hint| hint.contains('{')),
            "{error}"
        );
        assert_eq!(error.to_string(), format!("expected {expected}"));
    }
}
