//! What the protobuf conformance runner talks to: `conformance FOLDER`. The folder has the `.proto`
//! files that the runner brings; they are read as a user's own schema is, by `decode --proto`.
//!
//! Requests come on stdin and responses go to stdout, each behind its length in four bytes. Protobuf
//! to JSON is what there is; everything else is answered with `skipped`.
#![allow(
    clippy::unwrap_used,
    reason = "without a runner that keeps to this there is nothing to do"
)]

use std::{
    collections::HashMap,
    env,
    io::{self, Read, Write},
    path::Path,
};

use centralcap::{
    codec::{
        json::{self, Text},
        notes::Notes,
        plan::{BytesStyle, Plan, Style},
    },
    schema,
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};

fn main() {
    let folder = env::args_os().nth(1).expect("usage: conformance FOLDER");
    let mut testee = Testee {
        pool: schema::from_folder(Path::new(&folder)).unwrap(),
        plans: HashMap::new(),
        text: Text::default(),
    };
    let request = testee.pool.get_message_by_name("conformance.ConformanceRequest").unwrap();
    let response = testee.pool.get_message_by_name("conformance.ConformanceResponse").unwrap();
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Some(data) = next(&mut input) {
        let request = DynamicMessage::decode(request.clone(), &*data).unwrap();
        let (field, value) = testee.answer(&request);
        let mut response = DynamicMessage::new(response.clone());
        response.set_field_by_name(field, value);
        let data = response.encode_to_vec();
        output.write_all(&u32::try_from(data.len()).unwrap().to_le_bytes()).unwrap();
        output.write_all(&data).unwrap();
        output.flush().unwrap();
    }
}

/// The next request; None if the runner has none.
fn next(input: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length).ok()?;
    let mut data = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut data).unwrap();
    Some(data)
}

struct Testee {
    pool: DescriptorPool,
    /// By the message's full name.
    plans: HashMap<String, Plan>,
    text: Text,
}

impl Testee {
    /// Which field of the response is set, and to what.
    fn answer(&mut self, request: &DynamicMessage) -> (&'static str, Value) {
        const JSON: i32 = 2;

        let get = |name| request.get_field_by_name(name).unwrap().into_owned();
        let skipped = |why: &str| ("skipped", Value::String(why.to_owned()));
        let kind = get("message_type");
        let kind = kind.as_str().unwrap();
        // Asked first: which tests the testee itself expects to fail.
        if kind == "conformance.FailureSet" {
            return ("protobuf_payload", Value::Bytes(Vec::new().into()));
        }
        if !request.has_field_by_name("protobuf_payload") {
            return skipped("only protobuf is read");
        }
        if get("requested_output_format").as_enum_number() != Some(JSON) {
            return skipped("only JSON is written");
        }
        let Some(descriptor) = self.pool.get_message_by_name(kind) else {
            return skipped("the schema has no such message");
        };
        let plan = self.plans.entry(kind.to_owned()).or_insert_with(|| {
            Plan::new(&descriptor, Style { bytes: BytesStyle::Base64, ..Style::default() })
        });
        self.text.clear();
        let payload = get("protobuf_payload");
        let data = payload.as_bytes().unwrap();
        match json::write(plan, data, &mut self.text, &mut Notes::default()) {
            Ok(()) => {
                let text = str::from_utf8(self.text.as_bytes()).unwrap();
                ("json_payload", Value::String(text.to_owned()))
            }
            Err(fault) => ("parse_error", Value::String(fault.to_string())),
        }
    }
}
