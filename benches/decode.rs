//! Frames in memory to lines of JSON on one thread: the table-driven walk, and prost-reflect's own
//! serializer on the same frames in the same run. `just bench` has the whole processes.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::{collections::HashMap, hint::black_box, sync::Arc};

use centralcap::{
    codec::{json::Text, plan::Style, wire},
    entry::Entry,
    protocol::PROTOCOLS,
    schema::{self, Resolver},
    sink::{Sink, ndjson::Ndjson},
    synth::{Options, Synth},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

/// A campus over all topics: enough that no cache holds it.
fn frames() -> Vec<Entry> {
    let options = Options { seed: 3, messages: 30_000, devices: 200, ..Options::default() };
    Synth::new(&options).unwrap().filter(|entry| entry.frame().is_some()).collect()
}

/// Walks tags and lengths of all messages that a frame may hold, three levels deep, and writes
/// nothing: about what reading costs at least.
fn skim(data: &[u8], depth: u32) -> u64 {
    let mut seen = 0;
    for field in wire::fields(data) {
        let Ok(field) = field else { return seen };
        seen += u64::from(field.number);
        if let wire::Value::Bytes(inner) = field.value
            && depth > 0
        {
            seen += skim(inner, depth - 1);
        }
    }
    seen
}

fn reflect(descriptor: &MessageDescriptor, data: &[u8], out: &mut Vec<u8>) {
    let message = DynamicMessage::decode(descriptor.clone(), data).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut serializer = serde_json::Serializer::new(out);
    message.serialize_with_options(&mut serializer, &options).unwrap();
}

fn decode(criterion: &mut Criterion) {
    let frames = frames();
    let size: u64 = frames.iter().map(|entry| entry.frame().unwrap().data.len() as u64).sum();
    let mut group = criterion.benchmark_group("frames to NDJSON");
    group.throughput(Throughput::Bytes(size)).sample_size(10);

    group.bench_function("walk", |bencher| {
        let mut sink = Ndjson::new(Resolver::default(), Style::default());
        let mut text = Text::default();
        bencher.iter(|| {
            for entry in &frames {
                if text.len() > 1 << 20 {
                    text.clear();
                }
                sink.entry(entry, &mut text).unwrap();
            }
            black_box(text.as_bytes());
        });
    });

    group.bench_function("prost-reflect", |bencher| {
        let mut descriptors = HashMap::new();
        let mut out = Vec::new();
        bencher.iter(|| {
            for entry in &frames {
                let frame = entry.frame().unwrap();
                let descriptor = descriptors.entry(Arc::as_ptr(&frame.kind)).or_insert_with(|| {
                    let set = &frame.kind.descriptors;
                    let pool = schema::from_descriptor_set(set, "a bench").unwrap();
                    schema::message(&pool, &frame.kind.envelope).unwrap()
                });
                if out.len() > 1 << 20 {
                    out.clear();
                }
                reflect(descriptor, &frame.data, &mut out);
            }
            black_box(&out);
        });
    });

    group.bench_function("tags and lengths only", |bencher| {
        bencher
            .iter(|| frames.iter().map(|entry| skim(&entry.frame().unwrap().data, 3)).sum::<u64>());
    });
    group.finish();
}

/// Schema and plans for every topic: what each run of the command pays first.
fn start(criterion: &mut Criterion) {
    let frames = frames();
    criterion.bench_function("descriptors and plans of all topics", |bencher| {
        bencher.iter(|| {
            let mut sink = Ndjson::new(Resolver::default(), Style::default());
            let mut text = Text::default();
            let mut seen = Vec::new();
            for entry in &frames {
                let label = &entry.frame().unwrap().kind.label;
                if !seen.contains(&label) {
                    seen.push(label);
                    sink.entry(entry, &mut text).unwrap();
                    if seen.len() == PROTOCOLS[0].topics().len() + 1 {
                        break;
                    }
                }
            }
            text
        });
    });
}

criterion_group!(benches, decode, start);
criterion_main!(benches);
