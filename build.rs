//! Compiles `proto/` with protox, so that no protoc is needed.
//!
//! Two things come out: the descriptor set of every file, which the library embeds, and Rust types
//! for the envelope and our own session event. Payloads get no types: they are dynamic everywhere,
//! and presence's two MAC messages would collide as Rust names anyway.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 8] = [
    "classic/streaming.proto",
    "classic/monitoring.proto",
    "classic/apprf.proto",
    "classic/audit.proto",
    "classic/location.proto",
    "classic/presence.proto",
    "classic/security.proto",
    "centralcap/session.proto",
];

const TYPED: [&str; 2] = ["classic/streaming.proto", "centralcap/session.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut descriptors = protox::compile(FILES, ["proto"])?;
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    descriptors.file.retain(|file| TYPED.contains(&file.name()));
    prost_build::Config::new().bytes(["."]).out_dir(&out).compile_fds(descriptors)?;
    Ok(())
}
