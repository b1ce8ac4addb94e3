# Everything that has to hold before a change is done. `.ci/run` does the same without just.
ready: fmt lint test doc deny

fmt:
    cargo fmt --all --check

lint:
    cargo clippy --locked --all-targets -- --deny warnings

# The README's second command.
test:
    cargo test --locked

doc:
    RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps

deny:
    cargo deny check bans licenses sources

# Readers, clients and a decoder that nobody here wrote, against the built command.
interop:
    tests/interop/run

# Network faults that take minutes, as it takes `record` so long, on purpose, to give something up.
network:
    NETWORK=all tests/interop/run -k network

# The whole measure of equality with prost-reflect and with PyPI's protobuf: some minutes.
equal:
    MESSAGES=100000 cargo test --locked --release --test codec
    MESSAGES=1000 tests/interop/run -k torture
    set -e; for part in $(seq 0 19); do FIRST=$((part * 5000)) MESSAGES=5000 tests/interop/run -k torture; done

# Autobahn's cases for WebSocket, on replay as the server and on record as the client.
autobahn:
    tests/autobahn/run

# protobuf's own conformance tests, from protobuf to JSON.
conformance:
    tests/conformance/run

# Looks for bytes on which something does not hold that must: TARGET is one of fuzz/fuzz_targets. Needs
# cargo-fuzz; stops at the first that it finds, which then goes into fuzz/found.
fuzz target seconds="600":
    cargo run --quiet --manifest-path fuzz/Cargo.toml --example seeds -- fuzz/corpus/seeds
    mkdir -p fuzz/corpus/{{target}} fuzz/found/{{target}}
    cargo fuzz run --sanitizer none {{target}} fuzz/corpus/{{target}} fuzz/corpus/seeds/{{target}} fuzz/found/{{target}} -- -max_total_time={{seconds}} -max_len=8192 -timeout=10 -rss_limit_mb=512

# Every flipped bit and every cut of a capture in both of its states. `cargo test` tries one of 31.
damage:
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo test --locked --release --test damage -- --nocapture

# Remakes what is in fixtures/.
fixtures:
    fixtures/remake

# 1,000 subscriptions at once, 10,000 frames a second, cuts and renewed keys: nothing may be lost, and
# nothing may grow.
soak seconds="600":
    SECONDS_LONG={{seconds}} tests/soak/run

# How fast it is, beside others: prints the tables of benches/README.md.
bench:
    benches/run
