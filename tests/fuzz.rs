//! The targets of the fuzzer, on their seeds, on what the fuzzer has found before, and on some thousand
//! changed seeds, always the same ones: what can be had of it on any toolchain in seconds. `INPUTS` says
//! how many changed seeds each target gets, and `SEED` which.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]
#![allow(unreachable_pub, reason = "the fuzzer's own module is taken as it is")]

use std::{fs, path::Path, thread};

#[path = "../fuzz/src/targets.rs"]
mod targets;

mod support;

// Where the targets look for them.
use support::{capture, message, subject};
use targets::{TARGETS, Target, mutated};

/// Messages may be nested a hundred deep, which in a debug build needs what the main thread has.
const STACK_SIZE: usize = 8 << 20;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// Runs a target on an input, and says which it was where it fails.
fn run(target: &Target, input: &[u8]) {
    struct Tell<'i>(&'i str, &'i [u8]);

    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                let hex: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
                println!("{} fails on {hex}", self.0);
            }
        }
    }

    let _tell = Tell(target.name, input);
    (target.run)(input);
}

/// The inputs on which a target has failed once, each in a file of its own.
fn found(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found").join(target.name);
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = listing.map(|item| item.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn holds(name: &str, inputs: u64) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let work = move || {
        let seeds = (target.seeds)();
        let useful = seeds.iter().filter(|seed| (target.run)(seed)).count();
        assert!(useful == seeds.len() && useful > 1, "{useful} of {} seeds", seeds.len());
        for input in found(&target) {
            run(&target, &input);
        }
        let mut random = fastrand::Rng::with_seed(number("SEED", 1));
        for _ in 0..number("INPUTS", inputs) {
            let seed = &seeds[random.usize(..seeds.len())];
            run(&target, &mutated(seed, &seeds, &mut random));
        }
    };
    let thread = thread::Builder::new().stack_size(STACK_SIZE).spawn(work).unwrap();
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn both_decoders_say_the_same_of_any_bytes() {
    holds("decode", 1000);
}

#[test]
fn any_bytes_can_be_read_as_a_segment() {
    holds("reader", 500);
}

#[test]
fn whatever_is_done_to_a_capture_is_told() {
    holds("salvage", 300);
}

#[test]
fn any_descriptor_set_is_refused_or_can_be_used() {
    holds("pool", 300);
}

#[test]
fn any_line_is_refused_or_comes_back() {
    holds("encode", 500);
}

#[test]
fn a_key_can_be_replaced_in_any_input_file_that_is_read() {
    holds("accounts", 300);
}

/// Nobody has forgotten one here.
#[test]
fn every_target_is_a_binary_of_the_fuzzer() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let own = include_str!("fuzz.rs");
    for target in TARGETS {
        assert!(manifest.contains(&format!("fuzz_targets/{}.rs", target.name)), "{}", target.name);
        assert!(own.contains(&format!("holds(\"{}\"", target.name)), "{}", target.name);
    }
}
